//! Every format × instruction set × operation against oracles written by hand, which share nothing with
//! the macro. Outputs start as NaN, so that what a kernel leaves out is seen.

use half::{bf16, f16};
use proptest::prelude::*;
use quantloom_kernels::{ActivationBlock, FORMATS, Format, Isa, Supported, quantize_activations};

/// One block of each format in f64, from FORMATS' published layouts.
mod oracle {
    use super::f16;

    fn half(bytes: &[u8]) -> f64 {
        f16::from_le_bytes([bytes[0], bytes[1]]).to_f64()
    }

    /// The scale of each weight, its code with the zero point taken off, and what is added.
    pub struct Weight {
        pub scale: f64,
        pub code: i32,
        pub minimum: f64,
    }

    pub fn block(format: &str, b: &[u8]) -> Vec<Weight> {
        match format {
            "Q4_0" => (0..32)
                .map(|e| {
                    let nibble = if e < 16 { b[2 + e] & 15 } else { b[2 + e - 16] >> 4 };
                    Weight { scale: half(b), code: i32::from(nibble) - 8, minimum: 0.0 }
                })
                .collect(),
            "Q4_1" => (0..32)
                .map(|e| {
                    let nibble = if e < 16 { b[4 + e] & 15 } else { b[4 + e - 16] >> 4 };
                    Weight { scale: half(b), code: nibble.into(), minimum: half(&b[2..]) }
                })
                .collect(),
            "Q8_0" => (0..32)
                .map(|e| Weight { scale: half(b), code: (b[2 + e] as i8).into(), minimum: 0.0 })
                .collect(),
            "Q6_K" => (0..256)
                .map(|e| {
                    let (part, r) = (e / 128, e % 128);
                    let (quarter, l) = (r / 32, r % 32);
                    let low = b[64 * part + 32 * (quarter % 2) + l] >> (4 * (quarter / 2)) & 15;
                    let high = b[128 + 32 * part + l] >> (2 * quarter) & 3;
                    let scale = f64::from(b[192 + e / 16] as i8);
                    Weight {
                        scale: half(&b[208..]) * scale,
                        code: i32::from(low | high << 4) - 32,
                        minimum: 0.0,
                    }
                })
                .collect(),
            other => panic!("no oracle for {other}: write one"),
        }
    }
}

/// Blocks with random codes and scales whose magnitude is near 2^exponent.
fn random_blocks(format: &Format, blocks: usize, seed: u64, scale: f32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
    };
    let mut bytes: Vec<u8> = (0..blocks * format.block_bytes).map(|_| next() as u8).collect();
    let f16_offsets: &[usize] = match format.name {
        "Q4_0" | "Q8_0" => &[0],
        "Q4_1" => &[0, 2],
        "Q6_K" => &[208],
        other => panic!("no f16 offsets for {other}"),
    };
    for block in bytes.chunks_exact_mut(format.block_bytes) {
        for &offset in f16_offsets {
            let value = scale * (next() as f32 / (1_u64 << 31) as f32 - 1.0);
            block[offset..offset + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
        }
    }
    bytes
}

fn activations(isa: Supported, x: &[f32]) -> Vec<ActivationBlock> {
    let mut blocks = vec![ActivationBlock::ZERO; x.len() / 32];
    quantize_activations(isa, x, &mut blocks).unwrap();
    blocks
}

fn ramp(n: usize, seed: u64) -> Vec<f32> {
    (0..n).map(|i| ((i as f64 + seed as f64) * 0.7391).sin() as f32 * (1.0 + (i % 7) as f32)).collect()
}

/// The exact dot product of a row and quantized activations, and the sum of the magnitudes of its terms.
fn exact(format: &Format, row: &[u8], a: &[ActivationBlock]) -> (f64, f64) {
    let weights = row.chunks_exact(format.block_bytes).flat_map(|b| oracle::block(format.name, b));
    let x = a.iter().flat_map(|a| (0..32).map(|i| f64::from(a.q[i]) * a.scales[i / 4].to_f64()));
    let (mut sum, mut magnitude) = (0.0, 0.0);
    for (w, x) in weights.zip(x) {
        sum += (w.scale * f64::from(w.code) + w.minimum) * x;
        // The zero point is taken off after the codes were multiplied: both parts round.
        magnitude += ((w.scale * f64::from(w.code)).abs() + w.minimum.abs()) * x.abs();
    }
    (sum, magnitude)
}

/// |y - y*| ≤ c · ε · Σ|w·x|. Integer sums are exact, so what rounds is, per chunk: two or three products
/// of scales, one fused multiply-add (or two) into one of eight partial sums, and their final tree of
/// three additions. With n chunks a partial sum rounds n (with a minimum 2n) times, each time by at most
/// ε/2 of what has been summed so far: c = 2n + 8 covers it.
fn check_close(cell: &str, y: f32, (exact, magnitude): (f64, f64), chunks: usize) {
    let bound = (2 * chunks + 8) as f64 * f64::from(f32::EPSILON) * magnitude + f64::from(f32::MIN_POSITIVE);
    let distance = (f64::from(y) - exact).abs();
    assert!(distance <= bound, "{cell}: {y} is {distance:e} from {exact}, more than {bound:e}");
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
    each_cell(|format, isa| {
        for blocks in [1, 2, 7] {
            let bytes = random_blocks(format, blocks, blocks as u64, 0.02);
            let mut weights = vec![f32::NAN; blocks * format.block_len];
            format.kernels(isa).dequantize(&bytes, &mut weights).unwrap();
            let expected = bytes.chunks_exact(format.block_bytes).flat_map(|b| oracle::block(format.name, b));
            for (e, (w, expected)) in weights.iter().zip(expected).enumerate() {
                // Each step rounds to f32, as ggml's does; the scale product is exact in f64.
                let y = (expected.scale as f32) * expected.code as f32 + expected.minimum as f32;
                assert_eq!(*w, y, "{} {} weight {e}", format.name, isa.isa());
            }
        }
    });
}

#[test]
fn dot_and_gemv_agree_with_the_oracle() {
    each_cell(|format, isa| {
        let kernels = format.kernels(isa);
        let per_block = format.block_len / 32;
        for blocks in [1, 2, 3, 5, 8, 9, 22, 64] {
            let x = ramp(blocks * format.block_len, blocks as u64);
            let a = activations(isa, &x);
            for rows in [1, 2, 3, 4, 5, 7, 9] {
                let matrix = random_blocks(format, rows * blocks, (rows * 100 + blocks) as u64, 0.05);
                let mut y = vec![f32::NAN; rows];
                kernels.gemv(&matrix, &a, &mut y).unwrap();
                for (r, row) in matrix.chunks_exact(blocks * format.block_bytes).enumerate() {
                    let cell =
                        format!("{}_gemv_{} row {r} of {rows}, {blocks} blocks", format.name, isa.isa());
                    check_close(&cell, y[r], exact(format, row, &a), blocks * per_block);
                    assert_eq!(kernels.dot(row, &a).unwrap(), y[r], "{cell}: dot and gemv differ");
                }
            }
        }
    });
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
            let one = f16::ONE.to_le_bytes();
            match format.name {
                "Q4_0" | "Q8_0" => bytes[0..2].copy_from_slice(&one),
                "Q4_1" => bytes[0..4].copy_from_slice(&[one, one].concat()),
                "Q6_K" => bytes[208..210].copy_from_slice(&one),
                other => panic!("no scales for {other}"),
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
                let weights = oracle::block(format.name, &bytes);
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
        each_format_once(seed, blocks, exponent);
    }
}

fn each_format_once(seed: u64, blocks: usize, exponent: i32) {
    for &format in FORMATS {
        let blocks = blocks.div_ceil(format.block_len / 32);
        let row = random_blocks(format, blocks, seed, 2_f32.powi(exponent));
        let x = ramp(blocks * format.block_len, seed % 1000);
        for isa in Supported::all() {
            let a = activations(isa, &x);
            let y = format.kernels(isa).dot(&row, &a).unwrap();
            let cell = format!("{}_dot_{} {blocks} blocks", format.name, isa.isa());
            check_close(&cell, y, exact(format, &row, &a), blocks * format.block_len / 32);
        }
    }
}
