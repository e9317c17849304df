//! What is measured of an engine in one turn, by a worker of its own.

use std::env;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use quantloom_peers::Request;

use crate::prepare::Starter;
use crate::results::Measure::{
    AnonymousMemory, BusyDecode, BusyShare, Decode, DeepDecode, FirstToken, Load, PeakMemory, Prefill,
};
use crate::results::{Comparison, DECODED, DECODED_DEEP, DEPTH, PROMPT, SHORT, Spoken, Turn};
use crate::worker::{Result, Worker};

/// Token numbers spread over a vocabulary, the same for everyone.
fn tokens(count: usize) -> Vec<u32> {
    /// The vocabulary of the models for speed.
    const VOCABULARY: usize = 32_000;
    (1..=count).map(|i| (i * 7919 % VOCABULARY) as u32).collect()
}

/// An engine's turn.
pub fn turn(
    starter: &Starter,
    comparison: Comparison,
    model: &Path,
    threads: usize,
    patience: Duration,
) -> Result<Turn> {
    let mut worker = Worker::start(starter.command(threads), patience)?;
    let mut samples = Vec::new();

    // Before anything else has run: that is what a user of a command line waits for.
    let started = Instant::now();
    let load = load(&mut worker, model, threads, DEPTH + DECODED_DEEP)?;
    prefill(&mut worker, SHORT)?;
    let first_token = started.elapsed().as_secs_f64();

    // What is reserved, packed or started at first use is so now.
    prefill(&mut worker, PROMPT / 8)?;
    if comparison == Comparison::Details {
        samples.extend([(Load, load * 1e3), (FirstToken, first_token * 1e3)]);
        prefill(&mut worker, DEPTH)?;
        samples.push((DeepDecode, DECODED_DEEP as f64 / decode(&mut worker, DECODED_DEEP)?));
        if let Some(memory) = worker.memory() {
            let mb = |bytes: u64| bytes as f64 / 1e6;
            samples.extend([(PeakMemory, mb(memory.peak)), (AnonymousMemory, mb(memory.anonymous))]);
        }
    } else {
        if comparison != Comparison::Busy {
            samples.push((Prefill, PROMPT as f64 / prefill(&mut worker, PROMPT)?));
        }
        prefill(&mut worker, SHORT)?;
        let idle = DECODED as f64 / decode(&mut worker, DECODED)?;
        samples.push((Decode, idle));
        if comparison == Comparison::Busy {
            prefill(&mut worker, SHORT)?;
            let busy = Busy::start()?;
            let speed = DECODED as f64 / decode(&mut worker, DECODED)?;
            drop(busy);
            samples.extend([(BusyDecode, speed), (BusyShare, speed / idle * 100.0)]);
        }
    }
    Ok(Turn { version: worker.version.clone(), notes: worker.notes.clone(), samples })
}

/// An engine's worker that has loaded a model.
pub fn loaded(
    starter: &Starter,
    model: &Path,
    context: usize,
    threads: usize,
    patience: Duration,
) -> Result<Worker> {
    let mut worker = Worker::start(starter.command(threads), patience)?;
    load(&mut worker, model, threads, context)?;
    Ok(worker)
}

/// What an engine says after a prompt, greedily.
pub fn speak(worker: &mut Worker, prompt: &[u32], count: usize) -> Result<Vec<u32>> {
    let mut spoken = worker.ask(&Request::Prefill { tokens: prompt.to_vec() })?.tokens;
    spoken.extend(worker.ask(&Request::Decode { count: count - 1 })?.tokens);
    Ok(spoken)
}

/// How a text compares with another.
pub fn compared(spoken: Result<Vec<u32>>, expected: &[u32]) -> Spoken {
    match spoken {
        Err(why) => Spoken::NotRun(why),
        Ok(tokens) if tokens == expected => Spoken::Same(expected.len()),
        Ok(tokens) => {
            Spoken::DiffersFrom(tokens.iter().zip(expected).take_while(|(a, b)| a == b).count() + 1)
        }
    }
}

/// Seconds.
fn load(worker: &mut Worker, model: &Path, threads: usize, context: usize) -> Result<f64> {
    Ok(worker.ask(&Request::Load { model: model.into(), threads, context })?.seconds)
}

/// Seconds.
fn prefill(worker: &mut Worker, count: usize) -> Result<f64> {
    Ok(worker.ask(&Request::Prefill { tokens: tokens(count) })?.seconds)
}

/// Seconds.
fn decode(worker: &mut Worker, count: usize) -> Result<f64> {
    let done = worker.ask(&Request::Decode { count })?;
    if done.tokens.len() != count {
        return Err(format!("asked for {count} tokens, the worker gave {}", done.tokens.len()));
    }
    Ok(done.seconds)
}

/// A process that keeps a core busy as long as this lives.
struct Busy(Child);

/// The argument by which this program is that process.
pub const BUSY: &str = "--be-busy";

impl Busy {
    fn start() -> Result<Self> {
        let io = |error: std::io::Error| format!("no busy process: {error}");
        let child = Command::new(env::current_exe().map_err(io)?)
            .arg(BUSY)
            // It ends with us, however that is.
            .stdin(Stdio::piped())
            .spawn()
            .map_err(io)?;
        Ok(Self(child))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        // It can't have ended yet, and if it has, that is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_all_different() {
        let mut tokens = tokens(DEPTH);
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens.len(), DEPTH);
    }

    #[test]
    fn texts_are_compared_token_by_token() {
        for (spoken, expected) in [
            (Ok(vec![1, 2, 3]), Spoken::Same(3)),
            (Ok(vec![1, 2, 4]), Spoken::DiffersFrom(3)),
            (Ok(vec![0, 2, 3]), Spoken::DiffersFrom(1)),
            (Ok(vec![1, 2]), Spoken::DiffersFrom(3)),
            (Err("no such file".to_owned()), Spoken::NotRun("no such file".into())),
        ] {
            assert_eq!(compared(spoken.clone(), &[1, 2, 3]), expected, "{spoken:?}");
        }
    }
}
