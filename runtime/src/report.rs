//! A model in many types, compared: what `quantloom report` does.
//!
//! [`measure`] quantizes a model by one [`Recipe`] after the other, and says of each file how large it is, how far its
//! weights are from the model's, how well it predicts a text and how far it is from a base model, how fast it is, and
//! which share of the speed that memory allows that is. The [`Report`] is displayed as Markdown, serialized as JSON, and
//! drawn by [`figure()`].
//!
//! ```no_run
//! use quantloom::Error;
//! use quantloom::gguf::Formats;
//! use quantloom::quantize::Recipe;
//! use quantloom::report::{Options, Text, figure, measure};
//!
//! let formats = Formats::default();
//! let mut options = Options::new(formats.clone());
//! for name in ["Q4_0", "Q8_0"] {
//!     options.recipes.push(Recipe::new(name, &formats)?);
//! }
//! let text = std::fs::read_to_string("text.txt").expect("a text");
//! options.text = Some(Text { text, context: 512, chunks: 20 });
//! let report = measure("model.F16.gguf", &options, |_| Ok::<_, Error>(()))?;
//! println!("{report}");
//! std::fs::write("figure.svg", figure(&report)).expect("a place for it");
//! # Ok::<(), Error>(())
//! ```
//!
//! One quantized file is there at a time, and beside it the base's logits, 16 bits each, as
//! [`write_base`] makes them: the base is run once, whatever the number of types.

mod figure;
mod markdown;

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::fs;
use std::io;
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
use crate::perplexity::{Base, BaseFile, Chunks, Divergence, Perplexity, compare, write_base};
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
    /// The model that others are compared with; without one the model that is quantized.
    pub base: Option<PathBuf>,
    /// What the models predict; without one nothing is said of perplexity and divergence.
    pub text: Option<Text>,
    /// Tokens of the prompt whose speed is measured; without a number 512, or the context where that is less.
    pub prompt: Option<usize>,
    /// Tokens that are generated; without a number 128, or the context where that is less.
    pub generate: Option<usize>,
    /// How often both are measured; 1 at least.
    pub repetitions: usize,
    /// The folder where files are made and stay; without one they are made among the system's temporary files, and each
    /// is removed before the next is made.
    pub keep: Option<PathBuf>,
    /// Threads; without a number one for each CPU.
    pub threads: Option<usize>,
}

/// A text, and what of it is scored.
#[derive(Clone, Debug)]
pub struct Text {
    /// The text.
    pub text: String,
    /// Tokens of a chunk.
    pub context: usize,
    /// The most chunks.
    pub chunks: usize,
}

impl Options {
    /// No recipes, no text, and three repetitions.
    pub fn new(formats: Formats) -> Self {
        Self {
            formats,
            recipes: Vec::new(),
            base: None,
            text: None,
            prompt: None,
            generate: None,
            repetitions: 3,
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

/// What is done with each type, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The file is made, in bytes of the model. Not of the base.
    Quantize,
    /// Its weights are compared with the model's, in bytes of the model. Not of the base.
    Weights,
    /// The text is run, in chunks.
    Text,
    /// Speeds are measured, in repetitions.
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
    /// How often speeds were measured.
    pub repetitions: usize,
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
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Speed {
    /// A prompt at once.
    pub prefill: Rate,
    /// Token by token.
    pub decode: Rate,
    /// Bytes of weights that are read for each token.
    pub bytes_per_token: u64,
    /// Bytes per second that the same threads read of the file when they do nothing else.
    pub read_bandwidth: f64,
    /// Decoding by what it would be at that bandwidth.
    pub roofline_share: f64,
}

/// Tokens per second.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rate {
    /// How many tokens were timed.
    pub tokens: usize,
    /// The mean of the repetitions.
    pub tokens_per_second: f64,
    /// Their standard deviation.
    pub deviation: f64,
}

/// The name of the base in [`Progress`] and in tables.
const BASE: &str = "base";

/// Makes each of the types of the model in the file at `path`, and measures it. `progress` may end it all; whatever
/// ends it, temporary files are removed.
///
/// # Errors
/// There is no recipe, or one twice; one can't be followed, as [`plan`] says; a model can't be run, or not on so many
/// tokens; the text is too short; there is a file already where one is to be kept; a file can't be written; or what
/// `progress` says. All but the last two are found before anything is made.
pub fn measure<E: From<Error>>(
    path: impl AsRef<Path>,
    options: &Options,
    mut progress: impl FnMut(Progress<'_>) -> Result<(), E>,
) -> Result<Report, E> {
    let run = Run::new(path.as_ref(), options)?;
    let base = run.base(&mut progress)?;
    let types = run.recipes().map(|recipe| run.row(recipe, &mut progress)).collect::<Result<_, E>>()?;
    let threads = run.base.threads();
    Ok(Report {
        model: path.as_ref().into(),
        cpu: llama_bench::cpu_name(),
        isa: run.isa.isa().name(),
        threads,
        repetitions: options.repetitions,
        base,
        types,
    })
}

/// What all types need.
struct Run<'a> {
    options: &'a Options,
    source: Gguf,
    base: Model,
    isa: Supported,
    chunks: Option<Chunks>,
    prefill: Test,
    decode: Test,
    /// Where files are made that don't stay.
    folder: TempDir,
}

impl<'a> Run<'a> {
    /// Finds what is wrong, as far as that can be known.
    fn new(path: &Path, options: &'a Options) -> Result<Self, Error> {
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
        for recipe in recipes {
            plan(&source, recipe)?;
        }
        let base = Gguf::open_with(options.base.as_deref().unwrap_or(path), formats)?;
        let base = Model::from_gguf(base, isa, threads)?;
        let limit = base.config().context;
        let tokens = |wanted: Option<usize>, default: usize| wanted.unwrap_or(default.min(limit));
        let prefill = Test { prompt: tokens(options.prompt, 512), generate: 0, depth: 0 };
        let decode = Test { prompt: 0, generate: tokens(options.generate, 128), depth: 0 };
        if let Some(test) = [prefill, decode].into_iter().find(|test| test.context() > limit) {
            return Err(Error::ContextTooLong { context: test.context(), limit });
        }
        let chunks = options.text.as_ref();
        let chunks = chunks.map(|text| Chunks::of_text(&base, &text.text, text.context, text.chunks));
        let run = Self {
            options,
            source,
            isa,
            chunks: chunks.transpose()?,
            prefill,
            decode,
            folder: folder(options.keep.as_deref())?,
            base,
        };
        for recipe in recipes {
            let path = run.path(recipe);
            if path.exists() {
                let problem = "is there already, and is not overwritten";
                let source = io::Error::new(io::ErrorKind::AlreadyExists, problem);
                return Err(Error::Io { path, source });
            }
        }
        Ok(run)
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

    /// Where the base's logits go.
    fn logits(&self) -> PathBuf {
        self.folder.path().join("base.logits")
    }

    fn base<E: From<Error>>(
        &self,
        progress: &mut impl FnMut(Progress<'_>) -> Result<(), E>,
    ) -> Result<BaseRow, E> {
        let gguf = self.base.gguf();
        let perplexity = match &self.chunks {
            None => None,
            Some(chunks) => {
                let mut told = told(BASE, Step::Text, chunks.len(), progress);
                told(0)?;
                let each = |_: &Perplexity| told(1);
                Some(write_base(&self.base, chunks, CacheTypes::default(), self.logits(), each)?)
            }
        };
        Ok(BaseRow {
            path: gguf.path().into(),
            matrices: shares(matrices(gguf).map(|tensor| (tensor, None))),
            size: size(gguf),
            perplexity,
            speed: self.speed(BASE, &self.base, progress)?,
        })
    }

    fn row<E: From<Error>>(
        &self,
        recipe: &Recipe,
        progress: &mut impl FnMut(Progress<'_>) -> Result<(), E>,
    ) -> Result<Row, E> {
        let (name, path) = (recipe.name(), self.path(recipe));
        let plan = self.quantize(recipe, &path, progress)?;
        let gguf = Gguf::open_with(&path, &self.options.formats).map_err(Error::from)?;
        let shares = shares(matrices(&gguf).map(|tensor| {
            let planned = plan.tensors.iter().find(|planned| planned.tensor.name() == tensor.name());
            (tensor, planned.and_then(|Planned { instead_of, .. }| *instead_of))
        }));
        let size = size(&gguf);
        let error = self.error(name, &gguf, progress)?;
        let model = Model::from_gguf(gguf, self.isa, self.base.threads())?;
        let divergence = match &self.chunks {
            None => None,
            Some(chunks) => {
                let mut told = told(name, Step::Text, chunks.len(), progress);
                told(0)?;
                let base = Base::File(BaseFile::open(self.logits())?);
                Some(compare(base, &model, chunks, CacheTypes::default(), |_| told(1))?)
            }
        };
        let speed = self.speed(name, &model, progress)?;
        // Before its file goes.
        drop(model);
        if self.options.keep.is_none() {
            fs::remove_file(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        }
        let path = self.options.keep.is_some().then_some(path);
        Ok(Row { name: name.into(), path, matrices: shares, size, error, divergence, speed })
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

    fn speed<E: From<Error>>(
        &self,
        name: &str,
        model: &Model,
        progress: &mut impl FnMut(Progress<'_>) -> Result<(), E>,
    ) -> Result<Speed, E> {
        /// Of reading the file, as `quantloom bench` has it.
        const ROUNDS: usize = 9;
        let repetitions = self.options.repetitions.max(1);
        let mut told = told(name, Step::Speed, 2 * repetitions, progress);
        told(0)?;
        let (delay, types) = (Duration::ZERO, CacheTypes::default());
        let options = llama_bench::Options { repetitions, warm_up: true, delay, types };
        let mut rate = |test: Test| {
            let measured = llama_bench::measure(model, test, &options, || told(1))?;
            let summary = measured.summary;
            let tokens = test.context();
            Ok::<_, E>(Rate { tokens, tokens_per_second: summary.avg_ts, deviation: summary.stddev_ts })
        };
        let prefill = rate(self.prefill)?;
        let decode = rate(self.decode)?;
        let bytes_per_token = model.bytes_per_token();
        let read_bandwidth = read_bandwidth(model, ROUNDS)?;
        let roofline_share = decode.tokens_per_second * bytes_per_token as f64 / read_bandwidth;
        Ok(Speed { prefill, decode, bytes_per_token, read_bandwidth, roofline_share })
    }
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
