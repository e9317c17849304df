//! Codes packed densely, through the ends of bytes, of weights, with and without other planes, and of scales; and digits. Each
//! with its layout by hand.

use quantloom_bench::prove::Number::{F16, F32};
use quantloom_bench::prove::search::{Group, Holds, Numbers, Product, Signs, Values};
use quantloom_bench::prove::{Quantizer, Subject, Weight, half, single};
use quantloom_kernels::{BlockFormat, quant_format};

quant_format! {
    /// 3 bits, one after the other.
    block Threes[256] {
        d: f16,
        qs: [u8; 96],

        q[i: 32, k: 8] = qs[3 * i] >> 3 * k & 7;
        w = d * (q - 4);
    }

    /// 5 bits with a minimum. The last code ends with the block.
    block Fives[64] {
        d: f16,
        m: f16,
        qs: [u8; 40],

        q[i: 64] = qs[0] >> 5 * i & 31;
        w = d * q + m;
    }

    /// 6 bits of a single chunk, before the scale.
    block Sixes[32] {
        qs: [u8; 24],
        d: f16,

        q[i: 8, k: 4] = qs[3 * i] >> 6 * k & 63;
        w = d * (q - 32);
    }

    /// 7 bits, the most that unsigned codes have; each 16 weights have a scale of 3 bits, packed as densely.
    block Narrow[256] {
        d: f16,
        sc: [u8; 6],
        qs: [u8; 224],

        s[i: 16] = sc[0] >> 3 * i & 7;
        q[i: 32, k: 8] = qs[7 * i] >> 7 * k & 127;
        w = d * (2 * s + 1) * (q - 64);
    }

    /// 3 bits, which stand above 2 that no byte's end cuts.
    block Joined[128] {
        d: f16,
        high: [u8; 48],
        low: [u8; 32],

        q[i: 16, a: 2, b: 4] = low[2 * i + a] >> 2 * b & 3 | (high[3 * i] >> (12 * a + 3 * b) & 7) << 2;
        w = d * (q - 16);
    }

    /// 3 bits that select from a table.
    block Selected[64] {
        d: f16,
        qs: [u8; 24],

        table T = [-28, -13, -6, -1, 2, 7, 15, 31];
        q[i: 64] = qs[0] >> 3 * i & 7;
        w = d * T[q];
    }

    /// 3 bits, the highest of each byte first.
    block Highest[256] {
        d: f16,
        qs: [u8; 96],

        q[i: 32, k: 8] = qs[3 * i] >> (5 - 3 * k) & 7;
        w = d * (q - 4);
    }

    /// 6 bits, the highest first, of scales of 5 bits as well, and 1 bit above them.
    block HighestJoined[512] {
        d: f16,
        sc: [u8; 20],
        high: [u8; 64],
        qs: [u8; 384],

        s[i: 32] = sc[0] >> (3 - 5 * i) & 31;
        q[i: 64, k: 8] = qs[6 * i] >> (2 - 6 * k) & 63 | (high[i] >> (7 - k) & 1) << 6;
        w = d * (s - 16) * (q - 64);
    }

    /// 9 bits of a codebook's index, the highest first: every code goes on into another byte.
    block HighestEntries[1024] {
        d: f16,
        index: [u8; 288],

        codebook GRID: [[i8; 4]; 512] = grid();
        g[i: 256] = index[1] >> (7 - 9 * i) & 511;
        w = d * GRID[g];
    }

    /// -1, 0 and 1, five of them in a byte, the highest digit first; the last byte has three.
    block Ternary[128] {
        d: f16,
        qs: [u8; 26],

        q[i: 25, n: 5] = digit(qs[i], 3, 4 - n), [n: 3] = digit(qs[25], 3, 2 - n);
        w = d * (q - 1);
    }

    /// Five levels, three weights to a byte.
    block Quinary[96] {
        d: f16,
        qs: [u8; 32],

        q[n: 3, i: 32] = digit(qs[i], 5, n);
        w = d * (q - 2);
    }

    /// Seven levels of a table, two weights to a byte, of a block that kernels work on in loops; each 16 weights have a scale of
    /// eleven levels.
    block Septenary[1024] {
        d: f32,
        qs: [u8; 512],
        sc: [u8; 32],

        table T = [-31, -11, -3, 0, 4, 12, 32];
        s[i: 32, n: 2] = digit(sc[i], 11, n);
        q[i: 512, n: 2] = digit(qs[i], 7, 1 - n);
        w = d * (s + 1) * T[q];
    }

    /// 5 bits of a block that kernels work on in loops; each 32 weights have a scale and a minimum of 6 bits, joined of two
    /// runs.
    block Many[2048] {
        d: f16,
        dmin: f16,
        sc: [u8; 96],
        qs: [u8; 1280],

        s[i: 64] = sc[0] >> 12 * i & 63;
        m[i: 64] = sc[0] >> (12 * i + 6) & 63;
        q[i: 256, k: 8] = qs[5 * i] >> 5 * k & 31;
        w = d * s * q - dmin * m;
    }
}

/// The table of seven levels.
const SEVEN: [i32; 7] = [-31, -11, -3, 0, 4, 12, 32];

/// 512 entries, no two alike.
const fn grid() -> [[i8; 4]; 512] {
    let mut grid = [[0; 4]; 512];
    let mut i = 0;
    while i < 512 * 4 {
        grid[i / 4][i % 4] = entry(i / 4, i % 4) as i8;
        i += 1;
    }
    grid
}

/// Weight `i` of entry `g`: of the first three 3 of its bits, of the last the number of them that are set.
const fn entry(g: usize, i: usize) -> i32 {
    if i < 3 { 5 * (g >> (3 * i) & 7) as i32 - 17 } else { 3 * g.count_ones() as i32 - 13 }
}

/// All of them.
pub fn subjects() -> Vec<Subject> {
    let best = |format, numbers, weights| Subject { format, numbers, weights, quantizer: Quantizer::Best };
    vec![
        best(Threes::FORMAT, &[F16(0)], |b| each(256, |e| (half(b), bits(&b[2..], 3, e) - 4, 0.0))),
        best(Fives::FORMAT, &[F16(0), F16(2)], |b| {
            each(64, |e| (half(b), bits(&b[4..], 5, e), half(&b[2..])))
        }),
        best(Sixes::FORMAT, &[F16(24)], |b| each(32, |e| (half(&b[24..]), bits(b, 6, e) - 32, 0.0))),
        Subject {
            // With importance.
            quantizer: Quantizer::Within(1.2),
            ..best(Narrow::FORMAT, &[F16(0)], |b| {
                each(256, |e| {
                    let scale = half(b) * f64::from(2 * bits(&b[2..8], 3, e / 16) + 1);
                    (scale, bits(&b[8..], 7, e) - 64, 0.0)
                })
            })
        },
        best(Joined::FORMAT, &[F16(0)], |b| {
            each(128, |e| (half(b), bits(&b[50..], 2, e) + 4 * bits(&b[2..50], 3, e) - 16, 0.0))
        }),
        best(Selected::FORMAT, &[F16(0)], |b| {
            const T: [i32; 8] = [-28, -13, -6, -1, 2, 7, 15, 31];
            each(64, |e| (half(b), T[bits(&b[2..], 3, e) as usize], 0.0))
        }),
        best(Highest::FORMAT, &[F16(0)], |b| each(256, |e| (half(b), high_bits(&b[2..], 3, e) - 4, 0.0))),
        best(HighestJoined::FORMAT, &[F16(0)], |b| {
            each(512, |e| {
                let scale = half(b) * f64::from(high_bits(&b[2..22], 5, e / 16) - 16);
                let code = high_bits(&b[86..], 6, e) + 64 * high_bits(&b[22..86], 1, e);
                (scale, code - 64, 0.0)
            })
        }),
        best(HighestEntries::FORMAT, &[F16(0)], |b| {
            each(1024, |e| (half(b), entry(high_bits(&b[2..], 9, e / 4) as usize, e % 4), 0.0))
        }),
        best(Ternary::FORMAT, &[F16(0)], |b| {
            each(128, |e| {
                let place = if e < 125 { 4 - e % 5 } else { 127 - e };
                (half(b), i32::from(b[2 + e / 5]) / 3_i32.pow(place as u32) % 3 - 1, 0.0)
            })
        }),
        best(Quinary::FORMAT, &[F16(0)], |b| {
            each(96, |e| (half(b), i32::from(b[2 + e % 32]) / [1, 5, 25][e / 32] % 5 - 2, 0.0))
        }),
        Subject {
            // That digits of a byte are parts of different groups is not found by changing its bits.
            quantizer: Quantizer::Holding(|| Holds {
                values: Values::Single(SEVEN.map(f64::from).to_vec()),
                signs: Signs::Own,
                scale: Product {
                    block: Numbers::Any,
                    group: Some(Group { values: (1..=11).map(f64::from).collect(), size: 16 }),
                },
                minimum: None,
            }),
            ..best(Septenary::FORMAT, &[F32(0)], |b| {
                each(1024, |e| {
                    let scale = b[516 + e / 32] / [1, 11][e / 16 % 2] % 11 + 1;
                    let code = b[4 + e / 2] / [7, 1][e % 2] % 7;
                    (single(b) * f64::from(scale), SEVEN[usize::from(code)], 0.0)
                })
            })
        },
        Subject {
            // Groups with minima.
            quantizer: Quantizer::Within(1.3),
            ..best(Many::FORMAT, &[F16(0), F16(2)], |b| {
                each(2048, |e| {
                    let group = |k: usize| f64::from(bits(&b[4..100], 6, 2 * (e / 32) + k));
                    (half(b) * group(0), bits(&b[100..], 5, e), -half(&b[2..]) * group(1))
                })
            })
        },
    ]
}

/// The `e`-th of codes of so many bits, bit by bit.
fn bits(bytes: &[u8], count: usize, e: usize) -> i32 {
    let bit = |i: usize| i32::from(bytes[i / 8] >> (i % 8) & 1);
    (0..count).map(|k| bit(count * e + k) << k).sum()
}

/// The same where the highest bit of a byte comes first.
fn high_bits(bytes: &[u8], count: usize, e: usize) -> i32 {
    let bit = |i: usize| i32::from(bytes[i / 8] << (i % 8) >> 7);
    (0..count).map(|k| bit(count * e + k) << (count - 1 - k)).sum()
}

fn each(len: usize, weight: impl Fn(usize) -> (f64, i32, f64)) -> Vec<Weight> {
    (0..len).map(weight).map(|(scale, code, minimum)| Weight { scale, code, minimum }).collect()
}
