//! Candle: `quantized_llama` of candle-transformers. It takes its threads from the environment, which is set before it
//! starts.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::ExitCode;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;
use quantloom_peers::{Engine, Result, greedy, locked_version, serve};

struct Candle {
    model: ModelWeights,
    used: usize,
}

impl Engine for Candle {
    fn version() -> String {
        locked_version("candle-transformers")
    }

    fn load(model: &Path, threads: usize, _: usize) -> Result<Self> {
        let has = candle_core::utils::get_num_threads();
        if has != threads {
            return Err(format!("Candle runs on {has} threads, not on {threads}").into());
        }
        let mut file = BufReader::new(File::open(model)?);
        let content = Content::read(&mut file)?;
        Ok(Self { model: ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?, used: 0 })
    }

    fn prefill(&mut self, tokens: &[u32]) -> Result<u32> {
        self.model.clear_kv_cache();
        self.used = 0;
        self.run(tokens)
    }

    fn step(&mut self, token: u32) -> Result<u32> {
        self.run(&[token])
    }
}

impl Candle {
    fn run(&mut self, tokens: &[u32]) -> Result<u32> {
        let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        let logits = self.model.forward(&input, self.used)?;
        self.used += tokens.len();
        Ok(greedy(&logits.squeeze(0)?.to_vec1::<f32>()?))
    }
}

fn main() -> ExitCode {
    serve::<Candle>()
}
