//! `quantloom` with Q6_0: every command, as `quantize model.gguf out.gguf Q6_0` and `run -m out.gguf`.

use std::process::ExitCode;

use custom_format::Q6_0;
use quantloom::alloc::CountingAllocator;
use quantloom_kernels::BlockFormat;

/// `bench` reports allocations per token.
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() -> ExitCode {
    quantloom::cli::main(&[Q6_0::FORMAT])
}
