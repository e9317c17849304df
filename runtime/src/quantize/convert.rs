//! Weights from one type to another, on several threads and in bounded memory.
//!
//! A tensor is a stream of weights here: rows are whole blocks in both types, so any cut between blocks of both will
//! do, and where columns have an importance, jobs are cut at the ends of rows besides. Threads convert *jobs* of [`JOB`] weights, each through a buffer of f32 of its own; [`JOBS`] jobs of each thread
//! are written together, while the next are converted.

use std::cell::RefCell;
use std::io::{self, Write};
use std::iter;
use std::mem;
use std::ops::{ControlFlow, Range};

use half::{bf16, f16};
use quantloom_kernels::Supported;
use rayon::ThreadPool;
use rayon::prelude::*;

use crate::Error;
use crate::alloc::room;
use crate::gguf::{Tensor, TensorType};
use crate::threads::pool;

/// Weights that a thread converts at a time, or somewhat fewer, to be whole blocks: 64 KiB of f32, which stay in L2.
pub const JOB: usize = 16 << 10;

/// Jobs of each thread that are written together: so many that waiting for the last of them costs little.
pub const JOBS: usize = 16;

/// The least magnitude that f16 rounds to infinity. Formats keep their scales in f16.
const LIMIT: f32 = 65_520.0;

thread_local! {
    /// A job's weights.
    static WEIGHTS: RefCell<Vec<f32>> = RefCell::default();
}

/// How much the errors of a tensor's columns count.
#[derive(Clone, Copy)]
pub struct Importance<'a> {
    /// `[matrices, cols]`
    pub values: &'a [f32],
    /// Columns of a row.
    pub cols: usize,
    /// Rows of each matrix.
    pub rows: usize,
}

/// Threads and what they need.
pub struct Converter<P> {
    pool: ThreadPool,
    isa: Supported,
    /// What is being written and what is being converted.
    buffers: [Vec<u8>; 2],
    progress: P,
    problem: Option<Problem>,
}

/// Why a conversion ended early.
#[derive(Debug)]
pub enum Problem {
    /// The caller wished so.
    Stopped,
    /// A weight that the new type can't hold.
    Weight { tensor: String, index: usize, weight: f32, ty: TensorType },
}

impl<P: FnMut(usize) -> ControlFlow<()>> Converter<P> {
    /// `progress` is told how many more bytes of the source are done.
    pub fn new(threads: usize, isa: Supported, progress: P) -> Result<Self, Error> {
        let threads = threads.max(1);
        let pool = pool(threads)?;
        // Room for F32, the widest; of it only what is used becomes memory.
        let buffer = || room("weights that are converted", JOBS * threads * JOB * size_of::<f32>());
        let buffers = [buffer()?, buffer()?];
        Ok(Self { pool, isa, buffers, progress, problem: None })
    }

    /// Why [`write`](Self::write) failed, where it is not that `out` did.
    pub fn problem(self) -> Option<Problem> {
        self.problem
    }

    /// Writes the weights of `tensor` as `ty`, where `importance` counts if there is one and `ty` has blocks.
    pub fn write(
        &mut self,
        tensor: &Tensor,
        ty: TensorType,
        importance: Option<Importance>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let Self { pool, isa, buffers: [ready, next], progress, problem } = self;
        let mut stop = |why| {
            *problem = Some(why);
            Err(io::ErrorKind::InvalidData.into())
        };
        let from = tensor.ty();
        let blocks = lcm(from.block_len(), ty.block_len());
        let job = (JOB / blocks).max(1) * blocks;
        let (job_before, job_after) = (from.bytes_for(job), ty.bytes_for(job));
        let jobs = JOBS * pool.current_num_threads();
        ready.clear();
        for (part, source) in tensor.data().chunks(jobs * job_before).enumerate() {
            if ty == from {
                out.write_all(source)?;
            } else {
                next.resize(ty.bytes_for(source.len() / from.block_bytes() * from.block_len()), 0);
                let mut converted = Ok(());
                let written = pool.in_place_scope(|scope| {
                    scope.spawn(|_| {
                        let pairs = next.par_chunks_mut(job_after).zip(source.par_chunks(job_before));
                        converted = pairs.enumerate().try_for_each(|(i, (after, before))| {
                            let first = (part * jobs + i) * job;
                            let importance = importance.map(|importance| (importance, first));
                            convert_job(from, before, ty, after, importance, *isa)
                                .map_err(|(index, weight)| (first + index, weight))
                        });
                    });
                    out.write_all(ready)
                });
                written?;
                if let Err((index, weight)) = converted {
                    return stop(Problem::Weight { tensor: tensor.name().into(), index, weight, ty });
                }
                mem::swap(ready, next);
            }
            if progress(source.len()).is_break() {
                return stop(Problem::Stopped);
            }
        }
        out.write_all(ready)
    }
}

/// Converts whole blocks, of which `importance` says which weight of the tensor is the first; fails with the place and
/// the value of a weight that `to` can't hold.
fn convert_job(
    from: TensorType,
    before: &[u8],
    to: TensorType,
    after: &mut [u8],
    importance: Option<(Importance, usize)>,
    isa: Supported,
) -> Result<(), (usize, f32)> {
    WEIGHTS.with_borrow_mut(|weights| {
        widen(from, before, weights, isa);
        if !matches!(to, TensorType::F32 | TensorType::BF16) {
            let fits = |w: &f32| w.abs() < LIMIT;
            // Without an early end, so that the loop is one of vectors.
            if !weights.iter().fold(true, |all, w| all & fits(w)) {
                let index = weights.iter().position(|w| !fits(w)).expect("one does not fit");
                return Err((index, weights[index]));
            }
        }
        narrow(to, isa, weights, importance, after);
        Ok(())
    })
}

/// Kernels fail only on lengths, and on a format without a quantizer, which no plan has.
const CHECKED: &str = "jobs are whole blocks of both types";

/// `weights` become those of whole blocks.
pub fn widen(ty: TensorType, blocks: &[u8], weights: &mut Vec<f32>, isa: Supported) {
    weights.resize(blocks.len() / ty.block_bytes() * ty.block_len(), 0.0);
    match ty.dense() {
        Ok(dense) => dense.widen(blocks, weights),
        Err(format) => format.kernels(isa).dequantize(blocks, weights),
    }
    .expect(CHECKED);
}

fn narrow(
    ty: TensorType,
    isa: Supported,
    weights: &[f32],
    importance: Option<(Importance, usize)>,
    bytes: &mut [u8],
) {
    fn each<const N: usize>(weights: &[f32], bytes: &mut [u8], convert: impl Fn(f32) -> [u8; N]) {
        bytes.as_chunks_mut().0.iter_mut().zip(weights).for_each(|(number, w)| *number = convert(*w));
    }
    match ty {
        TensorType::F32 => each(weights, bytes, f32::to_le_bytes),
        TensorType::F16 => each(weights, bytes, |w| f16::from_f32(w).to_le_bytes()),
        TensorType::BF16 => each(weights, bytes, |w| bf16::from_f32(w).to_le_bytes()),
        TensorType::Quantized(format) => {
            let kernels = format.kernels(isa);
            match importance {
                None => kernels.quantize(weights, bytes),
                Some((importance, first)) => {
                    importance.pieces(first, weights.len()).try_for_each(|(piece, columns)| {
                        let bytes = &mut bytes[ty.bytes_for(piece.start)..ty.bytes_for(piece.end)];
                        kernels.quantize_weighted(&weights[piece], columns, bytes)
                    })
                }
            }
            .expect(CHECKED);
        }
    }
}

impl<'a> Importance<'a> {
    /// `len` weights from the tensor's `first` on, cut at the ends of rows, each piece with the importance of its columns.
    fn pieces(self, first: usize, len: usize) -> impl Iterator<Item = (Range<usize>, &'a [f32])> {
        let Self { values, cols, rows } = self;
        let mut start = 0;
        iter::from_fn(move || {
            let (row, col) = ((first + start) / cols, (first + start) % cols);
            let piece = start..len.min(start + cols - col);
            start = piece.end;
            (!piece.is_empty()).then(|| (piece.clone(), &values[row / rows * cols + col..][..piece.len()]))
        })
    }
}

/// The least common multiple.
pub fn lcm(a: usize, b: usize) -> usize {
    fn gcd(a: usize, b: usize) -> usize {
        if b == 0 { a } else { gcd(b, a % b) }
    }
    a / gcd(a, b) * b
}
