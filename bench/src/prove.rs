//! Proves every kernel cell, format × operation × instruction set, against a layout written by hand.
//!
//! A crate that declares formats writes down what their bytes mean once more, without the macro, and has a
//! test binary of its own:
//!
//! ```no_run
//! use quantloom_bench::prove::{Number, Subject, Weight, half};
//! use quantloom_kernels::BlockFormat;
//! use quantloom_kernels::formats::Q8_0;
//!
//! fn main() -> std::process::ExitCode {
//!     let weights = |block: &[u8]| {
//!         let weight = |&code: &u8| Weight { scale: half(block), code: (code as i8).into(), minimum: 0.0 };
//!         block[2..].iter().map(weight).collect()
//!     };
//!     quantloom_bench::prove::main(vec![Subject { format: Q8_0::FORMAT, numbers: &[Number::F16(0)], weights }])
//! }
//! ```
//!
//! with `[[test]] name = "cells" harness = false` in its `Cargo.toml`. It takes the flags of Rust's own tests and
//! ends with a table of cells. Where the CPU has no AVX-VNNI, but AVX2, those cells run under [`emulate`]; this
//! is why the binary is one of its own: it handles SIGILL.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Trial};
use quantloom_kernels::{Format, Isa, Supported, f16};

use crate::emulate;

mod checks;
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

/// A format, and its layout by hand.
#[derive(Clone, Copy)]
pub struct Subject {
    /// What the macro made.
    pub format: &'static Format,
    /// Its numbers of which a random one could be too large.
    pub numbers: &'static [Number],
    /// The weights of one block.
    pub weights: fn(&[u8]) -> Vec<Weight>,
}

/// A number in a block, which stands so many bytes from its start.
#[derive(Clone, Copy)]
pub enum Number {
    /// Two bytes.
    F16(usize),
    /// One byte, 2^(byte - 127).
    E8M0(usize),
}

/// The f16 at the start of `bytes`.
///
/// # Panics
/// There are less than two bytes.
pub fn half(bytes: &[u8]) -> f64 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f64()
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

/// Proves all cells of `subjects` that the command line asks for, and prints the table of all.
pub fn main(subjects: Vec<Subject>) -> ExitCode {
    let arguments = Arguments::from_args();
    let seed = checks::seed();
    if !arguments.list {
        println!("random cases from QUANTLOOM_SEED={seed}");
    }
    let table = Arc::new(Mutex::new(Table::new()));
    let mut trials = Vec::new();
    let mut order = 0..;
    let mut row = |name: String| (order.next().unwrap_or_default(), name);
    for subject in subjects {
        let name = subject.format.name.to_lowercase();
        // Panels don't take scales of less than 16 weights.
        let has = |operation| operation != "gemm" || subject.format.panel.is_some();
        for &(operation, check) in checks::KERNELS.iter().filter(|(operation, _)| has(*operation)) {
            let row = row(format!("{name}_{operation}"));
            for &isa in Isa::ALL {
                let cell = format!("{name}_{operation}_{isa}");
                trials.push(trial(&table, &row, isa, cell, move |isa| check(&subject, isa, seed)));
            }
        }
        if subject.format.quantize.is_some() {
            // One for all instruction sets.
            let row = row(format!("{name}_quantize"));
            let check = move |isa| checks::quantize(&subject, isa, seed);
            trials.push(trial(&table, &row, Isa::Scalar, format!("{name}_quantize"), check));
        }
    }
    let is_list = arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !is_list {
        print!("{}", report(&table.lock().unwrap_or_else(PoisonError::into_inner)));
    }
    conclusion.exit_code()
}

/// A test of one cell that notes its outcome; an ignored one where the cell can't run.
fn trial(
    table: &Arc<Mutex<Table>>,
    row: &(usize, String),
    isa: Isa,
    cell: String,
    check: impl Fn(Supported) + Send + 'static,
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
                check(supported);
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
