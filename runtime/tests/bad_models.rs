//! Files that are good GGUF and no model that can be run: each is one line of text that names file and fault.

#[path = "common/tiny.rs"]
mod tiny;

use std::fs;
use std::sync::{Mutex, PoisonError};

use half::f16;
use quantloom::alloc::CountingAllocator;
use quantloom::gguf::{Gguf, Value};
use quantloom::{Error, Model};
use quantloom_kernels::Supported;

use tiny::{SHAPE, Shape, TinyModel, TinyTensor, tensor_type};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// The shape of the model that is damaged: with every key that there is.
const GOOD: Shape = Shape { head_dim: 24, rope_dims: 20, rope_base: 5_000.0, ..SHAPE };

type Damage = fn(&mut TinyModel);

#[test]
fn damage_is_named() {
    const NAN: f32 = f32::NAN;
    const INF: f32 = f32::INFINITY;
    #[rustfmt::skip]
    let cases: &[(&str, Damage, &[&str])] = &[
        // What is not built.
        ("another architecture", |m| m.set("general.architecture", "qwen2"), &["general.architecture", "qwen2", "this build runs `llama`"]),
        ("another architecture without tokenizer", |m| { m.set("general.architecture", "clip"); m.remove("tokenizer.ggml.model") }, &["architecture `clip`"]),
        ("another architecture with another tokenizer", |m| { m.set("general.architecture", "qwen2"); m.set("tokenizer.ggml.pre", "qwen2"); m.set("tokenizer.ggml.model", "gpt2") }, &["architecture `qwen2`"]),
        ("architecture with a line break", |m| m.set("general.architecture", "a\nb"), &[r"a\nb"]),
        ("architecture a number", |m| m.set("general.architecture", 1_u32), &["key `general.architecture` is 1 (u32)"]),
        ("other rope scaling", |m| m.set("llama.rope.scaling.type", "longrope"), &[r#"llama.rope.scaling.type = "longrope" asks for rope scaling"#]),
        ("rope scaling by 4", |m| m.set("llama.rope.scaling.factor", 4.0_f32), &["llama.rope.scaling.factor = 4 asks for rope scaling"]),
        ("old rope scaling", |m| m.set("llama.rope.scale_linear", 2.0_f32), &["llama.rope.scale_linear = 2 asks for rope scaling"]),
        ("attention factor", |m| m.set("llama.rope.scaling.attn_factor", 0.5_f32), &["llama.rope.scaling.attn_factor = 0.5"]),
        ("scaling factor NaN", |m| m.set("llama.rope.scaling.factor", NAN), &["llama.rope.scaling.factor = NaN"]),
        ("experts", |m| m.set("llama.expert_count", 8_u32), &["llama.expert_count = 8 asks for experts"]),
        ("experts in use", |m| m.set("llama.expert_used_count", 2_u64), &["llama.expert_used_count = 2 asks for experts"]),
        ("experts by text", |m| m.set("llama.expert_count", "0"), &[r#"llama.expert_count = "0" asks for experts"#]),
        ("sliding window", |m| m.set("llama.attention.sliding_window", 4096_u32), &["llama.attention.sliding_window = 4096 asks for a sliding window"]),
        ("unknown key", |m| m.set("llama.new_idea", 0.5_f32), &["llama.new_idea = 0.5 asks for something"]),
        ("unknown key with a line break", |m| m.set("llama.a\nb", 1_u8), &[r"llama.a\nb = 1"]),
        ("unknown key with an array", |m| m.set("llama.rope.dimension_sections", vec![1_u32, 2, 3]), &["llama.rope.dimension_sections = [3 × u32]"]),

        // Keys.
        ("layers for each block", |m| m.set("llama.attention.head_count", vec![4_u32, 2]), &["key `llama.attention.head_count` is 4 for layer 0 and 2 for layer 1"]),
        ("negative layers", |m| m.set("llama.block_count", -1_i32), &["key `llama.block_count` is -1 (i32)"]),
        ("layers over 32 bits", |m| m.set("llama.block_count", 1_u64 << 32), &["key `llama.block_count` is 4294967296 (u64)"]),
        ("one layer more", |m| m.set("llama.block_count", 3_u32), &["tensor `blk.2.attn_q.weight` is missing"]),
        ("2³² - 1 layers", |m| m.set("llama.block_count", u32::MAX), &["tensor `blk.2.attn_q.weight` is missing"]),
        ("one layer less", |m| m.set("llama.block_count", 1_u32), &["tensor `blk.1."]),
        ("2³² - 1 numbers in a token", |m| m.set("llama.embedding_length", u32::MAX), &["tensor `token_embd.weight` has the shape [64, 263]; the metadata makes it [4294967295, 263]"]),
        ("2³² - 1 hidden numbers", |m| m.set("llama.feed_forward_length", u32::MAX), &["tensor `blk.0.ffn_gate.weight`", "[64, 4294967295]"]),
        ("2³² - 1 in heads and head length", |m| { m.set("llama.attention.head_count", u32::MAX); m.set("llama.attention.head_count_kv", u32::MAX); m.set("llama.attention.key_length", u32::MAX); m.set("llama.attention.value_length", u32::MAX) }, &["tensor `blk.0.attn_q.weight`", "[64, 18446744065119617025]"]),
        ("heads no multiple of KV heads", |m| m.set("llama.attention.head_count_kv", 3_u32), &["llama.attention.head_count is 4", "head_count_kv, 3"]),
        ("more KV heads than heads", |m| m.set("llama.attention.head_count_kv", 8_u32), &["llama.attention.head_count is 4", "head_count_kv, 8"]),
        ("embedding no multiple of heads", |m| { m.remove("llama.attention.key_length"); m.set("llama.attention.head_count", 6_u32) }, &["llama.embedding_length is 64", "llama.attention.head_count, 6"]),
        ("values longer than keys", |m| m.set("llama.attention.value_length", 25_u32), &["llama.attention.value_length is 25 and the key length 24"]),
        ("rope on an odd number", |m| m.set("llama.rope.dimension_count", 19_u32), &["llama.rope.dimension_count is 19; it must be even"]),
        ("rope on more than a head", |m| m.set("llama.rope.dimension_count", 26_u32), &["llama.rope.dimension_count is 26", "head length, 24"]),
        ("rope base NaN", |m| m.set("llama.rope.freq_base", NAN), &["llama.rope.freq_base is NaN"]),
        ("rope base 0", |m| m.set("llama.rope.freq_base", 0.0_f32), &["llama.rope.freq_base is 0;"]),
        ("rope base negative", |m| m.set("llama.rope.freq_base", -1e4_f32), &["llama.rope.freq_base is -10000;"]),
        ("rope base infinite", |m| m.set("llama.rope.freq_base", 1e300_f64), &["llama.rope.freq_base is inf;"]),
        ("rope base an integer", |m| m.set("llama.rope.freq_base", 10_000_u32), &["key `llama.rope.freq_base` is 10000 (u32)"]),
        ("epsilon NaN", |m| m.set("llama.attention.layer_norm_rms_epsilon", NAN), &["llama.attention.layer_norm_rms_epsilon is NaN"]),
        ("epsilon infinite", |m| m.set("llama.attention.layer_norm_rms_epsilon", INF), &["llama.attention.layer_norm_rms_epsilon is inf"]),
        ("epsilon negative", |m| m.set("llama.attention.layer_norm_rms_epsilon", -1e-5_f32), &["llama.attention.layer_norm_rms_epsilon is -0.00001"]),

        // Vocabulary.
        ("vocabulary size", |m| m.set("llama.vocab_size", 264_u32), &["llama.vocab_size is 264", "tokenizer.ggml.tokens holds 263"]),
        ("rows of the embedding", |m| m.tensor("token_embd.weight").resize(&[64, 264]), &["tensor `token_embd.weight` has the shape [64, 264]; the metadata makes it [64, 263]"]),
        ("rows of the output", |m| m.tensor("output.weight").resize(&[64, 262]), &["tensor `output.weight` has the shape [64, 262]"]),
        ("another tokenizer", |m| m.set("tokenizer.ggml.model", "bert"), &["key `tokenizer.ggml.model` is \"bert\""]),
        ("too few scores", |m| m.set("tokenizer.ggml.scores", vec![0.0_f32; 3]), &["key `tokenizer.ggml.scores` has 3 values for 263 tokens"]),

        // Tensors.
        ("tensor of another model", |m| m.add("rope_freqs.weight", &[10]), &["tensor `rope_freqs.weight` belongs to something"]),
        ("bias", |m| m.add("blk.0.attn_q.bias", &[96]), &["tensor `blk.0.attn_q.bias` belongs to something"]),
        ("tensor with a line break", |m| m.add("a\nb", &[1]), &[r"tensor `a\nb` belongs to something"]),
        ("norm in Q8_0", |m| m.tensor("blk.1.ffn_norm.weight").retype("Q8_0"), &["tensor `blk.1.ffn_norm.weight` is Q8_0; it must be F32, F16 or BF16"]),
        ("NaN in a norm", |m| m.tensor("blk.1.attn_norm.weight").data[4 * 63..].copy_from_slice(&NAN.to_le_bytes()), &["tensor `blk.1.attn_norm.weight` holds NaN at index 63"]),
        ("infinity in a norm", |m| m.tensor("output_norm.weight").data[..4].copy_from_slice(&INF.to_le_bytes()), &["tensor `output_norm.weight` holds inf at index 0"]),
        ("infinity in an F16 norm", |m| { let norm = m.tensor("blk.0.ffn_norm.weight"); norm.retype("F16"); norm.data[2..4].copy_from_slice(&f16::NEG_INFINITY.to_le_bytes()) }, &["tensor `blk.0.ffn_norm.weight` holds -inf at index 1"]),
        ("matrix with a third dimension", |m| m.tensor("blk.0.attn_v.weight").resize(&[64, 48, 2]), &["tensor `blk.0.attn_v.weight` has the shape [64, 48, 2]"]),
        ("norm with a second dimension", |m| m.tensor("blk.0.attn_norm.weight").resize(&[64, 2]), &["tensor `blk.0.attn_norm.weight` has the shape [64, 2]"]),
    ];
    for (case, damage, fragments) in cases {
        let mut model = TinyModel::new(&GOOD);
        damage(&mut model);
        assert_refused(case, &model, fragments);
    }
}

#[test]
fn every_key_and_tensor_has_its_place() {
    // What becomes of the model without a key: what the error names. Others have defaults.
    let missing = [
        ("general.architecture", "general.architecture"),
        ("llama.block_count", "llama.block_count"),
        ("llama.context_length", "llama.context_length"),
        ("llama.embedding_length", "llama.embedding_length"),
        ("llama.feed_forward_length", "llama.feed_forward_length"),
        ("llama.attention.head_count", "llama.attention.head_count"),
        ("llama.attention.layer_norm_rms_epsilon", "llama.attention.layer_norm_rms_epsilon"),
        ("llama.attention.head_count_kv", "blk.0.attn_k.weight"),
        ("llama.attention.key_length", "llama.attention.value_length"),
        ("tokenizer.ggml.model", "tokenizer.ggml.model"),
        ("tokenizer.ggml.tokens", "tokenizer.ggml.tokens"),
        ("tokenizer.ggml.scores", "tokenizer.ggml.scores"),
    ];
    let good = || TinyModel::new(&GOOD);
    for (key, _) in good().keys {
        let without = || {
            let mut model = good();
            model.remove(&key);
            model
        };
        match missing.iter().find(|(required, _)| *required == key) {
            Some((_, named)) => assert_refused(&format!("without {key}"), &without(), &[named]),
            None => drop(load(&without()).unwrap_or_else(|error| panic!("without {key}: {error}"))),
        }
    }
    let positive = good().keys.into_iter().filter(|(key, value)| {
        key.starts_with("llama.") && key != "llama.vocab_size" && matches!(value, Value::U32(_))
    });
    for (key, _) in positive {
        let mut model = good();
        model.set(&key, 0_u32);
        assert_refused(&format!("{key} = 0"), &model, &[&format!("{key} is 0; it must be positive")]);
    }
    for TinyTensor { name, dims, .. } in good().tensors {
        let mut model = good();
        model.tensors.retain(|tensor| tensor.name != name);
        // Without an output matrix the token embedding serves.
        match &*name {
            "output.weight" => drop(load(&model).unwrap()),
            _ => {
                assert_refused(&format!("without {name}"), &model, &[&format!("tensor `{name}` is missing")])
            }
        }
        for dim in 0..dims.len() {
            let mut model = good();
            let mut other = dims.clone();
            other[dim] += 1;
            model.tensor(&name).resize(&other);
            let fragment = format!("tensor `{name}` has the shape {other:?}; the metadata makes it {dims:?}");
            assert_refused(&format!("{name} {other:?}"), &model, &[&fragment]);
        }
    }
}

#[test]
fn keys_that_ask_for_nothing_are_taken() {
    let mut model = TinyModel::new(&GOOD);
    model.set("llama.expert_count", 0_u32);
    model.set("llama.expert_used_count", 0_u16);
    model.set("llama.attention.sliding_window", 0_u32);
    model.set("llama.rope.scaling.type", "none");
    model.set("llama.rope.scaling.factor", 1.0_f32);
    model.set("llama.rope.scaling.attn_factor", 1.0_f64);
    model.set("llama.rope.scaling.finetuned", false);
    model.set("general.name", "a\nb");
    load(&model).unwrap();
}

/// No value of any key makes a panic, a long wait or a large allocation: a model is refused, or runs.
#[test]
fn any_value_of_any_key_does_no_harm() {
    let values: [Value; 14] = [
        0_u32.into(),
        1_u32.into(),
        7_u64.into(),
        (u32::MAX - 1).into(),
        u32::MAX.into(),
        u64::MAX.into(),
        i64::MIN.into(),
        f32::MIN_POSITIVE.into(),
        f32::MAX.into(),
        f64::NAN.into(),
        true.into(),
        "".into(),
        vec![u32::MAX; 3].into(),
        vec![String::new(); 3].into(),
    ];
    let keys = TinyModel::new(&GOOD).keys;
    for (key, _) in &keys {
        for value in &values {
            let mut model = TinyModel::new(&GOOD);
            model.set(key, value.clone());
            match load(&model) {
                Ok(model) => {
                    let logits = model.forward(&[1]).unwrap();
                    assert_eq!(logits.len(), GOOD.vocab, "{key} = {value}");
                }
                Err(error) => assert_one_line(&format!("{key} = {value}"), &error.to_string()),
            }
        }
    }
}

/// Weights may be anything: a pass through them ends, in logits that are finite or an error that names a tensor.
#[test]
fn any_weights_do_no_harm() {
    for ty in ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0", "Q6_K"] {
        let shape = Shape { ty, embedding: 256, feed_forward: 256, head_dim: 64, rope_dims: 64, ..SHAPE };
        for byte in [0x00, 0x7b, 0x7f, 0xff] {
            let mut model = TinyModel::new(&shape);
            let matrices = model.tensors.iter_mut().filter(|tensor| !tensor.name.contains("norm"));
            matrices.for_each(|tensor| tensor.data.fill(byte));
            let bytes = file(&model);
            for isa in Supported::all() {
                let model = Model::from_gguf(Gguf::from_bytes(FILE, &bytes).unwrap(), isa, 2).unwrap();
                let case = format!("{ty} {byte:#x} {}", isa.isa());
                match model.forward(&[1; 40]) {
                    Ok(logits) => {
                        assert_eq!(logits.len(), SHAPE.vocab, "{case}");
                        assert!(logits.iter().all(|logit| logit.is_finite()), "{case}");
                    }
                    Err(error) => assert_one_line(&case, &error.to_string()),
                }
            }
        }
    }
}

/// A context of 2³² - 1 tokens costs memory only as it fills; where the system promises none, that is an error.
#[test]
fn the_longest_context_is_an_error_or_is_free() {
    for shape in [GOOD, Shape { layers: 3, kv_heads: 4, ..GOOD }] {
        let mut model = TinyModel::new(&shape);
        model.set("llama.context_length", u32::MAX);
        let model = load(&model).unwrap();
        match model.create_kv_cache() {
            Ok(mut cache) => drop(model.forward_with_cache(&[1, 2, 3], &mut cache).unwrap()),
            Err(error) => {
                assert_eq!(
                    error.to_string(),
                    "no memory for the KV cache of 4294967295 tokens: ask for a shorter context"
                );
            }
        }
        model.forward(&[1, 2, 3]).unwrap();
    }
}

#[test]
fn rows_must_be_whole_blocks() {
    // The writer refuses such a file: the lengths are changed in a good one.
    let bytes = file(&TinyModel::new(&Shape { ty: "Q8_0", ..GOOD }));
    let name = b"blk.0.attn_q.weight";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len();
    let mut bad = bytes.clone();
    bad[at + 4..][..8].copy_from_slice(&63_u64.to_le_bytes());
    let text = Gguf::from_bytes("tiny.gguf", &bad).unwrap_err().to_string();
    let expected = "tiny.gguf: tensor `blk.0.attn_q.weight` has rows of 63 weights; \
                    Q8_0 needs a multiple of its block of 32";
    assert_eq!(text, expected);
}

impl TinyModel {
    /// The value of a key, new or not.
    fn set(&mut self, key: &str, value: impl Into<Value>) {
        match self.keys.iter_mut().find(|(other, _)| other == key) {
            Some((_, old)) => *old = value.into(),
            None => self.keys.push((key.into(), value.into())),
        }
    }

    fn remove(&mut self, key: &str) {
        self.keys.retain(|(other, _)| other != key);
    }

    fn tensor(&mut self, name: &str) -> &mut TinyTensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).expect(name)
    }

    /// An F32 tensor of zeros.
    fn add(&mut self, name: &str, dims: &[usize]) {
        let mut tensor =
            TinyTensor { name: name.into(), dims: Vec::new(), ty: tensor_type("F32"), data: Vec::new() };
        tensor.resize(dims);
        self.tensors.push(tensor);
    }
}

impl TinyTensor {
    /// Another shape; where it is larger, the rest is 0.
    fn resize(&mut self, dims: &[usize]) {
        self.dims = dims.to_vec();
        let weights: usize = dims.iter().product();
        self.data.resize(weights / self.ty.block_len() * self.ty.block_bytes(), 0);
    }

    /// Another type, with weights 0.
    fn retype(&mut self, ty: &str) {
        self.ty = tensor_type(ty);
        self.data.clear();
        self.resize(&self.dims.clone());
    }
}

const FILE: &str = "tiny.gguf";

fn file(model: &TinyModel) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    model.write(&folder.path().join(FILE));
    fs::read(folder.path().join(FILE)).unwrap()
}

/// `Model::load`, which must not ask for more memory than some times the file's length.
fn load(model: &TinyModel) -> Result<Model, Error> {
    // Counts are the whole process's.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    model.write(&path);
    let before = CountingAllocator::count();
    let loaded = Model::load(&path, Some(1));
    let used = CountingAllocator::count() - before;
    assert!(used.bytes < 32 << 20, "{} bytes were allocated: {loaded:?}", used.bytes);
    loaded
}

#[track_caller]
fn assert_refused(case: &str, model: &TinyModel, fragments: &[&str]) {
    let text = load(model).expect_err(case).to_string();
    assert_one_line(case, &text);
    for fragment in fragments {
        assert!(text.contains(fragment), "{case}: {text}\nlacks: {fragment}");
    }
}

#[track_caller]
fn assert_one_line(case: &str, text: &str) {
    assert!(text.contains(&format!("{FILE}: ")) && text.lines().count() == 1, "{case}: {text}");
}
