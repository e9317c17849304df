//! `cargo bench -- q4_0/dot` measures the cells whose name holds `q4_0/dot`.

use criterion::{Criterion, criterion_group, criterion_main};
use quantloom_kernels::FORMATS;

fn kernels(criterion: &mut Criterion) {
    quantloom_bench::criterion_cells(criterion, FORMATS);
}

criterion_group! { name = cells; config = quantloom_bench::criterion_config(); targets = kernels }
criterion_main!(cells);
