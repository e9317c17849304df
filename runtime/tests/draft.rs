//! Tokens that go through a model together and are, bit for bit, what each is alone; prompt lookup on top of them.

mod common;
#[path = "common/tiny.rs"]
mod tiny;

use quantloom::draft::{Counts, MAX_DRAFT, PromptLookup};
use quantloom::gguf::Gguf;
use quantloom::sample::{Sampler, SamplerOptions};
use quantloom::tokenizer::{EncodeOptions, SpecialTokens};
use quantloom::{Error, KvCache, Model};
use quantloom_kernels::{Isa, Supported};

use tiny::{SHAPE, Shape, TinyModel};

/// Types and lengths that matrices, norms and attention treat differently.
const SHAPES: [(&str, Shape); 7] = {
    const WIDE: Shape = Shape { embedding: 256, feed_forward: 512, head_dim: 64, rope_dims: 64, ..SHAPE };
    [
        ("F32", SHAPE),
        ("F16 with odd lengths", Shape { ty: "F16", head_dim: 9, rope_dims: 4, feed_forward: 77, ..SHAPE }),
        ("Q4_0", Shape { ty: "Q4_0", vocab: 1237, ..SHAPE }),
        ("Q4_1, tied", Shape { ty: "Q4_1", heads: 6, kv_heads: 2, tied: true, ..SHAPE }),
        (
            "Q8_0, one KV head",
            Shape { ty: "Q8_0", heads: 8, kv_heads: 1, head_dim: 12, rope_dims: 8, ..SHAPE },
        ),
        ("Q6_K", Shape { ty: "Q6_K", ..WIDE }),
        ("mixed", Shape { ty: "Q4_0", except: &[("attn_v", "BF16"), ("output.weight", "Q6_K")], ..WIDE }),
    ]
};

/// Runs `check` with each shape's model on every instruction set and on one to three threads.
fn for_models(check: impl Fn(&str, &Model)) {
    let folder = tempfile::tempdir().unwrap();
    for (name, shape) in SHAPES {
        let path = folder.path().join(format!("{name}.gguf"));
        TinyModel::new(&shape).write(&path);
        for isa in Supported::all() {
            let model = Model::from_gguf(Gguf::open(&path).unwrap(), isa, 1).unwrap();
            for threads in 1..=3 {
                let place = format!("{name}, {}, {threads} threads", isa.isa());
                check(&place, &model.with_threads(threads).unwrap());
            }
        }
    }
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

#[test]
fn several_tokens_give_the_bits_of_one_after_the_other() {
    for_models(|place, model| {
        let tokens: Vec<u32> = (0..70).map(|i| (i * 7919 + 13) % 263).collect();
        let mut cache = model.create_kv_cache().unwrap();
        let mut scratch = model.create_scratch().unwrap();
        let mut expected = Vec::new();
        for &token in &tokens {
            expected
                .extend(bits(model.forward_single_with_scratch(token, &mut cache, &mut scratch).unwrap()));
        }
        let mut scratch = model.create_scratch_for(33).unwrap();
        for at_once in [1, 2, 3, 4, 5, 8, 13, 16, 17, 30] {
            cache.clear();
            let mut ours = Vec::new();
            for part in tokens.chunks(at_once) {
                // With others behind them, which are taken back.
                let all = [part, &[262, 7, 262]].concat();
                let len = cache.len();
                let logits = model.forward_several_with_scratch(&all, &mut cache, &mut scratch).unwrap();
                ours.extend(bits(&logits[..part.len() * model.config().vocab]));
                assert_eq!(cache.len(), len + all.len(), "{place}, {at_once} at once");
                cache.truncate(len + part.len());
            }
            assert!(ours == expected, "{place}, {at_once} at once: other logits than one by one");
        }
    });
}

#[test]
fn what_several_tokens_can_not_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    TinyModel::new(&SHAPE).write(&path);
    let model = Model::load(path, Some(1)).unwrap();
    let mut cache = model.create_kv_cache_for(8).unwrap();
    let mut scratch = model.create_scratch_for(5).unwrap();
    model.forward_with_cache(&[1, 2, 3, 4], &mut cache).unwrap();
    let cases: [(&[u32], &str); 4] = [
        (&[], "there are no tokens"),
        (&[1, 263], "token 263 is outside the vocabulary of 263"),
        (&[1; 5], "5 tokens do not fit the context of 8, of which 4 are used"),
        (&[1; 6], "6 tokens do not fit"),
    ];
    for (tokens, fragment) in cases {
        let text =
            model.forward_several_with_scratch(tokens, &mut cache, &mut scratch).unwrap_err().to_string();
        assert!(text.contains(fragment) && text.lines().count() == 1, "{tokens:?}: {text}");
        assert_eq!(cache.len(), 4, "{tokens:?}");
    }
    cache.clear();
    let text = model.forward_several_with_scratch(&[1; 6], &mut cache, &mut scratch).unwrap_err().to_string();
    assert_eq!(text, "6 tokens do not fit the arena, which was made for 5 at once");
    let text = PromptLookup::new(&model, &mut cache, &[1, 263], 4).unwrap_err().to_string();
    assert!(text.contains("token 263 is outside the vocabulary"), "{text}");
}

/// Tokens decoded by one [`PromptLookup`], after which the next takes over, as the next turn of a conversation would:
/// somewhere in the middle of a draft, that is.
const TURN: usize = 23;

/// Decodes with and without drafts, side by side, up to `tokens` more or the end of the context: each step must have
/// the same logits. `choose` picks the next token from the number of the step and its logits.
fn compare(
    place: &str,
    model: &Model,
    prompt: &[u32],
    context: usize,
    tokens: usize,
    longest: usize,
    mut choose: impl FnMut(usize, &[f32]) -> u32,
) -> (Vec<u32>, Counts) {
    let caches = [(); 2].map(|()| model.create_kv_cache_for(context).unwrap());
    let [mut plain, mut drafted]: [KvCache; 2] = caches;
    let mut scratch = model.create_scratch().unwrap();
    let mut all = prompt.to_vec();
    let logits = model.forward_with_cache(prompt, &mut plain).unwrap();
    model.forward_with_cache(prompt, &mut drafted).unwrap();
    let mut token = choose(0, &logits);
    let mut total = Counts::default();
    while all.len() < prompt.len() + tokens {
        let mut decoding = PromptLookup::new(model, &mut drafted, &all, longest).unwrap();
        for _ in 0..TURN.min(prompt.len() + tokens - all.len()) {
            let step = all.len() - prompt.len();
            let expected = match model.forward_single_with_scratch(token, &mut plain, &mut scratch) {
                Ok(logits) => logits,
                Err(error) => {
                    assert!(matches!(error, Error::Context { .. }), "{place}, step {step}: {error}");
                    let ours = decoding.forward(token).unwrap_err().to_string();
                    assert_eq!(ours, error.to_string(), "{place}, step {step}");
                    assert_eq!(decoding.cache().len(), context, "{place}, step {step}");
                    return (all.split_off(prompt.len()), add(total, decoding.counts()));
                }
            };
            let logits = decoding.forward(token).unwrap();
            assert!(bits(logits) == bits(expected), "{place}, step {step}: other logits than without drafts");
            all.push(token);
            assert_eq!(decoding.cache().len(), all.len(), "{place}, step {step}");
            token = choose(step + 1, expected);
        }
        total = add(total, decoding.counts());
    }
    (all.split_off(prompt.len()), total)
}

fn add(a: Counts, b: Counts) -> Counts {
    Counts { passes: a.passes + b.passes, drafted: a.drafted + b.drafted, accepted: a.accepted + b.accepted }
}

#[test]
fn drafts_change_nothing_whatever_text_they_meet() {
    // Goes round, but for a change now and then.
    let text = |step: usize| if step % 19 == 11 { 200 + (step % 60) as u32 } else { 3 + (step % 7) as u32 };
    let prompt: Vec<u32> = (0..9).map(text).collect();
    for_models(|place, model| {
        for longest in [0, 1, 2, 8, MAX_DRAFT] {
            let place = format!("{place}, drafts of {longest}");
            let (_, counts) =
                compare(&place, model, &prompt, 80, usize::MAX / 2, longest, |step, _| text(9 + step));
            // All 71 tokens behind the prompt, each by a pass or by a draft.
            assert_eq!(counts.passes + counts.accepted, 71, "{place}: {counts:?}");
            let (accepted, rejected) = (counts.accepted, counts.drafted - counts.accepted);
            assert_eq!((accepted > 0, rejected > 0), (longest > 0, longest > 0), "{place}: {counts:?}");
        }
    });
}

#[test]
fn a_real_model_says_the_same_with_drafts() {
    let Some(path) = common::default_model() else { return };
    let chat = |text: &str| format!("<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n");
    let prompts = [
        chat("Repeat the following text word for word:\n\nThe cat sat on the mat, the dog sat on the log."),
        "1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 4, 1, 2,".into(),
        "Once upon a time".into(),
    ];
    let mut total = Counts::default();
    for isa in Supported::all() {
        let model = Model::from_gguf(Gguf::open(&path).unwrap(), isa, 2).unwrap();
        // The scalar kernels take a second for what others do in twenty milliseconds.
        let tokens = if isa.isa() == Isa::Scalar { 8 } else { 48 };
        let options = EncodeOptions { add_bos: true, add_eos: true, parse_special: true };
        for prompt in &prompts {
            let ids = model.tokenizer().encode(prompt, options);
            for temperature in [0.0, 0.8] {
                let place = format!("{}, {prompt:?}, at {temperature}", isa.isa());
                let mut sampler =
                    Sampler::new(SamplerOptions { temperature, seed: 5, ..SamplerOptions::default() });
                let choose = |_, logits: &[f32]| sampler.sample(logits);
                let (said, counts) = compare(&place, &model, &ids, 256, tokens, 8, choose);
                println!("{place}: {counts:?}, {:?}", model.tokenizer().decode(&said, SpecialTokens::Render));
                total = add(total, counts);
            }
        }
    }
    assert!(total.accepted > 100 && total.drafted > total.accepted, "{total:?}");
}
