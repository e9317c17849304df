//! What kernels are shown: blocks with numbers, codes and activations at their ends and between, in tables.

use quantloom_kernels::{ActivationBlock, Supported, quantize_activations};

use super::number::Level;
use super::random::Random;
use super::{Subject, Weight, holds};
use crate::emulate::How;

/// The bytes of a block that hold no number.
#[derive(Clone, Copy, Debug)]
pub enum Bytes {
    Random,
    /// All the same: 0x00 and 0xFF hold the codes at both ends, 0x80 and 0x7F those of signed bytes.
    All(u8),
}

#[derive(Clone, Copy, Debug)]
pub enum Activations {
    /// Of many magnitudes, quantized.
    Wave,
    /// 127, whose sign changes with each activation at a bit of this pattern.
    Full(u32),
    /// The same with the largest scales that activations have beside their unit.
    FullScaled(u32),
}

use Activations::{Full, FullScaled, Wave};
use Bytes::All;
use Level::{Largest, LargestSubnormal, Lowest, NegativeZero, SmallestSubnormal, Zero};

/// A kind of input.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    pub name: &'static str,
    pub numbers: Level,
    pub bytes: Bytes,
    pub activations: Activations,
}

const fn input(name: &'static str, numbers: Level, bytes: Bytes, activations: Activations) -> Input {
    Input { name, numbers, bytes, activations }
}

const SMALL: Level = Level::Random(0.05);

/// Random blocks and activations of many magnitudes: shapes vary more with these than with others.
pub const RANDOM: Input = input("random", SMALL, Bytes::Random, Wave);

pub const INPUTS: &[Input] = &[
    RANDOM,
    input("scales of 0", Zero, Bytes::Random, Wave),
    input("scales of -0", NegativeZero, Bytes::Random, Wave),
    input("the largest scales", Largest, Bytes::Random, Wave),
    input("the lowest scales", Lowest, Bytes::Random, Wave),
    input("the smallest subnormal scales", SmallestSubnormal, Bytes::Random, Wave),
    input("the largest subnormal scales", LargestSubnormal, Bytes::Random, Wave),
    input("lowest codes", SMALL, All(0x00), Wave),
    input("highest codes", SMALL, All(0xFF), Wave),
    input("lowest signed codes", SMALL, All(0x80), Wave),
    input("highest signed codes", SMALL, All(0x7F), Wave),
    input("activations of 127", SMALL, Bytes::Random, Full(0)),
    input("activations of -127", SMALL, Bytes::Random, Full(u32::MAX)),
    input("activations of ±127, highest codes", SMALL, All(0xFF), Full(0xAAAA_AAAA)),
    input("activations of -127, lowest signed codes", SMALL, All(0x80), Full(u32::MAX)),
    input("the largest activations, lowest codes", SMALL, All(0x00), FullScaled(0)),
    input("the largest activations, highest codes", SMALL, All(0xFF), FullScaled(0)),
    input("the lowest activations, highest codes", SMALL, All(0xFF), FullScaled(u32::MAX)),
    input("the lowest activations, lowest signed codes", SMALL, All(0x80), FullScaled(u32::MAX)),
];

/// Row lengths of real models: SmolLM2's hidden state and feed-forward layer, then TinyLlama's.
const WIDTHS: [usize; 4] = [576, 1536, 2048, 5632];

/// The shapes that a kernel is shown with each kind of input.
pub struct Shapes {
    /// Blocks of the rows of `dot`, with random input and with each other.
    pub dot: [&'static [usize]; 2],
    /// Rows and blocks of the matrices of `gemv`.
    pub gemv: &'static [(usize, usize)],
    /// How many vectors `gemv_several` takes: each of these, and at most the last.
    pub vectors: &'static [usize],
    /// Rows, tokens and blocks of the products of `gemm`, with two kinds of activations.
    pub gemm: [&'static [(usize, usize, usize)]; 2],
    /// How many of the widths of real models that are whole blocks, the narrowest first.
    pub widths: usize,
    /// How many random cases.
    pub cases: u32,
}

/// Rows that are no multiple of any number of rows that kernels take at once.
const ROWS: [usize; 10] = [1, 2, 3, 4, 5, 6, 7, 9, 13, 19];
const BLOCKS: [usize; 5] = [1, 2, 3, 5, 8];

/// Each number of rows with each number of blocks.
const MATRICES: [(usize, usize); ROWS.len() * BLOCKS.len()] = {
    let mut matrices = [(0, 0); ROWS.len() * BLOCKS.len()];
    let mut i = 0;
    while i < matrices.len() {
        matrices[i] = (ROWS[i / BLOCKS.len()], BLOCKS[i % BLOCKS.len()]);
        i += 1;
    }
    matrices
};

const UP_TO_70: [usize; 70] = {
    let mut counts = [0; 70];
    let mut i = 0;
    while i < counts.len() {
        counts[i] = i + 1;
        i += 1;
    }
    counts
};

/// Rows that are no multiple of a panel's, or of the panels that share a tile, and tokens that fill no tile.
const PRODUCTS: &[(usize, usize, usize)] = &[(1, 1, 1), (16, 12, 1), (17, 13, 2), (33, 5, 3), (70, 3, 2)];

const NATIVE: Shapes = Shapes {
    dot: [&UP_TO_70, &[1, 2, 3, 7, 32, 70]],
    gemv: &MATRICES,
    vectors: &[1, 2, 3, 4, 5, 6, 7],
    gemm: [PRODUCTS, PRODUCTS],
    widths: WIDTHS.len(),
    cases: 64,
};

/// An emulated instruction takes some 10 µs, ten thousand times as long as by the CPU: every kind of input, and every way
/// that kernels take rows, vectors, tokens and blocks, but each in few shapes.
const EMULATED: Shapes = Shapes {
    dot: [&[1, 2, 3, 7, 32], &[1, 3]],
    gemv: &[(1, 1), (2, 3), (7, 2)],
    vectors: &[1, 3, 6],
    gemm: [&[(17, 13, 1)], &[(1, 1, 2)]],
    widths: 1,
    cases: 4,
};

/// A subject, and what its kernels are shown.
pub struct Inputs<'s> {
    pub subject: &'s Subject,
    pub shapes: &'static Shapes,
    /// The exponent of the largest numbers of wide range.
    largest: i32,
    /// Whether products of numbers can have more bits than an f32.
    is_long: bool,
}

impl<'s> Inputs<'s> {
    pub fn new(subject: &'s Subject, how: How) -> Self {
        let mut inputs = Self::plain(subject);
        if how == How::Emulated {
            inputs.shapes = &EMULATED;
        }
        inputs.is_long = holds::product_bits(subject) > f32::MANTISSA_DIGITS;
        if inputs.is_wide() {
            let fits = |&largest: &i32| {
                let inputs = Self { largest, ..Self::plain(subject) };
                let weights = subject.weights_of(&inputs.blocks(4, 1, Largest, Bytes::Random));
                let magnitude = |w: &Weight| (w.scale * f64::from(w.code)).abs().max(w.minimum.abs());
                weights.iter().map(magnitude).all(|magnitude| magnitude <= LARGEST_WEIGHT)
            };
            inputs.largest = (0..127).rev().find(fits).unwrap_or(0);
        }
        inputs
    }

    /// Those for blocks whose numbers are never the largest.
    pub fn plain(subject: &'s Subject) -> Self {
        Self { subject, shapes: &NATIVE, largest: 0, is_long: false }
    }

    /// Whether numbers have the range of an f32, so that products with them can leave that.
    pub fn is_wide(&self) -> bool {
        self.subject.numbers.iter().any(|number| number.is_wide())
    }

    /// Whether a product of numbers that is part of a scale or minimum may have been rounded before it is multiplied with a
    /// number of the group.
    pub fn rounds_early(&self, products: [f64; 2]) -> bool {
        // Below this products of a few factors have been below the normal numbers.
        const SMALL: f64 = f32::MIN_POSITIVE as f64 * 512.0;
        self.is_long
            || self.is_wide() && products.iter().any(|&product| product != 0.0 && product.abs() < SMALL)
    }

    /// Random blocks, numbers and all other bytes as said.
    pub fn blocks(&self, count: usize, seed: u64, numbers: Level, bytes: Bytes) -> Vec<u8> {
        let mut random = Random(seed);
        let mut blocks: Vec<u8> = match bytes {
            Bytes::Random => {
                (0..count * self.subject.format.block_bytes).map(|_| random.next() as u8).collect()
            }
            All(byte) => vec![byte; count * self.subject.format.block_bytes],
        };
        for block in blocks.chunks_exact_mut(self.subject.format.block_bytes) {
            for number in self.subject.numbers {
                number.set(block, numbers, self.largest, &mut random);
            }
        }
        blocks
    }

    /// Block counts of the rows of real models, where their widths are whole blocks.
    pub fn model_blocks(&self) -> impl Iterator<Item = usize> {
        let len = self.subject.format.block_len;
        let whole = WIDTHS.into_iter().filter(move |width| width.is_multiple_of(len));
        whole.map(move |width| width / len).take(self.shapes.widths)
    }

    /// As many as go with a row of `blocks` blocks.
    pub fn activations(
        &self,
        isa: Supported,
        blocks: usize,
        activations: Activations,
    ) -> Vec<ActivationBlock> {
        let n = blocks * self.subject.format.block_len;
        match activations {
            Wave => {
                let mut a = vec![ActivationBlock::ZERO; n / ActivationBlock::LEN];
                let x: Vec<f32> = (0..n).map(wave).collect();
                quantize_activations(isa, &x, &mut a).expect("whole blocks");
                a
            }
            Full(pattern) => {
                let multiples = [240, 120, 80, 60, 48, 40, 34, 30];
                vec![full(pattern, 127, multiples, UNIT); n / ActivationBlock::LEN]
            }
            FullScaled(pattern) => {
                vec![full(pattern, 127, [u8::MAX; 8], UNIT); n / ActivationBlock::LEN]
            }
        }
    }
}

/// The largest weights: products with activations, up to 2¹⁰ each, are added up to a number that an f32 holds, for up to
/// 2¹⁵ weights.
const LARGEST_WEIGHT: f64 = (1_u128 << 100) as f64;

/// Activation `i` of many magnitudes.
pub fn wave(i: usize) -> f32 {
    ((i as f64) * 0.7391).sin() as f32 * (1.0 + (i % 7) as f32)
}

/// With it the largest activations are of the magnitude of [`wave`]'s.
const UNIT: f32 = 1.0 / 4096.0;

/// Codes of one magnitude, negative where a bit of the pattern is set.
pub fn full(pattern: u32, code: i8, multiples: [u8; 8], unit: f32) -> ActivationBlock {
    let q = std::array::from_fn(|i| if pattern >> i & 1 == 0 { code } else { -code });
    ActivationBlock::new(q, multiples, unit).expect("no code is -128")
}
