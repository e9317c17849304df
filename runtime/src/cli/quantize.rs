//! `quantloom quantize`.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};

use super::recipe::RecipeArgs;
use super::stop::Stop;
use super::table::{self, Align::*};
use super::{AccessArgs, Result, ThreadArgs, note};
use crate::gguf::Formats;
use crate::imatrix::Imatrix;
use crate::pull::resolve;
use crate::quantize::{Plan, Planned, Recipe, plan, quantize_file};

#[derive(clap::Args)]
pub struct Args {
    /// Model file, GGUF, in F32, F16, BF16 or any format, or a name that `pull` knows
    model: PathBuf,
    /// Where to write
    output: PathBuf,
    /// A type (Q4_0, Q8_0, F16, …) or one of llama.cpp's mixtures (Q4_K_M, …), which give some matrices a better type
    #[arg(value_name = "TYPE")]
    ty: String,
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Make types of the fewest bits, IQ1_S to IQ3_XXS, without importance, too; they are of little use then
    #[arg(long)]
    allow_unweighted: bool,
    /// Print what would become of each tensor, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    access: AccessArgs,
}

pub fn run(args: Args, formats: &Formats, out: &mut impl Write) -> Result {
    let mut recipe = Recipe::new(&args.ty, formats)?;
    args.recipe.apply(&mut recipe, formats, args.recipe.importance()?.as_ref())?;
    recipe.unweighted = args.allow_unweighted;

    let source = args.access.open(resolve(args.model)?, formats)?;
    let total = source.tensors().iter().map(|tensor| tensor.data().len() as u64).sum();
    if args.dry_run {
        let plan = plan(&source, &recipe)?;
        print(&plan, out)?;
        note_others(&plan);
        note_unweighted(&plan, recipe.imatrix.as_deref().and_then(Imatrix::path));
        return Ok(());
    }

    let stop = Stop::watch()?;
    let style = ProgressStyle::with_template("{wide_bar} {percent} % {eta}").expect("a template that parses");
    let bar = ProgressBar::new(total).with_style(style);
    let plan = quantize_file(&source, &args.output, &recipe, args.threads.threads, |bytes| {
        bar.inc(bytes as u64);
        if stop.is_wanted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    let plan = plan.map_err(|error| stop.explain(error.into()))?;
    drop(stop);
    note_others(&plan);
    note_unweighted(&plan, recipe.imatrix.as_deref().and_then(Imatrix::path));
    note(format_args!("{}: {}", args.output.display(), total_line(&plan)));
    Ok(())
}

/// What becomes of each tensor, and of all.
fn print(plan: &Plan, out: &mut impl Write) -> Result {
    let out = &mut BufWriter::new(out);
    let rows = plan.tensors.iter().map(|planned| {
        let Planned { tensor, to, instead_of, .. } = planned;
        let shape = tensor.dims().iter().map(usize::to_string).collect::<Vec<_>>().join(" × ");
        let [before, after] = [tensor.data().len(), planned.bytes_after()].map(|bytes| bytes.to_string());
        let instead_of = instead_of.map(|ty| ty.to_string()).unwrap_or_default();
        [tensor.name().into(), shape, tensor.ty().to_string(), to.to_string(), before, after, instead_of]
    });
    let header = ["tensor", "shape", "from", "to", "bytes", "become", "instead of"];
    table::write(out, [Left, Right, Left, Left, Right, Right, Left], header, rows)?;
    writeln!(out, "\n{}", total_line(plan))?;
    Ok(out.flush()?)
}

fn total_line(plan: &Plan) -> String {
    let size = |bytes: usize| {
        let bits = 8.0 * bytes as f64 / plan.weights().max(1) as f64;
        format!("{} ({bits:.2} bits per weight)", DecimalBytes(bytes as u64))
    };
    format!(
        "{} of {} tensors in another type: {} → {}",
        plan.converted(),
        plan.tensors.len(),
        size(plan.bytes_before()),
        size(plan.bytes_after())
    )
}

/// Tells which tensors have another type than they should, as rows are no whole number of its blocks.
fn note_others(plan: &Plan) {
    let mut groups = BTreeMap::<_, Vec<_>>::new();
    for Planned { tensor, to, instead_of, .. } in &plan.tensors {
        if let Some(wanted) = instead_of {
            let group = (wanted.name(), wanted.block_len(), to.name(), tensor.cols());
            groups.entry(group).or_default().push(tensor.name());
        }
    }
    for ((wanted, block_len, to, cols), names) in groups {
        let names = some(&names, ", which --dry-run shows");
        note(format_args!(
            "{to} instead of {wanted}, as blocks of {block_len} do not divide rows of {cols}: {names}"
        ));
    }
}

/// Tells which tensors are quantized without importance, where there is some.
fn note_unweighted(plan: &Plan, imatrix: Option<&Path>) {
    let Some(imatrix) = imatrix else { return };
    let quantized = || plan.tensors.iter().filter(|planned| planned.is_quantized());
    let names: Vec<_> =
        quantized().filter(|planned| !planned.is_weighted).map(|planned| planned.tensor.name()).collect();
    if !names.is_empty() {
        note(format_args!(
            "{} of {} quantized without importance, as {} has none of them: {}",
            names.len(),
            quantized().count(),
            imatrix.display(),
            some(&names, "")
        ));
    }
}

/// The first of these names, and `hint` where there are more.
fn some(names: &[&str], hint: &str) -> String {
    /// So many of a kind.
    const SHOWN: usize = 4;
    let shown = names.len().min(SHOWN);
    let more = match names.len() - shown {
        0 => String::new(),
        more => format!(" and {more} more{hint}"),
    };
    format!("{}{more}", names[..shown].join(", ").escape_debug())
}
