//! What an engine's worker is: a process of its own that does what lines on standard input ask, and answers each on
//! standard output. A worker in Rust implements [`Engine`] and calls [`serve`].
//!
//! ```text
//! → {"ready": {"version": "0.1.0", "notes": "avx512_vnni"}}        unasked, when it has started
//! ← {"do": "load", "model": "model.gguf", "threads": 2, "context": 1100}
//! → {"done": {"seconds": 0.0129, "tokens": []}}
//! ← {"do": "prefill", "tokens": [1, 29871, 29896]}                 forgets what was before
//! → {"done": {"seconds": 0.05, "tokens": [29892]}}                 the greedy next token
//! ← {"do": "decode", "count": 2}                                   from the greedy next token on
//! → {"done": {"seconds": 0.07, "tokens": [29871, 29906]}}
//! ← {"do": "logits", "tokens": [1, 29871], "one_by_one": true, "file": "logits.f64"}
//! → {"done": {"seconds": 0.09, "tokens": []}}
//! → {"failed": "why"}                                              instead of `done`
//! ```
//!
//! Its memory is looked at from outside.

use std::error::Error;
use std::fs;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

pub use quantloom::sample::greedy;
use serde::{Deserialize, Serialize};

/// What a worker is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum Request {
    /// Load a model, first of all and once.
    Load {
        /// The file.
        model: PathBuf,
        /// Threads to run it, the caller's among them.
        threads: usize,
        /// The most tokens that there will be at a time.
        context: usize,
    },
    /// Forget all tokens and run these.
    Prefill {
        /// Any number of them.
        tokens: Vec<u32>,
    },
    /// Run single tokens, each the greedy one after those before.
    Decode {
        /// How many.
        count: usize,
    },
    /// Forget all tokens and run these; write the logits after each, `[tokens, vocab]` as f64 in little-endian bytes.
    Logits {
        /// Any number of them.
        tokens: Vec<u32>,
        /// Whether as single tokens, and not as a prompt.
        one_by_one: bool,
        /// Where to.
        file: PathBuf,
    },
}

/// What a worker says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// It has started.
    Ready {
        /// The engine's version.
        version: String,
        /// How it was built, or what it runs on, as far as it knows.
        notes: String,
    },
    /// It has done what it was asked.
    Done {
        /// The time that took, by its own clock.
        seconds: f64,
        /// The greedy next token after each step.
        tokens: Vec<u32>,
    },
    /// It can't.
    Failed(String),
}

/// What an engine's worker returns.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// An engine with a model loaded.
pub trait Engine: Sized {
    /// Its version.
    fn version() -> String;

    /// What it runs on, as far as it knows.
    fn notes() -> String {
        String::new()
    }

    /// Loads a model for at most `context` tokens: when it returns, the model can run.
    ///
    /// # Errors
    /// The engine's own.
    fn load(model: &Path, threads: usize, context: usize) -> Result<Self>;

    /// Forgets all tokens, and runs these in the way that is fastest; the greedy next token.
    ///
    /// # Errors
    /// The engine's own.
    fn prefill(&mut self, tokens: &[u32]) -> Result<u32>;

    /// Runs one token after those before; the greedy next token.
    ///
    /// # Errors
    /// The engine's own.
    fn step(&mut self, token: u32) -> Result<u32>;

    /// Forgets all tokens, and runs these, as a prompt or one by one; the logits `[tokens, vocab]` after each.
    ///
    /// # Errors
    /// The engine's own.
    fn logits(&mut self, _tokens: &[u32], _one_by_one: bool) -> Result<Vec<f32>> {
        Err("nobody has asked this engine for logits yet".into())
    }
}

/// The version of a crate that workers are built with.
///
/// # Panics
/// There is none of that name.
pub fn locked_version(name: &str) -> String {
    let mut lines = include_str!("../Cargo.lock").lines();
    lines
        .by_ref()
        .find(|line| line.strip_prefix("name = ") == Some(&format!("{name:?}")))
        .expect("a crate in use");
    let version = lines.next().and_then(|line| line.strip_prefix("version = ")).expect("the version follows");
    version.trim_matches('"').to_owned()
}

/// Answers requests until there are no more. The `main` of a worker.
pub fn serve<E: Engine>() -> ExitCode {
    let mut worker = Worker::<E> { engine: None, next: 0 };
    let answer = |reply: &Reply| -> Result<()> {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, reply)?;
        writeln!(out)?;
        Ok(out.flush()?)
    };
    let mut requests = io::stdin().lock().lines();
    let served = answer(&Reply::Ready { version: E::version(), notes: E::notes() }).and_then(|()| {
        requests.try_for_each(|line| {
            let request = serde_json::from_str(&line?)?;
            let reply = worker.answer(request).unwrap_or_else(|error| Reply::Failed(error.to_string()));
            answer(&reply)
        })
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Worker<E> {
    engine: Option<E>,
    /// The greedy token after those that have run.
    next: u32,
}

impl<E: Engine> Worker<E> {
    fn answer(&mut self, request: Request) -> Result<Reply> {
        let started = Instant::now();
        let mut tokens = Vec::new();
        match request {
            Request::Load { model, threads, context } => {
                self.engine = Some(E::load(&model, threads, context)?);
            }
            Request::Prefill { tokens: prompt } => {
                self.next = self.loaded()?.prefill(&prompt)?;
                tokens.push(self.next);
            }
            Request::Decode { count } => {
                for _ in 0..count {
                    let token = self.next;
                    self.next = self.loaded()?.step(token)?;
                    tokens.push(self.next);
                }
            }
            Request::Logits { tokens, one_by_one, file } => {
                let logits = self.loaded()?.logits(&tokens, one_by_one)?;
                let bytes: Vec<u8> =
                    logits.iter().flat_map(|&logit| f64::from(logit).to_le_bytes()).collect();
                fs::write(file, bytes)?;
            }
        }
        Ok(Reply::Done { seconds: started.elapsed().as_secs_f64(), tokens })
    }

    fn loaded(&mut self) -> Result<&mut E> {
        Ok(self.engine.as_mut().ok_or("no model is loaded")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next token is the sum of all before.
    struct Sum(u32);

    impl Engine for Sum {
        fn version() -> String {
            "1".into()
        }
        fn load(model: &Path, _: usize, _: usize) -> Result<Self> {
            if model.as_os_str() == "bad" { Err("damaged".into()) } else { Ok(Self(0)) }
        }
        fn prefill(&mut self, tokens: &[u32]) -> Result<u32> {
            self.0 = tokens.iter().sum();
            Ok(self.0)
        }
        fn step(&mut self, token: u32) -> Result<u32> {
            self.0 += token;
            Ok(self.0)
        }
        fn logits(&mut self, tokens: &[u32], one_by_one: bool) -> Result<Vec<f32>> {
            let sign = if one_by_one { -1.0 } else { 1.0 };
            Ok(tokens.iter().map(|&token| sign * token as f32).collect())
        }
    }

    #[test]
    fn a_worker_does_what_it_is_asked() {
        let mut worker = Worker::<Sum> { engine: None, next: 0 };
        for (request, expected) in [
            (r#"{"do": "prefill", "tokens": [1]}"#, Err("no model is loaded")),
            (r#"{"do": "load", "model": "bad", "threads": 1, "context": 9}"#, Err("damaged")),
            (r#"{"do": "load", "model": "good", "threads": 1, "context": 9}"#, Ok(vec![])),
            (r#"{"do": "prefill", "tokens": [1, 2]}"#, Ok(vec![3])),
            (r#"{"do": "decode", "count": 2}"#, Ok(vec![6, 12])),
            (r#"{"do": "decode", "count": 1}"#, Ok(vec![24])),
            (r#"{"do": "prefill", "tokens": [5]}"#, Ok(vec![5])),
        ] {
            let reply = worker.answer(serde_json::from_str(request).expect(request));
            let got = reply.map_err(|error| error.to_string()).map(|reply| match reply {
                Reply::Done { tokens, .. } => tokens,
                other => panic!("{request}: {other:?}"),
            });
            assert_eq!(got, expected.map_err(str::to_owned), "{request}");
        }
    }

    #[test]
    fn logits_go_to_a_file() {
        let mut worker = Worker { engine: Some(Sum(0)), next: 0 };
        let file = tempfile::NamedTempFile::new().expect("a file");
        for (one_by_one, expected) in [(false, [1.0, 3.0]), (true, [-1.0, -3.0])] {
            let request = Request::Logits { tokens: vec![1, 3], one_by_one, file: file.path().into() };
            worker.answer(request).expect("it has a model");
            assert_eq!(fs::read(&file).expect("it is written"), expected.map(f64::to_le_bytes).concat());
        }
    }

    #[test]
    fn versions_are_those_of_the_lock_file() {
        // Which `Cargo.toml` pins.
        assert_eq!(locked_version("candle-core"), "0.11.1");
        assert_eq!(locked_version("realizar"), "0.8.6");
    }
}
