//! The ways that need an instruction set.

use core::arch::x86_64::*;
use std::hint::black_box;

use super::{PLACES, xor};
use crate::x86::load_256;

/// Reads in 32-byte vectors.
#[target_feature(enable = "avx2")]
pub fn read_32(bytes: &[u8], passes: usize) {
    xor::<256, 1>(bytes, passes);
}

/// Reads in 64-byte vectors.
#[target_feature(enable = "avx512f,avx512bw")]
pub fn read_64(bytes: &[u8], passes: usize) {
    xor::<256, 1>(bytes, passes);
}

/// Reads in 64-byte vectors from several places in turn.
#[target_feature(enable = "avx512f,avx512bw")]
pub fn read_64_from_places(bytes: &[u8], passes: usize) {
    xor::<64, PLACES>(bytes, passes);
}

/// Independent sums: `vpdpbusd` has a latency of at most 5 cycles and starts at most twice a cycle, so that
/// ten keep both of its pipelines full. Two more cost nothing, and with the operands they fit into the 16
/// registers of the VEX encoding.
const SUMS: usize = 12;

/// Rounds over the sums in one call.
const ROUNDS: usize = 4096;

/// `vpdpbusd`s of one call.
pub const DOTS: usize = SUMS * ROUNDS;

/// The VEX encoding, 256 bits.
#[target_feature(enable = "avx2,avxvnni")]
pub fn vpdpbusd_vex() {
    let (codes, activations) = black_box((_mm256_set1_epi8(15), _mm256_set1_epi8(-7)));
    // The compiler must not see that the sums are equal: it would keep one.
    let mut sums = black_box([_mm256_setzero_si256(); SUMS]);
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = _mm256_dpbusd_avx_epi32(*sum, codes, activations);
        }
    }
    black_box(sums);
}

/// The EVEX encoding, 256 bits.
#[target_feature(enable = "avx512f,avx512vl,avx512vnni")]
pub fn vpdpbusd_evex() {
    let (codes, activations) = black_box((_mm256_set1_epi8(15), _mm256_set1_epi8(-7)));
    let mut sums = black_box([_mm256_setzero_si256(); SUMS]);
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = _mm256_dpbusd_epi32(*sum, codes, activations);
        }
    }
    black_box(sums);
}

/// 512 bits.
#[target_feature(enable = "avx512f,avx512vnni")]
pub fn vpdpbusd_512() {
    let (codes, activations) = black_box((_mm512_set1_epi8(15), _mm512_set1_epi8(-7)));
    let mut sums = black_box([_mm512_setzero_si512(); SUMS]);
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, codes, activations);
        }
    }
    black_box(sums);
}

/// AVX2's three instructions. Only the last adds to a sum, in one cycle, and at most three of them start
/// in a cycle: four sums. The products are of bytes loaded from L1, one load to three instructions, lest
/// the compiler computes them once.
#[target_feature(enable = "avx2")]
pub fn vpmaddubsw(activations: &[u8]) {
    let (codes, ones) = black_box((_mm256_set1_epi8(15), _mm256_set1_epi16(1)));
    let mut sums = [_mm256_setzero_si256(); 4];
    for four in activations.as_chunks::<32>().0.as_chunks::<4>().0 {
        for (sum, activations) in sums.iter_mut().zip(four) {
            let products = _mm256_maddubs_epi16(codes, load_256::<0, _>(activations));
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(products, ones));
        }
    }
    black_box(sums);
}
