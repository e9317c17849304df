//! llama.cpp's mixtures: which tensors of a file that is called `Q4_K_M` are not in Q4_K.
//!
//! A mixture gives tensors that errors hurt most a better type: the values of attention, what a layer adds to the
//! stream, and the layers at both ends. The facts are those of llama.cpp's `src/llama-quant.cpp`; what it does for
//! architectures other than Llama's, and for mixtures of experts, is left out.

use self::{Role::*, When::*};

/// A mixture, or a type alone.
pub struct Mix {
    /// What it is called; the first is its own name.
    pub names: &'static [&'static str],
    /// llama.cpp's number for it, which files have as `general.file_type`.
    pub file_type: u32,
    /// The type of every matrix that no rule is about.
    pub main: &'static str,
    /// The first that fits a tensor counts.
    pub rules: &'static [Rule],
}

/// Tensors of a role, where it is so, have another type.
pub type Rule = (Role, When, &'static str);

/// What a tensor does in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Also the token embedding where the model has no output matrix: it is that, too.
    Output,
    TokenEmbedding,
    Query,
    Key,
    /// Also where keys or queries are in one matrix with the values.
    Value,
    AttentionOutput,
    Gate,
    Up,
    Down,
    Other,
}

/// Where a rule holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Always,
    /// Four query heads or more share a KV head, so that keys and values are small.
    SharedHeads,
    /// 80 layers whose KV heads are shared: there values are an eighth of the queries' size.
    Of70B,
    /// In the first layers, so many.
    First(usize),
    /// In the first so-manieth part of the layers.
    FirstPart(usize),
    /// In the first and the last eighth, and in every third layer between.
    EndsAndThirds,
    /// Not in the first and the last eighth.
    Middle,
    /// An importance matrix is at hand.
    Weighted,
    /// None is.
    Unweighted,
}

/// What rules ask about a model.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The number of layers.
    pub layers: usize,
    /// Query heads for each KV head.
    pub sharing: usize,
    /// Whether the token embedding is the output matrix, too.
    pub tied: bool,
    /// Whether there is an importance matrix.
    pub weighted: bool,
}

const fn mix(
    names: &'static [&'static str],
    file_type: u32,
    main: &'static str,
    rules: &'static [Rule],
) -> Mix {
    Mix { names, file_type, main, rules }
}

/// Of both mixtures of about one bit.
const IQ1_RULES: &[Rule] = &[
    (Output, Always, "Q5_K"),
    (TokenEmbedding, Always, "Q2_K"),
    (Value, SharedHeads, "Q4_K"),
    (Value, Always, "Q2_K"),
    (AttentionOutput, Always, "IQ2_XXS"),
    (Down, FirstPart(8), "Q2_K"),
];

/// Of the two smaller mixtures of about two bits.
const IQ2_LOW_RULES: &[Rule] = &[
    (Output, Always, "Q5_K"),
    (TokenEmbedding, Always, "Q2_K"),
    (Value, SharedHeads, "Q4_K"),
    (Value, Always, "Q2_K"),
    (Down, FirstPart(8), "Q2_K"),
];

/// Of the two larger ones.
const IQ2_RULES: &[Rule] = &[
    (Output, Always, "Q5_K"),
    (TokenEmbedding, Always, "IQ3_S"),
    (Value, SharedHeads, "Q4_K"),
    (Value, Always, "IQ3_S"),
    (AttentionOutput, Always, "IQ3_S"),
    (Down, FirstPart(8), "IQ3_S"),
];

/// Of both mixtures of a table's four bits.
macro_rules! iq4_rules {
    ($main:literal) => {
        &[(Value, SharedHeads, "Q5_K"), (Down, Weighted, $main), (Down, FirstPart(8), "Q5_K")]
    };
}

/// Every file type of llama.cpp that makes sense without experts.
pub const MIXES: &[Mix] = &[
    mix(&["F32"], 0, "F32", &[]),
    mix(&["F16"], 1, "F16", &[]),
    mix(&["BF16"], 32, "BF16", &[]),
    // Importance can lead these two astray in the first layers.
    mix(&["Q4_0"], 2, "Q4_0", &[(Down, Unweighted, "Q4_0"), (Down, FirstPart(8), "Q4_1")]),
    mix(&["Q4_1"], 3, "Q4_1", &[]),
    mix(&["Q5_0"], 8, "Q5_0", &[(Down, Unweighted, "Q5_0"), (Down, FirstPart(8), "Q5_1")]),
    mix(&["Q5_1"], 9, "Q5_1", &[]),
    mix(&["Q8_0"], 7, "Q8_0", &[]),
    mix(
        &["Q2_K"],
        10,
        "Q2_K",
        &[
            (Value, Of70B, "Q5_K"),
            (Value, SharedHeads, "Q4_K"),
            (Value, Always, "Q3_K"),
            (AttentionOutput, Always, "Q3_K"),
            (Down, Always, "Q3_K"),
        ],
    ),
    mix(
        &["Q2_K_S"],
        21,
        "Q2_K",
        &[(Value, Of70B, "Q5_K"), (Value, SharedHeads, "Q4_K"), (Down, FirstPart(8), "Q4_K")],
    ),
    mix(&["Q3_K_S"], 11, "Q3_K", &[(Value, Of70B, "Q5_K")]),
    mix(
        &["Q3_K_M", "Q3_K"],
        12,
        "Q3_K",
        &[
            (Value, Of70B, "Q5_K"),
            (Value, First(2), "Q5_K"),
            (Value, Always, "Q4_K"),
            (AttentionOutput, Always, "Q4_K"),
            (Down, FirstPart(16), "Q5_K"),
            (Down, Always, "Q4_K"),
        ],
    ),
    mix(
        &["Q3_K_L"],
        13,
        "Q3_K",
        &[(Value, Always, "Q5_K"), (AttentionOutput, Always, "Q5_K"), (Down, Always, "Q5_K")],
    ),
    mix(
        &["Q4_K_S"],
        14,
        "Q4_K",
        &[(Value, Of70B, "Q5_K"), (Value, First(4), "Q5_K"), (Down, FirstPart(8), "Q5_K")],
    ),
    mix(
        &["Q4_K_M", "Q4_K"],
        15,
        "Q4_K",
        &[(Value, EndsAndThirds, "Q6_K"), (Value, Of70B, "Q5_K"), (Down, EndsAndThirds, "Q6_K")],
    ),
    mix(&["Q5_K_S"], 16, "Q5_K", &[]),
    mix(&["Q5_K_M", "Q5_K"], 17, "Q5_K", &[(Value, EndsAndThirds, "Q6_K"), (Down, EndsAndThirds, "Q6_K")]),
    mix(&["Q6_K"], 18, "Q6_K", &[]),
    mix(&["IQ1_S"], 24, "IQ1_S", IQ1_RULES),
    mix(&["IQ1_M"], 31, "IQ1_M", IQ1_RULES),
    mix(&["IQ2_XXS"], 19, "IQ2_XXS", IQ2_LOW_RULES),
    mix(&["IQ2_XS"], 20, "IQ2_XS", IQ2_LOW_RULES),
    mix(&["IQ2_S"], 28, "IQ2_XS", IQ2_RULES),
    mix(&["IQ2_M"], 29, "IQ2_S", IQ2_RULES),
    mix(
        &["IQ3_XXS"],
        23,
        "IQ3_XXS",
        &[
            (Output, Always, "Q5_K"),
            (TokenEmbedding, Always, "IQ3_S"),
            (Query, Always, "IQ2_S"),
            (Key, Always, "IQ2_S"),
            (Value, Of70B, "Q5_K"),
            (Value, SharedHeads, "Q4_K"),
            (Value, Weighted, "IQ3_XXS"),
            (Value, Always, "IQ3_S"),
            (AttentionOutput, Always, "IQ3_S"),
            (Down, Weighted, "IQ3_XXS"),
            (Down, FirstPart(8), "Q4_K"),
            (Down, Always, "Q3_K"),
        ],
    ),
    mix(
        &["IQ3_XS"],
        22,
        "IQ3_S",
        &[
            (Query, Always, "IQ3_XXS"),
            (Key, Always, "IQ3_XXS"),
            (Value, Of70B, "Q5_K"),
            (Value, SharedHeads, "Q4_K"),
            (Gate, Middle, "IQ3_XXS"),
            (Up, Middle, "IQ3_XXS"),
        ],
    ),
    mix(&["IQ3_S"], 26, "IQ3_S", &[(Value, Of70B, "Q5_K"), (Value, SharedHeads, "Q4_K")]),
    mix(
        &["IQ3_M"],
        27,
        "IQ3_S",
        &[
            (Value, Of70B, "Q5_K"),
            (Value, Always, "Q4_K"),
            (AttentionOutput, Always, "Q4_K"),
            (Down, FirstPart(8), "Q4_K"),
        ],
    ),
    mix(&["IQ4_NL"], 25, "IQ4_NL", iq4_rules!("IQ4_NL")),
    mix(&["IQ4_XS"], 30, "IQ4_XS", iq4_rules!("IQ4_XS")),
    mix(&["TQ1_0"], 36, "TQ1_0", &[(TokenEmbedding, Always, "Q4_K")]),
    mix(&["TQ2_0"], 37, "TQ2_0", &[(TokenEmbedding, Always, "Q4_K")]),
    // llama.cpp keeps MXFP4 for experts and has everything else in Q8_0; here it is a type like others.
    mix(&["MXFP4"], 38, "MXFP4", &[(Output, Always, "Q8_0")]),
    mix(&["NVFP4"], 39, "NVFP4", &[]),
    mix(&["Q1_0"], 40, "Q1_0", &[]),
    mix(&["Q2_0"], 41, "Q2_0", &[(TokenEmbedding, Always, "Q4_K")]),
];

impl Role {
    /// That of the tensor called `name`.
    pub fn of(name: &str, shape: &Shape) -> Self {
        /// What stands in the names of the others.
        const PARTS: [(&str, Role); 9] = [
            ("attn_qkv.weight", Value),
            ("attn_kv_b.weight", Value),
            ("attn_v.weight", Value),
            ("attn_k.weight", Key),
            ("attn_q.weight", Query),
            ("attn_output.weight", AttentionOutput),
            ("ffn_up", Up),
            ("ffn_gate", Gate),
            ("ffn_down", Down),
        ];
        match name {
            OUTPUT => Output,
            TOKEN_EMBEDDING if shape.tied => Output,
            TOKEN_EMBEDDING => TokenEmbedding,
            _ => PARTS.iter().find(|(part, _)| name.contains(part)).map_or(Other, |&(_, role)| role),
        }
    }
}

/// The name of the output matrix.
pub const OUTPUT: &str = "output.weight";
/// The name of the token embedding.
pub const TOKEN_EMBEDDING: &str = "token_embd.weight";

impl When {
    /// Whether it is so in `layer`.
    pub fn holds(self, layer: usize, shape: &Shape) -> bool {
        let Shape { layers, sharing, weighted, .. } = *shape;
        let middle = layers / 8..7 * layers / 8;
        match self {
            Always => true,
            SharedHeads => sharing >= 4,
            Of70B => layers == 80 && sharing > 1,
            First(n) => layer < n,
            FirstPart(n) => layer < layers / n,
            EndsAndThirds => !middle.contains(&layer) || (layer - middle.start) % 3 == 2,
            Middle => middle.contains(&layer),
            Weighted => weighted,
            Unweighted => !weighted,
        }
    }
}

/// The layer that a tensor called `blk.7.…` is in.
pub fn layer(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}

/// Whether llama.cpp quantizes the matrix called `name`: small ones, and those that others read as they are, it
/// leaves alone in every mixture.
pub fn is_quantized(name: &str) -> bool {
    /// Parts of their names.
    const LEFT_ALONE: &[&str] = &[
        "_norm.weight",
        // The choice of experts.
        "ffn_gate_inp.weight",
        "ffn_gate_tid2eid.weight",
        // Small ones of Gemma, MiniMax, T5, and of state-space and convolution models.
        "altup",
        "laurel",
        "per_layer_model_proj",
        "indexer.k_proj.weight",
        "indexer.q_proj.weight",
        "attn_rel_b.weight",
        "ssm_conv1d",
        "shortconv.conv.weight",
        // Of RWKV.
        "time_mix_first.weight",
        "time_mix_w0.weight",
        "time_mix_w1.weight",
        "time_mix_w2.weight",
        "time_mix_v0.weight",
        "time_mix_v1.weight",
        "time_mix_v2.weight",
        "time_mix_a0.weight",
        "time_mix_a1.weight",
        "time_mix_a2.weight",
        "time_mix_g1.weight",
        "time_mix_g2.weight",
        "time_mix_decay_w1.weight",
        "time_mix_decay_w2.weight",
        "time_mix_lerp_fused.weight",
        // Of models that see or hear.
        ".position_embd",
        "sam.pos_embd",
        "sam.neck.",
        "sam.net_",
        ".rel_pos",
        ".patch_embd",
        ".patch_merger",
        "a.rvq.codebook",
        "mm.a.code_embd",
    ];
    name.ends_with("weight")
        && !["position_embd.weight", "token_types.weight"].contains(&name)
        && !LEFT_ALONE.iter().any(|part| name.contains(part))
}

/// Whether llama.cpp makes the tensor called `name` in the type `ty`, in a file that is called `mix`, with an importance
/// matrix only: it finds the result of no use otherwise.
pub fn wants_importance(name: &str, ty: &str, mix: &str) -> bool {
    match ty {
        _ if [OUTPUT, TOKEN_EMBEDDING].contains(&name) => false,
        "IQ1_S" | "IQ1_M" | "IQ2_XXS" | "IQ2_XS" | "IQ2_S" | "IQ3_XXS" => true,
        "Q2_K" => mix == "Q2_K_S",
        _ => false,
    }
}

/// The type that llama.cpp takes where rows are no whole number of blocks of the type called `name`; `None` where
/// it knows of none.
pub fn fallback(name: &str) -> Option<&'static str> {
    Some(match name {
        "IQ1_S" | "IQ1_M" | "IQ2_XXS" | "IQ2_XS" | "IQ2_S" | "IQ3_XXS" | "IQ3_S" | "IQ4_XS" => "IQ4_NL",
        "Q2_0" | "Q2_K" | "Q3_K" | "TQ1_0" | "TQ2_0" => "Q4_0",
        "Q4_K" => "Q5_0",
        "Q5_K" => "Q5_1",
        "Q6_K" => "Q8_0",
        _ => return None,
    })
}
