//! The generator behind [`quantloom_kernels::quant_format!`](https://docs.rs/quantloom-kernels): one declaration of a
//! quantized block format becomes its block type, its quantizer and dequantizer, and for every instruction set a dot
//! product, a matrix-vector product, and what a matrix-matrix product needs.
//!
//! This is an ordinary library on `proc_macro2`: tests and tools call [`expand`] without the compiler.
//! `quantloom-macros` is the procedural macro that calls it.
//!
//! The pipeline is parse → check → plan → lower → emit. Checking finds every error; nothing after it fails.

mod check;
mod emit;
mod error;
mod expand;
mod facts;
mod lower;
mod model;
mod parse;
mod plan;

pub use check::Rule;
pub use error::Error;
pub use expand::{expand, instruction_sets};
pub use facts::{Facts, facts};
