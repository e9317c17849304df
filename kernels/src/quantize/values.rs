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

/// A scale and a minimum under trial. Trials stand in series, which end when one of theirs is poor.
#[derive(Clone, Copy, Default)]
pub struct Trial {
    pub scale: f32,
    pub minimum: f32,
    pub series: usize,
}

/// Values that weights may have before a scale and a minimum.
pub trait Values: Copy {
    /// Trials that are evaluated together, up to [`TRIALS`].
    const AT_ONCE: usize = 1;

    /// Trial scales lie so many to each side.
    fn trials(self) -> i32 {
        9
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

    /// What is left of weights under `scale` and `minimum` when each has the value nearest to it.
    fn residual(self, weights: Weighted, scale: f32, minimum: f32) -> Residual;

    /// The same under each of up to [`TRIALS`] scales and minima.
    fn residuals(self, weights: Weighted, trials: &[Trial]) -> Sums<TRIALS> {
        Sums::one_by_one(trials, |trial| self.residual(weights, trial.scale, trial.minimum))
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
    /// Where the block has the first of these weights, if they are the block's own.
    pub at: Option<usize>,
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
            at: self.at.map(|at| at + range.start),
        }
    }

    /// The smallest and the largest weight.
    pub fn extremes(self) -> (f32, f32) {
        self.weights
            .iter()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &w| (low.min(w), high.max(w)))
    }

    /// Whether the furthest weight is of less importance than most are.
    pub fn is_furthest_light(self) -> bool {
        let furthest =
            |at: (f32, f32), (&w, &p): (&f32, &f32)| if w.abs() > at.0 { (w.abs(), p) } else { at };
        let (_, importance) = self.weights.iter().zip(self.importance).fold((0.0, 0.0), furthest);
        importance * 8.0 < self.total_importance() / self.weights.len() as f32
    }

    /// The smallest and the largest weight, of all and of those that are not light, where these lie closer together: a
    /// weight of little importance may well stay outside the range of values. A `thorough` search has more of them.
    pub fn bodies(self, thorough: bool) -> impl Iterator<Item = (f32, f32)> {
        /// What a weight has at least, as a share of the mean importance.
        const SHARES: [f32; 3] = [0.0, 0.02, 0.2];
        const MORE_SHARES: [f32; 8] = [0.0, 0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 1.1];
        /// How much narrower a range is worth a search of its own.
        const NARROWER: f32 = 0.9;

        let mean = self.total_importance() / self.weights.len() as f32;
        let mut last: Option<(f32, f32)> = None;
        let shares: &[f32] = if thorough { &MORE_SHARES } else { &SHARES };
        shares.iter().filter_map(move |share| {
            let heavy = self.weights.iter().zip(self.importance).filter(|(_, p)| **p >= share * mean);
            let (low, high) = heavy
                .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), (&w, _)| (low.min(w), high.max(w)));
            let is_narrower = last.is_none_or(|(l, h)| high - low < NARROWER * (h - l));
            // There is a weight at all.
            (low <= high && is_narrower).then(|| *last.insert((low, high)))
        })
    }

    pub fn total_importance(self) -> f32 {
        self.importance.iter().sum()
    }

    /// The weights and what they are multiplied by to be counted in units of `scale`. A scale so small that no
    /// weight is in its reach makes all of them 0.
    pub fn inverse(scale: f32) -> f32 {
        if scale.abs() < 1e-25 { 0.0 } else { 1.0 / scale }
    }
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
    const NONE: Self = Self { rr: [0.0; L], rv: [0.0; L], r: [0.0; L], vv: [0.0; L], v: [0.0; L] };

    #[inline(always)]
    fn add(&mut self, importance: [f32; L], values: [f32; L], remainders: [f32; L]) {
        // Sum by sum, not lane by lane: only then does the compiler keep each in a vector.
        let pr: [f32; L] = each(|i| importance[i] * remainders[i]);
        let pv: [f32; L] = each(|i| importance[i] * values[i]);
        self.rr = each(|i| self.rr[i] + pr[i] * remainders[i]);
        self.rv = each(|i| self.rv[i] + pr[i] * values[i]);
        self.r = each(|i| self.r[i] + pr[i]);
        self.vv = each(|i| self.vv[i] + pv[i] * values[i]);
        self.v = each(|i| self.v[i] + pv[i]);
    }

    /// The sums of a lane.
    #[inline(always)]
    pub fn lane(&self, lane: usize) -> Residual {
        let Self { rr, rv, r, vv, v } = self;
        Residual { rr: rr[lane], rv: rv[lane], r: r[lane], vv: vv[lane], v: v[lane] }
    }

    /// A trial in each lane.
    fn one_by_one(trials: &[Trial], residual: impl Fn(&Trial) -> Residual) -> Self {
        let mut sums = Self::NONE;
        for (lane, trial) in trials.iter().enumerate() {
            let Residual { rr, rv, r, vv, v } = residual(trial);
            (sums.rr[lane], sums.rv[lane], sums.r[lane]) = (rr, rv, r);
            (sums.vv[lane], sums.v[lane]) = (vv, v);
        }
        sums
    }

    #[inline(always)]
    fn plus(&self, other: &Self) -> Self {
        let sum = |a: &[f32; L], b: &[f32; L]| each(|i| a[i] + b[i]);
        Self {
            rr: sum(&self.rr, &other.rr),
            rv: sum(&self.rv, &other.rv),
            r: sum(&self.r, &other.r),
            vv: sum(&self.vv, &other.vv),
            v: sum(&self.v, &other.v),
        }
    }
}

impl Sums<LANES> {
    /// Apart from the loop: beside it the compiler would keep the same lane of different sums together, and take
    /// three times as long.
    #[inline(never)]
    fn total(&self) -> Residual {
        let sum = |[a, b, c, d, e, f, g, h]: Lanes| ((a + e) + (c + g)) + ((b + f) + (d + h));
        let &Self { rr, rv, r, vv, v } = self;
        Residual { rr: sum(rr), rv: sum(rv), r: sum(r), vv: sum(vv), v: sum(v) }
    }
}

/// A function for whatever vectors the CPU has: to the bit the same on all.
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
                #[target_feature(enable = "avx2")]
                fn avx2<$($generics)*>($($argument: $type),*) -> $result {
                    portable($($argument),*)
                }
                if std::arch::is_x86_feature_detected!("avx512f") {
                    // SAFETY: the CPU has AVX-512.
                    return unsafe { avx512($($argument),*) };
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the CPU has AVX2.
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
        let remainder = |i: usize| weights.get(i).map_or(0.0, |w| w - minima[i] - scales[i] * values[i]);
        sums.add(each(|i| importance.get(i).copied().unwrap_or(0.0)), *values, each(remainder));
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
            sums.add(*importance, values, each(|i| above[i] - scale * values[i]));
        }
        if !last.is_empty() {
            // What fills the vector up has no importance.
            let above: Lanes = each(|i| last.get(i).map_or(0.0, |w| w - minimum));
            let importance = each(|i| last_importance.get(i).copied().unwrap_or(0.0));
            let values = values.nearest::<LANES>(each(|i| above[i] * inverse));
            sums.add(importance, values, each(|i| above[i] - scale * values[i]));
        }
        sums.total()
    }
}

/// The sums over every eighth weight from `first` on, a trial in each lane.
#[inline(always)]
fn eighth<V: Single>(
    values: V,
    weighted: Weighted,
    [scales, inverses, minima]: [&[f32; TRIALS]; 3],
    first: usize,
) -> Sums<TRIALS> {
    let mut sums = Sums::NONE;
    let mut at = first;
    while let (Some(&w), Some(&p)) = (weighted.weights.get(at), weighted.importance.get(at)) {
        let above: [f32; TRIALS] = each(|i| w - minima[i]);
        let values = values.nearest::<TRIALS>(each(|i| above[i] * inverses[i]));
        sums.add([p; TRIALS], values, each(|i| above[i] - scales[i] * values[i]));
        at += LANES;
    }
    sums
}

/// The sums of [`eighth`] from `first` and from four weights further on.
#[inline(always)]
fn quarter<V: Single>(
    values: V,
    weighted: Weighted,
    trials: [&[f32; TRIALS]; 3],
    first: usize,
) -> Sums<TRIALS> {
    eighth(values, weighted, trials, first).plus(&eighth(values, weighted, trials, first + LANES / 2))
}

on_any_vectors! {
    /// The sums of [`Values::residuals`] of single values, a trial in each lane: those of [`residual`] to the bit, as they
    /// are added in the same order.
    fn sums[V: Single](
        values: V,
        weighted: Weighted,
        scales: &[f32; TRIALS],
        minima: &[f32; TRIALS],
    ) -> Sums<TRIALS> {
        let inverses: [f32; TRIALS] = each(|i| Weighted::inverse(scales[i]));
        let trials = [scales, &inverses, minima];
        let even = quarter(values, weighted, trials, 0).plus(&quarter(values, weighted, trials, 2));
        let odd = quarter(values, weighted, trials, 1).plus(&quarter(values, weighted, trials, 3));
        even.plus(&odd)
    }
}

/// So many trials or fewer are faster one by one.
const FEW: usize = 3;

/// [`Values::residuals`] of single values.
fn residuals<V: Values + Single>(values: V, weighted: Weighted, trials: &[Trial]) -> Sums<TRIALS> {
    if trials.len() > FEW {
        let (mut scales, mut minima) = ([0.0; TRIALS], [0.0; TRIALS]);
        for (i, trial) in trials.iter().enumerate() {
            (scales[i], minima[i]) = (trial.scale, trial.minimum);
        }
        return sums(values, weighted, &scales, &minima);
    }
    Sums::one_by_one(trials, |trial| residual(values, weighted, trial.scale, trial.minimum))
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
}

impl Values for Even {
    const AT_ONCE: usize = TRIALS;

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

    fn residuals(self, weighted: Weighted, trials: &[Trial]) -> Sums<TRIALS> {
        residuals(self, weighted, trials)
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
    /// Halfway from each entry to the next; infinite after the last.
    middles: [f32; Self::MAX],
    codes: [u8; Self::MAX],
    /// The values of all codes.
    values: [i8; Self::MAX],
}

impl Table {
    /// The most entries that a table may have.
    pub const MAX: usize = 16;

    /// A table of the values of codes from 0 on.
    ///
    /// # Panics
    /// There are none, or more than [`Self::MAX`]; the compiler says so where the table is a constant.
    pub const fn new(values: &[i8]) -> Self {
        assert!(!values.is_empty() && values.len() <= Self::MAX, "a table has 1 to 16 entries");
        let mut table = Self {
            len: 0,
            entries: [0.0; Self::MAX],
            middles: [f32::INFINITY; Self::MAX],
            codes: [0; Self::MAX],
            values: [0; Self::MAX],
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
        let mut entry = 1;
        while entry < table.len {
            table.middles[entry - 1] = (table.entries[entry - 1] + table.entries[entry]) / 2.0;
            entry += 1;
        }
        table
    }

    pub(super) fn entries(&self) -> &[f32] {
        &self.entries[..self.len]
    }

    /// The entry nearest to `value`.
    pub(super) fn nearest_entry(&self, value: f32) -> f32 {
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

    /// The code of the entry nearest to `weight` under `scale`, of two the first; 0 for a weight without one.
    pub(super) fn first_nearest(&self, weight: f32, scale: f32) -> u8 {
        let (mut least, mut nearest) = (f32::INFINITY, 0);
        for (&entry, &code) in self.entries().iter().zip(&self.codes) {
            let distance = (entry * scale - weight).abs();
            if distance < least || (distance == least && code < nearest) {
                (least, nearest) = (distance, code);
            }
        }
        nearest
    }

    /// The code of `value`, which is an entry.
    pub(super) fn code(&self, value: f32) -> u8 {
        self.codes[self.entries().partition_point(|&entry| entry < value).min(self.len - 1)]
    }
}

impl Values for &Table {
    const AT_ONCE: usize = TRIALS;

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

    fn residual(self, weighted: Weighted, scale: f32, minimum: f32) -> Residual {
        residual(self, weighted, scale, minimum)
    }

    fn residuals(self, weighted: Weighted, trials: &[Trial]) -> Sums<TRIALS> {
        residuals(self, weighted, trials)
    }
}

impl Single for &Table {
    #[inline(always)]
    fn nearest<const L: usize>(self, targets: [f32; L]) -> [f32; L] {
        let mut values = [self.entries[0]; L];
        // As many steps for every table: the compiler makes vectors of a loop without branches.
        for entry in 1..Table::MAX {
            let (middle, above) = (self.middles[entry - 1], self.entries[entry]);
            values = each(|i| if targets[i] > middle { above } else { values[i] });
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::{Even, Number, Single, TRIALS, Table, Trial, Values, Weighted};

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
        check("halves", odd, &[-0.5, 0.5]);
        check("-8 to 7", even(-8, 1, 15).0, &(-8..8).map(|v| v as f32).collect::<Vec<_>>());
        check("ternary", even(-1, 1, 2).0, &[-1.0, 0.0, 1.0]);
    }

    /// The errors of trials don't depend on how many are evaluated together.
    #[test]
    fn trials_together_have_the_sums_of_one() {
        fn check<V: Values>(name: &str, values: V) {
            for len in [4, 16, 20, 32] {
                let weights: Vec<f32> = (0..len).map(|i| (i as f32 * 1.7).sin() - 0.1).collect();
                let importance: Vec<f32> = (0..len).map(|i| (i as f32 * 0.9).cos().abs()).collect();
                let weighted = Weighted { weights: &weights, importance: &importance, at: None };
                let trials: [Trial; TRIALS] = std::array::from_fn(|i| Trial {
                    scale: (i as f32 - 5.0) * 0.013,
                    minimum: if i % 2 == 0 { 0.0 } else { -0.3 },
                    series: 0,
                });
                let sums = values.residuals(weighted, &trials);
                for (lane, trial) in trials.iter().enumerate() {
                    let alone = values.residual(weighted, trial.scale, trial.minimum);
                    let bits = |rest: super::Residual| {
                        [rest.rr, rest.rv, rest.r, rest.vv, rest.v].map(|sum| (sum + 0.0).to_bits())
                    };
                    assert_eq!(bits(sums.lane(lane)), bits(alone), "{name}: {len} weights, trial {lane}");
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
