//! The tokenizers against llama.cpp's ids, against themselves, and against vocabularies that are wrong.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use quantloom::gguf::{Gguf, Metadata, Value};
use quantloom::tokenizer::{EncodeOptions, SpecialTokens, Tokenizer};

const PLAIN: EncodeOptions = EncodeOptions { add_bos: false, add_eos: false, parse_special: false };
const PARSED: EncodeOptions = EncodeOptions { add_bos: false, add_eos: false, parse_special: true };
const PROMPT: EncodeOptions = EncodeOptions { add_bos: true, add_eos: true, parse_special: true };

/// Llama's SentencePiece vocabulary.
static SPM: LazyLock<Tokenizer> = LazyLock::new(|| from_file("llama-spm-vocab.gguf"));
/// SmolLM2's BPE vocabulary.
static BPE: LazyLock<Tokenizer> = LazyLock::new(|| from_file("smollm2-bpe-vocab.gguf"));

fn from_file(name: &str) -> Tokenizer {
    let file = Gguf::open(in_crate("data").join(name)).unwrap();
    Tokenizer::from_metadata(file.metadata()).unwrap()
}

fn in_crate(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn reference(name: &str) -> serde_json::Value {
    serde_json::from_slice(&fs::read(in_crate("tests/data").join(name)).unwrap()).unwrap()
}

fn ids(value: &serde_json::Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// What BPE leaves of `text`: bytes that the vocabulary can't spell are left out.
fn spelt(tokenizer: &Tokenizer, text: &str) -> String {
    let tokens = (0..tokenizer.vocab_size() as u32).filter_map(|id| tokenizer.token_bytes(id));
    let bytes: Vec<u8> = tokens.filter_map(|bytes| <[u8; 1]>::try_from(bytes).ok()).flatten().collect();
    let kept: Vec<u8> = text.bytes().filter(|byte| bytes.contains(byte)).collect();
    String::from_utf8_lossy(&kept).into_owned()
}

// llama.cpp's ids

#[test]
fn ids_equal_the_references() {
    for (tokenizer, file) in [(&*SPM, "tokens-llama-spm.json"), (&*BPE, "tokens-smollm2-bpe.json")] {
        let cases = reference(file);
        assert!(!cases.as_array().unwrap().is_empty());
        for case in cases.as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            assert_eq!(tokenizer.encode(text, PLAIN), ids(&case["ids"]), "{file}: {text:?}");
            assert_eq!(tokenizer.encode(text, PARSED), ids(&case["ids_parse_special"]), "{file}: {text:?}");
        }
    }
}

#[test]
fn prompts_and_continuations_equal_the_references() {
    for (tokenizer, file) in [(&*SPM, "tinyllama-greedy.json"), (&*BPE, "smollm2-greedy.json")] {
        for case in reference(file)["cases"].as_array().unwrap() {
            let prompt = case["prompt"].as_str().unwrap();
            assert_eq!(tokenizer.encode(prompt, PROMPT), ids(&case["prompt_ids"]), "{file}: {prompt:?}");

            let mut decoder = tokenizer.decoder(SpecialTokens::Render);
            let mut text = String::new();
            ids(&case["greedy_ids"]).iter().for_each(|&id| text.push_str(decoder.push(id)));
            assert_eq!(text + decoder.finish(), case["greedy_text"].as_str().unwrap(), "{file}: {prompt:?}");
        }
    }
}

/// Text, and its ids in both vocabularies, special tokens parsed, from llama-cpp-python 0.3.36.
#[rustfmt::skip]
const TRICKY: [(&str, &[u32], &[u32]); 19] = [
    ("a  b   c", &[263, 29871, 289, 259, 274], &[81, 216, 278, 256, 265]),
    (" \t \n\n  x", &[259, 12, 29871, 13, 13, 29871, 921], &[216, 197, 216, 8866, 1792]),
    ("x \n", &[921, 29871, 13], &[104, 3717]),
    ("we'll I'M 's '' 'sx",
        &[591, 29915, 645, 306, 29915, 29924, 525, 29879, 6629, 525, 29879, 29916],
        &[677, 3060, 339, 23, 61, 637, 99, 10922, 637, 99, 104]),
    ("n\u{303} e\u{301}", &[302, 30478, 321, 30103], &[94, 151, 221, 297, 151, 219]),
    ("x\u{a0}y\u{3000} z\u{2003}\u{2028}",
        &[921, 30081, 29891, 30358, 503, 30363, 31353],
        &[104, 15442, 105, 12109, 218, 1892, 321, 221, 321, 118]),
    ("½²④Ⅷ٣ 12",
        &[29871, 30226, 30088, 229, 148, 166, 229, 136, 170, 220, 166, 29871, 29896, 29906],
        &[16738, 19133, 173, 235, 113, 173, 223, 117, 164, 113, 216, 33, 34]),
    ("👩🏽\u{200d}💻 🇩🇪",
        &[29871, 243, 162, 148, 172, 243, 162, 146, 192, 30722, 243, 162, 149, 190, 29871, 243, 162, 138, 172,
          243, 162, 138, 173],
        &[10813, 235, 119, 10813, 233, 138, 321, 231, 10813, 236, 136, 15107, 225, 119, 10813, 225, 120]),
    ("漢字かな 한글",
        &[29871, 31652, 30578, 30412, 30371, 29871, 30877, 237, 187, 131],
        &[177, 137, 112, 36518, 7365, 229, 7365, 120, 216, 33085, 246, 181, 133, 218]),
    ("a\0b\u{4}c\u{1b}", &[263, 3, 29890, 7, 29883, 30], &[81, 190, 82, 83, 212]),
    ("▁a ▁", &[29871, 263, 259], &[11007, 219, 81, 29566, 219]),
    ("Ġa", &[29871, 31937, 29874], &[143, 250, 81]),
    ("<0x41>", &[529, 29900, 29916, 29946, 29896, 29958], &[44, 32, 104, 36, 33, 46]),
    ("</s> a </s>", &[2, 29871, 263, 29871, 2], &[9617, 99, 46, 253, 22577, 99, 46]),
    ("<s><s>", &[1, 1], &[44, 99, 21198, 99, 46]),
    (" <s> ", &[259, 1, 259], &[2067, 99, 46, 216]),
    ("<|im_start|> a<|im_end|>\n",
        &[529, 29989, 326, 29918, 2962, 29989, 29958, 263, 29966, 29989, 326, 29918, 355, 29989, 29958, 13],
        &[1, 253, 2, 198]),
    ("<|im_<|im_end|>|>",
        &[529, 29989, 326, 29918, 29966, 29989, 326, 29918, 355, 29989, 29958, 29989, 29958],
        &[44, 108, 306, 79, 2, 108, 46]),
    ("<|endoftext|><|endoftext|>",
        &[529, 29989, 355, 974, 726, 29989, 5299, 29989, 355, 974, 726, 29989, 29958],
        &[0, 0]),
];

#[test]
fn tricky_texts() {
    for (text, spm, bpe) in TRICKY {
        assert_eq!(SPM.encode(text, PARSED), spm, "SPM: {text:?}");
        assert_eq!(BPE.encode(text, PARSED), bpe, "BPE: {text:?}");
    }
}

#[test]
fn bos_is_added_where_the_metadata_says() {
    assert_eq!(SPM.encode("", PROMPT), [1]);
    assert_eq!(SPM.encode("<s>", PROMPT), [1, 1]);
    assert!(BPE.encode("", PROMPT).is_empty());
}

#[test]
fn accessors() {
    let ends = |tokenizer: &Tokenizer| {
        Vec::from_iter((0..tokenizer.vocab_size() as u32).filter(|&id| tokenizer.is_end_of_generation(id)))
    };
    assert_eq!((SPM.bos(), SPM.eos(), SPM.eot(), SPM.vocab_size()), (Some(1), Some(2), None, 32_000));
    assert_eq!(ends(&SPM), [2]);
    assert_eq!((BPE.bos(), BPE.eos(), BPE.eot(), BPE.vocab_size()), (Some(1), Some(2), Some(2), 49_152));
    // `<|endoftext|>`, `<|im_end|>` and, as in llama.cpp, `<reponame>`.
    assert_eq!(ends(&BPE), [0, 2, 4]);
    assert_eq!((SPM.token_text(15043), SPM.token_bytes(15043)), (Some("▁Hello"), Some(&b" Hello"[..])));
    assert_eq!((SPM.token_text(13), SPM.token_bytes(13)), (Some("<0x0A>"), Some(&b"\n"[..])));
    assert_eq!((BPE.token_text(905), BPE.token_bytes(905)), (Some("Ġworld"), Some(&b" world"[..])));
    assert_eq!((SPM.token_text(32_000), SPM.token_bytes(u32::MAX)), (None, None));
}

// Decoding

#[test]
fn a_character_comes_whole() {
    for (tokenizer, text) in [(&*SPM, "🦙"), (&*BPE, "🦙"), (&*SPM, "a🇩🇪b"), (&*BPE, "한글")] {
        let mut decoder = tokenizer.decoder(SpecialTokens::Skip);
        let mut pieces = Vec::new();
        tokenizer.encode(text, PLAIN).iter().for_each(|&id| pieces.push(decoder.push(id).to_owned()));
        assert_eq!(decoder.finish(), "");
        assert_eq!(pieces.concat().trim_start(), text);
        assert!(pieces.iter().any(String::is_empty), "{pieces:?} holds nothing back");
    }
}

#[test]
fn half_a_character_is_flushed_as_a_replacement() {
    // The first three bytes of a llama.
    let ids = [243, 162, 169];
    let mut decoder = SPM.decoder(SpecialTokens::Skip);
    assert!(ids.iter().all(|&id| decoder.push(id).is_empty()));
    assert_eq!(decoder.finish(), "\u{fffd}");
    assert_eq!(SPM.decode(&[243, 162, 29874], SpecialTokens::Skip), "\u{fffd}a");
    assert_eq!(SPM.decode(&[32_000, u32::MAX], SpecialTokens::Skip), "");
}

#[test]
fn prefix_space_and_special_tokens() {
    let ids = SPM.encode("Hello</s>world", PROMPT);
    assert_eq!(ids, [1, 15043, 2, 3186]);
    assert_eq!(SPM.decode(&ids, SpecialTokens::Render), "<s>Hello</s>world");
    assert_eq!(SPM.decode(&ids, SpecialTokens::Skip), "Helloworld");
    let mut continuation = SPM.decoder(SpecialTokens::Skip);
    assert_eq!(continuation.push(15043), " Hello");
    assert_eq!(continuation.push(2), "");
    assert_eq!(continuation.push(3186), " world");
}

// Long texts

#[test]
fn a_megabyte_of_one_character_is_not_quadratic() {
    let start = Instant::now();
    for unit in ["a", " ", "\n", "0", "本", "é ", "<|im_end|>", "'s", "<"] {
        let text = unit.repeat((1 << 20) / unit.len());
        for tokenizer in [&*SPM, &*BPE] {
            let ids = tokenizer.encode(&text, PARSED);
            assert!(tokenizer.decode(&ids, SpecialTokens::Render) == text, "{unit:?}");
        }
    }
    // Some seconds; comparing all pairs would take hours.
    assert!(start.elapsed() < Duration::from_secs(300));
}

// Vocabularies made up here

/// The keys `tokenizer.ggml.*` without their prefix.
type Keys = BTreeMap<&'static str, Value>;

fn load(keys: &Keys) -> Result<Tokenizer, String> {
    let mut metadata = Metadata::new("made-up.gguf");
    for (key, value) in keys {
        metadata.insert(format!("tokenizer.ggml.{key}"), value.clone()).unwrap();
    }
    Tokenizer::from_metadata(&metadata).map_err(|error| error.to_string())
}

fn strings(texts: &[&str]) -> Value {
    Vec::from_iter(texts.iter().map(ToString::to_string)).into()
}

/// `<unk>`, `<s>`, `</s>`, the bytes, and from 259 on `pieces`: text, score, type.
fn spm(pieces: &[(&str, f32, i32)]) -> Keys {
    let bytes: Vec<String> = (0..256).map(|byte| format!("<0x{byte:02X}>")).collect();
    let special = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)];
    let bytes = bytes.iter().map(|text| (text.as_str(), 0.0, 6));
    let all: Vec<_> = special.into_iter().chain(bytes).chain(pieces.iter().copied()).collect();
    BTreeMap::from([
        ("model", "llama".to_owned().into()),
        ("tokens", strings(&Vec::from_iter(all.iter().map(|piece| piece.0)))),
        ("scores", Vec::from_iter(all.iter().map(|piece| piece.1)).into()),
        ("token_type", Vec::from_iter(all.iter().map(|piece| piece.2)).into()),
    ])
}

fn bpe(tokens: &[&str], types: &[i32], merges: &[&str]) -> Keys {
    BTreeMap::from([
        ("model", "gpt2".to_owned().into()),
        ("pre", "smollm".to_owned().into()),
        ("tokens", strings(tokens)),
        ("token_type", types.to_vec().into()),
        ("merges", strings(merges)),
    ])
}

#[test]
fn scores_and_places_decide() {
    let pieces = [("a", -1.0, 1), ("aa", -2.0, 1), ("ab", -2.0, 1), ("b", -1.0, 1), ("▁", -9.0, 1)];
    let tokenizer = load(&spm(&pieces)).unwrap();
    // Equal scores: the leftmost pair.
    assert_eq!(tokenizer.encode("aab", PLAIN), [263, 260, 262]);
    assert_eq!(tokenizer.encode("aaab", PLAIN), [263, 260, 261]);
    // No token for the character: its bytes.
    assert_eq!(tokenizer.encode("é", PLAIN), [263, 3 + 0xc3, 3 + 0xa9]);

    let mut keys = spm(&pieces);
    keys.insert("add_space_prefix", false.into());
    keys.insert("add_bos_token", false.into());
    keys.insert("add_eos_token", true.into());
    let tokenizer = load(&keys).unwrap();
    assert_eq!(tokenizer.encode("aab", PROMPT), [260, 262, 2]);
    keys.insert("add_bos_token", true.into());
    let both = load(&keys).unwrap();
    assert_eq!(both.encode("aab", PROMPT), [1, 260, 262, 2]);
    assert_eq!(both.encode("aab", EncodeOptions { add_bos: false, ..PROMPT }), [260, 262, 2]);
    assert_eq!(both.encode("aab", EncodeOptions { add_eos: false, ..PROMPT }), [1, 260, 262]);
    assert_eq!(tokenizer.decode(&[263, 259], SpecialTokens::Skip), " a");
}

#[test]
fn merges_go_by_rank_and_the_first_of_two_counts() {
    let tokens = ["a", "b", "ab", "aa", "aab", "Ġ", "Ġa"];
    let merges = ["a b", "a a", "aa b", "Ġ a", "a b"];
    let tokenizer = load(&bpe(&tokens, &[1; 7], &merges)).unwrap();
    assert_eq!(tokenizer.encode("aab", PLAIN), [0, 2]);
    assert_eq!(tokenizer.encode("aaa ab", PLAIN), [3, 0, 5, 2]);
    // Nothing spells a c.
    assert_eq!(tokenizer.encode("acb", PLAIN), [0, 1]);
}

#[test]
fn the_longest_special_token_wins_in_the_whole_text() {
    let tokens = ["x", "<a>", "<a><b>", "><b><c>", "[u]", ""];
    let tokenizer = load(&bpe(&tokens, &[1, 3, 3, 3, 4, 3], &[])).unwrap();
    for (text, plain, parsed) in [
        ("x<a>x", &[0, 0][..], &[0, 1, 0][..]),
        ("<a><b>x", &[0], &[2, 0]),
        ("<a><b><c>", &[], &[3]),
        ("x[u]<a>", &[0, 4], &[0, 4, 1]),
        ("<a><a>[u]", &[4], &[1, 1, 4]),
    ] {
        assert_eq!(tokenizer.encode(text, PLAIN), plain, "{text}");
        assert_eq!(tokenizer.encode(text, PARSED), parsed, "{text}");
    }
    assert_eq!(tokenizer.decode(&[0, 1, 4, 0], SpecialTokens::Skip), "x[u]x");
    assert_eq!(tokenizer.decode(&[0, 1, 4, 0], SpecialTokens::Render), "x<a>[u]x");
}

#[test]
fn ends_of_generation_go_by_key_and_by_text() {
    let mut keys = bpe(&["a", "b", "<|im_end|>", "</s>", "c", "d"], &[1; 6], &[]);
    keys.insert("eos_token_id", 0u32.into());
    keys.insert("eom_token_id", 1u32.into());
    let tokenizer = load(&keys).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.eot()), (None, Some(0), Some(2)));
    assert_eq!(
        [0, 1, 2, 3, 4, 5].map(|id| tokenizer.is_end_of_generation(id)),
        [true, true, true, true, false, false]
    );
    // Control tokens, whatever their type.
    assert_eq!(tokenizer.decode(&[2, 4, 3], SpecialTokens::Skip), "c");
    keys.insert("eot_token_id", 5u32.into());
    assert_eq!(load(&keys).unwrap().eot(), Some(5));
}

#[test]
fn wrong_vocabularies_are_refused_by_key() {
    let good_spm = spm(&[("a", -1.0, 1)]);
    let good_bpe = bpe(&["a", "b", "ab"], &[1; 3], &["a b"]);
    load(&good_spm).unwrap();
    load(&good_bpe).unwrap();
    let with = |keys: &Keys, key, value: Value| {
        let mut keys = keys.clone();
        keys.insert(key, value);
        keys
    };
    let without = |keys: &Keys, key| {
        let mut keys = keys.clone();
        keys.remove(key);
        keys
    };
    let of = |text: &str| Value::from(text.to_owned());
    for (keys, key, problem) in [
        (without(&good_spm, "model"), "model", "is missing"),
        (with(&good_spm, "model", 1u32.into()), "model", "is 1"),
        (with(&good_spm, "model", of("bert\n")), "model", r#"is "bert\n"; only "llama""#),
        (without(&good_bpe, "pre"), "pre", "is missing"),
        (with(&good_bpe, "pre", of("llama-bpe")), "pre", r#"is "llama-bpe"; only "smollm""#),
        (without(&good_spm, "tokens"), "tokens", "is missing"),
        (with(&good_spm, "tokens", of("a")), "tokens", "expected an array of strings"),
        (with(&good_bpe, "tokens", strings(&[])), "tokens", "is empty"),
        (with(&good_bpe, "tokens", strings(&["a", "b", "a"])), "tokens", r#"has "a" as token 0 and 2"#),
        (bpe(&["a", "b"], &[1, 1, 1], &[]), "token_type", "has 3 values for 2 tokens"),
        (bpe(&["a", "b"], &[1, 0], &[]), "token_type", "has 0 for token 1; types are 1 to 6"),
        (bpe(&["a", "b"], &[1, 7], &[]), "token_type", "has 7 for token 1"),
        (bpe(&["a", "<0x+1>"], &[1, 6], &[]), "token_type", r#"makes token 1, "<0x+1>", a byte"#),
        (without(&good_spm, "scores"), "scores", "is missing"),
        (with(&good_spm, "scores", vec![1.0f32].into()), "scores", "has 1 values for 260 tokens"),
        (with(&good_spm, "scores", of("a")), "scores", "expected an array"),
        (spm(&[("a", f32::NAN, 1)]), "scores", "has NaN for token 259"),
        (
            with(&with(&good_bpe, "model", of("llama")), "scores", vec![0.0f32; 3].into()),
            "tokens",
            "has no token <0x00> for the byte 0",
        ),
        (without(&good_bpe, "merges"), "merges", "is missing"),
        (
            with(&good_bpe, "merges", strings(&["a b", "ab"])),
            "merges",
            r#"has "ab" at 1, which is not two tokens"#,
        ),
        (with(&good_bpe, "merges", strings(&[" b"])), "merges", "not two tokens"),
        (with(&good_bpe, "merges", strings(&["a "])), "merges", "not two tokens"),
        (with(&good_bpe, "merges", strings(&["a  b"])), "merges", "what is not a token"),
        (with(&good_bpe, "merges", strings(&["b a"])), "merges", "what is not a token"),
        (with(&good_bpe, "merges", strings(&["\n x"])), "merges", r#"has "\n x" at 0"#),
        (with(&good_bpe, "merges", of("a b")), "merges", "expected an array of strings"),
        (with(&good_bpe, "bos_token_id", of("1")), "bos_token_id", "expected an integer"),
        (with(&good_bpe, "mask_token_id", 0.5f32.into()), "mask_token_id", "expected an integer"),
        (with(&good_bpe, "add_bos_token", 1u32.into()), "add_bos_token", "expected a boolean"),
        (with(&good_spm, "add_space_prefix", of("yes")), "add_space_prefix", "expected a boolean"),
    ] {
        let error = load(&keys).map(|_| ()).expect_err(problem);
        let names_key = error.contains(&format!("tokenizer.ggml.{key}"));
        assert!(names_key && error.contains(problem), "{error:?} does not say that {key} {problem}");
        assert!(error.starts_with("made-up.gguf: ") && !error.contains('\n'), "{error:?}");
    }
}

// Random texts and vocabularies

fn text() -> impl Strategy<Value = String> {
    #[rustfmt::skip]
    const PARTS: &[&str] = &[
        " ", "  ", "\t", "\n", "\r\n", "\0", "\u{4}", "\u{85}", "\u{a0}", "\u{3000}", "\u{200d}", "'s", "'ll", "'",
        "½", "④", "42", "the", " the", "é", "e\u{301}", "本", "한", "🦙", "👩\u{200d}💻", "▁", "Ġ", "<s>", "</s>",
        "<unk>", "<|im_start|>", "<|im_end|>", "<|im_", "<0x0A>", "ab", "aa",
    ];
    let part = prop_oneof![
        select(PARTS).prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
        "[a-c ]{1,9}".prop_map(String::from),
    ];
    vec(part, 0..30).prop_map(|parts| parts.concat())
}

/// Keys with plausible and with wild values.
fn vocabulary() -> impl Strategy<Value = Keys> {
    let token =
        prop_oneof!["[ab<>]{0,4}", "[aĠ▁ Ċ]{1,3}", "<0x[0-9A-G]{2}>", Just("<|im_end|>".to_owned()), text()];
    let tokens = vec((token, -3..3i8, prop_oneof![9 => 1..7i32, 1 => any::<i32>()]), 0..40);
    let merges = vec((any::<Index>(), any::<Index>()), 0..40);
    let flag = proptest::option::of(any::<bool>());
    let id = || proptest::option::of(prop_oneof![9 => 0..5u32, 1 => any::<u32>()]);
    let more = (any::<bool>(), flag.clone(), flag, id(), id(), any::<bool>());
    (tokens, merges, more).prop_map(|(tokens, merges, (is_spm, bos, prefix, bos_id, eos_id, distinct))| {
        let mut pieces: Vec<_> =
            tokens.iter().map(|(text, score, ty)| (&**text, f32::from(*score), *ty)).collect();
        if distinct {
            pieces.sort_by(|a, b| a.0.cmp(b.0));
            pieces.dedup_by(|a, b| a.0 == b.0);
            pieces
                .retain(|piece| !["<unk>", "<s>", "</s>"].contains(&piece.0) && !piece.0.starts_with("<0x"));
            pieces.iter_mut().for_each(|piece| piece.2 = piece.2.rem_euclid(5) + 1);
        }
        let mut keys = if is_spm {
            spm(&pieces)
        } else {
            let texts: Vec<_> = pieces.iter().map(|piece| piece.0).collect();
            let pairs = merges.iter().filter(|_| !texts.is_empty());
            let pairs = pairs.map(|(left, right)| (left.get(&texts), right.get(&texts)));
            let pairs =
                pairs.filter(|(left, right)| !distinct || texts.contains(&&*format!("{left}{right}")));
            let pairs =
                pairs.filter(|(left, right)| !distinct || !(left.contains(' ') || right.contains(' ')));
            let merges: Vec<_> = pairs.map(|(left, right)| format!("{left} {right}")).collect();
            let types: Vec<_> = pieces.iter().map(|piece| piece.2).collect();
            bpe(&texts, &types, &Vec::from_iter(merges.iter().map(String::as_str)))
        };
        let mut set = |key, value: Option<Value>| value.and_then(|value| keys.insert(key, value));
        set("add_bos_token", bos.map(Value::from));
        set("add_space_prefix", prefix.map(Value::from));
        set("bos_token_id", bos_id.map(Value::from));
        set("eos_token_id", eos_id.map(Value::from));
        keys
    })
}

proptest! {
    #[test]
    fn bpe_gives_the_text_back(text in text()) {
        let expected = spelt(&BPE, &text);
        for options in [PLAIN, PARSED] {
            prop_assert_eq!(BPE.decode(&BPE.encode(&text, options), SpecialTokens::Render), &*expected);
        }
    }

    #[test]
    fn spm_gives_the_text_back(text in text()) {
        // SentencePiece writes a space `▁` and can't tell it from one.
        let expected = text.replace('▁', " ");
        for options in [PLAIN, PARSED] {
            prop_assert_eq!(SPM.decode(&SPM.encode(&text, options), SpecialTokens::Render), &*expected);
        }
    }

    #[test]
    fn pieces_joined_are_the_text(ids in vec(prop_oneof![0..300u32, 0..50_000u32], 0..40)) {
        for tokenizer in [&*SPM, &*BPE] {
            let bytes: Vec<u8> = ids.iter().filter_map(|&id| tokenizer.token_bytes(id)).flatten().copied().collect();
            let mut decoder = tokenizer.decoder(SpecialTokens::Render);
            let mut joined = String::new();
            ids.iter().for_each(|&id| joined.push_str(decoder.push(id)));
            joined.push_str(decoder.finish());
            prop_assert_eq!(joined, String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn wild_vocabularies_do_no_harm(keys in vocabulary(), text in text()) {
        match load(&keys) {
            Err(error) => prop_assert!(error.contains("tokenizer.ggml.") && !error.contains('\n'), "{}", error),
            Ok(tokenizer) => {
                for options in [PLAIN, PARSED, PROMPT] {
                    let ids = tokenizer.encode(&text, options);
                    prop_assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
                    tokenizer.decode(&ids, SpecialTokens::Skip);
                    tokenizer.decode(&ids, SpecialTokens::Render);
                }
            }
        }
    }
}
