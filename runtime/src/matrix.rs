//! Weight matrices on the bytes of the file, and what they are multiplied with.

use std::ops::Range;

use quantloom_kernels::dense::Dense;
use quantloom_kernels::{ActivationBlock, Kernels, Supported, quantize_activations};

use crate::gguf::{Tensor, TensorType};

/// A `[rows, cols]` matrix in the mapped file.
pub struct Matrix {
    tensor: Tensor,
    kernels: AnyKernels,
}

/// The kernels for a type of weights.
enum AnyKernels {
    Dense(Dense, Supported),
    Quantized(Kernels),
}

/// What a matrix is multiplied with, for one token: in f32, and quantized where the length allows.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// `[cols]`
    pub floats: &'a [f32],
    /// `[cols / 32]`
    pub blocks: &'a [ActivationBlock],
}

/// Kernels fail only on lengths, and those of a model were checked when it was loaded.
const CHECKED: &str = "shapes are checked when a model is loaded";

impl Matrix {
    /// The kernels for `tensor` on `isa`.
    pub fn new(tensor: Tensor, isa: Supported) -> Self {
        let kernels = match tensor.ty() {
            TensorType::F32 => AnyKernels::Dense(Dense::F32, isa),
            TensorType::F16 => AnyKernels::Dense(Dense::F16, isa),
            TensorType::BF16 => AnyKernels::Dense(Dense::BF16, isa),
            TensorType::Quantized(format) => AnyKernels::Quantized(format.kernels(isa)),
        };
        Self { tensor, kernels }
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.tensor.rows()
    }

    /// Bytes of one row in the file.
    pub fn row_bytes(&self) -> usize {
        self.tensor.row_bytes()
    }

    /// Bytes of the whole matrix in the file.
    pub fn bytes(&self) -> usize {
        self.tensor.data().len()
    }

    /// y = W x for some of the rows.
    pub fn multiply(&self, rows: Range<usize>, x: Input, y: &mut [f32]) {
        let row = self.row_bytes();
        let data = &self.tensor.data()[rows.start * row..rows.end * row];
        match &self.kernels {
            AnyKernels::Dense(dense, isa) => dense.gemv(*isa, data, x.floats, y),
            AnyKernels::Quantized(kernels) => kernels.gemv(data, x.blocks, y),
        }
        .expect(CHECKED);
    }

    /// The weights of one row.
    pub fn row(&self, row: usize, weights: &mut [f32]) {
        let data = &self.tensor.data()[row * self.row_bytes()..][..self.row_bytes()];
        match &self.kernels {
            AnyKernels::Dense(dense, _) => dense.widen(data, weights),
            AnyKernels::Quantized(kernels) => kernels.dequantize(data, weights),
        }
        .expect(CHECKED);
    }
}

/// What a matrix is multiplied with, for some tokens.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// `[tokens, cols]`
    floats: &'a [f32],
    /// `[tokens, cols / 32]`
    blocks: &'a [ActivationBlock],
    cols: usize,
}

impl<'a> Inputs<'a> {
    /// Quantizes `[tokens, cols]` into `blocks`; not where cols is no multiple of 32, since then no
    /// quantized matrix has this many columns.
    pub fn new(isa: Supported, floats: &'a [f32], cols: usize, blocks: &'a mut [ActivationBlock]) -> Self {
        let blocks = if cols.is_multiple_of(ActivationBlock::LEN) {
            let blocks = &mut blocks[..floats.len() / ActivationBlock::LEN];
            quantize_activations(isa, floats, blocks).expect(CHECKED);
            blocks
        } else {
            &mut []
        };
        Self { floats, blocks, cols }
    }

    /// The input of one token.
    pub fn token(&self, i: usize) -> Input<'a> {
        let per_token = self.blocks.len() * self.cols / self.floats.len();
        Input {
            floats: &self.floats[i * self.cols..][..self.cols],
            blocks: &self.blocks[i * per_token..][..per_token],
        }
    }
}
