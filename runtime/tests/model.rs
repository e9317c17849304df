//! Models of many shapes against a float64 forward pass, on every instruction set and number of threads.

#[path = "common/tiny.rs"]
mod tiny;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs;

use half::{bf16, f16};
use quantloom::gguf::{Gguf, TensorType};
use quantloom::imatrix::compute;
use quantloom::perplexity::{Chunks, evaluate};
use quantloom::{CacheType, CacheTypes, Error, KvCache, Model, Scratch};
use quantloom_kernels::formats::Q8_0;
use quantloom_kernels::{BlockFormat, FORMATS, Format, Supported};

use tiny::{EPSILON, SHAPE, Shape, TinyModel, TinyTensor};

/// Tokens of every run: more than two tiles of attention (32 positions) and than a batch of logits (48 tokens).
const TOKENS: usize = 70;

/// How far logits may be from exact ones, as ‖ours − exact‖ / ‖exact‖ at any position.
///
/// Where all matrices are F32, F16 or BF16, products err by some 1e-7. The exact pass, too, keeps keys and values
/// in f16; where such an error takes one of them to the other side of a rounding border, it changes by 2⁻¹⁰ of
/// itself. At the first positions, where attention has little else to read, that shows.
const DENSE: f64 = 2e-3;
/// Inputs of quantized matrices are 8-bit codes with a scale to each four. Of four random values the largest is
/// about 1.5 σ, a step 1.5 σ / 127, and its rounding errs by 1 / √12 of that: 0.34 % of the input, and of
/// the product. Five such products in a row per layer, with scores of ±2 and steep gates between them, make
/// ten times that at most positions and twenty at the worst.
const QUANTIZED: f64 = 1e-1;

/// A code of Q8_0 errs by 1 / √12 of a step, which is 1/127 of the largest of 32, some 2 σ: 0.5 % of a key or value.
const QUANTIZED_CACHE: f64 = 5e-2;

#[test]
fn logits_are_those_of_an_exact_forward_pass() {
    const TYPES_256: Shape =
        Shape { embedding: 256, feed_forward: 512, head_dim: 64, rope_dims: 64, ..SHAPE };
    #[rustfmt::skip]
    let cases = [
        // Heads.
        ("head length 10", Shape { embedding: 40, head_dim: 10, rope_dims: 10, ..SHAPE }),
        ("head length 64", Shape { embedding: 128, heads: 2, kv_heads: 1, head_dim: 64, rope_dims: 64, ..SHAPE }),
        ("head length 80", Shape { embedding: 160, heads: 2, kv_heads: 2, head_dim: 80, rope_dims: 80, ..SHAPE }),
        ("head length 128", Shape { heads: 1, kv_heads: 1, head_dim: 128, rope_dims: 128, ..SHAPE }),
        ("head length 2", Shape { embedding: 6, heads: 3, kv_heads: 3, head_dim: 2, rope_dims: 2, ..SHAPE }),
        ("odd head length, rope on part of it", Shape { embedding: 36, head_dim: 9, rope_dims: 4, ..SHAPE }),
        ("rope on half of a head of 80", Shape { heads: 3, kv_heads: 1, head_dim: 80, rope_dims: 40, ..SHAPE }),
        ("rope on one pair", Shape { rope_dims: 2, ..SHAPE }),
        ("rope base 500,000", Shape { rope_base: 500_000.0, ..SHAPE }),
        ("groups of 1", Shape { kv_heads: 4, ..SHAPE }),
        ("groups of 3", Shape { heads: 6, kv_heads: 2, ..SHAPE }),
        ("groups of 8", Shape { heads: 16, kv_heads: 2, ..SHAPE }),
        ("one KV head", Shape { heads: 8, kv_heads: 1, head_dim: 8, rope_dims: 8, ..SHAPE }),
        ("one KV head, a group of 35", Shape { heads: 35, kv_heads: 1, head_dim: 6, rope_dims: 6, ..SHAPE }),
        ("query longer than the embedding", Shape { head_dim: 24, rope_dims: 24, ..SHAPE }),
        ("query shorter than the embedding", Shape { head_dim: 10, rope_dims: 6, ..SHAPE }),
        ("embedding no multiple of the heads", Shape { embedding: 50, heads: 3, kv_heads: 3, ..SHAPE }),
        // Layers and matrices.
        ("one layer", Shape { layers: 1, ..SHAPE }),
        ("three layers", Shape { layers: 3, ..SHAPE }),
        ("tied output", Shape { tied: true, ..SHAPE }),
        ("feed-forward length 1", Shape { feed_forward: 1, ..SHAPE }),
        ("feed-forward length 37", Shape { feed_forward: 37, ..SHAPE }),
        ("feed-forward length 1,001", Shape { feed_forward: 1001, ..SHAPE }),
        ("vocabulary of 1,237", Shape { vocab: 1237, ..SHAPE }),
        // Types.
        ("F16", Shape { ty: "F16", ..SHAPE }),
        ("F16 with odd lengths", Shape { ty: "F16", embedding: 51, feed_forward: 77, heads: 3, kv_heads: 1, head_dim: 18, rope_dims: 18, ..SHAPE }),
        ("BF16", Shape { ty: "BF16", tied: true, ..SHAPE }),
        ("BF16 with odd lengths", Shape { ty: "BF16", embedding: 51, feed_forward: 77, heads: 3, kv_heads: 1, head_dim: 18, rope_dims: 18, ..SHAPE }),
        ("F32, F16 and BF16", Shape { except: &[("attn_k", "BF16"), ("attn_v", "F16"), ("attn_norm", "F16"), ("ffn_norm", "BF16"), ("ffn_up", "F16")], ..SHAPE }),
        ("Q4_0", Shape { ty: "Q4_0", ..SHAPE }),
        ("Q4_0, tied", Shape { ty: "Q4_0", tied: true, ..SHAPE }),
        ("Q4_1", Shape { ty: "Q4_1", heads: 6, kv_heads: 2, ..SHAPE }),
        ("Q8_0", Shape { ty: "Q8_0", heads: 8, kv_heads: 1, head_dim: 12, rope_dims: 8, ..SHAPE }),
        ("Q6_K", Shape { ty: "Q6_K", ..TYPES_256 }),
        ("Q6_K, tied", Shape { ty: "Q6_K", tied: true, heads: 3, kv_heads: 3, head_dim: 256, rope_dims: 64, ..TYPES_256 }),
        ("Q4_0 and Q6_K output", Shape { ty: "Q4_0", except: &[("output.weight", "Q6_K")], ..TYPES_256 }),
        ("Q, K and V in three types", Shape { ty: "Q8_0", except: &[("attn_q", "Q4_0"), ("attn_k", "Q4_1"), ("attn_v", "F16")], ..SHAPE }),
        ("gate and up in two types", Shape { ty: "Q4_1", except: &[("ffn_gate", "F32"), ("ffn_up", "Q6_K"), ("token_embd", "Q6_K")], ..TYPES_256 }),
        ("Q4_0 with an odd feed-forward length", Shape { ty: "Q4_0", feed_forward: 91, except: &[("ffn_down", "BF16")], ..SHAPE }),
        ("Q8_0 with an odd query length", Shape { ty: "Q8_0", head_dim: 9, rope_dims: 6, except: &[("attn_output", "F16")], ..SHAPE }),
        ("dense but one", Shape { except: &[("blk.1.ffn_down", "Q4_0")], ..SHAPE }),
    ];
    let folder = tempfile::tempdir().unwrap();
    let tokens = tokens(TOKENS);
    let mut largest = [0.0_f64; 2];
    for (case, shape) in cases {
        let tiny = TinyModel::new(&shape);
        let path = folder.path().join(format!("{case}.gguf"));
        tiny.write(&path);
        let tokens: Vec<u32> = tokens.iter().map(|token| token % shape.vocab as u32).collect();
        let exact = Exact::new(&tiny, &shape).logits(&tokens);
        let is_dense = tiny.tensors.iter().all(|tensor| tensor.ty.block_len() == 1);
        for isa in Supported::all() {
            let place = format!("{case}, {}", isa.isa());
            let model = Model::from_gguf(Gguf::open(&path).unwrap(), isa, 1).unwrap();
            let ours = one_by_one(&model, &tokens);
            let deviation = largest_deviation(&ours, &exact, shape.vocab);
            println!("{place}: {deviation:.1e}");
            let (bound, largest) = match is_dense {
                true => (DENSE, &mut largest[0]),
                false => (QUANTIZED, &mut largest[1]),
            };
            *largest = largest.max(deviation);
            assert!(deviation <= bound, "{place}: {deviation:.1e} from exact logits, more than {bound:.1e}");

            for at_once in [1, 3, 9, 10, 13, 33, TOKENS] {
                let mut on_one_thread = None;
                for threads in 1..=3 {
                    let place = format!("{place}, {threads} threads, {at_once} tokens at once");
                    let model = model.with_threads(threads).unwrap();
                    let mut cache = model.create_kv_cache().unwrap();
                    let parts = tokens.chunks(at_once);
                    let all: Vec<f32> = parts
                        .flat_map(|part| model.forward_all_with_cache(part, &mut cache).unwrap())
                        .collect();
                    // From ten tokens on activations are quantized otherwise than for one; all else is the same.
                    if at_once < 10 || is_dense {
                        assert!(all == ours, "{place}: other logits than one by one on one thread");
                    }
                    let deviation = largest_deviation(&all, &exact, shape.vocab);
                    assert!(deviation <= bound, "{place}: {deviation:.1e} from exact logits");
                    *largest = largest.max(deviation);
                    if at_once == TOKENS {
                        let last = model.forward(&tokens).unwrap();
                        // One token's logits are a product for one token.
                        let deviation =
                            largest_deviation(&last, &exact[exact.len() - last.len()..], shape.vocab);
                        assert!(deviation <= bound, "{place}, without a cache: {deviation:.1e}");
                        assert!(!is_dense || all.ends_with(&last), "{place}: other logits without a cache");
                    }
                    assert!(*on_one_thread.get_or_insert(all.clone()) == all, "{place}: other than on one");
                }
            }
        }
    }
    println!("largest: {:.1e} with dense, {:.1e} with quantized matrices", largest[0], largest[1]);
}

/// A model in each of GGUF's formats that has a quantizer, one token at a time and all at once.
#[test]
fn every_format_runs_as_the_weights_that_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = tokens(40);
    let in_files = |format: &&&Format| format.quantize.is_some() && format.gguf_id.is_some();
    for format in FORMATS.iter().filter(in_files) {
        let shape = Shape {
            layers: 1,
            embedding: 256,
            feed_forward: 256,
            head_dim: 64,
            rope_dims: 64,
            ty: format.name,
            ..SHAPE
        };
        let tiny = TinyModel::new(&shape);
        let path = folder.path().join(format.name);
        tiny.write(&path);
        let exact = Exact::new(&tiny, &shape).logits(&tokens);
        for isa in Supported::all() {
            let model = Model::from_gguf(Gguf::open(&path).unwrap(), isa, 2).unwrap();
            let at_once =
                model.forward_all_with_cache(&tokens, &mut model.create_kv_cache().unwrap()).unwrap();
            for (how, ours) in [("one by one", one_by_one(&model, &tokens)), ("at once", at_once)] {
                let deviation = largest_deviation(&ours, &exact, shape.vocab);
                println!("{}, {}, {how}: {deviation:.1e}", format.name, isa.isa());
                assert!(deviation <= QUANTIZED, "{}, {}, {how}: {deviation:.1e}", format.name, isa.isa());
            }
        }
    }
}

/// Sums of squares of what matrices are multiplied with, of all tokens and no others.
#[test]
fn an_importance_matrix_is_that_of_an_exact_forward_pass() {
    #[rustfmt::skip]
    let cases = [
        ("F32", SHAPE, 16, 3),
        ("F16 with odd lengths", Shape { ty: "F16", embedding: 51, feed_forward: 77, heads: 3, kv_heads: 1, head_dim: 18, rope_dims: 18, ..SHAPE }, 7, 2),
        ("tied output", Shape { tied: true, ..SHAPE }, 16, 2),
        ("three layers, more than a batch", Shape { layers: 3, context: 1000, ..SHAPE }, 600, 1),
        ("more than a batch by one", Shape { context: 1000, ..SHAPE }, 529, 1),
        ("Q8_0", Shape { ty: "Q8_0", ..SHAPE }, 40, 2),
        ("Q4_0", Shape { ty: "Q4_0", ..SHAPE }, 8, 3),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (case, shape, context, count) in cases {
        let tiny = TinyModel::new(&shape);
        let path = folder.path().join(format!("{case}.gguf"));
        tiny.write(&path);
        let is_dense = tiny.tensors.iter().all(|tensor| tensor.ty.block_len() == 1);
        let model = Model::load(&path, Some(1)).unwrap();
        let text: String =
            (0..2 * count * context).map(|i| char::from(b'a' + (i * i + i / 7) as u8 % 26)).collect();
        let chunks = Chunks::of_text(&model, &text, context, count).unwrap();
        let exact = Exact::new(&tiny, &shape);
        for chunk in chunks.tokens().chunks(context) {
            exact.logits(&[&[1], &chunk[1..]].concat());
        }
        let exact = exact.squares.into_inner();
        let output = if shape.tied { "token_embd.weight" } else { "output.weight" };

        let mut on_one_thread = None;
        for (threads, with_output) in [(1, true), (2, true), (3, true), (2, false)] {
            let case = format!("{case}, {threads} threads, with output: {with_output}");
            let model = model.with_threads(threads).unwrap();
            let mut told = 0;
            let each = |_: &_| {
                told += 1;
                Ok::<_, Error>(())
            };
            let (imatrix, figures) = compute(&model, &chunks, with_output, each).unwrap();
            assert_eq!(
                (imatrix.chunks, imatrix.context, told),
                (count as u32, context as u32, count),
                "{case}"
            );
            let expected = || exact.iter().filter(|(name, _)| with_output || *name != output);
            assert!(imatrix.entries.keys().eq(expected().map(|(name, _)| name)), "{case}: {imatrix:?}");
            for (name, exact) in expected() {
                let entry = &imatrix.entries[name];
                assert_eq!(entry.counts, [(count * context) as f32], "{case}, {name}");
                let deviation = largest_deviation(&entry.sums, exact, exact.len());
                // Squares err twice as much.
                let bound = 2.0 * if is_dense { DENSE } else { QUANTIZED };
                assert!(deviation <= bound, "{case}, {name}: {deviation:.1e} from exact sums");
            }
            if is_dense {
                let alone = evaluate(&model, &chunks, CacheTypes::default(), |_| Ok::<_, Error>(())).unwrap();
                assert_eq!(figures, alone, "{case}");
            }
            if with_output {
                let first = on_one_thread.get_or_insert(imatrix.clone());
                assert!(*first == imatrix, "{case}: other than on one thread");
            }
        }
    }
}

#[test]
fn long_contexts_stay_exact() {
    const LONG: usize = 1000;
    let shape = Shape { context: LONG, kv_heads: 1, head_dim: 10, rope_dims: 10, ..SHAPE };
    let tiny = TinyModel::new(&shape);
    let tokens = tokens(LONG);
    let exact = Exact::new(&tiny, &shape).logits(&tokens);
    let model = load(&shape);
    let mut cache = model.create_kv_cache().unwrap();
    let ours = model.forward_all_with_cache(&tokens, &mut cache).unwrap();
    let deviation = largest_deviation(&ours, &exact, shape.vocab);
    println!("{LONG} tokens: {deviation:.1e}");
    assert!(deviation <= DENSE, "{deviation:.1e} from exact logits, more than {DENSE:.1e}");
}

/// A matrix of twice the weights with a scale of a half is the same matrix: powers of two round nothing.
#[test]
fn a_matrix_may_have_a_scale_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    for ty in ["F32", "Q4_0"] {
        let shape = Shape { embedding: 64, ty, ..SHAPE };
        let mut tiny = TinyModel::new(&shape);
        let [plain, scaled, bad] = ["plain", "scaled", "bad"].map(|name| folder.path().join(name));
        tiny.write(&plain);
        let matrices = tiny.tensors.iter_mut().filter(|tensor| !tensor.name.contains("norm"));
        let scales: Vec<TinyTensor> = matrices
            .map(|tensor| {
                match ty {
                    "F32" => tensor.data.as_chunks_mut().0.iter_mut().for_each(|weight| {
                        *weight = (2.0 * f32::from_le_bytes(*weight)).to_le_bytes();
                    }),
                    _ => tensor.data.as_chunks_mut::<18>().0.iter_mut().for_each(|block| {
                        let d = f16::from_le_bytes([block[0], block[1]]);
                        block[..2].copy_from_slice(&f16::from_f32(2.0 * d.to_f32()).to_le_bytes());
                    }),
                }
                TinyTensor {
                    name: tensor.name.replace(".weight", ".scale"),
                    dims: vec![1],
                    ty: tiny::tensor_type("F32"),
                    data: 0.5_f32.to_le_bytes().to_vec(),
                }
            })
            .collect();
        assert_eq!(scales.len(), 2 + 7 * shape.layers);
        tiny.tensors.extend(scales);
        tiny.write(&scaled);
        let logits = |path| {
            let model = Model::load(path, Some(2)).unwrap();
            model.forward_all_with_cache(&tokens(TOKENS), &mut model.create_kv_cache().unwrap()).unwrap()
        };
        assert!(logits(&plain) == logits(&scaled), "{ty}: other logits");

        tiny.tensors.last_mut().unwrap().data = f32::NAN.to_le_bytes().to_vec();
        tiny.write(&bad);
        let error = Model::load(&bad, Some(1)).unwrap_err().to_string();
        assert!(error.contains("tensor `output.scale` holds NaN"), "{ty}: {error}");
    }
}

#[test]
fn version_2_of_gguf_is_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let [v3, v2] = ["v3", "v2"].map(|name| folder.path().join(name));
    TinyModel::new(&SHAPE).write(&v3);
    let mut bytes = fs::read(&v3).unwrap();
    bytes[4] = 2;
    fs::write(&v2, bytes).unwrap();
    let [v3, v2] = [v3, v2].map(|path| Model::load(path, Some(1)).unwrap());
    assert_eq!((v2.gguf().version(), v3.gguf().version()), (2, 3));
    assert_eq!(v2.config(), v3.config());
    assert_eq!(one_by_one(&v2, &tokens(5)), one_by_one(&v3, &tokens(5)));
}

#[test]
fn what_a_cache_forgets_does_not_come_back() {
    let model = load(&SHAPE);
    let tokens = tokens(TOKENS);
    let others: Vec<u32> = tokens.iter().map(|token| (token + 1) % SHAPE.vocab as u32).collect();
    let expected = one_by_one(&model, &tokens);
    for kept in [0, 1, 31, 32, 33, 69, 70, 1000] {
        let mut cache = model.create_kv_cache().unwrap();
        model.forward_with_cache(&tokens, &mut cache).unwrap();
        let left = kept.min(TOKENS);
        // Over what is forgotten goes something else first.
        for rest in [&others, &tokens] {
            cache.truncate(kept);
            assert_eq!(cache.len(), left, "truncated to {kept}");
            if left < TOKENS {
                let logits = model.forward_all_with_cache(&rest[left..], &mut cache).unwrap();
                let is_expected = logits == expected[left * SHAPE.vocab..];
                assert_eq!(is_expected, *rest == tokens, "truncated to {kept}");
            }
        }
        cache.clear();
        assert!(cache.is_empty());
        assert!(model.forward_all_with_cache(&tokens, &mut cache).unwrap() == expected, "cleared");
    }
}

#[test]
fn an_arena_keeps_nothing_between_tokens() {
    let model = load(&SHAPE);
    let tokens = tokens(5);
    let expected = one_by_one(&model, &tokens);
    let (mut cache, mut other) = (model.create_kv_cache().unwrap(), model.create_kv_cache().unwrap());
    let mut scratch = model.create_scratch().unwrap();
    for (i, token) in tokens.iter().enumerate() {
        model.forward_single_with_scratch(9, &mut other, &mut scratch).unwrap();
        let logits = model.forward_single_with_scratch(*token, &mut cache, &mut scratch).unwrap();
        assert_eq!(logits, &expected[i * SHAPE.vocab..][..SHAPE.vocab], "token {i}");
    }
}

#[test]
fn errors_leave_the_cache_as_it_was() {
    type Run = fn(&Model, &mut KvCache, &mut Scratch) -> Result<(), Error>;
    #[rustfmt::skip]
    let cases: [(&str, Run, &str); 9] = [
        ("no tokens", |m, c, _| m.forward_with_cache(&[], c).map(drop), "there are no tokens"),
        ("no tokens, all logits", |m, c, _| m.forward_all_with_cache(&[], c).map(drop), "there are no tokens"),
        ("last token outside", |m, c, _| m.forward_with_cache(&[1, 2, 263], c).map(drop), "token 263 is outside the vocabulary of 263"),
        ("first token outside", |m, c, _| m.forward_all_with_cache(&[u32::MAX, 2], c).map(drop), "token 4294967295 is"),
        ("one token outside", |m, c, _| m.forward_single_with_scratch(263, c, &mut m.create_scratch().unwrap()).map(drop), "token 263 is"),
        ("too many tokens", |m, c, _| m.forward_with_cache(&[1; 6], c).map(drop), "6 tokens do not fit the context of 8, of which 3 are used"),
        ("too many tokens, all logits", |m, c, _| m.forward_all_with_cache(&[1; 600], c).map(drop), "600 tokens do not fit"),
        ("another model's arena", |m, c, other| m.forward_single_with_scratch(1, c, other).map(drop), "the arena was made for a model of another shape"),
        ("tokens come before their number", |m, c, _| m.forward_with_cache(&[1000; 600], c).map(drop), "token 1000 is"),
    ];
    let model = load(&SHAPE);
    let other = load(&Shape { feed_forward: 97, ..SHAPE });
    let tokens = tokens(8);
    let expected = one_by_one(&model, &tokens);
    for (case, run, fragment) in cases {
        let mut cache = model.create_kv_cache_for(8).unwrap();
        model.forward_with_cache(&tokens[..3], &mut cache).unwrap();
        let text = run(&model, &mut cache, &mut other.create_scratch().unwrap()).expect_err(case).to_string();
        assert!(text.contains(fragment) && text.lines().count() == 1, "{case}: {text}");
        assert_eq!((cache.len(), cache.capacity()), (3, 8), "{case}");
        let logits = model.forward_all_with_cache(&tokens[3..], &mut cache).unwrap();
        assert!(logits == expected[3 * SHAPE.vocab..], "{case}: other logits afterwards");

        let mut scratch = model.create_scratch().unwrap();
        let full = model.forward_single_with_scratch(1, &mut cache, &mut scratch);
        assert!(matches!(full, Err(Error::Context { tokens: 1, used: 8, context: 8 })), "{case}: {full:?}");
    }
}

#[test]
fn caches_fit_their_shape_and_the_context() {
    let model = load(&SHAPE);
    let shapes = [
        ("layers", Shape { layers: 3, ..SHAPE }),
        ("KV heads", Shape { kv_heads: 4, ..SHAPE }),
        ("head length", Shape { head_dim: 14, rope_dims: 14, ..SHAPE }),
    ];
    for (case, shape) in shapes {
        let mut foreign = load(&shape).create_kv_cache().unwrap();
        let text = model.forward_with_cache(&[1], &mut foreign).expect_err(case).to_string();
        assert_eq!(text, "the KV cache was made for a model of another shape", "{case}");
        assert!(foreign.is_empty(), "{case}");
    }
    let cache = model.create_kv_cache().unwrap();
    // Keys lie by 32 positions.
    assert_eq!((cache.capacity(), cache.bytes()), (80, 2 * 2 * 2 * 96 * 16 * 2));
    let q8_0 = CacheType::Quantized(Q8_0::FORMAT);
    let of_blocks = |keys, values| model.create_kv_cache_with(80, CacheTypes { keys, values }).unwrap_err();
    let problem =
        "in Q8_0: its blocks are of 32, and the model's heads 16 long; take f16, which fits every model";
    for (error, what) in [(of_blocks(q8_0, q8_0), "keys"), (of_blocks(CacheType::F16, q8_0), "values")] {
        assert_eq!(error.to_string(), format!("the KV cache can't keep {what} {problem}"));
    }
    let text = model.create_kv_cache_for(81).unwrap_err().to_string();
    assert!(text.contains("81 tokens is more than the 80"), "{text}");
    let mut none = model.create_kv_cache_for(0).unwrap();
    let text = model.forward_with_cache(&[1], &mut none).unwrap_err().to_string();
    assert!(text.contains("1 tokens do not fit the context of 0"), "{text}");

    let without_cache = [(0, "there are no tokens"), (81, "81 tokens do not fit the context of 80")];
    for (count, fragment) in without_cache {
        let text = model.forward(&tokens(count)).unwrap_err().to_string();
        assert!(text.contains(fragment), "{count}: {text}");
    }
    assert_eq!(model.forward(&tokens(80)).unwrap().len(), SHAPE.vocab);
}

/// Attention is divided into parts of 256 positions, and a few tokens' among threads by them.
#[test]
fn contexts_of_several_parts_give_the_same_logits_however_they_are_run() {
    const CONTEXT: usize = 600;
    let shape = Shape { context: CONTEXT, heads: 6, head_dim: 32, rope_dims: 32, ..SHAPE };
    let model = load(&shape);
    let tokens = tokens(CONTEXT);
    let q8_0 = CacheType::Quantized(Q8_0::FORMAT);
    let f16 = CacheType::F16;
    // Heads of 32 take 64 bytes in f16, and 34 in Q8_0.
    let cases = [("f16", f16, f16, 128), ("q8_0", q8_0, q8_0, 68), ("q8_0, f16", q8_0, f16, 98)];
    let exact = Exact::new(&TinyModel::new(&shape), &shape).logits(&tokens);
    for (case, keys, values, bytes) in cases {
        let cache = || model.create_kv_cache_with(CONTEXT, CacheTypes { keys, values }).unwrap();
        assert_eq!(cache().bytes(), 2 * 2 * 608 * bytes, "{case}");
        let (mut one, mut scratch) = (cache(), model.create_scratch().unwrap());
        let single =
            |&token: &u32| model.forward_single_with_scratch(token, &mut one, &mut scratch).unwrap().to_vec();
        let ours: Vec<f32> = tokens.iter().flat_map(single).collect();
        let deviation = largest_deviation(&ours, &exact, shape.vocab);
        println!("{case}: {deviation:.1e}");
        let bound = if case == "f16" { DENSE } else { QUANTIZED_CACHE };
        assert!(deviation <= bound, "{case}: {deviation:.1e} from exact logits");
        for threads in 1..=3 {
            let model = model.with_threads(threads).unwrap();
            for at_once in [1, 3, 16, 17, 255, CONTEXT] {
                let mut cache = cache();
                let parts = tokens.chunks(at_once);
                let all: Vec<f32> =
                    parts.flat_map(|part| model.forward_all_with_cache(part, &mut cache).unwrap()).collect();
                assert!(all == ours, "{case}, {threads} threads, {at_once} tokens at once: other logits");
            }
        }
    }
}

/// What the last layer leaves out for tokens whose logits nobody asks for must be missed by none whose are asked for. The
/// output matrix is dense: its products are the same for one token and for many.
#[test]
fn logits_are_the_same_whichever_others_are_asked_for() {
    #[rustfmt::skip]
    let cases = [
        ("F32", SHAPE),
        ("one layer", Shape { layers: 1, ..SHAPE }),
        ("Q4_0", Shape { ty: "Q4_0", except: &[("output.weight", "F32")], ..SHAPE }),
        ("Q8_0, groups of 4", Shape { ty: "Q8_0", heads: 8, except: &[("output.weight", "F16")], ..SHAPE }),
        ("Q in tiles, K and V not", Shape { ty: "Q8_0", except: &[("attn_k", "F32"), ("attn_v", "F16"), ("output.weight", "F32")], ..SHAPE }),
        ("K in tiles, Q not", Shape { ty: "Q8_0", except: &[("attn_q", "F32"), ("ffn_gate", "BF16"), ("output.weight", "F32")], ..SHAPE }),
    ];
    // More than a batch: of the first one no logits are asked for.
    const LONG: usize = 528 + 40;
    let long = tokens(LONG);
    for (case, shape) in cases {
        let shape = Shape { context: LONG + 1, ..shape };
        for threads in [1, 3] {
            let model = load(&shape).with_threads(threads).unwrap();
            let after = |cache: &mut KvCache| model.forward_with_cache(&[7], cache).unwrap();
            let check = |parts: [&[u32]; 2]| {
                let place = format!("{case}, {threads} threads, {:?} tokens", parts.map(<[u32]>::len));
                let (mut all_cache, mut cache) =
                    (model.create_kv_cache().unwrap(), model.create_kv_cache().unwrap());
                for part in parts.into_iter().filter(|part| !part.is_empty()) {
                    let all = model.forward_all_with_cache(part, &mut all_cache).unwrap();
                    let last = model.forward_with_cache(part, &mut cache).unwrap();
                    assert!(all.ends_with(&last), "{place}: other logits of the last");
                }
                assert!(after(&mut all_cache) == after(&mut cache), "{place}: other keys and values");
            };
            // Those whose logits are all computed go in batches of 48.
            for count in [1, 9, 10, 12, 13, 25, 48] {
                check([&long[..count], &[]]);
                check([&long[..30], &long[30..30 + count]]);
            }

            let (mut parts, mut whole) = (model.create_kv_cache().unwrap(), model.create_kv_cache().unwrap());
            let batches = long.chunks(528).map(|batch| model.forward_with_cache(batch, &mut parts).unwrap());
            let expected = batches.last().unwrap();
            let logits = model.forward_with_cache(&long, &mut whole).unwrap();
            assert!(logits == expected, "{case}, {threads} threads: other logits after two batches");
            assert!(
                after(&mut parts) == after(&mut whole),
                "{case}, {threads} threads: other keys and values"
            );
        }
    }
}

fn load(shape: &Shape) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    TinyModel::new(shape).write(&path);
    // In memory: no system lets go of a folder that has mapped files.
    let gguf = Gguf::from_bytes(&path, &fs::read(&path).unwrap()).unwrap();
    Model::from_gguf(gguf, Supported::selected().unwrap(), 2).unwrap()
}

fn tokens(count: usize) -> Vec<u32> {
    (0..count as u32).map(|i| (i * 7919 + 13) % SHAPE.vocab as u32).collect()
}

/// The logits after each token, by the path that allocates nothing.
fn one_by_one(model: &Model, tokens: &[u32]) -> Vec<f32> {
    let (mut cache, mut scratch) = (model.create_kv_cache().unwrap(), model.create_scratch().unwrap());
    let logits =
        |&token: &u32| model.forward_single_with_scratch(token, &mut cache, &mut scratch).unwrap().to_vec();
    tokens.iter().flat_map(logits).collect()
}

/// The largest ‖ours − exact‖ / ‖exact‖ of any position.
fn largest_deviation(ours: &[f32], exact: &[f64], vocab: usize) -> f64 {
    assert_eq!(ours.len(), exact.len());
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let deviation = |(ours, exact): (&[f32], &[f64])| {
        let distance = norm(&mut ours.iter().zip(exact).map(|(ours, exact)| f64::from(*ours) - exact));
        distance / norm(&mut exact.iter().copied())
    };
    // Not `f64::max`, which drops a NaN.
    let deviations = ours.chunks(vocab).zip(exact.chunks(vocab)).map(deviation);
    deviations.max_by(f64::total_cmp).unwrap()
}

/// The Llama architecture in f64, but for a KV cache in f16, one token at a time, as the papers have it: Llama (arXiv 2302.13971), RMSNorm
/// (1910.07467), rotary embedding (2104.09864), grouped-query attention (2305.13245), SwiGLU (2002.05202).
struct Exact<'a> {
    shape: &'a Shape,
    weights: HashMap<&'a str, Vec<f64>>,
    /// Σ x² over what each matrix was multiplied with.
    squares: RefCell<BTreeMap<String, Vec<f64>>>,
}

impl<'a> Exact<'a> {
    fn new(model: &'a TinyModel, shape: &'a Shape) -> Self {
        let weights = model.tensors.iter().map(|tensor| (&*tensor.name, decode(tensor))).collect();
        Self { shape, weights, squares: RefCell::default() }
    }

    /// `[tokens, vocab]`
    fn logits(&self, tokens: &[u32]) -> Vec<f64> {
        let Shape { layers, embedding, heads, kv_heads, head_dim: d, vocab, tied, .. } = *self.shape;
        let mut keys = vec![Vec::new(); layers];
        let mut values = vec![Vec::new(); layers];
        let mut logits = Vec::with_capacity(tokens.len() * vocab);
        for (position, &token) in tokens.iter().enumerate() {
            let mut x = self.weights["token_embd.weight"][token as usize * embedding..][..embedding].to_vec();
            for l in 0..layers {
                let name = |tensor: &str| format!("blk.{l}.{tensor}.weight");
                let input = self.norm(&name("attn_norm"), &x);
                let query = self.rotate(self.product(&name("attn_q"), &input), position);
                keys[l].push(in_f16(&self.rotate(self.product(&name("attn_k"), &input), position)));
                values[l].push(in_f16(&self.product(&name("attn_v"), &input)));
                let mut attended = Vec::new();
                for (h, query) in query.chunks(d).enumerate() {
                    let shared = h * kv_heads / heads * d..(h * kv_heads / heads + 1) * d;
                    let score = |key: &Vec<f64>| dot(query, &key[shared.clone()]) / (d as f64).sqrt();
                    let weights: Vec<f64> = keys[l].iter().map(|key| score(key).exp()).collect();
                    let total: f64 = weights.iter().sum();
                    attended.extend(shared.map(|i| {
                        weights.iter().zip(&values[l]).map(|(w, value)| w / total * value[i]).sum::<f64>()
                    }));
                }
                add(&mut x, &self.product(&name("attn_output"), &attended));

                let input = self.norm(&name("ffn_norm"), &x);
                let mut hidden = self.product(&name("ffn_up"), &input);
                for (hidden, gate) in hidden.iter_mut().zip(self.product(&name("ffn_gate"), &input)) {
                    *hidden *= gate / (1.0 + (-gate).exp());
                }
                add(&mut x, &self.product(&name("ffn_down"), &hidden));
            }
            let output = if tied { "token_embd.weight" } else { "output.weight" };
            logits.extend(self.product(output, &self.norm("output_norm.weight", &x)));
        }
        logits
    }

    fn product(&self, matrix: &str, x: &[f64]) -> Vec<f64> {
        let mut squares = self.squares.borrow_mut();
        let squares = squares.entry(matrix.to_owned()).or_insert_with(|| vec![0.0; x.len()]);
        squares.iter_mut().zip(x).for_each(|(sum, x)| *sum += x * x);
        self.weights[matrix].chunks(x.len()).map(|row| dot(row, x)).collect()
    }

    fn norm(&self, weight: &str, x: &[f64]) -> Vec<f64> {
        let rms = (dot(x, x) / x.len() as f64 + f64::from(EPSILON)).sqrt();
        x.iter().zip(&self.weights[weight]).map(|(x, weight)| x / rms * weight).collect()
    }

    /// Each pair as a complex number, times e^(i · position · base^(-2 pair / dims)).
    fn rotate(&self, mut heads: Vec<f64>, position: usize) -> Vec<f64> {
        let dims = self.shape.rope_dims;
        for head in heads.chunks_mut(self.shape.head_dim) {
            for pair in 0..dims / 2 {
                let exponent = -2.0 * pair as f64 / dims as f64;
                let (sin, cos) = (position as f64 * f64::from(self.shape.rope_base).powf(exponent)).sin_cos();
                let (re, im) = (head[2 * pair], head[2 * pair + 1]);
                (head[2 * pair], head[2 * pair + 1]) = (re * cos - im * sin, re * sin + im * cos);
            }
        }
        heads
    }
}

fn in_f16(x: &[f64]) -> Vec<f64> {
    x.iter().map(|x| f16::from_f64(*x).to_f64()).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// The weights of a tensor, as ggml defines its types.
fn decode(tensor: &TinyTensor) -> Vec<f64> {
    let half = |bytes: &[u8]| f16::from_le_bytes([bytes[0], bytes[1]]).to_f64();
    let signed = |byte: u8| f64::from(byte as i8);
    // The codes of a block of 32: first all low, then all high halves of the bytes.
    let nibbles = |bytes: &[u8]| -> Vec<f64> {
        [0, 4].iter().flat_map(|shift| bytes.iter().map(move |byte| f64::from(byte >> shift & 15))).collect()
    };
    let weights = |block: &[u8]| -> Vec<f64> {
        match tensor.ty.name() {
            "F32" => vec![f64::from(f32::from_le_bytes(block.try_into().unwrap()))],
            "F16" => vec![half(block)],
            "BF16" => vec![bf16::from_le_bytes([block[0], block[1]]).to_f64()],
            "Q4_0" => nibbles(&block[2..]).iter().map(|q| half(block) * (q - 8.0)).collect(),
            "Q4_1" => nibbles(&block[4..]).iter().map(|q| half(block) * q + half(&block[2..])).collect(),
            "Q8_0" => block[2..].iter().map(|&q| half(block) * signed(q)).collect(),
            "Q6_K" => (0..256)
                .map(|e| {
                    // Two halves of 128, each four runs of 32.
                    let (part, run, i) = (e / 128, e % 128 / 32, e % 32);
                    let low = block[64 * part + 32 * (run % 2) + i] >> (4 * (run / 2)) & 15;
                    let high = block[128 + 32 * part + i] >> (2 * run) & 3;
                    half(&block[208..]) * signed(block[192 + e / 16]) * (f64::from(high << 4 | low) - 32.0)
                })
                .collect(),
            _ => {
                // Held against ggml's bits by the kernels' own tests.
                let TensorType::Quantized(format) = tensor.ty else {
                    unreachable!("the plain types are above")
                };
                let mut weights = vec![0.0; format.block_len];
                let isa = Supported::all().next().expect("the scalar one");
                format.kernels(isa).dequantize(block, &mut weights).expect("a whole block");
                weights.into_iter().map(f64::from).collect()
            }
        }
    };
    tensor.data.chunks(tensor.ty.block_bytes()).flat_map(weights).collect()
}
