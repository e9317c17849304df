//! What the softmax of a row of logits says, and how far two of them are apart. Sums are in f64.

use quantloom_kernels::{Isa, Supported};

use super::exp;

/// Values that are worked on together, on the stack.
const BLOCK: usize = 256;

/// Base probabilities of e⁻¹⁶ and less are left out of a divergence, as they are in llama.cpp, whose files of
/// logits can't tell them apart.
const LEAST: f32 = -16.0;

/// A row of logits.
#[derive(Clone, Copy, Debug)]
pub struct Softmax {
    /// The largest, and where it is first.
    pub largest: f32,
    pub top: usize,
    /// ln Σ e^logit: the logarithm of a probability is its logit less this. NaN where a logit is.
    pub log_sum: f64,
}

/// The softmax of `logits`.
pub fn softmax(isa: Supported, logits: &[f32]) -> Softmax {
    #[inline(always)]
    fn softmax(logits: &[f32], multiply_add: impl Fn(f32, f32, f32) -> f32 + Copy) -> Softmax {
        let mut top = Top::NONE;
        for (i, block) in logits.chunks(BLOCK).enumerate() {
            top.join(i * BLOCK, block);
        }
        let mut terms = [0.0; BLOCK];
        let sums = logits.chunks(BLOCK).map(|block| {
            let terms = &mut terms[..block.len()];
            for (term, logit) in terms.iter_mut().zip(block) {
                *term = exp(logit - top.value, multiply_add);
            }
            sum(terms)
        });
        let log_sum = f64::from(top.value) + sums.sum::<f64>().ln();
        Softmax { largest: top.value, top: top.index, log_sum }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn avx2(logits: &[f32]) -> Softmax {
        softmax(logits, |a, b, c| a.mul_add(b, c))
    }
    match isa.isa() {
        #[cfg(target_arch = "x86_64")]
        isa if isa.includes(Isa::Avx2Fma) => {
            // SAFETY: that `isa` is supported proves that the CPU has AVX2 and FMA.
            unsafe { avx2(logits) }
        }
        _ => softmax(logits, |a, b, c| a * b + c),
    }
}

/// Σ p · (ln p − ln q), where q has `logits` and their `log_sum`, and where p has its largest value first. `base` fills
/// a slice with ln p from an index on.
pub fn divergence(
    isa: Supported,
    base: impl Fn(usize, &mut [f32]),
    logits: &[f32],
    log_sum: f32,
) -> (f64, usize) {
    #[inline(always)]
    fn divergence(
        base: impl Fn(usize, &mut [f32]),
        logits: &[f32],
        log_sum: f32,
        multiply_add: impl Fn(f32, f32, f32) -> f32 + Copy,
    ) -> (f64, usize) {
        let (mut top, mut total) = (Top::NONE, 0.0);
        let (mut log_p, mut terms) = ([0.0; BLOCK], [0.0; BLOCK]);
        for (i, logits) in logits.chunks(BLOCK).enumerate() {
            let (log_p, terms) = (&mut log_p[..logits.len()], &mut terms[..logits.len()]);
            base(i * BLOCK, log_p);
            top.join(i * BLOCK, log_p);
            for ((term, &log_p), logit) in terms.iter_mut().zip(&*log_p).zip(logits) {
                let product = exp(log_p, multiply_add) * (log_p - (logit - log_sum));
                *term = if log_p > LEAST { product } else { 0.0 };
            }
            total += sum(terms);
        }
        (total, top.index)
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn avx2(base: impl Fn(usize, &mut [f32]), logits: &[f32], log_sum: f32) -> (f64, usize) {
        divergence(base, logits, log_sum, |a, b, c| a.mul_add(b, c))
    }
    match isa.isa() {
        #[cfg(target_arch = "x86_64")]
        isa if isa.includes(Isa::Avx2Fma) => {
            // SAFETY: that `isa` is supported proves that the CPU has AVX2 and FMA.
            unsafe { avx2(base, logits, log_sum) }
        }
        _ => divergence(base, logits, log_sum, |a, b, c| a * b + c),
    }
}

/// The largest value so far, and where it is first.
struct Top {
    value: f32,
    index: usize,
}

impl Top {
    const NONE: Self = Self { value: f32::NEG_INFINITY, index: 0 };

    /// Takes in the values from `start` on.
    #[inline(always)]
    fn join(&mut self, start: usize, values: &[f32]) {
        let mut largest = [f32::NEG_INFINITY; 8];
        for values in values.chunks(8) {
            for (largest, &value) in largest.iter_mut().zip(values) {
                *largest = if value > *largest { value } else { *largest };
            }
        }
        let largest = largest.into_iter().fold(f32::NEG_INFINITY, f32::max);
        if largest > self.value {
            let first = values.iter().position(|&value| value == largest);
            *self = Self { value: largest, index: start + first.expect("it is one of them") };
        }
    }
}

#[inline(always)]
fn sum(values: &[f32]) -> f64 {
    let mut sums = [0.0_f64; 8];
    for values in values.chunks(8) {
        for (sum, &value) in sums.iter_mut().zip(values) {
            *sum += f64::from(value);
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits between -30 and 30, of any length.
    fn logits(len: usize, seed: u32) -> Vec<f32> {
        let mix = |i: u32| (i.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32;
        (0..len as u32).map(|i| (mix(i) - 0.5) * 60.0).collect()
    }

    fn log_probabilities(logits: &[f32]) -> Vec<f64> {
        let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        logits.iter().map(|&logit| f64::from(logit) - sum.ln()).collect()
    }

    const LENGTHS: [usize; 7] = [1, 2, 7, 255, 256, 257, 1000];

    #[test]
    fn a_softmax_is_that_of_exact_sums() {
        for isa in Supported::all() {
            for len in LENGTHS {
                let place = format!("{}, {len}", isa.isa());
                let mut logits = logits(len, 3);
                // Twice the largest: the first counts.
                logits[len - 1] = 31.0;
                logits[len / 2] = 31.0;
                let softmax = softmax(isa, &logits);
                assert_eq!((softmax.largest, softmax.top), (31.0, len / 2), "{place}");
                let exact = f64::from(logits[0]) - log_probabilities(&logits)[0];
                assert!((softmax.log_sum - exact).abs() < 1e-6, "{place}: {}, {exact}", softmax.log_sum);
            }
            let broken = softmax(isa, &[1.0, f32::NAN, 2.0]);
            assert!(broken.log_sum.is_nan(), "{}", isa.isa());
        }
    }

    #[test]
    fn a_divergence_is_that_of_exact_sums_over_what_is_likely_enough() {
        for isa in Supported::all() {
            for len in LENGTHS {
                let place = format!("{}, {len}", isa.isa());
                let (p, q) = (logits(len, 3), logits(len, 4));
                let (log_p, log_q) = (log_probabilities(&p), log_probabilities(&q));
                let terms = log_p.iter().zip(&log_q).filter(|(log_p, _)| **log_p > f64::from(LEAST));
                let exact: f64 = terms.map(|(log_p, log_q)| log_p.exp() * (log_p - log_q)).sum();
                let base = |start: usize, out: &mut [f32]| {
                    for (out, log_p) in out.iter_mut().zip(&log_p[start..]) {
                        *out = *log_p as f32;
                    }
                };
                let log_sum = softmax(isa, &q).log_sum as f32;
                let (ours, top) = divergence(isa, base, &q, log_sum);
                assert!((ours - exact).abs() < 2e-5, "{place}: {ours}, {exact}");
                assert_eq!(top, softmax(isa, &p).top, "{place}");
            }
        }
    }
}
