//! Output files that are whole or not there.

use std::io;
use std::path::Path;

use tempfile::NamedTempFile;

/// A temporary file in the folder of `path`, its name ending in `suffix`, to be written and then given to [`persist`]:
/// whoever finds a file at `path` finds all of it.
///
/// # Errors
/// The folder can't be written to.
pub fn temporary_beside(path: &Path, suffix: &str) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.suffix(suffix);
    // A temporary file is its owner's alone by default; this one is an ordinary file once renamed.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    // The name of the temporary file would tell nobody anything.
    builder.tempfile_in(folder).map_err(|error| {
        let problem = error
            .raw_os_error()
            .map_or(error.kind().to_string(), |code| io::Error::from_raw_os_error(code).to_string());
        io::Error::new(error.kind(), format!("can't write to the folder {}: {problem}", folder.display()))
    })
}

/// Renames a written file to `path` when it is on disk: after a power cut, too, there is all of it or the one from before.
///
/// # Errors
/// The system can't write it out, or rename it.
pub fn persist(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
