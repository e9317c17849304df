//! GGUF, the model file format of the ggml family: a reader that maps the file and a writer that streams.
//!
//! ```text
//! header    "GGUF", u32 version, u64 number of tensors, u64 number of keys
//! metadata  per key:    string name, u32 value type, value
//! tensors   per tensor: string name, u32 n, n × u64 dims, u32 type, u64 offset into the data
//! data      from the next multiple of `general.alignment` on; every tensor begins at such a multiple
//! ```
//!
//! Everything is little-endian; a string is a `u64` length and that many bytes of UTF-8. Values that are not UTF-8 are
//! kept as bytes; names must be. Versions 2 and 3 are
//! read (they differ only in that version 3 allows big-endian files, which are refused), version 3 is written.
//! Source: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
//!
//! [`Gguf::open`] checks the whole file but the weights themselves before it returns: what it hands out lies
//! inside the file, is aligned, and has the length that dimensions and type ask for. Metadata is copied out;
//! tensor data is never copied, a [`Tensor`] is a range of the map that it keeps alive.

mod error;
mod formats;
mod map;
mod metadata;
mod read;
mod strings;
mod tensor;
mod value;
mod write;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use error::Kind;
pub use error::{Error, Result};
pub use formats::{FormatConflict, Formats};
use map::FileMap;
#[cfg(feature = "cli")]
pub(crate) use map::mapped_file_at;
pub use metadata::Metadata;
pub(crate) use strings::Buffers;
pub use strings::{ByteString, Strings};
pub use tensor::{Tensor, TensorType};
pub use value::{Array, Value};
pub use write::GgufWriter;

const MAGIC: [u8; 4] = *b"GGUF";

/// The key whose value is the alignment of tensor data in bytes.
const ALIGNMENT_KEY: &str = "general.alignment";

/// The alignment of a file that has no [`ALIGNMENT_KEY`].
const DEFAULT_ALIGNMENT: u32 = 32;

/// An open, validated GGUF file.
#[derive(Debug)]
pub struct Gguf {
    map: Arc<FileMap>,
    version: u32,
    alignment: usize,
    metadata: Metadata,
    tensors: Vec<Tensor>,
    by_name: HashMap<String, usize>,
}

impl Gguf {
    /// Maps and validates the file at `path`, which may hold F32, F16, BF16 and every format of
    /// [`quantloom_kernels::FORMATS`].
    ///
    /// The file must stay as it is while it is open. Where another process rewrites it, the weights change
    /// under the model; where it is cut short, touching the lost pages ends this process (`SIGBUS` on Unix).
    /// Replacing it by a rename, as [`GgufWriter`] does, is harmless. [`read_with`](Self::read_with) maps nothing.
    ///
    /// # Errors
    ///
    /// Where the file can't be read or mapped, or breaks a rule of the format. The text is one line that
    /// names the file and the key or tensor at fault.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &Formats::default())
    }

    /// [`open`](Self::open) with the caller's own choice of quantized formats.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_with(path: impl AsRef<Path>, formats: &Formats) -> Result<Self> {
        let path = Arc::from(path.as_ref());
        let map = FileMap::map(&path).map_err(|kind| Error::new(&path, kind))?;
        read::parse(&path, map, formats)
    }

    /// [`open_with`](Self::open_with), but the whole file is read into memory of this process: for a file that others
    /// write to, or on a disk that may go away. It takes the time to read it, and memory that no other process shares.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), or where there is no memory for it.
    pub fn read_with(path: impl AsRef<Path>, formats: &Formats) -> Result<Self> {
        let path = Arc::from(path.as_ref());
        let map = FileMap::read(&path).map_err(|kind| Error::new(&path, kind))?;
        read::parse(&path, map, formats)
    }

    /// Validates a file that is in memory already; errors name it `name`. The bytes are copied once, to
    /// page-aligned memory.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_bytes(name: impl AsRef<Path>, bytes: &[u8]) -> Result<Self> {
        let path = Arc::from(name.as_ref());
        let map = FileMap::copy(bytes).map_err(|kind| Error::new(&path, kind))?;
        read::parse(&path, map, &Formats::default())
    }

    /// The path the file was opened by.
    pub fn path(&self) -> &Path {
        self.metadata.path()
    }

    /// The version of GGUF: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The alignment of tensor data in bytes: a power of two, 8 or more.
    pub fn alignment(&self) -> usize {
        self.alignment
    }

    /// The length of the whole file in bytes.
    pub fn file_len(&self) -> usize {
        self.map.len()
    }

    /// The keys and their values.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All tensors, in the order of the file's table.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The tensor called `name`, `None` where the file has none.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.by_name.get(name).map(|&i| &self.tensors[i])
    }

    /// The tensor called `name`.
    ///
    /// # Errors
    ///
    /// Where the file has none.
    pub fn require_tensor(&self, name: &str) -> Result<&Tensor> {
        self.tensor(name).ok_or_else(|| {
            Error::new(self.metadata.shared_path(), Kind::MissingTensor { tensor: name.into() })
        })
    }
}
