//! From bytes to a validated [`Gguf`].
//!
//! Four rules keep a damaged file from doing harm: every number from the file is checked before it is added
//! or multiplied, what the file claims to hold must fit into the rest of it, and, since a sparse file is as
//! long as it likes, stay within a fixed limit. Memory follows from the file's length: values take no more than in the
//! file, names of keys and tensors a few times as much, and what keys and tensors take besides, some 300 bytes each,
//! stays under 40 MB by the limits of their numbers. Where the system gives less, that is an error with the key's name.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::{self, Display};
use std::path::Path;
use std::sync::Arc;

use super::error::{Error, Kind, Name, Result};
use super::map::FileMap;
use super::tensor::{MAX_DIMS, Tensor, TensorType, data_len};
use super::value::Value;
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, Formats, Gguf, MAGIC, Metadata};
use crate::alloc::fallible;

/// The most tensors of a file; a Llama of 405 billion weights has 1138.
const MAX_TENSORS: usize = 1 << 16;

/// The most keys of a file; models have some dozens.
const MAX_KEYS: usize = 1 << 16;

/// The most bytes of a string; the longest in use are chat templates of some dozens of KiB.
const MAX_STRING_BYTES: usize = 16 << 20;

/// The most bytes of memory that are set aside for items before they are read.
const MAX_RESERVED_BYTES: usize = 1 << 20;

/// The fewest bytes of a key with its value: length of the name, value type, one byte.
const MIN_KEY_BYTES: usize = 8 + 4 + 1;

/// The fewest bytes of an entry in the table of tensors: length of the name, number of dimensions, one
/// dimension, type, offset.
const MIN_TENSOR_BYTES: usize = 8 + 4 + 8 + 4 + 8;

/// Parses and validates a whole file.
pub(super) fn parse(path: &Arc<Path>, map: FileMap, formats: &Formats) -> Result<Gguf> {
    let fail = |kind| Error::new(path, kind);
    let map = Arc::new(map);
    let mut cursor = Cursor::new(&map);

    let (version, n_tensors, n_keys) = header(&mut cursor).map_err(fail)?;

    let mut metadata = Metadata::new(path);
    for index in 0..n_keys {
        let key = cursor.text(Part::KeyName(index)).map_err(fail)?;
        let value = Value::read(&mut cursor, &key).map_err(fail)?;
        metadata.insert(key, value)?;
    }
    let alignment = alignment(&metadata)?;

    let mut entries = reserved(n_tensors);
    let mut by_name = HashMap::new();
    for index in 0..n_tensors {
        let entry = TensorEntry::read(&mut cursor, index, formats).map_err(fail)?;
        match by_name.entry(entry.name.clone()) {
            Entry::Vacant(slot) => slot.insert(index),
            Entry::Occupied(_) => return Err(fail(Kind::DuplicateTensor { tensor: (&*entry.name).into() })),
        };
        entries.push(entry);
    }

    let data_start = cursor.offset().next_multiple_of(alignment);
    let tensors = entries
        .into_iter()
        .map(|entry| entry.place(data_start, alignment, &map))
        .collect::<Result<Vec<_>, _>>()
        .map_err(fail)?;
    check_overlap(&tensors).map_err(fail)?;

    Ok(Gguf { map, version, alignment, metadata, tensors, by_name })
}

/// That `part` needs so much memory, and the system does not give it.
pub(super) fn memory(part: Part<'_>, bytes: usize) -> Kind {
    Kind::Memory { part: part.to_string(), bytes }
}

/// A list for `n` items, with room for the first of them.
fn reserved<T>(n: usize) -> Vec<T> {
    Vec::with_capacity(n.min(MAX_RESERVED_BYTES / size_of::<T>()))
}

/// Reads the header: version, number of tensors, number of keys.
fn header(cursor: &mut Cursor<'_>) -> Result<(u32, usize, usize), Kind> {
    let part = Part::Header;
    let magic = cursor.bytes(part)?;
    if magic != MAGIC {
        return Err(Kind::Magic(magic));
    }
    let version = cursor.u32(part)?;
    match version {
        2 | 3 => {}
        _ if matches!(version.swap_bytes(), 1..=0xffff) => return Err(Kind::BigEndian),
        _ => return Err(Kind::Version(version)),
    }
    let n_tensors = cursor.count(MIN_TENSOR_BYTES, MAX_TENSORS, part, "tensors")?;
    let n_keys = cursor.count(MIN_KEY_BYTES, MAX_KEYS, part, "keys")?;
    Ok((version, n_tensors, n_keys))
}

/// The alignment that `metadata` asks for, in bytes.
pub(super) fn alignment(metadata: &Metadata) -> Result<usize> {
    // The specification asks for a multiple of 8; a page of 64 KiB is the largest in use.
    const MIN: u32 = 8;
    const MAX: u32 = 1 << 16;
    let value = metadata.u32(ALIGNMENT_KEY)?.unwrap_or(DEFAULT_ALIGNMENT);
    if value.is_power_of_two() && (MIN..=MAX).contains(&value) {
        Ok(value as usize)
    } else {
        let kind = Kind::Alignment { value, min: MIN, max: MAX };
        Err(Error::new(metadata.shared_path(), kind))
    }
}

/// A row of the table of tensors, checked as far as it can be before the table's end is known.
struct TensorEntry {
    name: String,
    dims: Vec<usize>,
    ty: TensorType,
    len: usize,
    offset: u64,
}

impl TensorEntry {
    fn read(cursor: &mut Cursor<'_>, index: usize, formats: &Formats) -> Result<Self, Kind> {
        let name = cursor.text(Part::TensorName(index))?;
        let part = Part::Tensor(&name);
        let n = cursor.u32(part)?;
        if !(1..=MAX_DIMS).contains(&(n as usize)) {
            return Err(Kind::DimCount { tensor: (&*name).into(), n: n.into(), max: MAX_DIMS });
        }
        let dims = (0..n).map(|_| cursor.u64(part)).collect::<Result<Vec<_>, _>>()?;
        let ty = TensorType::from_gguf_id(&name, cursor.u32(part)?, formats)?;
        let offset = cursor.u64(part)?;
        let (dims, len) = data_len(&name, &dims, ty)?;
        Ok(Self { name, dims, ty, len, offset })
    }

    fn place(self, data_start: usize, alignment: usize, map: &Arc<FileMap>) -> Result<Tensor, Kind> {
        let Self { name, dims, ty, len, offset } = self;
        if !offset.is_multiple_of(alignment as u64) {
            return Err(Kind::Unaligned { tensor: (&*name).into(), offset, alignment });
        }
        let start = (data_start as u64).saturating_add(offset);
        let end = start.saturating_add(len as u64);
        if end > map.len() as u64 {
            return Err(Kind::OutsideFile { tensor: (&*name).into(), start, end, len: map.len() });
        }
        // Both are at most the length of the map, a usize.
        Ok(Tensor { name, dims, ty, map: Arc::clone(map), range: start as usize..end as usize })
    }
}

fn check_overlap(tensors: &[Tensor]) -> Result<(), Kind> {
    let mut by_start: Vec<_> = tensors.iter().collect();
    by_start.sort_unstable_by_key(|tensor| tensor.range.start);
    for pair in by_start.windows(2) {
        if pair[1].range.start < pair[0].range.end {
            let [other, tensor] = [pair[0], pair[1]].map(|tensor| Name::from(tensor.name()));
            return Err(Kind::Overlap { tensor, other });
        }
    }
    Ok(())
}

/// What is being read, for errors.
#[derive(Clone, Copy)]
pub(super) enum Part<'a> {
    Header,
    KeyName(usize),
    Value(&'a str),
    Element(&'a str, usize),
    TensorName(usize),
    Tensor(&'a str),
}

impl Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Header => write!(f, "the header"),
            Self::KeyName(index) => write!(f, "the name of key {index}"),
            Self::Value(key) => write!(f, "key {}", Name::from(key)),
            Self::Element(key, index) => write!(f, "element {index} of key {}", Name::from(key)),
            Self::TensorName(index) => write!(f, "the name of tensor {index}"),
            Self::Tensor(name) => write!(f, "tensor {}", Name::from(name)),
        }
    }
}

/// Reads little-endian items one after the other; where the file ends first, that is an error.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    file_len: usize,
}

impl<'a> Cursor<'a> {
    fn new(file: &'a [u8]) -> Self {
        Self { rest: file, file_len: file.len() }
    }

    /// Where the next item begins, in bytes from the start of the file.
    fn offset(&self) -> usize {
        self.file_len - self.rest.len()
    }

    fn truncated(&self, need: u64, part: Part<'_>) -> Kind {
        Kind::Truncated { part: part.to_string(), offset: self.offset(), need, len: self.file_len }
    }

    pub(super) fn bytes<const N: usize>(&mut self, part: Part<'_>) -> Result<[u8; N], Kind> {
        let (head, rest) = self.rest.split_first_chunk().ok_or_else(|| self.truncated(N as u64, part))?;
        self.rest = rest;
        Ok(*head)
    }

    pub(super) fn u32(&mut self, part: Part<'_>) -> Result<u32, Kind> {
        self.bytes(part).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, part: Part<'_>) -> Result<u64, Kind> {
        self.bytes(part).map(u64::from_le_bytes)
    }

    /// The bytes of a string. They may change while they are looked at.
    pub(super) fn str_bytes(&mut self, part: Part<'_>) -> Result<&'a [u8], Kind> {
        let len = self.u64(part)?;
        let (head, rest) = usize::try_from(len)
            .ok()
            .and_then(|len| self.rest.split_at_checked(len))
            .ok_or_else(|| self.truncated(len, part))?;
        if head.len() > MAX_STRING_BYTES {
            return Err(Kind::limit(part, len, "bytes", MAX_STRING_BYTES));
        }
        self.rest = rest;
        Ok(head)
    }

    /// Goes over a string; its length.
    pub(super) fn skip_string(&mut self, part: Part<'_>) -> Result<usize, Kind> {
        self.str_bytes(part).map(<[u8]>::len)
    }

    /// A copy of a string.
    pub(super) fn string(&mut self, part: Part<'_>) -> Result<Vec<u8>, Kind> {
        let bytes = self.str_bytes(part)?;
        let mut copy = Vec::new();
        fallible(|| copy.try_reserve_exact(bytes.len())).map_err(|_| memory(part, bytes.len()))?;
        copy.extend_from_slice(bytes);
        Ok(copy)
    }

    /// A string that must be UTF-8.
    fn text(&mut self, part: Part<'_>) -> Result<String, Kind> {
        String::from_utf8(self.string(part)?).map_err(|_| Kind::Utf8 { part: part.to_string() })
    }

    /// Reads the number of items that follow, of `min_bytes` each at least, `max` at most.
    pub(super) fn count(
        &mut self,
        min_bytes: usize,
        max: usize,
        part: Part<'_>,
        items: &'static str,
    ) -> Result<usize, Kind> {
        let count = self.u64(part)?;
        let left = self.rest.len();
        match usize::try_from(count) {
            Ok(n) if n <= left / min_bytes && n <= max => Ok(n),
            Ok(n) if n <= left / min_bytes => Err(Kind::limit(part, count, items, max)),
            _ => Err(Kind::Count { part: part.to_string(), count, items, left }),
        }
    }
}
