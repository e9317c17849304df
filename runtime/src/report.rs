//! A model in many types, compared: what `quantloom report` does.
//!
//! A [`Comparison`] quantizes a model by one [`Recipe`] after the other, and says of each file how large it is, how far its
//! weights are from the model's, how well it predicts a text and how far it is from a base model, how fast it is, and
//! which share of the speed that memory allows that is. The [`Report`] is displayed as Markdown, serialized as JSON, and
//! drawn by [`figure()`].
//!
//! ```no_run
//! use quantloom::Error;
//! use quantloom::gguf::Formats;
//! use quantloom::quantize::Recipe;
//! use quantloom::report::{Comparison, Options, Text, figure};
//!
//! let formats = Formats::default();
//! let mut options = Options::new(formats.clone());
//! for name in ["Q4_0", "Q8_0"] {
//!     options.recipes.push(Recipe::new(name, &formats)?);
//! }
//! let text = std::fs::read_to_string("text.txt").expect("a text");
//! options.text = Some(Text { text: Some(text), context: None, chunks: 20 });
//! let comparison = Comparison::new("model.F16.gguf", &options)?;
//! println!("takes {} MB of disk", comparison.disk_bytes() / 1_000_000);
//! let report = comparison.run(|_| Ok::<_, Error>(()))?;
//! println!("{report}");
//! std::fs::write("figure.svg", figure(&report)).expect("a place for it");
//! # Ok::<(), Error>(())
//! ```
//!
//! The base is run once, whatever the number of types: its logits are kept on disk, 16 bits each, as [`write_base`] makes
//! them, unless such a file is what is compared with.
//!
//! A machine that is shared, or grows warm, may be half as fast some minutes later. So speeds are measured last, in rounds:
//! in each all models have a turn, one after the other, some seconds long, in which the same threads also read the model's
//! file and do nothing else. What is told are medians over the rounds, and medians of what is compared within a round,
//! which a slow minute spoils for all alike. All files are on disk until then, as quantizing them anew in each round would
//! take longer than measuring them.

mod figure;
mod markdown;

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::fs;
use std::io;
use std::iter;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quantloom_kernels::Supported;
use serde::Serialize;
use tempfile::TempDir;

pub use figure::figure;

use crate::bench::llama_bench::{self, Test};
use crate::bench::read_bandwidth;
use crate::cache::CacheTypes;
use crate::gguf::{Formats, Gguf, Tensor, TensorType};
use crate::model::default_threads;
use crate::perplexity::{
    Base, BaseFile, Chunks, Divergence, OpenBase, Perplexity, compare, quantile, write_base,
};
use crate::quantize::{Plan, Planned, Recipe, SquaredError, plan, quantize_file, squared_error};
use crate::threads::pool;
use crate::{Error, Model};

/// What to compare, and by what.
#[derive(Clone, Debug)]
pub struct Options {
    /// The formats that files may hold.
    pub formats: Formats,
    /// What is made of the model, in the order of the report.
    pub recipes: Vec<Recipe>,
    /// The model that others are compared with, or the file of one's logits, which [`write_base`] or llama.cpp has written;
    /// without one the model that is quantized. Where it is logits, the speeds that others are compared with are those of
    /// the model that is quantized.
    pub base: Option<PathBuf>,
    /// What the models predict; without one nothing is said of perplexity and divergence.
    pub text: Option<Text>,
    /// Tokens of the prompt whose speed is measured; without a number 512, or the context where that is less.
    pub prompt: Option<usize>,
    /// Tokens that are generated in each round; without a number 32, or the context where that is less.
    pub generate: Option<usize>,
    /// In how many rounds both are measured; 1 at least.
    pub rounds: usize,
    /// The folder where files are made and stay; without one they are made among the system's temporary files, and removed
    /// in the end.
    pub keep: Option<PathBuf>,
    /// Threads; without a number one for each CPU.
    pub threads: Option<usize>,
}

/// A text, and what of it is scored, as for [`Chunks::of`].
#[derive(Clone, Debug)]
pub struct Text {
    /// The text; needs none where the base is a file of logits, which has one.
    pub text: Option<String>,
    /// Tokens of a chunk; without a number 512, or what the base's logits were written with.
    pub context: Option<usize>,
    /// The most chunks.
    pub chunks: usize,
}

impl Options {
    /// No recipes, no text, and five rounds.
    pub fn new(formats: Formats) -> Self {
        Self {
            formats,
            recipes: Vec::new(),
            base: None,
            text: None,
            prompt: None,
            generate: None,
            rounds: 5,
            keep: None,
            threads: None,
        }
    }
}

/// How far a comparison is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The recipe's name, or `base`.
    pub subject: &'a str,
    /// What is being done.
    pub step: Step,
    /// How much of that is done.
    pub done: usize,
    /// Of how much.
    pub total: usize,
}

/// What is done with each type, in this order; speeds come when all else is done with all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The file is made, in bytes of the model. Not of the base.
    Quantize,
    /// Its weights are compared with the model's, in bytes of the model. Not of the base.
    Weights,
    /// The text is run, in chunks.
    Text,
    /// Speeds are measured, in parts of turns: as much is to be done in the rounds of all types together.
    Speed,
}

impl Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Quantize => "quantizing",
            Self::Weights => "comparing weights",
            Self::Text => "running the text",
            Self::Speed => "measuring speed",
        })
    }
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The model that was quantized.
    pub model: PathBuf,
    /// The CPU's name.
    pub cpu: String,
    /// The instruction set of the kernels.
    pub isa: &'static str,
    /// Threads.
    pub threads: usize,
    /// In how many rounds speeds were measured.
    pub rounds: usize,
    /// What the others are compared with.
    pub base: BaseRow,
    /// What was made of the model, in the order of the recipes.
    pub types: Vec<Row>,
}

/// The base model.
#[derive(Clone, Debug, Serialize)]
pub struct BaseRow {
    /// Its file.
    pub path: PathBuf,
    /// The file of logits that took its place, where there is one. Its perplexity is then that of these.
    pub logits: Option<PathBuf>,
    /// The types of its matrices.
    pub matrices: Vec<Share>,
    /// How large it is.
    pub size: Size,
    /// How well it predicts the text, where there is one.
    pub perplexity: Option<Perplexity>,
    /// How fast it is.
    pub speed: Speed,
}

/// The model in another type.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The recipe's name.
    pub name: String,
    /// The file, where it was kept.
    pub path: Option<PathBuf>,
    /// The types of its matrices.
    pub matrices: Vec<Share>,
    /// How large it is.
    pub size: Size,
    /// How far its weights are from the model's.
    pub error: WeightError,
    /// How well it predicts the text and how far it is from the base, where there is a text.
    pub divergence: Option<Divergence>,
    /// How fast it is.
    pub speed: Speed,
}

/// Weights of one type. Matrices are tensors of two rows and more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Their type.
    #[serde(rename = "type")]
    pub ty: &'static str,
    /// The type that they should have had, where rows are no whole number of its blocks.
    pub instead_of: Option<&'static str>,
    /// How many matrices.
    pub matrices: usize,
    /// How many weights.
    pub weights: usize,
}

/// How large a file is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Size {
    /// Its bytes, metadata and vocabulary included.
    pub file_bytes: usize,
    /// The bits of those by the weights of all tensors.
    pub bits_per_weight: f64,
    /// The bits of the matrices by their weights.
    pub matrix_bits_per_weight: f64,
}

/// How far weights are from those that they were made from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WeightError {
    /// √(Σ (ŵ − w)² / Σ w²) over all matrices.
    pub relative_rms: f64,
    /// And of each.
    pub matrices: Vec<MatrixError>,
}

/// How far the weights of one matrix are from those that they were made from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MatrixError {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub ty: &'static str,
    /// √(Σ (ŵ − w)² / Σ w²)
    pub relative_rms: f64,
}

/// How fast a model is.
#[derive(Clone, Debug, Serialize)]
pub struct Speed {
    /// A prompt at once.
    pub prefill: Rate,
    /// Token by token.
    pub decode: Rate,
    /// Bytes of weights that are read for each token.
    pub bytes_per_token: u64,
    /// Bytes per second that the same threads read of the file when they do nothing else.
    pub read_bandwidth: Figure,
    /// Decoding by what it would be at the bandwidth of the same round.
    pub roofline_share: Figure,
}

/// Tokens per second.
#[derive(Clone, Debug, Serialize)]
pub struct Rate {
    /// How many tokens are timed in a round.
    pub tokens: usize,
    /// Their speed.
    pub tokens_per_second: Figure,
    /// That by the base's in the same round.
    pub by_base: Figure,
}

/// What was measured once a round.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The median.
    pub median: f64,
    /// The lower quartile.
    pub low: f64,
    /// The upper quartile.
    pub high: f64,
    /// All, in order.
    pub rounds: Vec<f64>,
}

impl Figure {
    /// Of one round at least.
    fn new(rounds: Vec<f64>) -> Self {
        let mut sorted = rounds.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let [low, median, high] = [0.25, 0.5, 0.75].map(|share| quantile(&sorted, share));
        Self { median, low, high, rounds }
    }
}

/// The name of the base in [`Progress`] and in tables.
const BASE: &str = "base";

/// A comparison that can be made, as far as that can be known before.
pub struct Comparison<'a> {
    options: &'a Options,
    source: Gguf,
    base: Model,
    /// The file of logits that was named.
    logits: Option<PathBuf>,
    isa: Supported,
    chunks: Option<Chunks>,
    prefill: Test,
    decode: Test,
    disk_bytes: u64,
    /// Where files are made that don't stay.
    folder: TempDir,
}

impl<'a> Comparison<'a> {
    /// Of what `options` make of the model in the file at `path`.
    ///
    /// # Errors
    /// There is no recipe, or one twice; one can't be followed, as [`plan`] says; a model can't be run, or not on so many
    /// tokens; there is no text, or it is too short, or the base's logits are of another one or of another vocabulary;
    /// there is a file already where one is to be kept; or the folder can't be written to.
    pub fn new(path: impl AsRef<Path>, options: &'a Options) -> Result<Self, Error> {
        let path = path.as_ref();
        let Options { formats, recipes, .. } = options;
        let mut names = BTreeSet::new();
        match recipes.iter().find(|recipe| !names.insert(recipe.name())) {
            Some(twice) => return Err(Error::Recipe(format!("{} is there twice", twice.name()))),
            None if recipes.is_empty() => return Err(Error::Recipe("no type is named".into())),
            None => {}
        }
        let isa = Supported::selected()?;
        let threads = options.threads.unwrap_or_else(default_threads);
        let source = Gguf::open_with(path, formats)?;
        let mut disk_bytes = 0;
        for recipe in recipes {
            disk_bytes += plan(&source, recipe)?.bytes_after() as u64;
        }
        let (base, logits) = match &options.base {
            None => (Gguf::open_with(path, formats)?, None),
            Some(base) => match OpenBase::open(base, formats)? {
                OpenBase::Model(model) => (*model, None),
                OpenBase::File(file) => (Gguf::open_with(path, formats)?, Some(file)),
            },
        };
        let base = Model::from_gguf(base, isa, threads)?;
        let limit = base.config().context;
        let tokens = |wanted: Option<usize>, default: usize| wanted.unwrap_or(default.min(limit));
        let prefill = Test { prompt: tokens(options.prompt, 512), generate: 0, depth: 0 };
        let decode = Test { prompt: 0, generate: tokens(options.generate, 32), depth: 0 };
        if let Some(test) = [prefill, decode].into_iter().find(|test| test.context() > limit) {
            return Err(Error::ContextTooLong { context: test.context(), limit });
        }
        let chunks = options.text.as_ref().map(|Text { text, context, chunks }| {
            let chunks = Chunks::of(&base, text.as_deref(), *context, *chunks, logits.as_ref())?;
            logits.as_ref().map_or(Ok(()), |file| file.check(&base, &chunks))?;
            Ok::<_, Error>(chunks)
        });
        let chunks = chunks.transpose()?;
        let logits = options.base.clone().filter(|_| logits.is_some());
        match (&chunks, &logits) {
            (Some(chunks), None) => disk_bytes += chunks.base_bytes(base.config().vocab),
            (None, Some(path)) => {
                let problem = "holds logits, which are of use for a text alone, and none is to be run";
                return Err(Error::Base { path: path.clone(), problem: problem.into() });
            }
            _ => {}
        }
        let comparison = Self {
            options,
            source,
            logits,
            isa,
            chunks,
            prefill,
            decode,
            disk_bytes,
            folder: folder(options.keep.as_deref())?,
            base,
        };
        for recipe in recipes {
            let path = comparison.path(recipe);
            if path.exists() {
                let problem = "is there already, and is not overwritten";
                let source = io::Error::new(io::ErrorKind::AlreadyExists, problem);
                return Err(Error::Io { path, source });
            }
        }
        Ok(comparison)
    }

    /// Bytes that files take while they are compared: all models that are made, and the base's logits.
    pub fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    /// Makes each of the types, and measures it. `progress` may end it all; whatever ends it, temporary files are removed.
    ///
    /// # Errors
    /// A file can't be written, models have different vocabularies or weights that are no numbers, or what `progress` says.
    pub fn run<E: From<Error>>(
        self,
        mut progress: impl FnMut(Progress<'_>) -> Result<(), E>,
    ) -> Result<Report, E> {
        let perplexity = self.base_perplexity(&mut progress)?;
        let logits = self.chunks.is_some().then(|| self.open_logits()).transpose()?;
        let made = self.recipes().map(|recipe| self.make(recipe, logits.as_ref(), &mut progress));
        let made = made.collect::<Result<Vec<_>, _>>()?;

        let names = self.recipes().map(Recipe::name);
        let others = names.zip(made.iter().map(|made| &made.model));
        let models: Vec<_> = iter::once((BASE, &self.base)).chain(others).collect();
        let mut speeds = self.speeds(&models, &mut progress)?.into_iter();

        let gguf = self.base.gguf();
        let of_logits = made[0].divergence.as_ref().map(|divergence| divergence.means.base());
        let base = BaseRow {
            path: gguf.path().into(),
            matrices: shares(matrices(gguf).map(|tensor| (tensor, None))),
            size: size(gguf),
            perplexity: perplexity.or(of_logits),
            logits: self.logits.clone(),
            speed: speeds.next().expect("the base's come first"),
        };
        let rows = self.recipes().zip(made).zip(speeds).map(|((recipe, made), speed)| {
            let Made { model, matrices, error, divergence } = made;
            let (path, size) = (model.gguf().path(), size(model.gguf()));
            let path = self.options.keep.is_some().then(|| path.to_owned());
            Row { name: recipe.name().into(), path, matrices, size, error, divergence, speed }
        });
        Ok(Report {
            model: self.source.path().into(),
            cpu: llama_bench::cpu_name(),
            isa: self.isa.isa().name(),
            threads: self.base.threads(),
            rounds: self.rounds(),
            base,
            types: rows.collect(),
        })
    }

    fn rounds(&self) -> usize {
        self.options.rounds.max(1)
    }

    fn recipes(&self) -> impl Iterator<Item = &'a Recipe> {
        self.options.recipes.iter()
    }

    /// Where the file goes that a recipe makes: `model.Q4_0.gguf`.
    fn path(&self, recipe: &Recipe) -> PathBuf {
        let model = self.source.path().file_stem().unwrap_or_default().to_string_lossy();
        let folder = self.options.keep.as_deref().unwrap_or(self.folder.path());
        folder.join(format!("{model}.{}.gguf", recipe.name()))
    }

    /// Where the base's logits are, or go.
    fn logits(&self) -> PathBuf {
        self.logits.clone().unwrap_or_else(|| self.folder.path().join("base.logits"))
    }

    /// Runs the base on the text, where there is one and no file has its logits.
    fn base_perplexity<E: From<Error>>(
        &self,
        progress: &mut impl FnMut(Progress<'_>) -> Result<(), E>,
    ) -> Result<Option<Perplexity>, E> {
        let (Some(chunks), None) = (&self.chunks, &self.logits) else { return Ok(None) };
        let mut told = told(BASE, Step::Text, chunks.len(), progress);
        told(0)?;
        let each = |_: &Perplexity| told(1);
        write_base(&self.base, chunks, CacheTypes::default(), self.logits(), each).map(Some)
    }

    /// Opens the base's logits. A file that was made for them loses its name: open, it lives on, and whatever ends the
    /// process leaves nothing of it. Where the system can't do that, it goes with the folder.
    fn open_logits(&self) -> Result<BaseFile, Error> {
        let path = self.logits();
        let file = BaseFile::open(&path)?;
        if self.logits.is_none() {
            let _ = fs::remove_file(path);
        }
        Ok(file)
    }

    fn make<E: From<Error>>(
        &self,
        recipe: &Recipe,
        logits: Option<&BaseFile>,
        progress: &mut impl FnMut(Progress<'_>) -> Result<(), E>,
    ) -> Result<Made, E> {
        let (name, path) = (recipe.name(), self.path(recipe));
        let plan = self.quantize(recipe, &path, progress)?;
        let gguf = Gguf::open_with(&path, &self.options.formats).map_err(Error::from)?;
        if self.options.keep.is_none() {
            // As the logits' file.
            let _ = fs::remove_file(&path);
        }
        let matrices = shares(matrices(&gguf).map(|tensor| {
            let planned = plan.tensors.iter().find(|planned| planned.tensor.name() == tensor.name());
            (tensor, planned.and_then(|Planned { instead_of, .. }| *instead_of))
        }));
        let error = self.error(name, &gguf, progress)?;
        let model = Model::from_gguf(gguf, self.isa, self.base.threads())?;
        let divergence = match self.chunks.as_ref().zip(logits) {
            None => None,
            Some((chunks, logits)) => {
                let mut told = told(name, Step::Text, chunks.len(), progress);
                told(0)?;
                let base = Base::File(logits.reopen()?);
                Some(compare(base, &model, chunks, CacheTypes::default(), |_| told(1))?)
            }
        };
        Ok(Made { model, matrices, error, divergence })
    }

    fn quantize<E: From<Error>>(
        &self,
        recipe: &Recipe,
        path: &Path,
        progress: &mut impl FnMut(Progress<'_>) -> Result<(), E>,
    ) -> Result<Plan, E> {
        let bytes = self.source.tensors().iter().map(|tensor| tensor.data().len()).sum();
        let mut told = told(recipe.name(), Step::Quantize, bytes, progress);
        told(0)?;
        let mut stopped = None;
        let threads = Some(self.base.threads());
        let plan = quantize_file(&self.source, path, recipe, threads, |bytes| match told(bytes) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                stopped = Some(error);
                ControlFlow::Break(())
            }
        });
        match stopped {
            Some(error) => Err(error),
            None => Ok(plan?),
        }
    }

    /// How far the weights in `gguf` are from the model's.
    fn error<E: From<Error>>(
        &self,
        name: &str,
        gguf: &Gguf,
        progress: &mut impl FnMut(Progress<'_>) -> Result<(), E>,
    ) -> Result<WeightError, E> {
        let pool = pool(self.base.threads())?;
        let total = matrices(&self.source).map(|tensor| tensor.data().len()).sum();
        let mut told = told(name, Step::Weights, total, progress);
        told(0)?;
        let mut sum = SquaredError::default();
        let mut errors = Vec::new();
        for quantized in matrices(gguf) {
            let original = self.source.require_tensor(quantized.name()).map_err(Error::from)?;
            let error = pool.install(|| squared_error(original, quantized, self.isa));
            sum = sum.plus(error);
            errors.push(MatrixError {
                name: quantized.name().into(),
                ty: quantized.ty().name(),
                relative_rms: error.relative_rms(),
            });
            told(original.data().len())?;
        }
        Ok(WeightError { relative_rms: sum.relative_rms(), matrices: errors })
    }

    /// How fast these are, of which the base is the first.
    fn speeds<E: From<Error>>(
        &self,
        models: &[(&str, &Model)],
        progress: &mut impl FnMut(Progress<'_>) -> Result<(), E>,
    ) -> Result<Vec<Speed>, E> {
        /// Reading the file in a turn, of which the median counts: the first may bring it back into the page cache.
        const PASSES: usize = 3;
        /// Reading, decoding, prefill.
        const PARTS: usize = 3;
        let total = self.rounds() * models.len() * PARTS;
        let mut turns = vec![Turns::default(); models.len()];
        let mut done = 0;
        for _ in 0..self.rounds() {
            for ((name, model), turns) in models.iter().zip(&mut turns) {
                let mut told = |more| {
                    done += more;
                    progress(Progress { subject: name, step: Step::Speed, done, total })
                };
                told(0)?;
                turns.bandwidth.push(read_bandwidth(model, PASSES)?);
                told(1)?;
                let mut rate = |test, warm_up| {
                    let (delay, types) = (Duration::ZERO, CacheTypes::default());
                    let options = llama_bench::Options { repetitions: 1, warm_up, delay, types };
                    let measured = llama_bench::measure(model, test, &options, || told(1))?;
                    Ok::<_, E>(measured.summary.avg_ts)
                };
                turns.decode.push(rate(self.decode, true)?);
                // Decoding has just read all weights, and has woken all threads.
                turns.prefill.push(rate(self.prefill, false)?);
            }
        }
        let base = turns[0].clone();
        let speeds = turns.into_iter().zip(models).map(|(turns, (_, model))| {
            let bytes_per_token = model.bytes_per_token();
            let shares = turns.decode.iter().zip(&turns.bandwidth);
            let shares = shares.map(|(rate, bandwidth)| rate * bytes_per_token as f64 / bandwidth).collect();
            Speed {
                prefill: Rate::new(self.prefill, turns.prefill, &base.prefill),
                decode: Rate::new(self.decode, turns.decode, &base.decode),
                bytes_per_token,
                read_bandwidth: Figure::new(turns.bandwidth),
                roofline_share: Figure::new(shares),
            }
        });
        Ok(speeds.collect())
    }
}

impl Rate {
    fn new(test: Test, rounds: Vec<f64>, base: &[f64]) -> Self {
        let by_base = rounds.iter().zip(base).map(|(rate, base)| rate / base).collect();
        Self { tokens: test.context(), tokens_per_second: Figure::new(rounds), by_base: Figure::new(by_base) }
    }
}

/// A type that is made, and of which all but the speed is known.
struct Made {
    model: Model,
    matrices: Vec<Share>,
    error: WeightError,
    divergence: Option<Divergence>,
}

/// What was measured in each round: bytes and tokens per second.
#[derive(Clone, Default)]
struct Turns {
    bandwidth: Vec<f64>,
    decode: Vec<f64>,
    prefill: Vec<f64>,
}

/// Tells `progress` of each further part that is done.
fn told<'a, E>(
    subject: &'a str,
    step: Step,
    total: usize,
    progress: &'a mut impl FnMut(Progress<'_>) -> Result<(), E>,
) -> impl FnMut(usize) -> Result<(), E> {
    let mut done = 0;
    move |more| {
        done += more;
        progress(Progress { subject, step, done, total })
    }
}

/// A temporary folder, in the one for files that stay or else among the system's temporary files.
fn folder(keep: Option<&Path>) -> Result<TempDir, Error> {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("quantloom-report");
    // The names in it can be guessed, and the folder for temporary files is everybody's.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    let (path, made) = match keep {
        Some(path) => (path.to_owned(), fs::create_dir_all(path).and_then(|()| builder.tempdir_in(path))),
        None => (std::env::temp_dir(), builder.tempdir()),
    };
    made.map_err(|source| Error::Io { path, source })
}

/// Tensors of two rows and more.
fn matrices(gguf: &Gguf) -> impl Iterator<Item = &Tensor> {
    gguf.tensors().iter().filter(|tensor| tensor.rows() > 1)
}

fn size(gguf: &Gguf) -> Size {
    let weights = |tensor: &Tensor| tensor.rows() * tensor.cols();
    let bits = |bytes: usize, weights: usize| 8.0 * bytes as f64 / weights as f64;
    Size {
        file_bytes: gguf.file_len(),
        bits_per_weight: bits(gguf.file_len(), gguf.tensors().iter().map(weights).sum()),
        matrix_bits_per_weight: bits(
            matrices(gguf).map(|tensor| tensor.data().len()).sum(),
            matrices(gguf).map(weights).sum(),
        ),
    }
}

/// Matrices by their types, those of the most weights first; with each comes the type that it should have had.
fn shares<'a>(matrices: impl Iterator<Item = (&'a Tensor, Option<TensorType>)>) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    for (tensor, instead_of) in matrices {
        let (ty, instead_of) = (tensor.ty().name(), instead_of.map(TensorType::name));
        let weights = tensor.rows() * tensor.cols();
        match shares.iter_mut().find(|share| (share.ty, share.instead_of) == (ty, instead_of)) {
            Some(share) => {
                share.matrices += 1;
                share.weights += weights;
            }
            None => shares.push(Share { ty, instead_of, matrices: 1, weights }),
        }
    }
    shares.sort_by_key(|share| std::cmp::Reverse(share.weights));
    shares
}
