//! The cores for x86-64.

#![expect(
    clippy::needless_range_loop,
    reason = "an index that counts registers, of several arrays at once, reads better than zipped iterators"
)]

use core::arch::x86_64::*;

use super::{ActivationTile, CHUNK, ExpandedChunk, Lanes, PLACE, Panel, ROWS, TOKENS, WEIGHTS_CORRECTION};
use crate::x86::{
    Word, fetch, load, load_256, load_words_256, load_words_512, store, store_512, store_words_256,
};

const QUADS: usize = CHUNK / 4;

/// Cache lines of the next tile that are fetched with each chunk of the first tokens: two panels share them.
const LINES: usize = size_of::<ActivationTile>().div_ceil(2 * 64);

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
    if x.len() < TOKENS * cols {
        tile.fill(ActivationTile::ZERO);
    }
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
    let unsigned = _mm256_xor_si256(_mm256_permutevar8x32_epi32(bytes, order), _mm256_set1_epi8(-128));
    store_words_256(&mut tile.codes[t], unsigned);

    let pairs = _mm256_hadd_epi32(sums[0], sums[1]);
    let fours = _mm256_hadd_epi32(pairs, pairs);
    let both = _mm_add_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256::<1>(fours));
    let halves = [_mm_cvtsi128_si32(both), _mm_extract_epi32::<1>(both)];
    let scale = _mm256_cvtss_f32(_mm256_add_ps(scale, poison));
    tile.set(t, scale, _mm256_cvtsi256_si32(zero), halves);
}

/// See [`super::portable::interleave`]: four times a transposition of 8 rows of 8 times four codes.
#[target_feature(enable = "avx2")]
pub fn interleave(rows: &[ExpandedChunk], panel: &mut Panel, groups: usize) {
    let chunks = rows.len() / ROWS;
    let correction = _mm256_set1_epi32(i32::from(WEIGHTS_CORRECTION) << 16);
    for c in 0..chunks {
        for eighth in 0..ROWS / 8 {
            let row = |r: usize| load_256::<0, _>(&rows[(8 * eighth + r) * chunks + c].codes);
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
                store_words_256(&mut panel.codes[c][j].0.as_chunks_mut::<8>().0[eighth], column);
                let four = _mm256_madd_epi16(
                    _mm256_maddubs_epi16(_mm256_set1_epi8(1), column),
                    _mm256_set1_epi16(1),
                );
                let group = j * groups / QUADS;
                sums[group] = _mm256_add_epi32(sums[group], four);
            }
            for (g, sum) in sums.into_iter().take(groups).enumerate() {
                let low = _mm256_and_si256(sum, _mm256_set1_epi32(0xFFFF));
                let pairs = &mut panel.corrections[c * groups + g].0.as_chunks_mut::<8>().0[eighth];
                store_words_256(pairs, _mm256_or_si256(low, correction));
            }
        }
    }
}

/// 32 rows in two vectors, 6 tokens at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub fn avx512_vnni<const GROUPS: usize, const MINIMUM: bool>(
    panel: &Panel,
    tile: &[ActivationTile],
    next: &[ActivationTile],
    y: &mut [[f32; ROWS]; TOKENS],
) {
    const STEP: usize = 6;
    let (scales, _) = panel.scales.as_chunks::<GROUPS>();
    let (corrections, _) = panel.corrections.as_chunks::<GROUPS>();
    let (minima, _) = panel.minima.as_chunks::<GROUPS>();
    let n = tile.len();
    let (codes, scales, corrections) = (&panel.codes[..n], &scales[..n], &corrections[..n]);
    let minima = if MINIMUM { &minima[..n] } else { minima };
    for first in (0..TOKENS).step_by(STEP) {
        let mut sums = [[_mm512_setzero_ps(); 2]; STEP];
        for c in 0..n {
            let tile = &tile[c];
            if first == 0 {
                fetch::<LINES, _>(next, c);
            }
            for g in 0..GROUPS {
                let correction = halves(&corrections[c][g]);
                let mut dots = [[_mm512_setzero_si512(); 2]; STEP];
                for t in 0..STEP {
                    let pair = _mm512_set1_epi32(tile.corrections[first + t]);
                    for h in 0..2 {
                        dots[t][h] = _mm512_dpwssd_epi32(_mm512_setzero_si512(), correction[h], pair);
                    }
                }
                for j in g * (QUADS / GROUPS)..(g + 1) * (QUADS / GROUPS) {
                    let codes = halves(&codes[c][j]);
                    for t in 0..STEP {
                        let activations = _mm512_set1_epi32(tile.codes[first + t][j]);
                        for h in 0..2 {
                            dots[t][h] = _mm512_dpbusd_epi32(dots[t][h], activations, codes[h]);
                        }
                    }
                }
                let scale = halves(&scales[c][g]).map(|scale| _mm512_castsi512_ps(scale));
                for h in 0..2 {
                    let offset = _mm512_mul_ps(scale[h], _mm512_set1_ps(1.5));
                    for t in 0..STEP {
                        let scaled = _mm512_fmsub_ps(_mm512_castsi512_ps(dots[t][h]), scale[h], offset);
                        sums[t][h] =
                            _mm512_fmadd_ps(scaled, _mm512_set1_ps(tile.scales[first + t]), sums[t][h]);
                    }
                }
                if MINIMUM {
                    let totals = tile.totals::<GROUPS>(g);
                    let minimum = halves(&minima[c][g]).map(|minimum| _mm512_castsi512_ps(minimum));
                    for t in 0..STEP {
                        let total = _mm512_set1_ps(totals[first + t]);
                        for h in 0..2 {
                            sums[t][h] = _mm512_fmadd_ps(minimum[h], total, sums[t][h]);
                        }
                    }
                }
            }
        }
        for (y, sums) in y[first..].iter_mut().zip(sums) {
            for (y, sum) in y.as_chunks_mut().0.iter_mut().zip(sums) {
                store_512(y, _mm512_mul_ps(sum, _mm512_set1_ps(1.0 / PLACE)));
            }
        }
    }
}

/// All rows.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves<T: Word>(lanes: &Lanes<T>) -> [__m512i; 2] {
    let (halves, _) = lanes.0.as_chunks::<16>();
    [load_words_512(&halves[0]), load_words_512(&halves[1])]
}

/// A core with 8 rows in one vector, `$step` tokens at a time.
macro_rules! core_256 {
    (
        $(#[$attribute:meta])*
        $name:ident<$($parameter:ident),*>, $features:literal, $step:literal,
        |$dots:ident, $codes:ident, $activations:ident| $dot:expr
    ) => {
        $(#[$attribute])*
        #[target_feature(enable = $features)]
        pub fn $name<const GROUPS: usize, const MINIMUM: bool $(, const $parameter: bool)*>(
            panel: &Panel,
            tile: &[ActivationTile],
            next: &[ActivationTile],
            y: &mut [[f32; ROWS]; TOKENS],
        ) {
            const STEP: usize = $step;
            let (scales, _) = panel.scales.as_chunks::<GROUPS>();
            let (corrections, _) = panel.corrections.as_chunks::<GROUPS>();
            let (minima, _) = panel.minima.as_chunks::<GROUPS>();
            let n = tile.len();
            let (codes, scales, corrections) = (&panel.codes[..n], &scales[..n], &corrections[..n]);
            let minima = if MINIMUM { &minima[..n] } else { minima };
            for eighth in 0..ROWS / 8 {
                for first in (0..TOKENS).step_by(STEP) {
                    let mut sums = [_mm256_setzero_ps(); STEP];
                    for c in 0..n {
                        let tile = &tile[c];
                        if eighth == 0 && first == 0 {
                            fetch::<LINES, _>(next, c);
                        }
                        for g in 0..GROUPS {
                            let correction = load_eight(&corrections[c][g], eighth);
                            let mut dots = [_mm256_setzero_si256(); STEP];
                            for t in 0..STEP {
                                let pair = _mm256_set1_epi32(tile.corrections[first + t]);
                                dots[t] = _mm256_madd_epi16(correction, pair);
                            }
                            for j in g * (QUADS / GROUPS)..(g + 1) * (QUADS / GROUPS) {
                                let $codes = load_eight(&codes[c][j], eighth);
                                for t in 0..STEP {
                                    let $activations = _mm256_set1_epi32(tile.codes[first + t][j]);
                                    let $dots = dots[t];
                                    dots[t] = $dot;
                                }
                            }
                            let scale = _mm256_castsi256_ps(load_eight(&scales[c][g], eighth));
                            let offset = _mm256_mul_ps(scale, _mm256_set1_ps(1.5));
                            for t in 0..STEP {
                                let scaled = _mm256_fmsub_ps(_mm256_castsi256_ps(dots[t]), scale, offset);
                                sums[t] = _mm256_fmadd_ps(scaled, _mm256_set1_ps(tile.scales[first + t]), sums[t]);
                            }
                            if MINIMUM {
                                let totals = tile.totals::<GROUPS>(g);
                                let minimum = _mm256_castsi256_ps(load_eight(&minima[c][g], eighth));
                                for t in 0..STEP {
                                    sums[t] = _mm256_fmadd_ps(minimum, _mm256_set1_ps(totals[first + t]), sums[t]);
                                }
                            }
                        }
                    }
                    for t in 0..STEP {
                        let y = &mut y[first + t].as_chunks_mut().0[eighth];
                        store(y, _mm256_mul_ps(sums[t], _mm256_set1_ps(1.0 / PLACE)));
                    }
                }
            }
        }
    };
}

core_256! {
    /// Six tokens at a time: their integer and float sums take 12 of 16 registers.
    avx_vnni<>, "avx2,fma,avxvnni", 6,
    |dots, codes, activations| _mm256_dpbusd_avx_epi32(dots, activations, codes)
}

core_256! {
    /// Four tokens at a time: products need registers of their own. With codes beyond 64 two products would overflow
    /// the 16-bit sums of `vpmaddubsw`: there it takes signed activations, and gives them the codes' signs.
    avx2_fma<IS_WIDE>, "avx2,fma", 4,
    |dots, codes, activations| {
        let products = if IS_WIDE {
            _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(activations, codes))
        } else {
            _mm256_maddubs_epi16(activations, codes)
        };
        _mm256_add_epi32(dots, _mm256_madd_epi16(products, _mm256_set1_epi16(1)))
    }
}

/// Eight rows.
#[inline]
#[target_feature(enable = "avx2")]
fn load_eight<T: Word>(lanes: &Lanes<T>, eighth: usize) -> __m256i {
    load_words_256(&lanes.0.as_chunks::<8>().0[eighth])
}
