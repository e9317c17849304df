//! Formats out of papers that the language has by now: weights are those that are computed by hand beside each.

use quantloom_kernels::{BlockFormat, Supported};

#[path = "papers/spqr.rs"]
mod spqr;

#[test]
fn weights_are_those_by_hand() {
    let format = spqr::SpQr3::FORMAT;
    let mut state = 0x5EED_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    const BLOCKS: usize = 64;
    let mut row: Vec<u8> = (0..BLOCKS * format.block_bytes).map(|_| random()).collect();
    for block in row.chunks_exact_mut(format.block_bytes) {
        // Numbers from 1/4 to 4, of either sign.
        for number in block[..8].chunks_exact_mut(2) {
            number[1] = number[1] & 0x83 | (13 + (number[1] >> 4 & 3)) << 2;
        }
    }
    let expected = spqr::weights(&row, BLOCKS * format.block_len);
    for isa in Supported::all() {
        let mut weights = vec![0.0; expected.len()];
        format.kernels(isa).dequantize(&row, &mut weights).expect("as many weights as blocks hold");
        for (i, (weight, expected)) in weights.iter().zip(&expected).enumerate() {
            // A product and a minimum, each up to some 2,300, are rounded by themselves.
            assert!((weight - expected).abs() <= 1e-3, "{isa:?}, weight {i}: {weight}, by hand {expected}");
        }
    }
}
