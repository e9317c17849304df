//! HiFloat4, HiF4: "HiFloat4 Format for Language Model Inference", Yuanyong Luo, Jing Huang, Yu Cheng, Ziwei
//! Yu and others (Huawei), 2026.
//!
//! 64 weights share three levels of scales: a float of 8 bits for all, one bit for each 8 weights, and one
//! bit for each 4, which double them. A weight has 4 bits: a sign and a magnitude from 0 to 1.75 in quarters.
//!
//!   w = e6m2(e) · 2^(l + k) · (1 − 2 · n) · q / 4
//!
//! Block: 64 weights in 36 bytes. Byte 0: e, six bits of exponent with bias 48 above two of mantissa, without
//! a sign, a zero or subnormals: 2^(E − 48) · (1 + M / 4); 0xFF is NaN. Byte 1: l, weights 8i to 8i + 7 in
//! bit 7 − i. Bytes 2 and 3: k, weights 4j to 4j + 3 in bit 7 − j % 8 of byte 2 + j / 8. Bytes 4 to 35:
//! weight 2i in the low nibble of byte 4 + i, weight 2i + 1 in its high nibble; n is bit 3 of the nibble, 1
//! for minus, q its bits 0 to 2.
//!
//! Levels and values are the paper's. The bias, the code of NaN and the order of bits are those of Huawei's
//! published code, which has the four bytes of scales in a tensor of their own; it was not certain whether
//! the paper fixes them, too. That scales stand before the weights is a choice made here.

quantloom_kernels::quant_format! {
    /// 4 bits with three levels of scales: a float for 64 weights, and doublings for 8 and for 4.
    pub block HiF4[64] {
        e: e6m2,
        l8: u8,
        k4: [u8; 2],
        qs: [u8; 32],

        l[i: 8] = l8 >> (7 - i) & 1;
        k[i: 2, j: 8] = k4[i] >> (7 - j) & 1;
        n[i: 32, h: 2] = qs[i] >> (4 * h + 3) & 1;
        q[i: 32, h: 2] = qs[i] >> 4 * h & 7;
        w = e * exp2(l + k) * (1 - 2 * n) * 0.25 * q;
    }
}

/// The weights of a row, by the layout above.
pub fn weights(row: &[u8], count: usize) -> Vec<f32> {
    (0..count)
        .map(|e| {
            let block = &row[e / 64 * 36..][..36];
            let e = e % 64;
            let l = block[1] >> (7 - e / 8) & 1;
            let k = block[2 + e / 32] >> (7 - e / 4 % 8) & 1;
            let nibble = block[4 + e / 2] >> (4 * (e % 2)) & 15;
            let magnitude = e6m2(block[0]) * 2f32.powi(i32::from(l + k)) * f32::from(nibble & 7) / 4.0;
            if nibble >> 3 == 1 { -magnitude } else { magnitude }
        })
        .collect()
}

/// The number that a byte holds.
fn e6m2(byte: u8) -> f32 {
    match byte {
        0xFF => f32::NAN,
        _ => 2f32.powi(i32::from(byte >> 2) - 48) * (1.0 + f32::from(byte & 3) / 4.0),
    }
}
