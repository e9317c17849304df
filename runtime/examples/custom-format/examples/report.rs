//! `cargo run --release --example report` holds each kernel of Q6_0 against the limits of the machine.

use custom_format::Q6_0;
use quantloom_kernels::BlockFormat;

fn main() -> std::process::ExitCode {
    quantloom_bench::report::main(&[Q6_0::FORMAT])
}
