//! Quantizers and dequantizers against ggml's, on the fixtures of `tests/data`.

#[path = "common/elsewhere.rs"]
mod elsewhere;
#[path = "common/fixtures.rs"]
mod fixtures;
#[path = "common/products.rs"]
mod products;

use elsewhere::ELSEWHERE;
use quantloom_kernels::formats::{Q4_0, Q8_0};
use quantloom_kernels::{BlockFormat, FORMATS, Format, QuantizeError, ShapeError, Supported, f16};

/// Every format with a quantizer that is declared in the crate or in the tests.
fn formats() -> impl Iterator<Item = &'static Format> {
    let products = products::subjects().into_iter().map(|subject| subject.format);
    FORMATS.iter().chain(ELSEWHERE).copied().chain(products).filter(|format| format.quantize.is_some())
}

/// Quantizes on any instruction set: quantizers have no variants.
fn quantize(format: &'static Format, weights: &[f32]) -> Vec<u8> {
    let mut blocks = vec![0xA5; format.bytes_for(weights.len())];
    let isa = Supported::all().next().unwrap();
    format.kernels(isa).quantize(weights, &mut blocks).unwrap();
    blocks
}

fn quantize_weighted(format: &'static Format, weights: &[f32], importance: &[f32]) -> Vec<u8> {
    let mut blocks = vec![0xA5; format.bytes_for(weights.len())];
    let isa = Supported::all().next().unwrap();
    format.kernels(isa).quantize_weighted(weights, importance, &mut blocks).unwrap();
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
    let by_a_rule =
        ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4", "Q1_0", "Q2_0"];
    for name in by_a_rule {
        quantizes_as_ggml(formats().find(|format| format.name == name).unwrap());
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

/// Of every format whose quantizer searches in ggml too, on every distribution, without and with importance.
#[test]
fn errors_are_no_larger_than_those_of_ggml() {
    let importance = fixtures::floats("importance.f32");
    let table = String::from_utf8(fixtures::bytes("ggml_errors.csv")).unwrap();
    for line in table.lines().skip(1) {
        let [name, distribution, weighted, theirs] = line.split(',').collect::<Vec<_>>().try_into().unwrap();
        let format = formats().find(|format| format.name == name).unwrap();
        let weights = distributed(distribution);
        let importance = (weighted == "true").then_some(importance.as_slice());
        let blocks = match importance {
            None => quantize(format, &weights),
            Some(importance) => quantize_weighted(format, &weights, importance),
        };
        let ours = weighted_error(&weights, &dequantize(format, &blocks), importance.unwrap_or(&[1.0]));
        let ratio = ours / theirs.parse::<f64>().unwrap();
        println!("{name}, {distribution}, weighted {weighted}: squared error {ratio:.4} of ggml's");
        assert!(ratio <= 1.0, "{line}: squared error {ratio:.4} of ggml's");
    }
}

/// What the search finds is better than what one-line rules say, and with importance better where that is.
#[test]
fn importance_moves_the_error() {
    for format in formats() {
        let weights: Vec<f32> = distributed("gaussian").repeat(3);
        let columns = format.block_len;
        let even = vec![1.0; columns];
        let uneven: Vec<f32> = (0..columns).map(|i| if i % 2 == 0 { 16.0 } else { 0.25 }).collect();
        let [of_even, of_uneven] = [&even, &uneven]
            .map(|importance| dequantize(format, &quantize_weighted(format, &weights, importance)));
        let plain = dequantize(format, &quantize(format, &weights));
        let error = |back: &[f32], importance: &[f32]| weighted_error(&weights, back, importance);
        let name = format.name;
        assert!(error(&of_even, &even) <= error(&plain, &even), "{name}: the search is worse than the rule");
        let gain = error(&of_uneven, &uneven) / error(&of_even, &uneven);
        println!("{name}: importance leaves {gain:.4} of the weighted error");
        assert!(gain < 1.0, "{name}: importance leaves {gain:.4} of the weighted error");
    }
}

/// Weights of every magnitude, signs and kinds of numbers: what is finite stays finite, and what f16 can hold nears.
#[test]
fn any_weights_make_finite_blocks() {
    type Case = (&'static str, fn(usize) -> f32);
    let cases: [Case; 12] = [
        ("zeros", |_| 0.0),
        ("negative zeros", |_| -0.0),
        ("subnormal", |i| f32::from_bits(i as u32 % 7)),
        ("smallest normal", |i| f32::MIN_POSITIVE * (i % 3) as f32),
        ("subnormal as f16", |i| 1e-7 * (i as f32).sin()),
        ("large", |i| 1e4 * (i as f32).cos()),
        ("beyond f16", |i| 1e9 * (i as f32).sin()),
        ("largest", |i| if i % 2 == 0 { f32::MAX } else { f32::MIN }),
        ("one of them", |i| if i == 7 { f32::MAX } else { 1e-30 }),
        ("infinite", |i| if i % 5 == 0 { f32::INFINITY } else { 1.0 }),
        ("negative infinite", |i| if i % 5 == 0 { f32::NEG_INFINITY } else { 1.0 }),
        ("no number", |i| if i % 3 == 0 { f32::NAN } else { i as f32 }),
    ];
    for format in formats() {
        for (case, weight) in cases {
            let weights: Vec<f32> = (0..2 * format.block_len).map(weight).collect();
            let _ = quantize(format, &weights);
            for importance in [1.0, 0.0, f32::NAN, f32::INFINITY, f32::MAX, 1e-45] {
                let importance: Vec<f32> =
                    (0..format.block_len).map(|i| if i % 4 == 0 { importance } else { 1.0 }).collect();
                let back = dequantize(format, &quantize_weighted(format, &weights, &importance));
                assert!(
                    back.iter().all(|w| w.is_finite()),
                    "{} {case}: {weights:?} became {back:?}",
                    format.name
                );
                if case.ends_with("zeros") {
                    assert!(back.iter().all(|&w| w == 0.0), "{} {case} became {back:?}", format.name);
                }
            }
        }
    }
}

/// Equal weights differ from what they become by no more than the rounding of an f16, or of two; below these its
/// exponent ends. Where scales are coarser numbers, or an entry of a codebook has to be found, it is more.
#[test]
fn equal_weights_stay_equal() {
    let is_coarse = |format: &&Format| {
        ["IQ2", "IQ3", "MXFP4", "NVFP4", "Brain"].iter().any(|name| format.name.starts_with(name))
    };
    for format in formats().filter(|format| !is_coarse(format)) {
        for weight in [0.37, -2.5, 1.0, -1.0, 100.0] {
            let weights = vec![weight; format.block_len];
            let even = vec![1.0; format.block_len];
            for blocks in [quantize(format, &weights), quantize_weighted(format, &weights, &even)] {
                for back in dequantize(format, &blocks) {
                    assert!((back / weight - 1.0).abs() < 1e-3, "{}: {weight} became {back}", format.name);
                }
            }
        }
    }
}

#[test]
fn importance_must_be_that_of_a_row() {
    let format = Q4_0::FORMAT;
    let quantize = |weights: usize, importance: usize| {
        let kernels = format.kernels(Supported::all().next().unwrap());
        kernels.quantize_weighted(
            &vec![1.0; weights],
            &vec![1.0; importance],
            &mut vec![0; weights / 32 * 18],
        )
    };
    let error = |what, actual, expected| {
        let operation = "quantize_weighted";
        Err(QuantizeError::Shape(ShapeError { format: "Q4_0", operation, what, actual, expected }))
    };
    assert_eq!(quantize(192, 64), Ok(()));
    assert_eq!(quantize(0, 64), Ok(()));
    assert_eq!(quantize(192, 48), error("importance", 48, 32));
    assert_eq!(quantize(192, 128), error("weights", 192, 128));
    assert_eq!(quantize(33, 32), error("weights", 33, 32));
    assert_eq!(quantize(64, 0), error("weights", 64, 0));
}

fn distributed(name: &str) -> Vec<f32> {
    let bytes = fixtures::bytes(&format!("{name}.f16"));
    bytes.as_chunks().0.iter().map(|&two| f16::from_le_bytes(two).to_f32()).collect()
}

fn squared_error(a: &[f32], b: &[f32]) -> f64 {
    weighted_error(a, b, &[1.0])
}

/// The squared error of rows, in which each column's counts by its importance.
fn weighted_error(a: &[f32], b: &[f32], importance: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
    squares.zip(importance.iter().cycle()).map(|(square, &importance)| square * f64::from(importance)).sum()
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
    let weights = &weights[..weights.len() / format.block_len * format.block_len];
    format.kernels(isa).quantize(weights, &mut blocks).unwrap();
    let pairs = blocks.chunks(format.block_bytes).zip(expected.chunks(format.block_bytes));
    for (b, (block, expected)) in pairs.enumerate() {
        let weights = &weights[b * format.block_len..][..format.block_len];
        assert_eq!(block, expected, "{} block {b}: {weights:?}", format.name);
    }
}
