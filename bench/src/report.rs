//! Every cell beside the limits of the machine.
//!
//! Time on a shared machine is not steady, so nothing is measured once: in each of several rounds all
//! limits and all cells have their turn, some batches long. What counts of a turn is its median batch, and
//! what is reported are medians over the rounds. Whatever slows the machine for a while slows the limits as it
//! does the cells.

use quantloom_kernels::{Format, Isa};
use serde::Serialize;

pub use crate::limits::Limit;
use crate::limits::{Probe, best, by_name, probes};
use crate::series::Series;
pub use crate::series::{Effort, Figure};
use crate::{Cache, Cell, Machine, Operation, Place, Weights, cells};

mod command;
mod markdown;
mod plot;

pub use command::main;

/// What to measure.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Measure for a short time only: good for seeing that it works.
    pub short: bool,
    /// Only cells whose name holds this.
    pub filter: Option<String>,
}

/// Half a minute for the formats of this project.
const FULL: Effort = Effort { rounds: 9, batches: 15, batch_us: 1000 };
/// A few seconds.
const SHORT: Effort = Effort { rounds: 3, batches: 5, batch_us: 100 };

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// On what.
    pub machine: Machine,
    /// For how long.
    pub effort: Effort,
    /// What one thread reads from each place, in GB/s.
    pub bandwidths: Vec<Bandwidth>,
    /// What one thread multiplies and accumulates, in GMAC/s.
    pub peaks: Vec<Peak>,
    /// Every cell.
    pub cells: Vec<Row>,
}

/// A place and how fast it is read.
#[derive(Clone, Debug, Serialize)]
pub struct Bandwidth {
    /// The place.
    pub place: Place,
    /// Bytes that are read over and over.
    pub working_set: usize,
    /// The nearest cache that has room for them; `null` where none has, or the CPU doesn't tell.
    pub held_by: Option<Cache>,
    /// The best of several ways.
    pub by: &'static str,
    /// GB/s.
    pub gb_per_second: Figure,
}

/// An instruction set and what it can multiply.
#[derive(Clone, Debug, Serialize)]
pub struct Peak {
    /// The instruction set.
    #[serde(serialize_with = "by_name")]
    pub isa: Isa,
    /// The CPU features that it needs.
    pub features: &'static [&'static str],
    /// How fast it is here.
    #[serde(flatten)]
    pub outcome: Outcome<MeasuredPeak>,
}

/// A peak.
#[derive(Clone, Debug, Serialize)]
pub struct MeasuredPeak {
    /// The best of several ways.
    pub by: &'static str,
    /// GMAC/s.
    pub gmac_per_second: Figure,
}

/// A cell.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// `q4_0/gemv/avx512_vnni/2048/l2`
    pub name: String,
    /// The format's name.
    pub format: &'static str,
    /// What is done.
    pub operation: Operation,
    /// By which kernels.
    #[serde(serialize_with = "by_name")]
    pub isa: Isa,
    /// Where the weights lie.
    pub place: Place,
    /// Rows of the matrix.
    pub rows: usize,
    /// Weights per row.
    pub columns: usize,
    /// What is done per byte of blocks: the arithmetic intensity of a product.
    pub work_per_byte: f64,
    /// Of its rate: `GMAC/s`, `Gweights/s`.
    pub unit: &'static str,
    /// How fast it is here.
    #[serde(flatten)]
    pub outcome: Outcome<Measured>,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Outcome<T> {
    /// A measurement.
    Measured(T),
    /// None.
    NotRun {
        /// Why.
        not_run: String,
    },
}

/// How fast a cell is, and how fast it could be.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Blocks, and of a conversion floats, in GB/s.
    pub gb_per_second: Figure,
    /// What is done, in the unit of the row.
    pub rate: Figure,
    /// What the machine doesn't let it exceed.
    pub limit: Limit,
    /// The rate at that limit.
    pub at_most: f64,
    /// The rate by the rate at the limit.
    pub share: f64,
}

/// A filter that no cell passes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no cell's name holds `{filter}`; names are like {example}")]
pub struct NoSuchCell {
    filter: String,
    example: String,
}

/// Measures, on the thread that calls.
///
/// # Errors
/// The filter leaves no cell.
pub fn measure(formats: &[&'static Format], options: &Options) -> Result<Report, NoSuchCell> {
    let effort = if options.short { SHORT } else { FULL };
    let cells = selected(formats, options)?;

    let weights = Weights::new();
    let mut probes = probes(&weights);
    let mut cells: Vec<(Cell, Option<Series>)> = cells
        .into_iter()
        .map(|cell| {
            let workload = cell.workload(&weights).ok();
            (cell, workload.map(|mut workload| Series::new(Box::new(move || workload.run()))))
        })
        .collect();
    for _ in 0..effort.rounds {
        probes.iter_mut().for_each(|probe| probe.series.turn(effort));
        cells.iter_mut().flat_map(|(_, series)| series).for_each(|series| series.turn(effort));
    }

    let machine = Machine::here();
    Ok(Report {
        effort,
        bandwidths: Place::ALL.map(|place| Bandwidth::new(place, &probes, &machine)).into(),
        peaks: Isa::ALL.iter().map(|&isa| Peak::new(isa, &probes)).collect(),
        cells: cells
            .iter()
            .map(|(cell, series)| {
                let measured = series.as_ref().map(|series| Measured::new(cell, series, &probes));
                Row::new(cell, Outcome::of(cell.isa, measured))
            })
            .collect(),
        machine,
    })
}

/// The cells that the filter keeps.
fn selected(formats: &[&'static Format], options: &Options) -> Result<Vec<Cell>, NoSuchCell> {
    let mut cells = cells(formats);
    if let Some(filter) = &options.filter {
        let example = cells.first().map(Cell::to_string).unwrap_or_default();
        cells.retain(|cell| cell.to_string().contains(filter));
        if cells.is_empty() {
            return Err(NoSuchCell { filter: filter.clone(), example });
        }
    }
    Ok(cells)
}

impl Bandwidth {
    fn new(place: Place, probes: &[Probe], machine: &Machine) -> Self {
        let working_set = if place == Place::Memory { Weights::stream_bytes() } else { place.bytes() };
        let (by, gb_per_second) = best(probes, Limit::Bandwidth(place)).expect("plain loads are everywhere");
        Self { place, working_set, held_by: machine.holder(working_set), by, gb_per_second }
    }
}

impl Peak {
    fn new(isa: Isa, probes: &[Probe]) -> Self {
        let best = best(probes, Limit::Peak(isa));
        let measured = best.map(|(by, gmac_per_second)| MeasuredPeak { by, gmac_per_second });
        let outcome = Outcome::of(isa, measured);
        Self { isa, features: isa.features(), outcome }
    }
}

impl Measured {
    /// Under the roofline: what is moved can't exceed the bandwidth, what is multiplied not the peak.
    fn new(cell: &Cell, series: &Series, probes: &[Probe]) -> Self {
        let (work, bytes) = (cell.work() as f64, cell.traffic() as f64);
        let rate = series.giga_per_second(work);
        let at_limit = |limit: Limit, work_per_unit: f64| {
            let (_, figure) = best(probes, limit).expect("what a cell runs with was measured");
            (limit, work_per_unit * figure.median)
        };
        let bandwidth = at_limit(Limit::Bandwidth(cell.reads_from()), work / bytes);
        let peak = cell.operation.is_product().then(|| at_limit(Limit::Peak(cell.isa), 1.0));
        let (limit, at_most) = peak.filter(|peak| peak.1 < bandwidth.1).unwrap_or(bandwidth);
        Self {
            gb_per_second: series.giga_per_second(bytes),
            rate,
            limit,
            at_most,
            share: rate.median / at_most,
        }
    }
}

impl Row {
    fn new(cell: &Cell, outcome: Outcome<Measured>) -> Self {
        Self {
            name: cell.to_string(),
            format: cell.format.name,
            operation: cell.operation,
            isa: cell.isa,
            place: cell.reads_from(),
            rows: cell.rows(),
            columns: cell.columns,
            work_per_byte: cell.work() as f64 / cell.bytes() as f64,
            unit: cell.operation.unit(),
            outcome,
        }
    }
}

impl<T> Outcome<T> {
    /// What was measured with an instruction set; `None` where this CPU lacks it.
    fn of(isa: Isa, measured: Option<T>) -> Self {
        match measured {
            Some(measured) => Self::Measured(measured),
            None => Self::NotRun { not_run: format!("this CPU lacks {}", isa.missing().join(", ")) },
        }
    }

    /// What was measured, if anything was.
    pub fn measured(&self) -> Option<&T> {
        match self {
            Self::Measured(measured) => Some(measured),
            Self::NotRun { .. } => None,
        }
    }
}
