//! Ways to come near the limits of the machine with one thread: reading bytes, and accumulating 8-bit products.
//!
//! Kernels are held against these, measured in the same run as they. A limit is the best of its ways: which
//! loads are fastest differs between CPUs, and so does whether `vpdpbusd` runs twice as often at half the width.

use std::hint::black_box;

use crate::{Isa, Supported};

#[cfg(target_arch = "x86_64")]
mod x86;

/// A way to read bytes.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    by: &'static str,
    run: fn(&[u8], usize),
}

/// A way to multiply 8-bit codes by 8-bit activations and add up the products.
#[derive(Clone, Copy, Debug)]
pub struct MultiplyAccumulate {
    by: &'static str,
    products: usize,
    run: fn(),
}

/// Places that are read in turn. Hardware fetches ahead in each 4 KiB page of its own accord, as far as it may in one
/// page: a thread that reads several places has more on its way from memory.
const PLACES: usize = 4;

/// What the ways multiply that load their operands; it lies in L1.
const CODES: usize = 16 * 1024;

impl Read {
    /// The ways that `isa` adds to those of the instruction sets it includes.
    pub fn ways(isa: Supported) -> Vec<Self> {
        match isa.isa() {
            Isa::Scalar => vec![
                Self { by: "plain loads", run: xor::<128, 1> },
                Self { by: "plain loads from 4 places", run: xor::<32, PLACES> },
            ],
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2Fma => vec![
                // SAFETY: that `isa` is supported proves that the CPU has AVX2.
                Self { by: "32-byte loads", run: |bytes, passes| unsafe { x86::read_32(bytes, passes) } },
            ],
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => vec![
                // SAFETY: that `isa` is supported proves that the CPU has AVX-512F and AVX-512BW.
                Self { by: "64-byte loads", run: |bytes, passes| unsafe { x86::read_64(bytes, passes) } },
                Self {
                    by: "64-byte loads from 4 places",
                    // SAFETY: as above.
                    run: |bytes, passes| unsafe { x86::read_64_from_places(bytes, passes) },
                },
            ],
            // Others load as their base does.
            _ => Vec::new(),
        }
    }

    /// The way in words.
    pub fn by(&self) -> &'static str {
        self.by
    }

    /// Reads all bytes, some at the end aside, a number of times.
    pub fn run(&self, bytes: &[u8], passes: usize) {
        (self.run)(bytes, passes);
    }
}

impl MultiplyAccumulate {
    /// The ways with the instructions of `isa`, or with those of its base where it has none of its own.
    pub fn ways(isa: Supported) -> Vec<Self> {
        match isa.isa() {
            #[cfg(target_arch = "x86_64")]
            has if has.includes(Isa::Avx512Vnni) => vec![
                Self {
                    by: "512-bit vpdpbusd",
                    products: 64 * x86::DOTS,
                    // SAFETY: that `isa` is supported proves that the CPU has AVX-512-VNNI.
                    run: || unsafe { x86::vpdpbusd_512() },
                },
                Self {
                    by: "256-bit vpdpbusd",
                    products: 32 * x86::DOTS,
                    // SAFETY: that `isa` is supported proves that the CPU has AVX-512-VNNI with AVX-512VL.
                    run: || unsafe { x86::vpdpbusd_evex() },
                },
            ],
            #[cfg(target_arch = "x86_64")]
            has if has.includes(Isa::AvxVnni) => vec![Self {
                by: "256-bit vpdpbusd",
                products: 32 * x86::DOTS,
                // SAFETY: that `isa` is supported proves that the CPU has AVX-VNNI.
                run: || unsafe { x86::vpdpbusd_vex() },
            }],
            #[cfg(target_arch = "x86_64")]
            has if has.includes(Isa::Avx2Fma) => vec![Self {
                by: "256-bit vpmaddubsw, vpmaddwd, vpaddd",
                products: CODES,
                // SAFETY: that `isa` is supported proves that the CPU has AVX2.
                run: || unsafe { x86::vpmaddubsw(black_box(&[15; CODES])) },
            }],
            _ => vec![Self {
                by: "a loop that the compiler vectorizes",
                products: CODES,
                run: || {
                    let codes = black_box(&[15; CODES]);
                    black_box(products(codes, black_box(codes)));
                },
            }],
        }
    }

    /// The way in words.
    pub fn by(&self) -> &'static str {
        self.by
    }

    /// Products of one [`run`](Self::run).
    pub fn products(&self) -> usize {
        self.products
    }

    /// Multiplies and adds for some microseconds.
    pub fn run(&self) {
        (self.run)();
    }
}

/// Reads every byte from `PLACES` places in turn, in vectors as wide as the caller's target features allow. The
/// `N` · `PLACES` bytes are as many independent vectors as hide the latency of the exclusive or, one cycle, at up to
/// three loads a cycle.
#[inline(always)]
fn xor<const N: usize, const PLACES: usize>(bytes: &[u8], passes: usize) {
    let mut sums = [[0; N]; PLACES];
    for _ in 0..passes {
        // The compiler must not see that it is the same bytes again, which would cancel out.
        let (chunks, _) = black_box(bytes).as_chunks::<N>();
        let apart = chunks.len() / PLACES;
        let places: [_; PLACES] = std::array::from_fn(|place| &chunks[place * apart..][..apart]);
        for i in 0..apart {
            for (sums, place) in sums.iter_mut().zip(places) {
                sums.iter_mut().zip(&place[i]).for_each(|(sum, byte)| *sum ^= byte);
            }
        }
    }
    black_box(sums);
}

/// Σ code · activation in plain Rust, with whatever vectors every CPU of the target has.
fn products(codes: &[u8], activations: &[u8]) -> i32 {
    codes.iter().zip(activations).map(|(&code, &a)| i32::from(code) * i32::from(a as i8)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_runs() {
        for isa in Supported::all() {
            for read in Read::ways(isa) {
                for len in [0, 1, 4095, 4096] {
                    read.run(&vec![1; len], 2);
                }
            }
            let ways = MultiplyAccumulate::ways(isa);
            assert!(!ways.is_empty(), "{}", isa.isa());
            for way in ways {
                way.run();
                assert!(way.products() > 0, "{}", way.by());
            }
        }
    }
}
