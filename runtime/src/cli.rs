//! The command line: one module per command, and what they share. Names and flags are llama.cpp's where it has
//! them.
//!
//! A program with formats of its own gets all commands for them, too:
//!
//! ```no_run
//! # use quantloom_kernels::{BlockFormat, formats::Q4_0};
//! #[global_allocator]
//! static ALLOCATOR: quantloom::alloc::CountingAllocator = quantloom::alloc::CountingAllocator;
//!
//! fn main() -> std::process::ExitCode {
//! #   struct MyFormat;
//! #   impl BlockFormat for MyFormat { const FORMAT: &'static quantloom_kernels::Format = Q4_0::FORMAT; }
//!     quantloom::cli::main(&[MyFormat::FORMAT])
//! }
//! ```

mod arguments;
mod bench;
mod imatrix;
mod inspect;
mod kernels;
mod logits;
#[cfg(unix)]
mod lost_file;
mod output;
mod perplexity;
mod pull;
mod quantize;
mod recipe;
mod report;
mod run;
mod stop;
mod tokenize;
mod value;

use std::env;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand};
use quantloom_kernels::{Format, Supported};

use self::output::{Output, failed, note, report};
use crate::gguf::{self, Formats, Gguf};
use crate::model::default_threads;
use crate::pull::{DEFAULT, resolve};
use crate::table;
use crate::tokenizer::Tokenizer;
use crate::{CacheType, CacheTypes, KvCache, Model};

/// What a command returns. A bare [`io::Error`] is one of standard output: every other names its file.
type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// Runs quantized Llama-architecture models on a CPU.
#[derive(Parser)]
#[command(name = "quantloom", version, arg_required_else_help = true)]
// The last counts, as wrapper scripts put a user's flags behind their own.
#[command(args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Generates text
    Run(run::Args),
    /// Prints the tokens of the text on standard input
    Tokenize(tokenize::Args),
    /// Writes the logits after each of the given tokens
    Logits(logits::Args),
    /// Prints the metadata and the tensors of a model
    Inspect(inspect::Args),
    /// Prints the features of the CPU, the kernels there are and the ones chosen
    Kernels,
    /// Computes the importance of the columns of a model's matrices, for `quantize --imatrix`
    Imatrix(imatrix::Args),
    /// Writes a model anew with its matrices in other types
    Quantize(quantize::Args),
    /// Measures how well a model predicts a text, and how far it is from a base model
    Perplexity(perplexity::Args),
    /// Makes a model in several types, and compares their size, quality and speed
    Report(report::Args),
    /// Fetches a model by name, once, and prints its path
    Pull(pull::Args),
    /// Measures a model: decoding in four modes, prefill, memory bandwidth; or runs llama-bench's tests
    Bench(bench::Args),
}

/// Which model.
#[derive(Args)]
struct ModelArgs {
    /// Model file, GGUF, or a name that `pull` knows [default: the one that GGUF_MODEL names, else smollm2]
    #[arg(short, long)]
    model: Option<PathBuf>,
    #[command(flatten)]
    access: AccessArgs,
}

/// How a model's file is read.
#[derive(Args, Clone, Copy)]
struct AccessArgs {
    /// Read the model into memory instead of mapping its file: for files that other programs write to, and disks that
    /// may go away
    #[arg(long)]
    no_mmap: bool,
}

impl AccessArgs {
    fn open(self, path: impl AsRef<Path>, formats: &Formats) -> gguf::Result<Gguf> {
        if self.no_mmap { Gguf::read_with(path, formats) } else { Gguf::open_with(path, formats) }
    }
}

/// On how many threads.
#[derive(Args)]
struct ThreadArgs {
    /// Threads [default: one for each CPU]
    #[arg(short, long, value_name = "N", value_parser = value::positive, allow_negative_numbers = true)]
    threads: Option<usize>,
}

/// In what types the KV cache keeps what it holds.
#[derive(Args)]
struct CacheArgs {
    /// Type of the KV cache's keys: f16, or a format with a quantizer, as q8_0 (-ctk)
    #[arg(long, alias = "ctk", value_name = "TYPE", default_value = "f16")]
    cache_type_k: String,
    /// Type of the KV cache's values (-ctv)
    #[arg(long, alias = "ctv", value_name = "TYPE", default_value = "f16")]
    cache_type_v: String,
}

impl CacheArgs {
    fn types(&self, formats: &Formats) -> Result<CacheTypes> {
        let keys = cache_type("--cache-type-k", &self.cache_type_k, formats)?;
        Ok(CacheTypes { keys, values: cache_type("--cache-type-v", &self.cache_type_v, formats)? })
    }
}

/// The type of this name, which is a flag's value.
fn cache_type(flag: &str, name: &str, formats: &Formats) -> Result<CacheType> {
    Ok(value::cache_type(formats, name).map_err(|problem| format!("{flag}: {problem}"))?)
}

/// A cache of these types, which may not fit the model: then the error names the flag.
fn create_cache(model: &Model, context: usize, types: CacheTypes) -> Result<KvCache> {
    Ok(model.create_kv_cache_with(context, types).map_err(|error| match &error {
        crate::Error::CacheType { what: "keys", .. } => format!("--cache-type-k: {error}"),
        crate::Error::CacheType { .. } => format!("--cache-type-v: {error}"),
        _ => error.to_string(),
    })?)
}

impl ModelArgs {
    /// The file of the model that the user named, by the flag or in the environment, or else of the default.
    fn path(&self) -> Result<PathBuf> {
        match self.model.clone().or_else(model_from_environment) {
            Some(model) => Ok(resolve(model)?),
            None => Ok(DEFAULT.fetch()?),
        }
    }

    fn open(&self, formats: &Formats) -> Result<Gguf> {
        Ok(self.access.open(self.path()?, formats)?)
    }
}

fn model_from_environment() -> Option<PathBuf> {
    env::var_os("GGUF_MODEL").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The model in a file.
fn load(path: PathBuf, formats: &Formats, access: AccessArgs, threads: ThreadArgs) -> Result<Model> {
    let isa = Supported::selected().map_err(crate::Error::from)?;
    let model = Model::from_gguf(access.open(path, formats)?, isa, threads.count())?;
    note_warnings(model.gguf().path(), model.tokenizer());
    Ok(model)
}

/// Tells what the tokenizer of the model in `path` passed over.
fn note_warnings(path: &Path, tokenizer: &Tokenizer) {
    for warning in tokenizer.warnings() {
        note(format_args!("{}: {warning}", path.display()));
    }
}

/// Tells of a text that brought the BOS that is added anyway.
fn note_two_bos(tokenizer: &Tokenizer, ids: &[u32]) {
    if tokenizer.has_two_bos(ids) {
        let bos = tokenizer.bos().and_then(|id| tokenizer.token_text(id)).unwrap_or_default();
        note(format_args!(
            "the text begins with {bos:?}, and the model adds that itself: it is there twice, leave it out of the text"
        ));
    }
}

impl ThreadArgs {
    fn count(self) -> usize {
        self.threads.unwrap_or_else(default_threads)
    }
}

/// Has all threads share one arena of the C library's allocator. Each would reserve 64 MiB of addresses for its own, and
/// where a limit leaves none, the C library aborts in the start of a thread, in words of its own. Passes allocate nothing, and
/// quantizers little beside what they compute.
fn one_arena() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it only sets how the allocator behaves.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1)
    };
}

/// Does what the process's arguments say, with `formats` besides the built-in ones.
pub fn main(formats: &[&'static Format]) -> ExitCode {
    #[cfg(unix)]
    {
        crate::alloc::when_exhausted(output::end_without_memory);
        output::end_threads_without_memory();
        lost_file::watch();
    }
    one_arena();
    stop::fail_writes_at_size_limit();
    let formats = match Formats::default().with(formats) {
        Ok(formats) => formats,
        Err(conflict) => {
            report(&conflict.to_string());
            return ExitCode::FAILURE;
        }
    };
    let arguments = match arguments::read(&Cli::command(), env::args_os().collect()) {
        Ok(arguments) => arguments,
        Err(problem) => {
            report(&problem);
            return ExitCode::from(2);
        }
    };
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let out = &mut Output::standard();
    match cli.command.run(&formats, out).and_then(|()| Ok(out.finish()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<io::Error>() {
            Some(error) => failed(error),
            None => {
                report(&error.to_string());
                ExitCode::FAILURE
            }
        },
    }
}

/// Prints what clap has to say: an error, or the help or the version that was asked for.
fn usage(error: &clap::Error) -> ExitCode {
    if let Some(problem) = value_problem(error) {
        report(&problem);
        return ExitCode::from(2);
    }
    if error.use_stderr() {
        // There is nowhere to tell that it can't be written.
        let _ = error.print();
        return ExitCode::from(2);
    }
    match Output::standard().print(error) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

impl Command {
    fn run(self, formats: &Formats, out: &mut Output) -> Result {
        match self {
            Self::Run(args) => run::run(args, formats, out),
            Self::Tokenize(args) => tokenize::run(args, formats, out),
            Self::Logits(args) => logits::run(args, formats),
            Self::Inspect(args) => inspect::run(args, formats, out),
            Self::Kernels => kernels::run(formats, out),
            Self::Imatrix(args) => imatrix::run(args, formats, out),
            Self::Quantize(args) => quantize::run(args, formats, out),
            Self::Perplexity(args) => perplexity::run(args, formats, out),
            Self::Report(args) => report::run(args, formats, out),
            Self::Pull(args) => pull::run(args, out),
            Self::Bench(args) => bench::run(args, formats, out),
        }
    }
}

/// What is wrong with a flag or its value, on one line; clap takes several. `None` for its other errors.
fn value_problem(error: &clap::Error) -> Option<String> {
    let flag = error.get(ContextKind::InvalidArg)?;
    if error.kind() == ErrorKind::UnknownArgument {
        let flag = flag.to_string();
        let name = env::args_os().nth(1).unwrap_or_default();
        let cli = Cli::command();
        let command = cli.find_subcommand(name).unwrap_or(&cli);
        let meant = error.get(ContextKind::SuggestedArg).map(ToString::to_string);
        return Some(arguments::unknown(command, &flag, meant.as_deref()));
    }
    if let Some(problem) = error.source() {
        return Some(format!("{flag}: {problem}"));
    }
    let value = error.get(ContextKind::InvalidValue)?.to_string();
    match error.get(ContextKind::ValidValue) {
        _ if value.is_empty() => Some(format!("{flag}: a value is missing")),
        Some(ContextValue::Strings(valid)) => {
            Some(format!("{flag}: {value:?} is not one of {}", valid.join(", ")))
        }
        _ => None,
    }
}
