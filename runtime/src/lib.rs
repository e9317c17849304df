//! Runs Llama-architecture GGUF models on a CPU, on the file's own bytes.
//!
//! A [`Model`] maps a file, checks it, and runs tokens through it on the kernels of
//! [`quantloom_kernels`]; its tokenizer turns text into tokens and back. The [`KvCache`] keeps what the
//! context needs, and the [`Scratch`] arena keeps a steady-state token from allocating.

pub mod alloc;
pub mod bench;
mod cache;
pub mod chat;
pub mod check;
#[cfg(feature = "cli")]
pub mod cli;
mod config;
pub mod draft;
mod error;
mod escape;
mod file;
mod forward;
pub mod gguf;
pub mod imatrix;
mod matrix;
mod model;
mod ops;
pub mod perplexity;
pub mod profile;
pub mod pull;
pub mod quantize;
pub mod report;
pub mod sample;
mod scratch;
mod table;
mod threads;
pub mod tokenizer;

pub use cache::{CacheType, CacheTypes, KvCache};
pub use config::Config;
pub use error::Error;
pub use model::Model;
pub use scratch::Scratch;
