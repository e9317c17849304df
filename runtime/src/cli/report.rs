//! `quantloom report`.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use tempfile::NamedTempFile;

use super::perplexity::{DEFAULT_CONTEXT, read_text};
use super::{Result, ThreadArgs, value};
use crate::Error;
use crate::file::temporary_beside;
use crate::gguf::Formats;
use crate::pull::resolve;
use crate::quantize::Recipe;
use crate::report::{Options, Progress, Step, Text, figure, measure};

#[derive(clap::Args)]
pub struct Args {
    /// Model file, GGUF, best in F32, F16 or BF16, or a name that `pull` knows
    model: PathBuf,
    /// What to make of it: types (q4_0, mxfp4, …) and mixtures (q4_k_m, …), as `quantloom quantize` does
    #[arg(long, value_name = "TYPE,…", value_delimiter = ',', required = true)]
    types: Vec<String>,
    /// The model to compare with, a file or a name [default: MODEL]
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// Text to run, of two chunks at least
    #[arg(short, long, value_name = "TEXT")]
    file: Option<PathBuf>,
    /// Run no text: no perplexity, no KL divergence
    #[arg(long, conflicts_with = "file")]
    no_quality: bool,
    /// Tokens of a chunk, of which the second half is scored
    #[arg(short, long, value_name = "N", default_value_t = DEFAULT_CONTEXT, value_parser = value::positive)]
    #[arg(allow_negative_numbers = true)]
    ctx_size: usize,
    /// Chunks to score, from the beginning of the text; -1 for all
    #[arg(long, value_name = "N", default_value = "-1", value_parser = value::chunks)]
    #[arg(allow_negative_numbers = true)]
    chunks: usize,
    /// Tokens of the prompt whose speed is measured [default: 512]
    #[arg(short = 'p', long, value_name = "N", value_parser = value::positive, allow_negative_numbers = true)]
    n_prompt: Option<usize>,
    /// Tokens to generate [default: 128]
    #[arg(short, long, value_name = "N", value_parser = value::positive, allow_negative_numbers = true)]
    n_gen: Option<usize>,
    /// How often speeds are measured
    #[arg(short, long, value_name = "N", default_value = "3", value_parser = value::positive)]
    #[arg(allow_negative_numbers = true)]
    repetitions: usize,
    /// All matrices in the type, and none in the better one that llama.cpp's rules give it
    #[arg(long)]
    pure: bool,
    /// Quantize matrices again that are quantized already, which loses a little more
    #[arg(long)]
    allow_requantize: bool,
    /// Keep the quantized models in this folder, as MODEL.TYPE.gguf [default: one at a time, in the folder for
    /// temporary files]
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    #[command(flatten)]
    threads: ThreadArgs,
    /// What to print
    #[arg(short, long, value_name = "FORMAT", default_value = "md")]
    output: Format,
    /// Draw quality against size and speed, too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// A form of output.
#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Md,
    Json,
}

pub fn run(args: Args, formats: &Formats, out: &mut impl Write) -> Result {
    let recipe = |name: &String| -> Result<Recipe> {
        let mut recipe = Recipe::new(name, formats).map_err(|problem| format!("--types: {problem}"))?;
        (recipe.pure, recipe.requantize) = (args.pure, args.allow_requantize);
        // What they lose by it is what a report shows.
        recipe.unweighted = true;
        Ok(recipe)
    };
    let recipes = args.types.iter().map(recipe).collect::<Result<_>>()?;
    let text = match &args.file {
        None if args.no_quality => None,
        None => {
            let remedy = "name one by -f, as that of WikiText-2, or do without perplexity by --no-quality";
            return Err(format!("there is no text to run: {remedy}").into());
        }
        Some(path) => Some(Text { text: read_text(path)?, context: args.ctx_size, chunks: args.chunks }),
    };
    let model = resolve(args.model)?;
    // Before anything is measured, so that nothing is measured in vain.
    let svg = args.svg.as_deref().map(Svg::create).transpose()?;
    let options = Options {
        formats: formats.clone(),
        recipes,
        base: args.base.map(resolve).transpose()?,
        text,
        prompt: args.n_prompt,
        generate: args.n_gen,
        repetitions: args.repetitions,
        keep: args.keep,
        threads: args.threads.threads,
    };

    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    ctrlc::set_handler(move || stopped.store(true, Ordering::Relaxed))?;
    let mut bar = Bar::new(&options.recipes);
    let report = measure(&model, &options, |progress| -> Result {
        bar.show(progress);
        if stop.load(Ordering::Relaxed) { Err("stopped: nothing is reported".into()) } else { Ok(()) }
    });
    bar.bar.finish_and_clear();
    let report = report.map_err(|error| with_remedy(error, &model, &options))?;

    if let Some(svg) = svg {
        svg.finish(&figure(&report))?;
    }
    match args.output {
        Format::Md => write!(out, "{report}")?,
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?,
    }
    Ok(())
}

/// Where a file can't be written, says what names another folder.
fn with_remedy(
    error: Box<dyn std::error::Error>,
    model: &Path,
    options: &Options,
) -> Box<dyn std::error::Error> {
    let path = match error.downcast_ref::<Error>() {
        Some(Error::Gguf(error)) => error.path(),
        Some(Error::Io { path, .. }) => path,
        Some(Error::Base { path, .. }) => path,
        _ => return error,
    };
    let folder = options.keep.clone().unwrap_or_else(env::temp_dir);
    if path == model || Some(path) == options.base.as_deref() || !path.starts_with(folder) {
        return error;
    }
    let remedy = match options.keep {
        Some(_) => "--keep names another folder",
        None => "--keep, or TMPDIR, names another folder",
    };
    format!("{error}; {remedy}").into()
}

/// The file of the figure, which is whole or not there.
struct Svg {
    path: PathBuf,
    file: NamedTempFile,
}

impl Svg {
    fn create(path: &Path) -> Result<Self> {
        let fail = |source| Error::Io { path: path.into(), source };
        // A rename would replace a device, such as `/dev/null`.
        if fs::metadata(path).is_ok_and(|about| !about.is_file()) {
            return Err(format!("--svg: {} is not a regular file", path.display()).into());
        }
        Ok(Self { path: path.into(), file: temporary_beside(path, ".svg.part").map_err(fail)? })
    }

    fn finish(mut self, picture: &str) -> Result {
        let written = self.file.write_all(picture.as_bytes());
        let written = written.and_then(|()| self.file.persist(&self.path).map_err(io::Error::from));
        written.map(drop).map_err(|source| Error::Io { path: self.path, source }.into())
    }
}

/// How far it is, for people.
struct Bar<'a> {
    bar: ProgressBar,
    recipes: &'a [Recipe],
    /// What is being done, and of which.
    now: Option<(String, Step)>,
}

impl<'a> Bar<'a> {
    fn new(recipes: &'a [Recipe]) -> Self {
        let style = ProgressStyle::with_template("{msg} {wide_bar} {percent} % {eta}");
        let bar = ProgressBar::no_length().with_style(style.expect("a template that parses"));
        Self { bar, recipes, now: None }
    }

    fn show(&mut self, Progress { subject, step, done, total }: Progress<'_>) {
        if self.now.as_ref().is_none_or(|(other, before)| other != subject || *before != step) {
            self.now = Some((subject.into(), step));
            // The base comes first.
            let number = self.recipes.iter().position(|recipe| recipe.name() == subject).map_or(1, |i| i + 2);
            self.bar.reset();
            self.bar.set_length(total as u64);
            self.bar.set_message(format!("{number}/{} {subject}: {step}", self.recipes.len() + 1));
        }
        self.bar.set_position(done as u64);
    }
}
