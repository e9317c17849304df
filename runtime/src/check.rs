//! Weights that are no finite numbers: the sign of a damaged file, or of a training or a conversion that overflowed.
//!
//! One NaN spoils every logit that it reaches. Looking at all weights takes the time to read the file, too long for each
//! start of a model; so a pass looks at its logits, and the weights are searched where those are no numbers.

use std::fmt;

use quantloom_kernels::Supported;
use rayon::prelude::*;

use crate::Error;
use crate::gguf::{Gguf, Tensor};

/// The first weight of a tensor that is NaN or infinite.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NotFinite {
    /// The tensor.
    pub tensor: String,
    /// Where in it, counted in the order of the file.
    pub index: usize,
    /// NaN or an infinity.
    pub weight: f32,
}

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tensor, index, weight } = self;
        write!(f, "tensor `{}` holds {weight} at index {index}", tensor.escape_debug())
    }
}

/// The tensors of `file` that hold a NaN or an infinity, each with the first, on the threads of the current rayon pool.
pub fn tensors_not_finite(file: &Gguf, isa: Supported) -> Vec<NotFinite> {
    file.tensors().iter().filter_map(|tensor| first_not_finite(tensor, isa)).collect()
}

fn first_not_finite(tensor: &Tensor, isa: Supported) -> Option<NotFinite> {
    /// Weights that a thread looks at at a time, or somewhat fewer, to be whole blocks.
    const JOB: usize = 1 << 20;
    let ty = tensor.ty();
    let job = (JOB / ty.block_len()).max(1) * ty.block_len();
    let jobs = tensor.data().par_chunks(ty.bytes_for(job)).enumerate();
    let first = jobs.find_map_first(|(i, data)| {
        let (index, weight) = match ty.dense() {
            Ok(dense) => dense.first_not_finite(data),
            Err(format) => format.first_not_finite(isa, data),
        }?;
        Some((i * job + index, weight))
    });
    first.map(|(index, weight)| NotFinite { tensor: tensor.name().into(), index, weight })
}

/// Whether all `logits` are numbers, and finite.
pub(crate) fn are_finite(logits: &[f32]) -> bool {
    // By the bits of the exponent, and without an early end, so that the loop is one of vectors.
    const EXPONENT: u32 = 0x7f80_0000;
    logits.iter().fold(true, |all, logit| all & (logit.to_bits() & EXPONENT != EXPONENT))
}

/// Why the logits of a model are no numbers.
pub(crate) fn explain(file: &Gguf, isa: Supported) -> Error {
    let path = file.path().into();
    match tensors_not_finite(file, isa).into_iter().next() {
        Some(weight) => Error::Weight { path, weight },
        None => Error::Model {
            path,
            problem: "its logits are no finite numbers, though all weights are: they are too large for this context, \
                      or damaged"
                .into(),
        },
    }
}
