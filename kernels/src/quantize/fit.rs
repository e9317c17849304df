//! The search for the block nearest to some weights.

use std::cell::Cell;
use std::ops::Range;

use super::chosen::Chosen;
use super::grid::{Octet, Search};
use super::values::{
    Correction, Found, LANES, Lanes, Residual, Single, TRIALS, Trials, Values, Weighted, most,
    on_any_vectors, solve, sum,
};
use super::{Number, Numbers, Product};
use crate::bytes::each;

mod zeros;

pub use zeros::ZeroFit;

/// Rounds over all groups and the numbers of the block; most blocks need two.
const ROUNDS: usize = 4;

/// The squared error of rounding to f16, as a share of the squared weights.
const NEGLIGIBLE: f32 = 1.0 / (1 << 22) as f32;

/// Weights closer to 0 are 0 in a block whose furthest is 1 or more. Scales for them would be so small that a step from one
/// to the next is lost in rounding.
const NOTHING: f32 = 1e-20;

/// The smallest unit of weights, 2^-100.
const LEAST_UNIT: f32 = f32::from_bits((127 - 100) << 23);

/// A block under search.
///
/// Weights are in units of a power of two that brings the furthest to between 1 and 2: no sum of squares
/// overflows or vanishes, and nothing is rounded by it.
pub struct Fit<V, const N: usize> {
    values: V,
    weights: [f32; N],
    importance: [f32; N],
    scale: Factor<N>,
    minimum: Option<Factor<N>>,
    /// Weights of a cell: a run that has one scale and one minimum.
    cell: usize,
    /// The sum of importance of each cell, in the first places.
    totals: [f32; N],
    /// Whether values of a cell depend on those of its neighbour.
    mixed: bool,
    /// Whether groups try more numbers than the next ones.
    further: bool,
    /// Whether weights have but one magnitude, or that and 0: a scale that leads to one value leaves nothing of them.
    few: bool,
    /// Whether scales are tried in fine steps: of many values, and of fewer where the block has one scale.
    fine: bool,
    /// An error so small, of rounding a number of the block, that none is worth a search.
    negligible: f32,
}

/// A scale or minimum under search.
#[derive(Clone)]
struct Factor<const N: usize> {
    product: Product,
    /// What further numbers of the block multiply by: 2 to the power of this.
    exponent: i32,
    /// The constant in the block's unit, that power included.
    constant: f32,
    /// The largest magnitude of a product of which weights stay finite.
    most: f32,
    /// The number of the block; 1 where there is none.
    block: f32,
    /// The numbers of the groups, in the first places; one group of 1 where there are none.
    groups: [f32; N],
    count: usize,
    /// Weights of a group.
    size: usize,
}

/// What a group would have if numbers were exact.
#[derive(Clone, Copy, Default)]
struct Target {
    value: f32,
    /// What the square of a deviation costs.
    cost: f32,
}

/// The best scale and minimum of a group alone.
#[derive(Clone, Copy, Default)]
struct Alone {
    scale: f32,
    minimum: f32,
    error: f32,
    /// The sums that remain.
    rest: Residual,
}

/// Which values a product can have.
#[derive(Clone, Copy, PartialEq)]
enum Reach {
    /// Those of both signs, each group by itself.
    Both,
    /// Those of one sign, all groups the same.
    Either,
    /// Those of this sign.
    Only(f32),
}

impl<V: Values, const N: usize> Fit<V, N> {
    /// The block nearest to `weights`, with so many group scales and minima; 0 where these are the block's.
    pub fn search(
        values: V,
        weights: &[f32; N],
        importance: Option<&[f32; N]>,
        scale: Product,
        minimum: Option<Product>,
        [scales, minima]: [usize; 2],
    ) -> Self {
        let (unit, weights, importance) = in_units(weights, importance);
        let (low, high) = values.limits();
        let scale = Factor::new(scale, unit, scales, high.max(-low));
        let minimum = minimum.map(|minimum| Factor::new(minimum, unit, minima, 1.0));
        let cell = gcd(scale.size, minimum.as_ref().map_or(0, |minimum| minimum.size));
        let mixed = values.unit() > cell;
        let magnitude = most(N, |i| weights[i].abs());
        let few = weights.iter().all(|&w| w == 0.0 || w.abs() == magnitude);
        let power = sum(N, |i| importance[i] * weights[i] * weights[i]);
        let negligible = NEGLIGIBLE * power;
        let fine = has_more_steps(values, if scale.product.group.is_some() { 64.0 } else { 32.0 });
        let mut fit = Self {
            values,
            weights,
            importance,
            scale,
            minimum,
            cell,
            totals: [0.0; N],
            mixed,
            further: false,
            few,
            fine,
            negligible,
        };
        for (i, cell) in fit.cells().enumerate() {
            fit.totals[i] = fit.group(cell).total_importance();
        }
        let alone = fit.choose();
        let error = fit.improve();
        // From one scale to the next the table of a group may be another one.
        let chosen = values.are_chosen() && fit.scale.product.group.is_some();
        let scan = if fit.is_rough() { Some(Scan::FINE) } else { chosen.then_some(Scan::COARSE) };
        if let Some(scan) = scan.filter(|_| error > fit.negligible) {
            fit.search_further(&alone, scan);
        }
        fit
    }

    /// Chooses the numbers of block and groups, first for each group alone. Returns the scales of groups without minima, for
    /// each sign.
    fn choose(&mut self) -> Vec<[Target; N]> {
        let mut scales = [Target::default(); N];
        let mut alone = Vec::new();
        match self.minimum.take() {
            None => {
                let mut least = f32::INFINITY;
                for &sign in self.scale.reach().signs() {
                    let (targets, error) = self.alone_scales(sign);
                    alone.push(targets);
                    if error < least {
                        (least, scales) = (error, targets);
                    }
                }
            }
            Some(mut minimum) => {
                let mut best = (f32::INFINITY, false, scales, scales);
                // Weights around 0, which are nearly all, need minima below it.
                let sign = match minimum.reach() {
                    Reach::Both => 0.0,
                    Reach::Either if self.weights.iter().all(|&w| w >= 0.0) => 1.0,
                    Reach::Either => -1.0,
                    Reach::Only(sign) => sign,
                };
                for &mirrored in self.orientations(&minimum) {
                    let (mut error, of_scale, of_minimum) = self.exact(&minimum, sign, mirrored);
                    for target in &of_minimum[..minimum.count] {
                        let outside = (target.value.abs() - minimum.furthest()).max(0.0);
                        error += target.cost * outside * outside;
                    }
                    if error < best.0 {
                        best = (error, mirrored, of_scale, of_minimum);
                    }
                }
                let (_, mirrored, of_scale, of_minimum) = best;
                scales = of_scale;
                minimum.choose(&of_minimum);
                self.minimum = Some(minimum);
                // Scales for minima as they are now.
                let (low, high) = if mirrored { (f32::MIN, 0.0) } else { (0.0, f32::MAX) };
                for (g, target) in scales[..self.scale.count].iter_mut().enumerate() {
                    for _ in 0..2 {
                        let rest = self.residual(self.scale.range(g), Some(target.value), None);
                        if rest.vv > 0.0 {
                            let value = (target.value + rest.rv / rest.vv).clamp(low, high);
                            *target = Target { value, cost: rest.vv };
                        }
                    }
                }
            }
        }
        self.scale.choose(&scales);
        alone
    }

    /// The best scale of `sign` (0 for any) of each group alone, under the minima that are, and the error.
    fn alone_scales(&self, sign: f32) -> ([Target; N], f32) {
        let above: [f32; N] = std::array::from_fn(|i| self.weights[i] - self.minimum_of(i));
        let own = self.minimum.is_none();
        let weighted = Weighted { weights: &above, importance: &self.importance, first: 0, own };
        let mut targets = [Target::default(); N];
        let mut error = 0.0;
        for (g, target) in targets[..self.scale.count].iter_mut().enumerate() {
            let group = weighted.part(self.scale.range(g));
            let alone = best_scale(self.values, group, self.scale.allowed(sign), self.few, self.fine);
            *target = Target { value: alone.scale, cost: alone.rest.vv };
            error += alone.error;
        }
        (targets, error)
    }

    /// Whether to look for scales above 0, or for those below it, mirrored. Under a minimum of either sign, of as many weights
    /// as a scale or fewer, even values are the same in a mirror, and one of these is enough where it reaches all weights.
    fn orientations(&self, minimum: &Factor<N>) -> &'static [bool] {
        match (self.scale.reach(), minimum.reach()) {
            (Reach::Only(sign), _) if sign < 0.0 => &[true],
            (Reach::Only(_), _) => &[false],
            (_, Reach::Only(_)) => &[false, true],
            _ if !self.values.are_even() || self.is_coarser(minimum) => &[false, true],
            // The furthest weight is nearer than 2.
            _ if minimum.furthest() < 2.0 => &[false, true],
            _ => &[false],
        }
    }

    /// Whether parts of the weights that share a scale have minima of their own.
    fn is_finer(&self, minimum: &Factor<N>) -> bool {
        minimum.size < self.scale.size && self.scale.size.is_multiple_of(minimum.size)
    }

    /// Whether parts of the weights that share a minimum have scales of their own.
    fn is_coarser(&self, minimum: &Factor<N>) -> bool {
        self.scale.size < minimum.size && minimum.size.is_multiple_of(self.scale.size)
    }

    /// Whether scale and minimum are those of different weights.
    fn sizes_differ(&self, minimum: &Factor<N>) -> bool {
        self.is_finer(minimum) || self.is_coarser(minimum)
    }

    /// Scales, below 0 where `mirrored`, and minima of `sign` that would serve best if numbers were exact, and their error.
    fn exact(&self, minimum: &Factor<N>, sign: f32, mirrored: bool) -> (f32, [Target; N], [Target; N]) {
        let (mut scales, mut minima) = ([Target::default(); N], [Target::default(); N]);
        let mut error = 0.0;
        if self.is_finer(minimum) {
            let parts = self.scale.size / minimum.size;
            for (g, target) in scales[..self.scale.count].iter_mut().enumerate() {
                let minima = &mut minima[g * parts..][..parts];
                let (of_scale, of_error) = self.minima_of_scale(self.scale.range(g), sign, mirrored, minima);
                *target = of_scale;
                error += of_error;
            }
            return (error, scales, minima);
        }
        if self.is_coarser(minimum) {
            let parts = minimum.size / self.scale.size;
            for (m, target) in minima[..minimum.count].iter_mut().enumerate() {
                let scales = &mut scales[m * parts..][..parts];
                let (of_minimum, of_error) = self.scales_of_minimum(minimum.range(m), sign, mirrored, scales);
                *target = of_minimum;
                error += of_error;
            }
            return (error, scales, minima);
        }
        for (g, target) in scales[..self.scale.count].iter_mut().enumerate() {
            let range = self.scale.range(g);
            let alone = self.alone(range.clone(), sign, mirrored, minimum.product.group.is_none());
            *target = Target { value: alone.scale, cost: alone.rest.vv };
            error += alone.error;
            // A scale that may follow makes up for some of a minimum's deviation.
            let Residual { vv, v, .. } = alone.rest;
            let p = self.total_importance(range.clone());
            let cost = p - if vv > 0.0 { v * v / vv } else { 0.0 };
            for (m, minimum_of) in minima[..minimum.count].iter_mut().enumerate() {
                let other = minimum.range(m);
                let shared = range.end.min(other.end).saturating_sub(range.start.max(other.start));
                let cost = cost.max(1e-3 * p) * shared as f32 / range.len() as f32;
                minimum_of.value += cost * alone.minimum;
                minimum_of.cost += cost;
            }
        }
        for target in &mut minima[..minimum.count] {
            target.value /= target.cost;
        }
        (error, scales, minima)
    }

    /// The scale that the weights in `range` share, where parts of them have minima of their own, and its error.
    fn minima_of_scale(
        &self,
        range: Range<usize>,
        sign: f32,
        mirrored: bool,
        minima: &mut [Target],
    ) -> (Target, f32) {
        /// So many of the best scales are settled.
        const SETTLED: usize = 4;
        const ROUNDS: usize = 4;
        /// Finely to where few weights lie outside.
        const INSIDE: [f32; 20] = [
            -0.5, -0.3, -0.1, 0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.1, 1.3, 1.6, 2.0, 2.5, 3.0, 3.6, 4.3,
            5.0, 6.0,
        ];

        let parts = parts(range, minima.len());
        let widest = parts
            .iter()
            .map(|part| self.alone(part.clone(), sign, mirrored, true).scale)
            .fold(0.0, |far: f32, s| if s.abs() > far.abs() { s } else { far });
        let (low, high) = self.values.limits();
        let codes = (high - low) / self.values.gap();
        let scales = insides(&INSIDE, 1.3, codes).map(|inside| codes / (codes + 2.0 * inside));
        let scales = scales.chain([0.3, 0.4, 0.5, 0.6]);
        let error_of = |found: &[Alone]| found.iter().map(|alone| alone.error).sum::<f32>();
        let mut trials: Vec<(f32, Vec<Alone>)> = Vec::new();
        for share in scales {
            let at = |part: &Range<usize>| {
                best_minimum(self.values, self.group(part.clone()), share * widest, sign)
            };
            let found: Vec<Alone> = parts.iter().map(at).collect();
            let error = error_of(&found);
            keep(&mut trials, SETTLED, (error, found), |trial| trial.0);
        }
        for (error, found) in &mut trials {
            for _ in 0..ROUNDS {
                // By least squares for the codes that are: the scale, if each minimum follows.
                let (mut vv, mut rv) = (0.0, 0.0);
                for (Alone { rest, .. }, part) in found.iter().zip(&parts) {
                    let p = self.total_importance(part.clone());
                    vv += rest.vv - rest.v * rest.v / p;
                    rv += rest.rv - rest.r * rest.v / p;
                }
                let change = if vv > 0.0 { rv / vv } else { 0.0 };
                let settle = |(alone, part): (&Alone, &Range<usize>)| {
                    let p = self.total_importance(part.clone());
                    let minimum = alone.minimum + (alone.rest.r - change * alone.rest.v) / p;
                    let minimum = if minimum * sign >= 0.0 { minimum } else { 0.0 };
                    let scale = alone.scale + change;
                    let rest = self.values.residual(self.group(part.clone()), scale, minimum);
                    Alone { scale, minimum, error: rest.rr, rest }
                };
                let settled: Vec<Alone> = found.iter().zip(&parts).map(settle).collect();
                let settled_error = error_of(&settled);
                if settled_error >= *error {
                    break;
                }
                (*error, *found) = (settled_error, settled);
            }
        }
        let Some((error, found)) = trials.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)) else {
            return (Target::default(), 0.0);
        };
        for ((target, alone), part) in minima.iter_mut().zip(&found).zip(parts) {
            *target = Target { value: alone.minimum, cost: self.total_importance(part) };
        }
        let cost = found.iter().map(|alone| alone.rest.vv).sum();
        (Target { value: found.first().map_or(0.0, |alone| alone.scale), cost }, error)
    }

    /// The minimum of `sign` that the weights in `range` share, where parts of them have scales of their own, below 0 where
    /// `mirrored`, and its error.
    fn scales_of_minimum(
        &self,
        range: Range<usize>,
        sign: f32,
        mirrored: bool,
        scales: &mut [Target],
    ) -> (Target, f32) {
        /// So many minima are tried between the least and the largest that a part has alone.
        const STEPS: usize = 20;
        const ROUNDS: usize = 4;

        let parts = parts(range.clone(), scales.len());
        let of_scale = match self.scale.reach() {
            Reach::Both => 0.0,
            _ if mirrored => -1.0,
            _ => 1.0,
        };
        let alone = |part: &Range<usize>| self.alone(part.clone(), sign, mirrored, true).minimum;
        let (least, most) = parts
            .iter()
            .map(alone)
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), m| (low.min(m), high.max(m)));
        let mut best: (f32, f32, Vec<Alone>) = (f32::INFINITY, 0.0, Vec::new());
        for step in 0..=STEPS {
            let mut minimum = least + (most - least) * step as f32 / STEPS as f32;
            let mut last = f32::INFINITY;
            for _ in 0..ROUNDS {
                let above = self.weights.map(|w| w - minimum);
                let at = |part: &Range<usize>| {
                    let importance = &self.importance[part.clone()];
                    let weights = &above[part.clone()];
                    let group = Weighted { weights, importance, first: part.start, own: false };
                    best_scale(self.values, group, self.scale.allowed(of_scale), self.few, self.fine)
                };
                let found: Vec<Alone> = parts.iter().map(at).collect();
                let error = found.iter().map(|alone| alone.error).sum();
                // By least squares for the codes that are, if each scale follows.
                let (mut p, mut r) = (0.0, 0.0);
                for (Alone { rest, .. }, part) in found.iter().zip(&parts) {
                    let (v, rv) = if rest.vv > 0.0 { (rest.v / rest.vv, rest.rv) } else { (0.0, 0.0) };
                    p += self.total_importance(part.clone()) - v * rest.v;
                    r += rest.r - v * rv;
                }
                if error < best.0 {
                    best = (error, minimum, found);
                }
                let next = if p > 0.0 { minimum + r / p } else { minimum };
                if error >= last || next * sign < 0.0 {
                    break;
                }
                (last, minimum) = (error, next);
            }
        }
        let (error, minimum, found) = best;
        for (target, alone) in scales.iter_mut().zip(&found) {
            *target = Target { value: alone.scale, cost: alone.rest.vv };
        }
        (Target { value: minimum, cost: self.total_importance(range) }, error)
    }

    /// The best scale, below 0 where `mirrored`, and minimum of the weights in `range` alone.
    fn alone(&self, range: Range<usize>, sign: f32, mirrored: bool, thorough: bool) -> Alone {
        let allowed = self.scale.allowed(0.0);
        if !mirrored {
            return best_scale_and_minimum(self.values, self.group(range), sign, allowed, thorough);
        }
        let weights = self.weights.map(|w| -w);
        let group =
            Weighted { weights: &weights, importance: &self.importance, first: 0, own: false }.part(range);
        let alone = best_scale_and_minimum(self.values, group, -sign, allowed, thorough);
        Alone { scale: -alone.scale, minimum: -alone.minimum, ..alone }
    }

    /// Improves numbers as long as that lowers the error, which it returns, by a fiftieth or more.
    pub fn improve(&mut self) -> f32 {
        let mut error = self.error();
        for _ in 0..ROUNDS {
            let before = error;
            self.improve_groups();
            error = self.improve_block();
            if error >= 0.98 * before {
                break;
            }
        }
        error
    }

    /// Starts from more numbers of the block where numbers are coarse or values lie mostly on one side: there the first
    /// choice may be far from the best.
    ///
    /// `alone` are the scales of groups without minima, for each sign; at last there is a `scan` of numbers close to the best.
    fn search_further(&mut self, alone: &[[Target; N]], scan: Scan) {
        /// So many numbers of the block are improved to the end.
        const TRIALS: usize = 4;

        if self.few {
            match self.minimum {
                None => self.lead_to_one_value(),
                Some(_) => self.lead_to_two_values(),
            }
        }
        self.further = true;
        let mut best = (self.improve(), self.scale.clone(), self.minimum.clone());
        if best.0 <= self.negligible {
            return;
        }
        let minima: Vec<Option<Factor<N>>> = match self.minimum.take() {
            None => vec![None],
            Some(minimum) => self.minima(minimum).into_iter().map(Some).collect(),
        };
        for minimum in minima {
            self.minimum = minimum;
            for (i, &sign) in self.scale.reach().signs().iter().enumerate() {
                let targets = match alone.get(i) {
                    Some(alone) => *alone,
                    None => self.alone_scales(sign).0,
                };
                let targets = &targets[..self.scale.count];
                let unchanged = self.minimum.clone();
                // With groups as good as one look at the neighbours makes them.
                self.further = false;
                let mut trials = Vec::new();
                for block in self.scale.trials(targets) {
                    self.minimum.clone_from(&unchanged);
                    self.scale.take(block, targets);
                    self.improve_groups();
                    trials.push((self.error(), block));
                }
                trials.sort_by(|a, b| a.0.total_cmp(&b.0));
                trials.truncate(TRIALS);
                self.further = true;
                for (_, block) in trials {
                    self.minimum.clone_from(&unchanged);
                    self.scale.take(block, targets);
                    let error = self.improve();
                    if error < best.0 && self.is_finite() {
                        best = (error, self.scale.clone(), self.minimum.clone());
                    }
                }
                if best.0 <= self.negligible {
                    (_, self.scale, self.minimum) = best;
                    return;
                }
            }
        }
        (_, self.scale, self.minimum) = best;
        self.scan(scan);
    }

    /// Takes the numbers, the same for all groups, under which one of the values comes nearest to the one magnitude that
    /// weights have.
    fn lead_to_one_value(&mut self) {
        /// So many, the nearest, are tried.
        const TRIALS: usize = 16;

        let magnitude = self.weights.iter().fold(0.0_f32, |most, w| most.max(w.abs()));
        // Numbers of groups that are more than can be tried are so fine that the nearest one does.
        let fine = self.scale.product.group.filter(|group| group.is_float());
        let groups: Vec<f32> = match self.scale.product.group {
            Some(group) if fine.is_none() => group.furthest_first().collect(),
            _ => vec![1.0],
        };
        let mut trials: Vec<(f32, f32, f32)> = Vec::new();
        for value in self.values.magnitudes() {
            for sign in [1.0, -1.0] {
                if let Some(number) = fine {
                    let unit = self.scale.constant * self.scale.block;
                    let target = sign * magnitude / (value * unit);
                    let group = number.nearest(target);
                    let distance = (group / target - 1.0).abs();
                    keep(&mut trials, TRIALS, (distance, self.scale.block, group), |trial| trial.0);
                    continue;
                }
                for &group in &groups {
                    let target = sign * magnitude / (value * group * self.scale.constant);
                    let block =
                        self.scale.product.block.map_or(self.scale.block, |number| number.nearest(target));
                    let distance = (block / target - 1.0).abs();
                    keep(&mut trials, TRIALS, (distance, block, group), |trial| trial.0);
                }
            }
        }
        let mut best = (self.error(), self.scale.clone());
        for (_, block, group) in trials {
            self.scale.block = block;
            self.scale.groups[..self.scale.count].fill(group);
            let error = self.error();
            if error < best.0 && self.scale.is_finite() {
                best = (error, self.scale.clone());
            }
        }
        (_, self.scale) = best;
    }

    /// Takes the scale and the minimum under which two of the values come nearest to 0 and to the one magnitude that weights
    /// have, if both are numbers of the block alone and values few.
    fn lead_to_two_values(&mut self) {
        const MOST_VALUES: usize = 16;

        let values = self.values.magnitudes();
        let Some(minimum) = self.minimum.as_ref().map(|minimum| minimum.product) else { return };
        let (Some(of_scale), Some(of_minimum)) = (self.scale.product.block, minimum.block) else { return };
        let has_groups = self.scale.product.group.is_some() || minimum.group.is_some();
        if has_groups || values.len() > MOST_VALUES {
            return;
        }
        let constants = [self.scale.constant, self.minimum.as_ref().map_or(1.0, |minimum| minimum.constant)];
        let magnitude = self.weights.iter().fold(0.0_f32, |most, w| most.max(w.abs()));
        let values: Vec<f32> =
            values.iter().flat_map(|&value| [value, -value]).chain(std::iter::once(0.0)).collect();
        let now = (self.scale.block, self.minimum.as_ref().map(|minimum| minimum.block));
        let mut best = (self.error(), now);
        for &zero in &values {
            for &other in values.iter().filter(|&&other| other != zero) {
                let scale = magnitude / (other - zero);
                let trial = (
                    of_scale.nearest(scale / constants[0]),
                    Some(of_minimum.nearest(-scale * zero / constants[1])),
                );
                self.set_block(trial);
                let error = self.error();
                if error < best.0 && self.is_finite() {
                    best = (error, trial);
                }
            }
        }
        self.set_block(best.1);
    }

    /// Tries numbers of the block close to those that are, each with the best numbers of groups: where groups are small or
    /// values many, the error changes from one to the next as if by chance.
    fn scan(&mut self, Scan { steps, step: part }: Scan) {
        let factors: [fn(&mut Self) -> Option<&mut Factor<N>>; 2] =
            [|fit| Some(&mut fit.scale), |fit| fit.minimum.as_mut()];
        for factor in factors {
            let Some(start) = factor(self).cloned() else { continue };
            let Some(number) = start.product.block.filter(|_| start.product.group.is_some()) else {
                continue;
            };
            let targets: [Target; N] = std::array::from_fn(|g| Target {
                value: if g < start.count { start.at(g) } else { 0.0 },
                cost: 1.0,
            });
            let mut best = (self.error(), self.scale.clone(), self.minimum.clone());
            for step in (-steps..=steps).filter(|&step| step != 0) {
                let block = number.nearest(start.block * (1.0 + step as f32 * part));
                (_, self.scale, self.minimum) = best.clone();
                let Some(trial) = factor(self).filter(|trial| trial.block != block && block != 0.0) else {
                    continue;
                };
                trial.take(block, &targets[..start.count]);
                self.improve_groups();
                let error = self.error();
                if error < best.0 && self.is_finite() {
                    best = (error, self.scale.clone(), self.minimum.clone());
                }
            }
            (_, self.scale, self.minimum) = best;
            self.improve();
        }
    }

    /// Whether the first choice may be poor.
    fn is_rough(&self) -> bool {
        /// Of smaller groups each has too few weights to agree with the others about the number of the block.
        const SMALL: usize = 16;

        let factors = || std::iter::once(&self.scale).chain(&self.minimum);
        let small = factors().any(|factor| factor.product.block.is_some() && factor.size < SMALL);
        let many = self.minimum.is_none() && has_many(self.values) && self.scale.product.group.is_some();
        let lopsided = self.minimum.is_none() && is_lopsided(self.values.limits());
        let differ = self.minimum.as_ref().is_some_and(|minimum| self.sizes_differ(minimum));
        small || many || lopsided || differ || self.mixed || self.few || factors().any(Factor::is_coarse)
    }

    /// Minima that may serve best.
    fn minima(&self, minimum: Factor<N>) -> Vec<Factor<N>> {
        /// So many of each sign, the nearest to what groups would have alone.
        const TRIALS: usize = 6;

        let mut found = Vec::new();
        let orientations = self.orientations(&minimum);
        for (&sign, &mirrored) in
            minimum.reach().signs().iter().flat_map(|sign| orientations.iter().map(move |o| (sign, o)))
        {
            let mut targets = [Target::default(); N];
            if self.sizes_differ(&minimum) {
                targets = self.exact(&minimum, sign, mirrored).2;
            } else {
                for (m, target) in targets[..minimum.count].iter_mut().enumerate() {
                    let alone = self.alone(minimum.range(m), sign, mirrored, true);
                    *target = Target { value: alone.minimum, cost: self.total_importance(minimum.range(m)) };
                }
            }
            let targets = &targets[..minimum.count];
            let mut trials: Vec<(f32, Factor<N>)> = Vec::new();
            for block in minimum.trials(targets) {
                let mut trial = minimum.clone();
                trial.take(block, targets);
                let distance =
                    |(g, target): (usize, &Target)| target.cost * (trial.at(g) - target.value).powi(2);
                trials.push((targets.iter().enumerate().map(distance).sum(), trial));
            }
            trials.sort_by(|a, b| a.0.total_cmp(&b.0));
            found.extend(trials.into_iter().take(TRIALS).map(|(_, trial)| trial));
        }
        found.push(minimum);
        found
    }

    /// The neighbours of each group's numbers.
    fn improve_groups(&mut self) {
        if let Some(number) = self.scale.product.group {
            for g in 0..self.scale.count {
                self.improve_scale(g, number);
            }
        }
        let unpaired = self.minimum.as_ref().filter(|minimum| minimum.count != self.scale.count);
        if let Some((count, number)) =
            unpaired.and_then(|minimum| Some((minimum.count, minimum.product.group?)))
        {
            for g in 0..count {
                let Some(minimum) = &self.minimum else { return };
                let range = minimum.range(g);
                let rest = self.residual(range.clone(), None, None);
                let target = minimum.at(g) + rest.r / self.total_importance(range.clone());
                let nearest = minimum.nearest(number, target);
                let around = minimum.around(number, minimum.groups[g], self.further);
                let codes: Vec<f32> =
                    around.as_slice().iter().copied().chain(number.around(nearest)).collect();
                let (mut best, mut least) = (minimum.groups[g], f32::INFINITY);
                let trials = codes.iter().map(|&code| [None, Some(minimum.with(code))]);
                self.try_out(range, trials, |i, error| {
                    if error < least {
                        (best, least) = (codes[i], error);
                    }
                });
                if let Some(minimum) = &mut self.minimum {
                    minimum.groups[g] = best;
                }
            }
        }
    }

    /// The neighbours of the number of a group's scale, and of its minimum where these are the same weights'.
    fn improve_scale(&mut self, g: usize, number: Number) {
        let range = self.scale.range(g);
        let now = self.scale.groups[g];
        let scales = self.scale.around(number, now, self.further);
        let paired = self.minimum.as_ref().filter(|minimum| minimum.count == self.scale.count);
        let Some((minimum, numbers)) = paired.and_then(|minimum| Some((minimum, minimum.product.group?)))
        else {
            let trials = scales.as_slice().iter().map(|&scale| [Some(self.scale.with(scale)), None]);
            let (mut best, mut least) = (now, f32::INFINITY);
            self.try_out(range, trials, |i, error| {
                if error < least {
                    (best, least) = (scales.numbers[i], error);
                }
            });
            self.scale.groups[g] = best;
            return;
        };
        let rest = self.residual(range.clone(), None, None);
        let total = self.total_importance(range.clone());
        // The first is what they are.
        let mut pairs = [(now, minimum.groups[g]); 1 + 3 * Nearby::MOST];
        let mut count = 1;
        for &scale in scales.as_slice() {
            // The best minimum for the codes that are, if the scale were this one.
            let change = self.scale.with(scale) - self.scale.with(now);
            let best = minimum.at(g) + (rest.r - change * rest.v) / total;
            let nearest = numbers.nearest(minimum.number_for(best));
            for &code in minimum.around(numbers, nearest, false).as_slice() {
                pairs[count] = (scale, code);
                count += 1;
            }
        }
        let trials = pairs[..count]
            .iter()
            .map(|&(scale, code)| [Some(self.scale.with(scale)), Some(minimum.with(code))]);
        let (mut best, mut least) = (pairs[0], f32::INFINITY);
        self.try_out(range, trials, |i, error| {
            if error < least {
                (best, least) = (pairs[i], error);
            }
        });
        self.scale.groups[g] = best.0;
        if let Some(minimum) = &mut self.minimum {
            minimum.groups[g] = best.1;
        }
    }

    /// The numbers of the block by least squares for the codes that are. Returns the error.
    fn improve_block(&mut self) -> f32 {
        /// More than the rounding to an f16.
        const FAR: f32 = 1.0 / (1 << 9) as f32;

        let mut least = 0.0;
        // Sums over products of what the numbers of scale and minimum are multiplied by, and the remainder. Constants come
        // in at the end: in the unit of large weights their squares would be 0.
        let (mut ss, mut sm, mut mm, mut sr, mut mr) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for cell in self.cells() {
            let rest = self.residual(cell.clone(), None, None);
            least += rest.rr;
            let s = self.scale.groups[self.scale.group_of(cell.start)];
            ss += s * s * rest.vv;
            sr += s * rest.rv;
            if let Some(minimum) = &self.minimum {
                let m = minimum.groups[minimum.group_of(cell.start)];
                sm += s * m * rest.v;
                mm += m * m * self.total_importance(cell);
                mr += m * rest.r;
            }
        }
        if self.mixed {
            // Cells share the errors of octets.
            least = self.error();
        }
        let of_minimum =
            self.minimum.as_ref().and_then(|minimum| Some((minimum.product.block?, minimum.block)));
        let (mut scale, mut minimum) = solve(
            if self.scale.product.block.is_some() { (ss, sr) } else { (0.0, 0.0) },
            sm,
            if of_minimum.is_some() { (mm, mr) } else { (0.0, 0.0) },
        );
        let constants = [self.scale.constant, self.minimum.as_ref().map_or(1.0, |minimum| minimum.constant)];
        let now = self.scale.block;
        scale = now + scale / constants[0];
        if let Some((number, block)) = of_minimum {
            minimum = number.nearest(block + minimum / constants[1]);
        }
        let numbers = self.scale.product.block;
        let trials = numbers.into_iter().flat_map(|number| number.around(number.nearest(scale)));
        let mut best = (now, of_minimum.map(|(_, block)| block));
        // Of coarse numbers the one that is may have another minimum, too.
        let stays = numbers.is_none_or(|number| number.is_coarse(now));
        let exact = scale;
        for scale in trials.chain(stays.then_some(now)) {
            // A scale that is rounded far from the exact one, or that ends before it, has another minimum.
            let is_far = (scale - exact).abs() > FAR * exact.abs();
            let is_coarse = numbers.is_some_and(|numbers| numbers.is_coarse(scale));
            let follows = mm > 0.0 && (is_far || is_coarse);
            let anew =
                (mm > 0.0 && is_coarse && self.cell == N).then(|| self.minimum_under(scale * constants[0]));
            let minima = of_minimum.into_iter().flat_map(|(number, block)| {
                let change = (mr - sm * (scale - now) * constants[0]) / mm / constants[1];
                let nearest = if follows { number.nearest(block + change) } else { minimum };
                let anew = anew.map(|minimum| number.nearest(minimum / constants[1]));
                number.around(nearest).chain(anew)
            });
            for minimum in minima.map(Some).chain(of_minimum.is_none().then_some(None)) {
                let trial = (scale, minimum);
                if trial == best {
                    continue;
                }
                self.set_block(trial);
                let error = self.error();
                if error < least && self.is_finite() {
                    (best, least) = (trial, error);
                }
            }
        }
        self.set_block(best);
        least
    }

    /// The best minimum of all weights under `scale`.
    fn minimum_under(&self, scale: f32) -> f32 {
        let sign = match self.minimum.as_ref().map(Factor::reach) {
            Some(Reach::Only(sign)) => sign,
            _ => 0.0,
        };
        best_minimum(self.values, self.group(0..N), scale, sign).minimum
    }

    fn set_block(&mut self, (scale, minimum): (f32, Option<f32>)) {
        self.scale.block = scale;
        if let (Some(factor), Some(block)) = (&mut self.minimum, minimum) {
            factor.block = block;
        }
    }

    /// Whether what is found keeps weights finite.
    fn is_finite(&self) -> bool {
        self.scale.is_finite() && self.minimum.as_ref().is_none_or(Factor::is_finite)
    }

    pub fn error(&self) -> f32 {
        self.residual(0..N, None, None).rr
    }

    /// The weights of each cell.
    fn cells(&self) -> impl Iterator<Item = Range<usize>> + use<V, N> {
        let size = self.cell;
        (0..N).step_by(size).map(move |start| start..start + size)
    }

    fn minimum_of(&self, weight: usize) -> f32 {
        self.minimum.as_ref().map_or(0.0, |minimum| minimum.of(weight))
    }

    fn group(&self, range: Range<usize>) -> Weighted<'_> {
        Weighted { weights: &self.weights, importance: &self.importance, first: 0, own: true }.part(range)
    }

    fn total_importance(&self, range: Range<usize>) -> f32 {
        if range.len() == self.cell {
            return self.totals[range.start / self.cell];
        }
        self.group(range).total_importance()
    }

    /// What is left of the weights in `range` under the scale of each and their minima, or under these instead.
    ///
    /// Where values depend on neighbours, the error is that of those, too.
    fn residual(&self, range: Range<usize>, scale: Option<f32>, minimum: Option<f32>) -> Residual {
        let mut sum = Residual::default();
        if self.mixed {
            for start in (range.start / LANES * LANES..range.end).step_by(LANES) {
                let inside = |i: usize| range.contains(&(start + i));
                let scales =
                    each(|i| scale.filter(|_| inside(i)).unwrap_or_else(|| self.scale.of(start + i)));
                let minima =
                    each(|i| minimum.filter(|_| inside(i)).unwrap_or_else(|| self.minimum_of(start + i)));
                let halves = self.values.mixed(self.group(start..start + LANES), scales, minima);
                for (half, rest) in halves.into_iter().enumerate() {
                    sum += if inside(half * LANES / 2) {
                        rest
                    } else {
                        Residual { rr: rest.rr, ..Residual::default() }
                    };
                }
            }
            return sum;
        }
        for start in range.step_by(self.cell) {
            let scale = scale.unwrap_or_else(|| self.scale.of(start));
            let minimum = minimum.unwrap_or_else(|| self.minimum_of(start));
            sum += self.values.residual(self.group(start..start + self.cell), scale, minimum);
        }
        sum
    }

    /// Looks at the error of the weights in `range` under other scales and minima, as [`residual`](Self::residual) has it.
    fn try_out(
        &self,
        range: Range<usize>,
        trials: impl Iterator<Item = [Option<f32>; 2]>,
        mut look: impl FnMut(usize, f32),
    ) {
        let mut look_at = |first: usize, trials: &[[Option<f32>; 2]]| {
            let mut errors = [0.0; TRIALS];
            if self.mixed {
                for (error, &[scale, minimum]) in errors.iter_mut().zip(trials) {
                    *error = self.residual(range.clone(), scale, minimum).rr;
                }
            } else {
                for start in range.clone().step_by(self.cell) {
                    let (scale_now, minimum_now) = (self.scale.of(start), self.minimum_of(start));
                    let mut of_cell = Trials::NONE;
                    for &[scale, minimum] in trials {
                        of_cell.push(scale.unwrap_or(scale_now), minimum.unwrap_or(minimum_now));
                    }
                    self.values.add_errors(self.group(start..start + self.cell), &of_cell, &mut errors);
                }
            }
            errors.iter().take(trials.len()).enumerate().for_each(|(i, &error)| look(first + i, error));
        };
        let mut waiting = [[None; 2]; TRIALS];
        let (mut count, mut first) = (0, 0);
        trials.for_each(|trial| {
            waiting[count] = trial;
            count += 1;
            if count == TRIALS {
                look_at(first, &waiting);
                (first, count) = (first + TRIALS, 0);
            }
        });
        if count > 0 {
            look_at(first, &waiting[..count]);
        }
    }

    /// The numbers found, as they are stored.
    pub fn numbers<const S: usize, const M: usize>(&self) -> Numbers<S, M> {
        let (scale, scales) = self.scale.bits();
        let (minimum, minima) = self.minimum.as_ref().map_or((0, [0; M]), Factor::bits);
        let minimum_exponent = self.minimum.as_ref().map_or(0, |minimum| minimum.exponent);
        Numbers { scale, scale_exponent: self.scale.exponent, scales, minimum, minimum_exponent, minima }
    }
}

impl<V: Values + Single, const N: usize> Fit<V, N> {
    /// The codes of the weights; `code` is that of a value.
    pub fn codes(&self, code: impl Fn(f32) -> u8) -> [u8; N] {
        let mut codes = [0; N];
        for cell in self.cells() {
            let (inverse, minimum) =
                (Weighted::inverse(self.scale.of(cell.start)), self.minimum_of(cell.start));
            let target = |w: f32| (w - minimum) * inverse;
            let lanes = self.weights[cell.clone()].chunks(LANES).zip(codes[cell].chunks_mut(LANES));
            for (weights, codes) in lanes {
                let targets: Lanes = each(|i| weights.get(i).copied().map_or(0.0, target));
                let values = self.values.nearest(targets);
                codes.iter_mut().zip(values).for_each(|(stored, value)| *stored = code(value));
            }
        }
        codes
    }
}

impl<const N: usize> Fit<Chosen<'_>, N> {
    /// The table of each group of weights, and the codes of the weights.
    pub fn choices<const C: usize>(&self) -> ([u8; C], [u8; N]) {
        let (mut choices, mut codes) = ([0; C], [0; N]);
        for cell in self.cells() {
            let (scale, minimum) = (self.scale.of(cell.start), self.minimum_of(cell.start));
            for run in self.values.runs(self.group(cell)) {
                let (choice, table, _) = run.best(scale, minimum);
                let Weighted { weights, first, .. } = run.weighted;
                choices[first / (N / C)] = choice as u8;
                let inverse = Weighted::inverse(scale);
                let lanes = weights.chunks(LANES).zip(codes[first..][..weights.len()].chunks_mut(LANES));
                for (weights, codes) in lanes {
                    let targets: Lanes = each(|i| weights.get(i).map_or(0.0, |w| (w - minimum) * inverse));
                    let values = table.nearest(targets);
                    codes.iter_mut().zip(values).for_each(|(stored, value)| *stored = table.code(value));
                }
            }
        }
        (choices, codes)
    }

    /// The error of the weights in `range`.
    pub fn error_of(&self, range: Range<usize>) -> f32 {
        self.residual(range, None, None).rr
    }

    /// Tries for the weights in `range`, which have one table, all others that there are, each with the numbers of groups that
    /// serve it best; `table` is where it stands. Returns whether another one is better.
    pub fn improve_table(&mut self, range: Range<usize>, table: &Cell<u8>, tables: u8) -> bool {
        // The groups whose scales these weights have, as a whole.
        let groups = self.scale.group_of(range.start)..self.scale.group_of(range.end - 1) + 1;
        let range = self.scale.range(groups.start).start..self.scale.range(groups.end - 1).end;
        let before = table.get();
        let mut best = (self.error_of(range.clone()), before, self.scale.groups);
        for other in (0..tables).filter(|&other| other != before) {
            table.set(other);
            if let Some(number) = self.scale.product.group {
                for g in groups.clone() {
                    if self.minimum.is_none() {
                        let (group, allowed) = (self.group(self.scale.range(g)), self.scale.allowed(0.0));
                        let alone = best_scale(self.values, group, allowed, self.few, self.fine);
                        self.scale.groups[g] = self.scale.nearest(number, alone.scale);
                    }
                    self.improve_scale(g, number);
                }
            }
            let error = self.error_of(range.clone());
            if error < best.0 && self.is_finite() {
                best = (error, other, self.scale.groups);
            }
            self.scale.groups = best.2;
        }
        table.set(best.1);
        best.1 != before
    }
}

impl<const D: usize, const N: usize> Fit<Search<'_, D>, N> {
    /// The codes of the weights, eight by eight.
    pub fn octets(&self) -> impl Iterator<Item = Octet> {
        (0..N).step_by(LANES).map(|start| {
            let (scales, minima) = (each(|i| self.scale.of(start + i)), each(|i| self.minimum_of(start + i)));
            self.values.codes(self.group(start..start + LANES), &scales, &minima)
        })
    }
}

impl<const N: usize> Factor<N> {
    /// A factor of values up to the magnitude `largest`.
    fn new(product: Product, unit: f32, groups: usize, largest: f32) -> Self {
        let count = groups.max(1);
        // Numbers of groups with a fraction are finest near 1, too.
        let group = product.group.filter(|group| !group.is_float());
        let (low, high) = group.map_or((1.0, 1.0), Number::limits);
        // Further numbers bring that of the block near 1.
        let furthest =
            f64::from(product.factor.abs()) * f64::from(largest.max(1.0)) * f64::from(high.max(-low));
        let (lowest, highest) = product.others.iter().fold((0, 0), |(low, high), number| {
            let powers = number.powers();
            (low + powers.start(), high + powers.end())
        });
        let exponent = ((f64::from(unit) / furthest).log2().round() as i32).clamp(lowest, highest);
        let power = f32::from_bits(((exponent.clamp(-126, 127) + 127) as u32) << 23);
        let constant = product.factor * power / unit;
        let most = f32::MAX / 4.0 / largest.max(1.0) / unit;
        Self { product, exponent, constant, most, block: 1.0, groups: [1.0; N], count, size: N / count }
    }

    /// Whether all products keep weights finite.
    fn is_finite(&self) -> bool {
        let products = || self.groups[..self.count].iter().map(|&number| self.with(number).abs());
        products().all(|product| product <= self.most)
    }

    /// The largest magnitude of a product.
    fn furthest(&self) -> f32 {
        let furthest = |number: Option<Number>| {
            let (low, high) = number.map_or((1.0, 1.0), Number::limits);
            high.max(-low)
        };
        (self.constant * furthest(self.product.block) * furthest(self.product.group)).abs()
    }

    /// Those of its products that are of `sign`, 0 for any.
    fn allowed(&self, sign: f32) -> Allowed {
        /// A product may be rounded to the furthest.
        const ROUNDED: f32 = 1.0 + 1e-4;

        Allowed { sign, most: ROUNDED * self.furthest() }
    }

    /// `number`, one of a group, and those next to it, or some `further` ones too, that keep weights finite.
    fn around(&self, numbers: Number, number: f32, further: bool) -> Nearby {
        let (unit, most) = (self.with(1.0), self.most);
        let reach = match (further, numbers.is_coarse(number)) {
            (true, _) => Nearby::FURTHER,
            (false, true) => 1,
            (false, false) => 0,
        };
        let mut found = Nearby { numbers: [number; Nearby::MOST], count: 1 };
        for below in [true, false] {
            let mut last = number;
            for _ in 0..reach {
                let Some(next) = numbers.next(last, below) else { break };
                last = next;
                if (unit * next).abs() <= most {
                    found.numbers[found.count] = next;
                    found.count += 1;
                }
            }
        }
        found
    }

    /// Whether the numbers that are, or those of groups, lie far apart.
    fn is_coarse(&self) -> bool {
        let block = match self.product.block {
            None | Some(Number::F32) => false,
            Some(number) => number.is_coarse(self.block),
        };
        block || self.has_coarse_groups()
    }

    /// Whether the numbers of groups lie far apart.
    fn has_coarse_groups(&self) -> bool {
        match self.product.group {
            None => false,
            Some(Number::Integer { max, .. }) => max < 8,
            Some(Number::I8 | Number::F32 | Number::F16) => false,
            // Of as many numbers as 5 bits have some come near.
            Some(Number::Table(table)) => table.entries().len() < 32,
            Some(_) => true,
        }
    }

    /// Numbers of the block that may serve best, if groups are to have `targets`: those from which one or the other
    /// number of a group leads to the furthest target.
    fn trials(&self, targets: &[Target]) -> Vec<f32> {
        /// From one number of a group to the next at least so much.
        const RATIO: f32 = 0.97;

        let Some(block) = self.product.block else { return vec![self.block] };
        let furthest =
            targets.iter().fold(0.0, |far: f32, t| if t.value.abs() > far.abs() { t.value } else { far });
        let Some(group) = self.product.group else {
            let nearest = block.nearest(furthest / self.constant);
            return if block.is_coarse(nearest) { self.all_near(block, furthest) } else { vec![nearest] };
        };
        let mut found: Vec<f32> = Vec::new();
        let mut last: f32 = 0.0;
        for number in group.furthest_first() {
            if number * last > 0.0 && number.abs() > RATIO * last.abs() {
                continue;
            }
            last = number;
            let start = block.nearest(furthest / (self.constant * number));
            let count = if block.is_coarse(start) { 2 } else { 0 };
            let side = |below| {
                std::iter::successors(block.next(start, below), move |&n| block.next(n, below)).take(count)
            };
            for trial in std::iter::once(start).chain(side(true)).chain(side(false)) {
                if !found.contains(&trial) {
                    found.push(trial);
                }
            }
        }
        found
    }

    /// All numbers of the block around what leads to `target`.
    fn all_near(&self, block: Number, target: f32) -> Vec<f32> {
        /// Up to so many times as much, and down to such a part of it.
        const RATIO: f32 = 40.0;

        let centre = block.nearest(target / self.constant);
        let near = |&number: &f32| centre == 0.0 || (number - centre).abs() <= RATIO * centre.abs();
        let down = std::iter::successors(block.next(centre, true), |&n| block.next(n, true));
        let up = std::iter::successors(block.next(centre, false), |&n| block.next(n, false));
        let most = if block == Number::E8m0 { 6 } else { 64 };
        std::iter::once(centre).chain(down.take(most)).chain(up.take(most).take_while(near)).collect()
    }

    /// Takes a number of the block, and for the groups what comes nearest to `targets`.
    fn take(&mut self, block: f32, targets: &[Target]) {
        self.block = block;
        if let Some(group) = self.product.group {
            for (g, target) in targets.iter().enumerate() {
                self.groups[g] = self.nearest(group, target.value);
            }
        }
    }

    /// The number of a group from which a product is nearest to `target`, and finite.
    fn nearest(&self, group: Number, target: f32) -> f32 {
        group.nearest(self.number_for(target.clamp(-self.most, self.most)))
    }

    fn reach(&self) -> Reach {
        let (low, high) = self.product.group.map_or((1.0, 1.0), Number::limits);
        let either = self.product.block.is_some_and(|number| number.limits().0 < 0.0);
        match (low < 0.0 && high > 0.0, either, self.product.group) {
            (true, ..) | (_, true, None) => Reach::Both,
            (false, true, Some(_)) => Reach::Either,
            (false, false, _) => Reach::Only((self.constant * (low + high)).signum()),
        }
    }

    /// The weights of a group.
    fn range(&self, group: usize) -> Range<usize> {
        group * self.size..(group + 1) * self.size
    }

    fn group_of(&self, weight: usize) -> usize {
        weight / self.size
    }

    /// The product for a group.
    fn at(&self, group: usize) -> f32 {
        self.with(self.groups[group])
    }

    /// The product for a weight.
    fn of(&self, weight: usize) -> f32 {
        self.at(self.group_of(weight))
    }

    /// The product with a group's number.
    fn with(&self, number: f32) -> f32 {
        self.constant * self.block * number
    }

    /// The number that a group would need for `product`.
    fn number_for(&self, product: f32) -> f32 {
        let unit = self.with(1.0);
        if unit == 0.0 { 0.0 } else { product / unit }
    }

    /// `product` as the one number stores it that a product has; where it has several, as it is.
    fn rounded(&self, product: f32) -> f32 {
        match (self.product.block, self.product.group) {
            (Some(number), None) | (None, Some(number)) => {
                self.constant * number.nearest(product / self.constant)
            }
            _ => product,
        }
    }

    /// Takes the numbers that come nearest to `targets`.
    fn choose(&mut self, targets: &[Target; N]) {
        let targets = &targets[..self.count];
        if let (Some(block), Some(group)) = (self.product.block, self.product.group) {
            self.choose_block(block, group, targets);
        } else if let Some(block) = self.product.block {
            self.block = block.nearest(targets[0].value / self.constant);
        }
        if let Some(group) = self.product.group {
            for (g, target) in targets.iter().enumerate() {
                self.groups[g] = self.nearest(group, target.value);
            }
        }
    }

    /// The number of the block from which those of the groups lead nearest to `targets`.
    fn choose_block(&mut self, block: Number, group: Number, targets: &[Target]) {
        /// The furthest target becomes the highest number of a group, or one that is lower by up to half, in
        /// so many steps; to either side.
        const STEPS: usize = TRIALS / 2;

        let furthest =
            targets.iter().fold(0.0, |far: f32, t| if t.value.abs() > far.abs() { t.value } else { far });
        let (low, high) = group.limits();
        let limits = [low, high].into_iter().filter(|&limit| limit != 0.0 && furthest != 0.0);
        let mut count = 0;
        let mut blocks = [0.0; TRIALS];
        for (limit, step) in limits.flat_map(|limit| (0..STEPS).map(move |step| (limit, step))) {
            let highest = limit * (1.0 - step as f32 / (2 * STEPS) as f32);
            blocks[count] = block.nearest(furthest / (self.constant * highest));
            count += 1;
        }
        let tried = [(); 2].map(|()| {
            let units = each(|i| self.constant * blocks[i]);
            let Deviations { cost, tn, nn } = deviations(group, targets, &units);
            let tried = (blocks, cost);
            for i in (0..count).filter(|&i| nn[i] > 0.0) {
                // Least squares for these numbers.
                blocks[i] = block.nearest(tn[i] / nn[i] / self.constant);
            }
            tried
        });
        let (mut best, mut least) = (block.nearest(0.0), f32::INFINITY);
        for (i, (blocks, costs)) in (0..count).flat_map(|i| tried.iter().map(move |tried| (i, tried))) {
            if costs[i] < least {
                (best, least) = (blocks[i], costs[i]);
            }
        }
        self.block = best;
    }

    fn bits<const G: usize>(&self) -> (u32, [u8; G]) {
        let groups = match self.product.group {
            Some(number) => stored(number, self.groups[..self.count].iter().map(|&value| number.bits(value))),
            None => [0; G],
        };
        (self.product.block.map_or(0, |number| number.bits(self.block)), groups)
    }
}

/// The bytes of the numbers of groups, of which there are as many as fill them.
fn stored<const G: usize>(number: Number, bits: impl Iterator<Item = u32>) -> [u8; G] {
    let mut bytes = [0; G];
    let size = number.bytes();
    for (stored, bits) in bytes.chunks_exact_mut(size).zip(bits) {
        stored.copy_from_slice(&bits.to_le_bytes()[..size]);
    }
    bytes
}

/// The unit of weights, the weights in it, and their importance, of which the largest is 1; all finite.
fn in_units<const N: usize>(weights: &[f32; N], importance: Option<&[f32; N]>) -> (f32, [f32; N], [f32; N]) {
    let finite = |w: f32| if w.is_nan() { 0.0 } else { w.clamp(f32::MIN, f32::MAX) };
    let furthest = most(N, |i| finite(weights[i]).abs());
    // The exponent alone; not so low that a constant in its units is infinite.
    let unit = f32::from_bits(furthest.to_bits() >> 23 << 23).max(LEAST_UNIT);
    let weights = weights.map(|w| finite(w) / unit);
    let importance = importance.map_or([1.0; N], |importance| {
        let most = most(N, |i| finite(importance[i]));
        // What has no importance is rounded as well as can be had for nothing.
        importance.map(|p| if most > 0.0 { (finite(p) / most).max(1e-6) } else { 1.0 })
    });
    (unit, weights, importance)
}

/// Sums over targets for as many numbers of the block: what the deviations of numbers nearest to them cost, and the cost
/// times target and number, and times the number's square.
struct Deviations {
    cost: [f32; TRIALS],
    tn: [f32; TRIALS],
    nn: [f32; TRIALS],
}

on_any_vectors! {
    /// The deviations from `targets` of the nearest multiples of each of the `units` by numbers of a group.
    fn deviations[](group: Number, targets: &[Target], units: &[f32; TRIALS]) -> Deviations {
        let zeros = [0.0; TRIALS];
        let Deviations { mut cost, mut tn, mut nn } = Deviations { cost: zeros, tn: zeros, nn: zeros };
        for &Target { value, cost: weight } in targets {
            let exact: [f32; TRIALS] = each(|i| if units[i] == 0.0 { 0.0 } else { value / units[i] });
            let numbers = group.nearest_each(exact);
            let deviation: [f32; TRIALS] = each(|i| units[i] * numbers[i] - value);
            cost = each(|i| cost[i] + weight * (deviation[i] * deviation[i]));
            tn = each(|i| tn[i] + weight * value * numbers[i]);
            nn = each(|i| nn[i] + weight * numbers[i] * numbers[i]);
        }
        Deviations { cost, tn, nn }
    }
}

/// How many numbers of the block are looked at to either side of one, and which part of it these are apart.
#[derive(Clone, Copy)]
struct Scan {
    steps: i32,
    step: f32,
}

impl Scan {
    const FINE: Self = Self { steps: 60, step: 0.004 };
    /// Where all else leads near the best already.
    const COARSE: Self = Self { steps: 12, step: 0.02 };
}

/// Scales that may be: of this sign, 0 for any, and of magnitudes up to that.
#[derive(Clone, Copy)]
struct Allowed {
    sign: f32,
    most: f32,
}

impl Allowed {
    #[inline(always)]
    fn has(self, scale: f32) -> bool {
        scale * self.sign >= 0.0 && scale.abs() <= self.most
    }
}

/// A number of a group and some that lie around it.
struct Nearby {
    numbers: [f32; Self::MOST],
    count: usize,
}

impl Nearby {
    /// As many to either side where the first choice may be poor.
    const FURTHER: usize = 8;
    const MOST: usize = 1 + 2 * Self::FURTHER;

    fn as_slice(&self) -> &[f32] {
        &self.numbers[..self.count]
    }
}

impl Reach {
    /// The signs to try: 0 for any.
    fn signs(self) -> &'static [f32] {
        match self {
            Self::Both => &[0.0],
            Self::Either => &[1.0, -1.0],
            Self::Only(sign) if sign < 0.0 => &[-1.0],
            Self::Only(_) => &[1.0],
        }
    }
}

/// The scale of those `allowed` that leaves least of the weights.
///
/// Of scales that bring the furthest weight near the outermost value the best, each corrected by least squares; of few
/// values, or where much weighs little, it lies far outside. Then the best of those around it.
fn best_scale<V: Values>(values: V, weighted: Weighted, allowed: Allowed, few: bool, fine: bool) -> Alone {
    /// The square of the furthest weight, in mean squares.
    const ALONE: f32 = 12.0;

    let of_tables = values.tables(weighted).iter();
    let of_tables = of_tables.map(|table| best_scale(table, weighted, allowed, few, fine));
    if let Some(best) = of_tables.min_by(|a, b| a.error.total_cmp(&b.error)) {
        return best;
    }
    let sign = allowed.sign;
    let (low, high) = values.limits();
    let (smallest, largest) = weighted.extremes();
    let furthest = largest.max(-smallest);
    let nothing = match values.levels() {
        Some((levels, _)) => levels.residual(weighted, 0.0, 0.0),
        None => values.residual(weighted, 0.0, 0.0),
    };
    let mut best = Alone { scale: 0.0, minimum: 0.0, error: nothing.rr, rest: nothing };
    if furthest < NOTHING {
        return best;
    }
    // The scales that take all weights in, and the limit that one of these becomes.
    let whole = |sign: f32| {
        let ends =
            if sign > 0.0 { [(smallest, low), (largest, high)] } else { [(largest, low), (smallest, high)] };
        let inside = ends.into_iter().filter(|&(weight, limit)| weight * limit * sign > 0.0);
        inside
            .map(|(weight, limit)| (weight / limit, limit.abs()))
            .max_by(|a, b| a.0.abs().total_cmp(&b.0.abs()))
    };
    let mut wholes = [1.0, -1.0].map(|trial| if sign == 0.0 || sign == trial { whole(trial) } else { None });
    // With about as many values on both sides, the finer scale does.
    if let [Some(positive), Some(negative)] = wholes
        && (low + high).abs() * 32.0 < high - low
    {
        wholes[if positive.0 < -negative.0 { 1 } else { 0 }] = None;
    }
    for &(scale, _) in wholes.iter().flatten().filter(|(scale, _)| !allowed.has(*scale)) {
        // No scale takes all weights in: the largest takes most of them.
        let scale = scale.clamp(-allowed.most, allowed.most);
        let rest = values.residual(weighted, scale, 0.0);
        if rest.rr < best.error {
            best = Alone { scale, minimum: 0.0, error: rest.rr, rest };
        }
    }
    // The best scale may leave such a weight far outside.
    let is_alone = furthest * furthest * weighted.total_importance() > ALONE * nothing.rr;
    let light = is_alone || weighted.is_furthest_light(furthest);
    match values.levels() {
        None => near_and_far(values, weighted, allowed, &wholes, light, &mut best),
        Some((levels, shares)) => {
            // What serves single values is near what serves rows of them.
            let start = best_scale(levels, weighted, allowed, false, false).scale;
            let scales = shares.iter().map(|share| share * start);
            let scales = scales.filter(|scale| *scale != 0.0 && scale * sign >= 0.0);
            try_each(values, weighted, Correction::Scale, scales, |found| {
                found.better_than(&mut best, allowed, 0.0)
            });
        }
    }
    if few {
        let scales = values.magnitudes().into_iter().flat_map(|value| {
            let signs = [1.0, -1.0].into_iter().filter(|trial| trial * sign >= 0.0);
            signs.map(move |trial| trial * furthest / value)
        });
        try_each(values, weighted, Correction::None, scales, |found| {
            found.better_than(&mut best, allowed, 0.0)
        });
    }
    if is_lopsided((low, high)) || (fine && values.levels().is_some()) {
        // Of many values the best scale is hardly better than its neighbours: of rows these are tried here, of single values
        // at the end. Of lopsided ones it says little which side the furthest weight is on.
        let ratio = if fine { 0.996 } else { 0.96 };
        let nearer = match (fine, low * high < 0.0) {
            (true, _) => high.max(-low) / 0.55,
            (false, true) => high.min(-low),
            (false, false) => 1.0,
        };
        let least = if fine { 0.8 } else { 0.5 } * furthest;
        for sign in [1.0, -1.0].into_iter().filter(|trial| trial * sign >= 0.0) {
            let scales =
                std::iter::successors(Some(sign * 2.0 * furthest / nearer), |scale| Some(scale * ratio))
                    .take_while(|scale| scale.abs() * high.max(-low) > least);
            try_each(values, weighted, Correction::Scale, scales, |found| {
                found.better_than(&mut best, allowed, 0.0)
            });
        }
    }
    if values.levels().is_none() {
        around_scale(values, weighted, allowed, fine, &mut best);
    }
    settle(values, weighted, Correction::Scale, best)
}

/// Tries scales under which the furthest weight comes near the outermost value or further outside, all at once. `wholes` are
/// scales that take all weights in, and the limit that one of these becomes.
fn near_and_far<V: Values>(
    values: V,
    weighted: Weighted,
    allowed: Allowed,
    wholes: &[Option<(f32, f32)>; 2],
    light: bool,
    best: &mut Alone,
) {
    /// How often trials are corrected before it is known which is the best.
    const CORRECTIONS: usize = 3;
    /// How far from the outermost value, in distances from it to the next; fewer where two signs share the lanes.
    const NEAR: &[f32] = &[-0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75];
    const FEWER_NEAR: &[f32] = &[-2.0 / 3.0, -1.0 / 3.0, 0.0, 1.0 / 3.0, 2.0 / 3.0];
    /// How many times as far out as the place where a value more would be.
    const FAR: &[f32] = &[1.0, 1.3, 1.7, 2.2, 2.8, 3.6, 4.7, 6.1, 8.0];
    const FEWER_FAR: &[f32] = &[1.0, 1.3, 1.7];
    const FURTHER: [f32; TRIALS] =
        [1.3, 1.7, 2.2, 2.8, 3.6, 4.7, 6.1, 8.0, 10.0, 13.0, 17.0, 22.0, 28.0, 36.0, 47.0, 61.0];
    const { assert!(NEAR.len() + FAR.len() == TRIALS && FEWER_NEAR.len() + FEWER_FAR.len() == TRIALS / 2) };

    let (near, far) = if wholes.contains(&None) { (NEAR, FAR) } else { (FEWER_NEAR, FEWER_FAR) };
    let wholes =
        || wholes.iter().flatten().map(|&(scale, limit)| (scale * limit, limit, limit + values.gap()));
    let (mut weights, mut landings, mut count) = ([0.0; TRIALS], [1.0; TRIALS], 0);
    for (furthest, limit, beyond) in wholes() {
        let near = near.iter().map(|step| limit + step * values.gap());
        for landing in near.chain(far.iter().map(|ratio| ratio * beyond)) {
            (weights[count], landings[count]) = (furthest, landing);
            count += 1;
        }
    }
    let trials = Trials::new(each(|i| weights[i] / landings[i]), [0.0; TRIALS], count);
    let mut look_at = |trials, times| {
        let mut found = Found::new(trials);
        values.correct(weighted, Correction::Scale, times, &mut found);
        found.better_than(best, allowed, 0.0);
    };
    // Where those around the best are tried as well, these need no more than to be near.
    look_at(trials, if batches_around(values, false) > 0 { 1 } else { CORRECTIONS });
    if light {
        // The best scale may leave the furthest weight far outside.
        for (furthest, _, beyond) in wholes() {
            let scales = each(|i| furthest / (beyond * FURTHER[i]));
            look_at(Trials::new(scales, [0.0; TRIALS], TRIALS), CORRECTIONS);
        }
    }
}

/// So many times [`TRIALS`] scales around the best are tried: of many values it is chance which is best.
fn batches_around<V: Values>(values: V, fine: bool) -> usize {
    if fine { 5 } else { usize::from(has_more_steps(values, 16.0)) }
}

/// Tries scales around the best.
fn around_scale<V: Values>(values: V, weighted: Weighted, allowed: Allowed, fine: bool, best: &mut Alone) {
    /// The least, as a share of the best, and how far they reach.
    const LEAST: f32 = 0.92;
    const REACH: f32 = 0.3;

    let centre = best.scale;
    let batches = batches_around(values, fine);
    for batch in 0..batches {
        let along = |i: usize| (i * batches + batch) as f32 / (TRIALS * batches) as f32;
        let scales = each(|i| centre * (LEAST + REACH * along(i)));
        let mut found = Found::new(Trials::new(scales, [0.0; TRIALS], TRIALS));
        values.correct(weighted, Correction::Scale, 1, &mut found);
        found.better_than(best, allowed, 0.0);
    }
}

/// The scale of those `allowed` and the minimum of `sign` (0 for any) that leave least of the weights.
///
/// Of ranges that end up to some distances inside that of the weights the best; then the best of those around it.
///
/// A `thorough` search tries more of them and settles the best few.
fn best_scale_and_minimum<V: Values>(
    values: V,
    weighted: Weighted,
    sign: f32,
    allowed: Allowed,
    thorough: bool,
) -> Alone {
    /// In distances of values; below 0 outside. Up to one half, weights outside the range lose nothing by it.
    const INSIDE: [f32; 4] = [0.0, 0.4, 1.0, 2.2];
    const FIRST_INSIDE: [f32; 4] = [0.0, 0.4, 1.3, 3.5];
    /// A difference of errors that is none, as a share of the error without a scale: of scales and minima that leave nothing of
    /// few weights the first, which takes all of them in, is the nearest to 0.
    const SLIGHT: f32 = 1e-8;
    /// Scales for values that are not even, as shares of the one under which the range of values is that of weights.
    const SHARES: [f32; 18] =
        [0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.06, 1.12, 1.2, 1.3, 1.45, 1.6];
    /// So many of the best are settled; more of many values, where it is chance which is best, and where none are tried around
    /// the best.
    const SETTLED: usize = 2;
    const MORE_SETTLED: usize = 8;
    const MOST_SETTLED: usize = 32;

    let of_tables = values.tables(weighted).iter();
    let of_tables = of_tables.map(|table| best_scale_and_minimum(table, weighted, sign, allowed, thorough));
    if let Some(best) = of_tables.min_by(|a, b| a.error.total_cmp(&b.error)) {
        return best;
    }
    let (low, high) = values.limits();
    let extremes = weighted.extremes();
    let (smallest, _) = extremes;
    let may_be = |minimum: f32| minimum * sign >= 0.0;
    let correction = Correction::ScaleAndMinimum { sign, total: weighted.total_importance() };
    let constant = if may_be(smallest) { smallest } else { 0.0 };
    let rest = values.residual(weighted, 0.0, constant);
    let mut best = Alone { scale: 0.0, minimum: constant, error: rest.rr, rest };
    let slight = SLIGHT * rest.rr;
    // Of a thorough search the best of all.
    let mut several: Vec<Alone> = Vec::new();
    let settled = match (values.are_even(), has_many(values)) {
        (true, false) => SETTLED,
        (true, true) | (false, false) => MORE_SETTLED,
        (false, true) => MOST_SETTLED,
    };
    let all: Vec<f32>;
    let inside = if thorough {
        all = insides(&FIRST_INSIDE, 2.0, high - low).collect();
        &all[..]
    } else {
        &INSIDE
    };
    for (smallest, largest) in weighted.bodies(extremes, thorough) {
        if smallest >= largest && constant == smallest {
            continue;
        }
        let bottom = if may_be(smallest) || sign > 0.0 { smallest } else { smallest.min(0.0) };
        let top = if largest > bottom { largest } else { 0.0 };
        if top - bottom > allowed.most * (high - low) {
            // No scale takes all weights in: the largest takes most of them.
            let found = best_minimum(values, weighted, allowed.most, sign);
            if found.error < best.error {
                best = found;
            }
        }
        if !values.are_even() {
            for share in SHARES {
                let found = best_minimum(values, weighted, share * (top - bottom) / (high - low), sign);
                if thorough {
                    keep(&mut several, settled, found, |alone| alone.error);
                } else if found.error < best.error {
                    best = found;
                }
            }
            continue;
        }
        let mut look_at = |from_bottom: &[f32; TRIALS], from_top: &[f32; TRIALS], count: usize| {
            let scales = each(|i| (top - bottom) / (high - low + from_bottom[i] + from_top[i]));
            let minima = each(|i| bottom + scales[i] * (from_bottom[i] - low));
            let mut found = Found::new(Trials::new(scales, minima, count));
            values.correct(weighted, correction, 1, &mut found);
            if thorough {
                for lane in 0..count {
                    let most = several.get(settled - 1).map_or(f32::INFINITY, |alone| alone.error);
                    if found.errors[lane] < most && allowed.has(found.trials.scales[lane]) {
                        keep(&mut several, settled, found.alone(lane), |alone| alone.error);
                    }
                }
            } else {
                found.better_than(&mut best, allowed, slight);
            }
        };
        let (mut from_bottom, mut from_top, mut count) = ([0.0; TRIALS], [0.0; TRIALS], 0);
        for &bottom in inside {
            for &top in inside {
                (from_bottom[count], from_top[count]) = (bottom, top);
                count += 1;
                if count == TRIALS {
                    look_at(&from_bottom, &from_top, count);
                    count = 0;
                }
            }
        }
        if count > 0 {
            look_at(&from_bottom, &from_top, count);
        }
    }
    if values.are_chosen() {
        // A table that is finer around 0 may serve all but a weight far off, without a minimum.
        let found = best_scale(values, weighted, allowed, false, false);
        keep(&mut several, settled, found, |alone| alone.error);
    }
    if values.are_even() {
        let centre = *several.first().unwrap_or(&best);
        around_scale_and_minimum(values, weighted, (correction, allowed, slight), centre, &mut best);
    }
    let settled = several.into_iter().chain([best]).map(|alone| settle(values, weighted, correction, alone));
    settled.min_by(|a, b| a.error.total_cmp(&b.error)).unwrap_or(best)
}

/// Tries scales and minima around those of `centre`.
fn around_scale_and_minimum<V: Values>(
    values: V,
    weighted: Weighted,
    (correction, allowed, slight): (Correction, Allowed, f32),
    centre: Alone,
    best: &mut Alone,
) {
    /// So many scales, each with as many minima.
    const SIDE: usize = 4;
    /// From one scale to the next the range of values grows by so many distances; from one minimum to the next it moves by so
    /// many.
    const GROWS: f32 = 1.5;
    const MOVES: f32 = 0.4;
    const { assert!(SIDE * SIDE == TRIALS) };

    let (low, high) = values.limits();
    let from_centre = |step: usize| step as f32 - (SIDE - 1) as f32 / 2.0;
    let scales = each(|i| centre.scale * (1.0 + GROWS / (high - low) * from_centre(i % SIDE)));
    // The middle of the range stays, or moves.
    let middle = (low + high) / 2.0;
    let minima = each(|i| {
        centre.minimum + (centre.scale - scales[i]) * middle + centre.scale * MOVES * from_centre(i / SIDE)
    });
    let mut found = Found::new(Trials::new(scales, minima, TRIALS));
    values.correct(weighted, correction, 2, &mut found);
    found.better_than(best, allowed, slight);
}

/// How far inside the range of weights that of so many `steps` of values may end, in steps: at these places, and from there
/// on each time so much further, up to a third of it.
fn insides(near: &[f32], ratio: f32, steps: f32) -> impl Iterator<Item = f32> {
    let last = near.last().copied().unwrap_or_default();
    let far = std::iter::successors(Some(last * ratio), move |inside| Some(inside * ratio));
    near.iter().copied().chain(far.take_while(move |&inside| inside < steps / 3.0))
}

/// The minimum of `sign` (0 for any) that leaves least of the weights under `scale`.
fn best_minimum<V: Values>(values: V, weighted: Weighted, scale: f32, sign: f32) -> Alone {
    /// Minima that are tried, from where the range of values begins with the weights to where it ends with them.
    const STEPS: usize = 8;

    let (low, high) = values.limits();
    let (from, to) = (f32::min(low * scale, high * scale), f32::max(low * scale, high * scale));
    let total = weighted.total_importance();
    let allowed = |minimum: f32| if minimum * sign >= 0.0 { minimum } else { 0.0 };
    let mut best = Alone { error: f32::INFINITY, ..Alone::default() };
    for (smallest, largest) in weighted.bodies(weighted.extremes(), true) {
        for step in 0..=STEPS {
            let along = step as f32 / STEPS as f32;
            let mut minimum = allowed((1.0 - along) * (smallest - from) + along * (largest - to));
            for _ in 0..3 {
                let rest = values.residual(weighted, scale, minimum);
                let is_poor = rest.rr > 1.5 * best.error;
                if rest.rr < best.error {
                    best = Alone { scale, minimum, error: rest.rr, rest };
                }
                if is_poor {
                    break;
                }
                minimum = allowed(minimum + rest.r / total);
            }
        }
    }
    best
}

impl Found {
    fn alone(&self, lane: usize) -> Alone {
        let Trials { scales, minima, .. } = &self.trials;
        let (scale, minimum) = (scales[lane], minima[lane]);
        Alone { scale, minimum, error: self.errors[lane], rest: self.rests.lane(lane) }
    }

    /// The best of them whose scale is `allowed` becomes `best` if it is better, not just by a `slight` difference.
    fn better_than(&self, best: &mut Alone, allowed: Allowed, slight: f32) {
        let (mut least, mut at) = (best.error - slight, None);
        for lane in 0..self.trials.len() {
            if self.errors[lane] < least && allowed.has(self.trials.scales[lane]) {
                (least, at) = (self.errors[lane], Some(lane));
            }
        }
        if let Some(lane) = at {
            *best = self.alone(lane);
        }
    }
}

/// Looks at scales, as many together as is fast.
fn try_each<V: Values>(
    values: V,
    weighted: Weighted,
    correction: Correction,
    scales: impl Iterator<Item = f32>,
    mut look: impl FnMut(&Found),
) {
    let mut look_at = |trials: Trials| {
        let mut found = Found::new(trials);
        values.correct(weighted, correction, 1, &mut found);
        look(&found);
    };
    let mut waiting = Trials::NONE;
    // The iterator runs by itself: asked for one scale at a time, it would take as long as the trials.
    scales.for_each(|scale| {
        waiting.push(scale, 0.0);
        if waiting.len() == TRIALS {
            look_at(std::mem::replace(&mut waiting, Trials::NONE));
        }
    });
    if waiting.len() > 0 {
        look_at(waiting);
    }
}

/// Codes for the scale and minimum that are `best`, then these for the codes, as long as that lowers the error. What comes out
/// has its own error: that of trials comes from differences of sums, which leave nothing of a small one.
fn settle<V: Values>(values: V, weighted: Weighted, correction: Correction, mut best: Alone) -> Alone {
    const ROUNDS: usize = 4;
    /// Of an error that is lower by less nothing is to be had.
    const LOWER: f32 = 1.0 - 1e-5;

    for _ in 0..ROUNDS {
        let rest = values.residual(weighted, best.scale, best.minimum);
        best = Alone { error: rest.rr, rest, ..best };
        let (scale, minimum, error) = correction.of(best.minimum, &rest);
        if error >= LOWER * best.error {
            break;
        }
        best = Alone { scale: best.scale + scale, minimum: best.minimum + minimum, error, rest };
    }
    best
}

/// Whether values reach more than twice as far to one side of 0 as to the other.
fn is_lopsided((low, high): (f32, f32)) -> bool {
    low.abs().min(high.abs()) * 2.0 < low.abs().max(high.abs())
}

/// Whether there are more than 64 values or about as many.
fn has_many<V: Values>(values: V) -> bool {
    has_more_steps(values, 64.0)
}

/// Whether it is more than so many `steps` from the lowest value to the highest.
fn has_more_steps<V: Values>(values: V, steps: f32) -> bool {
    values.steps() > steps
}

/// So many parts of `range`, of equal size.
fn parts(range: Range<usize>, count: usize) -> Vec<Range<usize>> {
    let size = range.len() / count;
    range.step_by(size).map(|start| start..start + size).collect()
}

/// Puts `new` among the up to `most` best, which stand in the order of their errors, if it is one of them.
fn keep<T>(best: &mut Vec<T>, most: usize, new: T, error: impl Fn(&T) -> f32) {
    let place = best.partition_point(|other| error(other) <= error(&new));
    if place < most {
        best.insert(place, new);
        best.truncate(most);
    }
}

pub fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
