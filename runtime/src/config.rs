//! The shape of a model, from the file's metadata; what this build does not run is refused by name.

use crate::Error;
use crate::gguf::{Gguf, Value};

/// The shape of a Llama model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Transformer layers.
    pub layers: usize,
    /// Length of the residual stream.
    pub embedding: usize,
    /// Length of the feed-forward network's hidden vector.
    pub feed_forward: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Length of a head's query, key and value.
    pub head_dim: usize,
    /// How many of them rotary position embedding turns, in adjacent pairs.
    pub rope_dims: usize,
    /// The base of its frequencies.
    pub rope_base: f32,
    /// What RMS normalization adds to the mean square.
    pub rms_epsilon: f32,
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Positions that the model was trained for.
    pub context: usize,
}

/// Keys of the architecture that ask for something not built, unless they have the value that asks for
/// nothing.
const NEUTRAL: [(&str, Neutral, &str); 8] = [
    ("llama.tensor_data_layout", Neutral::Text("Meta AI original pth"), "another layout of tensors"),
    ("llama.expert_count", Neutral::Number(0.0), "experts"),
    ("llama.expert_used_count", Neutral::Number(0.0), "experts"),
    ("llama.attention.sliding_window", Neutral::Number(0.0), "a sliding window"),
    ("llama.rope.scaling.type", Neutral::Text("none"), "rope scaling"),
    ("llama.rope.scaling.factor", Neutral::Number(1.0), "rope scaling"),
    ("llama.rope.scale_linear", Neutral::Number(1.0), "rope scaling"),
    ("llama.rope.scaling.attn_factor", Neutral::Number(1.0), "rope scaling"),
];

/// A value that asks for nothing.
enum Neutral {
    Number(f32),
    Text(&'static str),
}

/// Keys of the architecture that are read below or say nothing about the computation.
const KNOWN: [&str; 14] = [
    "llama.block_count",
    "llama.context_length",
    "llama.embedding_length",
    "llama.feed_forward_length",
    "llama.attention.head_count",
    "llama.attention.head_count_kv",
    "llama.attention.key_length",
    "llama.attention.value_length",
    "llama.attention.layer_norm_rms_epsilon",
    "llama.rope.dimension_count",
    "llama.rope.freq_base",
    "llama.rope.scaling.finetuned",
    "llama.rope.scaling.original_context_length",
    "llama.vocab_size",
];

impl Config {
    /// Reads the shape of what [`refuse_unbuilt`] has let pass; `vocab` is the number of tokens in the file's
    /// vocabulary.
    pub(crate) fn read(gguf: &Gguf, vocab: usize) -> Result<Self, Error> {
        let metadata = gguf.metadata();
        let fail = |problem: String| Error::Model { path: gguf.path().into(), problem };
        let positive = |key: &str| -> Result<usize, Error> {
            match metadata.require_u32(key)? {
                0 => Err(fail(format!("{key} is 0; it must be positive"))),
                value => Ok(value as usize),
            }
        };
        let positive_or = |key: &str, default: usize| match metadata.get(key) {
            Some(_) => positive(key),
            None => Ok(default),
        };
        let layers = positive("llama.block_count")?;
        let context = positive("llama.context_length")?;
        let embedding = positive("llama.embedding_length")?;
        let feed_forward = positive("llama.feed_forward_length")?;
        let heads = positive("llama.attention.head_count")?;
        let kv_heads = positive_or("llama.attention.head_count_kv", heads)?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(fail(format!(
                "llama.attention.head_count is {heads}, not a multiple of head_count_kv, {kv_heads}"
            )));
        }
        let head_dim = match metadata.get("llama.attention.key_length") {
            Some(_) => positive("llama.attention.key_length")?,
            None if embedding.is_multiple_of(heads) => embedding / heads,
            None => {
                return Err(fail(format!(
                    "llama.embedding_length is {embedding}, not a multiple of llama.attention.head_count, {heads}"
                )));
            }
        };
        let value_length = positive_or("llama.attention.value_length", head_dim)?;
        if value_length != head_dim {
            return Err(fail(format!(
                "llama.attention.value_length is {value_length} and the key length {head_dim}; only equal ones are built"
            )));
        }
        let rope_dims = positive_or("llama.rope.dimension_count", head_dim)?;
        if rope_dims > head_dim || !rope_dims.is_multiple_of(2) {
            return Err(fail(format!(
                "llama.rope.dimension_count is {rope_dims}; it must be even and at most the head length, {head_dim}"
            )));
        }
        let rope_base = metadata.f32("llama.rope.freq_base")?.unwrap_or(10_000.0);
        if !(rope_base.is_finite() && rope_base > 0.0) {
            return Err(fail(format!("llama.rope.freq_base is {rope_base}; it must be a positive number")));
        }
        let rms_epsilon = metadata.require_f32("llama.attention.layer_norm_rms_epsilon")?;
        if !(rms_epsilon.is_finite() && rms_epsilon >= 0.0) {
            return Err(fail(format!(
                "llama.attention.layer_norm_rms_epsilon is {rms_epsilon}; it must be a small positive number"
            )));
        }
        if let Some(declared) = metadata.u32("llama.vocab_size")?
            && declared as usize != vocab
        {
            return Err(fail(format!(
                "llama.vocab_size is {declared}, but tokenizer.ggml.tokens holds {vocab} tokens"
            )));
        }
        Ok(Self {
            layers,
            embedding,
            feed_forward,
            heads,
            kv_heads,
            head_dim,
            rope_dims,
            rope_base,
            rms_epsilon,
            vocab,
            context,
        })
    }

    /// Length of all queries of a token.
    pub(crate) fn query(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Length of all keys, or values, of a token.
    pub(crate) fn key_value(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

/// Refuses other architectures, and keys that ask for something not built. A key that isn't known may change
/// the computation: running without it would be running wrongly.
pub(crate) fn refuse_unbuilt(gguf: &Gguf) -> Result<(), Error> {
    let metadata = gguf.metadata();
    let fail = |problem: String| Err(Error::Model { path: gguf.path().into(), problem });
    let architecture = metadata.require_str("general.architecture")?;
    if architecture != "llama" {
        return fail(format!(
            "architecture `{}` (general.architecture) is not built; this build runs `llama`",
            architecture.escape_debug()
        ));
    }
    for (key, value) in metadata.iter().filter(|(key, _)| key.starts_with("llama.")) {
        if KNOWN.contains(&key) {
            continue;
        }
        let Some((_, neutral, what)) = NEUTRAL.iter().find(|(neutral, ..)| *neutral == key) else {
            let key = key.escape_debug();
            return fail(format!("{key} = {value} asks for something that this build does not have"));
        };
        let asks_for_nothing = match neutral {
            Neutral::Number(number) => value.to_string().parse() == Ok(*number),
            Neutral::Text(text) => matches!(value, Value::String(value) if value == text),
        };
        if !asks_for_nothing {
            return fail(format!("{key} = {value} asks for {what}, which this build does not have"));
        }
    }
    Ok(())
}
