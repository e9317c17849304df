//! `cargo bench -- q6_0/gemv` measures the cells whose name holds `q6_0/gemv`.

use criterion::{Criterion, criterion_group, criterion_main};
use custom_format::Q6_0;
use quantloom_kernels::BlockFormat;

fn kernels(criterion: &mut Criterion) {
    quantloom_bench::criterion_cells(criterion, &[Q6_0::FORMAT]);
}

criterion_group! { name = cells; config = quantloom_bench::criterion_config(); targets = kernels }
criterion_main!(cells);
