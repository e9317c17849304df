//! Every kernel cell, of the crate's formats and of those declared elsewhere, on every instruction set, against
//! layouts written by hand. `cargo test -p quantloom-kernels --test cells` prints the table;
//! `-- q4_0_dot` runs some.

#[path = "common/elsewhere.rs"]
mod elsewhere;
#[path = "common/layouts.rs"]
mod layouts;
#[path = "common/long.rs"]
mod long;
#[path = "common/products.rs"]
mod products;
#[path = "common/streams.rs"]
mod streams;
#[path = "common/tables.rs"]
mod tables;

use std::process::ExitCode;

use quantloom_kernels::FORMATS;

fn main() -> ExitCode {
    let formats = FORMATS.iter().chain(elsewhere::ELSEWHERE).map(|format| layouts::subject(format));
    quantloom_bench::prove::main(
        formats
            .chain(long::subjects())
            .chain(streams::subjects())
            .chain(products::subjects())
            .chain(tables::subjects())
            .collect(),
    )
}
