//! A model: weights in the mapped file, and the ways to run tokens through it.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::iter;
use std::path::Path;
use std::sync::Arc;
use std::thread::available_parallelism;

use quantloom_kernels::Supported;

use crate::alloc::room;
use crate::cache::{CacheTypes, KvCache};
use crate::check::{NotFinite, are_finite, explain};
use crate::config::refuse_unbuilt;
use crate::forward;
use crate::gguf::{Gguf, Tensor};
use crate::matrix::Matrix;
use crate::profile::{Phase, Work};
use crate::scratch::Scratch;
use crate::threads::{MAX_THREADS, Team};
use crate::tokenizer::Tokenizer;
use crate::{Config, Error};

/// Tokens of a prompt that go through the model together: 44 whole tiles of 12, so many that expanding weights to panels
/// is a small part, and so few that their activations take no more than some 40 MB with TinyLlama's shape. Up to 512, as
/// much as people ask for at once and benchmarks do, it is one batch; longer powers of two fall into nearly equal parts.
pub(crate) const BATCH: usize = 528;
/// Fewer where all logits are kept, which are as many as the vocabulary for each token.
pub(crate) const BATCH_OF_LOGITS: usize = 48;

/// A Llama model on its mapped file, with the threads that run it.
///
/// As a program to run: `cargo run --release --example generate`.
///
/// ```no_run
/// use quantloom::Model;
/// use quantloom::tokenizer::{EncodeOptions, SpecialTokens};
///
/// let model = Model::load("model.gguf", None)?;
/// let mut cache = model.create_kv_cache()?;
/// let mut scratch = model.create_scratch()?;
///
/// // The prompt, any number of tokens at once.
/// let options = EncodeOptions { add_bos: true, add_eos: true, parse_special: false };
/// let prompt = model.tokenizer().encode("The capital of France is", options);
/// let logits = model.forward_with_cache(&prompt, &mut cache)?;
/// let mut token = quantloom::sample::greedy(&logits);
///
/// // Then one token after the other, allocating nothing.
/// let mut decoder = model.tokenizer().decoder(SpecialTokens::Skip);
/// for _ in 0..16 {
///     print!("{}", decoder.push(token));
///     let logits = model.forward_single_with_scratch(token, &mut cache, &mut scratch)?;
///     token = quantloom::sample::greedy(logits);
/// }
/// # Ok::<(), quantloom::Error>(())
/// ```
pub struct Model {
    gguf: Arc<Gguf>,
    tokenizer: Arc<Tokenizer>,
    weights: Arc<Weights>,
    team: Team,
    isa: Supported,
}

/// The weights and the shape they have.
pub(crate) struct Weights {
    pub config: Config,
    /// `[vocab, embedding]`
    pub token_embedding: Matrix,
    pub layers: Vec<Layer>,
    /// `[embedding]`
    pub output_norm: Vec<f32>,
    /// `[vocab, embedding]`; `None` where the token embedding serves as output matrix too.
    output: Option<Matrix>,
}

/// The weights of one layer. `e` stands for the embedding length.
pub(crate) struct Layer {
    /// `[e]`
    pub attention_norm: Vec<f32>,
    /// `[heads * head_dim, e]`
    pub q: Matrix,
    /// `[kv_heads * head_dim, e]`
    pub k: Matrix,
    /// `[kv_heads * head_dim, e]`
    pub v: Matrix,
    /// `[e, heads * head_dim]`
    pub attention_output: Matrix,
    /// `[e]`
    pub feed_forward_norm: Vec<f32>,
    /// `[feed_forward, e]`
    pub gate: Matrix,
    /// `[feed_forward, e]`
    pub up: Matrix,
    /// `[e, feed_forward]`
    pub down: Matrix,
}

/// One for each CPU.
pub(crate) fn default_threads() -> usize {
    available_parallelism().map_or(1, |n| n.get()).min(MAX_THREADS)
}

impl Model {
    /// Maps the GGUF file at `path` and checks that it is a model this build runs. Nothing is copied or
    /// converted but the norms; weights are read from the mapped file.
    ///
    /// `threads`, the caller's among them: `None` for one per CPU. The instruction set is [`Supported::selected`].
    ///
    /// # Errors
    /// The file can't be read or is damaged, asks for something that is not built, or its tensors don't
    /// have the shapes that its metadata promises.
    pub fn load(path: impl AsRef<Path>, threads: Option<usize>) -> Result<Self, Error> {
        let threads = threads.unwrap_or_else(default_threads);
        Self::from_gguf(Gguf::open(path)?, Supported::selected()?, threads)
    }

    /// As [`load`](Self::load), from a file that is open already, perhaps with
    /// [formats from outside](Gguf::open_with), and on an instruction set of choice.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn from_gguf(gguf: Gguf, isa: Supported, threads: usize) -> Result<Self, Error> {
        // First: another architecture has another tokenizer, or none, and that would be its second fault.
        refuse_unbuilt(&gguf)?;
        let tokenizer = Tokenizer::from_metadata(gguf.metadata())?;
        let config = Config::read(&gguf, tokenizer.vocab_size())?;
        let weights = Weights::find(&gguf, config, isa)?;
        Ok(Self {
            gguf: Arc::new(gguf),
            tokenizer: Arc::new(tokenizer),
            team: Team::new(threads, || forward::prepare(&weights.config))?,
            weights: Arc::new(weights),
            isa,
        })
    }

    /// The same model, weights shared, on another number of threads.
    ///
    /// # Errors
    /// The threads can't be started.
    pub fn with_threads(&self, threads: usize) -> Result<Self, Error> {
        Ok(Self {
            gguf: Arc::clone(&self.gguf),
            tokenizer: Arc::clone(&self.tokenizer),
            weights: Arc::clone(&self.weights),
            team: Team::new(threads, || forward::prepare(self.config()))?,
            isa: self.isa,
        })
    }

    /// The shape.
    pub fn config(&self) -> &Config {
        &self.weights.config
    }

    /// The file.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// The tokenizer of the file's vocabulary.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Threads that run it, the caller's among them.
    pub fn threads(&self) -> usize {
        self.team.threads()
    }

    /// The threads, the caller's among them.
    pub(crate) fn team(&self) -> &Team {
        &self.team
    }

    /// The name of the matrix that gives logits, which may be the token embedding's.
    pub(crate) fn output_name(&self) -> &str {
        self.weights.output().name()
    }

    /// The instruction set of its kernels.
    pub fn isa(&self) -> Supported {
        self.isa
    }

    /// Bytes of weights that one token reads: every matrix and norm, and of a token embedding that isn't
    /// the output matrix too, one row.
    pub fn bytes_per_token(&self) -> u64 {
        self.weights.bytes_per_token()
    }

    /// A cache for the model's whole context, in f16.
    ///
    /// # Errors
    /// The memory can't be reserved.
    pub fn create_kv_cache(&self) -> Result<KvCache, Error> {
        self.create_kv_cache_for(self.config().context)
    }

    /// A cache for `context` tokens, in f16.
    ///
    /// # Errors
    /// More tokens than the model was trained for, or the memory can't be reserved.
    pub fn create_kv_cache_for(&self, context: usize) -> Result<KvCache, Error> {
        self.create_kv_cache_with(context, CacheTypes::default())
    }

    /// A cache for `context` tokens whose keys and values are of these types.
    ///
    /// ```no_run
    /// # let model = quantloom::Model::load("model.gguf", None)?;
    /// use quantloom::{CacheType, CacheTypes};
    /// use quantloom_kernels::{BlockFormat, formats::Q8_0};
    ///
    /// let q8_0 = CacheType::Quantized(Q8_0::FORMAT);
    /// let cache = model.create_kv_cache_with(2048, CacheTypes { keys: q8_0, values: q8_0 })?;
    /// # Ok::<(), quantloom::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`create_kv_cache_for`](Self::create_kv_cache_for), or a type that the model's heads don't fit.
    pub fn create_kv_cache_with(&self, context: usize, types: CacheTypes) -> Result<KvCache, Error> {
        let limit = self.config().context;
        if context > limit {
            return Err(Error::ContextTooLong { context, limit });
        }
        KvCache::new(self.config(), self.isa, context, types)
    }

    /// An arena for [`forward_single_with_scratch`](Self::forward_single_with_scratch), on this thread.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn create_scratch(&self) -> Result<Scratch, Error> {
        self.create_scratch_for(1)
    }

    /// An arena for [`forward_several_with_scratch`](Self::forward_several_with_scratch) of up to `tokens` tokens, on
    /// this thread.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn create_scratch_for(&self, tokens: usize) -> Result<Scratch, Error> {
        forward::prepare(self.config());
        Scratch::one_by_one(self.config(), tokens, tokens)
    }

    /// The logits `[vocab]` after the last of `tokens`, without a cache.
    ///
    /// # Errors
    /// No tokens, more than the context holds, or one outside the vocabulary.
    pub fn forward(&self, tokens: &[u32]) -> Result<Vec<f32>, Error> {
        let limit = self.config().context;
        if tokens.len() > limit {
            return Err(Error::Context { tokens: tokens.len(), used: 0, context: limit });
        }
        let mut cache = self.create_kv_cache_for(tokens.len())?;
        self.forward_with_cache(tokens, &mut cache)
    }

    /// Adds `tokens` to the cache; the logits `[vocab]` after the last of them.
    ///
    /// Nearly the same as with one token at a time: from 10 tokens on, quantized matrices see activations with a scale
    /// and a zero point to each 32 of them, and not with a scale to each 4; either is as exact. With matrices in F32, F16
    /// and BF16 it is the same to the last bit.
    ///
    /// # Errors
    /// No tokens, more than the cache has room for, one outside the vocabulary, the cache of a model of another shape, no
    /// memory, or logits that are no finite numbers, as weights are not. The cache is then as it was.
    pub fn forward_with_cache(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Vec<f32>, Error> {
        self.check(tokens, cache)?;
        let mut scratch = self.create_prompt_scratch(tokens.len())?;
        let before = cache.len();
        self.pass_prompt(tokens, cache, &mut scratch);
        self.check_logits(scratch.logits(), cache, before)?;
        Ok(scratch.logits().to_vec())
    }

    /// An arena for [`pass_prompt`](Self::pass_prompt).
    pub(crate) fn create_prompt_scratch(&self, tokens: usize) -> Result<Scratch, Error> {
        Scratch::new(self.config(), tokens.min(BATCH), 1)
    }

    /// Adds checked tokens to the cache, in batches; the arena has the logits after the last.
    pub(crate) fn pass_prompt(&self, tokens: &[u32], cache: &mut KvCache, scratch: &mut Scratch) {
        let mut left = tokens.len();
        for batch in tokens.chunks(BATCH) {
            left -= batch.len();
            self.pass(batch, cache, scratch, usize::from(left == 0));
        }
    }

    /// What a phase of a pass over `tokens` tokens reads and multiplies where the logits of the last are asked for, the
    /// KV cache having `context` tokens.
    pub(crate) fn work(&self, phase: Phase, cache: &KvCache, context: usize, tokens: usize) -> Work {
        let of_tokens = |matrix: &Matrix, tokens| {
            let Work { bytes, products } = matrix.work();
            Work { bytes, products: products * tokens as u64 }
        };
        // The last layer multiplies them with the inputs of `in_last` tokens.
        let matrices = |of: fn(&Layer) -> Vec<&Matrix>, in_last: usize| {
            let layers =
                self.weights.layers.iter().rev().zip(iter::once(in_last).chain(iter::repeat(tokens)));
            let each =
                layers.flat_map(|(layer, tokens)| of(layer).into_iter().map(move |matrix| (matrix, tokens)));
            each.fold(Work::default(), |sum, (matrix, tokens)| sum + of_tokens(matrix, tokens))
        };
        match phase {
            Phase::QueryKeyValue => {
                matrices(|layer| vec![&layer.q], 1) + matrices(|layer| vec![&layer.k, &layer.v], tokens)
            }
            Phase::AttentionOutput => matrices(|layer| vec![&layer.attention_output], 1),
            Phase::GateUp => matrices(|layer| vec![&layer.gate, &layer.up], 1),
            Phase::Down => matrices(|layer| vec![&layer.down], 1),
            Phase::Logits => of_tokens(self.weights.output(), 1),
            Phase::Attention => Work { bytes: (context * cache.bytes_per_token()) as u64, products: 0 },
            Phase::Embedding | Phase::Norm | Phase::Cache | Phase::Quantize => Work::default(),
        }
    }

    /// Adds `tokens` to the cache; the logits `[tokens, vocab]` after each of them.
    ///
    /// # Errors
    /// As for [`forward_with_cache`](Self::forward_with_cache).
    pub fn forward_all_with_cache(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Vec<f32>, Error> {
        self.check(tokens, cache)?;
        let vocab = self.config().vocab;
        let batch = tokens.len().min(BATCH_OF_LOGITS);
        let mut scratch = Scratch::new(self.config(), batch, batch)?;
        let mut logits = room("logits", tokens.len().saturating_mul(vocab))?;
        let before = cache.len();
        for batch in tokens.chunks(BATCH_OF_LOGITS) {
            self.pass(batch, cache, &mut scratch, batch.len());
            let new = &scratch.logits()[..batch.len() * vocab];
            self.check_logits(new, cache, before)?;
            logits.extend_from_slice(new);
        }
        Ok(logits)
    }

    /// Adds one token to the cache; the logits `[vocab]` after it, in the arena. Allocates nothing on the thread that
    /// made the arena.
    ///
    /// # Errors
    /// As for [`forward_with_cache`](Self::forward_with_cache), or the arena of a model of another shape.
    pub fn forward_single_with_scratch<'s>(
        &self,
        token: u32,
        cache: &mut KvCache,
        scratch: &'s mut Scratch,
    ) -> Result<&'s [f32], Error> {
        self.forward_several_with_scratch(&[token], cache, scratch)
    }

    /// Adds `tokens` to the cache; the logits `[tokens, vocab]` after each of them, in the arena: bit for bit those of
    /// [one token after the other](Self::forward_single_with_scratch), for less time, as weights are read from memory
    /// once. Allocates nothing on the thread that made the arena.
    ///
    /// # Errors
    /// As for [`forward_single_with_scratch`](Self::forward_single_with_scratch), or more tokens than the arena was
    /// made for.
    pub fn forward_several_with_scratch<'s>(
        &self,
        tokens: &[u32],
        cache: &mut KvCache,
        scratch: &'s mut Scratch,
    ) -> Result<&'s [f32], Error> {
        self.check(tokens, cache)?;
        if !scratch.fits(self.config()) {
            return Err(Error::Foreign { what: "arena" });
        }
        if tokens.len() > scratch.tokens() {
            return Err(Error::Arena { tokens: tokens.len(), room: scratch.tokens() });
        }
        let before = cache.len();
        self.pass(tokens, cache, scratch, tokens.len());
        let logits = &scratch.logits()[..tokens.len() * self.config().vocab];
        self.check_logits(logits, cache, before)?;
        Ok(logits)
    }

    /// An error that names the weight to blame where `logits` are no finite numbers; then `cache` goes back to `before`
    /// tokens.
    fn check_logits(&self, logits: &[f32], cache: &mut KvCache, before: usize) -> Result<(), Error> {
        if are_finite(logits) && cache.is_faithful() {
            return Ok(());
        }
        cache.forget_from(before);
        Err(self.explain_logits())
    }

    /// Why logits are no finite numbers.
    pub(crate) fn explain_logits(&self) -> Error {
        explain(&self.gguf, self.isa)
    }

    pub(crate) fn check(&self, tokens: &[u32], cache: &KvCache) -> Result<(), Error> {
        if !cache.fits(self.config()) {
            return Err(Error::Foreign { what: "KV cache" });
        }
        if tokens.is_empty() {
            return Err(Error::NoTokens);
        }
        self.check_tokens(tokens)?;
        let (used, context) = (cache.len(), cache.capacity());
        if tokens.len() > context - used {
            return Err(Error::Context { tokens: tokens.len(), used, context });
        }
        Ok(())
    }

    /// Whether all `tokens` are in the vocabulary.
    pub(crate) fn check_tokens(&self, tokens: &[u32]) -> Result<(), Error> {
        let vocab = self.config().vocab;
        match tokens.iter().find(|&&token| token as usize >= vocab) {
            Some(&token) => Err(Error::Token { token, vocab }),
            None => Ok(()),
        }
    }

    /// Adds checked tokens to the cache; the arena has the logits of the last `logits` of them.
    pub(crate) fn pass(&self, tokens: &[u32], cache: &mut KvCache, scratch: &mut Scratch, logits: usize) {
        forward::pass(&self.weights, &self.team, self.isa, tokens, cache, scratch, logits);
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("path", &self.gguf.path())
            .field("config", self.config())
            .field("threads", &self.threads())
            .field("isa", &self.isa)
            .finish_non_exhaustive()
    }
}

impl Weights {
    /// Finds every tensor of the architecture and checks its shape; there must be no others.
    fn find(gguf: &Gguf, config: Config, isa: Supported) -> Result<Self, Error> {
        let fail = |problem: String| Error::Model { path: gguf.path().into(), problem };
        let taken = RefCell::new(HashSet::new());
        let take = |name: &str, dims: &[usize]| -> Result<Tensor, Error> {
            let tensor = gguf.require_tensor(name)?;
            taken.borrow_mut().insert(name.to_owned());
            if without_ones(tensor.dims()) != without_ones(dims) {
                return Err(fail(format!(
                    "tensor `{name}` has the shape {:?}; the metadata makes it {dims:?}",
                    tensor.dims()
                )));
            }
            Ok(tensor.clone())
        };
        let (e, ff) = (config.embedding, config.feed_forward);
        let (query, key_value) = (config.query(), config.key_value());

        // Formats whose scales reach only so far have one more, for the whole matrix, in a tensor beside it.
        let matrix = |name: &str, dims: [usize; 2]| -> Result<Matrix, Error> {
            let scale = format!("{name}.scale");
            let scale = match gguf.tensor(&scale) {
                Some(_) => norm(take(&scale, &[1])?, gguf.path())?[0],
                None => 1.0,
            };
            Ok(Matrix::new(take(&format!("{name}.weight"), &dims)?, isa).with_scale(scale))
        };
        let token_embedding = matrix("token_embd", [e, config.vocab])?;
        let output_norm = norm(take("output_norm.weight", &[e])?, gguf.path())?;
        let output = match gguf.tensor("output.weight") {
            Some(_) => Some(matrix("output", [e, config.vocab])?),
            None => None,
        };
        let mut layers = Vec::new();
        for l in 0..config.layers {
            let matrix =
                |name: &str, cols: usize, rows: usize| matrix(&format!("blk.{l}.{name}"), [cols, rows]);
            let q = matrix("attn_q", e, query)?;
            let k = matrix("attn_k", e, key_value)?;
            let v = matrix("attn_v", e, key_value)?;
            let attention_output = matrix("attn_output", query, e)?;
            let gate = matrix("ffn_gate", e, ff)?;
            let up = matrix("ffn_up", e, ff)?;
            let down = matrix("ffn_down", ff, e)?;
            let attention_norm = norm(take(&format!("blk.{l}.attn_norm.weight"), &[e])?, gguf.path())?;
            let feed_forward_norm = norm(take(&format!("blk.{l}.ffn_norm.weight"), &[e])?, gguf.path())?;
            layers.push(Layer {
                attention_norm,
                q,
                k,
                v,
                attention_output,
                feed_forward_norm,
                gate,
                up,
                down,
            });
        }
        // Names are unique, so that a tensor was taken exactly if its name was asked for.
        let taken = taken.into_inner();
        if let Some(extra) = gguf.tensors().iter().find(|tensor| !taken.contains(tensor.name())) {
            return Err(fail(format!(
                "tensor `{}` belongs to something that this build does not have; running without it would be wrong",
                extra.name().escape_debug()
            )));
        }
        Ok(Self { config, token_embedding, layers, output_norm, output })
    }

    /// The matrix that gives logits.
    pub fn output(&self) -> &Matrix {
        self.output.as_ref().unwrap_or(&self.token_embedding)
    }

    fn bytes_per_token(&self) -> u64 {
        let layer = |layer: &Layer| {
            let Layer { attention_norm, q, k, v, attention_output, feed_forward_norm, gate, up, down } =
                layer;
            let matrices =
                [q, k, v, attention_output, gate, up, down].map(Matrix::bytes).iter().sum::<usize>();
            matrices + size_of_val(&attention_norm[..]) + size_of_val(&feed_forward_norm[..])
        };
        let layers: usize = self.layers.iter().map(layer).sum();
        let embedding = if self.output.is_some() { self.token_embedding.row_bytes() } else { 0 };
        (layers + self.output().bytes() + embedding + size_of_val(&self.output_norm[..])) as u64
    }
}

/// A shape without the dimensions of 1 at its end, which say nothing.
fn without_ones(dims: &[usize]) -> &[usize] {
    let len = dims.iter().rposition(|&dim| dim != 1).map_or(0, |last| last + 1);
    &dims[..len]
}

/// The weights of a norm, or a scale: few, used in f32, and all finite.
fn norm(tensor: Tensor, path: &Path) -> Result<Vec<f32>, Error> {
    let dense = tensor.ty().dense().map_err(|format| Error::Model {
        path: path.into(),
        problem: format!("tensor `{}` is {}; it must be F32, F16 or BF16", tensor.name(), format.name),
    })?;
    let mut weights = vec![0.0; tensor.dims()[0]];
    dense.widen(tensor.data(), &mut weights).expect("the reader has checked the tensor's size");
    match dense.first_not_finite(tensor.data()) {
        None => Ok(weights),
        Some((index, weight)) => {
            let weight = NotFinite { tensor: tensor.name().into(), index, weight };
            Err(Error::Weight { path: path.into(), weight })
        }
    }
}
