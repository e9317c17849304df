//! Errors of a declaration: all of them at once, each on the caller's own token, each with the rule that it breaks.

use std::fmt;

use proc_macro2::TokenStream;
use quote::ToTokens;

use crate::check::Rule;

/// An error of a declaration.
#[derive(Clone, Debug)]
pub struct Error {
    rule: Option<Rule>,
    error: syn::Error,
}

impl Error {
    /// The rule that is broken; `None` where the text is no declaration at all.
    pub fn rule(&self) -> Option<Rule> {
        self.rule
    }

    /// A `compile_error!` on the tokens to blame.
    pub fn to_compile_error(&self) -> TokenStream {
        self.error.to_compile_error()
    }
}

impl From<syn::Error> for Error {
    fn from(error: syn::Error) -> Self {
        Self { rule: None, error }
    }
}

/// What is wrong, and what to do.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Error {}

/// Errors, collected so that one compilation shows them all.
#[derive(Default)]
pub(crate) struct Errors(Vec<Error>);

/// An error that is among the others already.
pub(crate) struct Noted;

impl Errors {
    /// Notes that `tokens` break `rule`. `message` says what is wrong and what to do.
    pub fn note(&mut self, rule: Rule, tokens: impl ToTokens, message: impl fmt::Display) {
        self.0.push(Error { rule: Some(rule), error: syn::Error::new_spanned(tokens, message) });
    }

    /// [`note`](Self::note) where checking can't go on.
    pub fn refuse<T>(
        &mut self,
        rule: Rule,
        tokens: impl ToTokens,
        message: impl fmt::Display,
    ) -> Result<T, Noted> {
        self.note(rule, tokens, message);
        Err(Noted)
    }

    /// Notes text that is no declaration.
    pub fn syntax(&mut self, error: syn::Error) {
        self.0.push(error.into());
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn into_vec(self) -> Vec<Error> {
        self.0
    }
}
