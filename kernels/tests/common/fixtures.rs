//! The files of `tests/data`, whose README says what they hold.

use quantloom_kernels::{Format, Supported};

/// The bytes of a file.
pub fn bytes(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The f32 of a file.
pub fn floats(name: &str) -> Vec<f32> {
    bytes(name).as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect()
}

/// Dequantizes `FORMAT.blocks` on every instruction set and compares with `FORMAT.f32` bit by bit. All
/// NaNs are equal: which one comes out of a product of two is nobody's choice.
pub fn dequantizes_as_ggml(format: &'static Format) {
    let name = format.name.to_lowercase();
    let (blocks, expected) = (bytes(&format!("{name}.blocks")), floats(&format!("{name}.f32")));
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
pub fn quantizes_as_ggml(format: &'static Format) {
    let weights = floats("weights.f32");
    let expected = bytes(&format!("{}.quantized", format.name.to_lowercase()));
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
