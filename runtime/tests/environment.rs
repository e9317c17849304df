//! What the system does to the binary: streams that are closed, gone or terminals, files that are cut short while they
//! are mapped, and memory that is short.

#![cfg(unix)]

#[path = "common/tiny.rs"]
mod tiny;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::ptr;
use std::thread;

use quantloom::gguf::Value;
use tempfile::TempDir;

use tiny::{SHAPE, Shape, TinyModel};

const BINARY: &str = env!("CARGO_BIN_EXE_quantloom");

/// Some text.
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");

fn quantloom(args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(args).env_remove("GGUF_MODEL").env_remove("QUANTLOOM_ISA").stdin(Stdio::null());
    command
}

/// The binary behind a line of shell, in which it is `"$0" "$@"`.
fn shell(line: &str, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line, BINARY]).args(args);
    command.env_remove("GGUF_MODEL").env_remove("QUANTLOOM_ISA").stdin(Stdio::null());
    command
}

/// A model in a folder of its own.
fn model(shape: &Shape) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.gguf");
    TinyModel::new(shape).write(&path);
    (folder, path)
}

/// One line of error, and status 1.
#[track_caller]
fn assert_one_line(output: &Output, fragment: &str, case: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let case = format!("{case}: {}, {stderr:?}", output.status);
    assert_eq!(output.status.code(), Some(1), "{case}");
    assert!(stderr.starts_with("error: ") && stderr.contains(fragment), "{case}: expected {fragment:?}");
    assert_eq!(stderr.trim_end().lines().count(), 1, "{case}");
}

/// A terminal: the side that programs write to, and the side that shows it.
fn terminal() -> (OwnedFd, File) {
    let (mut shown, mut written) = (-1, -1);
    // SAFETY: both places are written, and the others may be null.
    let opened =
        unsafe { libc::openpty(&mut shown, &mut written, ptr::null_mut(), ptr::null_mut(), ptr::null_mut()) };
    assert_eq!(opened, 0, "{}", io::Error::last_os_error());
    // SAFETY: they were opened just now, and nothing else owns them.
    let own = |descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) };
    (own(written), own(shown).into())
}

/// What a terminal shows of both streams of `command`, and how it ends.
fn on_terminal(command: &mut Command) -> (String, std::process::ExitStatus) {
    let (written, mut shown) = terminal();
    command.stdout(written.try_clone().unwrap()).stderr(written);
    let mut child = command.spawn().unwrap();
    // The command keeps the side that is written to open as long as it lives.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    // Linux ends a terminal that nobody writes to any more with an error.
    while let Ok(read @ 1..) = shown.read(&mut part) {
        bytes.extend_from_slice(&part[..read]);
    }
    let status = child.wait().unwrap();
    (String::from_utf8(bytes).expect("whole characters"), status)
}

/// Characters that a terminal obeys; a line break comes with a return.
fn commands_in(shown: &str) -> Vec<char> {
    let is_command = |c: &char| {
        (c.is_control() && !['\n', '\r', '\t'].contains(c))
            || ('\u{202a}'..='\u{202e}').contains(c)
            || ('\u{2066}'..='\u{2069}').contains(c)
    };
    shown.chars().filter(is_command).collect()
}

#[test]
fn a_terminal_obeys_nothing_that_a_stranger_wrote() {
    let folder = TempDir::new().unwrap();
    let [path, renamed] =
        ["model.gguf", "\u{1b}]0;title\u{7}\u{9b}31m\u{202e}.gguf"].map(|name| folder.path().join(name));
    let mut tiny = TinyModel::new(&SHAPE);
    tiny.keys.push(("general.name".into(), Value::from("\u{1b}[2J\u{9b}31m\u{202e}evil\u{7}")));
    tiny.keys.push(("a\u{1b}[31mkey\u{2066}".into(), Value::from("x")));
    tiny.tensors[2].name = "blk.0.\u{1b}[31m\u{202e}".into();
    tiny.write(&path);
    fs::copy(&path, &renamed).unwrap();
    let whole = folder.path().join("whole.gguf");
    TinyModel::new(&SHAPE).write(&whole);
    let [path, renamed, whole] = [&path, &renamed, &whole].map(|path| path.to_str().unwrap());

    // Random weights make random bytes.
    let raw = ["run", "--raw", "-m", whole, "-p", "x", "-n", "70", "--temp", "9", "--top-k", "0", "-s", "1"];
    let cases: [(&[&str], &str); 6] = [
        (&["inspect", path], "\\u{1b}[2J"),
        (&["inspect", renamed], "\\u{202e}.gguf: GGUF version"),
        // A tensor that the model lacks is named, and the path.
        (&["run", "-m", renamed, "x"], "error: "),
        (&["run", "-m", "no\u{1b}[31m\u{202e}.gguf", "x"], "no\\u{1b}[31m\\u{202e}.gguf"),
        (&["quantize", renamed, "/nowhere/\u{1b}[1m", "q8_0"], "\\u{1b}"),
        (&raw, "\\u{"),
    ];
    for (args, expected) in cases {
        let (shown, _) = on_terminal(&mut quantloom(args));
        assert_eq!(commands_in(&shown), [], "{args:?}: {shown:?}");
        assert!(shown.contains(expected), "{args:?}: {shown:?}");
    }

    // A pipe gets the text as it is.
    let piped = quantloom(&raw).output().unwrap();
    assert!(piped.status.success(), "{piped:?}");
    let text = String::from_utf8(piped.stdout).unwrap();
    assert_ne!(commands_in(&text), [], "{text:?}");
    assert!(!text.contains("\\u{"), "{text:?}");
}

#[test]
fn a_closed_standard_output_is_an_error_where_something_is_to_be_written() {
    let (folder, path) = model(&SHAPE);
    let path = path.to_str().unwrap();
    let output = folder.path().join("q8_0.gguf");
    let raw = ["run", "--raw", "-m", path, "-p", "x", "-n", "2"];
    let json = [&raw[..], &["--json"]].concat();
    let cases: [&[&str]; 7] = [
        &raw,
        &json,
        &["inspect", path],
        &["tokenize", "-m", path],
        &["kernels"],
        &["--help"],
        &["--version"],
    ];
    for args in cases {
        let closed = shell(r#"exec "$0" "$@" >&-"#, args).output().unwrap();
        assert_one_line(&closed, "can't write the output: standard output is closed", &args.join(" "));
        let unwritable = shell(r#"exec "$0" "$@" 1</dev/null"#, args).output().unwrap();
        assert_one_line(&unwritable, "standard output is closed, or open for reading alone", &args.join(" "));
        // The null device is there on purpose.
        let null = shell(r#"exec "$0" "$@" >/dev/null"#, args).output().unwrap();
        assert!(null.status.success(), "{args:?}: {null:?}");
    }
    // Nothing is lost where nothing is written.
    let args = ["quantize", path, output.to_str().unwrap(), "q8_0"];
    let closed = shell(r#"exec "$0" "$@" >&-"#, &args).output().unwrap();
    assert!(closed.status.success() && output.is_file(), "{closed:?}");
    // Nobody reads the errors: the status tells.
    let closed = shell(r#"exec "$0" "$@" 2>&-"#, &["inspect", "/nowhere.gguf"]).output().unwrap();
    assert_eq!(closed.status.code(), Some(1));
}

#[test]
fn a_reader_that_went_away_ends_the_command_as_a_filter_without_a_word() {
    let (_folder, path) = model(&SHAPE);
    let path = path.to_str().unwrap();
    let raw = ["run", "--raw", "-m", path, "-p", "x", "-n", "40"];
    let perplexity = ["perplexity", "-m", path, "-f", README, "-c", "16", "--chunks", "4"];
    let bench = |format| ["bench", "-m", path, "-p", "4", "-n", "0", "-r", "1", "-o", format];
    let benches = ["md", "csv", "json", "jsonl"].map(bench);
    let cases: [&[&str]; 6] =
        [&raw, &["inspect", path], &["tokenize", "-m", path], &["kernels"], &perplexity, &["--help"]];
    for args in cases.into_iter().chain(benches.iter().map(|args| &args[..])) {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let output = quantloom(args).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.signal(), Some(libc::SIGPIPE), "{args:?}: {output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
    }
    // A full disk is another matter.
    if Path::new("/dev/full").exists() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = quantloom(&["inspect", path]).stdout(full).stderr(Stdio::piped()).output().unwrap();
        assert_one_line(&output, "can't write the output: No space left", "inspect");
    }
}

/// A model whose passes read pages that are gone as soon as the file is cut short.
const LARGE: Shape = Shape { embedding: 256, feed_forward: 1024, context: 4096, ..SHAPE };

#[test]
fn a_mapped_file_that_is_cut_short_is_named() {
    let (folder, path) = model(&LARGE);
    let name = path.to_str().unwrap();
    let importance = folder.path().join("imatrix.gguf");
    let rest = ["-f", README, "-c", "64", "-m", name];
    let cases: [&[&str]; 2] = [&["perplexity"], &["imatrix", "-o", importance.to_str().unwrap()]];
    let before = fs::read(&path).unwrap();
    for first in cases {
        for is_mapped in [true, false] {
            fs::write(&path, &before).unwrap();
            let args =
                [first, &rest, if is_mapped { &[] } else { &["--no-mmap", "--chunks", "40"] }].concat();
            let mut child = quantloom(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let mut stdout = BufReader::new(child.stdout.take().unwrap());
            // The figures of a first chunk: it is under way.
            stdout.read_until(b',', &mut Vec::new()).unwrap();
            File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
            let drain = thread::spawn(move || io::copy(&mut stdout, &mut io::sink()));
            let output = child.wait_with_output().unwrap();
            drain.join().unwrap().unwrap();
            if is_mapped {
                let expected = format!("{name}: the file was cut short");
                assert_one_line(&output, &expected, &format!("{args:?}"));
                assert!(!importance.exists());
            } else {
                assert!(output.status.success(), "{args:?}: {output:?}");
            }
        }
    }
    // Before it was read to its end.
    fs::write(&path, &before[..before.len() - 9]).unwrap();
    let output = quantloom(&["run", "--no-mmap", "-m", name, "x"]).output().unwrap();
    assert_one_line(&output, "is truncated or damaged", "run");
    let mut left: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["imatrix.gguf", "model.gguf"]);
}

#[test]
fn little_memory_is_an_error_in_one_line_in_every_command() {
    let shape = Shape { embedding: 256, feed_forward: 512, context: 1 << 18, ty: "Q8_0", ..SHAPE };
    let (folder, path) = model(&shape);
    let path = path.to_str().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (quantized, logits, importance) = (file("q.gguf"), file("logits.f32"), file("imatrix.gguf"));
    let ids = (0..300).map(|i| (i % 200).to_string()).collect::<Vec<_>>().join(",");
    let text = file("text");
    fs::write(&text, &fs::read(README).unwrap()[..1200]).unwrap();
    let long = fs::read_to_string(&text).unwrap();
    let prompt = &long[..long.floor_char_boundary(1000)];
    let perplexity = ["perplexity", "-m", path, "-f", &text, "-c", "256"];
    let commands: [&[&str]; 12] = [
        &["kernels"],
        &["inspect", path, "--check"],
        &["tokenize", "-m", path],
        &["run", "--raw", "-m", path, "-p", "x", "-n", "3", "-c", "2000"],
        &["run", "--raw", "-m", path, "-p", prompt, "-n", "3", "--draft-ngram", "8"],
        &["run", "--raw", "--no-mmap", "-m", path, "-p", "x", "-n", "3", "-c", "2000"],
        &["run", "--raw", "-t", "16", "-m", path, "-p", "x", "-n", "3", "-c", "2000"],
        &["logits", "-m", path, "--ids", &ids, "-o", &logits],
        &perplexity,
        &[&perplexity[..], &["--kl-divergence", "--kl-divergence-base", path]].concat(),
        &["imatrix", "-m", path, "-f", &text, "-o", &importance],
        &["quantize", path, &quantized, "q4_0", "--allow-requantize"],
    ];
    // Below this not even the loader gets through.
    let loads = |kib: usize| shell(&limited(kib), &["--version"]).output().unwrap().status.success();
    let least = (1..200).map(|i| i * 1024).find(|&kib| loads(kib)).expect("it loads in 200 MB");
    for args in commands {
        // Fine steps where little is there at all, coarse ones up to where every command gets through.
        let fine = (0..8).map(|i| least + i * 2000);
        let coarse = (1..10).map(|i| least + 16_000 + i * i * 5_000);
        let mut outcomes = [0; 2];
        for kib in fine.chain(coarse) {
            let output = shell(&limited(kib), args).output().unwrap();
            if output.status.success() {
                outcomes[0] += 1;
            } else {
                outcomes[1] += 1;
                assert_one_line(
                    &output,
                    "",
                    &format!("{} in {kib} KiB", args[..2.min(args.len())].join(" ")),
                );
            }
        }
        assert!(outcomes[0] > 0, "{args:?} never got through");
    }
}

fn limited(kib: usize) -> String {
    format!(r#"ulimit -v {kib}; ulimit -c 0; exec "$0" "$@""#)
}
