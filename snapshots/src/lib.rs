//! Reviewable snapshots of what the macro generates: `expansions` holds one file per format that
//! `quantloom-kernels` declares.
//!
//! A procedural macro can't be called as a function, so this crate compiles the macro's modules once more
//! and calls their pipeline itself, on the declarations in `kernels/src/formats.rs`.

use proc_macro2::{TokenStream, TokenTree};

#[path = "../../macros/src"]
mod macros {
    pub mod check;
    pub mod emit;
    pub mod error;
    pub mod expand;
    pub mod lower;
    pub mod model;
    pub mod parse;
    pub mod plan;
}

// The modules name each other from the root of their crate.
use macros::*;

/// A format's declaration, cut out of those beside it.
pub struct Declaration {
    /// Its name in lower case, as in kernel names.
    pub name: String,
    tokens: TokenStream,
}

/// The declarations of `kernels/src/formats.rs`.
///
/// # Panics
/// That file holds no `quant_format!`.
pub fn declarations() -> Vec<Declaration> {
    let file = syn::parse_file(include_str!("../../kernels/src/formats.rs")).expect("it compiles elsewhere");
    let tokens = file.items.into_iter().find_map(|item| match item {
        syn::Item::Macro(item) if item.mac.path.is_ident("quant_format") => Some(item.mac.tokens),
        _ => None,
    });
    split(tokens.expect("a quant_format!"))
}

impl Declaration {
    /// Everything that the macro generates for it, as rustfmt would print it.
    ///
    /// # Panics
    /// The expansion is not Rust.
    pub fn expansion(&self) -> String {
        pretty(expand::expand(&quote::quote!(::quantloom_kernels), self.tokens.clone()))
    }
}

/// What the macro generates of instruction sets.
///
/// # Panics
/// As [`Declaration::expansion`].
pub fn instruction_sets() -> String {
    pretty(emit::instruction_sets(lower::ALL))
}

/// A format ends with its braces, a list of formats with its semicolon.
fn split(tokens: TokenStream) -> Vec<Declaration> {
    let (mut declarations, mut tokens_of_one) = (Vec::new(), Vec::new());
    for token in tokens {
        let is_brace =
            matches!(&token, TokenTree::Group(group) if group.delimiter() == proc_macro2::Delimiter::Brace);
        let is_semicolon = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == ';');
        tokens_of_one.push(token);
        if is_brace {
            let tokens = TokenStream::from_iter(tokens_of_one.drain(..));
            declarations.push(Declaration { name: name(tokens.clone()), tokens });
        } else if is_semicolon {
            tokens_of_one.clear();
        }
    }
    declarations
}

/// The identifier after `block`.
fn name(tokens: TokenStream) -> String {
    let mut names = tokens.into_iter().filter_map(|token| match token {
        TokenTree::Ident(ident) => Some(ident.to_string()),
        _ => None,
    });
    names.find(|name| name == "block");
    names.next().expect("a block has a name").to_lowercase()
}

fn pretty(tokens: TokenStream) -> String {
    prettyplease::unparse(&syn::parse2(tokens).expect("the expansion is Rust"))
}
