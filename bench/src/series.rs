//! Time that is taken round by round.

use std::time::{Duration, Instant};

use serde::Serialize;

/// How long to measure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Effort {
    /// Times that everything has its turn.
    pub rounds: usize,
    /// Times that the clock is read in a turn. A thread that is made to wait spoils one of them.
    pub batches: usize,
    /// The least time between two looks at the clock: enough that looking costs nothing.
    pub batch_us: u64,
}

/// Something that is measured round by round.
pub(crate) struct Series<'w> {
    run: Box<dyn FnMut() + 'w>,
    /// Runs per batch.
    runs: u32,
    /// The time of one run in each round.
    seconds: Vec<f64>,
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

impl<'w> Series<'w> {
    pub fn new(run: Box<dyn FnMut() + 'w>) -> Self {
        Self { run, runs: 1, seconds: Vec::new() }
    }

    /// One round.
    pub fn turn(&mut self, effort: Effort) {
        let least = Duration::from_micros(effort.batch_us);
        // Others ran in between: this one brings its bytes back to where they belong.
        (self.run)();
        let mut batches = Vec::with_capacity(effort.batches);
        while batches.len() < effort.batches {
            let started = Instant::now();
            (0..self.runs).for_each(|_| (self.run)());
            let time = started.elapsed();
            if time < least {
                self.runs *= 2;
                batches.clear();
            } else {
                batches.push(time.as_secs_f64() / f64::from(self.runs));
            }
        }
        batches.sort_unstable_by(f64::total_cmp);
        self.seconds.push(quantile(&batches, 0.5));
    }

    /// The rate at which `work` is done by one run, in 10⁹ per second.
    pub fn giga_per_second(&self, work: f64) -> Figure {
        let mut rates: Vec<f64> = self.seconds.iter().map(|seconds| work / seconds / 1e9).collect();
        rates.sort_unstable_by(f64::total_cmp);
        let [low, median, high] = [0.25, 0.5, 0.75].map(|share| quantile(&rates, share));
        Figure { low, median, high }
    }
}

/// The value that a share of these, sorted, lies below.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
    below + (above - below) * position.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_the_rounds() {
        for (seconds, [low, median, high]) in [
            (&[0.5][..], [2.0, 2.0, 2.0]),
            (&[1.0, 0.25, 0.5], [1.5, 2.0, 3.0]),
            (&[0.1, 0.2, 0.4, 0.5, 1.0], [2.0, 2.5, 5.0]),
        ] {
            let series = Series { run: Box::new(|| ()), runs: 1, seconds: seconds.to_vec() };
            assert_eq!(series.giga_per_second(1e9), Figure { low, median, high }, "{seconds:?}");
        }
    }

    /// Batches are made long enough to be timed, and none that was shorter counts.
    #[test]
    fn a_turn_is_one_number() {
        let mut calls = 0;
        let mut series = Series::new(Box::new(|| calls += 1));
        let effort = Effort { rounds: 2, batches: 3, batch_us: 50 };
        (0..effort.rounds).for_each(|_| series.turn(effort));
        let (runs, seconds) = (series.runs, series.seconds.clone());
        drop(series);
        assert_eq!(seconds.len(), 2);
        assert!(runs > 1 && calls >= 6 * runs, "{calls} calls, {runs} at a time");
        assert!(seconds.iter().all(|&time| time > 0.0 && time * f64::from(runs) >= 50e-6), "{seconds:?}");
    }
}
