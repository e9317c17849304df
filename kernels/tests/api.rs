//! What is not the work of a kernel: the quantization of activations, the checks of lengths, and the choice of
//! an instruction set.

use quantloom_kernels::formats::{Q4_0, Q8_0};
use quantloom_kernels::gemm::{ActivationTile, PanelFormat, Panels, gemm_together, quantize_tile};
use quantloom_kernels::{
    ActivationBlock, BlockFormat, FORMATS, FloatField, FloatType, Format, FormatParts, Isa, Kernels,
    ProductError, Supported, bf16, f16, quantize_activations,
};

quantloom_kernels::quant_format! {
    /// Four blocks of it are multiplied with the activations of one unit.
    block Quarter[64] {
        d: f16,
        s: [i8; 2],
        qs: [u8; 32],

        q[h: 2, i: 32] = qs[i] >> 4 * h & 15;
        w = d * s * q;
    }
}

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

/// Formats for Miri, which takes a second for what takes a machine a millisecond: one for each kind of generated code,
/// which are zero points, minima, planes and signed codes; integer scales of 32 and of 16 weights; codebooks with signs and
/// with codes of more than 8 bits; tables and trits; numbers of 8 bits.
const KINDS: &[&str] =
    &["Q4_0", "Q4_1", "Q5_0", "Q8_0", "Q4_K", "Q6_K", "IQ2_XXS", "IQ1_S", "IQ4_XS", "TQ1_0", "NVFP4"];

/// Of these the ones that are multiplied in panels, 32 rows times 12 tokens at the least: for scales of 32 and of 16 weights,
/// and with minima.
const IN_PANELS: &[&str] = &["Q4_0", "Q6_K", "Q4_1"];

/// Whether tests run `format` here.
fn runs_here(format: &Format) -> bool {
    !cfg!(miri) || KINDS.contains(&format.name)
}

/// Blocks with codes of all kinds and small numbers, which no quantizer has to search for.
fn any_blocks(format: &Format, blocks: usize) -> Vec<u8> {
    let mut state = 9_u32;
    let mut bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(blocks * format.block_bytes)
    .collect();
    for block in bytes.chunks_mut(format.block_bytes) {
        for &FloatField { ty, offset } in format.floats {
            // 2⁻¹⁰, more or less, of either sign where there are signs.
            let number = (block[offset] as i8 as f32 + 0.5) / 131_072.0;
            match ty {
                FloatType::F16 => {
                    block[offset..offset + 2].copy_from_slice(&f16::from_f32(number).to_le_bytes())
                }
                FloatType::BF16 => {
                    block[offset..offset + 2].copy_from_slice(&bf16::from_f32(number).to_le_bytes());
                }
                FloatType::F32 => block[offset..offset + 4].copy_from_slice(&number.to_le_bytes()),
                FloatType::E8M0 => block[offset] = 117 + block[offset] % 4,
            }
        }
    }
    bytes
}

/// Σ w · x, and how far a sum in f32 may be from it: terms in any order, with steps and scales that are rounded.
fn exact_sum(weights: &[f32], x: impl Fn(usize) -> f64) -> (f64, f64) {
    let products = || weights.iter().enumerate().map(|(i, w)| f64::from(*w) * x(i));
    (products().sum(), 1e-5 * products().map(f64::abs).sum::<f64>())
}

/// The same with activations as kernels take them.
fn exact_dot(weights: &[f32], a: &[ActivationBlock]) -> (f64, f64) {
    exact_sum(weights, |i| f64::from(a[i / 32].codes()[i % 32]) * f64::from(a[i / 32].scales()[i % 32 / 4]))
}

#[test]
fn activations_are_the_same_on_all_instruction_sets() {
    let cases: Vec<(&str, Vec<f32>)> = vec![
        ("zeros", vec![0.0; 32]),
        ("ramp", ramp(96, 1)),
        ("a run and a part of one", ramp(576, 5)),
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
            let exact = block.multiples().map(|k| f64::from(k) * f64::from(block.unit()));
            assert_eq!(block.scales().map(f64::from), exact, "{name}: scales are rounded");
            for (i, x) in x.iter().enumerate() {
                let (q, scale) = (block.codes()[i], block.scales()[i / 4]);
                let distance = (f32::from(q) * scale - x).abs();
                assert!(distance <= scale * 0.501, "{name}: {x} became {q} · {scale}");
                assert!((-127..=127).contains(&q), "{name}: {x} became {q}");
            }
        }
    }
}

/// Operations give NaNs of any sign and payload, which Miri draws by chance: it runs this with several seeds.
#[test]
fn nan_and_infinity_remain_in_activations() {
    for isa in Supported::all() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(u32::MAX)] {
            let mut x = ramp(32, 4);
            x[17] = bad;
            assert!(!activations(isa, &x)[0].scales()[4].is_finite(), "{bad} got lost in {}", isa.isa());
        }
    }
}

/// The two ways to a product, for all kernels at once: what `cells` does thoroughly, short enough for Miri.
#[test]
fn products_are_those_of_dequantized_weights() {
    let formats = FORMATS.iter().copied().chain([Quarter::FORMAT]).filter(|format| runs_here(format));
    for (format, isa) in formats.flat_map(|format| Supported::all().map(move |isa| (format, isa))) {
        // One row more than kernels take at once.
        let (rows, cols) = (5, if cfg!(miri) { format.block_len.max(64) } else { 2 * format.block_len });
        let kernels = format.kernels(isa);
        let cell = format!("{} on {}", format.name, isa.isa());
        let matrix = any_blocks(format, rows * cols / format.block_len);
        let mut weights = vec![f32::NAN; rows * cols];
        kernels.dequantize(&matrix, &mut weights).unwrap();
        let x = ramp(cols, 4);
        let a = activations(isa, &x);

        let mut y = vec![f32::NAN; rows];
        kernels.gemv(&matrix, &a, &mut y).unwrap();
        let mut several = vec![f32::NAN; 3 * rows];
        kernels.gemv_several(&matrix, &[&a[..], &a, &a].concat(), 3, &mut several).unwrap();
        assert_eq!(several, y.repeat(3), "{cell}");
        for ((y, weights), row) in
            y.iter().zip(weights.chunks(cols)).zip(matrix.chunks(format.bytes_for(cols)))
        {
            let (expected, margin) = exact_dot(weights, &a);
            assert!(
                (f64::from(*y) - expected).abs() <= margin,
                "{cell}: {y}, expected {expected} ± {margin}"
            );
            assert_eq!(kernels.dot(row, &a).unwrap(), *y, "{cell}");
        }

        let mut tile = vec![ActivationTile::ZERO; ActivationTile::count(1, cols)];
        quantize_tile(isa, &x, &mut tile).unwrap();
        let mut many = vec![f32::NAN; rows];
        let store = |_, row: usize, values: &[f32]| many[row..row + values.len()].copy_from_slice(values);
        if format.panel.is_none() || cfg!(miri) && !IN_PANELS.contains(&format.name) {
            continue;
        }
        kernels.gemm(&matrix, rows, &tile, 1, &mut Panels::default(), store).unwrap();
        for (many, weights) in many.iter().zip(weights.chunks(cols)) {
            let (expected, margin) = exact_sum(weights, |i| tile[i / 32].get(0, i % 32));
            let distance = (f64::from(*many) - expected).abs();
            assert!(distance <= margin, "gemm of {cell}: {many}, expected {expected} ± {margin}");
        }
    }
}

#[test]
fn matrices_multiplied_together_give_what_each_gives_alone() {
    let (rows, cols, tokens) = if cfg!(miri) { (33, 32, 2) } else { (101, 256, 14) };
    // Codes of either reach, with minima and without. A search for scales takes Miri minutes.
    let pairs = if cfg!(miri) { 1 } else { 2 };
    for isa in Supported::all() {
        for names in [["Q4_0", "Q8_0"], ["IQ4_NL", "Q4_1"]].into_iter().take(pairs) {
            let pair = names.map(|name| FORMATS.iter().find(|format| format.name == name).unwrap());
            let kernels = pair.map(|format| format.kernels(isa));
            let matrices = kernels.map(|kernels| {
                let mut matrix = vec![0; kernels.format().bytes_for(rows * cols)];
                kernels.quantize(&ramp(rows * cols, 9), &mut matrix).unwrap();
                matrix
            });
            let mut tiles = vec![ActivationTile::ZERO; ActivationTile::count(tokens, cols)];
            let x = ramp(tokens * cols, 4);
            for (x, tile) in x.chunks(12 * cols).zip(tiles.chunks_mut(cols / 32)) {
                quantize_tile(isa, x, tile).unwrap();
            }
            let mut panels = Panels::default();
            let alone = [0, 1].map(|m| {
                let mut y = vec![f32::NAN; tokens * rows];
                let store = |token: usize, row: usize, values: &[f32]| {
                    y[token * rows + row..][..values.len()].copy_from_slice(values);
                };
                kernels[m].gemm(&matrices[m], rows, &tiles, tokens, &mut panels, store).unwrap();
                y
            });
            let mut together = [(); 2].map(|()| vec![f32::NAN; tokens * rows]);
            let both = [(&kernels[0], &matrices[0][..]), (&kernels[1], &matrices[1][..])];
            let store = |token: usize, row: usize, values: [&[f32]; 2]| {
                for (y, values) in together.iter_mut().zip(values) {
                    y[token * rows + row..][..values.len()].copy_from_slice(values);
                }
            };
            gemm_together(both, rows, &tiles, tokens, &mut panels, store).unwrap();
            assert_eq!(together, alone, "{names:?} on {}", isa.isa());

            let short = [both[0], (both[1].0, &both[1].1[1..])];
            assert!(gemm_together(short, rows, &tiles, tokens, &mut panels, |_, _, _| ()).is_err());
        }
    }
}

#[test]
fn tiles_are_the_same_on_all_instruction_sets() {
    let scalar = Supported::new(Isa::Scalar).unwrap();
    let quantized = |isa, x: &[f32]| {
        let mut tile = vec![ActivationTile::ZERO; 2];
        quantize_tile(isa, x, &mut tile).unwrap();
        tile
    };
    let mut outlier = ramp(64, 5);
    outlier[40] = -3e4;
    let cases: Vec<(&str, Vec<f32>)> = vec![
        ("zeros", vec![0.0; 64]),
        ("one token", ramp(64, 1)),
        ("twelve tokens", ramp(12 * 64, 1)),
        ("far from 0", ramp(64, 2).iter().map(|x| x + 1000.0).collect()),
        ("an outlier", outlier),
        ("subnormal", vec![1e-44; 64]),
        ("tiny", ramp(64, 2).iter().map(|x| x * 1e-37).collect()),
        ("the largest", (0..64).map(|i| if i % 3 == 0 { f32::MAX } else { -f32::MAX }).collect()),
    ];
    for (name, x) in cases {
        let expected = quantized(scalar, &x);
        for isa in Supported::all() {
            let tile = quantized(isa, &x);
            assert_eq!(format!("{tile:?}"), format!("{expected:?}"), "{name} {}", isa.isa());
        }
        for (i, x) in x.iter().enumerate() {
            let (token, tile) = (i / 64, &expected[i / 32 % 2]);
            let distance = (tile.get(token, i % 32) - f64::from(*x)).abs();
            // Half a step, or what is next to 0.
            let bound = 0.501 * f64::from(tile.scale(token)) + 4e-37;
            assert!(distance <= bound, "{name}: {x} became {}", tile.get(token, i % 32));
        }
    }
}

/// Several seeds under Miri, as for activations.
#[test]
fn nan_and_infinity_remain_in_tiles() {
    for isa in Supported::all() {
        let quantized = |x: &[f32]| {
            let mut tile = vec![ActivationTile::ZERO; 2];
            quantize_tile(isa, x, &mut tile).unwrap();
            tile
        };
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = ramp(128, 4);
            x[64 + 37] = bad;
            let tile = quantized(&x);
            assert!(tile[1].scale(1).is_nan(), "{bad} got lost in {}", isa.isa());
            // What such activations are multiplied by is no number, but finite.
            assert!((0..32).all(|i| tile[0].get(1, i).is_finite()), "{bad}, {}", isa.isa());
            assert!([tile[0].scale(0), tile[0].scale(1), tile[1].scale(0)].iter().all(|s| s.is_finite()));
        }
    }
}

#[test]
fn lengths_are_checked() {
    // Lengths are checked before a kernel is called: Miri takes two formats.
    let here = |format: &&&Format| !cfg!(miri) || ["Q4_0", "Q4_K"].contains(&format.name);
    let formats = FORMATS.iter().filter(here);
    for (&format, isa) in formats.flat_map(|format| Supported::all().map(move |isa| (format, isa))) {
        let kernels = format.kernels(isa);
        let a = vec![ActivationBlock::ZERO; format.block_len / 32];
        let row = vec![0; format.block_bytes];
        let mut y = [0.0; 2];
        assert!(kernels.dot(&row[1..], &a).is_err());
        assert!(kernels.gemv(&row, &a, &mut y).is_err());
        for (matrix, activations, vectors, y) in [
            (&row[1..], &a[..], 1, 1),
            (&row[1..], &[&a[..], &a].concat(), 2, 2),
            (&row, &[&a[..], &a].concat(), 2, 3),
            (&row, &[&a[..], &a].concat(), 0, 2),
        ] {
            let result = kernels.gemv_several(matrix, activations, vectors, &mut vec![0.0; y]);
            assert!(result.is_err(), "{} {vectors} vectors, {y} products", format.name);
        }
        assert!(kernels.dequantize(&row, &mut vec![0.0; format.block_len + 1]).is_err());
        assert!(kernels.quantize(&vec![0.0; format.block_len], &mut []).is_err());
        let tile = vec![ActivationTile::ZERO; format.block_len / 32];
        let gemm = |matrix: &[u8], rows, tiles: &[_], tokens| {
            kernels.gemm(matrix, rows, tiles, tokens, &mut Panels::default(), |_, _, _| ()).is_ok()
        };
        assert!(gemm(&row, 1, &tile, 12) && gemm(&[], 0, &tile, 12) && gemm(&[], 3, &[], 0));
        for (matrix, rows, tiles, tokens) in [
            (&row[1..], 1, &tile[..], 1),
            (&row, 2, &tile, 1),
            (&row, 1, &tile, 13 + 12 * tile.len()),
            (&row, 1, &[], 1),
        ] {
            assert!(!gemm(matrix, rows, tiles, tokens), "{} rows, {tokens} tokens", rows);
        }
        assert!(quantize_tile(isa, &[0.0; 33], &mut [ActivationTile::ZERO]).is_err());
        assert!(quantize_tile(isa, &[0.0; 32 * 13], &mut [ActivationTile::ZERO]).is_err());
        assert_eq!(kernels.dot(&[], &[]), Ok(0.0));
        assert_eq!(kernels.gemv(&[], &[], &mut y), Ok(()));
        assert_eq!(y, [0.0; 2], "a matrix without columns gives zeros");
    }
}

/// What an operation gives, or its error.
type Outcome = Result<Vec<f32>, String>;

/// Edges of every operation with blocks of 32 weights in 18 bytes: nothing at all, nothing of one dimension, and sizes
/// whose products no memory holds.
#[test]
fn edges_give_a_result_or_an_error_of_the_operation() {
    fn outcome(y: Vec<f32>, result: Result<(), impl ToString>) -> Outcome {
        result.map(|()| y).map_err(|error| error.to_string())
    }
    let dot = |row: usize, activations: usize| {
        move |kernels: Kernels| {
            let y = kernels.dot(&vec![0; row], &vec![ActivationBlock::ZERO; activations]);
            y.map(|y| vec![y]).map_err(|error| error.to_string())
        }
    };
    let gemv = |matrix: usize, activations: usize, y: usize| {
        move |kernels: Kernels| {
            let mut y = vec![f32::NAN; y];
            let result = kernels.gemv(&vec![0; matrix], &vec![ActivationBlock::ZERO; activations], &mut y);
            outcome(y, result)
        }
    };
    let several = |matrix: usize, activations: usize, vectors: usize, y: usize| {
        move |kernels: Kernels| {
            let (a, mut y) = (vec![ActivationBlock::ZERO; activations], vec![f32::NAN; y]);
            let result = kernels.gemv_several(&vec![0; matrix], &a, vectors, &mut y);
            outcome(y, result)
        }
    };
    let gemm = |matrix: usize, rows: usize, tiles: usize, tokens: usize| {
        move |kernels: Kernels| {
            let (tiles, mut y) = (vec![ActivationTile::ZERO; tiles], Vec::new());
            let store = |_, _, outputs: &[f32]| y.extend(outputs);
            let result = kernels.gemm(&vec![0; matrix], rows, &tiles, tokens, &mut Panels::default(), store);
            outcome(y, result)
        }
    };
    let dequantize = |blocks: usize, weights: usize| {
        move |kernels: Kernels| {
            let mut y = vec![f32::NAN; weights];
            let result = kernels.dequantize(&vec![0; blocks], &mut y);
            outcome(y, result)
        }
    };
    let quantize = |weights: usize, blocks: usize| {
        move |kernels: Kernels| {
            let mut bytes = vec![0; blocks];
            let result = kernels.quantize(&vec![0.0; weights], &mut bytes);
            outcome(bytes.into_iter().map(f32::from).collect(), result)
        }
    };
    let weighted = |weights: usize, importance: usize, blocks: usize| {
        move |kernels: Kernels| {
            let mut bytes = vec![0; blocks];
            let result = kernels.quantize_weighted(&vec![0.0; weights], &vec![1.0; importance], &mut bytes);
            outcome(bytes.into_iter().map(f32::from).collect(), result)
        }
    };
    const MOST: usize = usize::MAX;
    type Case<'a> = (&'a str, &'a dyn Fn(Kernels) -> Outcome, Result<usize, &'a str>);
    // How many zeros come out, or the end of the error.
    #[rustfmt::skip]
    let cases: &[Case] = &[
        ("dot, nothing", &dot(0, 0), Ok(1)),
        ("dot, no columns, but a row", &dot(18, 0), Err("dot: row has length 18, expected 0")),
        ("dot, no row", &dot(0, 1), Err("dot: row has length 0, expected 18")),
        ("gemv, nothing", &gemv(0, 0, 0), Ok(0)),
        ("gemv, no columns", &gemv(0, 0, 9), Ok(9)),
        ("gemv, no rows", &gemv(0, 1, 0), Ok(0)),
        ("gemv, no columns, but a matrix", &gemv(18, 0, 1), Err("gemv: matrix has length 18, expected 0")),
        ("gemv, no matrix", &gemv(0, 2, 3), Err("gemv: matrix has length 0, expected 108")),
        ("no vectors", &several(0, 0, 0, 0), Ok(0)),
        ("no vectors, any matrix", &several(18, 0, 0, 0), Ok(0)),
        ("no vectors, but activations", &several(0, 1, 0, 0), Err("gemv_several: activations has length 1, expected 0")),
        ("no vectors, but outputs", &several(0, 0, 0, 1), Err("gemv_several: y has length 1, expected 0")),
        ("one vector, no columns", &several(0, 0, 1, 8), Ok(8)),
        ("one vector, no matrix", &several(0, 1, 1, 8), Err("gemv_several: matrix has length 0, expected 144")),
        ("two vectors, no columns", &several(0, 0, 2, 16), Ok(16)),
        ("two vectors, no columns, 1 row", &several(0, 0, 2, 2), Ok(2)),
        ("two vectors, no columns, but a matrix", &several(18, 0, 2, 2), Err("gemv_several: matrix has length 18, expected 0")),
        ("two vectors, no rows", &several(0, 2, 2, 0), Ok(0)),
        ("five vectors, no columns", &several(0, 0, 5, 40), Ok(40)),
        ("more vectors than memory", &several(0, 0, MOST, 0), Ok(0)),
        ("more vectors than outputs", &several(0, 0, MOST, 1), Err("gemv_several: y has length 1, expected {MOST}")),
        ("gemm, nothing", &gemm(0, 0, 0, 0), Ok(0)),
        ("gemm, no tokens", &gemm(0, 3, 0, 0), Ok(0)),
        ("gemm, no tokens, any matrix", &gemm(18, MOST, 0, 0), Ok(0)),
        ("gemm, no tokens, but a tile", &gemm(18, 1, 1, 0), Err("gemm: tiles has length 1, expected 0")),
        ("gemm, no columns", &gemm(0, 3, 0, 2), Ok(6)),
        ("gemm, no columns, but a matrix", &gemm(18, 1, 0, 2), Err("gemm: matrix has length 18, expected 0")),
        ("gemm, no rows", &gemm(0, 0, 1, 2), Ok(0)),
        ("gemm, no rows, more tokens than memory", &gemm(0, 0, 0, MOST), Ok(0)),
        ("gemm, more rows than memory", &gemm(18, MOST, 1, 1), Err("gemm: matrix has length 18, expected {MOST}")),
        ("gemm, more tokens than tiles", &gemm(18, 1, 1, MOST), Err("gemm: tiles has length 1, expected 0")),
        ("dequantize, nothing", &dequantize(0, 0), Ok(0)),
        ("dequantize, no weights", &dequantize(18, 0), Err("dequantize: blocks has length 18, expected 0")),
        ("dequantize, no blocks", &dequantize(0, 32), Err("dequantize: blocks has length 0, expected 18")),
        ("dequantize, no whole block", &dequantize(18, 31), Err("dequantize: weights has length 31, expected 32")),
        ("quantize, nothing", &quantize(0, 0), Ok(0)),
        ("quantize, no weights", &quantize(0, 18), Err("quantize: blocks has length 18, expected 0")),
        ("quantize, no blocks", &quantize(32, 0), Err("quantize: blocks has length 0, expected 18")),
        ("quantize, no whole block", &quantize(33, 18), Err("quantize: weights has length 33, expected 32")),
        ("weighted, nothing", &weighted(0, 0, 0), Ok(0)),
        ("weighted, no weights", &weighted(0, 32, 0), Ok(0)),
        ("weighted, no importance", &weighted(32, 0, 18), Err("quantize_weighted: weights has length 32, expected 0")),
        ("weighted, no whole block", &weighted(64, 33, 36), Err("quantize_weighted: importance has length 33, expected 32")),
        ("weighted, no whole row", &weighted(32, 64, 18), Err("quantize_weighted: weights has length 32, expected 64")),
    ];
    for isa in Supported::all() {
        for &(name, operation, expected) in cases {
            let outcome = operation(Q4_0::FORMAT.kernels(isa));
            let expected = match expected {
                Ok(zeros) => Ok(vec![0.0; zeros]),
                Err(end) => Err(format!("Q4_0 {}", end.replace("{MOST}", &MOST.to_string()))),
            };
            assert_eq!(outcome, expected, "{name}, {}", isa.isa());
        }
    }
    assert_eq!(Q8_0::FORMAT.bytes_for(MOST), MOST);
    assert_eq!(ActivationTile::count(MOST, MOST), MOST);
}

#[test]
fn activations_by_hand_have_codes_that_kernels_take() {
    let (multiples, unit) = ([1, 2, 3, 4, 5, 6, 7, 255], 0.5);
    let scales = [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 127.5];
    for i in 0..32 {
        let mut q = [127; 32];
        q[i] = -128;
        assert_eq!(ActivationBlock::new(q, multiples, unit), None, "-128 at {i}");
        q[i] = -127;
        let block = ActivationBlock::new(q, multiples, unit).unwrap();
        assert_eq!((block.codes(), block.scales()), (&q, &scales));
        assert_eq!((block.multiples(), block.unit()), (&multiples, unit));
        for (lane, sum) in block.sums().iter().enumerate() {
            assert_eq!(*sum, if lane == i / 4 { 3 * 127 - 127 } else { 4 * 127 }, "-127 at {i}, lane {lane}");
        }
    }
    let of_bits = |bits: i32| 1.0 + 2.0_f32.powi(1 - bits);
    assert!(ActivationBlock::new([1; 32], multiples, of_bits(14)).is_some(), "a unit of 14 bits");
    assert_eq!(ActivationBlock::new([1; 32], multiples, of_bits(15)), None, "a unit of 15 bits");
}

#[test]
fn activations_of_a_block_have_one_unit() {
    const COLS: usize = 512;
    // Four runs, each of another unit.
    let x: Vec<f32> = ramp(1024, 6).iter().enumerate().map(|(i, x)| x * (1 + i / 256) as f32).collect();
    let few = ["Q4_0", "Q6_K", "Quarter"];
    let here = |format: &&Format| !cfg!(miri) || few.contains(&format.name);
    let mut refused = Vec::new();
    for format in FORMATS.iter().copied().chain([Quarter::FORMAT]).filter(here) {
        let row = any_blocks(format, COLS / format.block_len);
        let mut weights = vec![f32::NAN; COLS];
        format.kernels(Supported::new(Isa::Scalar).unwrap()).dequantize(&row, &mut weights).unwrap();
        for isa in Supported::all() {
            let kernels = format.kernels(isa);
            let a = activations(isa, &x);
            let [whole, middle] = [&a[8..24], &a[4..20]];
            for (name, slice) in [("runs", whole), ("two quarters", &a[2..18]), ("halves", middle)] {
                let case = format!("{} on {}, {name}", format.name, isa.isa());
                let mut y = [f32::NAN];
                if format.one_unit && format.block_len == 256 && name != "runs" {
                    let index = if name == "halves" { 4 } else { 6 };
                    let error = |operation, before| {
                        let (index, first) = (before + index, before);
                        ProductError::Units { format: format.name, operation, index, first, block_len: 256 }
                    };
                    assert_eq!(kernels.dot(&row, slice), Err(error("dot", 0)), "{case}");
                    assert_eq!(kernels.gemv(&row, slice, &mut y), Err(error("gemv", 0)), "{case}");
                    let several = kernels.gemv_several(&row, &[whole, slice].concat(), 2, &mut [0.0; 2]);
                    assert_eq!(several, Err(error("gemv_several", 16)), "{case}");
                    refused.push(format.name);
                    continue;
                }
                kernels.gemv(&row, slice, &mut y).expect(&case);
                let (expected, margin) = exact_dot(&weights, slice);
                assert!(
                    (f64::from(y[0]) - expected).abs() <= margin,
                    "{case}: {}, expected {expected} ± {margin}",
                    y[0]
                );
                assert_eq!(kernels.dot(&row, slice), Ok(y[0]), "{case}");
                let mut both = [f32::NAN; 2];
                kernels.gemv_several(&row, &[slice, slice].concat(), 2, &mut both).expect(&case);
                assert_eq!(both, [y[0]; 2], "{case}");
            }
        }
    }
    refused.dedup();
    let expected: &[_] = if cfg!(miri) { &["Q6_K"] } else { &["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"] };
    assert_eq!(refused, expected);
}

#[test]
fn activations_by_hand_have_one_unit_to_a_block() {
    let block = |unit| ActivationBlock::new([1; 32], [2; 8], unit).unwrap();
    for isa in Supported::all() {
        let (of_64, of_32) = (Quarter::FORMAT.kernels(isa), Q4_0::FORMAT.kernels(isa));
        let (row_of_64, row_of_32) = ([0; 2 * 36], [0; 4 * 18]);
        let dot = |units: [f32; 4]| of_64.dot(&row_of_64, &units.map(block));
        assert_eq!(dot([0.5, 0.5, 0.25, 0.25]), Ok(0.0));
        assert!(dot([f32::NAN; 4]).unwrap().is_nan(), "activations with NaN");
        for (units, index) in [([0.5, 0.25, 0.5, 0.5], 1), ([0.5, 0.5, 0.25, 0.5], 3)] {
            let error = dot(units).unwrap_err();
            let ProductError::Units { operation, index: found, first, .. } = error else {
                panic!("{error}");
            };
            assert_eq!((operation, found, first), ("dot", index, index - 1));
            assert_eq!(of_32.dot(&row_of_32, &units.map(block)), Ok(0.0));
        }
        let error = dot([0.5, 0.5, 0.5, 0.25]).unwrap_err().to_string();
        assert_eq!(
            error,
            "Quarter dot: activations[3] has another unit than activations[2], which is multiplied with the same block \
             of 64 weights. Quantize each vector whole, by quantize_activations, and begin a slice of it at a multiple \
             of 256 activations, 32 to an ActivationBlock"
        );
    }
}

#[test]
fn formats_by_hand_fit_their_kernels() {
    let parts = || FormatParts { name: "Hand", ..*Q4_0::FORMAT.parts() };
    let panel = || parts().panel.unwrap();
    let cases = [
        ("no weights", FormatParts { block_len: 0, ..parts() }),
        ("no multiple of 32", FormatParts { block_len: 48, ..parts() }),
        ("no bytes", FormatParts { block_bytes: 0, ..parts() }),
        ("longer than its kernels'", FormatParts { block_len: 64, ..parts() }),
        ("larger than its kernels'", FormatParts { block_bytes: 19, ..parts() }),
        ("kernels of others", FormatParts { variants: Q8_0::FORMAT.variants, ..parts() }),
        ("one unit for two runs", FormatParts { block_len: 512, one_unit: true, variants: &[], ..parts() }),
        ("a number outside", FormatParts { block_bytes: 1, variants: &[], ..parts() }),
        ("no groups", FormatParts { panel: Some(PanelFormat { groups: 0, ..panel() }), ..parts() }),
        ("three groups", FormatParts { panel: Some(PanelFormat { groups: 3, ..panel() }), ..parts() }),
    ];
    assert_eq!(Format::new(parts()).name, "Hand");
    for (name, parts) in cases {
        std::panic::catch_unwind(|| Format::new(parts)).expect_err(name);
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
