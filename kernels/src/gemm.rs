//! A matrix times many vectors: what a prompt needs.
//!
//! Rows of weights are expanded once, 32 to a panel, to signed bytes that lie as a core wants them, and each panel is
//! multiplied with all tokens, 12 to a tile. Expansion follows from a format's declaration; the core knows no format
//! and is written once for each instruction set that has one of its own:
//!
//! ```text
//! for each 2 panels of 32 rows             they stay in L2
//!     expand the rows
//!     for each tile of 12 tokens           the next one is on its way from L3 meanwhile
//!         for each panel
//!             for each 6 tokens            6 · 2 sums of 16 floats stay in registers
//!                 for each 32 weights      6 · 2 sums of 16 integers stay in registers
//!                     integers  = corrections
//!                     integers += codes · codes        32 / 4 steps of vpdpbusd for each token
//!                     floats   += integers · scale · scale
//! ```
//!
//! With w = d q and activations x = s (a − c), of which there are a scale s and a zero point c to each 32, a sum over 32
//! is d s (Σ q a − c Σ q). The first sum is the core's work, of signed codes q and unsigned ones a; the last one is known
//! with the panel.
//!
//! No integer is converted. Its sum begins with the bits of 1.5, of which the last place is 2⁻²³, so that in the end its
//! bits are those of f = 1.5 + 2⁻²³ · sum, while that is between 1 and 2: and f · d − 1.5 · d, of one rounding, is
//! 2⁻²³ d times the sum. One `vpdpwssd` on pairs of 16-bit integers, (Σ q, −2¹⁵) · (−c, −32640), begins it with both,
//! as 2¹⁵ · 32640 is the bits of 1.5. The factor of 2²³ is that of the outputs.
//!
//! Zero points make the codes of activations fit the range of each 32 values: where an outlier stretches it, it does
//! so to one side. On ten prompts to SmolLM2-135M in Q4_1 logits come out at a third of the distance from exact
//! ones that a scale without zero point gives (0.087 against 0.268), with all else in f32.
//!
//! A tile of 6 tokens by 32 rows follows from the registers of AVX-512: 12 integer sums, 12 float sums, and 8 for codes,
//! scales and corrections; a broadcast activation serves two multiplications. Of 11 instructions per token, 16 rows and
//! 32 weights 8 are `vpdpbusd`: at most 73 % of a CPU's peak where all of them share its pipelines.

use std::ops::Range;

use crate::dispatch::Expand;
use crate::{Isa, Kernels, ShapeError, Supported};

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

/// Tokens of a tile.
pub const TOKENS: usize = 12;
/// Rows of a panel: the lanes of two 512-bit vectors.
pub const ROWS: usize = 32;
/// Panels that share the reading of a tile. With TinyLlama's longest rows, 5,632 weights, they
/// take 440 KiB in Q4_0: what is L2 elsewhere than on the smallest cores.
pub const PANELS: usize = 2;
/// Weights that share a scale and a zero point of their activations.
const CHUNK: usize = 32;
/// Of a pair of corrections that of weights: with [`TOKEN_CORRECTION`] it makes the bits of 1.5.
const WEIGHTS_CORRECTION: i16 = i16::MIN;
/// See [`WEIGHTS_CORRECTION`].
const TOKEN_CORRECTION: i16 = -32640;
/// What the last place of 1.5 counts.
const PLACE: f32 = f32::EPSILON;

/// 32 activations of each of 12 tokens: x = s (a − c).
///
/// A tile is a row of these, and activations are tile after tile.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct ActivationTile {
    /// a from 1 to 255, four to an i32.
    codes: [[i32; CHUNK / 4]; TOKENS],
    /// s
    scales: [f32; TOKENS],
    /// −c and [`TOKEN_CORRECTION`] as two i16.
    corrections: [i32; TOKENS],
    /// Σ x of all 32, of the first 16 and of the last 16.
    totals: [[f32; TOKENS]; 3],
}

/// What panels of a format are like; the same for every instruction set.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct PanelFormat {
    /// The largest magnitude of a code.
    pub max_abs_code: u8,
    /// Scales to each 32 weights: 1 or 2.
    pub groups: usize,
    /// Whether something is added to the product.
    pub has_minimum: bool,
}

/// 32 weights of a row on their way to a panel.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct ExpandedChunk {
    /// Signed codes, their zero point taken off.
    pub codes: [u8; CHUNK],
    /// Of each half.
    pub scales: [f32; 2],
    /// Of each half.
    pub minima: [f32; 2],
}

/// 32 rows of weights as a core wants them.
#[derive(Clone, Debug, Default)]
struct Panel {
    /// `[cols / 32, 8]`: four codes of each row in turn.
    codes: Vec<[Lanes<[u8; 4]>; CHUNK / 4]>,
    /// `[cols / 32 * groups]`, of at most 22 bits, so that 1.5 times one is exact.
    scales: Vec<Lanes<f32>>,
    /// Σ q and [`WEIGHTS_CORRECTION`].
    corrections: Vec<Lanes<[i16; 2]>>,
    /// As the scales, where the format has minima: 2⁻²³ of them.
    minima: Vec<Lanes<f32>>,
}

/// A word of each row, in whole cache lines.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Lanes<T>([T; ROWS]);

/// Memory for panels, which grows with the longest rows that it has seen.
#[derive(Clone, Debug, Default)]
pub struct Panels {
    panels: [Panel; PANELS],
    /// `[32, cols / 32]`: the rows of a panel before they are interleaved.
    rows: Vec<ExpandedChunk>,
    /// `[cols / 32]`: a tile for a core that takes signed activations.
    signed: Vec<ActivationTile>,
}

/// Why a matrix can't be multiplied with many vectors at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GemmError {
    /// The slices don't fit.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The format's rows can't be made panels.
    #[error("{format} has no gemm: {reason}. Multiply it by one vector after the other, by gemv")]
    NoPanels {
        /// The format's name.
        format: &'static str,
        /// Why.
        reason: &'static str,
    },
}

/// A panel times a tile: 32 outputs of 12 tokens. Meanwhile the beginning of what is needed next comes to L2.
type Core = unsafe fn(&Panel, &[ActivationTile], &[ActivationTile], &mut [[f32; ROWS]; TOKENS]);

impl ActivationTile {
    /// All activations 0.
    pub const ZERO: Self = Self {
        codes: [[0; CHUNK / 4]; TOKENS],
        scales: [0.0; TOKENS],
        corrections: [pair(0, TOKEN_CORRECTION); TOKENS],
        totals: [[0.0; TOKENS]; 3],
    };

    /// The scale of a token's 32 activations.
    ///
    /// # Panics
    /// `token` is not below 12.
    pub fn scale(&self, token: usize) -> f32 {
        self.scales[token]
    }

    /// Activation `i` of a token's 32 as it is kept, exactly.
    ///
    /// # Panics
    /// `token` is not below 12, or `i` not below 32.
    pub fn get(&self, token: usize, i: usize) -> f64 {
        let code = self.codes[token][i / 4].to_le_bytes()[i % 4];
        let minus_zero = self.corrections[token] as i16;
        f64::from(self.scales[token]) * f64::from(i16::from(code) + minus_zero)
    }

    /// The same with 128 taken off codes and zero points.
    fn signed(&self) -> Self {
        let codes = self.codes.map(|token| token.map(|four| four ^ i32::from_ne_bytes([128; 4])));
        let corrections = self.corrections.map(|both| pair(both as i16 + 128, TOKEN_CORRECTION));
        Self { codes, corrections, ..*self }
    }

    /// Sets all of a token but its codes, of which the sums of both halves are given, 128 taken off each code.
    fn set(&mut self, token: usize, scale: f32, zero: i32, [low, high]: [i32; 2]) {
        self.scales[token] = scale;
        self.corrections[token] = pair(-(zero + 128) as i16, TOKEN_CORRECTION);
        let sums = [(low + high, CHUNK), (low, CHUNK / 2), (high, CHUNK / 2)];
        for (totals, (sum, count)) in self.totals.iter_mut().zip(sums) {
            totals[token] = scale * (sum - zero * count as i32) as f32;
        }
    }

    /// Σ x of a group of the weights' scales, for each token.
    #[inline]
    fn totals<const GROUPS: usize>(&self, group: usize) -> &[f32; TOKENS] {
        &self.totals[if GROUPS == 1 { 0 } else { 1 + group }]
    }

    /// How many hold `[tokens, cols]` activations, `cols` being a multiple of 32; `usize::MAX`, which no slice has,
    /// where it would be more.
    pub const fn count(tokens: usize, cols: usize) -> usize {
        tokens.div_ceil(TOKENS).saturating_mul(cols / CHUNK)
    }
}

/// The largest magnitude in a codebook.
///
/// Without calls: the compiler reports a constant as slow when it has made two million calls and turns of loops, and
/// the largest codebook has half a million weights.
#[doc(hidden)]
pub const fn max_abs_code<const WEIGHTS: usize, const N: usize>(book: &[[i8; WEIGHTS]; N]) -> u8 {
    let (mut most, mut row) = (0, 0);
    while row < N {
        let mut i = 0;
        while i < WEIGHTS {
            let weight = book[row][i] as i32;
            let magnitude = if weight < 0 { -weight } else { weight };
            most = if magnitude > most { magnitude } else { most };
            i += 1;
        }
        row += 1;
    }
    most as u8
}

/// Two 16-bit integers as one of 32 bits.
const fn pair(low: i16, high: i16) -> i32 {
    low as u16 as i32 | (high as i32) << 16
}

/// Quantizes up to 12 tokens' activations `x`, `[tokens, cols]`, to one tile, `[cols / 32]`: for each 32 of a token
/// the scale (max − min) / 254, with 0 in the range, and the zero point that takes min to 1.
///
/// Activations among which there is an infinity or NaN get a scale that is NaN, and so are all products with them.
///
/// # Errors
/// `x` is not of that shape.
pub fn quantize_tile(isa: Supported, x: &[f32], tile: &mut [ActivationTile]) -> Result<(), ShapeError> {
    let cols = tile.len() * CHUNK;
    if cols == 0 && x.is_empty() {
        return Ok(());
    }
    if cols == 0 || !x.len().is_multiple_of(cols) || x.len() > TOKENS * cols {
        let expected = TOKENS * cols;
        return Err(ShapeError {
            format: "activations",
            operation: "quantize",
            what: "x",
            actual: x.len(),
            expected,
        });
    }
    match isa.isa() {
        #[cfg(target_arch = "x86_64")]
        isa if isa.includes(Isa::Avx2Fma) => {
            // SAFETY: that `isa` is supported proves that the CPU has AVX2 and FMA.
            unsafe { x86::quantize_tile(x, tile) }
        }
        _ => portable::quantize_tile(x, tile),
    }
    Ok(())
}

impl Kernels {
    /// Whether the format's rows can be made panels, which take scales for 16 weights or more; else
    /// [`gemm`](Self::gemm) is an error.
    pub fn has_gemm(&self) -> bool {
        self.format().panel.is_some()
    }

    /// Y = X Wᵀ: each row of a row-major matrix, of shape `[rows, cols]`, times each of `tokens` vectors.
    ///
    /// `tiles` are the tokens' activations, `[⌈tokens / 12⌉, cols / 32]`, by [`quantize_tile`]. `y` is given, in any
    /// order, a token, a row, and the outputs of up to 32 rows from there on.
    ///
    /// # Errors
    /// The slices don't fit, or the format is none that [`has_gemm`](Self::has_gemm).
    pub fn gemm(
        &self,
        matrix: &[u8],
        rows: usize,
        tiles: &[ActivationTile],
        tokens: usize,
        panels: &mut Panels,
        mut y: impl FnMut(usize, usize, &[f32]),
    ) -> Result<(), GemmError> {
        gemm_together([(self, matrix)], rows, tiles, tokens, panels, |token, row, [outputs]| {
            y(token, row, outputs);
        })
    }

    /// Checks what goes into [`gemm`](Self::gemm).
    fn factor<'a>(
        &self,
        matrix: &'a [u8],
        rows: usize,
        tiles: &[ActivationTile],
        tokens: usize,
    ) -> Result<Factor<'a>, GemmError> {
        let (Some(format), Some(expand)) = (self.format().panel, self.variant().expand) else {
            let format = self.format();
            return Err(GemmError::NoPanels { format: format.name, reason: format.why_not("gemm") });
        };
        let count = tokens.div_ceil(TOKENS);
        let chunks = tiles.len().checked_div(count).unwrap_or(0);
        self.check("gemm", "tiles", tiles.len(), chunks * count)?;
        let row_bytes = self.format().bytes_for(chunks * CHUNK);
        self.check_blocks("gemm", chunks * CHUNK, row_bytes)?;
        if tokens > 0 {
            self.check("gemm", "matrix", matrix.len(), row_bytes.saturating_mul(rows))?;
        }
        let (core, takes_signed) = core(self.isa(), &format);
        Ok(Factor {
            isa: self.isa(),
            format,
            expand: expand.function,
            core,
            takes_signed,
            matrix,
            chunks,
            row_bytes,
        })
    }
}

/// As [`Kernels::gemm`], of several matrices of one shape, 1 or 2, that take the same vectors: `y` is given the outputs of
/// the same rows of each.
///
/// # Errors
/// As of [`Kernels::gemm`], of any matrix.
pub fn gemm_together<const M: usize>(
    matrices: [(&Kernels, &[u8]); M],
    rows: usize,
    tiles: &[ActivationTile],
    tokens: usize,
    panels: &mut Panels,
    mut y: impl FnMut(usize, usize, [&[f32]; M]),
) -> Result<(), GemmError> {
    const { assert!(M > 0 && PANELS.is_multiple_of(M)) };
    let factors = matrices.map(|(kernels, matrix)| kernels.factor(matrix, rows, tiles, tokens));
    if let Some(error) = factors.iter().find_map(|factor| factor.as_ref().err()) {
        return Err(*error);
    }
    let factors = factors.map(|factor| factor.expect("none of them is an error"));
    let chunks = factors[0].chunks;
    if rows == 0 {
        return Ok(());
    }
    if chunks == 0 {
        // Products without terms.
        (0..tokens).for_each(|token| (0..rows).for_each(|row| y(token, row, [&[0.0]; M])));
        return Ok(());
    }
    let mut out = [[[0.0; ROWS]; TOKENS]; M];
    for first in (0..rows).step_by(PANELS / M * ROWS) {
        let last = rows.min(first + PANELS / M * ROWS);
        let mut count = 0;
        for from in (first..last).step_by(ROWS) {
            for factor in &factors {
                panels.expand(count, factor, from..last.min(from + ROWS));
                count += 1;
            }
        }
        let Panels { panels, signed, .. } = panels;
        let panels = &panels[..count];
        for (i, tile) in tiles.chunks_exact(chunks).enumerate() {
            let next = &tiles[(i + 1) * chunks..];
            if factors.iter().any(|factor| factor.takes_signed) {
                signed.clear();
                signed.extend(tile.iter().map(ActivationTile::signed));
            }
            for (p, panels_of_rows) in panels.chunks_exact(M).enumerate() {
                for (m, (factor, panel)) in factors.iter().zip(panels_of_rows).enumerate() {
                    let next = next.get((p * M + m) * chunks / count..).unwrap_or_default();
                    let tile = if factor.takes_signed { &signed[..] } else { tile };
                    // SAFETY: `core` is of an instruction set that the one of its kernels includes, which is supported.
                    unsafe { (factor.core)(panel, tile, next, &mut out[m]) };
                }
                let row = first + p * ROWS;
                let rows = ROWS.min(last - row);
                for (t, token) in (i * TOKENS..tokens.min((i + 1) * TOKENS)).enumerate() {
                    y(token, row, std::array::from_fn(|m| &out[m][t][..rows]));
                }
            }
        }
    }
    Ok(())
}

/// A matrix on its way to panels.
#[derive(Clone, Copy)]
struct Factor<'a> {
    isa: Isa,
    format: PanelFormat,
    expand: Expand,
    core: Core,
    takes_signed: bool,
    matrix: &'a [u8],
    /// Of a row.
    chunks: usize,
    row_bytes: usize,
}

impl Panels {
    /// Expands some rows, at most 32.
    fn expand(&mut self, panel: usize, factor: &Factor, rows: Range<usize>) {
        let Factor { isa, format, expand, matrix, chunks, row_bytes, .. } = *factor;
        let panel = &mut self.panels[panel];
        panel.shape(&format, chunks);
        let empty = ExpandedChunk { codes: [0; CHUNK], scales: [0.0; 2], minima: [0.0; 2] };
        self.rows.resize(ROWS * chunks, empty);
        let rows = matrix[rows.start * row_bytes..rows.end * row_bytes].chunks_exact(row_bytes);
        for (r, (row, expanded)) in rows.zip(self.rows.chunks_exact_mut(chunks)).enumerate() {
            // SAFETY: the variant was found by a `Supported`, which proves that the CPU has its
            // instruction set; that is all `Variant::new` leaves to the caller.
            unsafe { expand(row, expanded) };
            panel.set_scales(r, expanded, &format);
        }
        match isa {
            #[cfg(target_arch = "x86_64")]
            isa if isa.includes(Isa::Avx2Fma) => {
                // SAFETY: the supported instruction set includes AVX2.
                unsafe { x86::interleave(&self.rows, panel, format.groups) }
            }
            _ => portable::interleave(&self.rows, panel, format.groups),
        }
    }
}

/// The core for `isa`, and whether it takes activations [signed](ActivationTile::signed).
fn core(isa: Isa, format: &PanelFormat) -> (Core, bool) {
    macro_rules! by_shape {
        ($module:ident::$core:ident $(, $is_wide:literal)?) => {
            match (format.groups, format.has_minimum) {
                (1, false) => $module::$core::<1, false $(, $is_wide)?>,
                (1, true) => $module::$core::<1, true $(, $is_wide)?>,
                (_, false) => $module::$core::<2, false $(, $is_wide)?>,
                (_, true) => $module::$core::<2, true $(, $is_wide)?>,
            }
        };
    }
    match isa {
        #[cfg(target_arch = "x86_64")]
        isa if isa.includes(Isa::Avx512Vnni) => (by_shape!(x86::avx512_vnni), false),
        #[cfg(target_arch = "x86_64")]
        isa if isa.includes(Isa::AvxVnni) => (by_shape!(x86::avx_vnni), false),
        // Sums of two products with activations, 16 bits: 2 · 64 · 255 fits.
        #[cfg(target_arch = "x86_64")]
        isa if isa.includes(Isa::Avx2Fma) && format.max_abs_code > 64 => {
            (by_shape!(x86::avx2_fma, true), true)
        }
        #[cfg(target_arch = "x86_64")]
        isa if isa.includes(Isa::Avx2Fma) => (by_shape!(x86::avx2_fma, false), false),
        _ => (by_shape!(portable::core), false),
    }
}

impl Panel {
    /// Makes room for rows of `chunks` · 32 weights. Rows that are not set keep what they had, which nobody
    /// reads.
    fn shape(&mut self, format: &PanelFormat, chunks: usize) {
        let groups = chunks * format.groups;
        self.codes.resize(chunks, [Lanes([[0; 4]; ROWS]); CHUNK / 4]);
        self.scales.resize(groups, Lanes([0.0; ROWS]));
        self.corrections.resize(groups, Lanes([[0, WEIGHTS_CORRECTION]; ROWS]));
        self.minima.resize(if format.has_minimum { groups } else { 0 }, Lanes([0.0; ROWS]));
    }

    /// Sets the scales and minima of row `r`.
    fn set_scales(&mut self, r: usize, row: &[ExpandedChunk], format: &PanelFormat) {
        let groups = format.groups;
        for (c, chunk) in row.iter().enumerate() {
            for g in 0..groups {
                // What the last two bits count is less than a rounding.
                self.scales[c * groups + g].0[r] = f32::from_bits(chunk.scales[g].to_bits() & !3);
                if format.has_minimum {
                    self.minima[c * groups + g].0[r] = chunk.minima[g] * PLACE;
                }
            }
        }
    }
}
