//! Formats declared outside the crate, as a user declares them: the language has room for GGUF's other
//! formats and for some that nobody has.

use quantloom_kernels::quant_format;

quant_format! {
    /// The formats of this file.
    pub table ELSEWHERE;

    /// 4 bits, neighbours in one byte: every byte is needed twice in a row.
    pub block AprQ4[32] {
        d: f16,
        qs: [u8; 16],

        q[i: 16, h: 2] = qs[i] >> 4 * h & 15;
        w = d * (q - 8);
    }

    /// 5 bits, the fifth of all weights in four bytes.
    pub block Q5_0[32] = gguf 6 {
        d: f16,
        qh: [u8; 4],
        qs: [u8; 16],

        q[h: 2, j: 2, k: 8] = qs[8 * j + k] >> 4 * h & 15 | (qh[2 * h + j] >> k & 1) << 4;
        w = d * (q - 16);
    }

    /// 5 bits with a minimum.
    pub block Q5_1[32] = gguf 7 {
        d: f16,
        m: f16,
        qh: [u8; 4],
        qs: [u8; 16],

        q[h: 2, j: 2, k: 8] = qs[8 * j + k] >> 4 * h & 15 | (qh[2 * h + j] >> k & 1) << 4;
        w = d * q + m;
    }

    /// 2 bits; each 16 weights share a scale and a minimum of 4 bits.
    pub block Q2_K[256] = gguf 10 {
        sc: [u8; 16],
        qs: [u8; 64],
        d: f16,
        dmin: f16,

        s[g: 16] = sc[g] & 15;
        m[g: 16] = sc[g] >> 4;
        q[a: 2, l: 4, i: 32] = qs[32 * a + i] >> 2 * l & 3;
        w = d * s * q - dmin * m;
    }

    /// 3 bits in two planes; each 16 weights have a 6-bit scale, in two planes too.
    pub block Q3_K[256] = gguf 11 {
        hmask: [u8; 32],
        qs: [u8; 64],
        sc: [u8; 12],
        d: f16,

        s[a: 2, b: 2, c: 4] = sc[4 * b + c] >> 4 * a & 15 | (sc[8 + c] >> (4 * a + 2 * b) & 3) << 4;
        q[a: 2, l: 4, i: 32] = qs[32 * a + i] >> 2 * l & 3 | (hmask[i] >> (4 * a + l) & 1) << 2;
        w = d * (s - 32) * (q - 4);
    }

    /// 4 bits; each 32 weights share a scale and a minimum of 6 bits.
    pub block Q4_K[256] = gguf 12 {
        d: f16,
        dmin: f16,
        sc: [u8; 12],
        qs: [u8; 128],

        s[h: 2, i: 4] = sc[8 * h + i] & 15 | (sc[i] >> (4 + 2 * h) & 3) << 4;
        m[h: 2, i: 4] = sc[4 + 4 * h + i] >> 4 * h & 15 | (sc[4 + i] >> (4 + 2 * h) & 3) << 4;
        q[a: 4, h: 2, i: 32] = qs[32 * a + i] >> 4 * h & 15;
        w = d * s * q - dmin * m;
    }

    /// Q4_K with a fifth bit.
    pub block Q5_K[256] = gguf 13 {
        d: f16,
        dmin: f16,
        sc: [u8; 12],
        qh: [u8; 32],
        qs: [u8; 128],

        s[h: 2, i: 4] = sc[8 * h + i] & 15 | (sc[i] >> (4 + 2 * h) & 3) << 4;
        m[h: 2, i: 4] = sc[4 + 4 * h + i] >> 4 * h & 15 | (sc[4 + i] >> (4 + 2 * h) & 3) << 4;
        q[a: 4, h: 2, i: 32] = qs[32 * a + i] >> 4 * h & 15 | (qh[i] >> (2 * a + h) & 1) << 4;
        w = d * s * q - dmin * m;
    }

    /// 4 bits that select from a table.
    pub block IQ4_NL[32] = gguf 20 {
        d: f16,
        qs: [u8; 16],

        table NL = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * NL[q];
    }

    /// The same table; each 32 weights have a 6-bit scale.
    pub block IQ4_XS[256] = gguf 23 {
        d: f16,
        sh: [u8; 2],
        sl: [u8; 4],
        qs: [u8; 128],

        table NL = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
        s[a: 2, b: 2, c: 2] = sl[2 * a + b] >> 4 * c & 15 | (sh[a] >> (4 * b + 2 * c) & 3) << 4;
        q[g: 8, h: 2, i: 16] = qs[16 * g + i] >> 4 * h & 15;
        w = d * (s - 32) * NL[q];
    }

    /// -1, 0 and 1 in 2 bits.
    pub block TQ2_0[256] = gguf 35 {
        qs: [u8; 64],
        d: f16,

        q[a: 2, l: 4, i: 32] = qs[32 * a + i] >> 2 * l & 3;
        w = d * (q - 1);
    }

    /// 2 bits, four neighbours in one byte.
    pub block Q2_0[64] = gguf 42 {
        d: f16,
        qs: [u8; 16],

        q[i: 16, k: 4] = qs[i] >> 2 * k & 3;
        w = d * (q - 1);
    }

    /// Nobody's: 6 bits, each quarter of the block with a signed scale. Fewer scales than a vector has
    /// lanes.
    pub block Quarters[128] {
        sc: [i8; 4],
        d: f16,
        ql: [u8; 64],
        qh: [u8; 32],

        q[h: 2, a: 2, i: 32] = ql[32 * a + i] >> 4 * h & 15 | (qh[i] >> (4 * h + 2 * a) & 3) << 4;
        w = d * sc * (q - 31);
    }

    /// Nobody's: 8 signed bits with twelve scales, one and a half vectors of them, two factors for the
    /// block, and an added minimum with its own zero point.
    pub block Dozen[384] {
        d: f16,
        e: f16,
        sc: [i8; 12],
        m: f16,
        mins: [u8; 6],
        qs: [i8; 384],

        n[i: 6, h: 2] = mins[i] >> 4 * h & 15;
        w = d * sc * e * qs + m * (n - 3);
    }

    /// Nobody's: 7 bits, the most that unsigned codes have; each 4 weights, one lane, have a scale.
    pub block Sevens[64] {
        d: f16,
        sc: [u8; 8],
        low: [u8; 32],
        high: [u8; 24],

        s[i: 8, h: 2] = sc[i] >> 4 * h & 15;
        q[h: 2, j: 4, k: 8] = low[8 * j + k] >> 4 * h & 15
                            | (high[8 * h + k] >> 2 * j & 3) << 4
                            | (high[16 + 4 * h + j] >> k & 1) << 6;
        w = d * s * (q - 64);
    }

    /// Nobody's: 7 bits, of which the seventh of all weights stand in four bytes, each in its own bit.
    pub block Q7_0[32] {
        d: f16,
        qh: [u8; 12],
        qs: [u8; 16],

        q[h: 2, j: 2, l: 2, m: 4] = qs[8 * j + 4 * l + m] >> 4 * h & 15
                                  | (qh[4 * l + m] >> (4 * j + 2 * h) & 3) << 4
                                  | (qh[8 + m] >> (4 * h + 2 * j + l) & 1) << 6;
        w = d * (q - 64);
    }
}
