//! Importance matrices: how much the error of each column of a matrix counts when it is quantized.
//!
//! Column c of W is multiplied with element c of its inputs, so that an error in it adds to the squared error of the
//! product in proportion to the mean of x_c². [`compute`] finds these means over a text, and a
//! [`Recipe`](crate::quantize::Recipe) weighs by them. Definitions and files are those of llama.cpp's `llama-imatrix`,
//! so that either engine can use what the other wrote:
//!
//! ```text
//! general.type           "imatrix"
//! imatrix.datasets       array of strings: the texts
//! imatrix.chunk_count    u32: chunks of them that were run
//! imatrix.chunk_size     u32: tokens of each
//! NAME.in_sum2           F32, [cols, matrices]: Σ x² over the tokens that tensor NAME was multiplied with
//! NAME.counts            F32, [1, matrices]: how many these are
//! ```
//!
//! Tensors of several matrices are those of experts. Of llama.cpp's older format, `.dat`, files are read, too.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use quantloom::gguf::Formats;
//! use quantloom::imatrix::compute;
//! use quantloom::perplexity::Chunks;
//! use quantloom::quantize::Recipe;
//! use quantloom::{Error, Model};
//!
//! let model = Model::load("model.F16.gguf", None)?;
//! let text = std::fs::read_to_string("text.txt").expect("a text");
//! let chunks = Chunks::of_text(&model, &text, 512, usize::MAX)?;
//! let (mut imatrix, _) = compute(&model, &chunks, false, |_| Ok::<_, Error>(()))?;
//! imatrix.datasets.push("text.txt".into());
//! imatrix.write("imatrix.gguf")?;
//!
//! let mut recipe = Recipe::new("IQ2_XXS", &Formats::default())?;
//! recipe.imatrix = Some(Arc::new(imatrix));
//! # Ok::<(), Error>(())
//! ```

mod collect;
mod read;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use collect::Collector;

use crate::file::check_output;
use crate::gguf::{GgufWriter, Tensor, TensorType};
use crate::perplexity::{Chunks, Perplexity, evaluate_collecting};
use crate::{Error, Model};

const TYPE_KEY: &str = "general.type";
const TYPE: &str = "imatrix";
const DATASETS_KEY: &str = "imatrix.datasets";
const CHUNKS_KEY: &str = "imatrix.chunk_count";
const CONTEXT_KEY: &str = "imatrix.chunk_size";
const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

/// The importance of the columns of a model's matrices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imatrix {
    /// The texts that it is about.
    pub datasets: Vec<String>,
    /// Chunks of them that were run; 0 where that is not known.
    pub chunks: u32,
    /// Tokens of each; 0 where that is not known.
    pub context: u32,
    /// By the names of tensors.
    pub entries: BTreeMap<String, Entry>,
    path: Option<PathBuf>,
}

/// What a tensor was multiplied with.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// `[matrices, cols]`: Σ x² of each input.
    pub sums: Vec<f32>,
    /// Over how many inputs, for each matrix or one for all. Tokens; in files of the older format chunks of them.
    pub counts: Vec<f32>,
}

impl Imatrix {
    /// Reads the file at `path`, GGUF or of llama.cpp's older format.
    ///
    /// # Errors
    /// It can't be read, is a file of something else, is not whole, or holds what no sums of squares are.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        read::open(path.as_ref())
    }

    /// Writes a GGUF file to `path`, which appears when it is whole.
    ///
    /// # Errors
    /// As [`check_target`], or an entry has no columns.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        check_target(path)?;
        let mut file = GgufWriter::new(path);
        file.metadata(TYPE_KEY, TYPE)?;
        file.metadata(DATASETS_KEY, self.datasets.clone())?;
        file.metadata(CHUNKS_KEY, self.chunks)?;
        file.metadata(CONTEXT_KEY, self.context)?;
        for (name, Entry { sums, counts }) in &self.entries {
            let matrices = counts.len().max(1);
            for (suffix, dims, values) in
                [(SUMS, [sums.len() / matrices, matrices], sums), (COUNTS, [1, matrices], counts)]
            {
                file.tensor(format!("{name}{suffix}"), &dims, TensorType::F32, |out| {
                    values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
                })?;
            }
        }
        Ok(file.write()?)
    }

    /// The file that it was read from.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What errors call it.
    pub(crate) fn title(&self) -> String {
        self.path().map_or("the importance matrix".into(), |path| path.display().to_string())
    }

    /// The entry of `tensor`, if it has one.
    ///
    /// # Errors
    /// It is that of another shape.
    pub(crate) fn entry(&self, tensor: &Tensor) -> Result<Option<&Entry>, String> {
        let Some(entry) = self.entries.get(tensor.name()) else { return Ok(None) };
        let (cols, matrices) = (tensor.cols(), tensor.matrices());
        if entry.sums.len() == cols * matrices && [1, matrices].contains(&entry.counts.len()) {
            return Ok(Some(entry));
        }
        let of = |matrices| if matrices == 1 { String::new() } else { format!(" for {matrices} matrices") };
        Err(format!(
            "tensor `{}` has {cols} columns{}, and {} has {} of it{}: that was computed for another model",
            tensor.name().escape_debug(),
            of(matrices),
            self.title(),
            entry.sums.len() / entry.counts.len().max(1),
            of(entry.counts.len()),
        ))
    }
}

impl Entry {
    /// `[matrices, cols]`: Σ x² / count. The columns of an expert that saw nothing are equally important.
    pub(crate) fn means(&self, cols: usize) -> Vec<f32> {
        let matrices = self.sums.chunks_exact(cols).zip(self.counts.iter().cycle());
        matrices
            .flat_map(|(sums, &count)| {
                sums.iter().map(move |sum| if count > 0.0 { sum / count } else { 1.0 })
            })
            .collect()
    }
}

/// Whether an importance matrix may be written to `path`: what is there and is none, perhaps the model, is not to be
/// lost by a slip. To be asked before the work is done.
///
/// # Errors
/// There is another file, or the folder can't be written to.
pub fn check_target(path: &Path) -> Result<(), Error> {
    let io = |source| Error::Io { path: path.into(), source };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => check_output(path).map_err(io),
        Err(error) => Err(io(error)),
        Ok(_) if Imatrix::open(path).is_ok() => Ok(()),
        Ok(_) => Err(Error::Imatrix {
            path: path.into(),
            problem: "is there, and no importance matrix: it is not overwritten, name another".into(),
        }),
    }
}

/// Runs `chunks` through `model`, whose KV cache is in f16, and sums the squares of what its matrices are multiplied
/// with, over all tokens of the chunks. The output matrix is among them where `with_output` says so, under the name of
/// the token embedding where the two are one. `progress` is told the perplexity so far after each chunk, and may end it
/// all.
///
/// # Errors
/// The context is longer than the model was trained for, numbers are none or beyond f32, or what `progress` says.
pub fn compute<E: From<Error>>(
    model: &Model,
    chunks: &Chunks,
    with_output: bool,
    progress: impl FnMut(&Perplexity) -> Result<(), E>,
) -> Result<(Imatrix, Perplexity), E> {
    let collector = Collector::new(with_output.then(|| model.output_name().into()));
    let (figures, collector) = evaluate_collecting(model, chunks, collector, progress)?;
    let entries = collector.into_entries().map_err(|name| Error::Model {
        path: model.gguf().path().into(),
        problem: format!(
            "what tensor `{}` is multiplied with is no number, or its square too large for f32: the weights are damaged, fetch or convert the model again",
            name.escape_debug()
        ),
    })?;
    let [chunks, context] = [chunks.len(), chunks.context()].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    Ok((Imatrix { chunks, context, entries, ..Default::default() }, figures))
}
