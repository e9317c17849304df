//! Realizar's TinyLlama benchmark by the name it has there: the same model in four modes, from direct to KV
//! cache with arena.
//!
//! ```text
//! GGUF_MODEL=model.gguf cargo run --release --example convert_and_bench_apr
//! ```
//!
//! It is what `quantloom bench` runs. Nothing is converted: every mode reads the GGUF file itself. Without
//! `GGUF_MODEL` it takes TinyLlama-1.1B where `quantloom pull tinyllama` has fetched it, or else makes a file of its
//! shape.

use std::process::ExitCode;

use quantloom::alloc::CountingAllocator;
use quantloom::bench::{Options, measure};
use quantloom::gguf::Formats;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() -> ExitCode {
    let model = std::env::var_os("GGUF_MODEL").filter(|path| !path.is_empty()).map(Into::into);
    let formats = Formats::default();
    match measure(&Options { model, formats, threads: None, short: false, profile: false }) {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
