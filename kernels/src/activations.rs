//! Activations quantized to 8 bits: four share a scale.
//!
//! Four is what one 32-bit lane of a dot product sums. A lane is multiplied by the weights' scale in any
//! case, so a scale per lane costs the kernels nothing over one per block, and an outlier spoils the
//! precision of its three neighbours alone: on SmolLM2-135M logits come out several times closer to exact
//! ones than with a scale per 32.
//!
//! The scales of 256 activations are integers up to 255 times one float, the *unit*. Where the scales of a block's weights
//! are integers, too, kernels multiply both as integers and sum up the whole block before anything becomes a float.
//! It costs no precision: scales are rounded up by less than a unit, a 255th of the largest, which is much for small
//! scales only, and what these round off is little beside the rest. The root mean square error of normally distributed
//! activations, with outliers of 9 to 100 times their size and without, is 0.86 to 0.99 of that with scales rounded up
//! to bf16.

use crate::{ShapeError, Supported};

/// 32 activations: `x[i] ≈ scales[i / 4] * q[i]`, where `scales[j] = unit * multiples[j]`.
///
/// Each [`RUN`](Self::RUN) activations of a vector have one unit. Formats that sum a block in integers, those with
/// [`one_unit`](crate::FormatParts::one_unit), take all activations that a block is multiplied with in the unit of the
/// first, and refuse others: a slice of a vector that begins in the middle of such a run may be none that they take.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(32))]
pub struct ActivationBlock {
    /// Codes from -127 to 127: some instructions multiply by the magnitude and the sign, and -128 has no magnitude in
    /// 8 bits.
    q: [i8; 32],
    /// What four activations each are multiples of.
    scales: [f32; 8],
    /// Sums of four codes each: what a weight of 1 adds to each lane of a dot product. Kernels take
    /// zero points and minima from here.
    sums: [i16; 8],
    /// The scales of four activations each, in units.
    multiples: [u8; 8],
    /// Of at most [`UNIT_BITS`] significant bits.
    unit: f32,
}

impl ActivationBlock {
    /// Activations per block.
    pub const LEN: usize = 32;

    /// Activations with one unit, counted from the first of a vector; at its end there may be fewer.
    pub const RUN: usize = 256;

    /// 32 activations of 0.
    pub const ZERO: Self = Self { q: [0; 32], scales: [0.0; 8], sums: [0; 8], multiples: [0; 8], unit: 0.0 };

    /// The block `x[i] = unit * multiples[i / 4] * q[i]`. All of a [`RUN`](Self::RUN) should have one unit, bit for bit:
    /// else formats with [`one_unit`](crate::FormatParts::one_unit) refuse the vector. `None` where a code is -128, as
    /// kernels take codes from -127 to 127, or where `unit` has more than 14 significant bits: kernels count on exact
    /// products of it with multiples and with 1.5.
    pub fn new(q: [i8; 32], multiples: [u8; 8], unit: f32) -> Option<Self> {
        if q.contains(&i8::MIN) || unit.to_bits() & BELOW_UNIT != 0 {
            return None;
        }
        let mut sums = [0; 8];
        for (sum, four) in sums.iter_mut().zip(q.as_chunks::<4>().0) {
            *sum = four.iter().map(|&code| i16::from(code)).sum();
        }
        let scales = multiples.map(|multiple| unit * f32::from(multiple));
        Some(Self { q, scales, sums, multiples, unit })
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

    /// The scales of four activations each, in units.
    #[inline(always)]
    pub const fn multiples(&self) -> &[u8; 8] {
        &self.multiples
    }

    /// What the scales are multiples of.
    #[inline(always)]
    pub const fn unit(&self) -> f32 {
        self.unit
    }

    /// The scales of four activations each.
    #[inline(always)]
    pub const fn scales(&self) -> &[f32; 8] {
        &self.scales
    }
}

const _: () = assert!(size_of::<ActivationBlock>() == 96);

/// The significant bits of a unit: its product with a multiple of 8 bits and with 1.5, which kernels compute, has 24 at most
/// and so is exact.
const UNIT_BITS: u32 = 14;

/// The bits of an f32 below those of a unit.
const BELOW_UNIT: u32 = (1 << (f32::MANTISSA_DIGITS - UNIT_BITS)) - 1;

/// The largest magnitude of four comes to this many scales at most: it rounds to a code of 127.
const LARGEST: f32 = 127.0;

/// The most units in a scale.
const MOST: f32 = 255.0;

/// Quantizes a vector of activations, 32 to a block: for each 256 the unit is max |x| / (127 · 255), rounded up to 14
/// significant bits; for each four the scale is max |x| / 127, rounded up to a multiple of the unit, and
/// q = round(x / scale), ties to even.
///
/// Where there is an infinity or NaN, the unit is not finite, and so are all products with these 256 activations. They may be
/// no number, too, where a magnitude is above 3·10³³.
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
    const BLOCKS: usize = ActivationBlock::RUN / ActivationBlock::LEN;
    for (x, blocks) in x.chunks(BLOCKS).zip(blocks.chunks_mut(BLOCKS)) {
        match isa.isa() {
            #[cfg(target_arch = "x86_64")]
            isa if isa.includes(crate::Isa::Avx2Fma) => {
                // SAFETY: that `isa` is supported proves that the CPU has AVX2.
                unsafe { avx2(x, blocks) }
            }
            _ => scalar(x, blocks),
        }
    }
    Ok(())
}

/// The unit of activations by the bits of their largest magnitude, and what takes a magnitude to its scale in units.
fn unit(max: u32) -> (f32, f32) {
    // Rounded up by way of the bits. The maximum is for NaN, whose bits may overflow, and which comes out of a division with
    // either sign.
    let bits = (f32::from_bits(max) / (LARGEST * MOST)).abs().to_bits() as i32;
    let below = BELOW_UNIT as i32;
    let bits = bits.wrapping_add(below).max(bits) & !below;
    // Below the normal numbers a unit would have few bits, and no inverse.
    let bits = if max == 0 { 0 } else { bits.max(f32::MIN_POSITIVE.to_bits() as i32) };
    let unit = f32::from_bits(bits as u32);
    (unit, 1.0 / (LARGEST * unit))
}

fn scalar(x: &[[f32; 32]], blocks: &mut [ActivationBlock]) {
    // Magnitudes order like their bits, and NaN above all: an integer maximum keeps it.
    let largest = |x: &[f32]| x.iter().map(|x| x.abs().to_bits()).max().unwrap_or(0);
    let (unit, per_unit) = unit(largest(x.as_flattened()));
    for (x, block) in x.iter().zip(blocks) {
        block.unit = unit;
        for (lane, x) in x.as_chunks::<4>().0.iter().enumerate() {
            // At least one unit, also where all are 0 or some no number; not more than 255 where rounding came to that.
            #[expect(clippy::manual_clamp, reason = "a clamp would keep NaN")]
            let multiple = (f32::from_bits(largest(x)) * per_unit).ceil().max(1.0).min(MOST);
            let scale = multiple * unit;
            let inverse = 1.0 / scale;
            // Infinity times 0 is no number, which becomes 0.
            let q = x.map(|x| (x * inverse).round_ties_even() as i8);
            block.q[4 * lane..4 * lane + 4].copy_from_slice(&q);
            block.sums[lane] = q.iter().map(|&q| i16::from(q)).sum();
            block.scales[lane] = scale;
            block.multiples[lane] = multiple as u8;
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(x: &[[f32; 32]], blocks: &mut [ActivationBlock]) {
    use core::arch::x86_64::*;

    use crate::x86;

    let magnitude = _mm256_set1_epi32(i32::MAX);
    let magnitudes = |eight: &[f32; 8]| _mm256_and_si256(_mm256_castps_si256(x86::load(eight)), magnitude);
    let mut max = _mm256_setzero_si256();
    for eight in x.as_flattened().as_chunks::<8>().0 {
        max = _mm256_max_epi32(max, magnitudes(eight));
    }
    let mut lanes = [0_i32; 8];
    x86::store_words_256(&mut lanes, max);
    let (unit, per_unit) = unit(lanes.into_iter().max().unwrap_or(0) as u32);
    let (all_unit, all_per_unit) = (_mm256_set1_ps(unit), _mm256_set1_ps(per_unit));

    // The packs interleave 128-bit halves; this permutation puts groups of four back in order.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (x, block) in x.iter().zip(blocks) {
        let (eights, _) = x.as_chunks::<8>();
        let mut q = [_mm256_setzero_si256(); 4];
        let mut multiples = [_mm256_setzero_si256(); 4];
        for i in 0..4 {
            // Step by step as in `scalar`, two lanes of four at a time.
            let max = magnitudes(&eights[i]);
            let max = _mm256_max_epi32(max, _mm256_shuffle_epi32::<0b01_00_11_10>(max));
            let max = _mm256_max_epi32(max, _mm256_shuffle_epi32::<0b10_11_00_01>(max));
            let multiple = _mm256_ceil_ps(_mm256_mul_ps(_mm256_castsi256_ps(max), all_per_unit));
            // Of NaN and a number these take the second.
            let multiple = _mm256_max_ps(multiple, _mm256_set1_ps(1.0));
            let multiple = _mm256_min_ps(multiple, _mm256_set1_ps(MOST));
            let inverse = _mm256_div_ps(_mm256_set1_ps(1.0), _mm256_mul_ps(multiple, all_unit));
            let scaled = _mm256_mul_ps(x86::load(&eights[i]), inverse);
            // NaN, which infinity gives too, becomes 0.
            q[i] = _mm256_cvtps_epi32(_mm256_and_ps(scaled, _mm256_cmp_ps::<_CMP_ORD_Q>(scaled, scaled)));
            multiples[i] = _mm256_cvtps_epi32(multiple);
        }
        let bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
        let bytes = _mm256_permutevar8x32_epi32(bytes, order);
        let sums = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes), _mm256_set1_epi16(1));
        let mut stored = [0; 32];
        x86::store_256(&mut stored, bytes);
        block.q = stored.map(|byte| byte as i8);
        x86::store_i16(&mut block.sums, sums);
        // Every element of a lane has its multiple: one of each four is enough.
        let pairs = _mm256_blend_epi32::<0b1010_1010>(multiples[0], multiples[1]);
        let other = _mm256_blend_epi32::<0b1010_1010>(multiples[2], multiples[3]);
        let eight = _mm256_blend_epi32::<0b1100_1100>(pairs, other);
        // Lanes 0, 2, 4, 6 in the lower half, 1, 3, 5, 7 in the upper.
        let mut stored = [0; 8];
        x86::store_i16(&mut stored, _mm256_permutevar8x32_epi32(eight, order));
        block.multiples = stored.map(|multiple| multiple as u8);
        let multiples = _mm_cvtsi64_si128(i64::from_le_bytes(block.multiples));
        let scales = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(multiples)), all_unit);
        x86::store(&mut block.scales, scales);
        block.unit = unit;
    }
}
