//! What declared formats have besides kernels, the crate's and others: accessors, and quantizers that follow.

#[path = "common/elsewhere.rs"]
mod elsewhere;
#[path = "common/fixtures.rs"]
mod fixtures;
#[path = "common/layouts.rs"]
mod layouts;

use elsewhere::*;
use layouts::subject;
use quantloom_kernels::formats::*;
use quantloom_kernels::{BlockFormat, f16};

/// Codes that are set are the codes that are read, and nothing else of the block changes.
#[test]
fn accessors_are_inverse() {
    macro_rules! inverse {
        ($($format:ident { $($codes:ident $set:ident),+ })+) => {$({
            let subject = subject($format::FORMAT);
            let bytes = subject.random_matrix(1, 5, 1.0);
            let block = $format::from_bytes(bytes.as_slice().try_into().unwrap());
            let mut copy = $format::ZERO;
            for number in subject.numbers {
                let place = number.place();
                let mut bytes = copy.to_bytes();
                bytes[place.clone()].copy_from_slice(&block.to_bytes()[place]);
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
        IQ2_XXS { g set_g, n set_n, s set_s }
        IQ2_XS { g set_g, n set_n, s set_s }
        IQ2_S { g set_g, sign set_sign, s set_s }
        IQ3_XXS { qs set_qs, n set_n, s set_s }
        IQ3_S { g set_g, sign set_sign, s set_s }
        IQ1_S { g set_g, s set_s }
        MXFP4 { q set_q }
        NVFP4 { d set_d, q set_q }
        Q1_0 { q set_q }
        Quarters { q set_q, sc set_sc }
        Dozen { qs set_qs, sc set_sc, n set_n }
        Sevens { q set_q, s set_s }
    }
}

/// Digits of the base 3 that are set are those that are read. Of a byte's 256 values 243 are such digits.
#[test]
fn trits_are_what_they_were_set_to() {
    let mut block = TQ1_0::ZERO;
    let codes = std::array::from_fn(|i| (i * i / 7 % 3) as u8);
    block.set_q(&codes);
    assert_eq!(block.q(), codes);
    for byte in 0..=255 {
        let mut block = TQ1_0 { qs: [byte; 48], qh: [byte; 4], ..TQ1_0::ZERO };
        let codes = block.q();
        (block.qs, block.qh) = ([0; 48], [0; 4]);
        block.set_q(&codes);
        assert_eq!(block.q(), codes, "byte {byte}");
    }
}

/// Quantizers follow from formulas: that of AprQ4 makes the codes of Q4_0 in another order.
#[test]
fn quantizers_follow_from_formulas() {
    for weights in fixtures::floats("weights.f32").as_chunks().0 {
        let (ours, theirs) = (AprQ4::from_weights(weights, None), Q4_0::from_weights(weights, None));
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
        let block = Quarters::from_weights(weights, None).to_bytes();
        let quantized = (subject(Quarters::FORMAT).weights)(&block);
        for (w, quantized) in weights.iter().zip(quantized) {
            error += (f64::from(*w) - quantized.scale * f64::from(quantized.code)).powi(2);
            power += f64::from(*w).powi(2);
        }
    }
    let decibels = 10.0 * (power / error).log10();
    assert!(decibels > 33.0, "Quarters: {decibels} dB");
}
