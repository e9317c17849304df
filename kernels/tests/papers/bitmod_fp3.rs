//! BitMoD, 3 bits: "BitMoD: Bit-serial Mixture-of-Datatype LLM Acceleration", Yuzong Chen, Ahmed F.
//! AbouElhamayed, Xilai Dai, Yang Wang, Marta Andronic, George A. Constantinides, Mohamed S. Abdelfattah,
//! 2024.
//!
//! A float of 3 bits has the values 0, ±1, ±2 and ±4, and a second zero, −0, that is of no use. Here its code
//! stands for a special value, which each group of 128 weights chooses from 3, −3, 6 and −6: two of them for
//! more resolution, two for more range on one side. A group has a scale of 8 bits, a row one that is a
//! number.
//!
//!   w = d · s · FP3[t][q]
//!
//! Block: 128 weights in 50 bytes. Byte 0: s, from 0 to 255. Byte 1: t in bits 0 and 1; the others are 0.
//! Bytes 2 to 49: q, weight i in bits 3i to 3i + 2 of one little-endian number. Bit 2 of q is the sign; its
//! low bits 0, 1, 2, 3 are 0, 1, 2, 4; q = 4 is the special value. t from 0 on: 3, −3, 6, −6.
//! Before the blocks of a row: d, an f16.
//!
//! The paper leaves all storage open, so that the layout, and the numbers of the special values, are choices
//! made here. The published code emulates the format with scales in f16; that scales of groups have 8 bits,
//! with a scale for each row, is from the paper's text, and it is not certain that they are meant to be
//! unsigned.

quantloom_kernels::quant_format! {
    /// Floats of 3 bits; each 128 weights choose what stands in the place of the second zero.
    pub block BitModFP3[128] {
        row { d: f16, }
        s: u8,
        sp: u8,
        qs: [u8; 48],

        table FP3: [[i8; 8]; 4] = [
            [0, 1, 2, 4, 3, -1, -2, -4],
            [0, 1, 2, 4, -3, -1, -2, -4],
            [0, 1, 2, 4, 6, -1, -2, -4],
            [0, 1, 2, 4, -6, -1, -2, -4],
        ];
        t = sp & 3;
        _t = sp >> 2;
        q[i: 16, k: 8] = qs[3 * i] >> 3 * k & 7;
        w = d * s * FP3[t][q];
    }
}

/// The weights of a row, by the layout above.
pub fn weights(row: &[u8], count: usize) -> Vec<f32> {
    let d = f16(row);
    (0..count)
        .map(|e| {
            let block = &row[2 + e / 128 * 50..][..50];
            let mut q = 0;
            for k in 0..3 {
                let bit = 3 * (e % 128) + k;
                q |= (block[2 + bit / 8] >> (bit % 8) & 1) << k;
            }
            let special = [3.0, -3.0, 6.0, -6.0][usize::from(block[1] & 3)];
            let magnitude = [0.0, 1.0, 2.0, 4.0][usize::from(q & 3)];
            let value = match q {
                4 => special,
                0..=3 => magnitude,
                _ => -magnitude,
            };
            d * f32::from(block[0]) * value
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
