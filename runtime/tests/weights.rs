//! Weights that are NaN or infinite: found, named, and never run on.

#[path = "common/tiny.rs"]
mod tiny;

use half::{bf16, f16};
use quantloom::check::{NotFinite, tensors_not_finite};
use quantloom::gguf::Gguf;
use quantloom::{CacheType, CacheTypes, Error, Model};
use quantloom_kernels::{FORMATS, Supported};
use tempfile::TempDir;

use tiny::{SHAPE, Shape, TinyModel};

/// Writes `number` over the number at `index` of the tensor called `name`, whose weights or scales of blocks it is.
fn spoil(model: &mut TinyModel, name: &str, index: usize, number: f32) {
    let tensor = model.tensors.iter_mut().find(|tensor| tensor.name == name).expect(name);
    let (at, bytes) = match tensor.ty.name() {
        "F32" => (4 * index, number.to_le_bytes().to_vec()),
        "F16" => (2 * index, f16::from_f32(number).to_le_bytes().to_vec()),
        "BF16" => (2 * index, bf16::from_f32(number).to_le_bytes().to_vec()),
        "Q4_0" | "Q8_0" => {
            (index / 32 * tensor.ty.block_bytes(), f16::from_f32(number).to_le_bytes().to_vec())
        }
        // The last two bytes of the block.
        "Q6_K" => (index / 256 * 210 + 208, f16::from_f32(number).to_le_bytes().to_vec()),
        "Q4_K" | "IQ4_XS" => {
            (index / 256 * tensor.ty.block_bytes(), f16::from_f32(number).to_le_bytes().to_vec())
        }
        // 2^127, in which products overflow.
        "MXFP4" => (index / 32 * 17, vec![255]),
        // The minimum.
        "Q4_1" => (index / 32 * tensor.ty.block_bytes() + 2, f16::from_f32(number).to_le_bytes().to_vec()),
        other => panic!("{other} is not spoiled here"),
    };
    tensor.data[at..at + bytes.len()].copy_from_slice(&bytes);
}

#[test]
fn a_pass_over_a_bad_weight_is_an_error_that_names_its_tensor() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.gguf");
    let matrices = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
    let tensors = matrices.map(|name| format!("blk.1.{name}.weight"));
    let others = ["blk.0.ffn_gate.weight", "output.weight", "blk.0.attn_norm.weight"].map(String::from);
    for ty in ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0"] {
        let shape = Shape { ty, ..SHAPE };
        for name in tensors.iter().chain(&others) {
            for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut model = TinyModel::new(&shape);
                spoil(&mut model, name, 32, number);
                model.write(&path);
                let expected = format!("model.gguf: tensor `{name}` holds ");
                let case = format!("{ty} {name} {number}");
                let file = Gguf::open(&path).unwrap();
                let model = match Model::from_gguf(file, Supported::selected().unwrap(), 2) {
                    Ok(model) => model,
                    // Norms are read when a model is loaded.
                    Err(error) => {
                        assert!(
                            error.to_string().contains(&expected) && name.contains("norm"),
                            "{case}: {error}"
                        );
                        continue;
                    }
                };
                let mut cache = model.create_kv_cache().unwrap();
                let prompt: Vec<u32> = (3..40).collect();
                for tokens in [&prompt[..], &prompt[..1]] {
                    let error = model.forward_with_cache(tokens, &mut cache).expect_err(&case);
                    assert!(
                        error.to_string().contains(&expected),
                        "{case}, {} tokens: {error}",
                        tokens.len()
                    );
                    assert!(matches!(error, Error::Weight { .. }), "{case}");
                    assert_eq!(cache.len(), 0, "{case}: the cache is as it was");
                }
                let mut scratch = model.create_scratch().unwrap();
                model.forward_single_with_scratch(5, &mut cache, &mut scratch).expect_err(&case);
                model.forward_all_with_cache(&prompt, &mut cache).expect_err(&case);
            }
        }
    }
}

#[test]
fn a_quantized_cache_hides_no_bad_weight() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.gguf");
    let shape = Shape { head_dim: 32, rope_dims: 32, ..SHAPE };
    let q8_0 = CacheType::Quantized(FORMATS.iter().find(|format| format.name == "Q8_0").unwrap());
    let f16 = CacheType::F16;
    for name in ["blk.0.attn_k.weight", "blk.0.attn_v.weight", "blk.1.attn_k.weight"] {
        for (keys, values) in [(q8_0, f16), (f16, q8_0), (q8_0, q8_0)] {
            let mut model = TinyModel::new(&shape);
            spoil(&mut model, name, 70, f32::NAN);
            model.write(&path);
            let model = Model::load(&path, Some(2)).unwrap();
            let mut cache = model.create_kv_cache_with(40, CacheTypes { keys, values }).unwrap();
            let error = model.forward_with_cache(&[5, 6, 7], &mut cache).expect_err(name).to_string();
            assert!(error.contains(&format!("tensor `{name}` holds NaN at index 70")), "{error}");
            assert!(cache.is_empty());
        }
    }
}

#[test]
fn all_tensors_are_looked_through() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.gguf");
    let isa = Supported::selected().unwrap();
    for ty in ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0", "Q6_K", "Q4_K", "MXFP4", "IQ4_XS"] {
        let shape = Shape { embedding: 256, feed_forward: 512, head_dim: 64, rope_dims: 64, ty, ..SHAPE };
        let whole = TinyModel::new(&shape);
        whole.write(&path);
        assert_eq!(tensors_not_finite(&Gguf::open(&path).unwrap(), isa), [], "{ty}");
        // The first, one in the middle, and the last block or weight, of several tensors.
        let last = 256 * 512 - 1;
        for index in [0, 7 * 256 + 64, last] {
            let mut model = TinyModel::new(&shape);
            spoil(&mut model, "blk.0.ffn_down.weight", index, f32::NAN);
            spoil(&mut model, "blk.1.ffn_up.weight", index, f32::INFINITY);
            model.write(&path);
            let found = tensors_not_finite(&Gguf::open(&path).unwrap(), isa);
            let names: Vec<_> = found.iter().map(|bad| bad.tensor.as_str()).collect();
            assert_eq!(names, ["blk.0.ffn_down.weight", "blk.1.ffn_up.weight"], "{ty} {index}");
            let block = match ty {
                "F32" | "F16" | "BF16" => 1,
                "Q6_K" | "Q4_K" | "IQ4_XS" => 256,
                _ => 32,
            };
            for NotFinite { index: at, weight, .. } in &found {
                assert!(!weight.is_finite(), "{ty} {index}");
                // In the block; where a product overflows, not always its first weight.
                assert_eq!(at / block, index / block, "{ty} {index}");
            }
        }
    }
}
