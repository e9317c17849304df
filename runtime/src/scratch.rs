//! The arena: every buffer of a forward pass, made once.

use crate::Config;
use crate::matrix::Quantized;

/// Working memory for forward passes of up to a number of tokens.
#[derive(Debug)]
pub struct Scratch {
    floats: Vec<f32>,
    quantized: Quantized,
    tokens: usize,
    config: Config,
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
    /// `[t, feed_forward]`: silu(gate) · up.
    pub hidden: &'a mut [f32],
    /// `[t, rope_dims]`: cosine and sine of each pair's angle, for all layers.
    pub rotations: &'a mut [f32],
    /// The quantized input of the next matrices.
    pub quantized: &'a mut Quantized,
    /// `[vocab]` or `[t, vocab]`
    pub logits: &'a mut [f32],
}

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
    pub(crate) fn new(config: &Config, tokens: usize, logits: usize) -> Self {
        Self {
            quantized: Quantized::new(tokens, longest_input(config)),
            ..Self::one_by_one(config, tokens, logits)
        }
    }

    /// The same where matrices take tokens one by one, so that each comes out as if it were alone.
    pub(crate) fn one_by_one(config: &Config, tokens: usize, logits: usize) -> Self {
        let floats = tokens * lengths(config).iter().sum::<usize>() + logits * config.vocab;
        let quantized = Quantized::one_by_one(tokens, longest_input(config));
        Self { floats: vec![0.0; floats], quantized, tokens, config: config.clone() }
    }

    /// The most tokens of a pass.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Whether it was made for a model of this shape.
    pub(crate) fn fits(&self, config: &Config) -> bool {
        self.config == *config
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
        Buffers { x, normed, qkv, attended, hidden, rotations, quantized: &mut self.quantized, logits: rest }
    }
}
