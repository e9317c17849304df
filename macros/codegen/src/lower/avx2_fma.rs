//! AVX2 with FMA and F16C: one 256-bit register holds a chunk of codes, its lanes, or eight floats.
//!
//! Nibbles are extracted by a shift and a mask rather than by `vpshufb` tables: where both halves of a
//! chunk come from the same 16 bytes, one broadcast load and one `vpsrlvq` with a count per half place
//! all 32 codes, and the load is free of shuffles. `vpshufb` serves value tables and scattered bits.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};

use super::{Integers, Isa, OFFSET, OFFSET_BITS, Products, Target, Way};
use crate::model::CHUNK;
use crate::plan::block_sums::GroupPlane;
use crate::plan::{LANES, Plane};

pub struct Avx2Fma;

impl Isa for Avx2Fma {
    fn target(&self) -> &'static Target {
        &Target {
            name: "avx2_fma",
            variant: "Avx2Fma",
            summary: "256-bit vpmaddubsw and FMA: x86-64 CPUs since 2013",
            arch: Some("x86_64"),
            features: &["avx2", "fma", "f16c"],
        }
    }

    fn registers(&self) -> usize {
        16
    }

    /// With eight, rows would be too few.
    fn vectors(&self) -> usize {
        4
    }

    fn products(&self) -> Products {
        Products { unsigned: Some("vpmaddubsw"), signed: Some("vpmaddubsw") }
    }

    fn prelude(&self) -> TokenStream {
        quote! {
            use ::core::arch::x86_64::*;
            use self::kernels::x86;
        }
    }

    fn of_one_block(&self) -> Option<&'static dyn Isa> {
        None
    }

    fn prefetch(&self, block: &TokenStream, distance: TokenStream) -> TokenStream {
        quote!(x86::prefetch(#block, #distance);)
    }

    fn plane(&self, blocks: &[TokenStream], len: usize, plane: &Plane) -> TokenStream {
        let block = &blocks[0];
        match &Way::of(plane, len) {
            Way::Run { offset, shift } => {
                let bytes = quote!(x86::load_256::<#offset, _>(#block));
                masked(shifted(bytes, *shift), plane.mask)
            }
            Way::Halves { offsets: [low, high], shifts } => {
                let bytes = if low == high {
                    quote!(x86::broadcast_128::<#low, _>(#block))
                } else {
                    quote!(_mm256_set_m128i(x86::load_128::<#high, _>(#block), x86::load_128::<#low, _>(#block)))
                };
                let [low, high] = *shifts;
                masked(shifted_by_quarters(bytes, [low, low, high, high]), plane.mask)
            }
            Way::Quarters { offsets, shifts } => {
                let bytes = match one_of(offsets) {
                    Some(offset) => quote!(x86::broadcast_64::<#offset, _>(#block)),
                    None => {
                        let quarters = offsets.iter().rev();
                        quote!(_mm256_set_epi64x(#(x86::load_64::<#quarters, _>(#block)),*))
                    }
                };
                masked(shifted_by_quarters(bytes, *shifts), plane.mask)
            }
            Way::Eighths { offsets, shifts } => {
                let bytes = match one_of(offsets) {
                    Some(offset) => quote!(x86::broadcast_32::<#offset, _>(#block)),
                    None => quote!(_mm256_setr_epi32(#(x86::load_32::<#offsets, _>(#block)),*)),
                };
                masked(shifted_by_eighths(bytes, *shifts), plane.mask)
            }
            Way::Bits { windows, index, bits } => {
                let bits = bits.iter().map(|&bit| Literal::i8_unsuffixed(bit as i8));
                let bytes = picked(block, windows, index.map(|i| i as i8));
                masked(
                    quote!({
                        let bits = _mm256_setr_epi8(#(#bits),*);
                        _mm256_cmpeq_epi8(_mm256_and_si256(#bytes, bits), bits)
                    }),
                    plane.mask,
                )
            }
            Way::Shuffle { windows, index } => {
                let shifts = &plane.shifts;
                let bytes = picked(block, windows, index.map(|i| i as i8));
                // There is no shift per byte: for each amount shift all and keep those that need it.
                let mut amounts = shifts.to_vec();
                amounts.sort_unstable();
                amounts.dedup();
                let kept = amounts.iter().map(|&amount| {
                    let mask = shifts.iter().map(|&shift| {
                        Literal::i8_unsuffixed(if shift == amount { plane.mask as i8 } else { 0 })
                    });
                    let moved = shifted(quote!(bytes), amount);
                    quote!(_mm256_and_si256(#moved, _mm256_setr_epi8(#(#mask),*)))
                });
                let joined = kept.reduce(|a, b| self.or(a, b)).unwrap_or_default();
                quote!({ let bytes = #bytes; #joined })
            }
        }
    }

    fn or(&self, a: TokenStream, b: TokenStream) -> TokenStream {
        quote!(_mm256_or_si256(#a, #b))
    }

    fn lookup(&self, codes: TokenStream, entries: &[i8]) -> TokenStream {
        let entries: Vec<_> =
            (0..16).map(|i| Literal::i8_unsuffixed(entries.get(i).copied().unwrap_or(0))).collect();
        quote!(_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_setr_epi8(#(#entries),*)), #codes))
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
            quote!(x86::times_bytes(#bytes, #even, #odd))
        };
        quote!(x86::first_trits(#moved))
    }

    fn entries(&self, book: TokenStream, weights: usize, indices: &[TokenStream]) -> TokenStream {
        if weights == 8 {
            quote!(x86::entries_of_8(#book, [#(#indices),*]))
        } else {
            quote!(x86::entries_of_4(#book, [#(#indices),*]))
        }
    }

    fn negate(&self, codes: TokenStream, signs: &[TokenStream]) -> TokenStream {
        quote!(x86::negate(#codes, #(#signs),*))
    }

    fn numbers(&self, codes: &[TokenStream], table: TokenStream) -> TokenStream {
        quote!(x86::numbers(#(#codes),*, #table))
    }

    fn activations(&self, a: &[TokenStream]) -> TokenStream {
        quote!(x86::load_activations(#(#a),*))
    }

    fn lane_sums(&self, a: &[TokenStream]) -> TokenStream {
        quote!(x86::load_lane_sums(#(#a),*))
    }

    fn steps(&self, a: &[TokenStream]) -> TokenStream {
        quote!(x86::load_steps(#(#a),*))
    }

    fn signed_bias(&self) -> i32 {
        0
    }

    fn seed(&self, zero: i32, sums: TokenStream) -> TokenStream {
        if zero == 0 {
            return quote!(_mm256_setzero_si256());
        }
        let factor = Literal::i32_unsuffixed(-zero);
        quote!(_mm256_mullo_epi32(#sums, _mm256_set1_epi32(#factor)))
    }

    fn seed_of_floats(&self, zero: i32, sums: TokenStream) -> TokenStream {
        let offset = Literal::i32_unsuffixed(OFFSET_BITS);
        if zero == 0 {
            return quote!(_mm256_set1_epi32(#offset));
        }
        let seed = self.seed(zero, sums);
        quote!(_mm256_add_epi32(#seed, _mm256_set1_epi32(#offset)))
    }

    fn dot_unsigned(&self, seed: TokenStream, codes: TokenStream, activations: TokenStream) -> TokenStream {
        quote!(_mm256_add_epi32(
            #seed,
            _mm256_madd_epi16(_mm256_maddubs_epi16(#codes, #activations), _mm256_set1_epi16(1))
        ))
    }

    fn minus(&self, codes: TokenStream, zero: i32) -> TokenStream {
        let zero = Literal::i8_unsuffixed(zero as i8);
        quote!(_mm256_sub_epi8(#codes, _mm256_set1_epi8(#zero)))
    }

    fn dot_signed(&self, seed: TokenStream, codes: TokenStream, activations: TokenStream) -> TokenStream {
        // |code| · (activation with the code's sign): |−128| reads as 128 unsigned, and
        // 2 · 128 · 127 = 32,512 fits an i16.
        let product = self.dot_unsigned(
            seed,
            quote!(_mm256_sign_epi8(codes, codes)),
            quote!(_mm256_sign_epi8(#activations, codes)),
        );
        quote!({ let codes = #codes; #product })
    }

    fn store_codes(&self, out: TokenStream, codes: TokenStream) -> TokenStream {
        quote!(x86::store_256(&mut #out, #codes);)
    }

    fn widen(&self, codes: TokenStream, eighth: usize, signed: bool, zero: i32) -> TokenStream {
        let half = if eighth < 2 {
            quote!(_mm256_castsi256_si128(#codes))
        } else {
            quote!(_mm256_extracti128_si256::<1>(#codes))
        };
        let eight = if eighth.is_multiple_of(2) { half } else { quote!(_mm_srli_si128::<8>(#half)) };
        let wide =
            if signed { quote!(_mm256_cvtepi8_epi32(#eight)) } else { quote!(_mm256_cvtepu8_epi32(#eight)) };
        minus(wide, zero)
    }

    fn floats(&self, lanes: TokenStream) -> TokenStream {
        quote!(_mm256_cvtepi32_ps(#lanes))
    }

    fn offset(&self, steps: TokenStream) -> Option<TokenStream> {
        let offset = -OFFSET;
        Some(self.mul(steps, quote!(_mm256_set1_ps(#offset))))
    }

    fn scaled(&self, lanes: TokenStream, steps: TokenStream, offset: TokenStream) -> TokenStream {
        self.fma(quote!(_mm256_castsi256_ps(#lanes)), steps, offset, false)
    }

    fn scales(&self, codes: &[TokenStream], signed: bool, zero: i32) -> TokenStream {
        let eight = quote!(_mm_cvtsi64_si128(i64::from_le_bytes(#(#codes),*)));
        let wide =
            if signed { quote!(_mm256_cvtepi8_epi32(#eight)) } else { quote!(_mm256_cvtepu8_epi32(#eight)) };
        self.floats(minus(wide, zero))
    }

    fn splat_f16(&self, blocks: &[TokenStream], offset: usize) -> TokenStream {
        quote!(x86::splat_f16::<#offset, _>(#(#blocks),*))
    }

    fn load(&self, place: TokenStream) -> TokenStream {
        quote!(x86::load(#place))
    }

    fn splat(&self, value: TokenStream) -> TokenStream {
        quote!(_mm256_set1_ps(#value))
    }

    fn splat_each(&self, values: &[TokenStream]) -> TokenStream {
        quote!(_mm256_set1_ps(#(#values),*))
    }

    fn permute(&self, floats: TokenStream, index: [u8; LANES]) -> TokenStream {
        let index = index.into_iter().map(|i| Literal::i32_unsuffixed(i.into()));
        quote!(x86::permute(#floats, [#(#index),*]))
    }

    fn mul(&self, a: TokenStream, b: TokenStream) -> TokenStream {
        quote!(_mm256_mul_ps(#a, #b))
    }

    fn add(&self, a: TokenStream, b: TokenStream, subtract: bool) -> TokenStream {
        if subtract { quote!(_mm256_sub_ps(#a, #b)) } else { quote!(_mm256_add_ps(#a, #b)) }
    }

    fn fma(&self, a: TokenStream, b: TokenStream, c: TokenStream, subtract: bool) -> TokenStream {
        if subtract { quote!(_mm256_fnmadd_ps(#a, #b, #c)) } else { quote!(_mm256_fmadd_ps(#a, #b, #c)) }
    }

    fn run_sums(&self, vectors: &[TokenStream]) -> TokenStream {
        match vectors {
            [vector] => vector.clone(),
            _ => {
                let name = format_ident!("run_sums_{}", vectors.len());
                quote!(x86::#name([#(#vectors),*]))
            }
        }
    }

    fn sum(&self, floats: TokenStream) -> TokenStream {
        quote!(x86::sum(#floats))
    }

    fn store(&self, out: TokenStream, floats: TokenStream) -> TokenStream {
        quote!(x86::store(&mut #out, #floats);)
    }

    fn integers(&self) -> Option<&'static dyn Integers> {
        Some(&Avx2Fma)
    }
}

impl Integers for Avx2Fma {
    fn group_plane(&self, blocks: &[TokenStream], plane: &GroupPlane) -> TokenStream {
        let GroupPlane { windows, index, factors, shift, masks } = plane;
        let block = &blocks[0];
        // An index below 0 gives 0.
        let mut codes = picked(block, windows, index.map(|index| index.map_or(-1, |index| index as i8)));
        if factors.iter().any(|&factor| factor != 1) {
            let factors = factors.map(|factor| Literal::i16_unsuffixed(factor.into()));
            codes = quote!(_mm256_mullo_epi16(#codes, _mm256_setr_epi16(#(#factors),*)));
        }
        let codes = shifted(codes, *shift as i32);
        let is_code = |i: &usize| index[*i].is_some();
        let Some(mask) = (0..CHUNK).find(is_code).map(|i| masks[i]) else { return codes };
        if (0..CHUNK).filter(is_code).all(|i| masks[i] == mask) {
            return masked(codes, mask);
        }
        let masks = masks.map(|mask| Literal::i8_unsuffixed(mask as i8));
        quote!(_mm256_and_si256(#codes, _mm256_setr_epi8(#(#masks),*)))
    }

    fn shorts(&self, codes: TokenStream, signed: bool, zero: i32) -> TokenStream {
        let half = quote!(_mm256_castsi256_si128(#codes));
        let wide =
            if signed { quote!(_mm256_cvtepi8_epi16(#half)) } else { quote!(_mm256_cvtepu8_epi16(#half)) };
        if zero == 0 {
            return wide;
        }
        let zero = Literal::i32_unsuffixed(zero);
        quote!(_mm256_sub_epi16(#wide, _mm256_set1_epi16(#zero)))
    }

    fn multiples(&self, pairs: &[[TokenStream; 2]]) -> TokenStream {
        let [a, b] = &pairs[0];
        quote!(x86::load_multiples(#a, #b))
    }

    fn lane_scales(&self, scales: TokenStream, chunks: [usize; 2], multiples: TokenStream) -> TokenStream {
        let [a, b] = chunks.map(Literal::usize_unsuffixed);
        quote!(_mm256_mullo_epi16(x86::four_of_each::<#a, #b>(#scales), #multiples))
    }

    fn add_scaled(&self, sums: TokenStream, [a, b]: [TokenStream; 2], scales: TokenStream) -> TokenStream {
        quote!(_mm256_add_epi32(#sums, _mm256_madd_epi16(_mm256_packs_epi32(#a, #b), #scales)))
    }

    fn totals(&self, pairs: &[[TokenStream; 2]]) -> TokenStream {
        let [a, b] = &pairs[0];
        quote!(x86::load_totals(#a, #b))
    }
}

/// The bytes at `index` of a window for each half.
fn picked(block: &TokenStream, [low, high]: &[usize; 2], index: [i8; CHUNK]) -> TokenStream {
    let index = index.map(Literal::i8_unsuffixed);
    let windows = if low == high {
        quote!(x86::broadcast_128::<#low, _>(#block))
    } else {
        quote!(_mm256_set_m128i(x86::load_128::<#high, _>(#block), x86::load_128::<#low, _>(#block)))
    };
    quote!(_mm256_shuffle_epi8(#windows, _mm256_setr_epi8(#(#index),*)))
}

/// The offset that all of them are.
fn one_of(offsets: &[usize]) -> Option<usize> {
    offsets.iter().all(|offset| *offset == offsets[0]).then_some(offsets[0])
}

/// All bytes shifted right, or left by a negative amount; what crosses bytes is masked away later.
fn shifted(bytes: TokenStream, shift: i32) -> TokenStream {
    let amount = Literal::i32_unsuffixed(shift.abs());
    match shift {
        0 => bytes,
        1.. => quote!(_mm256_srli_epi16::<#amount>(#bytes)),
        _ => quote!(_mm256_slli_epi16::<#amount>(#bytes)),
    }
}

/// Each quarter shifted by its own amount, to the right where that is positive, to the left where negative.
fn shifted_by_quarters(bytes: TokenStream, shifts: [i32; 4]) -> TokenStream {
    let amounts = |amounts: [i32; 4]| {
        let amounts = amounts.map(Literal::i32_unsuffixed);
        quote!(_mm256_setr_epi64x(#(#amounts),*))
    };
    shifted_by_parts(bytes, shifts, quote!(_mm256_srlv_epi64), quote!(_mm256_sllv_epi64), amounts)
}

/// The same of eighths.
fn shifted_by_eighths(bytes: TokenStream, shifts: [i32; 8]) -> TokenStream {
    let amounts = |amounts: [i32; 8]| {
        let amounts = amounts.map(Literal::i32_unsuffixed);
        quote!(_mm256_setr_epi32(#(#amounts),*))
    };
    shifted_by_parts(bytes, shifts, quote!(_mm256_srlv_epi32), quote!(_mm256_sllv_epi32), amounts)
}

fn shifted_by_parts<const N: usize>(
    bytes: TokenStream,
    shifts: [i32; N],
    right: TokenStream,
    left: TokenStream,
    amounts: impl Fn([i32; N]) -> TokenStream,
) -> TokenStream {
    if shifts.iter().all(|&shift| shift == shifts[0]) {
        return shifted(bytes, shifts[0]);
    }
    let mut moved = bytes;
    if shifts.iter().any(|&shift| shift > 0) {
        let by = amounts(shifts.map(|shift| shift.max(0)));
        moved = quote!(#right(#moved, #by));
    }
    if shifts.iter().any(|&shift| shift < 0) {
        let by = amounts(shifts.map(|shift| -shift.min(0)));
        moved = quote!(#left(#moved, #by));
    }
    moved
}

fn masked(bytes: TokenStream, mask: u8) -> TokenStream {
    if mask == u8::MAX {
        return bytes;
    }
    let mask = Literal::i8_unsuffixed(mask as i8);
    quote!(_mm256_and_si256(#bytes, _mm256_set1_epi8(#mask)))
}

fn minus(lanes: TokenStream, zero: i32) -> TokenStream {
    if zero == 0 {
        return lanes;
    }
    let zero = Literal::i32_unsuffixed(zero);
    quote!(_mm256_sub_epi32(#lanes, _mm256_set1_epi32(#zero)))
}
