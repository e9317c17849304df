//! Weights are those of the projects that the formats come from, to the bit.

use quantloom_formats::FORMATS;
use quantloom_kernels::Supported;

/// Blocks of random bytes with a finite scale, then the f32 that ik_llama.cpp (8337e4cd3) dequantizes them to.
const IK_LLAMA: [(&str, &[u8]); 5] = [
    ("Q6_0", include_bytes!("data/q6_0.bin")),
    ("IQ2_K", include_bytes!("data/iq2_k.bin")),
    ("IQ3_K", include_bytes!("data/iq3_k.bin")),
    ("IQ4_K", include_bytes!("data/iq4_k.bin")),
    ("IQ5_K", include_bytes!("data/iq5_k.bin")),
];

#[test]
fn dequantizes_to_the_weights_of_ik_llama() {
    for (name, data) in IK_LLAMA {
        let format = FORMATS.iter().find(|format| format.name == name).expect("it is declared");
        let count = data.len() / (format.block_bytes + 4 * format.block_len);
        let (blocks, expected) = data.split_at(count * format.block_bytes);
        let expected: Vec<f32> =
            expected.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        for isa in Supported::all() {
            let mut weights = vec![0.0; expected.len()];
            format.kernels(isa).dequantize(blocks, &mut weights).expect("as many weights as blocks hold");
            for (i, (weight, expected)) in weights.iter().zip(&expected).enumerate() {
                assert_eq!(
                    weight.to_bits(),
                    expected.to_bits(),
                    "{name}, {isa:?}, weight {i}: {weight}, {expected}"
                );
            }
        }
    }
}
