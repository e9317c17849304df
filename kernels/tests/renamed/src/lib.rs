//! Declares a format where nothing is called `quantloom_kernels`.

loom::quant_format! {
    /// Q4_0 by another name.
    pub block Nibbles[32] {
        d: f16,
        qs: [u8; 16],

        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (q - 8);
    }
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
