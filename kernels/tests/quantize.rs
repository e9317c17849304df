//! Quantizers and dequantizers against ggml's, on the fixtures of `tests/data`.

#[path = "common/fixtures.rs"]
mod fixtures;

use quantloom_kernels::formats::{Q4_0, Q4_1, Q5_0, Q5_1, Q6_K, Q8_0};
use quantloom_kernels::{BlockFormat, FORMATS, Format, Supported, f16};

/// Quantizes on any instruction set: quantizers have no variants.
fn quantize(format: &'static Format, weights: &[f32]) -> Vec<u8> {
    let mut blocks = vec![0xA5; format.bytes_for(weights.len())];
    let isa = Supported::all().next().unwrap();
    format.kernels(isa).quantize(weights, &mut blocks).unwrap();
    blocks
}

fn dequantize(format: &'static Format, blocks: &[u8]) -> Vec<f32> {
    let mut weights = vec![f32::NAN; blocks.len() / format.block_bytes * format.block_len];
    let isa = Supported::all().next().unwrap();
    format.kernels(isa).dequantize(blocks, &mut weights).unwrap();
    weights
}

#[test]
fn quantizes_to_the_bytes_of_ggml() {
    for format in [Q4_0::FORMAT, Q4_1::FORMAT, Q5_0::FORMAT, Q5_1::FORMAT, Q8_0::FORMAT] {
        quantizes_as_ggml(format);
    }
}

#[test]
fn dequantizes_to_the_bits_of_ggml() {
    for &format in FORMATS.iter().filter(|format| format.gguf_id.is_some()) {
        dequantizes_as_ggml(format);
    }
}

/// Quantizing what was dequantized gives the same weights: no format drifts.
#[test]
fn quantizing_twice_is_quantizing_once() {
    for distribution in ["gaussian", "uniform", "heavy_tailed"] {
        let weights = distributed(distribution);
        for format in [Q4_0::FORMAT, Q8_0::FORMAT] {
            let once = dequantize(format, &quantize(format, &weights));
            let twice = dequantize(format, &quantize(format, &once));
            let drift = squared_error(&once, &twice) / squared_error(&weights, &once);
            assert!(drift < 1e-2, "{} {distribution}: drifts by {drift} of its error", format.name);
        }
    }
}

#[test]
fn q6_k_is_no_worse_than_ggml() {
    for distribution in ["gaussian", "uniform", "heavy_tailed"] {
        let weights = distributed(distribution);
        let theirs = dequantize(Q6_K::FORMAT, &fixtures::bytes(&format!("{distribution}.q6_k")));
        let ours = dequantize(Q6_K::FORMAT, &quantize(Q6_K::FORMAT, &weights));
        let ratio = squared_error(&weights, &ours) / squared_error(&weights, &theirs);
        println!("Q6_K, {distribution}: squared error {ratio:.4} of ggml's");
        assert!(ratio <= 1.0, "Q6_K, {distribution}: squared error {ratio:.4} of ggml's");
    }
}

fn distributed(name: &str) -> Vec<f32> {
    let bytes = fixtures::bytes(&format!("{name}.f16"));
    bytes.as_chunks().0.iter().map(|&two| f16::from_le_bytes(two).to_f32()).collect()
}

fn squared_error(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

/// Dequantizes `FORMAT.blocks` on every instruction set and compares with `FORMAT.f32` bit by bit. All
/// NaNs are equal: which one comes out of a product of two is nobody's choice.
fn dequantizes_as_ggml(format: &'static Format) {
    let name = format.name.to_lowercase();
    let (blocks, expected) =
        (fixtures::bytes(&format!("{name}.blocks")), fixtures::floats(&format!("{name}.f32")));
    let mut weights = vec![f32::NAN; expected.len()];
    for isa in Supported::all() {
        weights.fill(f32::NAN);
        format.kernels(isa).dequantize(&blocks, &mut weights).unwrap();
        for (e, (w, expected)) in weights.iter().zip(&expected).enumerate() {
            assert!(
                w.to_bits() == expected.to_bits() || w.is_nan() && expected.is_nan(),
                "{name}_dequantize_{} block {} weight {}: {w:e}, ggml has {expected:e}",
                isa.isa(),
                e / format.block_len,
                e % format.block_len,
            );
        }
    }
}

/// Quantizes `weights.f32` and compares with `FORMAT.quantized` byte by byte.
fn quantizes_as_ggml(format: &'static Format) {
    let weights = fixtures::floats("weights.f32");
    let expected = fixtures::bytes(&format!("{}.quantized", format.name.to_lowercase()));
    // Quantizers have no variants.
    let isa = Supported::all().next().expect("every machine has the scalar one");
    let mut blocks = vec![0xA5; expected.len()];
    format.kernels(isa).quantize(&weights, &mut blocks).unwrap();
    let pairs = blocks.chunks(format.block_bytes).zip(expected.chunks(format.block_bytes));
    for (b, (block, expected)) in pairs.enumerate() {
        let weights = &weights[b * format.block_len..][..format.block_len];
        assert_eq!(block, expected, "{} block {b}: {weights:?}", format.name);
    }
}
