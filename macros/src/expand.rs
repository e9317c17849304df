//! The whole pipeline: parse → check → plan → lower → emit.

use proc_macro2::TokenStream;

use crate::check::check;
use crate::parse::Declarations;
use crate::plan::plan;
use crate::{emit, lower};

/// Every error is found by the first two stages; after them nothing fails.
pub fn expand(input: TokenStream) -> TokenStream {
    let declarations = match syn::parse2::<Declarations>(input) {
        Ok(declarations) => declarations,
        Err(error) => return error.into_compile_error(),
    };
    match check(&declarations) {
        Ok(formats) => {
            let plans: Vec<_> = formats.iter().map(plan).collect();
            emit::emit(&declarations, &plans, lower::ALL)
        }
        Err(errors) => emit::stubs(&declarations, errors),
    }
}
