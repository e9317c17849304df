//! The layouts of the formats, written by hand. Nothing here comes from the macro.

use quantloom_bench::prove::Number::{self, E8M0, F16};
use quantloom_bench::prove::{Quantizer, Subject, Weight, e8m0, half, rounding};
use quantloom_formats::FORMATS;
use quantloom_kernels::{Format, f16};

/// All formats, each with its layout.
pub fn subjects() -> Vec<Subject> {
    let subject = |format: &&'static Format| {
        let (numbers, weights) = layout(format.name);
        Subject { format, numbers, weights, quantizer: quantizer(format.name) }
    };
    FORMATS.iter().map(subject).collect()
}

/// What a quantizer is held to: the best that a block can hold, or what those do that the format is named after.
fn quantizer(name: &str) -> Quantizer {
    match name {
        "AWQ4" => Quantizer::NoWorse(|w, p| {
            rounding::to_nearest(w, p, 128, &|range| to_f16(range / 15.0), &|zero| {
                zero.round().clamp(0.0, 15.0)
            })
        }),
        "GPTQ4" => Quantizer::NoWorse(|w, p| {
            rounding::to_nearest(w, p, 128, &|range| to_f16(range / 15.0), &|zero| {
                zero.round().clamp(1.0, 16.0)
            })
        }),
        "HQQ4" => {
            Quantizer::NoWorse(|w, p| rounding::to_nearest(w, p, 64, &|range| to_f16(range / 15.0), &to_f16))
        }
        _ => Quantizer::Best,
    }
}

fn to_f16(value: f64) -> f64 {
    f16::from_f64(value).to_f64()
}

/// Where a format keeps its numbers, and the weights of a block.
type Layout = (&'static [Number], fn(&[u8]) -> Vec<Weight>);

fn layout(name: &str) -> Layout {
    match name {
        "Q6_0" => (&[F16(0)], |b| {
            weights(32, |e| {
                let low = b[10 + e % 16] >> (4 * (e / 16)) & 15;
                let high = b[2 + e % 8] >> [0, 4, 2, 6][e / 8] & 3;
                (half(b), i32::from(low | high << 4) - 32, 0.0)
            })
        }),
        "IQ2_K" => (&[F16(0)], |b| {
            weights(256, |e| {
                let scale = i32::from(nibble(&b[4..], e / 16)) - 8;
                let code = b[12 + 32 * (e / 128) + e % 32] >> (2 * (e / 32 % 4)) & 3;
                let value = [-31, -13, 1, 17][usize::from(code)] + 5 * bit(&b[2..], e / 16);
                (half(b) * f64::from(scale), value, 0.0)
            })
        }),
        "IQ3_K" => (&[F16(0)], |b| {
            weights(256, |e| {
                let sign = 1 - 2 * bit(&b[4..], e / 16);
                let scale = sign * (2 * i32::from(nibble(&b[6..], e / 16)) + 1);
                let low = b[14 + 32 * (e / 128) + e % 32] >> (2 * (e / 32 % 4)) & 3;
                let high = b[78 + e % 32] >> (e / 32) & 1;
                let value = [-63, -40, -23, -10, 1, 13, 28, 47][usize::from(low | high << 2)];
                (half(b) * f64::from(scale), value + 4 * bit(&b[2..], e / 16), 0.0)
            })
        }),
        "IQ4_K" => (&[F16(0)], |b| {
            const VALUES: [i32; 16] =
                [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
            weights(256, |e| {
                let code = usize::from(b[16 + 16 * (e / 32) + e % 16] >> (4 * (e / 16 % 2)) & 15);
                (half(b) * six(b, e / 16), VALUES[code] + 4 * bit(&b[2..], e / 16), 0.0)
            })
        }),
        "IQ5_K" => (&[F16(0)], |b| {
            const VALUES: [i32; 32] = [
                -126, -114, -103, -92, -83, -74, -65, -57, -50, -43, -36, -30, -24, -18, -12, -6, -1, 5, 11,
                17, 23, 29, 36, 43, 51, 59, 68, 77, 87, 97, 109, 121,
            ];
            weights(256, |e| {
                let low = b[16 + 32 * (e / 64) + e % 32] >> (4 * (e / 32 % 2)) & 15;
                let high = b[144 + e % 32] >> (e / 32) & 1;
                let value = VALUES[usize::from(low | high << 4)] + 2 * bit(&b[2..], e / 16);
                (half(b) * six(b, e / 16), value, 0.0)
            })
        }),
        "MXINT8" => (&[E8M0(0)], |b| weights(32, |e| (e8m0(b[0]) / 64.0, i32::from(b[1 + e] as i8), 0.0))),
        "MXFP6_E2M3" => (&[E8M0(0)], |b| {
            weights(32, |e| {
                let code: i32 = (0..6).map(|k| bit(&b[1..], 6 * e + k) << k).sum();
                let (fraction, exponent) = (code & 7, code >> 3 & 3);
                // In eighths; the least exponent is that of subnormal numbers, too.
                let magnitude = if exponent == 0 { fraction } else { (8 + fraction) << (exponent - 1) };
                (e8m0(b[0]) / 8.0, if code >> 5 == 1 { -magnitude } else { magnitude }, 0.0)
            })
        }),
        "AWQ4" => {
            (&[F16(0)], |b| weights(128, |e| (half(b), halves(&b[3..], e), -half(b) * f64::from(b[2]))))
        }
        "GPTQ4" => (&[F16(0)], |b| {
            weights(128, |e| (half(b), halves(&b[3..], e), -half(b) * (f64::from(b[2]) + 1.0)))
        }),
        "HQQ4" => {
            (&[F16(0), F16(2)], |b| weights(64, |e| (half(b), halves(&b[4..], e), -half(b) * half(&b[2..]))))
        }
        _ => panic!("{name} has no layout by hand"),
    }
}

/// The scale of 6 bits of a group, minus 32.
fn six(b: &[u8], group: usize) -> f64 {
    let high = b[4 + group / 4] >> (2 * (group % 4)) & 3;
    f64::from(nibble(&b[8..], group) | high << 4) - 32.0
}

/// Code `e` of bytes whose low nibbles are 32 codes and whose high ones the next.
fn halves(bytes: &[u8], e: usize) -> i32 {
    i32::from(bytes[32 * (e / 64) + e % 32] >> (4 * (e / 32 % 2)) & 15)
}

/// Nibble `e` of bytes of two neighbours.
fn nibble(bytes: &[u8], e: usize) -> u8 {
    bytes[e / 2] >> (4 * (e % 2)) & 15
}

fn bit(bytes: &[u8], i: usize) -> i32 {
    (bytes[i / 8] >> (i % 8) & 1).into()
}

fn weights(len: usize, weight: impl Fn(usize) -> (f64, i32, f64)) -> Vec<Weight> {
    (0..len).map(weight).map(|(scale, code, minimum)| Weight { scale, code, minimum }).collect()
}
