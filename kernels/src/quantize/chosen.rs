//! Values of weights from one of several tables, which each group of weights chooses.

use std::cell::Cell;

use super::fit::{Fit, gcd};
use super::values::{
    Correction, Found, Residual, Sums, TRIALS, Table, Trials, Values, Weighted, rests_of_table,
};
use super::{Numbers, Product};
use crate::bytes::each;

/// Several tables, of which each group of weights has its values from one.
#[derive(Clone, Copy)]
pub struct Chosen<'t> {
    tables: &'t [Table],
    /// Weights of a group.
    size: usize,
    /// The table of each group, where a group has several scales or minima. Where it has one of each, whatever these are, its
    /// values are those of the table under which least is left.
    choices: Option<&'t [Cell<u8>]>,
}

/// Weights that have their values from one of `tables`, the first of which is number `first`.
pub struct Run<'w, 't> {
    pub weighted: Weighted<'w>,
    tables: &'t [Table],
    first: usize,
}

impl<'t> Run<'_, 't> {
    /// The table under which least is left of the weights, its number, and what is left.
    pub fn best(&self, scale: f32, minimum: f32) -> (usize, &'t Table, Residual) {
        let mut best = (self.first, &self.tables[0], self.tables[0].residual(self.weighted, scale, minimum));
        for (i, table) in self.tables.iter().enumerate().skip(1) {
            let rest = table.residual(self.weighted, scale, minimum);
            if rest.rr < best.2.rr {
                best = (self.first + i, table, rest);
            }
        }
        best
    }
}

impl<'t> Chosen<'t> {
    /// The weights group by group.
    pub fn runs<'w>(self, weighted: Weighted<'w>) -> impl Iterator<Item = Run<'w, 't>> {
        let mut start = 0;
        std::iter::from_fn(move || {
            let group = (weighted.first + start) / self.size;
            let end = ((group + 1) * self.size - weighted.first).min(weighted.weights.len());
            let range = start..end;
            start = end;
            (!range.is_empty()).then(|| self.run(weighted.part(range)))
        })
    }

    /// Weights of one group.
    fn run<'w>(self, weighted: Weighted<'w>) -> Run<'w, 't> {
        match self.choices {
            None => Run { weighted, tables: self.tables, first: 0 },
            Some(choices) => {
                let choice = usize::from(choices[weighted.first / self.size].get());
                Run { weighted, tables: std::slice::from_ref(&self.tables[choice]), first: choice }
            }
        }
    }

    /// Whether all weights are of one group.
    fn is_run(self, weighted: Weighted) -> bool {
        let last = weighted.first + weighted.weights.len().max(1) - 1;
        weighted.first / self.size == last / self.size
    }
}

impl Values for Chosen<'_> {
    fn tables(&self, weighted: Weighted) -> &[Table] {
        if self.is_run(weighted) { self.run(weighted).tables } else { &[] }
    }

    fn magnitudes(self) -> Vec<f32> {
        let mut magnitudes: Vec<f32> = self.tables.iter().flat_map(Values::magnitudes).collect();
        magnitudes.sort_by(f32::total_cmp);
        magnitudes.dedup();
        magnitudes
    }

    fn limits(self) -> (f32, f32) {
        let limits = self.tables.iter().map(Values::limits);
        limits.fold((f32::INFINITY, f32::NEG_INFINITY), |all, one| (all.0.min(one.0), all.1.max(one.1)))
    }

    fn gap(self) -> f32 {
        self.tables.iter().map(Values::gap).fold(f32::INFINITY, f32::min)
    }

    fn steps(self) -> f32 {
        self.tables.iter().map(Values::steps).fold(0.0, f32::max)
    }

    fn are_chosen(self) -> bool {
        self.choices.is_none()
    }

    fn residual(self, weighted: Weighted, scale: f32, minimum: f32) -> Residual {
        let mut rest = Residual::default();
        self.runs(weighted).for_each(|run| rest += run.best(scale, minimum).2);
        rest
    }

    fn correct(self, weighted: Weighted, correction: Correction, times: usize, found: &mut Found) {
        for _ in 0..times {
            found.rests = Sums::NONE;
            for Run { weighted, tables, .. } in self.runs(weighted) {
                // Each trial has the best table for it.
                let mut least = rests_of_table(&tables[0], weighted, &found.trials);
                for table in &tables[1..] {
                    least.keep_least(&rests_of_table(table, weighted, &found.trials));
                }
                found.rests.add_each(&least);
            }
            found.correct(correction);
        }
    }

    fn add_errors(self, weighted: Weighted, trials: &Trials, errors: &mut [f32; TRIALS]) {
        for Run { weighted, tables, .. } in self.runs(weighted) {
            let mut least = [f32::INFINITY; TRIALS];
            for table in tables {
                let mut of_table = [0.0; TRIALS];
                table.add_errors(weighted, trials, &mut of_table);
                least = each(|i| if of_table[i] < least[i] { of_table[i] } else { least[i] });
            }
            *errors = each(|i| errors[i] + least[i]);
        }
    }
}

/// The numbers, tables and codes of the block nearest to `weights` in which each of `C` groups of weights has its values from
/// one of `tables`.
///
/// Where groups of scales are whole groups of these, every trial of a scale has the best table for it. Where a table is that of
/// several scales, the search is made with each table for all, then with the best of each group, and at last each group tries the
/// others.
pub fn quantize_chosen<const N: usize, const C: usize, const S: usize, const M: usize>(
    tables: &[Table],
    scale: Product,
    minimum: Option<Product>,
    weights: &[f32; N],
    importance: Option<&[f32; N]>,
) -> (Numbers<S, M>, [u8; C], [u8; N]) {
    let size = N / C;
    let search = |choices| {
        let values = Chosen { tables, size, choices };
        Fit::search(values, weights, importance, scale, minimum, [S, M])
    };
    let of_minimum = if minimum.is_some() { N / M.max(1) } else { 0 };
    if gcd(N / S.max(1), of_minimum).is_multiple_of(size) {
        let fit: Fit<_, N> = search(None);
        let (choices, codes) = fit.choices();
        return (fit.numbers(), choices, codes);
    }
    let choices: [Cell<u8>; C] = std::array::from_fn(|_| Cell::new(0));
    let groups = || (0..C).map(|group| group * size..(group + 1) * size);
    let count = tables.len() as u8;
    let choose = |chosen: &[u8; C]| choices.iter().zip(chosen).for_each(|(choice, &table)| choice.set(table));
    // Of each group the table that leaves least, and what it leaves.
    let mut least = [(f32::INFINITY, 0); C];
    let of_all = (0..count).map(|table| {
        choose(&[table; C]);
        let fit: Fit<_, N> = search(Some(&choices));
        for (least, group) in least.iter_mut().zip(groups()) {
            let error = fit.error_of(group);
            if error < least.0 {
                *least = (error, table);
            }
        }
        (fit.error(), [table; C], fit)
    });
    let best = of_all.min_by(|a, b| a.0.total_cmp(&b.0));
    let mixed = (C > 1).then(|| {
        choose(&least.map(|(_, table)| table));
        let mut fit = search(Some(&choices));
        const ROUNDS: usize = 3;
        for _ in 0..ROUNDS {
            let mut changes = false;
            for (group, choice) in groups().zip(&choices) {
                changes |= fit.improve_table(group, choice, count);
            }
            fit.improve();
            if !changes {
                break;
            }
        }
        (fit.error(), std::array::from_fn(|group| choices[group].get()), fit)
    });
    let best = best.into_iter().chain(mixed).min_by(|a, b| a.0.total_cmp(&b.0));
    let (_, chosen, fit) = best.expect("there are tables");
    choose(&chosen);
    (fit.numbers(), chosen, fit.choices::<C>().1)
}
