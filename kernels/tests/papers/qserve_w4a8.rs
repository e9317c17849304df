//! QServe's weights, 4 bits by way of 8: "QServe: W4A8KV4 Quantization and System Co-design for Efficient LLM
//! Serving", Yujun Lin, Haotian Tang, Shang Yang, Zhekai Zhang, Guangxuan Xiao, Chuang Gan, Song Han, 2024.
//!
//! Progressive: a row is quantized to signed bytes with one scale, and each 128 of these bytes to 4 bits with
//! a scale and a zero point that are integers, so that a GPU needs no floats before the product of the row is
//! complete.
//!
//!   w = s0 · (s1 · (q − z))
//!
//! Block: 128 weights in 66 bytes. Byte 0: s1. Byte 1: z, from 0 to 15 (any byte is read as the number that
//! it is). Bytes 2 to 65: q, weight 2i in the low nibble of byte 2 + i, weight 2i + 1 in its high nibble.
//! What the encoder writes has s1 · (q − z) between −128 and 127.
//! Before the blocks of a row: s0, an f16.
//!
//! The published code stores −z · s1 instead of z, modulo 256, and orders everything for tiles of 32 × 32;
//! here: the paper's formula, and the order of the weights.

quantloom_kernels::quant_format! {
    /// 4 bits with a zero point; each 128 weights share an integer scale, each row a scale that is a number.
    pub block QServeW4[128] {
        row { s0: f16, }
        s1: u8,
        z: u8,
        qs: [u8; 64],

        q[i: 64, h: 2] = qs[i] >> 4 * h & 15;
        w = s0 * s1 * (q - z);
    }
}

/// The weights of a row, by the layout above.
pub fn weights(row: &[u8], count: usize) -> Vec<f32> {
    let s0 = f16(row);
    (0..count)
        .map(|e| {
            let block = &row[2 + e / 128 * 66..][..66];
            let q = block[2 + e % 128 / 2] >> (4 * (e % 2)) & 15;
            let byte = i32::from(block[0]) * (i32::from(q) - i32::from(block[1]));
            s0 * byte as f32
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
