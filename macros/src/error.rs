//! All errors of a declaration, reported together, each on the user's own token.

use proc_macro2::TokenStream;
use quote::ToTokens;

/// Collects errors so that one compilation shows them all.
#[derive(Default)]
pub struct Errors(Option<syn::Error>);

impl Errors {
    /// Notes an error on `tokens`. `message` says what is wrong and what to do.
    pub fn at(&mut self, tokens: impl ToTokens, message: impl std::fmt::Display) {
        self.push(syn::Error::new_spanned(tokens, message));
    }

    pub fn push(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(all) => all.combine(error),
            None => self.0 = Some(error),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// `compile_error!` invocations, one per error.
    pub fn into_compile_errors(self) -> TokenStream {
        self.0.map(syn::Error::into_compile_error).unwrap_or_default()
    }
}
