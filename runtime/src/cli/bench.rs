//! `quantloom bench`.

use std::io::Write;

use crate::bench::{self, Options};
use crate::gguf::Formats;

use super::{ModelArgs, Result, ThreadArgs, value};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    /// Tokens of prefill
    #[arg(short = 'p', long, value_name = "N", default_value = "512", value_parser = value::positive)]
    #[arg(allow_negative_numbers = true)]
    n_prompt: usize,
    /// Tokens to generate
    #[arg(short, long, value_name = "N", default_value = "64", value_parser = value::positive)]
    #[arg(allow_negative_numbers = true)]
    n_gen: usize,
    /// Measure for a short time only: good for seeing that it works
    #[arg(long)]
    short: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, formats: &Formats, out: &mut impl Write) -> Result {
    let Args { model, threads, n_prompt: prompt, n_gen: generate, short, json } = args;
    let (model, formats) = (model.named(), formats.clone());
    let options = Options { model, formats, threads: threads.threads, prompt, generate, short };
    let report = bench::measure(&options)?;
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(())
}
