//! The benchmark of `quantloom bench`: one model in four modes, prefill, and the roofline. Beside it, as
//! [`llama_bench`], the tests by which others are measured.
//!
//! The modes are those of Realizar's TinyLlama benchmark. Every number is measured in the run that prints
//! it, allocations included, which the program's own allocator counts.

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use quantloom_kernels::limits::Read;
use quantloom_kernels::{Isa, Supported};
use serde::Serialize;

pub use profile::{Limits, PhaseReport, Profiled, multiply_peak};

use crate::alloc::CountingAllocator;
use crate::gguf::{Formats, Gguf};
use crate::model::default_threads;
use crate::sample::greedy;
use crate::table::{self, Align::*};
use crate::threads::Team;
use crate::{Error, Model, pull};

pub mod llama_bench;
mod profile;
mod synthetic;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Model file; without one [the default](default_model).
    pub model: Option<PathBuf>,
    /// The formats that the file may hold.
    pub formats: Formats,
    /// Threads of the parallel modes; without a number one for each CPU.
    pub threads: Option<usize>,
    /// Measure for a short time only.
    pub short: bool,
    /// Measure the phases of a pass, too.
    pub profile: bool,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The model file.
    pub model: PathBuf,
    /// Whether it has TinyLlama's shape and random weights.
    pub random_weights: bool,
    /// Its length.
    pub file_bytes: usize,
    /// What the CPU has of what kernels use.
    pub cpu_features: Vec<&'static str>,
    /// The instruction set in use.
    pub isa: &'static str,
    /// Threads of the parallel modes.
    pub threads: usize,
    /// Opening, checking and building the tokenizer.
    pub load_ms: f64,
    /// Direct, parallel, with KV cache, with arena.
    pub modes: Vec<Mode>,
    /// Tokens of the prompt and their speed.
    pub prefill: Prefill,
    /// How near decoding comes to what memory allows.
    pub roofline: Roofline,
    /// Resident memory after it all; `None` where the system doesn't tell.
    pub memory: Option<Memory>,
    /// The phases of decoding and of prefill, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profiles>,
}

/// Where the time goes.
#[derive(Clone, Debug, Serialize)]
pub struct Profiles {
    /// 8-bit products per second of the model's threads when they do nothing else.
    pub multiply_peak: f64,
    /// Decoding, with the arena.
    pub decode: Profiled,
    /// The prompt.
    pub prefill: Profiled,
}

/// One way to generate.
#[derive(Clone, Debug, Serialize)]
pub struct Mode {
    /// Its name.
    pub name: &'static str,
    /// Threads.
    pub threads: usize,
    /// Tokens generated.
    pub tokens: usize,
    /// Tokens in the context with the last of them.
    pub context: usize,
    /// Tokens by all the time they took.
    pub tokens_per_second: f64,
    /// The median time of one.
    pub latency_ms: f64,
    /// Throughput by that of the first mode.
    pub ratio_to_direct: f64,
    /// The fewest allocations of one token: that of a steady state. `None` where nobody counts.
    pub allocations_per_token: Option<u64>,
    /// The bytes of those.
    pub allocated_bytes_per_token: Option<u64>,
}

/// A prompt processed at once.
#[derive(Clone, Debug, Serialize)]
pub struct Prefill {
    /// Its length.
    pub tokens: usize,
    /// Its speed.
    pub tokens_per_second: f64,
}

/// Decoding reads every weight once per token: memory bandwidth bounds its speed.
#[derive(Clone, Debug, Serialize)]
pub struct Roofline {
    /// Weights read for one token.
    pub bytes_per_token: u64,
    /// Bytes per second that the same threads read of the model file when they do nothing else.
    pub read_bandwidth: f64,
    /// Tokens per second at that bandwidth.
    pub limit_tokens_per_second: f64,
    /// The share that the best mode reaches.
    pub share: f64,
}

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    /// Pages of mapped files: the model's.
    pub file: u64,
    /// Everything else: KV cache, arena, tokenizer.
    pub anonymous: u64,
}

/// The file that is measured where none is named: TinyLlama-1.1B if it has been [pulled](pull::TINYLLAMA), or else one
/// of its shape with random weights, made where it isn't in the cache yet. For speed they are the same.
///
/// # Errors
/// It can't be written.
pub fn default_model() -> Result<PathBuf, Error> {
    pull::TINYLLAMA.cached().map_or_else(synthetic::tinyllama, Ok)
}

/// Measures.
///
/// # Errors
/// The model can't be loaded, made or run.
pub fn measure(options: &Options) -> Result<Report, Error> {
    let path = match &options.model {
        Some(path) => path.clone(),
        None => default_model()?,
    };
    let start = Instant::now();
    let gguf = Gguf::open_with(&path, &options.formats)?;
    let model =
        Model::from_gguf(gguf, Supported::selected()?, options.threads.unwrap_or_else(default_threads))?;
    let load = start.elapsed();
    let single = model.with_threads(1)?;

    let limit = model.config().context;
    if limit < 2 {
        let problem = format!("llama.context_length is {limit}; a benchmark needs a context of 2 at least");
        return Err(Error::Model { path, problem });
    }
    // Without a cache a token costs as much as its whole context: a short one has to do.
    let start = tokens(&model, if options.short { 4 } else { 8 }.min(limit / 2));
    let room = limit - start.len();
    let (prompt, few, many) = if options.short { (64, 1, 8) } else { (512, 4, 64) };
    let (prompt, few, many) = (prompt.min(limit), few.min(room), many.min(room));
    let warm_up = |model: &Model| model.forward(&start[..1]).map(drop);
    warm_up(&model)?;

    let mut modes = Vec::new();
    let mut text = start.clone();
    text.reserve(few);
    modes.push(mode("direct", 1, start.len(), few, |token| {
        text.push(token);
        single.forward(&text).map(|logits| greedy(&logits))
    })?);
    text.truncate(start.len());
    modes.push(mode("parallel", model.threads(), start.len(), few, |token| {
        text.push(token);
        model.forward(&text).map(|logits| greedy(&logits))
    })?);
    let mut cache = model.create_kv_cache_for(start.len() + many)?;
    model.forward_with_cache(&start, &mut cache)?;
    modes.push(mode("parallel + KV cache", model.threads(), start.len(), many, |token| {
        model.forward_with_cache(&[token], &mut cache).map(|logits| greedy(&logits))
    })?);
    cache.truncate(start.len());
    let mut scratch = model.create_scratch()?;
    if options.profile {
        scratch.start_profile();
    }
    modes.push(mode("parallel + KV cache + arena", model.threads(), start.len(), many, |token| {
        model.forward_single_with_scratch(token, &mut cache, &mut scratch).map(greedy)
    })?);
    let direct = modes[0].tokens_per_second;
    modes.iter_mut().for_each(|mode| mode.ratio_to_direct = mode.tokens_per_second / direct);

    let prompt = tokens(&model, prompt);
    let mut prompt_cache = model.create_kv_cache_for(prompt.len())?;
    let mut prompt_scratch = model.create_prompt_scratch(prompt.len())?;
    if options.profile {
        prompt_scratch.start_profile();
    }
    let started = Instant::now();
    model.pass_prompt(&prompt, &mut prompt_cache, &mut prompt_scratch);
    let prefill = Prefill {
        tokens: prompt.len(),
        tokens_per_second: prompt.len() as f64 / started.elapsed().as_secs_f64(),
    };

    let rounds = if options.short { 3 } else { 9 };
    let read_bandwidth = read_bandwidth(&model, rounds)?;
    let bytes_per_token = model.bytes_per_token();
    let limit = read_bandwidth / bytes_per_token as f64;
    let best = modes.iter().map(|mode| mode.tokens_per_second).fold(0.0, f64::max);
    let profile = match (scratch.profile(), prompt_scratch.profile()) {
        (Some(decode), Some(prefill)) => {
            let limits = Limits { read: read_bandwidth, multiply: multiply_peak(&model, rounds)? };
            Some(Profiles {
                multiply_peak: limits.multiply,
                decode: Profiled::new("decode", &model, decode, many, &cache, limits),
                prefill: Profiled::new("prefill", &model, prefill, prompt.len(), &prompt_cache, limits),
            })
        }
        _ => None,
    };
    Ok(Report {
        random_weights: synthetic::is_random(model.gguf()),
        model: path,
        file_bytes: model.gguf().file_len(),
        cpu_features: cpu_features(),
        isa: model.isa().isa().name(),
        threads: model.threads(),
        load_ms: milliseconds(load),
        modes,
        prefill,
        roofline: Roofline {
            bytes_per_token,
            read_bandwidth,
            limit_tokens_per_second: limit,
            share: best / limit,
        },
        memory: resident(),
        profile,
    })
}

/// Tokens that differ from each other, spread over the vocabulary.
fn tokens(model: &Model, count: usize) -> Vec<u32> {
    (0..count).map(|i| (i * 7919 % model.config().vocab) as u32).collect()
}

/// Generates `count` tokens, each from the one before.
fn mode(
    name: &'static str,
    threads: usize,
    start: usize,
    count: usize,
    mut next: impl FnMut(u32) -> Result<u32, Error>,
) -> Result<Mode, Error> {
    let is_counted = CountingAllocator::is_installed();
    let mut times = Vec::with_capacity(count);
    let (mut allocations, mut bytes) = (u64::MAX, u64::MAX);
    let mut token = 1;
    for _ in 0..count.max(1) {
        let (before, started) = (CountingAllocator::count(), Instant::now());
        token = next(token)?;
        times.push(started.elapsed());
        let used = CountingAllocator::count() - before;
        allocations = allocations.min(used.allocations);
        bytes = bytes.min(used.bytes);
    }
    let total: Duration = times.iter().sum();
    times.sort_unstable();
    Ok(Mode {
        name,
        threads,
        tokens: times.len(),
        context: start + times.len(),
        tokens_per_second: times.len() as f64 / total.as_secs_f64(),
        latency_ms: milliseconds(times[times.len() / 2]),
        ratio_to_direct: 1.0,
        allocations_per_token: is_counted.then_some(allocations),
        allocated_bytes_per_token: is_counted.then_some(bytes),
    })
}

/// The speed, in bytes per second, at which the model's threads read its tensors, a chunk at a time, and do nothing
/// else: of several [ways](Read) the median of the best.
///
/// # Errors
/// Threads can't be started.
pub fn read_bandwidth(model: &Model, rounds: usize) -> Result<f64, Error> {
    /// Claimed by one thread; long enough that claiming does not count.
    const CHUNK: usize = 1 << 20;
    let team = Team::new(model.threads(), || ())?;
    let chunks: Vec<&[u8]> =
        model.gguf().tensors().iter().flat_map(|tensor| tensor.data().chunks(CHUNK)).collect();
    let bytes: usize = chunks.iter().map(|chunk| chunk.len()).sum();
    let ways: Vec<Read> = Supported::all().flat_map(Read::ways).collect();
    Ok(best(&ways, rounds, |way| {
        team.run(chunks.len(), |i| way.run(chunks[i], 1));
        bytes
    }))
}

/// Work per second of the best of several ways: of each the median of some rounds, 1 at least, in which all have their
/// turn. `run` does the work in one way, and tells how much it was.
fn best<W>(ways: &[W], rounds: usize, run: impl Fn(&W) -> usize) -> f64 {
    let mut speeds = vec![Vec::with_capacity(rounds); ways.len()];
    for _ in 0..rounds {
        for (way, speeds) in ways.iter().zip(&mut speeds) {
            let started = Instant::now();
            let work = run(way);
            speeds.push(work as f64 / started.elapsed().as_secs_f64());
        }
    }
    let medians = speeds.iter_mut().map(|speeds| {
        speeds.sort_unstable_by(f64::total_cmp);
        speeds[rounds / 2]
    });
    medians.fold(0.0, f64::max)
}

/// The CPU's features that kernels know of, sorted.
pub fn cpu_features() -> Vec<&'static str> {
    let mut features = Vec::new();
    for isa in Isa::ALL {
        let missing = isa.missing();
        features.extend(isa.features().iter().filter(|feature| !missing.contains(feature)));
    }
    features.sort_unstable();
    features.dedup();
    features
}

/// Linux tells in /proc/self/status.
fn resident() -> Option<Memory> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    };
    Some(Memory { file: field("RssFile")?, anonymous: field("RssAnon")? })
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MB: f64 = 1e6;
        let runnable: Vec<_> = Supported::all().map(|isa| isa.isa().name()).collect();
        writeln!(f, "model     {} ({:.1} MB)", self.model.display(), self.file_bytes as f64 / MB)?;
        if self.random_weights {
            writeln!(
                f,
                "weights   random, in TinyLlama's shape; `quantloom pull tinyllama` brings real ones"
            )?;
        }
        writeln!(f, "CPU       {}", self.cpu_features.join(" "))?;
        writeln!(f, "kernels   {} (of {})", self.isa, runnable.join(", "))?;
        writeln!(f, "threads   {}", self.threads)?;
        writeln!(f, "load      {:.1} ms", self.load_ms)?;
        writeln!(f)?;
        let header = ["mode", "threads", "context", "tok/s", "ms/token", "× direct", "allocations/token"];
        let rows = self.modes.iter().map(|mode| {
            [
                mode.name.into(),
                mode.threads.to_string(),
                mode.context.to_string(),
                format!("{:.2}", mode.tokens_per_second),
                format!("{:.2}", mode.latency_ms),
                format!("{:.2}", mode.ratio_to_direct),
                mode.allocations_per_token.map_or("not counted".into(), |count| count.to_string()),
            ]
        });
        table::markdown(f, [Left, Right, Right, Right, Right, Right, Right], header, rows)?;
        writeln!(f)?;
        writeln!(
            f,
            "prefill   {} tokens at {:.1} tok/s",
            self.prefill.tokens, self.prefill.tokens_per_second
        )?;
        let roofline = &self.roofline;
        writeln!(
            f,
            "roofline  {:.1} MB per token, {:.1} GB/s read by {} threads: at most {:.1} tok/s; reached {:.0} %",
            roofline.bytes_per_token as f64 / MB,
            roofline.read_bandwidth / 1e9,
            self.threads,
            roofline.limit_tokens_per_second,
            roofline.share * 100.0
        )?;
        if let Some(memory) = self.memory {
            writeln!(
                f,
                "memory    {:.1} MB of mapped files and {:.1} MB more resident",
                memory.file as f64 / MB,
                memory.anonymous as f64 / MB
            )?;
        }
        if let Some(Profiles { multiply_peak, decode, prefill }) = &self.profile {
            writeln!(f)?;
            let (peak, threads) = (multiply_peak / 1e9, self.threads);
            writeln!(f, "peak      {peak:.0} GMAC/s of 8-bit products by {threads} threads")?;
            write!(f, "\n{decode}\n{prefill}")?;
        }
        Ok(())
    }
}
