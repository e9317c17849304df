//! Text from a model in a program of one's own: prompt at once, then token by token in an arena.
//!
//! ```text
//! GGUF_MODEL=model.gguf cargo run --release --example generate -- "The capital of France is"
//! ```
//!
//! Without `GGUF_MODEL` it takes SmolLM2-135M-Instruct, fetched once.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use quantloom::sample::greedy;
use quantloom::tokenizer::{EncodeOptions, SpecialTokens};
use quantloom::{Model, pull};

fn main() -> ExitCode {
    match generate() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn generate() -> Result<(), Box<dyn Error>> {
    let prompt = std::env::args().nth(1).unwrap_or_else(|| "The capital of France is".into());
    let path = match std::env::var_os("GGUF_MODEL").filter(|path| !path.is_empty()) {
        Some(path) => path.into(),
        None => pull::DEFAULT.fetch()?,
    };
    let model = Model::load(path, None)?;
    let tokenizer = model.tokenizer();
    let mut cache = model.create_kv_cache()?;
    let mut scratch = model.create_scratch()?;

    // The prompt, any number of tokens at once.
    let tokens =
        tokenizer.encode(&prompt, EncodeOptions { add_bos: true, add_eos: true, parse_special: false });
    let mut token = greedy(&model.forward_with_cache(&tokens, &mut cache)?);

    // Then one token after the other, allocating nothing.
    let mut decoder = tokenizer.decoder(SpecialTokens::Skip);
    print!("{prompt}");
    for _ in 0..64 {
        if tokenizer.is_end_of_generation(token) || cache.len() == cache.capacity() {
            break;
        }
        print!("{}", decoder.push(token));
        std::io::stdout().flush()?;
        token = greedy(model.forward_single_with_scratch(token, &mut cache, &mut scratch)?);
    }
    println!("{}", decoder.finish());
    Ok(())
}
