//! Programs that measure themselves, as `llama-bench` of llama.cpp and of its forks: asked for one prompt and one
//! series of single tokens, they print the speed of both as JSON.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::results::{DECODED, Measure, PROMPT, Turn};
use crate::worker::{Result, how_it_ended};

/// `NAME=VALUE`, as an option names one of several.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    pub name: String,
    pub value: String,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self { name: name.into(), value: value.into() }),
            _ => Err("it must be NAME=VALUE".into()),
        }
    }
}

/// A `llama-bench` of somebody's.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaBench {
    /// As tables name it.
    pub name: String,
    program: PathBuf,
    /// Flags, of which each mode has its own. The fastest mode counts.
    modes: Vec<Vec<String>>,
}

impl LlamaBench {
    /// The programs that are named, each in the modes that are named for it, or without flags.
    pub fn all(programs: &[Named], modes: &[Named]) -> Result<Vec<Self>> {
        if let Some(Named { name, .. }) =
            modes.iter().find(|mode| programs.iter().all(|program| program.name != mode.name))
        {
            return Err(format!("--llama-bench-args {name:?}: no --llama-bench has that name"));
        }
        let bench = |Named { name, value }: &Named| {
            let own = modes.iter().filter(|mode| mode.name == *name);
            let mut modes: Vec<Vec<String>> =
                own.map(|mode| mode.value.split_whitespace().map(str::to_owned).collect()).collect();
            if modes.is_empty() {
                modes.push(Vec::new());
            }
            Self { name: name.clone(), program: value.into(), modes }
        };
        Ok(programs.iter().map(bench).collect())
    }

    /// One turn of each mode.
    pub fn turn(&self, model: &Path, threads: usize, patience: Duration) -> Result<Turn> {
        let commands = self.modes.iter().map(|mode| {
            let mut command = Command::new(&self.program);
            command.args(mode);
            command
        });
        let mut turn = turn(commands, model, threads, patience)?;
        let shown = self.modes.iter().map(|mode| match &mode[..] {
            [] => "no flags".to_owned(),
            flags => format!("`{}`", flags.join(" ")),
        });
        turn.notes = format!("`llama-bench` with {}", shown.collect::<Vec<_>>().join(" or "));
        Ok(turn)
    }
}

/// A test's row, of the fields that are read.
#[derive(Debug, Deserialize)]
struct Row {
    build_commit: String,
    n_threads: usize,
    n_prompt: usize,
    n_gen: usize,
    /// Tokens per second.
    avg_ts: f64,
}

/// What each command does on its own: of each measure the best of them.
pub fn turn(
    commands: impl IntoIterator<Item = Command>,
    model: &Path,
    threads: usize,
    patience: Duration,
) -> Result<Turn> {
    let mut version = String::new();
    let mut best = BTreeMap::<Measure, f64>::new();
    for mut command in commands {
        command.arg("-m").arg(model).args(["-t", &threads.to_string(), "-p", &PROMPT.to_string()]);
        command.args(["-n", &DECODED.to_string(), "-r", "1", "-o", "json"]);
        let rows = rows(&output(&mut command, patience)?)?;
        for (measure, test) in [(Measure::Prefill, (PROMPT, 0)), (Measure::Decode, (0, DECODED))] {
            let row =
                rows.iter().find(|row| (row.n_prompt, row.n_gen, row.n_threads) == (test.0, test.1, threads));
            let row = row.ok_or_else(|| format!("it told of no {measure:?} on {threads} threads"))?;
            let speed = best.entry(measure).or_insert(row.avg_ts);
            *speed = speed.max(row.avg_ts);
            version.clone_from(&row.build_commit);
        }
    }
    Ok(Turn { version, notes: String::new(), samples: best.into_iter().collect() })
}

/// The rows among what a program printed: some print other lines before them.
fn rows(output: &str) -> Result<Vec<Row>> {
    let is_start = |line: &&str| line.starts_with('[');
    let start = output.split_inclusive('\n').take_while(|line| !is_start(line)).map(str::len).sum();
    let mut values = serde_json::Deserializer::from_str(&output[start..]).into_iter();
    let rows = values.next().ok_or("it printed no JSON")?;
    rows.map_err(|error| format!("it printed no rows of llama-bench: {error}"))
}

/// Standard output of a program that ends well.
fn output(command: &mut Command, patience: Duration) -> Result<String> {
    let io = |error: std::io::Error| format!("it does not run: {error}");
    let [mut out, mut err] = [tempfile::tempfile().map_err(io)?, tempfile::tempfile().map_err(io)?];
    let mut child = command
        .stdin(Stdio::null())
        .stdout(out.try_clone().map_err(io)?)
        .stderr(err.try_clone().map_err(io)?)
        .spawn()
        .map_err(io)?;
    let until = Instant::now() + patience;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(io)? {
            break status;
        }
        if Instant::now() >= until {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("no answer within {} s", patience.as_secs()));
        }
        thread::sleep(Duration::from_millis(20));
    };
    let text = |file: &mut File| {
        let mut bytes = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(io)?;
        Ok::<_, String>(String::from_utf8_lossy(&bytes).into_owned())
    };
    if status.success() {
        return text(&mut out);
    }
    let words = text(&mut err)?;
    let last = words.lines().rev().map(str::trim).find(|line| !line.is_empty());
    Err(last.map_or(how_it_ended(status), |last| format!("{}: {last}", how_it_ended(status))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(texts: &[&str]) -> Vec<Named> {
        texts.iter().map(|text| text.parse().expect(text)).collect()
    }

    #[test]
    fn programs_have_the_modes_that_are_named_for_them() {
        let benches =
            LlamaBench::all(&named(&["ik=/bin/a", "main=b=c"]), &named(&["ik=", "ik=-rtr 1 -fa 0"]))
                .expect("both");
        let shown: Vec<_> = benches
            .iter()
            .map(|bench| (&bench.name[..], bench.program.to_str(), bench.modes.concat().join(" ")))
            .collect();
        assert_eq!(
            shown,
            [("ik", Some("/bin/a"), "-rtr 1 -fa 0".into()), ("main", Some("b=c"), String::new())]
        );
        assert_eq!([benches[0].modes.len(), benches[1].modes.len()], [2, 1]);
        let error =
            LlamaBench::all(&named(&["ik=a"]), &named(&["other=-rtr 1"])).expect_err("there is no other");
        assert_eq!(error, "--llama-bench-args \"other\": no --llama-bench has that name");
        for text in ["ik", "=a"] {
            assert!(text.parse::<Named>().is_err(), "{text}");
        }
    }

    /// A shell that prints what `llama-bench` would.
    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]);
        command
    }

    fn printed(prompt: f64, generated: f64) -> String {
        let row = |p, n, speed| {
            format!(
                r#"{{"build_commit": "abc", "n_threads": 3, "n_prompt": {p}, "n_gen": {n}, "avg_ts": {speed}}}"#
            )
        };
        let rows = [row(PROMPT, 0, prompt), row(0, DECODED, generated)];
        format!("echo loading; echo '[{}]'; echo; echo done", rows.join(","))
    }

    #[test]
    fn the_best_mode_counts() {
        let commands = [shell(&printed(100.0, 9.0)), shell(&printed(80.0, 12.5))];
        let turn = turn(commands, Path::new("m"), 3, Duration::from_secs(9)).expect("both run");
        assert_eq!(
            (&turn.version[..], turn.samples),
            ("abc", vec![(Measure::Prefill, 100.0), (Measure::Decode, 12.5)])
        );
    }

    #[test]
    fn it_is_asked_as_llama_bench() {
        let script = format!(
            r#"test "$*" = "-m m -t 3 -p 512 -n {DECODED} -r 1 -o json" && {{ {}; }}"#,
            printed(1.0, 1.0)
        );
        turn([shell(&script)], Path::new("m"), 3, Duration::from_secs(9)).expect("these flags");
    }

    #[test]
    fn whatever_goes_wrong_is_told() {
        for (script, threads, expected) in [
            ("echo 'no such model' >&2; exit 3", 3, "it ended with exit status: 3: no such model"),
            ("kill -4 $$", 3, "it was ended by an illegal instruction"),
            ("echo nothing", 3, "it printed no JSON"),
            ("echo '[]'", 3, "it told of no Prefill on 3 threads"),
            (&printed(1.0, 1.0), 2, "it told of no Prefill on 2 threads"),
            (
                "echo '[1]'",
                3,
                "it printed no rows of llama-bench: invalid type: integer `1`, expected struct Row at line 1 column 2",
            ),
        ] {
            let error = turn([shell(script)], Path::new("m"), threads, Duration::from_secs(9)).err();
            assert_eq!(error.as_deref(), Some(expected), "{script}");
        }
        let error = turn([shell("sleep 9")], Path::new("m"), 3, Duration::from_millis(50)).err();
        assert_eq!(error.as_deref(), Some("no answer within 0 s"));
    }
}
