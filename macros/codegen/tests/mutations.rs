//! Whatever a declaration is, the generator ends with code or with errors: it neither panics nor takes long.

mod common;

use std::time::{Duration, Instant};

use common::{declarations_of, root, wrong};
use proc_macro2::{Group, Literal, TokenStream, TokenTree};
use quantloom_codegen::expand;

/// Mutated declarations; QUANTLOOM_CASES says another number.
const CASES: u64 = 3000;

/// What takes the place of a number.
const NUMBERS: [&str; 14] = [
    "0",
    "1",
    "2",
    "7",
    "31",
    "255",
    "256",
    "4096",
    "65535",
    "65536",
    "524288",
    "4294967295",
    "0.5",
    "99999999999999999999",
];

/// Numbers that look random: a linear congruential generator.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

/// Tokens with some left out, repeated, swapped, or become another of the same declaration or another number.
/// One of about `rate / 9` tokens is mutated.
fn mutated(tokens: TokenStream, rate: usize, random: &mut Random, all: &[TokenTree]) -> TokenStream {
    let mut out: Vec<TokenTree> = Vec::new();
    for token in tokens {
        let token = match token {
            TokenTree::Group(group) => {
                let inside = mutated(group.stream(), rate, random, all);
                TokenTree::Group(Group::new(group.delimiter(), inside))
            }
            other => other,
        };
        match random.below(rate) {
            0 => {}
            1 => out.extend([token.clone(), token]),
            2 => out.push(all[random.below(all.len())].clone()),
            3 => {
                let previous = out.pop();
                out.push(token);
                out.extend(previous);
            }
            4..=8 if matches!(token, TokenTree::Literal(_)) => {
                let number = NUMBERS[random.below(NUMBERS.len())];
                out.push(number.parse::<Literal>().expect("these are literals").into());
            }
            _ => out.push(token),
        }
    }
    out.into_iter().collect()
}

/// Every token that is no group.
fn flat(tokens: TokenStream, all: &mut Vec<TokenTree>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => flat(group.stream(), all),
            other => all.push(other),
        }
    }
}

/// The formats of a declaration, each with what stands before its braces.
fn formats(tokens: TokenStream) -> Vec<TokenStream> {
    let (mut formats, mut one) = (Vec::new(), Vec::new());
    for token in tokens {
        let is_end =
            matches!(&token, TokenTree::Group(group) if group.delimiter() == proc_macro2::Delimiter::Brace);
        one.push(token);
        if is_end {
            formats.push(one.drain(..).collect());
        }
    }
    formats
}

#[test]
fn mutated_declarations_end() {
    let cases = std::env::var("QUANTLOOM_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    let seed = std::env::var("QUANTLOOM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let seeds_of = |paths: Vec<_>| -> Vec<_> {
        paths.iter().flat_map(|path: &std::path::PathBuf| declarations_of(path)).flat_map(formats).collect()
    };
    let seeds = [seeds_of(wrong()), seeds_of(vec![root().join("kernels/src/formats.rs")])];
    let mut random = Random(seed);
    let kernels = quote::quote!(::quantloom_kernels);
    let mut passed = 0;
    for case in 0..cases {
        let seeds = &seeds[random.below(seeds.len())];
        let declaration = seeds[random.below(seeds.len())].clone();
        let rate = [50, 200, 1000][random.below(3)];
        let mut all = Vec::new();
        flat(declaration.clone(), &mut all);
        let declaration = mutated(declaration, rate, &mut random, &all);
        let text = declaration.to_string();
        let begin = Instant::now();
        let expansion = std::panic::catch_unwind(|| expand(&kernels, declaration));
        assert!(expansion.is_ok(), "QUANTLOOM_SEED={seed}, case {case}: this panics: {text}");
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "case {case}: this takes {:?}: {text}",
            begin.elapsed()
        );
        passed += u64::from(!expansion.is_ok_and(|tokens| tokens.to_string().contains("compile_error")));
    }
    // Mutations that break everything would test the parser alone.
    assert!(passed * 20 > cases, "{passed} of {cases} mutated declarations are right");
}
