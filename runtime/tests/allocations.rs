//! A token in the steady state allocates nothing, counted in the whole process.

mod common;
#[path = "common/tiny.rs"]
mod tiny;

use std::hint::black_box;

use quantloom::Model;
use quantloom::alloc::{Count, CountingAllocator};
use quantloom::draft::PromptLookup;
use quantloom::sample::{Sampler, SamplerOptions, greedy};
use quantloom::tokenizer::SpecialTokens;

use tiny::{SHAPE, Shape, TinyModel};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Tokens of a round.
const TOKENS: usize = 128;

// The only test here: another one beside it would be counted, too.
#[test]
fn a_steady_state_token_allocates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let shapes = [
        ("F32", SHAPE),
        ("F16 with odd lengths", Shape { ty: "F16", head_dim: 10, rope_dims: 6, feed_forward: 77, ..SHAPE }),
        ("Q4_0", Shape { ty: "Q4_0", ..SHAPE }),
        ("mixed", Shape { ty: "Q4_1", except: &[("attn_v", "BF16"), ("output.weight", "Q8_0")], ..SHAPE }),
    ];
    let mut models: Vec<_> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let path = folder.path().join(format!("{name}.gguf"));
            TinyModel::new(&Shape { context: 256, ..shape }).write(&path);
            (name, path)
        })
        .collect();
    models.extend(common::default_model().map(|path| ("the default model", path)));

    assert!(CountingAllocator::count().allocations > 0, "the counter counts");
    // Kept to the end: the threads of a dropped model end some time later, and that allocates.
    let mut measured = Vec::new();
    for (name, path) in &models {
        for threads in [1, 2] {
            let model = Model::load(path, Some(threads)).unwrap();
            for temperature in [0.0, 0.8] {
                let used = steady_state(&model, temperature);
                let none = Count { allocations: 0, bytes: 0 };
                assert_eq!(
                    used, none,
                    "{name}, {threads} threads, temperature {temperature}: {TOKENS} tokens"
                );
            }
            assert_eq!(
                drafts(&model),
                Count { allocations: 0, bytes: 0 },
                "{name}, {threads} threads, drafts"
            );
            measured.push(model);
        }
    }
}

/// What tokens (forward pass, draw, text) ask of the allocator once sampler and decoder have found the size of
/// their buffers.
fn steady_state(model: &Model, temperature: f32) -> Count {
    let mut cache = model.create_kv_cache().unwrap();
    let mut scratch = model.create_scratch().unwrap();
    let mut sampler = Sampler::new(SamplerOptions { temperature, seed: 1, ..Default::default() });
    let tokenizer = model.tokenizer();
    let mut decoder = tokenizer.decoder(SpecialTokens::Render);
    // Its buffers grow to the longest text there is.
    let text_len = |id: &u32| tokenizer.token_bytes(*id).map(<[u8]>::len);
    decoder.push((0..tokenizer.vocab_size() as u32).max_by_key(text_len).unwrap());

    model.forward_with_cache(&[1, 5, 9], &mut cache).unwrap();
    let mut token = 1;
    let mut round = || {
        cache.truncate(3);
        let before = CountingAllocator::count();
        for _ in 0..TOKENS {
            let logits = model.forward_single_with_scratch(token, &mut cache, &mut scratch).unwrap();
            let likeliest = greedy(logits);
            token = sampler.sample(logits);
            assert!(temperature > 0.0 || token == likeliest);
            black_box(decoder.push(token));
        }
        CountingAllocator::count() - before
    };
    round();
    round()
}

/// What tokens ask of the allocator some of which were drafted, right or wrong, from the first on.
fn drafts(model: &Model) -> Count {
    let text = |i: u32| if i % 17 == 16 { i } else { i % 5 };
    let mut cache = model.create_kv_cache().unwrap();
    model.forward_with_cache(&[4], &mut cache).unwrap();
    let mut decoding = PromptLookup::new(model, &mut cache, &[4], 12).unwrap();
    let before = CountingAllocator::count();
    for i in 0..TOKENS as u32 {
        black_box(decoding.forward(text(i)).unwrap());
    }
    let used = CountingAllocator::count() - before;
    let counts = decoding.counts();
    assert!(0 < counts.accepted && counts.accepted < counts.drafted, "{counts:?}");
    used
}
