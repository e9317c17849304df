//! Rules: where codes lie, and that they lie inside their fields, are whole, and can be loaded.

use syn::{BinOp, Expr, ExprBinary, ExprIndex, Ident};

use super::numbers::{is_literal, number, plain};
use super::{Checker, MAX_BLOCK, Rule, list};
use crate::error::{Errors, Noted};
use crate::model::{Affine, Codes, Cut, Digit, FieldType, Format, Piece, Term, Value, digits_of_byte};
use crate::parse;

/// The most digits that a byte holds, those of the base 3.
pub const MOST_DIGITS: usize = 5;
/// The largest base.
const MAX_BASE: usize = 15;
/// The most bits of a code, which only those of codebooks have.
const MAX_BITS: usize = 16;

impl Checker<'_> {
    /// A code vector, of one piece or several.
    pub fn code_vector(&mut self, declared: &parse::Codes) -> Result<(), Noted> {
        let mut codes = Codes { name: declared.name.to_string(), pieces: Vec::new(), signed: false };
        for piece in &declared.pieces {
            let first = codes.len();
            let checked = self.piece(&declared.name, piece, first)?;
            if let Some(other) = codes.pieces.first()
                && !other.terms.iter().map(shape).eq(checked.terms.iter().map(shape))
            {
                let message = format!(
                    "the pieces of `{}` differ in their planes: give all the same masks, in the same order",
                    codes.name
                );
                return self.errors.refuse(Rule::Whole, &piece.value, message);
            }
            codes.pieces.push(checked);
        }
        self.push_codes(codes, declared.name.clone());
        Ok(())
    }

    pub fn push_codes(&mut self, codes: Codes, blame: Ident) -> usize {
        self.codes.push(codes);
        self.blame.push(blame);
        self.codes.len() - 1
    }

    /// One piece of a code vector, whose first element is the `first` of it.
    fn piece(&mut self, name: &Ident, declared: &parse::Piece, first: usize) -> Result<Piece, Noted> {
        let digits = self.digits(name, declared)?;
        let len = digits.iter().fold(1_usize, |len, digit| len.saturating_mul(digit.radix));
        let total = first.saturating_add(len);
        if total > self.len {
            let message = format!(
                "`{name}` has {total} elements, and a block of `{}` only {} weights: a digit is too large, or one too many",
                self.declared.name, self.len
            );
            return self.errors.refuse(Rule::Inside, name, message);
        }
        let planes = self.planes(&declared.value, &digits)?;
        let (terms, tokens): (Vec<_>, Vec<_>) = planes.into_iter().unzip();
        let mut piece = Piece { digits, terms };
        for t in 0..piece.terms.len() {
            let below_0 = piece.terms[t].shifts(&piece).is_some_and(|[least, _]| least < 0);
            if let Cut::Bits { highest_first, .. } = &mut piece.terms[t].cut {
                *highest_first = below_0;
            }
        }
        for (term, tokens) in piece.terms.iter().zip(&tokens) {
            self.inside(name, &piece, term, tokens, first)?;
        }
        self.whole(name, declared, &piece, &tokens)?;
        Ok(piece)
    }

    fn digits(&mut self, name: &Ident, declared: &parse::Piece) -> Result<Vec<Digit>, Noted> {
        if declared.digits.is_empty() {
            let message = format!("codes need at least one digit: `{name}[i: 1]`");
            return self.errors.refuse(Rule::Planes, name, message);
        }
        let mut digits: Vec<Digit> = Vec::new();
        for digit in &declared.digits {
            let radix = number(&digit.radix, self.errors)?;
            if radix == 0 || radix > MAX_BLOCK {
                let message = format!("a digit takes 1 to {MAX_BLOCK} values");
                return self.errors.refuse(Rule::Planes, &digit.radix, message);
            }
            if digits.iter().any(|other| digit.name == other.name) {
                let message = format!("a second digit `{}`: rename one", digit.name);
                return self.errors.refuse(Rule::Names, &digit.name, message);
            }
            digits.push(Digit { name: digit.name.to_string(), radix });
        }
        Ok(digits)
    }

    /// Every element of a plane lies in its field.
    fn inside(
        &mut self,
        name: &Ident,
        piece: &Piece,
        term: &Term,
        tokens: &Expr,
        first: usize,
    ) -> Result<(), Noted> {
        let field = &self.fields[term.field];
        let bytes = field.count.unwrap_or(1);
        for e in 0..piece.len() {
            let element = first + e;
            let Some(place) = piece.try_locate(term, e) else {
                let message = format!(
                    "element {element} of `{name}` would lie before the first bit of `{}`: the index, the shift or the power is below 0 there",
                    field.name
                );
                return self.errors.refuse(Rule::Inside, tokens, message);
            };
            let last = match term.cut {
                Cut::Bits { .. } => term.bytes(place)[1],
                Cut::Digit { base, .. } if place.within < digits_of_byte(base) => place.byte,
                Cut::Digit { base, .. } => {
                    let message = format!(
                        "element {element} of `{name}` would be digit {} of a byte of `{}`, which has {}, from 0 on: mend the power",
                        place.within,
                        field.name,
                        digits_of_byte(base)
                    );
                    return self.errors.refuse(Rule::Inside, tokens, message);
                }
            };
            if last >= bytes {
                let message = format!(
                    "element {element} of `{name}` would be in byte {last} of `{}`, which has {bytes}: mend the index or lengthen the field",
                    field.name
                );
                return self.errors.refuse(Rule::Inside, tokens, message);
            }
        }
        Ok(())
    }

    /// The planes of a piece touch no bit of the code twice and leave no gap.
    fn whole(
        &mut self,
        name: &Ident,
        declared: &parse::Piece,
        piece: &Piece,
        tokens: &[&Expr],
    ) -> Result<(), Noted> {
        let mut taken = 0_usize;
        for (term, tokens) in piece.terms.iter().zip(tokens) {
            let Cut::Bits { bits, position, .. } = term.cut else {
                if piece.terms.len() == 1 {
                    return Ok(());
                }
                let message = "a digit is a whole code: it is joined with no other plane";
                return self.errors.refuse(Rule::Whole, tokens, message);
            };
            let bits = ((1 << bits) - 1) << position;
            if taken & bits != 0 {
                let message = format!(
                    "two planes of `{name}` meet in the same bit of the code: shift one left with `<<`"
                );
                return self.errors.refuse(Rule::Whole, tokens, message);
            }
            taken |= bits;
        }
        if taken != piece.max() {
            let message = format!(
                "no plane of `{name}` gives bit {} of the code: widen a mask, or shift another plane less far to the left",
                taken.trailing_ones()
            );
            return self.errors.refuse(Rule::Whole, &declared.value, message);
        }
        Ok(())
    }

    /// Each plane with its tokens.
    fn planes<'e>(&mut self, value: &'e Expr, digits: &[Digit]) -> Result<Vec<(Term, &'e Expr)>, Noted> {
        if let Expr::Binary(ExprBinary { left, op: BinOp::BitOr(_), right, .. }) = plain(value) {
            let (left, right) = (self.planes(left, digits), self.planes(right, digits));
            let mut planes = left?;
            planes.extend(right?);
            return Ok(planes);
        }
        let mut plane = self.plane(value, digits)?;
        if let Cut::Bits { shift, bits, position, .. } = &mut plane.cut {
            if *bits == 0 {
                if shift.strides.iter().any(|&stride| stride != 0) {
                    let message = "a shift that depends on a digit needs a mask: `… >> 4 * h & 15`";
                    return self.errors.refuse(Rule::Planes, value, message);
                }
                *bits = usize::try_from(8 - shift.constant).unwrap_or(0);
            }
            if *bits == 0 || *position + *bits > MAX_BITS {
                let message = format!("a code has 1 to {MAX_BITS} bits: shift and mask less");
                return self.errors.refuse(Rule::Planes, value, message);
            }
        }
        Ok(vec![(plane, value)])
    }

    /// One plane; 0 bits stand for a mask not yet seen.
    fn plane(&mut self, value: &Expr, digits: &[Digit]) -> Result<Term, Noted> {
        match plain(value) {
            Expr::Index(index) => {
                let (field, byte) = self.place(index, digits)?;
                let shift = Affine::constant(0, digits.len());
                Ok(Term { field, byte, cut: Cut::Bits { shift, bits: 0, position: 0, highest_first: false } })
            }
            Expr::Call(call) if path(&call.func).is_some_and(|name| name == "trit" || name == "digit") => {
                let is_fraction = path(&call.func).is_some_and(|name| name == "trit");
                let arguments: Vec<_> = call.args.iter().collect();
                let (index, base, power) = match arguments[..] {
                    [index, power] if is_fraction => (index, 3, power),
                    [index, base, power] if !is_fraction => (index, self.base(base)?, power),
                    _ => {
                        let message = if is_fraction {
                            "expected `trit(field[index], power)`"
                        } else {
                            "expected `digit(field[index], base, power)`"
                        };
                        return self.errors.refuse(Rule::Planes, value, message);
                    }
                };
                let Expr::Index(index) = plain(index) else {
                    return self.errors.refuse(Rule::Planes, index, "expected `field[index]`");
                };
                let (field, byte) = self.place(index, digits)?;
                let power = self.affine(power, digits)?;
                Ok(Term { field, byte, cut: Cut::Digit { base, power, is_fraction } })
            }
            Expr::Binary(ExprBinary { left, op: BinOp::Shr(_), right, .. }) => {
                let mut plane = self.plane(left, digits)?;
                let (shift, bits, position) = self.bits_of(value, &mut plane)?;
                if *bits != 0 || *position != 0 {
                    let message = "shift right first, then mask, then shift left";
                    return self.errors.refuse(Rule::Planes, value, message);
                }
                let by = self.affine(right, digits)?;
                *shift = self.bounded(value, shift.plus(&by))?;
                Ok(plane)
            }
            Expr::Binary(ExprBinary { left, op: BinOp::BitAnd(_), right, .. }) => {
                let mut plane = self.plane(left, digits)?;
                let (_, bits, position) = self.bits_of(value, &mut plane)?;
                if *bits != 0 || *position != 0 {
                    let message = "shift right first, then mask once, then shift left";
                    return self.errors.refuse(Rule::Planes, value, message);
                }
                if let Expr::Binary(ExprBinary { op, .. }) = &**right {
                    let message = match op {
                        BinOp::Shr(_) => {
                            "`>>` binds tighter than `&`, and the shift comes first: write `… >> 4 & 15`"
                        }
                        BinOp::Shl(_) => "`<<` binds tighter than `&`: write `(… & 3) << 4`",
                        _ => "a mask is a number, written out: 1, 3, 7, …",
                    };
                    return self.errors.refuse(Rule::Planes, right, message);
                }
                let mask = self.constant(right)?;
                if mask == 0 || !(mask + 1).is_power_of_two() {
                    let message = "a mask is 1, 3, 7, …: the low bits, after the shift";
                    return self.errors.refuse(Rule::Planes, right, message);
                }
                *bits = mask.count_ones() as usize;
                Ok(plane)
            }
            Expr::Binary(ExprBinary { left, op: BinOp::Shl(_), right, .. }) => {
                let mut plane = self.plane(left, digits)?;
                let (_, _, position) = self.bits_of(value, &mut plane)?;
                let by = self.constant(right)?;
                if by >= MAX_BITS {
                    let message = format!("a code has at most {MAX_BITS} bits");
                    return self.errors.refuse(Rule::Planes, right, message);
                }
                *position += by;
                Ok(plane)
            }
            _ => self.errors.refuse(
                Rule::Planes,
                value,
                "expected a plane, `field[index] >> shift & mask << position`; planes are joined by `|`",
            ),
        }
    }

    /// The base of digits.
    fn base(&mut self, value: &Expr) -> Result<usize, Noted> {
        let base = self.constant(value)?;
        if !(3..=MAX_BASE).contains(&base) || base.is_power_of_two() {
            let message = format!(
                "digits have a base from 3 to {MAX_BASE} that is no power of two: of those, digits are bits, `field[index] >> shift & mask`"
            );
            return self.errors.refuse(Rule::Planes, value, message);
        }
        Ok(base)
    }

    /// The shift, the bits and the position of a plane that has them.
    fn bits_of<'t>(
        &mut self,
        value: &Expr,
        plane: &'t mut Term,
    ) -> Result<(&'t mut Affine, &'t mut usize, &'t mut usize), Noted> {
        match &mut plane.cut {
            Cut::Bits { shift, bits, position, .. } => Ok((shift, bits, position)),
            Cut::Digit { .. } => {
                let message = "a digit is a whole code: it is neither shifted nor masked";
                self.errors.refuse(Rule::Planes, value, message)
            }
        }
    }

    /// `field[index]`
    fn place(&mut self, index: &ExprIndex, digits: &[Digit]) -> Result<(usize, Affine), Noted> {
        let Some(name) = path(&index.expr) else {
            let message = "expected the name of a field before `[`";
            return self.errors.refuse(Rule::Planes, &index.expr, message);
        };
        let Some(field) = self.fields.iter().position(|field| *name == field.name) else {
            if self.body.fields.iter().any(|field| field.name == *name) {
                // It is declared, with an error that is noted already.
                return Err(Noted);
            }
            let known = list(self.fields.iter().map(|field| &field.name));
            let message = format!("no field is called `{name}`: the fields are {known}");
            return self.errors.refuse(Rule::Declared, name, message);
        };
        if self.fields[field].ty != FieldType::U8 || self.fields[field].count.is_none() {
            let message = format!(
                "codes are cut from arrays of u8, and `{name}` is not one; an array of i8 is its own codes"
            );
            return self.errors.refuse(Rule::Planes, name, message);
        }
        Ok((field, self.affine(&index.index, digits)?))
    }

    /// A sum of constants and of digits times constants.
    fn affine(&mut self, value: &Expr, digits: &[Digit]) -> Result<Affine, Noted> {
        match plain(value) {
            Expr::Lit(_) => Ok(Affine::constant(self.constant(value)? as i64, digits.len())),
            Expr::Path(_) => {
                let Some(name) = path(value) else {
                    return self.errors.refuse(Rule::Planes, value, "expected a digit");
                };
                let Some(digit) = digits.iter().position(|digit| *name == digit.name) else {
                    let known = list(digits.iter().map(|digit| &digit.name));
                    let message = format!("no digit is called `{name}`: the digits are {known}");
                    return self.errors.refuse(Rule::Declared, name, message);
                };
                let mut affine = Affine::constant(0, digits.len());
                affine.strides[digit] = 1;
                Ok(affine)
            }
            Expr::Binary(ExprBinary { left, op: op @ (BinOp::Add(_) | BinOp::Sub(_)), right, .. }) => {
                let (left, right) = (self.affine(left, digits), self.affine(right, digits));
                let (left, right) = (left?, right?);
                let right = if matches!(op, BinOp::Sub(_)) { right.times(-1) } else { right };
                self.bounded(value, left.plus(&right))
            }
            Expr::Binary(ExprBinary { left, op: BinOp::Mul(_), right, .. }) => {
                let (factor, affine) = match (is_literal(left), is_literal(right)) {
                    (true, _) => (left, right),
                    (false, true) => (right, left),
                    (false, false) => {
                        let message = "one side of `*` must be a number: a walk over bytes has fixed strides";
                        return self.errors.refuse(Rule::Planes, value, message);
                    }
                };
                let factor = self.constant(factor)?;
                let affine = self.affine(affine, digits)?;
                self.bounded(value, affine.times(factor as i64))
            }
            _ => self.errors.refuse(
                Rule::Planes,
                value,
                "expected a sum of digits times numbers, as `64 * a + 32 * b + i`, or a difference, as `4 - 4 * h` where the high half of a byte comes first",
            ),
        }
    }

    /// `affine`, unless a part of it is larger than every block; so sums and products don't overflow.
    fn bounded(&mut self, value: &Expr, affine: Affine) -> Result<Affine, Noted> {
        let limit = MAX_BLOCK as u64;
        if affine.strides.iter().chain([&affine.constant]).any(|part| part.unsigned_abs() > limit) {
            let message = format!("this leaves every block: fields have at most {MAX_BLOCK} bytes");
            return self.errors.refuse(Rule::Inside, value, message);
        }
        Ok(affine)
    }
}

/// What planes of different pieces must have in common.
#[derive(PartialEq)]
enum Shape {
    /// Bits and position.
    Bits(usize, usize),
    /// The base of digits, and whether a byte of them is a fraction.
    Digits(usize, bool),
}

fn shape(term: &Term) -> Shape {
    match term.cut {
        Cut::Bits { bits, position, .. } => Shape::Bits(bits, position),
        Cut::Digit { base, is_fraction, .. } => Shape::Digits(base, is_fraction),
    }
}

/// The name that `value` is.
pub fn path(value: &Expr) -> Option<&Ident> {
    match plain(value) {
        Expr::Path(path) => path.path.get_ident(),
        _ => None,
    }
}

/// Codes of weights are loaded 16 at a time.
pub fn one_load(format: &Format, blames: &[Ident], errors: &mut Errors) {
    let codes = format.weight_codes();
    let blame = &blames[format.weight.code];
    if format.bytes() < 16 {
        let message = format!(
            "a block of {} bytes is shorter than one vector load of 16: gather more weights in a block",
            format.bytes()
        );
        return errors.note(Rule::OneLoad, blame, message);
    }
    if matches!(format.weight.value, Value::Codebook { .. }) {
        // Its entries are taken one by one.
        return;
    }
    spread(format, codes, 1, blame, errors);
    if let Some(choice) = format.weight.choice() {
        spread(format, &format.codes[choice.code], choice.size, &blames[choice.code], errors);
    }
}

/// Codes of weights, or of so many weights each, are taken out of 16 bytes for 16 weights, and out of 8 for 8 where some go on
/// into another byte.
fn spread(format: &Format, codes: &Codes, weights: usize, blame: &Ident, errors: &mut Errors) {
    /// Bytes of a load, and as many weights.
    const LOAD: usize = 16;
    /// Bytes from which bits are shifted together, and as many weights.
    const SHIFT: usize = 8;

    // The first and the last byte of an element.
    let bytes = |plane: usize, e: usize| {
        let (piece, e) = codes.piece_of(e);
        let term = &piece.terms[plane];
        let offset = format.fields[term.field].offset;
        term.bytes(piece.locate(term, e)).map(|byte| offset + byte)
    };
    // The runs of elements of so many weights, with the number of bytes over which each is spread.
    let runs = |plane: usize, all: usize| {
        let count = all.div_ceil(weights);
        let run = move |first: usize| first..codes.len().min(first + count);
        (0..codes.len()).step_by(count).map(run).map(move |run| {
            let low = run.clone().map(|e| bytes(plane, e)[0]).min().unwrap_or(0);
            let high = run.clone().map(|e| bytes(plane, e)[1]).max().unwrap_or(0);
            (run, high - low + 1)
        })
    };
    for plane in 0..codes.pieces[0].terms.len() {
        if let Some((run, over)) = runs(plane, LOAD).find(|(_, over)| *over > LOAD) {
            let message = format!(
                "codes {} to {} of `{}` are spread over {over} bytes; a vector load takes {LOAD}: reorder the digits",
                run.start,
                run.end - 1,
                codes.name,
            );
            return errors.note(Rule::OneLoad, blame, message);
        }
        let straddles = |e: usize| {
            let [first, last] = bytes(plane, e);
            first < last
        };
        let mut too_far = runs(plane, SHIFT).filter(|(_, over)| *over > SHIFT);
        if let Some((run, over)) = too_far.find(|(run, _)| run.clone().any(straddles)) {
            let message = format!(
                "codes {} to {} of `{}`, some of which go on into another byte, are spread over {over} bytes, and a shift of bits takes {SHIFT}: reorder the digits, or keep the bits beyond in a plane of their own and join the two by `|`, as Q3_K does",
                run.start,
                run.end - 1,
                codes.name,
            );
            return errors.note(Rule::OneLoad, blame, message);
        }
    }
}
