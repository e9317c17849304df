//! Formats as values: what the macro emits for each, and the checked way to its kernels.

use std::ops::Deref;

use crate::gemm::{ExpandedChunk, PanelFormat};
use crate::{ActivationBlock, FloatField, Isa, Supported};

/// A type declared with [`quant_format!`](crate::quant_format).
pub trait BlockFormat {
    /// Its description and its kernels.
    const FORMAT: &'static Format;
}

/// One block format and its kernels, which fit each other: only [`quant_format!`](crate::quant_format) makes one, and
/// none can be changed. Its facts are read as fields, those of [`FormatParts`].
#[derive(Debug)]
pub struct Format(FormatParts);

/// The facts of a [`Format`].
#[derive(Debug)]
pub struct FormatParts {
    /// The name of the declaration; for GGUF's formats GGUF's own, `Q4_0`.
    pub name: &'static str,
    /// GGUF's tensor type number; `None` for a format outside that numbering.
    pub gguf_id: Option<u32>,
    /// Weights per block, a multiple of 32.
    pub block_len: usize,
    /// Bytes per block.
    pub block_bytes: usize,
    /// The numbers of a block by which its weights may be NaN or infinite.
    pub floats: &'static [FloatField],
    /// The operations that it does not have.
    pub missing: &'static [Missing],
    /// Whether kernels sum a block in integers and so take one [`unit`](ActivationBlock::unit) for all activations that a
    /// block is multiplied with; other formats take any.
    pub one_unit: bool,
    /// What panels of it are like; `None` where scales are for less than 16 weights.
    #[doc(hidden)]
    pub panel: Option<PanelFormat>,
    /// The quantizer; where there is none, [`why_not`](Format::why_not)`("quantize")` says why.
    pub quantize: Option<Quantize>,
    /// The kernels for each instruction set of this architecture, the plainest first.
    pub variants: &'static [Variant],
}

/// An operation that a format does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// `quantize` or `gemm`.
    pub operation: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// Whole blocks of weights to their bytes; the importance, if any, is that of a row's columns.
pub type Quantize = fn(weights: &[f32], importance: Option<&[f32]>, blocks: &mut [u8]);

/// The kernels of one format for one instruction set.
#[derive(Debug)]
pub struct Variant {
    isa: Isa,
    block_len: usize,
    block_bytes: usize,
    dot: Kernel<Dot>,
    gemv: Kernel<Gemv>,
    gemv_several: Kernel<GemvSeveral>,
    dequantize: Kernel<Dequantize>,
    pub(crate) expand: Option<Kernel<Expand>>,
}

/// A function and its name. One that is the same for several instruction sets has the name of the plainest.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Kernel<F> {
    /// What is called.
    pub function: F,
    /// `q4_0_dot_avx2_fma`.
    pub name: &'static str,
}

type Dot = unsafe fn(&[u8], &[ActivationBlock]) -> f32;
type Gemv = unsafe fn(&[u8], &[ActivationBlock], &mut [f32]);
type GemvSeveral = unsafe fn(&[u8], &[ActivationBlock], usize, &mut [f32]);
type Dequantize = unsafe fn(&[u8], &mut [f32]);
/// A row of blocks to what panels are made of.
pub(crate) type Expand = unsafe fn(&[u8], &mut [ExpandedChunk]);

/// The kernels of one format for an instruction set that this CPU has.
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    format: &'static Format,
    /// Its instruction set is one that a [`Supported`] stood for.
    variant: &'static Variant,
}

/// Slices that don't fit each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{format} {operation}: {what} has length {actual}, expected {expected}")]
pub struct ShapeError {
    /// The format's name.
    pub format: &'static str,
    /// The operation's name.
    pub operation: &'static str,
    /// Which argument.
    pub what: &'static str,
    /// Its length.
    pub actual: usize,
    /// The length that would fit: exact, or a multiple of this where blocks must be whole.
    pub expected: usize,
}

/// Why weights can't be multiplied with activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProductError {
    /// The slices don't fit.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The format takes one unit for all activations that a block of weights is multiplied with
    /// ([`one_unit`](FormatParts::one_unit)), and these have several.
    #[error(
        "{format} {operation}: activations[{index}] has another unit than activations[{first}], which is multiplied with \
         the same block of {block_len} weights. Quantize each vector whole, by quantize_activations, and begin a slice \
         of it at a multiple of {run} activations, {len} to an ActivationBlock",
        run = ActivationBlock::RUN,
        len = ActivationBlock::LEN
    )]
    Units {
        /// The format's name.
        format: &'static str,
        /// The operation's name.
        operation: &'static str,
        /// The first [`ActivationBlock`] of the argument that has another unit than it should.
        index: usize,
        /// The one whose unit it should have: the first of those that the same block of weights is multiplied with.
        first: usize,
        /// Weights per block.
        block_len: usize,
    },
}

/// Why weights can't be quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantizeError {
    /// The slices don't fit.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The format has no quantizer.
    #[error("{format} has no quantizer: {reason}")]
    NoQuantizer {
        /// The format's name.
        format: &'static str,
        /// Why.
        reason: &'static str,
    },
}

impl Variant {
    /// `block` is the number of weights and of bytes of a block.
    ///
    /// # Safety
    /// Every function may be called with any arguments on a CPU that has all features of `isa`.
    #[doc(hidden)]
    pub const unsafe fn new(
        isa: Isa,
        [block_len, block_bytes]: [usize; 2],
        dot: Kernel<Dot>,
        gemv: Kernel<Gemv>,
        gemv_several: Kernel<GemvSeveral>,
        dequantize: Kernel<Dequantize>,
        expand: Option<Kernel<Expand>>,
    ) -> Self {
        Self { isa, block_len, block_bytes, dot, gemv, gemv_several, dequantize, expand }
    }

    /// The instruction set that it is for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The name of the function for `operation`, `dot`, `gemv`, `gemv_several`, `dequantize` or, for panels, `expand`:
    /// that of a plainer instruction set where its function would be the same. `None` where there is none.
    pub fn kernel_name(&self, operation: &str) -> Option<&'static str> {
        match operation {
            "dot" => Some(self.dot.name),
            "gemv" => Some(self.gemv.name),
            "gemv_several" => Some(self.gemv_several.name),
            "dequantize" => Some(self.dequantize.name),
            "expand" => self.expand.map(|expand| expand.name),
            _ => None,
        }
    }
}

impl Format {
    /// Checks that the parts fit each other; generated code calls it in a constant, so that what doesn't fit is a
    /// compile error.
    ///
    /// # Panics
    /// Blocks are no multiple of 32 weights, have no bytes, are of another size than those of the kernels, or want one unit
    /// for activations of more than one run or of parts of two; a number lies outside of the block; a panel has neither 1
    /// nor 2 groups.
    #[doc(hidden)]
    pub const fn new(parts: FormatParts) -> Self {
        let FormatParts { block_len, block_bytes, floats, variants, .. } = parts;
        assert!(block_len > 0 && block_len.is_multiple_of(ActivationBlock::LEN), "blocks of 32 weights");
        assert!(block_bytes > 0, "blocks of at least one byte");
        assert!(
            !parts.one_unit || ActivationBlock::RUN.is_multiple_of(block_len),
            "one unit for no more activations than have one"
        );
        if let Some(panel) = &parts.panel {
            assert!(
                panel.groups == 1 || panel.groups == 2,
                "one or two scales to each 32 weights of a panel"
            );
        }
        let mut i = 0;
        while i < floats.len() {
            let FloatField { ty, offset } = floats[i];
            assert!(
                ty.bytes() <= block_bytes && offset <= block_bytes - ty.bytes(),
                "numbers inside the block"
            );
            i += 1;
        }
        let mut i = 0;
        while i < variants.len() {
            let fits = variants[i].block_len == block_len && variants[i].block_bytes == block_bytes;
            assert!(fits, "kernels for blocks of this size");
            i += 1;
        }
        Self(parts)
    }

    /// The facts of the format, where a constant needs them.
    #[doc(hidden)]
    pub const fn parts(&self) -> &FormatParts {
        &self.0
    }

    /// The kernels for `isa`.
    ///
    /// # Panics
    /// Never for a format made by the macro, which emits every instruction set.
    pub fn kernels(&'static self, isa: Supported) -> Kernels {
        let variant = self.variants.iter().find(|variant| variant.isa == isa.isa());
        Kernels { format: self, variant: variant.expect("the macro emits every instruction set") }
    }

    /// Why the format has no `operation`, `quantize` or `gemm`.
    pub fn why_not(&self, operation: &str) -> &'static str {
        let missing = self.missing.iter().find(|missing| missing.operation == operation);
        missing.map_or("it was made without one", |missing| missing.reason)
    }

    /// Bytes of `weights` weights, rounded up to whole blocks; `usize::MAX`, which no slice has, where it would be more.
    pub const fn bytes_for(&self, weights: usize) -> usize {
        weights.div_ceil(self.0.block_len).saturating_mul(self.0.block_bytes)
    }
}

impl Deref for Format {
    type Target = FormatParts;

    fn deref(&self) -> &FormatParts {
        &self.0
    }
}

impl Kernels {
    /// The format that these are the kernels of.
    pub fn format(&self) -> &'static Format {
        self.format
    }

    pub(crate) fn variant(&self) -> &'static Variant {
        self.variant
    }

    /// The instruction set that they use.
    pub fn isa(&self) -> Isa {
        self.variant.isa
    }

    /// The dot product of a row of blocks with as many activations.
    ///
    /// # Errors
    /// `row` is not the blocks of exactly `32 * activations.len()` weights, or the activations of a block have several
    /// units and the format takes [one](FormatParts::one_unit).
    pub fn dot(&self, row: &[u8], activations: &[ActivationBlock]) -> Result<f32, ProductError> {
        self.check("dot", "row", row.len(), self.row_bytes("dot", activations)?)?;
        self.check_units("dot", activations)?;
        // SAFETY: `variant` was found by a `Supported`, which proves that the CPU has its instruction
        // set; that is all `Variant::new` leaves to the caller.
        Ok(unsafe { (self.variant.dot.function)(row, activations) })
    }

    /// y = W x: the dot product of each row of a row-major matrix with the same activations.
    ///
    /// `matrix` is `[y.len(), 32 * activations.len()]`; rows follow each other without padding.
    ///
    /// # Errors
    /// `matrix` is not of that shape, a row is not a whole number of blocks, or the activations of a block have several
    /// units and the format takes [one](FormatParts::one_unit).
    pub fn gemv(
        &self,
        matrix: &[u8],
        activations: &[ActivationBlock],
        y: &mut [f32],
    ) -> Result<(), ProductError> {
        self.multiply("gemv", matrix, activations, y)
    }

    /// Y = W X for a few vectors: bit for bit what [`gemv`](Self::gemv) gives for each, in less time, as weights are
    /// unpacked once for four of them.
    ///
    /// `matrix` is `[rows, cols]`, `activations` `[vectors, cols / 32]` and `y` `[vectors, rows]`.
    ///
    /// Where there are no columns all products are 0; where there are no vectors there is nothing to do, and `matrix` may
    /// have any length.
    ///
    /// # Errors
    /// The slices are not of these shapes, a row is not a whole number of blocks, or the activations of a block have several
    /// units and the format takes [one](FormatParts::one_unit).
    pub fn gemv_several(
        &self,
        matrix: &[u8],
        activations: &[ActivationBlock],
        vectors: usize,
        y: &mut [f32],
    ) -> Result<(), ProductError> {
        const OPERATION: &str = "gemv_several";
        for (what, len) in [("activations", activations.len()), ("y", y.len())] {
            if !len.is_multiple_of(vectors) {
                // The next whole number of vectors.
                let expected = len.checked_next_multiple_of(vectors).unwrap_or(0);
                return Err(self.shape_error(OPERATION, what, len, expected).into());
            }
        }
        match vectors {
            // Without vectors there are no columns either, so that any matrix will do.
            0 => return Ok(()),
            1 => return self.multiply(OPERATION, matrix, activations, y),
            _ => {}
        }
        let row = self.row_bytes(OPERATION, &activations[..activations.len() / vectors])?;
        self.check(OPERATION, "matrix", matrix.len(), row.saturating_mul(y.len() / vectors))?;
        // A vector is a whole number of blocks: one check finds the blocks of all.
        self.check_units(OPERATION, activations)?;
        if activations.is_empty() {
            y.fill(0.0);
            return Ok(());
        }
        // SAFETY: as in `dot`.
        unsafe { (self.variant.gemv_several.function)(matrix, activations, vectors, y) };
        Ok(())
    }

    /// [`gemv`](Self::gemv) under the name of `operation`.
    fn multiply(
        &self,
        operation: &'static str,
        matrix: &[u8],
        activations: &[ActivationBlock],
        y: &mut [f32],
    ) -> Result<(), ProductError> {
        let row = self.row_bytes(operation, activations)?;
        self.check(operation, "matrix", matrix.len(), row.saturating_mul(y.len()))?;
        self.check_units(operation, activations)?;
        // SAFETY: as in `dot`.
        unsafe { (self.variant.gemv.function)(matrix, activations, y) };
        Ok(())
    }

    /// Blocks to weights; bit for bit what ggml computes.
    ///
    /// # Errors
    /// `blocks` is not exactly the blocks of `weights.len()` weights.
    pub fn dequantize(&self, blocks: &[u8], weights: &mut [f32]) -> Result<(), ShapeError> {
        self.check_blocks("dequantize", weights.len(), blocks.len())?;
        // SAFETY: as in `dot`.
        unsafe { (self.variant.dequantize.function)(blocks, weights) };
        Ok(())
    }

    /// Weights to blocks: those of least squared error. Where the format's declaration asks for a quantizer of ggml's,
    /// byte for byte what that makes of them; [`Reference`](crate::quantize::Reference) lists these.
    ///
    /// # Errors
    /// `blocks` is not exactly the blocks of `weights.len()` weights, or the format has no quantizer:
    /// `quantize` of [`FormatParts`] is `None`.
    pub fn quantize(&self, weights: &[f32], blocks: &mut [u8]) -> Result<(), QuantizeError> {
        self.check_blocks("quantize", weights.len(), blocks.len())?;
        self.quantizer()?(weights, None, blocks);
        Ok(())
    }

    /// Rows of weights to blocks of least squared error, in which the error of each column counts by its importance:
    /// in llama.cpp's importance matrices the mean square of the activations that it is multiplied with.
    ///
    /// `weights` is `[rows, importance.len()]`. What is below 0 or no number counts as 0.
    ///
    /// # Errors
    /// As for [`quantize`](Self::quantize), or `weights` is not a whole number of rows, or a row not one of blocks.
    pub fn quantize_weighted(
        &self,
        weights: &[f32],
        importance: &[f32],
        blocks: &mut [u8],
    ) -> Result<(), QuantizeError> {
        const OPERATION: &str = "quantize_weighted";
        self.check_blocks(OPERATION, weights.len(), blocks.len())?;
        let columns = importance.len();
        if !columns.is_multiple_of(self.format.block_len) {
            return Err(self.shape_error(OPERATION, "importance", columns, self.format.block_len).into());
        }
        if !weights.len().is_multiple_of(columns) {
            // Of no columns there are no weights.
            return Err(self.shape_error(OPERATION, "weights", weights.len(), columns).into());
        }
        self.quantizer()?(weights, Some(importance), blocks);
        Ok(())
    }

    fn quantizer(&self) -> Result<Quantize, QuantizeError> {
        let FormatParts { name: format, quantize, .. } = **self.format;
        let reason = self.format.why_not("quantize");
        quantize.ok_or(QuantizeError::NoQuantizer { format, reason })
    }

    /// Bytes of the row that `activations` go with.
    fn row_bytes(
        &self,
        operation: &'static str,
        activations: &[ActivationBlock],
    ) -> Result<usize, ShapeError> {
        let per_block = self.format.block_len / ActivationBlock::LEN;
        if !activations.len().is_multiple_of(per_block) {
            return Err(self.shape_error(operation, "activations", activations.len(), per_block));
        }
        Ok((activations.len() / per_block).saturating_mul(self.format.block_bytes))
    }

    /// Checks that all activations that a block is multiplied with have one unit, where kernels take it from the first.
    fn check_units(
        &self,
        operation: &'static str,
        activations: &[ActivationBlock],
    ) -> Result<(), ProductError> {
        let FormatParts { name: format, block_len, one_unit, .. } = **self.format;
        if !one_unit {
            return Ok(());
        }
        let per_block = block_len / ActivationBlock::LEN;
        // First whether any differs, and only then which: to stop at the first takes half as long again.
        let has_several = match per_block {
            1 => false,
            2 => has_several_units::<2>(activations),
            4 => has_several_units::<4>(activations),
            _ => has_several_units::<{ ActivationBlock::RUN / ActivationBlock::LEN }>(activations),
        };
        if !has_several {
            return Ok(());
        }
        let first_of = |index: usize| index / per_block * per_block;
        let differs = |&index: &usize| unit(&activations[index]) != unit(&activations[first_of(index)]);
        (0..activations.len()).find(differs).map_or(Ok(()), |index| {
            let first = first_of(index);
            Err(ProductError::Units { format, operation, index, first, block_len })
        })
    }

    pub(crate) fn check_blocks(
        &self,
        operation: &'static str,
        weights: usize,
        blocks: usize,
    ) -> Result<(), ShapeError> {
        if !weights.is_multiple_of(self.format.block_len) {
            return Err(self.shape_error(operation, "weights", weights, self.format.block_len));
        }
        self.check(operation, "blocks", blocks, self.format.bytes_for(weights))
    }

    pub(crate) fn check(
        &self,
        operation: &'static str,
        what: &'static str,
        actual: usize,
        expected: usize,
    ) -> Result<(), ShapeError> {
        if actual == expected { Ok(()) } else { Err(self.shape_error(operation, what, actual, expected)) }
    }

    pub(crate) fn shape_error(
        &self,
        operation: &'static str,
        what: &'static str,
        actual: usize,
        expected: usize,
    ) -> ShapeError {
        ShapeError { format: self.format.name, operation, what, actual, expected }
    }
}

/// The unit of 32 activations by its bits: a vector with a NaN has a unit that is NaN, too, and not equal to itself.
fn unit(activations: &ActivationBlock) -> u32 {
    activations.unit().to_bits()
}

/// Whether any `N` blocks of activations that are multiplied with one block of weights have several units.
fn has_several_units<const N: usize>(activations: &[ActivationBlock]) -> bool {
    let mut different = 0;
    for of_block in activations.as_chunks::<N>().0 {
        let first = unit(&of_block[0]);
        for other in of_block {
            different |= unit(other) ^ first;
        }
    }
    different != 0
}
