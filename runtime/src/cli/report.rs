//! `quantloom report`.

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};

use super::perplexity::read_text;
use super::recipe::RecipeArgs;
use super::stop::Stop;
use super::{Result, ThreadArgs, value};
use crate::Error;
use crate::file::OutputFile;
use crate::gguf::Formats;
use crate::pull::resolve;
use crate::quantize::Recipe;
use crate::report::{Comparison, Options, Progress, Step, Text, figure};

#[derive(clap::Args)]
pub struct Args {
    /// Model file, GGUF, best in F32, F16 or BF16, or a name that `pull` knows
    model: PathBuf,
    /// What to make of it: types (q4_0, mxfp4, …) and mixtures (q4_k_m, …), as `quantloom quantize` does
    #[arg(long, value_name = "TYPE,…", value_delimiter = ',', required = true)]
    types: Vec<String>,
    /// The model to compare with, a file or a name, or the file of its logits that `quantloom perplexity` wrote by
    /// --kl-divergence-base; speeds are then compared with MODEL's [default: MODEL]
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// Text to run, of two chunks at least; - for standard input [default: none, or what the base's logits were written for]
    #[arg(short, long, value_name = "TEXT")]
    file: Option<PathBuf>,
    /// Run no text: no perplexity, no KL divergence
    #[arg(long, conflicts_with = "file")]
    no_quality: bool,
    /// Tokens of a chunk, of which the second half is scored [default: 512, or what the base's logits were written with]
    #[arg(short, long, value_name = "N", value_parser = value::positive, allow_negative_numbers = true)]
    ctx_size: Option<usize>,
    /// Chunks to score, from the beginning of the text; -1 for all
    #[arg(long, value_name = "N", default_value = "-1", value_parser = value::chunks)]
    #[arg(allow_negative_numbers = true)]
    chunks: usize,
    /// Tokens of the prompt whose speed is measured [default: 512]
    #[arg(short = 'p', long, value_name = "N", value_parser = value::positive, allow_negative_numbers = true)]
    n_prompt: Option<usize>,
    /// Tokens to generate in each round [default: 32]
    #[arg(short, long, value_name = "N", value_parser = value::positive, allow_negative_numbers = true)]
    n_gen: Option<usize>,
    /// Rounds in which the speeds of all types are measured, one after the other, so that a slow minute of the machine is
    /// one for all
    #[arg(short, long, value_name = "N", default_value = "5", value_parser = value::positive)]
    #[arg(allow_negative_numbers = true)]
    rounds: usize,
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Keep the quantized models in this folder, as MODEL.TYPE.gguf [default: all of them, and the base's logits, which take
    /// 2 bytes for each scored token and token of the vocabulary, are in the folder for temporary files (TMPDIR) until all
    /// is measured]
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
    let importance = args.recipe.importance()?;
    let recipe = |name: &String| -> Result<Recipe> {
        let mut recipe = Recipe::new(name, formats).map_err(|problem| format!("--types: {problem}"))?;
        args.recipe.apply(&mut recipe, formats, importance.as_ref())?;
        // What they lose by it is what a report shows.
        recipe.unweighted = true;
        Ok(recipe)
    };
    let recipes = args.types.iter().map(recipe).collect::<Result<_>>()?;
    let text = args.file.as_deref().map(read_text).transpose()?;
    let text = Text { text, context: args.ctx_size, chunks: args.chunks };
    let model = resolve(args.model)?;
    let base = args.base.map(resolve).transpose()?;
    let stop = Stop::watch()?;
    // Before anything is measured, so that nothing is measured in vain.
    let svg = args.svg.as_deref().map(Svg::create).transpose()?;
    let options = Options {
        formats: formats.clone(),
        recipes,
        base,
        text: (!args.no_quality).then_some(text),
        prompt: args.n_prompt,
        generate: args.n_gen,
        rounds: args.rounds,
        keep: args.keep,
        threads: args.threads.threads,
    };

    let comparison = Comparison::new(&model, &options).map_err(|error| match error {
        Error::NoText => {
            format!("{error}, as that of WikiText-2, or do without perplexity by --no-quality").into()
        }
        _ => with_remedy(error.into(), &model, &options, None),
    })?;
    let disk = comparison.disk_bytes();
    let mut bar = Bar::new(&options.recipes);
    let report = comparison.run(|progress| -> Result {
        bar.show(progress);
        if stop.is_wanted() {
            Err(format!("stopped{}: nothing is reported", stop.by()).into())
        } else {
            Ok(())
        }
    });
    bar.bar.finish_and_clear();
    let report = report.map_err(|error| with_remedy(error, &model, &options, Some(disk)))?;

    if let Some(svg) = svg {
        svg.finish(&figure(&report))?;
    }
    drop(stop);
    match args.output {
        Format::Md => write!(out, "{report}")?,
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?,
    }
    Ok(())
}

/// Where a file can't be written, says what names another folder, and how much goes there in all.
fn with_remedy(
    error: Box<dyn std::error::Error>,
    model: &Path,
    options: &Options,
    disk: Option<u64>,
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
    let room = disk.map(|bytes| format!(", with room for {}", DecimalBytes(bytes)));
    format!("{error}; {remedy}{}", room.unwrap_or_default()).into()
}

/// The file of the figure, which is whole or not there.
struct Svg {
    path: PathBuf,
    file: OutputFile,
}

impl Svg {
    fn create(path: &Path) -> Result<Self> {
        let file = OutputFile::create(path).map_err(|source| Error::Io { path: path.into(), source });
        Ok(Self { path: path.into(), file: file.map_err(|error| format!("--svg: {error}"))? })
    }

    fn finish(mut self, picture: &str) -> Result {
        let written = self.file.write_all(picture.as_bytes());
        let written = written.and_then(|()| self.file.persist());
        written.map_err(|source| Error::Io { path: self.path, source }.into())
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
        let (is_same_subject, is_same_step) = match &self.now {
            Some((other, before)) => (other == subject, *before == step),
            None => (false, false),
        };
        if !(is_same_subject && is_same_step) {
            self.now = Some((subject.into(), step));
            // The speeds of all are one piece of work.
            if !(is_same_step && step == Step::Speed) {
                self.bar.reset();
                self.bar.set_length(total as u64);
            }
            // The base comes first.
            let number = self.recipes.iter().position(|recipe| recipe.name() == subject).map_or(1, |i| i + 2);
            self.bar.set_message(format!("{number}/{} {subject}: {step}", self.recipes.len() + 1));
        }
        self.bar.set_position(done as u64);
    }
}
