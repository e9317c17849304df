//! The cells as criterion benchmarks.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use quantloom_kernels::{Format, Isa, Supported};

use crate::{Weights, cells};

/// A cell is short and steady: a second for each keeps a whole table within minutes.
pub fn criterion_config() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

/// Measures the cells of these formats that criterion's filter keeps, each under its name. Throughput is
/// in bytes of blocks and in what is done (`elem/s`), products accumulated or weights converted.
///
/// Cells that this CPU can't run are named first, on standard error.
pub fn criterion_cells(criterion: &mut Criterion, formats: &[&'static Format]) {
    let cells = cells(formats);
    for &isa in Isa::ALL {
        if let Err(error) = Supported::new(isa) {
            let count = cells.iter().filter(|cell| cell.isa == isa).count();
            eprintln!("not run: {count} cells */{isa}/*: {error}");
        }
    }
    let weights = Weights::new();
    for &format in formats {
        let mut group = criterion.benchmark_group(format.name.to_lowercase());
        for cell in self::cells(&[format]).into_iter().filter(|cell| Supported::new(cell.isa).is_ok()) {
            let (elements, bytes) = (cell.work() as u64, cell.bytes() as u64);
            group.throughput(Throughput::ElementsAndBytes { elements, bytes });
            let name = cell.to_string();
            let (_, name) = name.split_once('/').expect("the group and the rest");
            group.bench_function(name, |bencher| {
                let mut workload = cell.workload(&weights).expect("filtered above");
                bencher.iter(|| black_box(&mut workload).run());
            });
        }
        group.finish();
    }
}
