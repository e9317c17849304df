//! The proof is right both ways: it passes right formats of shapes that nobody has, and fails each of many faults, in the
//! cells that show it.

mod formats;

use formats::*;
use quantloom_bench::prove::search::{Group, Holds, Numbers, Product, Signs, Values};
use quantloom_bench::prove::{self, Quantizer, Subject, half, single, ue4m3};
use quantloom_kernels::{Format, FormatParts, f16};

#[test]
fn right_formats_pass() {
    let mut failures = Vec::new();
    for subject in &RIGHT {
        assert!(subject.format.quantize.is_some(), "{}: nothing to prove", subject.format.name);
        failures.extend(prove::check(subject, "").err().into_iter().flatten());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A layout by hand that is not what the macro made of the declaration: the operations whose cells show it first.
#[test]
fn wrong_layouts_fail() {
    let faults: [(&str, Subject); 16] = [
        (
            "planes in another order",
            Subject {
                weights: |b| {
                    weights(32, |e| {
                        let high = b[3 + e % 8] >> [0, 2, 4, 6][e / 8] & 3;
                        let scale = prove::e8m0(b[0]) * half(&b[1..]);
                        (scale, split(&b[11..], e) + 16 * i32::from(high) - 32, 0.0)
                    })
                },
                ..PAIR
            },
        ),
        (
            "a plane left out",
            Subject {
                weights: |b| {
                    let scale = prove::e8m0(b[0]) * half(&b[1..]);
                    weights(32, |e| (scale, split(&b[11..], e) - 32, 0.0))
                },
                ..PAIR
            },
        ),
        (
            "a zero point one too low",
            Subject { weights: |b| weights(32, |e| (single(b), split(&b[4..], e) - 7, 0.0)), ..SINGLE },
        ),
        (
            "no zero point",
            Subject { weights: |b| weights(32, |e| (half(b), split(&b[2..], e), 0.0)), ..LOPSIDED },
        ),
        (
            "the scale of the other group",
            Subject {
                weights: |b| {
                    weights(64, |e| (ue4m3(b[0]) * f64::from(b[2 - e / 32]), split(&b[3..], e) - 8, 0.0))
                },
                ..COARSE
            },
        ),
        (
            "groups of another size",
            Subject {
                weights: |b| {
                    weights(64, |e| (ue4m3(b[0]) * f64::from(b[1 + e / 16 % 2]), split(&b[3..], e) - 8, 0.0))
                },
                ..COARSE
            },
        ),
        (
            "the sign of the scale",
            Subject { weights: |b| weights(32, |e| (-single(b), split(&b[4..], e) - 8, 0.0)), ..SINGLE },
        ),
        (
            "the sign of the minimum",
            Subject {
                weights: |b| weights(32, |e| (half(b), split(&b[6..], e), -0.5 * single(&b[2..]))),
                ..MIXED
            },
        ),
        (
            "a minimum left out",
            Subject { weights: |b| weights(32, |e| (half(b), split(&b[6..], e), 0.0)), ..MIXED },
        ),
        (
            "a constant left out",
            Subject { weights: |b| weights(32, |e| (half(b), split(&b[6..], e), single(&b[2..]))), ..MIXED },
        ),
        (
            "neighbours in a byte for halves",
            Subject {
                weights: |b| weights(32, |e| (single(b), i32::from(nibble(&b[4..], e)) - 8, 0.0)),
                ..SINGLE
            },
        ),
        (
            "high nibbles first",
            Subject {
                weights: |b| weights(32, |e| (single(b), split(&b[4..], (e + 16) % 32) - 8, 0.0)),
                ..SINGLE
            },
        ),
        (
            "an entry of the table",
            Subject {
                weights: |b| {
                    let right = (SIGNED.weights)(b).into_iter();
                    right.map(|w| if w.code == 6 { prove::Weight { code: 5, ..w } } else { w }).collect()
                },
                ..SIGNED
            },
        ),
        (
            "an even number of signs",
            Subject {
                weights: |b| {
                    let mut right = (EVEN_SIGNED.weights)(b);
                    right.iter_mut().skip(7).step_by(8).for_each(|w| w.code = w.code.abs());
                    right
                },
                ..EVEN_SIGNED
            },
        ),
        (
            "the tables of other groups",
            Subject {
                weights: |b| {
                    let mut other = b.to_vec();
                    other[4] = b[4].rotate_left(2);
                    (CHOSEN.weights)(&other)
                },
                ..CHOSEN
            },
        ),
        (
            "digits from the lowest up",
            Subject {
                weights: |b| weights(160, |e| (half(b), trit(b[2 + e % 32], 4 - e / 32) - 1, 0.0)),
                ..TRITS
            },
        ),
    ];
    for (fault, subject) in faults {
        for operation in ["dot", "gemv", "gemm", "dequantize"] {
            let cell = format!("{}_{operation}_scalar", subject.format.name.to_lowercase());
            let failures = prove::check(&subject, &cell).expect_err(fault);
            assert!(failures[0].starts_with(&cell), "{fault}: {failures:?}");
        }
    }
}

/// A format whose quantizer is another.
macro_rules! quantizing {
    ($right:expr, $quantize:expr) => {{
        static FORMAT: Format =
            Format::new(FormatParts { quantize: Some($quantize), ..*$right.format.parts() });
        Subject { format: &FORMAT, ..$right }
    }};
}

/// What the right quantizer of a format makes of weights.
fn rightly(right: Subject, weights: &[f32], importance: Option<&[f32]>, blocks: &mut [u8]) {
    right.format.quantize.expect("it has a quantizer")(weights, importance, blocks);
}

/// Codes one more than the nearest.
fn one_more(byte: u8) -> u8 {
    (byte & 15).min(14) + 1 + ((byte >> 4).min(14) + 1) * 16
}

#[test]
fn wrong_quantizers_fail() {
    let faults: [(&str, Subject); 12] = [
        ("zeros", quantizing!(SINGLE, |_, _, blocks| blocks.fill(0))),
        ("zeros, of groups of four with a codebook", quantizing!(QUADS, |_, _, blocks| blocks.fill(0))),
        ("what was there", quantizing!(TRITS, |_, _, _| {})),
        (
            "off by one code",
            quantizing!(SINGLE, |weights, importance, blocks| {
                rightly(SINGLE, weights, importance, blocks);
                for block in blocks.chunks_exact_mut(20) {
                    block[4..].iter_mut().for_each(|byte| *byte = one_more(*byte));
                }
            }),
        ),
        (
            "a scale of powers of two",
            quantizing!(SINGLE, |weights, importance, blocks| {
                rightly(SINGLE, weights, importance, blocks);
                // The fraction of an f32 is its lower 23 bits.
                blocks.chunks_exact_mut(20).for_each(|block| {
                    block[..2].fill(0);
                    block[2] &= 0x80;
                });
            }),
        ),
        (
            "a scale of the largest weight",
            quantizing!(LOPSIDED, |weights, _, blocks| {
                for (weights, block) in weights.chunks_exact(32).zip(blocks.chunks_exact_mut(18)) {
                    by_largest(weights, block, 1, 15);
                }
            }),
        ),
        (
            "a minimum of zero",
            quantizing!(MIXED, |weights, importance, blocks| {
                rightly(MIXED, weights, importance, blocks);
                blocks.chunks_exact_mut(22).for_each(|block| block[2..6].fill(0));
            }),
        ),
        (
            "scales of groups changed for each other",
            quantizing!(STEPS, |weights, importance, blocks| {
                rightly(STEPS, weights, importance, blocks);
                blocks.chunks_exact_mut(36).for_each(|block| block[2] = block[2].rotate_left(4));
            }),
        ),
        (
            "importance left out of account",
            quantizing!(SINGLE, |weights, _, blocks| rightly(SINGLE, weights, None, blocks)),
        ),
        (
            "importance of the first block for all",
            quantizing!(SINGLE, |weights, importance, blocks| {
                rightly(SINGLE, weights, importance.map(|importance| &importance[..32]), blocks);
            }),
        ),
        (
            "the first block for all",
            quantizing!(PAIR, |weights, importance, blocks| {
                rightly(PAIR, weights, importance, blocks);
                let (first, others) = blocks.split_at_mut(27);
                others.chunks_exact_mut(27).for_each(|block| block.copy_from_slice(first));
            }),
        ),
        (
            "signs without the even number",
            quantizing!(EVEN_SIGNED, |weights, importance, blocks| {
                let magnitudes: Vec<f32> = weights.iter().map(|w| w.abs()).collect();
                rightly(EVEN_SIGNED, &magnitudes, importance, blocks);
            }),
        ),
    ];
    for (fault, subject) in faults {
        let cell = format!("{}_quantize", subject.format.name.to_lowercase());
        let failures = prove::check(&subject, &cell).expect_err(fault);
        assert_eq!(failures.len(), 1, "{fault}: {failures:?}");
        println!("{fault}: {}\n", failures[0]);
    }
}

/// What ggml's rule for ternary codes makes of `zero` as the zero point: a scale of the largest magnitude.
fn by_largest(weights: &[f32], block: &mut [u8], zero: i32, max: i32) {
    let largest = weights.iter().fold(0.0_f32, |largest, w| largest.max(w.abs()));
    let scale = f16::from_f32(largest);
    block[..2].copy_from_slice(&scale.to_le_bytes());
    let code = |w: f32| (((w / largest).round() as i32) + zero).clamp(0, max) as u8;
    for (i, byte) in block[2..].iter_mut().enumerate() {
        *byte = code(weights[i]) | code(weights[i + 16]) << 4;
    }
}

/// What a block can hold is found from the layout alone.
#[test]
fn what_a_block_holds_is_found() {
    let whole = |range: std::ops::RangeInclusive<i32>| range.map(f64::from).collect::<Vec<_>>();
    let single = |range| Values::Single(whole(range));
    let plain = |block| Product { block, group: None };
    let groups = |block, values, size| Product { block, group: Some(Group { values, size }) };
    let halves = || {
        let all = (0..=u16::MAX).map(|bits| f16::from_bits(bits).to_f64());
        let mut all: Vec<f64> = all.filter(|number| number.is_finite()).collect();
        all.sort_by(f64::total_cmp);
        all.dedup();
        Numbers::These(all)
    };
    let powers = |sign: f64| {
        let mut all: Vec<f64> = (0..255).map(|byte| sign * prove::e8m0(byte)).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let small = |sign: f64| {
        let mut all: Vec<f64> = (0..127).map(|byte| 0.0 + sign * ue4m3(byte)).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let mut entries: Vec<Vec<f64>> =
        ENTRIES_OF_FOUR.iter().map(|entry| entry.map(f64::from).to_vec()).collect();
    entries.sort_by(|a, b| a.partial_cmp(b).unwrap());
    entries.dedup();
    let steps = [1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 81, 96, 112, 127].map(f64::from).to_vec();
    let signed = vec![-12.0, -6.0, -3.0, -1.0, 1.0, 3.0, 6.0, 12.0];
    let magnitudes = vec![1.0, 3.0, 6.0, 12.0];
    let mut tables = TABLES.map(|table| table.map(f64::from).to_vec()).to_vec();
    tables.sort_by(|a, b| a.partial_cmp(b).unwrap());
    let odd = (0..16).map(|s| f64::from(2 * s + 1)).collect();
    let own = |values, scale, minimum| Holds { values, signs: Signs::Own, scale, minimum };
    let cases = [
        (SINGLE, own(single(-8..=7), plain(Numbers::Any), None)),
        (LOPSIDED, own(single(-1..=14), plain(halves()), None)),
        (COARSE, own(single(-8..=7), groups(Numbers::These(small(1.0)), whole(0..=255), 32), None)),
        (
            POWERS,
            own(
                single(0..=15),
                plain(Numbers::These(powers(1.0))),
                Some(plain(Numbers::These(powers(-1.0)))),
            ),
        ),
        (MIXED, own(single(0..=15), plain(halves()), Some(plain(Numbers::Any)))),
        (QUADS, own(Values::Rows(entries), groups(halves(), whole(0..=15), 4), None)),
        (
            QUAD_MINIMA,
            own(single(0..=15), plain(halves()), Some(groups(Numbers::These(small(1.0)), whole(-15..=0), 4))),
        ),
        // Two numbers have a product of so many values that any is as good.
        (PAIR, own(single(-32..=31), plain(Numbers::Any), None)),
        (STEPS, own(single(-8..=7), groups(halves(), steps, 16), None)),
        (SIGNED, own(Values::Single(signed), plain(halves()), None)),
        (
            EVEN_SIGNED,
            Holds {
                values: Values::Single(magnitudes),
                signs: Signs::Even,
                scale: groups(halves(), odd, 32),
                minimum: None,
            },
        ),
        (CHOSEN, own(Values::Tables { tables, size: 16 }, groups(halves(), whole(0..=15), 16), None)),
        (TRITS, own(single(-1..=1), plain(halves()), None)),
        (BYTES, own(single(-128..=127), groups(Numbers::One(1.0), powers(1.0), 32), None)),
    ];
    assert_eq!(cases.len(), RIGHT.len());
    for (subject, expected) in cases {
        let found = subject.holds();
        assert!(found.as_ref() == Ok(&expected), "{}: {found:?}, not {expected:?}", subject.format.name);
    }
}

/// Where trying can't tell what a block holds the proof says so, and takes the author's word.
#[test]
fn what_is_not_found_is_said() {
    // What a layout may be that no declaration can have, held against any format of as many weights and bytes.
    let cases: [(&str, Subject); 5] = [
        ("lists not all numbers", Subject { numbers: &[], ..LOPSIDED }),
        (
            "changes code and scale at once",
            Subject {
                weights: |b| {
                    weights(32, |e| (single(b) * f64::from(1 + (b[4] & 1)), split(&b[4..], e) - 8, 0.0))
                },
                ..SINGLE
            },
        ),
        (
            "more than the 16 that are tried",
            Subject {
                weights: |b| {
                    let sum: i32 = b[4..].iter().map(|&byte| i32::from(byte)).sum();
                    weights(32, |_| (single(b), sum, 0.0))
                },
                ..SINGLE
            },
        ),
        (
            "weights 0 and 1 can have different codes",
            Subject {
                weights: |b| weights(32, |e| (single(b), split(&b[4..], e) * (1 + e as i32 % 2), 0.0)),
                ..SINGLE
            },
        ),
        (
            "is no multiple of its numbers",
            Subject { weights: |b| weights(32, |e| (single(b) + 1.0, split(&b[4..], e), 0.0)), ..SINGLE },
        ),
    ];
    for (expected, subject) in cases {
        let error = subject.holds().unwrap_err();
        assert!(error.contains(expected), "{expected}: {error}");
        let failures = prove::check(&subject, "_quantize").unwrap_err();
        assert!(failures[0].contains("say it by hand"), "{failures:?}");
    }
}

/// A rule is held to less than the best, and an author's word to no less.
#[test]
fn rules_and_words_are_held_to() {
    let word = Subject {
        quantizer: Quantizer::Holding(|| Holds {
            values: Values::Single((-8..8).map(f64::from).collect()),
            signs: Signs::Own,
            scale: Product { block: Numbers::Any, group: None },
            minimum: None,
        }),
        ..SINGLE
    };
    assert_eq!(prove::check(&word, "_quantize"), Ok(()));
    // One code less is what ggml's rules leave unused.
    let by_rule = quantizing!(SINGLE, |weights, importance, blocks| match importance {
        Some(_) => rightly(SINGLE, weights, importance, blocks),
        None => {
            for (weights, block) in weights.chunks_exact(32).zip(blocks.chunks_exact_mut(20)) {
                let largest = weights.iter().fold(0.0_f32, |largest, w| largest.max(w.abs()));
                block[..4].copy_from_slice(&(largest / 7.0).to_le_bytes());
                let code =
                    |w: f32| if largest == 0.0 { 8 } else { (7.0 * w / largest).round() as i32 + 8 } as u8;
                for (i, byte) in block[4..].iter_mut().enumerate() {
                    *byte = code(weights[i]) | code(weights[i + 16]) << 4;
                }
            }
        }
    });
    assert!(prove::check(&by_rule, "_quantize").is_err());
    assert_eq!(prove::check(&Subject { quantizer: Quantizer::Rule, ..by_rule }, "_quantize"), Ok(()));
    let zeros = quantizing!(SINGLE, |_, _, blocks| blocks.fill(0));
    assert!(prove::check(&Subject { quantizer: Quantizer::Rule, ..zeros }, "_quantize").is_err());
}
