//! A model's matrices in another format: what `quantloom quantize` does.

use std::io;
use std::path::Path;

use quantloom_kernels::Supported;
use rayon::prelude::*;

use crate::Error;
use crate::gguf::{Gguf, GgufWriter, Tensor, TensorType};
use crate::matrix::Matrix;

/// What becomes of each tensor.
#[derive(Clone, Debug)]
pub struct Options {
    /// The type of matrices; vectors, as those of norms, stay as they are.
    pub ty: TensorType,
    /// Other types for tensors whose name holds a text. The first that fits counts; vectors are not quantized.
    pub exceptions: Vec<(String, TensorType)>,
    /// Whether matrices that are quantized already may be quantized again, which loses a little more.
    pub requantize: bool,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Tensors in a new type.
    pub converted: usize,
    /// Matrices that kept their type, as rows of theirs are no whole number of blocks of the type that follows.
    pub unfit: Vec<(String, TensorType)>,
    /// Bytes of tensors before.
    pub bytes_before: usize,
    /// And after.
    pub bytes_after: usize,
}

/// Rows that are converted at a time, which bounds memory.
const ROWS: usize = 256;

/// Writes the model in `source` to `path` with its matrices in other types, a part of a tensor at a time. The
/// file appears when it is whole. `progress` is told the number of bytes of `source` that are done with.
///
/// # Errors
/// `path` is the source, a matrix is quantized already and may not be again, a type has no quantizer or no GGUF number, or `path`
/// can't be written.
pub fn quantize(
    source: &Gguf,
    path: impl AsRef<Path>,
    options: &Options,
    progress: impl Fn(usize),
) -> Result<Summary, Error> {
    let fail = |problem: String| Error::Model { path: source.path().into(), problem };
    let path = path.as_ref();
    let same = |a: &Path, b: &Path| Some(a.canonicalize().ok()? == b.canonicalize().ok()?);
    if same(source.path(), path) == Some(true) {
        return Err(fail(
            "the model would be written over itself, and it is not to be had back: name another file".into(),
        ));
    }
    let isa = Supported::selected()?;
    let mut file = GgufWriter::new(path);
    // The overall type, as a number that other formats have no share in.
    for (key, value) in source.metadata().iter().filter(|(key, _)| *key != "general.file_type") {
        file.metadata(key, value.clone())?;
    }
    let mut summary = Summary::default();
    let progress = &progress;
    for tensor in source.tensors() {
        let mut ty = options.target(tensor);
        if ty != tensor.ty() && !tensor.cols().is_multiple_of(ty.block_len()) {
            summary.unfit.push((tensor.name().into(), ty));
            ty = tensor.ty();
        }
        if ty != tensor.ty() {
            if let (TensorType::Quantized(from), TensorType::Quantized(_), false) =
                (tensor.ty(), ty, options.requantize)
            {
                return Err(fail(format!(
                    "tensor `{}` is quantized already, as {}, and quantizing it again loses more: start from the F32, F16 or BF16 model, or allow it (--allow-requantize)",
                    tensor.name().escape_debug(),
                    from.name
                )));
            }
            if let TensorType::Quantized(format) = ty
                && format.quantize.is_none()
            {
                return Err(fail(format!(
                    "{} has no quantizer, as none follows from its formula: choose another type",
                    format.name
                )));
            }
            summary.converted += 1;
        }
        summary.bytes_before += tensor.data().len();
        summary.bytes_after += tensor.rows() * tensor.cols() / ty.block_len() * ty.block_bytes();
        file.tensor(tensor.name(), tensor.dims(), ty, move |out| convert(tensor, ty, isa, out, progress))?;
    }
    file.write()?;
    Ok(summary)
}

impl Options {
    fn target(&self, tensor: &Tensor) -> TensorType {
        let exception = self.exceptions.iter().find(|(text, _)| tensor.name().contains(text.as_str()));
        let is_matrix = tensor.dims().len() >= 2;
        match exception {
            Some((_, ty)) if is_matrix || !matches!(ty, TensorType::Quantized(_)) => *ty,
            None if is_matrix => self.ty,
            _ => tensor.ty(),
        }
    }
}

/// Writes the weights of `tensor` as `ty`.
fn convert(
    tensor: &Tensor,
    ty: TensorType,
    isa: Supported,
    out: &mut dyn io::Write,
    progress: &impl Fn(usize),
) -> io::Result<()> {
    let row_bytes = tensor.cols() / ty.block_len() * ty.block_bytes();
    let source = Matrix::new(tensor.clone(), isa);
    let mut converted = vec![0; ROWS.min(tensor.rows()) * row_bytes];
    for (part, rows) in tensor.data().chunks(ROWS * tensor.row_bytes()).enumerate() {
        if ty == tensor.ty() {
            out.write_all(rows)?;
        } else {
            let converted = &mut converted[..rows.len() / tensor.row_bytes() * row_bytes];
            converted.par_chunks_exact_mut(row_bytes).enumerate().for_each_init(
                || vec![0.0; tensor.cols()],
                |weights, (row, converted)| {
                    source.row(part * ROWS + row, weights);
                    narrow(ty, isa, weights, converted);
                },
            );
            out.write_all(converted)?;
        }
        progress(rows.len());
    }
    Ok(())
}

fn narrow(ty: TensorType, isa: Supported, weights: &[f32], row: &mut [u8]) {
    fn each<const N: usize>(weights: &[f32], row: &mut [u8], bytes: impl Fn(f32) -> [u8; N]) {
        row.as_chunks_mut().0.iter_mut().zip(weights).for_each(|(number, w)| *number = bytes(*w));
    }
    match ty {
        TensorType::F32 => each(weights, row, f32::to_le_bytes),
        TensorType::F16 => each(weights, row, |w| half::f16::from_f32(w).to_le_bytes()),
        TensorType::BF16 => each(weights, row, |w| half::bf16::from_f32(w).to_le_bytes()),
        TensorType::Quantized(format) => format
            .kernels(isa)
            .quantize(weights, row)
            .expect("rows are whole blocks, and there is a quantizer: both were checked"),
    }
}
