//! `quantloom inspect`.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use crate::gguf::{Formats, Tensor};
use indicatif::DecimalBytes;

use super::table::{self, Align::*};
use super::{ModelArgs, Result};

#[derive(clap::Args)]
pub struct Args {
    /// Model file, GGUF, or a name that `pull` knows [default: the one that GGUF_MODEL names, else smollm2]
    model: Option<PathBuf>,
}

pub fn run(args: Args, formats: &Formats, out: &mut impl Write) -> Result {
    let file = ModelArgs { model: args.model }.open(formats)?;
    let out = &mut BufWriter::new(out);
    let (version, size, alignment) = (file.version(), DecimalBytes(file.file_len() as u64), file.alignment());
    writeln!(out, "{}: GGUF version {version}, {size}, alignment {alignment}", file.path().display())?;

    writeln!(out, "\n{} keys", file.metadata().len())?;
    let keys = file.metadata().iter();
    let rows = keys.map(|(key, value)| [key.into(), value.type_name().into(), value.to_string()]);
    table::write(out, [Left, Left, Left], ["key", "type", "value"], rows)?;

    writeln!(out, "\n{} tensors", file.tensors().len())?;
    let rows = file.tensors().iter().map(|tensor| {
        let shape = tensor.dims().iter().map(usize::to_string).collect::<Vec<_>>().join(" × ");
        [tensor.name().into(), tensor.ty().to_string(), shape, tensor.data().len().to_string()]
    });
    table::write(out, [Left, Left, Right, Right], ["tensor", "type", "shape", "bytes"], rows)?;

    writeln!(out, "\nin total")?;
    let columns = ["type", "tensors", "weights", "bytes", "size"];
    table::write(out, [Left, Right, Right, Right, Right], columns, totals(file.tensors()))?;
    Ok(out.flush()?)
}

/// For each type, in order of appearance: tensors, weights, bytes.
fn totals(tensors: &[Tensor]) -> impl Iterator<Item = [String; 5]> {
    let mut types = Vec::new();
    for tensor in tensors {
        if !types.contains(&tensor.ty()) {
            types.push(tensor.ty());
        }
    }
    types.into_iter().map(|ty| {
        let of_type = || tensors.iter().filter(move |tensor| tensor.ty() == ty);
        let weights: usize = of_type().map(|tensor| tensor.rows() * tensor.cols()).sum();
        let bytes: usize = of_type().map(|tensor| tensor.data().len()).sum();
        let size = DecimalBytes(bytes as u64).to_string();
        [ty.to_string(), of_type().count().to_string(), weights.to_string(), bytes.to_string(), size]
    })
}
