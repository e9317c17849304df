//! The cells that are measured: format × operation × instruction set × columns, and how much memory an
//! operation works on.

pub mod emulate;
pub mod prove;

use std::fmt;

use quantloom_kernels::{
    ActivationBlock, FORMATS, Format, Isa, IsaError, Kernels, Supported, quantize_activations,
};

/// What a kernel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// One row times one vector.
    Dot,
    /// A matrix times one vector.
    Gemv,
    /// Blocks to floats.
    Dequantize,
    /// Floats to blocks; no instruction set has a variant of its own.
    Quantize,
}

/// One measurement. Displayed it is its name: `q4_0/gemv/avx512_vnni/2048/l2`.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// The block format.
    pub format: &'static Format,
    /// What is done.
    pub operation: Operation,
    /// By which kernels.
    pub isa: Isa,
    /// Weights per row.
    pub columns: usize,
    /// Where the matrix of a `gemv` lies; the others work on one row, in L1.
    pub place: Option<Place>,
}

/// A level of the memory hierarchy, by its name and the bytes of a matrix that is read from there.
pub type Place = (&'static str, usize);

/// A third to half of the L1 and L2 of current cores, and several times the last-level cache of any.
const PLACES: [Place; 3] = [("l1", 16 << 10), ("l2", 384 << 10), ("memory", 192 << 20)];

/// Row lengths of TinyLlama-1.1B: its hidden state and its feed-forward layer. Both hold whole blocks of
/// every format.
const COLUMNS: [usize; 2] = [2048, 5632];

/// Every cell, also of instruction sets that this CPU lacks.
pub fn cells() -> impl Iterator<Item = Cell> {
    FORMATS.iter().flat_map(|&format| {
        let cell = move |operation, isa, columns, place| Cell { format, operation, isa, columns, place };
        let quantize = format.quantize.map(|_| cell(Operation::Quantize, Isa::Scalar, COLUMNS[0], None));
        let kernels = Isa::ALL.iter().flat_map(move |&isa| {
            let dot = COLUMNS.map(|columns| cell(Operation::Dot, isa, columns, None));
            let gemv = PLACES.map(|place| cell(Operation::Gemv, isa, COLUMNS[0], Some(place)));
            let dequantize = cell(Operation::Dequantize, isa, COLUMNS[0], None);
            dot.into_iter().chain(gemv).chain([dequantize])
        });
        kernels.chain(quantize)
    })
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, operation, isa, columns, place } = self;
        write!(f, "{}/{}/{isa}/{columns}", format.name.to_lowercase(), operation.name())?;
        place.map_or(Ok(()), |(name, _)| write!(f, "/{name}"))
    }
}

impl Operation {
    /// As in kernel names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dot => "dot",
            Self::Gemv => "gemv",
            Self::Dequantize => "dequantize",
            Self::Quantize => "quantize",
        }
    }
}

impl Cell {
    /// Rows of the matrix: as many as its place has room for.
    pub fn rows(&self) -> usize {
        self.place.map_or(1, |(_, bytes)| (bytes / self.format.bytes_for(self.columns)).max(1))
    }

    /// Bytes of weights that one run reads or, quantizing, writes.
    pub fn bytes(&self) -> usize {
        self.rows() * self.format.bytes_for(self.columns)
    }

    /// Weights and activations to run on.
    ///
    /// # Errors
    /// This CPU lacks the instruction set.
    pub fn workload(&self) -> Result<Workload, IsaError> {
        let isa = Supported::new(self.isa)?;
        let wave = |i: usize| (i as f32 * 0.7391).sin();
        let weights: Vec<f32> = (0..self.columns).map(wave).collect();
        let mut activations = vec![ActivationBlock::ZERO; self.columns / ActivationBlock::LEN];
        quantize_activations(isa, &weights, &mut activations).expect("whole blocks");
        // Any bytes are blocks. These have scales near 0.01: 0x211F as an f16.
        let row: Vec<u8> =
            [0x1F, 0x21].into_iter().cycle().take(self.format.bytes_for(self.columns)).collect();
        Ok(Workload {
            operation: self.operation,
            kernels: self.format.kernels(isa),
            matrix: row.repeat(self.rows()),
            y: vec![0.0; self.rows()],
            weights,
            activations,
        })
    }
}

/// What one cell works on.
pub struct Workload {
    operation: Operation,
    kernels: Kernels,
    matrix: Vec<u8>,
    activations: Vec<ActivationBlock>,
    weights: Vec<f32>,
    y: Vec<f32>,
}

impl Workload {
    /// Does it once.
    pub fn run(&mut self) {
        let Self { kernels, matrix, activations, weights, y, .. } = self;
        let done = match self.operation {
            Operation::Dot => kernels.dot(matrix, activations).map(|dot| y[0] = dot).is_ok(),
            Operation::Gemv => kernels.gemv(matrix, activations, y).is_ok(),
            Operation::Dequantize => kernels.dequantize(matrix, weights).is_ok(),
            Operation::Quantize => kernels.quantize(weights, matrix).is_ok(),
        };
        assert!(done, "a cell's shapes fit");
    }
}
