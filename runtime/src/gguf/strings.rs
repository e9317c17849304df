//! Strings as a file has them: bytes, which are UTF-8 by GGUF's rules and in nearly all files.

use std::collections::TryReserveError;
use std::fmt::{self, Debug};
use std::sync::Arc;

use super::error::one_line_of_bytes;

/// The value of a key that is a string. One that is not UTF-8 is kept byte for byte, so that a copy of the file has it
/// too; only who needs a text must refuse it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ByteString(Vec<u8>);

impl ByteString {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text; `None` where the bytes are not UTF-8.
    pub fn to_str(&self) -> Option<&str> {
        str::from_utf8(&self.0).ok()
    }
}

impl From<Vec<u8>> for ByteString {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<String> for ByteString {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<&str> for ByteString {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl Debug for ByteString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", one_line_of_bytes(&self.0, usize::MAX))
    }
}

/// The elements of an array of strings: all bytes in one buffer, and where each string ends. An empty string, which takes
/// 8 bytes of a file, takes 4 of memory. Clones share the buffers.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Strings(Arc<Buffers>);

/// Strings while they are added.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Buffers {
    bytes: Vec<u8>,
    /// Places in `bytes`, one for each string.
    ends: Vec<u32>,
}

impl Strings {
    /// The most bytes of all strings together.
    pub const MAX_BYTES: usize = u32::MAX as usize;

    /// The number of strings.
    pub fn len(&self) -> usize {
        self.0.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.ends.is_empty()
    }

    /// The bytes of all strings.
    pub fn total_bytes(&self) -> usize {
        self.0.bytes.len()
    }

    /// The string at `index`.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.0.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.0.ends[before]);
        Some(&self.0.bytes[start as usize..end as usize])
    }

    /// The strings in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        (0..self.len()).map(|index| self.get(index).unwrap_or_default())
    }
}

impl Buffers {
    /// Makes room for exactly so many more bytes in so many more strings.
    pub fn try_reserve(&mut self, bytes: usize, strings: usize) -> Result<(), TryReserveError> {
        self.bytes.try_reserve_exact(bytes)?;
        self.ends.try_reserve_exact(strings)
    }

    /// Adds a string: what `append` adds to the bytes. All together are at most [`Strings::MAX_BYTES`].
    pub fn push_with(&mut self, append: impl FnOnce(&mut Vec<u8>)) {
        append(&mut self.bytes);
        self.ends.push(u32::try_from(self.bytes.len()).expect("strings have at most 4 GiB"));
    }

    /// What was added.
    pub fn finish(self) -> Strings {
        Strings(Arc::new(self))
    }
}

/// # Panics
/// The strings have more than [`Strings::MAX_BYTES`].
impl<T: AsRef<[u8]>> FromIterator<T> for Strings {
    fn from_iter<I: IntoIterator<Item = T>>(strings: I) -> Self {
        let mut buffers = Buffers::default();
        for string in strings {
            buffers.push_with(|bytes| bytes.extend_from_slice(string.as_ref()));
        }
        buffers.finish()
    }
}

impl Debug for Strings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|bytes| one_line_of_bytes(bytes, usize::MAX))).finish()
    }
}
