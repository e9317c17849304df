//! ggml's reference quantizers, for shapes where these are a rule of one line. The rounding of each is part of it.
//!
//! Numbers are rounded to how they are stored only then: codes come from the f32 scale.

use half::f16;

use super::values::{self, TRIALS, joined, most, on_any_vectors};
use super::{Number, Numbers, Shape, Table, Values};
use crate::bytes::each;

/// A rule of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// `d (q - zero)`: the weight furthest from 0 becomes code 0, which reaches furthest.
    Furthest {
        /// The code of 0.
        zero: u8,
        /// The largest code.
        max: u8,
    },
    /// `d (q - zero)`: the weight furthest from 0 becomes `limit` on its side.
    Symmetric {
        /// What the furthest weight becomes.
        limit: u8,
        /// The code of 0; 0 for signed codes.
        zero: u8,
    },
    /// `d q + m`: the smallest weight becomes code 0 and the largest `max`.
    Range {
        /// The largest code.
        max: u8,
    },
    /// `d` or `-d`: the sign of each weight, and the mean magnitude.
    Mean {
        /// The code of `-d`; the other is that of `d`.
        negative: u8,
    },
    /// A table under a power of two: that of the furthest weight becomes that of the largest entry.
    Exponent,
    /// A table under a scale for each group: the furthest weight becomes the largest entry.
    Largest,
}

on_any_vectors! {
    /// The numbers and codes of a block by a rule.
    pub fn quantize[const N: usize, const S: usize, const M: usize](
        reference: Reference,
        shape: &Shape,
        weights: &[f32; N],
    ) -> (Numbers<S, M>, [u8; N]) {
        let mut numbers = Numbers {
            scale: 0,
            scale_exponent: 0,
            scales: [0; S],
            minimum: 0,
            minimum_exponent: 0,
            minima: [0; M],
        };
        let mut codes = [0; N];
        match reference {
            Reference::Furthest { zero, max } => {
                let zero = f32::from(zero);
                let d = furthest(weights) / -zero;
                let inverse = inverse(d);
                for (code, &w) in codes.iter_mut().zip(weights) {
                    // Two roundings, as ggml has it. The cast truncates, and takes what lies below 0 to 0.
                    *code = ((w * inverse + (zero + 0.5)) as u8).min(max);
                }
                numbers.scale = bits(d);
            }
            Reference::Symmetric { limit, zero } => {
                let d = furthest(weights).abs() / f32::from(limit);
                let inverse = inverse(d);
                for (code, &w) in codes.iter_mut().zip(weights) {
                    // Where the scale is subnormal, its inverse and what it leads to are infinite.
                    let steps = (w * inverse).round().clamp(-f32::from(limit), limit.into()) as i8;
                    *code = steps.wrapping_add_unsigned(zero) as u8;
                }
                numbers.scale = bits(d);
            }
            Reference::Range { max } => {
                // Of zeros with different signs the first counts, as in ggml.
                let smallest = first(weights, joined(N, f32::INFINITY, values::min, |i| weights[i]));
                let largest = first(weights, joined(N, f32::NEG_INFINITY, values::max, |i| weights[i]));
                let d = (largest - smallest) / f32::from(max);
                let inverse = inverse(d);
                for (code, &w) in codes.iter_mut().zip(weights) {
                    *code = (((w - smallest) * inverse + 0.5) as u8).min(max);
                }
                (numbers.scale, numbers.minimum) = (bits(d), bits(smallest));
            }
            Reference::Mean { negative } => {
                let sum = weights.iter().fold(0.0_f32, |sum, w| sum + w.abs());
                for (code, &w) in codes.iter_mut().zip(weights) {
                    *code = if w >= 0.0 { 1 - negative } else { negative };
                }
                numbers.scale = bits(sum / N as f32);
            }
            Reference::Exponent => {
                let Values::Table(table) = &shape.values else { unreachable!("{reference:?} is for tables") };
                let largest = shape.scale.factor * table.largest();
                let furthest = furthest(weights).abs();
                // A cast of what lies outside a byte takes its nearest end.
                let exponent = furthest.log2().floor() - largest.log2().floor() + 127.0;
                numbers.scale = if furthest > 0.0 { (exponent as u8).into() } else { 0 };
                nearest_entries(
                    table,
                    weights,
                    shape.scale.factor * Number::E8m0.value(numbers.scale),
                    &mut codes,
                );
            }
            Reference::Largest => {
                let Values::Table(table) = &shape.values else { unreachable!("{reference:?} is for tables") };
                let largest = shape.scale.factor * table.largest();
                let size = N / S;
                let groups = weights.chunks_exact(size).zip(codes.chunks_exact_mut(size));
                for (scale, (weights, codes)) in numbers.scales.iter_mut().zip(groups) {
                    let nearest = Number::Ue4m3.nearest(furthest(weights).abs() / largest);
                    // ggml's conversion has but one number from 256 on, the largest.
                    let bits = Number::Ue4m3.bits(if nearest < 256.0 { nearest } else { 448.0 });
                    *scale = bits as u8;
                    nearest_entries(table, weights, shape.scale.factor * Number::Ue4m3.value(bits), codes);
                }
            }
        }
        (numbers, codes)
    }
}

/// The codes of the entries nearest to `weights` under scale `d`; of equally near ones the first.
#[inline(always)]
fn nearest_entries(table: &Table, weights: &[f32], d: f32, codes: &mut [u8]) {
    let (codes, last) = codes.as_chunks_mut::<TRIALS>();
    let (weights, last_weights) = weights.as_chunks::<TRIALS>();
    for (codes, weights) in codes.iter_mut().zip(weights) {
        *codes = table.first_nearest(weights, d);
    }
    let last_weights = each(|i| last_weights.get(i).copied().unwrap_or(0.0));
    last.copy_from_slice(&table.first_nearest::<TRIALS>(&last_weights, d)[..last.len()]);
}

#[inline(always)]
fn bits(value: f32) -> u32 {
    f16::from_f32(value).to_bits().into()
}

#[inline(always)]
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// The value of largest magnitude, the first of equals; 0 where all are 0 or -0.
#[inline(always)]
fn furthest(weights: &[f32]) -> f32 {
    let magnitude = most(weights.len(), |i| weights[i].abs());
    let has = |value: f32| joined(weights.len(), 0.0, values::max, |i| f32::from(weights[i] == value)) > 0.0;
    match (has(magnitude), has(-magnitude)) {
        (true, false) => magnitude,
        (false, true) => -magnitude,
        _ if magnitude == 0.0 => 0.0,
        _ => weights.iter().copied().find(|w| w.abs() == magnitude).unwrap_or(0.0),
    }
}

/// The first of the weights that are equal to `value`: 0 and -0 are.
#[inline(always)]
fn first(weights: &[f32], value: f32) -> f32 {
    if value == 0.0 { weights.iter().copied().find(|&w| w == value).unwrap_or(value) } else { value }
}
