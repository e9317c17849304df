//! SqueezeLLM, 3 bits, the dense part: "SqueezeLLM: Dense-and-Sparse Quantization", Sehoon Kim, Coleman
//! Hooper, Amir Gholami, Zhen Dong, Xiuyu Li, Sheng Shen, Michael W. Mahoney, Kurt Keutzer, 2023.
//!
//! Each row has a table of eight numbers of its own, found by weighted k-means, and weights are codes into
//! it.
//!
//!   w = lut[q]
//!
//! Block: 32 weights in 12 bytes, which are one little-endian number of 96 bits: weight i is bits 3i to 3i +
//! 2. These are the three words of 32 bits of the published code, in which weights 10 and 21 lie across two
//! words.
//! Before the blocks of a row: lut, eight f16.
//!
//! The published code holds words of a column of a transposed matrix one below the other, and tables as f32;
//! rows, and the f16 that the paper counts, are choices made here. The sparse part, a few outliers that are
//! added, is no part of this format.

quantloom_kernels::quant_format! {
    /// 3 bits that select from a table of the row.
    pub block SqueezeLlm3[32] {
        row { lut: [f16; 8], }
        qs: [u8; 12],

        q[i: 4, k: 8] = qs[3 * i] >> 3 * k & 7;
        w = lut[q];
    }
}

/// The weights of a row, by the layout above.
pub fn weights(row: &[u8], count: usize) -> Vec<f32> {
    let (lut, codes) = row.split_at(16);
    (0..count)
        .map(|e| {
            let mut q = 0;
            for k in 0..3 {
                let bit = 3 * e + k;
                q |= usize::from(codes[bit / 8] >> (bit % 8) & 1) << k;
            }
            f16(&lut[2 * q..])
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
