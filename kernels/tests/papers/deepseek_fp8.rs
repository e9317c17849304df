//! DeepSeek's FP8 weights: "DeepSeek-V3 Technical Report", DeepSeek-AI, 2024, and its published checkpoints.
//!
//! A weight is a float of 8 bits, e4m3: a sign, four bits of exponent with bias 7, three of mantissa;
//! exponent 0 is subnormal, 0x7F and 0xFF are NaN, and there are no infinities, so that the largest is 448.
//! Each square of 128 rows and 128 columns has a scale.
//!
//!   w = s · e4m3
//!
//! Block: 128 weights in 128 bytes.
//! Beside the tensor, for each tile of 128 rows and 128 columns: s, an f32. Tiles follow each other along the
//! columns, then down the rows; the last ones of a matrix may have fewer rows.
//!
//! These are the two tensors of a checkpoint, `weight` and `weight_scale_inv`, which despite its name is
//! multiplied. That columns are a whole number of 128 is a choice made here; the checkpoints' matrices have
//! it so.

quantloom_kernels::quant_format! {
    /// Floats of 8 bits; squares of 128 × 128 weights share a scale.
    pub block DeepSeekFP8[128] {
        tile[128, 128] { s: f32, }
        qs: [e4m3; 128],

        w = s * qs;
    }
}

/// The weights of a row, by the layout above. `tiles` are those that the row goes through.
pub fn weights(row: &[u8], count: usize, tiles: &[u8]) -> Vec<f32> {
    (0..count).map(|e| f32_at(&tiles[e / 128 * 4..]) * e4m3(row[e])).collect()
}

/// The number that a byte holds.
fn e4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    let magnitude = match exponent {
        0 => mantissa / 8.0 * 2f32.powi(-6),
        15 if mantissa == 7.0 => f32::NAN,
        _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
    };
    if byte >> 7 == 1 { -magnitude } else { magnitude }
}

/// The number that four bytes hold.
fn f32_at(bytes: &[u8]) -> f32 {
    f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
