//! Zero points and scales of groups as papers have them: coded ones and numbers, several factors of groups, numbers wider than
//! a byte for each group, single bytes, and bf16. Each with its layout by hand.

use quantloom_bench::prove::Number::{BF16, F16, F32};
use quantloom_bench::prove::{Number, Quantizer, Subject, Weight, brain, half, rounding, single};
use quantloom_kernels::{BlockFormat, bf16, f16, quant_format};

quant_format! {
    /// As AWQ has it: 4 bits, each 128 weights with a scale and a zero point of 4 bits.
    block Awq[256] {
        d: [f16; 2],
        zs: [u8; 1],
        qs: [u8; 128],

        z[h: 2] = zs[0] >> 4 * h & 15;
        q[a: 2, h: 2, i: 64] = qs[64 * a + i] >> 4 * h & 15;
        w = d * (q - z);
    }

    /// As GPTQ has it: the zero point is stored minus 1.
    block Gptq[128] {
        d: f16,
        z: u8,
        qs: [u8; 64],

        q[h: 2, i: 64] = qs[i] >> 4 * h & 15;
        w = d * (q - (z + 1));
    }

    /// As HQQ has it: each 64 weights have a scale and a zero point that are numbers. A long block, whose kernels work in loops.
    block Hqq[768] {
        s: [f16; 12],
        z: [f16; 12],
        qs: [u8; 384],

        q[a: 12, h: 2, i: 32] = qs[32 * a + i] >> 4 * h & 15;
        w = s * (q - z);
    }

    /// As QServe has it, with the row's scale in each block: bytes for the scale and the zero point.
    block Qserve[128] {
        d: f16,
        s: u8,
        z: u8,
        qs: [u8; 64],

        q[i: 64, h: 2] = qs[i] >> 4 * h & 15;
        w = d * s * (q - z);
    }

    /// As SpQR has it, with 4 bits: scales and zero points of 16 weights are codes with a scale and a zero point of their own.
    block Spqr[256] {
        ss: f16,
        sz: f16,
        zs: f16,
        zz: f16,
        sc: [u8; 8],
        ze: [u8; 8],
        qs: [u8; 128],

        s[i: 8, h: 2] = sc[i] >> 4 * h & 15;
        z[i: 8, h: 2] = ze[i] >> 4 * h & 15;
        q[a: 4, h: 2, i: 32] = qs[32 * a + i] >> 4 * h & 15;
        w = ss * (s - sz) * (q - zs * (z - zz));
    }

    /// Two factors of groups, of 32 weights and of 128.
    block TwoLevels[256] {
        d: f16,
        t: [i8; 2],
        sc: [u8; 4],
        qs: [u8; 128],

        s[i: 4, h: 2] = sc[i] >> 4 * h & 15;
        q[a: 4, h: 2, i: 32] = qs[32 * a + i] >> 4 * h & 15;
        w = d * s * t * (q - 8);
    }

    /// The same with numbers for the larger groups, and minima that are numbers; a long block.
    block LongLevels[1024] {
        t: [bf16; 8],
        m: [f32; 4],
        sc: [u8; 16],
        qs: [u8; 512],

        s[i: 16, h: 2] = sc[i] >> 4 * h & 15;
        q[a: 16, h: 2, i: 32] = qs[32 * a + i] >> 4 * h & 15;
        w = s * t * q - m;
    }

    /// One scale, and zero points of each 32 weights that are added.
    block Added[256] {
        d: f16,
        z: [i8; 8],
        qs: [u8; 128],

        q[a: 4, h: 2, i: 32] = qs[32 * a + i] >> 4 * h & 15;
        w = d * (q - 8 + z);
    }

    /// Scales of 32 weights, and zero points of 64, under a number of the block.
    block Coarser[128] {
        d: f16,
        sc: [u8; 2],
        zs: [u8; 1],
        qs: [u8; 64],

        s[i: 2, h: 2] = sc[i] >> 4 * h & 15;
        z[h: 2] = zs[0] >> 4 * h & 15;
        q[a: 2, h: 2, i: 32] = qs[32 * a + i] >> 4 * h & 15;
        w = d * (s + 1) * (q - z);
    }

    /// Numbers of groups that are as fine as that of the block.
    block Fine[64] {
        d: f16,
        s: [f16; 2],
        qs: [u8; 32],

        q[h: 2, i: 32] = qs[i] >> 4 * h & 15;
        w = d * s * (q - 8);
    }

    /// Signed bytes under a bf16.
    block Brain[32] {
        d: bf16,
        qs: [i8; 32],

        w = d * qs;
    }
}

/// All of them.
pub fn subjects() -> Vec<Subject> {
    const AWQ: [Number; 2] = F16(0).array();
    const HQQ: [Number; 24] = F16(0).array();
    const FINE: [Number; 3] = F16(0).array();
    const SPQR: [Number; 4] = F16(0).array();
    const LONG: [Number; 12] = {
        let (t, m) = (BF16(0).array::<8>(), F32(16).array::<4>());
        [t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], m[0], m[1], m[2], m[3]]
    };
    vec![
        Subject {
            format: Awq::FORMAT,
            numbers: &AWQ,
            weights: |b| {
                each(256, |e| {
                    let (d, z) = (half(&b[2 * (e / 128)..]), nibble(&b[4..], e / 128));
                    let code = b[5 + 64 * (e / 128) + e % 64] >> (4 * (e / 64 % 2)) & 15;
                    (d, code.into(), -d * f64::from(z))
                })
            },
            quantizer: Quantizer::NoWorse(|w, p| {
                rounding::to_nearest(w, p, 128, &|range| to_f16(range / 15.0), &|zero| {
                    zero.round().clamp(0.0, 15.0)
                })
            }),
        },
        Subject {
            format: Gptq::FORMAT,
            numbers: &[F16(0)],
            weights: |b| {
                each(128, |e| {
                    let code = b[3 + e % 64] >> (4 * (e / 64)) & 15;
                    (half(b), code.into(), -half(b) * (f64::from(b[2]) + 1.0))
                })
            },
            quantizer: Quantizer::NoWorse(|w, p| {
                rounding::to_nearest(w, p, 128, &|range| to_f16(range / 15.0), &|zero| {
                    zero.round().clamp(1.0, 256.0)
                })
            }),
        },
        Subject {
            format: Hqq::FORMAT,
            numbers: &HQQ,
            weights: |b| {
                each(768, |e| {
                    let (s, z) = (half(&b[2 * (e / 64)..]), half(&b[24 + 2 * (e / 64)..]));
                    let code = b[48 + 32 * (e / 64) + e % 32] >> (4 * (e / 32 % 2)) & 15;
                    (s, code.into(), -s * z)
                })
            },
            quantizer: Quantizer::NoWorse(|w, p| {
                rounding::to_nearest(w, p, 64, &|range| to_f16(range / 15.0), &to_f16)
            }),
        },
        Subject {
            format: Qserve::FORMAT,
            numbers: &[F16(0)],
            weights: |b| {
                each(128, |e| {
                    let scale = half(b) * f64::from(b[2]);
                    (scale, (b[4 + e / 2] >> (4 * (e % 2)) & 15).into(), -scale * f64::from(b[3]))
                })
            },
            quantizer: Quantizer::NoWorse(|w, p| {
                let scale = |range: f64| 255.0 * to_f16(range / 15.0 / 255.0);
                rounding::to_nearest(w, p, 128, &scale, &|zero| zero.round().clamp(0.0, 255.0))
            }),
        },
        Subject {
            format: Spqr::FORMAT,
            numbers: &SPQR,
            weights: |b| {
                each(256, |e| {
                    let [ss, sz, zs, zz] = [0, 2, 4, 6].map(|at| half(&b[at..]));
                    let scale = ss * (f64::from(nibble(&b[8..], e / 16)) - sz);
                    let zero = zs * (f64::from(nibble(&b[16..], e / 16)) - zz);
                    let code = b[24 + 32 * (e / 64) + e % 32] >> (4 * (e / 32 % 2)) & 15;
                    (scale, code.into(), -scale * zero)
                })
            },
            quantizer: Quantizer::Best,
        },
        Subject {
            format: TwoLevels::FORMAT,
            numbers: &[F16(0)],
            weights: |b| {
                each(256, |e| {
                    let groups = f64::from(nibble(&b[4..], e / 32)) * f64::from(b[2 + e / 128] as i8);
                    let code = b[8 + 32 * (e / 64) + e % 32] >> (4 * (e / 32 % 2)) & 15;
                    (half(b) * groups, i32::from(code) - 8, 0.0)
                })
            },
            quantizer: Quantizer::Best,
        },
        Subject {
            format: LongLevels::FORMAT,
            numbers: &LONG,
            weights: |b| {
                each(1024, |e| {
                    let scale = brain(&b[2 * (e / 128)..]) * f64::from(nibble(&b[32..], e / 32));
                    let code = b[48 + 32 * (e / 64) + e % 32] >> (4 * (e / 32 % 2)) & 15;
                    (scale, code.into(), -single(&b[16 + 4 * (e / 256)..]))
                })
            },
            quantizer: Quantizer::Best,
        },
        Subject {
            format: Added::FORMAT,
            numbers: &[F16(0)],
            weights: |b| {
                each(256, |e| {
                    let code = b[10 + 32 * (e / 64) + e % 32] >> (4 * (e / 32 % 2)) & 15;
                    (half(b), i32::from(code) - 8, half(b) * f64::from(b[2 + e / 32] as i8))
                })
            },
            quantizer: Quantizer::NoWorse(|w, p| {
                // One scale for all, and 8 more or less than the zero points that are stored.
                let widest = w.chunks(32).map(rounding::range).fold(0.0, f64::max);
                let zero = |zero: f64| zero.round().clamp(-119.0, 136.0);
                rounding::to_nearest(w, p, 32, &|_| to_f16(widest / 15.0), &zero)
            }),
        },
        Subject {
            format: Coarser::FORMAT,
            numbers: &[F16(0)],
            weights: |b| {
                each(128, |e| {
                    let scale = half(b) * (f64::from(nibble(&b[2..], e / 32)) + 1.0);
                    let code = b[5 + 32 * (e / 64) + e % 32] >> (4 * (e / 32 % 2)) & 15;
                    (scale, code.into(), -scale * f64::from(nibble(&b[4..], e / 64)))
                })
            },
            quantizer: Quantizer::NoWorse(|w, p| {
                // A scale for all 64 with a zero point, in steps of a sixteenth of the widest.
                let widest = w.chunks(64).map(rounding::range).fold(0.0, f64::max);
                let step = to_f16(widest / 15.0 / 16.0);
                let scale = |range: f64| {
                    if step == 0.0 { 0.0 } else { step * (range / 15.0 / step).round().clamp(1.0, 16.0) }
                };
                rounding::to_nearest(w, p, 64, &scale, &|zero| zero.round().clamp(0.0, 15.0))
            }),
        },
        Subject {
            format: Fine::FORMAT,
            numbers: &FINE,
            weights: |b| {
                each(64, |e| {
                    let code = b[6 + e % 32] >> (4 * (e / 32)) & 15;
                    (half(b) * half(&b[2 + 2 * (e / 32)..]), i32::from(code) - 8, 0.0)
                })
            },
            quantizer: Quantizer::NoWorse(|w, p| {
                let scales: Vec<f64> =
                    w.chunks(32).map(|group| to_f16(rounding::furthest(group) / 7.0)).collect();
                rounding::error(w, p, |e, w| {
                    let scale = scales[e / 32];
                    if scale == 0.0 { 0.0 } else { scale * (w / scale).round().clamp(-8.0, 7.0) }
                })
            }),
        },
        Subject {
            format: Brain::FORMAT,
            numbers: &[BF16(0)],
            weights: |b| each(32, |e| (brain(b), (b[2 + e] as i8).into(), 0.0)),
            quantizer: Quantizer::NoWorse(|w, p| {
                let d = f64::from(bf16::from_f64(rounding::furthest(w) / 127.0).to_f32());
                let code = |w: f64| if d == 0.0 { 0.0 } else { (w / d).round().clamp(-128.0, 127.0) };
                rounding::error(w, p, |_, w| d * code(w))
            }),
        },
    ]
}

fn to_f16(value: f64) -> f64 {
    f16::from_f64(value).to_f64()
}

fn each(len: usize, weight: impl Fn(usize) -> (f64, i32, f64)) -> Vec<Weight> {
    (0..len).map(weight).map(|(scale, code, minimum)| Weight { scale, code, minimum }).collect()
}

/// Nibble `e` of bytes of two neighbours.
fn nibble(bytes: &[u8], e: usize) -> u8 {
    bytes[e / 2] >> (4 * (e % 2)) & 15
}
