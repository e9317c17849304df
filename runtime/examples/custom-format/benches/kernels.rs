//! `cargo bench -- q6_0/gemv` measures the cells whose name holds `q6_0/gemv`.

use criterion::{Criterion, criterion_group, criterion_main};

fn kernels(criterion: &mut Criterion) {
    quantloom_bench::criterion_cells(criterion, &[custom_format::FORMAT]);
}

criterion_group! { name = cells; config = quantloom_bench::criterion_config(); targets = kernels }
criterion_main!(cells);
