//! The macro's output stands on its own: it needs no prelude, no import and no place, names of a declaration don't meet
//! names of the generated code, and what the caller wrote comes out as it was.

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
            quantize by furthest;
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
            quantize by furthest;
        }
    }
}

/// Names that a variable of generated code can't have where it would see them.
#[allow(dead_code, non_upper_case_globals, non_camel_case_types)]
mod taken {
    pub static block: u8 = 0;
    pub static bytes: u8 = 0;
    pub static codes: u8 = 0;
    pub const weights: u8 = 0;
    pub const i: usize = 0;
    pub struct h;
    pub struct numbers;
    pub struct acc;
    pub struct activations;

    pub fn lower_dot_scalar() {}
    pub fn lower_gemv_avx2_fma() {}

    ::quantloom_kernels::quant_format! {
        /// [`Lower`] is found from here.
        pub table all;

        /// As the macro's own names would be.
        pub block Lower[32] {
            d: f16,
            qs: [u8; 16],

            q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
            w = d * (q - 8);
            quantize by furthest;
        }
    }

    ::quantloom_kernels::quant_format! {
        /// Its kernels are called as those of the other.
        pub(super) block LOWER[32] {
            d: f16,
            qs: [u8; 16],

            q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
            w = d * (q - 8);
            quantize by furthest;
        }
    }
}

/// What the caller's expressions name is looked for where they stand, and their numbers keep their types.
mod expressions {
    pub mod outer {
        pub mod quantloom_kernels {
            pub const GRID: [[i8; 8]; 256] = [[7; 8]; 256];
        }
    }

    const fn make(code: i8) -> [[i8; 8]; 256] {
        [[code; 8]; 256]
    }

    quantloom_kernels::quant_format! {
        pub block Path[128] {
            d: f16,
            qs: [u8; 16],

            codebook GRID: [[i8; 8]; 256] = outer::quantloom_kernels::GRID;
            w = d * GRID[qs];
        }

        pub block Call[128] {
            d: f16,
            qs: [u8; 16],

            codebook GRID: [[i8; 8]; 256] = make((!0u8 >> 1) as i8);
            w = d * GRID[qs];
        }

        pub block Inline[128] {
            d: f16,
            qs: [u8; 16],

            codebook GRID: [[i8; 8]; 256] = [[1; 8]; 256];
            w = d * GRID[qs];
        }
    }
}

/// Q4_0 out of a macro that gives names, types, numbers and a formula.
macro_rules! nibbles {
    ($name:ident, $weights:expr, $number:ty, $half:expr, $mask:literal, $zero:expr, $formula:expr) => {
        quantloom_kernels::quant_format! {
            block $name[$weights] {
                d: $number,
                qs: [u8; $half],

                q[h: 2, i: $half] = qs[i] >> (4) * h & ($mask);
                w = $formula;
                quantize by furthest;
            }
        }
        const _: i32 = $zero;
    };
}

#[test]
fn declared_by_a_macro() {
    nibbles!(Nibbles, 32, f16, 16, 15, 8, d * (q - 8));
    equals_q4_0(Nibbles::FORMAT);
}

#[test]
fn declared_where_names_of_variables_are_taken() {
    assert_eq!(taken::all.len(), 1);
    equals_q4_0(taken::Lower::FORMAT);
    equals_q4_0(taken::LOWER::FORMAT);
}

#[test]
fn expressions_mean_what_they_meant() {
    assert_eq!(expressions::Path::GRID[0], [7; 8]);
    assert_eq!(expressions::Call::GRID[255], [127; 8]);
    assert_eq!(expressions::Inline::GRID[1], [1; 8]);
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
            quantize by furthest;
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
