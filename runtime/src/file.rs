//! Files as commands take and leave them: inputs that must be regular files, and outputs that are whole or not there.
//!
//! An output is written without a name where the file system can do that (`O_TMPFILE`), so that whatever ends the
//! process leaves nothing: the system frees the file with its last descriptor. It is linked into its folder when it is
//! whole. Elsewhere it has a temporary name, which is removed where the work fails.

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};

/// How temporary names end.
const SUFFIX: &str = ".part";

/// Links that are followed at the most, as Linux does.
const MAX_LINKS: usize = 40;

/// Opens a file that is to be mapped or sought in. Anything but a regular file is refused at once: a named pipe, which
/// would otherwise be waited for, too.
///
/// # Errors
/// It can't be opened, or is not a regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits() as i32,
    );
    let file = options.open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_regular()) }
}

/// The place of an output file: `path`, or where symbolic links lead from there, whether there is a file or not.
///
/// # Errors
/// There is something other than a regular file, as a rename would replace a device such as `/dev/null`; or the system
/// doesn't follow a link, as one that leads to itself.
pub fn output_place(path: &Path) -> io::Result<PathBuf> {
    match fs::metadata(path) {
        Ok(about) if about.is_file() => return fs::canonicalize(path),
        Ok(_) => return Err(not_regular()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
        Err(error) => return Err(error),
    }
    let mut place = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&place) {
            // A relative link begins in the folder that it lies in.
            Ok(next) => place = folder_of(&place).join(next),
            // No link, or nothing yet.
            Err(_) => break,
        }
    }
    Ok(place)
}

/// Whether an output file can be written to `path`: to be asked before it is computed.
///
/// # Errors
/// As [`OutputFile::create`].
pub fn check_output(path: &Path) -> io::Result<()> {
    OutputFile::create(path).map(drop)
}

/// A file that is being written, and gets its name by [`persist`](Self::persist): whoever finds a file there finds all
/// of it. Where it is dropped before, nothing is left of it.
#[derive(Debug)]
pub struct OutputFile {
    file: File,
    /// Where it is to be.
    place: PathBuf,
    /// Its name until then; without one it has none.
    temporary: Option<TempPath>,
}

impl OutputFile {
    /// Begins the file for `path`. If that is a symbolic link, the file that it leads to is meant, and the link stays.
    ///
    /// # Errors
    /// There is something other than a regular file, or the folder can't be written to.
    pub fn create(path: &Path) -> io::Result<Self> {
        let place = output_place(path)?;
        match unnamed_in(folder_of(&place)) {
            Some(file) => Ok(Self { file, place, temporary: None }),
            None => Self::create_named(place),
        }
    }

    /// A file with a temporary name, which any file system can have.
    fn create_named(place: PathBuf) -> io::Result<Self> {
        let folder = folder_of(&place);
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        // The name of the temporary file would tell nobody anything.
        let temporary = tempfile::Builder::new().suffix(SUFFIX).make_in(folder, |path| options.open(path));
        let temporary = temporary.map_err(|error| {
            io::Error::new(error.kind(), format!("can't write to the folder {}: {error}", folder.display()))
        })?;
        let (file, temporary) = temporary.into_parts();
        Ok(Self { file, place, temporary: Some(temporary) })
    }

    /// Gives the file its name when it is on disk: after a power cut, too, there is all of it or the one from before.
    ///
    /// # Errors
    /// The system can't write it out, or give it the name.
    pub fn persist(self) -> io::Result<()> {
        let Self { mut file, place, temporary } = self;
        file.sync_all()?;
        match temporary {
            Some(temporary) => Ok(temporary.persist(place)?),
            None => link(&file, &place).or_else(|_| {
                // A file system may have files without a name, and not be able to give them one.
                let mut copy = Self::create_named(place)?;
                file.rewind()?;
                io::copy(&mut file, &mut copy)?;
                copy.persist()
            }),
        }
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file in `folder` that has no name, where there are such files and they can be given one.
#[cfg(target_os = "linux")]
fn unnamed_in(folder: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags, open};
    let file =
        File::from(open(folder, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::from(0o666)).ok()?);
    // Without `/proc` the file has no path to be linked from.
    descriptor_path(&file).exists().then_some(file)
}

#[cfg(not(target_os = "linux"))]
fn unnamed_in(_folder: &Path) -> Option<File> {
    None
}

/// Gives a file without a name that of `place`, instead of what is there.
#[cfg(target_os = "linux")]
fn link(file: &File, place: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    let source = descriptor_path(file);
    let link =
        |name: &Path| linkat(CWD, &source, CWD, name, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from);
    match link(place) {
        // Linking never replaces, and renaming does.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let linked: NamedTempFile<()> =
                tempfile::Builder::new().suffix(SUFFIX).make_in(folder_of(place), link)?;
            Ok(linked.into_temp_path().persist(place)?)
        }
        linked => linked,
    }
}

#[cfg(not(target_os = "linux"))]
fn link(_file: &File, _place: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The path of an open file that has no other.
#[cfg(target_os = "linux")]
fn descriptor_path(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file)).into()
}

/// The folder that `path` lies in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file")
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    type Create = fn(&Path) -> io::Result<OutputFile>;

    /// A link, and where it leads.
    type Link = (&'static str, &'static str);

    /// A file without a name that can't be given one, as its last was taken away.
    fn create_unlinkable(path: &Path) -> io::Result<OutputFile> {
        let OutputFile { file, place, .. } = OutputFile::create_named(output_place(path)?)?;
        Ok(OutputFile { file, place, temporary: None })
    }

    /// The ways to write, of which the file system decides.
    const WAYS: [(&str, Create); 3] = [
        ("as the file system likes", OutputFile::create),
        ("with a temporary name", |path| OutputFile::create_named(output_place(path)?)),
        ("without a name, and no way to give one", create_unlinkable),
    ];

    /// The names in `folder` and in the folder `other` in it.
    fn names(folder: &Path) -> Vec<PathBuf> {
        let entries = [folder.to_owned(), folder.join("other")].map(|folder| fs::read_dir(folder).unwrap());
        let mut names: Vec<_> = entries.into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    }

    #[test]
    fn outputs_go_where_their_paths_lead() {
        // Links and where they lead, a file that is there, and the one that is written to `out`.
        let cases: [(&str, &[Link], &str, &str); 7] = [
            ("nothing", &[], "", "out"),
            ("a file", &[], "out", "out"),
            ("a link to a file", &[("out", "other/file")], "other/file", "other/file"),
            ("a link to nothing", &[("out", "other/file")], "", "other/file"),
            ("links to a file", &[("out", "other/l"), ("other/l", "../file")], "file", "file"),
            ("links to nothing", &[("out", "other/l"), ("other/l", "../file")], "", "file"),
            ("through a linked folder", &[("l", "other"), ("out", "l/file")], "", "other/file"),
        ];
        for (way, create) in WAYS {
            for (case, links, there, place) in cases {
                let folder = tempfile::tempdir().unwrap();
                let path = |name: &str| folder.path().join(name);
                fs::create_dir(path("other")).unwrap();
                for (link, to) in links {
                    symlink(to, path(link)).unwrap();
                }
                if !there.is_empty() {
                    fs::write(path(there), "from before").unwrap();
                }
                let mut before = names(folder.path());
                let begin = || {
                    let mut output =
                        create(&path("out")).unwrap_or_else(|error| panic!("{way}, {case}: {error}"));
                    output.write_all(b"written").unwrap();
                    output
                };
                drop(begin());
                assert_eq!(names(folder.path()), before, "{way}, {case}: dropped");
                begin().persist().unwrap();
                assert_eq!(fs::read(path(place)).unwrap(), b"written", "{way}, {case}");
                before.extend(there.is_empty().then(|| path(place)));
                before.sort();
                assert_eq!(names(folder.path()), before, "{way}, {case}: written");
                for (link, to) in links {
                    assert_eq!(fs::read_link(path(link)).unwrap(), Path::new(to), "{way}, {case}: {link}");
                }
                File::create(path("plain")).unwrap();
                let [mode, plain] =
                    [place, "plain"].map(|name| fs::metadata(path(name)).unwrap().permissions().mode());
                assert_eq!(mode, plain, "{way}, {case}: an ordinary file");
            }
        }
    }

    #[test]
    fn outputs_that_can_not_be_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (link, to) in [
            ("loop", "loop"),
            ("to a device", "/dev/null"),
            ("to a folder", "."),
            ("to no folder", "no/file"),
        ] {
            symlink(to, path(link)).unwrap();
        }
        let socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
        let cases = [
            (path("pipe"), "is not a regular file"),
            (path("socket"), "is not a regular file"),
            ("/dev/null".into(), "is not a regular file"),
            (folder.path().into(), "is not a regular file"),
            (path("to a device"), "is not a regular file"),
            (path("to a folder"), "is not a regular file"),
            (path("loop"), "symbolic links"),
            (path("to no folder"), "no: No such file or directory"),
            (path("socket/file"), "Not a directory"),
        ];
        for (way, create) in WAYS {
            for (path, problem) in &cases {
                let error = create(path).unwrap_err().to_string();
                assert!(error.contains(problem), "{way}, {}: {error}", path.display());
            }
        }
        for (path, problem) in [(path("pipe"), "is not a regular file"), (path("socket"), "No such device")] {
            let error = open_regular(&path).unwrap_err().to_string();
            assert!(error.contains(problem), "{}: {error}", path.display());
        }
        drop(socket);
    }
}
