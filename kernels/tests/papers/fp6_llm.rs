//! FP6-LLM: "FP6-LLM: Efficiently Serving Large Language Models Through FP6-Centric Algorithm-System
//! Co-Design", Haojun Xia, Zhen Zheng, Xiaoxia Wu, Shiyang Chen, Zhewei Yao, Stephen Youn, Arash Bakhtiari,
//! Michael Wyatt, Donglin Zhuang, Zhongzhu Zhou, Olatunji Ruwase, Yuxiong He, Shuaiwen Leon Song, 2024.
//!
//! A weight is a float of 6 bits, e3m2: a sign, three bits of exponent with bias 3, two of mantissa; exponent
//! 0 is subnormal, and there are neither infinities nor NaNs, so that the largest is 28. Its two high bits
//! (sign and highest bit of the exponent) and its four low bits are stored apart. Each row has a scale.
//!
//!   w = s · e3m2(x)
//!
//! Block: 32 weights in 24 bytes. Bytes 0 to 7: two high bits of four weights each, weight 4a + j in bits 2j
//! and 2j + 1 of byte a. Bytes 8 to 23: four low bits, weight 2b in the low nibble of byte 8 + b, weight 2b +
//! 1 in its high one.
//! Before the blocks of a row: s, an f16.
//!
//! The published code stores all high bits of a matrix before all low bits, and orders both for the registers
//! of a GPU's threads. The split is the paper's; blocks and the order in them are choices made here.

quantloom_kernels::quant_format! {
    /// Floats of 6 bits in two planes; each row has a scale.
    pub block Fp6Llm[32] {
        row { s: f16, }
        qh: [u8; 8],
        ql: [u8; 16],

        x[a: 8, b: 2, c: 2] = ql[2 * a + b] >> 4 * c & 15 | (qh[a] >> (4 * b + 2 * c) & 3) << 4;
        w = s * e3m2(x);
    }
}

/// The weights of a row, by the layout above.
pub fn weights(row: &[u8], count: usize) -> Vec<f32> {
    let s = f16(row);
    (0..count)
        .map(|e| {
            let block = &row[2 + e / 32 * 24..][..24];
            let e = e % 32;
            let high = block[e / 4] >> (2 * (e % 4)) & 3;
            let low = block[8 + e / 2] >> (4 * (e % 2)) & 15;
            s * e3m2(16 * high + low)
        })
        .collect()
}

/// The number that a code of 6 bits stands for.
fn e3m2(code: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(code >> 2 & 7), f32::from(code & 3));
    let magnitude = match exponent {
        0 => mantissa / 4.0 * 2f32.powi(-2),
        _ => (1.0 + mantissa / 4.0) * 2f32.powi(exponent - 3),
    };
    if code >> 5 == 1 { -magnitude } else { magnitude }
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
