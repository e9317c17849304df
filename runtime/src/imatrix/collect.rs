//! Sums over what matrices are multiplied with, while a model runs.

use std::collections::BTreeMap;

use super::Entry;
use crate::matrix::Matrix;
use crate::threads::Team;

/// Columns that a thread sums at a time: some cache lines of each token.
const COLUMNS: usize = 64;

/// Sums the squares of the inputs of matrices.
#[derive(Debug)]
pub struct Collector {
    /// The output matrix, where it is wanted, too.
    output: Option<String>,
    /// Those of matrices that share their inputs, by the name of the first.
    groups: BTreeMap<String, Group>,
}

#[derive(Debug)]
struct Group {
    names: Vec<String>,
    sums: Vec<f64>,
    tokens: u64,
}

impl Collector {
    /// For the matrices of all layers, and that called `output`.
    pub fn new(output: Option<String>) -> Self {
        Self { output, groups: BTreeMap::new() }
    }

    /// Whether the inputs of the matrix called `name` are summed.
    pub fn wants(&self, name: &str) -> bool {
        name.starts_with("blk.") || self.output.as_deref() == Some(name)
    }

    /// Adds `[tokens, cols]` inputs of `matrices`.
    pub fn add(&mut self, team: &Team, inputs: &[f32], cols: usize, matrices: &[&Matrix]) {
        let Some(first) = matrices.first().map(|matrix| matrix.name()).filter(|name| self.wants(name)) else {
            return;
        };
        if !self.groups.contains_key(first) {
            let names = matrices.iter().map(|matrix| matrix.name().to_owned()).collect();
            self.groups.insert(first.into(), Group { names, sums: vec![0.0; cols], tokens: 0 });
        }
        let group = self.groups.get_mut(first).expect("it is there by now");
        group.tokens += (inputs.len() / cols) as u64;
        team.for_columns(&mut group.sums, cols, COLUMNS, |range, mut sums| {
            let sums = sums.row(0);
            for input in inputs.chunks_exact(cols) {
                for (sum, &x) in sums.iter_mut().zip(&input[range.clone()]) {
                    *sum += f64::from(x) * f64::from(x);
                }
            }
        });
    }

    /// The sums, by the names of matrices; or the name of one whose sums no f32 can hold.
    pub fn into_entries(self) -> Result<BTreeMap<String, Entry>, String> {
        let mut entries = BTreeMap::new();
        for (first, Group { names, sums, tokens }) in self.groups {
            let sums: Vec<_> = sums.into_iter().map(|sum| sum as f32).collect();
            if !sums.iter().all(|sum| sum.is_finite()) {
                return Err(first);
            }
            let entry = Entry { sums, counts: vec![tokens as f32] };
            entries.extend(names.into_iter().map(|name| (name, entry.clone())));
        }
        Ok(entries)
    }
}
