//! Formats out of papers, as their readers would declare them (`kernels/tests/papers`): those that the language has by now, and
//! for the others what it says.

#[allow(dead_code, reason = "nothing here is about declarations that are wrong")]
mod common;

use std::path::PathBuf;

use common::{declarations_of, root};
use quantloom_codegen::facts;

/// The formats that are declared as they stand there.
const DECLARED: &[&str] = &["spqr"];

/// The files with the formats, in the order of their names.
fn papers() -> Vec<(String, PathBuf)> {
    let files = std::fs::read_dir(root().join("kernels/tests/papers")).expect("the folder of papers");
    let paths = files.map(|file| file.expect("a folder can be read").path());
    let rust = paths.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let mut papers: Vec<_> = rust
        .map(|path| (path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), path))
        .collect();
    papers.sort();
    papers
}

#[test]
fn formats_are_declared_or_refused_with_a_reason() {
    let papers = papers();
    assert_eq!(papers.len(), 20);
    let mut declared = Vec::new();
    for (name, path) in &papers {
        let declarations = declarations_of(path);
        assert_eq!(declarations.len(), 1, "{name} is one declaration");
        match facts(declarations[0].clone()) {
            Ok(_) => declared.push(name.as_str()),
            Err(errors) => {
                for error in errors {
                    println!("{name}: {error}");
                    assert!(!error.to_string().is_empty(), "{name} is refused without a word");
                }
            }
        }
    }
    assert_eq!(declared, DECLARED, "the list of what is declared follows the language");
}
