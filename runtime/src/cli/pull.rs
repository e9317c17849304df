//! `quantloom pull`.

use std::io::Write;

use super::Result;
use crate::pull::find;

#[derive(clap::Args)]
pub struct Args {
    /// `smollm2`, or `tinyllama`, which is quantized to Q4_0 from what is fetched
    name: String,
    /// Fetch and keep the file that the packages hold, as it is before it is quantized
    #[arg(long)]
    source: bool,
}

pub fn run(args: Args, out: &mut impl Write) -> Result {
    let model = find(&args.name)?;
    let path = if args.source { model.fetch_source()? } else { model.fetch()? };
    Ok(writeln!(out, "{}", path.display())?)
}
