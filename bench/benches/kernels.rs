//! `cargo bench -p quantloom-bench -- q4_0/dot` measures the cells whose name holds `q4_0/dot`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quantloom_kernels::{Isa, Supported};

fn kernels(criterion: &mut Criterion) {
    for &isa in Isa::ALL {
        if let Err(error) = Supported::new(isa) {
            eprintln!("not run: {error}");
        }
    }
    for cell in quantloom_bench::cells().filter(|cell| Supported::new(cell.isa).is_ok()) {
        let name = cell.to_string();
        let (group, case) = name.split_once('/').expect("a name has parts");
        let mut group = criterion.benchmark_group(group);
        group.throughput(Throughput::Bytes(cell.bytes() as u64));
        group.bench_function(case, |bencher| {
            let mut workload = cell.workload().expect("filtered above");
            bencher.iter(|| black_box(&mut workload).run());
        });
    }
}

criterion_group! {
    name = cells;
    // A cell is short and steady: a second for each keeps the whole table within minutes.
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = kernels
}
criterion_main!(cells);
