//! Quantizers that follow from a declaration: the macro says what a block can hold as plain data, a [`Shape`], and
//! [`quantize`] finds the block nearest to some weights.
//!
//! Nearest is least squared error, each weight's multiplied by its importance where there is one. The search has
//! four steps, of which a shape without group scales or minima needs fewer:
//!
//! 1. each group alone: of some scales (and minima), each corrected by least squares for the codes that it
//!    leads to, the best, and of those around that;
//! 2. the numbers of the block and the codes of the groups that come nearest to these, weighed by what a
//!    deviation costs;
//! 3. group by group, the neighbours of its codes: whatever lowers the error stays;
//! 4. the numbers of the block again, by least squares; then 3 until nothing changes.
//!
//! Where blocks or groups have zero points, `w = scale · (value + zero)`, the search is another: a zero point moves the values, and
//! for each that may serve the best scales are found. Among them is what rounding to the nearest over the range of a group makes, as
//! GPTQ and AWQ have it: tests hold blocks to be no worse.
//!
//! Where numbers are coarse, groups small, values lie mostly on one side of 0, or a scale and a minimum are those of
//! different weights, that may end far from the best: there more numbers of the block are tried. `tests/data/shapes.md` has the
//! error of each kind of shape beside that of a plain search: for most 1.02 times as much or less, and for the others why.
//!
//! Where a declaration asks for ggml's rule of one line ([`Reference`]) and nothing weighs the weights, that rule is
//! followed to the last bit instead: such files are compared byte by byte.
//!
//! The search takes finite weights to finite blocks, a NaN for 0 and an infinite weight for the largest finite
//! one. References do what ggml does, which is a scale of infinity where f16 ends.

mod chosen;
mod fit;
mod grid;

mod number;
mod reference;
mod values;

/// Generated code in crates without `std` makes a grid when it is first used.
#[doc(hidden)]
pub use std::sync::LazyLock;

pub use chosen::quantize_chosen;
pub use grid::{Grid, Octet, Signs};
pub use number::Number;
pub use reference::Reference;
pub use values::Table;

use fit::{Fit, ZeroFit};

/// What a block can hold: `w = scale · value(code) + minimum`.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// What the codes of weights stand for.
    pub values: Values,
    /// What values are multiplied by.
    pub scale: Product,
    /// What is added.
    pub minimum: Option<Product>,
    /// The rule that the declaration asks for, for weights of equal importance; `None` for the search.
    pub reference: Option<Reference>,
}

/// What codes of weights stand for.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::large_enum_variant, reason = "shapes are constants that stand in one place")]
pub enum Values {
    /// Evenly spaced numbers, a [`Number::Integer`].
    Even(Number),
    /// The entries of a table.
    Table(Table),
}

/// A factor, times a number of the block where there is one, times a number of each group where there are some.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// A constant; -1 for a minimum that is subtracted.
    pub factor: f32,
    /// How the number of the block is stored.
    pub block: Option<Number>,
    /// How further numbers of the block are stored. They become powers of two, which [`power`] gives.
    pub others: &'static [Number],
    /// How the numbers of groups are stored. Groups are of equal size.
    pub group: Option<Number>,
}

impl Product {
    /// The bytes that the number of a group takes.
    fn group_bytes(&self) -> usize {
        self.group.map_or(1, Number::bytes)
    }
}

/// The numbers of a block with group scales that take `S` bytes and group minima that take `M`, as bits: a byte for each code,
/// and for wider numbers those that the block has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers<const S: usize, const M: usize> {
    /// That of the block in its scale.
    pub scale: u32,
    /// What further numbers of the block in its scale make together: 2 to the power of this.
    pub scale_exponent: i32,
    /// Those of the groups in their scales, in little-endian order.
    pub scales: [u8; S],
    /// That of the block in its minimum.
    pub minimum: u32,
    /// What further numbers of the block in its minimum make together: 2 to the power of this.
    pub minimum_exponent: i32,
    /// Those of the groups in their minima, likewise.
    pub minima: [u8; M],
}

/// The numbers and codes of the block of `shape` nearest to `weights`; signed codes are in two's complement.
///
/// An importance below 0, or that is no number, counts as 0.
pub fn quantize<const N: usize, const S: usize, const M: usize>(
    shape: &Shape,
    weights: &[f32; N],
    importance: Option<&[f32; N]>,
) -> (Numbers<S, M>, [u8; N]) {
    if let (Some(reference), None) = (shape.reference, importance) {
        return reference::quantize(reference, shape, weights);
    }
    let groups =
        [S / shape.scale.group_bytes(), M / shape.minimum.map_or(1, |minimum| minimum.group_bytes())];
    match &shape.values {
        Values::Even(number) => {
            let (values, step) = values::Even::of(*number);
            // Values a step apart are a step's multiple of values 1 apart.
            let scale = Product { factor: shape.scale.factor * step, ..shape.scale };
            let fit = Fit::search(values, weights, importance, scale, shape.minimum, groups);
            let code = code_of_even(*number);
            (fit.numbers(), fit.codes(code))
        }
        Values::Table(table) => {
            let fit = Fit::search(table, weights, importance, shape.scale, shape.minimum, groups);
            (fit.numbers(), fit.codes(|value| table.code(value)))
        }
    }
}

/// The code of each value of evenly spaced ones 1 apart.
fn code_of_even(number: Number) -> impl Fn(f32) -> u8 {
    let (lowest, _) = values::Values::limits(values::Even::of(number).0);
    // The lowest of two's complement has the code 128.
    let first = if number == Number::I8 { 128 } else { 0 };
    move |value| (value - lowest) as i32 as u8 ^ first
}

/// The numbers and codes of the block `w = scale · (value + zero)` nearest to `weights`, where `values` are 1 apart and `zero` is
/// a number of the block, or one of each group. The numbers of minima are those of zero points.
pub fn quantize_zeros<const N: usize, const S: usize, const M: usize>(
    values: Number,
    scale: Product,
    zero: Product,
    weights: &[f32; N],
    importance: Option<&[f32; N]>,
) -> (Numbers<S, M>, [u8; N]) {
    let groups = [S / scale.group_bytes(), M / zero.group_bytes()];
    let fit = ZeroFit::search(values::Even::of(values).0, weights, importance, scale, zero, groups);
    (fit.numbers(), fit.codes(code_of_even(values)))
}

/// The numbers and codes of the block nearest to `weights` in which these have the values of a grid's rows;
/// `O` is a block's number of octets.
pub fn quantize_octets<const D: usize, const N: usize, const O: usize, const S: usize, const M: usize>(
    grid: &Grid<D>,
    scale: Product,
    minimum: Option<Product>,
    weights: &[f32; N],
    importance: Option<&[f32; N]>,
) -> (Numbers<S, M>, [Octet; O]) {
    let known = grid::Known::new(N);
    let search = grid::Search::new(grid, &known);
    let groups = [S / scale.group_bytes(), M / minimum.map_or(1, |minimum| minimum.group_bytes())];
    let fit = Fit::search(search, weights, importance, scale, minimum, groups);
    let mut octets = [Octet::default(); O];
    octets.iter_mut().zip(fit.octets()).for_each(|(octet, found)| *octet = found);
    (fit.numbers(), octets)
}

/// Bit `bit` of each of `codes`, eight to a byte, the first in the lowest.
pub fn joined_bits<const N: usize, const BYTES: usize>(codes: &[u8; N], bit: usize) -> [u8; BYTES] {
    std::array::from_fn(|byte| (0..8).map(|i| (codes[8 * byte + i] >> bit & 1) << i).sum())
}

/// The bits of the power of two that comes nearest to 2^`exponent` among those of `number`, which is taken off it.
pub fn power(number: Number, exponent: &mut i32) -> u32 {
    let powers = number.powers();
    let power = (*exponent).clamp(*powers.start(), *powers.end());
    *exponent -= power;
    number.bits(f32::from_bits(((power + 127) as u32) << 23))
}

/// Quantizes whole blocks with `block`, what a block makes of its weights; `importance` is that of a row's columns.
pub fn blocks<const N: usize, const BYTES: usize>(
    weights: &[f32],
    importance: Option<&[f32]>,
    blocks: &mut [u8],
    block: impl Fn(&[f32; N], Option<&[f32; N]>) -> [u8; BYTES],
) {
    let (weights, _) = weights.as_chunks();
    let (blocks, _) = blocks.as_chunks_mut();
    match importance {
        None => weights.iter().zip(blocks).for_each(|(weights, bytes)| *bytes = block(weights, None)),
        Some(importance) => {
            let columns = importance.as_chunks().0.iter().cycle();
            for ((weights, bytes), columns) in weights.iter().zip(blocks).zip(columns) {
                *bytes = block(weights, Some(columns));
            }
        }
    }
}
