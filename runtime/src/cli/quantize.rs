//! `quantloom quantize`.

use std::path::PathBuf;

use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};

use super::{Result, note};
use crate::gguf::{Formats, Gguf, TensorType};
use crate::pull::resolve;
use crate::quantize::{Options, Summary, quantize};

#[derive(clap::Args)]
pub struct Args {
    /// Model file, GGUF, or a name that `pull` knows
    model: PathBuf,
    /// Where to write
    output: PathBuf,
    /// The type of matrices: Q4_0, Q8_0, F16, …
    #[arg(value_name = "TYPE")]
    ty: String,
    /// Another type for tensors whose name holds NAME; the first that fits counts
    #[arg(long, value_name = "NAME=TYPE")]
    tensor_type: Vec<String>,
    /// Quantize matrices again that are quantized already, which loses a little more
    #[arg(long)]
    allow_requantize: bool,
}

pub fn run(args: Args, formats: &Formats) -> Result {
    let exceptions = args.tensor_type.iter().map(|exception| {
        let (name, ty) = exception
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| format!("--tensor-type {exception:?} is not of the form NAME=TYPE"))?;
        Ok((name.to_owned(), tensor_type(formats, ty)?))
    });
    let options = Options {
        ty: tensor_type(formats, &args.ty)?,
        exceptions: exceptions.collect::<Result<_>>()?,
        requantize: args.allow_requantize,
    };
    let source = Gguf::open_with(resolve(args.model)?, formats)?;
    let total: usize = source.tensors().iter().map(|tensor| tensor.data().len()).sum();
    let style = ProgressStyle::with_template("{wide_bar} {percent} % {eta}").expect("a template that parses");
    let progress = ProgressBar::new(total as u64).with_style(style);
    let summary = quantize(&source, &args.output, &options, |bytes| progress.inc(bytes as u64));
    progress.finish_and_clear();

    let Summary { converted, unfit, bytes_before, bytes_after } = summary?;
    let [before, after] = [bytes_before, bytes_after].map(|bytes| DecimalBytes(bytes as u64));
    note(format_args!(
        "{}: {converted} of {} tensors converted, {before} of weights became {after}",
        args.output.display(),
        source.tensors().len(),
    ));
    if let Some((first, ty)) = unfit.first() {
        let others = if unfit.len() > 1 { ", and others so" } else { "" };
        note(format_args!(
            "{} kept their type: rows of {first} are no whole blocks of {ty}{others}",
            unfit.len()
        ));
    }
    Ok(())
}

fn tensor_type(formats: &Formats, name: &str) -> Result<TensorType> {
    let known = || formats.types().map(TensorType::name).collect::<Vec<_>>().join(", ");
    Ok(formats.tensor_type(name).ok_or_else(|| format!("unknown type {name:?}; there are {}", known()))?)
}
