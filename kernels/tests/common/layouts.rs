//! The layouts of all formats of the tests, written by hand from their published descriptions. Nothing here
//! comes from the macro.

use quantloom_bench::prove::Number::{self, E8M0, F16, UE4M3};
use quantloom_bench::prove::{Quantizer, Subject, Weight, e8m0, half, ue4m3};
use quantloom_kernels::Format;
use quantloom_kernels::formats::{IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS};

/// A format with its layout.
pub fn subject(format: &'static Format) -> Subject {
    let (numbers, weights) = layout(format.name);
    let within = WITHIN.iter().find(|(name, _)| *name == format.name);
    let quantizer = match within {
        _ if BY_RULE.contains(&format.name) => Quantizer::Rule,
        Some((_, margin)) => Quantizer::Within(*margin),
        None => Quantizer::Best,
    };
    Subject { format, numbers, weights, quantizer }
}

/// The formats whose quantizers follow a rule of ggml's.
const BY_RULE: [&str; 12] =
    ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4", "Q1_0", "Q2_0", "AprQ4"];

/// How far from the best the quantizers of some formats stay, those of groups with minima where an outlier has little importance.
const WITHIN: [(&str, f64); 5] =
    [("Q4_K", 1.1), ("Q5_K", 1.3), ("Q6_K", 1.2), ("IQ3_S", 1.2), ("Dozen", 1.1)];

/// Where a format keeps its numbers, and the weights of a block.
type Layout = (&'static [Number], fn(&[u8]) -> Vec<Weight>);

fn layout(name: &str) -> Layout {
    match name {
        "Q4_0" => (&[F16(0)], |b| {
            let nibble = |e| if e < 16 { b[2 + e] & 15 } else { b[2 + e - 16] >> 4 };
            weights(32, |e| (half(b), i32::from(nibble(e)) - 8, 0.0))
        }),
        "Q4_1" => (&[F16(0), F16(2)], |b| {
            let nibble = |e| if e < 16 { b[4 + e] & 15 } else { b[4 + e - 16] >> 4 };
            weights(32, |e| (half(b), nibble(e).into(), half(&b[2..])))
        }),
        "Q8_0" => (&[F16(0)], |b| weights(32, |e| (half(b), (b[2 + e] as i8).into(), 0.0))),
        "Q6_K" => (&[F16(208)], |b| {
            weights(256, |e| {
                let (part, r) = (e / 128, e % 128);
                let (quarter, l) = (r / 32, r % 32);
                let low = b[64 * part + 32 * (quarter % 2) + l] >> (4 * (quarter / 2)) & 15;
                let high = b[128 + 32 * part + l] >> (2 * quarter) & 3;
                let scale = f64::from(b[192 + e / 16] as i8);
                (half(&b[208..]) * scale, i32::from(low | high << 4) - 32, 0.0)
            })
        }),
        "Reversed" => (&[F16(11)], |b| {
            weights(64, |e| {
                let nibble = if e % 2 == 0 { b[13 + e / 2] >> 4 } else { b[13 + e / 2] & 15 };
                let fifth = b[3 + e / 8] << (e % 8) >> 7;
                (half(&b[11..]), i32::from(nibble | fifth << 4) - 16, 0.0)
            })
        }),
        "AprQ4" => (&[F16(0)], |b| {
            weights(32, |e| {
                let byte = b[2 + e / 2];
                let nibble = if e % 2 == 0 { byte & 15 } else { byte >> 4 };
                (half(b), i32::from(nibble) - 8, 0.0)
            })
        }),
        "Q5_0" => (&[F16(0)], |b| weights(32, |e| (half(b), i32::from(five(&b[2..], e)) - 16, 0.0))),
        "Q5_1" => (&[F16(0), F16(2)], |b| weights(32, |e| (half(b), five(&b[4..], e).into(), half(&b[2..])))),
        "Q2_K" => (&[F16(80), F16(82)], |b| {
            weights(256, |e| {
                let (scale, minimum) = (b[e / 16] & 15, b[e / 16] >> 4);
                let code = two(&b[16..], e).into();
                (half(&b[80..]) * f64::from(scale), code, -half(&b[82..]) * f64::from(minimum))
            })
        }),
        "Q3_K" => (&[F16(108)], |b| {
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
        "Q4_K" => (&[F16(0), F16(2)], |b| {
            weights(256, |e| {
                let (scale, minimum) = six(&b[4..16], e / 32);
                let byte = b[16 + 32 * (e / 64) + e % 32];
                let code = if e % 64 < 32 { byte & 15 } else { byte >> 4 };
                (half(b) * scale, code.into(), -half(&b[2..]) * minimum)
            })
        }),
        "Q5_K" => (&[F16(0), F16(2)], |b| {
            weights(256, |e| {
                let (scale, minimum) = six(&b[4..16], e / 32);
                let byte = b[48 + 32 * (e / 64) + e % 32];
                let low = if e % 64 < 32 { byte & 15 } else { byte >> 4 };
                let code = low + 16 * (b[16 + e % 32] >> (e / 32) & 1);
                (half(b) * scale, code.into(), -half(&b[2..]) * minimum)
            })
        }),
        "IQ4_NL" => (&[F16(0)], |b| weights(32, |e| (half(b), NL[split(&b[2..], e)], 0.0))),
        "IQ4_XS" => (&[F16(0)], |b| {
            weights(256, |e| {
                let g = e / 32;
                let low = b[4 + g / 2] >> (4 * (g % 2)) & 15;
                let high = (u16::from_le_bytes([b[2], b[3]]) >> (2 * g) & 3) as u8;
                let scale = i32::from(low | high << 4) - 32;
                (half(b) * f64::from(scale), NL[split(&b[8 + 16 * g..], e % 32)], 0.0)
            })
        }),
        "TQ2_0" => (&[F16(64)], |b| weights(256, |e| (half(&b[64..]), i32::from(two(b, e)) - 1, 0.0))),
        "Q2_0" => {
            (&[F16(0)], |b| weights(64, |e| (half(b), i32::from(b[2 + e / 4] >> (2 * (e % 4)) & 3) - 1, 0.0)))
        }
        "IQ2_XXS" => (&[F16(0)], |b| {
            weights(256, |e| {
                let part = &b[2 + 8 * (e / 32)..][..8];
                let word = u32::from_le_bytes([part[4], part[5], part[6], part[7]]);
                let (j, i) = (e % 32 / 8, e % 8);
                let sign = parity(word >> (7 * j) & 127, i);
                let entry = &IQ2_XXS::GRID[usize::from(part[j])];
                (half(b) * (0.5 + f64::from(word >> 28)) / 4.0, sign * i32::from(entry[i]), 0.0)
            })
        }),
        "IQ2_XS" => (&[F16(0)], |b| {
            weights(256, |e| {
                let word = u16::from_le_bytes([b[2 + 2 * (e / 8)], b[3 + 2 * (e / 8)]]);
                let sign = parity((word >> 9).into(), e % 8);
                let entry = &IQ2_XS::GRID[usize::from(word & 511)];
                let scale = 0.5 + f64::from(nibble(&b[66..], e / 16));
                (half(b) * scale / 4.0, sign * i32::from(entry[e % 8]), 0.0)
            })
        }),
        "IQ2_S" => (&[F16(0)], |b| {
            weights(256, |e| {
                let high = u16::from(b[66 + e / 32] >> (2 * (e % 32 / 8)) & 3);
                let entry = &IQ2_S::GRID[usize::from(u16::from(b[2 + e / 8]) | high << 8)];
                let scale = 0.5 + f64::from(nibble(&b[74..], e / 16));
                (half(b) * scale / 4.0, sign(&b[34..], e) * i32::from(entry[e % 8]), 0.0)
            })
        }),
        "IQ3_XXS" => (&[F16(0)], |b| {
            weights(256, |e| {
                let part = &b[66 + 4 * (e / 32)..][..4];
                let word = u32::from_le_bytes([part[0], part[1], part[2], part[3]]);
                let sign = parity(word >> (7 * (e % 32 / 8)) & 127, e % 8);
                let entry = &IQ3_XXS::GRID[usize::from(b[2 + e / 4])];
                (half(b) * (0.5 + f64::from(word >> 28)) / 2.0, sign * i32::from(entry[e % 4]), 0.0)
            })
        }),
        "IQ3_S" => (&[F16(0)], |b| {
            weights(256, |e| {
                let high = u16::from(b[66 + e / 32] >> (e % 32 / 4) & 1);
                let entry = &IQ3_S::GRID[usize::from(u16::from(b[2 + e / 4]) | high << 8)];
                let scale = 1.0 + 2.0 * f64::from(nibble(&b[106..], e / 32));
                (half(b) * scale, sign(&b[74..], e) * i32::from(entry[e % 4]), 0.0)
            })
        }),
        "IQ1_S" => (&[F16(0)], |b| {
            weights(256, |e| {
                let word = u16::from_le_bytes([b[34 + 2 * (e / 32)], b[35 + 2 * (e / 32)]]);
                let high = word >> (3 * (e % 32 / 8)) & 7;
                let entry = &IQ1_S::GRID[usize::from(u16::from(b[2 + e / 8]) | high << 8)];
                let scale = half(b) * (1.0 + 2.0 * f64::from(word >> 12 & 7));
                let shift = if word >> 15 == 0 { 0.125 } else { -0.125 };
                (scale, entry[e % 8].into(), scale * shift)
            })
        }),
        "TQ1_0" => (&[F16(52)], |b| {
            weights(256, |e| {
                let (byte, n) = match e {
                    0..160 => (b[e % 32], e / 32),
                    160..240 => (b[32 + e % 16], (e - 160) / 16),
                    _ => (b[48 + e % 4], (e - 240) / 4),
                };
                let rest = u32::from(byte) * 3_u32.pow(n as u32) % 256;
                (half(&b[52..]), (rest * 3 / 256) as i32 - 1, 0.0)
            })
        }),
        "MXFP4" => (&[E8M0(0)], |b| weights(32, |e| (e8m0(b[0]) / 2.0, FP4[split(&b[1..], e)], 0.0))),
        "NVFP4" => (const { &UE4M3(0).array::<4>() }, |b| {
            weights(64, |e| {
                let (g, i) = (e / 16, e % 16);
                let code = b[4 + 8 * g + i % 8] >> (4 * (i / 8)) & 15;
                (ue4m3(b[g]) / 2.0, FP4[usize::from(code)], 0.0)
            })
        }),
        "Q1_0" => (&[F16(0)], |b| {
            weights(128, |e| (half(b), if b[2 + e / 8] >> (e % 8) & 1 == 1 { 1 } else { -1 }, 0.0))
        }),
        "Quarters" => (&[F16(4)], |b| {
            weights(128, |e| {
                let low = b[6 + e % 64] >> (4 * (e / 64)) & 15;
                let high = b[70 + e % 32] >> (2 * (e / 32)) & 3;
                let scale = half(&b[4..]) * f64::from(b[e / 32] as i8);
                (scale, i32::from(low | high << 4) - 31, 0.0)
            })
        }),
        "Dozen" => (&[F16(0), F16(2), F16(16)], |b| {
            weights(384, |e| {
                let g = e / 32;
                let scale = half(b) * half(&b[2..]) * f64::from(b[4 + g] as i8);
                let n = i32::from(b[18 + g / 2] >> (4 * (g % 2)) & 15) - 3;
                (scale, (b[24 + e] as i8).into(), half(&b[16..]) * f64::from(n))
            })
        }),
        "Sevens" => (&[F16(0)], |b| {
            weights(64, |e| {
                let scale = half(b) * f64::from(b[2 + e / 8] >> (4 * (e / 4 % 2)) & 15);
                let low = b[10 + e % 32] >> (4 * (e / 32)) & 15;
                let middle = b[42 + 8 * (e / 32) + e % 8] >> (2 * (e / 8 % 4)) & 3;
                let high = b[58 + e / 8] >> (e % 8) & 1;
                (scale, i32::from(low | middle << 4 | high << 6) - 64, 0.0)
            })
        }),
        "Q7_0" => (&[F16(0)], |b| {
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

/// Floats of 4 bits, doubled.
const FP4: [i32; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

fn weights(len: usize, weight: impl Fn(usize) -> (f64, i32, f64)) -> Vec<Weight> {
    (0..len).map(weight).map(|(scale, code, minimum)| Weight { scale, code, minimum }).collect()
}

/// Nibble `e` of bytes of two neighbours.
fn nibble(bytes: &[u8], e: usize) -> u8 {
    bytes[e / 2] >> (4 * (e % 2)) & 15
}

/// -1 where weight `e` has its bit set.
fn sign(bits: &[u8], e: usize) -> i32 {
    if bits[e / 8] >> (e % 8) & 1 == 1 { -1 } else { 1 }
}

/// Sign `i` of eight of which seven are stored: the eighth makes the number of minuses even.
fn parity(seven: u32, i: usize) -> i32 {
    let minus = if i < 7 { seven >> i & 1 } else { seven.count_ones() % 2 };
    if minus == 1 { -1 } else { 1 }
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
