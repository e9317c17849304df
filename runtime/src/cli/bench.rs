//! `quantloom bench`.

use quantloom::bench::{self, Options};

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

pub fn run(args: Args) -> Result {
    let Args { model, threads, n_prompt, n_gen, short, json } = args;
    let threads = threads.threads;
    bench::run(&Options { model: model.named(), threads, prompt: n_prompt, generate: n_gen, short, json })?;
    Ok(())
}
