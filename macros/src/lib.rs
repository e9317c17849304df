//! The macros of [Quantloom](https://docs.rs/quantloom-kernels): one declaration of a quantized block
//! format becomes its block type, its quantizer and dequantizer, and a dot product and a
//! matrix-vector product for every instruction set.
//!
//! Use them through `quantloom_kernels`, which re-exports them and holds the run-time half that the
//! generated code calls. The language is described at [`quant_format!`].

use proc_macro::TokenStream;

mod check;
mod emit;
mod error;
mod expand;
mod lower;
mod model;
mod parse;
mod plan;

/// Declares block formats and generates everything each of them needs.
///
/// ```ignore
/// quant_format! {
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
/// 1. **Fields**, `name: type,`: the bytes of a block in file order. Types: `f16`, `u8`, `i8`, and
///    arrays of `u8` and `i8`.
/// 2. **Planes**, `q[h: 2, i: 16] = …;`: where a small integer lives. The indices on the left, slowest
///    first, are the digits of the element's number: here element 16·h + i. On the right stands one
///    term per plane, joined by `|`: `field[index] >> shift & mask << position`, in which index and
///    shift are sums of digits times constants. Operators bind as in Rust.
/// 3. **Value**, in `w = …;`: the code of a weight, as `q`, minus a zero point `(q - 8)`, or looked up,
///    `NL[q]`, in a table `table NL = [-127, …];`. A field of `i8` stands for its own signed codes.
/// 4. **Scales**: the other factors of the product. A single field scales the whole block; a vector of
///    n codes scales n groups of equal size, and may have a zero point of its own.
/// 5. **Minimum**: a second product, added or subtracted: `w = d * q + m;`, `w = d * s * q - dmin * m;`.
///
/// `= gguf 2` gives GGUF's tensor type number; without it the format stands outside that numbering.
/// `table NAME;`, which may be left out, emits a list of the formats declared.
///
/// For each format the macro emits a struct of that name with its fields, conversions from and to
/// bytes, accessors for each code vector, and an implementation of `quantloom_kernels::BlockFormat`
/// whose constant holds the kernels of every instruction set.
///
/// Generated code needs nothing in scope, minds no name there but constants in lower case, and names
/// `::quantloom_kernels`; where that crate goes by another
/// name, say `extern crate other_name as quantloom_kernels;` at the root of yours.
///
/// A declaration that can't work is a compile error on the token that is wrong; all errors are
/// reported at once.
#[proc_macro]
pub fn quant_format(input: TokenStream) -> TokenStream {
    expand::expand(input.into()).into()
}

/// Emits what `quantloom_kernels` knows of instruction sets, from the same list that the kernels are
/// generated from: the `Isa` enum with names, required CPU features and their detection.
#[proc_macro]
pub fn instruction_sets(_input: TokenStream) -> TokenStream {
    emit::instruction_sets(lower::ALL).into()
}
