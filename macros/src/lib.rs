//! The procedural macros of [Quantloom](https://docs.rs/quantloom-kernels), thin: what they do is in
//! `quantloom-codegen`.
//!
//! Use them through `quantloom_kernels`, which re-exports them and holds the run-time half that the
//! generated code calls. The language is described there, at `quant_format!`.

use proc_macro::TokenStream;

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
    quantloom_codegen::expand(&kernels.stream(), tokens.collect()).into()
}

/// Emits the `Isa` enum of `quantloom_kernels`.
#[proc_macro]
pub fn instruction_sets(_input: TokenStream) -> TokenStream {
    quantloom_codegen::instruction_sets().into()
}
