//! What formats declared outside the crate have besides kernels: accessors, quantizers, and ggml's bytes.

#[path = "common/elsewhere.rs"]
mod elsewhere;
#[path = "common/fixtures.rs"]
mod fixtures;
#[path = "common/layouts.rs"]
mod layouts;

use elsewhere::*;
use layouts::subject;
use quantloom_kernels::formats::Q4_0;
use quantloom_kernels::{BlockFormat, f16};

#[test]
fn dequantizes_to_the_bits_of_ggml() {
    for &format in ELSEWHERE.iter().filter(|format| format.gguf_id.is_some()) {
        fixtures::dequantizes_as_ggml(format);
    }
}

/// Codes that are set are the codes that are read, and nothing else of the block changes.
#[test]
fn accessors_are_inverse() {
    macro_rules! inverse {
        ($($format:ident { $($codes:ident $set:ident),+ })+) => {$({
            let subject = subject($format::FORMAT);
            let bytes = subject.random_matrix(1, 5, 1.0);
            let block = $format::from_bytes(bytes.as_slice().try_into().unwrap());
            let mut copy = $format::ZERO;
            for &offset in subject.halves {
                let mut bytes = copy.to_bytes();
                bytes[offset..offset + 2].copy_from_slice(&block.to_bytes()[offset..offset + 2]);
                copy = $format::from_bytes(&bytes);
            }
            $(copy.$set(&block.$codes());)+
            assert_eq!(copy.to_bytes().as_slice(), bytes, "{}", $format::FORMAT.name);
        })+};
    }
    inverse! {
        AprQ4 { q set_q }
        Q5_0 { q set_q }
        Q2_K { q set_q, s set_s, m set_m }
        Q3_K { q set_q, s set_s }
        Q4_K { q set_q, s set_s, m set_m }
        Q5_K { q set_q, s set_s, m set_m }
        IQ4_XS { q set_q, s set_s }
        Quarters { q set_q, sc set_sc }
        Dozen { qs set_qs, sc set_sc, n set_n }
        Sevens { q set_q, s set_s }
    }
}

/// Quantizers follow from formulas: those of Q5_0 and Q5_1 make ggml's bytes, that of AprQ4 the codes of
/// Q4_0 in another order.
#[test]
fn quantizers_follow_from_formulas() {
    fixtures::quantizes_as_ggml(Q5_0::FORMAT);
    fixtures::quantizes_as_ggml(Q5_1::FORMAT);
    for weights in fixtures::floats("weights.f32").as_chunks().0 {
        let (ours, theirs) = (AprQ4::from_weights(weights), Q4_0::from_weights(weights));
        assert_eq!((ours.q(), ours.d.to_bits()), (theirs.q(), theirs.d.to_bits()), "{weights:?}");
    }
    // 6 bits of a Gaussian, scaled by 32s: a signal 33 dB above the noise.
    let weights: Vec<f32> = fixtures::bytes("gaussian.f16")
        .as_chunks()
        .0
        .iter()
        .map(|&w| f16::from_le_bytes(w).to_f32())
        .collect();
    let (mut error, mut power) = (0.0, 0.0);
    for weights in weights.as_chunks().0 {
        let block = Quarters::from_weights(weights).to_bytes();
        let quantized = (subject(Quarters::FORMAT).weights)(&block);
        for (w, quantized) in weights.iter().zip(quantized) {
            error += (f64::from(*w) - quantized.scale * f64::from(quantized.code)).powi(2);
            power += f64::from(*w).powi(2);
        }
    }
    let decibels = 10.0 * (power / error).log10();
    assert!(decibels > 33.0, "Quarters: {decibels} dB");
    assert!(Q4_K::FORMAT.quantize.is_none(), "no quantizer is known for this shape");
}
