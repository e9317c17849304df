//! `cargo run --release --example report` holds each kernel of the format against the limits of the machine.

fn main() -> std::process::ExitCode {
    quantloom_bench::report::main(&[custom_format::FORMAT])
}
