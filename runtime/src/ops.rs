//! The operations of a forward pass that are not matrix products.

use quantloom_kernels::dense::widen_f16;
use quantloom_kernels::{Isa, Supported};

use crate::cache::{Head, TILE};
use crate::threads::Columns;

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

/// What attention of some tokens, one after the other from `start` on, asks of one key and value head.
pub struct Queries<'a> {
    /// The first token's, `[group, head_dim]`; those of the next begin `stride` further on.
    pub queries: &'a [f32],
    /// From one token to the next.
    pub stride: usize,
    /// Query heads that share the key and value head.
    pub group: usize,
    pub head_dim: usize,
    /// Tokens, and the position of the first.
    pub tokens: usize,
    pub start: usize,
}

/// The state of a query head's softmax: the largest score so far, and the sum of weights.
const STATE: usize = 2;

/// Floats that [`attend`] asks of its buffer.
pub fn attention_room(head_dim: usize, group: usize, tokens: usize) -> usize {
    2 * TILE * head_dim + STATE * tokens * group
}

/// Causal attention: `out` has a row `[group, head_dim]` for each token.
///
/// Positions are taken in tiles: keys and values are converted once for all tokens and query heads, and the softmax
/// is kept running (its maximum so far, and the sum and weighted values relative to it), so that no buffer grows with the
/// context but that of a tile. What comes out for a token is the same whatever tokens are beside it.
pub fn attend(isa: Supported, queries: &Queries, head: Head, out: &mut Columns<f32>, buffer: &mut Vec<f32>) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn vectors(isa: Supported, queries: &Queries, head: Head, out: &mut Columns<f32>, buffer: &mut Vec<f32>) {
        // Fused, as these instruction sets can.
        attend_tiles(isa, queries, head, out, buffer, |a, b, c| a.mul_add(b, c));
    }
    match isa.isa() {
        #[cfg(target_arch = "x86_64")]
        has if has.includes(Isa::Avx2Fma) => {
            // SAFETY: that `isa` is supported proves that the CPU has AVX2 and FMA.
            unsafe { vectors(isa, queries, head, out, buffer) }
        }
        _ => attend_tiles(isa, queries, head, out, buffer, |a, b, c| a * b + c),
    }
}

/// All of a tile joined, eight lanes at a time: one after the other each would wait for the one before.
#[inline(always)]
fn reduce(values: &[f32; TILE], join: impl Fn(f32, f32) -> f32) -> f32 {
    let (eights, _) = values.as_chunks::<8>();
    let mut lanes = eights[0];
    for eight in &eights[1..] {
        for (lane, value) in lanes.iter_mut().zip(eight) {
            *lane = join(*lane, *value);
        }
    }
    lanes.iter().skip(1).fold(lanes[0], |a, &b| join(a, b))
}

#[inline(always)]
fn attend_tiles(
    isa: Supported,
    queries: &Queries,
    head: Head,
    out: &mut Columns<f32>,
    buffer: &mut Vec<f32>,
    multiply_add: impl Fn(f32, f32, f32) -> f32,
) {
    let &Queries { group, head_dim, tokens, start, .. } = queries;
    let scale = 1.0 / (head_dim as f32).sqrt();
    buffer.resize(attention_room(head_dim, group, tokens), 0.0);
    let (keys, rest) = buffer.split_at_mut(TILE * head_dim);
    let (values, states) = rest.split_at_mut(TILE * head_dim);
    let (states, _) = states.as_chunks_mut::<STATE>();
    states.fill([f32::NEG_INFINITY, 0.0]);
    (0..tokens).for_each(|i| out.row(i).fill(0.0));
    let tiles = head.keys.chunks_exact(TILE * head_dim).zip(head.values.chunks_exact(TILE * head_dim));
    for (tile, (half_keys, half_values)) in tiles.enumerate() {
        widen_f16(isa, half_keys, keys);
        widen_f16(isa, half_values, values);
        // Tokens before this tile see nothing of it.
        for i in (tile * TILE).saturating_sub(start)..tokens {
            let visible = TILE.min(start + i + 1 - tile * TILE);
            let heads = queries.queries[i * queries.stride..][..group * head_dim].chunks_exact(head_dim);
            let outs = out.row(i).chunks_exact_mut(head_dim);
            for ((query, out), state) in heads.zip(outs).zip(&mut states[i * group..]) {
                let [largest, total] = state;
                let mut scores = [0.0_f32; TILE];
                for (q, keys) in query.iter().zip(keys.as_chunks::<TILE>().0) {
                    for (score, key) in scores.iter_mut().zip(keys) {
                        *score = multiply_add(*q, *key, *score);
                    }
                }
                for (j, score) in scores.iter_mut().enumerate() {
                    *score = if j < visible { scale * *score } else { f32::NEG_INFINITY };
                }
                let maximum = reduce(&scores, |a, b| if b > a { b } else { a });
                let maximum = if maximum > *largest { maximum } else { *largest };
                if maximum > *largest {
                    let shrink = exp(*largest - maximum);
                    out.iter_mut().for_each(|out| *out *= shrink);
                    *total *= shrink;
                    *largest = maximum;
                }
                // A loop, not `map`, which stays a call and is compiled for any CPU.
                let mut weights = scores;
                weights.iter_mut().for_each(|weight| *weight = exp(*weight - maximum));
                *total += reduce(&weights, |a, b| a + b);
                let (wide, narrow) = out.as_chunks_mut::<32>();
                let narrow_at = wide.len() * 32;
                for (part, out) in wide.iter_mut().enumerate() {
                    // The sums stay in registers.
                    let mut sums = *out;
                    for (weight, value) in weights[..visible].iter().zip(values.chunks_exact(head_dim)) {
                        let (parts, _) = value.as_chunks::<32>();
                        for (sum, value) in sums.iter_mut().zip(&parts[part]) {
                            *sum = multiply_add(*weight, *value, *sum);
                        }
                    }
                    *out = sums;
                }
                for (weight, value) in weights[..visible].iter().zip(values.chunks_exact(head_dim)) {
                    for (out, value) in narrow.iter_mut().zip(&value[narrow_at..]) {
                        *out = multiply_add(*weight, *value, *out);
                    }
                }
            }
        }
    }
    for i in 0..tokens {
        for (out, [_, total]) in out.row(i).chunks_exact_mut(head_dim).zip(&states[i * group..]) {
            out.iter_mut().for_each(|out| *out /= total);
        }
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::cache::KvCache;
    use crate::threads::Team;

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

    #[test]
    fn attention_is_softmax_of_scores_times_values() {
        // Several tiles, a head length that no vector divides and one that does, one token and more.
        let shapes = [(5, 2, 31, 2), (9, 18, 70, 7), (64, 3, 0, 40), (80, 1, 95, 1), (32, 2, 31, 2)];
        let some = if cfg!(miri) { 1 } else { shapes.len() };
        for (head_dim, group, start, tokens) in shapes.into_iter().take(some) {
            let wave = |n: usize, step: f32| (0..n).map(move |i| (i as f32 * step).sin());
            let positions = start + tokens;
            let queries: Vec<f32> = wave(tokens * group * head_dim, 0.71).map(|x| 4.0 * x).collect();
            let keys: Vec<f32> = wave(positions * head_dim, 0.37).collect();
            let values: Vec<f32> = wave(positions * head_dim, 0.59).collect();
            let team = Team::new(1, || ()).unwrap();
            let mut cache = KvCache::with_shape(1, 1, head_dim, positions + 5).unwrap();
            let both: Vec<f32> = keys
                .chunks(head_dim)
                .zip(values.chunks(head_dim))
                .flat_map(|(key, value)| [key, value].concat())
                .collect();
            // What was there before, and lies beyond, must not be seen.
            let nothing = vec![f32::NAN; 2 * (positions + 5) * head_dim];
            cache.store(&team, 0, 0, &nothing, 2 * head_dim);
            cache.store(&team, 0, 0, &both, 2 * head_dim);
            let mut buffer = vec![f32::NAN; 7];
            for isa in Supported::all() {
                let mut out = vec![f32::NAN; tokens * group * head_dim];
                let buffer = std::sync::Mutex::new(&mut buffer);
                team.for_columns(&mut out, group * head_dim, usize::MAX, |_, mut columns| {
                    let queries = Queries {
                        queries: &queries,
                        stride: group * head_dim,
                        group,
                        head_dim,
                        tokens,
                        start,
                    };
                    attend(
                        isa,
                        &queries,
                        cache.head(0, 0, positions),
                        &mut columns,
                        &mut buffer.lock().unwrap(),
                    );
                });
                let half = |x: f32| f16::from_f32(x).to_f64();
                for (row, (query, out)) in queries.chunks(head_dim).zip(out.chunks(head_dim)).enumerate() {
                    let visible = start + row / group + 1;
                    let weights: Vec<f64> = keys
                        .chunks(head_dim)
                        .take(visible)
                        .map(|key| {
                            let dot: f64 = key.iter().zip(query).map(|(k, q)| half(*k) * f64::from(*q)).sum();
                            (dot / (head_dim as f64).sqrt()).exp()
                        })
                        .collect();
                    let total: f64 = weights.iter().sum();
                    for (d, out) in out.iter().enumerate() {
                        let exact: f64 =
                            weights.iter().zip(values.chunks(head_dim)).map(|(w, v)| w * half(v[d])).sum();
                        let distance = (f64::from(*out) - exact / total).abs();
                        assert!(distance < 1e-5, "{} row {row} element {d}: {distance}", isa.isa());
                    }
                }
            }
        }
    }
}
