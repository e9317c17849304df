//! Any bytes as a GGUF file: what the reader lets pass is loaded as a model, and the model runs.

#![no_main]

#[path = "../../tests/common/tiny.rs"]
mod tiny;

use std::hint::black_box;
use std::path::Path;
use std::{env, fs};

use libfuzzer_sys::{Corpus, fuzz_target};
use quantloom::Model;
use quantloom::chat::Message;
use quantloom::gguf::{Gguf, Value};
use quantloom::sample::{Sampler, SamplerOptions, greedy};
use quantloom_fuzz::{check_error, speak};
use quantloom_kernels::{Isa, Supported};

use tiny::{SHAPE, Shape, TinyModel};

/// The longest file: a model in it takes a millisecond or so.
const MAX_BYTES: usize = 64 << 10;

const TEXT: &str = " Hello, <s>w1 aé🦙 aa\n42";

fuzz_target!(init: write_seeds(), |bytes: &[u8]| -> Corpus {
    if bytes.len() > MAX_BYTES {
        return Corpus::Reject;
    }
    match Gguf::from_bytes("fuzz.gguf", bytes) {
        Ok(gguf) => use_file(gguf),
        Err(error) => check_error(error),
    }
    Corpus::Keep
});

fn use_file(gguf: Gguf) {
    for (key, value) in gguf.metadata().iter() {
        assert!(gguf.metadata().get(key).is_some(), "{key}");
        assert!(!value.to_string().contains(char::is_control), "{value}");
    }
    for tensor in gguf.tensors() {
        let data = tensor.data();
        assert_eq!(data.len(), tensor.rows() * tensor.row_bytes(), "{tensor:?}");
        assert!(data.as_ptr().addr().is_multiple_of(gguf.alignment()), "{tensor:?}");
        assert_eq!(gguf.require_tensor(tensor.name()).unwrap().range(), tensor.range());
        black_box((data[0], data[data.len() - 1]));
    }
    let conversation = [Message { role: "user".into(), content: TEXT.into() }];
    let ids = speak(gguf.metadata(), &conversation, TEXT);
    match Model::from_gguf(gguf, Supported::new(Isa::Scalar).unwrap(), 1) {
        Ok(model) => run(&model, &ids.expect("a model has a tokenizer")),
        Err(error) => check_error(error),
    }
}

/// Some tokens as a batch and one alone, as far as they fit the context.
fn run(model: &Model, ids: &[u32]) {
    let vocab = model.config().vocab;
    let batch = &ids[..ids.len().min(12)];
    let mut cache = model.create_kv_cache_for(model.config().context.min(14)).unwrap();
    let token = match model.forward_with_cache(batch, &mut cache) {
        Ok(logits) => {
            assert_eq!(logits.len(), vocab);
            greedy(&logits)
        }
        // A vocabulary need not have a token for a text, and a context may hold less than the batch.
        Err(error) => {
            check_error(error);
            0
        }
    };
    let Ok(mut scratch) = model.create_scratch().map_err(check_error) else { return };
    match model.forward_single_with_scratch(token, &mut cache, &mut scratch) {
        Ok(logits) => {
            let options = SamplerOptions { temperature: 0.8, top_k: 40, top_p: 0.9, seed: 1 };
            assert!((Sampler::new(options).sample(logits) as usize) < vocab);
        }
        Err(error) => check_error(error),
    }
}

/// Puts small models into the corpus, so that fuzzing begins behind the header. libFuzzer calls this before it
/// reads the corpus, which is the first folder among its arguments.
fn write_seeds() {
    let Some(corpus) = env::args().skip(1).find(|arg| Path::new(arg).is_dir()) else { return };
    let corpus = Path::new(&corpus);
    // One head of two numbers and one hidden number: matrices of any type in few bytes.
    let small =
        Shape { layers: 1, heads: 1, kv_heads: 1, head_dim: 2, rope_dims: 2, feed_forward: 1, ..SHAPE };
    let plain: &[_] = &[("attn_output", "F32"), ("ffn_down", "F16")];
    let blocks = Shape { embedding: 32, tied: true, vocab: 24, except: plain, ..small };
    let shapes = [
        ("spm", Shape { embedding: 4, vocab: 259, ..small }),
        ("f16", Shape { embedding: 6, layers: 2, heads: 2, vocab: 24, ty: "F16", ..small }),
        ("bf16", Shape { embedding: 5, vocab: 24, ty: "BF16", ..small }),
        ("q4_0", Shape { ty: "Q4_0", ..blocks }),
        ("q4_1", Shape { ty: "Q4_1", ..blocks }),
        ("q8_0", Shape { ty: "Q8_0", ..blocks }),
        ("q6_k", Shape { ty: "Q6_K", embedding: 256, ..blocks }),
    ];
    for (name, shape) in shapes {
        let mut model = TinyModel::new(&shape);
        if name != "spm" {
            use_bpe(&mut model, shape.vocab);
        }
        model.keys.push(("tokenizer.chat_template".into(), TEMPLATE.into()));
        model.write(&corpus.join(name));
    }
    fs::write(corpus.join("empty"), b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0").unwrap();
}

const TEMPLATE: &str = "{% for m in messages %}{{ bos_token + m['role'] }}\n{{ m.content }}{% endfor %}";

/// A byte-level vocabulary, which need not have all bytes.
fn use_bpe(model: &mut TinyModel, vocab: usize) {
    let words = ["<s>", "</s>", "<|im_end|>", "a", "b", "Ġ", "e", "l", "o", "aa", "aab", "Ġa", "ll", "llo"];
    let more = (words.len()..vocab).map(|i| format!("w{i}"));
    let tokens: Vec<String> = words.map(String::from).into_iter().chain(more).collect();
    let types = (0..vocab).map(|id| if id < 3 { 3 } else { 1 }).collect::<Vec<i32>>();
    let merges = ["a a", "aa b", "Ġ a", "l l", "ll o"].map(String::from).to_vec();
    model.keys.retain(|(key, _)| !key.starts_with("tokenizer."));
    let keys: [(&str, Value); 7] = [
        ("model", "gpt2".into()),
        ("pre", "smollm".into()),
        ("tokens", tokens.into()),
        ("token_type", types.into()),
        ("merges", merges.into()),
        ("bos_token_id", 0_u32.into()),
        ("add_bos_token", true.into()),
    ];
    model.keys.extend(keys.map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)));
}
