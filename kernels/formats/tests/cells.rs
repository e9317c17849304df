//! Every kernel cell of these formats on every instruction set, against layouts written by hand from their definitions.
//! `cargo test -p quantloom-formats --test cells` prints the table; `-- iq4_k_dot` runs some.

mod layouts;

use std::process::ExitCode;

fn main() -> ExitCode {
    quantloom_bench::prove::main(layouts::subjects())
}
