//! What each kernel must hold. Nothing here knows the macro.

use proptest::prelude::*;
use quantloom_kernels::gemm::{ActivationTile, Panels, TOKENS, quantize_tile};
use quantloom_kernels::{ActivationBlock, Kernels, Supported};

use super::Weight;
use super::inputs::{Activations, Bytes, INPUTS, Input, Inputs, RANDOM, full, wave};
use super::number::Level;
use super::random;

/// A check tells of the first case that fails.
type Check = fn(&Inputs, Supported, u64) -> Result<(), String>;

/// The operations that each instruction set has kernels for.
pub const KERNELS: &[(&str, Check)] =
    &[("dot", dot), ("gemv", gemv), ("gemm", gemm), ("dequantize", dequantize)];

/// A dot product of every block count from 1 to 70, of all inputs, of model widths, and of random rows.
fn dot(inputs: &Inputs, isa: Supported, seed: u64) -> Result<(), String> {
    exact_sums(inputs, isa)?;
    let kernels = inputs.subject.format.kernels(isa);
    let check = |input: &Input, blocks: usize, seed| {
        let a = inputs.activations(isa, blocks, input.activations);
        let row = inputs.blocks(blocks, seed, input.numbers, input.bytes);
        let y = kernels.dot(&row, &a).expect("shapes fit");
        inputs.check_close(y, &row, &a, || format!("{}, {blocks} blocks", input.name))
    };
    let [random_blocks, others] = inputs.shapes.dot;
    for input in INPUTS {
        for &blocks in if input.name == RANDOM.name { random_blocks } else { others } {
            check(input, blocks, seed)?;
        }
    }
    for blocks in inputs.model_blocks() {
        check(&Input { name: "model width", ..RANDOM }, blocks, seed)?;
    }
    let strategy = (any::<u64>(), 1..70_usize, -20..12_i32);
    random::cases(inputs.shapes.cases, seed, strategy, |(seed, blocks, exponent)| {
        check(&Input { numbers: Level::Random(2_f32.powi(exponent)), ..RANDOM }, blocks, seed)
    })
}

/// Matrices with any number of rows; each row gives what `dot` gives, to the bit.
fn gemv(inputs: &Inputs, isa: Supported, seed: u64) -> Result<(), String> {
    let format = inputs.subject.format;
    let kernels = format.kernels(isa);
    let check = |input: &Input, (rows, blocks): (usize, usize), seed| {
        let a = inputs.activations(isa, blocks, input.activations);
        let matrix = inputs.blocks(rows * blocks, seed, input.numbers, input.bytes);
        let mut y = vec![f32::NAN; rows];
        kernels.gemv(&matrix, &a, &mut y).expect("shapes fit");
        for (r, row) in matrix.chunks_exact(blocks * format.block_bytes).enumerate() {
            let case = || format!("{}, row {r} of {rows}, {blocks} blocks", input.name);
            inputs.check_close(y[r], row, &a, case)?;
            let dot = kernels.dot(row, &a).expect("shapes fit");
            if y[r].to_bits() != dot.to_bits() {
                return Err(format!("{}: {:e}, but dot gives {dot:e}", case(), y[r]));
            }
        }
        several(inputs, &kernels, input.name, (rows, blocks), &matrix, &a)
    };
    for input in INPUTS {
        for &shape in inputs.shapes.gemv {
            check(input, shape, seed)?;
        }
    }
    for blocks in inputs.model_blocks() {
        check(&Input { name: "model width", ..RANDOM }, (5, blocks), seed)?;
    }
    let strategy = (any::<u64>(), 1..20_usize, 1..12_usize);
    random::cases(inputs.shapes.cases, seed, strategy, |(seed, rows, blocks)| {
        check(&Input { numbers: Level::Random(0.5), ..RANDOM }, (rows, blocks), seed)
    })
}

/// Several vectors at once give what `gemv` gives for each, to the bit.
fn several(
    inputs: &Inputs,
    kernels: &Kernels,
    name: &str,
    (rows, blocks): (usize, usize),
    matrix: &[u8],
    a: &[ActivationBlock],
) -> Result<(), String> {
    let counts = inputs.shapes.vectors;
    // The same vector, each run with one unit begun further on each time.
    let turned = |t| {
        let runs = a.chunks(ActivationBlock::RUN / ActivationBlock::LEN);
        runs.flat_map(move |run| run.iter().cycle().skip(t).take(run.len()).copied()).collect()
    };
    let vectors: Vec<Vec<_>> = (0..counts.last().copied().unwrap_or(0)).map(turned).collect();
    let expected: Vec<Vec<f32>> = vectors
        .iter()
        .map(|vector| {
            let mut y = vec![f32::NAN; rows];
            kernels.gemv(matrix, vector, &mut y).expect("shapes fit");
            y
        })
        .collect();
    for &count in counts {
        let all = vectors[..count].concat();
        let mut y = vec![f32::NAN; count * rows];
        kernels.gemv_several(matrix, &all, count, &mut y).expect("shapes fit");
        for (i, (y, expected)) in y.iter().zip(expected.iter().flatten()).enumerate() {
            if y.to_bits() != expected.to_bits() {
                return Err(format!(
                    "{name}, vector {} of {count}, row {} of {rows}, {blocks} blocks: {y:e}, but gemv gives {expected:e}",
                    i / rows,
                    i % rows
                ));
            }
        }
    }
    Ok(())
}

/// Rows that are no multiple of a panel's, or of the panels that share a tile, and tokens that fill no tile.
fn gemm(inputs: &Inputs, isa: Supported, seed: u64) -> Result<(), String> {
    let cols_of = |blocks: usize| blocks * inputs.subject.format.block_len;
    let spike = |i: usize| if i % 32 == 5 { [900.0, -900.0][i / 32 % 2] } else { wave(i) };
    let check = |input: &Input, shape, seed| {
        // Of one sign they have codes and zero points at one end, of both signs codes at both.
        let x = |i: usize| match input.activations {
            Activations::Wave => wave(i),
            Activations::Full(pattern) | Activations::FullScaled(pattern) if pattern >> (i % 32) & 1 == 0 => {
                127.0
            }
            Activations::Full(_) | Activations::FullScaled(_) => -127.0,
        };
        product(inputs, isa, input, shape, seed, x)
    };
    let [plain, spiked] = inputs.shapes.gemm;
    for input in INPUTS {
        for &shape in plain {
            check(input, shape, seed)?;
        }
        // One activation of each 32 far from the others, to either side: zero points at both ends.
        for &shape in spiked {
            product(inputs, isa, input, shape, seed, spike)?;
        }
    }
    for blocks in inputs.model_blocks() {
        check(&Input { name: "model width", ..RANDOM }, (5, 3, blocks), seed)?;
    }
    product(inputs, isa, &Input { name: "activations of 0", ..RANDOM }, (18, 14, 2), seed, |_| 0.0)?;
    // No more columns than that, for large blocks.
    let most = (4 * 384_usize).div_ceil(cols_of(1)).clamp(1, 4);
    let strategy = (any::<u64>(), 1..40_usize, 1..30_usize, 1..=most);
    random::cases(inputs.shapes.cases, seed, strategy, |(seed, rows, tokens, blocks)| {
        check(&Input { numbers: Level::Random(0.5), ..RANDOM }, (rows, tokens, blocks), seed)
    })
}

/// A product of a matrix with activations `x`, each column of each token counted.
fn product(
    inputs: &Inputs,
    isa: Supported,
    input: &Input,
    (rows, tokens, blocks): (usize, usize, usize),
    seed: u64,
    x: impl Fn(usize) -> f32,
) -> Result<(), String> {
    let format = inputs.subject.format;
    let cols = blocks * format.block_len;
    let x: Vec<f32> = (0..tokens * cols).map(x).collect();
    let mut tiles = vec![ActivationTile::ZERO; ActivationTile::count(tokens, cols)];
    for (x, tile) in x.chunks(TOKENS * cols).zip(tiles.chunks_mut(cols / 32)) {
        quantize_tile(isa, x, tile).expect("shapes fit");
    }
    let matrix = inputs.blocks(rows * blocks, seed, input.numbers, input.bytes);
    let mut y = vec![f32::NAN; tokens * rows];
    let store = |token: usize, row: usize, values: &[f32]| {
        y[token * rows + row..][..values.len()].copy_from_slice(values);
    };
    let mut panels = Panels::default();
    format.kernels(isa).gemm(&matrix, rows, &tiles, tokens, &mut panels, store).expect("shapes fit");
    for (r, row) in matrix.chunks_exact(blocks * format.block_bytes).enumerate() {
        let weights = inputs.subject.weights_of(row);
        for t in 0..tokens {
            let case =
                || format!("{}, row {r} of {rows}, token {t} of {tokens}, {blocks} blocks", input.name);
            let tile = |i: usize| &tiles[t / TOKENS * (cols / 32) + i / 32];
            // What a tile keeps of the activations is what it multiplies.
            let kept = (0..cols).map(|i| tile(i).get(t % TOKENS, i % 32));
            let steps = (0..cols).map(|i| f64::from(tile(i).scale(t % TOKENS)));
            for ((i, kept), step) in kept.clone().enumerate().zip(steps.clone()) {
                let distance = (kept - f64::from(x[t * cols + i])).abs();
                let is_near = distance <= 0.501 * step;
                if !is_near {
                    return Err(format!("{}: activation {i} is kept as {kept:e}", case()));
                }
            }
            // Each of two groups to 32 weights is added up as 2⁻²³ of itself, and before as much of it without
            // the activations' scale. A minimum is kept as 2⁻²³ of itself.
            let of_products: f64 = steps.step_by(32).map(|step| 2.0 * (1.0 + step)).sum();
            let of_minima: f64 = kept.clone().map(f64::abs).sum();
            let lost = of_products + of_minima + inputs.lost(cols / 32);
            check_close_to(y[t * rows + r], &weights, kept, cols / 32, lost, case)?;
        }
    }
    Ok(())
}

/// Weights are the formula in f32, to the bit: each step rounds, as ggml's does. Where a product of a block's numbers has
/// no more bits than an f32, its product with a number of the group rounds once, as the conversion of the exact product does;
/// where it has more bits, or is so small that it loses some, the steps in which it is multiplied may round, too.
fn dequantize(inputs: &Inputs, isa: Supported, seed: u64) -> Result<(), String> {
    let format = inputs.subject.format;
    for input in INPUTS {
        for blocks in [1, 2, 3, 7, 70] {
            let blocks = inputs.blocks(blocks, seed, input.numbers, input.bytes);
            let mut weights = vec![f32::NAN; blocks.len() / format.block_bytes * format.block_len];
            format.kernels(isa).dequantize(&blocks, &mut weights).expect("shapes fit");
            let expected = inputs.subject.weights_of(&blocks);
            for (e, (w, Weight { scale, code, minimum })) in weights.iter().zip(expected).enumerate() {
                let exact = scale as f32 * code as f32 + minimum as f32;
                let magnitude = (scale * f64::from(code)).abs() + minimum.abs();
                let distance = (f64::from(*w) - (scale * f64::from(code) + minimum)).abs();
                let is_close = *w == exact
                    || (inputs.rounds_early([scale, minimum])
                        && distance <= 4.0 * f64::from(f32::EPSILON) * magnitude + LEAST);
                if !is_close {
                    return Err(format!(
                        "{}: weight {e} of {} is {w:e}, not {exact:e}",
                        input.name,
                        weights.len()
                    ));
                }
            }
        }
    }
    Ok(())
}

/// What a product below the normal f32 may lose, multiplied with a number of a group and a code of 8 bits each.
const LEAST: f64 = f32::MIN_POSITIVE as f64 / 128.0;

/// With numbers of 1, and an activation scale of 1 for a single lane and 0 for all others, the result is that
/// lane's integer sum times its small scale code, and its minimum: where an f32 holds both, it is equal to the last bit, and
/// so the integer sum is.
fn exact_sums(inputs: &Inputs, isa: Supported) -> Result<(), String> {
    let kernels = inputs.subject.format.kernels(isa);
    // Of a long block one lane of each `apart`, others with each pattern and bytes: each costs a product of the whole block.
    let apart = inputs.subject.format.block_len.div_ceil(1024);
    let mut round = 0;
    for bytes in [0x00, 0xFF, 0x80, 0x7F].map(Bytes::All).into_iter().chain([Bytes::Random]) {
        let block = inputs.blocks(1, 3, Level::One, bytes);
        let weights = inputs.subject.weights_of(&block);
        for (pattern, code) in [(0, 127), (u32::MAX, 127), (0xAAAA_AAAA, 127), (0x5A0F_3371, 93)] {
            let silent = full(pattern, code, [0; 8], 1.0);
            let mut a = vec![silent; weights.len() / ActivationBlock::LEN];
            let first = (round + round / 4) % apart;
            round += 1;
            for (lane, weights) in weights.chunks_exact(4).enumerate().skip(first).step_by(apart) {
                let (chunk, within) = (lane / 8, lane % 8);
                a[chunk] = full(pattern, code, std::array::from_fn(|i| u8::from(i == within)), 1.0);
                let sum = |part: fn(&Weight) -> f64| -> f64 {
                    weights
                        .iter()
                        .zip(&silent.codes()[4 * within..])
                        .map(|(w, q)| part(w) * f64::from(*q))
                        .sum()
                };
                let parts = [sum(|w| w.scale * f64::from(w.code)), sum(|w| w.minimum)];
                let expected = parts[0] + parts[1];
                let y = f64::from(kernels.dot(&block, &a).expect("shapes fit"));
                let is_f32 = |value: &f64| f64::from(*value as f32) == *value;
                let is_equal = if parts.iter().chain([&expected]).all(is_f32) {
                    y == expected
                } else {
                    let magnitude = parts[0].abs() + parts[1].abs();
                    (y - expected).abs() <= 2.0 * f64::from(f32::EPSILON) * magnitude
                };
                if !is_equal {
                    return Err(format!(
                        "the sum of lane {lane}, activations of ±{code} by {pattern:#X}: {y:e}, not {expected:e}"
                    ));
                }
                a[chunk] = silent;
            }
        }
    }
    Ok(())
}

impl Inputs<'_> {
    /// A row's dot product with activations is near that in f64.
    fn check_close(
        &self,
        y: f32,
        row: &[u8],
        a: &[ActivationBlock],
        case: impl Fn() -> String,
    ) -> Result<(), String> {
        let weights = self.subject.weights_of(row);
        let x =
            a.iter().flat_map(|a| (0..32).map(|i| f64::from(a.codes()[i]) * f64::from(a.scales()[i / 4])));
        check_close_to(y, &weights, x, a.len(), 1.0 + self.lost(a.len()), case)
    }

    /// How many of the least normal numbers `chunks` chunks of 32 weights may lose where products of scales fall below these:
    /// up to 2⁻¹⁵⁰ each, multiplied with a number of a group of up to 2⁷ and with the sum of a lane of up to
    /// 4 · 127 · 128 < 2¹⁶, in each of eight lanes.
    fn lost(&self, chunks: usize) -> f64 {
        if self.is_wide() { 4.0 * chunks as f64 } else { 0.0 }
    }
}

/// |y − y*| ≤ c · ε · Σ|w·x|, with y* in f64. Integer sums are exact, so what rounds is, per chunk of 32
/// weights: a few products of scales, one fused multiply-add (with a minimum two) into one of
/// eight partial sums, and in the end a tree of three additions. With n chunks a partial sum rounds n (2n)
/// times, each time by at most ε/2 of what has been summed so far, products of scales by ε/2 of one term
/// each: c = 2n + 8 covers it. So it does a `gemm`, whose one sum rounds up to 4n times, for the products and
/// minima of two groups, and blocks that are summed in integers, where fewer steps round. Below the normal numbers
/// rounding is no share of the value: `lost` of the least of them may be.
fn check_close_to(
    y: f32,
    weights: &[Weight],
    x: impl Iterator<Item = f64>,
    chunks: usize,
    lost: f64,
    case: impl Fn() -> String,
) -> Result<(), String> {
    let (mut exact, mut magnitude) = (0.0, 0.0);
    for (Weight { scale, code, minimum }, x) in weights.iter().zip(x) {
        exact += (scale * f64::from(*code) + minimum) * x;
        // Product and minimum are added up one after the other: both round.
        magnitude += ((scale * f64::from(*code)).abs() + minimum.abs()) * x.abs();
    }
    let c = (2 * chunks + 8) as f64;
    let bound = c * f64::from(f32::EPSILON) * magnitude + lost * f64::from(f32::MIN_POSITIVE);
    let distance = (f64::from(y) - exact).abs();
    // False of what is no number.
    let is_close = distance <= bound;
    if is_close {
        Ok(())
    } else {
        Err(format!("{}: {y:e} is {distance:e} from {exact:e}, more than {bound:e}", case()))
    }
}
