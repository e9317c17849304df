//! OliVe, 4 bits: "OliVe: Accelerating Large Language Models via Hardware-friendly Outlier-Victim Pair
//! Quantization", Cong Guo, Jiaming Tang, Weiming Hu, Jingwen Leng, Chen Zhang, Fan Yang, Yunxin Liu, Minyi
//! Guo, Yuhao Zhu, 2023.
//!
//! Two neighbours share a byte. Both are integers from −7 to 7, unless one of their codes is 8, which would
//! be −8: then this weight is the victim, 0, and the code of the other is an outlier, a float of 4 bits: a
//! sign (bit 3), two bits of exponent e and one of mantissa m, of magnitude (2 + m) · 2^(e + 2): 12, 16, 24,
//! 32, 48, 64 or 96. Magnitude bits of 000 are not used for outliers; read, they are 0 here. So are two codes
//! of 8.
//!
//!   w = d · (what the pair of codes says)
//!
//! Block: 32 weights in 16 bytes; weight 2i is the low nibble of byte i, weight 2i + 1 its high nibble.
//! Before the blocks of a row: d, an f32.
//!
//! The paper chooses between integers and another type, flint, for normal values; these are integers, with
//! the bias of 2 that goes with them. Which nibble comes first, and where d stands, is open; both are choices
//! made here.

/// The two weights of each byte.
const fn pairs() -> [[i8; 2]; 256] {
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (low, high) = (byte as i8 & 15, (byte >> 4) as i8);
        pairs[byte] = match (low, high) {
            (8, code) => [0, outlier(code)],
            (code, 8) => [outlier(code), 0],
            _ => [normal(low), normal(high)],
        };
        byte += 1;
    }
    pairs
}

const fn normal(code: i8) -> i8 {
    if code < 8 { code } else { code - 16 }
}

const fn outlier(code: i8) -> i8 {
    let magnitude = if code & 7 == 0 { 0 } else { (2 + (code & 1)) << ((code >> 1 & 3) + 2) };
    if code & 8 == 0 { magnitude } else { -magnitude }
}

quantloom_kernels::quant_format! {
    /// 4 bits; of two neighbours one may be an outlier, which uses the other's code to say so.
    pub block Olive4[32] {
        row { d: f32, }
        qs: [u8; 16],

        codebook PAIRS: [[i8; 2]; 256] = pairs();
        w = d * PAIRS[qs];
    }
}

/// The weights of a row, by the layout above.
pub fn weights(row: &[u8], count: usize) -> Vec<f32> {
    let d = f32_at(row);
    (0..count)
        .map(|e| {
            let byte = row[4 + e / 2];
            let (own, other) = if e % 2 == 0 { (byte & 15, byte >> 4) } else { (byte >> 4, byte & 15) };
            let value = if own == 8 {
                0.0
            } else if other == 8 {
                let (sign, exponent, mantissa) = (own >> 3, own >> 1 & 3, own & 1);
                let magnitude = match (exponent, mantissa) {
                    (0, 0) => 0.0,
                    _ => (2.0 + f32::from(mantissa)) * 2f32.powi(i32::from(exponent) + 2),
                };
                if sign == 1 { -magnitude } else { magnitude }
            } else if own < 8 {
                f32::from(own)
            } else {
                f32::from(own) - 16.0
            };
            d * value
        })
        .collect()
}

/// The number that four bytes hold.
fn f32_at(bytes: &[u8]) -> f32 {
    f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
