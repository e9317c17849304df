//! The macro's output stands on its own: it needs no prelude, no import and no place, and names of a
//! declaration don't meet names of the generated code.

use quantloom_kernels::formats::Q4_0;
use quantloom_kernels::{BlockFormat, Format, Supported};

/// Nothing is in scope here but what the macro brings along.
#[no_implicit_prelude]
mod nowhere {
    ::quantloom_kernels::quant_format! {
        pub block NoPrelude[32] {
            d: f16,
            qs: [u8; 16],

            q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
            w = d * (q - 8);
        }
    }
}

/// What generated code might call by these names is something else here.
#[allow(dead_code)]
mod shadowed {
    struct Option;
    struct Iterator;
    mod core {}
    mod std {}
    mod quantloom_kernels {}

    ::quantloom_kernels::quant_format! {
        pub block Shadowed[32] {
            bytes: f16,
            block: [u8; 16],

            weights[codes: 2, out: 16] = block[out] >> 4 * codes & 15;
            w = bytes * (weights - 8);
        }
    }
}

#[test]
fn declared_without_a_prelude() {
    equals_q4_0(nowhere::NoPrelude::FORMAT);
}

#[test]
fn declared_where_all_names_are_taken() {
    equals_q4_0(shadowed::Shadowed::FORMAT);
}

#[test]
fn declared_in_a_function() {
    quantloom_kernels::quant_format! {
        table LOCAL;

        block Local[32] {
            d: f16,
            qs: [u8; 16],

            q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
            w = d * (q - 8);
        }
    }
    assert_eq!(LOCAL.len(), 1);
    assert_eq!(Local::ZERO.to_bytes(), [0; 18]);
    equals_q4_0(Local::FORMAT);
}

/// A minimum that is the scale itself: there are kernels, but no quantizer could choose the two apart.
#[test]
fn scale_and_minimum_in_one_field() {
    quantloom_kernels::quant_format! {
        block Same[32] {
            d: f16,
            qs: [u8; 16],

            q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
            w = (d * q) + d;
        }
    }
    assert!(Same::FORMAT.quantize.is_none());
    let mut block = Same::ZERO;
    block.d = quantloom_kernels::f16::from_le_bytes([0, 0x3c]);
    block.set_q(&core::array::from_fn(|i| i as u8 % 16));
    for isa in Supported::all() {
        let mut w = [0.0; 32];
        Same::FORMAT.kernels(isa).dequantize(&block.to_bytes(), &mut w).unwrap();
        assert_eq!(w, core::array::from_fn(|i| (i % 16) as f32 + 1.0), "{}", isa.isa());
    }
}

/// Asserts that a format is Q4_0 by another name.
fn equals_q4_0(format: &'static Format) {
    let x: Vec<f32> = (0..64).map(|i| (i as f32 * 0.7).sin()).collect();
    for isa in Supported::all() {
        let [ours, theirs] = [format, Q4_0::FORMAT].map(|format| {
            let (mut blocks, mut y) = (vec![0; 36], vec![f32::NAN; 64]);
            format.kernels(isa).quantize(&x, &mut blocks).unwrap();
            format.kernels(isa).dequantize(&blocks, &mut y).unwrap();
            (blocks, y)
        });
        assert_eq!(ours, theirs, "{} on {}", format.name, isa.isa());
    }
}
