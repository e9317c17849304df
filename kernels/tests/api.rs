//! What is not the work of a kernel: the quantization of activations, the checks of lengths, and the choice of
//! an instruction set.

use quantloom_kernels::{ActivationBlock, FORMATS, Isa, Supported, quantize_activations};

/// Activations of many magnitudes.
fn ramp(n: usize, seed: u64) -> Vec<f32> {
    (0..n).map(|i| ((i as f64 + seed as f64) * 0.7391).sin() as f32 * (1.0 + (i % 7) as f32)).collect()
}

/// `x` in blocks.
fn activations(isa: Supported, x: &[f32]) -> Vec<ActivationBlock> {
    let mut blocks = vec![ActivationBlock::ZERO; x.len() / 32];
    quantize_activations(isa, x, &mut blocks).unwrap();
    blocks
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

/// The two ways to a product, for all kernels at once: what `cells` does thoroughly, short enough for Miri.
#[test]
fn products_are_those_of_dequantized_weights() {
    for (&format, isa) in FORMATS.iter().flat_map(|format| Supported::all().map(move |isa| (format, isa))) {
        let (rows, cols) = (5, 2 * format.block_len);
        let kernels = format.kernels(isa);
        let mut matrix = vec![0; format.bytes_for(rows * cols)];
        kernels.quantize(&ramp(rows * cols, 9), &mut matrix).unwrap();
        let mut weights = vec![f32::NAN; rows * cols];
        kernels.dequantize(&matrix, &mut weights).unwrap();
        let a = activations(isa, &ramp(cols, 4));
        let mut y = vec![f32::NAN; rows];
        kernels.gemv(&matrix, &a, &mut y).unwrap();
        for ((y, weights), row) in
            y.iter().zip(weights.chunks(cols)).zip(matrix.chunks(format.bytes_for(cols)))
        {
            let x = a.iter().flat_map(|a| (0..32).map(|i| f32::from(a.q[i]) * a.scales[i / 4].to_f32()));
            let expected: f32 = weights.iter().zip(x).map(|(w, x)| w * x).sum();
            let cell = format!("{} on {}", format.name, isa.isa());
            assert!((y - expected).abs() < 1e-4 * cols as f32, "{cell}: {y}, expected {expected}");
            assert_eq!(kernels.dot(row, &a).unwrap(), *y, "{cell}");
        }
    }
}

#[test]
fn lengths_are_checked() {
    for (&format, isa) in FORMATS.iter().flat_map(|format| Supported::all().map(move |isa| (format, isa))) {
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
    }
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
