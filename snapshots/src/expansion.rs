//! What the macro generates, as text.
//!
//! `quantloom-codegen`, the library behind the macro, is called as a function.

use proc_macro2::{Span, TokenStream, TokenTree};

/// A format's declaration, cut out of those beside it.
pub struct Declaration {
    /// Its name in lower case, as in kernel names.
    pub name: String,
    tokens: TokenStream,
}

/// The declarations in every `quant_format!` of `source`, a Rust file.
///
/// # Errors
/// `source` is not Rust, or declares no format.
pub fn declarations(source: &str) -> syn::Result<Vec<Declaration>> {
    let is_ours = |path: &syn::Path| path.segments.last().is_some_and(|name| name.ident == "quant_format");
    let lists = syn::parse_file(source)?.items.into_iter().filter_map(|item| match item {
        syn::Item::Macro(item) if is_ours(&item.mac.path) => Some(item.mac.tokens),
        _ => None,
    });
    let declarations: Vec<_> = lists.flat_map(split).collect();
    if declarations.is_empty() {
        return Err(syn::Error::new(
            Span::call_site(),
            "no quant_format! that declares a block at the top level",
        ));
    }
    Ok(declarations)
}

impl Declaration {
    /// Everything that the macro generates for it, as rustfmt would print it.
    ///
    /// # Panics
    /// The expansion is not Rust.
    pub fn expansion(&self) -> String {
        pretty(quantloom_codegen::expand(&quote::quote!(::quantloom_kernels), self.tokens.clone()))
    }
}

/// What the macro generates of instruction sets.
///
/// # Panics
/// As [`Declaration::expansion`].
pub fn instruction_sets() -> String {
    pretty(quantloom_codegen::instruction_sets())
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
