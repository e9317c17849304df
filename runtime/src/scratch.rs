//! The arena: every buffer of a forward pass, made once.

use crate::alloc::zeros;
use crate::forward::TOKENS;
use crate::imatrix::Collector;
use crate::matrix::Quantized;
use crate::ops::attention::{PART, partial_len};
use crate::profile::{Clock, Profile};
use crate::{Config, Error};

/// Working memory for forward passes of up to a number of tokens.
#[derive(Debug)]
pub struct Scratch {
    floats: Vec<f32>,
    /// `[vocab]` or `[t, vocab]`
    logits: Vec<f32>,
    partials: Vec<f32>,
    quantized: Quantized,
    tokens: usize,
    config: Config,
    profile: Option<Profile>,
}

/// The buffers of one pass over `t` tokens. `e` stands for the embedding length.
pub(crate) struct Buffers<'a> {
    /// `[t, e]`: the residual stream.
    pub x: &'a mut [f32],
    /// `[t, e]`: what a layer's matrices see of it, after the norm.
    pub normed: &'a mut [f32],
    /// `[t, heads * head_dim + 2 * kv_heads * head_dim]`: queries, keys and values.
    pub qkv: &'a mut [f32],
    /// `[t, heads * head_dim]`: what attention gives.
    pub attended: &'a mut [f32],
    /// `[parts of the context, kv_heads]`: what attention of some tokens to each part gives, as far as there is room.
    pub partials: &'a mut [f32],
    /// `[t, feed_forward]`: silu(gate) · up.
    pub hidden: &'a mut [f32],
    /// `[t, rope_dims]`: cosine and sine of each pair's angle, for all layers.
    pub rotations: &'a mut [f32],
    /// The quantized input of the next matrices.
    pub quantized: &'a mut Quantized,
    /// `[vocab]` or `[t, vocab]`
    pub logits: &'a mut [f32],
    /// Running from now on.
    pub clock: Clock<'a>,
}

/// Enough for the partial results of one token at a million positions, of 16 tokens at some fifty thousand, with
/// TinyLlama's heads. Metadata may promise any context.
const MAX_PARTIALS: usize = 8 << 20;

/// Lengths of the float buffers for one token, in the order of [`Buffers`], logits aside.
fn lengths(config: &Config) -> [usize; 6] {
    [
        config.embedding,
        config.embedding,
        config.query() + 2 * config.key_value(),
        config.query(),
        config.feed_forward,
        config.rope_dims,
    ]
}

/// Columns of the widest matrix.
fn longest_input(config: &Config) -> usize {
    config.embedding.max(config.feed_forward).max(config.query())
}

impl Scratch {
    /// For passes of up to `tokens` tokens, of which `logits` have their logits kept.
    ///
    /// # Errors
    /// There is no memory for it.
    pub(crate) fn new(config: &Config, tokens: usize, logits: usize) -> Result<Self, Error> {
        Self::with(Quantized::new(tokens, longest_input(config))?, config, tokens, logits)
    }

    /// The same where matrices take tokens one by one, so that each comes out as if it were alone.
    ///
    /// # Errors
    /// There is no memory for it.
    pub(crate) fn one_by_one(config: &Config, tokens: usize, logits: usize) -> Result<Self, Error> {
        Self::with(Quantized::one_by_one(tokens, longest_input(config))?, config, tokens, logits)
    }

    fn with(quantized: Quantized, config: &Config, tokens: usize, logits: usize) -> Result<Self, Error> {
        // Metadata may promise any shape: what overflows is more than there is.
        let floats =
            tokens.saturating_mul(lengths(config).iter().fold(0, |sum, len| sum.saturating_add(*len)));
        let partial = partial_len(config.heads, config.head_dim) * tokens.min(TOKENS);
        // Pages that a short context never touches stay unmapped.
        let partials = config.context.div_ceil(PART).saturating_mul(partial).min(MAX_PARTIALS);
        Ok(Self {
            floats: zeros("activations", floats)?,
            partials: zeros("partial results of attention", partials)?,
            logits: zeros("logits", logits.saturating_mul(config.vocab))?,
            quantized,
            tokens,
            config: config.clone(),
            profile: None,
        })
    }

    /// The most tokens of a pass.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Whether it was made for a model of this shape.
    pub(crate) fn fits(&self, config: &Config) -> bool {
        self.config == *config
    }

    /// The logits of the last pass, at the beginning.
    pub(crate) fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Shows a collector what matrices are multiplied with in the passes from here on.
    pub(crate) fn collect(&mut self, collector: Collector) {
        self.quantized.collector = Some(collector);
    }

    /// Gives back what [`collect`](Self::collect) was given.
    pub(crate) fn into_collector(self) -> Option<Collector> {
        self.quantized.collector
    }

    /// Begins a new [`Profile`] of the passes from here on.
    pub fn start_profile(&mut self) {
        self.profile = Some(Profile::default());
    }

    /// The passes since [`start_profile`](Self::start_profile), if that was called.
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref()
    }

    /// The buffers for `t` tokens.
    pub(crate) fn buffers(&mut self, t: usize) -> Buffers<'_> {
        let mut rest = &mut self.floats[..];
        let mut take = |len: usize| {
            let (buffer, tail) = std::mem::take(&mut rest).split_at_mut(len);
            rest = tail;
            buffer
        };
        let [x, normed, qkv, attended, hidden, rotations] = lengths(&self.config).map(|len| take(t * len));
        Buffers {
            x,
            normed,
            qkv,
            attended,
            partials: &mut self.partials,
            hidden,
            rotations,
            quantized: &mut self.quantized,
            logits: &mut self.logits,
            clock: Clock::start(self.profile.as_mut()),
        }
    }
}
