//! `cargo run --release -p quantloom-bench --example report` reports every kernel's share of what this
//! machine allows.

use std::process::ExitCode;

fn main() -> ExitCode {
    quantloom_bench::report::main(quantloom_kernels::FORMATS)
}
