//! The `quantloom` binary. What it can do is in the library's `cli`.

use std::process::ExitCode;

use quantloom::alloc::CountingAllocator;

/// `quantloom bench` reports allocations per token.
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[cfg(feature = "more-formats")]
use quantloom_formats::FORMATS;

#[cfg(not(feature = "more-formats"))]
const FORMATS: &[&quantloom_kernels::Format] = &[];

fn main() -> ExitCode {
    quantloom::cli::main(FORMATS)
}
