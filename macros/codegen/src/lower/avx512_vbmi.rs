//! AVX-512 with VBMI: registers of 512 bits, in which two consecutive blocks of a row share everything, so that what is
//! made once for a block is made once for two.
//!
//! A half of a register has the block's 32 codes, its eight lanes or its eight floats. What comes from the same place of
//! both blocks is loaded by a broadcast and one under a mask. Bytes that lie scattered are brought to their places by
//! `vpshufb`, and `vpmultishiftqb` takes eight bits for each from anywhere in eight of them: two instructions for any
//! layout. A bit for each code becomes a mask.

use super::avx512_vnni::Avx512Vnni;
use super::ways::{self, Way};
use super::*;

pub struct Avx512Vbmi;

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
        vectors, prefetch, entries, dot_signed, store_codes, load, store
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
            (Way::Quarters { offsets, .. }, _) if offsets == [offsets[0]; 4] => {
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
        masked(each_shifted(bytes, plane.shifts), plane.mask)
    }

    fn or(&self, a: TokenStream, b: TokenStream) -> TokenStream {
        quote!(_mm512_or_si512(#a, #b))
    }

    fn lookup(&self, codes: TokenStream, entries: &[i8]) -> TokenStream {
        let entries: Vec<_> =
            (0..16).map(|i| Literal::i8_unsuffixed(entries.get(i).copied().unwrap_or(0))).collect();
        quote!(_mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_setr_epi8(#(#entries),*)), #codes))
    }

    fn trits(&self, bytes: TokenStream, powers: &[u8; CHUNK]) -> TokenStream {
        let times = |byte: usize| {
            let power = powers.iter().skip(byte).step_by(2).map(|&power| 3_i16.pow(power.into()));
            let power = power.map(Literal::i16_unsuffixed);
            quote!(_mm256_setr_epi16(#(#power),*))
        };
        let moved = if powers.iter().all(|&power| power == 0) {
            bytes
        } else {
            let (even, odd) = (times(0), times(1));
            quote!(wide::times_bytes(#bytes, wide::twice(#even), wide::twice(#odd)))
        };
        quote!(wide::first_trits(#moved))
    }

    fn negate(&self, codes: TokenStream, signs: &[TokenStream]) -> TokenStream {
        quote!(wide::negate(#codes, #(#signs),*))
    }

    fn numbers(&self, codes: &[TokenStream], table: TokenStream) -> TokenStream {
        let [low, high] = codes else { unreachable!("two blocks share a register") };
        quote!(wide::join_floats(x86::numbers(#low, #table), x86::numbers(#high, #table)))
    }

    fn activations(&self, a: &[TokenStream]) -> TokenStream {
        quote!(wide::load_activations(#(#a),*))
    }

    fn lane_sums(&self, a: &[TokenStream]) -> TokenStream {
        quote!(wide::load_lane_sums(#(#a),*))
    }

    fn steps(&self, a: &[TokenStream]) -> TokenStream {
        quote!(wide::load_steps(#(#a),*))
    }

    fn signed_bias(&self) -> i32 {
        BIAS
    }

    fn seed(&self, zero: i32, sums: TokenStream) -> TokenStream {
        if zero == 0 {
            return quote!(_mm512_setzero_si512());
        }
        let factor = Literal::i32_unsuffixed(-zero);
        quote!(_mm512_mullo_epi32(#sums, _mm512_set1_epi32(#factor)))
    }

    fn seed_of_floats(&self, zero: i32, sums: TokenStream) -> TokenStream {
        let offset = Literal::i32_unsuffixed(OFFSET_BITS);
        if zero == 0 {
            return quote!(_mm512_set1_epi32(#offset));
        }
        let seed = self.seed(zero, sums);
        quote!(_mm512_add_epi32(#seed, _mm512_set1_epi32(#offset)))
    }

    fn dot_unsigned(&self, seed: TokenStream, codes: TokenStream, activations: TokenStream) -> TokenStream {
        quote!(_mm512_dpbusd_epi32(#seed, #codes, #activations))
    }

    fn minus(&self, codes: TokenStream, zero: i32) -> TokenStream {
        let zero = Literal::i8_unsuffixed(zero as i8);
        quote!(_mm512_sub_epi8(#codes, _mm512_set1_epi8(#zero)))
    }

    fn widen(&self, codes: TokenStream, eighth: usize, signed: bool, zero: i32) -> TokenStream {
        minus(quote!(wide::eight_codes::<#eighth, #signed>(#codes)), zero)
    }

    fn floats(&self, lanes: TokenStream) -> TokenStream {
        quote!(_mm512_cvtepi32_ps(#lanes))
    }

    fn offset(&self, steps: TokenStream) -> Option<TokenStream> {
        let offset = -OFFSET;
        Some(self.mul(steps, quote!(_mm512_set1_ps(#offset))))
    }

    fn scaled(&self, lanes: TokenStream, steps: TokenStream, offset: TokenStream) -> TokenStream {
        self.fma(quote!(_mm512_castsi512_ps(#lanes)), steps, offset, false)
    }

    fn scales(&self, codes: &[TokenStream], signed: bool, zero: i32) -> TokenStream {
        let [low, high] = codes else { unreachable!("two blocks share a register") };
        let both = quote!(_mm_set_epi64x(i64::from_le_bytes(#high), i64::from_le_bytes(#low)));
        let lanes =
            if signed { quote!(_mm512_cvtepi8_epi32(#both)) } else { quote!(_mm512_cvtepu8_epi32(#both)) };
        self.floats(minus(lanes, zero))
    }

    fn splat_f16(&self, blocks: &[TokenStream], offset: usize) -> TokenStream {
        quote!(wide::splat_f16::<#offset, _>(#(#blocks),*))
    }

    fn splat(&self, value: TokenStream) -> TokenStream {
        quote!(_mm512_set1_ps(#value))
    }

    fn splat_each(&self, values: &[TokenStream]) -> TokenStream {
        quote!(wide::splat(#(#values),*))
    }

    fn permute(&self, floats: TokenStream, index: [u8; LANES]) -> TokenStream {
        let index = index.into_iter().map(|i| Literal::i32_unsuffixed(i.into()));
        quote!(wide::permute(#floats, [#(#index),*]))
    }

    fn mul(&self, a: TokenStream, b: TokenStream) -> TokenStream {
        quote!(_mm512_mul_ps(#a, #b))
    }

    fn add(&self, a: TokenStream, b: TokenStream, subtract: bool) -> TokenStream {
        if subtract { quote!(_mm512_sub_ps(#a, #b)) } else { quote!(_mm512_add_ps(#a, #b)) }
    }

    fn fma(&self, a: TokenStream, b: TokenStream, c: TokenStream, subtract: bool) -> TokenStream {
        if subtract { quote!(_mm512_fnmadd_ps(#a, #b, #c)) } else { quote!(_mm512_fmadd_ps(#a, #b, #c)) }
    }

    fn run_sums(&self, vectors: &[TokenStream]) -> TokenStream {
        match vectors {
            [vector] => vector.clone(),
            _ => {
                let name = format_ident!("run_sums_{}", vectors.len());
                quote!(wide::#name([#(#vectors),*]))
            }
        }
    }

    fn sum(&self, floats: TokenStream) -> TokenStream {
        quote!(wide::sum(#floats))
    }

    fn integers(&self) -> Option<&'static dyn Integers> {
        Some(&Avx512Vbmi)
    }
}

impl Integers for Avx512Vbmi {
    fn group_plane(&self, blocks: &[TokenStream], plane: &GroupPlane) -> TokenStream {
        let GroupPlane { windows, index, factors, shift, masks } = plane;
        // An index below 0 gives 0.
        let codes = picked(blocks, windows, index.map(|index| index.map_or(-1, |index| index as i8)));
        let shifts = std::array::from_fn(|i| *shift as i32 - factors[i / 2].ilog2() as i32);
        let codes = each_shifted(codes, shifts);
        let is_code = |i: &usize| index[*i].is_some();
        let Some(mask) = (0..CHUNK).find(is_code).map(|i| masks[i]) else { return codes };
        if (0..CHUNK).filter(is_code).all(|i| masks[i] == mask) {
            return masked(codes, mask);
        }
        let masks = masks.map(|mask| Literal::i8_unsuffixed(mask as i8));
        quote!(_mm512_and_si512(#codes, wide::twice(_mm256_setr_epi8(#(#masks),*))))
    }

    fn shorts(&self, codes: TokenStream, signed: bool, zero: i32) -> TokenStream {
        let shorts = quote!(wide::sixteen_codes::<#signed>(#codes));
        if zero == 0 {
            return shorts;
        }
        let zero = Literal::i16_unsuffixed(zero as i16);
        quote!(_mm512_sub_epi16(#shorts, _mm512_set1_epi16(#zero)))
    }

    fn multiples(&self, pairs: &[[TokenStream; 2]]) -> TokenStream {
        let pairs = pairs.iter().flatten();
        quote!(wide::load_multiples(#(#pairs),*))
    }

    fn lane_scales(&self, scales: TokenStream, chunks: [usize; 2], multiples: TokenStream) -> TokenStream {
        let [a, b] = chunks.map(Literal::usize_unsuffixed);
        quote!(_mm512_mullo_epi16(wide::four_of_each::<#a, #b>(#scales), #multiples))
    }

    fn add_scaled(&self, sums: TokenStream, [a, b]: [TokenStream; 2], scales: TokenStream) -> TokenStream {
        quote!(_mm512_dpwssd_epi32(#sums, _mm512_packs_epi32(#a, #b), #scales))
    }

    fn totals(&self, pairs: &[[TokenStream; 2]]) -> TokenStream {
        let pairs = pairs.iter().flatten();
        quote!(wide::load_totals(#(#pairs),*))
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

/// All bytes shifted right, or left by a negative amount; what crosses bytes is masked away later.
fn shifted(bytes: TokenStream, shift: i32) -> TokenStream {
    let amount = Literal::u32_unsuffixed(shift.unsigned_abs());
    match shift {
        0 => bytes,
        1.. => quote!(_mm512_srli_epi16::<#amount>(#bytes)),
        _ => quote!(_mm512_slli_epi16::<#amount>(#bytes)),
    }
}

/// Each byte shifted by its own amount.
fn each_shifted(bytes: TokenStream, shifts: [i32; CHUNK]) -> TokenStream {
    let quarters: [i32; 4] = std::array::from_fn(|quarter| shifts[quarter * (CHUNK / 4)]);
    if shifts.iter().all(|&shift| shift == shifts[0]) {
        return shifted(bytes, shifts[0]);
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

fn masked(bytes: TokenStream, mask: u8) -> TokenStream {
    if mask == u8::MAX {
        return bytes;
    }
    let mask = Literal::i8_unsuffixed(mask as i8);
    quote!(_mm512_and_si512(#bytes, _mm512_set1_epi8(#mask)))
}

fn minus(lanes: TokenStream, zero: i32) -> TokenStream {
    if zero == 0 {
        return lanes;
    }
    let zero = Literal::i32_unsuffixed(zero);
    quote!(_mm512_sub_epi32(#lanes, _mm512_set1_epi32(#zero)))
}
