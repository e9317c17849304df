//! What codes of weights stand for, and what is left of weights that become such values.

use std::ops::AddAssign;

use super::number::{Number, round};

/// So many weights at once: a vector of AVX2, two of the plainest x86-64.
pub const LANES: usize = 8;

/// Some weights, or something of each.
pub type Lanes = [f32; LANES];

/// Values that weights may have before a scale and a minimum.
pub trait Values: Copy {
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

    /// Weights whose values depend on each other, consecutive ones.
    fn unit(self) -> usize {
        1
    }

    /// What is left of eight weights under a scale and a minimum of each, in halves.
    fn mixed(self, weighted: Weighted, scales: Lanes, minima: Lanes) -> [Residual; 2] {
        let (weights, importance) =
            (weighted.weights.split_at(LANES / 2), weighted.importance.split_at(LANES / 2));
        [
            self.residual(Weighted { weights: weights.0, importance: importance.0 }, scales[0], minima[0]),
            self.residual(
                Weighted { weights: weights.1, importance: importance.1 },
                scales[LANES / 2],
                minima[LANES / 2],
            ),
        ]
    }
}

/// Values of which each weight takes the nearest, whatever its neighbours do.
pub trait Single: Copy {
    /// The values nearest to `targets`.
    fn nearest(self, targets: Lanes) -> Lanes;
}

/// Weights and their importance.
#[derive(Clone, Copy)]
pub struct Weighted<'w> {
    pub weights: &'w [f32],
    pub importance: &'w [f32],
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

/// A lane of an array at a time: loops are what the compiler makes vectors of.
#[inline(always)]
pub fn each(element: impl Fn(usize) -> f32) -> Lanes {
    let mut lanes = [0.0; LANES];
    for (i, lane) in lanes.iter_mut().enumerate() {
        *lane = element(i);
    }
    lanes
}

/// The sums of a [`Residual`], of each lane apart until the end.
#[derive(Default)]
pub struct Sums {
    rr: Lanes,
    rv: Lanes,
    r: Lanes,
    vv: Lanes,
    v: Lanes,
}

impl Sums {
    #[inline(always)]
    pub fn add(&mut self, importance: Lanes, values: Lanes, remainders: Lanes) {
        // Sum by sum, not lane by lane: only then does the compiler keep each in a vector.
        let pr = each(|i| importance[i] * remainders[i]);
        let pv = each(|i| importance[i] * values[i]);
        self.rr = each(|i| self.rr[i] + pr[i] * remainders[i]);
        self.rv = each(|i| self.rv[i] + pr[i] * values[i]);
        self.r = each(|i| self.r[i] + pr[i]);
        self.vv = each(|i| self.vv[i] + pv[i] * values[i]);
        self.v = each(|i| self.v[i] + pv[i]);
    }

    /// Apart from the loop: beside it the compiler would keep the same lane of different sums together, and take
    /// three times as long.
    #[inline(never)]
    pub fn total(&self) -> Residual {
        let sum = |[a, b, c, d, e, f, g, h]: Lanes| ((a + e) + (c + g)) + ((b + f) + (d + h));
        let &Self { rr, rv, r, vv, v } = self;
        Residual { rr: sum(rr), rv: sum(rv), r: sum(r), vv: sum(vv), v: sum(v) }
    }
}

/// [`Values::residual`] of single values, on whatever vectors the CPU has: to the bit the same on all.
fn residual<V: Single>(values: V, weighted: Weighted, scale: f32, minimum: f32) -> Residual {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2<V: Single>(values: V, weighted: Weighted, scale: f32, minimum: f32) -> Residual {
            portable(values, weighted, scale, minimum)
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the CPU has AVX2.
            return unsafe { avx2(values, weighted, scale, minimum) };
        }
    }
    #[inline(always)]
    fn portable<V: Single>(values: V, weighted: Weighted, scale: f32, minimum: f32) -> Residual {
        let inverse = Weighted::inverse(scale);
        let mut sums = Sums::default();
        let (weights, last) = weighted.weights.as_chunks::<LANES>();
        let (importance, last_importance) = weighted.importance.as_chunks::<LANES>();
        for (weights, importance) in weights.iter().zip(importance) {
            let above = each(|i| weights[i] - minimum);
            let values = values.nearest(each(|i| above[i] * inverse));
            sums.add(*importance, values, each(|i| above[i] - scale * values[i]));
        }
        if !last.is_empty() {
            // What fills the vector up has no importance.
            let above = each(|i| last.get(i).map_or(0.0, |w| w - minimum));
            let importance = each(|i| last_importance.get(i).copied().unwrap_or(0.0));
            let values = values.nearest(each(|i| above[i] * inverse));
            sums.add(importance, values, each(|i| above[i] - scale * values[i]));
        }
        sums.total()
    }
    portable(values, weighted, scale, minimum)
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
}

impl Single for Even {
    #[inline(always)]
    fn nearest(self, targets: Lanes) -> Lanes {
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
        let mut table =
            Self { len: 0, entries: [0.0; Self::MAX], codes: [0; Self::MAX], values: [0; Self::MAX] };
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
}

impl Single for &Table {
    #[inline(always)]
    fn nearest(self, targets: Lanes) -> Lanes {
        let mut values = [self.entries[0]; LANES];
        for pair in self.entries().windows(2) {
            let (middle, step) = ((pair[0] + pair[1]) / 2.0, pair[1] - pair[0]);
            values = each(|i| values[i] + if targets[i] > middle { step } else { 0.0 });
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::{Even, Number, Single, Table, each};

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
                let value = values.nearest(each(|_| target))[0];
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

    #[test]
    fn of_equal_entries_the_first_has_the_code() {
        let table = Table::new(&[3, 0, -2, 0, 3]);
        for (value, code) in [(3.0, 0), (0.0, 1), (-2.0, 2)] {
            assert_eq!(table.code(value), code, "{value}");
        }
    }
}
