//! Proves every kernel cell, format × operation × instruction set, and the quantizer, against a layout written by hand.
//!
//! A crate that declares formats writes down what their bytes mean once more, without the macro, and has a
//! test binary of its own:
//!
//! ```no_run
//! use quantloom_bench::prove::{Number, Quantizer, Subject, Weight, half};
//! use quantloom_kernels::BlockFormat;
//! use quantloom_kernels::formats::Q8_0;
//!
//! fn main() -> std::process::ExitCode {
//!     let weights = |block: &[u8]| {
//!         let weight = |&code: &u8| Weight { scale: half(block), code: (code as i8).into(), minimum: 0.0 };
//!         block[2..].iter().map(weight).collect()
//!     };
//!     let numbers = &[Number::F16(0)];
//!     // Q8_0 asks for a rule of ggml's; where a declaration does not, it is `Quantizer::Best`.
//!     let quantizer = Quantizer::Rule;
//!     quantloom_bench::prove::main(vec![Subject { format: Q8_0::FORMAT, numbers, weights, quantizer }])
//! }
//! ```
//!
//! with `[[test]] name = "cells" harness = false` in its `Cargo.toml`. It takes the flags of Rust's own tests and
//! ends with a table of cells. [`check`] does the same for one format inside any other test.
//!
//! # Kernels
//!
//! Blocks are random and at all ends: numbers of 0, as large and as small as their type allows, codes and activations at
//! their limits, row lengths of real models, and random cases, whose seed is printed and taken from `QUANTLOOM_SEED`.
//! Where the CPU has no AVX-VNNI, but AVX2, those cells run under [`emulate`]; this
//! is why the binary is one of its own: it handles SIGILL. An emulated instruction takes ten thousand times as long, so
//! that such a cell, "emulated" in the table, has inputs of every kind in fewer shapes than a native one.
//!
//! # The quantizer
//!
//! What a block can hold is found from the layout by hand: bits are changed one by one, which shows whose code, scale or
//! minimum they belong to, and these go through all that they can be. A plain [`search`] over that finds the least squared
//! error of Gaussian weights of several σ, outliers, weights of one sign, of two and three values, equal ones and zeros,
//! without and with importance; of fewer kinds where the search takes seconds. The root of the quantizer's squared error may be
//! 1.05 times that of the search. [`Quantizer`] says what else a format may be held to.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Trial};
use quantloom_kernels::{Format, Isa, Supported};

use crate::emulate;
use inputs::{Bytes, Inputs};
use number::Level;
pub use number::{Number, brain, e8m0, half, single, ue4m3};
use search::Holds;

mod checks;
mod holds;
mod inputs;
mod number;
mod quantizer;
mod random;
pub mod rounding;
pub mod search;

/// One weight, exactly: scale · code + minimum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weight {
    /// The product of its scales.
    pub scale: f64,
    /// The code, its zero point taken off, or what a table has for it.
    pub code: i32,
    /// What is added.
    pub minimum: f64,
}

impl Weight {
    /// The weight itself.
    pub fn value(self) -> f64 {
        self.scale * f64::from(self.code) + self.minimum
    }
}

/// A format, and its layout by hand.
#[derive(Clone, Copy)]
pub struct Subject {
    /// What the macro made.
    pub format: &'static Format,
    /// All its numbers, those of groups too: [`Number::array`]. Its other bytes are codes, of which any are good.
    pub numbers: &'static [Number],
    /// The weights of one block.
    pub weights: fn(&[u8]) -> Vec<Weight>,
    /// What its quantizer is held to, where it has one.
    pub quantizer: Quantizer,
}

/// What the quantizer of a format is held to.
#[derive(Clone, Copy)]
pub enum Quantizer {
    /// The best that a block can hold, as it is found from the layout by hand.
    Best,
    /// The best of this, where the layout by hand leaves open what a block can hold: a failing proof says so.
    Holding(fn() -> Holds),
    /// So many times the error of the best, where it is known that the quantizer comes no nearer.
    Within(f64),
    /// No more than the squared error, each weight's times its importance, that another way to quantize a block has: for formats
    /// whose blocks a plain search can't be shown, as those are where one number is part of a scale and of a minimum.
    NoWorse(fn(&[f32], Option<&[f32]>) -> f64),
    /// A rule that the declaration asks for, `quantize by …;`: without importance at most 2.5 times the error of the best
    /// on Gaussian weights, and on all others no more than a block of zeros; with importance 1.6 times that of the best.
    Rule,
}

impl Subject {
    /// Blocks with random codes, and random numbers up to a magnitude of `scale` where the format has some.
    pub fn random_matrix(&self, blocks: usize, seed: u64, scale: f32) -> Vec<u8> {
        Inputs::plain(self).blocks(blocks, seed, Level::Random(scale), Bytes::Random)
    }

    /// What a block can hold, found from the layout by hand by changing bits.
    ///
    /// # Errors
    /// That does not tell, for a reason that is said: parts of a weight share bits, more than 16 bits make up one of them
    /// together, or `numbers` does not list all.
    pub fn holds(&self) -> Result<Holds, String> {
        holds::find(self)
    }

    /// The weights of whole blocks.
    fn weights_of(&self, blocks: &[u8]) -> Vec<Weight> {
        blocks.chunks_exact(self.format.block_bytes).flat_map(self.weights).collect()
    }
}

/// What became of a cell.
#[derive(Clone, PartialEq, Eq)]
enum Outcome {
    /// Not among those that the command line asks for.
    Filtered,
    /// It can't run here.
    NotRun(String),
    /// It was begun and has not passed.
    Failed,
    Passed(emulate::How),
}

/// Rows are operations of formats, in order; columns are instruction sets.
type Table = BTreeMap<(usize, String), BTreeMap<Isa, Outcome>>;

/// Something to prove of a subject.
struct Claim {
    /// The row of the table: `q4_0_dot`.
    row: String,
    isa: Isa,
    /// `q4_0_dot_avx2_fma`
    cell: String,
    check: fn(&Inputs, Supported, u64) -> Result<(), String>,
}

/// All of a format, row by row.
fn claims(format: &Format) -> Vec<Claim> {
    let name = format.name.to_lowercase();
    // Panels don't take scales of less than 16 weights.
    let has = |operation| operation != "gemm" || format.panel.is_some();
    let kernels = checks::KERNELS.iter().filter(|(operation, _)| has(*operation));
    let mut claims: Vec<_> = kernels
        .flat_map(|&(operation, check)| {
            let row = format!("{name}_{operation}");
            Isa::ALL.iter().map(move |&isa| Claim {
                cell: format!("{row}_{isa}"),
                row: row.clone(),
                isa,
                check,
            })
        })
        .collect();
    if format.quantize.is_some() {
        // One for all instruction sets.
        let row = format!("{name}_quantize");
        claims.push(Claim { cell: row.clone(), row, isa: Isa::Scalar, check: quantizer::check });
    }
    claims
}

/// The operations that a format does not have, each with its reason.
fn missing(format: &'static Format) -> impl Iterator<Item = String> {
    let name = format.name.to_lowercase();
    let lacks = [("gemm", format.panel.is_none()), ("quantize", format.quantize.is_none())];
    let lacks = lacks.into_iter().filter(|(_, lacks)| *lacks);
    lacks.map(move |(operation, _)| format!("no {name}_{operation}: {}", format.why_not(operation)))
}

/// Proves those cells of `subject` whose names hold `filter` and that this CPU runs by itself, for a test that goes on
/// where they fail.
///
/// # Errors
/// Each cell that fails, and what was wrong with it; or that there is none of such a name.
pub fn check(subject: &Subject, filter: &str) -> Result<(), Vec<String>> {
    let seed = random::seed();
    let inputs = Inputs::new(subject, emulate::How::Natively);
    let mut claims: Vec<_> = claims(subject.format);
    claims.retain(|claim| claim.cell.contains(filter));
    if claims.is_empty() {
        return Err(vec![format!("{} has no cell `{filter}`", subject.format.name)]);
    }
    let failures = claims.into_iter().filter_map(|Claim { isa, cell, check, .. }| {
        let isa = Supported::new(isa).ok()?;
        check(&inputs, isa, seed).err().map(|error| format!("{cell}: {error}"))
    });
    let failures: Vec<_> = failures.collect();
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}

/// Proves all cells of `subjects` that the command line asks for, and prints the table of all.
pub fn main(subjects: Vec<Subject>) -> ExitCode {
    let arguments = Arguments::from_args();
    let seed = random::seed();
    if !arguments.list {
        println!("random cases from QUANTLOOM_SEED={seed}");
    }
    let table = Arc::new(Mutex::new(Table::new()));
    let mut trials = Vec::new();
    let mut rows: Vec<String> = Vec::new();
    let mut absent: Vec<String> = Vec::new();
    for subject in subjects {
        absent.extend(missing(subject.format));
        for Claim { row, isa, cell, check } in claims(subject.format) {
            if rows.last() != Some(&row) {
                rows.push(row.clone());
            }
            let check = move |isa, how| check(&Inputs::new(&subject, how), isa, seed);
            trials.push(trial(&table, &(rows.len(), row), isa, cell, check));
        }
    }
    let is_list = arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !is_list {
        print!("{}", report(&table.lock().unwrap_or_else(PoisonError::into_inner)));
        for line in absent {
            println!("{line}");
        }
    }
    conclusion.exit_code()
}

/// A test of one cell that notes its outcome; an ignored one where the cell can't run.
fn trial(
    table: &Arc<Mutex<Table>>,
    row: &(usize, String),
    isa: Isa,
    cell: String,
    check: impl Fn(Supported, emulate::How) -> Result<(), String> + Send + 'static,
) -> Trial {
    let (table, row) = (Arc::clone(table), row.clone());
    let note = move |outcome| {
        let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
        table.entry(row.clone()).or_default().insert(isa, outcome);
    };
    match emulate::supported(isa) {
        Ok((supported, how)) => {
            note(Outcome::Filtered);
            Trial::test(cell, move || {
                note(Outcome::Failed);
                check(supported, how)?;
                note(Outcome::Passed(how));
                Ok(())
            })
        }
        Err(error) => {
            note(Outcome::NotRun(error.to_string()));
            Trial::test(cell, move || Err(error.into())).with_ignored_flag(true)
        }
    }
}

/// The table, and below it why cells were not run.
fn report(table: &Table) -> String {
    let width = table.keys().map(|(_, row)| row.len()).max().unwrap_or(0).max("cell".len());
    let line = |row: &str, cells: [String; Isa::ALL.len()]| {
        let cells = cells.map(|cell| format!("  {cell:<12}"));
        format!("{}\n", format!("{row:<width$}{}", cells.concat()).trim_end())
    };
    let mut text = format!("\n{}", line("cell", std::array::from_fn(|i| Isa::ALL[i].to_string())));
    let mut reasons: Vec<&str> = Vec::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for ((_, row), cells) in table {
        if cells.values().all(|outcome| *outcome == Outcome::Filtered) {
            *counts.entry("filtered out").or_default() += cells.len();
            continue;
        }
        text += &line(
            row,
            std::array::from_fn(|i| {
                let word = match cells.get(&Isa::ALL[i]) {
                    None => return String::new(),
                    Some(Outcome::Filtered) => "filtered out",
                    Some(Outcome::Failed) => "FAILED",
                    Some(Outcome::Passed(emulate::How::Natively)) => "native",
                    Some(Outcome::Passed(emulate::How::Emulated)) => "emulated",
                    Some(Outcome::NotRun(reason)) => {
                        if !reasons.contains(&&**reason) {
                            reasons.push(reason);
                        }
                        "not run"
                    }
                };
                *counts.entry(word).or_default() += 1;
                word.to_owned()
            }),
        );
    }
    let counts: Vec<_> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    text += &format!("\ncells: {}\n", counts.join(", "));
    for reason in reasons {
        text += &format!("not run: {reason}\n");
    }
    match emulate::traps() {
        0 => {}
        traps => text += &format!("emulated: {traps} instructions\n"),
    }
    text
}
