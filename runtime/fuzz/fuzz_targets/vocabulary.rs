//! Vocabularies and chat templates: keys that fit each other to begin with, and any value for some of them.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use quantloom::chat::Message;
use quantloom::gguf::{Metadata, Value};
use quantloom_fuzz::speak;

/// The keys that tokenizer and template read.
const KEYS: [&str; 18] = [
    "tokenizer.chat_template",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_eos_token",
    "tokenizer.ggml.add_space_prefix",
    "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.eom_token_id",
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.fim_pad_token_id",
    "tokenizer.ggml.fim_rep_token_id",
    "tokenizer.ggml.fim_sep_token_id",
    "tokenizer.ggml.merges",
    "tokenizer.ggml.model",
    "tokenizer.ggml.padding_token_id",
    "tokenizer.ggml.pre",
    "tokenizer.ggml.scores",
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.tokens",
];

/// The longest list: encoding a text must stay fast.
const MAX_TOKENS: usize = 64;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    sentence_piece: bool,
    /// Text, score, type.
    tokens: Vec<(&'a str, i8, u8)>,
    /// Places of tokens.
    merges: Vec<(u8, u8)>,
    /// Place of the key, value.
    others: Vec<(u8, AnyValue<'a>)>,
    conversation: Vec<(&'a str, &'a str)>,
    template: Option<&'a str>,
    text: &'a str,
}

#[derive(Arbitrary, Debug)]
enum AnyValue<'a> {
    Bool(bool),
    Small(u8),
    Number(u32),
    Signed(i64),
    Float(f32),
    Text(&'a str),
    Texts(Vec<&'a str>),
    Floats(Vec<f32>),
    Types(Vec<i32>),
}

impl From<&AnyValue<'_>> for Value {
    fn from(value: &AnyValue<'_>) -> Self {
        match value {
            AnyValue::Bool(v) => (*v).into(),
            AnyValue::Small(v) => u32::from(*v).into(),
            AnyValue::Number(v) => (*v).into(),
            AnyValue::Signed(v) => (*v).into(),
            AnyValue::Float(v) => (*v).into(),
            AnyValue::Text(v) => (*v).into(),
            AnyValue::Texts(v) => v.iter().map(ToString::to_string).collect::<Vec<_>>().into(),
            AnyValue::Floats(v) => v.clone().into(),
            AnyValue::Types(v) => v.clone().into(),
        }
    }
}

fuzz_target!(|input: Input| {
    let message =
        |(role, content): &(&str, &str)| Message { role: (*role).into(), content: (*content).into() };
    let conversation: Vec<_> = input.conversation.iter().take(8).map(message).collect();
    speak(&metadata(&input), &conversation, input.text);
});

fn metadata(input: &Input) -> Metadata {
    let mut metadata = Metadata::new("fuzz.gguf");
    // First, so that the plausible values below give way to them.
    for (key, value) in &input.others {
        _ = metadata.insert(KEYS[usize::from(*key) % KEYS.len()], value);
    }
    let mut tokens: Vec<(String, f32, i32)> = if input.sentence_piece {
        (0..=u8::MAX).map(|byte| (format!("<0x{byte:02X}>"), 0.0, 6)).collect()
    } else {
        Vec::new()
    };
    let own = tokens.len();
    for (text, score, ty) in input.tokens.iter().take(MAX_TOKENS) {
        tokens.push(((*text).into(), (*score).into(), (*ty % 6).max(1).into()));
    }
    let mut merges = Vec::new();
    if tokens.len() > own {
        for (left, right) in input.merges.iter().take(MAX_TOKENS) {
            let [left, right] =
                [left, right].map(|place| &tokens[own + usize::from(*place) % (tokens.len() - own)].0);
            merges.push((format!("{left} {right}"), format!("{left}{right}")));
        }
    }
    // What a merge makes is a token, too.
    for (_, joined) in &merges {
        if !tokens.iter().any(|(text, ..)| text == joined) {
            tokens.push((joined.clone(), 1.0, 1));
        }
    }
    let (model, pre) = if input.sentence_piece { ("llama", "default") } else { ("gpt2", "smollm") };
    let plausible: [(&str, Value); 6] = [
        ("model", model.into()),
        ("pre", pre.into()),
        ("tokens", tokens.iter().map(|token| token.0.clone()).collect::<Vec<_>>().into()),
        ("scores", tokens.iter().map(|token| token.1).collect::<Vec<_>>().into()),
        ("token_type", tokens.iter().map(|token| token.2).collect::<Vec<_>>().into()),
        ("merges", merges.into_iter().map(|merge| merge.0).collect::<Vec<_>>().into()),
    ];
    for (key, value) in plausible {
        _ = metadata.insert(format!("tokenizer.ggml.{key}"), value);
    }
    if let Some(template) = input.template {
        _ = metadata.insert("tokenizer.chat_template", template);
    }
    metadata
}
