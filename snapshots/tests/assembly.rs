//! Every kernel's loop is as it was reviewed, and what must hold of it holds.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod reviewed;

use quantloom_snapshots::assembly::{self, Ceiling, Exception, Invariant::Stack};
use quantloom_snapshots::assert_snapshots;
use reviewed::REVIEWED;

/// Instructions per block, as they are, rounded up: a loop that grows by one for each block is a change that this
/// table must grant. With more than one row in an iteration the overhead is shared, and `gemv` is below `dot`.
///
/// Of Q6_K a block is 256 weights, of the others 32. Scalar dot products are counted by the iteration, 4, 2, 4 and 1
/// rows of them in `gemv`; they have some room for the compiler's own choice of vectors.
#[rustfmt::skip]
const CEILINGS: &[Ceiling] = &[
    ("q4_0_dot", &[("scalar", 270), ("avx2_fma", 20), ("avx_vnni", 19)]),
    ("q4_0_gemv", &[("scalar", 290), ("avx2_fma", 15), ("avx_vnni", 14)]),
    ("q4_0_dequantize", &[("scalar", 125), ("avx2_fma", 32)]),
    ("q4_1_dot", &[("scalar", 290), ("avx2_fma", 24)]),
    ("q4_1_gemv", &[("scalar", 350), ("avx2_fma", 20), ("avx512_vnni", 18)]),
    ("q4_1_dequantize", &[("scalar", 135), ("avx2_fma", 34)]),
    ("q8_0_dot", &[("scalar", 230), ("avx2_fma", 18), ("avx_vnni", 17)]),
    ("q8_0_gemv", &[("scalar", 230), ("avx2_fma", 13), ("avx_vnni", 12)]),
    ("q8_0_dequantize", &[("scalar", 95), ("avx2_fma", 24)]),
    ("mxfp4_dot", &[("scalar", 270), ("avx2_fma", 21), ("avx512_vnni", 20)]),
    ("mxfp4_gemv", &[("scalar", 380), ("avx2_fma", 16), ("avx512_vnni", 15)]),
    ("mxfp4_dequantize", &[("scalar", 250), ("avx2_fma", 29)]),
    ("q6_k_dot", &[("scalar", 2100), ("avx2_fma", 152), ("avx_vnni", 144), ("avx512_vnni", 136)]),
    ("q6_k_gemv", &[("scalar", 2100), ("avx2_fma", 152), ("avx_vnni", 144), ("avx512_vnni", 113)]),
    ("q6_k_dequantize", &[("scalar", 1350), ("avx2_fma", 266), ("avx512_vnni", 258)]),
];

/// Q6_K has eight places of group scales, whose indices the compiler loads before the loop.
#[rustfmt::skip]
const EXCEPTIONS: &[Exception] = &[
    ("q6_k_dot_avx2_fma", Stack, "4 indices are loaded from the stack, where they might as well be"),
    ("q6_k_dot_avx_vnni", Stack, "an index"),
    ("q6_k_gemv_avx2_fma", Stack, "4 indices"),
    ("q6_k_gemv_avx_vnni", Stack, "an index"),
    ("q6_k_gemv_avx512_vnni", Stack, "4 indices, and 4 of the 8 vectors of scales, stored and loaded once per 1024 weights"),
    ("q6_k_dequantize_avx2_fma", Stack, "4 indices"),
    ("q6_k_dequantize_avx_vnni", Stack, "4 indices"),
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
