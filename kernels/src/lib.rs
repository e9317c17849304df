//! Quantized products of vectors and matrices, generated from format declarations: a dot product, a matrix times
//! one vector ([`Kernels::gemv`]) or a few ([`Kernels::gemv_several`]), and a matrix times many ([`Kernels::gemm`]).
//!
//! [`quant_format!`] turns the declaration of a block format into its kernels for every instruction
//! set in [`Isa`]; [`formats`] declares those of GGUF. This crate is usable alone: it knows nothing of
//! models and files.
//!
//! ```
//! use quantloom_kernels::formats::Q4_0;
//! use quantloom_kernels::{ActivationBlock, BlockFormat, Supported};
//!
//! let isa = Supported::selected()?;
//! let kernels = Q4_0::FORMAT.kernels(isa);
//!
//! // A matrix of 2 rows and 64 columns.
//! let weights: Vec<f32> = (0..128).map(|i| (i as f32 * 0.37).sin()).collect();
//! let mut matrix = vec![0; Q4_0::FORMAT.bytes_for(128)];
//! kernels.quantize(&weights, &mut matrix)?;
//!
//! // y = matrix · x
//! let x: Vec<f32> = (0..64).map(|i| (i as f32 * 0.11).cos()).collect();
//! let mut activations = vec![ActivationBlock::ZERO; 2];
//! quantloom_kernels::quantize_activations(isa, &x, &mut activations)?;
//! let mut y = [0.0; 2];
//! kernels.gemv(&matrix, &activations, &mut y)?;
//!
//! let exact: f32 = weights[..64].iter().zip(&x).map(|(w, x)| w * x).sum();
//! assert!((y[0] - exact).abs() < 0.5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The environment variable `QUANTLOOM_ISA` forces an instruction set: [`Supported::selected`].

// Generated code names this crate by its own name, here as elsewhere.
extern crate self as quantloom_kernels;

mod activations;
#[doc(hidden)]
pub mod bytes;
#[cfg(not(test))]
mod codebooks;
mod cpu;
pub mod dense;
mod dispatch;
mod finite;
// Unit tests need none of their kernels, which take a minute to compile.
#[cfg(not(test))]
pub mod formats;
pub mod gemm;
pub mod limits;
#[doc(hidden)]
pub mod numbers;
#[doc(hidden)]
pub mod pairs;
#[doc(hidden)]
pub mod portable;
pub mod quantize;
#[doc(hidden)]
#[cfg(target_arch = "x86_64")]
pub mod x86;

pub use activations::{ActivationBlock, quantize_activations};
pub use cpu::{Isa, IsaError, Supported};
#[doc(hidden)]
pub use dispatch::Kernel;
pub use dispatch::{
    BlockFormat, Format, FormatParts, Kernels, Missing, ProductError, Quantize, QuantizeError, ShapeError,
    Variant,
};
pub use finite::{FloatField, FloatType};
#[cfg(not(test))]
pub use formats::FORMATS;
pub use half::{bf16, f16};
#[doc(hidden)]
pub use quantloom_macros::quant_format as expand_quant_format;

/// Declares block formats and generates everything each of them needs.
///
/// ```
/// quantloom_kernels::quant_format! {
///     /// All formats of this declaration.
///     pub table FORMATS;
///
///     /// 4 bits, symmetric about code 8.
///     pub block Q4_0[32] = gguf 2 {
///         d: f16,
///         qs: [u8; 16],
///
///         q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
///         w = d * (q - 8);
///     }
/// }
/// ```
///
/// A declaration says five things, each in its own place:
///
/// 1. **Fields**, `name: type,`: the bytes of a block in file order. Types: the numbers `f16`, `bf16`, `f32`, `e8m0` (a power
///    of two in 8 bits) and `ue4m3` (an 8-bit float whose highest bit doesn't count; following ggml, 0x7F is 0 and 0xFF is
///    480), the bytes `u8` and `i8`, and arrays of each.
/// 2. **Planes**, `q[h: 2, i: 16] = …;`: where a small integer lives. The indices on the left, slowest
///    first, are the digits of the element's number: here element 16·h + i. On the right stands one
///    term per plane, joined by `|`: `field[index] >> shift & mask << position`, in which index and
///    shift are sums and differences of digits times constants: `qs[i] >> (4 - 4 * h) & 15` where the high half of a byte
///    comes first. Operators bind as in Rust. Codes may be packed through the ends of bytes: a shift by 8 or more goes on
///    into the bytes that follow, so that `q[i: 32, k: 8] = qs[3 * i] >> 3 * k & 7` is 3 bits for each weight, the lowest bits
///    of a byte first. Where the highest come first, shifts go down from the first code's, below 0:
///    `qs[3 * i] >> (5 - 3 * k) & 7`. `digit(field[index], 3, power)` is a digit instead,
///    of a base from 3 to 15 that is no power of two: a byte is a whole number, of which power 0 is the lowest digit. Of
///    `trit(field[index], power)` a byte is a fraction of 256, and power 0 the highest digit of the base 3, as in TQ1_0. Where
///    no one walk reaches all elements, pieces follow each other: `q[n: 5, i: 32] = …, [n: 5, i: 16] = …;`.
/// 3. **Value**, in `w = …;`: the code of a weight, as `q`, minus a zero point `(q - 8)`, or looked up,
///    `NL[q]`, in a table `table NL = [-127, …];` of an entry for each code, up to 256. Of several tables, 2, 4, 8 or 16 with
///    up to 256 entries in all, `table NL = [[-127, …], [-123, …]];`, each group of weights chooses one by a code of its own:
///    `NL[t][q]`, where `t` has a code for each group, or one for the block. A field of `i8` stands for its own signed
///    codes. A codebook,
///    `codebook GRID: [[i8; 8]; 256] = A_CONSTANT;`, has several weights for one code: `GRID[g]`. Its codes may have
///    up to 16 bits. What a table or a codebook gives may be negated,
///    `signs(n) * GRID[g]`, by one code of 8 bits for each 8 weights; of `even_signs(n)` 7 are stored, and the eighth
///    makes the number of minuses even. Entries that are negated are from -127 on.
/// 4. **Scales**: the other factors of the product, in any number. A single field scales the whole block; a vector of
///    n codes scales n groups of equal size, and may have a zero point of its own, `(s - 32)`, or one that each block stores,
///    `(s - sz)`, a factor, `(2 * s + 1)`, or a table; an array of numbers scales groups as it is. Factors may have groups of
///    different sizes, `d * s * t * q`, and a single byte is the code of one group, the block. Constants are powers of two:
///    `0.125 * d`, from 2⁻¹⁹ to 2¹⁹ together.
/// 5. **Minimum**: a second product, added or subtracted: `w = d * q + m;`, `w = d * s * q - dmin * m;`. Or a **zero point** that
///    blocks or groups store, a product like any other, and a number beside it: `w = d * s * (q - z);`, `(q - (z + 1))`,
///    `(q - 8 + z)`, `(q - zs * (z - zz))`.
/// 6. **Quantizer**: by itself the search for the block of least squared error. `quantize by furthest;` asks for ggml's rule
///    for such a formula instead, where no importance weighs the weights: `furthest`, `symmetric`, `range`, `mean`,
///    `exponent` or `largest`, which [`quantize::Reference`] describes.
///
/// A zero point that is stored is multiplied out, `w = d * q - d * z`: each of both products is rounded to an f32, and their
/// difference once more. With an f16 or a bf16 alone for the scale, and codes for the zero point, both are exact, so that the weight
/// is what the formula says, rounded once.
///
/// Every bit of an array belongs to one code. A field, or codes, whose name begins with `_` are padding: they belong to no
/// formula, and quantizers leave them 0.
///
/// `= gguf 2` gives GGUF's tensor type number; without it the format stands outside that numbering.
/// `table NAME;`, which may be left out, emits a list of the formats declared.
///
/// For each format the macro emits a struct of that name with its fields, conversions from and to
/// bytes, accessors for each code vector, and an implementation of `BlockFormat`
/// whose constant holds the kernels of every instruction set. Where a format can't have a quantizer or a `gemm`, its
/// documentation and [`FormatParts::missing`] say why.
///
/// Generated code stands in a module of its own, `__quantloom_` and the format's name: it needs nothing in scope, minds
/// no name there, and finds this crate by whatever name yours has for it.
///
/// # Errors
///
/// A declaration that can't work is a compile error on the token that is wrong; all errors are
/// reported at once. Of this source
///
/// ```rust,ignore
#[doc = include_str!("../tests/ui/several_at_once.rs")]
/// ```
///
/// the compiler says
///
/// ```text
#[doc = include_str!("../tests/ui/several_at_once.stderr")]
/// ```
///
/// The rules, each with its errors, are cases of `tests/ui.rs`, which keeps these words true.
#[macro_export]
macro_rules! quant_format {
    ($($declaration:tt)*) => { $crate::expand_quant_format! { [$crate] $($declaration)* } };
}
