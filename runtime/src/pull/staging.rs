//! The staging folder, where a model is made.

use std::fs::{self, DirBuilder, File, Metadata, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Error, PackagedModel, at};
use crate::file::{OutputFile, output_place};

/// The folder in the staging folder for what is of no use to another process. Whatever has this name and is a folder is
/// taken for this program's own.
const WORK: &str = ".quantloom-work";

/// The folder of the cache in which one model is made, for one process at a time.
///
/// Two names in it are this program's: that of the joined parts, a file that a later process goes on with, and [`WORK`],
/// which is made anew for each piece of work. Nothing else in it is touched, and no link is followed. It goes when it is
/// empty; the file that locks it stays, as others may wait for it.
pub struct Staging {
    cache: PathBuf,
    folder: PathBuf,
    /// The file of joined parts.
    joined: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

impl Staging {
    /// The staging folder for `model` in the folder `cache`, as soon as no other process is in it.
    ///
    /// # Errors
    ///
    /// Where the cache can't be written or locked, or something that is not this program's has one of its names.
    pub fn enter(cache: &Path, model: &PackagedModel) -> Result<Self, Error> {
        fs::create_dir_all(cache).map_err(at(cache))?;
        let path = cache.join(format!("pull-{}.lock", model.name));
        let lock = open_no_link(&path).map_err(at(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                // Whoever can't read it waits all the same.
                let _ = writeln!(io::stderr(), "another process fetches {}: waiting for it", model.name);
                lock.lock().map_err(at(&path))?;
            }
            Err(TryLockError::Error(error)) => return Err(at(&path)(error)),
        }
        let folder = cache.join(format!("pull-{}", model.name));
        create_or_check(&folder).map_err(at(&folder))?;
        let joined = folder.join(model.source);
        let staging = Self { cache: cache.into(), folder, joined, _lock: lock };
        staging.remove_work()?;
        Ok(staging)
    }

    /// An empty folder, in place of the one that this returned before.
    pub fn work(&self) -> Result<PathBuf, Error> {
        self.remove_work()?;
        let work = self.folder.join(WORK);
        create_private(&work).map_err(at(&work))?;
        Ok(work)
    }

    /// Removes the folder for work with all that is in it.
    fn remove_work(&self) -> Result<(), Error> {
        let work = self.folder.join(WORK);
        match fs::symlink_metadata(&work) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            // Links in it are removed, and not followed.
            Ok(about) if about.is_dir() => fs::remove_dir_all(&work),
            Ok(about) => Err(foreign(&about, "a folder")),
        }
        .map_err(at(&work))
    }

    /// The path of the file of joined parts.
    pub fn joined(&self) -> &Path {
        &self.joined
    }

    /// Opens the file of joined parts, which may have been begun.
    pub fn open_joined(&self) -> Result<File, Error> {
        let open = || {
            let file = open_no_link(&self.joined)?;
            let about = file.metadata()?;
            if is_own(&about) && is_only_link(&about) { Ok(file) } else { Err(foreign(&about, "a file")) }
        };
        open().map_err(at(&self.joined))
    }

    /// Gives a file that was made here its place in the cache, and clears the rest away. If a link is in that place, the
    /// file goes where the link leads.
    pub fn deliver(&self, made: &Path) -> Result<PathBuf, Error> {
        // On disk before it gets its name: a crash leaves no file with holes in it.
        File::options().write(true).open(made).and_then(|file| file.sync_all()).map_err(at(made))?;
        let path = self.cache.join(made.file_name().unwrap_or_default());
        let place = output_place(&path).map_err(at(&path))?;
        match fs::rename(made, &place) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => copy(made, &path),
            renamed => renamed,
        }
        .map_err(at(&path))?;
        match fs::remove_file(&self.joined) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&self.joined)(error)),
            _ => Ok(path),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What can't be removed is tried again when the model is fetched the next time.
        let _ = self.remove_work();
        // Not empty where there is something to go on with, or something that is not ours.
        let _ = fs::remove_dir(&self.folder);
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut file = OutputFile::create(to)?;
    io::copy(&mut File::open(from)?, &mut file)?;
    file.persist()
}

/// Makes the folder `path`, or finds the one that was made here.
fn create_or_check(path: &Path) -> io::Result<()> {
    match create_private(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        created => return created,
    }
    let about = fs::symlink_metadata(path)?;
    if !about.is_dir() || !is_own(&about) {
        return Err(foreign(&about, "a folder"));
    }
    close_to_others(path, &about)
}

/// Opens a file to read and write, and creates it if there is none. Nothing is waited for, and no link followed.
fn open_no_link(path: &Path) -> io::Result<File> {
    // Also where the system can't be told to follow none.
    match fs::symlink_metadata(path) {
        Ok(about) if !about.is_file() => return Err(foreign(&about, "a file")),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits() as i32,
    );
    options.open(path)
}

/// That something is where only `expected`, made by this program, may be.
fn foreign(about: &Metadata, expected: &str) -> io::Error {
    let problem = if about.is_symlink() {
        "is a symbolic link"
    } else if about.is_dir() != (expected == "a folder") || !(about.is_dir() || about.is_file()) {
        "is something else"
    } else if is_own(about) {
        "has another name besides"
    } else {
        "belongs to another user"
    };
    let problem = format!("{problem}, and only {expected} that this program made is used here: move it away");
    io::Error::new(io::ErrorKind::AlreadyExists, problem)
}

/// Makes a folder that is its owner's alone.
fn create_private(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(unix)]
fn is_own(about: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::uid(about) == rustix::process::geteuid().as_raw()
}

/// Whether a file has no other name, under which it would change, too.
#[cfg(unix)]
fn is_only_link(about: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(about) == 1
}

/// Takes others' right to write away, if they have it.
#[cfg(unix)]
fn close_to_others(path: &Path, about: &Metadata) -> io::Result<()> {
    let mut permissions = about.permissions();
    let mode = std::os::unix::fs::PermissionsExt::mode(&permissions);
    if mode & 0o022 == 0 {
        return Ok(());
    }
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, mode & !0o022);
    fs::set_permissions(path, permissions)
}

/// Elsewhere the user's folders are the user's alone.
#[cfg(not(unix))]
fn is_own(_: &Metadata) -> bool {
    true
}

#[cfg(not(unix))]
fn is_only_link(_: &Metadata) -> bool {
    true
}

#[cfg(not(unix))]
fn close_to_others(_: &Path, _: &Metadata) -> io::Result<()> {
    Ok(())
}
