//! LNS-Madam's weights, 8 bits: "LNS-Madam: Low-Precision Training in Logarithmic Number System using
//! Multiplicative Weight Update", Jiawei Zhao, Steve Dai, Rangharajan Venkatesan, Brian Zimmer, Mustafa Ali,
//! Ming-Yu Liu, Brucek Khailany, Bill Dally, Anima Anandkumar, 2021.
//!
//! A logarithmic number: a sign and 7 bits of a logarithm to the base 2, in steps of 1/8 (the paper's base
//! factor is 8). There is no zero.
//!
//!   w = s · (1 − 2 · n) · 2^(x / 8)
//!
//! Block: 32 weights in 32 bytes; n is bit 7 of a byte, 1 for minus, x its bits 0 to 6.
//! Before the blocks of a row: s, an f32.
//!
//! How many weights share s is a parameter there; here it is a row, which is to say one output. Where the
//! bits of a number lie is a choice made here. That x is unsigned, and s the smallest magnitude, is how the
//! paper's formulas are understood here; an implementation that stores logarithms with a sign differs from it
//! by a power of two in s.

quantloom_kernels::quant_format! {
    /// A sign and a logarithm.
    pub block LnsMadam8[32] {
        row { s: f32, }
        qs: [u8; 32],

        n[i: 32] = qs[i] >> 7;
        x[i: 32] = qs[i] & 127;
        w = s * (1 - 2 * n) * exp2(x / 8);
    }
}

/// The weights of a row, by the layout above.
pub fn weights(row: &[u8], count: usize) -> Vec<f32> {
    let s = f32_at(row);
    row[4..][..count]
        .iter()
        .map(|&byte| {
            let magnitude = (f64::from(byte & 127) / 8.0).exp2() as f32;
            s * if byte >> 7 == 1 { -magnitude } else { magnitude }
        })
        .collect()
}

/// The number that four bytes hold.
fn f32_at(bytes: &[u8]) -> f32 {
    f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
