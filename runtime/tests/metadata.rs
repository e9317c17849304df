//! Metadata of strangers: what it costs to read, and what of it must not stop a model.

#[path = "common/tiny.rs"]
mod tiny;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::iter;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use half::{bf16, f16};
use quantloom::gguf::{Array, ByteString, Formats, Gguf, Strings, TensorType, Value};
use quantloom::imatrix::Imatrix;
use quantloom::perplexity::BaseFile;
use quantloom::quantize::{Recipe, quantize_file};
use quantloom::tokenizer::{EncodeOptions, SpecialTokens, Tokenizer};
use quantloom::{Error, Model};
use quantloom_kernels::{FORMATS, Supported};
use tempfile::TempDir;

use tiny::{SHAPE, TinyModel, tensor_type};

// What reading costs

/// Counts the bytes that are allocated, and refuses to allocate more than a limit at once.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static MOST_AT_ONCE: AtomicUsize = AtomicUsize::new(usize::MAX);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: memory comes from the system's allocator, or is refused by a null pointer, as the trait allows.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > MOST_AT_ONCE.load(Relaxed) {
            return std::ptr::null_mut();
        }
        PEAK.fetch_max(LIVE.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller keeps the trait's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as for `alloc`, which this memory is from.
        unsafe { System.dealloc(pointer, layout) };
    }
}

/// Tests one after the other, as the counts are the process's.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The most bytes that were allocated at a time while `run` ran.
fn peak<T>(run: impl FnOnce() -> T) -> (usize, T) {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = run();
    (PEAK.load(Relaxed) - before, result)
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes(), bytes].concat()
}

fn strings<T: AsRef<[u8]>>(strings: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut count = 0_u64;
    let mut all = Vec::new();
    for text in strings {
        all.extend((text.as_ref().len() as u64).to_le_bytes());
        all.extend(text.as_ref());
        count += 1;
    }
    array(8, count, &all)
}

fn array(element_type: u32, len: u64, elements: &[u8]) -> Vec<u8> {
    [&element_type.to_le_bytes()[..], &len.to_le_bytes(), elements].concat()
}

fn key(name: &str, value_type: u32, value: &[u8]) -> Vec<u8> {
    [&string(name.as_bytes()), &value_type.to_le_bytes()[..], value].concat()
}

fn file(tensors: &[Vec<u8>], keys: &[Vec<u8>]) -> Vec<u8> {
    let counts = [tensors.len() as u64, keys.len() as u64].map(u64::to_le_bytes);
    [b"GGUF\x03\0\0\0", &counts[0][..], &counts[1], &keys.concat(), &tensors.concat(), &[0; 32]].concat()
}

/// A vocabulary of byte-level BPE.
fn bpe(tokens: Vec<u8>, merges: Vec<u8>, types: Option<Vec<u8>>) -> Vec<u8> {
    let mut keys = vec![
        key("tokenizer.ggml.model", 8, &string(b"gpt2")),
        key("tokenizer.ggml.pre", 8, &string(b"gpt-2")),
        key("tokenizer.ggml.tokens", 9, &tokens),
        key("tokenizer.ggml.merges", 9, &merges),
    ];
    keys.extend(types.map(|types| key("tokenizer.ggml.token_type", 9, &types)));
    file(&[], &keys)
}

/// A vocabulary of SentencePiece: all bytes, and `more`.
fn spm<T: AsRef<[u8]>>(more: impl IntoIterator<Item = T>, ty: i32) -> Vec<u8> {
    let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>").into_bytes());
    let tokens: Vec<Vec<u8>> = bytes.chain(more.into_iter().map(|text| text.as_ref().to_vec())).collect();
    let n = tokens.len() as u64;
    let scores: Vec<u8> = (0..n).flat_map(|id| (-(id as f32)).to_le_bytes()).collect();
    let types: Vec<u8> = (0..n).flat_map(|id| if id < 256 { 6 } else { ty }.to_le_bytes()).collect();
    let keys = [
        key("tokenizer.ggml.model", 8, &string(b"llama")),
        key("tokenizer.ggml.tokens", 9, &strings(tokens)),
        key("tokenizer.ggml.scores", 9, &array(6, n, &scores)),
        key("tokenizer.ggml.token_type", 9, &array(5, n, &types)),
    ];
    file(&[], &keys)
}

/// A file and its tokenizer.
fn read(path: &Path) -> Result<(Gguf, Tokenizer), Error> {
    let gguf = Gguf::open(path)?;
    let tokenizer = Tokenizer::from_metadata(gguf.metadata())?;
    Ok((gguf, tokenizer))
}

/// Texts of three letters each, all different.
fn three_letters(count: usize) -> impl Iterator<Item = [u8; 3]> {
    let letter = |n: usize| b'!' + (n % 90) as u8;
    (0..count).map(move |n| [letter(n), letter(n / 90), letter(n / 8100)])
}

#[test]
fn memory_follows_from_the_files_size() {
    let _turn = alone();
    let tensor = |n: usize| {
        let shape = [1_u32.to_le_bytes().to_vec(), 1_u64.to_le_bytes().to_vec()].concat();
        let place = [0_u32.to_le_bytes().to_vec(), (32 * n as u64).to_le_bytes().to_vec()].concat();
        [string(format!("{n:x}").as_bytes()), shape, place].concat()
    };
    let wide = |n: u32| char::from_u32(0x4e00 + n).unwrap();
    let pairs = || (0..400).flat_map(|a| (0..400).map(move |b| (wide(a), wide(b))));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("millions of empty tokens", bpe(strings(vec![[]; 1_000_000]), strings([""; 0]), None)),
        ("empty tokens with scores and types", spm(vec![[]; 600_000], 1)),
        ("unknown tokens, all empty", spm(vec![[]; 500_000], 2)),
        ("short tokens", bpe(strings(three_letters(400_000)), strings([""; 0]), None)),
        ("short tokens, all control", spm(three_letters(300_000), 3)),
        ("short tokens, all user-defined", spm(three_letters(300_000), 4)),
        (
            "merges of all pairs",
            bpe(
                strings((0..400).map(|n| wide(n).to_string()).chain(pairs().map(|(a, b)| format!("{a}{b}")))),
                strings(pairs().map(|(a, b)| format!("{a} {b}"))),
                None,
            ),
        ),
        ("one merge, a million times", bpe(strings(["a", "b", "ab"]), strings(vec!["a b"; 500_000]), None)),
        ("empty merges", bpe(strings(["a"]), strings(vec![[]; 1_000_000]), None)),
        ("empty strings of some key", file(&[], &[key("k", 9, &strings(vec![[]; 3_000_000]))])),
        ("bytes", file(&[], &[key("k", 9, &array(0, 30_000_000, &vec![7; 30_000_000]))])),
        ("booleans", file(&[], &[key("k", 9, &array(7, 30_000_000, &vec![1; 30_000_000]))])),
        ("doubles", file(&[], &[key("k", 9, &array(12, 3_000_000, &vec![0; 24_000_000]))])),
        ("long strings", file(&[], &[key("k", 9, &strings(vec![vec![b'x'; 1 << 20]; 24]))])),
        (
            "arrays in arrays",
            file(&[], &[key("k", 9, &array(9, 1 << 20, &array(8, 0, &[]).repeat(1 << 20)))]),
        ),
        ("keys", file(&[], &Vec::from_iter((0..65_536).map(|n| key(&format!("{n:x}"), 0, &[0]))))),
        ("tensors", [file(&Vec::from_iter((0..65_536).map(tensor)), &[]), vec![0; 32 * 65_536]].concat()),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    for (case, bytes) in cases {
        fs::write(&path, &bytes).unwrap();
        let start = Instant::now();
        // The map is the file's length itself.
        let (peak, _) = peak(|| drop(read(&path)));
        let most = 3 * bytes.len() + (40 << 20);
        assert!(peak <= most, "{case}: {peak} bytes for a file of {}", bytes.len());
        assert!(start.elapsed() < Duration::from_secs(10), "{case}: {:?}", start.elapsed());
    }
}

#[test]
fn memory_that_is_not_there_is_an_error() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let n = 100_000;
    let cases: [(&str, Vec<u8>, &str); 6] = [
        (
            "numbers",
            file(&[], &[key("k", 9, &array(4, n, &vec![0; 4 * n as usize]))]),
            "key `k` needs 400000 bytes",
        ),
        (
            "strings",
            file(&[], &[key("k", 9, &strings(vec!["ab"; n as usize]))]),
            "key `k` needs 600000 bytes",
        ),
        ("a string", file(&[], &[key("k", 8, &string(&vec![b'x'; 300_000]))]), "key `k` needs 300000 bytes"),
        ("a name", file(&[], &[key(&"x".repeat(300_000), 0, &[0])]), "name of key 0 needs 300000 bytes"),
        // The texts fit, and the table to find them by is larger.
        (
            "tokens",
            bpe(strings(three_letters(60_000)), strings([""; 0]), None),
            "tokenizer.ggml.tokens` has 60000 values, and there is no memory",
        ),
        (
            "merges",
            bpe(strings(["a", "b", "ab"]), strings(vec!["a b"; 15_000]), None),
            "tokenizer.ggml.merges` has 15000 values, and there is no memory",
        ),
    ];
    for (case, bytes, expected) in cases {
        fs::write(&path, bytes).unwrap();
        MOST_AT_ONCE.store(260_000, Relaxed);
        let result = read(&path);
        MOST_AT_ONCE.store(usize::MAX, Relaxed);
        let error = result.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(expected) && !error.contains('\n'), "{case}: {error:?}");
    }
}

/// A merge makes a longer text of two, so that none leads back; ranks may be tied, and pairs occur again and again.
#[test]
fn merges_that_point_at_each_other_end() {
    let _turn = alone();
    let a = |n: usize| "a".repeat(n);
    // Of every length up to 200, each made from both ends: every merge makes what the next one takes.
    let tokens = Vec::from_iter((1..=200).map(a).chain(["b".into(), "ab".into(), "ba".into()]));
    let chain = (1..200).flat_map(|n| [format!("{} a", a(n)), format!("a {}", a(n))]);
    let circle = ["a b", "b a"].map(String::from);
    let merges = Vec::from_iter(circle.iter().cloned().chain(chain).chain(circle.clone()));
    let bpe = bpe(strings(&tokens), strings(&merges), None);
    let spm = spm(Vec::from_iter(tokens.iter().chain([&"▁".to_owned()]).map(String::as_bytes)), 1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    for (case, bytes) in [("BPE", bpe), ("SentencePiece", spm)] {
        fs::write(&path, bytes).unwrap();
        let (_gguf, tokenizer) = read(&path).unwrap();
        for text in ["a".repeat(200_000), "ab".repeat(100_000), "aab".repeat(70_000)] {
            let options = EncodeOptions { add_bos: false, add_eos: false, parse_special: true };
            let start = Instant::now();
            let ids = tokenizer.encode(&text, options);
            assert!(start.elapsed() < Duration::from_secs(5), "{case}: {:?}", start.elapsed());
            assert_eq!(tokenizer.decode(&ids, SpecialTokens::Render), text, "{case}");
        }
    }
}

#[test]
fn memory_of_encoding_follows_from_the_text() {
    let _turn = alone();
    let vocab = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/llama-spm-vocab.gguf");
    let (_gguf, tokenizer) = read(&vocab).unwrap();
    let options = EncodeOptions { add_bos: true, add_eos: true, parse_special: true };
    for text in ["Ein Satz, den es oft gibt.\n", "  deep   space  ", "<s>word"] {
        let text = text.repeat((3 << 20) / text.len());
        let (peak, ids) = peak(|| tokenizer.encode(&text, options));
        assert!(peak <= 4 * text.len() + (64 << 20), "{peak} bytes for {} of {:?}", text.len(), &text[..8]);
        assert_eq!(tokenizer.decode(&ids[1..], SpecialTokens::Render), text);
    }
}

#[test]
fn importance_matrices_and_logits_cost_no_more_than_their_files() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let number = |n: i32| n.to_le_bytes().to_vec();
    let entry = |name: &str, values: usize| {
        [number(name.len() as i32), name.into(), number(1), number(values as i32), vec![0; 4 * values]]
            .concat()
    };
    let dat = |entries: Vec<Vec<u8>>| [number(entries.len() as i32), entries.concat()].concat();
    let base = |context: u32, vocab: u32, chunks: u32, rest: usize| {
        [b"_logits_".to_vec(), [context, vocab, chunks].map(u32::to_le_bytes).concat(), vec![0; rest]]
            .concat()
    };
    let names = || (0..100_000).map(|n| entry(&format!("{n:x}"), 1));
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("entries of one value", dat(names().collect()), "100000 entries; the most is 65536"),
        ("as many as can be", dat(names().take(65_536).collect()), ""),
        ("one large entry", dat(vec![entry("x", 4 << 20)]), ""),
        (
            "a claim of values",
            [number(1), number(1), b"x".to_vec(), number(1), number(i32::MAX), vec![0; 8]].concat(),
            "bytes are left",
        ),
        ("a claim of chunks", base(512, 32_000, u32::MAX, 1 << 20), "are asked for by its header"),
        ("a claim of tokens", base(u32::MAX, u32::MAX, u32::MAX, 1 << 20), "are asked for by its header"),
    ];
    for (case, bytes, problem) in cases {
        fs::write(&path, &bytes).unwrap();
        let (peak, error) = peak(|| {
            let result = match bytes.starts_with(b"_logits_") {
                true => BaseFile::open(&path).map(drop),
                false => Imatrix::open(&path).map(drop),
            };
            result.err().map(|error| error.to_string()).unwrap_or_default()
        });
        assert!(error.contains(problem) && error.is_empty() == problem.is_empty(), "{case}: {error:?}");
        assert!(peak <= 3 * bytes.len() + (40 << 20), "{case}: {peak} bytes for a file of {}", bytes.len());
    }
}

// What must not stop a model

/// A small model's file, changed.
fn changed(change: impl FnOnce(&mut TinyModel)) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut model = TinyModel::new(&SHAPE);
    change(&mut model);
    model.write(&path);
    (folder, path)
}

fn set(model: &mut TinyModel, key: &str, value: impl Into<Value>) {
    model.keys.retain(|(other, _)| other != key);
    model.keys.push((key.into(), value.into()));
}

fn load(path: &Path) -> Result<Model, Error> {
    Model::from_gguf(Gguf::open(path)?, Supported::all().next().unwrap(), 1)
}

type Keys = Vec<(&'static str, Value)>;

#[test]
fn keys_that_ask_for_nothing_do_not_stop_a_model() {
    let _turn = alone();
    let (_folder, plain) = changed(|_| {});
    let logits = load(&plain).unwrap().forward(&[3, 4, 5]).unwrap();
    let (layers, heads, kv_heads, hidden) = (SHAPE.layers, SHAPE.heads, SHAPE.kv_heads, SHAPE.feed_forward);
    let each = |n: usize| vec![n as u32; layers];
    let cases: Vec<(&str, Keys)> = vec![
        ("causal", vec![("llama.attention.causal", true.into())]),
        ("no pooling", vec![("llama.pooling_type", 0_u32.into())]),
        ("pooling of choice", vec![("llama.pooling_type", (-1_i32).into())]),
        (
            "linear by 1",
            vec![("llama.rope.scaling.type", "linear".into()), ("llama.rope.scaling.factor", 1.0_f32.into())],
        ),
        ("linear, no factor", vec![("llama.rope.scaling.type", "linear".into())]),
        (
            "none, left-over factor",
            vec![("llama.rope.scaling.type", "none".into()), ("llama.rope.scaling.factor", 8.0_f32.into())],
        ),
        (
            "none, left-over old factor",
            vec![("llama.rope.scaling.type", "none".into()), ("llama.rope.scale_linear", 4.0_f32.into())],
        ),
        ("factor 0", vec![("llama.rope.scaling.factor", 0.0_f32.into())]),
        (
            "YaRN by 1",
            vec![
                ("llama.rope.scaling.type", "yarn".into()),
                ("llama.rope.scaling.factor", 1.0_f64.into()),
                ("llama.rope.scaling.original_context_length", 64_u32.into()),
                ("llama.rope.scaling.yarn_beta_fast", 32.0_f32.into()),
                ("llama.rope.scaling.yarn_log_multiplier", 0.1_f32.into()),
            ],
        ),
        (
            "no experts",
            vec![("llama.expert_count", 0_u32.into()), ("llama.expert_gating_func", 1_u32.into())],
        ),
        ("LayerNorm's epsilon", vec![("llama.attention.layer_norm_epsilon", 1e-5_f32.into())]),
        ("no caps", vec![("llama.attn_logit_softcapping", 0.0_f32.into())]),
        ("unscaled", vec![("llama.logit_scale", 1.0_f32.into()), ("llama.attention.scale", 0.0_f32.into())]),
        ("heads of layers", vec![("llama.attention.head_count", each(heads).into())]),
        ("KV heads of layers", vec![("llama.attention.head_count_kv", each(kv_heads).into())]),
        ("hidden of layers", vec![("llama.feed_forward_length", each(hidden).into())]),
        ("as i32", vec![("llama.attention.head_count", vec![heads as i32; layers].into())]),
        ("as u64", vec![("llama.attention.head_count_kv", vec![kv_heads as u64; layers].into())]),
        ("as u8", vec![("llama.feed_forward_length", vec![hidden as u8; layers].into())]),
    ];
    for (case, keys) in cases {
        let (_folder, path) =
            changed(|model| keys.into_iter().for_each(|(key, value)| set(model, key, value)));
        let model = load(&path).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(model.forward(&[3, 4, 5]).unwrap(), logits, "{case}");
    }
}

#[test]
fn keys_that_ask_for_something_still_do() {
    let _turn = alone();
    let layers = SHAPE.layers;
    #[rustfmt::skip]
    let cases: Vec<(Keys, &str)> = vec![
        (vec![("llama.attention.causal", false.into())], "llama.attention.causal = false asks for attention to what follows"),
        (vec![("llama.attention.causal", 1_u32.into())], "llama.attention.causal = 1 asks"),
        (vec![("llama.pooling_type", 2_u32.into())], "llama.pooling_type = 2 asks for pooled"),
        (vec![("llama.rope.scaling.factor", 2.0_f32.into())], "llama.rope.scaling.factor = 2 asks"),
        (vec![("llama.rope.scaling.type", "linear".into()), ("llama.rope.scaling.factor", 2.0_f32.into())], "factor = 2 asks"),
        (vec![("llama.rope.scaling.type", "yarn".into()), ("llama.rope.scaling.factor", 4.0_f32.into())], "factor = 4 asks"),
        (vec![("llama.rope.scaling.type", "longrope".into())], r#"type = "longrope" asks"#),
        (vec![("llama.rope.scaling.attn_factor", 0.0_f32.into())], "attn_factor = 0 asks"),
        (vec![("llama.new_idea", 0_u32.into())], "llama.new_idea = 0 asks for something"),
        (vec![("llama.attention.head_count", vec![4_u32, 2].into())], "key `llama.attention.head_count` is 4 for layer 0 and 2 for layer 1"),
        (vec![("llama.attention.head_count_kv", vec![2_u32; layers + 1].into())], "`llama.attention.head_count_kv` has 3 numbers, and the model 2 layers"),
        (vec![("llama.feed_forward_length", Value::from(Vec::<u32>::new()))], "key `llama.feed_forward_length` is [0 × u32]"),
        (vec![("llama.feed_forward_length", vec![96.0_f32; layers].into())], "key `llama.feed_forward_length` is [2 × f32]"),
        (vec![("llama.attention.head_count", vec![0_u32; layers].into())], "llama.attention.head_count is 0"),
        (vec![("llama.attention.head_count", vec![-4_i32; layers].into())], "key `llama.attention.head_count` is [2 × i32]"),
    ];
    for (keys, expected) in cases {
        let (_folder, path) =
            changed(|model| keys.into_iter().for_each(|(key, value)| set(model, key, value)));
        let error = load(&path).map(drop).expect_err(expected).to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error:?}, expected {expected:?}");
    }
}

#[test]
fn dimensions_of_1_at_the_end_are_none() {
    let _turn = alone();
    let (_folder, plain) = changed(|_| {});
    let logits = load(&plain).unwrap().forward(&[3, 4, 5]).unwrap();
    for (name, more) in [
        ("output_norm.weight", 1),
        ("blk.0.attn_norm.weight", 3),
        ("blk.1.ffn_norm.weight", 2),
        ("token_embd.weight", 1),
        ("blk.0.attn_q.weight", 2),
        ("output.weight", 1),
    ] {
        let (folder, path) = changed(|model| {
            let tensor = model.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap();
            tensor.dims.extend(vec![1; more]);
        });
        let model = load(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(model.forward(&[3, 4, 5]).unwrap(), logits, "{name}");
        // And what is made of it.
        let target = folder.path().join("f16.gguf");
        quantize(&Gguf::open(&path).unwrap(), &target, "F16").unwrap();
        let [before, after] = [model, load(&target).unwrap()];
        let dims = |model: &Model| model.gguf().require_tensor(name).unwrap().dims().to_vec();
        assert_eq!(dims(&before), dims(&after), "{name}");
    }
}

fn quantize(source: &Gguf, target: &Path, ty: &str) -> Result<(), Error> {
    let mut recipe = Recipe::new(ty, &Formats::default())?;
    recipe.unweighted = true;
    recipe.pure = true;
    quantize_file(source, target, &recipe, Some(1), |_| ControlFlow::Continue(())).map(drop)
}

#[test]
fn strings_that_are_not_utf_8_are_kept_byte_for_byte() {
    let _turn = alone();
    let latin_1 = b"Mod\xe8le fran\xe7ais";
    let raw: &[u8] = b"\xf0\x9f";
    let (folder, path) = changed(|model| {
        set(model, "general.description", ByteString::from(latin_1.to_vec()));
        set(model, "general.tags", Strings::from_iter([&latin_1[..], b"plain", b"\xff"]));
        let (_, tokens) = model.keys.iter_mut().find(|(key, _)| key == "tokenizer.ggml.tokens").unwrap();
        let Value::Array(Array::String(texts)) = tokens else { panic!("tokens are strings") };
        let texts = texts.iter().enumerate();
        *tokens = texts.map(|(id, text)| if id == 262 { raw } else { text }).collect::<Strings>().into();
    });
    let model = load(&path).unwrap();
    assert_eq!(
        model.gguf().metadata().require_byte_string("general.description").unwrap().as_bytes(),
        latin_1
    );
    assert_eq!(model.tokenizer().token_bytes(262), Some(raw));
    assert_eq!(model.tokenizer().token_text(262), None);
    assert_eq!(model.tokenizer().decode(&[262, 262], SpecialTokens::Skip), "\u{fffd}\u{fffd}");
    let shown = model.gguf().metadata().get("general.description").unwrap().to_string();
    assert_eq!(shown, r#""Mod\xE8le fran\xE7ais""#);

    let target = folder.path().join("target.gguf");
    quantize(&Gguf::open(&path).unwrap(), &target, "F16").unwrap();
    let [before, after] = [&path, &target].map(|path| Gguf::open(path).unwrap());
    for (key, value) in before.metadata().iter().filter(|(key, _)| *key != "general.file_type") {
        assert_eq!(after.metadata().get(key), Some(value), "{key}");
    }

    // Where a text is needed.
    for text in ["general.architecture", "tokenizer.ggml.model"] {
        let (_folder, path) = changed(|model| set(model, text, ByteString::from(b"llam\xe0".to_vec())));
        let error = load(&path).map(drop).expect_err(text).to_string();
        assert!(error.ends_with(&format!("key `{text}` is not valid UTF-8")), "{error}");
    }
    for (bytes, expected) in [
        (
            file(&[], &[key("a", 0, &[0]), [string(b"k\xff"), vec![0; 5]].concat()]),
            "name of key 1 is not valid UTF-8",
        ),
        (file(&[[string(b"\xff"), vec![0; 24]].concat()], &[]), "name of tensor 0 is not valid UTF-8"),
    ] {
        let error = Gguf::from_bytes("x.gguf", &bytes).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

// Weights that are large

/// A model of one matrix, in memory alone.
fn matrix(ty: &str, weights: &[f32]) -> Gguf {
    let data: Vec<u8> = match ty {
        "F32" => weights.iter().flat_map(|w| w.to_le_bytes()).collect(),
        "F16" => weights.iter().flat_map(|w| f16::from_f32(*w).to_le_bytes()).collect(),
        _ => weights.iter().flat_map(|w| bf16::from_f32(*w).to_le_bytes()).collect(),
    };
    let dims = [256, weights.len() as u64 / 256].map(u64::to_le_bytes);
    let ty = tensor_type(ty).gguf_id().unwrap().to_le_bytes();
    let entry = [string(MATRIX.as_bytes()), 2_u32.to_le_bytes().into(), dims.concat(), ty.into(), vec![0; 8]];
    let mut bytes = file(&[entry.concat()], &[]);
    bytes.resize((bytes.len() - 32).next_multiple_of(32), 0);
    bytes.extend(data);
    Gguf::from_bytes("source.gguf", &bytes).unwrap()
}

const MATRIX: &str = "blk.0.attn_q.weight";

#[test]
fn large_weights_go_as_far_as_the_format() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target.gguf");
    let too_large = |ty: &str, problem: &str| Some(format!("which {ty} can't hold{problem}"));
    let cases: Vec<(&str, f32, &str, Option<String>)> = vec![
        ("BF16", 70_144.0, "Q8_0", None),
        ("F32", 127.0 * 65_504.0, "Q8_0", None),
        ("F32", -127.0 * 65_504.0, "Q8_0", None),
        // -128 has no positive counterpart, but scales have a sign.
        ("F32", 128.0 * 65_536.0, "Q8_0", too_large("Q8_0", " in a block, whose largest is 83")),
        ("F32", 8.0 * 65_504.0, "Q4_0", None),
        ("F32", -8.0 * 65_504.0, "Q4_0", None),
        ("F32", 8.0 * 65_536.0, "Q4_0", too_large("Q4_0", " in a block, whose largest is 524")),
        ("F32", 16.0 * 65_504.0, "Q5_0", None),
        ("F32", 15.0 * 65_504.0, "Q4_1", None),
        ("F32", -65_504.0, "Q4_1", None),
        // Beyond the end of a minimum, but a scale may be negative.
        ("F32", -65_536.0, "Q4_1", None),
        ("F32", -15.0 * 65_504.0, "Q4_1", None),
        ("F32", -16.0 * 65_536.0, "Q4_1", too_large("Q4_1", " in a block, whose largest is 98")),
        ("F32", 1e30, "MXFP4", None),
        ("BF16", -3e38, "MXFP4", None),
        ("F32", 1e5, "NVFP4", too_large("NVFP4", " in a block, whose largest is")),
        ("F32", 1e6, "Q4_K", None),
        ("F32", 1e6, "Q6_K", None),
        ("F32", 1e30, "Q6_K", too_large("Q6_K", " in a block, whose largest is")),
        ("F32", 65_504.0, "F16", None),
        ("BF16", 1e5, "F16", too_large("F16", ", as its largest is 65504")),
        ("F32", 3e38, "BF16", None),
        ("F32", f32::MAX, "BF16", too_large("BF16", ", as its largest is")),
        ("BF16", 3e38, "F32", None),
    ];
    for (from, weight, ty, problem) in cases {
        let mut weights = vec![0.25; 512];
        weights[300] = weight;
        let source = matrix(from, &weights);
        let case = format!("{weight} from {from} to {ty}");
        match (quantize(&source, &target, ty), problem) {
            (Ok(()), None) => {
                let made = floats(&target);
                // No format is further off than one bit.
                let furthest = weights[300];
                assert!((made[300] - furthest).abs() < 0.3 * furthest.abs(), "{case}: {}", made[300]);
            }
            (Err(error), Some(problem)) => {
                let error = error.to_string();
                assert!(error.contains(&format!("weight 300 of tensor `{MATRIX}`")), "{case}: {error}");
                assert!(
                    error.contains(&problem) && !error.contains('\n'),
                    "{case}: {error}, expected {problem}"
                );
            }
            (result, problem) => panic!("{case}: {result:?}, expected {problem:?}"),
        }
    }
}

/// The weights of the matrix in a file.
fn floats(path: &Path) -> Vec<f32> {
    let file = Gguf::open(path).unwrap();
    let tensor = &file.tensors()[0];
    let data = tensor.data();
    let TensorType::Quantized(format) = tensor.ty() else {
        return match tensor.ty().name() {
            "F32" => data.as_chunks().0.iter().map(|w| f32::from_le_bytes(*w)).collect(),
            "F16" => data.as_chunks().0.iter().map(|w| f16::from_le_bytes(*w).to_f32()).collect(),
            _ => data.as_chunks().0.iter().map(|w| bf16::from_le_bytes(*w).to_f32()).collect(),
        };
    };
    let mut weights = vec![0.0; tensor.rows() * tensor.cols()];
    format.kernels(Supported::all().next().unwrap()).dequantize(data, &mut weights).unwrap();
    weights
}

#[test]
fn no_format_writes_what_is_not_finite() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let formats = FORMATS.iter().filter(|format| format.gguf_id.is_some() && format.quantize.is_some());
    let types: Vec<_> = formats.map(|format| format.name).chain(["F32", "F16", "BF16"]).collect();
    type WeightAt = fn(usize, f32) -> f32;
    let shapes: [(&str, WeightAt); 4] = [
        ("alone", |i, w| if i % 256 == 77 { w } else { 0.0 }),
        ("all", |_, w| w),
        ("both signs", |i, w| if i % 2 == 0 { w } else { -w }),
        ("among small ones", |i, w| if i % 32 == 5 { -w } else { 1.0 + (i % 7) as f32 }),
    ];
    let check = |ty: &str| {
        let target = folder.path().join(ty);
        let mut is_held = Vec::new();
        for weight in [1e5_f32, 1e6, f32::MAX] {
            for (shape, weight_at) in shapes {
                // Two rows: a single one is no matrix.
                let weights: Vec<_> = (0..512).map(|i| weight_at(i, weight)).collect();
                let source = matrix("F32", &weights);
                match quantize(&source, &target, ty) {
                    Err(error) => {
                        assert!(error.to_string().contains("can't hold"), "{ty}, {weight}, {shape}: {error}")
                    }
                    Ok(()) => {
                        is_held.push((weight, shape));
                        let made = floats(&target);
                        assert!(made.iter().all(|w| w.is_finite()), "{ty}, {weight}, {shape}");
                        let most = made.iter().fold(0.0_f32, |most, w| most.max(w.abs()));
                        assert!(most > 0.002 * weight, "{ty}, {weight}, {shape}: at most {most}");
                    }
                }
            }
        }
        // Those whose largest value is the scale itself, or has no scale of f16, end before.
        let ends_before = ["F16", "NVFP4", "TQ1_0"].contains(&ty);
        assert_eq!(is_held.contains(&(1e5, "alone")), !ends_before, "{ty}: {is_held:?}");
    };
    // Quantizers with a codebook take seconds for weights that are nowhere near it: every core takes types.
    let types = Mutex::new(types.into_iter());
    let next = || types.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(|| iter::from_fn(next).for_each(check));
        }
    });
}

#[test]
fn what_is_no_number_is_refused_whatever_becomes_of_it() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target.gguf");
    for weight in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for from in ["F32", "F16", "BF16"] {
            let mut weights = vec![0.25; 256 * 100];
            weights[20_345] = weight;
            let source = matrix(from, &weights);
            for to in ["F32", "F16", "BF16", "Q8_0", "Q4_K", "MXFP4"] {
                let error = quantize(&source, &target, to).expect_err(to).to_string();
                let expected = format!("weight 20345 of tensor `{MATRIX}` is {weight}");
                assert!(error.contains(&expected), "{from} to {to}: {error}, expected {expected}");
                assert!(!target.exists(), "{from} to {to}");
            }
        }
    }
}
