//! `quantloom bench`: the report on one model, or llama-bench's tests of many.

mod print;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use quantloom_kernels::Supported;

use crate::bench::{self, llama_bench};
use crate::gguf::{Formats, Gguf};
use crate::model::default_threads;
use crate::pull::resolve;
use crate::{CacheType, CacheTypes, Error, Model};
use llama_bench::Test;

use super::value::{self, List};
use super::{Result, cache_type, create_cache, model_from_environment};
use print::{COLUMNS, Format, Printer};

#[derive(clap::Args)]
pub struct Args {
    /// Model files, GGUF, or names that `pull` knows [default: the one that GGUF_MODEL names, else tinyllama where it
    /// was pulled, else a model of its shape with random weights, made once]
    #[arg(short, long, value_name = "FILE,…", value_delimiter = ',')]
    model: Vec<PathBuf>,
    /// Threads [default: one for each CPU]
    #[arg(short, long, value_name = "N,…", value_parser = value::threads, allow_negative_numbers = true)]
    threads: Vec<List<usize>>,
    /// Report after a short time: good for seeing that it works
    #[arg(long)]
    short: bool,
    /// Report in one JSON object
    #[arg(long)]
    json: bool,
    /// Report the phases of a pass, too: time, bytes, share of what the machine allows
    #[arg(long)]
    profile: bool,
    #[command(flatten)]
    tests: Option<Tests>,
}

/// Present where one of its flags is.
#[derive(clap::Args)]
#[command(
    next_help_heading = "Any of these runs llama-bench's tests and prints their table instead of the report"
)]
#[group(multiple = true)]
struct Tests {
    /// Tokens of a prompt; 0 for no such test
    #[arg(short = 'p', long, value_name = "N,…", default_value = "512", value_parser = value::counts)]
    #[arg(allow_negative_numbers = true)]
    n_prompt: Vec<List<usize>>,
    /// Tokens to generate; 0 for no such test
    #[arg(short, long, value_name = "N,…", default_value = "128", value_parser = value::counts)]
    #[arg(allow_negative_numbers = true)]
    n_gen: Vec<List<usize>>,
    /// A prompt, then tokens to generate, in one test (-pg)
    #[arg(long, alias = "pg", value_name = "PP,TG", value_parser = value::prompt_and_generation)]
    #[arg(allow_negative_numbers = true)]
    prompt_gen: Vec<(usize, usize)>,
    /// Tokens in the KV cache before
    #[arg(short = 'd', long, value_name = "N,…", default_value = "0", value_parser = value::counts)]
    #[arg(allow_negative_numbers = true)]
    n_depth: Vec<List<usize>>,
    /// Type of the keys in the KV cache (-ctk)
    #[arg(long, alias = "ctk", value_name = "TYPE,…", default_value = "f16", value_delimiter = ',')]
    cache_type_k: Vec<String>,
    /// Type of the values in the KV cache (-ctv)
    #[arg(long, alias = "ctv", value_name = "TYPE,…", default_value = "f16", value_delimiter = ',')]
    cache_type_v: Vec<String>,
    /// How often each test is measured
    #[arg(short, long, value_name = "N", default_value = "5", value_parser = value::positive)]
    #[arg(allow_negative_numbers = true)]
    repetitions: usize,
    /// Seconds of rest before each test
    #[arg(long, value_name = "S", default_value = "0", value_parser = value::seconds)]
    #[arg(allow_negative_numbers = true)]
    delay: Duration,
    /// Measure without a run before
    #[arg(long)]
    no_warmup: bool,
    /// What to print
    #[arg(short, long, value_name = "FORMAT", default_value = "md")]
    output: Format,
}

pub fn run(args: Args, formats: &Formats, out: &mut impl Write) -> Result {
    let Args { model: mut models, threads, short, json, profile, tests } = args;
    if models.is_empty() {
        models.extend(model_from_environment());
    }
    let mut threads = List::concat(threads);
    if let Some(tests) = tests {
        if short || json || profile {
            let problem = "--short, --json and --profile are the report's: tests are short with small -p, -n and -r, and print JSON by -o json";
            return Err(problem.into());
        }
        if threads.is_empty() {
            threads.push(default_threads());
        }
        return tests.run(models, &threads, formats, out);
    }
    let (model, threads) = (only("--model", models)?, only("--threads", threads)?);
    let model = model.map(resolve).transpose()?;
    let report =
        bench::measure(&bench::Options { model, formats: formats.clone(), threads, short, profile })?;
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(())
}

/// The report's one value of a list.
fn only<T>(flag: &str, mut values: Vec<T>) -> Result<Option<T>> {
    match values.len() {
        0 | 1 => Ok(values.pop()),
        n => {
            Err(format!("{flag}: the report takes one value and got {n}; `-o md` prints a table of all")
                .into())
        }
    }
}

impl Tests {
    /// Runs all combinations in llama-bench's order.
    fn run(
        self,
        mut models: Vec<PathBuf>,
        threads: &[usize],
        formats: &Formats,
        out: &mut impl Write,
    ) -> Result {
        let (prompts, generations) = (List::concat(self.n_prompt), List::concat(self.n_gen));
        let prompts = prompts.into_iter().map(|prompt| (prompt, 0));
        let generations = generations.into_iter().map(|generate| (0, generate));
        let single = prompts.chain(generations).filter(|&pair| pair != (0, 0));
        let pairs: Vec<_> = single.chain(self.prompt_gen).collect();
        if pairs.is_empty() {
            return Err("--n-prompt and --n-gen are 0, and there is no -pg: nothing is left to test".into());
        }
        let depths = List::concat(self.n_depth);
        let at = |depth| pairs.iter().map(move |&(prompt, generate)| Test { prompt, generate, depth });
        let tests = || depths.iter().flat_map(|&depth| at(depth));

        if models.is_empty() {
            models.push(bench::default_model()?);
        }
        let types = |flag, names: Vec<String>| -> Result<Vec<CacheType>> {
            names.iter().map(|name| cache_type(flag, name, formats)).collect()
        };
        let types_k = types("--cache-type-k", self.cache_type_k)?;
        let types_v = types("--cache-type-v", self.cache_type_v)?;
        let types =
            types_k.iter().flat_map(|&keys| types_v.iter().map(move |&values| CacheTypes { keys, values }));

        // What can't be run should be known before the first test, not after hours.
        let isa = Supported::selected().map_err(Error::from)?;
        let load = |path| Model::from_gguf(Gguf::open_with(resolve(path)?, formats)?, isa, 1);
        let models = models.into_iter().map(load).collect::<std::result::Result<Vec<_>, Error>>()?;
        for model in &models {
            let limit = model.config().context;
            if let Some(test) = tests().find(|test| test.context() > limit) {
                return Err(too_long(&test, model).into());
            }
            for types in types.clone() {
                create_cache(model, 1, types)?;
            }
        }

        let lists = [models.len(), types_k.len(), types_v.len(), threads.len(), depths.len()];
        let repetitions =
            lists.into_iter().chain([pairs.len(), self.repetitions]).fold(1, usize::saturating_mul);
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
        let progress =
            ProgressBar::new(repetitions as u64).with_style(style.expect("a template that parses"));
        let is_default = |types: &[CacheType]| matches!(types, [CacheType::F16]);
        let columns = COLUMNS.into_iter().filter(|column| match column.name {
            "type_k" => !is_default(&types_k),
            "type_v" => !is_default(&types_v),
            _ => true,
        });
        let mut printer = Printer::new(out, self.output, columns.collect())?;
        for model in &models {
            for types in types.clone() {
                let options = llama_bench::Options {
                    repetitions: self.repetitions,
                    warm_up: !self.no_warmup,
                    delay: self.delay,
                    types,
                };
                for &threads in threads {
                    let model = model.with_threads(threads)?;
                    for test in tests() {
                        progress.set_message(test.to_string());
                        let repeated = || {
                            progress.inc(1);
                            Ok::<_, Error>(())
                        };
                        let measurement = llama_bench::measure(&model, test, &options, repeated)?;
                        progress.suspend(|| printer.print(measurement))?;
                    }
                }
            }
        }
        progress.finish_and_clear();
        Ok(printer.finish(isa.isa().name())?)
    }
}

/// What is wrong with a test that a model can't run, and which flags made it.
fn too_long(test: &Test, model: &Model) -> String {
    let flag = match test {
        Test { generate: 0, .. } => "--n-prompt",
        Test { prompt: 0, .. } => "--n-gen",
        _ => "-pg",
    };
    let depth = if test.depth > 0 { " or --n-depth" } else { "" };
    format!(
        "{test} takes a context of {} tokens, and {} was trained for {}: lower {flag}{depth}",
        test.context(),
        model.gguf().path().display(),
        model.config().context
    )
}
