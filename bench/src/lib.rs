//! The laboratory: proves every kernel cell, format × operation × instruction set, against a layout written by
//! hand ([`prove`]), and measures it beside the limits of the machine, a `gemv` also by where its matrix lies.
//!
//! All of it works for formats that are declared elsewhere. A benches file of theirs, of which
//! `cargo bench -- q6_0/gemv` measures the cells whose name holds `q6_0/gemv`:
//!
//! ```no_run
//! # use quantloom_kernels::{BlockFormat, formats::Q4_0 as Q6_0};
//! fn kernels(criterion: &mut criterion::Criterion) {
//!     quantloom_bench::criterion_cells(criterion, &[Q6_0::FORMAT]);
//! }
//! criterion::criterion_group! { name = cells; config = quantloom_bench::criterion_config(); targets = kernels }
//! criterion::criterion_main!(cells);
//! ```
//!
//! And an example of theirs that reports each cell's share of what the machine allows:
//!
//! ```no_run
//! # use quantloom_kernels::{BlockFormat, formats::Q4_0 as Q6_0};
//! fn main() -> std::process::ExitCode {
//!     quantloom_bench::report::main(&[Q6_0::FORMAT])
//! }
//! ```

mod cell;
pub mod emulate;
mod harness;
mod limits;
mod machine;
pub mod prove;
pub mod report;
mod series;
mod weights;

pub use cell::{Cell, Operation, Place, Workload, cells};
pub use harness::{criterion_cells, criterion_config};
pub use limits::peak;
pub use machine::{Cache, Machine};
pub use weights::Weights;
