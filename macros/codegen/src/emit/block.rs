//! The type of a format: its fields, its conversions from and to bytes, and an accessor for each code vector.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};

use super::quantizer::from_weights;
use crate::model::{Affine, Codes, Cut, Digit, Field, FieldType, Format, Piece, Term};
use crate::parse;
use crate::plan::Plan;

/// The struct and its conversions.
pub fn block(declared: &parse::Format, plan: &Plan) -> TokenStream {
    let format = plan.format;
    let name = &declared.name;
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
            (FieldType::F16, None) => quote!(kernels::bytes::f16_at::<#offset, _>(bytes)),
            (FieldType::BF16, None) => quote!(kernels::bytes::bf16_at::<#offset, _>(bytes)),
            (FieldType::F32, None) => quote!(kernels::bytes::f32_at::<#offset, _>(bytes)),
            (FieldType::F16 | FieldType::BF16 | FieldType::F32, Some(_)) => {
                let (count, read) = (field.bytes(), array_reader(field.ty));
                quote!(#read(kernels::bytes::field::<#offset, #count, #bytes>(bytes)))
            }
            (FieldType::E8M0 | FieldType::Ue4m3 | FieldType::U8, None) => quote!(bytes[#offset]),
            (FieldType::I8, None) => quote!(bytes[#offset] as i8),
            (FieldType::U8 | FieldType::E8M0 | FieldType::Ue4m3, _) => {
                let count = field.bytes();
                quote!(*kernels::bytes::field::<#offset, #count, #bytes>(bytes))
            }
            (FieldType::I8, _) => {
                let count = field.bytes();
                quote!(kernels::bytes::signed(kernels::bytes::field::<#offset, #count, #bytes>(bytes)))
            }
        }
    });
    let writes = format.fields.iter().zip(&names).map(|(field, name)| {
        let (start, end) = (field.offset, field.offset + field.bytes());
        let value = match field.ty {
            FieldType::F16 | FieldType::BF16 | FieldType::F32 if field.count.is_some() => {
                let size = field.ty.bytes();
                return quote! {
                    for (i, number) in { self.#name }.into_iter().enumerate() {
                        bytes[#start + #size * i..][..#size].copy_from_slice(&number.to_le_bytes());
                    }
                };
            }
            FieldType::F16 | FieldType::BF16 | FieldType::F32 => quote!(self.#name.to_le_bytes()),
            FieldType::E8M0 | FieldType::Ue4m3 | FieldType::U8 if field.count.is_none() => {
                quote!([self.#name])
            }
            FieldType::I8 if field.count.is_none() => quote!([self.#name as u8]),
            FieldType::U8 | FieldType::E8M0 | FieldType::Ue4m3 => quote!(self.#name),
            FieldType::I8 => quote!(self.#name.map(|code| code as u8)),
        };
        quote!(bytes[#start..#end].copy_from_slice(&#value);)
    });
    let zeros = format.fields.iter().map(|field| match (field.ty, field.count) {
        (FieldType::F16, None) => quote!(kernels::f16::ZERO),
        (FieldType::F16, Some(count)) => quote!([kernels::f16::ZERO; #count]),
        (FieldType::BF16, None) => quote!(kernels::bf16::ZERO),
        (FieldType::BF16, Some(count)) => quote!([kernels::bf16::ZERO; #count]),
        (FieldType::F32, None) => quote!(0.0),
        (FieldType::F32, Some(count)) => quote!([0.0; #count]),
        (_, None) => quote!(0),
        (_, Some(count)) => quote!([0; #count]),
    });
    let codebooks = declared.body.iter().flat_map(|body| &body.codebooks).map(|codebook| {
        let parse::Codebook { name, weights, entries, .. } = codebook;
        let text = format!(" The codebook: {entries} entries of {weights} weights.");
        quote! {
            #[doc = #text]
            pub const #name: &'static [[i8; #weights]; #entries] = <Self as Codebooks>::#name;
        }
    });
    // The entries are the caller's expression, which the compiler alone evaluates.
    let negated =
        declared.body.iter().flat_map(|body| &body.codebooks).filter(|_| format.weight.signs.is_some());
    let negatable = negated.map(|parse::Codebook { name: book, .. }| {
        let message = format!(
            "an entry of the codebook {book} is -128, which a sign can't negate, as signed bytes end at 127: use -127"
        );
        quote_spanned! {book.span()=>
            const _: () = ::core::assert!(kernels::gemm::max_abs_code(#name::#book) < 128, #message);
        }
    });
    let accessors = format.codes.iter().map(|codes| accessors(format, codes));
    let from_weights = plan.quantizer.as_ref().ok().map(|quantizer| from_weights(format, quantizer));
    let summary =
        format!(" {len} weights in {bytes} bytes: {} bits per weight.", 8.0 * bytes as f64 / len as f64);
    let missing = super::missing(plan).into_iter().map(|(operation, reason)| {
        let text = format!(" No `{operation}`: {reason}.");
        quote!(#[doc = ""] #[doc = #text])
    });
    quote! {
        #[doc = #summary]
        #(#missing)*
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[repr(C, packed)]
        pub struct #name {
            #(#field_docs pub #names: #types,)*
        }

        const _: () = ::core::assert!(::core::mem::size_of::<#name>() == #bytes);
        #(#negatable)*

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
    let number = match field.ty {
        FieldType::F16 => quote!(kernels::f16),
        FieldType::BF16 => quote!(kernels::bf16),
        FieldType::F32 => quote!(f32),
        FieldType::I8 => quote!(i8),
        FieldType::U8 | FieldType::E8M0 | FieldType::Ue4m3 => quote!(u8),
    };
    match field.count {
        None => number,
        Some(count) => quote!([#number; #count]),
    }
}

/// What reads an array of numbers wider than a byte from its bytes.
pub fn array_reader(ty: FieldType) -> TokenStream {
    let name = format_ident!("{}s", ty.name());
    quote!(kernels::bytes::#name)
}

/// A code vector's `name()` and `set_name(…)`: loops over its digits, as in the declaration.
fn accessors(format: &Format, codes: &Codes) -> TokenStream {
    let (get, set) = (format_ident!("{}", codes.name), format_ident!("set_{}", codes.name));
    let len = codes.len();
    let single = match &codes.pieces[..] {
        [Piece { terms, .. }] => terms.first().filter(|term| format.fields[term.field].count.is_none()),
        _ => None,
    };
    let (get_doc, set_doc) = (
        format!(" The codes `{}`, in the order of the elements.", codes.name),
        format!(" Stores the codes `{}`. Those of this block must be zero before.", codes.name),
    );
    if let Some(term) = single {
        let field = &format.fields[term.field];
        let (name, ty) = (format_ident!("{}", field.name), field_type(field));
        return quote! {
            #[doc = #get_doc]
            #[inline]
            pub fn #get(&self) -> [#ty; 1] {
                [self.#name]
            }

            #[doc = #set_doc]
            #[inline]
            pub fn #set(&mut self, codes: &[#ty; 1]) {
                self.#name = codes[0];
            }
        };
    }
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
        Cut::Digit { base, power, is_fraction: false } => {
            let power = affine(power, piece);
            (
                quote!(kernels::bytes::digit(#place, #base, #power)),
                quote!(kernels::bytes::add_digit(&mut #place, #base, #power, codes[#element]);),
            )
        }
        Cut::Digit { power, is_fraction: true, .. } => {
            let power = affine(power, piece);
            (
                quote!(kernels::bytes::trit(#place, #power)),
                quote!(kernels::bytes::set_trit(&mut #place, #power, codes[#element]);),
            )
        }
        Cut::Bits { shift: by, bits, position, .. } if codes.is_bytes() && stays_in_byte(term, piece) => {
            // The bits of a term lie at `shift` of the byte and at `position` of the code.
            let position = Affine::constant(*position as i64, piece.digits.len());
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
        Cut::Bits { shift: by, bits, position, highest_first } => {
            // They may begin in a later byte, or go on there.
            let code = code_type(codes);
            let (read, join, first) = if *highest_first {
                let first = affine(&term.first_from_top(*bits), piece);
                (quote!(high_bits_at), quote!(join_high_bits_at), first)
            } else {
                let by = affine(by, piece);
                (quote!(bits_at), quote!(join_bits_at), quote!(8 * (#byte) + #by))
            };
            let read = quote!(kernels::bytes::#read(&self.#field, #first, #bits) as #code);
            let read = if *position == 0 { read } else { quote!((#read) << #position) };
            let write = if *position == 0 { quote!() } else { quote!(>> #position) };
            let write = quote! {
                kernels::bytes::#join(
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

/// Whether the shift of a term stays in its byte, whatever the digits are.
fn stays_in_byte(term: &Term, piece: &Piece) -> bool {
    term.shifts(piece).is_some_and(|[least, most]| least >= 0 && most < 8)
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

/// `64 * a + 32 * b + l`, as declared; what is subtracted stands last, so that no sum on the way is below 0.
fn affine(affine: &Affine, piece: &Piece) -> TokenStream {
    let term = |(digit, stride): (&Digit, &i64)| {
        let (name, stride) = (digit_variable(digit), stride.unsigned_abs() as usize);
        if stride == 1 { quote!(#name) } else { quote!(#stride * #name) }
    };
    let strides = || piece.digits.iter().zip(&affine.strides);
    let mut added: Vec<_> = strides().filter(|(_, stride)| **stride > 0).map(term).collect();
    let subtracted = strides().filter(|(_, stride)| **stride < 0).map(term);
    let constant = affine.constant.unsigned_abs() as usize;
    if affine.constant > 0 || added.is_empty() {
        added.push(quote!(#constant));
    }
    let last = (affine.constant < 0).then(|| quote!(- #constant));
    quote!(#(#added)+* #(- #subtracted)* #last)
}
