//! APoT, 5 bits: "Additive Powers-of-Two Quantization: An Efficient Non-uniform Discretization for Neural
//! Networks", Yuhang Li, Xin Dong, Wei Wang, 2020.
//!
//! A magnitude is the sum of two powers of two, each chosen by 2 bits from four of which one is 0 instead,
//! and so chosen that no two sums are equal. The factor 1 / 1.5 makes the largest magnitude alpha.
//!
//!   w = alpha / 1.5 · (± (P0[a] + P1[b])),  P0 = 0, 1, 1/4, 1/16,  P1 = 0, 1/2, 1/8, 1/32
//!
//! Block: 32 weights in 20 bytes. Bytes 0 to 15: weight 2i in the low nibble of byte i, weight 2i + 1 in its
//! high one; a in the nibble's low two bits, b in its high two. Bytes 16 to 19: the sign of weight 8j + k in
//! bit k of byte 16 + j, 1 for minus.
//! Beside the tensor: alpha, an f32.
//!
//! The paper normalizes weights to mean 0 and variance 1 before they are quantized, and computes with the
//! normalized ones, whose weights these are. It leaves codes and storage open: the order of the tables and
//! the layout are choices made here.

quantloom_kernels::quant_format! {
    /// A sign and a sum of two powers of two.
    pub block APoT5[32] {
        tensor { alpha: f32, }
        ab: [u8; 16],
        sign: [u8; 4],

        table P0 = [0, 1, 0.25, 0.0625];
        table P1 = [0, 0.5, 0.125, 0.03125];
        a[i: 16, h: 2] = ab[i] >> 4 * h & 3;
        b[i: 16, h: 2] = ab[i] >> (4 * h + 2) & 3;
        w = alpha / 1.5 * signs(sign) * (P0[a] + P1[b]);
    }
}

/// The weights of a row, by the layout above.
pub fn weights(row: &[u8], count: usize, tensor: &[u8]) -> Vec<f32> {
    let alpha = f32_at(tensor);
    (0..count)
        .map(|e| {
            let block = &row[e / 32 * 20..][..20];
            let e = e % 32;
            let nibble = block[e / 2] >> (4 * (e % 2)) & 15;
            let (a, b) = (nibble & 3, nibble >> 2);
            let first = if a == 0 { 0.0 } else { 0.25f32.powi(i32::from(a) - 1) };
            let second = if b == 0 { 0.0 } else { 0.5 * 0.25f32.powi(i32::from(b) - 1) };
            let magnitude = alpha / 1.5 * (first + second);
            if block[16 + e / 8] >> (e % 8) & 1 == 1 { -magnitude } else { magnitude }
        })
        .collect()
}

/// The number that four bytes hold.
fn f32_at(bytes: &[u8]) -> f32 {
    f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
