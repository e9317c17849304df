//! `quantloom logits`.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use super::stop::Stop;
use super::{ModelArgs, Result, ThreadArgs, load, value};
use crate::Error;
use crate::file::OutputFile;
use crate::gguf::Formats;
use crate::model::BATCH_OF_LOGITS;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    /// Tokens, separated by commas
    #[arg(long, required = true, value_name = "ID,…", value_delimiter = ',', value_parser = value::token)]
    #[arg(allow_negative_numbers = true)]
    ids: Vec<u32>,
    /// Where to write f32, little-endian, `[tokens, vocabulary]`
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

pub fn run(args: Args, formats: &Formats) -> Result {
    let path = args.model.path()?;
    let io = |source| Error::Io { path: args.output.clone(), source };
    // Before anything is computed, so that nothing is computed in vain.
    let stop = Stop::watch()?;
    let mut file = BufWriter::new(OutputFile::create(&args.output).map_err(io)?);
    let model = load(path, formats, args.model.access, args.threads)?;
    let mut cache = model.create_kv_cache_for(args.ids.len())?;
    model.check_tokens(&args.ids)?;
    stop.check(&args.output)?;
    for ids in args.ids.chunks(BATCH_OF_LOGITS) {
        let logits = model.forward_all_with_cache(ids, &mut cache)?;
        logits.iter().try_for_each(|logit| file.write_all(&logit.to_le_bytes())).map_err(io)?;
        stop.check(&args.output)?;
    }
    let file = file.into_inner().map_err(io::IntoInnerError::into_error);
    Ok(file.and_then(OutputFile::persist).map_err(io)?)
}
