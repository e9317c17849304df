//! Values of several weights that have one code together: the rows of a grid, each number under a sign.

use super::values::{LANES, Lanes, Residual, Sums, Values, Weighted, each};

/// Rows of `D` values, 4 or 8, of which `D` consecutive weights have one.
#[derive(Clone, Debug)]
pub struct Grid<const D: usize> {
    /// Vectors of rows: first numbers, second numbers, …; the last vector is filled up with the last row.
    columns: Vec<[Lanes; D]>,
    rows: Vec<[f32; D]>,
    signs: Signs,
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
    /// The row of the first `D`, and that of the last: the same where a row has eight values.
    pub rows: [u16; 2],
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

impl<const D: usize> Grid<D> {
    /// A grid of at least one row; there are no more than 65,536.
    pub fn new(rows: &[[i8; D]], signs: Signs) -> Self {
        const { assert!(D == 4 || D == 8) };
        let rows: Vec<[f32; D]> = rows.iter().map(|row| row.map(f32::from)).collect();
        let columns = rows.chunks(LANES).map(|rows| {
            std::array::from_fn(|d| {
                std::array::from_fn(|lane| rows.get(lane).unwrap_or(&rows[rows.len() - 1])[d])
            })
        });
        Self { columns: columns.collect(), signs, rows }
    }

    /// The row with the least of Σ p (t - scale g)² for `targets` t of importance p, less a constant.
    ///
    /// With `flip` one of the weights, that with which it costs least, has the sign changed.
    fn best(&self, targets: [f32; D], importance: [f32; D], scale: f32, flip: bool) -> Best {
        let squares = importance.map(|p| p * scale * scale);
        let products: [f32; D] = std::array::from_fn(|d| 2.0 * importance[d] * scale * targets[d]);
        let (mut least, mut at) = ([f32::INFINITY; LANES], [0.0_f32; LANES]);
        for (i, columns) in self.columns.iter().enumerate() {
            let mut costs = [0.0; LANES];
            let mut changes = [f32::INFINITY; LANES];
            for d in 0..D {
                for lane in 0..LANES {
                    let g = columns[d][lane];
                    costs[lane] += (squares[d] * g - products[d]) * g;
                    if flip {
                        // - 2 p t s g becomes + 2 p t s g.
                        let change = 2.0 * products[d] * g;
                        changes[lane] = if change < changes[lane] { change } else { changes[lane] };
                    }
                }
            }
            for lane in 0..LANES {
                let cost = costs[lane] + if flip { changes[lane] } else { 0.0 };
                let better = cost < least[lane];
                least[lane] = if better { cost } else { least[lane] };
                at[lane] = if better { i as f32 } else { at[lane] };
            }
        }
        let (lane, cost) =
            (0..LANES).map(|lane| (lane, least[lane])).min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or_default();
        let row = (at[lane] as usize * LANES + lane).min(self.rows.len() - 1);
        let change = |d: &usize| products[*d] * self.rows[row][*d];
        let flipped = flip.then(|| (0..D).min_by(|a, b| change(a).total_cmp(&change(b))).unwrap_or(0));
        Best { cost, row, flipped }
    }

    /// The codes of eight weights.
    fn octet(&self, weights: [f32; LANES], importance: [f32; LANES], scale: f32) -> Octet {
        let mut signs = 0_u8;
        let mut targets = weights;
        if self.signs != Signs::Own {
            for (i, target) in targets.iter_mut().enumerate() {
                // Where the scale is negative, values of the other sign are.
                if *target * scale < 0.0 {
                    signs |= 1 << i;
                    *target = -*target;
                }
            }
        }
        let part = |half: usize, flip| {
            let first = if D == LANES { 0 } else { half * D };
            let slice = |all: [f32; LANES]| std::array::from_fn(|d| all[first + d]);
            self.best(slice(targets), slice(importance), scale, flip)
        };
        let odd = self.signs == Signs::Even && signs.count_ones() % 2 == 1;
        let mut parts = [part(0, false); 2];
        if D == LANES && odd {
            parts = [part(0, true); 2];
        } else if D < LANES {
            parts[1] = part(1, false);
            if odd {
                let flipped = [part(0, true), part(1, true)];
                let half = usize::from(flipped[1].cost - parts[1].cost < flipped[0].cost - parts[0].cost);
                parts[half] = flipped[half];
            }
        }
        for (half, best) in parts.iter().enumerate().take(LANES / D) {
            if let Some(flipped) = best.flipped {
                signs ^= 1 << (half * D + flipped);
            }
        }
        Octet { rows: parts.map(|best| best.row as u16), signs }
    }

    /// The values that `octet` stands for.
    fn values(&self, octet: Octet) -> [f32; LANES] {
        std::array::from_fn(|i| {
            let value = self.rows[usize::from(octet.rows[i / D % 2])][i % D];
            if octet.signs >> i & 1 == 1 { -value } else { value }
        })
    }

    /// The codes of weights under `scale` and `minimum`, eight by eight.
    pub(super) fn octets(&self, weighted: Weighted, scale: f32, minimum: f32) -> impl Iterator<Item = Octet> {
        let ((weights, _), (importance, _)) = (weighted.weights.as_chunks(), weighted.importance.as_chunks());
        weights
            .iter()
            .zip(importance)
            .map(move |(weights, &importance)| self.octet(weights.map(|w| w - minimum), importance, scale))
    }
}

impl<const D: usize> Values for &Grid<D> {
    // A row is chosen for all its weights, and takes as long as they all: a few trials must do.
    const TRIALS: i32 = 3;

    fn limits(self) -> (f32, f32) {
        let all = || self.rows.iter().flatten().copied();
        let (low, high) = (all().fold(f32::INFINITY, f32::min), all().fold(f32::NEG_INFINITY, f32::max));
        match self.signs {
            Signs::Own => (low, high),
            Signs::Any | Signs::Even => (-high.max(-low), high.max(-low)),
        }
    }

    fn gap(self) -> f32 {
        let (_, high) = self.limits();
        let next =
            self.rows.iter().flatten().copied().filter(|&g| g < high).fold(f32::NEG_INFINITY, f32::max);
        if next.is_finite() { high - next } else { 1.0 }
    }

    fn residual(self, weighted: Weighted, scale: f32, minimum: f32) -> Residual {
        let mut sums = Sums::default();
        let octets = self.octets(weighted, scale, minimum);
        let (weights, importance) =
            (weighted.weights.as_chunks::<LANES>().0, weighted.importance.as_chunks().0);
        for ((octet, weights), &importance) in octets.zip(weights).zip(importance) {
            let values = self.values(octet);
            sums.add(importance, values, each(|i| weights[i] - minimum - scale * values[i]));
        }
        sums.total()
    }
}

#[cfg(test)]
mod tests {
    use super::{Grid, LANES, Signs};

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
        let own = signs == Signs::Own;
        let mut row =
            || std::array::from_fn(|_| [8, 25, 43][(noise() * 3.0) as usize] - if own { 25 } else { 0 });
        // Not a whole number of vectors.
        let rows: Vec<[i8; D]> = (0..37).map(|_| row()).collect();
        let grid = Grid::new(&rows, signs);
        for case in 0..200 {
            let weights = std::array::from_fn(|_| noise() * 2.0 - 1.0);
            let importance = std::array::from_fn(|_| noise() + 0.01);
            let scale = (0.01 + 0.03 * noise()) * if case % 3 == 0 { -1.0 } else { 1.0 };
            let octet = grid.octet(weights, importance, scale);
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
        check::<4>(Signs::Own);
        check::<8>(Signs::Own);
        check::<4>(Signs::Any);
        check::<8>(Signs::Any);
        check::<4>(Signs::Even);
        check::<8>(Signs::Even);
    }
}
