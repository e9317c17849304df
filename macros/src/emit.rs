//! Writes out what the macro generates: for each format the block type, its conversions, its kernels
//! for every instruction set, and the constant that the run-time table is made of. Never fails: every
//! error was found before.

use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};
use quote::{format_ident, quote};

use crate::error::Errors;
use crate::lower::{self, Isa, Products, Vectors};
use crate::model::{Affine, Codes, Digit, Field, FieldType, Format, Product, Term, Value};
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
            (FieldType::U8, _) => {
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
            FieldType::F16 => quote!(self.#name.to_le_bytes()),
            FieldType::U8 => quote!(self.#name),
            FieldType::I8 => quote!(self.#name.map(|code| code as u8)),
        };
        quote!(bytes[#start..#end].copy_from_slice(&#value);)
    });
    let zeros = format.fields.iter().map(|field| match field.ty {
        FieldType::F16 => quote!(::quantloom_kernels::f16::ZERO),
        FieldType::U8 | FieldType::I8 => {
            let count = field.bytes();
            quote!([0; #count])
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
        (FieldType::U8, _) => quote!([u8; #count]),
        (FieldType::I8, _) => quote!([i8; #count]),
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
    if let ([term], [_]) = (&codes.terms[..], &codes.digits[..])
        && term.bits == 8
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
    let mut stride = len;
    let (mut digits, mut element) = (Vec::new(), Vec::new());
    for digit in &codes.digits {
        stride /= digit.radix;
        let (name, radix) = (digit_variable(digit), digit.radix);
        digits.push((name.clone(), radix));
        element.push(if stride == 1 { quote!(#name) } else { quote!(#stride * #name) });
    }
    let element = quote!(#(#element)+*);
    let looped = |body: TokenStream| {
        digits.iter().rev().fold(body, |body, (name, radix)| quote!(for #name in 0..#radix { #body }))
    };
    let terms: Vec<_> = codes
        .terms
        .iter()
        .map(|term| {
            let (field, byte) =
                (format_ident!("{}", format.fields[term.field].name), affine(&term.byte, codes));
            (term, quote!(self.#field[#byte]), Affine::constant(term.position, codes.digits.len()))
        })
        .collect();
    // The bits of a term lie at `shift` of the byte and at `position` of the code.
    let moved = |term: &Term, from: &TokenStream, right: &Affine, left: &Affine| {
        let (right, left) = (shift(quote!(>>), right, codes), shift(quote!(<<), left, codes));
        let mask = ((1_u32 << term.bits) - 1) as u8;
        let low = quote!(#from #right & #mask);
        if left.is_empty() { low } else { quote!((#low) #left) }
    };
    let parts = terms.iter().map(|(term, byte, position)| moved(term, byte, &term.shift, position));
    let read = looped(quote!(codes[#element] = #(#parts)|*;));
    let parts = terms.iter().map(|(term, byte, position)| {
        let bits = moved(term, &quote!(codes[#element]), position, &term.shift);
        quote!(#byte |= #bits;)
    });
    let write = looped(quote!(#(#parts)*));
    quote! {
        #[doc = #get_doc]
        #[inline]
        pub fn #get(&self) -> [u8; #len] {
            let mut codes = [0; #len];
            #read
            codes
        }

        #[doc = #set_doc]
        #[inline]
        pub fn #set(&mut self, codes: &[u8; #len]) {
            #write
        }
    }
}

/// `>> by`, or nothing where `by` is 0.
fn shift(operator: TokenStream, by: &Affine, codes: &Codes) -> TokenStream {
    let amount = affine(by, codes);
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
fn affine(affine: &Affine, codes: &Codes) -> TokenStream {
    let mut terms: Vec<_> = codes
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
    let codes = format.weight_codes();
    let values = match &weight.value {
        Value::Linear { zero } => {
            let number = integers(codes, *zero);
            quote!(#quantize::Values::Even(#number))
        }
        Value::Table { entries } => {
            let entries = entries.iter().map(|&entry| signed(entry.into()));
            quote!(#quantize::Values::Table(#quantize::Table::new(&[#(#entries),*])))
        }
    };
    let product = |product: &Product, factor: TokenStream| {
        let group = match &product.group {
            Some(group) => {
                let number = integers(&format.codes[group.code], group.zero);
                quote!(::core::option::Option::Some(#number))
            }
            None => quote!(::core::option::Option::None),
        };
        quote! {
            #quantize::Product {
                factor: #factor,
                block: ::core::option::Option::Some(#quantize::Number::F16),
                group: #group,
            }
        }
    };
    let scale = product(&weight.scale, quote!(1.0));
    let minimum = match &weight.minimum {
        Some(minimum) => {
            let product =
                product(&minimum.product, if minimum.subtract { quote!(-1.0) } else { quote!(1.0) });
            quote!(::core::option::Option::Some(#product))
        }
        None => quote!(::core::option::Option::None),
    };
    let reference = match &quantizer.reference {
        None => quote!(::core::option::Option::None),
        Some(reference) => {
            let rule = match reference {
                Reference::Furthest { zero, max } => quote!(Furthest { zero: #zero, max: #max }),
                Reference::Symmetric { limit, zero } => quote!(Symmetric { limit: #limit, zero: #zero }),
                Reference::Range { max } => quote!(Range { max: #max }),
                Reference::Mean { negative } => quote!(Mean { negative: #negative }),
            };
            quote!(::core::option::Option::Some(#quantize::Reference::#rule))
        }
    };
    let field = |index: usize| format_ident!("{}", format.fields[index].name);
    let number = |index: usize, part: &str| {
        let (field, part) = (field(index), format_ident!("{part}"));
        quote!(block.#field = ::quantloom_kernels::f16::from_bits(numbers.#part as u16);)
    };
    let set = |codes: &Codes, found: TokenStream| {
        let set = format_ident!("set_{}", codes.name);
        let found = if codes.signed { quote!(#found.map(|code| code as i8)) } else { found };
        quote!(block.#set(&#found);)
    };
    let ones = quantizer.ones.iter().map(|&index| {
        let field = field(index);
        quote!(block.#field = ::quantloom_kernels::f16::ONE;)
    });
    let groups = |product: &Product| product.group.as_ref().map(|group| &format.codes[group.code]);
    let (scales, minima) =
        (groups(&weight.scale), weight.minimum.as_ref().and_then(|minimum| groups(&minimum.product)));
    let (scale_count, minimum_count) = (scales.map_or(0, Codes::len), minima.map_or(0, Codes::len));
    let stored = [
        Some(number(quantizer.scale, "scale")),
        scales.map(|codes| set(codes, quote!(numbers.scales))),
        quantizer.minimum.map(|index| number(index, "minimum")),
        minima.map(|codes| set(codes, quote!(numbers.minima))),
        Some(set(codes, quote!(codes))),
    ];
    let stored = stored.iter().flatten();
    quote! {
        /// The block nearest to `weights`: the squared error of each counts by its `importance`.
        pub fn from_weights(
            weights: &[f32; #len],
            importance: ::core::option::Option<&[f32; #len]>,
        ) -> Self {
            const SHAPE: #quantize::Shape = #quantize::Shape {
                values: #values,
                scale: #scale,
                minimum: #minimum,
                reference: #reference,
            };
            let (numbers, codes) =
                #quantize::quantize::<#len, #scale_count, #minimum_count>(&SHAPE, weights, importance);
            let mut block = Self::ZERO;
            #(#ones)*
            #(#stored)*
            block
        }
    }
}

/// How codes with a zero point are stored, as a number of `quantloom_kernels::quantize`.
fn integers(codes: &Codes, zero: i32) -> TokenStream {
    if codes.signed {
        return quote!(::quantloom_kernels::quantize::Number::I8);
    }
    let (first, max) = (signed(-zero), codes.max() as u8);
    quote!(::quantloom_kernels::quantize::Number::Integer { first: #first, step: 1, max: #max })
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

/// Vectors that `gemv_several` multiplies in one pass: with eight, rows would be too few.
const VECTORS: usize = 4;

/// All kernels of one format for one instruction set.
///
/// `gemv` multiplies together rows that lie far apart, as many places of the matrix as it takes rows at once:
/// hardware fetches ahead within each 4 KiB page by itself, so that several pages bring more of memory on its way.
/// From memory, with two threads on Sapphire Rapids, that is 1.4 times as fast as with rows that are neighbours.
fn kernels(isa: &dyn Isa, plan: &Plan) -> TokenStream {
    let format = plan.format;
    let (bytes, chunks) = (format.bytes(), format.chunks());
    let [rows, few] = [1, VECTORS].map(|vectors| plan.rows(isa.registers(), vectors));
    let [rows_name, tile_name, dot_name, gemv_name, pass_name, several_name, dequantize_name, expand_name] =
        ["rows", "tile", "dot", "gemv", "pass", "gemv_several", "dequantize", "expand"]
            .map(|operation| kernel_name(plan, operation, isa));
    let attributes = lower::attributes(isa);
    let rows_kernel = lower::rows(isa, plan, &rows_name, Vectors::One);
    let tile_kernel = lower::rows(isa, plan, &tile_name, Vectors::Several);
    // As many vectors at once as are left; the last rows go one by one.
    let cases = (1..=VECTORS).rev().map(|vectors| {
        let left = if vectors == VECTORS { quote!(#vectors..) } else { quote!(#vectors) };
        quote! {
            (#few, #left) => {
                #pass_name::<#few, #vectors>(blocks, activations, shape, at, y);
                #vectors
            }
        }
    });
    let dequantize_kernel = lower::dequantize(isa, plan, &dequantize_name);
    let expand_kernel = plan.panel_groups().map(|_| lower::expand(isa, plan, &expand_name));
    quote! {
        #rows_kernel
        #tile_kernel

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

        /// R rows, `apart` from each other, from `first` on times T vectors from `vector` on, into `y`, a row of `height`
        /// for each vector.
        #attributes
        #[inline]
        fn #pass_name<const R: usize, const T: usize>(
            blocks: &[[u8; #bytes]],
            activations: &[[::quantloom_kernels::ActivationBlock; #chunks]],
            [n, height, apart]: [usize; 3],
            [first, vector]: [usize; 2],
            y: &mut [f32],
        ) {
            let mut rows: [&[[u8; #bytes]]; R] = [&[]; R];
            for r in 0..R {
                rows[r] = &blocks[(first + r * apart) * n..][..n];
            }
            let mut vectors: [&[[::quantloom_kernels::ActivationBlock; #chunks]]; T] = [&[]; T];
            for t in 0..T {
                vectors[t] = &activations[(vector + t) * n..][..n];
            }
            let products = #tile_name(rows, vectors);
            for t in 0..T {
                for r in 0..R {
                    y[(vector + t) * height + first + r * apart] = products[t][r];
                }
            }
        }

        #attributes
        fn #several_name(
            matrix: &[u8],
            activations: &[::quantloom_kernels::ActivationBlock],
            vectors: usize,
            y: &mut [f32],
        ) {
            let (blocks, _) = matrix.as_chunks::<#bytes>();
            let (activations, _) = activations.as_chunks::<#chunks>();
            let height = y.len() / vectors;
            let apart = height / #few;
            let shape = [activations.len() / vectors, height, apart];
            // Then those that are left, one by one.
            for first in ::core::iter::Iterator::chain(0..apart, #few * apart..height) {
                let rows = if first < apart { #few } else { 1 };
                let mut vector = 0;
                while vector < vectors {
                    let at = [first, vector];
                    vector += match (rows, vectors - vector) {
                        #(#cases)*
                        _ => {
                            #pass_name::<1, 1>(blocks, activations, shape, at, y);
                            1
                        }
                    };
                }
            }
        }

        #dequantize_kernel
        #expand_kernel
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
            let signed = lower::is_signed(plan);
            let zero = lower::zero_point(plan, lower::BIAS);
            let minimum = format.weight.minimum.is_some();
            quote!(::core::option::Option::Some(::quantloom_kernels::gemm::PanelFormat {
                zero: #zero,
                groups: #groups,
                has_minimum: #minimum,
                is_signed: #signed,
            }))
        }
        None => quote!(::core::option::Option::None),
    };
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
                panel: #panel,
                quantize: #quantize,
                variants: &[#(#variants),*],
            };
        }
    }
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
