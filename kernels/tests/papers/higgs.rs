//! HIGGS, 4 bits in two dimensions: "Pushing the Limits of Large Language Model Quantization via the
//! Linearity Theorem", Vladimir Malinovskii, Andrei Panferov, Ivan Ilin, Han Guo, Peter Richtárik, Dan
//! Alistarh, 2024.
//!
//! 1024 weights of a row are rotated by a Hadamard matrix, which makes them nearly normal, and scaled to
//! variance 1; then each two are one of 256 points that are best for a normal distribution. The weights are
//! the rotation of these points, as the matrix, divided by 32, is its own inverse.
//!
//!   w = 1/32 · H · v,  v[2·i + k] = d · GRID[c[i]][k],  H[i][j] = (−1)^(number of bits that are set in both i and j)
//!
//! Block: 1024 weights in 514 bytes. Bytes 0 and 1: d, an f16. Then c, a byte for each two weights.
//! Beside the tensor: GRID, 256 pairs of f16: 1024 bytes.
//!
//! In the published integration with transformers and FLUTE the rotation is done to the activations instead,
//! which is the same; codes are transposed and packed for the kernel, scales repeated for each 256 weights.
//! Later versions rotate shorter groups. Here: the order of the weights, one block for one rotation. The grid
//! is published, the same for all matrices; that it stands with the tensor is a choice made here.

quantloom_kernels::quant_format! {
    /// 4 bits: pairs of weights from a grid, rotated.
    pub block Higgs4[1024] {
        tensor { GRID: [[f16; 2]; 256], }
        d: f16,
        c: [u8; 512],

        w = 0.03125 * hadamard(d * GRID[c]);
    }
}

/// The weights of a row, by the layout above.
pub fn weights(row: &[u8], count: usize, tensor: &[u8]) -> Vec<f32> {
    let mut weights = Vec::new();
    for block in row.chunks_exact(514).take(count / 1024) {
        let d = f16(block);
        let points: Vec<f32> = (0..1024)
            .map(|j| {
                let c = usize::from(block[2 + j / 2]);
                d * f16(&tensor[2 * (2 * c + j % 2)..])
            })
            .collect();
        for i in 0..1024_usize {
            let mut sum = 0.0;
            for (j, &point) in points.iter().enumerate() {
                let odd = (i & j).count_ones() % 2 == 1;
                sum += f64::from(if odd { -point } else { point });
            }
            weights.push((sum / 32.0) as f32);
        }
    }
    weights
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
