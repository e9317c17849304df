//! Rules of `w = …;`: products, values, group scales, signs.

use syn::{BinOp, Expr, ExprBinary, ExprCall, ExprUnary, Ident, UnOp};

use super::numbers::{is_literal, plain};
use super::planes::path;
use super::{Checker, Rule, list, numbers};
use crate::error::Noted;
use crate::model::{
    Affine, CHUNK, Choice, Codes, Cut, Digit, Field, FieldType, GroupScale, Minimum, Offset, Piece, Product,
    SIGNS, ScaleValue, Signs, Source, Term, Value, Weight,
};
use crate::parse::{Codebook, Entries, Table};

/// The most bits of a code that a table is looked up by.
const TABLE_BITS: usize = 8;
/// The most tables of which codes choose one, as bits of these.
const CHOICE_BITS: usize = 4;

/// One factor of a product in `w`.
enum Factor {
    /// A power of two, as its exponent.
    Constant(i32),
    Block(usize),
    Group(GroupScale),
    Weight(usize, Value),
    /// The codes of weights, their value, and a zero point that blocks or groups store.
    Shifted(usize, Value, Zero),
    Signs(Signs),
}

/// What blocks or groups take off the codes of weights, or add to them.
struct Zero {
    subtract: bool,
    product: Product,
}

/// A product in `w`.
struct Factors {
    scale: Product,
    weight: Option<(usize, Value)>,
    zero: Option<Zero>,
    signs: Option<Signs>,
}

/// A part of a sum, and whether it is subtracted.
type Part<'e> = (bool, &'e Expr);

/// What the codes of a factor stand for.
enum Meaning {
    /// factor · code - zero
    Linear {
        factor: i32,
        zero: i32,
    },
    Table(Vec<i8>, Option<Choice>),
    Number(FieldType),
}

impl Checker<'_> {
    /// The whole formula.
    pub fn weight(&mut self, formula: &Expr) -> Result<Weight, Noted> {
        let (main, minimum) = match plain(formula) {
            Expr::Binary(ExprBinary { left, op: BinOp::Add(_), right, .. }) => {
                (&**left, Some((false, &**right)))
            }
            Expr::Binary(ExprBinary { left, op: BinOp::Sub(_), right, .. }) => {
                (&**left, Some((true, &**right)))
            }
            main => (main, None),
        };
        if let (Expr::Binary(ExprBinary { op: BinOp::Add(_) | BinOp::Sub(_), .. }), Some((_, second))) =
            (plain(main), minimum)
        {
            let message = "a weight has one minimum: let the quantizer store the sum of the two in one field";
            return self.errors.refuse(Rule::Product, second, message);
        }
        let Factors { scale, weight, zero, signs } = self.product(main)?;
        let Some((code, value)) = weight else {
            let message = format!(
                "this product holds no codes for the {} weights of a block; write it first, then the minimum",
                self.len
            );
            return self.errors.refuse(Rule::Product, main, message);
        };
        self.of_the_block(main, &scale, "scale")?;
        if signs.is_some() && matches!(value, Value::Linear { .. }) {
            let message =
                "signs go with the values of a table or a codebook: codes have a zero point instead";
            return self.errors.refuse(Rule::Signs, main, message);
        }
        if let (Some(_), Value::Table { entries, .. }) = (&signs, &value) {
            self.negatable(entries)?;
        }
        if signs.is_some() && zero.is_some() {
            let message = "signs negate what a table or a codebook gives, and no zero point that is taken off it: write that as a minimum, `w = d * signs(n) * T[q] - d * z;`";
            return self.errors.refuse(Rule::Signs, main, message);
        }
        if let (Some(_), Some((_, second))) = (&zero, minimum) {
            let message = "a weight has one minimum, and a zero point that blocks or groups store is one already: let the quantizer store the sum of the two in one field";
            return self.errors.refuse(Rule::Product, second, message);
        }
        let minimum = match zero {
            Some(Zero { subtract, product }) => {
                Some(Minimum { subtract, product: scale.times(&product), zero: Some(product) })
            }
            None => minimum.map(|(subtract, product)| self.minimum(subtract, product)).transpose()?,
        };
        Ok(Weight { scale, code, value, signs, minimum })
    }

    /// The entries of a table that are negated have negatives in 8 bits.
    fn negatable(&mut self, entries: &[i8]) -> Result<(), Noted> {
        let Some(least) = entries.iter().position(|&entry| entry == i8::MIN) else { return Ok(()) };
        let body = self.body;
        for table in body.tables.iter().filter(|table| table.values().count() == entries.len()) {
            if let Some(value) = table.values().nth(least)
                && self.entry(value)? == i8::MIN
            {
                let message =
                    "-128 has no negative in 8 bits, and signs negate entries: let them run from -127 to 127";
                return self.errors.refuse(Rule::Signs, value, message);
            }
        }
        Ok(())
    }

    /// The second product.
    fn minimum(&mut self, subtract: bool, product: &Expr) -> Result<Minimum, Noted> {
        let Factors { scale, weight, signs, .. } = self.product(product)?;
        let message = match (weight, signs) {
            (None, None) => {
                self.of_the_block(product, &scale, "minimum")?;
                return Ok(Minimum { subtract, product: scale, zero: None });
            }
            (Some((_, Value::Codebook { .. })), _) => {
                "a weight is one entry of one codebook: where two are added, and their sums are at most 65,536, declare a codebook of the sums"
            }
            _ => {
                "only the first product holds the codes of the weights: the second is a minimum of the block or of groups"
            }
        };
        self.errors.refuse(Rule::Product, product, message)
    }

    fn product(&mut self, product: &Expr) -> Result<Factors, Noted> {
        let mut factors = Vec::new();
        flatten(product, &mut factors);
        let (mut scale, mut weight, mut zero, mut signs) = (Product::default(), None, None, None);
        let mut exponent = 0;
        for factor in factors {
            let of_factor = match self.factor(factor)? {
                Factor::Shifted(code, value, of_weight) => {
                    zero = Some(of_weight);
                    Factor::Weight(code, value)
                }
                other => other,
            };
            match of_factor {
                Factor::Constant(more) => exponent += more,
                Factor::Block(field) => scale.block.push(field),
                Factor::Group(group) => scale.groups.push(group),
                Factor::Shifted(..) => unreachable!("taken apart above"),
                Factor::Weight(code, value) => {
                    if weight.replace((code, value)).is_some() {
                        let message = "a second factor with a code for every weight: a product has one, whose planes are joined by `|`";
                        return self.errors.refuse(Rule::Product, factor, message);
                    }
                }
                Factor::Signs(these) => {
                    if signs.replace(these).is_some() {
                        let message = "a second factor of signs: a product has one";
                        return self.errors.refuse(Rule::Product, factor, message);
                    }
                }
            }
        }
        scale.constant = self.factor_of(product, exponent)?;
        Ok(Factors { scale, weight, zero, signs })
    }

    fn factor(&mut self, factor: &Expr) -> Result<Factor, Noted> {
        match plain(factor) {
            Expr::Lit(_) => Ok(Factor::Constant(self.power_of_two(factor)?)),
            Expr::Path(_) => {
                let Some(name) = path(factor) else {
                    return self.errors.refuse(Rule::Product, factor, "expected a name");
                };
                if let Some(field) = self.single_number(name) {
                    return Ok(Factor::Block(field));
                }
                let field = self.fields.iter().position(|field| *name == field.name);
                if let Some(field) = field.filter(|&field| self.fields[field].is_wide()) {
                    return self.numbers_of_groups(factor, field);
                }
                let code = self.operand(name)?;
                let meaning = match field.map(|field| self.fields[field].ty) {
                    Some(ty) if ty.is_number() => Meaning::Number(ty),
                    _ => Meaning::Linear { factor: 1, zero: 0 },
                };
                self.scaled_or_weight(factor, code, meaning)
            }
            Expr::Binary(ExprBinary { left, op: op @ (BinOp::Sub(_) | BinOp::Add(_)), right, .. }) => {
                let mut parts = Vec::new();
                sum(factor, false, &mut parts);
                match parts[..] {
                    [(_, first), (_, second)] if is_literal(first) || is_literal(second) => {
                        self.shifted(factor, left, matches!(op, BinOp::Sub(_)), right)
                    }
                    _ => self.offset(factor, &parts),
                }
            }
            Expr::Index(index) => {
                // `TABLE[codes]`, or of several `TABLE[choice][codes]`.
                let (table, choice) = match plain(&index.expr) {
                    Expr::Index(outer) => (path(&outer.expr), Some(&*outer.index)),
                    _ => (path(&index.expr), None),
                };
                let (Some(table), Some(name)) = (table, path(&index.index)) else {
                    return self.errors.refuse(Rule::Product, factor, "expected `TABLE[codes]`");
                };
                self.looked_up(factor, table, choice, name)
            }
            Expr::Call(call) => self.signs(call),
            Expr::Unary(ExprUnary { op: UnOp::Neg(_), .. }) => {
                let message = "a factor has no minus of its own: scales are negative where the numbers that blocks store are, and values where a table's are; a minimum is subtracted, `w = d * q - m;`";
                self.errors.refuse(Rule::Product, factor, message)
            }
            Expr::Binary(ExprBinary { op: BinOp::Div(_), .. }) => {
                let message = "a product is not divided: store the reciprocal as the scale, and multiply by 0.5 for a half";
                self.errors.refuse(Rule::Product, factor, message)
            }
            _ => self.errors.refuse(
                Rule::Product,
                factor,
                "expected a factor, a field, codes, `(codes - zero)` or `TABLE[codes]`; factors are joined by `*`",
            ),
        }
    }

    /// `(codes - zero)`, `(2 * codes + 1)`
    fn shifted(&mut self, factor: &Expr, left: &Expr, subtract: bool, right: &Expr) -> Result<Factor, Noted> {
        let operator = if subtract { "-" } else { "+" };
        // A sum is the same either way round.
        let (left, right) = if !subtract && is_literal(left) { (right, left) } else { (left, right) };
        if !is_literal(right) {
            let message = format!(
                "codes come before the number, as in `(q {operator} 8)`: for values that fall declare a table of them"
            );
            return self.errors.refuse(Rule::Product, right, message);
        }
        let (code, times) = self.multiple(left, operator)?;
        let shift = self.constant(right)?;
        let codes = &self.codes[code];
        if codes.signed {
            let message = format!("`{}` is signed and needs no zero point: drop it", codes.name);
            return self.errors.refuse(Rule::Values, right, message);
        }
        let most = times * codes.max();
        if subtract && shift > most {
            let message = format!(
                "the zero point lies outside the codes of `{}`, which run from 0 to {most}",
                codes.name
            );
            return self.errors.refuse(Rule::Values, right, message);
        }
        let zero = if subtract { shift as i32 } else { -(shift as i32) };
        self.scaled_or_weight(factor, code, Meaning::Linear { factor: times as i32, zero })
    }

    /// `(codes - zero)` where blocks or groups store the zero point: `(q - z)`, `(q - z - 1)`, `(s - sz)`.
    fn offset(&mut self, factor: &Expr, parts: &[Part]) -> Result<Factor, Noted> {
        let numbers = || parts.iter().filter(|(_, part)| is_literal(part));
        let others: Vec<_> = parts.iter().filter(|(_, part)| !is_literal(part)).collect();
        let (&(negative, main), &(subtract, stored)) = match others[..] {
            [main, stored] => (main, stored),
            [main] => {
                let message = "write one number: what is taken off codes, or added to them, in all";
                let blame = numbers().next_back().map_or(main.1, |number| number.1);
                return self.errors.refuse(Rule::Product, blame, message);
            }
            [_, _, third, ..] => {
                let message = "what is taken off codes, or added to them, is one product and a number, as in `(q - z - 1)`: let the quantizer store the sum in one field";
                return self.errors.refuse(Rule::Product, third.1, message);
            }
            [] => {
                let message = "a number is written as one, and codes come before it, as in `(q - 8)`";
                return self.errors.refuse(Rule::Product, factor, message);
            }
        };
        if path(main).is_some_and(|name| self.single_number(name).is_some()) {
            let message = "scales are multiplied and not added: let the quantizer store the sum in one field";
            return self.errors.refuse(Rule::Product, stored, message);
        }
        if negative {
            let message = "codes come before what is taken off them, as in `(q - z)`";
            return self.errors.refuse(Rule::Product, main, message);
        }
        // What numbers take off.
        let mut number = 0;
        for &(subtract, part) in numbers() {
            let part = self.constant(part)? as i32;
            number += if subtract { part } else { -part };
        }
        match self.factor(main)? {
            Factor::Weight(code, value) => self.zero_point(factor, (code, value), (subtract, stored), number),
            Factor::Group(group) => self.moved(group, (subtract, stored), number),
            _ => {
                let message = "expected codes before what is taken off them, as in `(q - z)`";
                self.errors.refuse(Rule::Product, main, message)
            }
        }
    }

    /// The codes of weights with the zero point `stored`, and a number that is taken off as well.
    fn zero_point(
        &mut self,
        factor: &Expr,
        (code, mut value): (usize, Value),
        (subtract, stored): Part,
        number: i32,
    ) -> Result<Factor, Noted> {
        let Factors { scale: mut product, weight, signs, .. } = self.product(stored)?;
        if weight.is_some() || signs.is_some() {
            let message = if matches!(plain(stored), Expr::Index(_)) {
                "a weight is one entry of one table or codebook: where two are added, and their sums are at most 65,536, declare a codebook of the sums"
            } else {
                "a zero point is one of the block or of groups: codes of all weights stand in one place of the formula"
            };
            return self.errors.refuse(Rule::Product, stored, message);
        }
        if number != 0 {
            // Where there is room for it: in the codes of groups, which are taken as they are, or in those of weights.
            let codes = &self.codes[code];
            let in_weights = match &mut value {
                Value::Linear { zero } if !codes.signed => {
                    Some(zero).filter(|zero| (0..=codes.max() as i32).contains(&(**zero + number)))
                }
                _ => None,
            };
            match (codes_alone(&mut product, &self.codes), in_weights) {
                (Some(zero), _) => *zero += if subtract { -number } else { number },
                (None, Some(zero)) => *zero += number,
                (None, None) => {
                    let message = "the number goes neither with codes of groups, which would be unsigned and stand alone as in `(q - z - 1)`, nor with those of weights, inside of which it would lie as in `(q - 8 - z)`";
                    return self.errors.refuse(Rule::Values, factor, message);
                }
            }
        }
        Ok(Factor::Shifted(code, value, Zero { subtract, product }))
    }

    /// The scales of groups with a zero point that is a number of the block, and one that is written out as well.
    fn moved(
        &mut self,
        mut group: GroupScale,
        (subtract, stored): Part,
        number: i32,
    ) -> Result<Factor, Noted> {
        let Some(field) = path(stored).and_then(|name| self.single_number(name)) else {
            let message = "the zero point of scales is a number, written out or a field of the block, as in `(s - 32)` or with `sz: f16` `(s - sz)`";
            return self.errors.refuse(Rule::Product, stored, message);
        };
        match &mut group {
            GroupScale { value: ScaleValue::Linear { zero, .. }, source, offset: offset @ None, .. } => {
                if number != 0 && source_is_signed(*source, &self.codes) {
                    let message =
                        "signed scales need no number of their own beside a zero point: store it in that";
                    return self.errors.refuse(Rule::Values, stored, message);
                }
                *zero += number;
                *offset = Some(Offset { subtract, field });
                Ok(Factor::Group(group))
            }
            _ => {
                let message = "only scales that are codes have a zero point: numbers and entries of tables are stored with it taken off";
                self.errors.refuse(Rule::Values, stored, message)
            }
        }
    }

    /// The scale of a product has a number of the block's own. `same` says what all blocks would share without.
    fn of_the_block(&mut self, product: &Expr, scale: &Product, same: &str) -> Result<(), Noted> {
        let is_number = |group: &GroupScale| matches!(group.value, ScaleValue::Number(_));
        if !scale.block.is_empty() || scale.groups.iter().any(is_number) {
            return Ok(());
        }
        let message = format!(
            "all blocks would have the same {same}: multiply by a field of f16, bf16, f32, e8m0 or ue4m3; a scale of a row or of a tensor is not in its blocks, so that whoever calls the kernels multiplies by it"
        );
        self.errors.refuse(Rule::Product, product, message)
    }

    /// Codes, or a number times codes, before an operator.
    fn multiple(&mut self, value: &Expr, operator: &str) -> Result<(usize, usize), Noted> {
        let (times, name) = match plain(value) {
            Expr::Binary(ExprBinary { left, op: BinOp::Mul(_), right, .. })
                if is_literal(left) || is_literal(right) =>
            {
                let (number, name) = if is_literal(left) { (left, right) } else { (right, left) };
                let times = self.constant(number)?;
                if times == 0 {
                    let message = "0 times codes is always 0: write 1 or more, or drop the codes";
                    return self.errors.refuse(Rule::Numbers, number, message);
                }
                (times, &**name)
            }
            name => (1, name),
        };
        match path(name) {
            Some(name) => Ok((self.integers(name, "a zero point or a factor of their own")?, times)),
            None => {
                let message = format!("expected codes before `{operator}`, as in `(q {operator} 8)`");
                self.errors.refuse(Rule::Product, value, message)
            }
        }
    }

    /// `signs(codes)` or `even_signs(codes)`.
    fn signs(&mut self, call: &ExprCall) -> Result<Factor, Noted> {
        let even = match path(&call.func) {
            Some(name) if name == "signs" => false,
            Some(name) if name == "even_signs" => true,
            _ => {
                let message = "the functions of a formula are `signs(codes)` and `even_signs(codes)`";
                return self.errors.refuse(Rule::Signs, &call.func, message);
            }
        };
        let arguments: Vec<_> = call.args.iter().collect();
        let [argument] = arguments[..] else {
            return self.errors.refuse(Rule::Signs, call, "signs are those of one code vector");
        };
        let Some(name) = path(argument) else {
            return self.errors.refuse(Rule::Signs, argument, "expected the name of codes");
        };
        let code = self.integers(name, "the place of signs")?;
        let codes = &self.codes[code];
        let bits = if even { SIGNS - 1 } else { SIGNS };
        if codes.has_digits() {
            return self.refuse_digits(Rule::Signs, argument, code, "signs are bits");
        }
        if codes.signed || codes.bits() != bits || codes.len() * SIGNS != self.len {
            let message = format!(
                "`{name}` has {} codes of {} bits: here are {} of {bits}, one for each {SIGNS} weights",
                codes.len(),
                codes.bits(),
                self.len / SIGNS
            );
            return self.errors.refuse(Rule::Signs, argument, message);
        }
        Ok(Factor::Signs(Signs { code, even }))
    }

    fn refuse_digits<T>(&mut self, rule: Rule, factor: &Expr, code: usize, why: &str) -> Result<T, Noted> {
        let name = &self.codes[code].name;
        let message =
            format!("`{name}` are digits of another base than 2, and {why}: cut them with shift and mask");
        self.errors.refuse(rule, factor, message)
    }

    fn codebook(&mut self, factor: &Expr, declared: &Codebook, code: usize) -> Result<Factor, Noted> {
        let weights = numbers::number(&declared.weights, self.errors)?;
        let entries = numbers::number(&declared.entries, self.errors)?;
        if ![4, 8].contains(&weights) {
            let message = "an entry of a codebook has 4 or 8 weights";
            return self.errors.refuse(Rule::Values, &declared.weights, message);
        }
        let codes = &self.codes[code];
        if codes.has_digits() {
            return self.refuse_digits(Rule::Values, factor, code, "the index of a codebook is bits");
        }
        if codes.signed || codes.max() + 1 != entries {
            let message = format!(
                "`{}` has {entries} entries, and the codes of `{}` run from 0 to {}: give it one for each",
                declared.name,
                codes.name,
                codes.max()
            );
            return self.errors.refuse(Rule::Values, &declared.entries, message);
        }
        if codes.len() * weights != self.len {
            let message = format!(
                "{} entries of {weights} weights are {}, and a block has {}",
                codes.len(),
                codes.len() * weights,
                self.len
            );
            return self.errors.refuse(Rule::Values, factor, message);
        }
        Ok(Factor::Weight(code, Value::Codebook { name: declared.name.to_string(), weights }))
    }

    /// The field called `name`, if it is one number.
    fn single_number(&self, name: &Ident) -> Option<usize> {
        let is_one = |field: &Field| *name == field.name && field.count.is_none() && field.ty.is_number();
        self.fields.iter().position(is_one)
    }

    /// The code vector called `name` where only integers have a meaning, as those that take `what`.
    fn integers(&mut self, name: &Ident, what: &str) -> Result<usize, Noted> {
        let field = self.fields.iter().find(|field| *name == field.name && field.count.is_some());
        if let Some(ty) = field.map(|field| field.ty).filter(|ty| ty.is_number()) {
            let message = format!(
                "`{name}` is an array of {}, whose bytes are numbers and not codes: they don't take {what}, declare it as u8 where they are codes",
                ty.name()
            );
            return self.errors.refuse(Rule::Values, name, message);
        }
        self.operand(name)
    }

    /// The code vector called `name`, made on the spot where `name` is an array that stands for itself.
    fn operand(&mut self, name: &Ident) -> Result<usize, Noted> {
        if let Some(code) = self.codes.iter().position(|codes| *name == codes.name) {
            return Ok(code);
        }
        let Some(field) = self.fields.iter().position(|field| *name == field.name) else {
            let known = list(
                self.fields.iter().map(|field| &field.name).chain(self.codes.iter().map(|codes| &codes.name)),
            );
            let message = format!("nothing is called `{name}`: there are {known}");
            return self.errors.refuse(Rule::Declared, name, message);
        };
        let ty = self.fields[field].ty;
        if self.fields[field].is_wide() {
            let message =
                format!("`{name}` is an array of {}, whose bytes are numbers and not codes", ty.name());
            return self.errors.refuse(Rule::Values, name, message);
        }
        // A single byte is the code of one group, the block.
        let one = (!ty.is_number()).then_some(1);
        let Some(count) = self.fields[field].count.or(one) else {
            let message = format!(
                "`{name}` is a single value, not codes: only an array or codes take a zero point or a table"
            );
            return self.errors.refuse(Rule::Values, name, message);
        };
        let codes = Codes {
            name: name.to_string(),
            pieces: vec![Piece {
                digits: vec![Digit { name: "i".into(), radix: count }],
                terms: vec![Term {
                    field,
                    byte: Affine { constant: 0, strides: vec![1] },
                    cut: Cut::Bits {
                        shift: Affine::constant(0, 1),
                        bits: 8,
                        position: 0,
                        highest_first: false,
                    },
                }],
            }],
            signed: ty == FieldType::I8,
        };
        Ok(self.push_codes(codes, name.clone()))
    }

    /// What a factor is by the number of its codes: weights have one each, groups one together.
    fn scaled_or_weight(&mut self, factor: &Expr, code: usize, meaning: Meaning) -> Result<Factor, Noted> {
        let (len, bits) = (self.codes[code].len(), self.codes[code].bits());
        if bits > 8 {
            let message = format!(
                "`{}` has {bits} bits: only the codes of a codebook have more than 8",
                self.codes[code].name
            );
            return self.errors.refuse(Rule::Headroom, factor, message);
        }
        if len == self.len {
            let value = self.value(factor, code, meaning)?;
            return Ok(Factor::Weight(code, value));
        }
        let size = self.group_size(factor, len, "scales")?;
        let value = match meaning {
            Meaning::Linear { factor, zero } => ScaleValue::Linear { factor, zero },
            Meaning::Table(entries, None) => ScaleValue::Table { entries },
            Meaning::Table(_, Some(_)) => {
                let message = "only weights choose among several tables: for scales write one table of all entries, and join the bits that choose to the codes by `|`";
                return self.errors.refuse(Rule::Groups, factor, message);
            }
            Meaning::Number(ty) => ScaleValue::Number(ty),
        };
        Ok(Factor::Group(GroupScale { source: Source::Codes(code), value, offset: None, size }))
    }

    /// The scales of groups that are the numbers of a field.
    fn numbers_of_groups(&mut self, factor: &Expr, field: usize) -> Result<Factor, Noted> {
        let Field { ty, count, .. } = self.fields[field];
        let count = count.unwrap_or(1);
        if count == self.len {
            let message = format!("an array of {} holds scales: weights are codes", ty.name());
            return self.errors.refuse(Rule::Values, factor, message);
        }
        let size = self.group_size(factor, count, "scales")?;
        let (source, value) = (Source::Numbers(field), ScaleValue::Number(ty));
        Ok(Factor::Group(GroupScale { source, value, offset: None, size }))
    }

    /// The weights of a group, if there are `count` groups, which have a code of `what` each.
    fn group_size(&mut self, factor: &Expr, count: usize, what: &str) -> Result<usize, Noted> {
        let size = self.len / count;
        if self.len.is_multiple_of(count)
            && size >= 4
            && (CHUNK.is_multiple_of(size) || size.is_multiple_of(CHUNK))
        {
            return Ok(size);
        }
        let message = format!(
            "{count} {what} for {} weights: groups hold 4, 8, 16 or a multiple of {CHUNK} weights",
            self.len
        );
        self.errors.refuse(Rule::Groups, factor, message)
    }

    /// What the codes of weights stand for.
    fn value(&mut self, factor: &Expr, code: usize, meaning: Meaning) -> Result<Value, Noted> {
        let codes = &self.codes[code];
        let (name, bits) = (&codes.name, codes.bits());
        match meaning {
            Meaning::Linear { factor: 1, zero: zero @ 0.. } => {
                if !codes.signed && bits > 7 {
                    let message = format!(
                        "`{name}` has {bits} bits, and two such codes times two activations overflow the i16 sum of vpmaddubsw: use at most 7 bits, or an array of i8"
                    );
                    return self.errors.refuse(Rule::Headroom, factor, message);
                }
                Ok(Value::Linear { zero })
            }
            Meaning::Linear { factor: times, zero } => {
                let values: Vec<_> = (0..=codes.max() as i32).map(|code| times * code - zero).collect();
                let message = match &values[..] {
                    [first, second, .., last] if bits <= TABLE_BITS && values.iter().all(|v| v.abs() <= 127) => {
                        format!(
                            "the codes of weights are taken as they are, or minus a zero point: for other values declare `table VALUES = [{first}, {second}, …, {last}];` and write `VALUES[{name}]`"
                        )
                    }
                    _ => "the codes of weights are taken as they are, or minus a zero point: multiply the scale, or add a minimum, instead".to_owned(),
                };
                self.errors.refuse(Rule::Values, factor, message)
            }
            Meaning::Table(entries, choice) => Ok(Value::Table { entries, choice }),
            Meaning::Number(ty) => {
                let message = format!("an array of {} holds scales: weights are codes", ty.name());
                self.errors.refuse(Rule::Values, factor, message)
            }
        }
    }

    /// `TABLE[codes]`, `TABLE[choice][codes]` or `CODEBOOK[codes]`.
    fn looked_up(
        &mut self,
        factor: &Expr,
        table: &Ident,
        choice: Option<&Expr>,
        name: &Ident,
    ) -> Result<Factor, Noted> {
        let code = self.integers(name, "a table or a codebook")?;
        let body = self.body;
        if let Some(codebook) = body.codebooks.iter().find(|codebook| codebook.name == *table) {
            if choice.is_some() {
                let message = format!(
                    "`{table}` is one codebook, and has one index: join the bits that choose to `{name}` by `|`"
                );
                return self.errors.refuse(Rule::Values, factor, message);
            }
            return self.codebook(factor, codebook, code);
        }
        let Some(declared) = body.tables.iter().find(|declared| declared.name == *table) else {
            let message = format!("no table is called `{table}`: add `table {table} = […];`");
            return self.errors.refuse(Rule::Declared, table, message);
        };
        let meaning = match (choice, &declared.entries) {
            (None, Entries::One(_)) => Meaning::Table(self.table(declared, table, code)?, None),
            (Some(choice), Entries::Several(tables)) => {
                self.is_group_first(factor, table, choice, code)?;
                let entries = self.table(declared, table, code)?;
                let choice = self.choice(choice, table, tables.len())?;
                Meaning::Table(entries, Some(choice))
            }
            (None, Entries::Several(tables)) => {
                let message = format!(
                    "`{table}` are {} tables, of which a code of each group chooses one: write `{table}[choice][{name}]`",
                    tables.len()
                );
                return self.errors.refuse(Rule::Values, factor, message);
            }
            (Some(choice), Entries::One(_)) => {
                let message = format!(
                    "`{table}` is one table, of which nothing is chosen: write `{table}[{name}]`, or declare several, `table {table} = [[…], […]];`"
                );
                return self.errors.refuse(Rule::Values, choice, message);
            }
        };
        self.scaled_or_weight(factor, code, meaning)
    }

    /// The entries for each code, of all tables where there are several.
    fn table(&mut self, table: &Table, name: &Ident, code: usize) -> Result<Vec<i8>, Noted> {
        let codes = &self.codes[code];
        if codes.signed {
            let message = format!(
                "`{}` is signed, and a table is looked up by unsigned codes: declare it as u8",
                codes.name
            );
            return self.errors.refuse(Rule::Values, name, message);
        }
        if codes.bits() > TABLE_BITS {
            let message = format!(
                "`{}` has {} bits: a table is looked up by codes of at most {TABLE_BITS}, and a codebook has entries for up to 16",
                codes.name,
                codes.bits()
            );
            return self.errors.refuse(Rule::Values, name, message);
        }
        let expected = codes.max() + 1;
        match &table.entries {
            Entries::One(entries) if entries.len() != expected => {
                let message =
                    format!("`{name}` has {} entries: give it {expected}, one for each code", entries.len());
                return self.errors.refuse(Rule::Values, name, message);
            }
            Entries::One(_) => {}
            Entries::Several(_) if codes.has_digits() => {
                return self.errors.refuse(
                    Rule::Values,
                    name,
                    format!(
                        "`{}` are digits of another base than 2, and the code that chooses among tables goes above bits: cut them with shift and mask, or declare one table",
                        codes.name
                    ),
                );
            }
            Entries::Several(tables) => {
                let (count, most) = (tables.len(), 1 << CHOICE_BITS);
                if !(2..=most).contains(&count) || !count.is_power_of_two() {
                    let message = format!(
                        "`{name}` lists {count} tables: list 2, 4, 8 or {most}, or write one without brackets of its own"
                    );
                    return self.errors.refuse(Rule::Values, name, message);
                }
                if let Some(other) = tables.iter().position(|entries| entries.len() != expected) {
                    let message = format!(
                        "table {other} of `{name}` has {} entries: give each {expected}, one for each code",
                        tables[other].len()
                    );
                    return self.errors.refuse(Rule::Values, name, message);
                }
                let (all, most) = (count * expected, 1 << TABLE_BITS);
                if all > most {
                    let message = format!(
                        "{count} tables of {expected} entries have {all} in all: {most} are the most, so that a code and its table make up a byte"
                    );
                    return self.errors.refuse(Rule::Values, name, message);
                }
            }
        }
        table.values().map(|value| self.entry(value)).collect()
    }

    /// The code that chooses a table comes before that of the weight, which has codes for all weights.
    fn is_group_first(
        &mut self,
        factor: &Expr,
        table: &Ident,
        choice: &Expr,
        code: usize,
    ) -> Result<(), Noted> {
        let first = path(choice).and_then(|name| self.codes.iter().find(|codes| *name == codes.name));
        let Some(first) = first.filter(|first| first.len() == self.len) else { return Ok(()) };
        let second = &self.codes[code];
        if second.len() == self.len {
            return Ok(());
        }
        let (first, second) = (&first.name, &second.name);
        let message = format!(
            "what chooses a table comes before the code of the weight: write `{table}[{second}][{first}]`"
        );
        self.errors.refuse(Rule::Values, factor, message)
    }

    /// The codes that choose one of `tables` tables for each group of weights.
    fn choice(&mut self, choice: &Expr, table: &Ident, tables: usize) -> Result<Choice, Noted> {
        let Some(name) = path(choice) else {
            let message = format!(
                "expected the name of the codes that choose a table, as in `{table}[choice][codes]`: one for each group of weights"
            );
            return self.errors.refuse(Rule::Product, choice, message);
        };
        let code = self.integers(name, "the place of a choice")?;
        let codes = &self.codes[code];
        let (len, bits) = (codes.len(), codes.bits());
        if codes.has_digits() {
            return self.refuse_digits(Rule::Values, choice, code, "the number of a table is bits");
        }
        if codes.signed || 1 << bits != tables {
            let message = if codes.signed {
                format!("`{name}` is signed, and tables are chosen by unsigned codes: declare it as u8")
            } else {
                format!(
                    "`{name}` chooses one of {}, and `{table}` are {tables} tables: give each code one",
                    1_usize << bits
                )
            };
            return self.errors.refuse(Rule::Values, choice, message);
        }
        if len == self.len {
            let message = format!(
                "`{name}` has a code for each weight: join its bits to those of the weights' codes by `|`, and write one table of all entries"
            );
            return self.errors.refuse(Rule::Groups, choice, message);
        }
        Ok(Choice { code, size: self.group_size(choice, len, "choices of a table")? })
    }
}

/// The zero point of the codes of groups that a product is, if it is unsigned ones alone.
fn codes_alone<'p>(product: &'p mut Product, codes: &[Codes]) -> Option<&'p mut i32> {
    let Product { constant: 1.0, block, groups } = product else { return None };
    match &mut groups[..] {
        [
            GroupScale {
                source: Source::Codes(code),
                value: ScaleValue::Linear { factor: 1, zero },
                offset: None,
                ..
            },
        ] if block.is_empty() && !codes[*code].signed => Some(zero),
        _ => None,
    }
}

fn source_is_signed(source: Source, codes: &[Codes]) -> bool {
    matches!(source, Source::Codes(code) if codes[code].signed)
}

/// The parts of a sum, in order, all of which are subtracted if the sum is.
fn sum<'e>(expression: &'e Expr, subtract: bool, parts: &mut Vec<Part<'e>>) {
    match plain(expression) {
        Expr::Binary(ExprBinary { left, op: op @ (BinOp::Add(_) | BinOp::Sub(_)), right, .. }) => {
            sum(left, subtract, parts);
            sum(right, subtract != matches!(op, BinOp::Sub(_)), parts);
        }
        part => parts.push((subtract, part)),
    }
}

/// The factors of a product, in order.
fn flatten<'e>(product: &'e Expr, factors: &mut Vec<&'e Expr>) {
    match product {
        Expr::Binary(ExprBinary { left, op: BinOp::Mul(_), right, .. }) => {
            flatten(left, factors);
            flatten(right, factors);
        }
        Expr::Group(inner) => flatten(&inner.expr, factors),
        Expr::Paren(inner)
            if matches!(plain(&inner.expr), Expr::Binary(ExprBinary { op: BinOp::Mul(_), .. })) =>
        {
            flatten(plain(&inner.expr), factors);
        }
        factor => factors.push(factor),
    }
}
