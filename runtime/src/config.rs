//! The shape of a model, from the file's metadata; what this build does not run is refused by name.

use crate::Error;
use crate::gguf::{Gguf, Metadata, Value};

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

/// The type of rope scaling. `none` leaves its factor without a meaning.
const SCALING_TYPE: &str = "llama.rope.scaling.type";

/// Keys of the architecture besides those that [`Config::read`] reads, each with the values that change nothing, and what
/// any other value asks for. Readings are llama.cpp's.
const NEUTRAL: [(&str, Neutral, &str); 46] = [
    ("llama.tensor_data_layout", Neutral::Texts(&["Meta AI original pth"]), "another layout of tensors"),
    ("llama.attention.causal", Neutral::Bool(true), "attention to what follows"),
    ("llama.attention.scale", Neutral::Numbers(&[0.0]), "another scale of attention"),
    ("llama.attention.clamp_kqv", Neutral::Numbers(&[0.0]), "clamped queries, keys and values"),
    ("llama.attention.max_alibi_bias", Neutral::Numbers(&[0.0]), "ALiBi"),
    ("llama.attention.temperature_scale", Neutral::Numbers(&[0.0]), "a temperature of attention"),
    ("llama.attention.temperature_length", Neutral::Numbers(&[0.0]), "a temperature of attention"),
    ("llama.attention.sliding_window", Neutral::Numbers(&[0.0]), "a sliding window"),
    ("llama.attention.key_length_mla", Neutral::Numbers(&[0.0]), "latent attention"),
    ("llama.attention.value_length_mla", Neutral::Numbers(&[0.0]), "latent attention"),
    ("llama.attention.q_lora_rank", Neutral::Numbers(&[0.0]), "latent attention"),
    ("llama.attention.kv_lora_rank", Neutral::Numbers(&[0.0]), "latent attention"),
    // For LayerNorm, which the architecture does not have.
    ("llama.attention.layer_norm_epsilon", Neutral::Anything, ""),
    ("llama.attn_logit_softcapping", Neutral::Numbers(&[0.0]), "capped logits"),
    ("llama.final_logit_softcapping", Neutral::Numbers(&[0.0]), "capped logits"),
    ("llama.logit_scale", Neutral::Numbers(&[0.0, 1.0]), "scaled logits"),
    ("llama.embedding_scale", Neutral::Numbers(&[0.0, 1.0]), "a scaled embedding"),
    ("llama.residual_scale", Neutral::Numbers(&[0.0, 1.0]), "a scaled residual stream"),
    ("llama.use_parallel_residual", Neutral::Bool(false), "attention and feed-forward side by side"),
    // -1 leaves the choice to the program.
    ("llama.pooling_type", Neutral::Numbers(&[0.0, -1.0]), "pooled embeddings"),
    ("llama.expert_count", Neutral::Numbers(&[0.0]), "experts"),
    ("llama.expert_used_count", Neutral::Numbers(&[0.0]), "experts"),
    ("llama.expert_shared_count", Neutral::Numbers(&[0.0]), "experts"),
    ("llama.expert_group_count", Neutral::Numbers(&[0.0]), "experts"),
    ("llama.expert_group_used_count", Neutral::Numbers(&[0.0]), "experts"),
    ("llama.leading_dense_block_count", Neutral::Numbers(&[0.0]), "experts"),
    // These say how experts would work, and the first two keys of them whether there are some.
    ("llama.expert_feed_forward_length", Neutral::Anything, ""),
    ("llama.expert_shared_feed_forward_length", Neutral::Anything, ""),
    ("llama.expert_gating_func", Neutral::Anything, ""),
    ("llama.expert_weights_norm", Neutral::Anything, ""),
    ("llama.expert_weights_scale", Neutral::Anything, ""),
    ("llama.nextn_predict_layers", Neutral::Numbers(&[0.0]), "layers that predict further tokens"),
    (SCALING_TYPE, Neutral::Texts(&["none", "linear", "yarn"]), "rope scaling"),
    ("llama.rope.scaling.factor", Neutral::RopeScale, "rope scaling"),
    ("llama.rope.scale_linear", Neutral::RopeScale, "rope scaling"),
    ("llama.rope.scaling.attn_factor", Neutral::Numbers(&[1.0]), "rope scaling"),
    ("llama.rope.scaling.yarn_attn_factor", Neutral::Numbers(&[1.0]), "rope scaling"),
    // By a factor of 1, the only one that passes above, YaRN changes nothing, however it is set.
    ("llama.rope.scaling.yarn_ext_factor", Neutral::Anything, ""),
    ("llama.rope.scaling.yarn_beta_fast", Neutral::Anything, ""),
    ("llama.rope.scaling.yarn_beta_slow", Neutral::Anything, ""),
    ("llama.rope.scaling.yarn_log_multiplier", Neutral::Anything, ""),
    ("llama.rope.scaling.finetuned", Neutral::Anything, ""),
    ("llama.rope.scaling.original_context_length", Neutral::Anything, ""),
    ("llama.ssm.conv_kernel", Neutral::Numbers(&[0.0]), "a state space"),
    ("llama.ssm.inner_size", Neutral::Numbers(&[0.0]), "a state space"),
    ("llama.ssm.state_size", Neutral::Numbers(&[0.0]), "a state space"),
];

/// The values of a key that ask for nothing.
enum Neutral {
    /// These, of any numeric type.
    Numbers(&'static [f32]),
    Bool(bool),
    Texts(&'static [&'static str]),
    /// A rope scale: 1, or 0 for none, or any where the [type](SCALING_TYPE) is `none`.
    RopeScale,
    /// All: the key means nothing here.
    Anything,
}

impl Neutral {
    fn holds(&self, value: &Value, metadata: &Metadata) -> bool {
        let is_one_of = |numbers: &[f32]| {
            let number = value.to_string().parse::<f32>();
            number.is_ok_and(|number| numbers.contains(&number))
        };
        match self {
            Self::Numbers(numbers) => is_one_of(numbers),
            Self::Bool(neutral) => *value == Value::Bool(*neutral),
            Self::Texts(texts) => {
                matches!(value, Value::String(text) if text.to_str().is_some_and(|text| texts.contains(&text)))
            }
            Self::RopeScale => {
                is_one_of(&[0.0, 1.0]) || metadata.get(SCALING_TYPE) == Some(&Value::from("none"))
            }
            Self::Anything => true,
        }
    }
}

/// Keys of the architecture that [`Config::read`] reads.
const READ: [&str; 12] = [
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
        // Converters of models whose layers may differ write a number for each.
        let of_layers = |key: &str| match metadata.u32_of_layers(key, layers)? {
            Some(0) => Err(fail(format!("{key} is 0; it must be positive"))),
            Some(value) => Ok(value as usize),
            None => positive(key),
        };
        let context = positive("llama.context_length")?;
        let embedding = positive("llama.embedding_length")?;
        let feed_forward = of_layers("llama.feed_forward_length")?;
        let heads = of_layers("llama.attention.head_count")?;
        let kv_heads = match metadata.get("llama.attention.head_count_kv") {
            Some(_) => of_layers("llama.attention.head_count_kv")?,
            None => heads,
        };
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
        if READ.contains(&key) {
            continue;
        }
        match NEUTRAL.iter().find(|(neutral, ..)| *neutral == key) {
            Some((_, neutral, _)) if neutral.holds(value, metadata) => {}
            Some((.., what)) => {
                return fail(format!("{key} = {value} asks for {what}, which this build does not have"));
            }
            None => {
                let key = key.escape_debug();
                return fail(format!("{key} = {value} asks for something that this build does not have"));
            }
        }
    }
    Ok(())
}
