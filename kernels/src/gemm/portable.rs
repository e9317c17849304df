//! The core and the quantizer of activations in plain Rust.

use super::{ActivationTile, CHUNK, ExpandedChunk, PLACE, Panel, ROWS, TOKENS, WEIGHTS_CORRECTION};

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
        *four = i32::from_le_bytes([a, b, c, d].map(|code| (code + 128) as u8));
    }
    tile.set(t, scale + poison, zero, sums);
}

/// Lays the codes of 32 expanded rows, `[32, cols / 32]`, side by side, and sums them up for the corrections.
pub fn interleave(rows: &[ExpandedChunk], panel: &mut Panel, groups: usize) {
    let chunks = rows.len() / ROWS;
    for c in 0..chunks {
        for r in 0..ROWS {
            let codes = &rows[r * chunks + c].codes;
            let (fours, _) = codes.as_chunks::<4>();
            for (side_by_side, four) in panel.codes[c].iter_mut().zip(fours) {
                side_by_side.0[r] = *four;
            }
            for (g, codes) in codes.chunks_exact(CHUNK / groups).enumerate() {
                // At most 32 · 128 either way.
                let sum: i16 = codes.iter().map(|&code| i16::from(code as i8)).sum();
                panel.corrections[c * groups + g].0[r] = [sum, WEIGHTS_CORRECTION];
            }
        }
    }
}

/// See [`super::Core`]. Integers are converted here: what saves that takes fused instructions.
pub fn core<const GROUPS: usize, const MINIMUM: bool>(
    panel: &Panel,
    tile: &[ActivationTile],
    _: &[ActivationTile],
    y: &mut [[f32; ROWS]; TOKENS],
) {
    const QUADS: usize = CHUNK / 4;
    *y = [[0.0; ROWS]; TOKENS];
    for (c, (codes, tile)) in panel.codes.iter().zip(tile).enumerate() {
        for g in 0..GROUPS {
            let group = c * GROUPS + g;
            let totals = tile.totals::<GROUPS>(g);
            for (t, y) in y.iter_mut().enumerate() {
                let minus_zero = i32::from(tile.corrections[t] as i16);
                let mut sums = [0_i32; ROWS];
                for (sum, [weights, _]) in sums.iter_mut().zip(panel.corrections[group].0) {
                    *sum = i32::from(weights) * minus_zero;
                }
                for j in g * (QUADS / GROUPS)..(g + 1) * (QUADS / GROUPS) {
                    let four = tile.codes[t][j].to_le_bytes().map(i32::from);
                    for (sum, codes) in sums.iter_mut().zip(&codes[j].0) {
                        *sum += (0..4).map(|i| i32::from(codes[i] as i8) * four[i]).sum::<i32>();
                    }
                }
                for r in 0..ROWS {
                    y[r] += sums[r] as f32 * PLACE * panel.scales[group].0[r] * tile.scales[t];
                    if MINIMUM {
                        y[r] += panel.minima[group].0[r] * totals[t];
                    }
                }
            }
        }
    }
    y.as_flattened_mut().iter_mut().for_each(|y| *y /= PLACE);
}
