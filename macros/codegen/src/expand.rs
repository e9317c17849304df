//! The whole pipeline: parse → check → plan → lower → emit.

use proc_macro2::TokenStream;

use crate::check::check;
use crate::parse::Declarations;
use crate::plan::plan;
use crate::{emit, lower};

/// Everything that is generated for a declaration, or its errors, all of them, each as a `compile_error!` on the
/// token that is wrong.
///
/// `kernels` is the path of `quantloom_kernels` where the declaration stands.
pub fn expand(kernels: &TokenStream, declaration: TokenStream) -> TokenStream {
    let declarations = match syn::parse2::<Declarations>(declaration) {
        Ok(declarations) => declarations,
        Err(error) => return error.into_compile_error(),
    };
    match check(&declarations) {
        Ok(formats) => {
            let plans: Vec<_> = formats.iter().map(plan).collect();
            emit::emit(kernels, &declarations, &plans, lower::ALL)
        }
        Err(errors) => emit::stubs(kernels, &declarations, &errors),
    }
}

/// What `quantloom_kernels` knows of instruction sets, from the same list that kernels are generated from: the `Isa`
/// enum with names, required CPU features and their detection.
pub fn instruction_sets() -> TokenStream {
    emit::instruction_sets(lower::ALL)
}
