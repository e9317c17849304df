//! Formats declared outside the crate, as a user declares them: the language has room for some that nobody has.

use quantloom_kernels::quant_format;

quant_format! {
    /// The formats of this file.
    pub table ELSEWHERE;

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

    /// Nobody's: the high half of a byte comes first, and of its fifth bits the most significant; bytes that nobody reads.
    pub block Reversed[64] {
        _magic: [u8; 3],
        qh: [u8; 8],
        d: f16,
        qs: [u8; 32],

        q[i: 8, j: 4, h: 2] = qs[4 * i + j] >> (4 - 4 * h) & 15 | (qh[i] >> (7 - 2 * j - h) & 1) << 4;
        w = d * (q - 16);
    }
}
