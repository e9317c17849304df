//! Every kernel's loop is as it was reviewed, and what must hold of it holds.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod reviewed;

use quantloom_snapshots::assembly::{self, Ceiling, Exception, Invariant::Stack};
use quantloom_snapshots::assert_snapshots;
use reviewed::REVIEWED;

/// Instructions per block, as they are, rounded up: a loop that grows by one for each block is a change that this
/// table must grant. With more than one row in an iteration the overhead is shared, and `gemv` is below `dot`.
///
/// Of Q4_K and Q6_K a block is 256 weights, of the others 32. In their `gemv` a loop over 8 rows stands inside that over
/// blocks: what is counted is what all rows share, and one row (with AVX-512 two). Scalar dot products are counted by the
/// iteration, 4, 2, 4 and 1 rows of them in `gemv`; they have some room for the compiler's own choice of vectors.
#[rustfmt::skip]
const CEILINGS: &[Ceiling] = &[
    ("q4_0_dot", &[("scalar", 270), ("avx2_fma", 20), ("avx_vnni", 18)]),
    ("q4_0_gemv", &[("scalar", 290), ("avx2_fma", 14), ("avx_vnni", 13)]),
    ("q4_0_dequantize", &[("scalar", 125), ("avx2_fma", 32)]),
    ("q4_1_dot", &[("scalar", 290), ("avx2_fma", 23)]),
    ("q4_1_gemv", &[("scalar", 350), ("avx2_fma", 17)]),
    ("q4_1_dequantize", &[("scalar", 135), ("avx2_fma", 34)]),
    ("q8_0_dot", &[("scalar", 230), ("avx2_fma", 18), ("avx_vnni", 16)]),
    ("q8_0_gemv", &[("scalar", 230), ("avx2_fma", 13), ("avx_vnni", 11)]),
    ("q8_0_dequantize", &[("scalar", 95), ("avx2_fma", 24)]),
    ("mxfp4_dot", &[("scalar", 270), ("avx2_fma", 21)]),
    ("mxfp4_gemv", &[("scalar", 380), ("avx2_fma", 16), ("avx_vnni", 15), ("avx512_vnni", 14)]),
    ("mxfp4_dequantize", &[("scalar", 250), ("avx2_fma", 29)]),
    ("q4_k_dot", &[("scalar", 1950), ("avx2_fma", 118), ("avx_vnni", 119), ("avx512_vnni", 114)]),
    ("q4_k_gemv", &[("scalar", 1950), ("avx2_fma", 174), ("avx_vnni", 170), ("avx512_vnni", 120)]),
    ("q4_k_dequantize", &[("scalar", 1650), ("avx2_fma", 258)]),
    ("q6_k_dot", &[("scalar", 2100), ("avx2_fma", 137), ("avx_vnni", 130), ("avx512_vnni", 120)]),
    ("q6_k_gemv", &[("scalar", 2100), ("avx2_fma", 206), ("avx_vnni", 205), ("avx512_vnni", 141)]),
    ("q6_k_dequantize", &[("scalar", 1350), ("avx2_fma", 266)]),
];

/// Blocks of 256 weights have constants that the compiler loads before the loop: indices of scales, and which bits of
/// their codes are where.
#[rustfmt::skip]
const EXCEPTIONS: &[Exception] = &[
    ("q4_k_dot_avx2_fma", Stack, "3 constants are loaded from the stack, where they might as well be"),
    ("q4_k_dot_avx_vnni", Stack, "3 constants"),
    ("q4_k_gemv_avx2_fma", Stack, "what 8 rows share of the activations, their places and their sums"),
    ("q4_k_gemv_avx_vnni", Stack, "the same"),
    ("q4_k_gemv_avx512_vnni", Stack, "the same"),
    ("q4_k_gemv_avx512_vbmi", Stack, "the same"),
    ("q4_k_dequantize_avx2_fma", Stack, "3 masks"),
    ("q6_k_dot_avx2_fma", Stack, "4 indices"),
    ("q6_k_dot_avx_vnni", Stack, "4 indices"),
    ("q6_k_gemv_avx2_fma", Stack, "the same"),
    ("q6_k_gemv_avx_vnni", Stack, "the same"),
    ("q6_k_gemv_avx512_vnni", Stack, "the same"),
    ("q6_k_gemv_avx512_vbmi", Stack, "the same"),
    ("q6_k_dequantize_avx2_fma", Stack, "4 indices"),
];

#[test]
fn loops() {
    let cells = assembly::cells(&REVIEWED).unwrap_or_else(|error| panic!("{error}"));
    assert_snapshots!("../assembly", cells.iter().map(|cell| (cell.name(), cell)));
}

#[test]
fn invariants() {
    let cells = assembly::cells(&REVIEWED).unwrap_or_else(|error| panic!("{error}"));
    assembly::assert_invariants(&cells, CEILINGS, EXCEPTIONS);
}
