//! What a format's quantizer searches for.

use std::collections::BTreeSet;

use crate::model::{FieldType, Format, GroupScale, Product, ScaleValue, Value};

/// What the quantizer fills in besides codes.
pub struct Quantizer {
    /// The field of the block's number in the scale, where there is one.
    pub scale: Option<usize>,
    /// That in the minimum, where there is one.
    pub minimum: Option<usize>,
    /// Further factors of the block, which become 1.
    pub ones: Vec<usize>,
    /// ggml's rule for such a formula, where it has one.
    pub reference: Option<Reference>,
}

/// The rules of `quantloom_kernels::quantize::Reference`.
pub enum Reference {
    Furthest { zero: u8, max: u8 },
    Symmetric { limit: u8, zero: u8 },
    Range { max: u8 },
    Mean { negative: u8 },
    Exponent,
    Largest,
}

/// The quantizer, or why there is none.
pub fn quantizer(format: &Format) -> Result<Quantizer, String> {
    let weight = &format.weight;
    let products =
        || std::iter::once(&weight.scale).chain(weight.minimum.as_ref().map(|minimum| &minimum.product));
    let fields: Vec<_> = products().flat_map(|product| &product.block).copied().collect();
    let groups = || products().filter_map(|product| product.group.as_ref());
    let signs = weight.signs.as_ref().map(|signs| signs.code);
    let codes: Vec<_> = groups().map(|group| group.code).chain([weight.code]).chain(signs).collect();
    if let Some(field) = twice(&fields) {
        return Err(format!(
            "`{}` stands in it twice, so that neither part can be chosen for itself",
            format.fields[field].name
        ));
    }
    if let Some(code) = twice(&codes) {
        return Err(format!(
            "`{}` stands in it twice, so that neither part can be chosen for itself",
            format.codes[code].name
        ));
    }
    if groups().any(|group| matches!(group.value, ScaleValue::Table { .. })) {
        return Err("scales by a table are not searched for".into());
    }
    if weight.signs.is_some() && !matches!(weight.value, Value::Codebook { .. }) {
        return Err("signs of the entries of a table are not searched for".into());
    }
    let mut ones = Vec::new();
    let mut first = |product: &Product| {
        let (&first, others) = product.block.split_first()?;
        ones.extend(others);
        Some(first)
    };
    let scale = first(&weight.scale);
    let minimum = weight.minimum.as_ref().and_then(|minimum| first(&minimum.product));
    let reference = if ones.is_empty() { reference(format) } else { None };
    Ok(Quantizer { scale, minimum, ones, reference })
}

/// What is among `indices` more than once.
fn twice(indices: &[usize]) -> Option<usize> {
    let mut seen = BTreeSet::new();
    indices.iter().copied().find(|&index| !seen.insert(index))
}

fn reference(format: &Format) -> Option<Reference> {
    let weight = &format.weight;
    let codes = format.weight_codes();
    let number = |field: usize| format.fields[field].ty;
    let scale = match (&weight.scale.block[..], &weight.scale.group, &weight.value, &weight.minimum) {
        (&[field], None, ..) => number(field),
        (
            [],
            Some(GroupScale { value: ScaleValue::Number(FieldType::Ue4m3), .. }),
            Value::Table { .. },
            None,
        ) => {
            return Some(Reference::Largest);
        }
        _ => return None,
    };
    if let (FieldType::E8M0, Value::Table { .. }, None) = (scale, &weight.value, &weight.minimum) {
        return Some(Reference::Exponent);
    }
    if scale != FieldType::F16 || weight.scale.constant != 1.0 {
        return None;
    }
    match (&weight.value, &weight.minimum) {
        (Value::Linear { .. }, None) if codes.signed => Some(Reference::Symmetric { limit: 127, zero: 0 }),
        (Value::Linear { zero: 1 }, None) => Some(Reference::Symmetric { limit: 1, zero: 1 }),
        (Value::Linear { zero }, None) if *zero > 0 => {
            Some(Reference::Furthest { zero: *zero as u8, max: codes.max() as u8 })
        }
        (Value::Linear { zero: 0 }, Some(minimum))
            if !codes.signed && !minimum.subtract && minimum.product.group.is_none() =>
        {
            Some(Reference::Range { max: codes.max() as u8 })
        }
        (Value::Table { entries }, None) => match entries[..] {
            [-1, 1] => Some(Reference::Mean { negative: 0 }),
            [1, -1] => Some(Reference::Mean { negative: 1 }),
            _ => None,
        },
        _ => None,
    }
}
