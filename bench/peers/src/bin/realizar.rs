//! Realizar: the quantized tensors of a GGUF file with a KV cache, a prompt by its own batched prefill. The Q4_0 path of
//! its TinyLlama benchmark takes every tensor for Q4_0, which the output matrix is not. Its threads are rayon's.

use std::path::Path;
use std::process::ExitCode;

use quantloom_peers::{Engine, Result, greedy, locked_version, serve};
use realizar::gguf::{MappedGGUFModel, OwnedQuantizedKVCache, OwnedQuantizedModel};

struct Realizar {
    model: OwnedQuantizedModel,
    cache: OwnedQuantizedKVCache,
}

impl Engine for Realizar {
    fn version() -> String {
        locked_version("realizar")
    }

    fn load(model: &Path, _: usize, context: usize) -> Result<Self> {
        let mapped = MappedGGUFModel::from_path(model)?;
        let model = OwnedQuantizedModel::from_mapped(&mapped)?;
        let cache = OwnedQuantizedKVCache::from_config(model.config(), context);
        Ok(Self { model, cache })
    }

    fn prefill(&mut self, tokens: &[u32]) -> Result<u32> {
        self.cache.reset();
        Ok(greedy(&self.model.prefill_batch(tokens, &mut self.cache)?))
    }

    fn step(&mut self, token: u32) -> Result<u32> {
        let position = self.cache.len();
        Ok(greedy(&self.model.forward_single_with_cache(token, &mut self.cache, position)?))
    }
}

fn main() -> ExitCode {
    serve::<Realizar>()
}
