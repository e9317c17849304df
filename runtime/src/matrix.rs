//! Weight matrices on the bytes of the file, and what they are multiplied with.

use std::cell::RefCell;
use std::ops::Range;

use quantloom_kernels::dense::Dense;
use quantloom_kernels::gemm::{self, ActivationTile, Panels, gemm_together, quantize_tile};
use quantloom_kernels::{ActivationBlock, Kernels, Supported, quantize_activations};

use crate::Error;
use crate::alloc::copies;
use crate::gguf::Tensor;
use crate::imatrix::Collector;
use crate::profile::Work;
use crate::threads::Team;

/// A `[rows, cols]` matrix in the mapped file.
pub struct Matrix {
    tensor: Tensor,
    /// Of all weights, beside those of their blocks.
    scale: f32,
    kernels: AnyKernels,
}

/// The kernels for a type of weights.
enum AnyKernels {
    Dense(Dense, Supported),
    Quantized(Kernels),
}

/// Kernels fail on lengths, and those of a model were checked when it was loaded, and on units of activations that differ
/// within a block, which they don't where each vector was quantized whole.
const CHECKED: &str = "shapes are checked when a model is loaded, and vectors are quantized whole";

/// The most rows that are multiplied at once: those of a stack buffer.
pub const MAX_ROWS: usize = 256;

/// Tokens that are multiplied at once where products are those of each token alone: as many as kernels take together.
const SEVERAL: usize = 4;

/// Fewer tokens go through a matrix one by one: expanding its rows to panels would cost more than it saves. With
/// TinyLlama's shape on Sapphire Rapids nine tokens take 102 ms one by one, and up to twelve 101 to 109 ms as a tile.
pub const MIN_TILE: usize = 10;

thread_local! {
    /// Each thread's own; they grow with the longest rows.
    static PANELS: RefCell<Panels> = RefCell::default();
}

impl Matrix {
    /// The kernels for `tensor` on `isa`.
    pub fn new(tensor: Tensor, isa: Supported) -> Self {
        let kernels = match tensor.ty().dense() {
            Ok(dense) => AnyKernels::Dense(dense, isa),
            Err(format) => AnyKernels::Quantized(format.kernels(isa)),
        };
        Self { tensor, scale: 1.0, kernels }
    }

    /// Its weights times `scale`.
    pub fn with_scale(self, scale: f32) -> Self {
        Self { scale, ..self }
    }

    /// Its tensor's name.
    pub fn name(&self) -> &str {
        self.tensor.name()
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.tensor.rows()
    }

    /// Whether tokens can go through at once, rather than one by one.
    fn has_gemm(&self) -> bool {
        matches!(&self.kernels, AnyKernels::Quantized(kernels) if kernels.has_gemm())
    }

    /// Bytes of one row in the file.
    pub fn row_bytes(&self) -> usize {
        self.tensor.row_bytes()
    }

    /// Bytes of the whole matrix in the file.
    pub fn bytes(&self) -> usize {
        self.tensor.data().len()
    }

    /// What a product with one vector reads and multiplies.
    pub fn work(&self) -> Work {
        Work { bytes: self.bytes() as u64, products: (self.rows() * self.tensor.dims()[0]) as u64 }
    }

    /// y = W x for some of the rows, at most [`MAX_ROWS`], and all tokens of `x`: `y` is given a token, a row, and
    /// outputs from there on.
    pub fn multiply(&self, rows: Range<usize>, x: &Inputs, mut y: impl FnMut(usize, usize, &[f32])) {
        let data = self.data(&rows);
        if let (AnyKernels::Quantized(kernels), true) = (&self.kernels, x.in_tiles(self)) {
            let mut room = [0.0; gemm::ROWS];
            let y = |token, row, values: &[f32]| y(token, rows.start + row, self.scaled(values, &mut room));
            let done =
                PANELS.with_borrow_mut(|panels| kernels.gemm(data, rows.len(), x.tiles, x.tokens, panels, y));
            return done.expect(CHECKED);
        }
        let mut products = [0.0; SEVERAL * MAX_ROWS];
        for first in (0..x.tokens).step_by(SEVERAL) {
            let tokens = SEVERAL.min(x.tokens - first);
            let products = &mut products[..tokens * rows.len()];
            match &self.kernels {
                AnyKernels::Dense(dense, isa) => {
                    let x = x.floats[first * x.cols..].chunks_exact(x.cols);
                    let mut each = products.chunks_exact_mut(rows.len()).zip(x);
                    each.try_for_each(|(product, x)| dense.gemv(*isa, data, x, product)).expect(CHECKED);
                }
                AnyKernels::Quantized(kernels) => {
                    let blocks = x.cols / ActivationBlock::LEN;
                    let x = &x.blocks[first * blocks..][..tokens * blocks];
                    kernels.gemv_several(data, x, tokens, products).expect(CHECKED);
                }
            }
            self.apply_scale(products);
            for (token, product) in products.chunks_exact(rows.len()).enumerate() {
                y(first + token, rows.start, product);
            }
        }
    }

    /// As [`multiply`](Self::multiply), of two matrices of one shape, where [both take many tokens](Inputs::in_tiles):
    /// `y` is given the outputs of the same rows of both.
    pub fn multiply_both(
        matrices: [&Self; 2],
        rows: Range<usize>,
        x: &Inputs,
        mut y: impl FnMut(usize, usize, [&[f32]; 2]),
    ) {
        let [a, b] = matrices.map(|matrix| match &matrix.kernels {
            AnyKernels::Quantized(kernels) => (kernels, matrix.data(&rows)),
            AnyKernels::Dense(..) => unreachable!("only quantized matrices take many tokens"),
        });
        let mut room = [[0.0; gemm::ROWS]; 2];
        let y = |token, row, [a, b]: [&[f32]; 2]| {
            let [room_a, room_b] = &mut room;
            y(token, rows.start + row, [matrices[0].scaled(a, room_a), matrices[1].scaled(b, room_b)]);
        };
        let done =
            PANELS.with_borrow_mut(|panels| gemm_together([a, b], rows.len(), x.tiles, x.tokens, panels, y));
        done.expect(CHECKED);
    }

    /// Rows in the file.
    fn data(&self, rows: &Range<usize>) -> &[u8] {
        &self.tensor.data()[rows.start * self.row_bytes()..rows.end * self.row_bytes()]
    }

    /// The weights of one row.
    pub fn row(&self, row: usize, weights: &mut [f32]) {
        let data = self.data(&(row..row + 1));
        match &self.kernels {
            AnyKernels::Dense(dense, _) => dense.widen(data, weights),
            AnyKernels::Quantized(kernels) => kernels.dequantize(data, weights),
        }
        .expect(CHECKED);
        self.apply_scale(weights);
    }

    /// Outputs times the scale, in `room` where that is another number.
    fn scaled<'a>(&self, values: &'a [f32], room: &'a mut [f32; gemm::ROWS]) -> &'a [f32] {
        if self.scale == 1.0 {
            return values;
        }
        let scaled = &mut room[..values.len()];
        scaled.copy_from_slice(values);
        self.apply_scale(scaled);
        scaled
    }

    fn apply_scale(&self, values: &mut [f32]) {
        if self.scale != 1.0 {
            values.iter_mut().for_each(|value| *value *= self.scale);
        }
    }
}

/// What matrices are multiplied with, for some tokens: in f32, and quantized as they need it.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// `[tokens, cols]`
    floats: &'a [f32],
    /// `[tokens, cols / 32]`, or nothing where no matrix takes tokens one by one.
    blocks: &'a [ActivationBlock],
    /// `[⌈tokens / 12⌉, cols / 32]`, or nothing where no matrix takes many at once.
    tiles: &'a [ActivationTile],
    cols: usize,
    tokens: usize,
}

/// Room for quantized inputs.
#[derive(Debug)]
pub struct Quantized {
    blocks: Vec<ActivationBlock>,
    tiles: Vec<ActivationTile>,
    /// Is shown all inputs as they are before, where somebody wants to know.
    pub collector: Option<Collector>,
}

/// What the memory of [`Quantized`] is for.
const ROOM: &str = "quantized activations";

impl Quantized {
    /// For inputs of up to `tokens` tokens of up to `cols` values.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(tokens: usize, cols: usize) -> Result<Self, Error> {
        let tiles = if tokens < MIN_TILE { 0 } else { ActivationTile::count(tokens, cols) };
        let tiles = copies(ROOM, ActivationTile::ZERO, tiles)?;
        Ok(Self { tiles, ..Self::one_by_one(tokens, cols)? })
    }

    /// The same without tiles: every product is, bit for bit, that of its token alone.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn one_by_one(tokens: usize, cols: usize) -> Result<Self, Error> {
        let blocks = tokens.saturating_mul(cols / ActivationBlock::LEN);
        Ok(Self { blocks: copies(ROOM, ActivationBlock::ZERO, blocks)?, tiles: Vec::new(), collector: None })
    }
}

impl<'a> Inputs<'a> {
    /// Quantizes `[tokens, cols]` for `matrices`, which have that many columns. `at_once` tokens decide whether they go
    /// through at once: all of a pass, so that those that are left come out as if no other had been left out.
    pub fn new(
        team: &Team,
        isa: Supported,
        floats: &'a [f32],
        cols: usize,
        room: &'a mut Quantized,
        matrices: &[&Matrix],
        at_once: usize,
    ) -> Self {
        let tokens = floats.len() / cols;
        if let Some(collector) = &mut room.collector {
            collector.add(team, floats, cols, matrices);
        }
        let is_quantized = |matrix: &&Matrix| matches!(matrix.kernels, AnyKernels::Quantized(_));
        let in_tiles =
            at_once >= MIN_TILE && !room.tiles.is_empty() && matrices.iter().any(|matrix| matrix.has_gemm());
        let in_blocks =
            matrices.iter().any(|matrix| is_quantized(matrix) && !(in_tiles && matrix.has_gemm()));
        let per_token = cols / ActivationBlock::LEN;

        let blocks = &mut room.blocks[..if in_blocks { tokens * per_token } else { 0 }];
        if in_blocks {
            team.for_columns(blocks, tokens * per_token, gemm::TOKENS * per_token, |range, mut blocks| {
                let x = &floats[range.start * ActivationBlock::LEN..range.end * ActivationBlock::LEN];
                // One by one: a token's scales depend on no other's.
                for (x, blocks) in x.chunks_exact(cols).zip(blocks.row(0).chunks_exact_mut(per_token)) {
                    quantize_activations(isa, x, blocks).expect(CHECKED);
                }
            });
        }
        let count = if in_tiles { ActivationTile::count(tokens, cols) } else { 0 };
        let tiles = &mut room.tiles[..count];
        if in_tiles {
            team.for_columns(tiles, count, per_token, |range, mut tile| {
                let first = range.start / per_token * gemm::TOKENS;
                let x = &floats[first * cols..tokens.min(first + gemm::TOKENS) * cols];
                quantize_tile(isa, x, tile.row(0)).expect(CHECKED);
            });
        }
        Self { floats, blocks, tiles, cols, tokens }
    }

    /// Those of the token `first` and of all after it, or of whole tiles that have these; and how many tokens are left
    /// out.
    pub fn from(&self, first: usize) -> (Self, usize) {
        let first = if self.tiles.is_empty() { first } else { first / gemm::TOKENS * gemm::TOKENS };
        let chunks = self.cols / ActivationBlock::LEN;
        let blocks = if self.blocks.is_empty() { 0 } else { first * chunks };
        let tiles = if self.tiles.is_empty() { 0 } else { first / gemm::TOKENS * chunks };
        let floats = &self.floats[first * self.cols..];
        let (blocks, tiles) = (&self.blocks[blocks..], &self.tiles[tiles..]);
        (Self { floats, blocks, tiles, tokens: self.tokens - first, ..*self }, first)
    }

    /// Whether `matrix` takes these tokens at once, rather than one by one.
    pub fn in_tiles(&self, matrix: &Matrix) -> bool {
        !self.tiles.is_empty() && matrix.has_gemm()
    }
}
