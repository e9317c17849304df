//! What a declaration gives, without its code.

use proc_macro2::TokenStream;

use crate::check::check;
use crate::emit::missing;
use crate::error::Error;
use crate::model::Format;
use crate::parse::Declarations;
use crate::plan::plan;

/// A declared format, as tests and tools see it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// The name of the declaration.
    pub name: String,
    /// Weights of a block.
    pub weights: usize,
    /// Bytes of a block.
    pub bytes: usize,
    /// The operations that it does not have, `quantize` or `gemm`, each with the reason.
    pub missing: Vec<(&'static str, String)>,
}

/// What the formats of a declaration are, in order, or all errors of it.
///
/// # Errors
/// What the compiler would report where the declaration stands in a `quant_format!`.
pub fn facts(declaration: TokenStream) -> Result<Vec<Facts>, Vec<Error>> {
    let declarations: Declarations = syn::parse2(declaration).map_err(|error| vec![error.into()])?;
    let facts = |format: &Format| {
        let missing = missing(&plan(format));
        Facts { name: format.name.clone(), weights: format.len, bytes: format.bytes(), missing }
    };
    Ok(check(&declarations)?.iter().map(facts).collect())
}
