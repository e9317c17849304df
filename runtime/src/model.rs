//! A model: weights in the mapped file, and the forward pass over them. (Signatures only for now.)

use std::path::Path;

use quantloom_kernels::Supported;

use crate::Error;
use crate::gguf::Gguf;
use crate::tokenizer::Tokenizer;

/// The shape of a model.
#[derive(Clone, Debug)]
pub struct Config {
    pub layers: usize,
    pub embedding: usize,
    pub feed_forward: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub rope_dims: usize,
    pub rope_base: f32,
    pub rms_epsilon: f32,
    pub vocab: usize,
    pub context: usize,
}

pub struct Model;
pub struct KvCache;
pub struct Scratch;

impl Model {
    /// Loads with all CPUs' threads (`None`) or as many as said, on `isa` or `Supported::selected()`.
    pub fn load(path: impl AsRef<Path>, threads: Option<usize>) -> Result<Self, Error> { todo!() }
    /// The same weights on another number of threads (cheap: shares the mapped file).
    pub fn with_threads(&self, threads: usize) -> Result<Self, Error> { todo!() }
    pub fn config(&self) -> &Config { todo!() }
    pub fn gguf(&self) -> &Gguf { todo!() }
    pub fn tokenizer(&self) -> &Tokenizer { todo!() }
    pub fn threads(&self) -> usize { todo!() }
    pub fn isa(&self) -> Supported { todo!() }
    /// Bytes of weights that one token reads (all matrices; of a separate embedding one row).
    pub fn bytes_per_token(&self) -> u64 { todo!() }
    /// Cache for the model's whole context.
    pub fn create_kv_cache(&self) -> KvCache { todo!() }
    /// Cache for `context` tokens; more than the model's context is an error.
    pub fn create_kv_cache_for(&self, context: usize) -> Result<KvCache, Error> { todo!() }
    pub fn create_scratch(&self) -> Scratch { todo!() }
    /// No cache: logits `[vocab]` of the last token.
    pub fn forward(&self, tokens: &[u32]) -> Result<Vec<f32>, Error> { todo!() }
    /// Logits `[vocab]` of the last token.
    pub fn forward_with_cache(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Vec<f32>, Error> { todo!() }
    /// Logits `[tokens, vocab]`.
    pub fn forward_all_with_cache(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Vec<f32>, Error> { todo!() }
    /// Logits `[vocab]`; allocates nothing.
    pub fn forward_single_with_scratch<'s>(&self, token: u32, cache: &mut KvCache, scratch: &'s mut Scratch) -> Result<&'s [f32], Error> { todo!() }
}

impl KvCache {
    pub fn len(&self) -> usize { todo!() }
    pub fn capacity(&self) -> usize { todo!() }
    pub fn clear(&mut self) { todo!() }
    /// Bytes of memory for `capacity` tokens.
    pub fn bytes(&self) -> usize { todo!() }
}
