//! Declarations out of Rust files.

use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};

/// The folder of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The Rust files that declare what is wrong.
pub fn wrong() -> Vec<PathBuf> {
    let files = std::fs::read_dir(root().join("kernels/tests/ui")).expect("the folder of compile errors");
    let paths = files.map(|file| file.expect("a folder can be read").path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == "rs")).collect();
    paths.sort();
    paths
}

/// The declarations of a Rust file.
pub fn declarations_of(path: &Path) -> Vec<TokenStream> {
    declarations(&std::fs::read_to_string(path).expect("a source can be read"))
}

/// The tokens in the `quant_format!`s of a Rust file.
pub fn declarations(source: &str) -> Vec<TokenStream> {
    let tokens: TokenStream = source.parse().expect("the file is Rust");
    let mut tokens = tokens.into_iter().peekable();
    let mut found = Vec::new();
    while let Some(token) = tokens.next() {
        let is_name = matches!(&token, TokenTree::Ident(name) if name == "quant_format");
        let is_call = matches!(tokens.peek(), Some(TokenTree::Punct(punct)) if punct.as_char() == '!');
        if is_name && is_call {
            tokens.next();
            let Some(TokenTree::Group(group)) = tokens.next() else { panic!("quant_format! without braces") };
            found.push(group.stream());
        }
    }
    found
}
