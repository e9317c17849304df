//! The quantizer of a format, as data that `quantloom_kernels::quantize` searches with.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use super::block::array_reader;
use crate::model::{
    Choice, Codes, FieldType, Format, GroupScale, Product, Reference, ScaleValue, Source, Value,
};
use crate::plan::quantizer::{Numbers, Quantizer, searched};

/// The quantizer of one block: what the formula can express, as data, and where the parts that are found go.
pub fn from_weights(format: &Format, quantizer: &Quantizer) -> TokenStream {
    let (len, weight) = (format.len, &format.weight);
    let quantize = quote!(kernels::quantize);
    let codes = format.weight_codes();
    let scale = product(format, &weight.scale, &quantizer.scale, false);
    let minimum = weight
        .minimum
        .as_ref()
        .map(|minimum| product(format, searched(minimum), &quantizer.minimum, minimum.subtract));
    let zero_point = weight.minimum.as_ref().is_some_and(|minimum| minimum.zero.is_some());
    let minimum = if zero_point {
        quote!(const ZERO_POINT: #quantize::Product = #minimum;)
    } else {
        let minimum = option(minimum);
        quote!(const MINIMUM: ::core::option::Option<#quantize::Product> = #minimum;)
    };
    // The numbers of a product of the block, and what further ones of it make together.
    let numbers = |numbers: &Numbers, part: &str| {
        let (bits, exponent) = (format_ident!("{part}"), format_ident!("{part}_exponent"));
        let finest = numbers.finest.map(|index| store(format, index, quote!(numbers.#bits)));
        let others = numbers.others.iter().map(|&index| {
            let number = number(format.fields[index].ty);
            store(format, index, quote!(#quantize::power(#number, &mut exponent)))
        });
        let exponent = (!numbers.others.is_empty()).then(|| quote!(let mut exponent = numbers.#exponent;));
        quote!(#finest #exponent #(#others)*)
    };
    let scales = weight.scale.groups.first();
    let minima = weight.minimum.as_ref().and_then(|minimum| searched(minimum).groups.first());
    let counts @ [scale_count, minimum_count] =
        [scales, minima].map(|group| group.map_or(0, |group| stored_bytes(format, group)));
    let stored = [
        Some(numbers(&quantizer.scale, "scale")),
        scales.map(|group| set_group(format, group, quote!(numbers.scales))),
        Some(numbers(&quantizer.minimum, "minimum")),
        minima.map(|group| set_group(format, group, quote!(numbers.minima))),
    ];
    let stored = stored.iter().flatten();
    let (found, stored_codes) = match &weight.value {
        Value::Codebook { name, weights } => {
            // A static can't say `Self`.
            let block_type = format_ident!("{}", format.name);
            let book = format_ident!("{name}");
            octets(format, *weights, &quote!(#block_type::#book), counts)
        }
        Value::Table { entries, choice: Some(choice) } => chosen(format, entries, choice, counts),
        Value::Table { entries, choice: None } if weight.signs.is_some() => {
            let entries = entries.iter().map(|&entry| signed(entry.into()));
            octets(format, 1, &quote!(&[#([#entries]),*]), counts)
        }
        Value::Linear { zero } if zero_point => {
            let number = integers(codes, 1, *zero);
            let found = quote! {
                let (numbers, codes) = #quantize::quantize_zeros::<#len, #scale_count, #minimum_count>(
                    #number,
                    SCALE,
                    ZERO_POINT,
                    weights,
                    importance,
                );
            };
            (found, set(codes, quote!(codes)))
        }
        value => {
            let values = match value {
                Value::Linear { zero } => {
                    let number = integers(codes, 1, *zero);
                    quote!(#quantize::Values::Even(#number))
                }
                Value::Table { entries, .. } => {
                    let table = table(entries.iter().copied());
                    quote!(#quantize::Values::Table(#table))
                }
                Value::Codebook { .. } => unreachable!("taken above"),
            };
            let reference = option(format.reference.map(|reference| {
                let rule = match reference {
                    Reference::Furthest { zero, max } => quote!(Furthest { zero: #zero, max: #max }),
                    Reference::Symmetric { limit, zero } => quote!(Symmetric { limit: #limit, zero: #zero }),
                    Reference::Range { max } => quote!(Range { max: #max }),
                    Reference::Mean { negative } => quote!(Mean { negative: #negative }),
                    Reference::Exponent => quote!(Exponent),
                    Reference::Largest => quote!(Largest),
                };
                quote!(#quantize::Reference::#rule)
            }));
            let found = quote! {
                const SHAPE: #quantize::Shape = #quantize::Shape {
                    values: #values,
                    scale: SCALE,
                    minimum: MINIMUM,
                    reference: #reference,
                };
                let (numbers, codes) =
                    #quantize::quantize::<#len, #scale_count, #minimum_count>(&SHAPE, weights, importance);
            };
            (found, set(codes, quote!(codes)))
        }
    };
    quote! {
        /// The block nearest to `weights`: the squared error of each counts by its `importance`.
        pub fn from_weights(
            weights: &[f32; #len],
            importance: ::core::option::Option<&[f32; #len]>,
        ) -> Self {
            const SCALE: #quantize::Product = #scale;
            #minimum
            #found
            let mut block = Self::ZERO;
            #(#stored)*
            #stored_codes
            block
        }
    }
}

/// A table, as one of `quantloom_kernels::quantize`.
fn table(entries: impl Iterator<Item = i8>) -> TokenStream {
    let entries = entries.map(|entry| signed(entry.into()));
    quote!(kernels::quantize::Table::new(&[#(#entries),*]))
}

/// The search over several tables, and what stores the choices, codes and signs that it finds.
///
/// With a sign for each weight a table has the negative of each entry, too, and codes another bit above.
fn chosen(
    format: &Format,
    entries: &[i8],
    choice: &Choice,
    [scales, minima]: [usize; 2],
) -> (TokenStream, TokenStream) {
    let quantize = quote!(kernels::quantize);
    let (codes, choices) = (format.weight_codes(), &format.codes[choice.code]);
    let weight_signs = format.weight.signs.as_ref();
    let of_one = entries.chunks(codes.max() + 1).map(|entries| {
        let negated = entries.iter().filter(|_| weight_signs.is_some()).map(|&entry| -entry);
        table(entries.iter().copied().chain(negated))
    });
    let (len, count, tables) = (format.len, choices.len(), entries.len() / (codes.max() + 1));
    let found = quote! {
        static TABLES: [#quantize::Table; #tables] = [#(#of_one),*];
        let (numbers, choices, codes) = #quantize::quantize_chosen::<#len, #count, #scales, #minima>(
            &TABLES,
            SCALE,
            MINIMUM,
            weights,
            importance,
        );
    };
    let stored_choices = set(choices, quote!(choices));
    let Some(signs) = weight_signs else {
        let stored_codes = set(codes, quote!(codes));
        return (found, quote!(#stored_choices #stored_codes));
    };
    let (bits, max) = (codes.bits(), codes.max() as u8);
    let stored_codes = set(codes, quote!(codes.map(|code| code & #max)));
    let stored_signs = set(&format.codes[signs.code], quote!(#quantize::joined_bits(&codes, #bits)));
    (found, quote!(#stored_choices #stored_codes #stored_signs))
}

/// The search over rows of `weights` values, which are `rows`, and what stores the codes and signs that it finds.
fn octets(
    format: &Format,
    weights: usize,
    rows: &TokenStream,
    [scales, minima]: [usize; 2],
) -> (TokenStream, TokenStream) {
    let quantize = quote!(kernels::quantize);
    let (len, codes) = (format.len, format.weight_codes());
    let (octets, entries, per_octet) = (len / 8, codes.len(), 8 / weights);
    let weight_signs = format.weight.signs.as_ref();
    let signs = match weight_signs {
        None => quote!(Own),
        Some(signs) if signs.even => quote!(Even),
        Some(_) => quote!(Any),
    };
    let found = quote! {
        static GRID: #quantize::LazyLock<#quantize::Grid<#weights>> =
            #quantize::LazyLock::new(|| #quantize::Grid::new(#rows, #quantize::Signs::#signs));
        let (numbers, octets) = #quantize::quantize_octets::<#weights, #len, #octets, #scales, #minima>(
            &GRID,
            SCALE,
            MINIMUM,
            weights,
            importance,
        );
    };
    let found_rows = match weights {
        8 => quote!(octets.map(|octet| octet.rows[0])),
        _ => quote! {
            ::core::array::from_fn::<u16, #entries, _>(|i| octets[i / #per_octet].rows[i % #per_octet])
        },
    };
    let found_rows = if codes.bits() > 8 { found_rows } else { quote!(#found_rows.map(|row| row as u8)) };
    let stored_signs = weight_signs.map(|signs| {
        let mask = if signs.even { 127_u8 } else { 255 };
        set(&format.codes[signs.code], quote!(octets.map(|octet| octet.signs & #mask)))
    });
    let stored_rows = set(codes, found_rows);
    (found, quote!(#stored_rows #stored_signs))
}

/// The bytes of a block's groups' scales: codes, or the numbers of a field.
fn stored_bytes(format: &Format, group: &GroupScale) -> usize {
    match group.source {
        Source::Codes(code) => format.codes[code].len(),
        Source::Numbers(field) => format.fields[field].bytes(),
    }
}

/// Stores the bytes `found` as the scales of groups.
fn set_group(format: &Format, group: &GroupScale, found: TokenStream) -> TokenStream {
    match group.source {
        Source::Codes(code) => set(&format.codes[code], found),
        Source::Numbers(field) => {
            let field = &format.fields[field];
            let (name, read) = (format_ident!("{}", field.name), array_reader(field.ty));
            quote!(block.#name = #read(&#found);)
        }
    }
}

/// Stores `found` as the codes of a block.
fn set(codes: &Codes, found: TokenStream) -> TokenStream {
    let set = format_ident!("set_{}", codes.name);
    let found = if codes.signed { quote!(#found.map(|code| code as i8)) } else { found };
    quote!(block.#set(&#found);)
}

/// Stores a number of the block by its bits.
fn store(format: &Format, field: usize, bits: TokenStream) -> TokenStream {
    let name = format_ident!("{}", format.fields[field].name);
    let value = match format.fields[field].ty {
        FieldType::F16 => quote!(kernels::f16::from_bits(#bits as u16)),
        FieldType::BF16 => quote!(kernels::bf16::from_bits(#bits as u16)),
        FieldType::F32 => quote!(f32::from_bits(#bits)),
        _ => quote!(#bits as u8),
    };
    quote!(block.#name = #value;)
}

/// A number that blocks have, as one of `quantloom_kernels::quantize`.
fn number(ty: FieldType) -> TokenStream {
    match ty {
        FieldType::F32 => quote!(kernels::quantize::Number::F32),
        FieldType::F16 => quote!(kernels::quantize::Number::F16),
        FieldType::BF16 => quote!(kernels::quantize::Number::Bf16),
        FieldType::E8M0 => quote!(kernels::quantize::Number::E8m0),
        FieldType::Ue4m3 => quote!(kernels::quantize::Number::Ue4m3),
        FieldType::U8 | FieldType::I8 => unreachable!("the checker lets bytes be codes only"),
    }
}

fn option(value: Option<TokenStream>) -> TokenStream {
    match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    }
}

/// A product, as one of `quantloom_kernels::quantize`.
fn product(format: &Format, product: &Product, numbers: &Numbers, subtract: bool) -> TokenStream {
    let quantize = quote!(kernels::quantize);
    let field = |index: usize| number(format.fields[index].ty);
    let factor = product.constant;
    let factor = if subtract { quote!(-#factor) } else { quote!(#factor) };
    let block = option(numbers.finest.map(field));
    let others = numbers.others.iter().map(|&index| field(index));
    let group = option(product.groups.first().map(|group| match &group.value {
        &ScaleValue::Linear { factor, zero } => match group.source {
            Source::Codes(code) => integers(&format.codes[code], factor, zero),
            Source::Numbers(_) => unreachable!("codes alone are linear in something"),
        },
        &ScaleValue::Number(ty) => number(ty),
        ScaleValue::Table { entries } => {
            let table = table(entries.iter().copied());
            quote!(#quantize::Number::Table(const { &#table }))
        }
    }));
    quote!(#quantize::Product { factor: #factor, block: #block, others: &[#(#others),*], group: #group })
}

/// How codes with a zero point are stored, as a number of `quantloom_kernels::quantize`.
fn integers(codes: &Codes, factor: i32, zero: i32) -> TokenStream {
    if codes.signed {
        return quote!(kernels::quantize::Number::I8);
    }
    let (first, max) = (signed(-zero), codes.max() as u8);
    quote!(kernels::quantize::Number::Integer { first: #first, step: #factor, max: #max })
}

/// A literal has no sign: it stands before.
fn signed(value: i32) -> TokenStream {
    let magnitude = value.unsigned_abs();
    if value < 0 { quote!(-#magnitude) } else { quote!(#magnitude) }
}
