//! A plain search for the least squared error that a block can have, to hold quantizers against.
//!
//! A block is `w = scale · value(code) + minimum`; [`Holds`] says in plain numbers what its parts can be. The search
//! knows nothing of the macro or of `quantloom_kernels::quantize`, computes in f64 and takes up to a second a block:
//!
//! - For fixed numbers of the block, the codes of groups and weights are the best of all: each code of the larger
//!   groups is tried with each code of the smaller ones, and every weight, or row of weights, has its nearest value.
//!   Where groups of scales and minima do not nest, or a codebook's row or its signs reach over several groups, all
//!   codes of the groups that depend on each other are tried together. Only where these are more than a few are codes
//!   improved one at a time, each over all its values, from several starts.
//! - The nearest row of a codebook is found without going through all rows for each scale: for one minimum the error of a
//!   row is a parabola in the scale, and the least of all rows is the envelope of these parabolas.
//! - The numbers of the block are tried on a fine logarithmic grid of both signs, or all of them where there are few.
//!   The best of the grid are improved by least squares for the codes and by looking at neighbours until nothing is
//!   better. With a block number in the scale and one in the minimum the grid has two dimensions and is coarser.
//!
//! The result is the error of a block that exists, never less than the least; how near it is stands in the tests.

use std::cell::RefCell;
use std::ops::Range;

/// So many codes that the groups of a run can have together are all tried.
const FEW: f64 = 1000.0;

/// What a block can hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Holds {
    /// What codes of weights stand for.
    pub values: Values,
    /// The signs that values can have.
    pub signs: Signs,
    /// What values are multiplied by.
    pub scale: Product,
    /// What is added.
    pub minimum: Option<Product>,
}

/// What codes of weights stand for.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Values of each weight alone, in any order; at least one.
    Single(Vec<f64>),
    /// Rows of as many values each, for so many consecutive weights: 1, 2, 4 or 8. At least one row.
    Rows(Vec<Vec<f64>>),
    /// Values of each weight alone, from one of several tables, which each group of `size` consecutive weights chooses.
    Tables {
        /// The values of each table; at least one table, and one value of each.
        tables: Vec<Vec<f64>>,
        /// Consecutive weights of a group.
        size: usize,
    },
}

/// The signs that values can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signs {
    /// Those of the values alone.
    Own,
    /// Each value may be negated.
    Any,
    /// An even number of each eight consecutive values may be negated.
    Even,
}

/// A factor of the block, times one of each group where there are groups.
#[derive(Clone, Debug, PartialEq)]
pub struct Product {
    /// What the factor of the block can be, with constants and the minus of a subtracted minimum.
    pub block: Numbers,
    /// What the factors of groups can be.
    pub group: Option<Group>,
}

/// What the factor of a block can be.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// This number alone.
    One(f64),
    /// One of these finite numbers; at least one.
    These(Vec<f64>),
    /// Any finite f32.
    Any,
}

/// What the factors of groups can be.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The values that the codes of groups stand for; at least one.
    pub values: Vec<f64>,
    /// Consecutive weights of a group.
    pub size: usize,
}

impl Holds {
    /// The least Σ importance · (weight - what it becomes)² that the search finds for one block; without `importance`,
    /// each weight's is 1.
    ///
    /// Weights and importance are finite; an importance is at least 0.
    ///
    /// # Panics
    /// Weights are no whole number of groups, rows or, with [`Signs::Even`], eights; importance is not that of each
    /// weight; there are several tables with [`Signs::Even`].
    pub fn least_error(&self, weights: &[f32], importance: Option<&[f32]>) -> f64 {
        let largest = weights.iter().fold(0.0_f64, |most, &w| most.max(f64::from(w).abs()));
        if largest == 0.0 && self.minimum.is_none() && self.holds_zeros() {
            return 0.0;
        }
        if let Values::Tables { tables, size } = &self.values
            && *size == weights.len()
        {
            // With a table for all weights a block is one of this table alone.
            let of_table = |table: &Vec<f64>| {
                let held = Self { values: Values::Single(table.clone()), ..self.clone() };
                Search::new(&held, weights, importance).run()
            };
            return tables.iter().map(of_table).fold(f64::INFINITY, f64::min);
        }
        Search::new(self, weights, importance).run()
    }

    fn holds_zeros(&self) -> bool {
        let block = match &self.scale.block {
            Numbers::One(number) => *number == 0.0,
            Numbers::These(numbers) => numbers.contains(&0.0),
            Numbers::Any => true,
        };
        block || self.scale.group.as_ref().is_some_and(|group| group.values.contains(&0.0))
    }
}

/// A block under search.
struct Search<'h> {
    holds: &'h Holds,
    weights: Vec<f64>,
    importance: Vec<f64>,
    /// Rows of values; single values are rows of one.
    rows: Vec<Vec<f64>>,
    /// Where no value depends on those of other weights: all values under all their signs, in order, of each table.
    sorted: Option<Vec<Vec<f64>>>,
    /// Weights whose values depend on each other: a row, those of one table, or eight with an even number of signs.
    unit: usize,
    scale: Groups,
    minimum: Groups,
    /// What the block's numbers in scale and minimum can be, in order.
    numbers: [Numbers; 2],
    /// Evaluations of a weight that a pair of these numbers takes, about.
    cost: f64,
    /// Consecutive weights of a row that have the same scale and minimum.
    piece: usize,
    /// For each piece its rows in falling order of Σ importance · value².
    squares: Vec<Vec<(f64, usize)>>,
    /// What is known of pieces under the number of the minimum that was tried last.
    known: RefCell<Known>,
}

/// Pieces under one number of the block's minimum.
struct Known {
    minimum: f64,
    /// Those of the first piece with each code of the minimum, of the second, and so on; made when they are needed.
    pieces: Vec<Option<Piece>>,
}

/// The errors of a piece under any scale, for one minimum.
///
/// With the same values everywhere, the error is a parabola in the scale: `rest - 2 a s + b s²` with `rest`, `a` and `b` the sums
/// of importance · target², importance · target · value and importance · value², where the target is the weight less
/// the minimum.
struct Piece {
    rest: f64,
    /// The sums of each row of values; where a row is this piece alone, they are in `least`.
    rows: Vec<Sums>,
    /// The least of all rows: with [`Signs::Own`] for scales above 0 and below, with others for an even and an odd
    /// number of negated values.
    least: [Envelope; 2],
}

/// The sums of a row whose values have the signs of their targets, or their own.
#[derive(Clone, Copy)]
struct Sums {
    a: f64,
    b: f64,
    /// The least part of `a` that a value has.
    part: f64,
    /// Whether the number of negated values is odd.
    odd: bool,
}

/// The least of parabolas `s (b s - 2 a)` for each s above 0: that of the lines in brackets.
#[derive(Default)]
struct Envelope {
    /// `b` and `a` of the lines that are the least somewhere, and where each begins to be.
    lines: Vec<(f64, f64)>,
    starts: Vec<f64>,
}

impl Envelope {
    /// Takes in a line that is no steeper than those before.
    fn push(&mut self, b: f64, a: f64) {
        while let Some(&(last_b, last_a)) = self.lines.last() {
            if last_b == b && a <= last_a {
                return;
            }
            let start = if last_b == b { 0.0 } else { (2.0 * (last_a - a) / (last_b - b)).max(0.0) };
            if self.starts.last().is_some_and(|&last| start > last) {
                self.lines.push((b, a));
                self.starts.push(start);
                return;
            }
            self.lines.pop();
            self.starts.pop();
        }
        self.lines.push((b, a));
        self.starts.push(0.0);
    }

    fn at(&self, s: f64) -> f64 {
        let (b, a) = self.lines[self.starts.partition_point(|&start| start <= s) - 1];
        s * (b * s - 2.0 * a)
    }
}

/// The factors of groups; one group of the whole block, whose factor is 1, where there are none.
struct Groups {
    values: Vec<f64>,
    size: usize,
    count: usize,
}

/// A block that was found.
#[derive(Clone)]
struct Found {
    error: f64,
    /// The numbers of the block in scale and minimum.
    block: [f64; 2],
    /// The numbers of groups in the scale, the codes of those in the minimum.
    scales: Vec<f64>,
    minima: Vec<usize>,
}

/// Sums of products of what the block's scale is multiplied by, what its minimum is multiplied by, and weights.
#[derive(Default)]
struct Squares {
    aa: f64,
    ab: f64,
    bb: f64,
    aw: f64,
    bw: f64,
}

impl Squares {
    /// The best scale beside a minimum.
    fn scale(&self, minimum: f64) -> Option<f64> {
        (self.aa > 0.0).then(|| (self.aw - self.ab * minimum) / self.aa)
    }

    /// The best minimum beside a scale.
    fn minimum(&self, scale: f64) -> Option<f64> {
        (self.bb > 0.0).then(|| (self.bw - self.ab * scale) / self.bb)
    }

    /// The best of both; where weights don't tell them apart, the scale beside the minimum of `block`.
    fn both(&self, block: [f64; 2]) -> [f64; 2] {
        let Self { aa, ab, bb, aw, bw } = self;
        let determinant = aa * bb - ab * ab;
        if determinant > 1e-9 * aa * bb {
            return [(aw * bb - bw * ab) / determinant, (bw * aa - aw * ab) / determinant];
        }
        [self.scale(block[1]).unwrap_or(block[0]), block[1]]
    }
}

/// A run of weights that depend on each other, and its groups.
struct Run {
    first: usize,
    len: usize,
    scales: Range<usize>,
    minima: Range<usize>,
}

impl Groups {
    fn new(product: Option<&Product>, len: usize) -> Self {
        match product.and_then(|product| product.group.as_ref()) {
            Some(Group { values, size }) => {
                assert!(len.is_multiple_of(*size), "{len} weights are no whole number of groups of {size}");
                let mut values = values.clone();
                values.sort_by(f64::total_cmp);
                values.dedup();
                Self { values, size: *size, count: len / size }
            }
            None => Self { values: vec![1.0], size: len, count: 1 },
        }
    }

    /// The least magnitude above 0 and the largest one.
    fn reach(&self) -> (f64, f64) {
        reach(&self.values)
    }
}

/// The least magnitude above 0 and the largest one; 1 where there is none.
fn reach(values: &[f64]) -> (f64, f64) {
    let magnitudes = || values.iter().map(|value| value.abs()).filter(|&value| value > 0.0);
    let widen = |(low, high): (f64, f64), value: f64| (value.min(low), value.max(high));
    let first = magnitudes().next().unwrap_or(1.0);
    magnitudes().fold((first, first), widen)
}

impl<'h> Search<'h> {
    fn new(holds: &'h Holds, weights: &[f32], importance: Option<&[f32]>) -> Self {
        let len = weights.len();
        let weights: Vec<f64> = weights.iter().map(|&w| w.into()).collect();
        let importance: Vec<f64> = match importance {
            Some(importance) => importance.iter().map(|&p| p.into()).collect(),
            None => vec![1.0; len],
        };
        assert_eq!(importance.len(), len, "an importance for each weight");
        let rows_of = |values: &[f64]| values.iter().map(|&value| vec![value]).collect();
        let (rows, tables) = match &holds.values {
            Values::Single(values) => (rows_of(values), Some(vec![values.clone()])),
            Values::Rows(rows) => (without_repetition(rows), None),
            Values::Tables { tables, .. } => (rows_of(&tables.concat()), Some(tables.clone())),
        };
        let unit = match &holds.values {
            Values::Tables { size, .. } => {
                assert_ne!(holds.signs, Signs::Even, "even signs beside several tables");
                *size
            }
            _ if holds.signs == Signs::Even => 8,
            _ => rows[0].len(),
        };
        assert!(len.is_multiple_of(unit), "{len} weights are no whole number of units of {unit}");
        let in_order = |mut values: Vec<f64>| {
            if holds.signs == Signs::Any {
                let negated: Vec<f64> = values.iter().map(|value| -value).collect();
                values.extend(negated);
            }
            values.sort_by(f64::total_cmp);
            values.dedup();
            values
        };
        let tables = tables.filter(|_| holds.signs != Signs::Even);
        let sorted: Option<Vec<_>> = tables.map(|tables| tables.into_iter().map(in_order).collect());
        let scale = Groups::new(Some(&holds.scale), len);
        let mut minimum = Groups::new(holds.minimum.as_ref(), len);
        if holds.minimum.is_none() {
            minimum.values = vec![0.0];
        }
        let fixed = Numbers::One(0.0);
        let numbers = [&holds.scale.block, holds.minimum.as_ref().map_or(&fixed, |minimum| &minimum.block)]
            .map(Numbers::in_order);
        let piece = [scale.size, minimum.size].into_iter().fold(rows[0].len(), gcd);
        let mut search = Self {
            holds,
            weights,
            importance,
            rows,
            sorted,
            unit,
            scale,
            minimum,
            numbers,
            cost: 0.0,
            piece,
            squares: Vec::new(),
            known: RefCell::new(Known { minimum: f64::NAN, pieces: Vec::new() }),
        };
        // So many per weight: nearest values, codes of groups.
        let per_weight = match (&search.sorted, search.rows[0].len()) {
            (Some(tables), _) => 2.0 * tables.len() as f64,
            (None, width) if width == piece && holds.minimum.is_none() => 4.0 / width as f64,
            // Beside a minimum rows are gone through for each of its values.
            (None, width) if width == piece => 16.0 / width as f64,
            (None, width) => 2.0 * search.rows.len() as f64 / width as f64,
        };
        search.cost = len as f64 * per_weight * search.ways();
        if search.sorted.is_none() {
            search.squares = search.squares();
        } else if search.nests() {
            search.put_furthest_first();
        }
        search
    }

    /// How many codes of groups a weight is tried with.
    fn ways(&self) -> f64 {
        let (scales, minima) = (self.scale.values.len() as f64, self.minimum.values.len() as f64);
        if self.nests() {
            scales * minima
        } else if self.ways_of_dependent() <= FEW {
            self.ways_of_dependent()
        } else {
            30.0 * scales * minima
        }
    }

    fn squares(&self) -> Vec<Vec<(f64, usize)>> {
        let width = self.rows[0].len();
        let of_piece = |first: usize| {
            let square = |row: &Vec<f64>| -> f64 {
                let values = &row[first % width..][..self.piece];
                let importance = &self.importance[first..][..self.piece];
                values.iter().zip(importance).map(|(value, importance)| importance * value * value).sum()
            };
            let mut squares: Vec<(f64, usize)> =
                self.rows.iter().enumerate().map(|(r, row)| (square(row), r)).collect();
            squares.sort_by(|x, y| y.0.total_cmp(&x.0));
            squares
        };
        (0..self.weights.len()).step_by(self.piece).map(of_piece).collect()
    }

    /// Weights of a group change places, so that a sum of errors grows too large early on.
    fn put_furthest_first(&mut self) {
        // Those of one table stay together.
        let size = if self.unit > 1 { self.unit } else { self.scale.size.min(self.minimum.size) };
        for (weights, importance) in self.weights.chunks_mut(size).zip(self.importance.chunks_mut(size)) {
            let middle = weights.iter().sum::<f64>() / size as f64;
            let mut order: Vec<usize> = (0..size).collect();
            order.sort_by(|&a, &b| (weights[b] - middle).abs().total_cmp(&(weights[a] - middle).abs()));
            let (old_weights, old_importance) = (weights.to_vec(), importance.to_vec());
            for (to, from) in order.into_iter().enumerate() {
                (weights[to], importance[to]) = (old_weights[from], old_importance[from]);
            }
        }
    }

    /// Whether groups are whole units, and the larger ones whole numbers of the smaller.
    fn nests(&self) -> bool {
        let (a, b) = (self.scale.size, self.minimum.size);
        a.min(b).is_multiple_of(self.unit) && a.max(b).is_multiple_of(a.min(b))
    }

    /// The least error of the weights from `start` on, with scale and minimum of each as `at` says; some number above
    /// `limit` where it is more than that. Values go to `chosen` where that is asked for.
    fn error(
        &self,
        start: usize,
        count: usize,
        at: impl Fn(usize) -> (f64, f64),
        limit: f64,
        mut chosen: Option<&mut [f64]>,
    ) -> f64 {
        let mut sum = 0.0;
        let mut of_unit = [0.0; 8];
        for first in (start..start + count).step_by(self.unit) {
            sum += match (&self.sorted, &mut chosen) {
                (Some(tables), chosen) => {
                    let chosen = chosen.as_mut().map(|chosen| &mut chosen[first - start..][..self.unit]);
                    self.choose_table(tables, first, &at, limit - sum, chosen)
                }
                (None, Some(chosen)) => {
                    self.choose_values(first, &at, &mut chosen[first - start..][..self.unit])
                }
                (None, None) => self.choose_values(first, &at, &mut of_unit[..self.unit]),
            };
            if sum > limit {
                return sum;
            }
        }
        sum
    }

    /// The least error of one unit with all values from one of `tables`, or some number above `limit`.
    fn choose_table(
        &self,
        tables: &[Vec<f64>],
        first: usize,
        at: &impl Fn(usize) -> (f64, f64),
        limit: f64,
        chosen: Option<&mut [f64]>,
    ) -> f64 {
        let value = |table: &[f64], i: usize| {
            let (scale, minimum) = at(i);
            let target = self.weights[i] - minimum;
            let value = nearest(table, target, scale);
            (value, self.importance[i] * (target - scale * value).powi(2))
        };
        let (mut least, mut best) = (f64::INFINITY, &tables[0]);
        for table in tables {
            let most = least.min(limit);
            let mut sum = 0.0;
            for i in first..first + self.unit {
                sum += value(table, i).1;
                if sum > most {
                    break;
                }
            }
            if sum < least {
                (least, best) = (sum, table);
            }
        }
        for (i, chosen) in chosen.into_iter().flatten().enumerate() {
            *chosen = value(best, first + i).0;
        }
        least
    }

    /// The same under a number of the block's minimum, with what is known of pieces: `at` says the scale of each weight and
    /// the code of its minimum.
    fn error_of_codes(
        &self,
        start: usize,
        count: usize,
        block: f64,
        at: impl Fn(usize) -> (f64, usize),
        limit: f64,
    ) -> f64 {
        if self.sorted.is_some() {
            let at = |i| {
                let (scale, code) = at(i);
                (scale, block * self.minimum.values[code])
            };
            return self.error(start, count, at, limit, None);
        }
        let mut known = self.known.borrow_mut();
        if known.minimum != block {
            known.minimum = block;
            known.pieces.clear();
            known.pieces.resize_with(self.squares.len() * self.minimum.values.len(), || None);
        }
        let mut sum = 0.0;
        for first in (start..start + count).step_by(self.unit) {
            sum += self.unit_error(first, &mut known, &at);
            if sum > limit {
                return sum;
            }
        }
        sum
    }

    /// The least error of one unit.
    fn unit_error(&self, first: usize, known: &mut Known, at: &impl Fn(usize) -> (f64, usize)) -> f64 {
        let width = self.rows[0].len();
        let codes = self.minimum.values.len();
        let place = |i: usize| i / self.piece * codes + at(i).1;
        for i in (first..first + self.unit).step_by(self.piece) {
            let minimum = known.minimum * self.minimum.values[at(i).1];
            known.pieces[place(i)].get_or_insert_with(|| self.piece(i, minimum));
        }
        let piece = |i: usize| known.pieces[place(i)].as_ref().expect("made above");
        // With an even and with an odd number of negated values so far.
        let mut unit = [0.0, f64::INFINITY];
        for start in (first..first + self.unit).step_by(width) {
            let row = if width == self.piece {
                self.piece_error(piece(start), at(start).0)
            } else {
                let pieces: Vec<(&Piece, f64)> =
                    (start..start + width).step_by(self.piece).map(|i| (piece(i), at(i).0)).collect();
                self.row_error(&pieces)
            };
            unit = join(unit, row);
        }
        unit[0]
    }

    /// The least error of a piece that is a row; with [`Signs::Even`] that of an even and an odd number of negated
    /// values.
    fn piece_error(&self, piece: &Piece, scale: f64) -> [f64; 2] {
        let error = |side: usize| (piece.rest + piece.least[side].at(scale.abs())).max(0.0);
        match self.holds.signs {
            Signs::Own => [error(usize::from(scale < 0.0)), f64::INFINITY],
            Signs::Any => [error(0), f64::INFINITY],
            // Under a negated scale all other values are the negated ones.
            Signs::Even if scale < 0.0 && self.piece % 2 == 1 => [error(1), error(0)],
            Signs::Even => [error(0), error(1)],
        }
    }

    /// The same for a row of several pieces.
    fn row_error(&self, pieces: &[(&Piece, f64)]) -> [f64; 2] {
        let mut best = [f64::INFINITY; 2];
        for r in 0..self.rows.len() {
            let (mut sum, mut change, mut odd) = (0.0, f64::INFINITY, false);
            for (piece, scale) in pieces {
                let Sums { a, b, part, odd: is_odd } = piece.rows[r];
                let (s, is_own) = (scale.abs(), self.holds.signs == Signs::Own);
                sum += piece.rest + s * (b * s - 2.0 * if is_own && *scale < 0.0 { -a } else { a });
                change = change.min(4.0 * s * part);
                odd ^= is_odd ^ (*scale < 0.0 && self.piece % 2 == 1);
            }
            let parity = usize::from(odd && self.holds.signs == Signs::Even);
            best[parity] = best[parity].min(sum);
            if self.holds.signs == Signs::Even {
                best[1 - parity] = best[1 - parity].min(sum + change);
            }
        }
        best.map(|error| error.max(0.0))
    }

    /// The piece of the weights from `first` on.
    fn piece(&self, first: usize, minimum: f64) -> Piece {
        let width = self.rows[0].len();
        let mut targets = [(0.0, 0.0); 8];
        let mut rest = 0.0;
        for (d, (cost, target)) in targets[..self.piece].iter_mut().enumerate() {
            *target = self.weights[first + d] - minimum;
            *cost = self.importance[first + d] * *target;
            rest += *cost * *target;
        }
        let mut piece = Piece { rest, rows: Vec::new(), least: [Envelope::default(), Envelope::default()] };
        if width > self.piece {
            piece.rows = vec![Sums { a: 0.0, b: 0.0, part: 0.0, odd: false }; self.rows.len()];
        }
        for &(b, r) in &self.squares[first / self.piece] {
            let mut sums = Sums { a: 0.0, b, part: f64::INFINITY, odd: false };
            let values = &self.rows[r][first % width..][..self.piece];
            for ((cost, _), value) in targets.iter().zip(values) {
                let part = cost * value;
                if self.holds.signs == Signs::Own {
                    sums.a += part;
                    continue;
                }
                sums.a += part.abs();
                sums.part = sums.part.min(part.abs());
                sums.odd ^= part < 0.0;
            }
            let Sums { a, part, odd, .. } = sums;
            match self.holds.signs {
                _ if width > self.piece => piece.rows[r] = sums,
                Signs::Own => {
                    piece.least[0].push(b, a);
                    piece.least[1].push(b, -a);
                }
                Signs::Any => piece.least[0].push(b, a),
                Signs::Even => {
                    piece.least[usize::from(odd)].push(b, a);
                    piece.least[usize::from(!odd)].push(b, a - 2.0 * part);
                }
            }
        }
        piece
    }

    /// The values of one unit with the least error, and that.
    fn choose_values(&self, first: usize, at: &impl Fn(usize) -> (f64, f64), chosen: &mut [f64]) -> f64 {
        let width = self.rows[0].len();
        let signs = self.holds.signs;
        // For an even and an odd number of negated values so far: the error, and the values that lead there.
        type Path = (f64, Vec<f64>);
        let mut paths: [Path; 2] = [(0.0, Vec::new()), (f64::INFINITY, Vec::new())];
        for start in (first..first + self.unit).step_by(width) {
            let mut best: [(f64, usize, u32); 2] = [(f64::INFINITY, 0, 0); 2];
            for (r, row) in self.rows.iter().enumerate() {
                // The best signs of this row, and the least that a change of one more costs.
                let (mut sum, mut negated, mut change, mut changed) = (0.0, 0_u32, f64::INFINITY, 0);
                for (d, &value) in row.iter().enumerate() {
                    let (scale, minimum) = at(start + d);
                    let target = self.weights[start + d] - minimum;
                    let importance = self.importance[start + d];
                    let plain = importance * (target - scale * value).powi(2);
                    if signs == Signs::Own {
                        sum += plain;
                        continue;
                    }
                    let other = importance * (target + scale * value).powi(2);
                    sum += plain.min(other);
                    if other < plain {
                        negated |= 1 << d;
                    }
                    if (other - plain).abs() < change {
                        (change, changed) = ((other - plain).abs(), d);
                    }
                }
                let parity = if signs == Signs::Even { negated.count_ones() as usize % 2 } else { 0 };
                if sum < best[parity].0 {
                    best[parity] = (sum, r, negated);
                }
                if signs == Signs::Even && sum + change < best[1 - parity].0 {
                    best[1 - parity] = (sum + change, r, negated ^ 1 << changed);
                }
            }
            let join = |parity: usize| -> Path {
                let ways = [0, 1].map(|before| (paths[before].0 + best[parity ^ before].0, before));
                let (error, before) = if ways[0].0 <= ways[1].0 { ways[0] } else { ways[1] };
                let mut path = paths[before].1.clone();
                let (_, row, negated) = best[parity ^ before];
                let signed = |(d, &value): (usize, &f64)| if negated >> d & 1 == 1 { -value } else { value };
                path.extend(self.rows[row].iter().enumerate().map(signed));
                (error, path)
            };
            paths = [join(0), join(1)];
        }
        let [(error, path), _] = paths;
        chosen.copy_from_slice(&path);
        error
    }

    /// The best codes of all groups for these numbers of the block, better than `limit` or none.
    fn groups(&self, block: [f64; 2], limit: f64, start: Option<&Found>) -> Option<Found> {
        let mut found = Found {
            error: 0.0,
            block,
            scales: vec![1.0; self.scale.count],
            minima: vec![0; self.minimum.count],
        };
        if !self.nests() {
            self.by_runs(&mut found, start);
        } else if !self.nested(&mut found, limit) {
            return None;
        }
        // Groups below their shares of the limit can reach it together, as sums are rounded.
        (found.error < limit).then_some(found)
    }

    /// Every code of the larger groups with every code of the smaller ones. False where the error exceeds `limit`.
    fn nested(&self, found: &mut Found, limit: f64) -> bool {
        let scale_is_larger = self.scale.size >= self.minimum.size;
        let (large, small) =
            if scale_is_larger { (&self.scale, &self.minimum) } else { (&self.minimum, &self.scale) };
        let per_large = large.size / small.size;
        let mut total = 0.0;
        let (mut smalls, mut best_smalls) = (vec![0; per_large], vec![0; per_large]);
        for g in 0..large.count {
            let mut least = limit - total;
            let mut best_large = None;
            for l in 0..large.values.len() {
                let mut sum = 0.0;
                for (i, small_found) in smalls.iter_mut().enumerate() {
                    let start = g * large.size + i * small.size;
                    let mut best = f64::INFINITY;
                    for s in 0..small.values.len() {
                        let (scale, minimum) = if scale_is_larger { (l, s) } else { (s, l) };
                        let at = (found.block[0] * self.scale.values[scale], minimum);
                        let limit = best.min(least - sum);
                        let error = self.error_of_codes(start, small.size, found.block[1], |_| at, limit);
                        if error < best {
                            (best, *small_found) = (error, s);
                        }
                    }
                    sum += best;
                    if sum >= least {
                        break;
                    }
                }
                if sum < least {
                    (least, best_large) = (sum, Some(l));
                    best_smalls.copy_from_slice(&smalls);
                }
            }
            let Some(best_large) = best_large else { return false };
            total += least;
            let smalls = g * per_large..(g + 1) * per_large;
            if scale_is_larger {
                found.scales[g] = self.scale.values[best_large];
                found.minima[smalls].copy_from_slice(&best_smalls);
            } else {
                found.minima[g] = best_large;
                for (scale, &code) in found.scales[smalls].iter_mut().zip(&best_smalls) {
                    *scale = self.scale.values[code];
                }
            }
        }
        found.error = total;
        true
    }

    /// Weights that depend on each other through codes of groups, rows and signs.
    fn dependent(&self) -> usize {
        // What has one code alone leaves weights as independent as they are.
        let sizes = [&self.scale, &self.minimum].into_iter().filter(|groups| groups.values.len() > 1);
        sizes.fold(self.unit, |run, groups| lcm(run, groups.size)).min(self.weights.len())
    }

    /// How many codes the groups of dependent weights can have together.
    fn ways_of_dependent(&self) -> f64 {
        let run = self.dependent();
        let ways = |groups: &Groups| (groups.values.len() as f64).powf(run.div_ceil(groups.size) as f64);
        ways(&self.scale) * ways(&self.minimum)
    }

    /// The codes of groups of each run of dependent weights: all that there are, where these are few, otherwise codes are
    /// improved one at a time, each the best of all its values while the others stay.
    fn by_runs(&self, found: &mut Found, start: Option<&Found>) {
        let run = self.dependent();
        for first in (0..self.weights.len()).step_by(run) {
            let groups = Run {
                first,
                len: run,
                scales: first / self.scale.size..(first + run).div_ceil(self.scale.size),
                minima: first / self.minimum.size..(first + run).div_ceil(self.minimum.size),
            };
            found.error += if self.ways_of_dependent() <= FEW {
                self.all_codes(found, &groups)
            } else {
                self.one_at_a_time(found, &groups, start)
            };
        }
    }

    /// Tries all codes of a run. Returns the least error.
    fn all_codes(&self, found: &mut Found, run: &Run) -> f64 {
        let (mut least, mut best) = (f64::INFINITY, 0);
        let ways = self.ways_of_dependent() as usize;
        for way in 0..ways {
            self.set_codes(found, run, way);
            let error = self.run_error(found, run, least);
            if error < least {
                (least, best) = (error, way);
            }
        }
        self.set_codes(found, run, best);
        least
    }

    /// Sets the codes of a run to those that are the digits of `way`.
    fn set_codes(&self, found: &mut Found, run: &Run, mut way: usize) {
        let mut digit = |count: usize| {
            let digit = way % count;
            way /= count;
            digit
        };
        for scale in &mut found.scales[run.scales.clone()] {
            *scale = self.scale.values[digit(self.scale.values.len())];
        }
        for code in &mut found.minima[run.minima.clone()] {
            *code = digit(self.minimum.values.len());
        }
    }

    /// Improves the codes of a run one at a time. Returns the least error.
    fn one_at_a_time(&self, found: &mut Found, run: &Run, start: Option<&Found>) -> f64 {
        let (scales, minima) = (run.scales.clone(), run.minima.clone());
        let mut least = f64::INFINITY;
        let mut best = None;
        // Equal codes at several places of their range, and those of before.
        let places = [1.0, 0.5, 0.25, 0.75, 0.0].map(Some).into_iter().chain(start.map(|_| None));
        for place in places {
            match (place, start) {
                (Some(place), _) => {
                    let pick = |values: &[f64]| ((values.len() - 1) as f64 * place) as usize;
                    found.scales[scales.clone()].fill(self.scale.values[pick(&self.scale.values)]);
                    found.minima[minima.clone()].fill(pick(&self.minimum.values));
                }
                (None, Some(start)) => {
                    found.scales[scales.clone()].copy_from_slice(&start.scales[scales.clone()]);
                    found.minima[minima.clone()].copy_from_slice(&start.minima[minima.clone()]);
                }
                (None, None) => {}
            }
            let mut error = self.run_error(found, run, f64::INFINITY);
            loop {
                let before = error;
                for g in scales.clone() {
                    let mut kept = found.scales[g];
                    for &value in &self.scale.values {
                        found.scales[g] = value;
                        let trial = self.run_error(found, run, error);
                        if trial < error {
                            (error, kept) = (trial, value);
                        }
                    }
                    found.scales[g] = kept;
                }
                for g in minima.clone() {
                    let mut kept = found.minima[g];
                    for code in 0..self.minimum.values.len() {
                        found.minima[g] = code;
                        let trial = self.run_error(found, run, error);
                        if trial < error {
                            (error, kept) = (trial, code);
                        }
                    }
                    found.minima[g] = kept;
                }
                if error >= before {
                    break;
                }
            }
            if error < least {
                least = error;
                best = Some((found.scales[scales.clone()].to_vec(), found.minima[minima.clone()].to_vec()));
            }
        }
        if let Some((best_scales, best_minima)) = best {
            found.scales[scales].copy_from_slice(&best_scales);
            found.minima[minima].copy_from_slice(&best_minima);
        }
        least
    }

    fn run_error(&self, found: &Found, run: &Run, limit: f64) -> f64 {
        let at = |i: usize| {
            (found.block[0] * found.scales[i / self.scale.size], found.minima[i / self.minimum.size])
        };
        self.error_of_codes(run.first, run.len, found.block[1], at, limit)
    }

    /// Scale and minimum of a weight.
    fn at(&self, found: &Found, i: usize) -> (f64, f64) {
        let code = found.minima[i / self.minimum.size];
        (found.block[0] * found.scales[i / self.scale.size], found.block[1] * self.minimum.values[code])
    }

    fn run(&self) -> f64 {
        // Beside a minimum nearly all starts lead to different blocks.
        let (work, most) = if self.holds.minimum.is_none() { (4e6, 64.0) } else { (1e6, 256.0) };
        let most = (work / self.cost).clamp(4.0, most) as usize;
        let mut starts: Vec<Found> = Vec::new();
        for pair in self.candidates() {
            let limit = if starts.len() < most { f64::INFINITY } else { starts[most - 1].error };
            if let Some(found) = self.groups(pair, limit, None) {
                let place = starts.partition_point(|start| start.error <= found.error);
                starts.insert(place, found);
                starts.truncate(most);
            }
        }
        let mut starts: Vec<Found> = starts.into_iter().map(|start| self.settle(start)).collect();
        starts.sort_by(|a, b| a.error.total_cmp(&b.error));
        starts.dedup_by_key(|start| start.block);
        starts.into_iter().map(|start| self.descend(start).error).fold(f64::INFINITY, f64::min)
    }

    /// Better numbers of the block by least squares, as long as there are some.
    fn settle(&self, mut best: Found) -> Found {
        loop {
            let [scale, minimum] = self.sums(&best).both(best.block);
            let block = [self.numbers[0].round(scale), self.numbers[1].round(minimum)];
            match self.groups(block, best.error, Some(&best)) {
                Some(found) => best = found,
                None => return best,
            }
        }
    }

    /// The same, and by looking at neighbours: those of the scale, each with the best minimum beside it for the codes that
    /// are and with that of before, and those of the minimum.
    fn descend(&self, mut best: Found) -> Found {
        loop {
            let before = best.error;
            let sums = self.sums(&best);
            let block = best.block;
            let solved = sums.both(block);
            let [scales, minima] = [0, 1].map(|i| self.numbers[i].around(solved[i], block[i]));
            let round = |i: usize, number: f64| self.numbers[i].round(number);
            let beside_scale = |scale: f64| [block[1], round(1, sums.minimum(scale).unwrap_or(block[1]))];
            let beside_minimum = |minimum: f64| [block[0], round(0, sums.scale(minimum).unwrap_or(block[0]))];
            let mut pairs: Vec<[f64; 2]> = Vec::new();
            for &scale in &scales {
                pairs.extend(beside_scale(scale).map(|minimum| [scale, minimum]));
            }
            for &minimum in &minima {
                pairs.extend(beside_minimum(minimum).map(|scale| [scale, minimum]));
            }
            pairs.sort_by(|a, b| a[1].total_cmp(&b[1]).then(a[0].total_cmp(&b[0])));
            pairs.dedup();
            for pair in pairs {
                if let Some(found) = self.groups(pair, best.error, Some(&best)) {
                    best = found;
                }
            }
            if best.error >= before {
                return best;
            }
        }
    }

    /// The sums of least squares for the codes that are.
    fn sums(&self, found: &Found) -> Squares {
        let len = self.weights.len();
        let mut values = vec![0.0; len];
        self.error(0, len, |i| self.at(found, i), f64::INFINITY, Some(&mut values));
        let mut sums = Squares::default();
        for (i, value) in values.into_iter().enumerate() {
            let (p, w) = (self.importance[i], self.weights[i]);
            let a = found.scales[i / self.scale.size] * value;
            let b = self.minimum.values[found.minima[i / self.minimum.size]];
            sums.aa += p * a * a;
            sums.ab += p * a * b;
            sums.bb += p * b * b;
            sums.aw += p * a * w;
            sums.bw += p * b * w;
        }
        sums
    }

    /// Pairs of the block's numbers in scale and minimum to begin with.
    fn candidates(&self) -> Vec<[f64; 2]> {
        let magnitudes = || self.weights.iter().map(|w| w.abs());
        let largest = magnitudes().fold(0.0, f64::max);
        let mut sorted: Vec<f64> = magnitudes().filter(|&w| w > 0.0).collect();
        sorted.sort_by(f64::total_cmp);
        let small = sorted.get(sorted.len() / 4).copied().unwrap_or(0.0).max(1e-4 * largest);
        let all: Vec<f64> = self.rows.iter().flatten().copied().collect();
        let (least_value, largest_value) = reach(&all);
        let (low_group, high_group) = self.scale.reach();
        let most = 1.5e7 / self.cost;
        let scales = |most: f64| {
            // Beside a minimum, a small scale makes up for its rounding.
            let part = if self.holds.minimum.is_none() { 0.3 } else { 1e-3 };
            let low = part * small / (largest_value * high_group);
            self.numbers[0].grid(low, 2.0 * largest / (least_value * low_group), most)
        };
        if self.holds.minimum.is_none() {
            return scales((4.0 * most).clamp(200.0, 4000.0)).into_iter().map(|scale| [scale, 0.0]).collect();
        }
        let (low_group, high_group) = self.minimum.reach();
        let each = (3.0 * most).sqrt().clamp(12.0, 600.0);
        let furthest = largest * (2.0 + largest_value / least_value).min(10.0);
        let minima = self.numbers[1].grid(0.02 * small / high_group, furthest / low_group, each);
        let pairs_of = |scales: &[f64], minima: &[f64]| -> Vec<[f64; 2]> {
            minima.iter().flat_map(|&minimum| scales.iter().map(move |&scale| [scale, minimum])).collect()
        };
        let mut pairs = pairs_of(&scales(each), &minima);
        let each = (0.1 * most).sqrt().clamp(6.0, 40.0) as usize;
        for sign in [0.0, 1.0, -1.0] {
            let (scales, minima) = self.alone(sign);
            let scales = self.scale.blocks(&self.numbers[0], &scales, each);
            let minima = self.minimum.blocks(&self.numbers[1], &minima, each);
            pairs.extend(pairs_of(&scales, &minima));
        }
        pairs
    }

    /// The best scale of each group and the best minimum, of `sign` where that is not 0, if every number could be had.
    fn alone(&self, sign: f64) -> (Vec<f64>, Vec<f64>) {
        let size = lcm(self.unit, self.scale.size.min(self.minimum.size));
        let all: Vec<f64> = self.rows.iter().flatten().copied().collect();
        let low_value = all.iter().copied().fold(f64::INFINITY, f64::min);
        let high_value = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let trials = if self.sorted.is_some() { 40 } else { (40_000 / self.rows.len()).isqrt().clamp(6, 40) };
        let steps = || (0..=trials).map(move |i| i as f64 / trials as f64);
        let (mut scales, mut minima): (Vec<f64>, Vec<f64>) =
            (vec![0.0; self.scale.count], vec![0.0; self.minimum.count]);
        let mut shares = vec![0.0; self.minimum.count];
        for start in (0..self.weights.len()).step_by(size) {
            let weights = &self.weights[start..start + size];
            let (low, high) = weights
                .iter()
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &w| (low.min(w), high.max(w)));
            let (mut least, mut best) = (f64::INFINITY, (0.0_f64, 0.0_f64));
            let constant = if low * sign < 0.0 { 0.0 } else { low };
            for scale in steps().map(|step| 1.6 * step * (high - low) / (high_value - low_value).max(1.0)) {
                for offset in steps() {
                    let bottom = low + (1.2 * offset - 0.2) * (high - low);
                    for (scale, value) in [(scale, low_value), (-scale, high_value)] {
                        let minimum = bottom - scale * value;
                        let minimum = if minimum * sign < 0.0 { constant } else { minimum };
                        let error = self.error(start, size, |_| (scale, minimum), least, None);
                        if error < least {
                            (least, best) = (error, (scale, minimum));
                        }
                    }
                }
            }
            for scale in &mut scales[start / self.scale.size..(start + size).div_ceil(self.scale.size)] {
                if best.0.abs() > scale.abs() {
                    *scale = best.0;
                }
            }
            for g in start / self.minimum.size..(start + size).div_ceil(self.minimum.size) {
                minima[g] += best.1;
                shares[g] += 1.0;
            }
        }
        minima.iter_mut().zip(shares).for_each(|(minimum, share)| *minimum /= share);
        (scales, minima)
    }
}

impl Groups {
    /// The numbers of the block from which those of groups come nearest to `targets`, `count` of them.
    fn blocks(&self, numbers: &Numbers, targets: &[f64], count: usize) -> Vec<f64> {
        let furthest =
            targets.iter().fold(0.0, |far: f64, &target| if target.abs() > far.abs() { target } else { far });
        let blocks = self.values.iter().filter(|&&value| value != 0.0).flat_map(|value| {
            [0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25].map(|part| numbers.round(part * furthest / value))
        });
        let mut blocks: Vec<f64> = blocks.collect();
        blocks.sort_by(f64::total_cmp);
        blocks.dedup();
        let cost = |block: f64| -> f64 {
            let distance = |target: f64| (target - block * nearest(&self.values, target, block)).powi(2);
            targets.iter().map(|&target| distance(target)).sum()
        };
        let mut blocks: Vec<(f64, f64)> = blocks.into_iter().map(|block| (cost(block), block)).collect();
        blocks.sort_by(|a, b| a.0.total_cmp(&b.0));
        blocks.truncate(count);
        blocks.into_iter().map(|(_, block)| block).collect()
    }
}

impl Numbers {
    fn in_order(&self) -> Self {
        match self {
            Self::These(these) => {
                let mut these = these.clone();
                these.sort_by(f64::total_cmp);
                these.dedup();
                Self::These(these)
            }
            other => other.clone(),
        }
    }

    /// Numbers of both signs and of magnitudes from `low` to `high`, about `most` at the most, and 0.
    fn grid(&self, low: f64, high: f64, most: f64) -> Vec<f64> {
        let low = low.max(1e-46);
        let high = high.clamp(low, 3.4e38_f64.max(low));
        if let Self::These(these) = self {
            let inside = these.iter().copied().filter(|n| (0.5 * low..=2.0 * high).contains(&n.abs()));
            let inside: Vec<f64> = inside.collect();
            if inside.len() as f64 <= most {
                return inside
                    .into_iter()
                    .chain([low, -low, high, -high, 0.0].map(|n| self.round(n)))
                    .collect();
            }
        }
        let count = (most / 2.0) as usize;
        let ratio = (high / low).ln() / count as f64;
        let magnitudes = (0..=count).map(|i| low * (ratio * i as f64).exp());
        let mut found: Vec<f64> =
            magnitudes.flat_map(|n| [n, -n]).chain([0.0]).map(|n| self.round(n)).collect();
        found.sort_by(f64::total_cmp);
        found.dedup();
        found
    }

    /// The number nearest to `value`.
    fn round(&self, value: f64) -> f64 {
        match self {
            Self::One(number) => *number,
            Self::Any => f64::from(value.clamp(f32::MIN.into(), f32::MAX.into()) as f32),
            Self::These(these) => nearest(these, value, 1.0),
        }
    }

    /// The number nearest to `value` and some next to it, and the same of `other`.
    fn around(&self, value: f64, other: f64) -> Vec<f64> {
        let mut found = vec![self.round(value), other];
        match self {
            Self::One(_) => {}
            Self::Any => {
                for step in [1e-3, 5e-3, 2e-2, 6e-2] {
                    found.extend([other * (1.0 + step), other * (1.0 - step)].map(|n| self.round(n)));
                }
            }
            Self::These(these) => {
                for centre in [self.round(value), other] {
                    let at = these.partition_point(|&number| number < centre);
                    for step in [1, 2, 6, 20, 60] {
                        // Beside numbers far above its weights a block's error is lost in rounding.
                        let is_near = |number: &f64| step <= 6 || number.abs() <= 2.0 * centre.abs();
                        found.extend(at.checked_sub(step).map(|below| these[below]).filter(is_near));
                        found.extend(these.get(at + step).copied().filter(is_near));
                    }
                }
            }
        }
        found.sort_by(f64::total_cmp);
        found.dedup();
        found
    }
}

/// The least errors with an even and with an odd number of negated values of two parts together.
fn join(a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
    [(a[0] + b[0]).min(a[1] + b[1]), (a[0] + b[1]).min(a[1] + b[0])]
}

/// The value nearest to `target` under `scale`; `values` are in order.
fn nearest(values: &[f64], target: f64, scale: f64) -> f64 {
    let target = if scale == 0.0 { 0.0 } else { target / scale };
    let (first, last) = (values[0], values[values.len() - 1]);
    if target <= first {
        return first;
    }
    if target >= last {
        return last;
    }
    // Where values are as far apart as they are on average, the place is known.
    let place = (target - first) / (last - first) * (values.len() - 1) as f64;
    let mut above = place as usize + 1;
    if !(values[above - 1] <= target && target <= values[above]) {
        above = values.partition_point(|&value| value < target).max(1);
    }
    let below = above - 1;
    if target - values[below] <= values[above] - target { values[below] } else { values[above] }
}

fn without_repetition(rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut rows = rows.to_vec();
    rows.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    rows.dedup();
    rows
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn lcm(a: usize, b: usize) -> usize {
    a / gcd(a, b) * b
}

#[cfg(test)]
mod tests {
    use super::{Group, Holds, Numbers, Product, Signs, Values};

    /// Numbers from -1 to 1 that look random.
    fn noise(seed: u32) -> impl FnMut() -> f32 {
        let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
        move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        }
    }

    fn numbers(numbers: &Numbers) -> Vec<f64> {
        match numbers {
            Numbers::One(number) => vec![*number],
            Numbers::These(these) => these.clone(),
            Numbers::Any => panic!("not to be counted"),
        }
    }

    /// All products of a block: for each weight its factor.
    fn products(product: &Product, len: usize) -> Vec<Vec<f64>> {
        let Some(Group { values, size }) = &product.group else {
            return numbers(&product.block).into_iter().map(|block| vec![block; len]).collect();
        };
        let groups = len / size;
        let mut all = Vec::new();
        for block in numbers(&product.block) {
            for code in 0..values.len().pow(groups as u32) {
                let of_group = |g: usize| values[code / values.len().pow(g as u32) % values.len()];
                all.push((0..len).map(|i| block * of_group(i / size)).collect());
            }
        }
        all
    }

    /// All values that `width` consecutive weights can have together.
    fn all_values(holds: &Holds, width: usize) -> Vec<Vec<f64>> {
        let rows = match &holds.values {
            Values::Single(values) => values.iter().map(|&value| vec![value]).collect(),
            Values::Rows(rows) => rows.clone(),
            Values::Tables { tables, size } => {
                assert_eq!(*size, width, "weights that share a table depend on each other");
                let of_table = |table: &Vec<f64>| {
                    all_values(&Holds { values: Values::Single(table.clone()), ..holds.clone() }, width)
                };
                return tables.iter().flat_map(of_table).collect();
            }
        };
        let mut all: Vec<Vec<f64>> = vec![Vec::new()];
        while all[0].len() < width {
            all =
                all.iter().flat_map(|start| rows.iter().map(move |row| [&start[..], row].concat())).collect();
        }
        let signs = (0..1_u32 << width).filter(|signs| match holds.signs {
            Signs::Own => *signs == 0,
            Signs::Any => true,
            Signs::Even => signs.count_ones() % 2 == 0,
        });
        let signed = |values: &Vec<f64>, signs: u32| {
            values
                .iter()
                .enumerate()
                .map(|(i, value)| if signs >> i & 1 == 1 { -value } else { *value })
                .collect()
        };
        signs.flat_map(|signs| all.iter().map(move |values| signed(values, signs))).collect()
    }

    /// Every block that there is, of weights whose values depend on each other in runs of `width`.
    fn by_brute_force(holds: &Holds, width: usize, weights: &[f32], importance: &[f32]) -> f64 {
        let len = weights.len();
        let values = all_values(holds, width);
        let minima = holds.minimum.as_ref().map_or(vec![vec![0.0; len]], |minimum| products(minimum, len));
        let mut least = f64::INFINITY;
        for scale in products(&holds.scale, len) {
            for minimum in &minima {
                let runs = (0..len).step_by(width).map(|first| {
                    let error = |values: &Vec<f64>| -> f64 {
                        let error = |(d, value): (usize, &f64)| {
                            let i = first + d;
                            f64::from(importance[i])
                                * (f64::from(weights[i]) - scale[i] * value - minimum[i]).powi(2)
                        };
                        values.iter().enumerate().map(error).sum()
                    };
                    values.iter().map(error).fold(f64::INFINITY, f64::min)
                });
                least = least.min(runs.sum());
            }
        }
        least
    }

    fn floats(bits: std::ops::Range<i32>, fraction: i32) -> Vec<f64> {
        let magnitudes = bits.flat_map(|e| {
            (0..fraction).map(move |f| (1.0 + f64::from(f) / f64::from(fraction)) * 2_f64.powi(e))
        });
        magnitudes.flat_map(|n| [n, -n]).chain([0.0]).collect()
    }

    #[test]
    fn nothing_is_better_than_what_is_found() {
        let whole = |range: std::ops::Range<i32>| range.map(f64::from).collect::<Vec<_>>();
        let block = |block: Numbers| Product { block, group: None };
        let groups =
            |block: Numbers, values: Vec<f64>, size| Product { block, group: Some(Group { values, size }) };
        let fine = || Numbers::These(floats(-8..2, 16));
        let coarse = || Numbers::These(floats(-8..2, 2));
        let rows = |width: usize, count: usize| {
            let mut noise = noise(width as u32);
            Values::Rows(
                (0..count).map(|_| (0..width).map(|_| (noise() * 4.0).round().into()).collect()).collect(),
            )
        };
        let tables = |size| Values::Tables {
            tables: vec![vec![-3.0, -1.0, 1.0, 2.0], vec![-2.0, 0.0, 1.0, 4.0]],
            size,
        };
        let holds = |values, signs, scale, minimum| Holds { values, signs, scale, minimum };
        let single = |range| Values::Single(whole(range));
        use Signs::{Any, Even, Own};
        // Name, weights of a block, of a run whose values depend on each other, what it holds.
        let cases = [
            ("a scale", 16, 1, holds(single(-4..4), Own, block(fine()), None)),
            ("only positive values", 16, 1, holds(single(1..5), Own, block(fine()), None)),
            ("signs", 8, 1, holds(single(1..5), Any, block(fine()), None)),
            ("an even number of signs", 8, 8, holds(single(1..3), Even, block(coarse()), None)),
            ("groups", 8, 1, holds(single(-2..2), Own, groups(fine(), whole(0..4), 4), None)),
            (
                "a fixed block",
                8,
                1,
                holds(single(-2..2), Own, groups(Numbers::One(0.25), whole(-3..4), 4), None),
            ),
            ("a minimum", 16, 1, holds(single(0..4), Own, block(fine()), Some(block(fine())))),
            ("a coarse minimum", 16, 1, holds(single(0..4), Own, block(fine()), Some(block(coarse())))),
            (
                "groups with minima",
                8,
                1,
                holds(
                    single(0..4),
                    Own,
                    groups(coarse(), whole(0..3), 4),
                    Some(groups(coarse(), whole(0..3), 4)),
                ),
            ),
            (
                "larger groups of minima",
                8,
                1,
                holds(
                    single(0..4),
                    Own,
                    groups(coarse(), whole(0..3), 4),
                    Some(groups(coarse(), whole(0..3), 8)),
                ),
            ),
            (
                "groups that don't nest",
                12,
                1,
                holds(
                    single(0..4),
                    Own,
                    groups(coarse(), whole(1..3), 4),
                    Some(groups(coarse(), whole(0..3), 6)),
                ),
            ),
            ("rows", 16, 4, holds(rows(4, 20), Own, block(fine()), None)),
            ("rows with signs", 8, 4, holds(rows(4, 20), Any, block(fine()), None)),
            ("rows with an even number of signs", 8, 8, holds(rows(4, 6), Even, block(coarse()), None)),
            (
                "rows over several groups",
                8,
                8,
                holds(rows(8, 30), Own, groups(coarse(), whole(-2..3), 4), None),
            ),
            (
                "rows with minima",
                8,
                4,
                holds(rows(4, 10), Own, block(fine()), Some(groups(coarse(), whole(-1..2), 4))),
            ),
            ("tables", 12, 4, holds(tables(4), Own, block(coarse()), None)),
            ("tables and groups", 8, 4, holds(tables(4), Own, groups(coarse(), whole(-2..3), 4), None)),
            (
                "tables for several groups",
                8,
                8,
                holds(tables(8), Own, groups(coarse(), whole(1..3), 4), None),
            ),
            (
                "several tables for one group",
                8,
                4,
                holds(tables(4), Own, groups(coarse(), whole(1..3), 8), None),
            ),
        ];
        for (name, len, width, holds) in &cases {
            for case in 0..12_u32 {
                let mut noise = noise(case);
                let size = [1.0, 0.2, 0.01][case as usize % 3];
                let mut weights: Vec<f32> = (0..*len).map(|_| size * (noise() + noise())).collect();
                if case == 4 {
                    weights.fill(-0.37);
                }
                if case == 5 {
                    weights[3] = 2.5;
                }
                let importance: Vec<f32> =
                    (0..*len).map(|_| if case % 2 == 0 { 1.0 } else { 1.05 + noise() }).collect();
                let least = by_brute_force(holds, *width, &weights, &importance);
                let found = holds.least_error(&weights, Some(&importance));
                let total: f64 = weights.iter().map(|&w| f64::from(w).powi(2)).sum();
                assert!(
                    found >= least - 1e-12 * total,
                    "{name}, case {case}: {found} is less than the least, {least}"
                );
                assert!(
                    found.sqrt() <= 1.002 * least.sqrt() + 1e-7 * total.sqrt(),
                    "{name}, case {case}: {found}, but there is a block with {least}"
                );
            }
        }
    }
}
