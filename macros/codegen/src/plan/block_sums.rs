//! Sums over a whole block in integers: groups with integer scales need no float before the block is summed.
//!
//! The activations of a block are `unit · k · q`, `k` an integer for each four of them and `unit` one float for all
//! (`quantloom_kernels::ActivationBlock`). With integer scales `s` of the groups a block's product is
//!
//! ```text
//! d · unit · Σ lanes (k · s) · Σ four (code · q)
//! ```
//!
//! Both factors of a lane fit 16 bits where the format's codes and scales are small enough, so that one instruction
//! multiplies the lanes of two chunks and adds the products up in 32 bits. [`block_sums`] proves for each format that
//! nothing overflows: it takes the largest magnitude that each number can have.

use super::{CHUNK, Chunk, LANES};
use crate::model::{Codes, Cut, Format, GroupScale, ScaleValue, Value};

/// The largest code of an activation, and the most units in the step of four: `ActivationBlock` promises both.
const MAX_ACTIVATION: i64 = 127;
const MAX_MULTIPLE: i64 = 255;

/// So many consecutive activations have one unit, counted from the first of a vector.
const RUN: usize = 256;

/// How a block is summed in integers.
pub struct BlockSums {
    /// Chunks whose lanes are multiplied together, by their numbers. Each part is summed in 32 bits for itself.
    pub parts: Vec<Vec<[usize; 2]>>,
    /// Where the codes of scales and minima come from: in the first 8 places those of the scales of each chunk's first half,
    /// in the next 8 of its second, in the last 16 those of the minima of all groups.
    pub planes: Vec<GroupPlane>,
}

/// Some bits of each of [`CODES`] codes: bytes of a window, those of each half in one of 16 bytes, under a shift.
pub struct GroupPlane {
    pub windows: [usize; 2],
    /// Bytes of the windows; `None` where there is no code.
    pub index: [Option<u8>; CODES],
    /// What each two bytes, a number of 16 bits, are multiplied with: powers of two.
    pub factors: [u8; CODES / 2],
    /// By how many bits they are shifted to the right then.
    pub shift: usize,
    /// Which bits of each byte remain.
    pub masks: [u8; CODES],
}

/// The codes of scales and minima in a register.
const CODES: usize = 32;

/// The sums of a format whose blocks are as long as a run of activations or a part of one, whose groups have
/// integer scales and hold half a chunk or more; `None` for others, and where a number could overflow.
///
/// `chunks` are in the order in which they are worked on.
pub fn block_sums(format: &Format, chunks: &[Chunk]) -> Option<BlockSums> {
    let weight = &format.weight;
    let [group] = &weight.scale.groups[..] else { return None };
    let minimum = match weight.minimum.as_ref().map_or(&[][..], |minimum| &minimum.product.groups) {
        [] => None,
        [minimum] => Some(minimum),
        // A product of codes has more bits than are summed here.
        _ => return None,
    };
    let fits = |group: &GroupScale| group.size >= CHUNK / 2 && linear(group).is_some();
    if !RUN.is_multiple_of(format.len)
        || !chunks.len().is_multiple_of(2)
        || !fits(group)
        || !minimum.is_none_or(fits)
    {
        return None;
    }
    let lane = (CHUNK / LANES) as i64 * max_abs_code(format)? * MAX_ACTIVATION;
    let scale = max_abs_scale(format, group)? * MAX_MULTIPLE;
    if lane > i16::MAX.into() || scale > i16::MAX.into() {
        return None;
    }
    // Of two chunks a 32-bit lane gets two products: at most 2 · 32,767².
    let most = (i64::from(i32::MAX) / (2 * lane * scale).max(1)) as usize;
    let pairs: Vec<_> = chunks.chunks_exact(2).map(|pair| [pair[0].number, pair[1].number]).collect();
    let parts = pairs.len().div_ceil(most);
    let parts = pairs.chunks(pairs.len().div_ceil(parts)).map(<[_]>::to_vec).collect();
    let planes = group_planes(format, group, minimum)?;
    Some(BlockSums { parts, planes })
}

/// The planes of a block's scales and minima; `None` where the bytes of a half are further apart than 16, a code goes on
/// into the next byte, or two neighbours' shifts differ.
fn group_planes(
    format: &Format,
    scale: &GroupScale,
    minimum: Option<&GroupScale>,
) -> Option<Vec<GroupPlane>> {
    let places: [Option<(&Codes, usize)>; CODES] = std::array::from_fn(|i| {
        if i >= CODES / 2 {
            let codes = &format.codes[minimum?.code()?];
            return (i - CODES / 2 < codes.len()).then_some((codes, i - CODES / 2));
        }
        let first = i % LANES * CHUNK + i / LANES * (CHUNK / 2);
        (first < format.len).then_some((&format.codes[scale.code()?], first / scale.size))
    });
    let terms = places.iter().flatten().map(|(codes, e)| codes.piece_of(*e).0.terms.len()).max()?;
    (0..terms).map(|term| group_plane(format, &places, term)).collect()
}

fn group_plane(format: &Format, codes: &[Option<(&Codes, usize)>; CODES], term: usize) -> Option<GroupPlane> {
    /// Bits of a byte of the block, and their position in the code.
    struct Bits {
        byte: usize,
        within: usize,
        bits: usize,
        position: usize,
    }
    let mut all: [Option<Bits>; CODES] = [const { None }; CODES];
    for (found, code) in all.iter_mut().zip(codes) {
        let Some((codes, e)) = *code else { continue };
        let (piece, e) = codes.piece_of(e);
        let Some(term) = piece.terms.get(term) else { continue };
        let Cut::Bits { bits, position, .. } = term.cut else { return None };
        let place = piece.locate(term, e);
        if place.within + bits > 8 || position + bits > 8 {
            return None;
        }
        let byte = format.fields[term.field].offset + place.byte;
        *found = Some(Bits { byte, within: place.within, bits, position });
    }
    // All are shifted to the left by as much as differs, and then to the right by this.
    let shift = all.iter().flatten().map(|bits| bits.within.saturating_sub(bits.position)).max()?;
    if all.iter().flatten().any(|bits| bits.position + shift + bits.bits > 8) {
        return None;
    }
    let mut factors = [1; CODES / 2];
    for (factor, pair) in factors.iter_mut().zip(all.as_chunks::<2>().0) {
        let mut left = pair.iter().flatten().map(|bits| bits.position + shift - bits.within);
        let Some(first) = left.next() else { continue };
        if left.any(|other| other != first) {
            return None;
        }
        *factor = 1 << first;
    }
    let window = |codes: &[Option<Bits>]| {
        let bytes = || codes.iter().flatten().map(|bits| bits.byte);
        let first = bytes().min().unwrap_or(0).min(format.bytes().checked_sub(16)?);
        bytes().all(|byte| byte < first + 16).then_some(first)
    };
    let windows = match window(&all) {
        Some(both) => [both; 2],
        None => {
            let (low, high) = all.split_at(CODES / 2);
            [window(low)?, window(high)?]
        }
    };
    let index = std::array::from_fn(|i| {
        let bits = all[i].as_ref()?;
        Some((bits.byte - windows[i / (CODES / 2)]) as u8)
    });
    let masks = std::array::from_fn(|i| {
        all[i].as_ref().map_or(0, |bits| (((1_u32 << bits.bits) - 1) << bits.position) as u8)
    });
    Some(GroupPlane { windows, index, factors, shift, masks })
}

/// The largest magnitude of a weight's code, its zero point taken off; `None` where the macro can't see it: a codebook
/// is a constant of the crate that declares the format.
pub fn max_abs_code(format: &Format) -> Option<i64> {
    let codes = format.weight_codes();
    match &format.weight.value {
        Value::Linear { .. } if codes.signed => Some(128),
        Value::Linear { zero } => Some(max_distance(0, codes.max() as i64, (*zero).into())),
        Value::Table { entries, .. } => {
            Some(entries.iter().map(|entry| i64::from(entry.unsigned_abs())).max().unwrap_or(0))
        }
        Value::Codebook { .. } => None,
    }
}

/// The largest magnitude of a group's scale; `None` where it is not its code minus a zero point.
fn max_abs_scale(format: &Format, group: &GroupScale) -> Option<i64> {
    let codes = &format.codes[group.code()?];
    let (least, most) = if codes.signed { (-128, 127) } else { (0, codes.max() as i64) };
    Some(max_distance(least, most, linear(group)?.into()))
}

/// The zero point of scales that are their codes minus that.
pub fn linear(group: &GroupScale) -> Option<i32> {
    match group.value {
        ScaleValue::Linear { factor: 1, zero } if group.offset.is_none() => Some(zero),
        ScaleValue::Linear { .. } | ScaleValue::Table { .. } | ScaleValue::Number(_) => None,
    }
}

/// How far from `zero` a number from `least` to `most` can be.
fn max_distance(least: i64, most: i64, zero: i64) -> i64 {
    (most - zero).abs().max((least - zero).abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::check;
    use crate::parse::Declarations;
    use crate::plan::plan;

    const Q4: &str = "qs: [u8; 128], q[a: 4, h: 2, i: 32] = qs[32 * a + i] >> 4 * h & 15;";

    /// What a block holds, how many weights, and the pairs of chunks in each part of its sums; none where it is summed
    /// in floats.
    type Case = (&'static str, usize, &'static str, &'static [usize]);

    #[rustfmt::skip]
    const CASES: &[Case] = &[
        ("signed scales of 8 bits", 256, "d: f16, s: [i8; 8], Q4 w = d * s * q;", &[4]),
        ("unsigned scales of 8 bits, 255 · 255", 256, "d: f16, s: [u8; 8], Q4 w = d * s * q;", &[]),
        ("scales that are twice their codes and 1", 256, "d: f16, c: [u8; 4], s[i: 4, h: 2] = c[i] >> 4 * h & 15; Q4 w = d * (2 * s + 1) * q;", &[]),
        ("codes of 8 bits, 4 · 128 · 127", 64, "d: f16, s: [i8; 2], qs: [i8; 64], w = d * s * qs;", &[]),
        ("a quarter of a run", 64, "d: f16, s: [i8; 2], qs: [u8; 32], q[h: 2, i: 32] = qs[i] >> 4 * h & 15; w = d * s * q;", &[1]),
        ("less than two chunks", 32, "d: f16, s: [i8; 2], qs: [u8; 16], q[h: 2, i: 16] = qs[i] >> 4 * h & 15; w = d * s * q;", &[]),
        ("groups of 8", 64, "d: f16, s: [i8; 8], qs: [u8; 32], q[h: 2, i: 32] = qs[i] >> 4 * h & 15; w = d * s * q;", &[]),
        ("no groups", 256, "d: f16, Q4 w = d * q;", &[]),
    ];

    fn parts(format: &Format) -> Vec<usize> {
        let sums = plan(format).block_sums;
        sums.iter().flat_map(|sums| sums.parts.iter().map(Vec::len)).collect()
    }

    #[test]
    fn sums_are_in_integers_where_nothing_overflows() {
        for (name, weights, body, expected) in CASES {
            let declaration = format!("pub block Case[{weights}] {{ {} }}", body.replace("Q4", Q4));
            let declarations: Declarations = syn::parse_str(&declaration).expect(name);
            let formats = check(&declarations).unwrap_or_else(|errors| panic!("{name}: {}", errors[0]));
            assert_eq!(parts(&formats[0]), *expected, "{name}");
        }
    }

    /// A lane of two chunks of Q6_K is up to 2 · (4 · 32 · 127) · (128 · 255) = 1,061 million: 32 bits hold two of them.
    #[test]
    fn parts_are_as_long_as_they_may_be() {
        let body = "d: f16, s: [i8; 16], ql: [u8; 128], qh: [u8; 64],
            q[a: 2, k: 2, b: 2, i: 32] = ql[64 * a + 32 * b + i] >> 4 * k & 15
                                       | (qh[32 * a + i] >> (4 * k + 2 * b) & 3) << 4;
            w = d * s * (q - ZERO);";
        for (zero, expected) in [(32, &[2, 2][..]), (16, &[1, 1, 1, 1]), (0, &[1, 1, 1, 1])] {
            let declaration =
                format!("pub block Case[256] {{ {} }}", body.replace("ZERO", &zero.to_string()));
            let declarations: Declarations = syn::parse_str(&declaration).expect("it is one");
            let formats = check(&declarations).unwrap_or_else(|errors| panic!("{}", errors[0]));
            assert_eq!(parts(&formats[0]), expected, "a zero point of {zero}");
        }
    }
}
