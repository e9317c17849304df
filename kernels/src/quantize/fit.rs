//! The search for the block nearest to some weights.

use std::ops::Range;

use super::grid::{Grid, Octet};
use super::values::{LANES, Residual, Single, Values, Weighted, each};
use super::{Number, Numbers, Product};

/// Rounds over all groups and the numbers of the block; most blocks need two.
const ROUNDS: usize = 4;

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
}

/// A scale or minimum under search.
#[derive(Clone)]
struct Factor<const N: usize> {
    product: Product,
    /// The constant in the block's unit.
    constant: f32,
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
#[derive(Clone, Copy)]
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
        let finite = |w: f32| if w.is_nan() { 0.0 } else { w.clamp(f32::MIN, f32::MAX) };
        let furthest = weights.iter().fold(0.0_f32, |far, &w| far.max(finite(w).abs()));
        // The exponent alone.
        let unit = f32::from_bits(furthest.to_bits() >> 23 << 23).max(f32::MIN_POSITIVE);
        let weights = weights.map(|w| finite(w) / unit);
        let importance = importance.map_or([1.0; N], |importance| {
            let most = importance.iter().fold(0.0_f32, |most, &p| most.max(finite(p)));
            // What has no importance is rounded as well as can be had for nothing.
            importance.map(|p| if most > 0.0 { (finite(p) / most).max(1e-6) } else { 1.0 })
        });
        let scale = Factor::new(scale, unit, scales);
        let minimum = minimum.map(|minimum| Factor::new(minimum, unit, minima));
        let cell = gcd(scale.size, minimum.as_ref().map_or(0, |minimum| minimum.size));
        let mut fit = Self { values, weights, importance, scale, minimum, cell };
        fit.choose();
        fit.improve();
        fit
    }

    /// Chooses the numbers of block and groups, first for each group alone.
    fn choose(&mut self) {
        let mut scales = [Target::default(); N];
        match self.minimum.take() {
            None => {
                let mut least = f32::INFINITY;
                for sign in self.scale.reach().signs() {
                    let mut targets = [Target::default(); N];
                    let mut error = 0.0;
                    for (g, target) in targets[..self.scale.count].iter_mut().enumerate() {
                        let alone = best_scale(self.values, self.group(self.scale.range(g)), *sign);
                        *target = Target { value: alone.scale, cost: alone.rest.vv };
                        error += alone.error;
                    }
                    if error < least {
                        (least, scales) = (error, targets);
                    }
                }
            }
            Some(mut minimum) => {
                // Weights around 0, which are nearly all, need minima below it.
                let sign = match minimum.reach() {
                    Reach::Both => 0.0,
                    Reach::Either if self.weights.iter().all(|&w| w >= 0.0) => 1.0,
                    Reach::Either => -1.0,
                    Reach::Only(sign) => sign,
                };
                let mut minima = [Target::default(); N];
                for (g, target) in scales[..self.scale.count].iter_mut().enumerate() {
                    let range = self.scale.range(g);
                    let alone = best_scale_and_minimum(self.values, self.group(range.clone()), sign);
                    *target = Target { value: alone.scale, cost: alone.rest.vv };
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
                minimum.choose(&minima);
                self.minimum = Some(minimum);
                // Scales for minima as they are now.
                for (g, target) in scales[..self.scale.count].iter_mut().enumerate() {
                    for _ in 0..2 {
                        let rest = self.residual(self.scale.range(g), |_| target.value, None);
                        if rest.vv > 0.0 {
                            *target =
                                Target { value: (target.value + rest.rv / rest.vv).max(0.0), cost: rest.vv };
                        }
                    }
                }
            }
        }
        self.scale.choose(&scales);
    }

    /// Improves numbers as long as that lowers the error.
    fn improve(&mut self) {
        let mut error = self.error();
        for _ in 0..ROUNDS {
            let before = error;
            self.improve_groups();
            error = self.improve_block();
            if error >= 0.999 * before {
                break;
            }
        }
    }

    /// The neighbours of each group's numbers.
    fn improve_groups(&mut self) {
        if let Some(number) = self.scale.product.group {
            for g in 0..self.scale.count {
                let range = self.scale.range(g);
                let paired = self.minimum.as_ref().filter(|minimum| minimum.count == self.scale.count);
                let now = (self.scale.groups[g], paired.map(|minimum| minimum.groups[g]));
                let (mut best, mut least) =
                    (now, self.residual(range.clone(), |_| self.scale.at(g), None).rr);
                for scale in number.around(now.0) {
                    let scaled = self.scale.with(scale);
                    let Some(minimum) = paired else {
                        if scale != now.0 {
                            let error = self.residual(range.clone(), |_| scaled, None).rr;
                            if error < least {
                                (best, least) = ((scale, None), error);
                            }
                        }
                        continue;
                    };
                    let Some(numbers) = minimum.product.group else { continue };
                    let rest = self.residual(range.clone(), |_| scaled, None);
                    let target = minimum.at(g) + rest.r / self.total_importance(range.clone());
                    for code in numbers.around(numbers.nearest(minimum.number_for(target))) {
                        let error = self.residual(range.clone(), |_| scaled, Some(minimum.with(code))).rr;
                        if error < least {
                            (best, least) = ((scale, Some(code)), error);
                        }
                    }
                }
                self.scale.groups[g] = best.0;
                if let (Some(minimum), Some(code)) = (&mut self.minimum, best.1) {
                    minimum.groups[g] = code;
                }
            }
        }
        let unpaired = self.minimum.as_ref().filter(|minimum| minimum.count != self.scale.count);
        if let Some((count, number)) =
            unpaired.and_then(|minimum| Some((minimum.count, minimum.product.group?)))
        {
            for g in 0..count {
                let Some(minimum) = &self.minimum else { return };
                let range = minimum.range(g);
                let mut least = f32::INFINITY;
                let mut best = minimum.groups[g];
                for code in number.around(best) {
                    let error = self
                        .residual(range.clone(), |weight| self.scale.of(weight), Some(minimum.with(code)))
                        .rr;
                    if error < least {
                        (best, least) = (code, error);
                    }
                }
                if let Some(minimum) = &mut self.minimum {
                    minimum.groups[g] = best;
                }
            }
        }
    }

    /// The numbers of the block by least squares for the codes that are. Returns the error.
    fn improve_block(&mut self) -> f32 {
        let mut least = self.error();
        // Sums over products of what the numbers of scale and minimum are multiplied by, and the remainder.
        let (mut ss, mut sm, mut mm, mut sr, mut mr) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for cell in self.cells() {
            let rest = self.residual(cell.clone(), |weight| self.scale.of(weight), None);
            let s = self.scale.constant * self.scale.groups[self.scale.group_of(cell.start)];
            ss += s * s * rest.vv;
            sr += s * rest.rv;
            if let Some(minimum) = &self.minimum {
                let m = minimum.constant * minimum.groups[minimum.group_of(cell.start)];
                sm += s * m * rest.v;
                mm += m * m * self.total_importance(cell);
                mr += m * rest.r;
            }
        }
        let of_minimum =
            self.minimum.as_ref().and_then(|minimum| Some((minimum.product.block?, minimum.block)));
        let (mut scale, mut minimum) = solve(
            if self.scale.product.block.is_some() { (ss, sr) } else { (0.0, 0.0) },
            sm,
            if of_minimum.is_some() { (mm, mr) } else { (0.0, 0.0) },
        );
        scale += self.scale.block;
        if let Some((number, block)) = of_minimum {
            minimum = number.nearest(block + minimum);
        }
        let now = self.scale.block;
        let numbers = self.scale.product.block;
        let trials = numbers.into_iter().flat_map(|number| number.around(number.nearest(scale)));
        let mut best = (now, of_minimum.map(|(_, block)| block));
        for trial in trials.chain(numbers.is_none().then_some(now)) {
            let trial = (trial, of_minimum.map(|_| minimum));
            if trial == best {
                continue;
            }
            self.set_block(trial);
            let error = self.error();
            if error < least {
                (best, least) = (trial, error);
            }
        }
        self.set_block(best);
        least
    }

    fn set_block(&mut self, (scale, minimum): (f32, Option<f32>)) {
        self.scale.block = scale;
        if let (Some(factor), Some(block)) = (&mut self.minimum, minimum) {
            factor.block = block;
        }
    }

    fn error(&self) -> f32 {
        self.cells().map(|cell| self.residual(cell, |weight| self.scale.of(weight), None).rr).sum()
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
        Weighted { weights: &self.weights[range.clone()], importance: &self.importance[range] }
    }

    fn total_importance(&self, range: Range<usize>) -> f32 {
        self.group(range).total_importance()
    }

    /// What is left of the weights in `range` under the scale of each and their minima, or `minimum` instead.
    fn residual(&self, range: Range<usize>, scale: impl Fn(usize) -> f32, minimum: Option<f32>) -> Residual {
        let mut sum = Residual::default();
        for start in range.step_by(self.cell) {
            let minimum = minimum.unwrap_or_else(|| self.minimum_of(start));
            sum += self.values.residual(self.group(start..start + self.cell), scale(start), minimum);
        }
        sum
    }

    /// The numbers found, as they are stored.
    pub fn numbers<const S: usize, const M: usize>(&self) -> Numbers<S, M> {
        let (scale, scales) = self.scale.bits();
        let (minimum, minima) = self.minimum.as_ref().map_or((0, [0; M]), Factor::bits);
        Numbers { scale, scales, minimum, minima }
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
                let values = self.values.nearest(each(|i| weights.get(i).copied().map_or(0.0, target)));
                codes.iter_mut().zip(values).for_each(|(stored, value)| *stored = code(value));
            }
        }
        codes
    }
}

impl<const D: usize, const N: usize> Fit<&Grid<D>, N> {
    /// The codes of the weights, eight by eight.
    pub fn octets(&self) -> impl Iterator<Item = Octet> {
        self.cells().flat_map(|cell| {
            let (scale, minimum) = (self.scale.of(cell.start), self.minimum_of(cell.start));
            self.values.octets(self.group(cell), scale, minimum)
        })
    }
}

impl<const N: usize> Factor<N> {
    fn new(product: Product, unit: f32, groups: usize) -> Self {
        let count = groups.max(1);
        let constant = product.factor / unit;
        Self { product, constant, block: 1.0, groups: [1.0; N], count, size: N / count }
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
                self.groups[g] = group.nearest(self.number_for(target.value));
            }
        }
    }

    /// The number of the block from which those of the groups lead nearest to `targets`.
    fn choose_block(&mut self, block: Number, group: Number, targets: &[Target]) {
        /// The furthest target becomes the highest number of a group, or one that is lower by up to half, in
        /// so many steps.
        const TRIALS: usize = 8;

        let furthest =
            targets.iter().fold(0.0, |far: f32, t| if t.value.abs() > far.abs() { t.value } else { far });
        let (low, high) = group.limits();
        let (mut best, mut least) = (block.nearest(0.0), f32::INFINITY);
        for limit in [low, high].into_iter().filter(|&limit| limit != 0.0 && furthest != 0.0) {
            for trial in 0..TRIALS {
                let highest = limit * (1.0 - trial as f32 / (2 * TRIALS) as f32);
                self.block = block.nearest(furthest / (self.constant * highest));
                for _ in 0..2 {
                    let (mut cost, mut tn, mut nn) = (0.0, 0.0, 0.0);
                    for target in targets {
                        let number = group.nearest(self.number_for(target.value));
                        cost += target.cost * (self.with(number) - target.value).powi(2);
                        tn += target.cost * target.value * number;
                        nn += target.cost * number * number;
                    }
                    if cost < least {
                        (best, least) = (self.block, cost);
                    }
                    // Least squares for these numbers.
                    if nn > 0.0 {
                        self.block = block.nearest(tn / nn / self.constant);
                    }
                }
            }
        }
        self.block = best;
    }

    fn bits<const G: usize>(&self) -> (u32, [u8; G]) {
        let groups =
            std::array::from_fn(|g| self.product.group.map_or(0, |number| number.bits(self.groups[g]) as u8));
        (self.product.block.map_or(0, |number| number.bits(self.block)), groups)
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

/// The scale of `sign` (0 for any) that leaves least of the weights.
///
/// Of scales that bring the furthest weight near the outermost value the best, each corrected by least squares; of few
/// values, or where much weighs little, it lies far outside.
fn best_scale<V: Values>(values: V, weighted: Weighted, sign: f32) -> Alone {
    let (low, high) = values.limits();
    let (smallest, largest) = weighted.extremes();
    let nothing = values.residual(weighted, 0.0, 0.0);
    let mut best = Alone { scale: 0.0, minimum: 0.0, error: nothing.rr, rest: nothing };
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
    for (scale, limit) in wholes.into_iter().flatten() {
        let mut trial = |landing: f32| {
            let scale = scale * limit / landing;
            let rest = values.residual(weighted, scale, 0.0);
            if rest.vv == 0.0 {
                return true;
            }
            let error = rest.rr - rest.rv * rest.rv / rest.vv;
            let goes_on = error < 1.5 * best.error;
            if error < best.error {
                best = Alone { scale: scale + rest.rv / rest.vv, minimum: 0.0, error, rest };
            }
            goes_on
        };
        for step in -V::TRIALS..=V::TRIALS {
            // Less than a distance to either side.
            trial(limit + step as f32 / (V::TRIALS + 1) as f32 * values.gap());
        }
        let mut landing = limit + values.gap();
        while landing < 16.0 * limit && trial(landing) {
            landing *= 1.1;
        }
    }
    settle(values, weighted, best, |_, rest| (if rest.vv > 0.0 { rest.rv / rest.vv } else { 0.0 }, 0.0))
}

/// The scale and the minimum of `sign` (0 for any) that leave least of the weights.
///
/// Of ranges that end up to some distances inside that of the weights the best.
fn best_scale_and_minimum<V: Values>(values: V, weighted: Weighted, sign: f32) -> Alone {
    /// In distances of values; below 0 outside. Up to one half, weights outside the range lose nothing by it.
    const INSIDE: [f32; 10] = [-0.3, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 4.0, 6.0];

    let (low, high) = values.limits();
    let (smallest, largest) = weighted.extremes();
    let total = weighted.total_importance();
    let allowed = |minimum: f32| minimum * sign >= 0.0;
    // The correction of scale and minimum for the codes of a trial.
    let correction = |minimum: f32, rest: &Residual| {
        let (scale, change) = solve((rest.vv, rest.rv), rest.v, (total, rest.r));
        if allowed(minimum + change) {
            return (scale, change);
        }
        let change = -minimum;
        (if rest.vv > 0.0 { (rest.rv - change * rest.v) / rest.vv } else { 0.0 }, change)
    };
    let constant = if allowed(smallest) { smallest } else { 0.0 };
    let rest = values.residual(weighted, 0.0, constant);
    let mut best = Alone { scale: 0.0, minimum: constant, error: rest.rr, rest };
    if smallest < largest || constant != smallest {
        let bottom = if allowed(smallest) || sign > 0.0 { smallest } else { smallest.min(0.0) };
        let top = if largest > bottom { largest } else { 0.0 };
        for from_bottom in INSIDE {
            for from_top in INSIDE {
                let scale = (top - bottom) / (high - low + from_bottom + from_top);
                let minimum = bottom + scale * (from_bottom - low);
                let rest = values.residual(weighted, scale, minimum);
                let (more, change) = correction(minimum, &rest);
                let error = rest.after(more, change, total);
                let goes_on = error < 2.0 * best.error;
                if error < best.error {
                    best = Alone { scale: scale + more, minimum: minimum + change, error, rest };
                }
                if !goes_on {
                    break;
                }
            }
        }
    }
    settle(values, weighted, best, correction)
}

/// Codes for the scale and minimum, then these for the codes, as long as that lowers the error.
fn settle<V: Values>(
    values: V,
    weighted: Weighted,
    mut best: Alone,
    correction: impl Fn(f32, &Residual) -> (f32, f32),
) -> Alone {
    const ROUNDS: usize = 4;

    let total = weighted.total_importance();
    for _ in 0..ROUNDS {
        let rest = values.residual(weighted, best.scale, best.minimum);
        let (scale, minimum) = correction(best.minimum, &rest);
        let error = rest.after(scale, minimum, total);
        if error >= best.error {
            break;
        }
        best = Alone { scale: best.scale + scale, minimum: best.minimum + minimum, error, rest };
    }
    best
}

/// The x and y with `a x + b y = r` and `b x + c y = s` for the two pairs (a, r) and (c, s); of an equation without
/// a solution of its own, 0.
fn solve((a, r): (f32, f32), b: f32, (c, s): (f32, f32)) -> (f32, f32) {
    let determinant = a * c - b * b;
    if determinant > 1e-5 * a * c {
        return ((r * c - s * b) / determinant, (s * a - r * b) / determinant);
    }
    if a > 0.0 && c == 0.0 {
        (r / a, 0.0)
    } else if c > 0.0 {
        (0.0, s / c)
    } else {
        (0.0, 0.0)
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
