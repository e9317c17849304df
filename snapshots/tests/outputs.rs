//! What the default model says, on each instruction set of this machine: token ids, text, and a digest of all
//! logits, which any change of a bit anywhere changes. `INSTA_UPDATE=always cargo test -p quantloom-snapshots`
//! accepts new ones.

use std::fmt::Write;

use quantloom::gguf::Gguf;
use quantloom::tokenizer::{EncodeOptions, SpecialTokens};
use quantloom::{Model, pull, sample};
use quantloom_kernels::{Isa, Supported};
use quantloom_snapshots::assert_snapshots;
use sha2::{Digest, Sha256};

const PROMPTS: [&str; 4] =
    ["The capital of France is", "1, 2, 3, 4,", "fn main() {\n    let x", "Grüße aus 東京 🎉:"];

/// Tokens to generate after each.
const TOKENS: usize = 24;

#[test]
fn the_default_model() {
    let Some(path) = pull::DEFAULT.cached() else {
        let remedy = "the default model is absent; `quantloom pull smollm2` fetches it";
        assert!(std::env::var_os("CI").is_none(), "{remedy}");
        eprintln!("SKIPPED: {remedy}");
        return;
    };
    for error in Isa::ALL.iter().filter_map(|&isa| Supported::new(isa).err()) {
        eprintln!("NOT RUN: {error}");
    }
    let outputs = Supported::all().map(|isa| {
        let model = Model::from_gguf(Gguf::open(&path).unwrap(), isa, 2).unwrap();
        (format!("smollm2_{}", isa.isa()), PROMPTS.map(|prompt| outputs(&model, prompt)).join("\n"))
    });
    assert_snapshots!("../outputs", outputs);
}

/// One prompt, its tokens, and what follows.
fn outputs(model: &Model, prompt: &str) -> String {
    let tokenizer = model.tokenizer();
    let options = EncodeOptions { add_bos: true, add_eos: true, parse_special: true };
    let prompt_ids = tokenizer.encode(prompt, options);
    let mut cache = model.create_kv_cache_for(prompt_ids.len() + TOKENS).unwrap();
    let mut digest = Sha256::new();
    let mut logits = model.forward_with_cache(&prompt_ids, &mut cache).unwrap();

    let mut by_logit: Vec<usize> = (0..logits.len()).collect();
    by_logit.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    let top = by_logit[..5].iter().fold(String::new(), |mut top, &token| {
        let text = tokenizer.token_text(token as u32).unwrap_or_default();
        writeln!(top, "    {token:6} {:8.3} {text:?}", logits[token]).unwrap();
        top
    });

    let (mut ids, mut text) = (Vec::new(), String::new());
    let mut decoder = tokenizer.decoder(SpecialTokens::Render);
    for _ in 0..TOKENS {
        logits.iter().for_each(|logit| digest.update(logit.to_le_bytes()));
        let token = sample::greedy(&logits);
        ids.push(token);
        text.push_str(decoder.push(token));
        logits = model.forward_with_cache(&[token], &mut cache).unwrap();
    }
    text.push_str(decoder.finish());
    let digest = digest.finalize().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    format!(
        "prompt {prompt:?}\n    {prompt_ids:?}\nlargest logits\n{top}greedy {text:?}\n    {ids:?}\nsha256 of {} logits\n    {digest}\n",
        TOKENS * logits.len(),
    )
}
