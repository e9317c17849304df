//! The `quantloom` binary. What it can do is in the library's `cli`.

use std::process::ExitCode;

use quantloom::alloc::CountingAllocator;

/// `quantloom bench` reports allocations per token.
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() -> ExitCode {
    quantloom::cli::main(&[])
}
