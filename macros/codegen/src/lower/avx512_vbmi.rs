//! AVX-512 with VBMI: registers of 512 bits, in which two consecutive blocks of a row share everything, so that what is
//! made once for a block is made once for two.
//!
//! A half of a register has the block's 32 codes, its eight lanes or its eight floats. What comes from the same place of
//! both blocks is loaded by a broadcast and one under a mask. Bits that have the same place in eight neighbours are moved and
//! masked by one `vgf2p8affineqb`. Bytes that lie scattered are brought to their places by `vpshufb`, and `vpmultishiftqb`
//! takes eight bits for each from anywhere in eight of them. A bit for each code becomes a mask.

use super::avx512_vnni::Avx512Vnni;
use super::registers::{Registers, one_of, table};
use super::ways::{self, Way};
use super::*;

pub struct Avx512Vbmi;

const ZMM: Registers = Registers(512);

impl Isa for Avx512Vbmi {
    fn target(&self) -> &'static Target {
        &Target {
            name: "avx512_vbmi",
            variant: "Avx512Vbmi",
            summary: "512-bit vpdpbusd, permutations of bytes and of bits: Intel since Ice Lake, AMD since Zen 4",
            arch: Some("x86_64"),
            features: &[
                "avx2",
                "fma",
                "f16c",
                "avx512f",
                "avx512bw",
                "avx512vl",
                "avx512vnni",
                "avx512dq",
                "avx512vbmi",
                "gfni",
            ],
        }
    }

    take_over! {
        Avx512Vnni,
        vectors, unrolls, prefetch, dot_signed, store_codes, load, store
    }

    take_over! {
        ZMM,
        or, trits, digits, entries, negate, activations, lane_sums, steps, seed, seed_of_floats, minus, floats, offset, scaled,
        splat_f16, splat, permute, mul, add, fma, run_sums, sum
    }

    fn registers(&self) -> usize {
        32
    }

    fn of_one_block(&self) -> Option<&'static dyn Isa> {
        Some(&Avx512Vnni)
    }

    fn products(&self) -> Products {
        Products { unsigned: Some("vpdpbusd"), signed: Some("vpdpbusd") }
    }

    fn prelude(&self) -> TokenStream {
        quote! {
            use ::core::arch::x86_64::*;
            use self::kernels::x86;
            use self::kernels::x86::wide;
        }
    }

    fn plane(&self, blocks: &[TokenStream], len: usize, plane: &Plane) -> TokenStream {
        if let Some(offset) = word_of_bits(plane) {
            let set = Literal::i8_unsuffixed(plane.mask as i8);
            return quote!(wide::spread_bits::<#offset, _>(#(#blocks),*, #set));
        }
        if let Way::Words { windows, index } = Way::of(plane, len) {
            return words(blocks, &windows, &index, plane);
        }
        let bytes = match (Way::of(plane, len), ways::windows(plane, len)) {
            (Way::Run { offset, .. }, _) => quote!(wide::load_256::<#offset, _>(#(#blocks),*)),
            (Way::Halves { offsets, .. }, _) => windows(blocks, &offsets),
            (Way::Quarters { offsets, .. }, _) if one_of(&offsets).is_some() => {
                let offset = offsets[0];
                quote!(wide::broadcast_64::<#offset, _>(#(#blocks),*))
            }
            (Way::Spread { bytes: [low, high], .. }, _) if low == high => {
                quote!(wide::broadcast_8::<#low, _>(#(#blocks),*))
            }
            (Way::Spread { bytes: [low, high], .. }, _) => {
                quote!(wide::broadcast_8s::<#low, #high, _>(#(#blocks),*))
            }
            (_, Some((windows, index))) => picked(blocks, &windows, index.map(|index| index as i8)),
            (Way::Quarters { offsets: [a, b, c, d], .. }, None) => {
                quote!(wide::load_64s::<#a, #b, #c, #d, _>(#(#blocks),*))
            }
            (Way::Eighths { offsets: [a, b, c, d, e, f, g, h], .. }, None) => {
                quote!(wide::load_32s::<#a, #b, #c, #d, #e, #f, #g, #h, _>(#(#blocks),*))
            }
            (Way::Bits { .. } | Way::Shuffle { .. } | Way::Words { .. }, None) => {
                unreachable!("their ways are windows")
            }
        };
        bits(bytes, plane)
    }

    fn lookup(&self, codes: TokenStream, entries: &[i8]) -> TokenStream {
        if entries.len() <= 16 {
            let table = table(entries);
            return quote!(_mm512_shuffle_epi8(_mm512_broadcast_i32x4(#table), #codes));
        }
        // In whole registers, each of 64 entries.
        let count = entries.len().next_multiple_of(64);
        let tables = entries.chunks(64).map(|entries| {
            let entries = (0..64).map(|i| Literal::i8_unsuffixed(entries.get(i).copied().unwrap_or(0)));
            quote!(wide::table(&[#(#entries),*]))
        });
        let lookup = format_ident!("lookup_{count}");
        quote!(wide::#lookup(#codes, [#(#tables),*]))
    }

    fn numbers(&self, codes: &[TokenStream], table: TokenStream) -> TokenStream {
        let [low, high] = codes else { unreachable!("two blocks share a register") };
        quote!(wide::join_floats(x86::numbers(#low, #table), x86::numbers(#high, #table)))
    }

    fn halves(&self, bits: &[TokenStream]) -> TokenStream {
        let [low, high] = bits else { unreachable!("two blocks share a register") };
        quote!(wide::join_floats(x86::halves(#low), x86::halves(#high)))
    }

    fn singles(&self, eights: &[TokenStream]) -> TokenStream {
        let [low, high] = eights else { unreachable!("two blocks share a register") };
        quote!(wide::join_floats(x86::load(&#low), x86::load(&#high)))
    }

    fn unsigned_limit(&self) -> i32 {
        255
    }

    fn dot_unsigned(&self, seed: TokenStream, codes: TokenStream, activations: TokenStream) -> TokenStream {
        quote!(_mm512_dpbusd_epi32(#seed, #codes, #activations))
    }

    fn widen(&self, codes: TokenStream, eighth: usize, signed: bool, zero: i32) -> TokenStream {
        ZMM.integers_minus(quote!(wide::eight_codes::<#eighth, #signed>(#codes)), 32, zero)
    }

    fn scales(&self, codes: &[TokenStream], signed: bool, zero: i32) -> TokenStream {
        let [low, high] = codes else { unreachable!("two blocks share a register") };
        let both = quote!(_mm_set_epi64x(i64::from_le_bytes(#high), i64::from_le_bytes(#low)));
        self.floats(ZMM.integers_minus(ZMM.widened(both, signed), 32, zero))
    }

    fn splat_each(&self, values: &[TokenStream]) -> TokenStream {
        quote!(wide::splat(#(#values),*))
    }

    fn integers(&self) -> Option<&'static dyn Integers> {
        Some(&Avx512Vbmi)
    }
}

impl Integers for Avx512Vbmi {
    take_over_integers! {
        ZMM,
        multiples, lane_scales, totals
    }

    fn group_codes(&self, blocks: &[TokenStream], planes: &[GroupPlane]) -> TokenStream {
        let joined = |planes: &[GroupPlane]| {
            let (bytes, places) = gathered(blocks, planes)?;
            let of_plane = |(plane, places): (&GroupPlane, &[usize; CHUNK])| {
                let shift = |i: usize| plane.shift as i32 - plane.factors[i / 2].ilog2() as i32;
                let first = std::array::from_fn(|i| 8 * places[i] as i32 + shift(i));
                ZMM.group_masked(multishifted(quote!(bytes), first), plane)
            };
            let codes = planes.iter().zip(&places).map(of_plane).reduce(|a, b| self.or(a, b));
            Some(quote!({ let bytes = #bytes; #codes }))
        };
        joined(planes).unwrap_or_else(|| {
            let each = planes.chunks(1).filter_map(joined);
            each.reduce(|a, b| self.or(a, b)).unwrap_or_default()
        })
    }

    fn shorts(&self, codes: TokenStream, signed: bool, zero: i32) -> TokenStream {
        ZMM.integers_minus(quote!(wide::sixteen_codes::<#signed>(#codes)), 16, zero)
    }

    fn add_scaled(&self, sums: TokenStream, [a, b]: [TokenStream; 2], scales: TokenStream) -> TokenStream {
        quote!(wide::add_products(#sums, _mm512_packs_epi32(#a, #b), #scales))
    }
}

/// For each half of a block's codes 16 bytes of the block, from those offsets.
fn windows(blocks: &[TokenStream], [low, high]: &[usize; 2]) -> TokenStream {
    if low == high {
        quote!(wide::broadcast_128::<#low, _>(#(#blocks),*))
    } else {
        quote!(wide::load_128s::<#low, #high, _>(#(#blocks),*))
    }
}

/// The bytes at `index` of a window for each half of a block's codes.
fn picked(blocks: &[TokenStream], offsets: &[usize; 2], index: [i8; CHUNK]) -> TokenStream {
    let windows = windows(blocks, offsets);
    if (0..CHUNK).all(|i| index[i] == (i % (CHUNK / 2)) as i8) {
        return windows;
    }
    let index = index.map(Literal::i8_unsuffixed);
    quote!(_mm512_shuffle_epi8(#windows, wide::twice(_mm256_setr_epi8(#(#index),*))))
}

/// The bytes from which all of `planes` take the codes of scales and minima, eight for each eight codes, and which of these each
/// code of each plane takes; `None` where they need more than eight, or windows at other places.
fn gathered(blocks: &[TokenStream], planes: &[GroupPlane]) -> Option<(TokenStream, Vec<[usize; CHUNK]>)> {
    const EIGHT: usize = 8;
    let [low, high] = planes.first()?.windows;
    if planes.iter().any(|plane| plane.windows != [low, high]) {
        return None;
    }
    // Where the bytes of the first block are once its windows are loaded, and how much further those of the second are.
    let (windows, half, further) = if low == high {
        (quote!(_mm512_castsi256_si512(wide::load_128::<#low, _>(#(#blocks),*))), 0, 16_i8)
    } else {
        (quote!(wide::load_128s::<#low, #high, _>(#(#blocks),*)), 16, 32)
    };
    let mut places = vec![[0; CHUNK]; planes.len()];
    let mut index = Vec::new();
    for first in (0..CHUNK).step_by(EIGHT) {
        let mut eight: Vec<u8> = Vec::new();
        for (plane, places) in planes.iter().zip(&mut places) {
            for (place, byte) in places[first..][..EIGHT].iter_mut().zip(&plane.index[first..]) {
                let Some(byte) = *byte else { continue };
                *place = eight.iter().position(|&other| other == byte).unwrap_or_else(|| {
                    eight.push(byte);
                    eight.len() - 1
                });
            }
        }
        if eight.len() > EIGHT {
            return None;
        }
        eight.resize(EIGHT, 0);
        index.extend(eight.into_iter().map(|byte| usize::from(byte) + first / (CHUNK / 2) * half));
    }
    let index = index.into_iter().map(|byte| Literal::i8_unsuffixed(byte as i8));
    let bytes = quote!(wide::gather::<#further>(#windows, _mm256_setr_epi8(#(#index),*)));
    Some((bytes, places))
}

/// The offset of 4 bytes whose bits are those of the codes, one after the other.
fn word_of_bits(Plane { bytes, shifts, mask, .. }: &Plane) -> Option<usize> {
    let within = |i: usize| shifts[i] + mask.trailing_zeros() as i32;
    let fits = |i: usize| bytes[i] == bytes[0] + i / 8 && within(i) == i as i32 % 8;
    (mask.is_power_of_two() && (0..CHUNK).all(fits)).then_some(bytes[0])
}

/// The bits of a plane whose codes go on into another byte.
fn words(blocks: &[TokenStream], offsets: &[usize; 2], index: &[u8; CHUNK], plane: &Plane) -> TokenStream {
    let (bytes, bits) = eights(index, plane);
    ZMM.masked(multishifted(picked(blocks, offsets, bytes), bits), plane.mask)
}

/// For each eight codes the bytes that they are in, of which there are no more than eight, from the one with the lowest bits on;
/// and for each code the first of its bits in these.
fn eights(index: &[u8; CHUNK], plane: &Plane) -> ([i8; CHUNK], [i32; CHUNK]) {
    const EIGHT: usize = 8;
    let of_eight = |i: usize| index[i / EIGHT * EIGHT..][..EIGHT].iter().map(|&byte| i32::from(byte));
    let lowest =
        |i: usize| if plane.highest_first { of_eight(i).max() } else { of_eight(i).min() }.unwrap_or(0);
    let towards = if plane.highest_first { -1 } else { 1 };
    // What lies outside of the window is not needed.
    let bytes = std::array::from_fn(|i| (lowest(i) + towards * (i % EIGHT) as i32).clamp(0, 15) as i8);
    let bits = std::array::from_fn(|i| 8 * towards * (i32::from(index[i]) - lowest(i)) + plane.shifts[i]);
    (bytes, bits)
}

/// The bits of a plane out of the bytes that its codes have them in.
fn bits(bytes: TokenStream, Plane { shifts, mask, .. }: &Plane) -> TokenStream {
    const EIGHT: usize = 8;
    if shifts.iter().all(|&shift| shift == 0) {
        return ZMM.masked(bytes, *mask);
    }
    let (eights, _) = shifts.as_chunks::<EIGHT>();
    if eights.iter().any(|eight| eight.iter().any(|&shift| shift != eight[0])) {
        let first = std::array::from_fn(|i| (EIGHT * (i % EIGHT)) as i32 + shifts[i]);
        return ZMM.masked(multishifted(bytes, first), *mask);
    }
    let matrices = eights.iter().map(|eight| Literal::i64_unsuffixed(matrix(eight[0], *mask) as i64));
    quote!(_mm512_gf2p8affine_epi64_epi8::<0>(#bytes, wide::twice(_mm256_setr_epi64x(#(#matrices),*))))
}

/// The bits of `mask` of a byte that is shifted to the right, or to the left by a negative amount, as a matrix of
/// `vgf2p8affineqb`: its byte 7 - i has the bits whose sum is bit i of the result, and here that is one of them.
fn matrix(shift: i32, mask: u8) -> u64 {
    let from = |bit: i32| (mask >> bit & 1) * 1_u8.checked_shl((bit + shift) as u32).unwrap_or(0);
    u64::from_be_bytes(std::array::from_fn(|bit| from(bit as i32)))
}

/// Eight bits for each byte, from the `first` of those in the eight bytes around it.
fn multishifted(bytes: TokenStream, first: [i32; CHUNK]) -> TokenStream {
    if (0..CHUNK).all(|i| first[i] == 8 * (i as i32 % 8)) {
        return bytes;
    }
    let first = first.map(|first| Literal::i8_unsuffixed(first.rem_euclid(64) as i8));
    quote!(_mm512_multishift_epi64_epi8(wide::twice(_mm256_setr_epi8(#(#first),*)), #bytes))
}

#[cfg(test)]
mod tests {
    use super::{CHUNK, Plane, eights, matrix};
    use crate::plan::Moves;

    /// What `vgf2p8affineqb` is documented to do with a byte.
    fn product(matrix: u64, byte: u8) -> u8 {
        let bit = |i: usize| ((matrix.to_le_bytes()[7 - i] & byte).count_ones() as u8 & 1) << i;
        (0..8).map(bit).sum()
    }

    /// Codes of every width, through the ends of bytes: what `vpshufb` and `vpmultishiftqb` are documented to make of them.
    #[test]
    fn eight_bytes_have_eight_codes() {
        for (width, highest_first) in (2..=8).flat_map(|width| [(width, false), (width, true)]) {
            let window: [u8; 16] = std::array::from_fn(|i| (i as u8).wrapping_mul(83) ^ 0x5A);
            // Of a window for each half the codes from its first bit on, counted from the lowest or from the highest one.
            let bit = |i: usize| {
                u32::from(if highest_first {
                    window[i / 8] << (i % 8) >> 7
                } else {
                    window[i / 8] >> (i % 8) & 1
                })
            };
            let first = |i: usize| width * (i % 16);
            let lowest = |i: usize| if highest_first { first(i) + width - 1 } else { first(i) };
            let bytes: [usize; CHUNK] = std::array::from_fn(|i| lowest(i) / 8);
            let within = |i: usize| if highest_first { 7 - lowest(i) % 8 } else { lowest(i) % 8 };
            let shifts = std::array::from_fn(|i| within(i) as i32);
            let mask = ((1_u32 << width) - 1) as u8;
            let plane = Plane { bytes, shifts, moves: Moves::default(), mask, highest_first };
            let (picked, bits) = eights(&bytes.map(|byte| byte as u8), &plane);
            for i in 0..CHUNK {
                let lane: [u8; 8] = std::array::from_fn(|j| window[picked[i / 8 * 8 + j] as usize]);
                let shifted = u64::from_le_bytes(lane).rotate_right(bits[i].rem_euclid(64) as u32) as u8;
                let position = |k: usize| if highest_first { width - 1 - k } else { k };
                let expected: u32 = (0..width).map(|k| bit(first(i) + k) << position(k)).sum();
                assert_eq!(u32::from(shifted & mask), expected, "{width} bits, {highest_first}, code {i}");
            }
        }
    }

    #[test]
    fn a_matrix_shifts_and_masks() {
        for (shift, mask) in
            (-7..=7).flat_map(|shift| [1, 3, 12, 15, 0x10, 0x30, 255].map(|mask| (shift, mask)))
        {
            for byte in 0..=255 {
                let shifted = if shift < 0 { u32::from(byte) << -shift } else { u32::from(byte) >> shift };
                assert_eq!(
                    product(matrix(shift, mask), byte),
                    shifted as u8 & mask,
                    "{byte} >> {shift} & {mask}"
                );
            }
        }
    }
}
