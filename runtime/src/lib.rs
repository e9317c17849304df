//! Placeholder.
pub mod alloc;
pub mod bench;
pub mod chat;
pub mod gguf;
pub mod model;
pub mod pull;
pub mod sample;
pub mod tokenizer;

mod error;

pub use error::Error;
pub use model::{Config, KvCache, Model, Scratch};
