//! Loads, stores and the one horizontal sum of the x86-64 kernels: the only raw pointers there are.
//!
//! Offsets are checked when the kernel is compiled, so that each function is safe to call wherever its
//! target features are enabled.

use core::arch::x86_64::*;

use crate::ActivationBlock;
use crate::bytes::each;

/// A value in a register of a class, which the compiler takes for one of its own making: it knows neither that it is
/// constant nor where it comes from.
macro_rules! hidden {
    ($class:ident, $value:expr) => {{
        let mut value = $value;
        // SAFETY: it is no instruction at all, and leaves the value as it is.
        unsafe {
            core::arch::asm!("/* {0} */", inout($class) value, options(pure, nomem, nostack, preserves_flags));
        }
        value
    }};
}

/// `vpdpwssd`, in an encoding: the intrinsic may become two instructions, as the sums are there earlier then. There is no
/// time to win here, as other rows are worked on meanwhile.
macro_rules! vpdpwssd {
    ($instruction:literal, $class:ident, $sums:expr, $a:expr, $b:expr) => {{
        let mut sums = $sums;
        // SAFETY: the function's target features have the instruction, which reads and writes these registers alone.
        unsafe {
            core::arch::asm!(
                concat!($instruction, " {0}, {1}, {2}"),
                inout($class) sums,
                in($class) $a,
                in($class) $b,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sums
    }};
}

pub mod wide;

/// 32 bytes of a block.
#[inline]
#[target_feature(enable = "avx2")]
pub fn load_256<const OFFSET: usize, const N: usize>(block: &[u8; N]) -> __m256i {
    const { assert!(OFFSET + 32 <= N) };
    // SAFETY: the assertion keeps all 32 bytes inside `block`; the load needs no alignment.
    unsafe { _mm256_loadu_si256(block.as_ptr().wrapping_add(OFFSET).cast()) }
}

/// 16 bytes of a block.
#[inline]
#[target_feature(enable = "avx2")]
pub fn load_128<const OFFSET: usize, const N: usize>(block: &[u8; N]) -> __m128i {
    const { assert!(OFFSET + 16 <= N) };
    // SAFETY: the assertion keeps all 16 bytes inside `block`; the load needs no alignment.
    unsafe { _mm_loadu_si128(block.as_ptr().wrapping_add(OFFSET).cast()) }
}

/// 16 bytes of a block, in both halves.
#[inline]
#[target_feature(enable = "avx2")]
pub fn broadcast_128<const OFFSET: usize, const N: usize>(block: &[u8; N]) -> __m256i {
    _mm256_broadcastsi128_si256(load_128::<OFFSET, N>(block))
}

/// 8 bytes of a block.
#[inline]
pub fn load_64<const OFFSET: usize, const N: usize>(block: &[u8; N]) -> i64 {
    i64::from_le_bytes(*crate::bytes::field::<OFFSET, 8, N>(block))
}

/// 8 bytes of a block, in all four quarters.
#[inline]
#[target_feature(enable = "avx2")]
pub fn broadcast_64<const OFFSET: usize, const N: usize>(block: &[u8; N]) -> __m256i {
    _mm256_set1_epi64x(load_64::<OFFSET, N>(block))
}

/// 4 bytes of a block.
#[inline]
pub fn load_32<const OFFSET: usize, const N: usize>(block: &[u8; N]) -> i32 {
    i32::from_le_bytes(*crate::bytes::field::<OFFSET, 4, N>(block))
}

/// 4 bytes of a block, in all eight lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub fn broadcast_32<const OFFSET: usize, const N: usize>(block: &[u8; N]) -> __m256i {
    _mm256_set1_epi32(load_32::<OFFSET, N>(block))
}

/// A byte of a block, in all places.
#[inline]
#[target_feature(enable = "avx2")]
pub fn broadcast_8<const OFFSET: usize, const N: usize>(block: &[u8; N]) -> __m256i {
    const { assert!(OFFSET < N) };
    _mm256_set1_epi8(block[OFFSET] as i8)
}

/// Of each half a byte of a block, in all places.
#[inline]
#[target_feature(enable = "avx2")]
pub fn broadcast_8s<const LOW: usize, const HIGH: usize, const N: usize>(block: &[u8; N]) -> __m256i {
    const { assert!(LOW < N && HIGH < N) };
    _mm256_set_m128i(_mm_set1_epi8(block[HIGH] as i8), _mm_set1_epi8(block[LOW] as i8))
}

/// Signed codes from a table of 16: of the codes, which lie below 128, the low four bits choose.
#[inline]
#[target_feature(enable = "avx2")]
fn lookup_16(codes: __m256i, table: __m128i) -> __m256i {
    _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), codes)
}

/// Signed codes from a table of 32: of the codes, which lie below 128, the low five bits choose.
#[inline]
#[target_feature(enable = "avx2")]
pub fn lookup_32(codes: __m256i, [low, high]: [__m128i; 2]) -> __m256i {
    // The highest bit of each byte chooses. What a shift brings in from the byte beside stays below it.
    let chooses = _mm256_slli_epi16::<3>(codes);
    _mm256_blendv_epi8(lookup_16(codes, low), lookup_16(codes, high), chooses)
}

/// Signed codes from a table of 64: of the codes, which lie below 128, the low six bits choose.
#[inline]
#[target_feature(enable = "avx2")]
pub fn lookup_64(codes: __m256i, [a, b, c, d]: [__m128i; 4]) -> __m256i {
    let chooses = _mm256_slli_epi16::<2>(codes);
    _mm256_blendv_epi8(lookup_32(codes, [a, b]), lookup_32(codes, [c, d]), chooses)
}

/// Signed codes, which lie below 128, from a table of 128.
#[inline]
#[target_feature(enable = "avx2")]
pub fn lookup_128(codes: __m256i, [a, b, c, d, e, f, g, h]: [__m128i; 8]) -> __m256i {
    let chooses = _mm256_slli_epi16::<1>(codes);
    _mm256_blendv_epi8(lookup_64(codes, [a, b, c, d]), lookup_64(codes, [e, f, g, h]), chooses)
}

/// Signed codes from a table of 256.
#[inline]
#[target_feature(enable = "avx2")]
pub fn lookup_256(codes: __m256i, tables: [__m128i; 16]) -> __m256i {
    // With its highest bit a byte would be looked up as 0.
    let low_bits = _mm256_and_si256(codes, _mm256_set1_epi8(0x7F));
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = tables;
    let low = lookup_128(low_bits, [a, b, c, d, e, f, g, h]);
    _mm256_blendv_epi8(low, lookup_128(low_bits, [i, j, k, l, m, n, o, p]), codes)
}

/// Each byte times a number, of which 8 bits are kept; even bytes have other numbers than odd ones.
#[inline]
#[target_feature(enable = "avx2")]
pub fn times_bytes(bytes: __m256i, even: __m256i, odd: __m256i) -> __m256i {
    let low = _mm256_set1_epi16(0x00FF);
    let evens = _mm256_and_si256(_mm256_mullo_epi16(bytes, even), low);
    // What the low byte adds to the high one's product would be its carry: it is taken off before.
    let odds = _mm256_mullo_epi16(_mm256_andnot_si256(low, bytes), odd);
    _mm256_or_si256(evens, odds)
}

/// The lowest digit of `BASE` of each byte over a power of it: even and odd bytes are divided by 32,768 over their reciprocals,
/// which are rounded up. That is exact, as bytes are short.
#[inline]
#[target_feature(enable = "avx2")]
pub fn digits<const BASE: i16>(bytes: __m256i, even: __m256i, odd: __m256i) -> __m256i {
    let of_words = |words, reciprocals| {
        let quotients = _mm256_mulhi_epu16(_mm256_slli_epi16::<1>(words), reciprocals);
        let of_base = const { (65536 / BASE as i32 + 1) as u16 as i16 };
        let above = _mm256_mulhi_epu16(quotients, _mm256_set1_epi16(of_base));
        _mm256_sub_epi16(quotients, _mm256_mullo_epi16(above, _mm256_set1_epi16(BASE)))
    };
    let evens = of_words(_mm256_and_si256(bytes, _mm256_set1_epi16(0x00FF)), even);
    let odds = of_words(_mm256_srli_epi16::<8>(bytes), odd);
    _mm256_or_si256(evens, _mm256_slli_epi16::<8>(odds))
}

/// The first digit of the base 3 of each byte, a fraction of 256.
#[inline]
#[target_feature(enable = "avx2")]
pub fn first_trits(bytes: __m256i) -> __m256i {
    // Unsigned: byte >= limit where the larger of both is the byte; all ones are -1.
    let reached = |limit: i8| _mm256_cmpeq_epi8(_mm256_max_epu8(bytes, _mm256_set1_epi8(limit)), bytes);
    let (one, two) = (reached(86), reached(171_u8 as i8));
    _mm256_sub_epi8(_mm256_setzero_si256(), _mm256_add_epi8(one, two))
}

/// Four entries of a codebook.
#[inline]
#[target_feature(enable = "avx2")]
pub fn entries_of_8(entries: [[u8; 8]; 4]) -> __m256i {
    let [a, b, c, d] = each(|i| i64::from_le_bytes(entries[i]));
    _mm256_setr_epi64x(a, b, c, d)
}

/// Eight entries of a codebook.
#[inline]
#[target_feature(enable = "avx2")]
pub fn entries_of_4(entries: [[u8; 4]; 8]) -> __m256i {
    let [a, b, c, d, e, f, g, h] = each(|i| i32::from_le_bytes(entries[i]));
    _mm256_setr_epi32(a, b, c, d, e, f, g, h)
}

/// The bytes of an entry of a codebook, by an index that the compiler computes for itself and in its turn: it would compute
/// many in one vector, and taking each out again costs more than that saves (IQ3_S is 1.6 times as fast without on Sapphire
/// Rapids).
#[inline]
pub fn entry<const WEIGHTS: usize, const N: usize>(book: &[[i8; WEIGHTS]; N], index: usize) -> [u8; WEIGHTS] {
    let mut alone = index;
    // SAFETY: it is no instruction at all, and leaves the index as it is. That it is not said to be pure keeps it in place.
    unsafe {
        core::arch::asm!("/* {0} */", inout(reg) alone, options(nomem, nostack, preserves_flags));
    }
    assert!(index < N, "codes have no more bits than the codebook's index");
    // SAFETY: both are the same.
    unsafe { core::hint::assert_unchecked(alone < N) };
    let entry = &book[alone];
    each(|i| entry[i] as u8)
}

/// Signed codes, negated where there is a bit for them.
#[inline]
#[target_feature(enable = "avx2")]
pub fn negate(codes: __m256i, signs: u32) -> __m256i {
    // Each of the four bytes at its eight codes.
    let spread = _mm256_shuffle_epi8(
        _mm256_set1_epi32(signs as i32),
        _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303),
    );
    let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let mask = _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit);
    _mm256_sub_epi8(_mm256_xor_si256(codes, mask), mask)
}

/// The same with a mask register.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl")]
pub fn negate_masked(codes: __m256i, signs: u32) -> __m256i {
    _mm256_mask_sub_epi8(codes, signs, _mm256_setzero_si256(), codes)
}

/// Numbers of 8 bits by the table of their values.
#[inline]
#[target_feature(enable = "avx2")]
pub fn numbers(codes: [u8; 8], table: &[f32; 256]) -> __m256 {
    load(&each(|i| table[usize::from(codes[i])]))
}

/// Lane i becomes lane index\[i\].
///
/// One instruction: the compiler, where it knew the index, would take two or three that need none, and they compete for the
/// one port that Intel's CPUs shuffle on.
#[inline]
#[target_feature(enable = "avx2")]
pub fn permute(floats: __m256, index: [i32; 8]) -> __m256 {
    let [a, b, c, d, e, f, g, h] = index;
    _mm256_permutevar8x32_ps(floats, hidden!(ymm_reg, _mm256_setr_epi32(a, b, c, d, e, f, g, h)))
}

/// Each half becomes four times the integer of 16 bits at `A` in it, then four times the one at `B`.
///
/// One instruction, as in [`permute`].
#[inline]
#[target_feature(enable = "avx2")]
pub fn four_of_each<const A: i16, const B: i16>(shorts: __m256i) -> __m256i {
    _mm256_shuffle_epi8(shorts, hidden!(ymm_reg, index_of_four::<A, B>()))
}

/// Of each half the bytes of the integer of 16 bits at `A` four times, then those of the one at `B`.
#[inline]
#[target_feature(enable = "avx2")]
fn index_of_four<const A: i16, const B: i16>() -> __m256i {
    let both_bytes = |i| 2 * i + ((2 * i + 1) << 8);
    let (a, b) = (both_bytes(A), both_bytes(B));
    _mm256_setr_epi16(a, a, a, a, b, b, b, b, a, a, a, a, b, b, b, b)
}

/// Eight f16, by their bits.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn halves(bits: [u16; 8]) -> __m256 {
    let [a, b, c, d, e, f, g, h] = each(|i| bits[i] as i16);
    _mm256_cvtph_ps(_mm_setr_epi16(a, b, c, d, e, f, g, h))
}

/// The f16 at `OFFSET` as an f32 in every lane.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn splat_f16<const OFFSET: usize, const N: usize>(block: &[u8; N]) -> __m256 {
    if N < 64 {
        // With blocks of 32 weights kernels are up to 14 % faster so on Sapphire Rapids, with those of 256 they are not.
        return _mm256_broadcastss_ps(f16_first::<OFFSET, N>(block));
    }
    let bits = i16::from_le_bytes(*crate::bytes::field::<OFFSET, 2, N>(block));
    _mm256_cvtph_ps(_mm_set1_epi16(bits))
}

/// The f16 at `OFFSET` as an f32 in the first lane.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn f16_first<const OFFSET: usize, const N: usize>(block: &[u8; N]) -> __m128 {
    const { assert!(OFFSET + 2 <= N) };
    match block[OFFSET..].first_chunk() {
        Some(eight) => four_f16(eight),
        None => {
            let bits = i16::from_le_bytes(*crate::bytes::field::<OFFSET, 2, N>(block));
            _mm_cvtph_ps(_mm_set1_epi16(bits))
        }
    }
}

/// Four f16 as floats: where one is needed, the others are converted in vain, but from memory that takes two shuffles less than
/// of the one in all lanes.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn four_f16(bytes: &[u8; 8]) -> __m128 {
    hidden!(xmm_reg, _mm_cvtph_ps(_mm_cvtsi64_si128(i64::from_le_bytes(*bytes))))
}

/// The f16 at `OFFSET` and others near it, for all of which these are the same four, as floats: it is in [`lane_of_f16`].
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn f16s_around<const OFFSET: usize, const N: usize>(block: &[u8; N]) -> __m128 {
    const { assert!(OFFSET + 2 <= N) };
    match block[OFFSET - 2 * lane_of_f16(OFFSET, N)..].first_chunk() {
        Some(eight) => four_f16(eight),
        None => f16_first::<OFFSET, N>(block),
    }
}

/// The place of the f16 at `offset` of `len` bytes among four, the first of which is at a multiple of 8 or the last at the end.
const fn lane_of_f16(offset: usize, len: usize) -> usize {
    let multiple = offset / 8 * 8;
    let first = if multiple + 8 <= len { multiple } else { len.saturating_sub(8) };
    // Not in the middle of two.
    if (offset - first).is_multiple_of(2) && first + 8 <= len { (offset - first) / 2 } else { 0 }
}

/// The 32 activations of a block.
#[inline]
#[target_feature(enable = "avx2")]
pub fn load_activations(a: &ActivationBlock) -> __m256i {
    // SAFETY: `codes` are 32 bytes; the load needs no alignment.
    unsafe { _mm256_loadu_si256(a.codes().as_ptr().cast()) }
}

/// The eight lane sums of a block.
#[inline]
#[target_feature(enable = "avx2")]
pub fn load_lane_sums(a: &ActivationBlock) -> __m256i {
    _mm256_cvtepi16_epi32(load_sums(a))
}

/// The same as they are, with 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn load_sums(a: &ActivationBlock) -> __m128i {
    // SAFETY: `sums` are 16 bytes; the load needs no alignment.
    unsafe { _mm_loadu_si128(a.sums().as_ptr().cast()) }
}

/// The eight scales of a block, each for its lane.
#[inline]
#[target_feature(enable = "avx2")]
pub fn load_steps(a: &ActivationBlock) -> __m256 {
    load(a.scales())
}

/// The scales of two blocks in units: those of the first, then of the second.
#[inline]
#[target_feature(enable = "avx2")]
fn load_pair(a: &ActivationBlock, b: &ActivationBlock) -> __m256i {
    let multiples = |block: &ActivationBlock| i64::from_le_bytes(*block.multiples());
    _mm256_cvtepu8_epi16(_mm_set_epi64x(multiples(b), multiples(a)))
}

/// The scales of two blocks in units, as `vpackssdw` packs lanes: four of each in turn.
#[inline]
#[target_feature(enable = "avx2")]
pub fn load_multiples(a: &ActivationBlock, b: &ActivationBlock) -> __m256i {
    _mm256_permute4x64_epi64::<0b11_01_10_00>(load_pair(a, b))
}

/// The sums of eight activations each of two blocks, in units.
#[inline]
#[target_feature(enable = "avx2")]
pub fn load_totals(a: &ActivationBlock, b: &ActivationBlock) -> __m256 {
    let sums = _mm256_set_m128i(load_sums(b), load_sums(a));
    _mm256_cvtepi32_ps(_mm256_madd_epi16(sums, load_pair(a, b)))
}

/// Eight floats.
#[inline]
#[target_feature(enable = "avx2")]
pub fn load(values: &[f32; 8]) -> __m256 {
    // SAFETY: `values` is 32 bytes; the load needs no alignment.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

/// Eight f16 as floats.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn load_f16(values: &[half::f16; 8]) -> __m256 {
    // SAFETY: `values` is 16 bytes; the load needs no alignment.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(values.as_ptr().cast()) })
}

/// Writes eight floats.
#[inline]
#[target_feature(enable = "avx2")]
pub fn store(out: &mut [f32; 8], values: __m256) {
    // SAFETY: `out` is 32 bytes; the store needs no alignment.
    unsafe { _mm256_storeu_ps(out.as_mut_ptr(), values) }
}

/// Writes 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
pub fn store_256(out: &mut [u8; 32], bytes: __m256i) {
    // SAFETY: `out` is 32 bytes; the store needs no alignment.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), bytes) }
}

/// What a 32-bit lane can be loaded from.
///
/// # Safety
/// It is four bytes, all of them initialised, and any four bytes are one.
pub unsafe trait Word: Copy {}

// SAFETY: four bytes without padding.
unsafe impl Word for f32 {}
// SAFETY: as above.
unsafe impl Word for i32 {}
// SAFETY: as above.
unsafe impl Word for [u8; 4] {}
// SAFETY: as above.
unsafe impl Word for [i16; 2] {}

/// Eight 32-bit lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub fn load_words_256<T: Word>(values: &[T; 8]) -> __m256i {
    // SAFETY: `values` is 32 initialised bytes, as `T` is four; the load needs no alignment.
    unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
}

/// Writes eight 32-bit lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub fn store_words_256<T: Word>(out: &mut [T; 8], values: __m256i) {
    // SAFETY: `out` is 32 bytes, which are a `T` whatever they hold; the store needs no alignment.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), values) }
}

/// Sixteen 32-bit lanes.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn load_words_512<T: Word>(values: &[T; 16]) -> __m512i {
    // SAFETY: `values` is 64 initialised bytes, as `T` is four; the load needs no alignment.
    unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
}

/// Writes sixteen floats.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn store_512(out: &mut [f32; 16], values: __m512) {
    // SAFETY: `out` is 64 bytes; the store needs no alignment.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), values) }
}

/// Writes eight 32-bit integers as 16-bit ones, which they fit.
#[inline]
#[target_feature(enable = "avx2")]
pub fn store_i16(out: &mut [i16; 8], wide: __m256i) {
    let narrow = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256::<1>(wide));
    // SAFETY: `out` is 16 bytes; the store needs no alignment.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), narrow) }
}

/// Fetches the cache line `distance` bytes after the start of `block`, wherever that is.
#[inline]
#[target_feature(enable = "avx2")]
pub fn prefetch<const N: usize>(block: &[u8; N], distance: usize) {
    // A prefetch faults on no address: beyond the last row it fetches in vain.
    _mm_prefetch::<_MM_HINT_T0>(block.as_ptr().wrapping_add(distance).cast())
}

/// Fetches the `part`-th `LINES` cache lines of `values` to L2, wherever they are.
#[inline]
#[target_feature(enable = "avx2")]
pub fn fetch<const LINES: usize, T>(values: &[T], part: usize) {
    for line in 0..LINES {
        // As above: beyond the last one it fetches in vain.
        let address = values.as_ptr().cast::<i8>().wrapping_add(64 * (part * LINES + line));
        _mm_prefetch::<_MM_HINT_T1>(address)
    }
}

/// The sums of each two lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub fn run_sums_2([a, b]: [__m256; 2]) -> __m256 {
    // Quarters of a, b, a, b.
    let quarters = _mm256_hadd_ps(a, b);
    _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_castps_pd(quarters)))
}

/// The sums of each four lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub fn run_sums_4(vectors: [__m256; 4]) -> __m256 {
    permute(half_sums(vectors), [0, 4, 1, 5, 2, 6, 3, 7])
}

/// The sums of each eight lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub fn run_sums_8([a, b, c, d, e, f, g, h]: [__m256; 8]) -> __m256 {
    let (first, second) = (half_sums([a, b, c, d]), half_sums([e, f, g, h]));
    _mm256_add_ps(
        _mm256_permute2f128_ps::<0x20>(first, second),
        _mm256_permute2f128_ps::<0x31>(first, second),
    )
}

/// The sums of the low halves of four vectors, then of the high ones.
#[inline]
#[target_feature(enable = "avx2")]
fn half_sums([a, b, c, d]: [__m256; 4]) -> __m256 {
    _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d))
}

/// Lanes: sums + the sums of each two products of shorts, by AVX-512.
#[inline]
#[target_feature(enable = "avx512vnni,avx512vl")]
pub fn add_products(sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
    vpdpwssd!("{{evex}} vpdpwssd", ymm_reg, sums, a, b)
}

/// The same by AVX-VNNI.
#[inline]
#[target_feature(enable = "avxvnni")]
pub fn add_products_avx(sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
    vpdpwssd!("{{vex}} vpdpwssd", ymm_reg, sums, a, b)
}

/// The sum of all lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub fn sum(a: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}
