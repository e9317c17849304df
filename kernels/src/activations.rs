//! Activations quantized to 8 bits: 32 share one scale.

use crate::{Isa, ShapeError, Supported};

/// 32 activations: `x[i] ≈ scale * q[i]`. One cache line.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub struct ActivationBlock {
    /// Codes from -127 to 127.
    pub q: [i8; 32],
    /// Sums of four codes each: what a weight of 1 adds to each lane of a dot product. Kernels take
    /// zero points and minima from here.
    pub sums: [i16; 8],
    /// The largest magnitude, over 127.
    pub scale: f32,
}

impl ActivationBlock {
    /// Activations per block.
    pub const LEN: usize = 32;

    /// 32 activations of 0.
    pub const ZERO: Self = Self { q: [0; 32], sums: [0; 8], scale: 0.0 };
}

/// Quantizes activations, 32 to a block: scale = max |x| / 127, q = round(x / scale), ties to even.
///
/// A block with an infinity or NaN has a scale that is not finite, and so have all products with it.
///
/// # Errors
/// `x.len()` is not `32 * blocks.len()`.
pub fn quantize_activations(
    isa: Supported,
    x: &[f32],
    blocks: &mut [ActivationBlock],
) -> Result<(), ShapeError> {
    if x.len() != ActivationBlock::LEN * blocks.len() {
        return Err(ShapeError {
            format: "activations",
            operation: "quantize",
            what: "x",
            actual: x.len(),
            expected: ActivationBlock::LEN * blocks.len(),
        });
    }
    let (x, _) = x.as_chunks();
    match isa.isa() {
        Isa::Scalar => x.iter().zip(blocks).for_each(|(x, block)| *block = scalar(x)),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2Fma | Isa::AvxVnni | Isa::Avx512Vnni => {
            // SAFETY: `isa` proves that the CPU has one of these, and each includes AVX2.
            unsafe { avx2(x, blocks) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        _ => unreachable!("no other instruction set is supported on this architecture"),
    }
    Ok(())
}

/// The scale, and the factor that undoes it: 0 where there is nothing to scale.
#[inline]
fn scale_of(max: f32) -> (f32, f32) {
    let inverse = 127.0 / max;
    // Below 127 / f32::MAX the inverse overflows: such a block rounds to zeros.
    if inverse.is_infinite() { (0.0, 0.0) } else { (max / 127.0, inverse) }
}

fn scalar(x: &[f32; 32]) -> ActivationBlock {
    // Magnitudes order like their bits, and NaN above all: an integer maximum keeps it.
    let max = x.iter().map(|x| x.abs().to_bits()).max().unwrap_or(0);
    let (scale, inverse) = scale_of(f32::from_bits(max));
    let q: [i8; 32] = x.map(|x| (x * inverse).round_ties_even() as i8);
    let sums = core::array::from_fn(|lane| q[4 * lane..4 * lane + 4].iter().map(|&q| i16::from(q)).sum());
    ActivationBlock { q, sums, scale }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(x: &[[f32; 32]], blocks: &mut [ActivationBlock]) {
    use core::arch::x86_64::*;

    use crate::x86;

    let absolute = _mm256_castsi256_ps(_mm256_set1_epi32(i32::MAX));
    for (x, block) in x.iter().zip(blocks) {
        let (eights, _) = x.as_chunks::<8>();
        let mut v = [_mm256_setzero_ps(); 4];
        for i in 0..4 {
            v[i] = x86::load(&eights[i]);
        }
        // An integer maximum, as in `scalar`.
        let magnitude = |v| _mm256_castps_si256(_mm256_and_ps(v, absolute));
        let max = _mm256_max_epi32(
            _mm256_max_epi32(magnitude(v[0]), magnitude(v[1])),
            _mm256_max_epi32(magnitude(v[2]), magnitude(v[3])),
        );
        let max = _mm_max_epi32(_mm256_castsi256_si128(max), _mm256_extracti128_si256::<1>(max));
        let max = _mm_max_epi32(max, _mm_shuffle_epi32::<0b01_00_11_10>(max));
        let max = _mm_max_epi32(max, _mm_shuffle_epi32::<0b10_11_00_01>(max));
        let (scale, inverse) = scale_of(f32::from_bits(_mm_cvtsi128_si32(max) as u32));
        let inverse = _mm256_set1_ps(inverse);
        let mut q = [_mm256_setzero_si256(); 4];
        for i in 0..4 {
            q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
        }
        // The packs interleave 128-bit halves; the permutation puts groups of four back in order.
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
        let bytes = _mm256_permutevar8x32_epi32(bytes, order);
        let sums = _mm256_madd_epi16(
            _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes),
            _mm256_set1_epi16(1),
        );
        let sums = _mm_packs_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
        x86::store_bytes(&mut block.q, bytes);
        x86::store_lane_sums(&mut block.sums, sums);
        block.scale = scale;
    }
}
