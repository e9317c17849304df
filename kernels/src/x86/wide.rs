//! The same with 512 bits: a half of a register for each of two blocks.
//!
//! What is not loaded by [`x86`](super)'s own functions is put together from what is; there are no raw pointers here.

use core::arch::x86_64::*;

use super::{load_32, load_64};
use crate::ActivationBlock;
use crate::bytes::each;

/// The lanes of the second block among sixteen.
const SECOND: __mmask16 = 0xFF00;

/// Codes of one block, then those of the other.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn join(first: __m256i, second: __m256i) -> __m512i {
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second)
}

/// Floats of one block, then those of the other.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub fn join_floats(first: __m256, second: __m256) -> __m512 {
    _mm512_insertf32x8::<1>(_mm512_castps256_ps512(first), second)
}

/// The same for both blocks.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn twice(of_one: __m256i) -> __m512i {
    _mm512_broadcast_i64x4(of_one)
}

/// 32 bytes of each block.
#[inline]
#[target_feature(enable = "avx2,avx512f")]
pub fn load_256<const OFFSET: usize, const N: usize>(first: &[u8; N], second: &[u8; N]) -> __m512i {
    join(super::load_256::<OFFSET, N>(first), super::load_256::<OFFSET, N>(second))
}

/// 16 bytes of each block, twice.
#[inline]
#[target_feature(enable = "avx2,avx512f")]
pub fn broadcast_128<const OFFSET: usize, const N: usize>(first: &[u8; N], second: &[u8; N]) -> __m512i {
    let first = _mm512_broadcast_i32x4(super::load_128::<OFFSET, N>(first));
    // A load under a mask: the compiler, where it knew the mask, would load both and join them by a shuffle, for which
    // Intel's CPUs have one port.
    _mm512_mask_broadcast_i32x4(first, hidden!(kreg, SECOND), super::load_128::<OFFSET, N>(second))
}

/// 16 bytes of each block.
#[inline]
#[target_feature(enable = "avx2")]
pub fn load_128<const OFFSET: usize, const N: usize>(first: &[u8; N], second: &[u8; N]) -> __m256i {
    _mm256_set_m128i(super::load_128::<OFFSET, N>(second), super::load_128::<OFFSET, N>(first))
}

/// The bytes at 32 places, then those so much `FURTHER`.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512vbmi")]
pub fn gather<const FURTHER: i8>(bytes: __m512i, places: __m256i) -> __m512i {
    let index = join(places, _mm256_add_epi8(places, _mm256_set1_epi8(FURTHER)));
    _mm512_permutexvar_epi8(index, bytes)
}

/// Of each block 16 bytes from one place, then 16 from another.
#[inline]
#[target_feature(enable = "avx2,avx512f")]
pub fn load_128s<const LOW: usize, const HIGH: usize, const N: usize>(
    first: &[u8; N],
    second: &[u8; N],
) -> __m512i {
    let both = |block| _mm256_set_m128i(super::load_128::<HIGH, N>(block), super::load_128::<LOW, N>(block));
    join(both(first), both(second))
}

/// A byte of each block, in all of its places.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub fn broadcast_8<const OFFSET: usize, const N: usize>(first: &[u8; N], second: &[u8; N]) -> __m512i {
    const { assert!(OFFSET < N) };
    let first = _mm512_set1_epi8(first[OFFSET] as i8);
    _mm512_mask_set1_epi8(first, 0xFFFF_FFFF_0000_0000, second[OFFSET] as i8)
}

/// Of each half of each block a byte, in all places.
#[inline]
#[target_feature(enable = "avx2,avx512f")]
pub fn broadcast_8s<const LOW: usize, const HIGH: usize, const N: usize>(
    first: &[u8; N],
    second: &[u8; N],
) -> __m512i {
    join(super::broadcast_8s::<LOW, HIGH, N>(first), super::broadcast_8s::<LOW, HIGH, N>(second))
}

/// The entries of a table, which both blocks share.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn table(entries: &[i8; 64]) -> __m512i {
    let eight: [i64; 8] = each(|i| i64::from_le_bytes(each(|k| entries[8 * i + k] as u8)));
    let [a, b, c, d, e, f, g, h] = eight;
    _mm512_setr_epi64(a, b, c, d, e, f, g, h)
}

/// Signed codes from a table of 64: of the codes the low six bits choose.
#[inline]
#[target_feature(enable = "avx512f,avx512vbmi")]
pub fn lookup_64(codes: __m512i, [table]: [__m512i; 1]) -> __m512i {
    _mm512_permutexvar_epi8(codes, table)
}

/// Signed codes from a table of 128: of the codes the low seven bits choose.
#[inline]
#[target_feature(enable = "avx512f,avx512vbmi")]
pub fn lookup_128(codes: __m512i, [low, high]: [__m512i; 2]) -> __m512i {
    _mm512_permutex2var_epi8(low, codes, high)
}

/// Signed codes from a table of 256.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub fn lookup_256(codes: __m512i, [a, b, c, d]: [__m512i; 4]) -> __m512i {
    // Their highest bit chooses between the halves.
    let chooses = _mm512_movepi8_mask(codes);
    _mm512_mask_blend_epi8(chooses, lookup_128(codes, [a, b]), lookup_128(codes, [c, d]))
}

/// 8 bytes of each block, four times.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn broadcast_64<const OFFSET: usize, const N: usize>(first: &[u8; N], second: &[u8; N]) -> __m512i {
    let first = _mm512_set1_epi64(load_64::<OFFSET, N>(first));
    _mm512_mask_set1_epi64(first, 0xF0, load_64::<OFFSET, N>(second))
}

/// Of each block four times 8 bytes.
#[inline]
#[target_feature(enable = "avx2,avx512f")]
pub fn load_64s<const A: usize, const B: usize, const C: usize, const D: usize, const N: usize>(
    first: &[u8; N],
    second: &[u8; N],
) -> __m512i {
    let four = |block| {
        let (c, d) = (load_64::<C, N>(block), load_64::<D, N>(block));
        _mm256_setr_epi64x(load_64::<A, N>(block), load_64::<B, N>(block), c, d)
    };
    join(four(first), four(second))
}

/// Of each block eight times 4 bytes.
#[inline]
#[target_feature(enable = "avx2,avx512f")]
pub fn load_32s<
    const A: usize,
    const B: usize,
    const C: usize,
    const D: usize,
    const E: usize,
    const F: usize,
    const G: usize,
    const H: usize,
    const N: usize,
>(
    first: &[u8; N],
    second: &[u8; N],
) -> __m512i {
    let eight = |block| {
        let [a, b, c] = [load_32::<A, N>(block), load_32::<B, N>(block), load_32::<C, N>(block)];
        let [d, e, f] = [load_32::<D, N>(block), load_32::<E, N>(block), load_32::<F, N>(block)];
        _mm256_setr_epi32(a, b, c, d, e, f, load_32::<G, N>(block), load_32::<H, N>(block))
    };
    join(eight(first), eight(second))
}

/// Four entries of a codebook for each block. There is none for shorter entries, as such books are worked on block by block.
#[inline]
#[target_feature(enable = "avx2,avx512f")]
pub fn entries_of_8(entries: [[u8; 8]; 8]) -> __m512i {
    let [a, b, c, d, e, f, g, h] = entries;
    join(super::entries_of_8([a, b, c, d]), super::entries_of_8([e, f, g, h]))
}

/// For each bit of 4 bytes of each block a byte: `set` where there is one, or 0.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub fn spread_bits<const OFFSET: usize, const N: usize>(
    first: &[u8; N],
    second: &[u8; N],
    set: i8,
) -> __m512i {
    let bits = |block| load_32::<OFFSET, N>(block) as u32;
    _mm512_maskz_set1_epi8(both(bits(first), bits(second)), set)
}

/// Bits for the codes of one block, then for those of the other.
#[inline]
fn both(first: u32, second: u32) -> __mmask64 {
    u64::from(first) | u64::from(second) << 32
}

/// Each byte times a number, of which 8 bits are kept; even bytes have other numbers than odd ones.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub fn times_bytes(bytes: __m512i, even: __m512i, odd: __m512i) -> __m512i {
    const ODD: __mmask64 = 0xAAAA_AAAA_AAAA_AAAA;
    let evens = _mm512_mullo_epi16(bytes, even);
    // What the low byte adds to the high one's product would be its carry: it is taken off before.
    let odds = _mm512_mullo_epi16(_mm512_maskz_mov_epi8(ODD, bytes), odd);
    _mm512_mask_mov_epi8(evens, ODD, odds)
}

/// The lowest digit of `BASE` of each byte over a power of it, by reciprocals as [`digits`](super::digits) has them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub fn digits<const BASE: i16>(bytes: __m512i, even: __m512i, odd: __m512i) -> __m512i {
    let of_words = |words, reciprocals| {
        let quotients = _mm512_mulhi_epu16(_mm512_slli_epi16::<1>(words), reciprocals);
        let of_base = const { (65536 / BASE as i32 + 1) as u16 as i16 };
        let above = _mm512_mulhi_epu16(quotients, _mm512_set1_epi16(of_base));
        _mm512_sub_epi16(quotients, _mm512_mullo_epi16(above, _mm512_set1_epi16(BASE)))
    };
    let evens = of_words(_mm512_and_si512(bytes, _mm512_set1_epi16(0x00FF)), even);
    let odds = of_words(_mm512_srli_epi16::<8>(bytes), odd);
    _mm512_or_si512(evens, _mm512_slli_epi16::<8>(odds))
}

/// The first digit of the base 3 of each byte, a fraction of 256.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub fn first_trits(bytes: __m512i) -> __m512i {
    let reached = |limit: u8| _mm512_cmpge_epu8_mask(bytes, _mm512_set1_epi8(limit as i8));
    let one = _mm512_maskz_set1_epi8(reached(86), 1);
    _mm512_mask_mov_epi8(one, reached(171), _mm512_set1_epi8(2))
}

/// Signed codes, negated where there is a bit for them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub fn negate(codes: __m512i, first: u32, second: u32) -> __m512i {
    _mm512_mask_sub_epi8(codes, both(first, second), _mm512_setzero_si512(), codes)
}

/// The 32 activations of each.
#[inline]
#[target_feature(enable = "avx2,avx512f")]
pub fn load_activations(first: &ActivationBlock, second: &ActivationBlock) -> __m512i {
    join(super::load_activations(first), super::load_activations(second))
}

/// The eight lane sums of each.
#[inline]
#[target_feature(enable = "avx2,avx512f")]
pub fn load_lane_sums(first: &ActivationBlock, second: &ActivationBlock) -> __m512i {
    _mm512_cvtepi16_epi32(_mm256_set_m128i(super::load_sums(second), super::load_sums(first)))
}

/// The eight scales of each, each for its lane.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512dq")]
pub fn load_steps(first: &ActivationBlock, second: &ActivationBlock) -> __m512 {
    join_floats(super::load_steps(first), super::load_steps(second))
}

/// The scales of two activation blocks for each block of weights in units, as `vpackssdw` packs lanes: four of each in turn.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub fn load_multiples(
    a: &ActivationBlock,
    b: &ActivationBlock,
    next_a: &ActivationBlock,
    next_b: &ActivationBlock,
) -> __m512i {
    let bytes = _mm512_castsi256_si512(multiples([a, b, next_a, next_b]));
    extended(bytes, [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15], 16)
}

/// The scales of four activation blocks in units.
#[inline]
#[target_feature(enable = "avx2")]
fn multiples(blocks: [&ActivationBlock; 4]) -> __m256i {
    let [a, b, c, d] = each(|i| i64::from_le_bytes(*blocks[i].multiples()));
    _mm256_setr_epi64x(a, b, c, d)
}

/// Shorts: the bytes at 16 places, then those so much `further`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn extended(bytes: __m512i, places: [i16; 16], further: i16) -> __m512i {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = places;
    let first = _mm256_setr_epi16(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p);
    let index = join(first, _mm256_add_epi16(first, _mm256_set1_epi16(further)));
    extended_bytes(0x5555_5555_5555_5555, index, bytes)
}

/// The bytes at `index` where `mask` has a bit, and 0 elsewhere. One instruction: the compiler, where it knew the mask, would
/// permute zeros, too, by one that Intel's CPUs make three of.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn extended_bytes(mask: __mmask64, index: __m512i, bytes: __m512i) -> __m512i {
    _mm512_maskz_permutexvar_epi8(hidden!(kreg, mask), index, bytes)
}

/// The sums of eight activations each of two activation blocks for each block of weights, in units.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
pub fn load_totals(
    a: &ActivationBlock,
    b: &ActivationBlock,
    next_a: &ActivationBlock,
    next_b: &ActivationBlock,
) -> __m512 {
    let sums = |a, b| _mm256_set_m128i(super::load_sums(b), super::load_sums(a));
    let multiples = _mm512_cvtepu8_epi16(multiples([a, b, next_a, next_b]));
    _mm512_cvtepi32_ps(_mm512_madd_epi16(join(sums(a, b), sums(next_a, next_b)), multiples))
}

/// Lanes: eight of each block's 32 codes, the `EIGHTH`-th such run.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub fn eight_codes<const EIGHTH: usize, const SIGNED: bool>(codes: __m512i) -> __m512i {
    if SIGNED {
        let eights = _mm512_setr_epi64(EIGHTH as i64, EIGHTH as i64 + 4, 0, 0, 0, 0, 0, 0);
        return _mm512_cvtepi8_epi32(_mm512_castsi512_si128(_mm512_permutexvar_epi64(eights, codes)));
    }
    let first =
        _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(8 * EIGHTH as i32));
    let index = join(first, _mm256_add_epi32(first, _mm256_set1_epi32(32)));
    extended_bytes(0x1111_1111_1111_1111, index, codes)
}

/// Shorts: the first 16 of each block's 32 codes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub fn sixteen_codes<const SIGNED: bool>(codes: __m512i) -> __m512i {
    if SIGNED {
        let eights = _mm512_setr_epi64(0, 1, 4, 5, 0, 0, 0, 0);
        return _mm512_cvtepi8_epi16(_mm512_castsi512_si256(_mm512_permutexvar_epi64(eights, codes)));
    }
    extended(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], 32)
}

/// Each half of a block's shorts becomes four times the one at `A` in it, then four times the one at `B`. One instruction, as
/// in [`x86::four_of_each`](super::four_of_each).
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
pub fn four_of_each<const A: i16, const B: i16>(shorts: __m512i) -> __m512i {
    _mm512_shuffle_epi8(shorts, hidden!(zmm_reg, twice(super::index_of_four::<A, B>())))
}

/// Lane i of each block becomes its lane index\[i\]. One instruction, as in [`x86::permute`](super::permute).
#[inline]
#[target_feature(enable = "avx2,avx512f")]
pub fn permute(floats: __m512, index: [i32; 8]) -> __m512 {
    let [a, b, c, d, e, f, g, h] = index;
    let first = _mm256_setr_epi32(a, b, c, d, e, f, g, h);
    let index = join(first, _mm256_add_epi32(first, _mm256_set1_epi32(8)));
    _mm512_permutexvar_ps(hidden!(zmm_reg, index), floats)
}

/// The f16 at `OFFSET` of each block as an f32 in each of its lanes.
#[inline]
#[target_feature(enable = "avx2,f16c,avx512f")]
pub fn splat_f16<const OFFSET: usize, const N: usize>(first: &[u8; N], second: &[u8; N]) -> __m512 {
    // Two that are neighbours have the same place, and are converted once.
    let f16s = |block| _mm512_castps128_ps512(super::f16s_around::<OFFSET, N>(block));
    let lane = super::lane_of_f16(OFFSET, N) as i32;
    let index = join(_mm256_set1_epi32(lane), _mm256_set1_epi32(16 + lane));
    _mm512_permutex2var_ps(f16s(first), index, f16s(second))
}

/// A float in each lane of one block, and another in each of the other.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn splat(first: f32, second: f32) -> __m512 {
    _mm512_mask_broadcastss_ps(_mm512_set1_ps(first), SECOND, _mm_set_ss(second))
}

/// The sums of each two lanes.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn run_sums_2([a, b]: [__m512; 2]) -> __m512 {
    // Lanes of `b` count from 16 on.
    let even = _mm512_setr_epi32(0, 2, 4, 6, 16, 18, 20, 22, 8, 10, 12, 14, 24, 26, 28, 30);
    let odd = _mm512_setr_epi32(1, 3, 5, 7, 17, 19, 21, 23, 9, 11, 13, 15, 25, 27, 29, 31);
    _mm512_add_ps(_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b))
}

/// The sums of each four lanes.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn run_sums_4([a, b, c, d]: [__m512; 4]) -> __m512 {
    run_sums_2([run_sums_2([a, b]), run_sums_2([c, d])])
}

/// The sums of each eight lanes.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn run_sums_8([a, b, c, d, e, f, g, h]: [__m512; 8]) -> __m512 {
    run_sums_2([run_sums_4([a, b, c, d]), run_sums_4([e, f, g, h])])
}

/// Lanes: sums + the sums of each two products of shorts. One instruction, as in [`x86::add_products`](super::add_products).
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
pub fn add_products(sums: __m512i, a: __m512i, b: __m512i) -> __m512i {
    vpdpwssd!("vpdpwssd", zmm_reg, sums, a, b)
}

/// The sum of all lanes.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512dq")]
pub fn sum(a: __m512) -> f32 {
    super::sum(_mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a)))
}
