//! What GGUF has not: long blocks, whose kernels work in loops, one format for each way to codes and scales, and the
//! largest codebook. Each with its layout by hand.

use quantloom_bench::prove::Number::F16;
use quantloom_bench::prove::{Quantizer, Subject, Weight, half};
use quantloom_kernels::{BlockFormat, quant_format};

quant_format! {
    /// 4 bits; each 32 weights have a scale and a minimum of 4 bits.
    block Long[4096] {
        d: f16,
        dmin: f16,
        sc: [u8; 64],
        mins: [u8; 64],
        qs: [u8; 2048],

        s[i: 64, h: 2] = sc[i] >> 4 * h & 15;
        m[i: 64, h: 2] = mins[i] >> 4 * h & 15;
        q[a: 64, h: 2, i: 32] = qs[32 * a + i] >> 4 * h & 15;
        w = d * s * q - dmin * m;
    }

    /// 6 bits in two planes and two pieces, of which one is in halves as a whole, the other in runs of 128.
    block Pieces[4096] {
        d: f16,
        low: [u8; 2048],
        high: [u8; 1024],
        sc: [i8; 256],

        q[h: 2, i: 1024] = low[i] >> 4 * h & 15 | (high[i] >> 2 * h & 3) << 4,
         [a: 8, h: 2, i: 128] = low[1024 + 128 * a + i] >> 4 * h & 15 | (high[128 * a + i] >> (4 + 2 * h) & 3) << 4;
        w = d * sc * (q - 32);
    }

    /// 4 bits in four pieces, the last weights first; each 128 weights have a signed scale.
    block Backwards[1024] {
        sc: [i8; 8],
        d: f16,
        qs: [u8; 512],

        q[a: 32] = qs[480 + a] >> 4 & 15, [a: 32] = qs[480 + a] & 15,
         [h: 2, a: 160] = qs[320 + a] >> 4 * h & 15, [h: 2, a: 320] = qs[a] >> 4 * h & 15;
        w = d * sc * (q - 8);
    }

    /// 9 bits of a codebook's index, of which two chunks take 9 bytes, and signs.
    block Entries[1024] {
        d: f16,
        index: [u8; 144],
        sign: [u8; 128],
        sc: [u8; 16],

        codebook GRID: [[i8; 8]; 512] = grid();
        g[i: 128] = index[0] >> 9 * i & 511;
        s[i: 16, h: 2] = sc[i] >> 4 * h & 15;
        w = 0.25 * d * (2 * s + 1) * signs(sign) * GRID[g];
    }

    /// The longest index and the largest codebook: constants over it are quick to compute.
    block Wide[32] {
        d: f16,
        index: [u8; 16],

        codebook GRID: [[i8; 4]; 65536] = wide_grid();
        g[i: 8] = index[2 * i] & 65535;
        w = d * GRID[g];
    }

    /// Each 4 weights have a scale, each 8 a minimum.
    block Lanes[512] {
        d: f16,
        m: f16,
        sc: [u8; 64],
        mins: [u8; 32],
        qs: [u8; 128],

        s[i: 64, h: 2] = sc[i] >> 4 * h & 15;
        n[i: 32, h: 2] = mins[i] >> 4 * h & 15;
        q[h: 4, i: 128] = qs[i] >> 2 * h & 3;
        w = d * s * (q - 1) + m * n;
    }

    /// Digits of the base 3, five to a byte, with one scale.
    block Trits[640] {
        d: f16,
        qs: [u8; 128],

        q[h: 5, i: 128] = trit(qs[i], h);
        w = d * (q - 1);
    }

    /// One bit each, 4 bytes to a chunk, with a table.
    block Bits[512] {
        d: f16,
        qs: [u8; 64],

        table SIGN = [-1, 1];
        q[i: 64, j: 8] = qs[i] >> j & 1;
        w = d * SIGN[q];
    }
}

/// 512 entries, no two alike.
const fn grid() -> [[i8; 8]; 512] {
    let mut grid = [[0; 8]; 512];
    let mut i = 0;
    while i < 512 * 8 {
        grid[i / 8][i % 8] = entry(i / 8, i % 8) as i8;
        i += 1;
    }
    grid
}

/// 65,536 entries, no two alike.
const fn wide_grid() -> [[i8; 4]; 65536] {
    let mut grid = [[0; 4]; 65536];
    let mut g = 0;
    while g < 65536 {
        let [a, b, c, d] = [wide_entry(g, 0), wide_entry(g, 1), wide_entry(g, 2), wide_entry(g, 3)];
        grid[g] = [a as i8, b as i8, c as i8, d as i8];
        g += 1;
    }
    grid
}

/// Weight `i` of entry `g`: a nibble of its number.
const fn wide_entry(g: usize, i: usize) -> i32 {
    (g >> (4 * i) & 15) as i32 * 16 - 120
}

/// Weight `i` of entry `g`: magnitudes 1, 3, 5 and 7, which signs make negative.
const fn entry(g: usize, i: usize) -> i32 {
    (1 + 2 * (g >> i & 1) + 4 * (g >> 8)) as i32
}

/// All of them.
pub fn subjects() -> Vec<Subject> {
    vec![
        Subject {
            format: Long::FORMAT,
            numbers: &[F16(0), F16(2)],
            weights: |b| {
                each(4096, |e| {
                    let scale = half(b) * f64::from(nibble(&b[4..], e / 32));
                    let minimum = -half(&b[2..]) * f64::from(nibble(&b[68..], e / 32));
                    let byte = b[132 + 32 * (e / 64) + e % 32];
                    (scale, (byte >> (4 * (e / 32 % 2)) & 15).into(), minimum)
                })
            },
            // Groups with minima.
            quantizer: Quantizer::Within(1.1),
        },
        Subject {
            format: Pieces::FORMAT,
            numbers: &[F16(0)],
            weights: |b| {
                let (low, high, sc) = (&b[2..2050], &b[2050..3074], &b[3074..]);
                each(4096, |e| {
                    let code = if e < 2048 {
                        let (h, i) = (e / 1024, e % 1024);
                        low[i] >> (4 * h) & 15 | (high[i] >> (2 * h) & 3) << 4
                    } else {
                        let (h, i) = (e / 128 % 2, 128 * ((e - 2048) / 256) + e % 128);
                        low[1024 + i] >> (4 * h) & 15 | (high[i] >> (4 + 2 * h) & 3) << 4
                    };
                    (half(b) * f64::from(sc[e / 16] as i8), i32::from(code) - 32, 0.0)
                })
            },
            // With importance.
            quantizer: Quantizer::Within(1.2),
        },
        Subject {
            format: Backwards::FORMAT,
            numbers: &[F16(8)],
            weights: |b| {
                each(1024, |e| {
                    let (byte, h) = match e {
                        0..32 => (480 + e, 1),
                        32..64 => (448 + e, 0),
                        64..384 => (320 + (e - 64) % 160, (e - 64) / 160),
                        _ => ((e - 384) % 320, (e - 384) / 320),
                    };
                    let scale = half(&b[8..]) * f64::from(b[e / 128] as i8);
                    (scale, i32::from(b[10 + byte] >> (4 * h) & 15) - 8, 0.0)
                })
            },
            quantizer: Quantizer::Best,
        },
        Subject {
            format: Entries::FORMAT,
            numbers: &[F16(0)],
            weights: |b| {
                each(1024, |e| {
                    let (first, i) = (e / 8 * 9, e % 8);
                    let word = u16::from_le_bytes([b[2 + first / 8], b[3 + first / 8]]);
                    let code = entry((word >> (first % 8) & 511).into(), i);
                    let sign = if b[146 + e / 8] >> i & 1 == 1 { -1 } else { 1 };
                    let scale = 1.0 + 2.0 * f64::from(nibble(&b[274..], e / 32));
                    (half(b) * scale / 4.0, sign * code, 0.0)
                })
            },
            // With importance.
            quantizer: Quantizer::Within(1.2),
        },
        Subject {
            format: Wide::FORMAT,
            numbers: &[F16(0)],
            weights: |b| {
                each(32, |e| {
                    let code = u16::from_le_bytes([b[2 + e / 4 * 2], b[3 + e / 4 * 2]]);
                    (half(b), wide_entry(code.into(), e % 4), 0.0)
                })
            },
            quantizer: Quantizer::Best,
        },
        Subject {
            format: Lanes::FORMAT,
            numbers: &[F16(0), F16(2)],
            weights: |b| {
                each(512, |e| {
                    let scale = half(b) * f64::from(nibble(&b[4..], e / 4));
                    let minimum = half(&b[2..]) * f64::from(nibble(&b[68..], e / 8));
                    (scale, i32::from(b[100 + e % 128] >> (2 * (e / 128)) & 3) - 1, minimum)
                })
            },
            // Groups with minima.
            quantizer: Quantizer::Within(1.35),
        },
        Subject {
            format: Trits::FORMAT,
            numbers: &[F16(0)],
            weights: |b| {
                each(640, |e| {
                    let rest = u32::from(b[2 + e % 128]) * 3_u32.pow(e as u32 / 128) % 256;
                    (half(b), (rest * 3 / 256) as i32 - 1, 0.0)
                })
            },
            quantizer: Quantizer::Best,
        },
        Subject {
            format: Bits::FORMAT,
            numbers: &[F16(0)],
            weights: |b| each(512, |e| (half(b), if b[2 + e / 8] >> (e % 8) & 1 == 1 { 1 } else { -1 }, 0.0)),
            quantizer: Quantizer::Best,
        },
    ]
}

fn each(len: usize, weight: impl Fn(usize) -> (f64, i32, f64)) -> Vec<Weight> {
    (0..len).map(weight).map(|(scale, code, minimum)| Weight { scale, code, minimum }).collect()
}

/// Nibble `e` of bytes of two neighbours.
fn nibble(bytes: &[u8], e: usize) -> u8 {
    bytes[e / 2] >> (4 * (e % 2)) & 15
}
