//! Every format × instruction set × operation against oracles written by hand, which share nothing with
//! the macro. Outputs start as NaN, so that what a kernel leaves out is seen.

#[path = "common/oracle.rs"]
mod oracle;

use half::{bf16, f16};
use oracle::{Oracle, Weight, activations, check_close, exact, half, ramp};
use proptest::prelude::*;
use quantloom_kernels::{ActivationBlock, FORMATS, Format, Isa, Supported};

/// Where each format keeps its f16 scales, and the weights of a block from its published layout.
fn layout(format: &Format) -> (&'static [usize], Oracle) {
    match format.name {
        "Q4_0" => (&[0], |b| {
            let nibble = |e| if e < 16 { b[2 + e] & 15 } else { b[2 + e - 16] >> 4 };
            weights(32, |e| (half(b), i32::from(nibble(e)) - 8, 0.0))
        }),
        "Q4_1" => (&[0, 2], |b| {
            let nibble = |e| if e < 16 { b[4 + e] & 15 } else { b[4 + e - 16] >> 4 };
            weights(32, |e| (half(b), nibble(e).into(), half(&b[2..])))
        }),
        "Q8_0" => (&[0], |b| weights(32, |e| (half(b), (b[2 + e] as i8).into(), 0.0))),
        "Q6_K" => (&[208], |b| {
            weights(256, |e| {
                let (part, r) = (e / 128, e % 128);
                let (quarter, l) = (r / 32, r % 32);
                let low = b[64 * part + 32 * (quarter % 2) + l] >> (4 * (quarter / 2)) & 15;
                let high = b[128 + 32 * part + l] >> (2 * quarter) & 3;
                let scale = f64::from(b[192 + e / 16] as i8);
                (half(&b[208..]) * scale, i32::from(low | high << 4) - 32, 0.0)
            })
        }),
        other => panic!("no oracle for {other}: write one"),
    }
}

fn weights(len: usize, weight: impl Fn(usize) -> (f64, i32, f64)) -> Vec<Weight> {
    (0..len).map(weight).map(|(scale, code, minimum)| Weight { scale, code, minimum }).collect()
}

fn random_blocks(format: &Format, blocks: usize, seed: u64, scale: f32) -> Vec<u8> {
    oracle::random_blocks(format, layout(format).0, blocks, seed, scale)
}

fn each_cell(mut test: impl FnMut(&'static Format, Supported)) {
    for &format in FORMATS {
        for isa in Supported::all() {
            test(format, isa);
        }
    }
    for &isa in Isa::ALL {
        if let Err(missing) = Supported::new(isa) {
            eprintln!("not run: {missing}");
        }
    }
}

#[test]
fn dequantize_is_the_formula_in_f32() {
    for &format in FORMATS {
        let (scales, oracle) = layout(format);
        oracle::check_dequantize(format, oracle, scales);
    }
}

#[test]
fn dot_and_gemv_agree_with_the_oracle() {
    let rows = [1, 2, 3, 4, 5, 7, 9];
    let blocks = [1, 2, 3, 5, 8, 9, 22, 64];
    let mut shapes: Vec<_> = blocks.iter().flat_map(|&blocks| rows.map(|rows| (rows, blocks))).collect();
    if cfg!(miri) {
        // It takes a second for what takes a machine a millisecond.
        shapes = vec![(1, 1), (5, 3)];
    }
    for &format in FORMATS {
        let (scales, oracle) = layout(format);
        oracle::check_gemv(format, oracle, scales, &shapes);
    }
}

/// With all scales powers of two and one chunk per lane the float sums are exact, so that results equal
/// to the last bit mean integer sums equal to the last bit.
#[test]
fn integer_sums_are_equal_on_all_instruction_sets() {
    for &format in FORMATS {
        let mut bytes = random_blocks(format, 1, 3, 0.0);
        for fill in [None, Some(0x00), Some(0xFF), Some(0x80)] {
            if let Some(fill) = fill {
                bytes.fill(fill);
            }
            let (scales, oracle) = layout(format);
            for &offset in scales {
                bytes[offset..offset + 2].copy_from_slice(&f16::ONE.to_le_bytes());
            }
            for pattern in 0..4 {
                let mut a = vec![ActivationBlock::ZERO; format.block_len / 32];
                for (b, block) in a.iter_mut().enumerate() {
                    block.scales = [bf16::ONE; 8];
                    block.q = std::array::from_fn(|i| match pattern {
                        0 => 127,
                        1 => -127,
                        2 => {
                            if (i + b) % 2 == 0 {
                                127
                            } else {
                                -127
                            }
                        }
                        _ => ((i * 37 + b * 11) % 255) as i8,
                    });
                    block.q.iter_mut().for_each(|q| *q = (*q).max(-127));
                    block.sums = std::array::from_fn(|l| {
                        block.q[4 * l..4 * l + 4].iter().map(|&q| i16::from(q)).sum()
                    });
                }
                let weights = oracle(&bytes);
                let expected: f64 = weights
                    .iter()
                    .zip(a.iter().flat_map(|a| a.q))
                    .map(|(w, q)| (w.scale * f64::from(w.code) + w.minimum) * f64::from(q))
                    .sum();
                for isa in Supported::all() {
                    let y = format.kernels(isa).dot(&bytes, &a).unwrap();
                    assert_eq!(
                        f64::from(y),
                        expected,
                        "{} {} fill {fill:?} pattern {pattern}",
                        format.name,
                        isa.isa()
                    );
                }
            }
        }
    }
}

#[test]
fn activations_are_the_same_on_all_instruction_sets() {
    let cases: Vec<(&str, Vec<f32>)> = vec![
        ("zeros", vec![0.0; 32]),
        ("ramp", ramp(96, 1)),
        ("subnormal", vec![1e-44; 32]),
        ("tiny", ramp(32, 2).iter().map(|x| x * 1e-37).collect()),
        ("huge", ramp(32, 3).iter().map(|x| x * 1e37).collect()),
        ("ties", (0..32).map(|i| if i == 0 { 127.0 } else { i as f32 - 15.5 }).collect()),
    ];
    for (name, x) in cases {
        let scalar = activations(Supported::new(Isa::Scalar).unwrap(), &x);
        for isa in Supported::all() {
            assert_eq!(activations(isa, &x), scalar, "{name} {}", isa.isa());
        }
        for (block, x) in scalar.iter().zip(x.chunks(32)) {
            for (i, x) in x.iter().enumerate() {
                let (q, scale) = (block.q[i], block.scales[i / 4].to_f32());
                let distance = (f32::from(q) * scale - x).abs();
                assert!(distance <= scale * 0.501 + 4e-37, "{name}: {x} became {q} · {scale}");
                assert!((-127..=127).contains(&q), "{name}: {x} became {q}");
            }
        }
    }
    for isa in Supported::all() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(u32::MAX)] {
            let mut x = ramp(32, 4);
            x[17] = bad;
            assert!(!activations(isa, &x)[0].scales[4].is_finite(), "{bad} got lost in {}", isa.isa());
        }
    }
}

#[test]
fn lengths_are_checked() {
    each_cell(|format, isa| {
        let kernels = format.kernels(isa);
        let a = vec![ActivationBlock::ZERO; format.block_len / 32];
        let row = vec![0; format.block_bytes];
        let mut y = [0.0; 2];
        assert!(kernels.dot(&row[1..], &a).is_err());
        assert!(kernels.gemv(&row, &a, &mut y).is_err());
        assert!(kernels.dequantize(&row, &mut vec![0.0; format.block_len + 1]).is_err());
        assert!(kernels.quantize(&vec![0.0; format.block_len], &mut []).is_err());
        assert_eq!(kernels.dot(&[], &[]), Ok(0.0));
        assert_eq!(kernels.gemv(&[], &[], &mut y), Ok(()));
        assert_eq!(y, [0.0; 2], "a matrix without columns gives zeros");
    });
}

#[test]
fn an_unknown_or_missing_instruction_set_is_an_error() {
    let error = Supported::named("avx3").unwrap_err().to_string();
    assert!(error.contains("avx3") && error.contains("scalar"), "{error}");
    for &isa in Isa::ALL {
        if let Err(error) = Supported::new(isa) {
            let error = error.to_string();
            assert!(error.contains(isa.name()), "{error}");
            assert!(isa.missing().iter().all(|feature| error.contains(feature)), "{error}");
        }
    }
}

proptest! {
    #[test]
    fn random_rows(seed in any::<u64>(), blocks in 1_usize..70, exponent in -20_i32..12) {
        each_format(seed, blocks, exponent);
    }
}

fn each_format(seed: u64, blocks: usize, exponent: i32) {
    for &format in FORMATS {
        let blocks = blocks.div_ceil(format.block_len / 32);
        let row = random_blocks(format, blocks, seed, 2_f32.powi(exponent));
        let x = ramp(blocks * format.block_len, seed % 1000);
        for isa in Supported::all() {
            let a = activations(isa, &x);
            let y = format.kernels(isa).dot(&row, &a).unwrap();
            let cell = format!("{}_dot_{} {blocks} blocks", format.name, isa.isa());
            check_close(&cell, y, exact(format, layout(format).1, &row, &a), blocks * format.block_len / 32);
        }
    }
}
