//! The generated code. For each format that is one hidden module, in which everything stands, and a `use` that brings
//! the block type out of it. Emission never fails: every error was found before.
//!
//! The module keeps the caller's names out of generated code: a lower-case static or a unit struct of the caller would
//! take the place of a variable of that name. So the module holds nothing that the caller wrote but names; what the
//! caller wrote as an expression, a codebook's entries, stands outside, where its own names mean what they did.

use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;

use crate::error::Error;
use crate::lower::Isa;
use crate::parse;
use crate::plan::Plan;

mod block;
mod instruction_sets;
mod kernels;
mod quantizer;

pub use instruction_sets::instruction_sets;

/// Everything for `declarations`, whose plans are `plans`. `kernels` is the path of `quantloom_kernels`.
pub fn emit(
    kernels: &TokenStream,
    declarations: &parse::Declarations,
    plans: &[Plan],
    isas: &[&dyn Isa],
) -> TokenStream {
    let formats =
        declarations.formats.iter().zip(plans).map(|(declared, plan)| format(kernels, declared, plan, isas));
    let list = list(kernels, declarations);
    quote!(#(#formats)* #list)
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

/// What stands in for declarations with errors, so that these alone are reported and not also every
/// use of a type that does not exist.
pub fn stubs(kernels: &TokenStream, declarations: &parse::Declarations, errors: &[Error]) -> TokenStream {
    let errors = errors.iter().map(Error::to_compile_error);
    let formats = &declarations.formats;
    // Of two with one name the second has an error already.
    let first = |&(i, format): &(usize, &parse::Format)| formats[..i].iter().all(|f| f.name != format.name);
    let stubs =
        formats.iter().enumerate().filter(first).map(|(_, parse::Format { attrs, vis, name, .. })| {
            let text = name.to_string();
            let attrs = attrs.iter().filter(|attr| parse::is_doc(attr));
            quote! {
                #(#attrs)*
                #[allow(warnings)]
                #[derive(Clone, Copy, Debug, PartialEq)]
                #vis struct #name {}
                impl #kernels::BlockFormat for #name {
                    const FORMAT: &'static #kernels::Format = &#kernels::Format::new(#kernels::FormatParts {
                        name: #text,
                        gguf_id: ::core::option::Option::None,
                        block_len: 32,
                        block_bytes: 1,
                        floats: &[],
                        missing: &[],
                        one_unit: false,
                        panel: ::core::option::Option::None,
                        quantize: ::core::option::Option::None,
                        variants: &[],
                    });
                }
            }
        });
    let list = list(kernels, declarations);
    quote!(#(#errors)* #(#stubs)* #list)
}

/// `pub static FORMATS: &[&Format] = …`
fn list(kernels: &TokenStream, declarations: &parse::Declarations) -> Option<TokenStream> {
    let parse::List { attrs, vis, name } = declarations.list.as_ref()?;
    let attrs = attrs.iter().filter(|attr| parse::is_doc(attr));
    let formats = declarations.formats.iter().map(|format| &format.name);
    Some(quote! {
        #(#attrs)*
        #vis static #name: &[&#kernels::Format] =
            &[#(<#formats as #kernels::BlockFormat>::FORMAT),*];
    })
}

/// The module of a format, what the caller sees of it, and the caller's codebooks.
fn format(kernels: &TokenStream, declared: &parse::Format, plan: &Plan, isas: &[&dyn Isa]) -> TokenStream {
    let parse::Format { attrs, vis, name, .. } = declared;
    let module = module_name(name);
    let codebooks: Vec<_> = declared.body.iter().flat_map(|body| &body.codebooks).collect();
    let books = codebooks.iter().map(|parse::Codebook { name, weights, entries, .. }| {
        quote!(const #name: &'static [[i8; #weights]; #entries];)
    });
    let trait_of_books = (!codebooks.is_empty()).then(|| {
        quote! {
            /// The codebooks, whose entries stand outside this module.
            pub trait Codebooks {
                #(#books)*
            }
        }
    });
    let books = codebooks.iter().map(|parse::Codebook { name, weights, entries, value }| {
        let byte = quote!(::core::primitive::i8);
        // An array of another size is blamed on the caller's tokens.
        let span = value.span().resolved_at(Span::call_site());
        let value = quote_spanned!(span=> &(#value));
        quote!(const #name: &'static [[#byte; #weights]; #entries] = #value;)
    });
    let impl_of_books = (!codebooks.is_empty()).then(|| {
        quote! {
            impl #module::Codebooks for #name {
                #(#books)*
            }
        }
    });
    let block = block::block(declared, plan);
    let of_format = kernels::Kernels::new(plan, isas);
    let functions = of_format.functions();
    let constant = kernels::constant(name, &of_format, isas);
    let inside = plain_numbers(quote!(#trait_of_books #block #(#functions)* #constant));
    quote! {
        #(#attrs)*
        #[allow(unused_imports)]
        #vis use #module::#name;

        #[allow(warnings)]
        mod #module {
            use #kernels as kernels;

            #inside
        }

        #impl_of_books
    }
}

/// The module of the format `name`. Formats of one scope differ in their names, so their modules do.
fn module_name(name: &Ident) -> Ident {
    format_ident!("__quantloom_{name}")
}

/// The operations that a format does not have, each with the reason.
pub fn missing(plan: &Plan) -> Vec<(&'static str, String)> {
    let quantizer = plan.quantizer.as_ref().err().map(|reason| ("quantize", reason.clone()));
    let gemm = plan.panel_groups().err().map(|reason| ("gemm", reason));
    quantizer.into_iter().chain(gemm).collect()
}
