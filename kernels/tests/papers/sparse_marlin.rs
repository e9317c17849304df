//! Sparse-MARLIN, 4 bits with 2:4 sparsity: "MARLIN: Mixed-Precision Auto-Regressive Parallel Inference on
//! Large Language Models", Elias Frantar, Roberto L. Castro, Jiale Chen, Torsten Hoefler, Dan Alistarh, 2024.
//!
//! Of four consecutive weights of a row two are 0. The other two have codes of 4 bits, symmetric about 8, and
//! two bits each for where they are, as GPUs' sparse tensor cores want it. Groups of 128 weights share a
//! scale.
//!
//!   w[4·g + p[g][j]] = d · (q[g][j] − 8),  j = 0, 1;  all others are 0
//!
//! Block: 128 weights in 50 bytes. Bytes 0 and 1: d, an f16. Bytes 2 to 17: p of the 32 groups of four, group
//! 2i in the low nibble of byte 2 + i, group 2i + 1 in its high one; the first place in the low two bits of
//! the nibble, the second in the high two. Bytes 18 to 49: q, a byte for each group of four, the first in the
//! low nibble, the second in the high one.
//!
//! An encoder writes two different places, the lower one first. Where both are the same, what they say is
//! added.
//!
//! The published code orders codes, places and scales for the registers of a GPU's threads, in tensors of
//! their own; here all is in the order of the weights and in one block.

quantloom_kernels::quant_format! {
    /// 4 bits for two of four weights, and two bits for where each is; the others are 0.
    pub block SparseMarlin4[128] {
        d: f16,
        meta: [u8; 16],
        qs: [u8; 32],

        p[i: 16, h: 2, j: 2] = meta[i] >> (4 * h + 2 * j) & 3;
        q[i: 16, h: 2, j: 2] = qs[2 * i + h] >> 4 * j & 15;
        w[8 * i + 4 * h + p] += d * (q - 8);
    }
}

/// The weights of a row, by the layout above.
pub fn weights(row: &[u8], count: usize) -> Vec<f32> {
    let mut weights = vec![0.0; count];
    for (four, weights) in weights.chunks_exact_mut(4).enumerate() {
        let block = &row[four / 32 * 50..][..50];
        let four = four % 32;
        let d = f16(block);
        let places = block[2 + four / 2] >> (4 * (four % 2)) & 15;
        let codes = block[18 + four];
        weights[usize::from(places & 3)] += d * (f32::from(codes & 15) - 8.0);
        weights[usize::from(places >> 2)] += d * (f32::from(codes >> 4) - 8.0);
    }
    weights
}

/// The number that two bytes hold.
fn f16(bytes: &[u8]) -> f32 {
    let bits = u16::from_le_bytes([bytes[0], bytes[1]]);
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + fraction) * 2f32.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}
