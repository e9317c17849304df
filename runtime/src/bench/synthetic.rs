//! A model with TinyLlama-1.1B's shape and tensor types, and random weights: for speed it is TinyLlama.

use std::io;
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};
use quantloom_kernels::formats::{Q4_0, Q6_K};
use quantloom_kernels::{BlockFormat, Format};
use rayon::prelude::*;

use crate::gguf::{Gguf, GgufWriter, TensorType};
use crate::sample::SplitMix64;
use crate::{Error, pull};

const LAYERS: usize = 22;
const EMBEDDING: usize = 2048;
const FEED_FORWARD: usize = 5632;
const HEADS: usize = 32;
const KV_HEADS: usize = 4;
const VOCAB: usize = 32_000;
const KEY_VALUE: usize = EMBEDDING / HEADS * KV_HEADS;

const NAME: &str = "tinyllama-1.1b-shaped.Q4_0.gguf";

const NAME_KEY: &str = "general.name";

/// By this the file is known wherever it lies.
const GENERAL_NAME: &str = "TinyLlama-1.1B's shape with random weights";

/// Llama's vocabulary of 32,000 pieces; its source is in `data/README.md`.
static VOCABULARY: &[u8] = include_bytes!("../../data/llama-spm-vocab.gguf");

/// The file, made where it isn't in the cache yet.
///
/// # Errors
/// It can't be written.
pub fn tinyllama() -> Result<PathBuf, Error> {
    let cache = pull::cache_dir()?;
    std::fs::create_dir_all(&cache).map_err(|source| Error::Io { path: cache.clone(), source })?;
    let path = cache.join(NAME);
    // Files are renamed into place when whole: one that is there and opens is good.
    if path.exists() && Gguf::open(&path).is_ok() {
        return Ok(path);
    }
    let weights = LAYERS * (2 * EMBEDDING * (EMBEDDING + KEY_VALUE) + 3 * EMBEDDING * FEED_FORWARD)
        + 2 * VOCAB * EMBEDDING;
    let progress = ProgressBar::new(weights as u64).with_style(
        ProgressStyle::with_template("{msg} {wide_bar} {percent} % {eta}").expect("a template that parses"),
    );
    progress.set_message(format!("making {NAME} (637 MB, once)"));

    let vocabulary = Gguf::from_bytes("llama-spm-vocab.gguf", VOCABULARY)?;
    let mut file = GgufWriter::new(&path);
    file.metadata("general.architecture", "llama")?;
    file.metadata(NAME_KEY, GENERAL_NAME)?;
    file.metadata("general.file_type", 2_u32)?;
    for (key, value) in [
        ("llama.block_count", LAYERS),
        ("llama.context_length", 2048),
        ("llama.embedding_length", EMBEDDING),
        ("llama.feed_forward_length", FEED_FORWARD),
        ("llama.attention.head_count", HEADS),
        ("llama.attention.head_count_kv", KV_HEADS),
        ("llama.rope.dimension_count", EMBEDDING / HEADS),
        ("llama.vocab_size", VOCAB),
    ] {
        file.metadata(key, value as u32)?;
    }
    file.metadata("llama.attention.layer_norm_rms_epsilon", 1e-5_f32)?;
    file.metadata("llama.rope.freq_base", 10_000_f32)?;
    for (key, value) in vocabulary.metadata().iter().filter(|(key, _)| key.starts_with("tokenizer.")) {
        file.metadata(key, value.clone())?;
    }

    let mut seed = 0;
    let mut matrix =
        |file: &mut GgufWriter, name: String, format: &'static Format, cols: usize, rows: usize| {
            seed += 1;
            let (seed, progress) = (seed, progress.clone());
            file.tensor(&name, &[cols, rows], TensorType::Quantized(format), move |out| {
                random_matrix(format, cols, rows, seed, &progress, out)
            })
        };
    let norm = |file: &mut GgufWriter, name: String| {
        file.tensor(&name, &[EMBEDDING], TensorType::F32, |out| {
            out.write_all(&1_f32.to_le_bytes().repeat(EMBEDDING))
        })
    };
    let q4_0 = Q4_0::FORMAT;
    matrix(&mut file, "token_embd.weight".into(), q4_0, EMBEDDING, VOCAB)?;
    for l in 0..LAYERS {
        norm(&mut file, format!("blk.{l}.attn_norm.weight"))?;
        norm(&mut file, format!("blk.{l}.ffn_norm.weight"))?;
        for (name, cols, rows) in [
            ("attn_q", EMBEDDING, EMBEDDING),
            ("attn_k", EMBEDDING, KEY_VALUE),
            ("attn_v", EMBEDDING, KEY_VALUE),
            ("attn_output", EMBEDDING, EMBEDDING),
            ("ffn_gate", EMBEDDING, FEED_FORWARD),
            ("ffn_up", EMBEDDING, FEED_FORWARD),
            ("ffn_down", FEED_FORWARD, EMBEDDING),
        ] {
            matrix(&mut file, format!("blk.{l}.{name}.weight"), q4_0, cols, rows)?;
        }
    }
    norm(&mut file, "output_norm.weight".into())?;
    matrix(&mut file, "output.weight".into(), Q6_K::FORMAT, EMBEDDING, VOCAB)?;
    file.write()?;
    progress.finish_and_clear();
    Ok(path)
}

/// Whether a file is the one that is made here.
pub fn is_random(file: &Gguf) -> bool {
    matches!(file.metadata().str(NAME_KEY), Ok(Some(GENERAL_NAME)))
}

/// Rows of uniform weights with variance 1 / cols, so that products keep the size of what goes in.
fn random_matrix(
    format: &Format,
    cols: usize,
    rows: usize,
    seed: u64,
    progress: &ProgressBar,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    /// Rows made at a time, which bounds memory.
    const ROWS: usize = 256;
    let quantize = format.quantize.expect("both formats have a quantizer");
    let limit = (3.0 / cols as f32).sqrt();
    let row_bytes = format.bytes_for(cols);
    let mut blocks = vec![0; ROWS * row_bytes];
    for first in (0..rows).step_by(ROWS) {
        let blocks = &mut blocks[..(rows - first).min(ROWS) * row_bytes];
        blocks.par_chunks_exact_mut(row_bytes).enumerate().for_each_init(
            || vec![0.0; cols],
            |weights, (row, blocks)| {
                let mut random = SplitMix64(seed << 40 | (first + row) as u64);
                for weight in weights.iter_mut() {
                    let unit = (random.next() >> 40) as f32 / (1 << 23) as f32 - 1.0;
                    *weight = limit * unit;
                }
                quantize(weights, None, blocks);
            },
        );
        out.write_all(blocks)?;
        progress.inc((blocks.len() / row_bytes * cols) as u64);
    }
    Ok(())
}
