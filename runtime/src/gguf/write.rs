//! The writer: metadata and tensors in, a version 3 file out, in bounded memory.

use std::collections::HashSet;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::error::{Error, Kind, Result};
use super::read::alignment;
use super::tensor::{TensorType, data_len};
use super::value::{Value, write_string, write_u32, write_u64};
use super::{MAGIC, Metadata};
use crate::file::OutputFile;

/// Supplies the data of a tensor.
type Source<'a> = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + 'a>;

/// Builds a GGUF file of version 3.
///
/// Tensor data is asked for only while [`write`](Self::write) runs, one tensor after the other, so that a file
/// can be far larger than memory.
///
/// ```
/// use quantloom::gguf::{Gguf, GgufWriter, TensorType};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("tiny.gguf");
/// let mut writer = GgufWriter::new(&path);
/// writer.metadata("general.architecture", "llama")?;
/// writer.tensor("output_norm.weight", &[4], TensorType::F32, |out| out.write_all(&[0; 16]))?;
/// writer.write()?;
///
/// let file = Gguf::open(&path)?;
/// assert_eq!(file.metadata().require_str("general.architecture")?, "llama");
/// assert_eq!(file.require_tensor("output_norm.weight")?.data(), [0; 16]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct GgufWriter<'a> {
    metadata: Metadata,
    tensors: Vec<Planned<'a>>,
    names: HashSet<String>,
}

struct Planned<'a> {
    name: String,
    dims: Vec<usize>,
    gguf_id: u32,
    len: usize,
    source: Source<'a>,
}

impl<'a> GgufWriter<'a> {
    /// A file without keys and tensors, to be written to `path`.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { metadata: Metadata::new(path), tensors: Vec::new(), names: HashSet::new() }
    }

    fn error(&self, kind: Kind) -> Error {
        Error::new(self.metadata.shared_path(), kind)
    }

    /// Adds a key after the others. `general.alignment` sets the alignment of the file.
    ///
    /// # Errors
    ///
    /// Where the key is there already.
    pub fn metadata(&mut self, key: impl Into<String>, value: impl Into<Value>) -> Result<()> {
        self.metadata.insert(key, value)
    }

    /// Adds a tensor after the others: `dims` in GGUF's order (weights per row first), `data` writes exactly
    /// the bytes that shape and type ask for.
    ///
    /// # Errors
    ///
    /// Where the name is there already, the shape doesn't suit the type, or the type has no GGUF number.
    pub fn tensor(
        &mut self,
        name: impl Into<String>,
        dims: &[usize],
        ty: TensorType,
        data: impl FnOnce(&mut dyn Write) -> io::Result<()> + 'a,
    ) -> Result<()> {
        let name = name.into();
        let tensor = || (&*name).into();
        let gguf_id =
            ty.gguf_id().ok_or_else(|| self.error(Kind::NoGgufId { tensor: tensor(), ty: ty.name() }))?;
        let dims: Vec<_> = dims.iter().map(|&dim| dim as u64).collect();
        let (dims, len) = data_len(&name, &dims, ty).map_err(|kind| self.error(kind))?;
        if !self.names.insert(name.clone()) {
            return Err(self.error(Kind::DuplicateTensor { tensor: tensor() }));
        }
        self.tensors.push(Planned { name, dims, gguf_id, len, source: Box::new(data) });
        Ok(())
    }

    /// Writes the file, which gets its name when it is complete and on disk: whoever finds a file at the path finds all
    /// of it. If the path is a symbolic link, the file that it leads to is written.
    ///
    /// # Errors
    ///
    /// Where the alignment is not one, there is something other than a file at the path, writing fails, or a tensor
    /// gets more or fewer bytes than it should.
    pub fn write(self) -> Result<()> {
        let alignment = alignment(&self.metadata)?;
        let path = self.metadata.shared_path().clone();
        write_file(&path, &self.metadata, self.tensors, alignment).map_err(|kind| Error::new(&path, kind))
    }
}

fn write_file(
    path: &Path,
    metadata: &Metadata,
    tensors: Vec<Planned<'_>>,
    alignment: usize,
) -> Result<(), Kind> {
    let mut file = OutputFile::create(path).map_err(Kind::Io)?;
    let mut out = Counted { out: BufWriter::with_capacity(1 << 20, &mut file), written: 0 };
    write_head(&mut out, metadata, &tensors, alignment).map_err(Kind::Io)?;
    for Planned { name, len, source, .. } in tensors {
        let before = out.written;
        source(&mut out).map_err(Kind::Io)?;
        let written = out.written - before;
        if written != len {
            return Err(Kind::DataLength { tensor: (&*name).into(), written, expected: len });
        }
        // ggml pads the last tensor, too, and may read the data section as a whole.
        out.pad_to(alignment).map_err(Kind::Io)?;
    }
    out.flush().map_err(Kind::Io)?;
    drop(out);
    file.persist().map_err(Kind::Io)
}

/// Writes all that stands before the data, padding included.
fn write_head(
    out: &mut Counted<impl Write>,
    metadata: &Metadata,
    tensors: &[Planned<'_>],
    alignment: usize,
) -> io::Result<()> {
    out.write_all(&MAGIC)?;
    write_u32(out, 3)?;
    write_u64(out, tensors.len() as u64)?;
    write_u64(out, metadata.len() as u64)?;
    for (key, value) in metadata.iter() {
        write_string(out, key.as_bytes())?;
        value.write(out)?;
    }
    let mut offset = 0_u64;
    for tensor in tensors {
        write_string(out, tensor.name.as_bytes())?;
        write_u32(out, tensor.dims.len() as u32)?;
        for &dim in &tensor.dims {
            write_u64(out, dim as u64)?;
        }
        write_u32(out, tensor.gguf_id)?;
        write_u64(out, offset)?;
        // Data that would fill 64 bits is never written to its end.
        offset = offset.saturating_add(tensor.len.next_multiple_of(alignment) as u64);
    }
    out.pad_to(alignment)
}

/// A writer that knows how much went through it.
struct Counted<W> {
    out: W,
    written: usize,
}

impl<W: Write> Counted<W> {
    fn pad_to(&mut self, alignment: usize) -> io::Result<()> {
        let padding = self.written.next_multiple_of(alignment) - self.written;
        io::copy(&mut io::Read::take(io::repeat(0), padding as u64), self).map(drop)
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.written += n;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
