//! Where the time of forward passes goes.

use std::ops::Add;
use std::time::{Duration, Instant};

/// A part of a forward pass that all threads do together, or the caller alone between two of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Token embeddings, and the angles of their positions.
    Embedding,
    /// A norm, and its output quantized.
    Norm,
    /// Queries, keys and values.
    QueryKeyValue,
    /// Queries and keys rotated, keys and values stored.
    Cache,
    /// Attention.
    Attention,
    /// The input of the next matrix quantized.
    Quantize,
    /// The output matrix of attention.
    AttentionOutput,
    /// silu(gate) · up.
    GateUp,
    /// The feed-forward network's second matrix.
    Down,
    /// The output matrix.
    Logits,
}

/// The time of each phase, summed over layers and passes.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    times: [Duration; Phase::ALL.len()],
    passes: usize,
}

impl Phase {
    /// In the order of a pass.
    pub const ALL: [Self; 10] = [
        Self::Embedding,
        Self::Norm,
        Self::QueryKeyValue,
        Self::Cache,
        Self::Attention,
        Self::Quantize,
        Self::AttentionOutput,
        Self::GateUp,
        Self::Down,
        Self::Logits,
    ];

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding, angles",
            Self::Norm => "norm, quantize",
            Self::QueryKeyValue => "q, k, v",
            Self::Cache => "rotate, store",
            Self::Attention => "attention",
            Self::Quantize => "quantize",
            Self::AttentionOutput => "attention output",
            Self::GateUp => "gate · up",
            Self::Down => "down",
            Self::Logits => "logits",
        }
    }
}

impl Profile {
    /// The time of a phase in all passes.
    pub fn time(&self, phase: Phase) -> Duration {
        self.times[phase as usize]
    }

    /// Passes.
    pub fn passes(&self) -> usize {
        self.passes
    }
}

/// Bytes that a phase reads, and products that it computes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Work {
    pub bytes: u64,
    pub products: u64,
}

impl Add for Work {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, products: self.products + other.products }
    }
}

/// Gives the time since the last phase to the one that just ended, where somebody wants to know.
pub(crate) struct Clock<'p>(Option<(&'p mut Profile, Instant)>);

impl<'p> Clock<'p> {
    /// Starts a pass.
    pub fn start(profile: Option<&'p mut Profile>) -> Self {
        Self(profile.map(|profile| {
            profile.passes += 1;
            (profile, Instant::now())
        }))
    }

    /// `phase` ended.
    pub fn end(&mut self, phase: Phase) {
        if let Some((profile, last)) = &mut self.0 {
            let now = Instant::now();
            profile.times[phase as usize] += now - *last;
            *last = now;
        }
    }
}
