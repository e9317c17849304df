//! Declares formats where nothing is called `quantloom_kernels`, nothing of the standard library is in scope, and lints
//! are strict: a warning would be about code that nobody here wrote.

#![cfg_attr(not(test), no_std)]
#![deny(
    warnings,
    missing_docs,
    unreachable_pub,
    unused,
    nonstandard_style,
    rust_2018_idioms,
    rust_2024_compatibility
)]
#![deny(clippy::all)]
#![cfg_attr(not(test), deny(clippy::pedantic))]

loom::quant_format! {
    /// `Q4_0` by another name.
    pub block Nibbles[32] {
        d: f16,
        qs: [u8; 16],

        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (q - 8);
        quantize by furthest;
    }

    /// Eight equal weights have one code.
    pub block Octets[128] {
        d: f16,
        qs: [u8; 16],

        codebook GRID: [[i8; 8]; 256] = octets();
        w = d * GRID[qs];
    }
}

const fn octets() -> [[i8; 8]; 256] {
    let mut entries = [[0; 8]; 256];
    let (mut entry, mut code) = (0, 0_u8);
    while entry < 256 {
        entries[entry] = [code.cast_signed(); 8];
        (entry, code) = (entry + 1, code.wrapping_add(1));
    }
    entries
}

#[test]
fn a_format_finds_the_crate_by_any_name() {
    use loom::BlockFormat;

    let weights: [f32; 32] = std::array::from_fn(|i| (i as f32 * 0.7).sin());
    let ours = Nibbles::from_weights(&weights, None).to_bytes();
    assert_eq!(ours, loom::formats::Q4_0::from_weights(&weights, None).to_bytes());
    for isa in loom::Supported::all() {
        let [mut w, mut expected] = [[f32::NAN; 32]; 2];
        Nibbles::FORMAT.kernels(isa).dequantize(&ours, &mut w).unwrap();
        loom::formats::Q4_0::FORMAT.kernels(isa).dequantize(&ours, &mut expected).unwrap();
        assert_eq!(w, expected, "{}", isa.isa());
    }
}

#[test]
fn a_codebook_has_its_quantizer() {
    use loom::BlockFormat;

    let weights: [f32; 128] = std::array::from_fn(|i| (i / 8) as f32 - 8.0);
    let block = Octets::from_weights(&weights, None);
    assert!(Octets::FORMAT.quantize.is_some());
    let mut back = [f32::NAN; 128];
    let isa = loom::Supported::all().next().expect("every machine has the scalar one");
    Octets::FORMAT.kernels(isa).dequantize(&block.to_bytes(), &mut back).unwrap();
    let near = |(w, back): (&f32, &f32)| (w - back).abs() < 0.07;
    assert!(weights.iter().zip(&back).all(near), "{weights:?} became {back:?}");
}
