//! The whole pipeline: parse → check → plan → lower → emit.

use proc_macro2::TokenStream;

use crate::check::check;
use crate::parse::Declarations;
use crate::plan::plan;
use crate::{emit, lower};

/// Every error is found by the first two stages; after them nothing fails. `kernels` is the path of
/// `quantloom_kernels` where the declaration stands.
pub fn expand(kernels: &TokenStream, declaration: TokenStream) -> TokenStream {
    let declarations = match syn::parse2::<Declarations>(declaration) {
        Ok(declarations) => declarations,
        Err(error) => return error.into_compile_error(),
    };
    let expansion = match check(&declarations) {
        Ok(formats) => {
            let plans: Vec<_> = formats.iter().map(plan).collect();
            emit::emit(&declarations, &plans, lower::ALL)
        }
        Err(errors) => emit::stubs(&declarations, errors),
    };
    emit::relocate(expansion, kernels)
}
