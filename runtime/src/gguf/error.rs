//! What can be wrong with a file: one line each, naming the file, the key or tensor, and the remedy.

use std::fmt::{self, Display, Write as _};
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::read::Part;
use crate::escape::one_line;

/// A GGUF file that can't be read, used or written.
///
/// Its text is one line: the file, the key or tensor, what is wrong and, where it isn't plain, what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}: {kind}", one_line(&path.to_string_lossy(), usize::MAX))]
pub struct Error {
    path: Arc<Path>,
    kind: Kind,
}

/// A result whose error is a GGUF [`Error`] unless stated.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(super) fn new(path: &Arc<Path>, kind: Kind) -> Self {
        Self { path: Arc::clone(path), kind }
    }

    /// The file in question.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the system said, where the file could not be read or written.
    pub fn io(&self) -> Option<&io::Error> {
        match &self.kind {
            Kind::Io(error) => Some(error),
            _ => None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Kind {
    #[error("{0}")]
    Io(io::Error),
    #[error("the file is empty")]
    Empty,
    #[error("there is no memory for its {len} bytes; mapped, without --no-mmap, it takes none of its own")]
    NoMemory { len: u64 },
    #[error("is not a GGUF file: it begins with \"{}\", not \"GGUF\"", .0.escape_ascii())]
    Magic([u8; 4]),
    #[error("is a big-endian GGUF file; convert it to little-endian")]
    BigEndian,
    #[error("has GGUF version {0}; versions 2 and 3 are read, so convert the model again with current tools")]
    Version(u32),

    #[error(
        "{part} at byte {offset} needs {need} bytes, past the end of the file at {len}; \
         the file is truncated or damaged"
    )]
    Truncated { part: String, offset: usize, need: u64, len: usize },
    #[error(
        "{part} claims {count} {items}, more than the {left} bytes left in the file can hold; \
         the file is truncated or damaged"
    )]
    Count { part: String, count: u64, items: &'static str, left: usize },
    #[error("{part} claims {count} {items}; the most is {max}, so the file is damaged or no model")]
    Limit { part: String, count: u64, items: &'static str, max: usize },
    #[error("{part} is not valid UTF-8")]
    Utf8 { part: String },
    #[error("{part} needs {bytes} bytes of memory, and the system does not give them")]
    Memory { part: String, bytes: usize },
    #[error("{part} is the boolean {byte}; only 0 and 1 are booleans")]
    Bool { part: String, byte: u8 },
    #[error("{part} has the unknown value type {id}")]
    ValueType { part: String, id: u32 },
    #[error("{part} is an array of arrays, which is not supported")]
    NestedArray { part: String },

    #[error("key {key} occurs twice")]
    DuplicateKey { key: Name },
    #[error("key {key} is missing")]
    MissingKey { key: Name },
    #[error("key {key} is {actual}; expected {expected}")]
    WrongType { key: Name, actual: String, expected: &'static str },
    #[error("key {key} has {count} numbers, and the model {layers} layers")]
    LayerCount { key: Name, count: usize, layers: usize },
    #[error(
        "key {key} is {first} for layer 0 and {other} for layer {layer}; only layers of one shape are built"
    )]
    LayersDiffer { key: Name, first: u32, layer: usize, other: i128 },
    #[error(
        "key {} is {value}; expected a power of two from {min} to {max}",
        Name::from(super::ALIGNMENT_KEY)
    )]
    Alignment { value: u32, min: u32, max: u32 },

    #[error("tensor {tensor} is missing")]
    MissingTensor { tensor: Name },
    #[error("tensor {tensor} occurs twice")]
    DuplicateTensor { tensor: Name },
    #[error("tensor {tensor} has {n} dimensions; expected 1 to {max}")]
    DimCount { tensor: Name, n: u64, max: usize },
    #[error("tensor {tensor} has the shape {dims:?}; no dimension may be 0")]
    ZeroDim { tensor: Name, dims: Vec<u64> },
    #[error("tensor {tensor} has the shape {dims:?}, which is too large to address")]
    TooLarge { tensor: Name, dims: Vec<u64> },
    #[error("tensor {tensor} has {ty}, which this build does not read; it reads {supported}")]
    TensorType { tensor: Name, ty: String, supported: String },
    #[error("tensor {tensor} has rows of {cols} weights; {ty} needs a multiple of its block of {block_len}")]
    RowLength { tensor: Name, cols: u64, ty: &'static str, block_len: usize },
    #[error("tensor {tensor}: offset {offset} is not a multiple of the alignment {alignment}")]
    Unaligned { tensor: Name, offset: u64, alignment: usize },
    #[error(
        "tensor {tensor}: data [{start}, {end}) lies outside the file ({len} bytes); it is truncated or damaged"
    )]
    OutsideFile { tensor: Name, start: u64, end: u64, len: usize },
    #[error("tensor {tensor}: its data overlaps that of tensor {other}")]
    Overlap { tensor: Name, other: Name },

    #[error("tensor {tensor} has type {ty}, which has no GGUF number and can't be written")]
    NoGgufId { tensor: Name, ty: &'static str },
    #[error("tensor {tensor}: {written} bytes were supplied, expected {expected}")]
    DataLength { tensor: Name, written: usize, expected: usize },
}

impl Kind {
    pub(super) fn limit(part: Part<'_>, count: u64, items: &'static str, max: usize) -> Self {
        Self::Limit { part: part.to_string(), count, items, max }
    }
}

/// The name of a key or tensor as the file spells it, fit for a line of text: in backquotes, control
/// characters escaped, cut short where it is long.
#[derive(Debug)]
pub(super) struct Name(String);

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        // ggml's limit for the name of a tensor.
        const MAX_CHARS: usize = 64;
        Self(one_line(name, MAX_CHARS))
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

/// As [`one_line`], of bytes; those that are not UTF-8 are written like `\xE9`.
pub(super) fn one_line_of_bytes(bytes: &[u8], max_chars: usize) -> String {
    // No character takes more than four bytes: what follows would be cut anyway.
    let bytes = &bytes[..bytes.len().min(max_chars.saturating_mul(4).saturating_add(4))];
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02X}").expect("a String takes every write");
        }
    }
    one_line(&text, max_chars)
}
