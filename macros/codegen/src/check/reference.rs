//! The rule of `quantize by …;`: a quantizer of ggml's is for the formula that it was written for.

use super::{Checker, Rule};
use crate::error::Noted;
use crate::model::{FieldType, Format, GroupScale, Minimum, Product, Reference, ScaleValue, Value, Weight};

/// Each quantizer: its word, the formula that it is for, and itself where a format has that formula.
type Quantizer = (&'static str, &'static str, fn(&Format) -> Option<Reference>);

const QUANTIZERS: [Quantizer; 6] = [
    (
        "furthest",
        "`w = d * (q - zero);` with an f16 `d` and the zero point in the middle of the codes, 8 of 4 bits",
        furthest,
    ),
    (
        "symmetric",
        "`w = d * q;` with an f16 `d` and signed codes, or `w = d * (q - zero);` with at least as many codes above the zero point as below it",
        symmetric,
    ),
    ("range", "`w = d * q + m;` with an f16 `d`, an f16 `m` and unsigned codes", range),
    ("mean", "`w = d * SIGN[q];` with an f16 `d` and `table SIGN = [-1, 1];`", mean),
    ("exponent", "`w = e * TABLE[q];` with a single e8m0 `e`", exponent),
    ("largest", "`w = d * TABLE[q];` with an array of ue4m3 `d`, one for each group", largest),
];

impl Checker<'_> {
    /// The quantizer that the declaration asks for.
    pub fn reference(&mut self, format: &Format) -> Result<Option<Reference>, Noted> {
        let Some(word) = &self.body.quantize else { return Ok(None) };
        let Some((name, formula, of)) = QUANTIZERS.iter().find(|(name, ..)| word == name) else {
            let words: Vec<_> = QUANTIZERS.iter().map(|(name, ..)| *name).collect();
            let message = format!(
                "`{word}` is no quantizer: there are {}; without this line the block of least squared error is searched for",
                words.join(", ")
            );
            return self.errors.refuse(Rule::Quantizers, word, message);
        };
        match of(format) {
            Some(reference) => Ok(Some(reference)),
            None => {
                let message = format!(
                    "`{name}` is the quantizer of {formula}, with nothing else in the formula: remove this line, and the block of least squared error is searched for"
                );
                self.errors.refuse(Rule::Quantizers, word, message)
            }
        }
    }
}

/// The value of a formula whose scale is one f16 alone and which has no signs, and its minimum.
fn under_f16(format: &Format) -> Option<(&Value, Option<&Minimum>)> {
    let Weight { scale, value, signs: None, minimum, .. } = &format.weight else { return None };
    is_one(format, scale, FieldType::F16).then_some((value, minimum.as_ref()))
}

/// Whether a product is one field of this type.
fn is_one(format: &Format, product: &Product, ty: FieldType) -> bool {
    match product {
        Product { constant: 1.0, block, groups } if groups.is_empty() => {
            block.len() == 1 && format.fields[block[0]].ty == ty
        }
        _ => false,
    }
}

fn furthest(format: &Format) -> Option<Reference> {
    let codes = format.weight_codes();
    match under_f16(format)? {
        (&Value::Linear { zero }, None) if !codes.signed && 2 * zero as usize == codes.max() + 1 => {
            Some(Reference::Furthest { zero: zero as u8, max: codes.max() as u8 })
        }
        _ => None,
    }
}

fn symmetric(format: &Format) -> Option<Reference> {
    let codes = format.weight_codes();
    match under_f16(format)? {
        (Value::Linear { .. }, None) if codes.signed => Some(Reference::Symmetric { limit: 127, zero: 0 }),
        (&Value::Linear { zero: zero @ 1.. }, None) if 2 * zero as usize <= codes.max() => {
            Some(Reference::Symmetric { limit: zero as u8, zero: zero as u8 })
        }
        _ => None,
    }
}

fn range(format: &Format) -> Option<Reference> {
    let codes = format.weight_codes();
    match under_f16(format)? {
        (Value::Linear { zero: 0 }, Some(Minimum { subtract: false, product, zero: None }))
            if !codes.signed && is_one(format, product, FieldType::F16) =>
        {
            Some(Reference::Range { max: codes.max() as u8 })
        }
        _ => None,
    }
}

fn mean(format: &Format) -> Option<Reference> {
    match under_f16(format)? {
        (Value::Table { entries, choice: None }, None) => match entries[..] {
            [-1, 1] => Some(Reference::Mean { negative: 0 }),
            [1, -1] => Some(Reference::Mean { negative: 1 }),
            _ => None,
        },
        _ => None,
    }
}

/// The scale of a formula that is a scale times the entry of one table.
fn under_table(format: &Format) -> Option<&Product> {
    match &format.weight {
        Weight { scale, value: Value::Table { choice: None, .. }, signs: None, minimum: None, .. } => {
            Some(scale)
        }
        _ => None,
    }
}

fn exponent(format: &Format) -> Option<Reference> {
    let scale = under_table(format)?;
    match scale {
        Product { block, groups, .. }
            if groups.is_empty() && block.len() == 1 && format.fields[block[0]].ty == FieldType::E8M0 =>
        {
            Some(Reference::Exponent)
        }
        _ => None,
    }
}

fn largest(format: &Format) -> Option<Reference> {
    let scale = under_table(format)?;
    let of_group =
        matches!(&scale.groups[..], [GroupScale { value: ScaleValue::Number(FieldType::Ue4m3), .. }]);
    (scale.block.is_empty() && of_group).then_some(Reference::Largest)
}
