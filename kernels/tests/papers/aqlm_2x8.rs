//! AQLM, 2×8: "Extreme Compression of Large Language Models via Additive Quantization", Vage Egiazarian,
//! Andrei Panferov, Denis Kuznedelev, Elias Frantar, Artem Babenko, Dan Alistarh, 2024.
//!
//! Eight weights are the sum of two vectors, each chosen by 8 bits from a codebook of its own that was
//! learned for the matrix, times a scale of the output.
//!
//!   w[8·i + k] = s · (A[a[i]][k] + B[b[i]][k])
//!
//! Block: 32 weights in 8 bytes, for each eight weights first a, then b.
//! Before the blocks of a row: s, an f16.
//! Beside the tensor: A, then B, 256 entries of eight f16 each: 8192 bytes.
//!
//! The published checkpoints hold the same three parts (codes, scales, codebooks) as tensors of their own,
//! and codes are signed bytes there, to be read modulo 256. The row's scale before its codes is a choice made
//! here.

quantloom_kernels::quant_format! {
    /// 2 bits: eight weights are the sum of two learned vectors.
    pub block Aqlm2x8[32] {
        tensor {
            A: [[f16; 8]; 256],
            B: [[f16; 8]; 256],
        }
        row { s: f16, }
        qs: [u8; 8],

        a[i: 4] = qs[2 * i];
        b[i: 4] = qs[2 * i + 1];
        w = s * (A[a] + B[b]);
    }
}

/// The weights of a row, by the layout above.
pub fn weights(row: &[u8], count: usize, tensor: &[u8]) -> Vec<f32> {
    let (s, codes) = (f16(row), &row[2..]);
    let (first, second) = tensor.split_at(4096);
    (0..count)
        .map(|e| {
            let a = usize::from(codes[e / 8 * 2]);
            let b = usize::from(codes[e / 8 * 2 + 1]);
            s * (f16(&first[2 * (8 * a + e % 8)..]) + f16(&second[2 * (8 * b + e % 8)..]))
        })
        .collect()
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
