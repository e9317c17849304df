//! What a format's quantizer searches for.

use std::collections::BTreeSet;

use crate::model::{FieldType, Format, GroupScale, Minimum, Product, ScaleValue, Source, Value};

/// What the quantizer fills in besides codes.
pub struct Quantizer {
    pub scale: Numbers,
    /// Of what is added to the scaled codes, or, where that is the scale times a zero point, of the zero point.
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
    let minimum = weight.minimum.as_ref().map(searched);
    let products = || std::iter::once(&weight.scale).chain(minimum);
    let offsets = products().flat_map(|product| &product.groups).filter_map(|group| group.offset);
    let blocks = products().flat_map(|product| &product.block).copied();
    let fields: Vec<_> = blocks.chain(offsets.map(|offset| offset.field)).collect();
    let sources = || products().flat_map(|product| &product.groups).map(|group| group.source);
    let numbers = sources().filter_map(|source| match source {
        Source::Numbers(field) => Some(field),
        Source::Codes(_) => None,
    });
    let signs = weight.signs.as_ref().map(|signs| signs.code);
    let choice = weight.choice();
    let of_groups = products().flat_map(|product| &product.groups).filter_map(GroupScale::code);
    let codes = of_groups.chain([weight.code]).chain(signs);
    let codes: Vec<_> = codes.chain(choice.map(|choice| choice.code)).collect();
    let stands_twice =
        |name: &str| format!("`{name}` stands in it twice, so that neither part can be chosen for itself");
    if let Some(field) = twice(&fields).or_else(|| twice(&numbers.collect::<Vec<_>>())) {
        return Err(stands_twice(&format.fields[field].name));
    }
    if let Some(code) = twice(&codes) {
        return Err(stands_twice(&format.codes[code].name));
    }
    for product in products() {
        if let [first, second, ..] = &product.groups[..] {
            return Err(format!(
                "`{}` and `{}` are factors of groups in one product, which the search does not choose together",
                name(format, first),
                name(format, second)
            ));
        }
    }
    if let Some(group) = products().flat_map(|product| &product.groups).find(|group| group.offset.is_some()) {
        return Err(format!(
            "the zero point of `{}` is a number that blocks store, which the search does not choose",
            name(format, group)
        ));
    }
    if let Some(zero) = weight.minimum.as_ref().and_then(|minimum| minimum.zero.as_ref()) {
        zero_point(format, zero)?;
    }
    if choice.is_some() && weight.signs.as_ref().is_some_and(|signs| signs.even) {
        return Err(
            "it has even signs beside several tables: with `signs`, a bit for each weight, there is one"
                .to_owned(),
        );
    }
    Ok(Quantizer {
        scale: Numbers::of(format, &weight.scale),
        minimum: minimum.map_or(Numbers::default(), |minimum| Numbers::of(format, minimum)),
    })
}

/// The product that is chosen for a minimum: the zero point, where it is the scale times that.
pub fn searched(minimum: &Minimum) -> &Product {
    minimum.zero.as_ref().unwrap_or(&minimum.product)
}

/// What the search for zero points asks of one.
fn zero_point(format: &Format, zero: &Product) -> Result<(), String> {
    let weight = &format.weight;
    if !matches!(weight.value, Value::Linear { .. }) {
        return Err("beside a zero point that blocks or groups store, the search takes codes as they are, not what a table has for them".to_owned());
    }
    if zero.block.len() + zero.groups.len() > 1 {
        return Err(
            "the zero point is a product of several factors, which the search does not choose together"
                .to_owned(),
        );
    }
    let size = |product: &Product| product.groups.first().map_or(format.len, |group| group.size);
    let (scale, zero) = (size(&weight.scale), size(zero));
    if !scale.is_multiple_of(zero) && !zero.is_multiple_of(scale) {
        return Err(format!(
            "groups of {scale} weights have a scale, and groups of {zero} a zero point, of which neither are whole ones of the other"
        ));
    }
    Ok(())
}

/// What a factor of groups is called.
fn name<'f>(format: &'f Format, group: &GroupScale) -> &'f str {
    match group.source {
        Source::Codes(code) => &format.codes[code].name,
        Source::Numbers(field) => &format.fields[field].name,
    }
}

impl Numbers {
    fn of(format: &Format, product: &Product) -> Self {
        let is_wide = |group: &GroupScale| matches!(group.value, ScaleValue::Number(ty) if ty.bytes() > 1);
        // Where groups have numbers as fine as any of the block, these have nothing to add.
        let finest = if product.groups.iter().any(is_wide) { None } else { finest(format, product) };
        let others = product.block.iter().copied().filter(|&field| Some(field) != finest).collect();
        Self { finest, others }
    }
}

/// The finest number of a product's that blocks have.
fn finest(format: &Format, product: &Product) -> Option<usize> {
    product.block.iter().copied().min_by_key(|&field| match format.fields[field].ty {
        FieldType::F32 => 0,
        FieldType::F16 => 1,
        FieldType::BF16 => 2,
        FieldType::Ue4m3 => 3,
        FieldType::E8M0 | FieldType::U8 | FieldType::I8 => 4,
    })
}

/// What is among `indices` more than once.
fn twice(indices: &[usize]) -> Option<usize> {
    let mut seen = BTreeSet::new();
    indices.iter().copied().find(|&index| !seen.insert(index))
}
