//! The tests of llama.cpp's `llama-bench`, measured and recorded as it does.
//!
//! A prompt that is processed at once (`pp512`), tokens that are generated one by one (`tg128`), or the one and then
//! the other (`pp512+tg128`), each perhaps behind tokens that the KV cache holds already (`@ d1024`). All tokens are
//! random: neither tokenizer nor sampling takes part.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use crate::cache::CacheTypes;
use crate::gguf::Gguf;
use crate::sample::SplitMix64;
use crate::{Error, Model};

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Test {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens generated after it.
    pub generate: usize,
    /// Tokens in the KV cache before both, which are not timed.
    pub depth: usize,
}

/// How it is timed.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often, the warm-up aside; 1 at least.
    pub repetitions: usize,
    /// Whether the prompt, and one generated token, go before all that is timed.
    pub warm_up: bool,
    /// Rest before the test.
    pub delay: Duration,
    /// How the cache keeps keys and values.
    pub types: CacheTypes,
}

/// What was measured. Serialized it has the names of `llama-bench`.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// All but the single repetitions.
    #[serde(flatten)]
    pub summary: Summary,
    /// Nanoseconds of each repetition.
    pub samples_ns: Vec<u64>,
    /// Tokens per second of each repetition.
    pub samples_ts: Vec<f64>,
}

/// A test, what it ran on, and the repetitions taken together: averages, and the standard deviations of samples.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The CPU's name.
    pub cpu_info: String,
    /// The instruction set of the kernels; `llama-bench` has no such field.
    pub isa: &'static str,
    /// What computes.
    pub backends: &'static str,
    /// The model file.
    pub model_filename: String,
    /// Architecture, size and type of the weights: `llama 1B Q4_0`.
    pub model_type: String,
    /// Bytes of all tensors.
    pub model_size: u64,
    /// Weights of all tensors.
    pub model_n_params: u64,
    /// Threads.
    pub n_threads: usize,
    /// How the cache stored keys.
    pub type_k: String,
    /// How the cache stored values.
    pub type_v: String,
    /// [`Test::prompt`]
    pub n_prompt: usize,
    /// [`Test::generate`]
    pub n_gen: usize,
    /// [`Test::depth`]
    pub n_depth: usize,
    /// When it began, in UTC, by RFC 3339.
    pub test_time: String,
    /// Nanoseconds.
    pub avg_ns: u64,
    /// Nanoseconds.
    pub stddev_ns: u64,
    /// Tokens per second.
    pub avg_ts: f64,
    /// Tokens per second.
    pub stddev_ts: f64,
}

impl Test {
    /// Tokens of context that it takes.
    pub fn context(&self) -> usize {
        self.depth.saturating_add(self.prompt).saturating_add(self.generate)
    }
}

impl Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self { prompt, generate: 0, .. } => write!(f, "pp{prompt}"),
            Self { prompt: 0, generate, .. } => write!(f, "tg{generate}"),
            Self { prompt, generate, .. } => write!(f, "pp{prompt}+tg{generate}"),
        }?;
        if self.depth > 0 { write!(f, " @ d{}", self.depth) } else { Ok(()) }
    }
}

impl Summary {
    /// The test.
    pub fn test(&self) -> Test {
        Test { prompt: self.n_prompt, generate: self.n_gen, depth: self.n_depth }
    }
}

/// Measures; tells `repeated` after each repetition, which may end it all.
///
/// # Errors
/// The test takes more context than the model has, there is no memory for that, or what `repeated` says.
pub fn measure<E: From<Error>>(
    model: &Model,
    test: Test,
    options: &Options,
    mut repeated: impl FnMut() -> Result<(), E>,
) -> Result<Measurement, E> {
    let Options { repetitions, warm_up, delay, types } = *options;
    let test_time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let mut cache = model.create_kv_cache_with(test.context(), types)?;
    let mut scratch = model.create_scratch()?;
    let mut random = SplitMix64(0);
    let mut tokens = |count: usize| -> Vec<u32> {
        (0..count).map(|_| (random.next() % model.config().vocab as u64) as u32).collect()
    };

    thread::sleep(delay);
    if test.depth > 0 {
        model.forward_with_cache(&tokens(test.depth), &mut cache)?;
    }
    let mut run = |prompt: &[u32], generated: &[u32]| -> Result<Duration, Error> {
        // What the last run added goes; what it found was not changed by it.
        cache.truncate(test.depth);
        let start = Instant::now();
        if !prompt.is_empty() {
            model.forward_with_cache(prompt, &mut cache)?;
        }
        for &token in generated {
            model.forward_single_with_scratch(token, &mut cache, &mut scratch)?;
        }
        Ok(start.elapsed())
    };
    if warm_up {
        run(&tokens(test.prompt), &tokens(test.generate.min(1)))?;
    }
    let mut samples = Vec::new();
    for _ in 0..repetitions {
        samples.push(run(&tokens(test.prompt), &tokens(test.generate))?);
        repeated()?;
    }

    let count = (test.prompt + test.generate) as f64;
    let samples_ts: Vec<f64> = samples.iter().map(|time| count / time.as_secs_f64()).collect();
    let (avg_ts, stddev_ts) = mean_and_deviation(&samples_ts);
    let nanoseconds: Vec<f64> = samples.iter().map(|time| time.as_nanos() as f64).collect();
    let (avg_ns, stddev_ns) = mean_and_deviation(&nanoseconds);
    let tensors = model.gguf().tensors();
    let summary = Summary {
        cpu_info: cpu_name(),
        isa: model.isa().isa().name(),
        backends: "CPU",
        model_filename: model.gguf().path().display().to_string(),
        model_type: model_type(model.gguf()),
        model_size: tensors.iter().map(|tensor| tensor.data().len() as u64).sum(),
        model_n_params: weights(model.gguf()),
        n_threads: model.threads(),
        type_k: types.keys.name().to_lowercase(),
        type_v: types.values.name().to_lowercase(),
        n_prompt: test.prompt,
        n_gen: test.generate,
        n_depth: test.depth,
        test_time,
        avg_ns: avg_ns as u64,
        stddev_ns: stddev_ns as u64,
        avg_ts,
        stddev_ts,
    };
    Ok(Measurement {
        summary,
        samples_ns: samples.iter().map(|time| time.as_nanos() as u64).collect(),
        samples_ts,
    })
}

/// The deviation is that of a sample, and 0 for a single value.
fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0).max(1.0)).sqrt())
}

fn weights(gguf: &Gguf) -> u64 {
    gguf.tensors().iter().map(|tensor| (tensor.rows() * tensor.cols()) as u64).sum()
}

/// In llama.cpp's form. It takes the size from the number of layers, and so SmolLM2-135M for a model of 256M: here it is
/// the number of weights, and the type the one that most of them have.
fn model_type(gguf: &Gguf) -> String {
    let size = match weights(gguf) as f64 {
        n if n < 999.5e3 => format!("{:.0}K", n / 1e3),
        n if n < 999.5e6 => format!("{:.0}M", n / 1e6),
        n => format!("{:.0}B", n / 1e9),
    };
    let mut types = BTreeMap::new();
    for tensor in gguf.tensors() {
        *types.entry(tensor.ty().name()).or_insert(0) += tensor.rows() * tensor.cols();
    }
    let ty = types.into_iter().max_by_key(|&(_, weights)| weights).map_or("", |(ty, _)| ty);
    format!("llama {size} {}", if ty == "F32" { "all F32" } else { ty })
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn cpu_name() -> String {
    let name = raw_cpuid::CpuId::new().get_processor_brand_string();
    name.map_or("unknown".into(), |name| name.as_str().trim().into())
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn cpu_name() -> String {
    "unknown".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_have_the_names_of_llama_bench() {
        let cases = [
            ((512, 0, 0), "pp512"),
            ((0, 128, 0), "tg128"),
            ((512, 128, 0), "pp512+tg128"),
            ((512, 0, 1024), "pp512 @ d1024"),
            ((16, 8, 1), "pp16+tg8 @ d1"),
        ];
        for ((prompt, generate, depth), name) in cases {
            assert_eq!(Test { prompt, generate, depth }.to_string(), name);
        }
    }

    #[test]
    fn deviations_are_those_of_samples() {
        let cases: [(&[f64], f64, f64); 4] = [
            (&[3.0], 3.0, 0.0),
            (&[2.0, 2.0, 2.0], 2.0, 0.0),
            (&[1.0, 3.0], 2.0, 2_f64.sqrt()),
            (&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0], 5.0, (32_f64 / 7.0).sqrt()),
        ];
        for (values, mean, deviation) in cases {
            assert_eq!(mean_and_deviation(values), (mean, deviation), "{values:?}");
        }
    }
}
