//! Every cell beside the limits of the machine.
//!
//! Time on a shared machine is not steady, so nothing is measured once: in each of several rounds all
//! limits and all cells have their turn, each for some milliseconds, and what is reported are medians over
//! the rounds. What disturbs the machine for a while disturbs the limits as it does the cells.

use std::time::{Duration, Instant};

use quantloom_kernels::{Format, Isa, IsaError};
use serde::Serialize;

pub use crate::limits::Limit;
use crate::limits::{Probe, by_name, probes};
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

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// On what.
    pub machine: Machine,
    /// Over how many rounds the medians are.
    pub rounds: usize,
    /// The least time that each limit and each cell had in a round.
    pub sample_ms: f64,
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
    /// Multiply-accumulates per byte of blocks: arithmetic intensity.
    pub weights_per_byte: f64,
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
    /// Weights, in 10⁹ per second; of a product these are GMAC/s.
    pub gweights_per_second: Figure,
    /// What the machine doesn't let it exceed.
    pub limit: Limit,
    /// How many 10⁹ weights per second that would be.
    pub limit_gweights_per_second: f64,
    /// The share of the limit that it reaches.
    pub share: f64,
}

/// A rate over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The lower quartile.
    pub low: f64,
    /// The median.
    pub median: f64,
    /// The upper quartile.
    pub high: f64,
}

/// A filter that no cell passes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no cell's name holds `{filter}`; names are like {example}")]
pub struct NoSuchCell {
    filter: String,
    example: String,
}

/// Something that is measured round by round.
struct Series<'w> {
    run: Box<dyn FnMut() + 'w>,
    /// Runs per round; none before the first.
    runs: u32,
    /// The time of one run in each round.
    seconds: Vec<f64>,
}

/// Measures, on the thread that calls.
///
/// # Errors
/// The filter leaves no cell.
pub fn measure(formats: &[&'static Format], options: &Options) -> Result<Report, NoSuchCell> {
    let (rounds, sample) = if options.short { (5, 1) } else { (9, 25) };
    let sample = Duration::from_millis(sample);
    let cells = selected(formats, options)?;

    let weights = Weights::new();
    let (limits, mut limit_series): (Vec<_>, Vec<_>) = probes(&weights)
        .into_iter()
        .map(|Probe { limit, by, work, run }| ((limit, by, work), Series::new(run)))
        .unzip();
    let mut cell_series: Vec<Result<Series, IsaError>> = cells
        .iter()
        .map(|cell| {
            let mut workload = cell.workload(&weights)?;
            Ok(Series::new(Box::new(move || workload.run())))
        })
        .collect();
    for _ in 0..rounds {
        for series in limit_series.iter_mut().chain(cell_series.iter_mut().flatten()) {
            series.sample(sample);
        }
    }

    // The best way is the one whose median is best.
    let best = |limit: Limit| {
        let ways = limits.iter().zip(&limit_series).filter(|((way, ..), _)| *way == limit);
        let figures = ways.map(|((_, by, work), series)| (*by, series.giga_per_second(*work)));
        figures.max_by(|(_, a), (_, b)| a.median.total_cmp(&b.median)).expect("every limit has a way")
    };
    let machine = Machine::here();
    let bandwidths = Place::ALL.map(|place| {
        let working_set = if place == Place::Memory { Weights::stream_bytes() } else { place.bytes() };
        let (by, gb_per_second) = best(Limit::Bandwidth(place));
        let held_by = machine.holder(working_set);
        Bandwidth { place, working_set, held_by, by, gb_per_second }
    });
    let peaks = Isa::ALL.iter().map(|&isa| {
        let missing = isa.missing();
        let outcome = if missing.is_empty() {
            let (by, gmac_per_second) = best(Limit::Peak(isa));
            Outcome::Measured(MeasuredPeak { by, gmac_per_second })
        } else {
            Outcome::NotRun { not_run: format!("this CPU lacks {}", missing.join(", ")) }
        };
        Peak { isa, features: isa.features(), outcome }
    });
    let rows = cells.iter().zip(&cell_series).map(|(cell, series)| {
        let outcome = match series {
            Ok(series) => {
                let bandwidth = best(Limit::Bandwidth(cell.reads_from())).1.median;
                // A conversion multiplies floats, if anything.
                let peak = cell.operation.is_product().then(|| best(Limit::Peak(cell.isa)).1.median);
                Outcome::Measured(beside_limits(cell, series, bandwidth, peak))
            }
            Err(error) => Outcome::NotRun { not_run: error.to_string() },
        };
        Row::new(cell, outcome)
    });
    Ok(Report {
        rounds,
        sample_ms: sample.as_secs_f64() * 1e3,
        bandwidths: bandwidths.into(),
        peaks: peaks.collect(),
        cells: rows.collect(),
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

/// The roofline: what is moved can't exceed the bandwidth, what is multiplied can't exceed the peak.
fn beside_limits(cell: &Cell, series: &Series, bandwidth: f64, peak: Option<f64>) -> Measured {
    let (weights, bytes) = (cell.weights() as f64, cell.traffic() as f64);
    let gweights_per_second = series.giga_per_second(weights);
    let moved = weights / bytes * bandwidth;
    let (limit, limit_gweights_per_second) = match peak {
        Some(peak) if peak < moved => (Limit::Peak(cell.isa), peak),
        _ => (Limit::Bandwidth(cell.reads_from()), moved),
    };
    Measured {
        gb_per_second: series.giga_per_second(bytes),
        gweights_per_second,
        limit,
        limit_gweights_per_second,
        share: gweights_per_second.median / limit_gweights_per_second,
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
            weights_per_byte: cell.weights() as f64 / cell.bytes() as f64,
            outcome,
        }
    }
}

impl<T> Outcome<T> {
    /// What was measured, if anything was.
    pub fn measured(&self) -> Option<&T> {
        match self {
            Self::Measured(measured) => Some(measured),
            Self::NotRun { .. } => None,
        }
    }
}

impl<'w> Series<'w> {
    fn new(run: Box<dyn FnMut() + 'w>) -> Self {
        Self { run, runs: 0, seconds: Vec::new() }
    }

    /// One round.
    fn sample(&mut self, least: Duration) {
        // Others ran in between: this one brings its bytes back to where they belong.
        (self.run)();
        if self.runs == 0 {
            self.runs = 1;
            let mut time = self.time();
            while time < least / 4 {
                self.runs *= 4;
                time = self.time();
            }
            let enough = f64::from(self.runs) * least.as_secs_f64() / time.as_secs_f64();
            self.runs = (enough.ceil() as u32).max(1);
        }
        let time = self.time();
        self.seconds.push(time.as_secs_f64() / f64::from(self.runs));
    }

    fn time(&mut self) -> Duration {
        let started = Instant::now();
        (0..self.runs).for_each(|_| (self.run)());
        started.elapsed()
    }

    /// The rate at which `work` is done by one run, in 10⁹ per second.
    fn giga_per_second(&self, work: f64) -> Figure {
        let mut rates: Vec<f64> = self.seconds.iter().map(|seconds| work / seconds / 1e9).collect();
        rates.sort_unstable_by(f64::total_cmp);
        let [low, median, high] = [0.25, 0.5, 0.75].map(|quantile| {
            let position = quantile * (rates.len() - 1) as f64;
            let (below, above) = (rates[position.floor() as usize], rates[position.ceil() as usize]);
            below + (above - below) * position.fract()
        });
        Figure { low, median, high }
    }
}
