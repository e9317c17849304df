//! Files of a base model's logits, in the format of llama.cpp's `--kl-divergence-base`.
//!
//! ```text
//! header   "_logits_", u32 context, u32 vocabulary, u32 chunks
//! tokens   chunks × context × u32
//! rows     per chunk and scored position: f32 scale, f32 least, vocabulary × u16; 2 bytes more where that is odd
//! ```
//!
//! Everything is little-endian; ln p = scale · code + least. Codes reach e⁻¹⁶ below the likeliest token: whatever is
//! less likely has code 0.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{Chunks, LEAST_CONTEXT};
use crate::alloc::fallible;
use crate::file::{OutputFile, check_output, open_regular};
use crate::ops::softmax::Softmax;
use crate::{Error, Model};

const MAGIC: [u8; 8] = *b"_logits_";
const HEADER: usize = MAGIC.len() + 3 * size_of::<u32>();

/// How far below the largest logit codes reach.
const RANGE: f32 = 16.0;
const LARGEST_CODE: f32 = u16::MAX as f32;

/// Scale and least of a row.
const ROW_HEADER: usize = 2 * size_of::<f32>();

/// Bytes of a row.
pub fn row_bytes(vocab: usize) -> usize {
    ROW_HEADER + vocab.next_multiple_of(2) * size_of::<u16>()
}

/// Bytes of a file. Numbers of 32 bits, which its header has, can't exceed a u128.
fn file_bytes(context: usize, vocab: usize, chunks: usize) -> u128 {
    let scored = context.saturating_sub(1 + context / 2) as u128 * chunks as u128;
    HEADER as u128 + context as u128 * chunks as u128 * 4 + scored * row_bytes(vocab) as u128
}

impl Chunks {
    /// Bytes of the file of their logits, by a model with so many tokens in its vocabulary.
    pub fn base_bytes(&self, vocab: usize) -> u64 {
        file_bytes(self.context, vocab, self.len()) as u64
    }
}

/// Writes the probabilities of `logits` as a row.
pub fn encode(logits: &[f32], softmax: &Softmax, row: &mut [u8]) {
    let largest = softmax.largest;
    let least = logits.iter().copied().fold(largest, f32::min).max(largest - RANGE);
    let scale = (largest - least) / LARGEST_CODE;
    let (header, codes) = row.split_at_mut(ROW_HEADER);
    header[..4].copy_from_slice(&scale.to_le_bytes());
    header[4..].copy_from_slice(&((f64::from(least) - softmax.log_sum) as f32).to_le_bytes());
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    for (code, &logit) in codes.as_chunks_mut::<2>().0.iter_mut().zip(logits) {
        // The conversion saturates: less than `least` becomes 0.
        *code = (((logit - least) * inverse).round_ties_even() as u16).to_le_bytes();
    }
}

/// A row.
pub struct Row<'a> {
    scale: f32,
    least: f32,
    codes: &'a [[u8; 2]],
}

impl<'a> Row<'a> {
    /// `row` has [`row_bytes`].
    pub fn new(row: &'a [u8]) -> Self {
        let (header, codes) = row.split_at(ROW_HEADER);
        let [scale, least] = [0, 1].map(|i| f32::from_le_bytes(header.as_chunks().0[i]));
        Self { scale, least, codes: codes.as_chunks().0 }
    }

    /// Fills `out` with ln p of the tokens from `start` on.
    #[inline(always)]
    pub fn decode(&self, start: usize, out: &mut [f32]) {
        for (out, code) in out.iter_mut().zip(&self.codes[start..]) {
            *out = self.scale * f32::from(u16::from_le_bytes(*code)) + self.least;
        }
    }
}

/// An open file of a base model's logits.
#[derive(Debug)]
pub struct BaseFile {
    path: PathBuf,
    reader: BufReader<File>,
    chunks: Chunks,
    vocab: usize,
    rows: Vec<u8>,
}

impl BaseFile {
    /// Opens the file at `path`, which [`write_base`](super::write_base) or llama.cpp has written.
    ///
    /// # Errors
    /// It can't be read, is a file of something else, or is not whole.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let fail = |problem: String| Error::Base { path: path.into(), problem };
        let io = |source| Error::Io { path: path.into(), source };
        let file = open_regular(path).map_err(io)?;
        let about = file.metadata().map_err(io)?;
        let mut reader = BufReader::new(file);
        let mut header = [0; HEADER];
        let len = read_up_to(&mut reader, &mut header).map_err(io)?;
        if !header[..len].starts_with(&MAGIC) {
            let begin = &header[..len.min(MAGIC.len())];
            return Err(fail(format!(
                "is no file of a base model's logits: it begins with \"{}\", not \"{}\"",
                begin.escape_ascii(),
                MAGIC.escape_ascii()
            )));
        }
        let [context, vocab, count] =
            [0, 1, 2].map(|i| u32::from_le_bytes(header[MAGIC.len()..].as_chunks().0[i]) as usize);
        let need = file_bytes(context, vocab, count);
        if len < HEADER || u128::from(about.len()) != need {
            let problem = match len {
                HEADER => format!("{need} bytes are asked for by its header"),
                _ => format!("the header alone takes {HEADER}"),
            };
            return Err(fail(format!(
                "has {} bytes, and {problem}: it was not written to its end, or is damaged; write it again",
                about.len()
            )));
        }
        if count == 0 || vocab == 0 || context < LEAST_CONTEXT {
            return Err(fail("holds no logits: write it again".into()));
        }
        // As long as the file at most, and read in parts, so that they are in memory once.
        const PART: usize = 1 << 14;
        let mut tokens = Vec::new();
        fallible(|| tokens.try_reserve_exact(context * count))
            .map_err(|_| fail(format!("there is no memory for its {} tokens", context * count)))?;
        let mut part = [0; PART * 4];
        while tokens.len() < context * count {
            let part = &mut part[..4 * PART.min(context * count - tokens.len())];
            reader.read_exact(part).map_err(io)?;
            tokens.extend(part.as_chunks().0.iter().map(|token| u32::from_le_bytes(*token)));
        }
        let chunks = Chunks { tokens, context };
        Ok(Self { path: path.into(), reader, chunks, vocab, rows: Vec::new() })
    }

    /// The same file once more, from its first row on. Of the two only one may be read.
    pub(crate) fn reopen(&self) -> Result<Self, Error> {
        let rows = (HEADER + size_of_val(self.chunks.tokens())) as u64;
        let file = self.reader.get_ref().try_clone().and_then(|mut file| {
            file.seek(SeekFrom::Start(rows))?;
            Ok(file)
        });
        let file = file.map_err(|source| Error::Io { path: self.path.clone(), source })?;
        let (path, chunks) = (self.path.clone(), self.chunks.clone());
        Ok(Self { path, reader: BufReader::new(file), chunks, vocab: self.vocab, rows: Vec::new() })
    }

    /// What it was written for.
    pub fn chunks(&self) -> &Chunks {
        &self.chunks
    }

    /// That it was written with another number of tokens in a chunk.
    pub(super) fn other_context(&self, context: usize) -> Error {
        let problem = format!(
            "was written with a context of {} tokens, not {context}: use that (-c), or write it again",
            self.chunks.context()
        );
        Error::Base { path: self.path.clone(), problem }
    }

    /// Whether the file has the logits for `chunks` of `model`.
    pub(crate) fn check(&self, model: &Model, chunks: &Chunks) -> Result<(), Error> {
        let fail = |problem: String| Err(Error::Base { path: self.path.clone(), problem });
        let (vocab, path) = (model.config().vocab, model.gguf().path().display());
        let count = self.chunks.len();
        if self.vocab != vocab {
            return fail(format!(
                "was written for {} tokens, and {path} has {vocab}; only models with one vocabulary can be compared",
                self.vocab
            ));
        }
        if self.chunks.context() != chunks.context() {
            return Err(self.other_context(chunks.context()));
        }
        if count < chunks.len() {
            return fail(format!(
                "has {count} chunks, not {}: compare so many, or write it again",
                chunks.len()
            ));
        }
        let differs = |(a, b): (&u32, &u32)| a != b;
        match self.chunks.tokens().iter().zip(chunks.tokens()).position(differs) {
            Some(i) => fail(format!(
                "was written for another text, or another tokenizer: its token {i} is {}, and the text's {}",
                self.chunks.tokens()[i],
                chunks.tokens()[i]
            )),
            None => Ok(()),
        }
    }

    /// The next `count` rows.
    pub(super) fn read(&mut self, count: usize) -> Result<&[u8], Error> {
        let len = count * row_bytes(self.vocab);
        let more = len.saturating_sub(self.rows.len());
        fallible(|| self.rows.try_reserve_exact(more)).map_err(|_| Error::Base {
            path: self.path.clone(),
            problem: format!("there is no memory for {len} bytes of it"),
        })?;
        self.rows.resize(len, 0);
        match self.reader.read_exact(&mut self.rows) {
            Ok(()) => Ok(&self.rows),
            Err(source) => Err(Error::Io { path: self.path.clone(), source }),
        }
    }

    pub(super) fn not_numbers(&self) -> Error {
        Error::Base {
            path: self.path.clone(),
            problem: "holds logits that are no numbers: it is damaged, write it again".into(),
        }
    }
}

/// Fills `buffer` as far as the file goes; how much that is.
fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    loop {
        match reader.read(&mut buffer[len..]) {
            Ok(0) => return Ok(len),
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes a file, which gets its name when it is whole.
pub struct Writer {
    path: PathBuf,
    out: BufWriter<OutputFile>,
}

impl Writer {
    /// Begins the file at `path` with what stands before the rows.
    pub fn new(path: &Path, chunks: &Chunks, vocab: usize) -> Result<Self, Error> {
        check_base_target(path)?;
        let io = |source| Error::Io { path: path.into(), source };
        let mut out = BufWriter::new(OutputFile::create(path).map_err(io)?);
        let header = [chunks.context(), vocab, chunks.len()].map(|number| number as u32);
        let mut write = || {
            out.write_all(&MAGIC)?;
            header.iter().chain(chunks.tokens()).try_for_each(|number| out.write_all(&number.to_le_bytes()))
        };
        write().map_err(io)?;
        Ok(Self { path: path.into(), out })
    }

    /// Adds rows.
    pub fn write(&mut self, rows: &[u8]) -> Result<(), Error> {
        self.out.write_all(rows).map_err(|source| Error::Io { path: self.path.clone(), source })
    }

    /// Gives the file its name.
    pub fn finish(self) -> Result<(), Error> {
        let Self { path, out } = self;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error);
        file.and_then(OutputFile::persist).map_err(|source| Error::Io { path, source })
    }
}

/// Whether a base model's logits may be written to `path`: a file of something else, perhaps the model, is not to be lost
/// where `--kl-divergence` was forgotten. To be asked before the work is done.
///
/// # Errors
/// There is another file, or the folder can't be written to.
pub fn check_base_target(path: &Path) -> Result<(), Error> {
    let io = |source| Error::Io { path: path.into(), source };
    let about = match fs::metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return check_output(path).map_err(io),
        Err(error) => return Err(io(error)),
    };
    let is_ours = about.is_file() && {
        let mut magic = [0; MAGIC.len()];
        let len = read_up_to(&mut open_regular(path).map_err(io)?, &mut magic).map_err(io)?;
        magic[..len] == MAGIC
    };
    if is_ours {
        return Ok(());
    }
    let problem = "is there, and no file of a base model's logits: it is not overwritten, name another; to compare with it, add --kl-divergence";
    Err(Error::Base { path: path.into(), problem: problem.into() })
}
