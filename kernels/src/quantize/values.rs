//! What codes of weights stand for, and what is left of weights that become such values.

use std::ops::{AddAssign, Range};

use super::number::{Number, round};
use crate::bytes::each;

/// So many weights at once: a vector of AVX2, two of the plainest x86-64.
pub const LANES: usize = 8;

/// Some weights, or something of each.
pub type Lanes = [f32; LANES];

/// So many trials at once: a vector of AVX-512, two of AVX2.
pub const TRIALS: usize = 16;

/// Scales and minima under trial, up to [`TRIALS`] of them.
#[derive(Clone, Copy)]
pub struct Trials {
    pub scales: [f32; TRIALS],
    pub minima: [f32; TRIALS],
    count: usize,
}

impl Trials {
    pub const NONE: Self = Self { scales: [0.0; TRIALS], minima: [0.0; TRIALS], count: 0 };

    /// Those in the first `count` lanes.
    pub fn new(scales: [f32; TRIALS], minima: [f32; TRIALS], count: usize) -> Self {
        Self { scales, minima, count }
    }

    /// Adds one to fewer than [`TRIALS`].
    #[inline(always)]
    pub fn push(&mut self, scale: f32, minimum: f32) {
        (self.scales[self.count], self.minima[self.count]) = (scale, minimum);
        self.count += 1;
    }

    pub fn len(&self) -> usize {
        self.count
    }
}

/// How scales and minima are corrected by least squares for the codes that they lead to.
#[derive(Clone, Copy)]
pub enum Correction {
    None,
    Scale,
    /// The minimum, too, which is of this sign, 0 for any; `total` is the sum of importance.
    ScaleAndMinimum {
        sign: f32,
        total: f32,
    },
}

impl Correction {
    /// What is added to the scale and to the `minimum` that leave `rest`, and the error then.
    #[inline(always)]
    pub fn of(self, minimum: f32, rest: &Residual) -> (f32, f32, f32) {
        let &Residual { rr, rv, r, vv, v } = rest;
        match self {
            Self::None => (0.0, 0.0, rr),
            Self::Scale => {
                let scale = if vv > 0.0 { rv / vv } else { 0.0 };
                (scale, 0.0, rest.after(scale, 0.0, 0.0))
            }
            Self::ScaleAndMinimum { sign, total } => {
                let (scale, change) = solve((vv, rv), v, (total, r));
                // Where the minimum would be of the other sign it is 0.
                let ends = if vv > 0.0 { (rv + minimum * v) / vv } else { 0.0 };
                let is_allowed = (minimum + change) * sign >= 0.0;
                let (scale, change) =
                    (if is_allowed { scale } else { ends }, if is_allowed { change } else { -minimum });
                (scale, change, rest.after(scale, change, total))
            }
        }
    }
}

/// The x and y with `a x + b y = r` and `b x + c y = s` for the two pairs (a, r) and (c, s); of an equation without
/// a solution of its own, 0.
#[inline(always)]
pub fn solve((a, r): (f32, f32), b: f32, (c, s): (f32, f32)) -> (f32, f32) {
    let determinant = a * c - b * b;
    let both = determinant > 1e-5 * a * c;
    let first = a > 0.0 && c == 0.0;
    // Every quotient, whichever it is: so the compiler makes vectors of many.
    let (x, y) = ((r * c - s * b) / determinant, (s * a - r * b) / determinant);
    let (of_first, of_second) = (if first { r / a } else { 0.0 }, if c > 0.0 { s / c } else { 0.0 });
    (if both { x } else { of_first }, if both { y } else { of_second })
}

/// Trials with their correction, and what they come to.
pub struct Found {
    pub trials: Trials,
    /// The squared errors.
    pub errors: [f32; TRIALS],
    /// What was left before the last correction.
    pub rests: Sums<TRIALS>,
}

impl Found {
    pub const fn new(trials: Trials) -> Self {
        Self { trials, errors: [0.0; TRIALS], rests: Sums::NONE }
    }

    /// Corrects the trials, which leave `rests`.
    #[inline(always)]
    pub fn correct(&mut self, correction: Correction) {
        let Self { trials: Trials { scales, minima, .. }, errors, rests: Sums { rr, rv, vv, .. } } = self;
        match correction {
            Correction::None => *errors = *rr,
            Correction::Scale => {
                let more: [f32; TRIALS] = each(|i| if vv[i] > 0.0 { rv[i] / vv[i] } else { 0.0 });
                *errors = each(|i| rr[i] - more[i] * rv[i]);
                *scales = each(|i| scales[i] + more[i]);
            }
            Correction::ScaleAndMinimum { .. } => {
                let more: [(f32, f32, f32); TRIALS] = each(|i| correction.of(minima[i], &self.rests.lane(i)));
                *errors = each(|i| more[i].2);
                *scales = each(|i| scales[i] + more[i].0);
                *minima = each(|i| minima[i] + more[i].1);
            }
        }
    }
}

/// Values that weights may have before a scale and a minimum.
pub trait Values: Copy {
    /// Where the values of all of these weights are those of one of several tables: these.
    fn tables(&self, _weighted: Weighted) -> &[Table] {
        &[]
    }

    /// Where several weights have a row of values together, about what single values rows have, and which shares of the best
    /// scale for these are worth a trial.
    fn levels(&self) -> Option<(&Table, &'static [f32])> {
        None
    }

    /// The magnitudes above 0 of all values.
    fn magnitudes(self) -> Vec<f32>;

    /// Whether each is as far from the next as any other.
    fn are_even(self) -> bool {
        false
    }

    /// The lowest and the highest.
    fn limits(self) -> (f32, f32);

    /// How far the outermost is from its neighbour: what a trial scale varies by.
    fn gap(self) -> f32;

    /// How many steps it is from the lowest to the highest, if all are as wide as the outermost; no fewer than there are of many
    /// values that lie closer elsewhere.
    fn steps(self) -> f32 {
        let (low, high) = self.limits();
        (high - low) / self.gap()
    }

    /// Whether under another scale weights may choose other values to have.
    fn are_chosen(self) -> bool {
        false
    }

    /// What is left of weights under `scale` and `minimum` when each has the value nearest to it.
    fn residual(self, weights: Weighted, scale: f32, minimum: f32) -> Residual;

    /// Corrects trials so often, each time for the codes that they lead to.
    fn correct(self, weights: Weighted, correction: Correction, times: usize, found: &mut Found) {
        for _ in 0..times {
            for lane in 0..found.trials.len() {
                let Trials { scales, minima, .. } = &found.trials;
                found.rests.set(lane, self.residual(weights, scales[lane], minima[lane]));
            }
            found.correct(correction);
        }
    }

    /// Adds the squared error under each of `trials` to that of the lane.
    fn add_errors(self, weights: Weighted, trials: &Trials, errors: &mut [f32; TRIALS]) {
        for (lane, error) in errors.iter_mut().enumerate().take(trials.len()) {
            *error += self.residual(weights, trials.scales[lane], trials.minima[lane]).rr;
        }
    }

    /// Weights whose values depend on each other, consecutive ones.
    fn unit(self) -> usize {
        1
    }

    /// What is left of eight weights under a scale and a minimum of each, in halves.
    fn mixed(self, weighted: Weighted, scales: Lanes, minima: Lanes) -> [Residual; 2] {
        let half = |start: usize| {
            self.residual(weighted.part(start..start + LANES / 2), scales[start], minima[start])
        };
        [half(0), half(LANES / 2)]
    }
}

/// Values of which each weight takes the nearest, whatever its neighbours do.
pub trait Single: Copy {
    /// The values nearest to `targets`.
    fn nearest<const L: usize>(self, targets: [f32; L]) -> [f32; L];
}

/// Weights and their importance.
#[derive(Clone, Copy)]
pub struct Weighted<'w> {
    pub weights: &'w [f32],
    pub importance: &'w [f32],
    /// Where the block has the first of these weights.
    pub first: usize,
    /// Whether they are the block's own, and not what is left of these above some minimum.
    pub own: bool,
}

/// Sums over weights of importance times products of the remainder r = w - (scale · v + minimum), the value v and 1.
#[derive(Clone, Copy, Default)]
pub struct Residual {
    /// The squared error.
    pub rr: f32,
    pub rv: f32,
    pub r: f32,
    pub vv: f32,
    pub v: f32,
}

impl Residual {
    /// The squared error after `scale` and `minimum` are added to those of the remainder, for the same values;
    /// `total` is the sum of importance.
    #[inline(always)]
    pub fn after(&self, scale: f32, minimum: f32, total: f32) -> f32 {
        let Self { rr, rv, r, vv, v } = *self;
        rr - 2.0 * (scale * rv + minimum * r)
            + scale * (scale * vv + 2.0 * minimum * v)
            + minimum * minimum * total
    }
}

impl AddAssign for Residual {
    fn add_assign(&mut self, other: Self) {
        self.rr += other.rr;
        self.rv += other.rv;
        self.r += other.r;
        self.vv += other.vv;
        self.v += other.v;
    }
}

impl Weighted<'_> {
    /// Those in `range`.
    pub fn part(self, range: Range<usize>) -> Self {
        Self {
            weights: &self.weights[range.clone()],
            importance: &self.importance[range.clone()],
            first: self.first + range.start,
            ..self
        }
    }

    /// The smallest and the largest weight.
    pub fn extremes(self) -> (f32, f32) {
        self.extremes_from(f32::NEG_INFINITY)
    }

    /// The smallest and the largest of the weights of so much importance or more, infinite where there are none.
    fn extremes_from(self, importance: f32) -> (f32, f32) {
        let (mut low, mut high) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        let mut look_at = |weights: &Lanes, of_weights: &Lanes| {
            let counts: [bool; LANES] = each(|i| of_weights[i] >= importance);
            low = each(|i| if counts[i] & (weights[i] < low[i]) { weights[i] } else { low[i] });
            high = each(|i| if counts[i] & (weights[i] > high[i]) { weights[i] } else { high[i] });
        };
        let (weights, last) = self.weights.as_chunks::<LANES>();
        let (of_weights, of_last) = self.importance.as_chunks::<LANES>();
        weights.iter().zip(of_weights).for_each(|(weights, of_weights)| look_at(weights, of_weights));
        if let Some(&first) = last.first() {
            // What fills the vector up is there already.
            let fill = |part: &[f32], fill| each(|i| part.get(i).copied().unwrap_or(fill));
            look_at(&fill(last, first), &fill(of_last, of_last[0]));
        }
        (pairwise(low, min), pairwise(high, max))
    }

    /// Whether the furthest weight, of this magnitude, is of less importance than most are.
    pub fn is_furthest_light(self, furthest: f32) -> bool {
        let Self { weights, importance, .. } = self;
        let of_furthest =
            most(weights.len(), |i| if weights[i].abs() == furthest { importance[i] } else { 0.0 });
        of_furthest * 8.0 < self.total_importance() / weights.len() as f32
    }

    /// The smallest and the largest weight, of all and of those that are not light, where these lie closer together: a
    /// weight of little importance may well stay outside the range of values. A `thorough` search has more of them. `all` are
    /// the [`extremes`](Self::extremes).
    pub fn bodies(self, all: (f32, f32), thorough: bool) -> impl Iterator<Item = (f32, f32)> {
        /// What a weight has at least, as a share of the mean importance.
        const SHARES: [f32; 2] = [0.02, 0.2];
        const MORE_SHARES: [f32; 7] = [0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 1.1];
        /// How much narrower a range is worth a search of its own.
        const NARROWER: f32 = 0.9;

        let mean = self.total_importance() / self.weights.len() as f32;
        let lightest = 2.0 - most(self.importance.len(), |i| 2.0 - self.importance[i]);
        let mut last = all;
        let shares: &[f32] = if thorough { &MORE_SHARES } else { &SHARES };
        let narrower =
            shares.iter().filter(move |&&share| share * mean > lightest).filter_map(move |share| {
                let (low, high) = self.extremes_from(share * mean);
                // There is a weight at all.
                let is_narrower = low <= high && high - low < NARROWER * (last.1 - last.0);
                is_narrower.then(|| {
                    last = (low, high);
                    last
                })
            });
        std::iter::once(all).chain(narrower)
    }

    pub fn total_importance(self) -> f32 {
        sum(self.importance.len(), |i| self.importance[i])
    }

    /// The weights and what they are multiplied by to be counted in units of `scale`. A scale so small that no
    /// weight is in its reach makes all of them 0.
    pub fn inverse(scale: f32) -> f32 {
        if scale.abs() < 1e-25 { 0.0 } else { 1.0 / scale }
    }
}

/// The sum of so many terms, some at once.
pub fn sum(count: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    for first in (0..count / LANES * LANES).step_by(LANES) {
        sums = each(|i| sums[i] + term(first + i));
    }
    (count / LANES * LANES..count).fold(pairwise(sums, |a, b| a + b), |sum, i| sum + term(i))
}

/// The largest of so many terms, some at once; 0 where none is above that.
#[inline(always)]
pub fn most(count: usize, term: impl Fn(usize) -> f32) -> f32 {
    joined(count, 0.0, max, term)
}

/// What `join` makes of so many terms, some at once, and of `none`, which changes no term.
#[inline(always)]
pub fn joined(
    count: usize,
    none: f32,
    join: impl Fn(f32, f32) -> f32 + Copy,
    term: impl Fn(usize) -> f32,
) -> f32 {
    let mut lanes = [none; LANES];
    for first in (0..count / LANES * LANES).step_by(LANES) {
        lanes = each(|i| join(lanes[i], term(first + i)));
    }
    (count / LANES * LANES..count).fold(pairwise(lanes, join), |joined, i| join(joined, term(i)))
}

/// The smaller one, as one instruction has it: `f32::min` has to do more for a NaN.
#[inline(always)]
pub fn min(a: f32, b: f32) -> f32 {
    if b < a { b } else { a }
}

/// The larger one, likewise.
#[inline(always)]
pub fn max(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// What `join` makes of all lanes.
#[inline(always)]
pub fn pairwise([a, b, c, d, e, f, g, h]: Lanes, join: impl Fn(f32, f32) -> f32) -> f32 {
    join(join(join(a, e), join(c, g)), join(join(b, f), join(d, h)))
}

/// The sums of a [`Residual`], of each lane apart.
pub struct Sums<const L: usize> {
    pub rr: [f32; L],
    pub rv: [f32; L],
    pub r: [f32; L],
    pub vv: [f32; L],
    pub v: [f32; L],
}

impl<const L: usize> Sums<L> {
    pub const NONE: Self = Self { rr: [0.0; L], rv: [0.0; L], r: [0.0; L], vv: [0.0; L], v: [0.0; L] };

    /// Adds what weights of this importance leave; where none have `MINIMA`, not to the sums that only these need.
    #[inline(always)]
    fn add<const MINIMA: bool>(&mut self, importance: [f32; L], values: [f32; L], remainders: [f32; L]) {
        // Sum by sum, not lane by lane: only then does the compiler keep each in a vector.
        let pr: [f32; L] = each(|i| importance[i] * remainders[i]);
        let pv: [f32; L] = each(|i| importance[i] * values[i]);
        self.rr = each(|i| pr[i].mul_add(remainders[i], self.rr[i]));
        self.rv = each(|i| pr[i].mul_add(values[i], self.rv[i]));
        self.vv = each(|i| pv[i].mul_add(values[i], self.vv[i]));
        if MINIMA {
            self.r = each(|i| self.r[i] + pr[i]);
            self.v = each(|i| self.v[i] + pv[i]);
        }
    }

    /// Takes over the lanes of `other` that leave less.
    pub fn keep_least(&mut self, other: &Self) {
        let less: [bool; L] = each(|i| other.rr[i] < self.rr[i]);
        let keep = |own: &mut [f32; L], other: &[f32; L]| {
            *own = each(|i| if less[i] { other[i] } else { own[i] });
        };
        keep(&mut self.rr, &other.rr);
        keep(&mut self.rv, &other.rv);
        keep(&mut self.r, &other.r);
        keep(&mut self.vv, &other.vv);
        keep(&mut self.v, &other.v);
    }

    /// Adds the lanes of `other`.
    pub fn add_each(&mut self, other: &Self) {
        self.rr = each(|i| self.rr[i] + other.rr[i]);
        self.rv = each(|i| self.rv[i] + other.rv[i]);
        self.r = each(|i| self.r[i] + other.r[i]);
        self.vv = each(|i| self.vv[i] + other.vv[i]);
        self.v = each(|i| self.v[i] + other.v[i]);
    }

    /// The sums of a lane.
    #[inline(always)]
    pub fn lane(&self, lane: usize) -> Residual {
        let Self { rr, rv, r, vv, v } = self;
        Residual { rr: rr[lane], rv: rv[lane], r: r[lane], vv: vv[lane], v: v[lane] }
    }

    fn set(&mut self, lane: usize, Residual { rr, rv, r, vv, v }: Residual) {
        (self.rr[lane], self.rv[lane], self.r[lane]) = (rr, rv, r);
        (self.vv[lane], self.v[lane]) = (vv, v);
    }
}

impl Sums<LANES> {
    /// Apart from the loop: beside it the compiler would keep the same lane of different sums together, and take
    /// three times as long.
    #[inline(never)]
    fn total(&self) -> Residual {
        let sum = |lanes: Lanes| pairwise(lanes, |a, b| a + b);
        let &Self { rr, rv, r, vv, v } = self;
        Residual { rr: sum(rr), rv: sum(rv), r: sum(r), vv: sum(vv), v: sum(v) }
    }
}

/// A function for whatever vectors the CPU has: to the bit the same on all, but many times slower where it has no fused
/// multiply-add.
macro_rules! on_any_vectors {
    (
        $(#[$doc:meta])*
        $visibility:vis fn $name:ident[$($generics:tt)*]($($argument:ident: $type:ty),* $(,)?) -> $result:ty $body:block
    ) => {
        $(#[$doc])*
        $visibility fn $name<$($generics)*>($($argument: $type),*) -> $result {
            #[inline(always)]
            fn portable<$($generics)*>($($argument: $type),*) -> $result $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f")]
                fn avx512<$($generics)*>($($argument: $type),*) -> $result {
                    portable($($argument),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2<$($generics)*>($($argument: $type),*) -> $result {
                    portable($($argument),*)
                }
                if std::arch::is_x86_feature_detected!("avx512f") {
                    // SAFETY: the CPU has AVX-512.
                    return unsafe { avx512($($argument),*) };
                }
                if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                    // SAFETY: the CPU has AVX2 and FMA.
                    return unsafe { avx2($($argument),*) };
                }
            }
            portable($($argument),*)
        }
    };
}
pub(super) use on_any_vectors;

on_any_vectors! {
    /// The remainder of up to eight weights under a scale and a minimum of each, when they have `values`.
    pub fn remainder[](weighted: Weighted, values: &Lanes, scales: &Lanes, minima: &Lanes) -> Residual {
        let Weighted { weights, importance, .. } = weighted;
        let mut sums = Sums::NONE;
        let remainder = |i: usize| weights.get(i).map_or(0.0, |w| (-scales[i]).mul_add(values[i], w - minima[i]));
        sums.add::<true>(each(|i| importance.get(i).copied().unwrap_or(0.0)), *values, each(remainder));
        sums.total()
    }
}

on_any_vectors! {
    /// [`Values::residual`] of single values.
    fn residual[V: Single](values: V, weighted: Weighted, scale: f32, minimum: f32) -> Residual {
        let inverse = Weighted::inverse(scale);
        let mut sums = Sums::NONE;
        let (weights, last) = weighted.weights.as_chunks::<LANES>();
        let (importance, last_importance) = weighted.importance.as_chunks::<LANES>();
        for (weights, importance) in weights.iter().zip(importance) {
            let above: Lanes = each(|i| weights[i] - minimum);
            let values = values.nearest::<LANES>(each(|i| above[i] * inverse));
            sums.add::<true>(*importance, values, each(|i| (-scale).mul_add(values[i], above[i])));
        }
        if !last.is_empty() {
            // What fills the vector up has no importance.
            let above: Lanes = each(|i| last.get(i).map_or(0.0, |w| w - minimum));
            let importance = each(|i| last_importance.get(i).copied().unwrap_or(0.0));
            let values = values.nearest::<LANES>(each(|i| above[i] * inverse));
            sums.add::<true>(importance, values, each(|i| (-scale).mul_add(values[i], above[i])));
        }
        sums.total()
    }
}

/// What single values leave under each of `trials`.
#[inline(always)]
fn rests<V: Single, const MINIMA: bool>(values: V, weighted: Weighted, trials: &Trials) -> Sums<TRIALS> {
    let Trials { scales, minima, .. } = trials;
    let inverses: [f32; TRIALS] = each(|i| Weighted::inverse(scales[i]));
    let mut sums = Sums::NONE;
    for (&w, &p) in weighted.weights.iter().zip(weighted.importance) {
        let above: [f32; TRIALS] = each(|i| if MINIMA { w - minima[i] } else { w });
        let values = values.nearest::<TRIALS>(each(|i| above[i] * inverses[i]));
        sums.add::<MINIMA>([p; TRIALS], values, each(|i| (-scales[i]).mul_add(values[i], above[i])));
    }
    sums
}

on_any_vectors! {
    /// What the entries of a table leave under each of `trials`.
    pub fn rests_of_table[](table: &Table, weighted: Weighted, trials: &Trials) -> Sums<TRIALS> {
        rests::<&Table, true>(table, weighted, trials)
    }
}

on_any_vectors! {
    /// [`Values::correct`] of single values.
    fn correct[V: Single](
        values: V,
        weighted: Weighted,
        correction: Correction,
        times: usize,
        found: &mut Found,
    ) -> () {
        for _ in 0..times {
            found.rests = match correction {
                Correction::ScaleAndMinimum { .. } => rests::<V, true>(values, weighted, &found.trials),
                _ => rests::<V, false>(values, weighted, &found.trials),
            };
            found.correct(correction);
        }
    }
}

on_any_vectors! {
    /// [`Values::add_errors`] of single values, of the first `L` trials.
    fn add_errors[V: Single, const L: usize](
        values: V,
        weighted: Weighted,
        trials: &Trials,
        errors: &mut [f32; L],
    ) -> () {
        let (scales, minima): ([f32; L], [f32; L]) = (each(|i| trials.scales[i]), each(|i| trials.minima[i]));
        let inverses: [f32; L] = each(|i| Weighted::inverse(scales[i]));
        let mut sums: [f32; L] = each(|i| errors[i]);
        for (&w, &p) in weighted.weights.iter().zip(weighted.importance) {
            let above: [f32; L] = each(|i| w - minima[i]);
            let values = values.nearest::<L>(each(|i| above[i] * inverses[i]));
            let remainder: [f32; L] = each(|i| (-scales[i]).mul_add(values[i], above[i]));
            sums = each(|i| (p * remainder[i]).mul_add(remainder[i], sums[i]));
        }
        *errors = sums;
    }
}

/// [`Values::add_errors`] of single values, with no more lanes than needed.
fn add_errors_of_single<V: Single>(
    values: V,
    weighted: Weighted,
    trials: &Trials,
    errors: &mut [f32; TRIALS],
) {
    match trials.len() {
        ..=4 => add_errors(values, weighted, trials, &mut errors.as_chunks_mut::<4>().0[0]),
        5..=8 => add_errors(values, weighted, trials, &mut errors.as_chunks_mut::<8>().0[0]),
        _ => add_errors(values, weighted, trials, errors),
    }
}

/// Values 1 apart, from the lowest on.
#[derive(Clone, Copy)]
pub struct Even {
    lowest: f32,
    steps: f32,
}

impl Even {
    /// The values of `number` in units of their distance, and that distance.
    pub fn of(number: Number) -> (Self, f32) {
        let step = match number {
            Number::Integer { step, .. } => step as f32,
            _ => 1.0,
        };
        let (low, high) = number.limits();
        (Self { lowest: low / step, steps: (high - low) / step }, step)
    }

    /// The same values with something added to each.
    pub fn moved(self, by: f32) -> Self {
        Self { lowest: self.lowest + by, ..self }
    }
}

impl Values for Even {
    fn are_even(self) -> bool {
        true
    }

    fn magnitudes(self) -> Vec<f32> {
        let values = (0..=self.steps as i32).map(|step| (self.lowest + step as f32).abs());
        values.filter(|&value| value > 0.0).collect()
    }

    fn limits(self) -> (f32, f32) {
        (self.lowest, self.lowest + self.steps)
    }

    fn gap(self) -> f32 {
        1.0
    }

    fn residual(self, weighted: Weighted, scale: f32, minimum: f32) -> Residual {
        residual(self, weighted, scale, minimum)
    }

    fn correct(self, weighted: Weighted, correction: Correction, times: usize, found: &mut Found) {
        correct(self, weighted, correction, times, found);
    }

    fn add_errors(self, weighted: Weighted, trials: &Trials, errors: &mut [f32; TRIALS]) {
        add_errors_of_single(self, weighted, trials, errors);
    }
}

impl Single for Even {
    #[inline(always)]
    fn nearest<const L: usize>(self, targets: [f32; L]) -> [f32; L] {
        each(|i| {
            let steps = targets[i] - self.lowest;
            let steps = if steps > 0.0 { steps } else { 0.0 };
            let steps = if steps < self.steps { steps } else { self.steps };
            round(steps) + self.lowest
        })
    }
}

/// The entries of a table, sorted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Table {
    /// As many as differ; a code of each.
    len: usize,
    entries: [f32; Self::MAX],
    /// Halfway from each entry to the next; infinite after the last. Of as many as are [`SCANNED`](Self::SCANNED).
    middles: [f32; Self::SCANNED],
    codes: [u8; Self::MAX],
    /// The values of all codes.
    values: [i8; Self::MAX],
    /// Of more entries than are [`SCANNED`](Self::SCANNED) the nearest to each half from -128 on, less a quarter: entries are
    /// whole, so that their middles are halves, and between two of these the same entry is the nearest.
    nearest: [i8; Self::HALVES],
}

impl Table {
    /// The most entries that a table may have.
    pub const MAX: usize = 256;
    /// So many entries are gone through for the nearest; of more it is looked up.
    const SCANNED: usize = 16;
    /// Halves from -128 to below 128.
    const HALVES: usize = 512;

    /// A table of the values of codes from 0 on.
    ///
    /// # Panics
    /// There are none, or more than [`Self::MAX`]; the compiler says so where the table is a constant.
    pub const fn new(values: &[i8]) -> Self {
        assert!(!values.is_empty() && values.len() <= Self::MAX, "a table has 1 to 256 entries");
        let mut table = Self {
            len: 0,
            entries: [0.0; Self::MAX],
            middles: [f32::INFINITY; Self::SCANNED],
            codes: [0; Self::MAX],
            values: [0; Self::MAX],
            nearest: [0; Self::HALVES],
        };
        table.values.split_at_mut(values.len()).0.copy_from_slice(values);
        let mut value = i8::MIN as i32;
        while value <= i8::MAX as i32 {
            let mut code = 0;
            while code < values.len() {
                if values[code] as i32 == value {
                    // Of equal entries the first.
                    table.entries[table.len] = value as f32;
                    table.codes[table.len] = code as u8;
                    table.len += 1;
                    break;
                }
                code += 1;
            }
            value += 1;
        }
        if table.len > Self::SCANNED {
            let (mut half, mut entry) = (0, 0);
            while half < Self::HALVES {
                let target = (half as f32 - 0.5) / 2.0 - 128.0;
                while entry + 1 < table.len && target > table.middle(entry) {
                    entry += 1;
                }
                table.nearest[half] = table.entries[entry] as i8;
                half += 1;
            }
            return table;
        }
        let mut entry = 1;
        while entry < table.len {
            table.middles[entry - 1] = table.middle(entry - 1);
            entry += 1;
        }
        table
    }

    /// Halfway from an entry to the next.
    const fn middle(&self, entry: usize) -> f32 {
        (self.entries[entry] + self.entries[entry + 1]) / 2.0
    }

    /// Of more entries than are scanned the one nearest to `value`.
    #[inline(always)]
    fn looked_up(&self, value: f32) -> f32 {
        // An f32 so large has no bits for a fraction: added to it, a number is rounded, and stands in the lowest ones.
        const LARGE: f32 = (3 << 22) as f32;
        let value = max(min(value, 127.0), -128.0);
        let half = (2.0 * (value + 128.0) + 0.5 + LARGE).to_bits() as usize % Self::HALVES;
        self.nearest[half].into()
    }

    pub(super) fn entries(&self) -> &[f32] {
        &self.entries[..self.len]
    }

    /// The entry nearest to `value`.
    pub(super) fn nearest_entry(&self, value: f32) -> f32 {
        if self.len > Self::SCANNED {
            return self.looked_up(value);
        }
        let pairs = self.entries().windows(2);
        pairs.take_while(|pair| value > (pair[0] + pair[1]) / 2.0).fold(self.entries[0], |_, pair| pair[1])
    }

    /// The value of a code; 0 for one that has none.
    pub(super) fn value(&self, code: u32) -> f32 {
        self.values.get(code as usize).copied().unwrap_or(0).into()
    }

    /// The entry of largest magnitude, as a magnitude.
    pub(super) fn largest(&self) -> f32 {
        let (low, high) = self.limits();
        high.max(-low)
    }

    /// The codes of the entries nearest to `weights` under `scale`, of two the first; 0 for a weight without one.
    #[inline(always)]
    pub(super) fn first_nearest<const L: usize>(&self, weights: &[f32; L], scale: f32) -> [u8; L] {
        let (mut least, mut nearest) = ([f32::INFINITY; L], [0_u32; L]);
        for (&entry, &code) in self.entries().iter().zip(&self.codes) {
            let (value, code) = (entry * scale, u32::from(code));
            let distances: [f32; L] = each(|i| (value - weights[i]).abs());
            // Without branches, so that it is done for many weights at once.
            let nearer: [bool; L] =
                each(|i| (distances[i] < least[i]) | (distances[i] == least[i]) & (code < nearest[i]));
            least = each(|i| if nearer[i] { distances[i] } else { least[i] });
            nearest = each(|i| if nearer[i] { code } else { nearest[i] });
        }
        each(|i| nearest[i] as u8)
    }

    /// The code of `value`, which is an entry.
    pub(super) fn code(&self, value: f32) -> u8 {
        self.codes[self.entries().partition_point(|&entry| entry < value).min(self.len - 1)]
    }
}

impl Values for &Table {
    fn magnitudes(self) -> Vec<f32> {
        self.entries().iter().map(|entry| entry.abs()).filter(|&entry| entry > 0.0).collect()
    }

    fn limits(self) -> (f32, f32) {
        (self.entries[0], self.entries[self.len - 1])
    }

    fn gap(self) -> f32 {
        match self.entries() {
            [first, second, ..] => second - first,
            _ => 1.0,
        }
    }

    fn steps(self) -> f32 {
        let (low, high) = self.limits();
        let many = if self.len > Table::SCANNED { self.len as f32 } else { 0.0 };
        max((high - low) / self.gap(), many)
    }

    fn residual(self, weighted: Weighted, scale: f32, minimum: f32) -> Residual {
        residual(self, weighted, scale, minimum)
    }

    fn correct(self, weighted: Weighted, correction: Correction, times: usize, found: &mut Found) {
        correct(self, weighted, correction, times, found);
    }

    fn add_errors(self, weighted: Weighted, trials: &Trials, errors: &mut [f32; TRIALS]) {
        add_errors_of_single(self, weighted, trials, errors);
    }
}

impl Single for &Table {
    #[inline(always)]
    fn nearest<const L: usize>(self, targets: [f32; L]) -> [f32; L] {
        if self.len > Table::SCANNED {
            return each(|i| self.looked_up(targets[i]));
        }
        let mut values = [self.entries[0]; L];
        // As many steps for every such table: the compiler makes vectors of a loop without branches.
        for entry in 1..Table::SCANNED {
            let (middle, above) = (self.middles[entry - 1], self.entries[entry]);
            values = each(|i| if targets[i] > middle { above } else { values[i] });
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::{Correction, Even, Found, Number, Single, TRIALS, Table, Trials, Values, Weighted};

    #[test]
    fn the_nearest_value_is_nearest() {
        const FP4: Table = Table::new(&[0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]);
        const SIGNS: Table = Table::new(&[-1, 1]);
        let even = |first, step, max| Even::of(Number::Integer { first, step, max });
        let (odd, two) = even(-1, 2, 1);
        assert_eq!(two, 2.0);
        fn check<V: Single>(name: &str, values: V, all: &[f32]) {
            for i in -2000..2000 {
                let target = i as f32 * 0.01;
                let value = values.nearest([target])[0];
                assert!(all.contains(&value), "{name}: {target} became {value}");
                let least = all.iter().map(|v| (v - target).abs()).fold(f32::INFINITY, f32::min);
                assert!((value - target).abs() <= least + 1e-5, "{name}: {target} became {value}");
            }
        }
        let fp4: Vec<f32> = [0, 1, 2, 3, 4, 6, 8, 12].iter().flat_map(|&v| [v as f32, -v as f32]).collect();
        check("FP4", &FP4, &fp4);
        check("signs", &SIGNS, &[-1.0, 1.0]);
        for count in [17, 32, 64, 128, 256] {
            // From one end to the other, closer in the middle.
            let far = |i: usize| (i as f32 / (count - 1) as f32 * 2.0 - 1.0).powi(3);
            let entries: Vec<i8> = (0..count).map(|i| (far(i) * 127.5 - 0.5) as i8).collect();
            let all: Vec<f32> = entries.iter().map(|&entry| entry.into()).collect();
            let table = Table::new(&entries);
            check(&format!("{count} entries"), &table, &all);
            for i in -1200..1200 {
                let target = i as f32 / 8.0;
                let distance = |value: f32| (value - target).abs();
                let least = all.iter().map(|&value| distance(value)).fold(f32::INFINITY, f32::min);
                let [value] = (&table).nearest([target]);
                assert_eq!(distance(value), least, "{count} entries: {target} became {value}");
                assert_eq!(distance(table.nearest_entry(target)), least, "{count} entries: {target}");
            }
        }
        check("halves", odd, &[-0.5, 0.5]);
        check("-8 to 7", even(-8, 1, 15).0, &(-8..8).map(|v| v as f32).collect::<Vec<_>>());
        check("ternary", even(-1, 1, 2).0, &[-1.0, 0.0, 1.0]);
    }

    /// What trials leave does not depend on how many are evaluated together.
    #[test]
    fn trials_together_leave_what_one_leaves() {
        fn check<V: Values>(name: &str, values: V) {
            for (len, count) in [(4, 16), (16, 8), (20, 5), (32, 3)] {
                let weights: Vec<f32> = (0..len).map(|i| (i as f32 * 1.7).sin() - 0.1).collect();
                let importance: Vec<f32> = (0..len).map(|i| (i as f32 * 0.9).cos().abs()).collect();
                let weighted = Weighted { weights: &weights, importance: &importance, first: 0, own: false };
                let mut trials = Trials::NONE;
                for i in 0..count {
                    trials.push((i as f32 - 5.5) * 0.013, if i % 2 == 0 { 0.0 } else { -0.3 });
                }
                let total = weighted.total_importance();
                for correction in [
                    Correction::None,
                    Correction::Scale,
                    Correction::ScaleAndMinimum { sign: 0.0, total },
                    Correction::ScaleAndMinimum { sign: -1.0, total },
                ] {
                    // Scales alone have no minima.
                    let has_minima = matches!(correction, Correction::ScaleAndMinimum { .. });
                    let minima = if has_minima { trials.minima } else { [0.0; TRIALS] };
                    let trials = Trials { minima, ..trials };
                    let mut found = Found::new(trials);
                    values.correct(weighted, correction, 1, &mut found);
                    let mut errors = [1.0; TRIALS];
                    values.add_errors(weighted, &trials, &mut errors);
                    for lane in 0..count {
                        let near = |what: &str, a: f32, b: f32| {
                            let case = format!("{name}: {len} weights, trial {lane}, {what}: {a}, {b}");
                            assert!((a - b).abs() <= 1e-4 * (1.0 + a.abs()), "{case}");
                        };
                        let alone = values.residual(weighted, trials.scales[lane], minima[lane]);
                        let (scale, minimum, error) = correction.of(minima[lane], &alone);
                        near("scale", found.trials.scales[lane], trials.scales[lane] + scale);
                        near("minimum", found.trials.minima[lane], minima[lane] + minimum);
                        near("error", found.errors[lane], error);
                        near("error of the trial", errors[lane], 1.0 + alone.rr);
                        near("vv", found.rests.lane(lane).vv, alone.vv);
                    }
                }
            }
        }
        check("4 bits", Even::of(Number::Integer { first: -8, step: 1, max: 15 }).0);
        check(
            "table",
            &Table::new(&[-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]),
        );
    }

    #[test]
    fn of_equal_entries_the_first_has_the_code() {
        let table = Table::new(&[3, 0, -2, 0, 3]);
        for (value, code) in [(3.0, 0), (0.0, 1), (-2.0, 2)] {
            assert_eq!(table.code(value), code, "{value}");
        }
    }
}
