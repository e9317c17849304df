//! OneBit: "OneBit: Towards Extremely Low-bit Large Language Models", Yuzhuang Xu, Xu Han, Zonghan Yang, Shuo
//! Wang, Qingfu Zhu, Zhiyuan Liu, Weidong Liu, Wanxiang Che, 2024.
//!
//! A matrix of signs between two vectors: one number for each row, and one for each column.
//!
//!   w[i][j] = r[i] · c[j] · (1 − 2 · n[i][j])
//!
//! Block: 32 weights in 4 bytes; weight 8j + k is bit k of byte j, 1 for minus, as in the published code.
//! Before the blocks of a row: r, an f16.
//! Beside the tensor: c, an f16 for each column.
//!
//! The published code has both vectors as tensors of their own; that a row begins with its number is a choice
//! made here. It normalizes what a layer gives afterwards, which is no part of this format.

quantloom_kernels::quant_format! {
    /// A sign; each row and each column has a scale.
    pub block OneBit[32] {
        column { c: f16, }
        row { r: f16, }
        qs: [u8; 4],

        n[j: 4, k: 8] = qs[j] >> k & 1;
        w = r * c * (1 - 2 * n);
    }
}

/// The weights of a row, by the layout above.
pub fn weights(row: &[u8], count: usize, columns: &[u8]) -> Vec<f32> {
    let r = f16(row);
    (0..count)
        .map(|e| {
            let magnitude = r * f16(&columns[2 * e..]);
            if row[2 + e / 8] >> (e % 8) & 1 == 1 { -magnitude } else { magnitude }
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
