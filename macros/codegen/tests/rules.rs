//! Every rule has cases among the compile errors of `quantloom-kernels`, and each of these breaks that rule alone. The
//! generator is a library: the compiler is not asked.

mod common;

use std::collections::BTreeMap;

use common::{declarations_of, root, wrong};
use proc_macro2::TokenStream;
use quantloom_codegen::{Rule, expand, facts};

/// The rules that the cases of each file break: file name → numbers, without repetition.
fn broken() -> BTreeMap<String, Vec<Option<usize>>> {
    wrong()
        .into_iter()
        .map(|path| {
            let of_declaration = |tokens| facts(tokens).err().unwrap_or_default();
            let errors = declarations_of(&path).into_iter().flat_map(of_declaration);
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
    let readme = std::fs::read_to_string(root().join("README.md")).expect("README.md can be read");
    let count = format!("its {} rules", Rule::ALL.len());
    assert!(readme.contains(&count), "README.md should say `{count}`");
}

/// What people write, and what each case is about: fields, then codes and `w`, of a block of 32 weights.
const RIGHT: &[(&str, &str, &str)] = &[
    (
        "hexadecimal entries",
        "d: f16, qs: [u8; 16],",
        "table T = [0x7F, -0x80, 0, 1]; q[l: 4, i: 8] = qs[i] >> 2 * l & 3; _h[i: 8] = qs[8 + i]; w = d * T[q];",
    ),
    (
        "numbers in parentheses",
        "d: f16, qs: [u8; 16],",
        "q[h: 2, i: 16] = qs[(i)] >> (4) * h & (15); w = (0.5) * d * (q - (8));",
    ),
    (
        "numbers with underscores and exponents",
        "d: f16, qs: [u8; 16],",
        "q[h: 2, i: 16] = qs[i] >> 4 * h & 1_5; w = 1.25e-1 * d * (q - 8);",
    ),
    (
        "constants that are far from 1 alone, near it together",
        "d: f16, qs: [u8; 16],",
        "q[h: 2, i: 16] = qs[i] >> 4 * h & 15; w = 524288 * 0.0000019073486328125 * d * (q - 8);",
    ),
    (
        "high nibble first",
        "d: f16, qs: [u8; 16],",
        "q[i: 16, h: 2] = qs[i] >> (4 - 4 * h) & 15; w = d * (q - 8);",
    ),
    (
        "most significant bit first",
        "d: f16, _more: [u8; 10], qs: [u8; 4],",
        "table S = [-1, 1]; q[i: 4, k: 8] = qs[i] >> (7 - k) & 1; w = d * S[q];",
    ),
    ("backwards", "d: f16, qs: [u8; 16],", "q[h: 2, i: 16] = qs[15 - i] >> 4 * h & 15; w = d * (q - 8);"),
    ("last trit first", "d: f16, qs: [u8; 16],", "q[n: 2, i: 16] = trit(qs[i], 1 - n); w = d * (q - 1);"),
    (
        "a field of padding",
        "d: f16, _unused: [u8; 2], qs: [u8; 16],",
        "q[h: 2, i: 16] = qs[i] >> 4 * h & 15; w = d * (q - 8);",
    ),
    (
        "bits of padding",
        "d: f16, qs: [u8; 16],",
        "q[h: 2, i: 16] = qs[i] >> 4 * h & 7; _top[h: 2, i: 16] = qs[i] >> (3 + 4 * h) & 1; w = d * (q - 4);",
    ),
    (
        "a factor behind its codes",
        "d: f16, s: [u8; 2], qs: [u8; 16],",
        "q[h: 2, i: 16] = qs[i] >> 4 * h & 15; w = d * (s * 2 + 1) * (q - 8);",
    ),
    (
        "a number before its codes",
        "d: f16, s: [u8; 2], qs: [u8; 16],",
        "q[h: 2, i: 16] = qs[i] >> 4 * h & 15; w = d * (1 + 2 * s) * (q - 8);",
    ),
    (
        "coded minima",
        "d: f16, m: f16, z: [u8; 2], qs: [u8; 16],",
        "q[h: 2, i: 16] = qs[i] >> 4 * h & 15; w = d * q - m * z;",
    ),
    (
        "coded zero points, and what they are stored minus",
        "d: f16, z: [u8; 2], qs: [u8; 16],",
        "q[h: 2, i: 16] = qs[i] >> 4 * h & 15; w = d * (q - (z + 1));",
    ),
    (
        "zero points that are added, and a number",
        "d: f16, z: [i8; 2], qs: [u8; 16],",
        "q[h: 2, i: 16] = qs[i] >> 4 * h & 15; w = d * (q - 8 + z);",
    ),
    (
        "zero points of values of a table",
        "d: f16, z: u8, qs: [u8; 16],",
        "table T = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24]; q[h: 2, i: 16] = qs[i] >> 4 * h & 15; w = d * (T[q] - z);",
    ),
    (
        "zero points that are products",
        "ss: f16, sz: f16, zs: bf16, zz: f32, s: [u8; 4], z: [u8; 2], qs: [u8; 16],",
        "q[h: 2, i: 16] = qs[i] >> 4 * h & 15; w = ss * (s - sz) * (q - zs * (z - zz));",
    ),
    (
        "several factors of groups, some wider than a byte",
        "d: [f32; 2], e: [bf16; 1], s: [u8; 4], t: i8, qs: [u8; 16],",
        "q[h: 2, i: 16] = qs[i] >> 4 * h & 15; w = d * e * s * t * (q - 8);",
    ),
];

#[test]
fn right_declarations_pass() {
    for (case, fields, rest) in RIGHT {
        let tokens: TokenStream =
            format!("pub block X[32] {{ {fields} {rest} }}").parse().expect("these are tokens");
        let facts = facts(tokens.clone());
        let facts = facts.unwrap_or_else(|errors| panic!("{case}: {}", errors[0]));
        assert_eq!(facts[0].weights, 32, "{case}");
        let text = expand(&quote::quote!(::quantloom_kernels), tokens).to_string();
        assert!(!text.contains("compile_error"), "{case}");
    }
}

/// What a format lacks is said with the reason.
#[test]
fn what_is_missing_is_said() {
    let cases: [(&str, &[(&str, &str)]); 10] = [
        ("d: f16, s: [i8; 8], qs: [i8; 32], w = d * s * qs;", &[("gemm", "each 4 weights have a scale")]),
        ("d: f16, qs: [i8; 32], w = d * qs + d;", &[("quantize", "`d` stands in it twice")]),
        ("d: f16, qs: [i8; 32], w = d * qs;", &[]),
        ("d: [f16; 2], z: u8, qs: [i8; 32], w = d * (qs - z);", &[]),
        (
            "d: f16, s: u8, t: [u8; 2], qs: [i8; 32], w = d * s * t * qs;",
            &[("quantize", "`s` and `t` are factors of groups in one product")],
        ),
        ("d: [f32; 2], qs: [i8; 32], w = d * qs - d;", &[("quantize", "`d` stands in it twice")]),
        (
            "d: f16, sz: f16, s: u8, qs: [i8; 32], w = d * (s - sz) * qs;",
            &[("quantize", "the zero point of `s` is a number that blocks store")],
        ),
        (
            "d: f16, zs: f16, z: u8, qs: [i8; 32], w = d * (qs - zs * z);",
            &[("quantize", "a product of several factors")],
        ),
        (
            "d: f16, z: u8, qs: [u8; 16], table T = [-1, 0, 1, 2]; q[l: 2, i: 16] = qs[i] >> 2 * l & 3; _h[i: 16] = qs[i] >> 4; w = d * (T[q] - z);",
            &[("quantize", "takes codes as they are")],
        ),
        (
            "d: [f16; 8], z: [u8; 8], qs: [i8; 32], w = d * (qs - z);",
            &[("gemm", "each 4 weights have a scale")],
        ),
    ];
    for (body, expected) in cases {
        let tokens: TokenStream = format!("block X[32] {{ {body} }}").parse().expect("these are tokens");
        let missing = facts(tokens).expect("the declaration is right")[0].missing.clone();
        assert_eq!(missing.len(), expected.len(), "{body}: {missing:?}");
        for ((operation, reason), (expected_operation, expected_reason)) in missing.iter().zip(expected) {
            assert_eq!(operation, expected_operation, "{body}");
            assert!(reason.contains(expected_reason), "{body}: {reason}");
        }
    }
}

/// Errors of the parser's crate don't come through where it does not know all of Rust.
#[test]
fn other_expressions_are_no_formulas() {
    for formula in ["if d { q }", "d * match q {}", "d * [1, 2][q]", "|q| d * q", "unsafe { d } * q"] {
        let text = format!("block X[32] {{ d: f16, q: [i8; 32], w = {formula}; }}");
        let errors = facts(text.parse().expect("these are tokens")).expect_err(formula);
        for error in errors {
            assert!(!error.to_string().contains("syn"), "{formula}: {error}");
        }
    }
}
