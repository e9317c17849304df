//! Both of llama.cpp's formats. The older one, `.dat`, is
//!
//! ```text
//! i32 entries
//! per entry   i32 length, name, i32 chunks, i32 n, n × f32: the sum over chunks of the mean square of each column
//! at the end  i32 chunks, i32 length, name of the text; none of it in the oldest files
//! ```
//!
//! and little-endian.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use super::{CHUNKS_KEY, CONTEXT_KEY, COUNTS, DATASETS_KEY, Entry, Imatrix, SUMS, TYPE, TYPE_KEY};
use crate::Error;
use crate::alloc::fallible;
use crate::file::open_regular;
use crate::gguf::{Gguf, Tensor, TensorType};

/// The most values of a file, as a sparse one is as long as it likes. DeepSeek-V3, with 256 experts in each of 58
/// layers, has 243 million.
const MAX_VALUES: usize = 1 << 28;

/// The most bytes of a name in the older format; ggml's tensors have less than 64.
const MAX_NAME: usize = 4096;

/// The most entries of the older format, as many as tensors of a GGUF file: each takes some 200 bytes besides its values.
const MAX_ENTRIES: i32 = 1 << 16;

/// The fewest bytes of an entry of the older format: three numbers and a value.
const MIN_ENTRY: u64 = 3 * 4 + 4;

pub fn open(path: &Path) -> Result<Imatrix, Error> {
    let io = |source| Error::Io { path: path.into(), source };
    let mut file = open_regular(path).map_err(io)?;
    let about = file.metadata().map_err(io)?;
    let fail = |problem: String| Error::Imatrix { path: path.into(), problem };
    let mut magic = Vec::new();
    (&mut file).take(4).read_to_end(&mut magic).map_err(io)?;
    let imatrix = if magic == *b"GGUF" {
        of_gguf(&Gguf::open(path)?)?
    } else {
        file.rewind().map_err(io)?;
        Legacy { path, reader: BufReader::new(file), at: 0, len: about.len() }.imatrix()?
    };
    if imatrix.entries.is_empty() {
        return Err(fail("holds no entries: compute it again".into()));
    }
    for (name, Entry { sums, counts }) in &imatrix.entries {
        for (what, values) in [("sums", sums), ("counts", counts)] {
            if let Some(i) = values.iter().position(|value| !(value.is_finite() && *value >= 0.0)) {
                return Err(fail(format!(
                    "entry `{}` has {} among its {what}, at index {i}, which none can be: the file is damaged",
                    name.escape_debug(),
                    values[i]
                )));
            }
        }
    }
    Ok(Imatrix { path: Some(path.into()), ..imatrix })
}

fn of_gguf(gguf: &Gguf) -> Result<Imatrix, Error> {
    let fail = |problem: String| Error::Imatrix { path: gguf.path().into(), problem };
    let metadata = gguf.metadata();
    match metadata.str(TYPE_KEY)? {
        None | Some(TYPE) => {}
        Some(other) => {
            return Err(fail(format!("is no importance matrix, but a GGUF file of the type {other:?}")));
        }
    }
    let [chunks, context] = [metadata.require_u32(CHUNKS_KEY)?, metadata.require_u32(CONTEXT_KEY)?];
    // Names of files need not be UTF-8, and are only told.
    let datasets = metadata.require_strings(DATASETS_KEY)?.iter();
    let datasets = datasets.map(|name| String::from_utf8_lossy(name).into_owned()).collect();

    let mut entries = BTreeMap::new();
    let mut room = MAX_VALUES;
    for tensor in gguf.tensors() {
        let Some(name) = tensor.name().strip_suffix(SUMS) else { continue };
        let counts = gguf.require_tensor(&format!("{name}{COUNTS}"))?;
        let matrices = counts.rows() * counts.cols();
        if matrices != 1 && matrices != tensor.rows() {
            return Err(fail(format!(
                "entry `{}` has sums for {} matrices, and counts for {matrices}: the file is damaged",
                name.escape_debug(),
                tensor.rows()
            )));
        }
        let mut values = |tensor: &Tensor| -> Result<Vec<f32>, Error> {
            if tensor.ty() != TensorType::F32 {
                let (name, ty) = (tensor.name().escape_debug(), tensor.ty());
                return Err(fail(format!("tensor `{name}` is {ty}; those of importance matrices are F32")));
            }
            let bytes = tensor.data();
            let values = bytes.len() / size_of::<f32>();
            room = room.checked_sub(values).ok_or_else(|| fail(too_many(tensor.name())))?;
            let what = || format!("tensor `{}`", tensor.name().escape_debug());
            floats(bytes).ok_or_else(|| fail(no_memory(&what(), bytes.len())))
        };
        let entry = Entry { sums: values(tensor)?, counts: values(counts)? };
        entries.insert(name.to_owned(), entry);
    }
    let orphan =
        |tensor: &&Tensor| tensor.name().strip_suffix(COUNTS).is_some_and(|name| !entries.contains_key(name));
    if let Some(tensor) = gguf.tensors().iter().find(orphan) {
        let name = tensor.name().escape_debug();
        return Err(fail(format!("tensor `{name}` counts sums that are not there: the file is damaged")));
    }
    Ok(Imatrix { datasets, chunks, context, entries, path: None })
}

/// The values in `bytes`; `None` where there is no memory for them.
fn floats(bytes: &[u8]) -> Option<Vec<f32>> {
    let bytes = bytes.as_chunks().0;
    let mut values = Vec::new();
    fallible(|| values.try_reserve_exact(bytes.len())).ok()?;
    values.extend(bytes.iter().map(|value| f32::from_le_bytes(*value)));
    Some(values)
}

fn no_memory(what: &str, bytes: usize) -> String {
    format!("{what} needs {bytes} bytes of memory, and the system does not give them")
}

fn too_many(name: &str) -> String {
    format!(
        "the values up to those of `{}` are more than {MAX_VALUES}: the file is damaged or of no model",
        name.escape_debug()
    )
}

/// A file of the older format, read from the beginning to the end.
struct Legacy<'a> {
    path: &'a Path,
    reader: BufReader<File>,
    at: u64,
    len: u64,
}

impl Legacy<'_> {
    fn imatrix(mut self) -> Result<Imatrix, Error> {
        let count = self.number("the number of entries")?;
        if count < 1 || count as u64 > self.left() / MIN_ENTRY {
            return Err(self.fail(format!(
                "is no importance matrix: neither GGUF nor of llama.cpp's older format, whose first number is that of entries, here {count}"
            )));
        }
        if count > MAX_ENTRIES {
            return Err(self.fail(format!(
                "claims {count} entries; the most is {MAX_ENTRIES}: the file is damaged or of no model"
            )));
        }
        let mut imatrix = Imatrix::default();
        let mut room = MAX_VALUES;
        for i in 0..count {
            let name = self.string(&format!("the name of entry {i}"))?;
            let entry = format!("entry `{}`", name.escape_debug());
            let chunks = self.number(&format!("the number of chunks of {entry}"))?;
            let len = self.length(&format!("the number of values of {entry}"), size_of::<f32>())?;
            room = room.checked_sub(len).ok_or_else(|| self.fail(too_many(&name)))?;
            if len == 0 {
                return Err(self.fail(format!("{entry} has no values: the file is damaged")));
            }
            let what = format!("the values of {entry}");
            let bytes = self.bytes(len * size_of::<f32>(), &what)?;
            let sums = floats(&bytes).ok_or_else(|| self.no_memory(&what, bytes.len()))?;
            match imatrix.entries.entry(name) {
                Slot::Occupied(_) => return Err(self.fail(format!("{entry} occurs twice"))),
                // Of none the sums are means.
                Slot::Vacant(slot) => slot.insert(Entry { sums, counts: vec![chunks.max(1) as f32] }),
            };
        }
        if self.left() > 0 {
            imatrix.chunks = self.number("the number of chunks")?.try_into().unwrap_or(0);
        }
        if self.left() > 0 {
            // Empty where files were only joined.
            imatrix
                .datasets
                .extend(Some(self.string("the name of the text")?).filter(|name| !name.is_empty()));
        }
        Ok(imatrix)
    }

    fn fail(&self, problem: String) -> Error {
        Error::Imatrix { path: self.path.into(), problem }
    }

    fn left(&self) -> u64 {
        self.len - self.at
    }

    fn no_memory(&self, what: &str, bytes: usize) -> Error {
        self.fail(no_memory(what, bytes))
    }

    /// The next bytes, of which so many are left.
    fn bytes(&mut self, len: usize, what: &str) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        fallible(|| bytes.try_reserve_exact(len)).map_err(|_| self.no_memory(what, len))?;
        bytes.resize(len, 0);
        self.reader.read_exact(&mut bytes).map_err(|source| Error::Io { path: self.path.into(), source })?;
        self.at += len as u64;
        Ok(bytes)
    }

    fn number(&mut self, what: &str) -> Result<i32, Error> {
        if self.left() < 4 {
            let (at, len) = (self.at, self.len);
            return Err(self.fail(format!(
                "{what}, at byte {at}, is past the end of the file at {len}: it was not written to its end, or is damaged"
            )));
        }
        let bytes = self.bytes(4, what)?;
        Ok(i32::from_le_bytes(bytes.try_into().expect("as many as were asked for")))
    }

    /// How many items of `size` bytes follow: no more than the file can hold.
    fn length(&mut self, what: &str, size: usize) -> Result<usize, Error> {
        let (at, len) = (self.at, self.number(what)?);
        match usize::try_from(len) {
            Ok(len) if len as u64 <= self.left() / size as u64 => Ok(len),
            _ => Err(self.fail(format!(
                "{what}, at byte {at}, is {len}, and {} bytes are left: the file is damaged, or of something else",
                self.left()
            ))),
        }
    }

    fn string(&mut self, what: &str) -> Result<String, Error> {
        let len = self.length(&format!("the length of {what}"), 1)?;
        if len > MAX_NAME {
            return Err(self.fail(format!("{what} has {len} bytes; the most is {MAX_NAME}")));
        }
        let bytes = self.bytes(len, what)?;
        String::from_utf8(bytes).map_err(|_| self.fail(format!("{what} is not valid UTF-8")))
    }
}
