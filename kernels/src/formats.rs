//! Every format of this crate, on one page.
//!
//! `q[h: 2, i: 16] = …` numbers the elements of a block by digits, slowest first: element 16·h + i.

use crate::quant_format;

quant_format! {
    /// The formats declared in this crate.
    pub table FORMATS;

    /// 4 bits, symmetric about code 8.
    pub block Q4_0[32] = gguf 2 {
        d: f16,
        qs: [u8; 16],

        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (q - 8);
    }

    /// 4 bits with a minimum.
    pub block Q4_1[32] = gguf 3 {
        d: f16,
        m: f16,
        qs: [u8; 16],

        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * q + m;
    }

    /// 8 bits, signed.
    pub block Q8_0[32] = gguf 8 {
        d: f16,
        qs: [i8; 32],

        w = d * qs;
    }

    /// 6 bits in two planes; each 16 weights have an 8-bit scale of their own.
    pub block Q6_K[256] = gguf 14 {
        ql: [u8; 128],
        qh: [u8; 64],
        sc: [i8; 16],
        d: f16,

        q[a: 2, k: 2, b: 2, i: 32] = ql[64 * a + 32 * b + i] >> 4 * k & 15
                                   | (qh[32 * a + i] >> (4 * k + 2 * b) & 3) << 4;
        w = d * sc * (q - 32);
    }
}
