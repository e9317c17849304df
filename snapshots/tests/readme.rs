//! The READMEs show what is there: a code block under `<!-- from FILE -->` consists of lines of that file, in order
//! and, between lines of `…`, without a gap. Indentation as a whole may differ.

use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// What stands for left-out lines.
const LEFT_OUT: &str = "…";

/// A fenced code block.
struct Block<'a> {
    /// The number of its opening line.
    line: usize,
    /// What follows the fence: `rust`.
    language: &'a str,
    /// The file that it is from.
    source: Option<&'a str>,
    lines: Vec<&'a str>,
}

#[test]
fn code_is_that_of_the_files() {
    /// Where the pages are.
    const FOLDERS: [&str; 2] = ["", "runtime/examples/custom-format/"];
    let read = |path: &str| {
        std::fs::read_to_string(Path::new(ROOT).join(path)).map_err(|error| format!("{path}: {error}"))
    };
    let mut problems = Vec::new();
    for folder in FOLDERS {
        let page = read(&format!("{folder}README.md")).expect("a page");
        let blocks = blocks(&page);
        let here = blocks.iter().filter_map(|block| problem(block, read));
        problems.extend(here.map(|problem| format!("{folder}{problem}")));
        let shows = blocks.iter().any(|block| block.source.is_some());
        assert!(shows, "{folder}README.md: no block is from a file");
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn drift_is_reported() {
    let file = "fn f() {\n    let a = 1;\n    let b = 2;\n    if a {\n        b\n    }\n}\n";
    let cases = [
        ("whole", "<!-- from f -->\n```rust\nfn f() {\n    let a = 1;\n```", None),
        ("left out, and further left", "<!-- from f -->\n\n```rust\nlet a = 1;\n…\n}\n```", None),
        ("inner indentation", "<!-- from f -->\n```rust\nif a {\n    b\n}\n```", None),
        ("another language", "```sh\nls\n```", None),
        ("no file's", "```rust,ignore\nmine();\n```", None),
        ("unmarked", "text\n```rust\nlet a = 1;\n```", Some("README.md:2: ")),
        ("changed", "<!-- from f -->\n```rust\nlet a = 1;\nlet b = 3;\n```", Some("README.md:4: ")),
        ("a gap", "<!-- from f -->\n```rust\nlet a = 1;\nif a {\n```", Some("README.md:4: ")),
        ("order", "<!-- from f -->\n```rust\nlet b = 2;\n…\nlet a = 1;\n```", Some("README.md:5: ")),
        ("inner indentation", "<!-- from f -->\n```rust\nif a {\nb\n```", Some("README.md:4: ")),
        ("no such file", "<!-- from g -->\n```rust\nlet a = 1;\n```", Some("README.md:2: ")),
        ("nothing", "<!-- from f -->\n```text\n…\n```", Some("README.md:2: ")),
    ];
    for (what, readme, expected) in cases {
        let read = |path: &str| if path == "f" { Ok(file.to_owned()) } else { Err(format!("{path}: none")) };
        let problem = problem(&blocks(readme)[0], read);
        assert_eq!(problem.is_some(), expected.is_some(), "{what}: {problem:?}");
        assert!(problem.unwrap_or_default().starts_with(expected.unwrap_or_default()), "{what}");
    }
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let (mut blocks, mut source) = (Vec::new(), None);
    let mut lines = text.lines().enumerate();
    while let Some((i, line)) = lines.next() {
        if let Some(path) = line.strip_prefix("<!-- from ").and_then(|rest| rest.strip_suffix(" -->")) {
            source = Some(path);
        } else if let Some(language) = line.strip_prefix("```") {
            let lines = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
            blocks.push(Block { line: i + 1, language, source: source.take(), lines });
        } else if !line.is_empty() {
            source = None;
        }
    }
    blocks
}

/// Where the block is not as its file.
fn problem(block: &Block, read: impl Fn(&str) -> Result<String, String>) -> Option<String> {
    let at = |line: usize, what: String| Some(format!("README.md:{line}: {what}"));
    let Some(path) = block.source else {
        let what =
            "a Rust block without `<!-- from FILE -->` above it; if it is no file's, make it `rust,ignore`";
        return if block.language == "rust" { at(block.line, what.to_owned()) } else { None };
    };
    let text = match read(path) {
        Ok(text) => text,
        Err(error) => return at(block.line, error),
    };
    let file: Vec<_> = text.lines().collect();
    let mut from = 0;
    let mut runs = 0;
    // Line numbers are those of the README.
    let numbered: Vec<_> =
        block.lines.iter().enumerate().map(|(i, line)| (block.line + 1 + i, *line)).collect();
    for run in numbered.split(|(_, line)| line.trim() == LEFT_OUT).filter(|run| !run.is_empty()) {
        let matching = |start: usize| {
            let Some(shift) = shift(run[0].1, file[start]) else { return 0 };
            let is_same = |line: &str, there: &str| match (line.trim(), there.trim()) {
                ("", "") => true,
                _ => self::shift(line, there) == Some(shift),
            };
            run.iter().zip(&file[start..]).take_while(|((_, line), there)| is_same(line, there)).count()
        };
        // The longest match says best which line drifted; of equals the first is taken.
        let start = (from..file.len()).rev().max_by_key(|&start| matching(start));
        let matched = start.map_or(0, matching);
        if let Some((number, line)) = run.get(matched) {
            return at(*number, format!("not so, or not here, in {path}: `{}`", line.trim()));
        }
        from = start.unwrap_or(0) + matched;
        runs += 1;
    }
    if runs == 0 { at(block.line, format!("shows nothing of {path}")) } else { None }
}

/// How much further right `there` stands, if it is the same line.
fn shift(line: &str, there: &str) -> Option<isize> {
    let indentation = |line: &str| (line.len() - line.trim_start().len()) as isize;
    (line.trim() == there.trim()).then(|| indentation(there) - indentation(line))
}
