//! Block formats that are not GGUF's: of ik_llama.cpp, of the Open Compute Project, of papers.
//!
//! They are a crate of their own, so that nobody waits for their kernels to be built who does not use them:
//! `quantloom` has them with the feature `more-formats`.
//!
//! Dequantized weights are those of the format's own definition, to the bit. Where a number follows a name, files of
//! ik_llama.cpp have tensors under that number.

use quantloom_kernels::quant_format;

quant_format! {
    /// The formats declared here.
    pub table FORMATS;

    /// 6 bits, symmetric about code 32.
    pub block Q6_0[32] = gguf 133 {
        d: f16,
        qh: [u8; 8],
        qs: [u8; 16],

        q[h: 2, j: 2, k: 8] = qs[8 * j + k] >> 4 * h & 15 | (qh[k] >> (4 * j + 2 * h) & 3) << 4;
        w = d * (q - 32);
    }

    /// 2 bits; each 16 weights have a scale of 4 bits and one of two tables.
    pub block IQ2_K[256] = gguf 137 {
        d: f16,
        extra: [u8; 2],
        sc: [u8; 8],
        qs: [u8; 64],

        table VALUES = [[-31, -13, 1, 17], [-26, -8, 6, 22]];
        t[i: 16] = extra[0] >> i & 1;
        s[i: 8, h: 2] = sc[i] >> 4 * h & 15;
        q[a: 2, l: 4, i: 32] = qs[32 * a + i] >> 2 * l & 3;
        w = d * (s - 8) * VALUES[t][q];
    }

    /// 3 bits; each 16 weights have a scale, which is odd, with a sign of its own, and one of two tables.
    pub block IQ3_K[256] = gguf 138 {
        d: f16,
        extra: [u8; 2],
        sh: [u8; 2],
        sl: [u8; 8],
        qs: [u8; 64],
        qh: [u8; 32],

        table VALUES = [[-63, -40, -23, -10, 1, 13, 28, 47], [-59, -36, -19, -6, 5, 17, 32, 51]];
        table SCALE = [
            1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
            -1, -3, -5, -7, -9, -11, -13, -15, -17, -19, -21, -23, -25, -27, -29, -31,
        ];
        t[i: 16] = extra[0] >> i & 1;
        s[i: 8, h: 2] = sl[i] >> 4 * h & 15 | (sh[0] >> (2 * i + h) & 1) << 4;
        q[a: 2, l: 4, i: 32] = qs[32 * a + i] >> 2 * l & 3 | (qh[i] >> (4 * a + l) & 1) << 2;
        w = d * SCALE[s] * VALUES[t][q];
    }

    /// 4 bits; each 16 weights have a scale of 6 bits and one of two tables.
    pub block IQ4_K[256] = gguf 139 {
        d: f16,
        extra: [u8; 2],
        sh: [u8; 4],
        sl: [u8; 8],
        qs: [u8; 128],

        table VALUES = [
            [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113],
            [-123, -100, -79, -61, -45, -31, -18, -6, 5, 17, 29, 42, 57, 73, 93, 117],
        ];
        t[i: 16] = extra[0] >> i & 1;
        s[i: 4, j: 2, h: 2] = sl[2 * i + j] >> 4 * h & 15 | (sh[i] >> (4 * j + 2 * h) & 3) << 4;
        q[a: 8, h: 2, i: 16] = qs[16 * a + i] >> 4 * h & 15;
        w = d * (s - 32) * VALUES[t][q];
    }

    /// 5 bits, in other respects IQ4_K.
    pub block IQ5_K[256] = gguf 140 {
        d: f16,
        extra: [u8; 2],
        sh: [u8; 4],
        sl: [u8; 8],
        qs: [u8; 128],
        qh: [u8; 32],

        table VALUES = [
            [
                -126, -114, -103, -92, -83, -74, -65, -57, -50, -43, -36, -30, -24, -18, -12, -6,
                -1, 5, 11, 17, 23, 29, 36, 43, 51, 59, 68, 77, 87, 97, 109, 121,
            ],
            [
                -124, -112, -101, -90, -81, -72, -63, -55, -48, -41, -34, -28, -22, -16, -10, -4,
                1, 7, 13, 19, 25, 31, 38, 45, 53, 61, 70, 79, 89, 99, 111, 123,
            ],
        ];
        t[i: 16] = extra[0] >> i & 1;
        s[i: 4, j: 2, h: 2] = sl[2 * i + j] >> 4 * h & 15 | (sh[i] >> (4 * j + 2 * h) & 3) << 4;
        q[a: 4, h: 2, i: 32] = qs[32 * a + i] >> 4 * h & 15 | (qh[i] >> (2 * a + h) & 1) << 4;
        w = d * (s - 32) * VALUES[t][q];
    }

    /// OCP's MXINT8: signed bytes of 64ths under a power of two.
    pub block MXINT8[32] {
        e: e8m0,
        qs: [i8; 32],

        w = 0.015625 * e * qs;
    }

    /// OCP's MXFP6 with two bits of exponent and three of fraction, packed densely. The table holds eight times their values.
    pub block MXFP6_E2M3[32] {
        e: e8m0,
        qs: [u8; 24],

        table E2M3 = [
            0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
            16, 18, 20, 22, 24, 26, 28, 30, 32, 36, 40, 44, 48, 52, 56, 60,
            0, -1, -2, -3, -4, -5, -6, -7, -8, -9, -10, -11, -12, -13, -14, -15,
            -16, -18, -20, -22, -24, -26, -28, -30, -32, -36, -40, -44, -48, -52, -56, -60,
        ];
        q[i: 8, k: 4] = qs[3 * i] >> 6 * k & 63;
        w = 0.125 * e * E2M3[q];
    }

    /// What AWQ stores for 128 inputs of an output: 4 bits, a scale, and a zero point.
    pub block AWQ4[128] {
        d: f16,
        z: u8,
        qs: [u8; 64],

        q[a: 2, h: 2, i: 32] = qs[32 * a + i] >> 4 * h & 15;
        w = d * (q - z);
    }

    /// What GPTQ stores for 128 inputs of an output: as AWQ, with a zero point that is 1 less.
    pub block GPTQ4[128] {
        d: f16,
        z: u8,
        qs: [u8; 64],

        q[a: 2, h: 2, i: 32] = qs[32 * a + i] >> 4 * h & 15;
        w = d * (q - (z + 1));
    }

    /// What HQQ stores for 64 inputs of an output: 4 bits, and a scale and a zero point that are numbers.
    pub block HQQ4[64] {
        s: f16,
        z: f16,
        qs: [u8; 32],

        q[h: 2, i: 32] = qs[i] >> 4 * h & 15;
        w = s * (q - z);
    }
}
