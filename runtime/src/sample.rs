//! From logits to the next token.

use std::cmp::Ordering;
use std::hash::{BuildHasher, RandomState};

/// How a token is drawn. The defaults, and the order of the steps, are llama.cpp's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplerOptions {
    /// What the logits of the tokens that are left are divided by; 0 always takes the most likely token.
    pub temperature: f32,
    /// Only this many of the most likely tokens are left; 0 leaves all.
    pub top_k: usize,
    /// Of these, only the most likely ones are left whose probabilities reach this sum; 1 leaves all.
    pub top_p: f32,
    /// The draws follow from it.
    pub seed: u64,
}

impl Default for SamplerOptions {
    /// Temperature 0.8, top-k 40, top-p 0.95, a random seed.
    fn default() -> Self {
        // The only source of randomness in the standard library: the keys of its hash maps.
        let seed = RandomState::new().hash_one(());
        Self { temperature: 0.8, top_k: 40, top_p: 0.95, seed }
    }
}

/// Draws tokens: top-k, then top-p, then temperature, then chance.
#[derive(Debug)]
pub struct Sampler {
    options: SamplerOptions,
    random: SplitMix64,
    /// Kept, so that only the first draw allocates.
    candidates: Vec<Candidate>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    token: u32,
    logit: f32,
}

impl Sampler {
    /// A sampler that draws the same tokens from the same logits when made with the same options.
    pub fn new(options: SamplerOptions) -> Self {
        Self { options, random: SplitMix64(options.seed), candidates: Vec::new() }
    }

    /// The next token; of equally likely ones the first, where that decides.
    ///
    /// A NaN is the logit of no token. Where there is no other, the answer is token 0.
    pub fn sample(&mut self, logits: &[f32]) -> u32 {
        if self.options.temperature <= 0.0 {
            return greedy(logits);
        }
        self.candidates.clear();
        self.candidates.extend(candidates(logits));
        self.keep_top_k();
        self.keep_top_p();
        self.draw()
    }

    /// Leaves the most likely candidates, in order.
    fn keep_top_k(&mut self) {
        let k = self.options.top_k;
        if 0 < k && k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(k - 1, most_likely_first);
            self.candidates.truncate(k);
        }
        self.candidates.sort_unstable_by(most_likely_first);
    }

    /// Leaves the shortest beginning of the candidates with the probability asked for, one at least.
    fn keep_top_p(&mut self) {
        let enough = f64::from(self.options.top_p) * self.weights(1.0).sum::<f64>();
        let mut sum = 0.0;
        let before_enough = self.weights(1.0).take_while(|weight| {
            let goes_on = sum < enough;
            sum += weight;
            goes_on
        });
        let kept = before_enough.count().max(1);
        self.candidates.truncate(kept);
    }

    fn draw(&mut self) -> u32 {
        let temperature = f64::from(self.options.temperature);
        let mut left = self.random.next_unit() * self.weights(temperature).sum::<f64>();
        let drawn = self.weights(temperature).position(|weight| {
            left -= weight;
            left < 0.0
        });
        // Rounding can leave a rest at the end, an empty slice leaves everything.
        self.candidates.get(drawn.unwrap_or(0)).map_or(0, |candidate| candidate.token)
    }

    /// Softmax without its division: exp((logit − greatest logit) / temperature), by candidate.
    fn weights(&self, temperature: f64) -> impl Iterator<Item = f64> {
        let max = self.candidates.first().map_or(0.0, |best| best.logit);
        self.candidates.iter().map(move |&Candidate { logit, .. }| {
            // The difference of equal infinities is not a number.
            if logit == max { 1.0 } else { (f64::from(logit - max) / temperature).exp() }
        })
    }
}

/// The most likely token, the first of equals; NaN is the logit of no token.
pub fn greedy(logits: &[f32]) -> u32 {
    candidates(logits).min_by(most_likely_first).map_or(0, |best| best.token)
}

fn candidates(logits: &[f32]) -> impl Iterator<Item = Candidate> {
    let all = (0..).zip(logits).map(|(token, &logit)| Candidate { token, logit });
    all.filter(|candidate| !candidate.logit.is_nan())
}

fn most_likely_first(a: &Candidate, b: &Candidate) -> Ordering {
    // Not `total_cmp`, for which the zeros differ; there is no NaN among candidates.
    b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal).then(a.token.cmp(&b.token))
}

/// SplitMix64: 64 bits of state, full period, passes BigCrush.
/// Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
#[derive(Debug)]
pub(crate) struct SplitMix64(pub u64);

impl SplitMix64 {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1), with all 53 bits of the significand.
    fn next_unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAN: f32 = f32::NAN;
    const INF: f32 = f32::INFINITY;

    /// How often each token is drawn in `n` draws.
    fn histogram(options: SamplerOptions, logits: &[f32], n: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(options);
        let mut counts = vec![0; logits.len()];
        for _ in 0..n {
            counts[sampler.sample(logits) as usize] += 1;
        }
        counts
    }

    fn options(temperature: f32, top_k: usize, top_p: f32) -> SamplerOptions {
        SamplerOptions { temperature, top_k, top_p, seed: 7 }
    }

    #[test]
    fn splitmix64_gives_the_published_sequence() {
        let mut random = SplitMix64(1_234_567);
        assert_eq!([random.next(), random.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn greedy_takes_the_first_of_the_greatest() {
        let cases: [(&[f32], u32); 7] = [
            (&[1.0, 3.0, 2.0], 1),
            (&[1.0, 3.0, 3.0], 1),
            (&[-0.0, 0.0], 0),
            (&[NAN, -5.0, NAN, -4.0], 3),
            (&[-INF, -INF], 0),
            (&[NAN, NAN], 0),
            (&[], 0),
        ];
        for (logits, token) in cases {
            assert_eq!(Sampler::new(options(0.0, 40, 0.95)).sample(logits), token, "{logits:?}");
        }
    }

    #[test]
    fn odd_logits_are_drawn_from_without_panic() {
        let cases: [&[f32]; 7] =
            [&[], &[NAN], &[NAN, 1.0], &[INF, INF, 0.0], &[-INF, -INF], &[INF, -INF, NAN], &[0.0, -INF]];
        for logits in cases {
            for top_k in [0, 1, 2, 100] {
                let token = Sampler::new(options(0.8, top_k, 0.95)).sample(logits);
                let is_possible = logits.get(token as usize).is_some_and(|logit| !logit.is_nan());
                assert!(is_possible || token == 0, "{logits:?}, top-k {top_k}: {token}");
            }
        }
    }

    #[test]
    fn draws_follow_the_softmax() {
        // At temperature 2 the logits 2·ln 1, 2·ln 2, 2·ln 3 have the probabilities 1/6, 2/6, 3/6.
        let logits = [1.0_f32, 2.0, 3.0].map(|weight| 2.0 * weight.ln());
        let counts = histogram(options(2.0, 0, 1.0), &logits, 60_000);
        for (count, expected) in counts.into_iter().zip([10_000_usize, 20_000, 30_000]) {
            // Five standard deviations are at most 613.
            assert!(count.abs_diff(expected) < 613, "{count} draws, expected about {expected}");
        }
    }

    #[test]
    fn top_k_and_top_p_leave_the_most_likely() {
        // Probabilities 0.1, 0.2, 0.3, 0.4 before temperature.
        let logits = [0.1_f32, 0.2, 0.3, 0.4].map(f32::ln);
        let cases = [
            (0, 1.0, [true, true, true, true]),
            (2, 1.0, [false, false, true, true]),
            (0, 0.65, [false, false, true, true]),
            (0, 0.75, [false, true, true, true]),
            (0, 0.01, [false, false, false, true]),
            (1, 0.95, [false, false, false, true]),
            // Of the three that top-k leaves, the first two have 7/9 of the probability.
            (3, 0.75, [false, false, true, true]),
        ];
        for (top_k, top_p, expected) in cases {
            // Hot, so that whatever is left is drawn.
            let counts = histogram(options(100.0, top_k, top_p), &logits, 1000);
            assert_eq!(
                counts.iter().map(|&count| count > 0).collect::<Vec<_>>(),
                expected,
                "{top_k}, {top_p}"
            );
        }
    }

    #[test]
    fn the_seed_decides() {
        let logits = [0.0; 1000];
        let draw = |seed| {
            let mut sampler = Sampler::new(SamplerOptions { seed, ..options(1.0, 0, 1.0) });
            [(); 8].map(|()| sampler.sample(&logits))
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_ne!(SamplerOptions::default().seed, SamplerOptions::default().seed);
    }
}
