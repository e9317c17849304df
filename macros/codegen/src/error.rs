//! All errors of a declaration, reported together, each on the user's own token.

use proc_macro2::TokenStream;
use quote::ToTokens;

/// Collects errors so that one compilation shows them all.
#[derive(Default)]
pub struct Errors(Vec<syn::Error>);

impl Errors {
    /// Notes an error on `tokens`. `message` says what is wrong and what to do.
    pub fn at(&mut self, tokens: impl ToTokens, message: impl std::fmt::Display) {
        self.push(syn::Error::new_spanned(tokens, message));
    }

    pub fn push(&mut self, error: syn::Error) {
        self.0.push(error);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// `compile_error!` invocations, one per error.
    pub fn into_compile_errors(self) -> TokenStream {
        self.0.into_iter().map(syn::Error::into_compile_error).collect()
    }
}
