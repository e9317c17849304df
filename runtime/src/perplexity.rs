//! How well a model predicts a text, and how far it is from another model: what `quantloom perplexity` does.
//!
//! Definitions are llama.cpp's, so that figures can be compared. A text is cut into [`Chunks`] of as many tokens as the
//! context, the first of each replaced by BOS where the model asks for one. A chunk is run by itself, and what comes in
//! its second half is scored: every token there has half a context before it at least.
//!
//! * [`evaluate`]: [`Perplexity`], e to the mean of −ln p(token).
//! * [`compare`]: [`Divergence`] from a base model, of which the one here is a quantized version: the mean of
//!   Σ p ln (p / q) over the vocabulary, how often both find the same token the likeliest, and how far apart they are in
//!   the probability of the text's own. The base is a [`Model`], or the file of its logits that [`write_base`] made.
//!
//! ```no_run
//! use quantloom::perplexity::{Base, Chunks, compare, evaluate};
//! use quantloom::{CacheTypes, Error, Model};
//!
//! let (base, model) = (Model::load("model.F16.gguf", None)?, Model::load("model.Q4_0.gguf", None)?);
//! let text = std::fs::read_to_string("text.txt").expect("a text");
//! let chunks = Chunks::of_text(&model, &text, 512, usize::MAX)?;
//! let figures = evaluate(&model, &chunks, CacheTypes::default(), |_| Ok::<_, Error>(()))?;
//! println!("{:.4} ± {:.4}", figures.perplexity.value, figures.perplexity.error);
//! let figures = compare(Base::Model(&base), &model, &chunks, CacheTypes::default(), |_| Ok::<_, Error>(()))?;
//! println!("{:.6} {:.1} %", figures.means.kl_divergence.value, 100.0 * figures.means.same_top.value);
//! # Ok::<(), Error>(())
//! ```
//!
//! Logits are kept of one batch at a time, 528 tokens at the most: with a context of 512 and SmolLM2's vocabulary
//! of 49,152 that is 50 MB for each model, with any context 104 MB.

mod base;
mod statistics;

use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

pub use base::{BaseFile, check_base_target};
use base::{encode, row_bytes};
pub(crate) use statistics::quantile;
use statistics::{Comparison, Sums};
pub use statistics::{Divergence, Estimate, Means, Percentiles, Perplexity};

use crate::alloc::zeros;
use crate::cache::{CacheTypes, KvCache};
use crate::check::are_finite;
use crate::file::open_regular;
use crate::gguf::{self, Formats, Gguf};
use crate::imatrix::Collector;
use crate::model::BATCH;
use crate::ops::softmax::{Softmax, divergence, softmax};
use crate::scratch::Scratch;
use crate::tokenizer::EncodeOptions;
use crate::{Error, Model};

/// In a smaller context nothing is scored.
const LEAST_CONTEXT: usize = 3;

/// Tokens of a chunk where nothing is said, as in llama.cpp.
pub const DEFAULT_CONTEXT: usize = 512;

/// A text, cut into pieces of as many tokens as the context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunks {
    tokens: Vec<u32>,
    context: usize,
}

impl Chunks {
    /// The first chunks of `text`, `limit` at the most, in the tokens of `model`. What is left at the end is no whole
    /// chunk and is dropped. Special tokens are not looked for, and EOS is not added.
    ///
    /// # Errors
    /// More context than the model was trained for, or so little that nothing is scored; or a text of less than two
    /// chunks.
    pub fn of_text(model: &Model, text: &str, context: usize, limit: usize) -> Result<Self, Error> {
        let trained = model.config().context;
        if context > trained {
            return Err(Error::ContextTooLong { context, limit: trained });
        }
        if context < LEAST_CONTEXT {
            return Err(Error::NothingScored { context, least: LEAST_CONTEXT });
        }
        let options = EncodeOptions { add_bos: true, add_eos: false, parse_special: false };
        let mut tokens = model.tokenizer().encode(text, options);
        let count = tokens.len();
        if count < 2 * context {
            return Err(Error::TextTooShort { tokens: count, context });
        }
        tokens.truncate((count / context).min(limit) * context);
        Ok(Self { tokens, context })
    }

    /// What is to be scored by `model`, `limit` chunks at the most: [`text`](Self::of_text) in chunks of `context` tokens,
    /// 512 where nothing is said; where it is compared with a file of a base's logits, only what that was written for, which
    /// then needs no text.
    ///
    /// # Errors
    /// There is no text, nor a base that has one; the base's chunks are of another length; or as for
    /// [`of_text`](Self::of_text).
    pub fn of(
        model: &Model,
        text: Option<&str>,
        context: Option<usize>,
        limit: usize,
        base: Option<&BaseFile>,
    ) -> Result<Self, Error> {
        let Some(base) = base else {
            return Self::of_text(
                model,
                text.ok_or(Error::NoText)?,
                context.unwrap_or(DEFAULT_CONTEXT),
                limit,
            );
        };
        let written = base.chunks();
        match (context, text) {
            (Some(context), _) if context != written.context => Err(base.other_context(context)),
            (_, Some(text)) => Self::of_text(model, text, written.context, limit.min(written.len())),
            (_, None) => {
                let mut chunks = written.clone();
                chunks.truncate(limit);
                Ok(chunks)
            }
        }
    }

    /// Leaves the first `limit` chunks, or all where there are no more.
    pub fn truncate(&mut self, limit: usize) {
        self.tokens.truncate(limit.saturating_mul(self.context));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tokens.len() / self.context
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Tokens of each.
    pub fn context(&self) -> usize {
        self.context
    }

    /// The tokens of all, as the text has them: without the BOS that each begins with when it is run.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Positions of a chunk whose logits are scored, each by the token that follows: the last has none.
    pub fn scored(&self) -> Range<usize> {
        self.context / 2..self.context - 1
    }

    fn iter(&self) -> impl Iterator<Item = &[u32]> {
        self.tokens.chunks_exact(self.context)
    }

    /// The batches that the first `len` positions of a chunk are run in, and which of them are scored.
    fn batches(&self, len: usize) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + use<> {
        let scored = self.scored();
        (0..len).step_by(BATCH).map(move |start| {
            let end = len.min(start + BATCH);
            (start..end, start.max(scored.start).min(end)..end.min(scored.end))
        })
    }

    /// The most positions that a batch scores.
    fn scored_at_once(&self) -> usize {
        self.batches(self.context).map(|(_, scored)| scored.len()).max().unwrap_or(0)
    }
}

/// What a model is compared with.
#[derive(Debug)]
pub enum Base<'a> {
    /// A model with the same vocabulary.
    Model(&'a Model),
    /// The logits of one.
    File(BaseFile),
}

/// A file to compare with.
#[derive(Debug)]
pub enum OpenBase {
    /// Of a model with the same vocabulary.
    Model(Box<Gguf>),
    /// Of the logits of one.
    File(BaseFile),
}

impl OpenBase {
    /// Opens the file at `path`, whichever it is.
    ///
    /// # Errors
    /// It is neither, not there, or damaged.
    pub fn open(path: impl AsRef<Path>, formats: &Formats) -> Result<Self, Error> {
        Self::open_with(path, |path| Gguf::open_with(path, formats))
    }

    /// [`open`](Self::open), where `open` opens a model's file.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(
        path: impl AsRef<Path>,
        open: impl FnOnce(&Path) -> gguf::Result<Gguf>,
    ) -> Result<Self, Error> {
        let path = path.as_ref();
        let mut magic = [0; 4];
        match open_regular(path).and_then(|mut file| file.read(&mut magic)) {
            Ok(_) if magic == *b"GGUF" => Ok(Self::Model(Box::new(open(path)?))),
            Ok(_) => Ok(Self::File(BaseFile::open(path)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let problem = "there is no such file: name the base model, or write its logits there, by `quantloom \
                               perplexity` with --kl-divergence-base and without --kl-divergence";
                Err(Error::Base { path: path.into(), problem: problem.into() })
            }
            Err(source) => Err(Error::Io { path: path.into(), source }),
        }
    }
}

/// Runs `chunks` through `model`, whose KV cache is of these types. `progress` is told the figures so far after each
/// chunk, and may end it all.
///
/// # Errors
/// The context is longer than the model was trained for, logits are no numbers, or what `progress` says.
pub fn evaluate<E: From<Error>>(
    model: &Model,
    chunks: &Chunks,
    types: CacheTypes,
    progress: impl FnMut(&Perplexity) -> Result<(), E>,
) -> Result<Perplexity, E> {
    score(&mut Runner::new(model, chunks, types)?, chunks, |_| Ok(()), progress)
}

/// As [`evaluate`], with a KV cache in f16, and shows `collector` what matrices are multiplied with for all tokens of
/// the chunks.
pub(crate) fn evaluate_collecting<E: From<Error>>(
    model: &Model,
    chunks: &Chunks,
    collector: Collector,
    progress: impl FnMut(&Perplexity) -> Result<(), E>,
) -> Result<(Perplexity, Collector), E> {
    let mut runner = Runner::collecting(model, chunks, collector)?;
    let figures = score(&mut runner, chunks, |_| Ok(()), progress)?;
    Ok((figures, runner.scratch.into_collector().expect("it was given one")))
}

/// As [`evaluate`], and writes the logits to `path`, 16 bits each, for a later [`compare`]: in llama.cpp's format, about
/// twice the vocabulary's length in bytes for each scored token. The file appears when it is whole.
///
/// # Errors
/// As for [`evaluate`]; `path` can't be written, or is a file of something else.
pub fn write_base<E: From<Error>>(
    model: &Model,
    chunks: &Chunks,
    types: CacheTypes,
    path: impl AsRef<Path>,
    progress: impl FnMut(&Perplexity) -> Result<(), E>,
) -> Result<Perplexity, E> {
    let vocab = model.config().vocab;
    let mut writer = base::Writer::new(path.as_ref(), chunks, vocab)?;
    let width = row_bytes(vocab);
    let mut rows = zeros("rows of logits", chunks.scored_at_once().saturating_mul(width))?;
    let write = |logits: &[f32]| {
        let rows = &mut rows[..logits.len() / vocab * width];
        model.team().for_tiles(rows, width, (1, width), |position, _, mut row| {
            let logits = &logits[position.start * vocab..][..vocab];
            encode(logits, &softmax(model.isa(), logits), row.row(0));
        });
        writer.write(rows)
    };
    let figures = score(&mut Runner::new(model, chunks, types)?, chunks, write, progress)?;
    writer.finish()?;
    Ok(figures)
}

/// Runs `chunks`, giving `also` the logits that are scored.
fn score<E: From<Error>>(
    runner: &mut Runner<'_>,
    chunks: &Chunks,
    mut also: impl FnMut(&[f32]) -> Result<(), Error>,
    mut progress: impl FnMut(&Perplexity) -> Result<(), E>,
) -> Result<Perplexity, E> {
    let model = runner.model;
    let vocab = model.config().vocab;
    let mut nlls = vec![0.0; chunks.scored_at_once()];
    let mut sums = Sums::default();
    for (i, chunk) in chunks.iter().enumerate() {
        for (batch, scored) in chunks.batches(runner.len) {
            let followers = &chunk[scored.start + 1..scored.end + 1];
            let nlls = &mut nlls[..scored.len()];
            let logits = runner.run(chunk, batch, scored)?;
            model.team().for_tiles(nlls, 1, (1, 1), |position, _, mut nll| {
                let logits = &logits[position.start * vocab..][..vocab];
                let token = followers[position.start] as usize;
                nll.row(0)[0] = softmax(model.isa(), logits).log_sum - f64::from(logits[token]);
            });
            nlls.iter().for_each(|&nll| sums.add(nll));
            also(logits)?;
        }
        progress(&sums.perplexity(chunks, i + 1))?;
    }
    Ok(sums.perplexity(chunks, chunks.len()))
}

/// Runs `chunks` through `model`, whose KV cache is of these types, and compares it with `base`, which has its own in
/// f16. `progress` is told the figures so far after each chunk, and may end it all.
///
/// # Errors
/// As for [`evaluate`]; the base has another vocabulary, its file is for other chunks, or can't be read.
pub fn compare<E: From<Error>>(
    base: Base<'_>,
    model: &Model,
    chunks: &Chunks,
    types: CacheTypes,
    mut progress: impl FnMut(&Means) -> Result<(), E>,
) -> Result<Divergence, E> {
    let mut runner = Runner::new(model, chunks, types)?;
    let mut source = Source::new(base, model, chunks)?;
    let mut scores = vec![Comparison::default(); chunks.scored_at_once()];
    let mut comparisons = statistics::Comparisons::default();
    for (i, chunk) in chunks.iter().enumerate() {
        for (batch, scored) in chunks.batches(runner.len) {
            let followers = &chunk[scored.start + 1..scored.end + 1];
            let scores = &mut scores[..scored.len()];
            let rows = source.run(chunk, batch.clone(), scored.clone())?;
            let logits = runner.run(chunk, batch, scored)?;
            model.team().for_tiles(scores, 1, (1, 1), |position, _, mut score| {
                score.row(0)[0] = rows.compare(model, logits, position.start, followers[position.start]);
            });
            // Not by the model, whose logits are finite.
            if scores.iter().any(Comparison::is_nan) {
                return Err(source.not_numbers().into());
            }
            comparisons.extend(scores);
        }
        progress(&comparisons.means(chunks, i + 1))?;
    }
    Ok(comparisons.divergence(chunks))
}

/// A model, and what it runs chunks with.
struct Runner<'m> {
    model: &'m Model,
    /// The tokens of each chunk that are run.
    len: usize,
    /// Whether the output matrix sees every token, and not just those that are scored.
    every_logit: bool,
    bos: Option<u32>,
    cache: KvCache,
    scratch: Scratch,
    tokens: Vec<u32>,
}

impl<'m> Runner<'m> {
    /// For what is scored, and what comes before it.
    fn new(model: &'m Model, chunks: &Chunks, types: CacheTypes) -> Result<Self, Error> {
        Self::with(model, chunks, types, chunks.scored().end, false)
    }

    /// For all tokens, and a collector.
    fn collecting(model: &'m Model, chunks: &Chunks, collector: Collector) -> Result<Self, Error> {
        let every_logit = collector.wants(model.output_name());
        let mut runner = Self::with(model, chunks, CacheTypes::default(), chunks.context(), every_logit)?;
        runner.scratch.collect(collector);
        Ok(runner)
    }

    fn with(
        model: &'m Model,
        chunks: &Chunks,
        types: CacheTypes,
        len: usize,
        every_logit: bool,
    ) -> Result<Self, Error> {
        model.check_tokens(chunks.tokens())?;
        let cache = model.create_kv_cache_with(chunks.context(), types)?;
        let batch = BATCH.min(len);
        let logits =
            chunks.batches(len).map(|(batch, scored)| batch.end - first_logit(&batch, &scored, every_logit));
        Ok(Self {
            model,
            len,
            every_logit,
            bos: model.tokenizer().added_bos(),
            cache,
            scratch: Scratch::new(model.config(), batch, logits.max().unwrap_or(0))?,
            tokens: Vec::with_capacity(batch),
        })
    }

    /// Runs the next batch of `chunk`. The logits of the positions `scored`, which are finite.
    fn run(&mut self, chunk: &[u32], batch: Range<usize>, scored: Range<usize>) -> Result<&[f32], Error> {
        self.tokens.clear();
        self.tokens.extend_from_slice(&chunk[batch.clone()]);
        if batch.start == 0 {
            self.cache.clear();
            self.tokens[0] = self.bos.unwrap_or(self.tokens[0]);
        }
        let first = first_logit(&batch, &scored, self.every_logit);
        self.model.pass(&self.tokens, &mut self.cache, &mut self.scratch, batch.end - first);
        let vocab = self.model.config().vocab;
        let logits = &self.scratch.logits()[(scored.start - first) * vocab..][..scored.len() * vocab];
        if !are_finite(logits) || !self.cache.is_faithful() {
            return Err(self.model.explain_logits());
        }
        Ok(logits)
    }
}

/// The first position of a batch that has its logits computed, as all after it do: the end of one that has none.
fn first_logit(batch: &Range<usize>, scored: &Range<usize>, every_logit: bool) -> usize {
    if every_logit { batch.start } else { scored.start }
}

/// Where the base's probabilities come from.
enum Source<'a> {
    Runner(Box<Runner<'a>>),
    File(BaseFile),
}

impl<'a> Source<'a> {
    fn new(base: Base<'a>, model: &Model, chunks: &Chunks) -> Result<Self, Error> {
        Ok(match base {
            Base::Model(base) => {
                check_vocabulary(base, model)?;
                Self::Runner(Box::new(Runner::new(base, chunks, CacheTypes::default())?))
            }
            Base::File(file) => {
                file.check(model, chunks)?;
                Self::File(file)
            }
        })
    }

    fn run(&mut self, chunk: &[u32], batch: Range<usize>, scored: Range<usize>) -> Result<Rows<'_>, Error> {
        match self {
            Self::Runner(runner) => Ok(Rows::Logits(runner.run(chunk, batch, scored)?)),
            Self::File(file) => Ok(Rows::Codes(file.read(scored.len())?)),
        }
    }

    fn not_numbers(&self) -> Error {
        match self {
            Self::Runner(runner) => runner.model.explain_logits(),
            Self::File(file) => file.not_numbers(),
        }
    }
}

/// What a base says of each scored position.
enum Rows<'a> {
    /// `[positions, vocab]`
    Logits(&'a [f32]),
    /// `[positions, row_bytes(vocab)]`
    Codes(&'a [u8]),
}

impl Rows<'_> {
    /// Compares `[positions, vocab]` logits of `model` with the base's at one position, which `token` follows.
    fn compare(&self, model: &Model, logits: &[f32], position: usize, token: u32) -> Comparison {
        let vocab = model.config().vocab;
        let logits = &logits[position * vocab..][..vocab];
        match self {
            Self::Logits(base) => {
                let base = &base[position * vocab..][..vocab];
                let log_sum = softmax(model.isa(), base).log_sum as f32;
                let log_p = |start: usize, out: &mut [f32]| {
                    for (out, logit) in out.iter_mut().zip(&base[start..]) {
                        *out = logit - log_sum;
                    }
                };
                compare_row(model, log_p, logits, token)
            }
            Self::Codes(rows) => {
                let width = row_bytes(vocab);
                let row = base::Row::new(&rows[position * width..][..width]);
                compare_row(model, |start, out: &mut [f32]| row.decode(start, out), logits, token)
            }
        }
    }
}

/// In f32, as both are: of a model and itself nothing is left.
fn compare_row(model: &Model, log_p: impl Fn(usize, &mut [f32]), logits: &[f32], token: u32) -> Comparison {
    let Softmax { top, log_sum, .. } = softmax(model.isa(), logits);
    let log_sum = log_sum as f32;
    let mut of_token = [0.0];
    log_p(token as usize, &mut of_token);
    let (divergence, base_top) = divergence(model.isa(), log_p, logits, log_sum);
    Comparison {
        nll: log_sum - logits[token as usize],
        base_nll: -of_token[0],
        divergence: divergence as f32,
        is_top_same: top == base_top,
    }
}

/// Whether both have the same tokens.
fn check_vocabulary(base: &Model, model: &Model) -> Result<(), Error> {
    let fail = |problem: String| {
        let what = format!("{problem}; only models with one vocabulary can be compared");
        Err(Error::Base { path: base.gguf().path().into(), problem: what })
    };
    let path = model.gguf().path().display();
    let (ours, theirs) = (model.config().vocab, base.config().vocab);
    if ours != theirs {
        return fail(format!("has {theirs} tokens, and {path} has {ours}"));
    }
    let text = |model: &Model, id: u32| model.tokenizer().token_text(id).unwrap_or_default().to_owned();
    match (0..ours as u32).find(|&id| text(base, id) != text(model, id)) {
        Some(id) => {
            fail(format!("token {id} is {:?}, and in {path} it is {:?}", text(base, id), text(model, id)))
        }
        None => Ok(()),
    }
}
