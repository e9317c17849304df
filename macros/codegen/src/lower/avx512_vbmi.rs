//! AVX-512 with VBMI: registers of 512 bits, in which two consecutive blocks of a row share everything, so that what is
//! made once for a block is made once for two.
//!
//! A half of a register has the block's 32 codes, its eight lanes or its eight floats. What comes from the same place of
//! both blocks is loaded by a broadcast and one under a mask. Bytes that lie scattered are brought to their places by
//! `vpshufb`, and `vpmultishiftqb` takes eight bits for each from anywhere in eight of them: two instructions for any
//! layout. A bit for each code becomes a mask.

use super::avx512_vnni::Avx512Vnni;
use super::registers::{Registers, index_or_zero, one_of, table};
use super::ways::{self, Way};
use super::*;

pub struct Avx512Vbmi;

const ZMM: Registers = Registers(512);

impl Isa for Avx512Vbmi {
    fn target(&self) -> &'static Target {
        &Target {
            name: "avx512_vbmi",
            variant: "Avx512Vbmi",
            summary: "512-bit vpdpbusd and byte permutations: Intel since Ice Lake, AMD since Zen 4",
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
            ],
        }
    }

    take_over! {
        Avx512Vnni,
        vectors, unrolls, prefetch, entries, dot_signed, store_codes, load, store
    }

    take_over! {
        ZMM,
        or, trits, negate, activations, lane_sums, steps, seed, seed_of_floats, minus, floats, offset, scaled, splat_f16, splat,
        permute, mul, add, fma, run_sums, sum
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
        let bytes = match (Way::of(plane, len), ways::windows(plane, len)) {
            (Way::Run { offset, .. }, _) => quote!(wide::load_256::<#offset, _>(#(#blocks),*)),
            (Way::Halves { offsets, .. }, _) => windows(blocks, &offsets),
            (Way::Quarters { offsets, .. }, _) if one_of(&offsets).is_some() => {
                let offset = offsets[0];
                quote!(wide::broadcast_64::<#offset, _>(#(#blocks),*))
            }
            (_, Some((windows, index))) => picked(blocks, &windows, index.map(|index| index as i8)),
            (Way::Quarters { offsets: [a, b, c, d], .. }, None) => {
                quote!(wide::load_64s::<#a, #b, #c, #d, _>(#(#blocks),*))
            }
            (Way::Eighths { offsets: [a, b, c, d, e, f, g, h], .. }, None) => {
                quote!(wide::load_32s::<#a, #b, #c, #d, #e, #f, #g, #h, _>(#(#blocks),*))
            }
            (Way::Bits { .. } | Way::Shuffle { .. }, None) => unreachable!("their ways are windows"),
        };
        ZMM.masked(each_shifted(bytes, plane.shifts), plane.mask)
    }

    fn lookup(&self, codes: TokenStream, entries: &[i8]) -> TokenStream {
        let table = table(entries);
        quote!(_mm512_shuffle_epi8(_mm512_broadcast_i32x4(#table), #codes))
    }

    fn numbers(&self, codes: &[TokenStream], table: TokenStream) -> TokenStream {
        let [low, high] = codes else { unreachable!("two blocks share a register") };
        quote!(wide::join_floats(x86::numbers(#low, #table), x86::numbers(#high, #table)))
    }

    fn signed_bias(&self) -> i32 {
        BIAS
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

    fn group_plane(&self, blocks: &[TokenStream], plane: &GroupPlane) -> TokenStream {
        let codes = picked(blocks, &plane.windows, index_or_zero(plane));
        let shifts = std::array::from_fn(|i| plane.shift as i32 - plane.factors[i / 2].ilog2() as i32);
        ZMM.group_masked(each_shifted(codes, shifts), plane)
    }

    fn shorts(&self, codes: TokenStream, signed: bool, zero: i32) -> TokenStream {
        ZMM.integers_minus(quote!(wide::sixteen_codes::<#signed>(#codes)), 16, zero)
    }

    fn add_scaled(&self, sums: TokenStream, [a, b]: [TokenStream; 2], scales: TokenStream) -> TokenStream {
        quote!(_mm512_dpwssd_epi32(#sums, _mm512_packs_epi32(#a, #b), #scales))
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

/// The offset of 4 bytes whose bits are those of the codes, one after the other.
fn word_of_bits(Plane { bytes, shifts, mask, .. }: &Plane) -> Option<usize> {
    let within = |i: usize| shifts[i] + mask.trailing_zeros() as i32;
    let fits = |i: usize| bytes[i] == bytes[0] + i / 8 && within(i) == i as i32 % 8;
    (mask.is_power_of_two() && (0..CHUNK).all(fits)).then_some(bytes[0])
}

/// Each byte shifted by its own amount.
fn each_shifted(bytes: TokenStream, shifts: [i32; CHUNK]) -> TokenStream {
    let quarters: [i32; 4] = std::array::from_fn(|quarter| shifts[quarter * (CHUNK / 4)]);
    if shifts.iter().all(|&shift| shift == shifts[0]) {
        return ZMM.shifted(bytes, shifts[0]);
    }
    if (0..CHUNK).all(|i| shifts[i] == quarters[i / (CHUNK / 4)]) && quarters.iter().all(|&shift| shift >= 0)
    {
        // Unlike the multishift it has more than one port on Intel's CPUs.
        let amounts = quarters.map(|shift| Literal::i64_unsuffixed(shift.into()));
        return quote!(_mm512_srlv_epi64(#bytes, wide::twice(_mm256_setr_epi64x(#(#amounts),*))));
    }
    // The first of the eight bits that each takes out of the eight bytes around it.
    let first = std::array::from_fn::<_, CHUNK, _>(|i| {
        Literal::i8_unsuffixed((8 * (i as i32 % 8) + shifts[i]).rem_euclid(64) as i8)
    });
    quote!(_mm512_multishift_epi64_epi8(wide::twice(_mm256_setr_epi8(#(#first),*)), #bytes))
}
