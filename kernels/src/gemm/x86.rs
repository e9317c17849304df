//! The cores for x86-64.

#![expect(
    clippy::needless_range_loop,
    reason = "an index that counts registers, of several arrays at once, reads better than zipped iterators"
)]

use core::arch::x86_64::*;

use super::portable::set;
use super::{ActivationTile, CHUNK, ExpandedChunk, Panel, PanelFormat, ROWS, TOKENS};
use crate::x86::{load, load_256, load_words_256, load_words_512, store, store_512, store_words_256};

const QUADS: usize = CHUNK / 4;

/// Joins the lanes of a vector by a commutative operation, and puts what comes of it into all of them.
macro_rules! for_all_lanes {
    ($vector:ident, $join:ident) => {
        $vector = $join($vector, _mm256_permute2f128_ps::<1>($vector, $vector));
        $vector = $join($vector, _mm256_shuffle_ps::<0b01_00_11_10>($vector, $vector));
        $vector = $join($vector, _mm256_shuffle_ps::<0b10_11_00_01>($vector, $vector));
    };
}

/// See [`super::portable::quantize_tile`], step by step as there.
#[target_feature(enable = "avx2,fma")]
pub fn quantize_tile(x: &[f32], tile: &mut [ActivationTile]) {
    let cols = tile.len() * CHUNK;
    tile.fill(ActivationTile::ZERO);
    for (t, x) in x.chunks_exact(cols).enumerate() {
        for (x, tile) in x.as_chunks::<CHUNK>().0.iter().zip(tile.iter_mut()) {
            quantize(x, t, tile);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn quantize(x: &[f32; CHUNK], t: usize, tile: &mut ActivationTile) {
    let mut values = [_mm256_setzero_ps(); 4];
    let (mut least, mut most, mut poison) = (_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps());
    for (value, x) in values.iter_mut().zip(x.as_chunks::<8>().0) {
        *value = load(x);
        least = _mm256_min_ps(*value, least);
        most = _mm256_max_ps(*value, most);
        poison = _mm256_fmadd_ps(*value, _mm256_setzero_ps(), poison);
    }
    // Of all lanes, in all lanes.
    for_all_lanes!(least, _mm256_min_ps);
    for_all_lanes!(most, _mm256_max_ps);
    for_all_lanes!(poison, _mm256_add_ps);
    let half = _mm256_set1_ps(0.5);
    let range = _mm256_sub_ps(_mm256_mul_ps(most, half), _mm256_mul_ps(least, half));
    let scale = _mm256_div_ps(range, _mm256_set1_ps(127.0));
    let inverse = _mm256_div_ps(_mm256_set1_ps(1.0), scale);
    let is_finite = _mm256_cmp_ps::<_CMP_LT_OQ>(inverse, _mm256_set1_ps(f32::INFINITY));
    let (scale, inverse) = (_mm256_and_ps(scale, is_finite), _mm256_and_ps(inverse, is_finite));
    let lowest = _mm256_sub_ps(_mm256_set1_ps(-127.0), _mm256_mul_ps(least, inverse));
    // With an inverse of 0, which infinity gives too, this is no number, or none that a code has.
    let is_usable = _mm256_cmp_ps::<_CMP_GT_OQ>(inverse, _mm256_setzero_ps());
    let zero = _mm256_cvtps_epi32(_mm256_and_ps(lowest, is_usable));
    let mut codes = [_mm256_setzero_si256(); 4];
    for (code, value) in codes.iter_mut().zip(values) {
        let whole = _mm256_add_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(value, inverse)), zero);
        *code = _mm256_min_epi32(_mm256_max_epi32(whole, _mm256_set1_epi32(-127)), _mm256_set1_epi32(127));
    }
    let sums = [_mm256_add_epi32(codes[0], codes[1]), _mm256_add_epi32(codes[2], codes[3])];
    // The packs interleave 128-bit halves; this permutation puts groups of four back in order.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let bytes =
        _mm256_packs_epi16(_mm256_packs_epi32(codes[0], codes[1]), _mm256_packs_epi32(codes[2], codes[3]));
    store_words_256(&mut tile.codes[t], _mm256_permutevar8x32_epi32(bytes, order));

    let pairs = _mm256_hadd_epi32(sums[0], sums[1]);
    let fours = _mm256_hadd_epi32(pairs, pairs);
    let both = _mm_add_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256::<1>(fours));
    let halves = [_mm_cvtsi128_si32(both), _mm_extract_epi32::<1>(both)];
    let scale = _mm256_cvtss_f32(_mm256_add_ps(scale, poison));
    tile.set(t, scale, _mm256_cvtsi256_si32(zero), halves);
}

/// See [`super::portable::interleave`]: twice a transposition of 8 rows of 8 times four codes.
#[target_feature(enable = "avx2")]
pub fn interleave(rows: &[ExpandedChunk], panel: &mut Panel, format: &PanelFormat, zero: i16) {
    let (chunks, groups) = (rows.len() / ROWS, format.groups);
    let off = _mm256_set1_epi32(format.zero * (CHUNK / groups) as i32);
    let zero = _mm256_set1_epi32(i32::from(zero) << 16);
    for c in 0..chunks {
        for half in 0..2 {
            let row = |r: usize| load_256::<0, _>(&rows[(8 * half + r) * chunks + c].codes);
            // Pairs of rows, then of pairs, then of halves of vectors.
            let (mut pairs, mut fours, mut columns) =
                ([_mm256_setzero_si256(); 8], [_mm256_setzero_si256(); 8], [_mm256_setzero_si256(); 8]);
            for i in 0..4 {
                let (a, b) = (row(2 * i), row(2 * i + 1));
                pairs[2 * i] = _mm256_unpacklo_epi32(a, b);
                pairs[2 * i + 1] = _mm256_unpackhi_epi32(a, b);
            }
            for i in 0..2 {
                for j in 0..2 {
                    let (a, b) = (pairs[4 * i + j], pairs[4 * i + j + 2]);
                    fours[4 * i + 2 * j] = _mm256_unpacklo_epi64(a, b);
                    fours[4 * i + 2 * j + 1] = _mm256_unpackhi_epi64(a, b);
                }
            }
            for j in 0..4 {
                columns[j] = _mm256_permute2x128_si256::<0x20>(fours[j], fours[j + 4]);
                columns[j + 4] = _mm256_permute2x128_si256::<0x31>(fours[j], fours[j + 4]);
            }
            let mut sums = [_mm256_setzero_si256(); 2];
            for (j, column) in columns.into_iter().enumerate() {
                store_words_256(&mut panel.codes[c][j].as_chunks_mut::<8>().0[half], column);
                let four = _mm256_madd_epi16(
                    _mm256_maddubs_epi16(column, _mm256_set1_epi8(1)),
                    _mm256_set1_epi16(1),
                );
                let group = j * groups / QUADS;
                sums[group] = _mm256_add_epi32(sums[group], four);
            }
            for (g, sum) in sums.into_iter().take(groups).enumerate() {
                let low = _mm256_and_si256(_mm256_sub_epi32(sum, off), _mm256_set1_epi32(0xFFFF));
                let pairs = &mut panel.corrections[c * groups + g].as_chunks_mut::<8>().0[half];
                store_words_256(pairs, _mm256_or_si256(low, zero));
            }
        }
    }
}

/// 16 rows in one vector.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub fn avx512_vnni<const GROUPS: usize, const MINIMUM: bool>(
    panel: &Panel,
    tile: &[ActivationTile],
    y: &mut [[f32; ROWS]; TOKENS],
) {
    let mut sums = [_mm512_setzero_ps(); TOKENS];
    let (scales, _) = panel.scales.as_chunks::<GROUPS>();
    let (corrections, _) = panel.corrections.as_chunks::<GROUPS>();
    let (minima, _) = panel.minima.as_chunks::<GROUPS>();
    let n = tile.len();
    let (codes, scales, corrections) = (&panel.codes[..n], &scales[..n], &corrections[..n]);
    let minima = if MINIMUM { &minima[..n] } else { minima };
    for c in 0..n {
        let tile = &tile[c];
        for g in 0..GROUPS {
            let set = set::<GROUPS>(g);
            let correction = load_words_512(&corrections[c][g]);
            let mut dots = [_mm512_setzero_si512(); TOKENS];
            for t in 0..TOKENS {
                let pair = _mm512_set1_epi32(tile.corrections[set][t]);
                dots[t] = _mm512_dpwssd_epi32(_mm512_setzero_si512(), correction, pair);
            }
            for j in g * (QUADS / GROUPS)..(g + 1) * (QUADS / GROUPS) {
                let codes = load_words_512(&codes[c][j]);
                for t in 0..TOKENS {
                    dots[t] = _mm512_dpbusd_epi32(dots[t], codes, _mm512_set1_epi32(tile.codes[t][j]));
                }
            }
            let scale = _mm512_castsi512_ps(load_words_512(&scales[c][g]));
            for t in 0..TOKENS {
                let scale = _mm512_mul_ps(scale, _mm512_set1_ps(tile.scales[t]));
                sums[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[t]), scale, sums[t]);
            }
            if MINIMUM {
                let minimum = _mm512_castsi512_ps(load_words_512(&minima[c][g]));
                for t in 0..TOKENS {
                    let total = _mm512_set1_ps(tile.totals[set][t]);
                    sums[t] = _mm512_fmadd_ps(minimum, total, sums[t]);
                }
            }
        }
    }
    for t in 0..TOKENS {
        store_512(&mut y[t], sums[t]);
    }
}

/// A core with 8 rows in one vector: a panel is two halves, a tile is taken `$step` tokens at a time.
macro_rules! core_256 {
    (
        $(#[$attribute:meta])*
        $name:ident<$($parameter:ident),*>, $features:literal, $step:literal,
        |$codes:ident| $prepare:expr,
        |$dots:ident, $prepared:ident, $activations:ident| $dot:expr
    ) => {
        $(#[$attribute])*
        #[target_feature(enable = $features)]
        pub fn $name<const GROUPS: usize, const MINIMUM: bool $(, const $parameter: bool)*>(
            panel: &Panel,
            tile: &[ActivationTile],
            y: &mut [[f32; ROWS]; TOKENS],
        ) {
            const STEP: usize = $step;
            let (scales, _) = panel.scales.as_chunks::<GROUPS>();
            let (corrections, _) = panel.corrections.as_chunks::<GROUPS>();
            let (minima, _) = panel.minima.as_chunks::<GROUPS>();
            let n = tile.len();
            let (codes, scales, corrections) = (&panel.codes[..n], &scales[..n], &corrections[..n]);
            let minima = if MINIMUM { &minima[..n] } else { minima };
            for half in 0..2 {
                for first in (0..TOKENS).step_by(STEP) {
                    let mut sums = [_mm256_setzero_ps(); STEP];
                    for c in 0..n {
                        let tile = &tile[c];
                        for g in 0..GROUPS {
                            let set = set::<GROUPS>(g);
                            let correction = load_words_256(&corrections[c][g].as_chunks::<8>().0[half]);
                            let mut dots = [_mm256_setzero_si256(); STEP];
                            for t in 0..STEP {
                                let pair = _mm256_set1_epi32(tile.corrections[set][first + t]);
                                dots[t] = _mm256_madd_epi16(correction, pair);
                            }
                            for j in g * (QUADS / GROUPS)..(g + 1) * (QUADS / GROUPS) {
                                let $codes = load_words_256(&codes[c][j].as_chunks::<8>().0[half]);
                                #[allow(clippy::redundant_locals, reason = "one of two has its codes as they are")]
                                let $prepared = $prepare;
                                for t in 0..STEP {
                                    let $activations = _mm256_set1_epi32(tile.codes[first + t][j]);
                                    let $dots = dots[t];
                                    dots[t] = $dot;
                                }
                            }
                            let scale = _mm256_castsi256_ps(load_words_256(&scales[c][g].as_chunks::<8>().0[half]));
                            for t in 0..STEP {
                                let scale = _mm256_mul_ps(scale, _mm256_set1_ps(tile.scales[first + t]));
                                sums[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[t]), scale, sums[t]);
                            }
                            if MINIMUM {
                                let minimum = load_words_256(&minima[c][g].as_chunks::<8>().0[half]);
                                for t in 0..STEP {
                                    let total = _mm256_set1_ps(tile.totals[set][first + t]);
                                    sums[t] = _mm256_fmadd_ps(_mm256_castsi256_ps(minimum), total, sums[t]);
                                }
                            }
                        }
                    }
                    for t in 0..STEP {
                        store(&mut y[first + t].as_chunks_mut::<8>().0[half], sums[t]);
                    }
                }
            }
        }
    };
}

core_256! {
    /// Six tokens at a time: their integer and float sums take 12 of 16 registers.
    avx_vnni<>, "avx2,fma,avxvnni", 6,
    |codes| codes,
    |dots, codes, activations| _mm256_dpbusd_avx_epi32(dots, codes, activations)
}

core_256! {
    /// Four tokens at a time: products need registers of their own. Signed codes lose their bias: two products of
    /// bytes above 127 would overflow the 16-bit sums of `vpmaddubsw`.
    avx2_fma<IS_SIGNED>, "avx2,fma", 4,
    |codes| if IS_SIGNED { _mm256_xor_si256(codes, _mm256_set1_epi8(-128)) } else { codes },
    |dots, codes, activations| {
        let products = if IS_SIGNED {
            _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(activations, codes))
        } else {
            _mm256_maddubs_epi16(codes, activations)
        };
        _mm256_add_epi32(dots, _mm256_madd_epi16(products, _mm256_set1_epi16(1)))
    }
}
