//! What formats declared outside the crate have besides kernels: accessors, quantizers, and ggml's bytes.

#[path = "common/elsewhere.rs"]
mod elsewhere;
#[path = "common/fixtures.rs"]
mod fixtures;
#[path = "common/layouts.rs"]
mod layouts;

use elsewhere::*;
use layouts::subject;
use quantloom_kernels::BlockFormat;
use quantloom_kernels::formats::Q4_0;

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

/// Quantizers follow from formulas: these make ggml's bytes, that of AprQ4 the codes of Q4_0 in another order.
#[test]
fn quantizers_follow_from_formulas() {
    for format in [Q5_0::FORMAT, Q5_1::FORMAT, TQ2_0::FORMAT, Q2_0::FORMAT] {
        fixtures::quantizes_as_ggml(format);
    }
    for weights in fixtures::floats("weights.f32").as_chunks().0 {
        let (ours, theirs) = (AprQ4::from_weights(weights, None), Q4_0::from_weights(weights, None));
        assert_eq!((ours.q(), ours.d.to_bits()), (theirs.q(), theirs.d.to_bits()), "{weights:?}");
    }
}
