//! The cells of this project's formats, and of a format declared elsewhere: here.

use std::collections::HashSet;

use quantloom_bench::{Cell, Operation, Place, Weights, cells};
use quantloom_kernels::{BlockFormat, FORMATS, Format, Isa, Supported, quant_format};

quant_format! {
    /// 4 bits in blocks that don't divide a model's rows, with a minimum of their own each.
    block Uneven[96] {
        d: f16,
        m: f16,
        qs: [u8; 48],

        q[a: 3, h: 2, i: 16] = qs[16 * a + i] >> 4 * h & 15;
        w = d * q + m;
    }
}

fn formats() -> Vec<&'static Format> {
    FORMATS.iter().copied().chain([Uneven::FORMAT]).collect()
}

/// `format/operation/isa/columns`, of a `gemv` also `/place`, each once.
#[test]
fn names_are_unique_and_of_one_grammar() {
    let mut names = HashSet::new();
    for cell in cells(&formats()) {
        let name = cell.to_string();
        let parts: Vec<&str> = name.split('/').collect();
        let place = parts.get(4).map(|&place| Place::ALL.into_iter().find(|p| p.name() == place).unwrap());
        assert_eq!(parts.len(), if cell.operation == Operation::Gemv { 5 } else { 4 }, "{name}");
        assert_eq!(parts[0], cell.format.name.to_lowercase(), "{name}");
        assert_eq!(parts[1], format!("{:?}", cell.operation).to_lowercase(), "{name}");
        assert_eq!(parts[2], cell.isa.name(), "{name}");
        assert_eq!(parts[3].parse(), Ok(cell.columns), "{name}");
        assert_eq!(place, cell.place, "{name}");
        assert!(names.insert(name.clone()), "{name} is there twice");
    }
    for name in [
        "q4_0/gemv/avx512_vnni/2048/l2",
        "q4_0/dot/scalar/5632",
        "q6_k/gemv/avx_vnni/2048/memory",
        "q8_0/dequantize/avx2_fma/2048",
        "q4_1/quantize/scalar/2048",
        "uneven/gemv/scalar/2112/l1",
    ] {
        assert!(names.contains(name), "{name} is missing");
    }
}

#[test]
fn every_format_has_every_operation_on_every_instruction_set() {
    let cells = cells(&formats());
    let has = |wanted: &dyn Fn(&&Cell) -> bool| cells.iter().filter(wanted).count();
    for format in formats() {
        let of = |cell: &Cell| std::ptr::eq(cell.format, format);
        for &isa in Isa::ALL {
            for (operation, places, count) in [
                (Operation::Dot, &[None][..], 2),
                (Operation::Gemv, &[Some(Place::L1), Some(Place::L2), Some(Place::Memory)], 1),
                (Operation::Gemm, &[None], 1),
                (Operation::Dequantize, &[None], 1),
            ] {
                for &place in places {
                    let found = has(&|cell| {
                        of(cell) && cell.isa == isa && cell.operation == operation && cell.place == place
                    });
                    assert_eq!(found, count, "{} {operation:?} {isa} {place:?}", format.name);
                }
            }
        }
        let quantizers = has(&|cell| of(cell) && cell.operation == Operation::Quantize);
        assert_eq!(quantizers, usize::from(format.quantize.is_some()), "{}", format.name);
    }
}

/// Rows are whole blocks, matrices fit their place, and the kernels accept both.
#[test]
fn every_cell_runs_where_the_cpu_can() {
    let weights = Weights::new();
    for cell in cells(&formats()) {
        let place = cell.reads_from();
        assert_eq!(cell.columns % cell.format.block_len, 0, "{cell}");
        assert!(cell.bytes() <= place.bytes(), "{cell}: {} bytes", cell.bytes());
        if cell.place.is_some_and(|place| place != Place::L1) {
            assert!(cell.bytes() > place.bytes() * 9 / 10, "{cell}: {} bytes", cell.bytes());
        }
        match (cell.workload(&weights), Supported::new(cell.isa)) {
            (Ok(mut workload), Ok(_)) => workload.run(),
            (Err(error), Err(expected)) => assert_eq!(error, expected, "{cell}"),
            (workload, _) => panic!("{cell}: {}", workload.is_ok()),
        }
    }
}

/// What comes from memory comes round last.
#[test]
fn windows_of_the_stream_follow_each_other() {
    let weights = Weights::new();
    let window = |bytes| weights.read(Place::Memory, bytes).as_ptr() as usize;
    let first = window(Place::Memory.bytes());
    assert_eq!(first % 64, 0, "the first is not on a cache line");
    let second = window(1000);
    assert_eq!(second, first + Place::Memory.bytes());
    assert_eq!(window(64), second + 1024, "the third is not on the next cache line");
    // The rest, up to less than a window before the end.
    let mut read = Place::Memory.bytes();
    while window(Place::Memory.bytes()) != first {
        read += Place::Memory.bytes();
    }
    assert!(read + 2 * Place::Memory.bytes() > Weights::stream_bytes(), "only {read} bytes are read");
}
