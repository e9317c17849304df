//! Every format of this crate, on one page.
//!
//! `q[h: 2, i: 16] = …` numbers the elements of a block by digits, slowest first: element 16·h + i.

use crate::{codebooks, quant_format};

quant_format! {
    /// The formats declared in this crate.
    pub table FORMATS;

    /// 4 bits, symmetric about code 8.
    pub block Q4_0[32] = gguf 2 {
        d: f16,
        qs: [u8; 16],

        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (q - 8);
        quantize by furthest;
    }

    /// 4 bits with a minimum.
    pub block Q4_1[32] = gguf 3 {
        d: f16,
        m: f16,
        qs: [u8; 16],

        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * q + m;
        quantize by range;
    }

    /// 5 bits, the fifth of all weights in four bytes.
    pub block Q5_0[32] = gguf 6 {
        d: f16,
        qh: [u8; 4],
        qs: [u8; 16],

        q[h: 2, j: 2, k: 8] = qs[8 * j + k] >> 4 * h & 15 | (qh[2 * h + j] >> k & 1) << 4;
        w = d * (q - 16);
        quantize by furthest;
    }

    /// 5 bits with a minimum.
    pub block Q5_1[32] = gguf 7 {
        d: f16,
        m: f16,
        qh: [u8; 4],
        qs: [u8; 16],

        q[h: 2, j: 2, k: 8] = qs[8 * j + k] >> 4 * h & 15 | (qh[2 * h + j] >> k & 1) << 4;
        w = d * q + m;
        quantize by range;
    }

    /// 8 bits, signed.
    pub block Q8_0[32] = gguf 8 {
        d: f16,
        qs: [i8; 32],

        w = d * qs;
        quantize by symmetric;
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

    /// 2 bits: eight weights of three magnitudes from a codebook, with a sign each, of which the eighth makes the number
    /// of minuses even; each 32 weights have a 4-bit scale, in the bits that are left of their signs.
    pub block IQ2_XXS[256] = gguf 16 {
        d: f16,
        qs: [u8; 64],

        codebook GRID: [[i8; 8]; 256] = codebooks::IQ2_XXS;
        g[b: 8, j: 4] = qs[8 * b + j];
        n[b: 8, j: 4] = qs[8 * b + 4] >> 7 * j & 127;
        s[b: 8] = qs[8 * b + 7] >> 4;
        w = 0.125 * d * (2 * s + 1) * even_signs(n) * GRID[g];
    }

    /// The same with twice as many entries and scales: an entry and its signs share 16 bits.
    pub block IQ2_XS[256] = gguf 17 {
        d: f16,
        qs: [u8; 64],
        sc: [u8; 8],

        codebook GRID: [[i8; 8]; 512] = codebooks::IQ2_XS;
        g[i: 32] = qs[2 * i] & 511;
        n[i: 32] = qs[2 * i + 1] >> 1 & 127;
        s[i: 8, h: 2] = sc[i] >> 4 * h & 15;
        w = 0.125 * d * (2 * s + 1) * even_signs(n) * GRID[g];
    }

    /// 3 bits: four weights of eight magnitudes from a codebook, with signs as IQ2_XXS has them.
    pub block IQ3_XXS[256] = gguf 18 {
        d: f16,
        qs: [u8; 64],
        ss: [u8; 32],

        codebook GRID: [[i8; 4]; 256] = codebooks::IQ3_XXS;
        n[b: 8, j: 4] = ss[4 * b] >> 7 * j & 127;
        s[b: 8] = ss[4 * b + 3] >> 4;
        w = 0.25 * d * (2 * s + 1) * even_signs(n) * GRID[qs];
    }

    /// Eight weights of -1, 0 and 1 from a codebook; each 32 weights have a 3-bit scale and are shifted by an eighth of
    /// it, up or down.
    pub block IQ1_S[256] = gguf 19 {
        d: f16,
        qs: [u8; 32],
        qh: [u8; 16],

        codebook GRID: [[i8; 8]; 2048] = codebooks::IQ1_S;
        table SCALE = [1, 3, 5, 7, 9, 11, 13, 15, 1, 3, 5, 7, 9, 11, 13, 15];
        table SHIFT = [1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15];
        g[b: 8, j: 4] = qs[4 * b + j] | (qh[2 * b] >> 3 * j & 7) << 8;
        s[b: 8] = qh[2 * b + 1] >> 4;
        w = d * SCALE[s] * GRID[g] + 0.125 * d * SHIFT[s];
    }

    /// 4 bits that select from a table.
    pub block IQ4_NL[32] = gguf 20 {
        d: f16,
        qs: [u8; 16],

        table NL = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * NL[q];
    }

    /// 3 bits: IQ3_XXS with twice as many entries and a sign for every weight.
    pub block IQ3_S[256] = gguf 21 {
        d: f16,
        qs: [u8; 64],
        qh: [u8; 8],
        sign: [u8; 32],
        sc: [u8; 4],

        codebook GRID: [[i8; 4]; 512] = codebooks::IQ3_S;
        g[b: 8, j: 8] = qs[8 * b + j] | (qh[b] >> j & 1) << 8;
        s[i: 4, h: 2] = sc[i] >> 4 * h & 15;
        w = d * (2 * s + 1) * signs(sign) * GRID[g];
    }

    /// 2 bits: IQ2_XS with twice as many entries and a sign for every weight.
    pub block IQ2_S[256] = gguf 22 {
        d: f16,
        qs: [u8; 32],
        sign: [u8; 32],
        qh: [u8; 8],
        sc: [u8; 8],

        codebook GRID: [[i8; 8]; 1024] = codebooks::IQ2_S;
        g[b: 8, j: 4] = qs[4 * b + j] | (qh[b] >> 2 * j & 3) << 8;
        s[i: 8, h: 2] = sc[i] >> 4 * h & 15;
        w = 0.125 * d * (2 * s + 1) * signs(sign) * GRID[g];
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

    /// -1, 0 and 1, five of them in a byte.
    pub block TQ1_0[256] = gguf 34 {
        qs: [u8; 48],
        qh: [u8; 4],
        d: f16,

        q[n: 5, i: 32] = trit(qs[i], n),
         [n: 5, i: 16] = trit(qs[32 + i], n),
         [n: 4, i: 4] = trit(qh[i], n);
        w = d * (q - 1);
        quantize by symmetric;
    }

    /// -1, 0 and 1 in 2 bits.
    pub block TQ2_0[256] = gguf 35 {
        qs: [u8; 64],
        d: f16,

        q[a: 2, l: 4, i: 32] = qs[32 * a + i] >> 2 * l & 3;
        w = d * (q - 1);
        quantize by symmetric;
    }

    /// 4-bit floats; each 32 weights share a power of two. The table holds twice their values.
    pub block MXFP4[32] = gguf 39 {
        e: e8m0,
        qs: [u8; 16],

        table FP4 = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = 0.5 * e * FP4[q];
        quantize by exponent;
    }

    /// 4-bit floats; each 16 weights share a scale that is a float of 8 bits.
    pub block NVFP4[64] = gguf 40 {
        d: [ue4m3; 4],
        qs: [u8; 32],

        table FP4 = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];
        q[g: 4, h: 2, i: 8] = qs[8 * g + i] >> 4 * h & 15;
        w = 0.5 * d * FP4[q];
        quantize by largest;
    }

    /// A sign.
    pub block Q1_0[128] = gguf 41 {
        d: f16,
        qs: [u8; 16],

        table SIGN = [-1, 1];
        q[i: 16, k: 8] = qs[i] >> k & 1;
        w = d * SIGN[q];
        quantize by mean;
    }

    /// 2 bits, four neighbours in one byte.
    pub block Q2_0[64] = gguf 42 {
        d: f16,
        qs: [u8; 16],

        q[i: 16, k: 4] = qs[i] >> 2 * k & 3;
        w = d * (q - 1);
        quantize by symmetric;
    }

    /// 4 bits, neighbours in one byte: every byte is needed twice in a row.
    pub block AprQ4[32] {
        d: f16,
        qs: [u8; 16],

        q[i: 16, h: 2] = qs[i] >> 4 * h & 15;
        w = d * (q - 8);
        quantize by furthest;
    }
}
