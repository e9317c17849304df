//! `quantloom imatrix`.

use std::io::Write;
use std::path::PathBuf;

use super::perplexity::{Format, Output, read_text};
use super::stop::Stop;
use super::{ModelArgs, Result, ThreadArgs, load, note, value};
use crate::gguf::Formats;
use crate::imatrix::{check_target, compute};
use crate::perplexity::{Chunks, DEFAULT_CONTEXT, Perplexity};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    /// Text, of two chunks at least; - for standard input
    #[arg(short, long, value_name = "TEXT")]
    file: PathBuf,
    /// Where to write
    #[arg(short, long, alias = "output-file", value_name = "FILE", default_value = "imatrix.gguf")]
    output: PathBuf,
    /// Tokens of a chunk
    #[arg(short, long, value_name = "N", value_parser = value::positive, allow_negative_numbers = true)]
    #[arg(default_value_t = DEFAULT_CONTEXT)]
    ctx_size: usize,
    /// Chunks to run, from the beginning of the text; -1 for all
    #[arg(long, value_name = "N", default_value = "-1", value_parser = value::chunks)]
    #[arg(allow_negative_numbers = true)]
    chunks: usize,
    /// The output matrix, too, which is the token embedding where a model has no other
    #[arg(long)]
    process_output: bool,
}

pub fn run(args: Args, formats: &Formats, out: &mut impl Write) -> Result {
    let text = read_text(&args.file)?;
    // Before anything is computed, so that nothing is computed in vain.
    check_target(&args.output)?;
    let path = args.model.path()?;
    let stop = Stop::watch()?;
    let model = load(path, formats, args.model.access, args.threads)?;
    let chunks = Chunks::of_text(&model, &text, args.ctx_size, args.chunks)?;
    let mut imatrix = None;
    Output { format: Format::Text, model: &model, out }.perplexity(&chunks, |each| {
        let each = |figures: &Perplexity| -> Result {
            each(figures)?;
            stop.check(&args.output)
        };
        let (computed, figures) = compute(&model, &chunks, args.process_output, each)?;
        imatrix = Some(computed);
        Ok(figures)
    })?;
    let mut imatrix = imatrix.expect("it was computed");
    imatrix.datasets.push(args.file.to_string_lossy().into());
    imatrix.write(&args.output)?;
    note(format_args!("{}: {} matrices", args.output.display(), imatrix.entries.len()));
    Ok(())
}
