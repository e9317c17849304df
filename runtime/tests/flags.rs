//! Flags as wrapper scripts give them: llama.cpp's names, glued values, twice the same.

#[path = "common/tiny.rs"]
mod tiny;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::LazyLock;

use tempfile::TempDir;

use tiny::{SHAPE, TinyModel};

fn quantloom(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quantloom"));
    command.args(args).env_remove("GGUF_MODEL").env_remove("QUANTLOOM_ISA").output().unwrap()
}

/// The one line that an error with status 2 is.
#[track_caller]
fn problem(args: &[&str]) -> String {
    let Output { status, stdout, stderr } = quantloom(args);
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!((status.code(), stderr.lines().count(), stdout.len()), (Some(2), 1, 0), "{args:?}: {stderr}");
    stderr
}

/// A small model's file.
static MODEL: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    TinyModel::new(&SHAPE).write(&path);
    (folder, path)
});

#[test]
fn flags_of_several_letters_are_known_or_unknown() {
    // llama.cpp's, which begin with one of ours: -n, -t, -c, -s, -p, -m, -o, -f, -d, -r.
    #[rustfmt::skip]
    let names = [
        "-ngl", "-fa", "-sys", "-cnv", "-tb", "-md", "-sm", "-mmp", "-nkvo", "-hf", "-hfr", "-dev", "-ot", "-cmoe",
        "-ncmoe", "-mg", "-ts", "-ub", "-kvu", "-lv", "-st", "-mli", "-td", "-tbd", "-ctkd", "-ctvd", "-sp", "-np",
        "-ns", "-nr", "-dt", "-dio", "-ndio", "-cl", "-mu", "-dr", "-otd", "-sysf", "-rea", "-fit", "-fitc", "-ngld",
        "-pps", "-ntg", "-npp", "-npl", "-cram", "-tgs", "-Cr", "-Crb", "-embd", "-oe", "-nopo", "-rtr",
    ];
    let commands: [&[&str]; 4] =
        [&["run", "-p", "hi"], &["bench"], &["perplexity", "-f", "x"], &["imatrix", "-f", "x"]];
    for name in names {
        for command in commands {
            for value in [&["99"][..], &[]] {
                let args = [command, &[name], value].concat();
                let expected = format!("error: unknown flag {name}; `quantloom {} --help` shows", args[0]);
                assert!(problem(&args).starts_with(&expected), "{args:?}: {}", problem(&args));
            }
        }
    }
    let cases: [(&[&str], &str); 11] = [
        (&["run", "hi", "-ngl=99"], "unknown flag -ngl; `quantloom run --help`"),
        (&["run", "hi", "-threads", "4"], "unknown flag -threads; did you mean --threads?"),
        (&["run", "hi", "-nx"], "unknown flag -nx;"),
        (&["run", "hi", "-n-"], "unknown flag -n-;"),
        // A text right behind its flag is as likely a flag of several letters.
        (&["run", "-phi"], "unknown flag -phi;"),
        (&["run", "hi", "-mmodel.gguf"], "unknown flag -mmodel.gguf;"),
        (&["run", "hi", "--flash-attn"], "unknown flag --flash-attn; `quantloom run --help`"),
        (&["run", "hi", "--thread", "4"], "unknown flag --thread; did you mean --threads?"),
        (&["run", "hi", "-z"], "unknown flag -z; `quantloom run --help`"),
        (&["run", "hi", "ho"], "unexpected argument ho; `quantloom run --help`"),
        (&["-ngl", "99", "run", "hi"], "unknown flag -ngl; `quantloom --help`"),
    ];
    for (args, expected) in cases {
        let problem = problem(args);
        assert!(problem.starts_with(&format!("error: {expected}")), "{args:?}: {problem}");
    }
}

/// The number after `"name":` in the JSON object that a run prints.
fn run(args: &[&str]) -> serde_json::Value {
    let model = MODEL.1.to_str().unwrap();
    let args = [&["run", "-m", model, "--raw", "--json", "--temp", "0"][..], args].concat();
    let Output { status, stdout, stderr } = quantloom(&args);
    assert!(status.success(), "{args:?}: {}", String::from_utf8_lossy(&stderr));
    serde_json::from_slice(&stdout).unwrap()
}

#[test]
fn numbers_may_stand_right_behind_their_flag_and_the_last_of_two_counts() {
    let cases: [(&[&str], usize); 12] = [
        (&["-n", "3", "-p", "hi"], 3),
        (&["-n3", "-p", "hi"], 3),
        (&["-n=3", "-p=hi"], 3),
        (&["--predict", "3", "-p", "hi"], 3),
        (&["-predict", "3", "-p", "hi"], 3),
        (&["-n", "9", "-n", "3", "-p", "hi"], 3),
        (&["-n3", "--n-predict", "4", "-p", "hi"], 4),
        (&["-p", "hi", "-p", "hi", "-n", "9", "-t1", "-t2", "-n2"], 2),
        (&["-n2", "-c40", "-c", "50", "--temp", "1", "--temp", "0", "-s1", "-s", "2", "-p", "hi"], 2),
        (&["-n2", "-no-cnv", "-ctk", "q8_0", "-ctk", "f16", "-ctv", "f16", "-p", "hi"], 2),
        (&["-n2", "--temperature", "0", "--json", "--raw", "-p", "hi"], 2),
        (&["-n2", "-s-1", "--seed=-1", "-s", "-1", "-p", "hi"], 2),
    ];
    for (args, count) in cases {
        assert_eq!(run(args)["ids"].as_array().unwrap().len(), count, "{args:?}");
    }
}

#[test]
fn a_prompt_is_a_prompt_whatever_it_looks_like() {
    // Each prompt as two ways of giving it; a byte is a token.
    for prompt in ["-ngl", "-fa", "-ctk", "-n5", "-p", "--", "-no-cnv", "-"] {
        let len = prompt.len();
        let ways: [&[&str]; 3] =
            [&["-n", "1", "-p", prompt], &["-n", "1", "--prompt", prompt], &["-n", "1", "--", prompt]];
        for args in ways {
            // BOS and the space before the text, of three bytes, come first.
            assert_eq!(run(args)["prompt_ids"].as_array().unwrap().len(), 1 + 3 + len, "{args:?}");
        }
    }
}

#[test]
fn lists_stay_lists() {
    let model = MODEL.1.to_str().unwrap();
    let bench = |args: &[&str]| {
        let args = [&["bench", "-m", model, "-o", "csv", "-r", "1", "--no-warmup"][..], args].concat();
        let Output { status, stdout, stderr } = quantloom(&args);
        assert!(status.success(), "{args:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap().lines().count() - 1
    };
    for (args, rows) in [
        (&["-p", "1", "-p", "2", "-n", "0", "-t1"][..], 2),
        (&["-p1,2", "-n0", "-t", "1"], 2),
        (&["-p1-3", "-n", "0", "-t1"], 3),
        (&["-p1-8*2", "-n0", "-t1"], 4),
        (&["-p", "0", "-n", "0", "-pg", "4,2", "-pg", "8,1", "-t1"], 2),
        // One value: the last counts.
        (&["-p", "1", "-n", "0", "-t1", "-r", "3", "-r", "1"], 1),
    ] {
        assert_eq!(bench(args), rows, "{args:?}");
    }
}
