//! A file's bytes in memory: mapped, or read into memory of this process.

use std::fs::File;
use std::io::Read;
use std::ops::Deref;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use memmap2::{Mmap, MmapMut};

use super::error::{Kind, Result};
use crate::escape::Visible;
use crate::file::open_regular;

/// A file's bytes, page-aligned.
#[derive(Debug)]
pub(super) struct FileMap {
    /// The file's place among the mapped ones; `None` for bytes that are this process's own. Dropped first, as its address
    /// is another's once the map is gone.
    _registration: Option<Registration>,
    map: Mmap,
}

impl FileMap {
    /// Maps the file at `path`.
    pub fn map(path: &Path) -> Result<Self, Kind> {
        let (file, _) = open(path)?;
        // SAFETY: the map is read-only, and nothing in this process writes to the file. Another process can:
        // then bytes change under shared references, which Rust can't rule out for any mapped file. What decides
        // about memory (lengths, offsets, strings) is copied before it is checked and never read again; what
        // stays in the map are weights, which are valid whatever their bits. A file cut short raises SIGBUS,
        // which ends the process before a wrong byte is read. `Gguf::open` tells its callers both.
        let map = unsafe { Mmap::map(&file) }.map_err(Kind::Io)?;
        let registration = Registration::new(&map, path);
        Ok(Self { _registration: registration, map })
    }

    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self, Kind> {
        let (mut file, len) = open(path)?;
        let mut map = anonymous(len)?;
        file.read_exact(&mut map).map_err(Kind::Io)?;
        Self::own(map)
    }

    /// A copy of `bytes`.
    pub fn copy(bytes: &[u8]) -> Result<Self, Kind> {
        if bytes.is_empty() {
            return Err(Kind::Empty);
        }
        let mut map = anonymous(bytes.len() as u64)?;
        map.copy_from_slice(bytes);
        Self::own(map)
    }

    fn own(map: MmapMut) -> Result<Self, Kind> {
        Ok(Self { map: map.make_read_only().map_err(Kind::Io)?, _registration: None })
    }
}

/// Memory for a file of `len` bytes.
fn anonymous(len: u64) -> Result<MmapMut, Kind> {
    usize::try_from(len).ok().and_then(|len| MmapMut::map_anon(len).ok()).ok_or(Kind::NoMemory { len })
}

impl Deref for FileMap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

/// Opens a regular file that is not empty; its length.
fn open(path: &Path) -> Result<(File, u64), Kind> {
    let file = open_regular(path).map_err(Kind::Io)?;
    match file.metadata().map_err(Kind::Io)?.len() {
        0 => Err(Kind::Empty),
        len => Ok((file, len)),
    }
}

/// Mapped files by address, for the handler of a signal: it can take no lock and allocate nothing.
static MAPPED: [Mapped; 64] = [const { Mapped::new() }; 64];

/// A mapped file.
struct Mapped {
    /// The address of its first byte; [`FREE`], or [`TAKEN`] while the other fields are being written.
    start: AtomicUsize,
    len: AtomicUsize,
    /// The name, fit for a terminal.
    name: AtomicPtr<u8>,
    name_len: AtomicUsize,
}

const FREE: usize = 0;
/// No map begins here: maps are page-aligned.
const TAKEN: usize = 1;

impl Mapped {
    const fn new() -> Self {
        Self {
            start: AtomicUsize::new(FREE),
            len: AtomicUsize::new(0),
            name: AtomicPtr::new(ptr::null_mut()),
            name_len: AtomicUsize::new(0),
        }
    }
}

/// A place in [`MAPPED`], given back when it is dropped.
#[derive(Debug)]
struct Registration {
    place: usize,
    /// Owned here; [`Mapped::name`] points to it.
    _name: Box<[u8]>,
}

impl Registration {
    /// `None` where all places are taken: then a lost file is lost without its name.
    fn new(map: &Mmap, path: &Path) -> Option<Self> {
        let name = Visible { text: &path.to_string_lossy(), keep: &[] }.to_string().into_bytes();
        let name = name.into_boxed_slice();
        let take = |mapped: &Mapped| {
            mapped.start.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok()
        };
        let place = MAPPED.iter().position(take)?;
        let mapped = &MAPPED[place];
        mapped.len.store(map.len(), Ordering::Relaxed);
        mapped.name.store(name.as_ptr().cast_mut(), Ordering::Relaxed);
        mapped.name_len.store(name.len(), Ordering::Relaxed);
        mapped.start.store(map.as_ptr().addr(), Ordering::Release);
        Some(Self { place, _name: name })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        MAPPED[self.place].start.store(FREE, Ordering::Release);
    }
}

/// The name of the mapped file that holds `address`, fit for a terminal. Takes no lock and allocates nothing, so that
/// the handler of a signal may ask.
///
/// # Safety
/// The map that holds `address`, if there is one, stays for as long as the result is used. So it is in the handler of a
/// fault at `address`: the thread that was interrupted is reading it.
#[cfg(feature = "cli")]
pub(crate) unsafe fn mapped_file_at(address: usize) -> Option<&'static [u8]> {
    let mapped = MAPPED.iter().find(|mapped| {
        let start = mapped.start.load(Ordering::Acquire);
        start > TAKEN && (start..start + mapped.len.load(Ordering::Relaxed)).contains(&address)
    })?;
    let (name, len) = (mapped.name.load(Ordering::Relaxed), mapped.name_len.load(Ordering::Relaxed));
    // SAFETY: the name lives as long as the registration, and that as long as the map, which the caller vouches for.
    Some(unsafe { std::slice::from_raw_parts(name, len) })
}
