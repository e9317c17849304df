//! Causal attention over a KV cache.
//!
//! Positions are taken in parts of 256, each for itself: two small matrix products with a softmax between them.
//!
//! ```text
//! for each tile of the part    keys as f32;   scores[query, position] = query · key / √head_dim
//! for each query               largest score; weights = e^(score − largest); their sum
//! for each tile of the part    values as f32; out[query, :] += weight · value
//! ```
//!
//! What the parts gave is merged in their order ([`merge`]). Where parts begin depends on nothing but the position,
//! and every sum has one order, so that the result for a token is the same to the last bit whatever tokens are beside
//! it and whichever threads work on its parts.

use quantloom_kernels::{Isa, Supported};

use super::exp;
use crate::cache::{Head, TILE};
use crate::threads::Columns;

/// Positions of a part. Short enough that a long context has work for many threads and the scores of a decoded token
/// stay in L1; long enough that merging, one multiplication for each 512, does not count.
pub const PART: usize = 8 * TILE;

/// Queries that are multiplied side by side. With two vectors of sums for each, there are as many sums under way as two
/// multipliers with a latency of four cycles take; twice as many queries were slower.
const BLOCK: usize = 4;

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

/// The softmax of a query: the largest score, and the sum of weights relative to it.
type State = [f32; STATE];
const STATE: usize = 2;
const NOTHING: State = [f32::NEG_INFINITY, 0.0];

/// A thread's buffers. Those by query have room for whole blocks.
#[derive(Default)]
pub struct Room {
    /// Of one tile the keys, `[head_dim, 32]`, then the values, `[32, head_dim]`.
    tile: Vec<f32>,
    /// The same keys before they are turned.
    rows: Vec<f32>,
    /// `[queries, head_dim]`, over √head_dim.
    queries: Vec<f32>,
    /// `[tiles of a part, queries, 32]`: scores, then weights.
    scores: Vec<[f32; TILE]>,
    /// `[queries, head_dim]`: values of the last part, weighted.
    outs: Vec<f32>,
    /// `[queries]`: the softmax of that part, and of all parts up to it.
    states: Vec<State>,
    totals: Vec<State>,
}

/// Floats of what a part gives for some queries: `[queries, head_dim]` weighted values and `[queries]` states.
pub fn partial_len(queries: usize, head_dim: usize) -> usize {
    queries * (head_dim + STATE)
}

impl Room {
    /// Makes room for so many tokens.
    pub fn reserve(&mut self, head_dim: usize, group: usize, tokens: usize) {
        fn grow<T: Clone>(buffer: &mut Vec<T>, len: usize, value: T) {
            buffer.resize(buffer.len().max(len), value);
        }
        let queries = (tokens * group).next_multiple_of(BLOCK);
        grow(&mut self.tile, TILE * head_dim, 0.0);
        grow(&mut self.rows, TILE * head_dim, 0.0);
        grow(&mut self.queries, queries * head_dim, 0.0);
        grow(&mut self.scores, PART / TILE * queries, [0.0; TILE]);
        grow(&mut self.outs, queries * head_dim, 0.0);
        grow(&mut self.states, queries, NOTHING);
        grow(&mut self.totals, queries, NOTHING);
    }
}

/// Attention to all positions: `out` gets a row `[group, head_dim]` for each token.
pub fn attend(isa: Supported, queries: &Queries, head: &Head, out: &mut Columns<f32>, room: &mut Room) {
    let &Queries { group, head_dim, tokens, start, .. } = queries;
    room.reserve(head_dim, group, tokens);
    room.totals.fill(NOTHING);
    (0..tokens).for_each(|token| out.row(token).fill(0.0));
    for part in 0..(start + tokens).div_ceil(PART) {
        compute(isa, queries, head, part, room);
        let mut sums = room.outs.chunks_exact(head_dim).zip(&room.states).zip(&mut room.totals);
        for token in 0..tokens {
            for (out, ((more, state), total)) in out.row(token).chunks_exact_mut(head_dim).zip(&mut sums) {
                merge(out, total, more, *state);
            }
        }
    }
    let mut totals = room.totals.iter();
    for token in 0..tokens {
        for (out, total) in out.row(token).chunks_exact_mut(head_dim).zip(&mut totals) {
            divide(out, *total);
        }
    }
}

/// Attention to the positions of one part, of which [`partial_len`] floats go into `partial`.
pub fn attend_part(
    isa: Supported,
    queries: &Queries,
    head: &Head,
    part: usize,
    room: &mut Room,
    partial: &mut [f32],
) {
    let &Queries { group, head_dim, tokens, .. } = queries;
    room.reserve(head_dim, group, tokens);
    compute(isa, queries, head, part, room);
    let (outs, states) = partial.split_at_mut(tokens * group * head_dim);
    outs.copy_from_slice(&room.outs[..outs.len()]);
    let (states, _) = states.as_chunks_mut();
    states.copy_from_slice(&room.states[..states.len()]);
}

/// What [`attend`] gives for one of the queries that `partials`, those of all parts, are of.
pub fn join<'a>(partials: impl Iterator<Item = &'a [f32]>, query: usize, out: &mut [f32]) {
    let head_dim = out.len();
    let mut total = NOTHING;
    out.fill(0.0);
    for partial in partials {
        let (outs, states) = partial.split_at(partial.len() / (head_dim + STATE) * head_dim);
        merge(out, &mut total, &outs[query * head_dim..][..head_dim], states.as_chunks().0[query]);
    }
    divide(out, total);
}

/// Adds to the weighted values of some positions those of later ones, both relative to their largest score.
fn merge(out: &mut [f32], [largest, sum]: &mut State, more: &[f32], [more_largest, more_sum]: State) {
    let both = if more_largest > *largest { more_largest } else { *largest };
    let [shrink, more_shrink] = [*largest, more_largest].map(|score| exp(score - both, |a, b, c| a * b + c));
    for (out, more) in out.iter_mut().zip(more) {
        *out = *out * shrink + *more * more_shrink;
    }
    *sum = *sum * shrink + more_sum * more_shrink;
    *largest = both;
}

fn divide(out: &mut [f32], [_, sum]: State) {
    out.iter_mut().for_each(|out| *out /= sum);
}

/// Attention to one part, into the room.
fn compute(isa: Supported, queries: &Queries, head: &Head, part: usize, room: &mut Room) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn avx2(queries: &Queries, head: &Head, part: usize, room: &mut Room) {
        // Fused, as these instruction sets can.
        compute_in_blocks::<16>(queries, head, part, room, |a, b, c| a.mul_add(b, c));
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl")]
    fn avx512(queries: &Queries, head: &Head, part: usize, room: &mut Room) {
        compute_in_blocks::<32>(queries, head, part, room, |a, b, c| a.mul_add(b, c));
    }
    match isa.isa() {
        #[cfg(target_arch = "x86_64")]
        has if has.includes(Isa::Avx512Vnni) => {
            // SAFETY: that `isa` is supported proves that the CPU has these features.
            unsafe { avx512(queries, head, part, room) }
        }
        #[cfg(target_arch = "x86_64")]
        has if has.includes(Isa::Avx2Fma) => {
            // SAFETY: that `isa` is supported proves that the CPU has AVX2 and FMA.
            unsafe { avx2(queries, head, part, room) }
        }
        _ => compute_in_blocks::<8>(queries, head, part, room, |a, b, c| a * b + c),
    }
}

/// With `W` sums at once for each query of a block.
#[inline(always)]
fn compute_in_blocks<const W: usize>(
    queries: &Queries,
    head: &Head,
    part: usize,
    room: &mut Room,
    multiply_add: impl Fn(f32, f32, f32) -> f32 + Copy,
) {
    let &Queries { group, head_dim, tokens, start, .. } = queries;
    let count = tokens * group;
    let padded = count.next_multiple_of(BLOCK);
    let Room { tile: floats, rows, queries: scaled, scores, outs, states, .. } = room;
    let [floats, rows] = [floats, rows].map(|buffer| &mut buffer[..TILE * head_dim]);

    let scale = 1.0 / (head_dim as f32).sqrt();
    for (token, scaled) in scaled.chunks_mut(group * head_dim).take(tokens).enumerate() {
        for (scaled, query) in scaled.iter_mut().zip(&queries.queries[token * queries.stride..]) {
            *scaled = *query * scale;
        }
    }
    let first = part * PART;
    let tiles = (start + tokens - first).min(PART).div_ceil(TILE);
    // Positions of a tile that a query sees.
    let visible =
        |tile: usize, query: usize| (start + query / group + 1).saturating_sub(first + tile * TILE).min(TILE);
    // The first block in which a query sees a tile.
    let block = |tile: usize| (first + tile * TILE).saturating_sub(start) * group / BLOCK * BLOCK;

    for tile in 0..tiles {
        head.keys(first / TILE + tile, floats, rows);
        let (keys, _) = floats.as_chunks::<TILE>();
        for query in (block(tile)..padded).step_by(BLOCK) {
            let (scaled, scores) = (&scaled[query * head_dim..], &mut scores[tile * padded + query..]);
            let rows: [&[f32]; BLOCK] = std::array::from_fn(|i| &scaled[i * head_dim..][..head_dim]);
            for column in (0..TILE).step_by(W) {
                let keys = keys.iter().map(|keys| part_of::<W>(keys, column));
                let sums = multiply([[0.0; W]; BLOCK], rows, keys, multiply_add);
                for (scores, sums) in scores.iter_mut().zip(&sums) {
                    scores[column..column + W].copy_from_slice(sums);
                }
            }
        }
    }

    for query in 0..count {
        let seen = (start + query / group + 1).saturating_sub(first).min(PART);
        states[query] = NOTHING;
        if seen == 0 {
            continue;
        }
        let last = (seen - 1) / TILE;
        scores[last * padded + query][seen - last * TILE..].fill(f32::NEG_INFINITY);
        let mut lanes = [f32::NEG_INFINITY; TILE];
        for tile in 0..=last {
            for (lane, score) in lanes.iter_mut().zip(&scores[tile * padded + query]) {
                *lane = if *score > *lane { *score } else { *lane };
            }
        }
        let largest = reduce(lanes, |a, b| if b > a { b } else { a });
        let mut lanes = [0.0; TILE];
        for tile in 0..=last {
            for (lane, score) in lanes.iter_mut().zip(&mut scores[tile * padded + query]) {
                *score = exp(*score - largest, multiply_add);
                *lane += *score;
            }
        }
        states[query] = [largest, reduce(lanes, |a, b| a + b)];
    }

    outs[..padded * head_dim].fill(0.0);
    for tile in 0..tiles {
        head.values(first / TILE + tile, floats);
        let is_whole = visible(tile, 0) == TILE;
        for query in (block(tile)..padded).step_by(BLOCK) {
            let weights = &scores[tile * padded + query..];
            let outs = &mut outs[query * head_dim..][..BLOCK * head_dim];
            // What all of them see, and then what only those of later tokens do.
            let common = if is_whole { TILE } else { visible(tile, query) };
            let rows: [&[f32]; BLOCK] = std::array::from_fn(|i| &weights[i][..common]);
            add_values::<BLOCK, W>(outs, rows, floats, multiply_add);
            for i in 1..if is_whole { 0 } else { BLOCK } {
                let rows = [&weights[i][common..visible(tile, query + i)]];
                let outs = &mut outs[i * head_dim..][..head_dim];
                add_values::<1, W>(outs, rows, &floats[common * head_dim..], multiply_add);
            }
        }
    }
}

/// Adds to each of `outs`, `[Q, head_dim]`, `values`, rows of that length, by the weights in its row.
#[inline(always)]
fn add_values<const Q: usize, const W: usize>(
    outs: &mut [f32],
    weights: [&[f32]; Q],
    values: &[f32],
    multiply_add: impl Fn(f32, f32, f32) -> f32 + Copy,
) {
    #[inline(always)]
    fn columns<const Q: usize, const W: usize>(
        outs: &mut [f32],
        weights: [&[f32]; Q],
        values: &[f32],
        from: usize,
        multiply_add: impl Fn(f32, f32, f32) -> f32 + Copy,
    ) -> usize {
        let head_dim = outs.len() / Q;
        let mut column = from;
        while column + W <= head_dim {
            let mut sums = [[0.0; W]; Q];
            for (i, sums) in sums.iter_mut().enumerate() {
                *sums = *part_of(&outs[i * head_dim..], column);
            }
            let values = values.chunks_exact(head_dim).map(|values| part_of::<W>(values, column));
            let sums = multiply(sums, weights, values, multiply_add);
            for (i, sums) in sums.iter().enumerate() {
                outs[i * head_dim + column..][..W].copy_from_slice(sums);
            }
            column += W;
        }
        column
    }
    let column = columns::<Q, W>(outs, weights, values, 0, multiply_add);
    let column = columns::<Q, 8>(outs, weights, values, column, multiply_add);
    columns::<Q, 1>(outs, weights, values, column, multiply_add);
}

#[inline(always)]
fn part_of<const W: usize>(row: &[f32], column: usize) -> &[f32; W] {
    row[column..].first_chunk().expect("columns lie inside rows")
}

/// sums + a · b, for Q rows of a and W columns of b. The sums stay in registers.
#[inline(always)]
fn multiply<'a, const Q: usize, const W: usize>(
    mut sums: [[f32; W]; Q],
    a: [&[f32]; Q],
    b: impl Iterator<Item = &'a [f32; W]>,
    multiply_add: impl Fn(f32, f32, f32) -> f32,
) -> [[f32; W]; Q] {
    let len = a[0].len();
    assert!(a.iter().all(|row| row.len() == len));
    for (k, b) in (0..len).zip(b) {
        for q in 0..Q {
            let a = a[q][k];
            for i in 0..W {
                sums[q][i] = multiply_add(a, b[i], sums[q][i]);
            }
        }
    }
    sums
}

/// All of a tile joined, half with half: one after the other each would wait for the one before. A call, or the compiler
/// cuts the loop before it into pieces that suit this one.
#[inline(never)]
fn reduce(mut values: [f32; TILE], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut len = TILE;
    while len > 1 {
        len /= 2;
        for i in 0..len {
            values[i] = join(values[i], values[i + len]);
        }
    }
    values[0]
}

#[cfg(test)]
mod tests {
    use half::f16;
    use quantloom_kernels::BlockFormat;
    use quantloom_kernels::formats::{Q4_0, Q8_0};

    use super::*;
    use crate::cache::{CacheType, CacheTypes, KvCache};
    use crate::threads::Team;

    /// Head length, group, tokens before and tokens: parts and tiles begun, ended and crossed, head lengths that vectors
    /// divide and that none does, whole blocks of queries and less than one.
    const SHAPES: [(usize, usize, usize, usize); 8] = [
        (5, 2, 31, 2),
        (9, 18, 254, 7),
        (64, 3, 0, 40),
        (80, 1, 95, 1),
        (32, 2, 254, 4),
        (64, 8, 500, 16),
        (128, 1, 255, 3),
        (96, 5, 767, 1),
    ];

    /// Miri takes a second for what takes a machine a millisecond.
    fn shapes() -> impl Iterator<Item = (usize, usize, usize, usize)> {
        SHAPES.into_iter().take(if cfg!(miri) { 1 } else { SHAPES.len() })
    }

    /// The types that heads of this length fit.
    fn types(head_dim: usize) -> Vec<(&'static str, CacheTypes)> {
        let [f16, q8_0, q4_0] =
            [CacheType::F16, CacheType::Quantized(Q8_0::FORMAT), CacheType::Quantized(Q4_0::FORMAT)];
        let all =
            [("f16", f16, f16), ("q8_0", q8_0, q8_0), ("q8_0, f16", q8_0, f16), ("f16, q4_0", f16, q4_0)];
        let fitting = if head_dim.is_multiple_of(32) { all.len() } else { 1 };
        all.into_iter()
            .take(fitting)
            .map(|(name, keys, values)| (name, CacheTypes { keys, values }))
            .collect()
    }

    /// Some tokens and the cache that they see, themselves included.
    struct Case {
        queries: Vec<f32>,
        keys: Vec<f32>,
        values: Vec<f32>,
        cache: KvCache,
        shape: (usize, usize, usize, usize),
    }

    impl Case {
        fn new(isa: Supported, shape: (usize, usize, usize, usize), types: CacheTypes) -> Self {
            let (head_dim, group, start, tokens) = shape;
            let wave = |n: usize, step: f32| (0..n).map(move |i| (i as f32 * step).sin());
            let positions = start + tokens;
            let queries = wave(tokens * group * head_dim, 0.71).map(|x| 4.0 * x).collect();
            let keys: Vec<f32> = wave(positions * head_dim, 0.37).collect();
            let values: Vec<f32> = wave(positions * head_dim, 0.59).collect();
            let both: Vec<f32> = keys
                .chunks(head_dim)
                .zip(values.chunks(head_dim))
                .flat_map(|(key, value)| [key, value].concat())
                .collect();
            let team = Team::new(1, || ()).unwrap();
            let mut cache = KvCache::with_shape([1, 1, head_dim], isa, positions + 5, types).unwrap();
            // What was there before, and lies beyond, must not be seen.
            let nothing = vec![f32::NAN; 2 * (positions + 5) * head_dim];
            cache.store(&team, 0, 0, &nothing, 2 * head_dim);
            cache.store(&team, 0, 0, &both, 2 * head_dim);
            Self { queries, keys, values, cache, shape }
        }

        fn queries(&self, first: usize, tokens: usize) -> Queries<'_> {
            let (head_dim, group, start, _) = self.shape;
            let stride = group * head_dim;
            let queries = &self.queries[first * stride..];
            Queries { queries, stride, group, head_dim, tokens, start: start + first }
        }

        /// Attention of all tokens, `at_once` at a time.
        fn attend(&self, isa: Supported, at_once: usize) -> Vec<f32> {
            let (head_dim, group, start, tokens) = self.shape;
            let (team, width) = (Team::new(1, || ()).unwrap(), group * head_dim);
            let mut out = vec![f32::NAN; tokens * width];
            team.for_tiles(&mut out, width, (at_once, width), |rows, _, mut tile| {
                let head = self.cache.head(0, 0, start + rows.end);
                let queries = self.queries(rows.start, rows.len());
                attend(isa, &queries, &head, &mut tile, &mut Room::default());
            });
            out
        }

        /// The same, from parts computed each for itself.
        fn attend_parts(&self, isa: Supported) -> Vec<f32> {
            let (head_dim, group, start, tokens) = self.shape;
            let head = self.cache.head(0, 0, start + tokens);
            let parts = (start + tokens).div_ceil(PART);
            let len = partial_len(tokens * group, head_dim);
            let mut partials = vec![f32::NAN; parts * len];
            let mut room = Room::default();
            for (part, partial) in partials.chunks_mut(len).enumerate().rev() {
                attend_part(isa, &self.queries(0, tokens), &head, part, &mut room, partial);
            }
            let mut out = vec![f32::NAN; tokens * group * head_dim];
            for (query, out) in out.chunks_mut(head_dim).enumerate() {
                join(partials.chunks(len), query, out);
            }
            out
        }
    }

    /// What a cache makes of some rows.
    fn kept(ty: CacheType, rows: &[f32]) -> Vec<f64> {
        let CacheType::Quantized(format) = ty else {
            return rows.iter().map(|x| f16::from_f32(*x).to_f64()).collect();
        };
        let kernels = format.kernels(Supported::new(Isa::Scalar).unwrap());
        let (mut blocks, mut weights) = (vec![0; format.bytes_for(rows.len())], vec![0.0; rows.len()]);
        kernels.quantize(rows, &mut blocks).unwrap();
        kernels.dequantize(&blocks, &mut weights).unwrap();
        weights.into_iter().map(f64::from).collect()
    }

    #[test]
    fn attention_is_softmax_of_scores_times_values() {
        for shape @ (head_dim, group, start, _) in shapes() {
            for (name, types) in types(head_dim) {
                for isa in Supported::all() {
                    let case = Case::new(isa, shape, types);
                    let (keys, values) = (kept(types.keys, &case.keys), kept(types.values, &case.values));
                    let attended = case.attend(isa, usize::MAX / 2);
                    let rows = case.queries.chunks(head_dim).zip(attended.chunks(head_dim));
                    for (row, (query, out)) in rows.enumerate() {
                        let visible = start + row / group + 1;
                        let score = |key: &[f64]| -> f64 {
                            key.iter().zip(query).map(|(k, q)| k * f64::from(*q)).sum()
                        };
                        let keys = keys.chunks(head_dim).take(visible);
                        let weights: Vec<f64> =
                            keys.map(|key| (score(key) / (head_dim as f64).sqrt()).exp()).collect();
                        let total: f64 = weights.iter().sum();
                        for (d, out) in out.iter().enumerate() {
                            let values = values.chunks(head_dim);
                            let exact: f64 = weights.iter().zip(values).map(|(w, v)| w * v[d]).sum();
                            let distance = (f64::from(*out) - exact / total).abs();
                            let place = format!("{} {name} {shape:?} row {row} element {d}", isa.isa());
                            assert!(distance < 1e-5, "{place}: {distance}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_token_has_the_same_result_whatever_is_beside_it_and_whoever_does_its_parts() {
        for shape @ (head_dim, _, _, tokens) in shapes() {
            for (name, types) in types(head_dim) {
                for isa in Supported::all() {
                    let case = Case::new(isa, shape, types);
                    let place = format!("{} {name} {shape:?}", isa.isa());
                    let alone = case.attend(isa, 1);
                    for at_once in [2, 3, 7, tokens] {
                        assert!(case.attend(isa, at_once) == alone, "{place}: {at_once} at once");
                    }
                    assert!(case.attend_parts(isa) == alone, "{place}: parts each for itself");
                }
            }
        }
    }
}
