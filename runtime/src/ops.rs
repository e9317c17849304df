//! The operations of a forward pass that are not matrix products.

use quantloom_kernels::{Isa, Supported};

pub mod attention;

/// y = x / sqrt(mean(x²) + ε) · weight
pub fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32]) {
    // Eight partial sums: the compiler may use vectors, and each stays short.
    let mut sums = [0.0_f32; 8];
    for x in x.chunks(8) {
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum += x * x;
        }
    }
    let mean = sums.iter().sum::<f32>() / x.len() as f32;
    let scale = 1.0 / (mean + epsilon).sqrt();
    for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
        *y = x * scale * weight;
    }
}

/// The cosine and sine of each pair's angle at `position`: θ = position · base^(-2i / dims).
///
/// Angles are computed in f64: at a position in the thousands an f32 angle is wrong in its fourth digit.
pub fn rotations(position: usize, base: f32, cos_sin: &mut [f32]) {
    let dims = cos_sin.len();
    for (i, pair) in cos_sin.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        let angle = position as f64 * f64::from(base).powf(-2.0 * i as f64 / dims as f64);
        *pair = [angle.cos() as f32, angle.sin() as f32];
    }
}

/// Rotary position embedding of `[n, head_dim]` heads: turns adjacent pairs (x₂ᵢ, x₂ᵢ₊₁), as GGUF stores
/// Llama's weights.
pub fn rope(heads: &mut [f32], head_dim: usize, cos_sin: &[f32]) {
    for head in heads.chunks_exact_mut(head_dim) {
        for (pair, [cos, sin]) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos_sin.as_chunks::<2>().0) {
            let [a, b] = *pair;
            *pair = [a * cos - b * sin, a * sin + b * cos];
        }
    }
}

/// x · sigmoid(x)
#[inline(always)]
fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// eˣ within 2 units in the last place, 0 below -87.3 and infinity above 88.7.
///
/// Unlike the system's it is the same on every machine, bit for bit, and a loop over it becomes vector code.
/// With n the whole number next to x / ln 2, eˣ = 2ⁿ · e^(x − n ln 2): a polynomial for an argument of at most
/// ln 2 / 2, whose coefficients are Taylor's but for what the error of the omitted terms spreads over them, and
/// n added to the exponent.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Added to a number of up to 2²² it leaves the nearest whole number in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts: n times the first is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let limited = x.clamp(-87.3, 88.7);
    let n = limited * std::f32::consts::LOG2_E + ROUND;
    let whole = n - ROUND;
    let r = (limited - whole * LN_2[0]) - whole * LN_2[1];
    // Source of the coefficients: Cephes' expf.
    let series = [1.987_569_2e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_66, 0.5];
    let tail = series.into_iter().fold(0.0, |sum, coefficient| sum * r + coefficient);
    let power = tail * (r * r) + r + 1.0;
    // 2ⁿ in two factors: n reaches 128, which no exponent holds.
    let half = (n.to_bits() as i32 - ROUND.to_bits() as i32) >> 1;
    let rest = (n.to_bits() as i32 - ROUND.to_bits() as i32) - half;
    let scale = |n: i32| f32::from_bits(((n + 127) << 23) as u32);
    let y = power * scale(half) * scale(rest);
    if x > 88.7 {
        f32::INFINITY
    } else if x < -87.3 {
        0.0
    } else {
        y
    }
}

/// hidden = silu(hidden) · up
pub fn gate(isa: Supported, hidden: &mut [f32], up: &[f32]) {
    #[inline(always)]
    fn gate(hidden: &mut [f32], up: &[f32]) {
        for (hidden, up) in hidden.iter_mut().zip(up) {
            *hidden = silu(*hidden) * up;
        }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn avx2(hidden: &mut [f32], up: &[f32]) {
        gate(hidden, up);
    }
    match isa.isa() {
        #[cfg(target_arch = "x86_64")]
        isa if isa.includes(Isa::Avx2Fma) => {
            // SAFETY: that `isa` is supported proves that the CPU has AVX2.
            unsafe { avx2(hidden, up) }
        }
        _ => gate(hidden, up),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_the_exponential() {
        // Miri takes a second for what takes a machine a millisecond.
        let step = if cfg!(miri) { 500 } else { 1 };
        let inputs = (-8_730..=8_870).map(|i| i as f32 * 0.01).chain((0..1000).map(|i| i as f32 * 1e-6));
        let inputs = inputs.step_by(step);
        for x in inputs.chain([-87.3, 88.7]) {
            let (y, exact) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((y - exact).abs() <= 2.0 * f64::from(f32::EPSILON) * exact, "{x}: {y}, {exact}");
        }
        assert_eq!([-88.0, -1e30, f32::NEG_INFINITY].map(exp), [0.0; 3]);
        assert_eq!([88.8, 1e30, f32::INFINITY].map(exp), [f32::INFINITY; 3]);
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn norm_of_a_constant_is_the_weight() {
        let mut y = [0.0; 11];
        rms_norm(&[-3.0; 11], &[2.0; 11], 0.0, &mut y);
        assert!(y.iter().all(|y| (y + 2.0).abs() < 1e-6), "{y:?}");
    }

    #[test]
    fn rope_turns_adjacent_pairs_and_leaves_the_rest() {
        let mut cos_sin = [0.0; 4];
        rotations(3, 100.0, &mut cos_sin);
        let mut head = [1.0, 0.0, 0.0, 1.0, 7.0, 8.0];
        rope(&mut head, 6, &cos_sin);
        let (a, b) = (3.0_f32, 0.3_f32);
        let expected = [a.cos(), a.sin(), -b.sin(), b.cos(), 7.0, 8.0];
        assert!(head.iter().zip(expected).all(|(x, y)| (x - y).abs() < 1e-6), "{head:?}");
    }
}
