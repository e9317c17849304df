//! Every kernel's loop is as it was reviewed, and what must hold of it holds.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use quantloom_kernels::FORMATS;
use quantloom_snapshots::assembly::{self, Ceiling};
use quantloom_snapshots::assert_snapshots;

/// Instructions per block, as they are, rounded up: a loop that grows by one for each block is a change that this
/// table must grant. With more than one row in an iteration the overhead is shared, and `gemv` is below `dot`.
///
/// Of Q6_K a block is 256 weights, of the others 32. Scalar dot products are counted by the iteration, 4, 2, 4 and 1
/// rows of them in `gemv`; they have some room for the compiler's own choice of vectors.
#[rustfmt::skip]
const CEILINGS: &[Ceiling] = &[
    //                  scalar, avx2_fma, avx_vnni, avx512_vnni
    ("q4_0_dot",        &[ 270,  20,  19,  19]),
    ("q4_0_gemv",       &[ 290,  14,  13,  13]),
    ("q4_0_dequantize", &[ 125,  32,  32,  32]),
    ("q4_1_dot",        &[ 290,  24,  24,  24]),
    ("q4_1_gemv",       &[ 350,  20,  20,  17]),
    ("q4_1_dequantize", &[ 135,  34,  34,  34]),
    ("q8_0_dot",        &[ 230,  18,  17,  17]),
    ("q8_0_gemv",       &[ 230,  13,  11,  11]),
    ("q8_0_dequantize", &[  95,  24,  24,  24]),
    ("q6_k_dot",        &[2100, 152, 144, 136]),
    ("q6_k_gemv",       &[2100, 152, 144, 113]),
    ("q6_k_dequantize", &[1350, 266, 266, 258]),
];

#[test]
fn loops() {
    let cells = assembly::cells(FORMATS).unwrap_or_else(|error| panic!("{error}"));
    assert_snapshots!("../assembly", cells.iter().map(|cell| (cell.name(), cell)));
}

#[test]
fn invariants() {
    let cells = assembly::cells(FORMATS).unwrap_or_else(|error| panic!("{error}"));
    assembly::assert_invariants(&cells, CEILINGS, &[]);
}
