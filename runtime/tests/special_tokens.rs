//! Special tokens: which end a generation, which take the space after them, and what is said of those that are none.

#[path = "common/tiny.rs"]
mod tiny;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use quantloom::gguf::{Metadata, Value};
use quantloom::tokenizer::{EncodeOptions, SpecialTokens, Tokenizer};

use tiny::{SHAPE, TinyModel};

const PARSED: EncodeOptions = EncodeOptions { add_bos: false, add_eos: false, parse_special: true };
const PROMPT: EncodeOptions = EncodeOptions { add_bos: true, add_eos: true, parse_special: true };

type Keys<'a> = &'a [(&'a str, Value)];

/// A byte-level vocabulary of `tokens`, all of them text by their types.
fn bpe(tokens: &[&str], keys: Keys) -> Tokenizer {
    let strings = |texts: &[&str]| Value::from(Vec::from_iter(texts.iter().map(ToString::to_string)));
    let mut metadata = Metadata::new("m.gguf");
    let mut insert = |key: &str, value: Value| metadata.insert(key, value).unwrap();
    insert("tokenizer.ggml.model", "gpt2".into());
    insert("tokenizer.ggml.pre", "gpt-2".into());
    insert("tokenizer.ggml.tokens", strings(tokens));
    insert("tokenizer.ggml.merges", strings(&[]));
    keys.iter().for_each(|(key, value)| insert(key, value.clone()));
    Tokenizer::from_metadata(&metadata).unwrap()
}

/// Texts at which llama.cpp ends a generation, be they control tokens or not.
const ENDS: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

#[test]
fn a_generation_ends_at_every_text_that_llama_cpp_knows() {
    let fill_in = ["<|fim_pad|>", "<PAD>", "[PAD]", "<|fim_repo|>", "<reponame>", "<|file_sep|>"];
    for text in ENDS.into_iter().chain(fill_in) {
        let tokenizer = bpe(&["a", text, "b"], &[]);
        assert_eq!([0, 1, 2].map(|id| tokenizer.is_end_of_generation(id)), [false, true, false], "{text}");
        // And it is a control token, whatever its type.
        assert_eq!(tokenizer.encode(text, PARSED), [1], "{text}");
        assert_eq!(tokenizer.decode(&[0, 1, 2], SpecialTokens::Skip), "ab", "{text}");
    }
    // Control tokens, and no ends.
    for text in ["<|fim_prefix|>", "<PRE>", "<|fim_suffix|>", "<fim_middle>"] {
        let tokenizer = bpe(&["a", text], &[]);
        assert!(!tokenizer.is_end_of_generation(1), "{text}");
        assert_eq!(tokenizer.decode(&[0, 1], SpecialTokens::Skip), "a", "{text}");
    }
}

#[test]
fn some_texts_are_no_end_beside_others() {
    let cases: [(&[&str], &[&str]); 8] = [
        (&["<|end|>", "<|return|>", "<|call|>"], &["<|return|>", "<|call|>"]),
        (&["<|end|>", "<|calls|>", "<|flush|>"], &["<|calls|>", "<|flush|>"]),
        (&["<|end|>", "<|return|>", "<|calls|>"], &["<|return|>", "<|calls|>"]),
        (&["<|end|>", "<|return|>"], &["<|end|>", "<|return|>"]),
        (&["<|end|>", "<|call|>"], &["<|end|>", "<|call|>"]),
        (&["<|end|>", "<|flush|>"], &["<|end|>", "<|flush|>"]),
        (&["</s>", "<|tool_response>"], &["<|tool_response>"]),
        (&["</s>", "<|end|>"], &["</s>", "<|end|>"]),
    ];
    for (tokens, ends) in cases {
        let eos: Keys = &[("tokenizer.ggml.eos_token_id", 0_u32.into())];
        // Also where the key for EOS says otherwise.
        for keys in [&[], eos] {
            let tokenizer = bpe(tokens, keys);
            let ids = 0..tokens.len() as u32;
            let found: Vec<_> = ids.filter(|&id| tokenizer.is_end_of_generation(id)).collect();
            assert_eq!(found.iter().map(|&id| tokens[id as usize]).collect::<Vec<_>>(), ends, "{tokens:?}");
        }
    }
    // Nor is it the end of a turn.
    assert_eq!(bpe(&["<|end|>", "<|return|>", "<|call|>"], &[]).eot(), None);
    assert_eq!(bpe(&["<|end|>", "<|return|>", "<|call|>", "<|endoftext|>"], &[]).eot(), Some(3));
}

#[test]
fn ids_that_are_no_tokens_are_taken_as_absent_with_a_warning() {
    let tokens = ["a", "b", "<|im_end|>"];
    let absent = "and the vocabulary has 3 tokens: taken as absent";
    let cases: [(&str, Value, String); 10] = [
        ("eos_token_id", u32::MAX.into(), format!("is 4294967295, {absent}")),
        ("eos_token_id", (-1_i32).into(), format!("is -1, {absent}")),
        ("bos_token_id", 3_u32.into(), format!("is 3, {absent}")),
        ("eot_token_id", u64::MAX.into(), format!("is 18446744073709551615, {absent}")),
        ("eom_token_id", 99_u32.into(), format!("is 99, {absent}")),
        ("padding_token_id", u32::MAX.into(), format!("is 4294967295, {absent}")),
        ("unknown_token_id", 3_u32.into(), format!("is 3, {absent}")),
        ("seperator_token_id", 3_u32.into(), format!("is 3, {absent}")),
        ("fim_pre_token_id", 3_u32.into(), format!("is 3, {absent}")),
        ("fim_pad_token_id", 3_u32.into(), format!("is 3, {absent}")),
    ];
    for (key, value, expected) in cases {
        let key = format!("tokenizer.ggml.{key}");
        let tokenizer = bpe(&tokens, &[(&key, value)]);
        assert_eq!(tokenizer.warnings(), [format!("key `{key}` {expected}")]);
        assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.eot()), (None, None, Some(2)), "{key}");
        assert_eq!([0, 1, 2].map(|id| tokenizer.is_end_of_generation(id)), [false, false, true], "{key}");
    }
    let good = bpe(&tokens, &[("tokenizer.ggml.eos_token_id", 1_u32.into())]);
    assert_eq!((good.eos(), good.warnings()), (Some(1), &[][..]));
}

#[test]
fn tokens_that_are_to_be_added_are_added_or_named() {
    let (yes, no) = (Value::from(true), Value::from(false));
    let id = |id: u32| Value::from(id);
    /// Name, keys, ids, warnings.
    type Case<'a> = (&'a str, Vec<(&'a str, Value)>, &'a [u32], &'a [&'a str]);
    let cases: [Case<'_>; 7] = [
        (
            "BOS and EOS",
            vec![
                ("bos_token_id", id(1)),
                ("eos_token_id", id(2)),
                ("add_bos_token", yes.clone()),
                ("add_eos_token", yes.clone()),
            ],
            &[1, 0, 2],
            &[],
        ),
        (
            "EOS alone",
            vec![
                ("bos_token_id", id(1)),
                ("eos_token_id", id(2)),
                ("add_bos_token", no.clone()),
                ("add_eos_token", yes.clone()),
            ],
            &[0, 2],
            &[],
        ),
        (
            "neither",
            vec![("bos_token_id", id(1)), ("eos_token_id", id(2)), ("add_eos_token", no.clone())],
            &[0],
            &[],
        ),
        (
            "no EOS",
            vec![("add_eos_token", yes.clone())],
            &[0],
            &["key `tokenizer.ggml.add_eos_token` is true, but `tokenizer.ggml.eos_token_id` names no token"],
        ),
        (
            "no BOS",
            vec![("bos_token_id", id(u32::MAX)), ("add_bos_token", yes.clone())],
            &[0],
            &["taken as absent", "key `tokenizer.ggml.add_bos_token` is true, but"],
        ),
        (
            "a separator",
            vec![("add_sep_token", yes.clone())],
            &[0],
            &["key `tokenizer.ggml.add_sep_token` is true, and a separator stands between two texts"],
        ),
        ("no separator", vec![("add_sep_token", no)], &[0], &[]),
    ];
    for (case, keys, ids, warnings) in cases {
        let names: Vec<_> = keys.iter().map(|(key, _)| format!("tokenizer.ggml.{key}")).collect();
        let keys: Vec<_> =
            names.iter().map(String::as_str).zip(keys.iter().map(|(_, value)| value.clone())).collect();
        let tokenizer = bpe(&["a", "b", "c"], &keys);
        assert_eq!(tokenizer.encode("a", PROMPT), ids, "{case}");
        assert_eq!(tokenizer.warnings().len(), warnings.len(), "{case}: {:?}", tokenizer.warnings());
        for (warning, expected) in tokenizer.warnings().iter().zip(warnings) {
            assert!(warning.contains(expected), "{case}: {warning:?}, expected {expected:?}");
        }
    }
}

#[test]
fn phi_3_takes_white_space_after_special_tokens_away() {
    const TOKENS: [&str; 10] =
        ["a", "Ġ", "Ċ", "ĉ", "<|end|>", "<|assistant|>", "<s>", "<unk>", "<|endoftext|>", "[user]"];
    let types = vec![1_i32, 1, 1, 1, 3, 3, 3, 2, 3, 4];
    let [a, space, line, tab, end, assistant, s, unknown, text_end, user] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    let cases: [(&str, &[u32], &[u32]); 9] = [
        ("<|end|>\na", &[end, a], &[end, line, a]),
        ("<|end|> \t\na", &[end, a], &[end, space, tab, line, a]),
        ("<|end|>\n<|assistant|>\n", &[end, assistant], &[end, line, assistant, line]),
        ("a <|end|>", &[a, space, end], &[a, space, end]),
        ("<s> a", &[s, space, a], &[s, space, a]),
        ("<unk> a", &[unknown, space, a], &[unknown, space, a]),
        ("<|endoftext|>\na", &[text_end, line, a], &[text_end, line, a]),
        ("[user] a", &[user, a], &[user, space, a]),
        ("<s><|end|> <s> a", &[s, end, s, space, a], &[s, end, space, s, space, a]),
    ];
    for (name, is_phi_3) in [
        (Some("Phi-3 mini 4k Instruct"), true),
        (Some("my-PHI3-merge"), true),
        (Some("Phi-2"), false),
        (Some("Llama"), false),
        (None, false),
    ] {
        let mut keys = vec![("tokenizer.ggml.token_type", Value::from(types.clone()))];
        keys.extend(name.map(|name| ("general.name", name.into())));
        let tokenizer = bpe(&TOKENS, &keys);
        for (text, stripped, kept) in cases {
            let expected = if is_phi_3 { stripped } else { kept };
            assert_eq!(tokenizer.encode(text, PARSED), expected, "{name:?}: {text:?}");
        }
    }
}

/// What the binary prints and notes for `input`.
fn quantloom(args: &[&str], model: &Path, input: &str) -> (String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quantloom"));
    command.args(args).arg("-m").arg(model).env_remove("GGUF_MODEL").env_remove("QUANTLOOM_ISA");
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{args:?}: {stderr}");
    (stdout, stderr)
}

#[test]
fn the_command_line_tells_of_what_was_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut model = TinyModel::new(&SHAPE);
    model.keys.push(("tokenizer.ggml.eot_token_id".into(), u32::MAX.into()));
    model.write(&path);
    let warning =
        "model.gguf: key `tokenizer.ggml.eot_token_id` is 4294967295, and the vocabulary has 263 tokens";
    let twice = r#"the text begins with "<s>", and the model adds that itself"#;
    let cases: [(&[&str], &str, bool); 8] = [
        (&["tokenize", "--parse-special"], "<s>hi", true),
        (&["tokenize", "--parse-special"], "hi<s>", false),
        (&["tokenize", "--parse-special"], "hi", false),
        (&["tokenize", "--parse-special", "--no-bos"], "<s>hi", false),
        // Without the flag it is text.
        (&["tokenize"], "<s>hi", false),
        (&["run", "--raw", "-n", "1", "-p", "<s>hi"], "", true),
        (&["run", "--raw", "-n", "1", "-p", "<s><s>hi"], "", true),
        (&["run", "--raw", "-n", "1", "-p", "hi"], "", false),
    ];
    for (args, input, is_twice) in cases {
        let (_, notes) = quantloom(args, &path, input);
        assert_eq!(notes.contains(twice), is_twice, "{args:?}, {input:?}: {notes}");
        assert_eq!(notes.matches(warning).count(), 1, "{args:?}, {input:?}: {notes}");
    }
}

/// Tokens that steer the model are made by the template or by `parse_special` alone, and by no merge.
#[test]
fn no_text_is_merged_to_a_control_token() {
    let ids = |metadata: &Metadata, text: &str| {
        let options = EncodeOptions { add_bos: false, add_eos: false, parse_special: false };
        Tokenizer::from_metadata(metadata).unwrap().encode(text, options)
    };
    // SentencePiece: by a character, by two, and by a step on the way.
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
    tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(["<", "/", "s", ">", "<s", "</s", "§", "ab", "a", "b", "abc", "c"].map(String::from));
    let is_control = |text: &str| ["<s>", "</s>", "§", "ab"].contains(&text);
    let types: Vec<i32> = tokens
        .iter()
        .map(|text| match &**text {
            "<unk>" => 2,
            text if is_control(text) => 3,
            text if text.starts_with("<0x") => 6,
            _ => 1,
        })
        .collect();
    let mut spm = Metadata::new("model.gguf");
    spm.insert("tokenizer.ggml.model", "llama").unwrap();
    spm.insert("tokenizer.ggml.scores", vec![0.0_f32; tokens.len()]).unwrap();
    spm.insert("tokenizer.ggml.token_type", types).unwrap();
    spm.insert("tokenizer.ggml.tokens", tokens.clone()).unwrap();
    spm.insert("tokenizer.ggml.add_space_prefix", false).unwrap();
    for text in ["<s>", "</s>", "§", "ab", "abc", "a</s>b§"] {
        let ids = ids(&spm, text);
        assert!(ids.iter().all(|&id| !is_control(&tokens[id as usize])), "{text}: {ids:?}");
        assert!(!ids.is_empty(), "{text}");
    }
    // Byte-level BPE: by a byte, and by merges.
    let tokens = ["a", "b", "c", "ab", "abc", "!"].map(String::from).to_vec();
    let mut bpe = Metadata::new("model.gguf");
    bpe.insert("tokenizer.ggml.model", "gpt2").unwrap();
    bpe.insert("tokenizer.ggml.pre", "gpt-2").unwrap();
    bpe.insert("tokenizer.ggml.token_type", vec![1_i32, 1, 1, 1, 3, 3]).unwrap();
    bpe.insert("tokenizer.ggml.tokens", tokens).unwrap();
    bpe.insert("tokenizer.ggml.merges", ["a b", "ab c"].map(String::from).to_vec()).unwrap();
    assert_eq!(ids(&bpe, "abc!"), [3, 2]);
}
