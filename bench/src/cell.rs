//! What is measured, and on what it works.

use std::fmt;

use quantloom_kernels::gemm::{self, ActivationTile, Panels};
use quantloom_kernels::{ActivationBlock, Format, Isa, IsaError, Kernels, Supported, quantize_activations};
use serde::Serialize;

use crate::Weights;

/// What a kernel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// One row times one vector.
    Dot,
    /// A matrix times one vector.
    Gemv,
    /// A matrix times many vectors.
    Gemm,
    /// Blocks to floats.
    Dequantize,
    /// Floats to blocks; no instruction set has a variant of its own.
    Quantize,
}

/// A level of the memory hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The first-level data cache.
    L1,
    /// The second-level cache.
    L2,
    /// Main memory.
    Memory,
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
    /// Where the matrix of a `gemv` lies. A `gemm` reads 64 rows from memory, the others one, in L1.
    pub place: Option<Place>,
}

/// Row lengths of TinyLlama-1.1B: its hidden state and its feed-forward layer. Both hold whole blocks of
/// every format of GGUF.
const COLUMNS: [usize; 2] = [2048, 5632];

/// Vectors of a `gemm`: a prompt of some length, in whole tiles.
const TOKENS: usize = 16 * gemm::TOKENS;

/// Every cell of these formats, also of instruction sets that this CPU lacks.
pub fn cells(formats: &[&'static Format]) -> Vec<Cell> {
    formats.iter().flat_map(|&format| cells_of(format)).collect()
}

fn cells_of(format: &'static Format) -> Vec<Cell> {
    use Operation::{Dequantize, Dot, Gemm, Gemv, Quantize};
    let [short, long] = COLUMNS.map(|columns| columns.next_multiple_of(format.block_len));
    let cell = |operation, isa, columns, place| Cell { format, operation, isa, columns, place };
    let mut cells = Vec::new();
    for &isa in Isa::ALL {
        cells.extend([short, long].map(|columns| cell(Dot, isa, columns, None)));
        cells.extend(Place::ALL.map(|place| cell(Gemv, isa, short, Some(place))));
        // Panels don't take scales of less than 16 weights.
        cells.extend(format.panel.map(|_| cell(Gemm, isa, short, None)));
        cells.push(cell(Dequantize, isa, short, None));
    }
    cells.extend(format.quantize.map(|_| cell(Quantize, Isa::Scalar, short, None)));
    cells
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, operation, isa, columns, place } = self;
        write!(f, "{}/{}/{isa}/{columns}", format.name.to_lowercase(), operation.name())?;
        place.map_or(Ok(()), |place| write!(f, "/{}", place.name()))
    }
}

impl Operation {
    /// As in kernel names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dot => "dot",
            Self::Gemv => "gemv",
            Self::Gemm => "gemm",
            Self::Dequantize => "dequantize",
            Self::Quantize => "quantize",
        }
    }

    /// Of its rate, 10⁹ per second.
    pub fn unit(self) -> &'static str {
        if self.is_product() { "GMAC/s" } else { "Gweights/s" }
    }

    /// Whether weights are multiplied rather than converted.
    pub fn is_product(self) -> bool {
        matches!(self, Self::Dot | Self::Gemv | Self::Gemm)
    }
}

impl Place {
    /// All of them, the nearest first.
    pub const ALL: [Self; 3] = [Self::L1, Self::L2, Self::Memory];

    /// As in the names of cells.
    pub fn name(self) -> &'static str {
        match self {
            Self::L1 => "l1",
            Self::L2 => "l2",
            Self::Memory => "memory",
        }
    }

    /// Bytes of weights that are read at a time: a third to half of the L1 and L2 of current cores. Of
    /// memory it is a window, always another one: see [`Weights`].
    pub fn bytes(self) -> usize {
        match self {
            Self::L1 => 16 << 10,
            Self::L2 => 384 << 10,
            Self::Memory => 2 << 20,
        }
    }
}

impl Cell {
    /// Rows of the matrix: as many as its place has room for; of a `gemm` the panels that share their tiles.
    pub fn rows(&self) -> usize {
        match (self.operation, self.place) {
            (Operation::Gemm, _) => 64,
            (_, Some(place)) => (place.bytes() / self.format.bytes_for(self.columns)).max(1),
            (_, None) => 1,
        }
    }

    /// Weights of one run.
    pub fn weights(&self) -> usize {
        self.rows() * self.columns
    }

    /// What one run does, in the unit of its rate: products accumulated, or weights converted.
    pub fn work(&self) -> usize {
        let vectors = if self.operation == Operation::Gemm { TOKENS } else { 1 };
        self.weights() * vectors
    }

    /// Bytes of the blocks that one run reads or, quantizing, writes.
    pub fn bytes(&self) -> usize {
        self.rows() * self.format.bytes_for(self.columns)
    }

    /// Bytes that one run has to move: the blocks, and of a conversion the floats. The activations of a
    /// product are not counted: all rows share them.
    pub fn traffic(&self) -> usize {
        let floats = if self.operation.is_product() { 0 } else { self.weights() * size_of::<f32>() };
        self.bytes() + floats
    }

    /// Where the weights lie; those of a `gemm` are read from memory, which takes little of its time.
    pub fn reads_from(&self) -> Place {
        self.place.unwrap_or(if self.operation == Operation::Gemm { Place::Memory } else { Place::L1 })
    }

    /// What it works on.
    ///
    /// # Errors
    /// This CPU lacks the instruction set.
    pub fn workload<'w>(&self, weights: &'w Weights) -> Result<Workload<'w>, IsaError> {
        let isa = Supported::new(self.isa)?;
        // What is read is made now, not while it is measured.
        weights.read(self.reads_from(), 0);
        let floats: Vec<f32> = (0..self.columns).map(|i| (i as f32 * 0.7391).sin()).collect();
        let mut activations = vec![ActivationBlock::ZERO; self.columns / ActivationBlock::LEN];
        quantize_activations(isa, &floats, &mut activations).expect("whole blocks");
        Ok(Workload {
            cell: *self,
            kernels: self.format.kernels(isa),
            weights,
            blocks: vec![0; if self.operation == Operation::Quantize { self.bytes() } else { 0 }],
            y: vec![0.0; self.rows()],
            tiles: if self.operation == Operation::Gemm { tiles(isa, &floats) } else { Vec::new() },
            panels: Panels::default(),
            floats,
            activations,
        })
    }
}

/// The same activations for every token.
fn tiles(isa: Supported, floats: &[f32]) -> Vec<ActivationTile> {
    let x = floats.repeat(gemm::TOKENS);
    let mut tile = vec![ActivationTile::ZERO; ActivationTile::count(gemm::TOKENS, floats.len())];
    gemm::quantize_tile(isa, &x, &mut tile).expect("whole tiles");
    tile.repeat(TOKENS / gemm::TOKENS)
}

/// What one cell works on.
pub struct Workload<'w> {
    cell: Cell,
    kernels: Kernels,
    weights: &'w Weights,
    /// What the quantizer writes.
    blocks: Vec<u8>,
    activations: Vec<ActivationBlock>,
    floats: Vec<f32>,
    tiles: Vec<ActivationTile>,
    panels: Panels,
    y: Vec<f32>,
}

impl Workload<'_> {
    /// Does it once.
    pub fn run(&mut self) {
        let Self { cell, kernels, weights, blocks, activations, floats, tiles, panels, y } = self;
        let read = || weights.read(cell.reads_from(), cell.bytes());
        let done = match cell.operation {
            Operation::Dot => kernels.dot(read(), activations).map(|dot| y[0] = dot).is_ok(),
            Operation::Gemv => kernels.gemv(read(), activations, y).is_ok(),
            Operation::Gemm => {
                let mut sum = 0.0;
                let add = |_, _, values: &[f32]| sum += values[0];
                let done = kernels.gemm(read(), cell.rows(), tiles, TOKENS, panels, add).is_ok();
                y[0] = sum;
                done
            }
            Operation::Dequantize => kernels.dequantize(read(), floats).is_ok(),
            Operation::Quantize => kernels.quantize(floats, blocks).is_ok(),
        };
        assert!(done, "a cell's shapes fit");
    }
}
