//! `quantloom tokenize`.

use std::io::{self, Read, Write};

use serde_json::json;

use super::{ModelArgs, Result, note_two_bos, note_warnings};
use crate::gguf::Formats;
use crate::tokenizer::{EncodeOptions, Tokenizer};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Take the text of special tokens for these tokens
    #[arg(long)]
    parse_special: bool,
    /// Add no BOS, whatever the model's metadata says
    #[arg(long)]
    no_bos: bool,
    /// Print one JSON object, with the tokens as the vocabulary writes them
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, formats: &Formats, out: &mut impl Write) -> Result {
    let file = args.model.open(formats)?;
    let tokenizer = Tokenizer::from_metadata(file.metadata())?;
    note_warnings(file.path(), &tokenizer);
    let text = standard_input()?;
    let options = EncodeOptions { add_bos: !args.no_bos, add_eos: true, parse_special: args.parse_special };
    let ids = tokenizer.encode(&text, options);
    note_two_bos(&tokenizer, &ids);
    if args.json {
        let lossy = |id| tokenizer.token_bytes(id).map(String::from_utf8_lossy);
        let piece = |&id| tokenizer.token_text(id).map(Into::into).or_else(|| lossy(id));
        let pieces: Vec<_> = ids.iter().map(piece).collect();
        writeln!(out, "{}", json!({ "ids": ids, "pieces": pieces }))?;
    } else {
        writeln!(out, "{ids:?}")?;
    }
    Ok(())
}

/// All of it: a line break at its end is part of the text.
fn standard_input() -> Result<String> {
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes).map_err(|error| format!("standard input: {error}"))?;
    let text = String::from_utf8(bytes);
    Ok(text.map_err(|error| {
        format!("standard input: not valid UTF-8 at byte {}", error.utf8_error().valid_up_to())
    })?)
}
