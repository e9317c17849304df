//! Q6_0: 32 weights of 6 bits and an f16 scale in 26 bytes. ggml's users asked for it, and it was not merged.
//!
//! This is all that the format needs. Its kernels, tests, benchmarks, snapshots, and a program that quantizes
//! models to it and runs them follow from these lines and from files of a few lines that pass it on.

use quantloom_kernels::{BlockFormat, Format};

/// What the other files pass on.
pub const FORMAT: &Format = Q6_0::FORMAT;

quantloom_kernels::quant_format! {
    /// 6 bits, symmetric about code 32: a nibble each, and two bits of a byte that four weights share.
    pub block Q6_0[32] = gguf 133 {
        d: f16,
        qh: [u8; 8],
        qs: [u8; 16],

        q[h: 2, j: 2, k: 8] = qs[8 * j + k] >> 4 * h & 15 | (qh[k] >> (4 * j + 2 * h) & 3) << 4;
        w = d * (q - 32);
        quantize by furthest;
    }
}
