//! The layouts of all formats of the tests, written by hand from their published descriptions. Nothing here
//! comes from the macro.

use quantloom_bench::prove::{Subject, Weight, half};
use quantloom_kernels::Format;

/// A format with its layout.
pub fn subject(format: &'static Format) -> Subject {
    let (halves, weights) = layout(format.name);
    Subject { format, halves, weights }
}

/// Where a format keeps its f16, and the weights of a block.
type Layout = (&'static [usize], fn(&[u8]) -> Vec<Weight>);

fn layout(name: &str) -> Layout {
    match name {
        "Q4_0" => (&[0], |b| {
            let nibble = |e| if e < 16 { b[2 + e] & 15 } else { b[2 + e - 16] >> 4 };
            weights(32, |e| (half(b), i32::from(nibble(e)) - 8, 0.0))
        }),
        "Q4_1" => (&[0, 2], |b| {
            let nibble = |e| if e < 16 { b[4 + e] & 15 } else { b[4 + e - 16] >> 4 };
            weights(32, |e| (half(b), nibble(e).into(), half(&b[2..])))
        }),
        "Q8_0" => (&[0], |b| weights(32, |e| (half(b), (b[2 + e] as i8).into(), 0.0))),
        "Q6_K" => (&[208], |b| {
            weights(256, |e| {
                let (part, r) = (e / 128, e % 128);
                let (quarter, l) = (r / 32, r % 32);
                let low = b[64 * part + 32 * (quarter % 2) + l] >> (4 * (quarter / 2)) & 15;
                let high = b[128 + 32 * part + l] >> (2 * quarter) & 3;
                let scale = f64::from(b[192 + e / 16] as i8);
                (half(&b[208..]) * scale, i32::from(low | high << 4) - 32, 0.0)
            })
        }),
        "AprQ4" => (&[0], |b| {
            weights(32, |e| {
                let byte = b[2 + e / 2];
                let nibble = if e % 2 == 0 { byte & 15 } else { byte >> 4 };
                (half(b), i32::from(nibble) - 8, 0.0)
            })
        }),
        "Q5_0" => (&[0], |b| weights(32, |e| (half(b), i32::from(five(&b[2..], e)) - 16, 0.0))),
        "Q5_1" => (&[0, 2], |b| weights(32, |e| (half(b), five(&b[4..], e).into(), half(&b[2..])))),
        "Q2_K" => (&[80, 82], |b| {
            weights(256, |e| {
                let (scale, minimum) = (b[e / 16] & 15, b[e / 16] >> 4);
                let code = two(&b[16..], e).into();
                (half(&b[80..]) * f64::from(scale), code, -half(&b[82..]) * f64::from(minimum))
            })
        }),
        "Q3_K" => (&[108], |b| {
            weights(256, |e| {
                let (sc, j) = (&b[96..108], e / 16);
                let low = if j < 8 { sc[j] & 15 } else { sc[j - 8] >> 4 };
                let high = sc[8 + j % 4] >> (2 * (j / 4)) & 3;
                let scale = i32::from(low | high << 4) - 32;
                // Four is taken off where the bit is not set.
                let bit = b[e % 32] >> (e / 32) & 1;
                let code = i32::from(two(&b[32..], e)) - if bit == 1 { 0 } else { 4 };
                (half(&b[108..]) * f64::from(scale), code, 0.0)
            })
        }),
        "Q4_K" => (&[0, 2], |b| {
            weights(256, |e| {
                let (scale, minimum) = six(&b[4..16], e / 32);
                let byte = b[16 + 32 * (e / 64) + e % 32];
                let code = if e % 64 < 32 { byte & 15 } else { byte >> 4 };
                (half(b) * scale, code.into(), -half(&b[2..]) * minimum)
            })
        }),
        "Q5_K" => (&[0, 2], |b| {
            weights(256, |e| {
                let (scale, minimum) = six(&b[4..16], e / 32);
                let byte = b[48 + 32 * (e / 64) + e % 32];
                let low = if e % 64 < 32 { byte & 15 } else { byte >> 4 };
                let code = low + 16 * (b[16 + e % 32] >> (e / 32) & 1);
                (half(b) * scale, code.into(), -half(&b[2..]) * minimum)
            })
        }),
        "IQ4_NL" => (&[0], |b| weights(32, |e| (half(b), NL[split(&b[2..], e)], 0.0))),
        "IQ4_XS" => (&[0], |b| {
            weights(256, |e| {
                let g = e / 32;
                let low = b[4 + g / 2] >> (4 * (g % 2)) & 15;
                let high = (u16::from_le_bytes([b[2], b[3]]) >> (2 * g) & 3) as u8;
                let scale = i32::from(low | high << 4) - 32;
                (half(b) * f64::from(scale), NL[split(&b[8 + 16 * g..], e % 32)], 0.0)
            })
        }),
        "TQ2_0" => (&[64], |b| weights(256, |e| (half(&b[64..]), i32::from(two(b, e)) - 1, 0.0))),
        "Q2_0" => {
            (&[0], |b| weights(64, |e| (half(b), i32::from(b[2 + e / 4] >> (2 * (e % 4)) & 3) - 1, 0.0)))
        }
        "Quarters" => (&[4], |b| {
            weights(128, |e| {
                let low = b[6 + e % 64] >> (4 * (e / 64)) & 15;
                let high = b[70 + e % 32] >> (2 * (e / 32)) & 3;
                let scale = half(&b[4..]) * f64::from(b[e / 32] as i8);
                (scale, i32::from(low | high << 4) - 31, 0.0)
            })
        }),
        "Dozen" => (&[0, 2, 16], |b| {
            weights(384, |e| {
                let g = e / 32;
                let scale = half(b) * half(&b[2..]) * f64::from(b[4 + g] as i8);
                let n = i32::from(b[18 + g / 2] >> (4 * (g % 2)) & 15) - 3;
                (scale, (b[24 + e] as i8).into(), half(&b[16..]) * f64::from(n))
            })
        }),
        "Sevens" => (&[0], |b| {
            weights(64, |e| {
                let scale = half(b) * f64::from(b[2 + e / 8] >> (4 * (e / 4 % 2)) & 15);
                let low = b[10 + e % 32] >> (4 * (e / 32)) & 15;
                let middle = b[42 + 8 * (e / 32) + e % 8] >> (2 * (e / 8 % 4)) & 3;
                let high = b[58 + e / 8] >> (e % 8) & 1;
                (scale, i32::from(low | middle << 4 | high << 6) - 64, 0.0)
            })
        }),
        "Q7_0" => (&[0], |b| {
            weights(32, |e| {
                let low = split(&b[14..], e) as i32;
                let middle = b[2 + e % 8] >> [0, 4, 2, 6][e / 8] & 3;
                let high = b[10 + e % 4] >> (e / 4) & 1;
                (half(b), low + 16 * i32::from(middle) + 64 * i32::from(high) - 64, 0.0)
            })
        }),
        other => panic!("no layout for {other}: write one"),
    }
}

const NL: [i32; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

fn weights(len: usize, weight: impl Fn(usize) -> (f64, i32, f64)) -> Vec<Weight> {
    (0..len).map(weight).map(|(scale, code, minimum)| Weight { scale, code, minimum }).collect()
}

/// Nibble `e` of 16 bytes: the low ones come first.
fn split(qs: &[u8], e: usize) -> usize {
    usize::from(if e < 16 { qs[e] & 15 } else { qs[e - 16] >> 4 })
}

/// Code `e` of Q5_0: its nibble and its bit of the u32 before.
fn five(b: &[u8], e: usize) -> u8 {
    let high = u32::from_le_bytes([b[0], b[1], b[2], b[3]]) >> e & 1;
    split(&b[4..], e) as u8 | (high as u8) << 4
}

/// Code `e` of the 2-bit formats: four quarters of each 128 weights share 32 bytes.
fn two(qs: &[u8], e: usize) -> u8 {
    qs[32 * (e / 128) + e % 32] >> (2 * (e % 128 / 32)) & 3
}

/// Scale and minimum `j` of Q4_K and Q5_K: 6 bits each.
fn six(sc: &[u8], j: usize) -> (f64, f64) {
    let (s, m) = if j < 4 {
        (sc[j] & 63, sc[j + 4] & 63)
    } else {
        (sc[j + 4] & 15 | sc[j - 4] >> 6 << 4, sc[j + 4] >> 4 | sc[j] >> 6 << 4)
    };
    (s.into(), m.into())
}
