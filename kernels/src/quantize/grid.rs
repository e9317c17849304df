//! Values of several weights that have one code together, or one set of signs: the rows of a grid.

use std::cell::RefCell;

use super::values::{LANES, Lanes, Residual, Values, Weighted, on_any_vectors, remainder};
use crate::bytes::each;

/// So many rows at once: a vector of AVX-512, two of AVX2.
const ROWS: usize = 16;

/// Rows of `D` values, 1, 4 or 8, of which `D` consecutive weights have one.
#[derive(Clone, Debug)]
pub struct Grid<const D: usize> {
    /// Vectors of rows: first numbers, second numbers, …; the last vector is filled up with the last row. Magnitudes
    /// alone where signs are free.
    columns: Vec<[[f32; ROWS]; D]>,
    /// Of each row whether its own number of minuses is odd; only where signs are free.
    odd: Vec<[bool; ROWS]>,
    rows: Vec<[f32; D]>,
    signs: Signs,
    /// The lowest and the highest value.
    limits: (f32, f32),
    /// How far the highest number is from the next.
    gap: f32,
}

/// Which signs the values of eight consecutive weights may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signs {
    /// Those of the grid.
    Own,
    /// Any.
    Any,
    /// Those with an even number of changes: seven bits say them all.
    Even,
}

/// The codes of eight weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Octet {
    /// The rows of the first `D` weights, of the second, …; there are `8 / D`.
    pub rows: [u16; LANES],
    /// Bit i: the value of weight i has its sign changed.
    pub signs: u8,
}

/// The best row for some weights, and what it costs.
#[derive(Clone, Copy)]
struct Best {
    cost: f32,
    row: usize,
    /// The weight whose sign is not its own.
    flipped: Option<usize>,
}

impl Best {
    const NONE: Self = Self { cost: 0.0, row: 0, flipped: None };
}

impl<const D: usize> Grid<D> {
    /// Runs of weights that have a row each.
    const PARTS: usize = LANES / D;

    /// A grid of at least one row; there are no more than 65,536.
    pub fn new(rows: &[[i8; D]], signs: Signs) -> Self {
        const { assert!(D == 1 || D == 4 || D == 8) };
        let rows: Vec<[f32; D]> = rows.iter().map(|row| row.map(f32::from)).collect();
        let own = signs == Signs::Own;
        let columns = rows.chunks(ROWS).map(|rows| {
            let number = |d: usize, lane: usize| rows.get(lane).unwrap_or(&rows[rows.len() - 1])[d];
            std::array::from_fn(|d| {
                std::array::from_fn(|lane| if own { number(d, lane) } else { number(d, lane).abs() })
            })
        });
        let minuses = |row: &[f32; D]| row.iter().filter(|&&g| g < 0.0).count();
        let is_odd = |row: &[f32; D]| !own && minuses(row) % 2 == 1;
        let odd = rows
            .chunks(ROWS)
            .map(|rows| std::array::from_fn(|lane| is_odd(rows.get(lane).unwrap_or(&rows[rows.len() - 1]))));
        let all = || rows.iter().flatten().copied();
        let (low, high) = (all().fold(f32::INFINITY, f32::min), all().fold(f32::NEG_INFINITY, f32::max));
        let limits = if own { (low, high) } else { (-high.max(-low), high.max(-low)) };
        let next = all().filter(|&g| g < limits.1).fold(f32::NEG_INFINITY, f32::max);
        let gap = if next.is_finite() { limits.1 - next } else { 1.0 };
        Self { columns: columns.collect(), odd: odd.collect(), signs, limits, gap, rows }
    }

    /// The row with the least of Σ p (t - s g)² for `targets` t of importance p under `scales` s, less a constant.
    ///
    /// Where `flip` says so of its minuses, odd or not, one of a row's weights, that with which it costs least, has the
    /// sign changed.
    fn best(&self, targets: [f32; D], importance: [f32; D], scales: [f32; D], flip: Option<bool>) -> Best {
        let squares: [f32; D] = std::array::from_fn(|d| importance[d] * scales[d] * scales[d]);
        let products: [f32; D] = std::array::from_fn(|d| 2.0 * importance[d] * scales[d] * targets[d]);
        let (row, cost) = nearest(self, squares, products, flip);
        let change = |d: &usize| products[*d] * self.rows[row][*d].abs();
        let flips = flip == Some(self.odd[row / ROWS][row % ROWS]);
        let flipped = flips.then(|| (0..D).min_by(|a, b| change(a).total_cmp(&change(b))).unwrap_or(0));
        Best { cost, row, flipped }
    }

    /// The values that `octet` stands for.
    fn values(&self, octet: Octet) -> Lanes {
        std::array::from_fn(|i| {
            let value = self.rows[usize::from(octet.rows[i / D])][i % D];
            if octet.signs >> i & 1 == 1 { -value } else { value }
        })
    }
}

on_any_vectors! {
    /// The row with the least of Σ (square g - product) g, twice the least product added where `flip` says so of its
    /// minuses, and that.
    fn nearest[const D: usize](
        grid: &Grid<D>,
        squares: [f32; D],
        products: [f32; D],
        flip: Option<bool>,
    ) -> (usize, f32) {
        let (mut least, mut at) = ([f32::INFINITY; ROWS], [0.0_f32; ROWS]);
        for (i, (columns, odd)) in grid.columns.iter().zip(&grid.odd).enumerate() {
            let mut costs = [0.0; ROWS];
            let mut changes = [f32::INFINITY; ROWS];
            for d in 0..D {
                for lane in 0..ROWS {
                    let g = columns[d][lane];
                    costs[lane] += (squares[d] * g - products[d]) * g;
                    if flip.is_some() {
                        // - 2 p t s g becomes + 2 p t s g.
                        let change = 2.0 * products[d] * g;
                        changes[lane] = if change < changes[lane] { change } else { changes[lane] };
                    }
                }
            }
            for lane in 0..ROWS {
                let cost = costs[lane] + if flip == Some(odd[lane]) { changes[lane] } else { 0.0 };
                let better = cost < least[lane];
                least[lane] = if better { cost } else { least[lane] };
                at[lane] = if better { i as f32 } else { at[lane] };
            }
        }
        let (lane, cost) =
            (0..ROWS).map(|lane| (lane, least[lane])).min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or_default();
        ((at[lane] as usize * ROWS + lane).min(grid.rows.len() - 1), cost)
    }
}

/// A grid and the rows that were found for the weights of one block.
#[derive(Clone, Copy)]
pub struct Search<'b, const D: usize> {
    grid: &'b Grid<D>,
    /// For each run of `D` weights and each of the three ways to change signs, in the order of scales.
    found: &'b RefCell<Vec<Vec<Found>>>,
}

/// The best row under a scale s, where 1 / s is `place`.
///
/// Divided by s², the cost of every row is a straight line over 1 / s: so the best row for two places is the best one for
/// all in between.
pub struct Found {
    place: f32,
    row: usize,
    flipped: Option<usize>,
}

impl<'b, const D: usize> Search<'b, D> {
    pub fn new(grid: &'b Grid<D>, found: &'b RefCell<Vec<Vec<Found>>>) -> Self {
        Self { grid, found }
    }

    /// [`Grid::best`] for the weights of a part of the block under one scale.
    fn best(
        self,
        part: usize,
        targets: [f32; D],
        importance: [f32; D],
        scale: f32,
        flip: Option<bool>,
    ) -> Best {
        let grid = self.grid;
        let mut found = self.found.borrow_mut();
        let index = 3 * part + flip.map_or(0, |odd| 1 + usize::from(odd));
        if found.len() <= index {
            found.resize_with(index + 1, Vec::new);
        }
        let found = &mut found[index];
        // Where signs are free, a scale of the other sign has the same rows.
        let own = grid.signs == Signs::Own;
        let place = if own { 1.0 / scale } else { 1.0 / scale.abs() };
        let next = found.partition_point(|other| other.place < place);
        if let [before, after] = found[next.saturating_sub(1)..].get(..2).unwrap_or_default()
            && next > 0
            && before.row == after.row
        {
            let Found { row, flipped, .. } = *before;
            let cost = |d: usize| {
                let g = grid.rows[row][d];
                let g = if own { g } else { g.abs() };
                let g = if flipped == Some(d) { -g } else { g };
                importance[d] * scale * g * (scale * g - 2.0 * targets[d])
            };
            return Best { cost: (0..D).map(cost).sum(), row, flipped };
        }
        let best = grid.best(targets, importance, [scale; D], flip);
        if place.is_finite() {
            found.insert(next, Found { place, row: best.row, flipped: best.flipped });
        }
        best
    }

    /// The codes of eight weights, those from `at` on of the block if these are its own, each under its scale.
    fn octet(self, at: Option<usize>, weights: Lanes, importance: Lanes, scales: Lanes) -> Octet {
        let grid = self.grid;
        // What is known holds for one scale.
        let at = at.filter(|_| scales == [scales[0]; LANES]);
        let mut signs = 0_u8;
        let mut targets = weights;
        if grid.signs != Signs::Own {
            for (i, target) in targets.iter_mut().enumerate() {
                // Where the scale is negative, values of the other sign are.
                if *target * scales[i] < 0.0 {
                    signs |= 1 << i;
                    *target = -*target;
                }
            }
        }
        let part = |part: usize, flip| {
            let slice = |all: Lanes| std::array::from_fn(|d| all[part * D + d]);
            match at {
                Some(at) => self.best(at / D + part, slice(targets), slice(importance), scales[0], flip),
                None => grid.best(slice(targets), slice(importance), slice(scales), flip),
            }
        };
        let mut parts: [Best; LANES] =
            std::array::from_fn(|i| if i < Grid::<D>::PARTS { part(i, None) } else { Best::NONE });
        let is_odd = |best: &Best| grid.odd[best.row / ROWS][best.row % ROWS];
        let minuses = parts[..Grid::<D>::PARTS].iter().filter(|best| is_odd(best)).count();
        if grid.signs == Signs::Even && (signs.count_ones() as usize + minuses) % 2 == 1 {
            // One part has to change; rows with its number of minuses need the change of a sign for it.
            let changed = |i: usize| {
                let changed = part(i, Some(is_odd(&parts[i])));
                (changed.cost - parts[i].cost, i, changed)
            };
            if let Some((_, i, changed)) =
                (0..Grid::<D>::PARTS).map(changed).min_by(|a, b| a.0.total_cmp(&b.0))
            {
                parts[i] = changed;
            }
        }
        for (i, best) in parts[..Grid::<D>::PARTS].iter().enumerate() {
            if let Some(flipped) = best.flipped {
                signs ^= 1 << (i * D + flipped);
            }
            if grid.signs != Signs::Own {
                // A number below 0 has a minus already.
                for (d, _) in grid.rows[best.row].iter().enumerate().filter(|(_, g)| **g < 0.0) {
                    signs ^= 1 << (i * D + d);
                }
            }
        }
        Octet { rows: parts.map(|best| best.row as u16), signs }
    }

    /// The codes of eight weights or fewer; those that are missing are of no importance.
    pub(super) fn codes(self, weighted: Weighted, scales: &Lanes, minima: &Lanes) -> Octet {
        let Weighted { weights, importance, at } = weighted;
        let targets = each(|i| weights.get(i).map_or(0.0, |w| w - minima[i]));
        // What is known is that of whole octets without minima.
        let at = at.filter(|at| at % LANES == 0 && weights.len() == LANES && *minima == [0.0; LANES]);
        self.octet(at, targets, each(|i| importance.get(i).copied().unwrap_or(0.0)), *scales)
    }

    /// The values of eight weights or fewer.
    fn values(self, weighted: Weighted, scales: &Lanes, minima: &Lanes) -> Lanes {
        self.grid.values(self.codes(weighted, scales, minima))
    }
}

impl<const D: usize> Values for Search<'_, D> {
    // A row is chosen for all its weights, and takes as long as they all: a few trials must do.
    fn trials(self) -> i32 {
        if D == 1 || self.grid.signs == Signs::Own { 9 } else { 3 }
    }

    fn magnitudes(self) -> Vec<f32> {
        let mut magnitudes: Vec<f32> =
            self.grid.rows.iter().flatten().map(|g| g.abs()).filter(|&g| g > 0.0).collect();
        magnitudes.sort_by(f32::total_cmp);
        magnitudes.dedup();
        magnitudes
    }

    fn unit(self) -> usize {
        if self.grid.signs == Signs::Even { LANES } else { D }
    }

    fn limits(self) -> (f32, f32) {
        self.grid.limits
    }

    fn gap(self) -> f32 {
        self.grid.gap
    }

    fn residual(self, weighted: Weighted, scale: f32, minimum: f32) -> Residual {
        let (scales, minima) = ([scale; LANES], [minimum; LANES]);
        let mut rest = Residual::default();
        for start in (0..weighted.weights.len()).step_by(LANES) {
            let octet = weighted.part(start..weighted.weights.len().min(start + LANES));
            rest += remainder(octet, &self.values(octet, &scales, &minima), &scales, &minima);
        }
        rest
    }

    fn mixed(self, weighted: Weighted, scales: Lanes, minima: Lanes) -> [Residual; 2] {
        let values = self.values(weighted, &scales, &minima);
        [0, LANES / 2].map(|start| {
            let half = |all: Lanes| each(|i| if i < LANES / 2 { all[start + i] } else { 0.0 });
            let weighted = weighted.part(start..start + LANES / 2);
            remainder(weighted, &half(values), &half(scales), &half(minima))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::{Grid, LANES, Search, Signs};

    /// Numbers from 0 to 1 that look random.
    fn noise(seed: u32) -> impl FnMut() -> f32 {
        let mut state = seed;
        move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        }
    }

    /// The least error of eight weights over all rows and all signs that there are.
    fn least<const D: usize>(grid: &Grid<D>, weights: [f32; 8], importance: [f32; 8], scale: f32) -> f32 {
        let signs = (0..=255_u8).filter(|signs| match grid.signs {
            Signs::Own => *signs == 0,
            Signs::Any => true,
            Signs::Even => signs.count_ones() % 2 == 0,
        });
        let of_signs = |signs: u8| -> f32 {
            let parts = (0..LANES / D).map(|part| {
                let cost = |row: &[f32; D]| -> f32 {
                    (0..D)
                        .map(|d| {
                            let i = part * D + d;
                            let value = if signs >> i & 1 == 1 { -row[d] } else { row[d] };
                            importance[i] * (weights[i] - scale * value).powi(2)
                        })
                        .sum()
                };
                grid.rows.iter().map(cost).fold(f32::INFINITY, f32::min)
            });
            parts.sum()
        };
        signs.map(of_signs).fold(f32::INFINITY, f32::min)
    }

    fn check<const D: usize>(signs: Signs) {
        let mut noise = noise(D as u32);
        // Of some rows without signs of their own, too, numbers lie below 0.
        let mut row = || {
            let below = if signs == Signs::Own || noise() < 0.3 { 25 } else { 0 };
            std::array::from_fn(|_| [8, 25, 43][(noise() * 3.0) as usize] - below)
        };
        // Not a whole number of vectors.
        let rows: Vec<[i8; D]> = (0..37).map(|_| row()).collect();
        let grid = Grid::new(&rows, signs);
        let found = RefCell::default();
        let search = Search::new(&grid, &found);
        let (mut weights, mut importance) = ([0.0; 8], [0.0; 8]);
        for case in 0..1000 {
            if case % 10 == 0 {
                // The next weights; the others meet rows that are known by now.
                weights = std::array::from_fn(|_| noise() * 2.0 - 1.0);
                importance = std::array::from_fn(|_| noise() + 0.01);
            }
            let scale = (0.01 + 0.03 * noise()) * if case % 3 == 0 { -1.0 } else { 1.0 };
            let octet = search.octet(Some(case / 10 * 8), weights, importance, [scale; 8]);
            if signs == Signs::Even {
                assert_eq!(octet.signs.count_ones() % 2, 0, "{D} {signs:?}, case {case}");
            }
            let values = grid.values(octet);
            let error: f32 = (0..8).map(|i| importance[i] * (weights[i] - scale * values[i]).powi(2)).sum();
            let least = least(&grid, weights, importance, scale);
            assert!(error <= least * 1.0001, "{D} {signs:?}, case {case}: {error}, the least is {least}");
        }
    }

    #[test]
    fn an_octet_is_the_nearest_of_all() {
        check::<1>(Signs::Own);
        check::<1>(Signs::Any);
        check::<1>(Signs::Even);
        check::<4>(Signs::Own);
        check::<8>(Signs::Own);
        check::<4>(Signs::Any);
        check::<8>(Signs::Any);
        check::<4>(Signs::Even);
        check::<8>(Signs::Even);
    }
}
