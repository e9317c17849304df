//! Writes out what the macro generates: for each format the block type, its conversions, its kernels
//! for every instruction set, and the constant that the run-time table is made of. Never fails: every
//! error was found before.

use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};
use quote::{format_ident, quote};

use crate::error::Errors;
use crate::lower::{self, Isa, Products, Vectors};
use crate::model::{
    Affine, Codes, Cut, Digit, Field, FieldType, Format, Piece, Product, ScaleValue, Term, Value,
};
use crate::parse;
use crate::plan::{Plan, Quantizer, Reference};

/// Everything for `declarations`, whose plans are `plans`.
pub fn emit(declarations: &parse::Declarations, plans: &[Plan], isas: &[&dyn Isa]) -> TokenStream {
    let formats = declarations.formats.iter().zip(plans).map(|(declared, plan)| format(declared, plan, isas));
    let list = list(declarations);
    plain_numbers(quote!(#(#formats)* #list))
}

/// Drops the type at the end of each number, as people write it: it follows from where the number stands.
fn plain_numbers(tokens: TokenStream) -> TokenStream {
    let plain = |token| match token {
        TokenTree::Group(group) => {
            let mut plain = Group::new(group.delimiter(), plain_numbers(group.stream()));
            plain.set_span(group.span());
            TokenTree::Group(plain)
        }
        TokenTree::Literal(literal) => {
            let text = literal.to_string();
            let number = ["usize", "u8", "i8", "u32", "i32"].iter().find_map(|ty| text.strip_suffix(ty));
            let mut plain = number.and_then(|number| number.parse().ok()).unwrap_or(literal.clone());
            plain.set_span(literal.span());
            TokenTree::Literal(plain)
        }
        other => other,
    };
    tokens.into_iter().map(plain).collect()
}

/// Generated code says `::quantloom_kernels`; `kernels` is what that crate is called where the code goes.
pub fn relocate(tokens: TokenStream, kernels: &TokenStream) -> TokenStream {
    let mut relocated: Vec<TokenTree> = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let mut inner = Group::new(group.delimiter(), relocate(group.stream(), kernels));
                inner.set_span(group.span());
                relocated.push(TokenTree::Group(inner));
            }
            // A field may have that name, too, and a module of the user's; the crate is where a path begins.
            TokenTree::Ident(name) if name == "quantloom_kernels" && begins_path(&relocated) => {
                relocated.truncate(relocated.len() - 2);
                relocated.extend(kernels.clone());
            }
            other => relocated.push(other),
        }
    }
    relocated.into_iter().collect()
}

/// Whether `before` ends with two colons that don't go on with a path, as in `pub(in crate::quantloom_kernels)`.
fn begins_path(before: &[TokenTree]) -> bool {
    let is_colon = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ':');
    let (Some([first, second]), rest) = (before.last_chunk(), &before[..before.len().saturating_sub(2)])
    else {
        return false;
    };
    let goes_on = matches!(
        rest.last(),
        Some(TokenTree::Ident(name)) if ["crate", "self", "super"].iter().any(|keyword| name == keyword)
    );
    is_colon(first) && is_colon(second) && !goes_on
}

/// What stands in for declarations with errors, so that these alone are reported and not also every
/// use of a type that does not exist.
pub fn stubs(declarations: &parse::Declarations, errors: Errors) -> TokenStream {
    let errors = errors.into_compile_errors();
    let formats = &declarations.formats;
    // Of two with one name the second has an error already.
    let first = |&(i, format): &(usize, &parse::Format)| formats[..i].iter().all(|f| f.name != format.name);
    let stubs =
        formats.iter().enumerate().filter(first).map(|(_, parse::Format { attrs, vis, name, .. })| {
            let text = name.to_string();
            let attrs = attrs.iter().filter(|attr| parse::is_doc(attr));
            quote! {
                #(#attrs)*
                #[derive(Clone, Copy, Debug, PartialEq)]
                #vis struct #name;
                impl ::quantloom_kernels::BlockFormat for #name {
                    const FORMAT: &'static ::quantloom_kernels::Format = &::quantloom_kernels::Format {
                        name: #text,
                        gguf_id: ::core::option::Option::None,
                        block_len: 32,
                        block_bytes: 1,
                        floats: &[],
                        panel: ::core::option::Option::None,
                        quantize: ::core::option::Option::None,
                        variants: &[],
                    };
                }
            }
        });
    let list = list(declarations);
    quote!(#errors #(#stubs)* #list)
}

/// `pub static FORMATS: &[&Format] = …`
fn list(declarations: &parse::Declarations) -> Option<TokenStream> {
    let parse::List { attrs, vis, name } = declarations.list.as_ref()?;
    let attrs = attrs.iter().filter(|attr| parse::is_doc(attr));
    let formats = declarations.formats.iter().map(|format| &format.name);
    Some(quote! {
        #(#attrs)*
        #vis static #name: &[&::quantloom_kernels::Format] =
            &[#(<#formats as ::quantloom_kernels::BlockFormat>::FORMAT),*];
    })
}

fn format(declared: &parse::Format, plan: &Plan, isas: &[&dyn Isa]) -> TokenStream {
    let block = block(declared, plan);
    let kernels = isas.iter().map(|isa| kernels(*isa, plan));
    let constant = constant(&declared.name, plan, isas);
    quote!(#block #(#kernels)* #constant)
}

/// The struct and its conversions.
fn block(declared: &parse::Format, plan: &Plan) -> TokenStream {
    let format = plan.format;
    let (name, vis, attrs) = (&declared.name, &declared.vis, &declared.attrs);
    let (bytes, len) = (format.bytes(), format.len);
    let names: Vec<_> = format.fields.iter().map(|field| format_ident!("{}", field.name)).collect();
    let types: Vec<_> = format.fields.iter().map(field_type).collect();
    let fields = declared.body.iter().flat_map(|body| &body.fields);
    let field_docs = fields.zip(&format.fields).map(|(declared, field)| {
        let text = format!(" Bytes {} to {} of the block.", field.offset, field.offset + field.bytes() - 1);
        let attrs = &declared.attrs;
        quote!(#(#attrs)* #[doc = #text])
    });
    let reads = format.fields.iter().map(|field| {
        let offset = field.offset;
        match (field.ty, field.count) {
            (FieldType::F16, _) => quote!(::quantloom_kernels::bytes::f16_at::<#offset, _>(bytes)),
            (FieldType::F32, _) => quote!(::quantloom_kernels::bytes::f32_at::<#offset, _>(bytes)),
            (FieldType::E8M0 | FieldType::Ue4m3, None) => quote!(bytes[#offset]),
            (FieldType::U8 | FieldType::E8M0 | FieldType::Ue4m3, _) => {
                let count = field.bytes();
                quote!(*::quantloom_kernels::bytes::field::<#offset, #count, #bytes>(bytes))
            }
            (FieldType::I8, _) => {
                let count = field.bytes();
                quote!(::quantloom_kernels::bytes::field::<#offset, #count, #bytes>(bytes).map(|byte| byte as i8))
            }
        }
    });
    let writes = format.fields.iter().zip(&names).map(|(field, name)| {
        let (start, end) = (field.offset, field.offset + field.bytes());
        let value = match field.ty {
            FieldType::F16 | FieldType::F32 => quote!(self.#name.to_le_bytes()),
            FieldType::E8M0 | FieldType::Ue4m3 if field.count.is_none() => quote!([self.#name]),
            FieldType::U8 | FieldType::E8M0 | FieldType::Ue4m3 => quote!(self.#name),
            FieldType::I8 => quote!(self.#name.map(|code| code as u8)),
        };
        quote!(bytes[#start..#end].copy_from_slice(&#value);)
    });
    let zeros = format.fields.iter().map(|field| match (field.ty, field.count) {
        (FieldType::F16, _) => quote!(::quantloom_kernels::f16::ZERO),
        (FieldType::F32, _) => quote!(0.0),
        (_, None) => quote!(0),
        (_, Some(count)) => quote!([0; #count]),
    });
    let codebooks = declared.body.iter().flat_map(|body| &body.codebooks).map(|codebook| {
        let parse::Codebook { name, weights, entries, value } = codebook;
        let text = format!(" The codebook: {entries} entries of {weights} weights.");
        quote! {
            #[doc = #text]
            pub const #name: &'static [[i8; #weights]; #entries] = &#value;
        }
    });
    let accessors = format.codes.iter().map(|codes| accessors(format, codes));
    let from_weights = plan.quantizer.as_ref().map(|quantizer| from_weights(format, quantizer));
    let summary =
        format!(" {len} weights in {bytes} bytes: {} bits per weight.", 8.0 * bytes as f64 / len as f64);
    quote! {
        #(#attrs)*
        #[doc = ""]
        #[doc = #summary]
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[repr(C, packed)]
        #vis struct #name {
            #(#field_docs pub #names: #types,)*
        }

        const _: () = ::core::assert!(::core::mem::size_of::<#name>() == #bytes);

        impl #name {
            #(#codebooks)*

            /// A block of all-zero bytes.
            pub const ZERO: Self = Self { #(#names: #zeros),* };

            /// Reads a block from its bytes in a file.
            #[inline]
            pub fn from_bytes(bytes: &[u8; #bytes]) -> Self {
                Self { #(#names: #reads),* }
            }

            /// The block's bytes in a file.
            #[inline]
            pub fn to_bytes(self) -> [u8; #bytes] {
                let mut bytes = [0; #bytes];
                #(#writes)*
                bytes
            }

            #(#accessors)*
            #from_weights
        }
    }
}

fn field_type(field: &Field) -> TokenStream {
    let count = field.count;
    match (field.ty, count) {
        (FieldType::F16, _) => quote!(::quantloom_kernels::f16),
        (FieldType::F32, _) => quote!(f32),
        (FieldType::I8, _) => quote!([i8; #count]),
        (FieldType::U8 | FieldType::E8M0 | FieldType::Ue4m3, None) => quote!(u8),
        (FieldType::U8 | FieldType::E8M0 | FieldType::Ue4m3, Some(_)) => quote!([u8; #count]),
    }
}

/// A code vector's `name()` and `set_name(…)`: loops over its digits, as in the declaration.
fn accessors(format: &Format, codes: &Codes) -> TokenStream {
    let (get, set) = (format_ident!("{}", codes.name), format_ident!("set_{}", codes.name));
    let len = codes.len();
    let (get_doc, set_doc) = (
        format!(" The codes `{}`, in the order of the elements.", codes.name),
        format!(" Stores the codes `{}`. Those of this block must be zero before.", codes.name),
    );
    if let [Piece { digits, terms }] = &codes.pieces[..]
        && let ([term @ Term { cut: Cut::Bits { bits: 8, .. }, .. }], [_]) = (&terms[..], &digits[..])
        && term.byte.constant == 0
        && term.byte.strides == [1]
        && format.fields[term.field].count == Some(len)
    {
        let (field, ty) =
            (format_ident!("{}", format.fields[term.field].name), field_type(&format.fields[term.field]));
        return quote! {
            #[doc = #get_doc]
            #[inline]
            pub fn #get(&self) -> #ty {
                self.#field
            }

            #[doc = #set_doc]
            #[inline]
            pub fn #set(&mut self, codes: &#ty) {
                self.#field = *codes;
            }
        };
    }
    let mut first = 0;
    let (mut reads, mut writes) = (Vec::new(), Vec::new());
    for piece in &codes.pieces {
        let mut stride = piece.len();
        let (mut digits, mut element) = (Vec::new(), Vec::new());
        for digit in &piece.digits {
            stride /= digit.radix;
            let (name, radix) = (digit_variable(digit), digit.radix);
            digits.push((name.clone(), radix));
            element.push(if stride == 1 { quote!(#name) } else { quote!(#stride * #name) });
        }
        if first > 0 {
            element.insert(0, quote!(#first));
        }
        first += piece.len();
        let element = quote!(#(#element)+*);
        let looped = |body: TokenStream| {
            digits.iter().rev().fold(body, |body, (name, radix)| quote!(for #name in 0..#radix { #body }))
        };
        let parts = piece.terms.iter().map(|term| part(format, codes, piece, term, &element));
        let (read, write): (Vec<_>, Vec<_>) = parts.unzip();
        reads.push(looped(quote!(codes[#element] = #(#read)|*;)));
        writes.push(looped(quote!(#(#write)*)));
    }
    let code = code_type(codes);
    quote! {
        #[doc = #get_doc]
        #[inline]
        pub fn #get(&self) -> [#code; #len] {
            let mut codes = [0; #len];
            #(#reads)*
            codes
        }

        #[doc = #set_doc]
        #[inline]
        pub fn #set(&mut self, codes: &[#code; #len]) {
            #(#writes)*
        }
    }
}

/// The type of a code that no field stands for.
fn code_type(codes: &Codes) -> TokenStream {
    if codes.bits() > 8 { quote!(u16) } else { quote!(u8) }
}

/// An expression for `term`'s part of a code, and a statement that stores it.
fn part(
    format: &Format,
    codes: &Codes,
    piece: &Piece,
    term: &Term,
    element: &TokenStream,
) -> (TokenStream, TokenStream) {
    let field = format_ident!("{}", format.fields[term.field].name);
    let byte = affine(&term.byte, piece);
    let place = quote!(self.#field[#byte]);
    match &term.cut {
        Cut::Trit { power } => {
            let power = affine(power, piece);
            (
                quote!(::quantloom_kernels::bytes::trit(#place, #power)),
                quote!(::quantloom_kernels::bytes::set_trit(&mut #place, #power, codes[#element]);),
            )
        }
        Cut::Bits { shift: by, bits, position } if codes.is_bytes() && stays_in_byte(by, piece) => {
            // The bits of a term lie at `shift` of the byte and at `position` of the code.
            let position = Affine::constant(*position, piece.digits.len());
            let mask = ((1_u32 << bits) - 1) as u8;
            let moved = |from: &TokenStream, right: &Affine, left: &Affine| {
                let (right, left) = (shift(quote!(>>), right, piece), shift(quote!(<<), left, piece));
                let low = quote!(#from #right & #mask);
                if left.is_empty() { low } else { quote!((#low) #left) }
            };
            let (read, write) =
                (moved(&place, by, &position), moved(&quote!(codes[#element]), &position, by));
            (read, quote!(#place |= #write;))
        }
        Cut::Bits { shift: by, bits, position } => {
            // They may begin in a later byte, or go on there.
            let code = code_type(codes);
            let by = affine(by, piece);
            let first = quote!(8 * (#byte) + #by);
            let read = quote!(::quantloom_kernels::bytes::bits_at(&self.#field, #first, #bits) as #code);
            let read = if *position == 0 { read } else { quote!((#read) << #position) };
            let write = if *position == 0 { quote!() } else { quote!(>> #position) };
            let write = quote! {
                ::quantloom_kernels::bytes::join_bits_at(
                    &mut self.#field,
                    #first,
                    #bits,
                    usize::from(codes[#element] #write),
                );
            };
            (read, write)
        }
    }
}

/// Whether a shift stays in its byte, whatever the digits are.
fn stays_in_byte(shift: &Affine, piece: &Piece) -> bool {
    let most = piece.digits.iter().zip(&shift.strides).map(|(digit, stride)| stride * (digit.radix - 1));
    shift.constant + most.sum::<usize>() < 8
}

/// `>> by`, or nothing where `by` is 0.
fn shift(operator: TokenStream, by: &Affine, piece: &Piece) -> TokenStream {
    let amount = affine(by, piece);
    match (by.constant, by.strides.iter().all(|&stride| stride == 0)) {
        (0, true) => quote!(),
        (_, true) => quote!(#operator #amount),
        _ => quote!(#operator (#amount)),
    }
}

/// The loop variable of a digit. Its name is the user's, its scope the macro's: it hides no variable of
/// the function around it, whatever that is called.
fn digit_variable(digit: &Digit) -> Ident {
    format_ident!("{}", digit.name, span = Span::mixed_site())
}

/// `64 * a + 32 * b + l`, as declared.
fn affine(affine: &Affine, piece: &Piece) -> TokenStream {
    let mut terms: Vec<_> = piece
        .digits
        .iter()
        .zip(&affine.strides)
        .filter(|(_, stride)| **stride != 0)
        .map(|(digit, &stride)| {
            let name = digit_variable(digit);
            if stride == 1 { quote!(#name) } else { quote!(#stride * #name) }
        })
        .collect();
    let constant = affine.constant;
    if constant != 0 || terms.is_empty() {
        terms.push(quote!(#constant));
    }
    quote!(#(#terms)+*)
}

/// The quantizer of one block: what the formula can express, as data, and where the parts that are found go.
fn from_weights(format: &Format, quantizer: &Quantizer) -> TokenStream {
    let (len, weight) = (format.len, &format.weight);
    let quantize = quote!(::quantloom_kernels::quantize);
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
            FieldType::F16 => quote!(::quantloom_kernels::f16::from_bits(#bits as u16)),
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
            FieldType::F16 => quote!(::quantloom_kernels::f16::ONE),
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
                static GRID: ::std::sync::LazyLock<#quantize::Grid<#weights>> =
                    ::std::sync::LazyLock::new(|| {
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
    let quantize = quote!(::quantloom_kernels::quantize);
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
        return quote!(::quantloom_kernels::quantize::Number::I8);
    }
    let (first, max) = (signed(-zero), codes.max() as u8);
    quote!(::quantloom_kernels::quantize::Number::Integer { first: #first, step: #factor, max: #max })
}

/// A literal has no sign: it stands before.
fn signed(value: i32) -> TokenStream {
    let magnitude = value.unsigned_abs();
    if value < 0 { quote!(-#magnitude) } else { quote!(#magnitude) }
}

/// `q4_0_gemv_avx2_fma`: the one grammar of kernel names.
fn kernel_name(plan: &Plan, operation: &str, isa: &dyn Isa) -> Ident {
    format_ident!("{}_{operation}_{}", plan.format.snake_name(), isa.target().name)
}

/// All kernels of one format for one instruction set.
///
/// `gemv` multiplies together rows that lie far apart, as many places of the matrix as it takes rows at once:
/// hardware fetches ahead within each 4 KiB page by itself, so that several pages bring more of memory on its way.
/// From memory, with two threads on Sapphire Rapids, that is 1.4 times as fast as with rows that are neighbours.
fn kernels(isa: &dyn Isa, plan: &Plan) -> TokenStream {
    let format = plan.format;
    let (bytes, chunks) = (format.bytes(), format.chunks());
    let rows = plan.rows(isa.registers(), 1);
    let [rows_name, dot_name, gemv_name, several_name, dequantize_name, expand_name] =
        ["rows", "dot", "gemv", "gemv_several", "dequantize", "expand"]
            .map(|operation| kernel_name(plan, operation, isa));
    let attributes = lower::attributes(isa);
    let rows_kernel = lower::rows(isa, plan, &rows_name, Vectors::One);
    let several = several(isa, plan, [&rows_name, &gemv_name, &several_name]);
    let dequantize_kernel = lower::dequantize(isa, plan, &dequantize_name);
    let expand_kernel = plan.panel_groups().map(|_| lower::expand(isa, plan, &expand_name));
    quote! {
        #rows_kernel

        #attributes
        fn #dot_name(row: &[u8], activations: &[::quantloom_kernels::ActivationBlock]) -> f32 {
            let (row, _) = row.as_chunks::<#bytes>();
            let (activations, _) = activations.as_chunks::<#chunks>();
            #rows_name::<1>([row], activations)[0]
        }

        #attributes
        fn #gemv_name(matrix: &[u8], activations: &[::quantloom_kernels::ActivationBlock], y: &mut [f32]) {
            let (blocks, _) = matrix.as_chunks::<#bytes>();
            let (activations, _) = activations.as_chunks::<#chunks>();
            let n = activations.len();
            let apart = y.len() / #rows;
            for first in 0..apart {
                let mut rows: [&[[u8; #bytes]]; #rows] = [&[]; #rows];
                for r in 0..#rows {
                    rows[r] = &blocks[(r * apart + first) * n..][..n];
                }
                let sums = #rows_name(rows, activations);
                for r in 0..#rows {
                    y[r * apart + first] = sums[r];
                }
            }
            for row in #rows * apart..y.len() {
                y[row] = #rows_name([&blocks[row * n..][..n]], activations)[0];
            }
        }

        #several

        #dequantize_kernel
        #expand_kernel
    }
}

/// `gemv_several`: each vector's products are those of `gemv`, to the bit.
fn several(isa: &dyn Isa, plan: &Plan, [rows_name, gemv_name, several_name]: [&Ident; 3]) -> TokenStream {
    let (bytes, chunks) = (plan.format.bytes(), plan.format.chunks());
    let attributes = lower::attributes(isa);
    let signature = quote! {
        #attributes
        fn #several_name(
            matrix: &[u8],
            activations: &[::quantloom_kernels::ActivationBlock],
            vectors: usize,
            y: &mut [f32],
        )
    };
    let most = isa.vectors();
    if most == 1 {
        return quote! {
            #signature {
                let (n, height) = (activations.len() / vectors, y.len() / vectors);
                for vector in 0..vectors {
                    #gemv_name(
                        matrix,
                        &activations[vector * n..][..n],
                        &mut y[vector * height..][..height],
                    );
                }
            }
        };
    }
    let rows = plan.rows(isa.registers(), most);
    let [tile_name, pass_name] = ["tile", "pass"].map(|operation| kernel_name(plan, operation, isa));
    let tile_kernel = lower::rows(isa, plan, &tile_name, Vectors::Several);
    quote! {
        #tile_kernel

        /// R rows, `apart` from each other, from `first` on times up to T vectors from `vector` on, into `y`, a row of
        /// `height` for each vector. Returns how many vectors.
        #attributes
        #[inline]
        fn #pass_name<const R: usize, const T: usize>(
            blocks: &[[u8; #bytes]],
            activations: &[[::quantloom_kernels::ActivationBlock; #chunks]],
            [n, height, apart]: [usize; 3],
            [first, vector]: [usize; 2],
            y: &mut [f32],
        ) -> usize {
            let mut rows: [&[[u8; #bytes]]; R] = [&[]; R];
            for r in 0..R {
                rows[r] = &blocks[(first + r * apart) * n..][..n];
            }
            let count = ::core::cmp::Ord::min(activations.len() / n - vector, T);
            let mut vectors: [&[[::quantloom_kernels::ActivationBlock; #chunks]]; T] = [&[]; T];
            for t in 0..T {
                // Where there are fewer the last one is multiplied again, for nothing.
                let t_or_last = ::core::cmp::Ord::min(t, count - 1);
                vectors[t] = &activations[(vector + t_or_last) * n..][..n];
            }
            let products = #tile_name(rows, vectors);
            for t in 0..count {
                for r in 0..R {
                    y[(vector + t) * height + first + r * apart] = products[t][r];
                }
            }
            count
        }

        #signature {
            let (blocks, _) = matrix.as_chunks::<#bytes>();
            let (activations, _) = activations.as_chunks::<#chunks>();
            let height = y.len() / vectors;
            let apart = height / #rows;
            let n = activations.len() / vectors;
            let shape = [n, height, apart];
            for first in 0..apart {
                let mut vector = 0;
                while vector < vectors {
                    vector += if vectors - vector > 2 {
                        #pass_name::<#rows, #most>(blocks, activations, shape, [first, vector], y)
                    } else {
                        #pass_name::<#rows, 2>(blocks, activations, shape, [first, vector], y)
                    };
                }
            }
            // Those that are left.
            for row in #rows * apart..height {
                for vector in 0..vectors {
                    let row_of_blocks = &blocks[row * n..][..n];
                    y[vector * height + row] = #rows_name([row_of_blocks], &activations[vector * n..][..n])[0];
                }
            }
        }
    }
}

/// The implementation of `BlockFormat`.
fn constant(name: &Ident, plan: &Plan, isas: &[&dyn Isa]) -> TokenStream {
    let format = plan.format;
    let (bytes, len, text) = (format.bytes(), format.len, &format.name);
    let gguf = match format.gguf {
        Some(id) => quote!(::core::option::Option::Some(#id)),
        None => quote!(::core::option::Option::None),
    };
    let quantize = match plan.quantizer {
        Some(_) => quote!(::core::option::Option::Some(|weights, importance, blocks| {
            ::quantloom_kernels::quantize::blocks(weights, importance, blocks, |weights, importance| {
                #name::from_weights(weights, importance).to_bytes()
            });
        })),
        None => quote!(::core::option::Option::None),
    };
    let panel = match plan.panel_groups() {
        Some(groups) => {
            let reach = lower::reach(plan);
            let minimum = format.weight.minimum.is_some();
            quote!(::core::option::Option::Some(::quantloom_kernels::gemm::PanelFormat {
                reach: #reach,
                groups: #groups,
                has_minimum: #minimum,
            }))
        }
        None => quote!(::core::option::Option::None),
    };
    let floats = format.fields.iter().flat_map(floats);
    let variants = isas.iter().map(|isa| {
        let target = isa.target();
        let arch = target.arch.map(|arch| quote!(#[cfg(target_arch = #arch)]));
        let variant = format_ident!("{}", target.variant);
        let [dot, gemv, gemv_several, dequantize, expand] =
            ["dot", "gemv", "gemv_several", "dequantize", "expand"]
                .map(|operation| kernel_name(plan, operation, *isa));
        let expand = match plan.panel_groups() {
            Some(_) => quote!(::core::option::Option::Some(#expand)),
            None => quote!(::core::option::Option::None),
        };
        quote! {
            #arch
            // SAFETY: they enable the features of this instruction set and no others.
            unsafe {
                ::quantloom_kernels::Variant::new(
                    ::quantloom_kernels::Isa::#variant,
                    #dot,
                    #gemv,
                    #gemv_several,
                    #dequantize,
                    #expand,
                )
            }
        }
    });
    quote! {
        impl ::quantloom_kernels::BlockFormat for #name {
            const FORMAT: &'static ::quantloom_kernels::Format = &::quantloom_kernels::Format {
                name: #text,
                gguf_id: #gguf,
                block_len: #len,
                block_bytes: #bytes,
                floats: &[#(#floats),*],
                panel: #panel,
                quantize: #quantize,
                variants: &[#(#variants),*],
            };
        }
    }
}

/// The field's numbers, if products with them may be no finite numbers.
fn floats(field: &Field) -> Vec<TokenStream> {
    let (ty, bytes) = match field.ty {
        FieldType::F16 => ("F16", 2),
        FieldType::F32 => ("F32", 4),
        FieldType::E8M0 => ("E8M0", 1),
        // At most 480, and never NaN.
        FieldType::Ue4m3 | FieldType::U8 | FieldType::I8 => return Vec::new(),
    };
    let ty = format_ident!("{ty}");
    let numbers = 0..field.count.unwrap_or(1);
    let float = |i| {
        let offset = field.offset + i * bytes;
        quote! {
            ::quantloom_kernels::FloatField { ty: ::quantloom_kernels::FloatType::#ty, offset: #offset }
        }
    };
    numbers.map(float).collect()
}

/// The `Isa` enum of `quantloom_kernels`.
pub fn instruction_sets(isas: &[&dyn Isa]) -> TokenStream {
    let targets: Vec<_> = isas.iter().map(|isa| isa.target()).collect();
    let variants: Vec<_> = targets.iter().map(|target| format_ident!("{}", target.variant)).collect();
    let names = targets.iter().map(|target| target.name);
    let features = targets.iter().map(|target| target.features);
    let docs = targets.iter().map(|target| {
        let features = target.features.join("`, `");
        let needs = if features.is_empty() { String::new() } else { format!(" Needs `{features}`.") };
        format!(" `{}`: {}.{needs}", target.name, target.summary)
    });
    let includes = targets.iter().zip(&variants).flat_map(|(outer, outer_variant)| {
        let inner = targets.iter().zip(&variants).filter(|(inner, _)| {
            inner.arch.is_none_or(|arch| outer.arch == Some(arch))
                && inner.features.iter().all(|feature| outer.features.contains(feature))
        });
        inner.map(move |(_, inner_variant)| quote!((Self::#outer_variant, Self::#inner_variant)))
    });
    let option = |product| match product {
        Some(mnemonic) => quote!(::core::option::Option::Some(#mnemonic)),
        None => quote!(::core::option::Option::None),
    };
    let products = isas.iter().zip(&variants).map(|(isa, variant)| {
        let Products { unsigned, signed } = isa.products();
        let (unsigned, signed) = (option(unsigned), option(signed));
        quote!((Self::#variant, false) => #unsigned, (Self::#variant, true) => #signed,)
    });
    let missing = targets.iter().zip(&variants).map(|(target, variant)| {
        let features = target.features;
        match target.arch {
            None => quote!(Self::#variant => ::std::vec::Vec::new(),),
            Some(arch) => quote! {
                #[cfg(target_arch = #arch)]
                Self::#variant => {
                    let detected = [#((#features, ::std::arch::is_x86_feature_detected!(#features))),*];
                    detected.into_iter().filter(|(_, has)| !has).map(|(name, _)| name).collect()
                }
                #[cfg(not(target_arch = #arch))]
                Self::#variant => ::std::vec![#arch],
            },
        }
    });
    quote! {
        /// An instruction set that kernels are generated for, the plainest first.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Isa {
            #(#[doc = #docs] #variants,)*
        }

        impl Isa {
            /// Every instruction set, the plainest first.
            pub const ALL: &'static [Self] = &[#(Self::#variants),*];

            /// The name in kernel names and in `QUANTLOOM_ISA`.
            pub const fn name(self) -> &'static str {
                match self {
                    #(Self::#variants => #names,)*
                }
            }

            /// The CPU features that it needs, as `target_feature` names them.
            pub const fn features(self) -> &'static [&'static str] {
                match self {
                    #(Self::#variants => &[#(#features),*],)*
                }
            }

            /// The instruction that multiplies a weight's codes, of both signs or from 0 up, with activations: a
            /// kernel's assembly is recognised by it. `None` where the compiler chooses.
            pub const fn product(self, signed: bool) -> ::core::option::Option<&'static str> {
                match (self, signed) {
                    #(#products)*
                }
            }

            /// Whether a CPU that has `self` has `other` too.
            pub const fn includes(self, other: Self) -> bool {
                ::core::matches!((self, other), #(#includes)|*)
            }

            /// What this machine lacks for it: CPU features, or the architecture. Empty where it runs.
            pub fn missing(self) -> ::std::vec::Vec<&'static str> {
                match self {
                    #(#missing)*
                }
            }
        }
    }
}
