//! What a pass's phases take, and how near each comes to what the machine allows.

use std::fmt::{self, Display};

use quantloom_kernels::limits::MultiplyAccumulate;
use serde::Serialize;

use super::best;
use crate::profile::{Phase, Profile, Work};
use crate::table::{self, Align::*};
use crate::threads::Team;
use crate::{Error, KvCache, Model};

/// The phases of some passes.
#[derive(Clone, Debug, Serialize)]
pub struct Profiled {
    /// What was run.
    pub name: &'static str,
    /// Tokens of all passes.
    pub tokens: usize,
    /// In the order of a pass.
    pub phases: Vec<PhaseReport>,
}

/// One phase in all layers.
#[derive(Clone, Debug, Serialize)]
pub struct PhaseReport {
    /// Its name.
    pub name: &'static str,
    /// Time per token.
    pub ms_per_token: f64,
    /// Its part of the time of all phases.
    pub share: f64,
    /// Bytes of weights, keys and values read per second, each once a pass; 0 where there are none.
    pub bytes_per_second: f64,
    /// Weights multiplied per second.
    pub products_per_second: f64,
    /// The time that reading or multiplying takes at the least, whichever takes longer, by the time it took; `None`
    /// where a phase does neither, or multiplies floats more than it reads.
    pub share_of_limit: Option<f64>,
}

/// What the model's threads do at the most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes per second.
    pub read: f64,
    /// 8-bit products per second.
    pub multiply: f64,
}

impl Profiled {
    /// Holds `profile`, of passes over `tokens` tokens in all that are the last in `cache`, as many in each, against the
    /// limits.
    pub fn new(
        name: &'static str,
        model: &Model,
        profile: &Profile,
        tokens: usize,
        cache: &KvCache,
        limits: Limits,
    ) -> Self {
        let total: f64 = Phase::ALL.iter().map(|&phase| profile.time(phase).as_secs_f64()).sum();
        // On average.
        let context = cache.len() - tokens / 2;
        let phase = |phase| {
            // A clock may tell the same time twice.
            let seconds = profile.time(phase).as_secs_f64().max(1e-9);
            let passes = profile.passes();
            let Work { bytes, products } = model.work(phase, cache, context, tokens / passes);
            let [bytes, products] = [bytes, products].map(|work| work as f64 * passes as f64);
            // What attention multiplies is floats.
            let is_unlimited = phase == Phase::Attention && passes < tokens;
            let least = (bytes / limits.read).max(products / limits.multiply);
            PhaseReport {
                name: phase.name(),
                ms_per_token: seconds * 1e3 / tokens as f64,
                share: seconds / total,
                bytes_per_second: bytes / seconds,
                products_per_second: products / seconds,
                share_of_limit: (least > 0.0 && !is_unlimited).then_some(least / seconds),
            }
        };
        Self { name, tokens, phases: Phase::ALL.into_iter().map(phase).collect() }
    }
}

impl Display for Profiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.name)?;
        writeln!(f)?;
        let header = ["phase", "ms/token", "share", "GB/s", "GMAC/s", "of limit"];
        let rows = self.phases.iter().map(|phase| {
            let giga = |rate: f64| if rate > 0.0 { format!("{:.1}", rate / 1e9) } else { String::new() };
            [
                phase.name.into(),
                format!("{:.3}", phase.ms_per_token),
                format!("{:.0} %", phase.share * 100.0),
                giga(phase.bytes_per_second),
                giga(phase.products_per_second),
                phase.share_of_limit.map_or(String::new(), |share| format!("{:.0} %", share * 100.0)),
            ]
        });
        table::markdown(f, [Left, Right, Right, Right, Right, Right], header, rows)
    }
}

/// 8-bit products per second of all the model's threads, with nothing to load: of several ways the median of the best.
///
/// # Errors
/// Threads can't be started.
pub fn multiply_peak(model: &Model, rounds: usize) -> Result<f64, Error> {
    /// Calls that a thread claims at once, some 100 µs of work, and how many of these there are for each.
    const CALLS: usize = 32;
    const CHUNKS: usize = 16;
    let team = Team::new(model.threads(), || ())?;
    let chunks = CHUNKS * model.threads();
    Ok(best(&MultiplyAccumulate::ways(model.isa()), rounds, |way| {
        team.run(chunks, |_| (0..CALLS).for_each(|_| way.run()));
        chunks * CALLS * way.products()
    }))
}
