//! AVX2 with FMA and F16C: one 256-bit register holds a chunk of codes, its lanes, or eight floats.
//!
//! Nibbles are extracted by a shift and a mask rather than by `vpshufb` tables: where both halves of a
//! chunk come from the same 16 bytes, one broadcast load and one `vpsrlvq` with a count per half place
//! all 32 codes, and the load is free of shuffles. `vpshufb` serves value tables and scattered bits.

use super::registers::{Registers, one_of, table};
use super::*;

pub struct Avx2Fma;

const YMM: Registers = Registers(256);

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

    fn unrolls(&self) -> bool {
        true
    }

    fn products(&self) -> Products {
        Products { unsigned: Some("vpmaddubsw"), signed: Some("vpmaddubsw") }
    }

    take_over! {
        YMM,
        or, trits, digits, entries, negate, activations, lane_sums, steps, seed, seed_of_floats, minus, floats, offset, scaled,
        splat_f16, splat, permute, mul, add, fma, run_sums, sum
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
                YMM.masked(YMM.shifted(bytes, *shift), plane.mask)
            }
            Way::Halves { offsets, shifts } => {
                let bytes = windows(block, offsets);
                let [low, high] = *shifts;
                YMM.masked(shifted_by_quarters(bytes, [low, low, high, high]), plane.mask)
            }
            Way::Quarters { offsets, shifts } => {
                let bytes = match one_of(offsets) {
                    Some(offset) => quote!(x86::broadcast_64::<#offset, _>(#block)),
                    None => {
                        let quarters = offsets.iter().rev();
                        quote!(_mm256_set_epi64x(#(x86::load_64::<#quarters, _>(#block)),*))
                    }
                };
                YMM.masked(shifted_by_quarters(bytes, *shifts), plane.mask)
            }
            Way::Eighths { offsets, shifts } => {
                let bytes = match one_of(offsets) {
                    Some(offset) => quote!(x86::broadcast_32::<#offset, _>(#block)),
                    None => quote!(_mm256_setr_epi32(#(x86::load_32::<#offsets, _>(#block)),*)),
                };
                YMM.masked(shifted_by_eighths(bytes, *shifts), plane.mask)
            }
            Way::Spread { bytes: [low, high], shifts: [of_low, of_high] } => {
                let bytes = if low == high {
                    quote!(x86::broadcast_8::<#low, _>(#block))
                } else {
                    quote!(x86::broadcast_8s::<#low, #high, _>(#block))
                };
                let shifts = [*of_low, *of_low, *of_high, *of_high];
                YMM.masked(shifted_by_quarters(bytes, shifts), plane.mask)
            }
            Way::Bits { windows, index, bits } => {
                let bits = bits.iter().map(|&bit| Literal::i8_unsuffixed(bit as i8));
                let bytes = picked(block, windows, index.map(|i| i as i8));
                YMM.masked(
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
                    let moved = YMM.shifted(quote!(bytes), amount);
                    quote!(_mm256_and_si256(#moved, _mm256_setr_epi8(#(#mask),*)))
                });
                let joined = kept.reduce(|a, b| self.or(a, b)).unwrap_or_default();
                quote!({ let bytes = #bytes; #joined })
            }
            Way::Words { windows, index } => words(block, windows, index, plane),
        }
    }

    fn lookup(&self, codes: TokenStream, entries: &[i8]) -> TokenStream {
        let tables = entries.chunks(16).map(table);
        match entries.len() {
            ..=16 => quote!(_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(#(#tables)*), #codes)),
            count => {
                let lookup = format_ident!("lookup_{count}");
                quote!(x86::#lookup(#codes, [#(#tables),*]))
            }
        }
    }

    fn numbers(&self, codes: &[TokenStream], table: TokenStream) -> TokenStream {
        quote!(x86::numbers(#(#codes),*, #table))
    }

    fn halves(&self, bits: &[TokenStream]) -> TokenStream {
        quote!(x86::halves(#(#bits),*))
    }

    fn singles(&self, eights: &[TokenStream]) -> TokenStream {
        quote!(x86::load(&#(#eights),*))
    }

    fn unsigned_limit(&self) -> i32 {
        127
    }

    fn dot_unsigned(&self, seed: TokenStream, codes: TokenStream, activations: TokenStream) -> TokenStream {
        quote!(_mm256_add_epi32(
            #seed,
            _mm256_madd_epi16(_mm256_maddubs_epi16(#codes, #activations), _mm256_set1_epi16(1))
        ))
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
        YMM.integers_minus(YMM.widened(eight, signed), 32, zero)
    }

    fn scales(&self, codes: &[TokenStream], signed: bool, zero: i32) -> TokenStream {
        let eight = quote!(_mm_cvtsi64_si128(i64::from_le_bytes(#(#codes),*)));
        self.floats(YMM.integers_minus(YMM.widened(eight, signed), 32, zero))
    }

    fn load(&self, place: TokenStream) -> TokenStream {
        quote!(x86::load(#place))
    }

    fn splat_each(&self, values: &[TokenStream]) -> TokenStream {
        quote!(_mm256_set1_ps(#(#values),*))
    }

    fn store(&self, out: TokenStream, floats: TokenStream) -> TokenStream {
        quote!(x86::store(&mut #out, #floats);)
    }

    fn integers(&self) -> Option<&'static dyn Integers> {
        Some(&Avx2Fma)
    }
}

impl Integers for Avx2Fma {
    take_over_integers! {
        YMM,
        multiples, lane_scales, totals
    }

    fn group_codes(&self, blocks: &[TokenStream], planes: &[GroupPlane]) -> TokenStream {
        let of_plane = |plane: &GroupPlane| {
            // An index below 0 gives 0, where there is no code.
            let index = plane.index.map(|index| index.map_or(-1, |index| index as i8));
            let mut codes = picked(&blocks[0], &plane.windows, index);
            if plane.factors.iter().any(|&factor| factor != 1) {
                let factors = plane.factors.map(|factor| Literal::i16_unsuffixed(factor.into()));
                codes = quote!(_mm256_mullo_epi16(#codes, _mm256_setr_epi16(#(#factors),*)));
            }
            YMM.group_masked(YMM.shifted(codes, plane.shift as i32), plane)
        };
        planes.iter().map(of_plane).reduce(|a, b| self.or(a, b)).unwrap_or_default()
    }

    fn shorts(&self, codes: TokenStream, signed: bool, zero: i32) -> TokenStream {
        let half = quote!(_mm256_castsi256_si128(#codes));
        let wide =
            if signed { quote!(_mm256_cvtepi8_epi16(#half)) } else { quote!(_mm256_cvtepu8_epi16(#half)) };
        YMM.integers_minus(wide, 16, zero)
    }

    fn add_scaled(&self, sums: TokenStream, [a, b]: [TokenStream; 2], scales: TokenStream) -> TokenStream {
        quote!(_mm256_add_epi32(#sums, _mm256_madd_epi16(_mm256_packs_epi32(#a, #b), #scales)))
    }
}

/// A window of 16 bytes for each half.
fn windows(block: &TokenStream, [low, high]: &[usize; 2]) -> TokenStream {
    if low == high {
        quote!(x86::broadcast_128::<#low, _>(#block))
    } else {
        quote!(_mm256_set_m128i(x86::load_128::<#high, _>(#block), x86::load_128::<#low, _>(#block)))
    }
}

/// The bytes at `index` of a window for each half.
fn picked(block: &TokenStream, offsets: &[usize; 2], index: [i8; CHUNK]) -> TokenStream {
    let (windows, index) = (windows(block, offsets), index.map(Literal::i8_unsuffixed));
    quote!(_mm256_shuffle_epi8(#windows, _mm256_setr_epi8(#(#index),*)))
}

/// The bits of a plane whose codes go on into another byte: each becomes a word of two bytes. There is no shift for each
/// word, but a product with a power of two brings its bits to the top, from where one shift takes all down.
fn words(block: &TokenStream, offsets: &[usize; 2], index: &[u8; CHUNK], plane: &Plane) -> TokenStream {
    const EIGHT: usize = 8;
    let position = plane.mask.trailing_zeros() as i32;
    let bits = plane.mask.count_ones() as i32;
    // Packing takes eight words of each vector for each half in turn: of the first eight codes of a half, then of the others.
    let half_of_words = |second: usize| {
        let codes = || (0..2).flat_map(move |half| (0..EIGHT).map(move |i| (2 * half + second) * EIGHT + i));
        let bytes = codes().flat_map(|i| {
            // An index below 0 gives 0.
            let other = plane
                .other_byte(i)
                .map_or(-1, |other| (other + usize::from(index[i]) - plane.bytes[i]) as i8);
            [index[i] as i8, other]
        });
        let bytes = bytes.map(Literal::i8_unsuffixed);
        let factors = codes().map(|i| 1_u16 << (16 - bits - position - plane.shifts[i]));
        let factors = factors.map(|factor| Literal::i16_unsuffixed(factor as i16));
        let at_top = quote!(_mm256_mullo_epi16(
            _mm256_shuffle_epi8(bytes, _mm256_setr_epi8(#(#bytes),*)),
            _mm256_setr_epi16(#(#factors),*),
        ));
        YMM.shifted(YMM.shifted(at_top, 16 - bits), -position)
    };
    let (windows, first, second) = (windows(block, offsets), half_of_words(0), half_of_words(1));
    quote!({ let bytes = #windows; _mm256_packus_epi16(#first, #second) })
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
        return YMM.shifted(bytes, shifts[0]);
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
