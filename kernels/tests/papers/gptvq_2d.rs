//! GPTVQ in two dimensions, 2 bits: "GPTVQ: The Blessing of Dimensionality for LLM Quantization", Mart van
//! Baalen, Andrey Kuzmin, Markus Nagel, Peter Couperus, Cédric Bastoul, Eric Mahurin, Tijmen Blankevoort,
//! Paul Whatmough, 2024.
//!
//! Two neighbours of a row share a code of 4 bits, which selects one of 16 pairs. Each 2048 weights, 256
//! columns of 8 consecutive rows, have a codebook of their own, of signed bytes with one scale for all of it.
//!
//!   w[2·i + k] = c · C[q[i]][k]
//!
//! Block: 256 weights in 64 bytes; byte i has the codes of pairs 2i (low nibble) and 2i + 1 (high nibble).
//! Beside the tensor, for each tile of 8 rows and 256 columns: c, an f16, then C, 16 pairs of i8: 34 bytes.
//! Tiles follow each other along the columns, then down the rows.
//!
//! The paper leaves the order of bits, and where codebooks stand, open: both are choices made here, as is the
//! f16. The paper also has a variant in which smaller groups of weights are normalized by a logarithmic scale
//! of 4 bits first; it is left out here. 2 bits for the codes, 0.13 for the codebooks.

quantloom_kernels::quant_format! {
    /// 2 bits: pairs of weights from a small codebook that 8 rows of 256 columns share.
    pub block Gptvq2D[256] {
        tile[8, 256] {
            c: f16,
            C: [[i8; 2]; 16],
        }
        qs: [u8; 64],

        q[i: 64, h: 2] = qs[i] >> 4 * h & 15;
        w = c * C[q];
    }
}

/// The weights of a row, by the layout above. `tiles` are those that the row goes through.
pub fn weights(row: &[u8], count: usize, tiles: &[u8]) -> Vec<f32> {
    (0..count)
        .map(|e| {
            let tile = &tiles[e / 256 * 34..][..34];
            let pair = e / 2;
            let q = usize::from(row[pair / 2] >> (4 * (pair % 2)) & 15);
            f16(tile) * f32::from(tile[2 + 2 * q + e % 2] as i8)
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
