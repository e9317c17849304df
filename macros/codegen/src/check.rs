//! The rules of a declaration. Whatever passes here expands without failing.
//!
//! Names:
//!  1. formats, fields, codes, tables and digits each have one meaning, in the generated code too;
//!  2. every name in a formula is declared.
//!
//! Fields:
//!  3. types are numbers, `f16`, `f32`, `e8m0`, `ue4m3`, or arrays of those that are one byte, or of `u8` or `i8`: what
//!     kernels can load;
//!  4. every field, code, table and codebook is used, and every bit of an array belongs to exactly one code: a bit
//!     that nobody reads is a typing error, or padding that the format can do without.
//!
//! Codes:
//!  5. a plane is `field[index] >> shift & mask << position` or `trit(field[index], power)`, with index, shift and
//!     power sums of digits: only then is the walk the same for every block, so that it can be planned at compile time;
//!  6. every element lies inside its field, and those of weights and scales inside one byte: codes that straddle
//!     bytes are two planes. The codes of codebooks and signs, which are taken one by one, may go on into the next;
//!  7. the planes of one code touch no bit twice and leave no gap, and all pieces of it have the same planes;
//!  8. 16 consecutive codes lie within 16 bytes of a block of at least 16 bytes: one vector load.
//!
//! Weight:
//!  9. `w` is one product that holds the codes of all weights, plus or minus a second that does not; constants in
//!     them are powers of two, which round nothing;
//! 10. the block is a whole number of chunks of 32: activations are quantized 32 at a time;
//! 11. group scales divide a chunk evenly or span whole chunks, and hold at least 4 weights: one lane
//!     of a dot product;
//! 12. two codes times two activations fit the i16 sum of `vpmaddubsw`: unsigned codes have at most 7
//!     bits (2 · 127 · 127 = 32,258 ≤ 32,767);
//! 13. a zero point lies within the codes, and a table has an `i8` for each code, a codebook an entry;
//! 14. signs, a bit for each weight, go with what has no zero point: a table or a codebook.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{Attribute, BinOp, Expr, ExprBinary, ExprCall, ExprIndex, Ident, Lit, LitInt};

use crate::error::Errors;
use crate::model::{
    Affine, CHUNK, Codes, Cut, Digit, Field, FieldType, Format, GroupScale, Minimum, Piece, Product, SIGNS,
    ScaleValue, Signs, Term, Value, Weight,
};
use crate::parse::{self, Codebook};

/// The largest block that a declaration may have: far above every known format, and low enough that
/// checking it bit by bit takes no time.
const MAX_BLOCK: usize = 4096;

/// Checks every format of a declaration; `Err` holds the errors of all of them.
pub fn check(declarations: &parse::Declarations) -> Result<Vec<Format>, Errors> {
    let mut errors = Errors::default();
    let mut formats: Vec<Format> = Vec::new();
    let mut names: Vec<(&Ident, Option<u32>)> = Vec::new();
    if let Some(list) = &declarations.list {
        only_docs(&list.attrs, &mut errors);
        if list.name.to_string().contains(char::is_lowercase) {
            errors.at(
                &list.name,
                "a list is a static: its name is in capitals, and meets no variable of a kernel",
            );
        }
    }
    for declared in &declarations.formats {
        only_docs(&declared.attrs, &mut errors);
        not_raw(&declared.name, &mut errors);
        let gguf = declared.gguf.as_ref().and_then(|id| number(id, &mut errors)).map(|id| id as u32);
        for (name, other) in &names {
            // The file's functions are named in lower case, so that is where names must differ.
            if declared.name.to_string().to_lowercase() == name.to_string().to_lowercase() {
                errors.at(&declared.name, format!("a second format called `{name}`: rename one of the two"));
            }
            if gguf.is_some() && gguf == *other {
                errors.at(
                    &declared.gguf,
                    format!("`{name}` already has this GGUF number: give another, or leave out `= gguf …`"),
                );
            }
        }
        names.push((&declared.name, gguf));
        match &declared.body {
            Ok(body) => formats.extend(Checker::new(declared, body, &mut errors).format(gguf)),
            Err(error) => errors.push(error.clone()),
        }
    }
    if errors.len() == 0 { Ok(formats) } else { Err(errors) }
}

struct Checker<'a> {
    declared: &'a parse::Format,
    body: &'a parse::Body,
    errors: &'a mut Errors,
    fields: Vec<Field>,
    codes: Vec<Codes>,
    /// For each code vector the tokens to blame.
    blame: Vec<Ident>,
    /// For each code vector what is wrong with it where it is a weight's or a scale's: it straddles bytes.
    straddling: Vec<Straddling>,
    len: usize,
}

/// One factor of a product in `w`.
enum Factor {
    Constant(f32),
    Block(usize),
    Group(GroupScale),
    Weight(usize, Value),
    Signs(Signs),
}

/// A product in `w`.
struct Factors {
    scale: Product,
    weight: Option<(usize, Value)>,
    signs: Option<Signs>,
}

/// What the codes of a factor stand for.
enum Meaning {
    /// factor · code - zero
    Linear {
        factor: i32,
        zero: i32,
    },
    Table(Vec<i8>),
    Number(FieldType),
}

/// The digits of the base 3 that a byte holds.
const TRITS: usize = 5;
/// The most bits of a code, which only those of codebooks have.
const MAX_BITS: usize = 16;

impl<'a> Checker<'a> {
    fn new(declared: &'a parse::Format, body: &'a parse::Body, errors: &'a mut Errors) -> Self {
        Self {
            declared,
            body,
            errors,
            fields: Vec::new(),
            codes: Vec::new(),
            blame: Vec::new(),
            straddling: Vec::new(),
            len: 0,
        }
    }

    /// `None` where an error was noted that leaves nothing to go on with.
    fn format(mut self, gguf: Option<u32>) -> Option<Format> {
        let (declared, body) = (self.declared, self.body);
        self.len = number(&declared.len, self.errors)?;
        if self.len == 0 || !self.len.is_multiple_of(CHUNK) || self.len > MAX_BLOCK {
            self.errors.at(
                &declared.len,
                format!("a block holds a multiple of {CHUNK} weights, at most {MAX_BLOCK}: activations are quantized {CHUNK} at a time"),
            );
            return None;
        }
        self.unique_names();
        self.all_used();
        let before = self.errors.len();
        for field in &body.fields {
            only_docs(&field.attrs, self.errors);
            self.field(field);
        }
        for codes in &body.codes {
            self.code_vector(codes);
        }
        if self.errors.len() > before {
            // A formula over broken fields would only repeat their errors.
            return None;
        }
        let weight = self.weight(&body.weight)?;
        self.own_methods();
        self.every_bit_once();
        let format = Format {
            name: declared.name.to_string(),
            len: self.len,
            gguf,
            fields: self.fields,
            codes: self.codes,
            weight,
        };
        one_load(&format, &self.blame, self.errors);
        Some(format)
    }

    // Rule 1.
    fn unique_names(&mut self) {
        let (declared, body) = (self.declared, self.body);
        let names = body
            .fields
            .iter()
            .map(|field| &field.name)
            .chain(body.tables.iter().map(|table| &table.name))
            .chain(body.codebooks.iter().map(|codebook| &codebook.name))
            .chain(body.codes.iter().map(|codes| &codes.name));
        let mut seen: Vec<&Ident> = Vec::new();
        for name in names {
            not_raw(name, self.errors);
            if seen.contains(&name) {
                self.errors
                    .at(name, format!("`{name}` is declared twice in `{}`: rename one", declared.name));
            }
            seen.push(name);
        }
        let pieces = body.codes.iter().flat_map(|codes| &codes.pieces);
        for digit in pieces.flat_map(|piece| &piece.digits).map(|digit| &digit.name) {
            not_raw(digit, self.errors);
            if seen.contains(&digit) {
                self.errors.at(digit, format!("`{digit}` has a meaning already: rename the digit"));
            }
        }
    }

    // Rule 1. Every code vector has two methods, named after it, and a codebook is a constant.
    fn own_methods(&mut self) {
        for Codebook { name, .. } in &self.body.codebooks {
            if ["ZERO", "FORMAT"].iter().any(|taken| name == taken) {
                self.errors.at(name, format!("every block has a `{name}` of its own: rename the codebook"));
            }
        }
        for (codes, blame) in self.codes.iter().zip(&self.blame) {
            let name = &codes.name;
            if ["ZERO", "FORMAT", "from_bytes", "to_bytes", "from_weights"].contains(&name.as_str()) {
                self.errors.at(blame, format!("every block has a `{name}` of its own: rename the codes"));
            }
            if let Some(other) = name.strip_prefix("set_")
                && self.codes.iter().any(|codes| codes.name == other)
            {
                self.errors
                    .at(blame, format!("`{name}` is the method that stores `{other}`: rename the codes"));
            }
        }
    }

    // Rule 3.
    fn field(&mut self, declared: &parse::Field) {
        let Some(ty) = FieldType::ALL.into_iter().find(|ty| declared.ty == ty.name()) else {
            return self.errors.at(
                &declared.ty,
                format!(
                    "`{}` is no field type: use f16, f32, e8m0, ue4m3, or an array of u8, i8, e8m0 or ue4m3",
                    declared.ty
                ),
            );
        };
        let count = match &declared.count {
            None => None,
            Some(count) => {
                let Some(value) = number(count, self.errors) else { return };
                if value == 0 || value > MAX_BLOCK {
                    return self.errors.at(count, format!("an array holds 1 to {MAX_BLOCK} bytes"));
                }
                Some(value)
            }
        };
        if count.is_some() && ty.bytes() > 1 {
            return self.errors.at(
                &declared.ty,
                format!(
                    "an array of {} is not a kind of scale that kernels have: use one {0} and an array of small scale codes",
                    ty.name()
                ),
            );
        }
        if count.is_none() && !ty.is_number() {
            return self.errors.at(
                &declared.ty,
                format!("a single `{}` is neither a scale nor codes: make it an array, or an f16", ty.name()),
            );
        }
        let offset = self.fields.iter().map(Field::bytes).sum();
        self.fields.push(Field { name: declared.name.to_string(), ty, count, offset });
    }

    // Rules 1, 5, 6 and 7.
    fn code_vector(&mut self, declared: &parse::Codes) {
        let mut codes = Codes { name: declared.name.to_string(), pieces: Vec::new(), signed: false };
        let mut straddling = None;
        for piece in &declared.pieces {
            let first = codes.len();
            let Some((checked, straddles)) = self.piece(&declared.name, piece, first) else { return };
            if let Some(other) = codes.pieces.first()
                && !other.terms.iter().map(shape).eq(checked.terms.iter().map(shape))
            {
                return self.errors.at(
                    &piece.value,
                    format!("the pieces of `{}` differ in their planes: give all the same masks, in the same order", codes.name),
                );
            }
            straddling = straddling.or(straddles);
            codes.pieces.push(checked);
        }
        self.push_codes(codes, declared.name.clone(), straddling);
    }

    /// One piece of a code vector, whose first element is the `first` of it, and what is wrong with it where it is a
    /// weight's or a scale's. `None` where an error was noted.
    fn piece(&mut self, name: &Ident, declared: &parse::Piece, first: usize) -> Option<(Piece, Straddling)> {
        if declared.digits.is_empty() {
            self.errors.at(name, format!("codes need at least one digit: `{name}[i: 1]`"));
            return None;
        }
        let mut digits = Vec::new();
        let mut len = 1_usize;
        for digit in &declared.digits {
            let radix = number(&digit.radix, self.errors)?;
            if radix == 0 || radix > MAX_BLOCK {
                self.errors.at(&digit.radix, format!("a digit takes 1 to {MAX_BLOCK} values"));
                return None;
            }
            if digits.iter().any(|other: &Digit| digit.name == other.name) {
                self.errors.at(&digit.name, format!("a second digit `{}`: rename one", digit.name));
                return None;
            }
            digits.push(Digit { name: digit.name.to_string(), radix });
            len = len.saturating_mul(radix);
        }
        let total = first.saturating_add(len);
        if total > self.len {
            self.errors.at(
                name,
                format!(
                    "`{name}` has {total} elements, and a block of `{}` only {} weights: a digit is too large, or one too many",
                    self.declared.name, self.len
                ),
            );
            return None;
        }
        let planes = self.planes(&declared.value, &digits).ok()?;
        let (terms, tokens): (Vec<_>, Vec<_>) = planes.into_iter().unzip();
        let piece = Piece { digits, terms };
        let mut straddling = None;
        for (term, tokens) in piece.terms.iter().zip(&tokens) {
            let field = &self.fields[term.field];
            let bytes = field.count.unwrap_or(1);
            for e in 0..len {
                let place = piece.locate(term, e);
                let element = first + e;
                let last = match term.cut {
                    Cut::Bits { bits, .. } => place.byte + (place.within + bits - 1) / 8,
                    Cut::Trit { .. } if place.within < TRITS => place.byte,
                    Cut::Trit { .. } => {
                        self.errors.at(tokens, format!("element {element} of `{name}` would be digit {} of a byte of `{}`, which has {TRITS}, from 0 on: mend the power", place.within, field.name));
                        return None;
                    }
                };
                if last >= bytes {
                    self.errors.at(
                        tokens,
                        format!(
                            "element {element} of `{name}` would be in byte {last} of `{}`, which has {bytes}: mend the index or lengthen the field",
                            field.name
                        ),
                    );
                    return None;
                }
                if let (true, None, Cut::Bits { bits, .. }) = (term.straddles(place), &straddling, &term.cut)
                {
                    straddling = Some((
                        tokens.to_token_stream(),
                        format!(
                            "element {element} of `{name}` would take bits {} to {} of a byte of `{}`: narrow the mask, or join two planes by `|` where codes straddle bytes",
                            place.within,
                            place.within + bits - 1,
                            field.name
                        ),
                    ));
                }
            }
        }
        let mut taken = 0_usize;
        for (term, tokens) in piece.terms.iter().zip(&tokens) {
            let Cut::Bits { bits, position, .. } = term.cut else {
                if piece.terms.len() == 1 {
                    return Some((piece, straddling));
                }
                self.errors.at(tokens, "a trit is a whole code: it is joined with no other plane");
                return None;
            };
            let bits = ((1 << bits) - 1) << position;
            if taken & bits != 0 {
                self.errors.at(
                    tokens,
                    format!(
                        "two planes of `{name}` meet in the same bit of the code: shift one left with `<<`"
                    ),
                );
                return None;
            }
            taken |= bits;
        }
        if taken != piece.max() {
            self.errors.at(
                &declared.value,
                format!(
                    "no plane of `{name}` gives bit {} of the code: widen a mask, or shift another plane less far to the left",
                    taken.trailing_ones()
                ),
            );
            return None;
        }
        Some((piece, straddling))
    }

    fn push_codes(&mut self, codes: Codes, blame: Ident, straddling: Straddling) -> usize {
        self.codes.push(codes);
        self.blame.push(blame);
        self.straddling.push(straddling);
        self.codes.len() - 1
    }

    // Rule 5. Each plane with its tokens. An error has been noted where this returns one.
    fn planes<'e>(&mut self, value: &'e Expr, digits: &[Digit]) -> Result<Vec<(Term, &'e Expr)>, Noted> {
        match value {
            Expr::Binary(ExprBinary { left, op: BinOp::BitOr(_), right, .. }) => {
                let (left, right) = (self.planes(left, digits), self.planes(right, digits));
                let mut planes = left?;
                planes.extend(right?);
                Ok(planes)
            }
            Expr::Paren(inner)
                if matches!(&*inner.expr, Expr::Binary(ExprBinary { op: BinOp::BitOr(_), .. })) =>
            {
                self.planes(&inner.expr, digits)
            }
            Expr::Group(inner) => self.planes(&inner.expr, digits),
            _ => {
                let mut plane = self.plane(value, digits)?;
                if let Cut::Bits { shift, bits, position } = &mut plane.cut {
                    if *bits == 0 {
                        if shift.strides.iter().any(|&stride| stride != 0) {
                            return self.note(
                                value,
                                "a shift that depends on a digit needs a mask: `… >> 4 * h & 15`",
                            );
                        }
                        *bits = 8_usize.saturating_sub(shift.constant);
                    }
                    if *bits == 0 || *position + *bits > MAX_BITS {
                        return self
                            .note(value, format!("a code has 1 to {MAX_BITS} bits: shift and mask less"));
                    }
                }
                Ok(vec![(plane, value)])
            }
        }
    }

    /// One plane; 0 bits stand for a mask not yet seen.
    fn plane(&mut self, value: &Expr, digits: &[Digit]) -> Result<Term, Noted> {
        match value {
            Expr::Paren(inner) => self.plane(&inner.expr, digits),
            Expr::Group(inner) => self.plane(&inner.expr, digits),
            Expr::Index(index) => {
                let (field, byte) = self.place(index, digits)?;
                let shift = Affine::constant(0, digits.len());
                Ok(Term { field, byte, cut: Cut::Bits { shift, bits: 0, position: 0 } })
            }
            Expr::Call(call) if path(&call.func).is_some_and(|name| name == "trit") => {
                let arguments: Vec<_> = call.args.iter().collect();
                let [Expr::Index(index), power] = arguments[..] else {
                    return self.note(value, "expected `trit(field[index], power)`");
                };
                let (field, byte) = self.place(index, digits)?;
                Ok(Term { field, byte, cut: Cut::Trit { power: self.affine(power, digits)? } })
            }
            Expr::Binary(ExprBinary { left, op: BinOp::Shr(_), right, .. }) => {
                let mut plane = self.plane(left, digits)?;
                let (shift, bits, position) = self.bits_of(value, &mut plane)?;
                if *bits != 0 || *position != 0 {
                    return self.note(value, "shift right first, then mask, then shift left");
                }
                let by = self.affine(right, digits)?;
                shift.constant += by.constant;
                for (sum, stride) in shift.strides.iter_mut().zip(by.strides) {
                    *sum += stride;
                }
                Ok(plane)
            }
            Expr::Binary(ExprBinary { left, op: BinOp::BitAnd(_), right, .. }) => {
                let mut plane = self.plane(left, digits)?;
                let (_, bits, position) = self.bits_of(value, &mut plane)?;
                if *bits != 0 || *position != 0 {
                    return self.note(value, "shift right first, then mask once, then shift left");
                }
                if let Expr::Binary(ExprBinary { op: BinOp::Shl(_), .. }) = &**right {
                    return self.note(right, "`<<` binds tighter than `&`: write `(… & 3) << 4`");
                }
                let mask = self.constant(right)?;
                if mask == 0 || !(mask + 1).is_power_of_two() {
                    return self.note(right, "a mask is 1, 3, 7, …: the low bits, after the shift");
                }
                *bits = mask.count_ones() as usize;
                Ok(plane)
            }
            Expr::Binary(ExprBinary { left, op: BinOp::Shl(_), right, .. }) => {
                let mut plane = self.plane(left, digits)?;
                let (_, _, position) = self.bits_of(value, &mut plane)?;
                let by = self.constant(right)?;
                if by >= MAX_BITS {
                    return self.note(right, format!("a code has at most {MAX_BITS} bits"));
                }
                *position += by;
                Ok(plane)
            }
            _ => self.note(
                value,
                "expected a plane, `field[index] >> shift & mask << position`; planes are joined by `|`",
            ),
        }
    }

    /// The shift, the bits and the position of a plane that has them.
    fn bits_of<'t>(
        &mut self,
        value: &Expr,
        plane: &'t mut Term,
    ) -> Result<(&'t mut Affine, &'t mut usize, &'t mut usize), Noted> {
        match &mut plane.cut {
            Cut::Bits { shift, bits, position } => Ok((shift, bits, position)),
            Cut::Trit { .. } => self.note(value, "a trit is a whole code: it is neither shifted nor masked"),
        }
    }

    /// `field[index]`
    fn place(&mut self, index: &ExprIndex, digits: &[Digit]) -> Result<(usize, Affine), Noted> {
        let Some(name) = path(&index.expr) else {
            return self.note(&index.expr, "expected the name of a field before `[`");
        };
        let Some(field) = self.fields.iter().position(|field| *name == field.name) else {
            let known = list(self.fields.iter().map(|field| &field.name));
            return self.note(name, format!("no field is called `{name}`: the fields are {known}"));
        };
        if self.fields[field].ty != FieldType::U8 {
            return self.note(
                name,
                format!("codes are cut from arrays of u8, and `{name}` is not one; an array of i8 is its own codes"),
            );
        }
        Ok((field, self.affine(&index.index, digits)?))
    }

    /// A sum of constants and of digits times constants.
    fn affine(&mut self, value: &Expr, digits: &[Digit]) -> Result<Affine, Noted> {
        match value {
            Expr::Paren(inner) => self.affine(&inner.expr, digits),
            Expr::Group(inner) => self.affine(&inner.expr, digits),
            Expr::Lit(_) => Ok(Affine::constant(self.constant(value)?, digits.len())),
            Expr::Path(_) => {
                let Some(name) = path(value) else { return self.note(value, "expected a digit") };
                let Some(digit) = digits.iter().position(|digit| *name == digit.name) else {
                    let known = list(digits.iter().map(|digit| &digit.name));
                    return self.note(name, format!("no digit is called `{name}`: the digits are {known}"));
                };
                let mut affine = Affine::constant(0, digits.len());
                affine.strides[digit] = 1;
                Ok(affine)
            }
            Expr::Binary(ExprBinary { left, op: BinOp::Add(_), right, .. }) => {
                let (left, right) = (self.affine(left, digits), self.affine(right, digits));
                let (mut sum, right) = (left?, right?);
                sum.constant += right.constant;
                for (sum, stride) in sum.strides.iter_mut().zip(right.strides) {
                    *sum += stride;
                }
                self.bounded(value, sum)
            }
            Expr::Binary(ExprBinary { left, op: BinOp::Mul(_), right, .. }) => {
                let (factor, affine) = match (&**left, &**right) {
                    (Expr::Lit(_), affine) => (left, affine),
                    (affine, Expr::Lit(_)) => (right, affine),
                    _ => {
                        return self.note(
                            value,
                            "one side of `*` must be a number: a walk over bytes has fixed strides",
                        );
                    }
                };
                let factor = self.constant(factor)?;
                let mut product = self.affine(affine, digits)?;
                product.constant *= factor;
                for stride in &mut product.strides {
                    *stride *= factor;
                }
                self.bounded(value, product)
            }
            _ => self.note(value, "expected a sum of digits times numbers, as `64 * a + 32 * b + i`"),
        }
    }

    /// `affine`, unless a part of it is larger than every block; so sums and products don't overflow.
    fn bounded(&mut self, value: &Expr, affine: Affine) -> Result<Affine, Noted> {
        if affine.strides.iter().chain([&affine.constant]).any(|&part| part > MAX_BLOCK) {
            return self
                .note(value, format!("this leaves every block: fields have at most {MAX_BLOCK} bytes"));
        }
        Ok(affine)
    }

    fn constant(&mut self, value: &Expr) -> Result<usize, Noted> {
        if let Expr::Lit(literal) = value
            && let Lit::Int(int) = &literal.lit
        {
            // Far above every block, and low enough that its product with a part of an index fits a `usize`.
            return match int.base10_parse::<u16>() {
                Ok(value) => Ok(value.into()),
                Err(_) => self.note(value, "expected a whole number up to 65535"),
            };
        }
        self.note(value, "expected a whole number")
    }

    // Rules 2, 9, 11, 12 and 13.
    fn weight(&mut self, formula: &Expr) -> Option<Weight> {
        let (main, minimum) = match formula {
            Expr::Binary(ExprBinary { left, op: BinOp::Add(_), right, .. }) => {
                (&**left, Some((false, &**right)))
            }
            Expr::Binary(ExprBinary { left, op: BinOp::Sub(_), right, .. }) => {
                (&**left, Some((true, &**right)))
            }
            main => (main, None),
        };
        let Factors { scale, weight, signs } = self.product(main).ok()?;
        let Some((code, value)) = weight else {
            self.errors.at(
                main,
                format!("this product holds no codes for the {} weights of a block; write it first, then the minimum", self.len),
            );
            return None;
        };
        if signs.is_some() && matches!(value, Value::Linear { .. }) {
            self.errors.at(
                main,
                "signs go with the values of a table or a codebook: codes have a zero point instead",
            );
            return None;
        }
        let minimum = match minimum {
            None => None,
            Some((subtract, product)) => {
                let Factors { scale, weight, signs } = self.product(product).ok()?;
                if weight.is_some() || signs.is_some() {
                    self.errors.at(product, "only the first product holds the codes of the weights: the second is a minimum of the block or of groups");
                    return None;
                }
                Some(Minimum { subtract, product: scale })
            }
        };
        Some(Weight { scale, code, value, signs, minimum })
    }

    fn product(&mut self, product: &Expr) -> Result<Factors, Noted> {
        let mut factors = Vec::new();
        flatten(product, &mut factors);
        let (mut scale, mut weight, mut signs) = (Product::default(), None, None);
        for factor in factors {
            match self.factor(factor)? {
                Factor::Constant(constant) => scale.constant *= constant,
                Factor::Block(field) => scale.block.push(field),
                Factor::Group(group) => {
                    if scale.group.replace(group).is_some() {
                        return self.note(
                            factor,
                            "a second vector of group scales: a product has one, whose planes are joined by `|`",
                        );
                    }
                }
                Factor::Weight(code, value) => {
                    if weight.replace((code, value)).is_some() {
                        return self
                            .note(factor, "a second factor with a code for every weight: a product has one, whose planes are joined by `|`");
                    }
                }
                Factor::Signs(these) => {
                    if signs.replace(these).is_some() {
                        return self.note(factor, "a second factor of signs: a product has one");
                    }
                }
            }
        }
        let has_numbers = matches!(scale.group, Some(GroupScale { value: ScaleValue::Number(_), .. }));
        if scale.block.is_empty() && !has_numbers {
            return self.note(product, "all blocks would have the same scale: multiply by a field of f16");
        }
        Ok(Factors { scale, weight, signs })
    }

    fn factor(&mut self, factor: &Expr) -> Result<Factor, Noted> {
        match factor {
            Expr::Group(inner) => self.factor(&inner.expr),
            Expr::Lit(_) => match power_of_two(factor) {
                Some(constant) => Ok(Factor::Constant(constant)),
                None => self.note(
                    factor,
                    "a constant factor is a power of two, which rounds nothing: 0.5, 0.125, 2",
                ),
            },
            Expr::Path(_) => {
                let Some(name) = path(factor) else { return self.note(factor, "expected a name") };
                let field = self.fields.iter().position(|field| *name == field.name);
                if let Some(field) = field.filter(|&field| self.fields[field].count.is_none()) {
                    return Ok(Factor::Block(field));
                }
                let code = self.operand(name)?;
                let meaning = match field.map(|field| self.fields[field].ty) {
                    Some(ty) if ty.is_number() => Meaning::Number(ty),
                    _ => Meaning::Linear { factor: 1, zero: 0 },
                };
                self.scaled_or_weight(factor, code, meaning)
            }
            Expr::Paren(inner) => match &*inner.expr {
                Expr::Binary(ExprBinary { left, op: BinOp::Sub(_), right, .. }) => {
                    let (code, times) = self.multiple(left, "-")?;
                    let zero = self.constant(right)?;
                    self.not_signed(code, right)?;
                    if zero > times * self.codes[code].max() {
                        let codes = &self.codes[code];
                        let message = format!(
                            "the zero point lies outside the codes of `{}`, which run from 0 to {}",
                            codes.name,
                            times * codes.max()
                        );
                        return self.note(right, message);
                    }
                    self.scaled_or_weight(factor, code, Meaning::Linear { factor: times as i32, zero: zero as i32 })
                }
                Expr::Binary(ExprBinary { left, op: BinOp::Add(_), right, .. }) => {
                    let (code, times) = self.multiple(left, "+")?;
                    let more = self.constant(right)? as i32;
                    self.not_signed(code, right)?;
                    self.scaled_or_weight(factor, code, Meaning::Linear { factor: times as i32, zero: -more })
                }
                other => self.factor(other),
            },
            Expr::Index(index) => {
                let (Some(table), Some(name)) = (path(&index.expr), path(&index.index)) else {
                    return self.note(factor, "expected `TABLE[codes]`");
                };
                let code = self.operand(name)?;
                let body = self.body;
                match body.codebooks.iter().find(|codebook| codebook.name == *table) {
                    Some(codebook) => self.codebook(factor, codebook, code),
                    None => {
                        let entries = self.table(table, code)?;
                        self.scaled_or_weight(factor, code, Meaning::Table(entries))
                    }
                }
            }
            Expr::Call(call) => self.signs(call),
            _ => self.note(factor, "expected a factor, a field, codes, `(codes - zero)` or `TABLE[codes]`; factors are joined by `*`"),
        }
    }

    /// Codes, or a number times codes, before an operator.
    fn multiple(&mut self, value: &Expr, operator: &str) -> Result<(usize, usize), Noted> {
        let (times, name) = match value {
            Expr::Binary(ExprBinary { left, op: BinOp::Mul(_), right, .. }) => {
                (self.constant(left)?, &**right)
            }
            name => (1, name),
        };
        match path(name) {
            Some(name) => Ok((self.operand(name)?, times)),
            None => self.note(value, format!("expected codes before `{operator}`, as in `(q {operator} 8)`")),
        }
    }

    fn not_signed(&mut self, code: usize, blame: &Expr) -> Result<(), Noted> {
        if self.codes[code].signed {
            let name = &self.codes[code].name;
            let message = format!("`{name}` is signed and needs no zero point: drop it");
            return self.note(blame, message);
        }
        Ok(())
    }

    // Rule 14. `signs(codes)` or `even_signs(codes)`.
    fn signs(&mut self, call: &ExprCall) -> Result<Factor, Noted> {
        let even = match path(&call.func) {
            Some(name) if name == "signs" => false,
            Some(name) if name == "even_signs" => true,
            _ => {
                return self.note(
                    &call.func,
                    "the functions of a formula are `signs(codes)` and `even_signs(codes)`",
                );
            }
        };
        let arguments: Vec<_> = call.args.iter().collect();
        let [argument] = arguments[..] else { return self.note(call, "signs are those of one code vector") };
        let Some(name) = path(argument) else { return self.note(argument, "expected the name of codes") };
        let code = self.operand(name)?;
        let codes = &self.codes[code];
        let bits = if even { SIGNS - 1 } else { SIGNS };
        if codes.signed || codes.bits() != bits || codes.len() * SIGNS != self.len {
            let message = format!(
                "`{name}` has {} codes of {} bits: here are {} of {bits}, one for each {SIGNS} weights",
                codes.len(),
                codes.bits(),
                self.len / SIGNS
            );
            return self.note(argument, message);
        }
        Ok(Factor::Signs(Signs { code, even }))
    }

    // Rule 13.
    fn codebook(&mut self, factor: &Expr, declared: &Codebook, code: usize) -> Result<Factor, Noted> {
        let (Some(weights), Some(entries)) =
            (number(&declared.weights, self.errors), number(&declared.entries, self.errors))
        else {
            return Err(Noted);
        };
        if ![4, 8].contains(&weights) {
            return self.note(&declared.weights, "an entry of a codebook has 4 or 8 weights");
        }
        let codes = &self.codes[code];
        if codes.signed || codes.max() + 1 != entries {
            let message = format!(
                "`{}` has {entries} entries, and the codes of `{}` run from 0 to {}: give it one for each",
                declared.name,
                codes.name,
                codes.max()
            );
            return self.note(&declared.entries, message);
        }
        if codes.len() * weights != self.len {
            let message = format!(
                "{} entries of {weights} weights are {}, and a block has {}",
                codes.len(),
                codes.len() * weights,
                self.len
            );
            return self.note(factor, message);
        }
        Ok(Factor::Weight(code, Value::Codebook { name: declared.name.to_string(), weights }))
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
            return self.note(name, format!("nothing is called `{name}`: there are {known}"));
        };
        let Some(count) = self.fields[field].count else {
            return self.note(name, format!("`{name}` is a single value, not codes: only an array or codes take a zero point or a table"));
        };
        Ok(self.push_codes(
            Codes {
                name: name.to_string(),
                pieces: vec![Piece {
                    digits: vec![Digit { name: "i".into(), radix: count }],
                    terms: vec![Term {
                        field,
                        byte: Affine { constant: 0, strides: vec![1] },
                        cut: Cut::Bits { shift: Affine::constant(0, 1), bits: 8, position: 0 },
                    }],
                }],
                signed: self.fields[field].ty == FieldType::I8,
            },
            name.clone(),
            None,
        ))
    }

    fn scaled_or_weight(&mut self, factor: &Expr, code: usize, meaning: Meaning) -> Result<Factor, Noted> {
        if let Some((tokens, message)) = self.straddling[code].take() {
            return self.note(tokens, message);
        }
        let codes = &self.codes[code];
        let (name, len, bits, signed) = (codes.name.clone(), codes.len(), codes.bits(), codes.signed);
        if bits > 8 {
            return self.note(
                factor,
                format!("`{name}` has {bits} bits: only the codes of a codebook have more than 8"),
            );
        }
        if len == self.len {
            let value = match meaning {
                Meaning::Linear { factor: 1, zero: zero @ 0.. } => {
                    if !signed && bits > 7 {
                        return self.note(
                            factor,
                            format!("`{name}` has {bits} bits, and two such codes times two activations overflow the i16 sum of vpmaddubsw: use at most 7 bits, or an array of i8"),
                        );
                    }
                    Value::Linear { zero }
                }
                Meaning::Linear { .. } => {
                    return self.note(factor, "the codes of weights are taken as they are, or minus a zero point: multiply the scale instead");
                }
                Meaning::Table(entries) => Value::Table { entries },
                Meaning::Number(ty) => {
                    return self
                        .note(factor, format!("an array of {} holds scales: weights are codes", ty.name()));
                }
            };
            return Ok(Factor::Weight(code, value));
        }
        let size = self.len / len;
        if !self.len.is_multiple_of(len)
            || size < 4
            || !(CHUNK.is_multiple_of(size) || size.is_multiple_of(CHUNK))
        {
            return self.note(
                factor,
                format!(
                    "{len} scales for {} weights: groups hold 4, 8, 16 or a multiple of {CHUNK} weights",
                    self.len
                ),
            );
        }
        let value = match meaning {
            Meaning::Linear { factor, zero } => ScaleValue::Linear { factor, zero },
            Meaning::Table(entries) => ScaleValue::Table { entries },
            Meaning::Number(ty) => ScaleValue::Number(ty),
        };
        Ok(Factor::Group(GroupScale { code, value, size }))
    }

    // Rule 13.
    fn table(&mut self, name: &Ident, code: usize) -> Result<Vec<i8>, Noted> {
        let Some(table) = self.body.tables.iter().find(|table| table.name == *name) else {
            return self.note(name, format!("no table is called `{name}`: add `table {name} = […];`"));
        };
        let codes = &self.codes[code];
        if codes.bits() > 4 || codes.signed {
            let message = format!(
                "`{}` has {} bits: a table is looked up by unsigned codes of at most 4 (one vpshufb)",
                codes.name,
                codes.bits()
            );
            return self.note(name, message);
        }
        let expected = codes.max() + 1;
        if table.values.len() != expected {
            let message =
                format!("`{name}` has {} entries: give it {expected}, one for each code", table.values.len());
            return self.note(name, message);
        }
        let mut entries = Vec::new();
        for value in &table.values {
            match signed_byte(value) {
                Some(entry) => entries.push(entry),
                None => return self.note(value, "a table entry is a whole number from -128 to 127"),
            }
        }
        Ok(entries)
    }

    // Rule 4. Asks the tokens, not the checked formula: a mistake elsewhere makes nothing unused.
    fn all_used(&mut self) {
        let body = self.body;
        let formula = body.weight.to_token_stream();
        let values = body.codes.iter().flat_map(|codes| &codes.pieces).map(|piece| &piece.value);
        let anywhere = quote!(#formula #(#values)*);
        for name in body.fields.iter().map(|field| &field.name) {
            if !mentions(anywhere.clone(), name) {
                self.errors.at(
                    name,
                    format!("`{name}` is never used: use it in `w` or in codes, or remove the field"),
                );
            }
        }
        let tables = body.tables.iter().map(|table| &table.name);
        let codebooks = body.codebooks.iter().map(|codebook| &codebook.name);
        for name in body.codes.iter().map(|codes| &codes.name).chain(tables).chain(codebooks) {
            if !mentions(formula.clone(), name) {
                self.errors.at(name, format!("`{name}` is never used in `w`: use it there or remove it"));
            }
        }
    }

    // Rule 4.
    fn every_bit_once(&mut self) {
        for (f, field) in self.fields.iter().enumerate() {
            let Some(count) = field.count else { continue };
            let mut bits = vec![0_u32; count * 8];
            let mut trits = vec![0_u32; count * TRITS];
            for piece in self.codes.iter().flat_map(|codes| &codes.pieces) {
                for term in piece.terms.iter().filter(|term| term.field == f) {
                    for place in (0..piece.len()).map(|e| piece.locate(term, e)) {
                        match term.cut {
                            Cut::Bits { bits: taken, .. } => {
                                let first = 8 * place.byte + place.within;
                                bits[first..first + taken].iter_mut().for_each(|count| *count += 1);
                            }
                            Cut::Trit { .. } => trits[TRITS * place.byte + place.within] += 1,
                        }
                    }
                }
            }
            let blame = &self.body.fields[f].name;
            if bits.iter().chain(&trits).all(|&count| count == 0) {
                // Noted already, as a field that is never used.
                continue;
            }
            for (byte, (bits, trits)) in bits.chunks_exact(8).zip(trits.chunks_exact(TRITS)).enumerate() {
                // The last digits of a byte may be left over, if not all.
                let in_trits = trits.iter().any(|&count| count > 0);
                let read = trits.iter().rposition(|&count| count > 0).map_or(0, |last| last + 1);
                let (readers, unit) = if in_trits { (&trits[..read], "digit") } else { (bits, "bit") };
                let problem = if in_trits && bits.iter().any(|&count| count > 0) {
                    format!("byte {byte} of `{blame}` is read by bits and by trits: it is one or the other")
                } else if let Some(at) = readers.iter().position(|&count| count > 1) {
                    format!(
                        "{unit} {at} of byte {byte} of `{blame}` belongs to {} codes: check the index and the shift, or a digit is missing in them",
                        readers[at]
                    )
                } else if let Some(at) = readers.iter().position(|&count| count == 0) {
                    format!(
                        "{unit} {at} of byte {byte} of `{blame}` is read by no code: shorten the field, or add the plane that is missing"
                    )
                } else {
                    continue;
                };
                self.errors.at(blame, problem);
                break;
            }
        }
    }

    fn note<T>(&mut self, tokens: impl ToTokens, message: impl std::fmt::Display) -> Result<T, Noted> {
        self.errors.at(tokens, message);
        Err(Noted)
    }
}

/// An error that is in the list already.
struct Noted;

/// What is wrong with codes that straddle bytes, if any do, with the tokens to blame.
type Straddling = Option<(TokenStream, String)>;

/// What planes of different pieces must have in common: bits and position.
fn shape(term: &Term) -> Option<(usize, usize)> {
    match term.cut {
        Cut::Bits { bits, position, .. } => Some((bits, position)),
        Cut::Trit { .. } => None,
    }
}

// Rule 8.
fn one_load(format: &Format, blame: &[Ident], errors: &mut Errors) {
    let codes = format.weight_codes();
    if format.bytes() < 16 {
        return errors.at(
            &blame[format.weight.code],
            format!(
                "a block of {} bytes is shorter than one vector load of 16: gather more weights in a block",
                format.bytes()
            ),
        );
    }
    if matches!(format.weight.value, Value::Codebook { .. }) {
        // Its entries are taken one by one.
        return;
    }
    let place = |plane: usize, e: usize| {
        let (piece, e) = codes.piece_of(e);
        let term = &piece.terms[plane];
        format.fields[term.field].offset + piece.locate(term, e).byte
    };
    for plane in 0..codes.pieces[0].terms.len() {
        for first in (0..codes.len()).step_by(16) {
            let bytes = (first..first + 16).map(|e| place(plane, e));
            let (low, high) = (bytes.clone().min().unwrap_or(0), bytes.max().unwrap_or(0));
            if high - low >= 16 {
                return errors.at(
                    &blame[format.weight.code],
                    format!("codes {first} to {} of `{}` are spread over {} bytes; a vector load takes 16: reorder the digits", first + 15, codes.name, high - low + 1),
                );
            }
        }
    }
}

fn only_docs(attrs: &[Attribute], errors: &mut Errors) {
    for attr in attrs.iter().filter(|attr| !parse::is_doc(attr)) {
        errors.at(attr, "only doc comments and `allow` go with a declaration: remove this attribute");
    }
}

// Rule 1.
fn not_raw(name: &Ident, errors: &mut Errors) {
    if name.to_string().starts_with("r#") {
        errors.at(name, format!("`{name}` names methods and functions too: use a name that is no keyword"));
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
            if !matches!(
                &*inner.expr,
                Expr::Binary(ExprBinary { op: BinOp::Sub(_) | BinOp::Add(_), .. })
            ) =>
        {
            flatten(&inner.expr, factors);
        }
        factor => factors.push(factor),
    }
}

fn path(value: &Expr) -> Option<&Ident> {
    match value {
        Expr::Path(path) => path.path.get_ident(),
        Expr::Group(inner) => path(&inner.expr),
        _ => None,
    }
}

fn number(literal: &LitInt, errors: &mut Errors) -> Option<usize> {
    match literal.base10_parse::<u32>() {
        Ok(value) => Some(value as usize),
        Err(_) => {
            errors.push(syn::Error::new(literal.span(), "expected a whole number up to 4294967295"));
            None
        }
    }
}

fn power_of_two(value: &Expr) -> Option<f32> {
    let Expr::Lit(literal) = value else { return None };
    let value: f32 = match &literal.lit {
        Lit::Int(int) => int.base10_parse().ok()?,
        Lit::Float(float) => float.base10_parse().ok()?,
        _ => return None,
    };
    let fraction = value.to_bits() & ((1 << (f32::MANTISSA_DIGITS - 1)) - 1);
    // Far from where a scale times it would overflow or vanish.
    (fraction == 0 && (1e-6..1e6).contains(&value)).then_some(value)
}

fn signed_byte(value: &Expr) -> Option<i8> {
    // `i8::from_str` reads the sign and the digits as one.
    let text: String = value.to_token_stream().into_iter().map(|token| token.to_string()).collect();
    text.parse().ok()
}

/// Whether `name` is among `tokens`.
fn mentions(tokens: TokenStream, name: &Ident) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == *name,
        TokenTree::Group(group) => mentions(group.stream(), name),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

/// "`a`, `b`", or a word for nothing.
fn list<'n>(names: impl Iterator<Item = &'n String>) -> String {
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
