//! The operations of a forward pass that are not matrix products.

use quantloom_kernels::{Isa, Supported};

pub mod attention;
pub mod softmax;

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
fn silu(x: f32, multiply_add: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let e = exp(-x.abs(), multiply_add);
    x * (if x < 0.0 { e } else { 1.0 } / (1.0 + e))
}

/// eˣ for x up to 0, within 2 units in the last place, and 0 below -87.3.
///
/// A loop over it becomes vector code, unlike over the system's. With n the whole number next to x / ln 2,
/// eˣ = 2ⁿ · e^(x − n ln 2): a polynomial for an argument of at most ln 2 / 2, whose coefficients are Taylor's but for
/// what the error of the omitted terms spreads over them, and n as exponent.
#[inline(always)]
fn exp(x: f32, multiply_add: impl Fn(f32, f32, f32) -> f32) -> f32 {
    /// Below it 2ⁿ would be no normal number.
    const LOWEST: f32 = -87.3;
    /// Added to a number of up to 2²² it leaves the nearest whole number in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts: n times the first is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    // Not `max`, which drops a NaN.
    let limited = if x < LOWEST { LOWEST } else { x };
    let n = multiply_add(limited, std::f32::consts::LOG2_E, ROUND);
    let whole = n - ROUND;
    let r = multiply_add(whole, -LN_2[1], multiply_add(whole, -LN_2[0], limited));
    // Source of the coefficients: Cephes' expf.
    let mut tail = 1.987_569_2e-4;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_66, 0.5] {
        tail = multiply_add(tail, r, coefficient);
    }
    let power = multiply_add(tail, r * r, r) + 1.0;
    // The low bits of `n` as exponent; all above them is shifted out.
    let scale = f32::from_bits((n.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    if x < LOWEST { 0.0 } else { power * scale }
}

/// hidden = silu(hidden) · up
pub fn gate(isa: Supported, hidden: &mut [f32], up: &[f32]) {
    #[inline(always)]
    fn gate(hidden: &mut [f32], up: &[f32], multiply_add: impl Fn(f32, f32, f32) -> f32 + Copy) {
        for (hidden, up) in hidden.iter_mut().zip(up) {
            *hidden = silu(*hidden, multiply_add) * up;
        }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn avx2(hidden: &mut [f32], up: &[f32]) {
        // Fused, as these instruction sets can.
        gate(hidden, up, |a, b, c| a.mul_add(b, c));
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512vl,avx512bw")]
    fn avx512(hidden: &mut [f32], up: &[f32]) {
        gate(hidden, up, |a, b, c| a.mul_add(b, c));
    }
    match isa.isa() {
        #[cfg(target_arch = "x86_64")]
        isa if isa.includes(Isa::Avx512Vnni) => {
            // SAFETY: that `isa` is supported proves that the CPU has AVX-512.
            unsafe { avx512(hidden, up) }
        }
        #[cfg(target_arch = "x86_64")]
        isa if isa.includes(Isa::Avx2Fma) => {
            // SAFETY: that `isa` is supported proves that the CPU has AVX2 and FMA.
            unsafe { avx2(hidden, up) }
        }
        _ => gate(hidden, up, |a, b, c| a * b + c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type MultiplyAdd = fn(f32, f32, f32) -> f32;
    const MULTIPLY_ADDS: [(&str, MultiplyAdd); 2] =
        [("fused", |a, b, c| a.mul_add(b, c)), ("in two", |a, b, c| a * b + c)];

    #[test]
    fn exp_is_the_exponential() {
        // Miri takes a second for what takes a machine a millisecond.
        let step = if cfg!(miri) { 500 } else { 1 };
        let inputs = (0..=8_730).map(|i| i as f32 * -0.01).chain((0..1000).map(|i| i as f32 * -1e-6));
        for (name, multiply_add) in MULTIPLY_ADDS {
            for x in inputs.clone().step_by(step).chain([-87.3]) {
                let (y, exact) = (f64::from(exp(x, multiply_add)), f64::from(x).exp());
                assert!(
                    (y - exact).abs() <= 2.0 * f64::from(f32::EPSILON) * exact,
                    "{name} {x}: {y}, {exact}"
                );
            }
            assert_eq!([-88.0, -1e30, f32::NEG_INFINITY].map(|x| exp(x, multiply_add)), [0.0; 3], "{name}");
            assert!(exp(f32::NAN, multiply_add).is_nan(), "{name}");
            assert_eq!(exp(0.0, multiply_add), 1.0, "{name}");
        }
    }

    #[test]
    fn silu_is_x_times_its_sigmoid() {
        for (name, multiply_add) in MULTIPLY_ADDS {
            for x in
                [-1e30, -100.0, -87.0, -5.5, -1.0, -1e-3, -0.0, 0.0, 1e-3, 1.0, 5.5, 87.0, 100.0, 1e30_f32]
            {
                let (y, exact) = (silu(x, multiply_add), f64::from(x) / (1.0 + (-f64::from(x)).exp()));
                let distance = (f64::from(y) - exact).abs();
                // Below -87.3 it is 0.
                assert!(distance <= 4e-7 * exact.abs() + 1e-35, "{name} {x}: {y}, {exact}");
            }
            assert_eq!(silu(f32::INFINITY, multiply_add), f32::INFINITY, "{name}");
            assert!(silu(f32::NAN, multiply_add).is_nan(), "{name}");
        }
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
