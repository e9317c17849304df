//! Figures from scores of single tokens, by llama.cpp's formulas.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::Chunks;

/// A value that a sample estimates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Its standard error; NaN for a sample of one.
    pub error: f64,
}

impl Estimate {
    /// e to the power of it.
    fn exp(self) -> Self {
        let value = self.value.exp();
        Self { value, error: value * self.error }
    }
}

/// How well a model predicts a text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Perplexity {
    /// Chunks that were run.
    pub chunks: usize,
    /// Tokens of each.
    pub context: usize,
    /// Tokens scored, of all chunks.
    pub scored: usize,
    /// The mean of −ln p over these tokens.
    pub nll: Estimate,
    /// e to that power.
    pub perplexity: Estimate,
}

/// How far a model, Q, is from a base model: what single tokens' scores add up to. Probabilities are from 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Means {
    /// Chunks that were run.
    pub chunks: usize,
    /// Tokens of each.
    pub context: usize,
    /// Tokens scored, of all chunks.
    pub scored: usize,
    /// Q's perplexity.
    pub perplexity: Estimate,
    /// The base's.
    pub base_perplexity: Estimate,
    /// The correlation of both models' −ln p; NaN where one is the same for all tokens.
    pub correlation: f64,
    /// The logarithm of `ratio`.
    pub log_ratio: Estimate,
    /// Q's perplexity over the base's. Its error is much smaller than theirs, as both scored the same tokens.
    pub ratio: Estimate,
    /// Q's perplexity less the base's.
    pub difference: Estimate,
    /// The Kullback-Leibler divergence of Q from the base: the mean of Σ p ln (p / q) over the vocabulary, p being the
    /// base's. Terms whose p is at most e⁻¹⁶ are left out.
    pub kl_divergence: Estimate,
    /// The mean of what Q adds to the probability of the text's own token: negative where Q is worse.
    pub delta_p: Estimate,
    /// The root of the mean of its square.
    pub delta_p_rms: Estimate,
    /// In how many cases both find the same token the likeliest.
    pub same_top: Estimate,
}

impl Means {
    /// How well the base predicted the text.
    pub fn base(&self) -> Perplexity {
        let Self { chunks, context, scored, base_perplexity: perplexity, .. } = *self;
        let nll = Estimate { value: perplexity.value.ln(), error: perplexity.error / perplexity.value };
        Perplexity { chunks, context, scored, nll, perplexity }
    }
}

/// How far a model is from a base model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Divergence {
    /// Over all scored tokens.
    #[serde(flatten)]
    pub means: Means,
    /// How the tokens' divergences are distributed.
    pub kl_divergences: Percentiles,
    /// How the changes of the probability of the text's own token are.
    pub deltas_p: Percentiles,
}

/// A distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct Percentiles {
    /// In ascending order; one at least.
    values: Vec<f32>,
}

impl Percentiles {
    /// Those that are serialized.
    const SHOWN: [f64; 13] = [0.0, 0.1, 1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 100.0];

    fn new(mut values: Vec<f32>) -> Self {
        values.sort_unstable_by(f32::total_cmp);
        Self { values }
    }

    /// What `percent` of the values are below, from 0, the smallest, to 100, the largest; between two of them it is
    /// interpolated.
    pub fn at(&self, percent: f64) -> f64 {
        quantile(&self.values, percent / 100.0)
    }
}

/// What a share of the values are below, which are in ascending order, one at least; between two of them it is
/// interpolated.
pub fn quantile<T: Copy + Into<f64>>(sorted: &[T], share: f64) -> f64 {
    let last = sorted.len() - 1;
    let place = (share * last as f64).clamp(0.0, last as f64);
    let (below, above) = (place.floor(), place.ceil());
    let [low, high]: [f64; 2] = [below, above].map(|i| sorted[i as usize].into());
    // Not where both are one and infinite.
    if low == high { low } else { low + (high - low) * (place - below) }
}

/// An object with the names `0`, `0.1`, … `100`.
impl Serialize for Percentiles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(Self::SHOWN.len()))?;
        for percent in Self::SHOWN {
            map.serialize_entry(&percent.to_string(), &self.at(percent))?;
        }
        map.end()
    }
}

/// Sums of values and of their squares.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    count: usize,
    values: f64,
    squares: f64,
}

impl Sums {
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        self.values += value;
        self.squares += value * value;
    }

    /// The mean.
    fn mean(&self) -> Estimate {
        let count = self.count as f64;
        let value = self.values / count;
        // Rounding may make it negative.
        let variance = (self.squares / count - value * value).max(0.0);
        Estimate { value, error: (variance / (count - 1.0)).sqrt() }
    }

    pub fn perplexity(&self, chunks: &Chunks, done: usize) -> Perplexity {
        let nll = self.mean();
        Perplexity { chunks: done, context: chunks.context(), scored: self.count, nll, perplexity: nll.exp() }
    }
}

/// What a comparison says of one token.
#[derive(Clone, Copy, Debug, Default)]
pub struct Comparison {
    /// −ln p of the text's own token.
    pub nll: f32,
    /// The base's.
    pub base_nll: f32,
    /// Σ p ln (p / q) over the vocabulary.
    pub divergence: f32,
    /// Whether both find the same token the likeliest.
    pub is_top_same: bool,
}

impl Comparison {
    pub fn is_nan(&self) -> bool {
        self.nll.is_nan() || self.base_nll.is_nan() || self.divergence.is_nan()
    }

    fn delta_p(&self) -> f32 {
        (-self.nll).exp() - (-self.base_nll).exp()
    }
}

/// All tokens' comparisons.
#[derive(Debug, Default)]
pub struct Comparisons {
    nll: Sums,
    base_nll: Sums,
    /// Σ nll · base_nll
    products: f64,
    divergence: Sums,
    delta_p: Sums,
    delta_p_squared: Sums,
    same_tops: usize,
    divergences: Vec<f32>,
    deltas_p: Vec<f32>,
}

impl Comparisons {
    pub fn extend(&mut self, comparisons: &[Comparison]) {
        for comparison in comparisons {
            let [nll, base_nll, divergence, delta_p] =
                [comparison.nll, comparison.base_nll, comparison.divergence, comparison.delta_p()]
                    .map(f64::from);
            self.nll.add(nll);
            self.base_nll.add(base_nll);
            self.products += nll * base_nll;
            self.divergence.add(divergence);
            self.delta_p.add(delta_p);
            self.delta_p_squared.add(delta_p * delta_p);
            self.same_tops += usize::from(comparison.is_top_same);
            self.divergences.push(comparison.divergence);
            self.deltas_p.push(comparison.delta_p());
        }
    }

    pub fn means(&self, chunks: &Chunks, done: usize) -> Means {
        let scored = self.nll.count;
        let count = scored as f64;
        let (nll, base_nll) = (self.nll.mean(), self.base_nll.mean());
        let (perplexity, base_perplexity) = (nll.exp(), base_nll.exp());
        // Of the two means.
        let covariance = (self.products / count - nll.value * base_nll.value) / (count - 1.0);
        // Of the difference of two estimates; rounding may make its square negative.
        let error = |a: f64, b: f64, covariance: f64| (a * a + b * b - 2.0 * covariance).max(0.0).sqrt();
        let log_ratio = Estimate {
            value: nll.value - base_nll.value,
            error: error(nll.error, base_nll.error, covariance),
        };
        let mean_square = self.delta_p_squared.mean();
        let rms = mean_square.value.sqrt();
        let same_top = self.same_tops as f64 / count;
        Means {
            chunks: done,
            context: chunks.context(),
            scored,
            perplexity,
            base_perplexity,
            correlation: covariance / (nll.error * base_nll.error),
            log_ratio,
            ratio: log_ratio.exp(),
            difference: Estimate {
                value: perplexity.value - base_perplexity.value,
                error: error(
                    perplexity.error,
                    base_perplexity.error,
                    perplexity.value * base_perplexity.value * covariance,
                ),
            },
            kl_divergence: self.divergence.mean(),
            delta_p: self.delta_p.mean(),
            delta_p_rms: Estimate {
                value: rms,
                error: if rms > 0.0 { 0.5 / rms * mean_square.error } else { 0.0 },
            },
            same_top: Estimate {
                value: same_top,
                error: (same_top * (1.0 - same_top) / (count - 1.0)).sqrt(),
            },
        }
    }

    pub fn divergence(self, chunks: &Chunks) -> Divergence {
        Divergence {
            means: self.means(chunks, chunks.len()),
            kl_divergences: Percentiles::new(self.divergences),
            deltas_p: Percentiles::new(self.deltas_p),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_lie_between_values() {
        let five = Percentiles::new(vec![3.0, 1.0, 2.0, 5.0, 4.0]);
        let four = Percentiles::new(vec![4.0, 1.0, 2.0, 3.0]);
        let one = Percentiles::new(vec![7.0]);
        let cases = [
            (&five, 0.0, 1.0),
            (&five, 50.0, 3.0),
            (&five, 90.0, 4.6),
            (&five, 99.9, 4.996),
            (&five, 100.0, 5.0),
            (&four, 50.0, 2.5),
            (&four, 25.0, 1.75),
            (&one, 0.0, 7.0),
            (&one, 99.9, 7.0),
        ];
        for (percentiles, percent, expected) in cases {
            let value = percentiles.at(percent);
            assert!((value - expected).abs() < 1e-9, "{percent} % of {percentiles:?}: {value}");
        }
        let infinite = Percentiles::new(vec![0.0, f32::INFINITY, f32::INFINITY]);
        assert_eq!([50.0, 75.0, 100.0].map(|percent| infinite.at(percent)), [f64::INFINITY; 3]);
    }
}
