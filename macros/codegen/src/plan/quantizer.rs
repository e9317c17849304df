//! What a format's quantizer searches for.

use std::collections::BTreeSet;

use crate::model::{FieldType, Format, Product};

/// What the quantizer fills in besides codes.
pub struct Quantizer {
    pub scale: Numbers,
    pub minimum: Numbers,
}

/// The fields of a product's numbers that blocks have.
#[derive(Default)]
pub struct Numbers {
    /// The one that is searched for, the finest; of equals the first.
    pub finest: Option<usize>,
    /// The others, which become powers of two.
    pub others: Vec<usize>,
}

/// The quantizer, or why there is none.
pub fn quantizer(format: &Format) -> Result<Quantizer, String> {
    let weight = &format.weight;
    let products =
        || std::iter::once(&weight.scale).chain(weight.minimum.as_ref().map(|minimum| &minimum.product));
    let fields: Vec<_> = products().flat_map(|product| &product.block).copied().collect();
    let groups = || products().filter_map(|product| product.group.as_ref());
    let signs = weight.signs.as_ref().map(|signs| signs.code);
    let choice = weight.choice();
    let codes = groups().map(|group| group.code).chain([weight.code]).chain(signs);
    let codes: Vec<_> = codes.chain(choice.map(|choice| choice.code)).collect();
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
    if choice.is_some() && weight.signs.as_ref().is_some_and(|signs| signs.even) {
        return Err(
            "it has even signs beside several tables: with `signs`, a bit for each weight, there is one"
                .to_owned(),
        );
    }
    let minimum = weight.minimum.as_ref();
    Ok(Quantizer {
        scale: Numbers::of(format, &weight.scale),
        minimum: minimum.map_or(Numbers::default(), |minimum| Numbers::of(format, &minimum.product)),
    })
}

impl Numbers {
    fn of(format: &Format, product: &Product) -> Self {
        let finest = product.block.iter().copied().min_by_key(|&field| match format.fields[field].ty {
            FieldType::F32 => 0,
            FieldType::F16 => 1,
            FieldType::Ue4m3 => 2,
            FieldType::E8M0 | FieldType::U8 | FieldType::I8 => 3,
        });
        let others = product.block.iter().copied().filter(|&field| Some(field) != finest).collect();
        Self { finest, others }
    }
}

/// What is among `indices` more than once.
fn twice(indices: &[usize]) -> Option<usize> {
    let mut seen = BTreeSet::new();
    indices.iter().copied().find(|&index| !seen.insert(index))
}
