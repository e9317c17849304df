//! The macros of [Quantloom](https://docs.rs/quantloom-kernels): one declaration of a quantized block
//! format becomes its block type, its quantizer and dequantizer, and for every instruction set
//! a dot product, a matrix-vector product, and what a matrix-matrix product needs.
//!
//! Use them through `quantloom_kernels`, which re-exports them and holds the run-time half that the
//! generated code calls. The language is described there, at `quant_format!`.

use proc_macro::TokenStream;

mod check;
mod emit;
mod error;
mod expand;
mod lower;
mod model;
mod parse;
mod plan;

/// Expands `[path::of::quantloom_kernels] declaration …`. The macro of that crate, which is documented there,
/// supplies the path: whatever the crate is called where it is used, `$crate` finds it.
#[proc_macro]
pub fn quant_format(input: TokenStream) -> TokenStream {
    let mut tokens = proc_macro2::TokenStream::from(input).into_iter();
    let Some(proc_macro2::TokenTree::Group(kernels)) = tokens.next() else {
        return quote::quote!(::core::compile_error! {
            "expected the path of the crate first: use quantloom_kernels::quant_format"
        })
        .into();
    };
    expand::expand(&kernels.stream(), tokens.collect()).into()
}

/// Emits what `quantloom_kernels` knows of instruction sets, from the same list that the kernels are
/// generated from: the `Isa` enum with names, required CPU features and their detection.
#[proc_macro]
pub fn instruction_sets(_input: TokenStream) -> TokenStream {
    emit::instruction_sets(lower::ALL).into()
}
