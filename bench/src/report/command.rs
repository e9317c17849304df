//! The command of the report.

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use quantloom_kernels::Format;
use tempfile::NamedTempFile;

use super::{Options, measure, plot};

/// Measures every kernel beside the limits of this machine, and writes report.md, report.json and roofline.svg
#[derive(Parser)]
#[command(name = "report")]
struct Args {
    /// Folder to write to; made where it is missing
    #[arg(long, value_name = "DIR", default_value = "target/kernel-report")]
    out: PathBuf,
    /// Measure for a short time only: good for seeing that it works
    #[arg(long)]
    short: bool,
    /// Measure only cells whose name holds TEXT, as `q4_0/gemv` or `avx_vnni`
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
}

/// All of a program that reports on kernels: its arguments are those of the process.
///
/// It prints the Markdown and writes it, JSON and an SVG roofline to a folder; `--help` says more.
pub fn main(formats: &[&'static Format]) -> ExitCode {
    match run(formats, std::env::args_os(), &mut io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast::<clap::Error>() {
            // clap prints help and version as errors too, each where it belongs.
            Ok(error) => error.exit(),
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

fn run(
    formats: &[&'static Format],
    arguments: impl IntoIterator<Item = OsString>,
    out: &mut impl Write,
) -> Result<(), Box<dyn Error>> {
    let Args { out: folder, short, filter } = Args::try_parse_from(arguments)?;
    // Before anything is measured, so that nothing is measured in vain.
    let markdown = Output::create(&folder, "report.md")?;
    let json = Output::create(&folder, "report.json")?;
    let svg = Output::create(&folder, "roofline.svg")?;

    let report = measure(formats, &Options { short, filter })?;
    let text = report.to_string();
    markdown.finish(&text)?;
    json.finish(&serde_json::to_string_pretty(&report)?)?;
    svg.finish(&plot::roofline(&report))?;
    out.write_all(text.as_bytes()).map_err(|error| format!("can't write the output: {error}"))?;
    Ok(())
}

/// A file that is whole or not there.
struct Output {
    path: PathBuf,
    file: NamedTempFile,
}

impl Output {
    fn create(folder: &Path, name: &str) -> Result<Self, String> {
        let path = folder.join(name);
        let mut builder = tempfile::Builder::new();
        // A temporary file is its owner's alone by default; this one is an ordinary file once renamed.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = fs::create_dir_all(folder).and_then(|()| builder.tempfile_in(folder));
        let file = file.map_err(|error| problem(&path, &error))?;
        Ok(Self { path, file })
    }

    fn finish(mut self, contents: &str) -> Result<(), String> {
        let written = self.file.write_all(contents.as_bytes());
        let written = written.and_then(|()| self.file.persist(&self.path).map_err(io::Error::from));
        written.map(drop).map_err(|error| problem(&self.path, &error))
    }
}

fn problem(path: &Path, error: &io::Error) -> String {
    format!("can't write {}: {error}; --out names another folder", path.display())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use quantloom_kernels::FORMATS;
    use serde_json::Value;

    use super::*;

    fn report(arguments: &[&str]) -> Result<String, String> {
        let mut out = Vec::new();
        let arguments = ["report", "--short"].iter().chain(arguments).map(OsString::from);
        run(FORMATS, arguments, &mut out).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    /// The three files tell of the same cells.
    #[test]
    fn writes_what_it_measured() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made/here");
        let markdown = report(&["--out", folder.to_str().unwrap(), "--filter", "q8_0/"]).unwrap();
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!(read("report.md"), markdown);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 3, "temporary files are left");

        let json: Value = serde_json::from_str(&read("report.json")).unwrap();
        let svg = read("roofline.svg");
        let svg = roxmltree::Document::parse(&svg).unwrap();
        let points = svg.descendants().filter(|node| node.attribute("class") == Some("cell"));
        let points: Vec<&str> = points
            .map(|point| point.descendants().find(|node| node.has_tag_name("title")).unwrap())
            .map(|title| title.text().unwrap().split(':').next().unwrap())
            .collect();

        let mut products = Vec::new();
        for row in json["cells"].as_array().unwrap() {
            let name = row["name"].as_str().unwrap();
            assert!(markdown.contains(&format!("| {name} ")), "{name} is not in the Markdown");
            let Some(share) = row.get("share") else {
                assert!(row["not_run"].as_str().unwrap().contains("lacks"), "{name}");
                continue;
            };
            for (what, number) in [
                ("share", share),
                ("bytes", &row["gb_per_second"]["median"]),
                ("rate", &row["rate"]["median"]),
                ("limit", &row["at_most"]),
            ] {
                let number = number.as_f64().unwrap_or(f64::NAN);
                assert!(number.is_finite() && number > 0.0, "{name}: {what} is {number}");
            }
            if ["dot", "gemv", "gemm"].contains(&row["operation"].as_str().unwrap()) {
                products.push(name);
            }
        }
        assert!(products.iter().any(|name| name.starts_with("q8_0/gemv/scalar/")), "{products:?}");
        assert_eq!(points.len(), products.len());
        assert_eq!(BTreeSet::from_iter(points), BTreeSet::from_iter(products));
        for limit in ["bandwidths", "peaks"] {
            assert!(!json[limit].as_array().unwrap().is_empty(), "{limit}");
        }
    }

    #[test]
    fn errors_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let inside = file.join("folder");
        let (folder, inside) = (folder.path().to_str().unwrap(), inside.to_str().unwrap());
        for (arguments, parts) in [
            (["--out", inside], ["can't write ", "file/folder/report.md", "--out names another folder"]),
            (["--out", ""], ["a value is required", "--out", "--help"]),
            (["--filter", "q9_9/dot"], ["no cell's name holds `q9_9/dot`", "names are like ", "q4_0/dot"]),
            (["--rounds", "3"], ["unexpected argument '--rounds'", "Usage: ", "--out"]),
        ] {
            let out = ["--out", folder];
            let arguments =
                if arguments[0] == "--out" { arguments.to_vec() } else { [out, arguments].concat() };
            let error = report(&arguments).expect_err(&format!("{arguments:?}"));
            for part in parts {
                assert!(error.contains(part), "{arguments:?}: {error}");
            }
        }
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1, "nothing is left of what failed");
    }
}
