//! How far weights are from those that they were made from.

use quantloom_kernels::Supported;
use rayon::prelude::*;

use super::convert::{JOB, lcm, widen};
use crate::gguf::Tensor;

/// Sums of squares over some weights, in f64.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SquaredError {
    /// Σ (ŵ − w)²
    pub error: f64,
    /// Σ w²
    pub weights: f64,
}

impl SquaredError {
    /// √(Σ (ŵ − w)² / Σ w²): the relative root mean square error.
    pub fn relative_rms(self) -> f64 {
        // Of weights that are all 0 and stayed so.
        if self.error == 0.0 { 0.0 } else { (self.error / self.weights).sqrt() }
    }

    /// Of the weights of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { error: self.error + other.error, weights: self.weights + other.weights }
    }
}

/// How far the weights of `quantized` are from those of `original`, on the threads of the current rayon pool: the same
/// sum on any number of them.
///
/// # Panics
/// The two have different shapes.
pub fn squared_error(original: &Tensor, quantized: &Tensor, isa: Supported) -> SquaredError {
    assert_eq!(original.dims(), quantized.dims(), "both are one tensor");
    let types = [original.ty(), quantized.ty()];
    let blocks = lcm(types[0].block_len(), types[1].block_len());
    let job = (JOB / blocks).max(1) * blocks;
    let jobs = original
        .data()
        .par_chunks(types[0].bytes_for(job))
        .zip(quantized.data().par_chunks(types[1].bytes_for(job)));
    let sums: Vec<SquaredError> = jobs
        .map_init(Default::default, |buffers: &mut [Vec<f32>; 2], (before, after)| {
            let [w, made] = buffers;
            widen(types[0], before, w, isa);
            widen(types[1], after, made, isa);
            w.iter().zip(made).fold(SquaredError::default(), |sum, (&w, &mut made)| {
                let (w, made) = (f64::from(w), f64::from(made));
                sum.plus(SquaredError { error: (made - w) * (made - w), weights: w * w })
            })
        })
        .collect();
    sums.into_iter().fold(SquaredError::default(), SquaredError::plus)
}
