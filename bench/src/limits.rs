//! The limits of the machine, measured by one thread: how fast it reads from each place, and how many
//! 8-bit products it accumulates with each instruction set.
//!
//! Kernels are held against these: of a cell with intensity I (multiply-accumulates per byte of weights)
//! the limit is min(peak, I × bandwidth), the roofline.

use std::fmt;

use quantloom_kernels::limits::{MultiplyAccumulate, Read};
use quantloom_kernels::{Isa, Supported};
use serde::Serialize;

use crate::series::{Figure, Series};
use crate::{Place, Weights};

/// What a kernel can't exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "of", rename_all = "lowercase")]
pub enum Limit {
    /// Bytes read from a place.
    Bandwidth(Place),
    /// 8-bit products accumulated with the instructions of an instruction set.
    Peak(#[serde(serialize_with = "by_name")] Isa),
}

/// One way to come near a limit.
pub(crate) struct Probe<'w> {
    pub limit: Limit,
    /// The way, in words.
    pub by: &'static str,
    /// Bytes read, or products accumulated, by one call.
    pub work: f64,
    pub series: Series<'w>,
}

/// Every way that this CPU has.
pub(crate) fn probes(weights: &Weights) -> Vec<Probe<'_>> {
    let mut probes = Vec::new();
    for isa in Supported::all() {
        for read in Read::ways(isa) {
            probes.extend(Place::ALL.map(|place| bandwidth(weights, place, read)));
        }
        probes.extend(MultiplyAccumulate::ways(isa).into_iter().map(|way| Probe {
            limit: Limit::Peak(isa.isa()),
            by: way.by(),
            work: way.products() as f64,
            series: Series::new(Box::new(move || way.run())),
        }));
    }
    probes
}

/// The way to a limit whose median is best, and how fast it is; `None` where no way is.
pub(crate) fn best(probes: &[Probe], limit: Limit) -> Option<(&'static str, Figure)> {
    let ways = probes.iter().filter(|probe| probe.limit == limit);
    ways.map(|probe| (probe.by, probe.series.giga_per_second(probe.work)))
        .max_by(|(_, a), (_, b)| a.median.total_cmp(&b.median))
}

/// Bytes that one call of a probe looks at: where they are few, the cost of a call, some ten cycles,
/// vanishes in many passes.
const BYTES_PER_CALL: usize = 1 << 20;

fn bandwidth(weights: &Weights, place: Place, read: Read) -> Probe<'_> {
    let passes = BYTES_PER_CALL.div_ceil(place.bytes());
    let work = (passes * place.bytes()) as f64;
    let run = Box::new(move || read.run(weights.read(place, place.bytes()), passes));
    Probe { limit: Limit::Bandwidth(place), by: read.by(), work, series: Series::new(run) }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bandwidth(place) => write!(f, "{} bandwidth", place.name()),
            Self::Peak(isa) => write!(f, "{isa} peak"),
        }
    }
}

pub(crate) fn by_name<S: serde::Serializer>(isa: &Isa, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(isa.name())
}
