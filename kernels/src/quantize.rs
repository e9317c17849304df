//! Quantizers of one block, generic over its length: what the generated `from_weights` call.
//!
//! The first three follow ggml's reference quantizers to the last bit; the rounding of each is part of
//! that. Scales are rounded to f16 only when stored: the codes come from the f32 scale.

use half::f16;

/// `w = d (q - zero)`: the weight furthest from 0 becomes code 0, which reaches furthest.
///
/// `max` is the largest code. Returns d.
pub fn centred(weights: &[f32], zero: i32, max: u8, codes: &mut [u8]) -> f16 {
    let d = furthest(weights) / -zero as f32;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    for (code, &w) in codes.iter_mut().zip(weights) {
        // Two roundings, as ggml has it. The cast truncates, and takes what lies below 0 to 0.
        *code = ((w * inverse + (zero as f32 + 0.5)) as u8).min(max);
    }
    f16::from_f32(d)
}

/// `w = d q` with signed codes: the weight furthest from 0 becomes ±127. Returns d.
pub fn signed(weights: &[f32], codes: &mut [i8]) -> f16 {
    let d = furthest(weights).abs() / 127.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    for (code, &w) in codes.iter_mut().zip(weights) {
        *code = (w * inverse).round() as i8;
    }
    f16::from_f32(d)
}

/// `w = d q + m`: the smallest weight becomes code 0 and the largest `max`. Returns d and m.
pub fn affine(weights: &[f32], max: u8, codes: &mut [u8]) -> (f16, f16) {
    // Of zeros with different signs the first counts, as in ggml.
    let smallest = weights.iter().fold(f32::INFINITY, |least, &w| if w < least { w } else { least });
    let largest = weights.iter().fold(f32::NEG_INFINITY, |most, &w| if w > most { w } else { most });
    let d = (largest - smallest) / f32::from(max);
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    for (code, &w) in codes.iter_mut().zip(weights) {
        *code = (((w - smallest) * inverse + 0.5) as u8).min(max);
    }
    (f16::from_f32(d), f16::from_f32(smallest))
}

/// `w = d s (q - zero)` with one signed 8-bit s per group: the scale of each group minimises its squared
/// error; d then makes the largest group scale an s of -128.
///
/// `codes.len() / scales.len()` weights share a scale. Returns d.
pub fn grouped<const GROUPS: usize>(
    weights: &[f32],
    zero: i32,
    max: u8,
    scales: &mut [i8; GROUPS],
    codes: &mut [u8],
) -> f16 {
    let size = weights.len() / GROUPS;
    let limits = (-zero as f32, f32::from(max) - zero as f32);
    let best: [f32; GROUPS] = std::array::from_fn(|g| best_scale(&weights[g * size..][..size], limits));
    let largest = furthest(&best);
    // Weights this small have no scale in f16: ggml too stores such a block as zeros.
    if largest.abs() < 1e-15 || !largest.is_finite() {
        codes.fill(zero as u8);
        return f16::ZERO;
    }
    let inverse = -128.0 / largest;
    let d = f16::from_f32(1.0 / inverse);
    let groups = weights.chunks_exact(size).zip(codes.chunks_exact_mut(size));
    for ((scale, best), (group, codes)) in scales.iter_mut().zip(best).zip(groups) {
        *scale = (inverse * best).round_ties_even().min(127.0) as i8;
        let step = d.to_f32() * f32::from(*scale);
        for (code, &w) in codes.iter_mut().zip(group) {
            *code = if step == 0.0 { zero as u8 } else { (rounded(w / step, limits) + zero as f32) as u8 };
        }
    }
    d
}

/// The scale s that minimises Σ (w - s q)² with q = round(w / s) within `limits`: of a number of ways to
/// round, the one whose least-squares scale explains most. ggml weighs each error by w²; without that the
/// squared error is 1 to 5 % lower.
fn best_scale(weights: &[f32], limits: (f32, f32)) -> f32 {
    /// Trial scales lie this far apart, in units of the largest code, and this many on either side.
    const TRIAL: f32 = 0.1;
    const TRIALS: i32 = 9;

    let furthest = furthest(weights);
    if furthest.abs() < 1e-15 {
        return 0.0;
    }
    let (mut best, mut scale) = (0.0, 0.0);
    for trial in -TRIALS..=TRIALS {
        // The furthest weight lands near the lowest code, which reaches furthest.
        let inverse = (limits.0 + TRIAL * trial as f32) / furthest;
        let (mut wq, mut qq) = (0.0_f32, 0.0_f32);
        for &w in weights {
            let q = rounded(w * inverse, limits);
            wq += w * q;
            qq += q * q;
        }
        // Least squares: s = wq / qq leaves an error of Σ w² - wq² / qq.
        if qq > 0.0 && wq * wq > best * qq {
            scale = wq / qq;
            best = scale * wq;
        }
    }
    scale
}

fn rounded(value: f32, limits: (f32, f32)) -> f32 {
    value.round_ties_even().clamp(limits.0, limits.1)
}

/// The value of largest magnitude, the first of equals.
fn furthest(weights: &[f32]) -> f32 {
    weights.iter().fold(0.0, |far: f32, &w| if w.abs() > far.abs() { w } else { far })
}
