//! The core and the quantizer of activations in plain Rust.

use super::{ActivationTile, CHUNK, ExpandedChunk, Panel, PanelFormat, ROWS, TOKENS};

/// Added to a number of up to 2²² in magnitude, it leaves the nearest whole number in the low bits.
const ROUND: f32 = 12_582_912.0;

/// See [`super::quantize_tile`].
pub fn quantize_tile(x: &[f32], tile: &mut [ActivationTile]) {
    let cols = tile.len() * CHUNK;
    tile.fill(ActivationTile::ZERO);
    for (t, x) in x.chunks_exact(cols).enumerate() {
        let (chunks, _) = x.as_chunks::<CHUNK>();
        for (x, tile) in chunks.iter().zip(tile.iter_mut()) {
            quantize(x, t, tile);
        }
    }
}

fn quantize(x: &[f32; CHUNK], t: usize, tile: &mut ActivationTile) {
    // Eight lanes, so that the compiler may use vectors.
    let (mut least, mut most, mut poison) = ([0.0_f32; 8], [0.0_f32; 8], [0.0_f32; 8]);
    for x in x.as_chunks::<8>().0 {
        for lane in 0..8 {
            least[lane] = if x[lane] < least[lane] { x[lane] } else { least[lane] };
            most[lane] = if x[lane] > most[lane] { x[lane] } else { most[lane] };
            // 0, or NaN for an infinity or NaN.
            poison[lane] += x[lane] * 0.0;
        }
    }
    let least = least.into_iter().fold(0.0_f32, |a, b| if b < a { b } else { a });
    let most = most.into_iter().fold(0.0_f32, |a, b| if b > a { b } else { a });
    let poison: f32 = poison.into_iter().sum();
    // Halved first: the range of finite numbers may be none.
    let scale = (most * 0.5 - least * 0.5) / 127.0;
    let inverse = 1.0 / scale;
    // Of 0, and of what is next to it, there is no inverse: such activations round to 0.
    let (scale, inverse) = if inverse.is_finite() { (scale, inverse) } else { (0.0, 0.0) };
    let whole = |value: f32| (value + ROUND).to_bits() as i32 - ROUND.to_bits() as i32;
    let zero = if inverse == 0.0 { 0 } else { whole(-127.0 - least * inverse) };
    let mut sums = [0; 2];
    let mut codes = [0_i32; CHUNK];
    for (i, code) in codes.iter_mut().enumerate() {
        *code = (whole(x[i] * inverse) + zero).clamp(-127, 127);
        sums[i / (CHUNK / 2)] += *code;
    }
    for (four, [a, b, c, d]) in tile.codes[t].iter_mut().zip(codes.as_chunks::<4>().0) {
        *four = a & 0xFF | (b & 0xFF) << 8 | (c & 0xFF) << 16 | d << 24;
    }
    tile.set(t, scale + poison, zero, sums);
}

/// Lays the codes of 16 expanded rows, `[16, cols / 32]`, side by side, and sums them up for the corrections, beside
/// which `zero` is put.
pub fn interleave(rows: &[ExpandedChunk], panel: &mut Panel, format: &PanelFormat, zero: i16) {
    let (chunks, groups) = (rows.len() / ROWS, format.groups);
    let per_group = CHUNK / groups;
    for c in 0..chunks {
        for r in 0..ROWS {
            let codes = &rows[r * chunks + c].codes;
            let (fours, _) = codes.as_chunks::<4>();
            for (side_by_side, four) in panel.codes[c].iter_mut().zip(fours) {
                side_by_side[r] = *four;
            }
            for (g, codes) in codes.chunks_exact(per_group).enumerate() {
                let sum: i32 = codes.iter().map(|&code| i32::from(code)).sum();
                // At most 32 · 128 either way.
                let sum = sum - format.zero * per_group as i32;
                panel.corrections[c * groups + g][r] = [sum as i16, zero];
            }
        }
    }
}

/// See [`super::Core`].
pub fn core<const GROUPS: usize, const MINIMUM: bool>(
    panel: &Panel,
    tile: &[ActivationTile],
    y: &mut [[f32; ROWS]; TOKENS],
) {
    const QUADS: usize = CHUNK / 4;
    *y = [[0.0; ROWS]; TOKENS];
    for (c, (codes, tile)) in panel.codes.iter().zip(tile).enumerate() {
        for g in 0..GROUPS {
            let (group, set) = (c * GROUPS + g, set::<GROUPS>(g));
            for (t, y) in y.iter_mut().enumerate() {
                let pair = tile.corrections[set][t];
                let (minus_zero, minus_sum) = (i32::from(pair as i16), pair >> 16);
                let mut sums = [0_i32; ROWS];
                for (sum, [weights, zero]) in sums.iter_mut().zip(panel.corrections[group]) {
                    *sum = i32::from(weights) * minus_zero + i32::from(zero) * minus_sum;
                }
                for j in g * (QUADS / GROUPS)..(g + 1) * (QUADS / GROUPS) {
                    let four = tile.codes[t][j].to_le_bytes().map(|code| i32::from(code as i8));
                    for (sum, codes) in sums.iter_mut().zip(&codes[j]) {
                        *sum += (0..4).map(|i| i32::from(codes[i]) * four[i]).sum::<i32>();
                    }
                }
                for r in 0..ROWS {
                    y[r] += sums[r] as f32 * (panel.scales[group][r] * tile.scales[t]);
                    if MINIMUM {
                        y[r] += panel.minima[group][r] * tile.totals[set][t];
                    }
                }
            }
        }
    }
}

/// Which of a tile's corrections and totals are those of a group.
pub const fn set<const GROUPS: usize>(group: usize) -> usize {
    if GROUPS == 1 { 0 } else { 1 + group }
}
