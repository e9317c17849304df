//! Every rule has cases among the compile errors of `quantloom-kernels`, and each of these breaks that rule alone. The
//! generator is a library: the compiler is not asked.

use std::collections::BTreeMap;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use quantloom_codegen::{Rule, facts};

/// The tokens in the `quant_format!`s of a Rust file.
fn declarations(source: &str) -> Vec<TokenStream> {
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

/// The rules that the cases of each file break: file name → numbers, without repetition.
fn broken() -> BTreeMap<String, Vec<Option<usize>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kernels/tests/ui");
    let files = std::fs::read_dir(folder).expect("the folder of compile errors");
    let sources = files.map(|file| file.expect("a folder can be read").path());
    sources
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            let source = std::fs::read_to_string(&path).expect("a source can be read");
            let of_declaration = |tokens| facts(tokens).err().unwrap_or_default();
            let errors = declarations(&source).into_iter().flat_map(of_declaration);
            let mut rules: Vec<_> = errors.map(|error| error.rule().map(Rule::number)).collect();
            rules.sort_unstable();
            rules.dedup();
            (path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), rules)
        })
        .collect()
}

#[test]
fn every_rule_has_a_case_of_its_own() {
    let broken = broken();
    let of_a_rule = |name: &str| name.strip_prefix("rule_").map(|rest| rest[..2].parse::<usize>().unwrap());
    let breaks_others =
        |(name, rules): &(&String, &Vec<_>)| of_a_rule(name).is_some_and(|rule| **rules != [Some(rule)]);
    let others: Vec<_> = broken.iter().filter(breaks_others).collect();
    assert!(others.is_empty(), "files whose cases break other rules, or none: {others:?}");
    for rule in Rule::ALL {
        let has_case = broken.keys().any(|name| of_a_rule(name) == Some(rule.number()));
        assert!(has_case, "rule {} has no case in kernels/tests/ui: {}", rule.number(), rule.text());
    }
}

/// Pages that speak of the rules know how many there are.
#[test]
fn pages_count_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = std::fs::read_to_string(root.join("README.md")).expect("README.md can be read");
    let count = format!("its {} rules", Rule::ALL.len());
    assert!(readme.contains(&count), "README.md should say `{count}`");
}
