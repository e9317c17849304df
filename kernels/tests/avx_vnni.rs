//! Every generated `avx_vnni` kernel, by its own machine code, on any x86-64 CPU with AVX2: where the CPU has no
//! AVX-VNNI its one instruction is emulated. A process of its own, since it handles SIGILL.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod emulate;

use quantloom_kernels::{ActivationBlock, FORMATS, Isa, Supported, quantize_activations};

/// `avx_vnni` differs from `avx2_fma` only in how integers are summed, which both do exactly: results are the
/// same to the last bit. Those of `avx2_fma` are compared with the oracles in `cells.rs`.
#[test]
fn every_kernel_agrees_with_avx2_to_the_last_bit() {
    let Ok(avx2) = Supported::new(Isa::Avx2Fma) else {
        eprintln!("NOT RUN: this CPU has no AVX2");
        return;
    };
    let (vnni, how) = emulate::avx_vnni();
    for format in FORMATS {
        let before = emulate::traps();
        let (theirs, ours) = (format.kernels(avx2), format.kernels(vnni));
        for blocks in [1, 2, 3, 8, 13] {
            let cols = blocks * format.block_len;
            for rows in [1, 2, 3, 4, 5, 9] {
                let weights: Vec<f32> = (0..rows * cols).map(|i| ((i * i) as f32 * 0.11).sin()).collect();
                let mut matrix = vec![0; format.bytes_for(weights.len())];
                ours.quantize(&weights, &mut matrix).unwrap();
                let x: Vec<f32> = (0..cols).map(|i| (i as f32 * 0.7).cos() * (1 + i % 9) as f32).collect();
                let mut a = vec![ActivationBlock::ZERO; cols / ActivationBlock::LEN];
                quantize_activations(vnni, &x, &mut a).unwrap();

                let cell = format!("{}, {rows} rows of {blocks} blocks", format.name);
                let (mut y, mut expected) = (vec![f32::NAN; rows], vec![f32::NAN; rows]);
                ours.gemv(&matrix, &a, &mut y).unwrap();
                theirs.gemv(&matrix, &a, &mut expected).unwrap();
                assert_eq!(y, expected, "gemv {cell}");
                let row = &matrix[..format.bytes_for(cols)];
                assert_eq!(ours.dot(row, &a), theirs.dot(row, &a), "dot {cell}");
                let (mut w, mut expected) = (vec![f32::NAN; cols], vec![f32::NAN; cols]);
                ours.dequantize(row, &mut w).unwrap();
                theirs.dequantize(row, &mut expected).unwrap();
                assert_eq!(w, expected, "dequantize {cell}");
            }
        }
        let trapped = emulate::traps() - before;
        println!("{}: dot, gemv and dequantize passed {how}, {trapped} instructions emulated", format.name);
        assert!(how == "natively" || trapped > 0, "{}: no vpdpbusd was executed", format.name);
    }
}
