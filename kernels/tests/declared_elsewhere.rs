//! Formats declared outside the crate, as a user declares them: the language has room for GGUF's other
//! formats and for some that nobody has. Each is compared with a layout written by hand, and where there
//! is a fixture also with ggml.

#[path = "common/fixtures.rs"]
mod fixtures;
#[path = "common/oracle.rs"]
mod oracle;

use oracle::{Oracle, Weight, half};
use quantloom_kernels::formats::Q4_0;
use quantloom_kernels::{BlockFormat, Format, f16, quant_format};

quant_format! {
    /// The formats of this file.
    table ELSEWHERE;

    /// 4 bits, neighbours in one byte: every byte is needed twice in a row.
    block AprQ4[32] {
        d: f16,
        qs: [u8; 16],

        q[i: 16, h: 2] = qs[i] >> 4 * h & 15;
        w = d * (q - 8);
    }

    /// 5 bits, the fifth of all weights in four bytes.
    block Q5_0[32] = gguf 6 {
        d: f16,
        qh: [u8; 4],
        qs: [u8; 16],

        q[h: 2, j: 2, k: 8] = qs[8 * j + k] >> 4 * h & 15 | (qh[2 * h + j] >> k & 1) << 4;
        w = d * (q - 16);
    }

    /// 5 bits with a minimum.
    block Q5_1[32] = gguf 7 {
        d: f16,
        m: f16,
        qh: [u8; 4],
        qs: [u8; 16],

        q[h: 2, j: 2, k: 8] = qs[8 * j + k] >> 4 * h & 15 | (qh[2 * h + j] >> k & 1) << 4;
        w = d * q + m;
    }

    /// 2 bits; each 16 weights share a scale and a minimum of 4 bits.
    block Q2_K[256] = gguf 10 {
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
    block Q3_K[256] = gguf 11 {
        hmask: [u8; 32],
        qs: [u8; 64],
        sc: [u8; 12],
        d: f16,

        s[a: 2, b: 2, c: 4] = sc[4 * b + c] >> 4 * a & 15 | (sc[8 + c] >> (4 * a + 2 * b) & 3) << 4;
        q[a: 2, l: 4, i: 32] = qs[32 * a + i] >> 2 * l & 3 | (hmask[i] >> (4 * a + l) & 1) << 2;
        w = d * (s - 32) * (q - 4);
    }

    /// 4 bits; each 32 weights share a scale and a minimum of 6 bits.
    block Q4_K[256] = gguf 12 {
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
    block Q5_K[256] = gguf 13 {
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
    block IQ4_NL[32] = gguf 20 {
        d: f16,
        qs: [u8; 16],

        table NL = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * NL[q];
    }

    /// The same table; each 32 weights have a 6-bit scale.
    block IQ4_XS[256] = gguf 23 {
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
    block TQ2_0[256] = gguf 35 {
        qs: [u8; 64],
        d: f16,

        q[a: 2, l: 4, i: 32] = qs[32 * a + i] >> 2 * l & 3;
        w = d * (q - 1);
    }

    /// 2 bits, four neighbours in one byte.
    block Q2_0[64] = gguf 42 {
        d: f16,
        qs: [u8; 16],

        q[i: 16, k: 4] = qs[i] >> 2 * k & 3;
        w = d * (q - 1);
    }

    /// Nobody's: 6 bits, each quarter of the block with a signed scale. Fewer scales than a vector has
    /// lanes.
    block Quarters[128] {
        sc: [i8; 4],
        d: f16,
        ql: [u8; 64],
        qh: [u8; 32],

        q[h: 2, a: 2, i: 32] = ql[32 * a + i] >> 4 * h & 15 | (qh[i] >> (4 * h + 2 * a) & 3) << 4;
        w = d * sc * (q - 31);
    }

    /// Nobody's: 8 signed bits with twelve scales, one and a half vectors of them, two factors for the
    /// block, and an added minimum with its own zero point.
    block Dozen[384] {
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
    block Sevens[64] {
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
}

fn layout(format: &Format) -> (&'static [usize], Oracle) {
    match format.name {
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
        other => panic!("no oracle for {other}: write one"),
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

#[test]
fn dequantize_is_the_formula_in_f32() {
    for &format in ELSEWHERE {
        let (scales, oracle) = layout(format);
        oracle::check_dequantize(format, oracle, scales);
    }
}

#[test]
fn dequantizes_to_the_bits_of_ggml() {
    for &format in ELSEWHERE.iter().filter(|format| format.gguf_id.is_some()) {
        fixtures::dequantizes_as_ggml(format);
    }
}

#[test]
fn dot_and_gemv_agree_with_the_oracle() {
    let shapes = [(1, 1), (2, 3), (3, 1), (4, 2), (5, 8), (9, 5), (1, 22)];
    for &format in ELSEWHERE {
        let (scales, oracle) = layout(format);
        oracle::check_gemv(format, oracle, scales, &shapes);
    }
}

/// Codes that are set are the codes that are read, and nothing else of the block changes.
#[test]
fn accessors_are_inverse() {
    macro_rules! inverse {
        ($($format:ident { $($codes:ident $set:ident),+ })+) => {$({
            let (scales, _) = layout($format::FORMAT);
            let bytes = oracle::random_blocks($format::FORMAT, scales, 1, 5, 1.0);
            let block = $format::from_bytes(bytes.as_slice().try_into().unwrap());
            let mut copy = $format::ZERO;
            for &offset in scales {
                let mut bytes = copy.to_bytes();
                bytes[offset..offset + 2].copy_from_slice(&block.to_bytes()[offset..offset + 2]);
                copy = $format::from_bytes(&bytes);
            }
            $(copy.$set(&block.$codes());)+
            assert_eq!(copy.to_bytes().as_slice(), bytes, "{}", $format::FORMAT.name);
        })+};
    }
    inverse! {
        AprQ4 { q set_q }
        Q5_0 { q set_q }
        Q2_K { q set_q, s set_s, m set_m }
        Q3_K { q set_q, s set_s }
        Q4_K { q set_q, s set_s, m set_m }
        Q5_K { q set_q, s set_s, m set_m }
        IQ4_XS { q set_q, s set_s }
        Quarters { q set_q, sc set_sc }
        Dozen { qs set_qs, sc set_sc, n set_n }
        Sevens { q set_q, s set_s }
    }
}

/// Quantizers follow from formulas: those of Q5_0 and Q5_1 make ggml's bytes, that of AprQ4 the codes of
/// Q4_0 in another order.
#[test]
fn quantizers_follow_from_formulas() {
    fixtures::quantizes_as_ggml(Q5_0::FORMAT);
    fixtures::quantizes_as_ggml(Q5_1::FORMAT);
    for weights in fixtures::floats("weights.f32").as_chunks().0 {
        let (ours, theirs) = (AprQ4::from_weights(weights), Q4_0::from_weights(weights));
        assert_eq!((ours.q(), ours.d.to_bits()), (theirs.q(), theirs.d.to_bits()), "{weights:?}");
    }
    // 6 bits of a Gaussian, scaled by 32s: a signal 33 dB above the noise.
    let weights: Vec<f32> = fixtures::bytes("gaussian.f16")
        .as_chunks()
        .0
        .iter()
        .map(|&w| f16::from_le_bytes(w).to_f32())
        .collect();
    let (mut error, mut power) = (0.0, 0.0);
    for weights in weights.as_chunks().0 {
        let block = Quarters::from_weights(weights).to_bytes();
        let quantized = layout(Quarters::FORMAT).1(&block);
        for (w, quantized) in weights.iter().zip(quantized) {
            error += (f64::from(*w) - quantized.scale * f64::from(quantized.code)).powi(2);
            power += f64::from(*w).powi(2);
        }
    }
    let decibels = 10.0 * (power / error).log10();
    assert!(decibels > 33.0, "Quarters: {decibels} dB");
    assert!(Q4_K::FORMAT.quantize.is_none(), "no quantizer is known for this shape");
}
