//! The limits of the machine, measured by one thread: how fast it reads from each place, and how many
//! 8-bit products it accumulates with each instruction set.
//!
//! Kernels are held against these: of a cell with intensity I (multiply-accumulates per byte of weights)
//! the limit is min(peak, I × bandwidth), the roofline.

use std::fmt;
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;

use quantloom_kernels::{Isa, Supported};
use serde::Serialize;

use crate::series::{Effort, Figure, Series};
use crate::{Place, Weights};

#[cfg(target_arch = "x86_64")]
mod x86;

/// What a kernel can't exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "of", rename_all = "lowercase")]
pub enum Limit {
    /// Bytes read from a place.
    Bandwidth(Place),
    /// 8-bit products accumulated with the instructions of an instruction set.
    Peak(#[serde(serialize_with = "by_name")] Isa),
}

/// One way to come near a limit.
pub(crate) struct Probe<'w> {
    pub limit: Limit,
    /// The way, in words.
    pub by: &'static str,
    /// Bytes read, or products accumulated, by one call.
    pub work: f64,
    pub series: Series<'w>,
}

/// Every way that this CPU has. The limit is the best of its ways: which loads are fastest differs between
/// CPUs, and so does whether `vpdpbusd` runs twice as often at half the width.
pub(crate) fn probes(weights: &Weights) -> Vec<Probe<'_>> {
    let mut probes = Vec::new();
    for isa in Supported::all() {
        if let Some((by, read)) = reads(isa) {
            probes.extend(Place::ALL.map(|place| bandwidth(weights, place, by, read)));
        }
        probes.extend(peaks(weights, isa));
    }
    probes
}

/// The way to a limit whose median is best, and how fast it is; `None` where no way is.
pub(crate) fn best(probes: &[Probe], limit: Limit) -> Option<(&'static str, Figure)> {
    let ways = probes.iter().filter(|probe| probe.limit == limit);
    ways.map(|probe| (probe.by, probe.series.giga_per_second(probe.work)))
        .max_by(|(_, a), (_, b)| a.median.total_cmp(&b.median))
}

/// What threads multiply and accumulate at the same time, all of them together, with an instruction set: 10⁹ products
/// per second. It takes some milliseconds.
pub fn peak(isa: Supported, threads: usize) -> f64 {
    let effort = Effort { rounds: 5, batches: 3, batch_us: 500 };
    let start = Barrier::new(threads);
    let one = || {
        let weights = Weights::new();
        let mut probes = peaks(&weights, isa);
        start.wait();
        for _ in 0..effort.rounds {
            probes.iter_mut().for_each(|probe| probe.series.turn(effort));
        }
        best(&probes, Limit::Peak(isa.isa())).expect("each instruction set has a way").1.median
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a probe does not panic")).sum()
    })
}

/// Bytes that one call of a probe looks at: where they are few, the cost of a call, some ten cycles,
/// vanishes in many passes.
const BYTES_PER_CALL: usize = 1 << 20;

/// Reads all bytes a number of times.
type Read = fn(&[u8], usize);

fn bandwidth<'w>(weights: &'w Weights, place: Place, by: &'static str, read: Read) -> Probe<'w> {
    let passes = BYTES_PER_CALL.div_ceil(place.bytes());
    let work = (passes * place.bytes()) as f64;
    let run = Box::new(move || read(weights.read(place, place.bytes()), passes));
    Probe { limit: Limit::Bandwidth(place), by, work, series: Series::new(run) }
}

/// The widest loads of an instruction set, where they differ from those of its base.
fn reads(isa: Supported) -> Option<(&'static str, Read)> {
    match isa.isa() {
        Isa::Scalar => Some(("plain loads", xor::<128>)),
        // SAFETY: that `isa` is supported proves that the CPU has AVX2.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2Fma => Some(("32-byte loads", |bytes, passes| unsafe { x86::read_32(bytes, passes) })),
        // SAFETY: that `isa` is supported proves that the CPU has AVX-512F and AVX-512BW.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => Some(("64-byte loads", |bytes, passes| unsafe { x86::read_64(bytes, passes) })),
        _ => None,
    }
}

/// Reads every byte, in vectors as wide as the caller's target features allow. `N` bytes are as many
/// independent vectors as hide the latency of the exclusive or, one cycle, at up to three loads a cycle.
#[inline(always)]
fn xor<const N: usize>(bytes: &[u8], passes: usize) {
    let mut sums = [0; N];
    for _ in 0..passes {
        // The compiler must not see that it is the same bytes again, which would cancel out.
        let (chunks, _) = black_box(bytes).as_chunks::<N>();
        for chunk in chunks {
            sums.iter_mut().zip(chunk).for_each(|(sum, byte)| *sum ^= byte);
        }
    }
    black_box(sums);
}

/// The ways to multiply and accumulate of an instruction set. One that has no instructions of its own for
/// that is held against those of its base.
fn peaks(weights: &Weights, isa: Supported) -> Vec<Probe<'_>> {
    let probe = |by, work: usize, run| Probe {
        limit: Limit::Peak(isa.isa()),
        by,
        work: work as f64,
        series: Series::new(run),
    };
    let codes = weights.read(Place::L1, Place::L1.bytes());
    let passes = BYTES_PER_CALL / codes.len();
    match isa.isa() {
        #[cfg(target_arch = "x86_64")]
        has if has.includes(Isa::Avx512Vnni) => vec![
            // SAFETY: that `isa` is supported proves that the CPU has AVX-512-VNNI.
            probe("512-bit vpdpbusd", 64 * x86::DOTS, Box::new(|| unsafe { x86::vpdpbusd_512() })),
            // SAFETY: that `isa` is supported proves that the CPU has AVX-512-VNNI with AVX-512VL.
            probe("256-bit vpdpbusd", 32 * x86::DOTS, Box::new(|| unsafe { x86::vpdpbusd_evex() })),
        ],
        #[cfg(target_arch = "x86_64")]
        has if has.includes(Isa::AvxVnni) => {
            // SAFETY: that `isa` is supported proves that the CPU has AVX-VNNI.
            let run = Box::new(|| unsafe { x86::vpdpbusd_vex() });
            vec![probe("256-bit vpdpbusd", 32 * x86::DOTS, run)]
        }
        #[cfg(target_arch = "x86_64")]
        has if has.includes(Isa::Avx2Fma) => {
            // SAFETY: that `isa` is supported proves that the CPU has AVX2.
            let run = Box::new(move || (0..passes).for_each(|_| unsafe { x86::vpmaddubsw(codes) }));
            vec![probe("256-bit vpmaddubsw, vpmaddwd, vpaddd", passes * codes.len(), run)]
        }
        _ => {
            let run = Box::new(move || {
                for _ in 0..passes {
                    black_box(products(black_box(codes), codes));
                }
            });
            vec![probe("a loop that the compiler vectorizes", passes * codes.len(), run)]
        }
    }
}

/// Σ code · activation in plain Rust, with whatever vectors every CPU of the target has.
fn products(codes: &[u8], activations: &[u8]) -> i32 {
    codes.iter().zip(activations).map(|(&code, &a)| i32::from(code) * i32::from(a as i8)).sum()
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bandwidth(place) => write!(f, "{} bandwidth", place.name()),
            Self::Peak(isa) => write!(f, "{isa} peak"),
        }
    }
}

pub(crate) fn by_name<S: serde::Serializer>(isa: &Isa, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(isa.name())
}
