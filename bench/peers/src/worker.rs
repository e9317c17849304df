//! A worker from outside: started, asked, watched and ended.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use quantloom_peers::{Reply, Request};

/// Why an engine could not do something, for people.
pub type Result<T> = std::result::Result<T, String>;

/// A running worker. It is ended when it is dropped.
pub struct Worker {
    child: Child,
    requests: ChildStdin,
    replies: Receiver<String>,
    errors: File,
    patience: Duration,
    anonymous: u64,
    /// The engine's version, and how it was built.
    pub version: String,
    pub notes: String,
}

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// The most that there ever was, pages of mapped files among it.
    pub peak: u64,
    /// The most that was seen after any request of what is no file's.
    pub anonymous: u64,
}

/// What a worker did.
pub struct Done {
    pub seconds: f64,
    pub tokens: Vec<u32>,
}

impl Worker {
    /// Starts a worker, and waits until it says that it has. `patience` is how long any answer may take.
    pub fn start(mut command: Command, patience: Duration) -> Result<Self> {
        let io = |error: std::io::Error| format!("the worker does not start: {error}");
        let errors = tempfile::tempfile().map_err(io)?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.try_clone().map_err(io)?)
            .spawn()
            .map_err(io)?;
        let requests = child.stdin.take().expect("it is piped");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let (sender, replies) = channel();
        thread::spawn(move || lines.map_while(std::io::Result::ok).try_for_each(|line| sender.send(line)));
        let (version, notes) = Default::default();
        let mut worker = Self { child, requests, replies, errors, patience, anonymous: 0, version, notes };
        match worker.reply()? {
            Reply::Ready { version, notes } => (worker.version, worker.notes) = (version, notes),
            other => return Err(format!("the worker said {other:?} before anything was asked")),
        }
        Ok(worker)
    }

    /// Has something done.
    pub fn ask(&mut self, request: &Request) -> Result<Done> {
        let line = serde_json::to_string(request).expect("a request is JSON");
        // One that has died is told apart below.
        let _ = writeln!(self.requests, "{line}");
        let reply = self.reply()?;
        let now = self.status("RssAnon").unwrap_or(0);
        self.anonymous = self.anonymous.max(now);
        match reply {
            Reply::Done { seconds, tokens } => Ok(Done { seconds, tokens }),
            Reply::Failed(why) => Err(why),
            Reply::Ready { .. } => Err("the worker started twice".into()),
        }
    }

    /// Its memory so far; `None` where the system doesn't tell.
    pub fn memory(&self) -> Option<Memory> {
        Some(Memory { peak: self.status("VmHWM")?, anonymous: self.anonymous })
    }

    /// Bytes in a line of /proc/PID/status, which are in KiB there.
    fn status(&self, name: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    }

    fn reply(&mut self) -> Result<Reply> {
        let until = Instant::now() + self.patience;
        loop {
            match self.replies.recv_timeout(until.saturating_duration_since(Instant::now())) {
                // Libraries print what they like: whatever is no reply is not for us.
                Ok(line) => {
                    if let Ok(reply) = serde_json::from_str(&line) {
                        return Ok(reply);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("no answer within {} s", self.patience.as_secs()));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let ended = self.child.wait().map_or("the worker ended".into(), how_it_ended);
                    return Err(self.last_words().map_or(ended.clone(), |words| format!("{ended}: {words}")));
                }
            }
        }
    }

    /// The last line on its standard error.
    fn last_words(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        self.errors.seek(SeekFrom::Start(0)).ok()?;
        self.errors.read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        Some(text.lines().rev().map(str::trim).find(|line| !line.is_empty())?.to_owned())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Why a program ended that should not have.
pub fn how_it_ended(status: ExitStatus) -> String {
    match status.signal() {
        Some(4) => "it was ended by an illegal instruction".into(),
        Some(9) => "it was killed, perhaps for want of memory".into(),
        Some(11) => "it was ended by a segmentation fault".into(),
        Some(signal) => format!("it was ended by signal {signal}"),
        None => format!("it ended with {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(script: &str) -> Result<Worker> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        // So long that a busy machine starts a shell.
        Worker::start(command, Duration::from_secs(2))
    }

    const READY: &str = r#"echo '{"ready": {"version": "7", "notes": "n"}}'; read _;"#;

    #[test]
    fn whatever_a_worker_does_is_told() {
        for (script, expected) in [
            (r#"echo '{"done": {"seconds": 2, "tokens": [5]}}'; read _"#, Ok(vec![5])),
            (r#"echo chatter; echo '{"done": {"seconds": 2, "tokens": []}}'; read _"#, Ok(vec![])),
            (r#"echo '{"failed": "no such format"}'; read _"#, Err("no such format")),
            ("echo 'bad magic' >&2; exit 3", Err("it ended with exit status: 3: bad magic")),
            ("exit 0", Err("it ended with exit status: 0")),
            ("kill -4 $$", Err("it was ended by an illegal instruction")),
            ("read _", Err("no answer within 2 s")),
        ] {
            let mut worker = started(&format!("{READY} {script}")).expect(script);
            assert_eq!((&worker.version[..], &worker.notes[..]), ("7", "n"), "{script}");
            let tokens = worker.ask(&Request::Decode { count: 1 }).map(|done| done.tokens);
            assert_eq!(tokens, expected.map_err(str::to_owned), "{script}");
        }
    }

    #[test]
    fn one_that_never_starts_is_told() {
        for (script, expected) in [
            ("exit 1", "it ended with exit status: 1"),
            ("read _", "no answer within 2 s"),
            (r#"echo '{"failed": "x"}'; read _"#, "the worker said Failed(\"x\") before anything was asked"),
        ] {
            assert_eq!(started(script).err().as_deref(), Some(expected), "{script}");
        }
    }

    #[test]
    fn memory_is_seen() {
        let mut worker =
            started(&format!(r#"{READY} echo '{{"done": {{"seconds": 0, "tokens": []}}}}'; read _"#))
                .expect("it starts");
        worker.ask(&Request::Decode { count: 0 }).expect("it answers");
        let memory = worker.memory().expect("Linux tells");
        assert!(memory.peak > memory.anonymous && memory.anonymous > 0, "{memory:?}");
    }
}
