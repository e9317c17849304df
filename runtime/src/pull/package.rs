//! Packages: how the registry's client fetches one, and how a file is read from it.

use std::fmt::{self, Display};
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{self, Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use flate2::bufread::GzDecoder;
use zip::ZipArchive;

use super::{Error, at, client, progress};
use crate::escape::Visible;

/// A package of a registry, in one version.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// Where it is.
    pub registry: Registry,
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The length of what is fetched: of the wheel or tarball.
    pub bytes: u64,
}

/// What packages come from, and so by which client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registry {
    /// Python's: `pip` fetches a wheel, which is a zip file.
    PyPi,
    /// JavaScript's: `npm` fetches a gzipped tarball, whose files are in a folder `package`.
    Npm,
}

impl Registry {
    /// The client, and how people know it.
    fn client(self) -> (&'static str, &'static str) {
        match self {
            Self::PyPi => ("pip", "Python's pip"),
            Self::Npm => ("npm", "npm, which comes with Node.js"),
        }
    }

    /// The ways to call the client, in the order they are tried. Python is isolated (`-I`): by `-m` alone it would run a
    /// `pip.py` of the current folder.
    fn commands(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::PyPi => {
                &[&["python3", "-I", "-m", "pip"], &["python", "-I", "-m", "pip"], &["pip3"], &["pip"]]
            }
            // On Windows it is a script, which is found by its full name only.
            Self::Npm if cfg!(windows) => &[&["npm.cmd"]],
            Self::Npm => &[&["npm"]],
        }
    }

    /// The first of them that works, to be called in the folder `work`.
    fn find_client(self, work: &Path) -> Option<Command> {
        let works = |words: &&&[&str]| {
            let Some(mut client) = client::command(words, work) else { return false };
            client.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            client.status().is_ok_and(|status| status.success())
        };
        self.commands().iter().find(works).and_then(|words| client::command(words, work))
    }

    /// The extension of packages.
    fn extension(self) -> &'static str {
        match self {
            Self::PyPi => "whl",
            Self::Npm => "tgz",
        }
    }
}

impl Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

impl Package {
    /// Has the client put the package into the folder `work`; returns its path.
    pub(super) fn download(&self, work: &Path) -> Result<PathBuf, Error> {
        let (name, in_words) = self.registry.client();
        let work = &path::absolute(work).map_err(at(work))?;
        // npm looks for its project from here upwards, and finds it here.
        let project = work.join("package.json");
        fs::write(&project, "{}").map_err(at(&project))?;
        let mut client = self.registry.find_client(work).ok_or_else(|| {
            let tried: Vec<_> =
                self.registry.commands().iter().map(|words| format!("`{}`", words.join(" "))).collect();
            let tried = match &tried[..] {
                [one] => format!("{one} does not run"),
                several => format!("none of {} runs", several.join(", ")),
            };
            Error::NoClient { package: self.to_string(), client: in_words, tried }
        })?;
        let progress = progress(format!("fetching {self}"), self.bytes);
        // A file and not a pipe, which the client could fill while nobody reads it.
        let said = work.join("stderr");
        let stderr = File::create(&said).map_err(at(&said))?;
        // The client's own cache would keep the package for good.
        match self.registry {
            Registry::PyPi => client
                .args(["download", "--quiet", "--disable-pip-version-check", "--no-cache-dir", "--no-input"])
                .args(["--no-deps", "--only-binary", ":all:", "--dest"])
                .arg(work)
                .arg(format!("{}=={}", self.name, self.version)),
            // Where npm is too old to know the destination it takes the current folder.
            Registry::Npm => client
                .args([
                    "pack",
                    "--loglevel=error",
                    // A folder above may claim this one as one of its workspaces, and set what it likes.
                    "--no-workspaces",
                    "--no-update-notifier",
                    "--logs-max=0",
                    "--ignore-scripts",
                ])
                .arg("--cache")
                .arg(work.join("npm"))
                .arg("--pack-destination")
                .arg(work)
                .arg(format!("{}@{}", self.name, self.version)),
        };
        client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let mut child = client.spawn().map_err(at(Path::new(name)))?;
        let status = loop {
            if let Some(status) = child.try_wait().map_err(at(Path::new(name)))? {
                break status;
            }
            // The package is the largest by far.
            progress.set_position(files(work).iter().map(|&(_, bytes)| bytes).max().unwrap_or(0));
            thread::sleep(Duration::from_millis(50));
        };
        progress.finish_and_clear();
        if !status.success() {
            let said = fs::read(&said).map_err(at(&said))?;
            let text = String::from_utf8_lossy(&said);
            // What can't be shown is lost; the error says that there was something.
            let _ = write!(io::stderr(), "{}", Visible { text: &text, keep: &['\n', '\t'] });
            return Err(Error::Client { package: self.to_string(), client: name, status });
        }
        let extension = self.registry.extension();
        let is_package = |path: &PathBuf| path.extension().is_some_and(|other| other == extension);
        let mut paths = files(work).into_iter().map(|(path, _)| path);
        paths.find(is_package).ok_or_else(|| self.problem(format!("{name} left no .{extension} file")))
    }

    /// Gives `read` the file `member` of the package, which lies at `archive`. How much of it there is only reading tells:
    /// a small archive may hold a large file.
    ///
    /// # Errors
    /// The archive can't be read, is damaged, or holds no such file; or what `read` says.
    pub fn read_member<T>(
        &self,
        archive: &Path,
        member: &str,
        read: impl FnOnce(&mut dyn Read) -> Result<T, Error>,
    ) -> Result<T, Error> {
        // It may quote the archive.
        let bad = |problem: &dyn Display| {
            let text = format!("{member}: {problem}");
            self.problem(Visible { text: &text, keep: &[] }.to_string())
        };
        let file = BufReader::new(File::open(archive).map_err(at(archive))?);
        match self.registry {
            Registry::PyPi => {
                let mut zip = ZipArchive::new(file).map_err(|error| bad(&error))?;
                read(&mut zip.by_name(member).map_err(|error| bad(&error))?)
            }
            Registry::Npm => {
                let mut tar = tar::Archive::new(GzDecoder::new(file));
                for entry in tar.entries().map_err(|error| bad(&error))? {
                    let mut entry = entry.map_err(|error| bad(&error))?;
                    if *entry.path_bytes() == *member.as_bytes() {
                        return read(&mut entry);
                    }
                }
                Err(bad(&"there is no such file in it"))
            }
        }
    }

    pub(super) fn problem(&self, problem: String) -> Error {
        Error::Package { package: self.to_string(), problem }
    }
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
