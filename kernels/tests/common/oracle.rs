//! What the tests of dot products share: random blocks, activations, exact sums and the bound on the
//! distance from them. Nothing here knows the macros.

use quantloom_kernels::{ActivationBlock, Format, Supported, f16, quantize_activations};

/// One weight, exactly: scale · code + minimum.
pub struct Weight {
    /// The product of its scales.
    pub scale: f64,
    /// The code, its zero point taken off, or what a table has for it.
    pub code: i32,
    /// What is added.
    pub minimum: f64,
}

/// A format's layout by hand: the weights of one block.
pub type Oracle = fn(&[u8]) -> Vec<Weight>;

/// The f16 at the start of `bytes`.
pub fn half(bytes: &[u8]) -> f64 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f64()
}

/// Blocks with random codes; the f16 at each of `scales` are random up to a magnitude of `scale`.
pub fn random_blocks(format: &Format, scales: &[usize], blocks: usize, seed: u64, scale: f32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
    };
    let mut bytes: Vec<u8> = (0..blocks * format.block_bytes).map(|_| next() as u8).collect();
    for block in bytes.chunks_exact_mut(format.block_bytes) {
        for &offset in scales {
            let value = scale * (next() as f32 / (1_u64 << 31) as f32 - 1.0);
            block[offset..offset + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
        }
    }
    bytes
}

/// Activations of many magnitudes.
pub fn ramp(n: usize, seed: u64) -> Vec<f32> {
    (0..n).map(|i| ((i as f64 + seed as f64) * 0.7391).sin() as f32 * (1.0 + (i % 7) as f32)).collect()
}

/// `x` in blocks.
pub fn activations(isa: Supported, x: &[f32]) -> Vec<ActivationBlock> {
    let mut blocks = vec![ActivationBlock::ZERO; x.len() / 32];
    quantize_activations(isa, x, &mut blocks).unwrap();
    blocks
}

/// The exact dot product of a row and quantized activations, and the sum of the magnitudes of its terms.
pub fn exact(format: &Format, oracle: Oracle, row: &[u8], a: &[ActivationBlock]) -> (f64, f64) {
    let weights = row.chunks_exact(format.block_bytes).flat_map(oracle);
    let x = a.iter().flat_map(|a| (0..32).map(|i| f64::from(a.q[i]) * a.scales[i / 4].to_f64()));
    let (mut sum, mut magnitude) = (0.0, 0.0);
    for (w, x) in weights.zip(x) {
        sum += (w.scale * f64::from(w.code) + w.minimum) * x;
        // Product and minimum are added up one after the other: both round.
        magnitude += ((w.scale * f64::from(w.code)).abs() + w.minimum.abs()) * x.abs();
    }
    (sum, magnitude)
}

/// |y - y*| ≤ c · ε · Σ|w·x|. Integer sums are exact, so what rounds is, per chunk: two or three products
/// of scales, one fused multiply-add (or two) into one of eight partial sums, and their final tree of
/// three additions. With n chunks a partial sum rounds n (with a minimum 2n) times, each time by at most
/// ε/2 of what has been summed so far: c = 2n + 8 covers it.
pub fn check_close(cell: &str, y: f32, (exact, magnitude): (f64, f64), chunks: usize) {
    let bound = (2 * chunks + 8) as f64 * f64::from(f32::EPSILON) * magnitude + f64::from(f32::MIN_POSITIVE);
    let distance = (f64::from(y) - exact).abs();
    assert!(distance <= bound, "{cell}: {y} is {distance:e} from {exact}, more than {bound:e}");
}

/// Dequantized weights are the formula in f32: each step rounds, as ggml's does. The product of the
/// scales is exact in f64, and in f32 too.
pub fn check_dequantize(format: &'static Format, oracle: Oracle, scales: &[usize]) {
    for isa in Supported::all() {
        for blocks in [1, 2, 7] {
            let bytes = random_blocks(format, scales, blocks, blocks as u64, 0.02);
            let mut weights = vec![f32::NAN; blocks * format.block_len];
            format.kernels(isa).dequantize(&bytes, &mut weights).unwrap();
            let expected = bytes.chunks_exact(format.block_bytes).flat_map(oracle);
            for (e, (w, expected)) in weights.iter().zip(expected).enumerate() {
                let y = (expected.scale as f32) * expected.code as f32 + expected.minimum as f32;
                assert_eq!(*w, y, "{}_dequantize_{} weight {e}", format.name, isa.isa());
            }
        }
    }
}

/// `gemv` lies within the bound of the exact product, and `dot` of each row gives the same to the bit.
pub fn check_gemv(format: &'static Format, oracle: Oracle, scales: &[usize], shapes: &[(usize, usize)]) {
    for isa in Supported::all() {
        let kernels = format.kernels(isa);
        for &(rows, blocks) in shapes {
            let a = activations(isa, &ramp(blocks * format.block_len, blocks as u64));
            let matrix = random_blocks(format, scales, rows * blocks, (rows * 100 + blocks) as u64, 0.05);
            let mut y = vec![f32::NAN; rows];
            kernels.gemv(&matrix, &a, &mut y).unwrap();
            for (r, row) in matrix.chunks_exact(blocks * format.block_bytes).enumerate() {
                let cell = format!("{}_gemv_{} row {r} of {rows}, {blocks} blocks", format.name, isa.isa());
                check_close(&cell, y[r], exact(format, oracle, row, &a), a.len());
                assert_eq!(kernels.dot(row, &a).unwrap(), y[r], "{cell}: dot and gemv differ");
            }
        }
    }
}
