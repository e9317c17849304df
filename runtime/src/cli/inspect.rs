//! `quantloom inspect`.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;

use indicatif::DecimalBytes;
use quantloom_kernels::Supported;

use crate::Error;
use crate::check::{NotFinite, tensors_not_finite};
use crate::gguf::{Formats, Gguf, Tensor};
use crate::threads::pool;

use super::table::{self, Align::*};
use super::{AccessArgs, ModelArgs, Result, ThreadArgs};

#[derive(clap::Args)]
pub struct Args {
    /// Model file, GGUF, or a name that `pull` knows [default: the one that GGUF_MODEL names, else smollm2]
    model: Option<PathBuf>,
    #[command(flatten)]
    access: AccessArgs,
    /// Look through all weights for NaN and infinity, too
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    threads: ThreadArgs,
}

pub fn run(args: Args, formats: &Formats, out: &mut impl Write) -> Result {
    let file = ModelArgs { model: args.model, access: args.access }.open(formats)?;
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
    if args.check {
        check(&file, args.threads, out)?;
    }
    Ok(out.flush()?)
}

/// Tells that all weights are finite numbers, or which are not.
fn check(file: &Gguf, threads: ThreadArgs, out: &mut impl Write) -> Result {
    let isa = Supported::selected().map_err(Error::from)?;
    let start = Instant::now();
    let bad = pool(threads.count())?.install(|| tensors_not_finite(file, isa));
    let Some(weight) = bad.first().cloned() else {
        let bytes: usize = file.tensors().iter().map(|tensor| tensor.data().len()).sum();
        let speed = DecimalBytes((bytes as f64 / start.elapsed().as_secs_f64()) as u64);
        return Ok(writeln!(out, "\nall weights are finite numbers ({speed}/s)")?);
    };
    writeln!(out, "\nnot finite")?;
    let rows = bad.iter().map(|NotFinite { tensor, index, weight, .. }| {
        [tensor.clone(), index.to_string(), weight.to_string()]
    });
    table::write(out, [Left, Right, Left], ["tensor", "first at", "weight"], rows)?;
    out.flush()?;
    Err(Error::Weight { path: file.path().into(), weight }.into())
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
