//! Small models of any shape, with seeded random weights.

use std::path::Path;

use half::{bf16, f16};
use quantloom::gguf::{GgufWriter, TensorType, Value};
use quantloom_kernels::{FORMATS, Supported};

/// What a model is made from. A key whose value follows from others is left out of the file.
#[derive(Clone, Copy)]
pub struct Shape {
    pub layers: usize,
    pub embedding: usize,
    pub feed_forward: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub rope_dims: usize,
    pub rope_base: f32,
    /// 259 or more: three control tokens and all bytes.
    pub vocab: usize,
    pub context: usize,
    /// Whether the token embedding is the output matrix, too.
    pub tied: bool,
    /// The type of matrices; norms are F32.
    pub ty: &'static str,
    /// Other types, for tensors whose name holds a text.
    pub except: &'static [(&'static str, &'static str)],
}

/// The shape that tests vary.
pub const SHAPE: Shape = Shape {
    layers: 2,
    embedding: 64,
    feed_forward: 96,
    heads: 4,
    kv_heads: 2,
    head_dim: 16,
    rope_dims: 16,
    rope_base: 10_000.0,
    vocab: 263,
    context: 80,
    tied: false,
    ty: "F32",
    except: &[],
};

/// Far more than models have, so that it shows in the result.
pub const EPSILON: f32 = 0.1;

/// What a model's file holds.
pub struct TinyModel {
    pub keys: Vec<(String, Value)>,
    pub tensors: Vec<TinyTensor>,
}

pub struct TinyTensor {
    pub name: String,
    pub dims: Vec<usize>,
    pub ty: TensorType,
    pub data: Vec<u8>,
}

impl TinyModel {
    pub fn new(shape: &Shape) -> Self {
        Self { keys: keys(shape), tensors: tensors(shape) }
    }

    pub fn write(&self, path: &Path) {
        let mut writer = GgufWriter::new(path);
        for (key, value) in &self.keys {
            writer.metadata(key, value.clone()).unwrap();
        }
        for TinyTensor { name, dims, ty, data } in &self.tensors {
            writer.tensor(name, dims, *ty, |out| out.write_all(data)).unwrap();
        }
        writer.write().unwrap();
    }
}

fn keys(shape: &Shape) -> Vec<(String, Value)> {
    let mut keys = Vec::new();
    let mut key = |name: &str, value: Value| keys.push((name.to_owned(), value));
    let number = |n: usize| Value::from(n as u32);
    key("general.architecture", "llama".into());
    key("llama.block_count", number(shape.layers));
    key("llama.context_length", number(shape.context));
    key("llama.embedding_length", number(shape.embedding));
    key("llama.feed_forward_length", number(shape.feed_forward));
    key("llama.attention.head_count", number(shape.heads));
    key("llama.attention.layer_norm_rms_epsilon", EPSILON.into());
    key("llama.vocab_size", number(shape.vocab));
    let share = if shape.embedding.is_multiple_of(shape.heads) { shape.embedding / shape.heads } else { 0 };
    let derived = [
        ("llama.attention.head_count_kv", shape.kv_heads, shape.heads),
        ("llama.attention.key_length", shape.head_dim, share),
        ("llama.attention.value_length", shape.head_dim, share),
        ("llama.rope.dimension_count", shape.rope_dims, shape.head_dim),
    ];
    for (name, value, default) in derived {
        if value != default {
            key(name, number(value));
        }
    }
    if shape.rope_base != 10_000.0 {
        key("llama.rope.freq_base", shape.rope_base.into());
    }

    let control = ["<unk>", "<s>", "</s>"].map(|text| (text.to_owned(), 3));
    let bytes = (0..=255).map(|byte| (format!("<0x{byte:02X}>"), 6));
    let words = (0..).map(|i| (format!("▁w{i}"), 1));
    let (tokens, types): (Vec<_>, Vec<i32>) =
        control.into_iter().chain(bytes).chain(words).take(shape.vocab).unzip();
    key("tokenizer.ggml.model", "llama".into());
    key("tokenizer.ggml.tokens", tokens.into());
    key("tokenizer.ggml.scores", vec![0.0_f32; shape.vocab].into());
    key("tokenizer.ggml.token_type", types.into());
    keys
}

fn tensors(shape: &Shape) -> Vec<TinyTensor> {
    let Shape { embedding, feed_forward, vocab, .. } = *shape;
    let (query, key_value) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    let mut random = Random(7);
    let mut tensors = Vec::new();
    let mut tensor = |name: String, dims: &[usize]| {
        let is_norm = name.contains("norm");
        let default = if is_norm { "F32" } else { shape.ty };
        let exception = shape.except.iter().find(|(text, _)| name.contains(text));
        let ty = tensor_type(exception.map_or(default, |(_, ty)| ty));
        // Outputs somewhat larger than inputs: attention that picks, gates that open and close.
        let (mean, deviation) = match &*name {
            _ if is_norm => (1.0, 0.2),
            "token_embd.weight" => (0.0, 1.0),
            _ => (0.0, 1.5 / (dims[0] as f32).sqrt()),
        };
        let data = random.weights(ty, dims.iter().product(), mean, deviation);
        tensors.push(TinyTensor { name, dims: dims.to_vec(), ty, data });
    };
    tensor("token_embd.weight".into(), &[embedding, vocab]);
    for l in 0..shape.layers {
        let layer: [(&str, &[usize]); 9] = [
            ("attn_norm", &[embedding]),
            ("attn_q", &[embedding, query]),
            ("attn_k", &[embedding, key_value]),
            ("attn_v", &[embedding, key_value]),
            ("attn_output", &[query, embedding]),
            ("ffn_norm", &[embedding]),
            ("ffn_gate", &[embedding, feed_forward]),
            ("ffn_up", &[embedding, feed_forward]),
            ("ffn_down", &[feed_forward, embedding]),
        ];
        for (name, dims) in layer {
            tensor(format!("blk.{l}.{name}.weight"), dims);
        }
    }
    tensor("output_norm.weight".into(), &[embedding]);
    if !shape.tied {
        tensor("output.weight".into(), &[embedding, vocab]);
    }
    tensors
}

/// The type that GGUF calls `name`.
pub fn tensor_type(name: &str) -> TensorType {
    let plain = [TensorType::F32, TensorType::F16, TensorType::BF16];
    let quantized = FORMATS.iter().map(|format| TensorType::Quantized(format));
    plain.into_iter().chain(quantized).find(|ty| ty.name() == name).expect(name)
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Uniform, with mean 0 and standard deviation 1.
    fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 * 3_f32.sqrt() - 3_f32.sqrt()
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        [(); N].map(|()| self.next() as u8)
    }

    /// A block's scale such that codes with standard deviation `codes` make weights with `weights`, or so.
    fn scale(&mut self, weights: f32, codes: f32) -> f16 {
        f16::from_f32(weights / codes * (1.0 + 0.3 * self.uniform()))
    }

    /// `n` weights. Blocks get random codes: all that there are, and not only those that a quantizer makes.
    fn weights(&mut self, ty: TensorType, n: usize, mean: f32, deviation: f32) -> Vec<u8> {
        let blocks = 0..n / ty.block_len();
        let floats = (0..n).map(|_| mean + deviation * self.uniform());
        match ty.name() {
            "F32" => floats.flat_map(f32::to_le_bytes).collect(),
            "F16" => floats.flat_map(|w| f16::from_f32(w).to_le_bytes()).collect(),
            "BF16" => floats.flat_map(|w| bf16::from_f32(w).to_le_bytes()).collect(),
            "Q4_0" => blocks
                .flat_map(|_| {
                    let d = self.scale(deviation, 4.6);
                    [&d.to_le_bytes()[..], &self.bytes::<16>()].concat()
                })
                .collect(),
            "Q4_1" => blocks
                .flat_map(|_| {
                    let d = self.scale(deviation, 4.6);
                    let m = f16::from_f32(d.to_f32() * (-7.5 + self.uniform()));
                    [&d.to_le_bytes()[..], &m.to_le_bytes(), &self.bytes::<16>()].concat()
                })
                .collect(),
            "Q8_0" => blocks
                .flat_map(|_| {
                    let d = self.scale(deviation, 74.0);
                    [&d.to_le_bytes()[..], &self.bytes::<32>()].concat()
                })
                .collect(),
            "Q6_K" => blocks
                .flat_map(|_| {
                    let codes = self.bytes::<{ 128 + 64 + 16 }>();
                    let d = self.scale(deviation, 74.0 * 18.5);
                    [&codes[..], &d.to_le_bytes()].concat()
                })
                .collect(),
            _ => {
                let TensorType::Quantized(format) = ty else { unreachable!("the plain types are above") };
                let floats: Vec<f32> = floats.collect();
                let mut data = vec![0; format.bytes_for(n)];
                let isa = Supported::all().next().expect("the scalar one");
                format.kernels(isa).quantize(&floats, &mut data).expect("it has a quantizer");
                data
            }
        }
    }
}
