//! Quantized dot products and matrix-vector products, generated from format declarations.
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
mod cpu;
pub mod dense;
mod dispatch;
pub mod formats;
#[doc(hidden)]
pub mod portable;
pub mod quantize;
#[doc(hidden)]
#[cfg(target_arch = "x86_64")]
pub mod x86;

pub use activations::{ActivationBlock, quantize_activations};
pub use cpu::{Isa, IsaError, Supported};
pub use dispatch::{BlockFormat, Format, Kernels, Quantize, QuantizeError, ShapeError, Variant};
pub use formats::FORMATS;
pub use half::{bf16, f16};
pub use quantloom_macros::quant_format;
