//! The benchmark of `quantloom bench`. (Placeholder: the report is still to come.)

use std::path::PathBuf;

use crate::Error;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Model file; without one a seeded TinyLlama-1.1B-shaped file in the cache.
    pub model: Option<PathBuf>,
    /// Threads; without a number one for each CPU.
    pub threads: Option<usize>,
    /// Tokens of prefill.
    pub prompt: usize,
    /// Tokens to generate in each mode.
    pub generate: usize,
    /// Measure for a short time only.
    pub short: bool,
    /// Print one JSON object.
    pub json: bool,
}

/// Measures and reports on standard output.
///
/// # Errors
/// Always, for now.
pub fn run(options: &Options) -> Result<(), Error> {
    Err(Error::Model { path: options.model.clone().unwrap_or_default(), problem: "unimplemented".into() })
}
