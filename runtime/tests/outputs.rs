//! What the binary does with outputs and inputs that are no plain files, with signals, and with the limits of batch systems:
//! whatever ends it, an output is whole or as it was before.
#![cfg(target_os = "linux")]

#[path = "common/tiny.rs"]
mod tiny;

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use tiny::{SHAPE, Shape, TinyModel};

const QUANTLOOM: &str = env!("CARGO_BIN_EXE_quantloom");

/// A folder with a model, a text and a folder for temporary files.
struct World {
    folder: TempDir,
    before: Vec<PathBuf>,
}

impl World {
    /// Whose commands take no time.
    fn quick() -> Self {
        Self::new(&SHAPE, 12)
    }

    /// Whose commands take many seconds.
    fn slow() -> Self {
        Self::new(&Shape { context: 30_000, ..SHAPE }, 20_000)
    }

    /// In which a model takes seconds to be quantized.
    fn large() -> Self {
        Self::new(&Shape { embedding: 256, vocab: 60_000, ..SHAPE }, 12)
    }

    fn new(shape: &Shape, words: usize) -> Self {
        let mut world = Self { folder: tempfile::tempdir().unwrap(), before: Vec::new() };
        TinyModel::new(shape).write(&world.path("model.gguf"));
        fs::write(world.path("text.txt"), "abc xyz ".repeat(words)).unwrap();
        fs::create_dir(world.path("tmp")).unwrap();
        world.before = world.files();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().into()
    }

    /// What is there, in the folder for temporary files, too.
    fn files(&self) -> Vec<PathBuf> {
        let entries = |folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries(self.path("")).chain(entries(self.path("tmp"))).collect();
        files.sort();
        files
    }

    #[track_caller]
    fn assert_nothing_left(&self, case: &str) {
        assert_eq!(self.files(), self.before, "{case}: something is left");
    }

    fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(QUANTLOOM);
        command.args(arguments).env("TMPDIR", self.path("tmp")).env_remove("GGUF_MODEL");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The same, after a shell has set limits.
    fn command_after(&self, script: &str, arguments: &[String]) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{script}; exec \"$@\""), "sh", QUANTLOOM]).args(arguments);
        command.env("TMPDIR", self.path("tmp")).env_remove("GGUF_MODEL");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The arguments of `command`, which reads the model and the text and writes to `output`.
    fn arguments(&self, command: &str, output: &str) -> Vec<String> {
        let (model, text) = (self.name("model.gguf"), self.name("text.txt"));
        // As many as the text has words.
        let ids = vec!["65"; fs::metadata(&text).unwrap().len() as usize / 8].join(",");
        let arguments: &[&str] = match command {
            "quantize" => &["quantize", &model, output, "q8_0", "-t", "1"],
            "logits" => &["logits", "-m", &model, "--ids", &ids, "-t", "1", "-o", output],
            "imatrix" => &["imatrix", "-m", &model, "-f", &text, "-c", "16", "-t", "1", "-o", output],
            "perplexity" => &[
                "perplexity",
                "-m",
                &model,
                "-f",
                &text,
                "-c",
                "16",
                "-t",
                "1",
                "--kl-divergence-base",
                output,
            ],
            "report" => &[
                "report",
                &model,
                "--types",
                "q8_0",
                "--no-quality",
                "-r",
                "1000000",
                "-n",
                "1",
                "-p",
                "1",
                "--svg",
                output,
            ],
            other => unreachable!("{other}"),
        };
        arguments.iter().map(|argument| (*argument).into()).collect()
    }
}

/// Commands that write a file. The last also prints a report.
const COMMANDS: [&str; 5] = ["quantize", "logits", "imatrix", "perplexity", "report"];

/// What comes out, which must not be waited for long.
#[track_caller]
fn end(mut child: Child, case: &str) -> Output {
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("{case}: does not end");
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

#[track_caller]
fn run(command: &mut Command, case: &str) -> Output {
    end(command.spawn().unwrap(), case)
}

/// The command must fail with status 1 and, at the end of standard error, a line with `problem`.
#[track_caller]
fn assert_error(output: &Output, problem: &str, case: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.lines().last().unwrap_or_default();
    assert_eq!(output.status.code(), Some(1), "{case}: {}, {stderr}", output.status);
    assert!(last.starts_with("error: ") && last.contains(problem), "{case}: {stderr}, expected {problem:?}");
    assert_eq!(stderr.matches("error: ").count(), 1, "{case}: {stderr}");
}

fn send(signal: &str, child: &Child) {
    assert!(
        Command::new("kill")
            .args([&format!("-{signal}"), &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
}

/// Waits until the command is at work: until it has an output open, has printed, or has made temporary files.
#[track_caller]
fn wait_until_begun(world: &World, command: &str, child: &mut Child) {
    if ["imatrix", "perplexity"].contains(&command) {
        // The perplexity of the first chunk.
        let mut byte = [0];
        child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
        return;
    }
    let folder = if command == "report" { world.path("tmp/") } else { world.path("") };
    let is_open = |child: &Child| {
        let open = fs::read_dir(format!("/proc/{}/fd", child.id())).into_iter().flatten().flatten();
        let mut files = open.filter_map(|entry| fs::read_link(entry.path()).ok());
        files.any(|file| {
            file.starts_with(&folder)
                && (file.to_string_lossy().ends_with("(deleted)") || !world.before.contains(&file))
        })
    };
    let start = Instant::now();
    while !(is_open(child) || world.files() != world.before) {
        assert!(start.elapsed() < Duration::from_secs(60), "{command}: no file is begun");
        thread::sleep(Duration::from_millis(1));
    }
    if command == "report" {
        // Once it runs, it watches.
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn signals_leave_an_error_and_no_file() {
    const ALL: &[&str] = &[
        "INT", "TERM", "HUP", "QUIT", "ALRM", "USR1", "USR2", "VTALRM", "PROF", "XCPU", "IO", "PWR",
        "STKFLT", "RTMIN+1",
    ];
    let [slow, large] = [World::slow(), World::large()];
    for command in COMMANDS {
        let world = if command == "quantize" { &large } else { &slow };
        let signals = if command == "quantize" { ALL } else { &ALL[..5] };
        for signal in signals {
            let case = format!("{command}, SIG{signal}");
            let mut child = world.command(&world.arguments(command, &world.name("out"))).spawn().unwrap();
            wait_until_begun(world, command, &mut child);
            if command == "report" {
                // Nobody else may put files there.
                let folder = fs::read_dir(world.path("tmp")).unwrap().next().unwrap().unwrap();
                assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700, "{case}");
            }
            send(signal, &child);
            let output = end(child, &case);
            let by = match *signal {
                "INT" => String::new(),
                "RTMIN+1" => " by a real-time signal".into(),
                signal => format!(" by SIG{signal}"),
            };
            let problem = match command {
                "report" => format!("stopped{by}: nothing is reported"),
                _ => format!("out: not written, for it was stopped{by}"),
            };
            assert_error(&output, &problem, &case);
            world.assert_nothing_left(&case);
        }
    }
}

/// Models that are only measured have no name by then: even SIGKILL leaves but an empty folder.
#[test]
fn a_report_that_is_killed_leaves_no_model() {
    let world = World::quick();
    let mut arguments = world.arguments("report", &world.name("out"));
    arguments.retain(|argument| argument != "--no-quality");
    arguments.extend(["-f", &world.name("text.txt"), "-c", "16"].map(String::from));
    let mut child = world.command(&arguments).spawn().unwrap();
    let start = Instant::now();
    let is_mapped = |map: &str| map.contains("model.Q8_0.gguf (deleted)");
    while !fs::read_to_string(format!("/proc/{}/maps", child.id())).is_ok_and(|maps| is_mapped(&maps)) {
        assert!(start.elapsed() < Duration::from_secs(60), "no model is made");
        thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    end(child, "report");
    let folder = fs::read_dir(world.path("tmp")).unwrap().next().unwrap().unwrap().path();
    fs::remove_dir(folder).expect("an empty folder");
    world.assert_nothing_left("report");
}

/// As `nohup` ignores SIGHUP, and a shell SIGINT for what runs behind `&`.
#[test]
fn signals_that_are_ignored_stay_ignored() {
    let world = World::new(&Shape { embedding: 256, vocab: 20_000, ..SHAPE }, 12);
    for signal in ["HUP", "INT", "QUIT", "TERM"] {
        let arguments = world.arguments("quantize", &world.name("out"));
        let mut child = world.command_after(&format!("trap '' {signal}"), &arguments).spawn().unwrap();
        wait_until_begun(&world, "quantize", &mut child);
        send(signal, &child);
        let output = end(child, signal);
        assert!(output.status.success(), "{signal}: {}", String::from_utf8_lossy(&output.stderr));
        fs::remove_file(world.path("out")).unwrap();
        world.assert_nothing_left(signal);
    }
}

#[test]
fn a_second_interrupt_ends_whatever_it_waits_for() {
    let world = World::quick();
    for command in ["imatrix", "perplexity"] {
        // Nobody reads the other end, and what a pipe holds is there already.
        let (_unread, mut full) = io::pipe().unwrap();
        full.write_all(&[b'x'; 1 << 16]).unwrap();
        let mut process = world.command(&world.arguments(command, &world.name("out")));
        let child = process.stdout(full).spawn().unwrap();
        // It waits for the pipe soon.
        thread::sleep(Duration::from_millis(500));
        send("INT", &child);
        thread::sleep(Duration::from_millis(200));
        send("INT", &child);
        let output = end(child, command);
        assert_eq!(output.status.signal(), Some(2), "{command}: {}", output.status);
        world.assert_nothing_left(command);
    }
}

/// No shell ignores SIGXFSZ here: the binary itself does not die of it.
#[test]
fn the_limit_for_files_is_an_error() {
    // Blocks of 512 bytes: some of each output fits, and some does not.
    let cases = [("quantize", 20), ("logits", 2), ("imatrix", 2), ("perplexity", 20), ("report", 20)];
    for (command, blocks) in cases {
        let world = World::quick();
        let arguments = world.arguments(command, &world.name("out"));
        let output = run(&mut world.command_after(&format!("ulimit -f {blocks}"), &arguments), command);
        let name = if command == "report" { "model.Q8_0.gguf" } else { "out" };
        assert_error(&output, &format!("{name}: File too large"), command);
        world.assert_nothing_left(command);
        // What was there stays.
        if ["quantize", "logits"].contains(&command) {
            fs::write(world.path("out"), "from before").unwrap();
            let output = run(&mut world.command_after(&format!("ulimit -f {blocks}"), &arguments), command);
            assert_error(&output, "out: File too large", command);
            assert_eq!(fs::read(world.path("out")).unwrap(), b"from before", "{command}");
        }
    }
    // Standard output, too, may be a file.
    let world = World::quick();
    let mut inspect = world.command_after("ulimit -f 1", &["inspect".into(), world.name("model.gguf")]);
    inspect.stdout(fs::File::create(world.path("printed")).unwrap());
    assert_error(&run(&mut inspect, "inspect"), "can't write the output: File too large", "inspect");
}

#[test]
fn the_limit_of_time_leaves_no_file() {
    thread::scope(|scope| {
        for (command, limit, killed) in [
            ("perplexity", "ulimit -S -t 1", false),
            ("imatrix", "ulimit -S -t 1", false),
            ("perplexity", "ulimit -t 1", true),
            ("logits", "ulimit -t 1", true),
        ] {
            scope.spawn(move || {
                let world = World::slow();
                let case = format!("{limit}; {command}");
                let mut process = world.command_after(limit, &world.arguments(command, &world.name("out")));
                let output = run(process.stdout(Stdio::null()), &case);
                if killed {
                    assert_eq!(output.status.signal(), Some(9), "{case}: {}", output.status);
                } else {
                    let problem =
                        "out: not written, for it was stopped by SIGXCPU, the limit of CPU time (ulimit -t)";
                    assert_error(&output, problem, &case);
                }
                world.assert_nothing_left(&case);
            });
        }
    });
}

fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// At once, and before a model is opened: here there is none.
#[test]
fn outputs_that_are_no_regular_files_are_refused() {
    let mut world = World::quick();
    fs::remove_file(world.path("model.gguf")).unwrap();
    make_pipe(&world.path("pipe"));
    let _socket = UnixListener::bind(world.path("socket")).unwrap();
    symlink("pipe", world.path("link")).unwrap();
    world.before = world.files();
    let outputs = ["pipe", "socket", "link", "tmp"].map(|name| world.name(name));
    for command in COMMANDS {
        // These open their model first.
        if ["quantize", "report"].contains(&command) {
            TinyModel::new(&SHAPE).write(&world.path("model.gguf"));
            world.before = world.files();
        } else if world.path("model.gguf").exists() {
            fs::remove_file(world.path("model.gguf")).unwrap();
            world.before = world.files();
        }
        let problem = match command {
            "imatrix" => "is there, and no importance matrix: it is not overwritten",
            "perplexity" => "is there, and no file of a base model's logits: it is not overwritten",
            _ => "is not a regular file",
        };
        for path in outputs.iter().map(|path| &**path).chain(["/dev/null", "/dev/stdout"]) {
            let case = format!("{command} to {path}");
            let output = run(&mut world.command(&world.arguments(command, path)), &case);
            assert_error(&output, &format!("{path}: {problem}"), &case);
            assert!(output.stdout.is_empty(), "{case}");
            world.assert_nothing_left(&case);
        }
    }
}

/// A pipe can't be mapped, nor read twice.
#[test]
fn pipes_are_refused_where_a_file_is_mapped() {
    let mut world = World::quick();
    make_pipe(&world.path("pipe"));
    world.before = world.files();
    let [pipe, model, out, text] = ["pipe", "model.gguf", "out", "text.txt"].map(|name| world.name(name));
    let cases: [&[&str]; 9] = [
        &["inspect", &pipe],
        &["inspect", "/dev/stdin"],
        &["run", "-m", &pipe, "hello"],
        &["quantize", &pipe, &out, "q8_0"],
        &["quantize", &model, &out, "q8_0", "--imatrix", &pipe],
        &["logits", "-m", &pipe, "--ids", "3", "-o", &out],
        &[
            "perplexity",
            "-m",
            &model,
            "-f",
            &text,
            "-c",
            "16",
            "--kl-divergence",
            "--kl-divergence-base",
            &pipe,
        ],
        &["perplexity", "-m", &pipe, "-f", &text, "-c", "16", "--kl-divergence-base", &out],
        &["report", &model, "--types", "q8_0", "--no-quality", "--base", &pipe],
    ];
    for arguments in cases {
        let case = arguments.join(" ");
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).into()).collect();
        let mut command = world.command(&arguments);
        let output = run(command.stdin(Stdio::piped()), &case);
        assert_error(&output, "is not a regular file", &case);
        world.assert_nothing_left(&case);
    }
}

/// Standard input by its name here, and pipes by a path.
#[test]
fn texts_may_come_from_pipes() {
    let world = World::quick();
    make_pipe(&world.path("pipe"));
    let text = fs::read(world.path("text.txt")).unwrap();
    let arguments = |command: &str, text: &str| {
        let mut arguments = world.arguments(command, &world.name("out"));
        let at = arguments.iter().position(|argument| argument == "-f").unwrap();
        arguments[at + 1] = text.into();
        arguments
    };
    for command in ["imatrix", "perplexity"] {
        let expected = run(&mut world.command(&arguments(command, &world.name("text.txt"))), command).stdout;
        let written = fs::read(world.path("out")).unwrap();
        for path in ["-", "/dev/stdin", &world.name("pipe")] {
            let case = format!("{command} -f {path}");
            let mut child = world.command(&arguments(command, path)).stdin(Stdio::piped()).spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            if path.ends_with("pipe") {
                fs::write(world.path("pipe"), &text).unwrap();
            } else {
                stdin.write_all(&text).unwrap();
            }
            drop(stdin);
            let output = end(child, &case);
            assert!(output.status.success(), "{case}: {}", String::from_utf8_lossy(&output.stderr));
            assert!(output.stdout == expected, "{case}");
            // An importance matrix names its text.
            assert!(command == "imatrix" || fs::read(world.path("out")).unwrap() == written, "{case}");
        }
        for (input, problem) in [(&b""[..], "the text is empty"), (b"ab\xff", "not valid UTF-8 at byte 2")] {
            let mut child = world.command(&arguments(command, "-")).stdin(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(input).unwrap();
            assert_error(&end(child, command), &format!("standard input: {problem}"), command);
        }
        fs::remove_file(world.path("out")).unwrap();
    }
}

/// Commands that watch for signals don't while they wait for a pipe's other end.
#[test]
fn signals_end_what_waits_for_a_pipe() {
    let mut world = World::quick();
    make_pipe(&world.path("pipe"));
    world.before = world.files();
    // One that nobody writes to, and one that somebody has open and does not write to.
    for (is_open, how) in [(false, "opening"), (true, "reading")] {
        for command in ["imatrix", "perplexity", "report"] {
            for (signal, number) in [("INT", 2), ("TERM", 15)] {
                let case = format!("{command}, {how}, SIG{signal}");
                let mut arguments = world.arguments(command, &world.name("out"));
                arguments.retain(|argument| argument != "--no-quality");
                arguments.extend(["-f".into(), world.name("pipe")]);
                if let Some(first) = arguments.iter().position(|argument| *argument == world.name("text.txt"))
                {
                    arguments.drain(first - 1..=first);
                }
                let child = world.command(&arguments).spawn().unwrap();
                let writer =
                    is_open.then(|| fs::File::options().write(true).open(world.path("pipe")).unwrap());
                thread::sleep(Duration::from_millis(100));
                send(signal, &child);
                let status: ExitStatus = end(child, &case).status;
                assert_eq!(status.signal(), Some(number), "{case}: {status}");
                drop(writer);
                world.assert_nothing_left(&case);
            }
        }
    }
}

#[test]
fn outputs_go_where_links_lead() {
    for command in ["quantize", "logits", "imatrix", "perplexity"] {
        let world = World::quick();
        let out = world.name("out");
        let output = run(&mut world.command(&world.arguments(command, &out)), command);
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        let expected = fs::read(&out).unwrap();
        fs::remove_file(&out).unwrap();
        for (case, to, there) in [
            ("nothing", "tmp/other", false),
            ("a file", "tmp/other", true),
            ("a link to nothing", "tmp/link", false),
            ("a link to a file", "tmp/link", true),
        ] {
            let case = format!("{command} to {case}");
            symlink(to, &out).unwrap();
            symlink("other", world.path("tmp/link")).unwrap();
            if there {
                // What may be overwritten.
                fs::write(world.path("tmp/other"), &expected).unwrap();
            }
            let output = run(&mut world.command(&world.arguments(command, &out)), &case);
            assert!(output.status.success(), "{case}: {}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(fs::read_link(&out).unwrap(), Path::new(to), "{case}");
            assert!(!fs::symlink_metadata(world.path("tmp/other")).unwrap().is_symlink(), "{case}");
            assert!(fs::read(world.path("tmp/other")).unwrap() == expected, "{case}");
            for name in ["out", "tmp/link", "tmp/other"] {
                fs::remove_file(world.path(name)).unwrap();
            }
            world.assert_nothing_left(&case);
        }
        for (to, problem) in
            [("out", "Too many levels of symbolic links"), ("none/other", "none: No such file")]
        {
            symlink(to, &out).unwrap();
            let case = format!("{command} to {to}");
            let output = run(&mut world.command(&world.arguments(command, &out)), &case);
            assert_error(&output, problem, &case);
            assert_eq!(fs::read_link(&out).unwrap(), Path::new(to), "{case}");
            fs::remove_file(&out).unwrap();
            world.assert_nothing_left(&case);
        }
    }
    let world = World::quick();
    symlink("model.gguf", world.path("link")).unwrap();
    let output = run(&mut world.command(&world.arguments("quantize", &world.name("link"))), "quantize");
    assert_error(&output, "is the same file, and would be lost", "quantize to a link to its source");
}
