//! Weights from one type to another, on several threads and in bounded memory.
//!
//! A tensor is a stream of weights here: rows are whole blocks in both types, so any cut between blocks of both will
//! do, and where columns have an importance, jobs are cut at the ends of rows besides. Threads convert *jobs* of [`JOB`] weights, each through a buffer of f32 of its own; [`JOBS`] jobs of each thread
//! are written together, while the next are converted.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Write};
use std::iter;
use std::mem;
use std::ops::{ControlFlow, Range};

use half::{bf16, f16};
use quantloom_kernels::{Format, Supported};
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

/// The least magnitude that f16 rounds to infinity.
const F16_LIMIT: f32 = 65_520.0;

/// The least magnitude that BF16 rounds to infinity: halfway from its largest number, 7f7f, to what would be the next.
const BF16_LIMIT: f32 = f32::from_bits(0x7f7f_8000);

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
    /// By the names of formats: what [`safe_magnitude`] says of them.
    limits: HashMap<&'static str, f32>,
    progress: P,
    problem: Option<Problem>,
}

/// Why a conversion ended early.
#[derive(Debug)]
pub enum Problem {
    /// The caller wished so.
    Stopped,
    /// A weight that is no number, or infinite.
    NotFinite { tensor: String, index: usize, weight: f32 },
    /// A weight that the new type can't hold, and the largest that it can, all others of a block being 0.
    TooLarge { tensor: String, index: usize, weight: f32, ty: TensorType, limit: f32 },
}

impl<P: FnMut(usize) -> ControlFlow<()>> Converter<P> {
    /// `progress` is told how many more bytes of the source are done.
    pub fn new(threads: usize, isa: Supported, progress: P) -> Result<Self, Error> {
        let threads = threads.max(1);
        let pool = pool(threads)?;
        // Room for F32, the widest; of it only what is used becomes memory.
        let buffer = || room("weights that are converted", JOBS * threads * JOB * size_of::<f32>());
        let buffers = [buffer()?, buffer()?];
        Ok(Self { pool, isa, buffers, limits: HashMap::new(), progress, problem: None })
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
        let Self { pool, isa, buffers: [ready, next], limits, progress, problem } = self;
        let mut stop = |why| {
            *problem = Some(why);
            Err(io::ErrorKind::InvalidData.into())
        };
        let from = tensor.ty();
        let limit = match ty {
            TensorType::F32 => f32::INFINITY,
            TensorType::F16 => F16_LIMIT,
            TensorType::BF16 => BF16_LIMIT,
            TensorType::Quantized(format) => {
                *limits.entry(format.name).or_insert_with(|| safe_magnitude(format, *isa))
            }
        };
        let blocks = lcm(from.block_len(), ty.block_len());
        let job = (JOB / blocks).max(1) * blocks;
        let (job_before, job_after) = (from.bytes_for(job), ty.bytes_for(job));
        let jobs = JOBS * pool.current_num_threads();
        ready.clear();
        for (part, source) in tensor.data().chunks(jobs * job_before).enumerate() {
            let check = |(i, job_of): (usize, Result<(), (usize, f32)>)| {
                job_of.map_err(|(index, weight)| ((part * jobs + i) * job + index, weight))
            };
            let mut converted = Ok(());
            if ty == from {
                // Blocks are copied unseen: whether they are good was decided where they were made.
                if ty.dense().is_ok() {
                    let scan =
                        |before| with_weights(from, before, *isa, |weights| unfit(weights, f32::INFINITY));
                    let scanned = source.par_chunks(job_before).map(scan);
                    converted = pool.install(|| scanned.enumerate().try_for_each(check));
                }
                if converted.is_ok() {
                    out.write_all(source)?;
                }
            } else {
                next.resize(ty.bytes_for(source.len() / from.block_bytes() * from.block_len()), 0);
                let written = pool.in_place_scope(|scope| {
                    scope.spawn(|_| {
                        let pairs = next.par_chunks_mut(job_after).zip(source.par_chunks(job_before));
                        let done = pairs.enumerate().map(|(i, (after, before))| {
                            let first = (part * jobs + i) * job;
                            let importance = importance.map(|importance| (importance, first));
                            convert_job(from, before, ty, after, importance, limit, *isa)
                        });
                        converted = done.enumerate().try_for_each(check);
                    });
                    out.write_all(ready)
                });
                written?;
            }
            if let Err((index, weight)) = converted {
                let tensor = tensor.name().into();
                return stop(if weight.is_finite() {
                    let limit = largest_held(ty, weight.is_sign_negative(), limit, *isa);
                    Problem::TooLarge { tensor, index, weight, ty, limit }
                } else {
                    Problem::NotFinite { tensor, index, weight }
                });
            }
            if ty != from {
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
/// the value of a weight that `to` can't hold. Below `limit` it holds all.
fn convert_job(
    from: TensorType,
    before: &[u8],
    to: TensorType,
    after: &mut [u8],
    importance: Option<(Importance, usize)>,
    limit: f32,
    isa: Supported,
) -> Result<(), (usize, f32)> {
    with_weights(from, before, isa, |weights| {
        let fits = unfit(weights, limit);
        match (fits, to) {
            (Err((_, weight)), TensorType::Quantized(format)) if weight.is_finite() => {
                unfit(weights, f32::INFINITY)?;
                narrow(to, isa, weights, importance, after);
                check_blocks(format, isa, weights, importance, limit, after)
            }
            (Err(unfit), _) => Err(unfit),
            (Ok(()), _) => {
                narrow(to, isa, weights, importance, after);
                Ok(())
            }
        }
    })
}

/// Gives `look` the weights of whole blocks.
fn with_weights<R>(ty: TensorType, blocks: &[u8], isa: Supported, look: impl FnOnce(&[f32]) -> R) -> R {
    WEIGHTS.with_borrow_mut(|weights| {
        widen(ty, blocks, weights, isa);
        look(weights)
    })
}

/// The first weight that is no number or has a magnitude of `limit` or more, if there is one.
fn unfit(weights: &[f32], limit: f32) -> Result<(), (usize, f32)> {
    let fits = |w: &f32| w.abs() < limit;
    // Without an early end, so that the loop is one of vectors.
    if weights.iter().fold(true, |all, w| all & fits(w)) {
        return Ok(());
    }
    let index = weights.iter().position(|w| !fits(w)).expect("one does not fit");
    Err((index, weights[index]))
}

/// Checks the blocks with weights of a magnitude of `limit` and more, of which `bytes` were made, and makes those that do
/// not hold their weights in another way.
fn check_blocks(
    format: &'static Format,
    isa: Supported,
    weights: &[f32],
    importance: Option<(Importance, usize)>,
    limit: f32,
    bytes: &mut [u8],
) -> Result<(), (usize, f32)> {
    let blocks = weights.chunks_exact(format.block_len).zip(bytes.chunks_exact_mut(format.block_bytes));
    for (i, (weights, block)) in blocks.enumerate() {
        let first = i * format.block_len;
        let importance = importance.map(|(importance, start)| (importance, start + first));
        if unfit(weights, limit).is_err() && !hold(format, isa, weights, importance, block) {
            let far = |&(_, w): &(usize, &f32)| w.abs();
            let furthest = weights.iter().enumerate().max_by(|a, b| far(a).total_cmp(&far(b)));
            let (index, weight) = furthest.expect("a block has weights");
            return Err((first + index, *weight));
        }
    }
    Ok(())
}

/// Makes a block that holds finite `weights`, if there is one.
fn hold(
    format: &'static Format,
    isa: Supported,
    weights: &[f32],
    importance: Option<(Importance, usize)>,
    block: &mut [u8],
) -> bool {
    let ty = TensorType::Quantized(format);
    is_held(format, isa, weights, block, |weights, block| narrow(ty, isa, weights, importance, block))
        || importance.is_none() && {
            // ggml's rules of one line go beyond the end of a scale where the search, which weights of equal importance
            // ask for as well, stays within.
            let equal = vec![1.0; weights.len()];
            is_held(format, isa, weights, block, |weights, block| {
                format.kernels(isa).quantize_weighted(weights, &equal, block).expect(CHECKED);
            })
        }
}

/// Makes a block of finite `weights`, and says whether it holds them.
///
/// Formats say what they can hold by their scales, minima and codes together; here it shows in the result. Divided by a
/// power of two, so that none is large, the same weights make a block with the same codes and smaller scales. A block that
/// is further from its weights than that one, or is not finite, has met the end of a scale.
fn is_held(
    format: &'static Format,
    isa: Supported,
    weights: &[f32],
    block: &mut [u8],
    make: impl Fn(&[f32], &mut [u8]),
) -> bool {
    /// In squares of the furthest weight: less than a scale's rounding to f16.
    const SLACK: f64 = 1e-7;

    let furthest = weights.iter().fold(0.0_f32, |far, w| far.max(w.abs()));
    // The exponent alone, so that nothing is rounded by it but what vanishes.
    let unit = f32::from_bits(furthest.to_bits() >> 23 << 23).max(f32::MIN_POSITIVE);
    let small: Vec<_> = weights.iter().map(|w| w / unit).collect();
    let mut small_block = vec![0; format.block_bytes];
    make(&small, &mut small_block);
    make(weights, block);
    let error = |block: &[u8], block_unit: f32| {
        let mut made = Vec::new();
        widen(TensorType::Quantized(format), block, &mut made, isa);
        let errors = made
            .iter()
            .zip(weights)
            .map(|(&made, &w)| f64::from(made) / f64::from(block_unit) - f64::from(w) / f64::from(unit));
        errors.map(|error| error * error).sum::<f64>()
    };
    let direct = error(block, unit);
    direct.is_finite() && direct <= 1.001 * error(&small_block, 1.0) + SLACK
}

/// A magnitude below which any weights are held by a block of `format`: the largest f16 number, as scales are f16 in most,
/// or as much less as the format needs.
fn safe_magnitude(format: &'static Format, isa: Supported) -> f32 {
    let holds = |magnitude: f32| {
        let alone = |i| if i == 0 { magnitude } else { 0.0 };
        let blocks: [&dyn Fn(usize) -> f32; 5] =
            [&alone, &|i| -alone(i), &|_| magnitude, &|_| -magnitude, &|i| {
                if i % 2 == 0 { magnitude } else { -magnitude }
            }];
        let mut bytes = vec![0; format.block_bytes];
        blocks.into_iter().all(|weight| {
            let weights: Vec<_> = (0..format.block_len).map(weight).collect();
            is_held(format, isa, &weights, &mut bytes, |weights, block| {
                narrow(TensorType::Quantized(format), isa, weights, None, block);
            })
        })
    };
    let powers = iter::successors(Some(F16_LIMIT), |magnitude| Some(magnitude / 2.0));
    // Just below the limit, as that itself is where f16 ends.
    powers.take(64).find(|magnitude| holds(magnitude.next_down())).unwrap_or(0.0)
}

/// The largest magnitude that `ty` holds, beside zeros in a block, to some three digits. Below `limit` it holds all.
fn largest_held(ty: TensorType, is_negative: bool, limit: f32, isa: Supported) -> f32 {
    /// Bits of the mantissa that are left alone. Each that is looked for takes up to four blocks for each magnitude tried, and
    /// quantizers with a codebook take their time.
    const LEFT: u32 = 11;
    /// So many close together are tried, as it is chance whether one of them or the block of small weights that it is compared
    /// with meets the better rounding of a scale.
    const CLOSE: u16 = 6;

    let format = match ty {
        TensorType::F32 => return f32::MAX,
        TensorType::F16 => return f16::MAX.to_f32(),
        TensorType::BF16 => return bf16::MAX.to_f32(),
        TensorType::Quantized(format) => format,
    };
    let mut weights = vec![0.0; format.block_len];
    let mut block = vec![0; format.block_bytes];
    let mut largest = limit / 2.0;
    let mut holds = |magnitude: f32| {
        (0..CLOSE).any(|step| {
            let magnitude = magnitude * (1.0 - f32::from(step) / 4096.0);
            weights[0] = if is_negative { -magnitude } else { magnitude };
            let is_held = hold(format, isa, &weights, None, &mut block);
            if is_held {
                largest = largest.max(magnitude);
            }
            is_held
        })
    };
    // Positive numbers are in the order of their bits.
    let (mut low, mut high) = ((limit / 2.0).to_bits() >> LEFT, f32::MAX.to_bits() >> LEFT);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if holds(f32::from_bits(middle << LEFT)) { low = middle } else { high = middle - 1 }
    }
    largest
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
