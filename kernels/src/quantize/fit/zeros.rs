//! The search where blocks or groups have zero points: `w = scale · (value + zero)`.
//!
//! For a fixed zero point the values of codes are the same ones moved, so that the best scale for them is found as it is without
//! one. Weights that share a scale or a zero point, whichever more of them do, are a part of the block. Of each part some ways
//! are found first, by itself: where it has one zero point, the best scales for each of those that may serve; where it has one
//! scale, of some scales those with the best zero points. Then numbers of the block and of groups are chosen that come nearest
//! to these, and part by part all ways are tried with the scales that there are, as long as that lowers the error.

use super::*;
use crate::quantize::values::Even;

/// The largest zero points that are numbers with a fraction: from twice as much on those of an f16 are further apart than values.
const FURTHEST: f32 = 2048.0;

/// A block under search, in the unit of [`Fit`].
#[derive(Clone)]
pub struct ZeroFit<const N: usize> {
    values: Even,
    weights: [f32; N],
    importance: [f32; N],
    scale: Factor<N>,
    zeros: Zeros<N>,
    few: bool,
    fine: bool,
}

/// The zero points under search.
#[derive(Clone)]
struct Zeros<const N: usize> {
    number: Number,
    constant: f32,
    /// Whether they are those of groups, rather than the one of the block.
    of_groups: bool,
    /// The numbers, in the first places.
    numbers: [f32; N],
    count: usize,
    /// Weights of each.
    size: usize,
}

/// Weights that share a scale or a zero point.
struct Part {
    zeros: Range<usize>,
    scales: Range<usize>,
    ways: Vec<Way>,
}

/// Zero points of a part, as their numbers, and what its scales would be with these if they were exact.
#[derive(Clone)]
struct Way {
    zeros: Vec<f32>,
    scales: Vec<Target>,
    error: f32,
}

impl<const N: usize> ZeroFit<N> {
    /// The block nearest to `weights`, with so many group scales and zero points; 0 where these are the block's.
    pub fn search(
        values: Even,
        weights: &[f32; N],
        importance: Option<&[f32; N]>,
        scale: Product,
        zero: Product,
        [scales, zeros]: [usize; 2],
    ) -> Self {
        let (unit, weights, importance) = in_units(weights, importance);
        let zeros = Zeros::new(zero, zeros);
        let (low, high) = values.limits();
        let scale = Factor::new(scale, unit, scales, high.max(-low) + zeros.furthest());
        let magnitude = most(N, |i| weights[i].abs());
        let few = weights.iter().all(|&w| w == 0.0 || w.abs() == magnitude);
        let fine = has_more_steps(values, if scale.product.group.is_some() { 64.0 } else { 32.0 });
        let start = Self { values, weights, importance, scale, zeros, few, fine };
        let mut best = (f32::INFINITY, start.clone());
        for &sign in start.scale.reach().signs() {
            let parts = start.parts(sign);
            // Where all weights share a scale, each of the ways may lead to the best block.
            let starts = match &parts[..] {
                [part] => part.ways.len(),
                _ => 1,
            };
            for way in 0..starts {
                let mut trial = start.clone();
                let error = trial.run(&parts, way);
                if error < best.0 && trial.scale.is_finite() {
                    best = (error, trial);
                }
            }
        }
        best.1
    }

    /// Chooses all numbers, beginning with the `way`-th best of each part. Returns the error.
    fn run(&mut self, parts: &[Part], way: usize) -> f32 {
        let mut targets = [Target::default(); N];
        for part in parts {
            let Some(way) = part.ways.get(way) else { continue };
            targets[part.scales.clone()].copy_from_slice(&way.scales);
            self.zeros.numbers[part.zeros.clone()].copy_from_slice(&way.zeros);
        }
        // What is rounded up stays finite.
        let most = 0.99 * self.scale.most;
        for target in &mut targets[..self.scale.count] {
            target.value = target.value.clamp(-most, most);
        }
        self.scale.choose(&targets);
        let mut best = (self.improve(parts), self.clone());
        // Few numbers of groups hardly follow their targets: others of the block may serve better.
        if self.scale.has_coarse_groups() {
            for block in self.scale.trials(&targets[..self.scale.count]) {
                self.scale.take(block, &targets[..self.scale.count]);
                let error = self.improve(parts);
                if error < best.0 && self.scale.is_finite() {
                    best = (error, self.clone());
                }
            }
        }
        let error;
        (error, *self) = best;
        error
    }

    /// Improves numbers as long as that lowers the error, which it returns, by a hundredth or more.
    fn improve(&mut self, parts: &[Part]) -> f32 {
        let mut error = f32::INFINITY;
        for _ in 0..ROUNDS {
            let before = error;
            for part in parts {
                self.improve_part(part);
            }
            error = self.improve_block();
            if error >= 0.99 * before {
                break;
            }
        }
        error
    }

    /// The parts of the block, and for each the best ways with scales of `sign`, 0 for any, in the order of their errors.
    fn parts(&self, sign: f32) -> Vec<Part> {
        let size = self.scale.size.max(self.zeros.size);
        let part = |start: usize| {
            let each = |size: usize, all: usize| start / size..(start + all) / size;
            let (scales, zeros) = (each(self.scale.size, size), each(self.zeros.size, size));
            let mut ways = match zeros.len() {
                1 => self.ways_of_zero(start..start + size, scales.clone(), sign),
                _ => self.ways_of_scale(start..start + size, zeros.clone(), sign),
            };
            ways.sort_by(|a, b| a.error.total_cmp(&b.error));
            Part { zeros, scales, ways }
        };
        (0..N).step_by(size).map(part).collect()
    }

    /// The ways of weights with one zero point: one for each number that may serve.
    fn ways_of_zero(&self, range: Range<usize>, scales: Range<usize>, sign: f32) -> Vec<Way> {
        /// Those that leave so many times as much as the best, under scales that take all weights in, are not looked at further.
        const FAR: f32 = 2.0;

        let mut numbers: Vec<(f32, f32)> = self
            .zeros_for(range, scales.clone(), sign)
            .into_iter()
            .map(|number| (scales.clone().map(|g| self.about(g, number, sign)).sum(), number))
            .collect();
        let least = numbers.iter().fold(f32::INFINITY, |least, (error, _)| least.min(*error));
        // Of numbers with fractions there are few.
        numbers.retain(|&(error, _)| error <= FAR * least || self.zeros.is_fine());
        let way = |number: f32| {
            let found: Vec<Alone> = scales.clone().map(|g| self.best_scale(g, number, sign)).collect();
            let error = found.iter().map(|alone| alone.error).sum();
            let target = |alone: Alone| Target { value: alone.scale, cost: alone.rest.vv };
            Way { zeros: vec![number], scales: found.into_iter().map(target).collect(), error }
        };
        numbers.into_iter().map(|(_, number)| way(number)).collect()
    }

    /// The error of a group under a zero point and a scale that takes all weights in, corrected once.
    fn about(&self, group: usize, zero: f32, sign: f32) -> f32 {
        let weighted = self.group(self.scale.range(group));
        let moved = self.values.moved(self.zeros.value(zero));
        let ((low, high), (smallest, largest)) = (moved.limits(), weighted.extremes());
        let reaching = |sign: f32| {
            let ends = if sign > 0.0 {
                [(smallest, low), (largest, high)]
            } else {
                [(smallest, high), (largest, low)]
            };
            // Of a weight on whose side no value is the scale is none.
            let scales = ends.into_iter().filter(|&(weight, value)| weight * value * sign > 0.0);
            sign * scales.map(|(weight, value)| (weight / value).abs()).fold(0.0, f32::max)
        };
        let signs = [1.0, -1.0].into_iter().filter(|trial| trial * sign >= 0.0);
        let error = |sign| {
            let rest = moved.residual(weighted, reaching(sign), 0.0);
            Correction::Scale.of(0.0, &rest).2
        };
        signs.map(error).fold(f32::INFINITY, f32::min)
    }

    /// The best scale of a group under a zero point.
    fn best_scale(&self, group: usize, zero: f32, sign: f32) -> Alone {
        let (weighted, allowed) = (self.group(self.scale.range(group)), self.scale.allowed(sign));
        let moved = self.values.moved(self.zeros.value(zero));
        let mut best = best_scale(moved, weighted, allowed, self.few, self.fine);
        // From the range of the weights, as rounding to the nearest has it.
        let (low, high) = self.values.limits();
        let width = self.scale.rounded(spread(weighted) / (high - low));
        for scale in [width, -width].into_iter().filter(|&scale| allowed.has(scale)) {
            let rest = moved.residual(weighted, scale, 0.0);
            if rest.rr < best.error {
                let alone = Alone { scale, minimum: 0.0, error: rest.rr, rest };
                best = settle(moved, weighted, Correction::Scale, alone);
            }
        }
        best
    }

    /// Numbers of the zero point that may serve weights whose scales, one or several, are of `sign`.
    fn zeros_for(&self, range: Range<usize>, scales: Range<usize>, sign: f32) -> Vec<f32> {
        /// So many to either side of each.
        const AROUND: usize = 2;

        let (low, high) = self.values.limits();
        // What lies at 0 if values reach from there, or up to it.
        let mut zeros = vec![-low, -high];
        let parts = scales.map(|g| self.scale.range(g));
        for part in std::iter::once(range).chain(parts) {
            let weighted = self.group(part.clone());
            let (smallest, largest) = weighted.extremes();
            let (smallest, largest) = (smallest.min(0.0), largest.max(0.0));
            let scale = (largest - smallest) / (high - low);
            let alone = self.alone(part, sign);
            for (scale, minimum) in [(scale, smallest - low * scale), (alone.scale, alone.minimum)] {
                if scale == 0.0 {
                    continue;
                }
                // Of negative scales the highest value is the smallest weight's.
                zeros.push(if sign < 0.0 && scale > 0.0 {
                    -low - high - minimum / scale
                } else {
                    minimum / scale
                });
            }
        }
        let mut numbers = Vec::new();
        for zero in zeros {
            let nearest = self.zeros.nearest(zero);
            let next = |below| move |&number: &f32| self.zeros.number.next(number, below);
            let count = if self.zeros.is_fine() { 0 } else { AROUND };
            let side = |below| std::iter::successors(Some(nearest), next(below)).skip(1).take(count);
            numbers.extend(std::iter::once(nearest).chain(side(true)).chain(side(false)));
        }
        numbers.sort_by(f32::total_cmp);
        numbers.dedup();
        numbers
    }

    /// The best scale of `sign` and minimum of weights by themselves.
    fn alone(&self, range: Range<usize>, sign: f32) -> Alone {
        let allowed = Allowed { sign: 0.0, ..self.scale.allowed(0.0) };
        if sign >= 0.0 {
            return best_scale_and_minimum(self.values, self.group(range), 0.0, allowed, false);
        }
        let weights: Vec<f32> = self.weights[range.clone()].iter().map(|w| -w).collect();
        let (first, importance) = (range.start, &self.importance[range]);
        let weighted = Weighted { weights: &weights, importance, first, own: false };
        let alone = best_scale_and_minimum(self.values, weighted, 0.0, allowed, false);
        Alone { scale: -alone.scale, minimum: -alone.minimum, ..alone }
    }

    /// The ways of weights with one scale and several zero points: of some scales the best.
    fn ways_of_scale(&self, range: Range<usize>, zeros: Range<usize>, sign: f32) -> Vec<Way> {
        /// Of the widest range of weights that share a zero point.
        const SHARES: [f32; 28] = [
            0.3, 0.36, 0.42, 0.48, 0.54, 0.6, 0.64, 0.68, 0.72, 0.75, 0.78, 0.81, 0.84, 0.87, 0.9, 0.92,
            0.94, 0.96, 0.98, 1.0, 1.02, 1.04, 1.06, 1.08, 1.1, 1.13, 1.17, 1.22,
        ];
        /// So many are settled.
        const SETTLED: usize = 4;

        let (low, high) = self.values.limits();
        let allowed = self.scale.allowed(sign);
        let widths = zeros.clone().map(|z| spread(self.group(self.zeros.range(z))));
        let widest = widths.fold(0.0, f32::max) / (high - low);
        // Where no range of values reaches all weights with 0 among them, larger scales do.
        let furthest = most(range.len(), |i| self.weights[range.start + i].abs());
        let reaching = furthest / high.max(-low);
        let shares =
            SHARES.iter().map(|share| share * widest).chain([1.0, 1.1].map(|share| share * reaching));
        let signs = [1.0, -1.0].into_iter().filter(|trial| trial * sign >= 0.0);
        let scales: Vec<f32> =
            signs.flat_map(|sign| shares.clone().map(move |scale| sign * scale)).chain([0.0]).collect();
        let mut ways: Vec<Way> = Vec::new();
        for scale in scales.into_iter().filter(|&scale| allowed.has(scale)) {
            keep(&mut ways, SETTLED, self.with_best_zeros(&zeros, scale), |way| way.error);
        }
        for way in &mut ways {
            for _ in 0..ROUNDS {
                let Target { value, cost } = way.scales[0];
                let along: f32 = zeros
                    .clone()
                    .zip(&way.zeros)
                    .map(|(z, &zero)| self.products(&self.rest(self.zeros.range(z), value, zero), z, zero).1)
                    .sum();
                let next =
                    self.with_best_zeros(&zeros, if cost > 0.0 { value + along / cost } else { value });
                if next.error >= way.error || !allowed.has(next.scales[0].value) {
                    break;
                }
                *way = next;
            }
        }
        ways
    }

    /// The best zero points under one scale.
    fn with_best_zeros(&self, zeros: &Range<usize>, scale: f32) -> Way {
        let mut way = Way { zeros: Vec::new(), scales: vec![Target { value: scale, cost: 0.0 }], error: 0.0 };
        for z in zeros.clone() {
            let (low, high) = self.values.limits();
            let (smallest, largest) = self.group(self.zeros.range(z)).extremes();
            let middle = if scale == 0.0 { 0.0 } else { (smallest + largest) / (2.0 * scale) };
            let (zero, rest) = self.best_zero(z, scale, self.zeros.nearest(middle - (low + high) / 2.0));
            way.zeros.push(zero);
            way.scales[0].cost += self.products(&rest, z, zero).0;
            way.error += rest.rr;
        }
        way
    }

    /// The best zero point of those around `start` under a scale, and what it leaves.
    fn best_zero(&self, z: usize, scale: f32, start: f32) -> (f32, Residual) {
        let range = self.zeros.range(z);
        let mut best = (start, self.rest(range.clone(), scale, start));
        let total = self.group(range.clone()).total_importance();
        for _ in 0..ROUNDS {
            let now = best.0;
            let exact = if scale == 0.0 { 0.0 } else { best.1.r / (total * scale) };
            let nearest = self.zeros.nearest(self.zeros.value(now) + exact);
            for number in self.zeros.number.around(nearest).chain(self.zeros.number.around(now)) {
                let rest = self.rest(range.clone(), scale, number);
                if rest.rr < best.1.rr {
                    best = (number, rest);
                }
            }
            if best.0 == now {
                break;
            }
        }
        best
    }

    /// What is left of weights that share a scale and a zero point.
    fn rest(&self, range: Range<usize>, scale: f32, zero: f32) -> Residual {
        self.values.residual(self.group(range), scale, scale * self.zeros.value(zero))
    }

    /// Sums over the weights of zero point `z` of values, this taken off, times themselves and times what is left.
    fn products(&self, rest: &Residual, z: usize, zero: f32) -> (f32, f32) {
        self.products_of(rest, self.zeros.range(z), zero)
    }

    fn products_of(&self, rest: &Residual, range: Range<usize>, zero: f32) -> (f32, f32) {
        let (zero, total) = (self.zeros.value(zero), self.group(range).total_importance());
        (rest.vv + zero * (2.0 * rest.v + zero * total), rest.rv + zero * rest.r)
    }

    /// Takes the best of all ways of a part, with the numbers of scales that come nearest to them and those around.
    fn improve_part(&mut self, part: &Part) {
        if part.zeros.len() == 1 { self.improve_zero(part) } else { self.improve_zeros(part) }
    }

    /// The numbers that a group's scale is tried with, if it is to be near `target`; the one that it is, where there is but that.
    fn scales_near(&self, group: usize, target: f32) -> Vec<f32> {
        let now = self.scale.groups[group];
        let Some(number) = self.scale.product.group else { return vec![now] };
        let nearest = self.scale.nearest(number, target);
        let mut numbers: Vec<f32> = self.scale.around(number, nearest, false).as_slice().to_vec();
        for &around in self.scale.around(number, now, false).as_slice() {
            if !numbers.contains(&around) {
                numbers.push(around);
            }
        }
        numbers
    }

    /// The zero point that weights share, and the scales of all of them.
    fn improve_zero(&mut self, part: &Part) {
        let z = part.zeros.start;
        let now = self.zeros.numbers[z];
        let mut best = (f32::INFINITY, now, Vec::new());
        let stays = Way {
            zeros: vec![now],
            scales: part.scales.clone().map(|g| Target { value: self.scale.at(g), cost: 0.0 }).collect(),
            error: 0.0,
        };
        for way in std::iter::once(&stays).chain(&part.ways) {
            let zero = way.zeros[0];
            let mut error = 0.0;
            let mut numbers = Vec::new();
            for (g, target) in part.scales.clone().zip(&way.scales) {
                let mut of_group = (f32::INFINITY, self.scale.groups[g]);
                for number in self.scales_near(g, target.value) {
                    let rest = self.rest(self.scale.range(g), self.scale.with(number), zero);
                    if rest.rr < of_group.0 {
                        of_group = (rest.rr, number);
                    }
                }
                error += of_group.0;
                numbers.push(of_group.1);
            }
            if error < best.0 {
                best = (error, zero, numbers);
            }
        }
        let (_, zero, numbers) = best;
        self.zeros.numbers[z] = zero;
        if numbers.len() == part.scales.len() {
            self.scale.groups[part.scales.clone()].copy_from_slice(&numbers);
        }
    }

    /// The scale that weights share, and the zero points of all of them.
    fn improve_zeros(&mut self, part: &Part) {
        let g = part.scales.start;
        let now = self.zeros.numbers[part.zeros.clone()].to_vec();
        let stays =
            Way { zeros: now, scales: vec![Target { value: self.scale.at(g), cost: 0.0 }], error: 0.0 };
        let mut best = (f32::INFINITY, self.scale.groups[g], stays.zeros.clone());
        // Ways differ in their scales alone.
        let has_groups = self.scale.product.group.is_some();
        let ways = part.ways.iter().filter(|_| has_groups);
        for way in std::iter::once(&stays).chain(ways) {
            for number in self.scales_near(g, way.scales[0].value) {
                let (scale, mut error, mut zeros) = (self.scale.with(number), 0.0, Vec::new());
                for (z, &start) in part.zeros.clone().zip(&way.zeros) {
                    let (zero, rest) = self.best_zero(z, scale, start);
                    error += rest.rr;
                    zeros.push(zero);
                }
                if error < best.0 {
                    best = (error, number, zeros);
                }
            }
        }
        let (_, number, zeros) = best;
        self.scale.groups[g] = number;
        self.zeros.numbers[part.zeros.clone()].copy_from_slice(&zeros);
    }

    /// The number of the block by least squares for the codes that are. Returns the error.
    fn improve_block(&mut self) -> f32 {
        let mut least = self.error();
        let Some(number) = self.scale.product.block else { return least };
        let (mut vv, mut rv) = (0.0, 0.0);
        for cell in self.cells() {
            let (scale, zero) = (self.scale.of(cell.start), self.zeros.of(cell.start));
            let of_group = self.scale.groups[self.scale.group_of(cell.start)];
            let rest = self.rest(cell.clone(), scale, zero);
            let (of_values, along) = self.products_of(&rest, cell, zero);
            vv += of_group * of_group * of_values;
            rv += of_group * along;
        }
        let now = self.scale.block;
        let exact = if vv > 0.0 { now + rv / vv / self.scale.constant } else { now };
        let mut best = now;
        let nearest = number.nearest(exact);
        let next = |below| number.next(nearest, below);
        for trial in [Some(nearest), next(true), next(false)].into_iter().flatten() {
            self.scale.block = trial;
            let error = self.error();
            if error < least && self.scale.is_finite() {
                (best, least) = (trial, error);
            }
        }
        self.scale.block = best;
        least
    }

    fn error(&self) -> f32 {
        let rest = |cell: Range<usize>| {
            let (scale, zero) = (self.scale.of(cell.start), self.zeros.of(cell.start));
            self.rest(cell, scale, zero).rr
        };
        self.cells().map(rest).sum()
    }

    /// The weights of each run with one scale and one zero point.
    fn cells(&self) -> impl Iterator<Item = Range<usize>> + use<N> {
        let size = self.scale.size.min(self.zeros.size);
        (0..N).step_by(size).map(move |start| start..start + size)
    }

    fn group(&self, range: Range<usize>) -> Weighted<'_> {
        let (first, weights, importance) =
            (range.start, &self.weights[range.clone()], &self.importance[range]);
        Weighted { weights, importance, first, own: false }
    }

    /// The numbers found, as they are stored.
    pub fn numbers<const S: usize, const M: usize>(&self) -> Numbers<S, M> {
        let (scale, scales) = self.scale.bits();
        let Zeros { number, of_groups, numbers, count, .. } = &self.zeros;
        let bits = |&zero: &f32| number.bits(zero);
        let (minimum, minima) = match of_groups {
            true => (0, stored(*number, numbers[..*count].iter().map(bits))),
            false => (bits(&numbers[0]), [0; M]),
        };
        Numbers { scale, scale_exponent: self.scale.exponent, scales, minimum, minimum_exponent: 0, minima }
    }

    /// The codes of the weights; `code` is that of a value.
    pub fn codes(&self, code: impl Fn(f32) -> u8) -> [u8; N] {
        let mut codes = [0; N];
        for cell in self.cells() {
            let scale = self.scale.of(cell.start);
            let (inverse, minimum) =
                (Weighted::inverse(scale), scale * self.zeros.value(self.zeros.of(cell.start)));
            let weights = self.weights[cell.clone()].as_chunks::<4>().0;
            for (weights, codes) in weights.iter().zip(codes[cell].as_chunks_mut::<4>().0) {
                let values = self.values.nearest::<4>(each(|i| (weights[i] - minimum) * inverse));
                *codes = each(|i| code(values[i]));
            }
        }
        codes
    }
}

impl<const N: usize> Zeros<N> {
    fn new(product: Product, groups: usize) -> Self {
        let count = groups.max(1);
        let number = product.group.or(product.block).unwrap_or(Number::F32);
        let of_groups = product.group.is_some();
        let mut zeros =
            Self { number, constant: product.factor, of_groups, numbers: [0.0; N], count, size: N / count };
        zeros.numbers = [zeros.nearest(0.0); N];
        zeros
    }

    /// Whether its numbers have fractions.
    fn is_fine(&self) -> bool {
        self.number.is_float()
    }

    /// The largest magnitude of a zero point.
    fn furthest(&self) -> f32 {
        let (low, high) = self.number.limits();
        (self.constant.abs() * high.max(-low)).min(FURTHEST)
    }

    /// The number that comes nearest to `zero`.
    fn nearest(&self, zero: f32) -> f32 {
        let furthest = self.furthest();
        self.number.nearest(zero.clamp(-furthest, furthest) / self.constant)
    }

    /// What a number stands for.
    fn value(&self, number: f32) -> f32 {
        self.constant * number
    }

    /// The number for a weight.
    fn of(&self, weight: usize) -> f32 {
        self.numbers[weight / self.size]
    }

    fn range(&self, z: usize) -> Range<usize> {
        z * self.size..(z + 1) * self.size
    }
}

/// How far apart the smallest and the largest weight are, 0 among them.
fn spread(weighted: Weighted) -> f32 {
    let (smallest, largest) = weighted.extremes();
    largest.max(0.0) - smallest.min(0.0)
}
