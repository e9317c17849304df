//! Placeholder.
pub mod gguf;
pub mod tokenizer;
