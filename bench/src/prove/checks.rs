//! What each operation must hold, as tables of inputs. Nothing here knows the macro.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use quantloom_kernels::gemm::{ActivationTile, Panels, TOKENS, quantize_tile};
use quantloom_kernels::{ActivationBlock, Kernels, Supported, bf16, f16, quantize_activations};

use super::{Number, Subject, Weight};

/// A check panics with the name of the case that failed.
type Check = fn(&Subject, Supported, u64);

/// The operations that each instruction set has kernels for.
pub const KERNELS: &[(&str, Check)] =
    &[("dot", dot), ("gemv", gemv), ("gemm", gemm), ("dequantize", dequantize)];

/// The numbers of a block, as f16.
#[derive(Clone, Copy)]
enum Halves {
    /// Uniform up to a magnitude.
    Random(f32),
    /// All the same bits.
    Bits(u16),
}

/// The other bytes of a block.
#[derive(Clone, Copy)]
enum Bytes {
    Random,
    /// All the same: 0x00 and 0xFF hold the codes at both ends, 0x80 and 0x7F those of signed bytes.
    All(u8),
}

#[derive(Clone, Copy)]
enum Activations {
    /// Of many magnitudes, quantized.
    Wave,
    /// 127, whose sign changes with each activation at a bit of this pattern.
    Full(u32),
}

use Activations::{Full, Wave};
use Bytes::All;
use Halves::Bits;

const INPUTS: &[(&str, Halves, Bytes, Activations)] = &[
    ("random", Halves::Random(0.05), Bytes::Random, Wave),
    ("scales of 0", Bits(0x0000), Bytes::Random, Wave),
    ("scales of -0", Bits(0x8000), Bytes::Random, Wave),
    ("the largest scales", Bits(0x7BFF), Bytes::Random, Wave),
    ("the lowest scales", Bits(0xFBFF), Bytes::Random, Wave),
    ("the smallest subnormal scales", Bits(0x0001), Bytes::Random, Wave),
    ("the largest subnormal scales", Bits(0x83FF), Bytes::Random, Wave),
    ("lowest codes", Halves::Random(0.05), All(0x00), Wave),
    ("highest codes", Halves::Random(0.05), All(0xFF), Wave),
    ("lowest signed codes", Halves::Random(0.05), All(0x80), Wave),
    ("highest signed codes", Halves::Random(0.05), All(0x7F), Wave),
    ("activations of 127", Halves::Random(0.05), Bytes::Random, Full(0)),
    ("activations of -127", Halves::Random(0.05), Bytes::Random, Full(u32::MAX)),
    ("activations of ±127, highest codes", Halves::Random(0.05), All(0xFF), Full(0xAAAA_AAAA)),
    ("activations of -127, lowest signed codes", Halves::Random(0.05), All(0x80), Full(u32::MAX)),
];

/// Row lengths of real models: SmolLM2's hidden state and feed-forward layer, then TinyLlama's.
const WIDTHS: [usize; 4] = [576, 1536, 2048, 5632];

/// A dot product of every block count from 1 to 70, of all inputs, of model widths, and of random rows.
fn dot(subject: &Subject, isa: Supported, seed: u64) {
    exact_sums(subject, isa);
    let check = |name: &str, blocks: usize, seed, halves, bytes, a: &[ActivationBlock]| {
        let row = subject.random_blocks(blocks, seed, halves, bytes);
        let y = subject.format.kernels(isa).dot(&row, a).expect("shapes fit");
        subject.check_close(y, &row, a, || format!("{name}, {blocks} blocks"));
    };
    for &(name, halves, bytes, activations) in INPUTS {
        let counts: Vec<usize> = if name == "random" { (1..=70).collect() } else { vec![1, 2, 3, 7, 32, 70] };
        for blocks in counts {
            check(name, blocks, seed, halves, bytes, &subject.activations(isa, blocks, activations));
        }
    }
    for blocks in subject.model_blocks() {
        let a = subject.activations(isa, blocks, Wave);
        check("model width", blocks, seed, Halves::Random(0.05), Bytes::Random, &a);
    }
    random(seed, (any::<u64>(), 1..70_usize, -20..12_i32), |(seed, blocks, exponent)| {
        let a = subject.activations(isa, blocks, Wave);
        check("random", blocks, seed, Halves::Random(2_f32.powi(exponent)), Bytes::Random, &a);
    });
}

/// Matrices whose rows are no multiple of any number of rows that kernels take at once; each row gives what
/// `dot` gives, to the bit.
fn gemv(subject: &Subject, isa: Supported, seed: u64) {
    let kernels = subject.format.kernels(isa);
    let check = |name: &str, (rows, blocks): (usize, usize), seed, halves, bytes, activations| {
        let a = subject.activations(isa, blocks, activations);
        let matrix = subject.random_blocks(rows * blocks, seed, halves, bytes);
        let mut y = vec![f32::NAN; rows];
        kernels.gemv(&matrix, &a, &mut y).expect("shapes fit");
        for (r, row) in matrix.chunks_exact(blocks * subject.format.block_bytes).enumerate() {
            let case = || format!("{name}, row {r} of {rows}, {blocks} blocks");
            subject.check_close(y[r], row, &a, case);
            let dot = kernels.dot(row, &a).expect("shapes fit");
            assert_eq!(y[r].to_bits(), dot.to_bits(), "{}: dot gives another sum", case());
        }
        several(&kernels, name, (rows, blocks), &matrix, &a);
    };
    let fits = |rows, blocks| subject.is_short(rows * blocks, 28_672);
    for &(name, halves, bytes, activations) in INPUTS {
        for rows in [1, 2, 3, 4, 5, 6, 7, 9, 13, 19] {
            for blocks in [1, 2, 3, 5, 8].into_iter().filter(|&blocks| fits(rows, blocks)) {
                check(name, (rows, blocks), seed, halves, bytes, activations);
            }
        }
    }
    for blocks in subject.model_blocks() {
        check("model width", (5, blocks), seed, Halves::Random(0.05), Bytes::Random, Wave);
    }
    random(seed, (any::<u64>(), 1..20_usize, 1..12_usize), |(seed, rows, blocks)| {
        if fits(rows, blocks) {
            check("random", (rows, blocks), seed, Halves::Random(0.5), Bytes::Random, Wave);
        }
    });
}

/// Several vectors at once give what `gemv` gives for each, to the bit.
fn several(
    kernels: &Kernels,
    name: &str,
    (rows, blocks): (usize, usize),
    matrix: &[u8],
    a: &[ActivationBlock],
) {
    // The same vector, begun further on each time.
    let vectors: Vec<Vec<_>> =
        (0..7).map(|t| a.iter().cycle().skip(t).take(a.len()).copied().collect()).collect();
    let expected: Vec<Vec<f32>> = vectors
        .iter()
        .map(|vector| {
            let mut y = vec![f32::NAN; rows];
            kernels.gemv(matrix, vector, &mut y).expect("shapes fit");
            y
        })
        .collect();
    for count in 1..=vectors.len() {
        let all = vectors[..count].concat();
        let mut y = vec![f32::NAN; count * rows];
        kernels.gemv_several(matrix, &all, count, &mut y).expect("shapes fit");
        for (i, (y, expected)) in y.iter().zip(expected.iter().flatten()).enumerate() {
            assert_eq!(
                y.to_bits(),
                expected.to_bits(),
                "{name}, vector {} of {count}, row {} of {rows}, {blocks} blocks: gemv gives another sum",
                i / rows,
                i % rows
            );
        }
    }
}

/// Rows that are no multiple of a panel's, or of the panels that share a tile, and tokens that fill no tile.
fn gemm(subject: &Subject, isa: Supported, seed: u64) {
    let mut panels = Panels::default();
    let mut check =
        |name: &str, (rows, tokens, blocks): (usize, usize, usize), seed, halves, bytes, x: &[f32]| {
            let cols = blocks * subject.format.block_len;
            let x = &x[..tokens * cols];
            let mut tiles = vec![ActivationTile::ZERO; ActivationTile::count(tokens, cols)];
            for (x, tile) in x.chunks(TOKENS * cols).zip(tiles.chunks_mut(cols / 32)) {
                quantize_tile(isa, x, tile).expect("shapes fit");
            }
            let matrix = subject.random_blocks(rows * blocks, seed, halves, bytes);
            let mut y = vec![f32::NAN; tokens * rows];
            let kernels = subject.format.kernels(isa);
            let store = |token: usize, row: usize, values: &[f32]| {
                y[token * rows + row..][..values.len()].copy_from_slice(values);
            };
            kernels.gemm(&matrix, rows, &tiles, tokens, &mut panels, store).expect("shapes fit");
            for (r, row) in matrix.chunks_exact(blocks * subject.format.block_bytes).enumerate() {
                let weights: Vec<_> =
                    row.chunks_exact(subject.format.block_bytes).flat_map(subject.weights).collect();
                for t in 0..tokens {
                    let case =
                        || format!("{name}, row {r} of {rows}, token {t} of {tokens}, {blocks} blocks");
                    // What a tile keeps of the activations is what it multiplies.
                    let kept =
                        (0..cols).map(|i| tiles[t / TOKENS * (cols / 32) + i / 32].get(t % TOKENS, i % 32));
                    let distance = (0..cols)
                        .zip(kept.clone())
                        .map(|(i, kept)| (kept - f64::from(x[t * cols + i])).abs());
                    let steps = (0..cols)
                        .map(|i| f64::from(tiles[t / TOKENS * (cols / 32) + i / 32].scale(t % TOKENS)));
                    let near = |(distance, step): (f64, f64)| distance <= 0.501 * step;
                    assert!(distance.zip(steps.clone()).all(near), "{}", case());
                    // Each of two groups to 32 weights is added up as 2⁻²³ of itself, and before as much of it without
                    // the activations' scale.
                    let lost = steps.step_by(32).map(|step| 2.0 * (1.0 + step)).sum();
                    subject.check_close_to(y[t * rows + r], &weights, kept, cols / 32, lost, case);
                }
            }
        };
    // 40 tokens of the longest rows.
    let most = 40 * WIDTHS[3].max(4 * subject.format.block_len);
    let wave: Vec<f32> =
        (0..most).map(|i| ((i as f64) * 0.7391).sin() as f32 * (1.0 + (i % 7) as f32)).collect();
    // One activation of each 32 far from the others, to either side: zero points at both ends.
    let spikes: Vec<f32> =
        (0..most).map(|i| if i % 32 == 5 { [900.0, -900.0][i / 32 % 2] } else { wave[i] }).collect();
    let fits = |rows, blocks| subject.is_short(rows * blocks, 65_536);
    for &(name, halves, bytes, activations) in INPUTS {
        // Of one sign they have codes and zero points at one end, of both signs codes at both.
        let full = |pattern: u32| {
            (0..wave.len()).map(move |i| if pattern >> (i % 32) & 1 == 0 { 127.0 } else { -127.0 })
        };
        let x: &[f32] = match activations {
            Wave => &wave,
            Full(pattern) => &full(pattern).collect::<Vec<_>>(),
        };
        let shapes = [(1, 1, 1), (16, 12, 1), (17, 13, 2), (33, 5, 3), (70, 3, 2)];
        for shape in shapes.into_iter().filter(|&(rows, _, blocks)| fits(rows, blocks)) {
            check(name, shape, seed, halves, bytes, x);
            check(name, shape, seed, halves, bytes, &spikes);
        }
    }
    for blocks in subject.model_blocks() {
        check("model width", (5, 3, blocks), seed, Halves::Random(0.05), Bytes::Random, &wave);
    }
    let zeros = vec![0.0; most];
    check("activations of 0", (18, 14, 2), seed, Halves::Random(0.05), Bytes::Random, &zeros);
    let shared = std::cell::RefCell::new(check);
    random(seed, (any::<u64>(), 1..40_usize, 1..30_usize, 1..5_usize), |(seed, rows, tokens, blocks)| {
        if fits(rows, blocks) {
            let shape = (rows, tokens, blocks);
            (shared.borrow_mut())("random", shape, seed, Halves::Random(0.5), Bytes::Random, &wave);
        }
    });
}

/// Weights are the formula in f32, to the bit: each step rounds, as ggml's does. A product of scales and the
/// code are exact in f64, so that its conversion is the rounding of that step.
fn dequantize(subject: &Subject, isa: Supported, seed: u64) {
    let format = subject.format;
    for &(name, halves, bytes, _) in INPUTS {
        for blocks in [1, 2, 3, 7, 70] {
            let blocks = subject.random_blocks(blocks, seed, halves, bytes);
            let mut weights = vec![f32::NAN; blocks.len() / format.block_bytes * format.block_len];
            format.kernels(isa).dequantize(&blocks, &mut weights).expect("shapes fit");
            let expected = blocks.chunks_exact(format.block_bytes).flat_map(subject.weights);
            for (e, (w, Weight { scale, code, minimum })) in weights.iter().zip(expected).enumerate() {
                let exact = scale as f32 * code as f32 + minimum as f32;
                assert!(*w == exact, "{name}: weight {e} of {} is {w:e}, not {exact:e}", weights.len());
            }
        }
    }
}

/// A block is nearer to its weights than one of zeros. Where values are a step apart, the root mean square of the
/// deviations is at most 0.8 of the largest scale of the block: half a step for rounding and, where the range of codes is not
/// symmetric, a whole one for those weights that lie beyond its nearer end, which are at most half of them, as the sign of
/// the scale is free: √((1 + ¼) / 2) < 0.8. Single weights may be off by more, where the scale that serves a group best clips its
/// furthest weight. Another 2⁻¹⁰ of the largest weight, since the scale that codes are chosen by is rounded to an f16 (2⁻¹¹)
/// when stored, as is a minimum. Weights are of a size that makes scales normal f16. What was in the blocks does not matter.
pub fn quantize(subject: &Subject, isa: Supported, seed: u64) {
    let format = subject.format;
    // Those of tables and codebooks have gaps, and one for a single weight may be out of reach.
    let any = subject.random_matrix(70, 1, 1.0);
    let mut values: Vec<i32> =
        any.chunks_exact(format.block_bytes).flat_map(subject.weights).map(|weight| weight.code).collect();
    values.sort_unstable();
    let has_gaps = values.windows(2).any(|pair| pair[1] - pair[0] > 1);
    let mut random = Random(seed);
    let mut uniform = || random.next() as f32 / (1_u64 << 31) as f32 - 1.0;
    let mut cases: Vec<(&str, Vec<f32>)> = vec![
        ("zeros", vec![0.0; 2 * format.block_len]),
        ("all the same", vec![0.37; 2 * format.block_len]),
        ("all the same, negative", vec![-11.0; 2 * format.block_len]),
        ("of two signs", (0..2 * format.block_len).map(|i| [0.5, -0.5][i % 2]).collect()),
        ("large", (0..format.block_len).map(|_| 1e4 * uniform()).collect()),
    ];
    let mut outlier: Vec<f32> = (0..format.block_len).map(|_| 0.01 * uniform()).collect();
    outlier[format.block_len / 3] = 1.0;
    cases.push(("one outlier", outlier));
    cases.push(("uniform", (0..70 * format.block_len).map(|_| uniform()).collect()));
    for (name, weights) in cases {
        let mut blocks = vec![0xA5; format.bytes_for(weights.len())];
        format.kernels(isa).quantize(&weights, &mut blocks).expect("it has a quantizer");
        for (b, (block, weights)) in
            blocks.chunks_exact(format.block_bytes).zip(weights.chunks_exact(format.block_len)).enumerate()
        {
            let quantized = (subject.weights)(block);
            let step = quantized.iter().map(|weight| weight.scale.abs()).fold(0.0, f64::max);
            let largest = weights.iter().map(|w| f64::from(w.abs())).fold(0.0, f64::max);
            let (mut error, mut power) = (0.0, 0.0);
            for (w, Weight { scale, code, minimum }) in weights.iter().zip(quantized) {
                let distance = f64::from(*w) - (scale * f64::from(code) + minimum);
                (error, power) = (error + distance.powi(2), power + f64::from(*w).powi(2));
            }
            let rms = (error / weights.len() as f64).sqrt();
            let bound = 0.8 * step + largest / 1024.0;
            assert!(
                has_gaps || rms <= bound,
                "{name}: block {b} is off by {rms:e} (root mean square) > {bound:e}"
            );
            assert!(error <= power, "{name}: block {b} errs by {error:e}, one of zeros by {power:e}");
        }
    }
}

/// With scales of 1, and an activation scale of 1 for a single lane and 0 for all others, the result is that
/// lane's integer sum times its small scale code: at most 4 · 127 · 128 · 128 < 2²⁴, which an f32 holds, so that
/// equal to the last bit means that the integer sum is.
fn exact_sums(subject: &Subject, isa: Supported) {
    const ONE: Halves = Bits(0x3C00);
    // Of a long block one lane of each `apart`, others with each pattern and bytes: each lane of a product costs one with the whole block.
    let apart = subject.format.block_len.div_ceil(1024);
    let mut round = 0;
    for bytes in [Bytes::Random, All(0x00), All(0xFF), All(0x80), All(0x7F)] {
        let block = subject.random_blocks(1, 3, ONE, bytes);
        let weights = (subject.weights)(&block);
        for (pattern, code) in [(0, 127), (u32::MAX, 127), (0xAAAA_AAAA, 127), (0x5A0F_3371, 93)] {
            let mut a = subject.activations(isa, 1, Full(pattern));
            let block_of = |q, scales| ActivationBlock::new(q, scales).expect("codes from -127 on");
            for block in &mut a {
                *block = block_of(block.codes().map(|q| q.signum() * code), [bf16::ZERO; 8]);
            }
            let first = (round + round / 4) % apart;
            round += 1;
            for (lane, weights) in weights.chunks_exact(4).enumerate().skip(first).step_by(apart) {
                let (chunk, within) = (lane / 8, lane % 8);
                let zero = a[chunk];
                let q = *zero.codes();
                let scales = std::array::from_fn(|i| if i == within { bf16::ONE } else { bf16::ZERO });
                a[chunk] = block_of(q, scales);
                let expected: f64 = weights
                    .iter()
                    .zip(&q[4 * within..])
                    .map(|(w, q)| (w.scale * f64::from(w.code) + w.minimum) * f64::from(*q))
                    .sum();
                let y = subject.format.kernels(isa).dot(&block, &a).expect("shapes fit");
                let case = || format!("the sum of lane {lane}, activations of ±{code} by {pattern:#X}");
                assert_eq!(f64::from(y), expected, "{}", case());
                a[chunk] = zero;
            }
        }
    }
}

impl Subject {
    /// Blocks with random codes, and random numbers up to a magnitude of `scale` where the format has some.
    pub fn random_matrix(&self, blocks: usize, seed: u64, scale: f32) -> Vec<u8> {
        self.random_blocks(blocks, seed, Halves::Random(scale), Bytes::Random)
    }

    fn random_blocks(&self, blocks: usize, seed: u64, halves: Halves, bytes: Bytes) -> Vec<u8> {
        let mut random = Random(seed);
        let mut all: Vec<u8> = match bytes {
            Bytes::Random => (0..blocks * self.format.block_bytes).map(|_| random.next() as u8).collect(),
            All(byte) => vec![byte; blocks * self.format.block_bytes],
        };
        for block in all.chunks_exact_mut(self.format.block_bytes) {
            for &number in self.numbers {
                let half = match halves {
                    Halves::Random(scale) => {
                        f16::from_f32(scale * (random.next() as f32 / (1_u64 << 31) as f32 - 1.0))
                    }
                    Bits(bits) => f16::from_bits(bits),
                };
                match number {
                    Number::F16(offset) => block[offset..offset + 2].copy_from_slice(&half.to_le_bytes()),
                    // Its exponent, as an f32 has it.
                    Number::E8M0(offset) => block[offset] = (half.to_f32().to_bits() >> 23) as u8,
                }
            }
        }
        all
    }

    /// As many as go with a row of `blocks` blocks.
    fn activations(&self, isa: Supported, blocks: usize, activations: Activations) -> Vec<ActivationBlock> {
        let n = blocks * self.format.block_len;
        let mut a = vec![ActivationBlock::ZERO; n / ActivationBlock::LEN];
        match activations {
            Wave => {
                let x: Vec<f32> =
                    (0..n).map(|i| ((i as f64) * 0.7391).sin() as f32 * (1.0 + (i % 7) as f32)).collect();
                quantize_activations(isa, &x, &mut a).expect("whole blocks");
            }
            Full(pattern) => {
                let q = std::array::from_fn(|i| if pattern >> i & 1 == 0 { 127 } else { -127 });
                let scales = std::array::from_fn(|lane| bf16::from_f32(0.25 / (1 + lane) as f32));
                a.fill(ActivationBlock::new(q, scales).expect("codes from -127 on"));
            }
        }
        a
    }

    /// Whether some blocks are at most `most` weights. Blocks of up to 256 always are: the shapes are meant for these, and
    /// where instructions are emulated a weight of a longer one takes as long.
    fn is_short(&self, blocks: usize, most: usize) -> bool {
        self.format.block_len <= 256 || blocks * self.format.block_len <= most
    }

    /// Block counts of the rows of real models, where their widths are whole blocks.
    fn model_blocks(&self) -> impl Iterator<Item = usize> {
        let len = self.format.block_len;
        WIDTHS.into_iter().filter(move |width| width.is_multiple_of(len)).map(move |width| width / len)
    }

    /// |y − y*| ≤ c · ε · Σ|w·x|, with y* in f64. Integer sums are exact, so what rounds is, per chunk of 32
    /// weights: two or three products of scales, one fused multiply-add (with a minimum two) into one of
    /// eight partial sums, and in the end a tree of three additions. With n chunks a partial sum rounds n (2n)
    /// times, each time by at most ε/2 of what has been summed so far, products of scales by ε/2 of one term
    /// each: c = 2n + 8 covers it. So it does a `gemm`, whose one sum rounds up to 4n times, for the products and
    /// minima of two groups. Below the normal numbers rounding is no share of the value: `lost` of the least of them
    /// may be.
    fn check_close(&self, y: f32, row: &[u8], a: &[ActivationBlock], case: impl Fn() -> String) {
        let weights: Vec<_> = row.chunks_exact(self.format.block_bytes).flat_map(self.weights).collect();
        let x = a.iter().flat_map(|a| (0..32).map(|i| f64::from(a.codes()[i]) * a.scales()[i / 4].to_f64()));
        self.check_close_to(y, &weights, x, a.len(), 1.0, case);
    }

    fn check_close_to(
        &self,
        y: f32,
        weights: &[Weight],
        x: impl Iterator<Item = f64>,
        chunks: usize,
        lost: f64,
        case: impl Fn() -> String,
    ) {
        let (mut exact, mut magnitude) = (0.0, 0.0);
        for (Weight { scale, code, minimum }, x) in weights.iter().zip(x) {
            exact += (scale * f64::from(*code) + minimum) * x;
            // Product and minimum are added up one after the other: both round.
            magnitude += ((scale * f64::from(*code)).abs() + minimum.abs()) * x.abs();
        }
        let c = (2 * chunks + 8) as f64;
        let bound = c * f64::from(f32::EPSILON) * magnitude + lost * f64::from(f32::MIN_POSITIVE);
        let distance = (f64::from(y) - exact).abs();
        assert!(distance <= bound, "{}: {y:e} is {distance:e} from {exact:e}, more than {bound:e}", case());
    }
}

/// Xorshift with a multiplier: the tests need no better.
struct Random(u64);

impl Random {
    /// 32 bits.
    fn next(&mut self) -> u64 {
        // The state must not be 0; neighbouring seeds should differ at once.
        if self.0 >> 32 == 0 {
            self.0 = self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 << 32;
        }
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
    }
}

/// The seed of random cases: QUANTLOOM_SEED, or a new one.
pub fn seed() -> u64 {
    match std::env::var("QUANTLOOM_SEED") {
        Ok(text) => text.parse().unwrap_or_else(|_| {
            panic!("QUANTLOOM_SEED={text:?} is not a whole number from 0 to {}", u64::MAX)
        }),
        Err(_) => rand_seed(),
    }
}

fn rand_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

/// Proptest's cases from `seed`, minimised where one fails.
fn random<S: Strategy>(seed: u64, strategy: S, test: impl Fn(S::Value)) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases: 64, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let result = runner.run(&strategy, |value| {
        test(value);
        Ok(())
    });
    if let Err(error) = result {
        panic!("QUANTLOOM_SEED={seed}: {error}");
    }
}
