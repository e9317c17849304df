//! `quantloom logits`.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::file::{persist, temporary_beside};
use crate::gguf::Formats;

use super::{ModelArgs, Result, ThreadArgs, value};

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
    let model = args.model.load(formats, args.threads)?;
    let mut cache = model.create_kv_cache_for(args.ids.len())?;
    let logits = model.forward_all_with_cache(&args.ids, &mut cache)?;
    write(&args.output, &logits).map_err(|error| format!("{}: {error}", args.output.display()))?;
    Ok(())
}

/// Writes under a temporary name and renames, so that whoever finds a file finds all of it. What is there and
/// not a regular file, such as `/dev/stdout`, is written to as it stands.
fn write(path: &Path, values: &[f32]) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|about| !about.is_file()) {
        return write_values(&mut File::create(path)?, values);
    }
    let mut temporary = temporary_beside(path, ".part")?;
    write_values(temporary.as_file_mut(), values)?;
    persist(temporary, path)
}

fn write_values(file: &mut File, values: &[f32]) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))?;
    out.flush()
}
