//! This project.

use std::path::Path;
use std::process::ExitCode;

use quantloom::{KvCache, Model, Scratch, sample};
use quantloom_kernels::Supported;
use quantloom_peers::{Engine, Result, locked_version, serve};

struct Quantloom {
    model: Model,
    cache: KvCache,
    scratch: Scratch,
}

impl Engine for Quantloom {
    fn version() -> String {
        locked_version("quantloom")
    }

    fn notes() -> String {
        Supported::selected().map_or_else(|error| error.to_string(), |isa| isa.isa().name().into())
    }

    fn load(model: &Path, threads: usize, context: usize) -> Result<Self> {
        let model = Model::load(model, Some(threads))?;
        let (cache, scratch) = (model.create_kv_cache_for(context)?, model.create_scratch()?);
        Ok(Self { model, cache, scratch })
    }

    fn prefill(&mut self, tokens: &[u32]) -> Result<u32> {
        self.cache.truncate(0);
        Ok(sample::greedy(&self.model.forward_with_cache(tokens, &mut self.cache)?))
    }

    fn step(&mut self, token: u32) -> Result<u32> {
        let logits = self.model.forward_single_with_scratch(token, &mut self.cache, &mut self.scratch)?;
        Ok(sample::greedy(logits))
    }

    fn logits(&mut self, tokens: &[u32], one_by_one: bool) -> Result<Vec<f32>> {
        self.cache.truncate(0);
        if !one_by_one {
            return Ok(self.model.forward_all_with_cache(tokens, &mut self.cache)?);
        }
        let mut logits = Vec::new();
        for &token in tokens {
            logits.extend_from_slice(self.model.forward_single_with_scratch(
                token,
                &mut self.cache,
                &mut self.scratch,
            )?);
        }
        Ok(logits)
    }
}

fn main() -> ExitCode {
    serve::<Quantloom>()
}
