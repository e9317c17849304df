//! Values of several weights that have one code together, or one set of signs: the rows of a grid.

use std::cell::RefCell;

use super::values::{
    LANES, Lanes, Residual, Table, Values, Weighted, min, on_any_vectors, pairwise, remainder,
};
use crate::bytes::each;

/// So many rows at once: a vector of AVX-512, two of AVX2.
const ROWS: usize = 16;

/// Rows of `D` values, 1, 4 or 8, of which `D` consecutive weights have one.
#[derive(Clone, Debug)]
pub struct Grid<const D: usize> {
    /// Vectors of rows: first numbers, second numbers, …; the last vector is filled up with the last row. Magnitudes
    /// alone where signs are free.
    columns: Vec<[[f32; ROWS]; D]>,
    /// Of each row 1 if its own number of minuses is odd, which it is only where signs are free, and 0 otherwise.
    odd: Vec<[f32; ROWS]>,
    rows: Vec<[f32; D]>,
    /// Of each row where signs are apart, bit d: number d is below 0.
    minuses: Vec<u8>,
    signs: Signs,
    /// Values of rows, all or some of them.
    levels: Table,
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
        let levels = levels(rows, signs);
        let rows: Vec<[f32; D]> = rows.iter().map(|row| row.map(f32::from)).collect();
        let own = signs == Signs::Own;
        let columns = rows.chunks(ROWS).map(|rows| {
            let number = |d: usize, lane: usize| rows.get(lane).unwrap_or(&rows[rows.len() - 1])[d];
            std::array::from_fn(|d| {
                std::array::from_fn(|lane| if own { number(d, lane) } else { number(d, lane).abs() })
            })
        });
        let bits = |row: &[f32; D]| (0..D).fold(0, |bits, d| bits | u8::from(row[d] < 0.0) << d);
        let minuses: Vec<u8> = rows.iter().map(|row| if own { 0 } else { bits(row) }).collect();
        let last = rows.len() - 1;
        let odd = (0..rows.len().div_ceil(ROWS))
            .map(|vector| each(|lane| (minuses[(vector * ROWS + lane).min(last)].count_ones() % 2) as f32));
        let all = || rows.iter().flatten().copied();
        let (low, high) = (all().fold(f32::INFINITY, f32::min), all().fold(f32::NEG_INFINITY, f32::max));
        let limits = if own { (low, high) } else { (-high.max(-low), high.max(-low)) };
        let next = all().filter(|&g| g < limits.1).fold(f32::NEG_INFINITY, f32::max);
        let gap = if next.is_finite() { limits.1 - next } else { 1.0 };
        Self { columns: columns.collect(), odd: odd.collect(), minuses, signs, levels, limits, gap, rows }
    }

    /// The row with the least of Σ p (t - s g)² for `targets` t of importance p under `scales` s, less a constant.
    ///
    /// Where `flip` says so of its minuses, odd or not, one of a row's weights, that with which it costs least, has the
    /// sign changed.
    fn best(&self, targets: [f32; D], importance: [f32; D], scales: [f32; D], flip: Option<bool>) -> Best {
        let squares = std::array::from_fn(|d| importance[d] * scales[d] * scales[d]);
        let products = std::array::from_fn(|d| importance[d] * scales[d] * targets[d]);
        Costs::new(self, squares, products).best(self, 1.0, flip)
    }

    fn is_odd(&self, row: usize) -> bool {
        self.minuses[row].count_ones() % 2 == 1
    }

    /// The values that `octet` stands for.
    fn values(&self, octet: Octet) -> Lanes {
        each(|i| {
            let value = self.rows[usize::from(octet.rows[i / D])][i % D];
            let minus = u32::from(octet.signs >> i & 1) << 31;
            f32::from_bits(value.to_bits() ^ minus)
        })
    }
}

/// The most single values that stand for those of rows.
const LEVELS: usize = 16;

/// The values of rows under their signs: all, or [`LEVELS`] of them, from the lowest to the highest.
fn levels<const D: usize>(rows: &[[i8; D]], signs: Signs) -> Table {
    let mut all: Vec<i8> = rows.iter().flatten().copied().collect();
    if signs != Signs::Own {
        all.extend(rows.iter().flatten().map(|value| value.saturating_neg()));
    }
    all.sort_unstable();
    all.dedup();
    let count = all.len().min(LEVELS);
    let some: Vec<i8> = (0..count).map(|i| all[i * (all.len() - 1) / (count - 1).max(1)]).collect();
    Table::new(&some)
}

/// What rows cost for some weights, under any scale s: `squares` s² - 2 `products` s, and where a sign is changed another
/// 4 `changes` s.
struct Costs<const D: usize> {
    /// Vectors of rows: squares and products.
    rows: Vec<[[f32; ROWS]; 2]>,
    /// Where changes of sign have to be even.
    changes: Vec<[f32; ROWS]>,
    /// What a row's numbers are multiplied by in its product.
    products: [f32; D],
}

impl<const D: usize> Costs<D> {
    /// Of weights whose numbers' squares count so much and whose numbers so much.
    fn new(grid: &Grid<D>, squares: [f32; D], products: [f32; D]) -> Self {
        let count = grid.columns.len();
        let changes = if grid.signs == Signs::Even { count } else { 0 };
        let zeros = [0.0; ROWS];
        let mut costs = Self { rows: vec![[zeros; 2]; count], changes: vec![zeros; changes], products };
        fill(grid, squares, products, &mut costs.rows, &mut costs.changes);
        costs
    }

    /// The row that costs least under `scale`, as [`Grid::best`] has it.
    fn best(&self, grid: &Grid<D>, scale: f32, flip: Option<bool>) -> Best {
        let (row, cost) = least(&self.rows, &self.changes, &grid.odd, scale, flip);
        let row = row.min(grid.rows.len() - 1);
        let change = |d: &usize| self.products[*d] * scale * grid.rows[row][*d].abs();
        let flips = flip == Some(grid.is_odd(row));
        let flipped = flips.then(|| (0..D).min_by(|a, b| change(a).total_cmp(&change(b))).unwrap_or(0));
        Best { cost, row, flipped }
    }
}

on_any_vectors! {
    /// Fills in what rows of `grid` cost.
    fn fill[const D: usize](
        grid: &Grid<D>,
        squares: [f32; D],
        products: [f32; D],
        rows: &mut [[[f32; ROWS]; 2]],
        changes: &mut [[f32; ROWS]],
    ) -> () {
        for (columns, [of_squares, of_products]) in grid.columns.iter().zip(rows) {
            for d in 0..D {
                let product: [f32; ROWS] = each(|i| products[d] * columns[d][i]);
                *of_products = each(|i| of_products[i] + product[i]);
                *of_squares = each(|i| (squares[d] * columns[d][i]).mul_add(columns[d][i], of_squares[i]));
            }
        }
        for (columns, change) in grid.columns.iter().zip(changes) {
            *change = each(|i| products[0] * columns[0][i]);
            for d in 1..D {
                let product: [f32; ROWS] = each(|i| products[d] * columns[d][i]);
                *change = each(|i| if product[i] < change[i] { product[i] } else { change[i] });
            }
        }
    }
}

on_any_vectors! {
    /// The row that costs least, and what.
    fn least[](
        rows: &[[[f32; ROWS]; 2]],
        changes: &[[f32; ROWS]],
        odd: &[[f32; ROWS]],
        scale: f32,
        flip: Option<bool>,
    ) -> (usize, f32) {
        let (square, product) = (scale * scale, -2.0 * scale);
        let (mut least, mut at) = ([f32::INFINITY; ROWS], [0.0_f32; ROWS]);
        for (vector, [squares, products]) in rows.iter().enumerate() {
            let mut costs: [f32; ROWS] = each(|i| square.mul_add(squares[i], product * products[i]));
            if let Some(flip) = flip {
                // Of each row, whether it changes.
                let changes_of: [f32; ROWS] = if flip { odd[vector] } else { each(|i| 1.0 - odd[vector][i]) };
                costs = each(|i| (-2.0 * product * changes[vector][i]).mul_add(changes_of[i], costs[i]));
            }
            let better: [bool; ROWS] = each(|i| costs[i] < least[i]);
            least = each(|i| if better[i] { costs[i] } else { least[i] });
            at = each(|i| if better[i] { vector as f32 } else { at[i] });
        }
        let half: Lanes = each(|i| min(least[i], least[i + ROWS / 2]));
        let cost = pairwise(half, min);
        let lane = least.iter().position(|&other| other == cost).unwrap_or(0);
        (at[lane] as usize * ROWS + lane, cost)
    }
}

/// What is known of rows for the weights of one block: the costs for each run of `D` of them, once they were asked for.
pub struct Known<const D: usize>(RefCell<Vec<Option<Costs<D>>>>);

impl<const D: usize> Known<D> {
    /// Of a block of so many weights.
    pub fn new(weights: usize) -> Self {
        Self(RefCell::new((0..weights / D).map(|_| None).collect()))
    }
}

/// A grid, and what is known of its rows for the weights of one block.
#[derive(Clone, Copy)]
pub struct Search<'b, const D: usize> {
    grid: &'b Grid<D>,
    known: &'b Known<D>,
}

impl<'b, const D: usize> Search<'b, D> {
    pub fn new(grid: &'b Grid<D>, known: &'b Known<D>) -> Self {
        Self { grid, known }
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
        // Where signs are free, a scale of the other sign has the same rows.
        let own = grid.signs == Signs::Own;
        let mut known = self.known.0.borrow_mut();
        let costs = known[part].get_or_insert_with(|| {
            let products =
                std::array::from_fn(|d| importance[d] * if own { targets[d] } else { targets[d].abs() });
            Costs::new(grid, importance, products)
        });
        costs.best(grid, if own { scale } else { scale.abs() }, flip)
    }

    /// The codes of eight weights, those from `at` on of the block if these are its own, each under its scale.
    fn octet(self, at: Option<usize>, weights: Lanes, importance: Lanes, scales: Lanes) -> Octet {
        let grid = self.grid;
        // What is known holds for one scale.
        let at = at.filter(|_| scales == [scales[0]; LANES]);
        let mut signs = 0_u8;
        let mut targets = weights;
        if grid.signs != Signs::Own {
            for i in 0..LANES {
                // Where the scale is negative, values of the other sign are.
                let minus = targets[i] * scales[i] < 0.0;
                signs |= u8::from(minus) << i;
                targets[i] = if minus { -targets[i] } else { targets[i] };
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
        let is_odd = |best: &Best| grid.is_odd(best.row);
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
            // A number below 0 has a minus already.
            signs ^= grid.minuses[best.row] << (i * D);
        }
        Octet { rows: parts.map(|best| best.row as u16), signs }
    }

    /// The codes of eight weights or fewer; those that are missing are of no importance.
    pub(super) fn codes(self, weighted: Weighted, scales: &Lanes, minima: &Lanes) -> Octet {
        let Weighted { weights, importance, first, own } = weighted;
        let targets = each(|i| weights.get(i).map_or(0.0, |w| w - minima[i]));
        // What is known is that of whole octets without minima.
        let is_known = own && first % LANES == 0 && weights.len() == LANES && *minima == [0.0; LANES];
        let at = is_known.then_some(first);
        self.octet(at, targets, each(|i| importance.get(i).copied().unwrap_or(0.0)), *scales)
    }

    /// The values of eight weights or fewer.
    fn values(self, weighted: Weighted, scales: &Lanes, minima: &Lanes) -> Lanes {
        self.grid.values(self.codes(weighted, scales, minima))
    }
}

impl<const D: usize> Values for Search<'_, D> {
    fn levels(&self) -> Option<(&Table, &'static [f32])> {
        const NEAR: &[f32] = &[0.76, 0.84, 0.92, 1.0, 1.08, 1.17, 1.27];
        /// Where rows have the signs, few may come near, and those of the other sign nearer.
        const FURTHER: &[f32] = &[
            0.5, 0.6, 0.7, 0.8, 0.87, 0.93, 1.0, 1.07, 1.14, 1.25, 1.4, 1.65, 2.0, -0.5, -0.6, -0.7, -0.8,
            -0.87, -0.93, -1.0, -1.07, -1.14, -1.25, -1.4, -1.65, -2.0,
        ];
        Some((&self.grid.levels, if self.grid.signs == Signs::Own { FURTHER } else { NEAR }))
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
    use super::{Grid, Known, LANES, Search, Signs};

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
        let mut known = Known::new(8);
        let (mut weights, mut importance) = ([0.0; 8], [0.0; 8]);
        for case in 0..1000 {
            if case % 10 == 0 {
                // The next weights; the others meet rows that are known by now.
                known = Known::new(8);
                weights = std::array::from_fn(|_| noise() * 2.0 - 1.0);
                importance = std::array::from_fn(|_| noise() + 0.01);
            }
            let scale = (0.01 + 0.03 * noise()) * if case % 3 == 0 { -1.0 } else { 1.0 };
            let octet = Search::new(&grid, &known).octet(Some(0), weights, importance, [scale; 8]);
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
