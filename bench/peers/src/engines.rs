//! The engines. One more in Rust is a file in `bin`, which `Cargo.toml` names with its crates, and a line here.

use crate::prepare::LlamaBuild;
use crate::results::Comparison;

/// An engine, in a way to build and run it.
#[derive(Clone, Copy, Debug)]
pub struct Engine {
    /// As tables name it.
    pub name: &'static str,
    pub start: Start,
    /// What its environment has besides the number of threads.
    pub environment: &'static [(&'static str, &'static str)],
}

/// What its worker is.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    /// A binary of this package, built as it is distributed: for any CPU.
    Portable { worker: &'static str },
    /// A binary of this package that needs a feature, and is built for this CPU.
    Native { worker: &'static str, feature: &'static str },
    /// A script, run by a Python that has llama-cpp-python.
    Llama(LlamaBuild),
    /// A script, run by a Python that has gguf.
    Exact,
    /// A script, run by a Python that has mistralrs, which is asked and answers as `llama-bench`.
    Mistral,
}

/// What the others are compared with.
pub const OURS: Engine =
    Engine { name: "Quantloom", start: Start::Portable { worker: "worker-quantloom" }, environment: &[] };

/// Whose files these are.
pub const LLAMA_CPP: Engine =
    Engine { name: "llama.cpp", start: Start::Llama(LlamaBuild::Native), environment: &[] };

/// No engine, but what the weights of a file mean.
pub const EXACT: Engine = Engine { name: "float64", start: Start::Exact, environment: &[] };

/// It takes text alone, so that tokens can't be given to it one by one as to a worker.
pub const MISTRAL_RS: Engine = Engine { name: "mistral.rs", start: Start::Mistral, environment: &[] };

/// Everyone that has a worker. Candle and Realizar choose vector instructions when they are compiled.
pub const ALL: &[Engine] = &[
    OURS,
    LLAMA_CPP,
    Engine {
        name: "Candle",
        start: Start::Native { worker: "worker-candle", feature: "candle" },
        environment: &[],
    },
    Engine {
        name: "Realizar",
        start: Start::Native { worker: "worker-realizar", feature: "realizar" },
        environment: &[],
    },
];

/// The best two, on AVX2 alone.
pub const ON_AVX2: &[Engine] = &[
    Engine { name: "Quantloom, avx2_fma", environment: &[("QUANTLOOM_ISA", "avx2_fma")], ..OURS },
    Engine { name: "llama.cpp, AVX2", start: Start::Llama(LlamaBuild::Avx2), environment: &[] },
];

/// Those that are run beside a busy process.
pub const DISTURBED: &[Engine] = &[OURS, LLAMA_CPP];

/// Those that are compared in something.
pub fn of(comparison: Comparison) -> impl Iterator<Item = &'static Engine> {
    let (workers, more): (&[Engine], &[Engine]) = match comparison {
        Comparison::Speed => (ALL, &[MISTRAL_RS]),
        Comparison::Details => (ALL, &[]),
        Comparison::Avx2 => (ON_AVX2, &[]),
        Comparison::Busy => (DISTURBED, &[]),
    };
    workers.iter().chain(more)
}
