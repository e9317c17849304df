//! The quantizer against a plain search over what a block can hold.

use quantloom_kernels::{Kernels, Supported};

use super::Quantizer;
use super::inputs::Inputs;
use super::random::Random;
use super::search::{Holds, Product, Values};

/// How much larger the root of the squared error may be than that of the search. Quantizers are made to come within
/// 1.02 of it; the rest is for weights that happen to be worse than those that this was measured on.
const MARGIN: f64 = 1.05;

/// A share of the weights that may be lost beside: half of the last place of an f16, as which most numbers of blocks are stored.
const ROUNDING: f64 = 1.0 / (1 << 11) as f64;

/// That of weights of few values, which a block may hold exactly, if its numbers and all codes happen to fit: the least error is
/// 0 then, and no multiple of it is anything.
const ROUNDING_OF_FEW: f64 = 1.0 / (1 << 8) as f64;

/// How much larger the root of the squared error of a rule may be for Gaussian weights: ggml's for codes of three values has
/// 2.1 times the least, the others have less.
const MARGIN_OF_RULE: f64 = 2.5;

/// How much larger it may be with importance for a format that follows a rule without: what such formats become is compared with
/// other programs' files, so that a better search does not change it.
const MARGIN_BESIDE_RULE: f64 = 1.6;

/// Weights of a block.
struct Case {
    name: &'static str,
    weights: Vec<f32>,
    importance: Option<Vec<f32>>,
    rule: ByRule,
    /// What share of them may be lost.
    rounding: f64,
    /// Whether it is tried where the search takes seconds, too.
    tells_most: bool,
}

/// What a quantizer that follows a rule is held to.
#[derive(Clone, Copy)]
enum ByRule {
    /// To be within [`MARGIN_OF_RULE`] and better than zeros: rules are made for such weights.
    Near,
    /// To be no worse than zeros.
    NoWorse,
    /// To nothing: the smallest numbers of a block are larger than what the rule makes of such weights.
    Free,
}

/// The squared error of blocks is hardly larger than that of the best that a plain search finds, for the same weights each
/// time: how near the quantizer comes to the best is a matter of chance, and a proof that passed passes again.
pub fn check(inputs: &Inputs, isa: Supported, _seed: u64) -> Result<(), String> {
    let subject = inputs.subject;
    let kernels = subject.format.kernels(isa);
    let held = match subject.quantizer {
        Quantizer::NoWorse(_) => None,
        Quantizer::Holding(holds) => Some(holds()),
        _ => Some(subject.holds().map_err(|reason| {
            format!(
                "what a block holds can't be found by trying ({reason}): say it by hand, `Quantizer::Holding`, or name another way to quantize, `Quantizer::NoWorse`"
            )
        })?),
    };
    let len = subject.format.block_len;
    let period = held.as_ref().map_or(Period { len, count: 1, step: len }, |held| Period::new(len, held));
    let cases = cases(&period);
    let is_slow = held.as_ref().is_some_and(|held| ways(held) >= SLOW);
    let mut failures = Vec::new();
    for Case { name, weights, importance, rule, rounding, .. } in
        cases.iter().filter(|case| !is_slow || case.tells_most)
    {
        let importance = importance.as_deref();
        let block = quantize(&kernels, weights, importance)?;
        // The root of the squared error of a block.
        let error = |value: &dyn Fn(usize) -> f64| {
            let square = |(i, &w): (usize, &f32)| {
                importance.map_or(1.0, |importance| f64::from(importance[i]))
                    * (f64::from(w) - value(i)).powi(2)
            };
            weights.iter().enumerate().map(square).sum::<f64>().sqrt()
        };
        let values = subject.weights_of(&block);
        let (error, of_zeros) = (error(&|i| values[i].value()), error(&|_| 0.0));
        let of_period = importance.map(|importance| &importance[..period.len]);
        let least = match (&held, subject.quantizer) {
            (None, Quantizer::NoWorse(other)) => other(weights, importance),
            (held, _) => held.iter().map(|held| held.least_error(&weights[..period.len], of_period)).sum(),
        };
        let least = (period.count as f64 * least).sqrt();
        let within = |margin: f64| margin * least + rounding * of_zeros;
        let bound = match (subject.quantizer, importance, rule) {
            (Quantizer::Best | Quantizer::Holding(_), ..) => within(MARGIN),
            (Quantizer::Within(margin), ..) => within(margin),
            (Quantizer::NoWorse(_), ..) => within(1.0),
            (Quantizer::Rule, Some(_), _) => within(MARGIN_BESIDE_RULE),
            (Quantizer::Rule, None, ByRule::Near) => (MARGIN_OF_RULE * least).min(of_zeros),
            (Quantizer::Rule, None, ByRule::NoWorse) => (1.0 + rounding) * of_zeros,
            (Quantizer::Rule, None, ByRule::Free) => f64::INFINITY,
        };
        // False of what is no number.
        let is_good = error <= bound;
        if !is_good {
            failures.push(format!(
                "{name}: the block errs by {error:.4e}, which is more than {bound:.4e}; the one that it is held against errs by {least:.4e}, zeros err by {of_zeros:.4e}"
            ));
        }
    }
    if failures.is_empty() { each_for_itself(inputs, isa, &cases) } else { Err(failures.join("\n")) }
}

/// Blocks of weights; what was in them before does not matter.
fn quantize(kernels: &Kernels, weights: &[f32], importance: Option<&[f32]>) -> Result<Vec<u8>, String> {
    let mut blocks = vec![0xA5; kernels.format().bytes_for(weights.len())];
    match importance {
        None => kernels.quantize(weights, &mut blocks),
        Some(importance) => kernels.quantize_weighted(weights, importance, &mut blocks),
    }
    .map_err(|error| error.to_string())?;
    Ok(blocks)
}

/// Several blocks at once are what each is for itself, where rows are of two blocks.
fn each_for_itself(inputs: &Inputs, isa: Supported, cases: &[Case]) -> Result<(), String> {
    let format = inputs.subject.format;
    let kernels = format.kernels(isa);
    let rows: Vec<f32> =
        cases[..cases.len() / 2 * 2].iter().flat_map(|case| case.weights.iter().copied()).collect();
    let columns: Vec<f32> = (0..2 * format.block_len).map(|i| 0.5 + (i % 5) as f32).collect();
    for (what, importance) in [("", None), (" with importance", Some(columns.as_slice()))] {
        let blocks = quantize(&kernels, &rows, importance)?;
        let blocks = blocks.chunks_exact(format.block_bytes);
        for (b, (block, weights)) in blocks.zip(rows.chunks_exact(format.block_len)).enumerate() {
            let importance = importance.map(|all| &all[b % 2 * format.block_len..][..format.block_len]);
            if quantize(&kernels, weights, importance)? != block {
                return Err(format!("block {b} of several{what} differs from the same block for itself"));
            }
        }
    }
    Ok(())
}

/// About how many codes the search tries for a weight under numbers of the block.
fn ways(held: &Holds) -> usize {
    let codes = |product: &Product| product.group.as_ref().map_or(1, |group| group.values.len());
    let of_values = match &held.values {
        Values::Single(_) => 1,
        Values::Rows(rows) => rows.len(),
        Values::Tables { tables, .. } => tables.len(),
    };
    // Beside a minimum all numbers of the scale are tried with all of it.
    const NUMBERS: usize = 16;
    of_values * codes(&held.scale) * held.minimum.as_ref().map_or(1, |minimum| NUMBERS * codes(minimum))
}

/// So many take the search a second or more for a block of 256 weights.
const SLOW: usize = 1 << 12;

/// Weights that a block repeats, so that the search has few of them: given the numbers of the block groups don't depend on
/// each other, and the least error of a block is that of its period as many times as this is repeated.
struct Period {
    /// Weights of a period.
    len: usize,
    /// How many of them a block has.
    count: usize,
    /// Each begins so many weights further on than the one before, and goes round: groups have other neighbours.
    step: usize,
}

impl Period {
    /// That of blocks of `len` weights: four groups where the search is slow, and 256 weights where it is not.
    fn new(len: usize, held: &Holds) -> Self {
        // Signs and entries reach over 8 weights at the most.
        let products = std::iter::once(&held.scale).chain(&held.minimum);
        let sizes = products.filter_map(|product| product.group.as_ref().map(|group| group.size));
        let of_table = if let Values::Tables { size, .. } = &held.values { *size } else { 1 };
        let step = sizes.fold(lcm(8, of_table), lcm);
        let wanted = if ways(held) >= SLOW { 4 * step.max(16) } else { 256.max(step) };
        let period = if len.is_multiple_of(wanted) && wanted.is_multiple_of(step) { wanted } else { len };
        Self { len: period, count: len / period, step }
    }

    /// A block of the weights `of_period`.
    fn repeat(&self, of_period: &[f32]) -> Vec<f32> {
        let weight = |e: usize| of_period[(e + e / self.len * self.step) % self.len];
        (0..self.len * self.count).map(weight).collect()
    }
}

/// Whether weights have three values at the most.
fn is_of_few(weights: &[f32]) -> bool {
    let mut values = weights.to_vec();
    values.sort_unstable_by(f32::total_cmp);
    values.dedup();
    values.len() <= 3
}

/// The least number that is a multiple of both.
fn lcm(a: usize, b: usize) -> usize {
    (1..=b).map(|times| times * a).find(|multiple| multiple.is_multiple_of(b)).unwrap_or(a * b)
}

/// Weights of every magnitude, sign and kind.
fn cases(period: &Period) -> Vec<Case> {
    let len = period.len;
    let mut random = Random(1);
    let mut gaussian = |sigma: f32| -> Vec<f32> { (0..len).map(|_| sigma * random.gaussian()).collect() };
    let magnitudes: Vec<f32> = gaussian(0.2).iter().map(|w| w.abs()).collect();
    let mut outlier = gaussian(0.03);
    outlier[len / 3] = 1.0;
    // As mean squares of activations are.
    let uneven: Vec<f32> = gaussian(1.0).iter().map(|x| x * x).collect();
    let of_outlier: Vec<f32> = (0..len).map(|i| if i == len / 3 { 1e-3 } else { uneven[i] }).collect();
    const ALWAYS: bool = true;
    const IF_QUICK: bool = false;
    let three = gaussian(1.0).iter().map(|w| 0.7 * w.round().clamp(-1.0, 1.0)).collect();
    let two = (0..len).map(|i| [0.5, -0.5][i % 3 % 2]).collect();
    let negative = magnitudes.iter().map(|w| -w).collect();
    let plain = [
        ("Gaussian weights, σ = 1e-7", gaussian(1e-7), ByRule::Free, IF_QUICK),
        ("Gaussian weights, σ = 0.001", gaussian(1e-3), ByRule::NoWorse, IF_QUICK),
        ("Gaussian weights, σ = 0.03", gaussian(0.03), ByRule::Near, ALWAYS),
        ("Gaussian weights, σ = 1", gaussian(1.0), ByRule::Near, IF_QUICK),
        ("Gaussian weights, σ = 1000", gaussian(1e3), ByRule::NoWorse, IF_QUICK),
        ("negative weights", negative, ByRule::NoWorse, IF_QUICK),
        ("positive weights", magnitudes, ByRule::NoWorse, ALWAYS),
        ("weights of three values", three, ByRule::NoWorse, IF_QUICK),
        ("weights of two values", two, ByRule::NoWorse, IF_QUICK),
        ("equal weights", vec![0.37; len], ByRule::NoWorse, ALWAYS),
        ("equal negative weights", vec![-11.0; len], ByRule::NoWorse, IF_QUICK),
        ("zeros", vec![0.0; len], ByRule::NoWorse, ALWAYS),
        ("an outlier", outlier.clone(), ByRule::NoWorse, IF_QUICK),
    ];
    let weighted = [
        ("an outlier of little importance", outlier, of_outlier),
        ("Gaussian weights with importance", gaussian(0.03), uneven),
    ];
    let plain = plain.into_iter().map(|(name, weights, rule, tells_most)| Case {
        name,
        weights: period.repeat(&weights),
        importance: None,
        rule,
        rounding: if is_of_few(&weights) { ROUNDING_OF_FEW } else { ROUNDING },
        tells_most,
    });
    let weighted = weighted.into_iter().map(|(name, weights, importance)| Case {
        name,
        weights: period.repeat(&weights),
        importance: Some(period.repeat(&importance)),
        // With importance a rule is none.
        rule: ByRule::Near,
        rounding: ROUNDING,
        tells_most: ALWAYS,
    });
    plain.chain(weighted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prove::search::{Group, Numbers, Signs};

    #[test]
    fn periods_are_whole_groups() {
        let product = |codes: usize, size: Option<usize>| Product {
            block: Numbers::Any,
            group: size.map(|size| Group { values: (0..codes).map(|code| code as f64).collect(), size }),
        };
        // Weights of a block, codes and sizes of groups of its scale and minimum; period, repetitions and step.
        let cases = [
            ("one scale", 32, (1, None), None, (32, 1, 8)),
            ("groups of 16", 256, (64, Some(16)), None, (256, 1, 16)),
            ("a long block", 4096, (64, Some(16)), None, (256, 16, 16)),
            ("a long block of a scale", 4096, (1, None), None, (256, 16, 8)),
            ("a slow search", 256, (64, Some(32)), Some((64, Some(32))), (128, 2, 32)),
            ("groups of four", 64, (16, Some(4)), Some((16, Some(8))), (64, 1, 8)),
            ("three times 128", 384, (256, Some(32)), Some((16, Some(32))), (128, 3, 32)),
            ("no whole periods", 96, (64, Some(32)), Some((64, Some(32))), (96, 1, 32)),
            ("a large group", 1024, (64, Some(512)), None, (512, 2, 512)),
        ];
        for (name, len, scale, minimum, expected) in cases {
            let held = Holds {
                values: Values::Single(vec![0.0, 1.0]),
                signs: Signs::Own,
                scale: product(scale.0, scale.1),
                minimum: minimum.map(|(codes, size)| product(codes, size)),
            };
            let period = Period::new(len, &held);
            assert_eq!((period.len, period.count, period.step), expected, "{name}");
            let block = period.repeat(&(0..period.len).map(|i| i as f32).collect::<Vec<_>>());
            assert_eq!(block.len(), len, "{name}");
            for repeated in block.chunks_exact(period.len) {
                let groups = repeated.chunks_exact(period.step);
                assert!(groups.clone().all(|group| group.windows(2).all(|w| w[1] == w[0] + 1.0)), "{name}");
                let mut firsts: Vec<f32> = groups.map(|group| group[0]).collect();
                firsts.sort_by(f32::total_cmp);
                assert!(
                    firsts.iter().enumerate().all(|(i, &first)| first == (i * period.step) as f32),
                    "{name}"
                );
            }
        }
    }
}
