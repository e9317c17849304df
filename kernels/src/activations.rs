//! Activations quantized to 8 bits: four share a scale.
//!
//! Four is what one 32-bit lane of a dot product sums. A lane is multiplied by the weights' scale in any
//! case, so a scale per lane costs the kernels nothing over one per block, and an outlier spoils the
//! precision of its three neighbours alone: on SmolLM2-135M logits come out several times closer to exact
//! ones than with a scale per 32.

use half::bf16;

use crate::{ShapeError, Supported};

/// 32 activations: `x[i] ≈ scales[i / 4] * q[i]`. One cache line.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub struct ActivationBlock {
    /// Codes from -127 to 127: some instructions multiply by the magnitude and the sign, and -128 has no magnitude in
    /// 8 bits.
    q: [i8; 32],
    /// Sums of four codes each: what a weight of 1 adds to each lane of a dot product. Kernels take
    /// zero points and minima from here.
    sums: [i16; 8],
    /// The largest magnitude of each four over 127, rounded up to a bf16.
    scales: [bf16; 8],
}

impl ActivationBlock {
    /// Activations per block.
    pub const LEN: usize = 32;

    /// 32 activations of 0.
    pub const ZERO: Self = Self { q: [0; 32], sums: [0; 8], scales: [bf16::ZERO; 8] };

    /// The block `x[i] = scales[i / 4] * q[i]`. `None` where a code is -128: kernels take codes from -127 to 127.
    pub fn new(q: [i8; 32], scales: [bf16; 8]) -> Option<Self> {
        if q.contains(&i8::MIN) {
            return None;
        }
        let mut sums = [0; 8];
        for (sum, four) in sums.iter_mut().zip(q.as_chunks::<4>().0) {
            *sum = four.iter().map(|&code| i16::from(code)).sum();
        }
        Some(Self { q, sums, scales })
    }

    /// The codes, from -127 to 127.
    #[inline(always)]
    pub const fn codes(&self) -> &[i8; 32] {
        &self.q
    }

    /// The sums of four codes each.
    #[inline(always)]
    pub const fn sums(&self) -> &[i16; 8] {
        &self.sums
    }

    /// The scales of four activations each.
    #[inline(always)]
    pub const fn scales(&self) -> &[bf16; 8] {
        &self.scales
    }
}

const _: () = assert!(size_of::<ActivationBlock>() == 64);

/// Quantizes activations, 32 to a block: for each four, scale = max |x| / 127 rounded up to a bf16 and
/// q = round(x / scale), ties to even.
///
/// Four that hold an infinity or NaN get a scale that is not finite, and so are all products with them.
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
        #[cfg(target_arch = "x86_64")]
        isa if isa.includes(crate::Isa::Avx2Fma) => {
            // SAFETY: that `isa` is supported proves that the CPU has AVX2.
            unsafe { avx2(x, blocks) }
        }
        _ => x.iter().zip(blocks).for_each(|(x, block)| *block = scalar(x)),
    }
    Ok(())
}

fn scalar(x: &[f32; 32]) -> ActivationBlock {
    let mut block = ActivationBlock::ZERO;
    for (lane, x) in x.as_chunks::<4>().0.iter().enumerate() {
        // Magnitudes order like their bits, and NaN above all: an integer maximum keeps it.
        let max = f32::from_bits(x.iter().map(|x| x.abs().to_bits()).max().unwrap_or(0));
        // Up to a bf16 by way of the bits. The maximum is for NaN, whose bits may overflow, and which comes
        // out of a division with either sign.
        let bits = (max / 127.0).abs().to_bits() as i32;
        let scale = f32::from_bits((bits.wrapping_add(0xFFFF).max(bits) & !0xFFFF) as u32);
        let inverse = 1.0 / scale;
        // Of 0, and of what is next to it, there is no inverse: such activations round to 0.
        let (scale, inverse) = if inverse.is_infinite() { (0.0, 0.0) } else { (scale, inverse) };
        let q = x.map(|x| (x * inverse).round_ties_even() as i8);
        block.q[4 * lane..4 * lane + 4].copy_from_slice(&q);
        block.sums[lane] = q.iter().map(|&q| i16::from(q)).sum();
        block.scales[lane] = bf16::from_bits((scale.to_bits() >> 16) as u16);
    }
    block
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(x: &[[f32; 32]], blocks: &mut [ActivationBlock]) {
    use core::arch::x86_64::*;

    use crate::x86;

    // The packs interleave 128-bit halves; this permutation puts groups of four back in order.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (x, block) in x.iter().zip(blocks) {
        let (eights, _) = x.as_chunks::<8>();
        let mut q = [_mm256_setzero_si256(); 4];
        let mut scales = [_mm256_setzero_si256(); 4];
        for i in 0..4 {
            // Step by step as in `scalar`, two lanes of four at a time.
            let x = x86::load(&eights[i]);
            let magnitude = _mm256_set1_epi32(i32::MAX);
            let max = _mm256_and_si256(_mm256_castps_si256(x), magnitude);
            let max = _mm256_max_epi32(max, _mm256_shuffle_epi32::<0b01_00_11_10>(max));
            let max = _mm256_max_epi32(max, _mm256_shuffle_epi32::<0b10_11_00_01>(max));
            let bits = _mm256_castps_si256(_mm256_div_ps(_mm256_castsi256_ps(max), _mm256_set1_ps(127.0)));
            let bits = _mm256_and_si256(bits, magnitude);
            let up = _mm256_max_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0xFFFF)), bits);
            let scale = _mm256_castsi256_ps(_mm256_and_si256(up, _mm256_set1_epi32(!0xFFFF)));
            let inverse = _mm256_div_ps(_mm256_set1_ps(1.0), scale);
            let usable = _mm256_cmp_ps::<_CMP_NEQ_UQ>(inverse, _mm256_set1_ps(f32::INFINITY));
            let inverse = _mm256_and_ps(inverse, usable);
            let scaled = _mm256_mul_ps(x, inverse);
            // NaN, which infinity gives too, becomes 0.
            q[i] = _mm256_cvtps_epi32(_mm256_and_ps(scaled, _mm256_cmp_ps::<_CMP_ORD_Q>(scaled, scaled)));
            scales[i] = _mm256_srli_epi32::<16>(_mm256_castps_si256(_mm256_and_ps(scale, usable)));
        }
        let bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
        let bytes = _mm256_permutevar8x32_epi32(bytes, order);
        let sums = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes), _mm256_set1_epi16(1));
        let mut stored = [0; 32];
        x86::store_256(&mut stored, bytes);
        block.q = stored.map(|byte| byte as i8);
        x86::store_i16(&mut block.sums, sums);
        // Every element of a lane has its scale: one of each four is enough.
        let pairs = _mm256_blend_epi32::<0b1010_1010>(scales[0], scales[1]);
        let other = _mm256_blend_epi32::<0b1010_1010>(scales[2], scales[3]);
        let eight = _mm256_blend_epi32::<0b1100_1100>(pairs, other);
        // Lanes 0, 2, 4, 6 in the lower half, 1, 3, 5, 7 in the upper.
        let mut bits = [0; 8];
        x86::store_i16(&mut bits, _mm256_permutevar8x32_epi32(eight, order));
        block.scales = bits.map(|bits| half::bf16::from_bits(bits as u16));
    }
}
