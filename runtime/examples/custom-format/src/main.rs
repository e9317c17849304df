//! `quantloom` with one format more: every command, as `quantize model.gguf out.gguf Q6_0` and `run -m out.gguf`.

use std::process::ExitCode;

use quantloom::alloc::CountingAllocator;

/// `bench` reports allocations per token.
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() -> ExitCode {
    quantloom::cli::main(&[custom_format::FORMAT])
}
