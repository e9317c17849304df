//! Code grows with the number of different pieces of a block, not with its length: chunks that differ in nothing but where
//! they lie share a loop.

use proc_macro2::{TokenStream, TokenTree};
use quantloom_codegen::{expand, facts};
use quote::quote;

/// What a format is like, its body for blocks of some weights, and how many times as much code 4,096 weights may take as
/// 1,024.
type Case = (&'static str, fn(usize) -> String, f64);

const CASES: &[Case] = &[
    (
        "bytes in groups of 32",
        |n| format!("d: f16, s: [u8; {}], qs: [i8; {n}], w = d * s * qs;", n / 32),
        1.0,
    ),
    (
        "nibbles in runs of 64, with minima",
        |n| {
            let (groups, bytes, runs) = (n / 32, n / 2, n / 64);
            format!(
                "d: f16, dmin: f16, s: [u8; {groups}], m: [u8; {groups}], qs: [u8; {bytes}],
                 q[a: {runs}, h: 2, i: 32] = qs[32 * a + i] >> 4 * h & 15;
                 w = d * s * q - dmin * m;"
            )
        },
        1.0,
    ),
    (
        "halves of the whole block",
        |n| {
            let bytes = n / 2;
            format!("d: f16, qs: [u8; {bytes}], q[h: 2, i: {bytes}] = qs[i] >> 4 * h & 15; w = d * (q - 8);")
        },
        1.0,
    ),
    (
        "two planes, quarters of runs of 128",
        |n| {
            let (low, high, runs) = (n / 2, n / 4, n / 128);
            format!(
                "d: f16, low: [u8; {low}], high: [u8; {high}],
                 q[a: {runs}, g: 2, h: 2, i: 32] =
                     low[64 * a + 32 * g + i] >> 4 * h & 15 | (high[32 * a + i] >> (4 * g + 2 * h) & 3) << 4;
                 w = d * (q - 32);"
            )
        },
        1.0,
    ),
    (
        "9 bits of a codebook's index, and signs",
        |n| {
            let (octets, bytes) = (n / 8, n / 8 * 9 / 8);
            format!(
                "d: f16, index: [u8; {bytes}], sign: [u8; {octets}],
                 codebook GRID: [[i8; 8]; 512] = G;
                 g[i: {octets}] = index[0] >> 9 * i & 511;
                 w = d * signs(sign) * GRID[g];"
            )
        },
        1.0,
    ),
    // The pieces have accessors of their own, and the loops tables.
    (
        "pieces of 32 in no order",
        |n| {
            let (bytes, chunks) = (n / 4, n / 32);
            let piece = |i: usize| {
                let place = i * 37 % chunks;
                format!("[i: 32] = qs[{} + i] >> {} & 3", place / 4 * 32, place % 4 * 2)
            };
            let pieces: Vec<_> = (0..chunks).map(piece).collect();
            format!("d: f16, qs: [u8; {bytes}], q{}; w = d * (q - 1);", pieces.join(", "))
        },
        4.0,
    ),
];

/// Tokens, those in groups among them.
fn count(tokens: TokenStream) -> usize {
    let of = |token| match token {
        TokenTree::Group(group) => 1 + count(group.stream()),
        _ => 1,
    };
    tokens.into_iter().map(of).sum()
}

#[test]
fn long_blocks_take_little_more_code_than_short_ones() {
    for (name, body, times) in CASES {
        let [short, long] = [1024, 4096].map(|weights| {
            let declaration = format!("block B[{weights}] {{ {} }}", body(weights));
            let tokens: TokenStream = declaration.parse().expect("tokens");
            assert!(facts(tokens.clone()).is_ok(), "{name}: {declaration}");
            count(expand(&quote!(::quantloom_kernels), tokens))
        });
        // A few tokens are signs of numbers, and paths.
        let limit = (short as f64 * times * 1.05) as usize;
        assert!(long <= limit, "{name}: {long} tokens for 4096 weights, {short} for 1024");
    }
}
