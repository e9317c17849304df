//! Right formats of shapes that GGUF does not have, and their layouts by hand. Nothing in the layouts comes from the macro.

use quantloom_bench::prove::Number::{E8M0, F16, F32, UE4M3};
use quantloom_bench::prove::{Quantizer, Subject, Weight, e8m0, half, single, ue4m3};
use quantloom_kernels::{BlockFormat, quant_format};

quant_format! {
    /// A number of 32 bits.
    pub block Single[32] {
        d: f32,
        qs: [u8; 16],

        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (q - 8);
    }

    /// A zero point next to the lowest code.
    pub block Lopsided[32] {
        d: f16,
        qs: [u8; 16],

        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (q - 1);
    }

    /// A coarse number of the block, and fine ones of groups.
    pub block Coarse[64] {
        d: ue4m3,
        sc: [u8; 2],
        qs: [u8; 32],

        q[h: 2, i: 32] = qs[i] >> 4 * h & 15;
        w = d * sc * (q - 8);
    }

    /// Powers of two, for the minimum too.
    pub block Powers[32] {
        d: e8m0,
        m: e8m0,
        qs: [u8; 16],

        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * q - m;
    }

    /// A minimum of another type than the scale, with a constant.
    pub block Mixed[32] {
        d: f16,
        m: f32,
        qs: [u8; 16],

        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * q + 0.5 * m;
    }

    /// A scale for each entry of a codebook, which has four weights.
    pub block Quads[64] {
        d: f16,
        sc: [u8; 8],
        g: [u8; 16],

        codebook ENTRIES: [[i8; 4]; 256] = ENTRIES_OF_FOUR;
        s[i: 8, h: 2] = sc[i] >> 4 * h & 15;
        w = d * s * ENTRIES[g];
    }

    /// A minimum for each four weights.
    pub block QuadMinima[32] {
        d: f16,
        m: ue4m3,
        mins: [u8; 4],
        qs: [u8; 16],

        n[i: 4, h: 2] = mins[i] >> 4 * h & 15;
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * q - m * n;
    }

    /// Two numbers of the block, and codes in two planes.
    pub block Pair[32] {
        e: e8m0,
        d: f16,
        qh: [u8; 8],
        qs: [u8; 16],

        q[h: 2, j: 2, k: 8] = qs[8 * j + k] >> 4 * h & 15 | (qh[k] >> (4 * j + 2 * h) & 3) << 4;
        w = e * d * (q - 32);
    }

    /// Scales of groups by a table.
    pub block Steps[64] {
        d: f16,
        sc: [u8; 2],
        qs: [u8; 32],

        table SCALE = [1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 81, 96, 112, 127];
        s[i: 2, h: 2] = sc[i] >> 4 * h & 15;
        q[h: 2, i: 32] = qs[i] >> 4 * h & 15;
        w = d * SCALE[s] * (q - 8);
    }

    /// Signs of single values.
    pub block Signed[64] {
        d: f16,
        n: [u8; 8],
        qs: [u8; 16],

        table MAGNITUDE = [1, 3, 6, 12];
        q[l: 4, i: 16] = qs[i] >> 2 * l & 3;
        w = d * signs(n) * MAGNITUDE[q];
    }

    /// The same with an even number of minuses, and what is left of these for a scale.
    pub block EvenSigned[64] {
        d: f16,
        ss: [u8; 8],
        qs: [u8; 16],

        table MAGNITUDE = [1, 3, 6, 12];
        n[b: 2, j: 4] = ss[4 * b] >> 7 * j & 127;
        s[b: 2] = ss[4 * b + 3] >> 4;
        q[l: 4, i: 16] = qs[i] >> 2 * l & 3;
        w = d * (2 * s + 1) * even_signs(n) * MAGNITUDE[q];
    }

    /// One of four tables for each 16 weights, which have a scale.
    pub block Chosen[64] {
        d: f16,
        sc: [u8; 2],
        tt: [u8; 1],
        qs: [u8; 16],

        table VALUES = [[-3, -1, 1, 3], [-6, -1, 1, 6], [0, 1, 2, 3], [-1, 0, 1, 2]];
        s[i: 2, h: 2] = sc[i] >> 4 * h & 15;
        t[i: 4] = tt[0] >> 2 * i & 3;
        q[l: 4, i: 16] = qs[i] >> 2 * l & 3;
        w = d * s * VALUES[t][q];
    }

    /// Five codes of three values in a byte.
    pub block Trits[160] {
        d: f16,
        qs: [u8; 32],

        q[n: 5, i: 32] = trit(qs[i], n);
        w = d * (q - 1);
    }

    /// A number for each group, and none of the block.
    pub block Bytes[128] {
        d: [e8m0; 4],
        qs: [i8; 128],

        w = d * qs;
    }
}

/// Entries without any order.
pub const ENTRIES_OF_FOUR: [[i8; 4]; 256] = {
    let mut entries = [[0; 4]; 256];
    let (mut state, mut i) = (1_u32, 0);
    while i < 1024 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        entries[i / 4][i % 4] = (state >> 24) as i8 / 5;
        i += 1;
    }
    entries
};

/// All right formats.
pub const RIGHT: [Subject; 14] = [
    SINGLE,
    LOPSIDED,
    COARSE,
    POWERS,
    MIXED,
    QUADS,
    QUAD_MINIMA,
    PAIR,
    STEPS,
    SIGNED,
    EVEN_SIGNED,
    CHOSEN,
    TRITS,
    BYTES,
];

pub const SINGLE: Subject = Subject {
    format: Single::FORMAT,
    numbers: &[F32(0)],
    weights: |b| weights(32, |e| (single(b), split(&b[4..], e) - 8, 0.0)),
    quantizer: Quantizer::Best,
};

pub const LOPSIDED: Subject = Subject {
    format: Lopsided::FORMAT,
    numbers: &[F16(0)],
    weights: |b| weights(32, |e| (half(b), split(&b[2..], e) - 1, 0.0)),
    quantizer: Quantizer::Best,
};

pub const COARSE: Subject = Subject {
    format: Coarse::FORMAT,
    numbers: &[UE4M3(0)],
    weights: |b| weights(64, |e| (ue4m3(b[0]) * f64::from(b[1 + e / 32]), split(&b[3..], e) - 8, 0.0)),
    quantizer: Quantizer::Best,
};

pub const POWERS: Subject = Subject {
    format: Powers::FORMAT,
    numbers: &[E8M0(0), E8M0(1)],
    weights: |b| weights(32, |e| (e8m0(b[0]), split(&b[2..], e), -e8m0(b[1]))),
    quantizer: Quantizer::Best,
};

pub const MIXED: Subject = Subject {
    format: Mixed::FORMAT,
    numbers: &[F16(0), F32(2)],
    weights: |b| weights(32, |e| (half(b), split(&b[6..], e), 0.5 * single(&b[2..]))),
    quantizer: Quantizer::Best,
};

pub const QUADS: Subject = Subject {
    format: Quads::FORMAT,
    numbers: &[F16(0)],
    weights: |b| {
        weights(64, |e| {
            let scale = half(b) * f64::from(nibble(&b[2..], e / 4));
            (scale, ENTRIES_OF_FOUR[usize::from(b[10 + e / 4])][e % 4].into(), 0.0)
        })
    },
    quantizer: Quantizer::Best,
};

pub const QUAD_MINIMA: Subject = Subject {
    format: QuadMinima::FORMAT,
    numbers: &[F16(0), UE4M3(2)],
    weights: |b| {
        weights(32, |e| (half(b), split(&b[7..], e), -ue4m3(b[2]) * f64::from(nibble(&b[3..], e / 4))))
    },
    quantizer: Quantizer::Within(1.15),
};

pub const PAIR: Subject = Subject {
    format: Pair::FORMAT,
    numbers: &[E8M0(0), F16(1)],
    weights: |b| {
        weights(32, |e| {
            let high = b[3 + e % 8] >> [0, 4, 2, 6][e / 8] & 3;
            (e8m0(b[0]) * half(&b[1..]), split(&b[11..], e) + 16 * i32::from(high) - 32, 0.0)
        })
    },
    quantizer: Quantizer::Within(1.03),
};

pub const STEPS: Subject = Subject {
    format: Steps::FORMAT,
    numbers: &[F16(0)],
    weights: |b| {
        const SCALES: [i16; 16] = [1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 81, 96, 112, 127];
        weights(64, |e| {
            let scale = SCALES[usize::from(nibble(&b[2..], e / 16))];
            (half(b) * f64::from(scale), split(&b[4..], e) - 8, 0.0)
        })
    },
    quantizer: Quantizer::Best,
};

/// Two bits for each weight.
pub const MAGNITUDES: [i32; 4] = [1, 3, 6, 12];

pub const SIGNED: Subject = Subject {
    format: Signed::FORMAT,
    numbers: &[F16(0)],
    weights: |b| {
        weights(64, |e| {
            let magnitude = MAGNITUDES[usize::from(b[10 + e % 16] >> (2 * (e / 16)) & 3)];
            let is_minus = b[2 + e / 8] >> (e % 8) & 1 == 1;
            (half(b), if is_minus { -magnitude } else { magnitude }, 0.0)
        })
    },
    quantizer: Quantizer::Best,
};

pub const EVEN_SIGNED: Subject = Subject {
    format: EvenSigned::FORMAT,
    numbers: &[F16(0)],
    weights: |b| {
        weights(64, |e| {
            let part = &b[2 + 4 * (e / 32)..];
            let word = u32::from_le_bytes([part[0], part[1], part[2], part[3]]);
            let signs = word >> (7 * (e % 32 / 8)) & 127;
            let is_minus = if e % 8 < 7 { signs >> (e % 8) & 1 == 1 } else { signs.count_ones() % 2 == 1 };
            let magnitude = MAGNITUDES[usize::from(b[10 + e % 16] >> (2 * (e / 16)) & 3)];
            let scale = half(b) * f64::from(2 * (word >> 28) + 1);
            (scale, if is_minus { -magnitude } else { magnitude }, 0.0)
        })
    },
    quantizer: Quantizer::Best,
};

pub const TABLES: [[i32; 4]; 4] = [[-3, -1, 1, 3], [-6, -1, 1, 6], [0, 1, 2, 3], [-1, 0, 1, 2]];

pub const CHOSEN: Subject = Subject {
    format: Chosen::FORMAT,
    numbers: &[F16(0)],
    weights: |b| {
        weights(64, |e| {
            let table = TABLES[usize::from(b[4] >> (2 * (e / 16)) & 3)];
            let code = b[5 + e % 16] >> (2 * (e / 16)) & 3;
            (half(b) * f64::from(nibble(&b[2..], e / 16)), table[usize::from(code)], 0.0)
        })
    },
    // An outlier, beside which the other groups have few scales.
    quantizer: Quantizer::Within(1.2),
};

pub const TRITS: Subject = Subject {
    format: Trits::FORMAT,
    numbers: &[F16(0)],
    weights: |b| weights(160, |e| (half(b), trit(b[2 + e % 32], e / 32) - 1, 0.0)),
    quantizer: Quantizer::Best,
};

pub const BYTES: Subject = Subject {
    format: Bytes::FORMAT,
    numbers: &E8M0(0).array::<4>(),
    weights: |b| weights(128, |e| (e8m0(b[e / 32]), (b[4 + e] as i8).into(), 0.0)),
    quantizer: Quantizer::Best,
};

/// `len` weights, of scale, code and minimum each.
pub fn weights(len: usize, weight: impl Fn(usize) -> (f64, i32, f64)) -> Vec<Weight> {
    (0..len).map(weight).map(|(scale, code, minimum)| Weight { scale, code, minimum }).collect()
}

/// Nibble `e` of twice as many as there are of `bytes`: the low ones come first.
pub fn split(bytes: &[u8], e: usize) -> i32 {
    let count = bytes.len();
    i32::from(if e < count { bytes[e] & 15 } else { bytes[e - count] >> 4 })
}

/// Nibble `e` of bytes of two neighbours.
pub fn nibble(bytes: &[u8], e: usize) -> u8 {
    bytes[e / 2] >> (4 * (e % 2)) & 15
}

/// Digit `n` of a byte that is a fraction of 256 in base 3, the first one first.
pub fn trit(byte: u8, n: usize) -> i32 {
    let rest = u32::from(byte) * 3_u32.pow(n as u32) % 256;
    (rest * 3 / 256) as i32
}
