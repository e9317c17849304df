//! The quantizer of a format, as data that `quantloom_kernels::quantize` searches with.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use crate::model::{Codes, FieldType, Format, Product, ScaleValue, Value};
use crate::plan::quantizer::{Quantizer, Reference};

/// The quantizer of one block: what the formula can express, as data, and where the parts that are found go.
pub fn from_weights(format: &Format, quantizer: &Quantizer) -> TokenStream {
    let (len, weight) = (format.len, &format.weight);
    let quantize = quote!(kernels::quantize);
    let none = quote!(::core::option::Option::None);
    let some = |value: TokenStream| quote!(::core::option::Option::Some(#value));
    let codes = format.weight_codes();
    let scale = product(format, &weight.scale, false);
    let minimum = match &weight.minimum {
        Some(minimum) => some(product(format, &minimum.product, minimum.subtract)),
        None => none.clone(),
    };
    let field = |index: usize| format_ident!("{}", format.fields[index].name);
    let number = |index: usize, part: &str| {
        let (name, part) = (field(index), format_ident!("{part}"));
        let bits = quote!(numbers.#part);
        let value = match format.fields[index].ty {
            FieldType::F16 => quote!(kernels::f16::from_bits(#bits as u16)),
            FieldType::F32 => quote!(f32::from_bits(#bits)),
            _ => quote!(#bits as u8),
        };
        quote!(block.#name = #value;)
    };
    let set = |codes: &Codes, found: TokenStream| {
        let set = format_ident!("set_{}", codes.name);
        let found = if codes.signed { quote!(#found.map(|code| code as i8)) } else { found };
        quote!(block.#set(&#found);)
    };
    let ones = quantizer.ones.iter().map(|&index| {
        let name = field(index);
        let one = match format.fields[index].ty {
            FieldType::F16 => quote!(kernels::f16::ONE),
            FieldType::F32 => quote!(1.0),
            FieldType::Ue4m3 => quote!(0x38),
            _ => quote!(127),
        };
        quote!(block.#name = #one;)
    });
    let groups = |product: &Product| product.group.as_ref().map(|group| &format.codes[group.code]);
    let (scales, minima) =
        (groups(&weight.scale), weight.minimum.as_ref().and_then(|minimum| groups(&minimum.product)));
    let (scale_count, minimum_count) = (scales.map_or(0, Codes::len), minima.map_or(0, Codes::len));
    let stored = [
        quantizer.scale.map(|index| number(index, "scale")),
        scales.map(|codes| set(codes, quote!(numbers.scales))),
        quantizer.minimum.map(|index| number(index, "minimum")),
        minima.map(|codes| set(codes, quote!(numbers.minima))),
    ];
    let stored = stored.iter().flatten();
    let (found, stored_codes) = match &weight.value {
        Value::Codebook { name, weights } => {
            // A static can't say `Self`.
            let block_type = format_ident!("{}", format.name);
            let (book, octets) = (format_ident!("{name}"), len / 8);
            let signs = match &weight.signs {
                None => quote!(Own),
                Some(signs) if signs.even => quote!(Even),
                Some(_) => quote!(Any),
            };
            let rows = match weights {
                8 => quote!(octets.map(|octet| octet.rows[0])),
                _ => {
                    let entries = codes.len();
                    quote!(::core::array::from_fn::<u16, #entries, _>(|i| octets[i / 2].rows[i % 2]))
                }
            };
            let rows = if codes.bits() > 8 { rows } else { quote!(#rows.map(|row| row as u8)) };
            let signs_code = weight.signs.as_ref().map(|signs| {
                let mask = if signs.even { 127_u8 } else { 255 };
                set(&format.codes[signs.code], quote!(octets.map(|octet| octet.signs & #mask)))
            });
            let set_rows = set(codes, rows);
            let found = quote! {
                static GRID: #quantize::LazyLock<#quantize::Grid<#weights>> =
                    #quantize::LazyLock::new(|| {
                        #quantize::Grid::new(#block_type::#book, #quantize::Signs::#signs)
                    });
                let (numbers, octets) =
                    #quantize::quantize_octets::<#weights, #len, #octets, #scale_count, #minimum_count>(
                        &GRID,
                        #scale,
                        #minimum,
                        weights,
                        importance,
                    );
            };
            (found, quote!(#set_rows #signs_code))
        }
        value => {
            let values = match value {
                Value::Linear { zero } => {
                    let number = integers(codes, 1, *zero);
                    quote!(#quantize::Values::Even(#number))
                }
                Value::Table { entries } => {
                    let entries = entries.iter().map(|&entry| signed(entry.into()));
                    quote!(#quantize::Values::Table(#quantize::Table::new(&[#(#entries),*])))
                }
                Value::Codebook { .. } => unreachable!("taken above"),
            };
            let reference = match &quantizer.reference {
                None => none.clone(),
                Some(reference) => {
                    let rule = match reference {
                        Reference::Furthest { zero, max } => quote!(Furthest { zero: #zero, max: #max }),
                        Reference::Symmetric { limit, zero } => {
                            quote!(Symmetric { limit: #limit, zero: #zero })
                        }
                        Reference::Range { max } => quote!(Range { max: #max }),
                        Reference::Mean { negative } => quote!(Mean { negative: #negative }),
                        Reference::Exponent => quote!(Exponent),
                        Reference::Largest => quote!(Largest),
                    };
                    some(quote!(#quantize::Reference::#rule))
                }
            };
            let found = quote! {
                const SHAPE: #quantize::Shape = #quantize::Shape {
                    values: #values,
                    scale: #scale,
                    minimum: #minimum,
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
            #found
            let mut block = Self::ZERO;
            #(#ones)*
            #(#stored)*
            #stored_codes
            block
        }
    }
}

/// A product, as one of `quantloom_kernels::quantize`.
fn product(format: &Format, product: &Product, subtract: bool) -> TokenStream {
    let quantize = quote!(kernels::quantize);
    let number = |ty| match ty {
        FieldType::F32 => quote!(#quantize::Number::F32),
        FieldType::E8M0 => quote!(#quantize::Number::E8m0),
        FieldType::Ue4m3 => quote!(#quantize::Number::Ue4m3),
        FieldType::F16 | FieldType::U8 | FieldType::I8 => quote!(#quantize::Number::F16),
    };
    let option = |value: Option<TokenStream>| match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    };
    let factor = product.constant;
    let factor = if subtract { quote!(-#factor) } else { quote!(#factor) };
    let block = option(product.block.first().map(|&field| number(format.fields[field].ty)));
    let group = option(product.group.as_ref().map(|group| match group.value {
        ScaleValue::Linear { factor, zero } => integers(&format.codes[group.code], factor, zero),
        ScaleValue::Number(ty) => number(ty),
        ScaleValue::Table { .. } => unreachable!("the plan has no quantizer for scales by a table"),
    }));
    quote!(#quantize::Product { factor: #factor, block: #block, group: #group })
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
