//! `quantloom perplexity`.

use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::ValueEnum;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use serde::Serialize;

use super::stop::Stop;
use super::{CacheArgs, ModelArgs, Result, ThreadArgs, create_cache, load, note, value};
use crate::gguf::Formats;
use crate::perplexity::{
    Base, Chunks, Divergence, Estimate, Means, OpenBase, Perplexity, check_base_target, compare, evaluate,
    write_base,
};
use crate::pull::resolve;
use crate::{CacheTypes, Error, Model};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    /// Text, of two chunks at least; - for standard input
    #[arg(short, long, value_name = "TEXT")]
    file: Option<PathBuf>,
    /// Tokens of a chunk, of which the second half is scored [default: 512, or what the base's file was written with]
    #[arg(short, long, value_name = "N", value_parser = value::positive, allow_negative_numbers = true)]
    ctx_size: Option<usize>,
    /// Chunks to score, from the beginning of the text; -1 for all
    #[arg(long, value_name = "N", default_value = "-1", value_parser = value::chunks)]
    #[arg(allow_negative_numbers = true)]
    chunks: usize,
    #[command(flatten)]
    cache: CacheArgs,
    /// Where to write the logits, as those of a base model; with --kl-divergence what to compare with (also
    /// --save-all-logits)
    #[arg(long, value_name = "FILE", alias = "save-all-logits")]
    kl_divergence_base: Option<PathBuf>,
    /// Compare with the base: with the logits in its file, or with a model, a file or a name, that is run beside
    #[arg(long)]
    kl_divergence: bool,
    /// What to print
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

/// A form of output.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

pub fn run(args: Args, formats: &Formats, out: &mut impl Write) -> Result {
    let types = args.cache.types(formats)?;
    let text = args.file.as_deref().map(read_text).transpose()?;
    let (base, write) = match (args.kl_divergence, args.kl_divergence_base) {
        (false, path) => (None, path),
        (true, None) => {
            let remedy = "name the base model, or the file of its logits, by --kl-divergence-base";
            return Err(format!("--kl-divergence compares with a base: {remedy}").into());
        }
        (true, Some(path)) => {
            let open = |path: &Path| args.model.access.open(path, formats);
            (Some(OpenBase::open_with(resolve(path)?, open)?), None)
        }
    };
    let path = args.model.path()?;
    // Before anything is computed, so that nothing is computed in vain. Whoever writes nothing may just be ended.
    let write = write.map(|path| check_base_target(&path).map(|()| path)).transpose()?;
    let write = write.map(|path| Stop::watch().map(|stop| (path, stop))).transpose()?;
    let model = load(path, formats, args.model.access, args.threads)?;
    // Where types don't fit, the error names the flag.
    create_cache(&model, 1, types)?;
    let logits = match &base {
        Some(OpenBase::File(file)) => Some(file),
        _ => None,
    };
    let chunks = Chunks::of(&model, text.as_deref(), args.ctx_size, args.chunks, logits)?;

    let output = Output { format: args.output, model: &model, out };
    match base {
        Some(base) => output.compare(base, &chunks, types),
        None => output.evaluate(write, &chunks, types),
    }
}

/// All of it but, as in llama.cpp, a line break at its end. `-` is standard input, and a pipe will do, as it is read once;
/// where that waits for the other end, signals still have their default action, and end the process.
pub fn read_text(path: &Path) -> Result<String> {
    let (path, bytes) = if path == Path::new("-") {
        let mut bytes = Vec::new();
        (Path::new("standard input"), io::stdin().read_to_end(&mut bytes).map(|_| bytes))
    } else {
        (path, fs::read(path))
    };
    let name = path.display();
    let bytes = bytes.map_err(|source| Error::Io { path: path.into(), source })?;
    let mut text = String::from_utf8(bytes)
        .map_err(|error| format!("{name}: not valid UTF-8 at byte {}", error.utf8_error().valid_up_to()))?;
    if text.ends_with('\n') {
        text.pop();
    }
    if text.is_empty() {
        return Err(format!("{name}: the text is empty").into());
    }
    Ok(text)
}

/// Prints figures, as they come and at the end.
pub struct Output<'a, W> {
    pub format: Format,
    pub model: &'a Model,
    pub out: &'a mut W,
}

impl<W: Write> Output<'_, W> {
    /// Writes the logits, too, where there is a path for them.
    fn evaluate(self, write: Option<(PathBuf, Stop)>, chunks: &Chunks, types: CacheTypes) -> Result {
        let model = self.model;
        self.perplexity(chunks, move |each| match write {
            Some((path, stop)) => write_base(model, chunks, types, &path, |figures| {
                each(figures)?;
                stop.check(&path)
            }),
            None => evaluate(model, chunks, types, each),
        })
    }

    /// The perplexities that `run` tells, each after a chunk, and returns.
    pub fn perplexity(
        mut self,
        chunks: &Chunks,
        run: impl FnOnce(&mut dyn FnMut(&Perplexity) -> Result) -> Result<Perplexity>,
    ) -> Result {
        let mut progress = Progress::new(self.format, chunks);
        let figures = run(&mut |figures| {
            progress.advance();
            if self.format == Format::Text {
                write!(self.out, "[{}]{:.4},", figures.chunks, figures.perplexity.value)?;
                self.out.flush()?;
            }
            Ok(())
        })?;
        if self.format == Format::Text {
            writeln!(self.out)?;
        }
        progress.finish(self.model);
        if self.format == Format::Json {
            return self.json(&figures);
        }
        let Estimate { value, error } = figures.perplexity;
        Ok(writeln!(self.out, "Final estimate: PPL = {value:.4} +/- {error:.5}")?)
    }

    fn compare(mut self, base: OpenBase, chunks: &Chunks, types: CacheTypes) -> Result {
        let base_model;
        let base = match base {
            OpenBase::File(file) => Base::File(file),
            OpenBase::Model(gguf) => {
                base_model = Model::from_gguf(*gguf, self.model.isa(), self.model.threads())?;
                Base::Model(&base_model)
            }
        };
        let mut progress = Progress::new(self.format, chunks);
        let each = |figures: &Means| -> Result {
            progress.advance();
            if self.format == Format::Text {
                if figures.chunks == 1 {
                    writeln!(self.out, "{HEADER}")?;
                }
                line(self.out, figures)?;
            }
            Ok(())
        };
        let figures = compare(base, self.model, chunks, types, each)?;
        progress.finish(self.model);
        match self.format {
            Format::Json => self.json(&figures),
            Format::Text => Ok(tables(self.out, &figures)?),
        }
    }

    fn json(&mut self, figures: &impl Serialize) -> Result {
        #[derive(Serialize)]
        struct Report<'a, F> {
            model: &'a str,
            #[serde(flatten)]
            figures: &'a F,
        }
        let model = &self.model.gguf().path().to_string_lossy();
        Ok(writeln!(self.out, "{}", serde_json::to_string_pretty(&Report { model, figures })?)?)
    }
}

const HEADER: &str = "chunk             PPL               ln(PPL(Q)/PPL(base))          KL Divergence              Δp RMS            Same top p";

/// The figures so far, below [`HEADER`].
fn line(out: &mut impl Write, figures: &Means) -> io::Result<()> {
    let Estimate { value, error } = figures.perplexity;
    write!(out, "{:4}    {value:9.4} ± {error:9.4}", figures.chunks)?;
    for Estimate { value, error } in [figures.log_ratio, figures.kl_divergence] {
        write!(out, "    {value:10.5} ± {error:10.5}")?;
    }
    for Estimate { value, error } in [figures.delta_p_rms, figures.same_top] {
        write!(out, "    {:6.3} ± {:6.3} %", 100.0 * value, 100.0 * error)?;
    }
    writeln!(out)?;
    out.flush()
}

/// llama.cpp's names and digits.
fn tables(out: &mut impl Write, figures: &Divergence) -> io::Result<()> {
    const EXTREMES: [(&str, f64); 2] = [("Maximum", 100.0), ("Minimum", 0.0)];
    const UPPER: [(&str, f64); 4] =
        [("99.9%  ", 99.9), ("99.0%  ", 99.0), ("95.0%  ", 95.0), ("90.0%  ", 90.0)];
    const LOWER: [(&str, f64); 4] = [("10.0%  ", 10.0), (" 5.0%  ", 5.0), (" 1.0%  ", 1.0), (" 0.1%  ", 0.1)];
    const MEDIAN: (&str, f64) = ("Median ", 50.0);
    const QUARTILES: [(&str, f64); 2] = [("75.0%  ", 75.0), ("25.0%  ", 25.0)];

    let Divergence { means, kl_divergences, deltas_p } = figures;
    let [maximum, minimum] = EXTREMES;
    let [third, first] = QUARTILES;

    writeln!(out, "\n====== Perplexity statistics ======")?;
    let estimate = |out: &mut dyn Write, name: &str, Estimate { value, error }: Estimate| {
        writeln!(out, "{name:<30}: {value:10.6} ± {error:10.6}")
    };
    estimate(out, "Mean PPL(Q)", means.perplexity)?;
    estimate(out, "Mean PPL(base)", means.base_perplexity)?;
    writeln!(out, "Cor(ln(PPL(Q)), ln(PPL(base))): {:6.2}%", 100.0 * means.correlation)?;
    estimate(out, "Mean ln(PPL(Q)/PPL(base))", means.log_ratio)?;
    estimate(out, "Mean PPL(Q)/PPL(base)", means.ratio)?;
    estimate(out, "Mean PPL(Q)-PPL(base)", means.difference)?;

    writeln!(out, "\n====== KL divergence statistics ======")?;
    let Estimate { value, error } = means.kl_divergence;
    writeln!(out, "Mean    KLD: {value:10.6} ± {error:10.6}")?;
    for (name, percent) in [maximum].into_iter().chain(UPPER).chain([MEDIAN]).chain(LOWER).chain([minimum]) {
        writeln!(out, "{name} KLD: {:10.6}", kl_divergences.at(percent))?;
    }

    writeln!(out, "\n====== Token probability statistics ======")?;
    let Estimate { value, error } = means.delta_p;
    writeln!(out, "Mean    Δp: {:6.3} ± {:5.3} %", 100.0 * value, 100.0 * error)?;
    let middle = [third, MEDIAN, first];
    for (name, percent) in [maximum].into_iter().chain(UPPER).chain(middle).chain(LOWER).chain([minimum]) {
        writeln!(out, "{name} Δp: {:6.3}%", 100.0 * deltas_p.at(percent))?;
    }
    for (name, Estimate { value, error }) in
        [("RMS Δp    ", means.delta_p_rms), ("Same top p", means.same_top)]
    {
        writeln!(out, "{name}: {:6.3} ± {:5.3} %", 100.0 * value, 100.0 * error)?;
    }
    Ok(())
}

/// How far it is, for people: a bar, or, where figures appear on the terminal as they come, how long they will take.
struct Progress {
    bar: ProgressBar,
    announce: bool,
    start: Instant,
    chunks: usize,
    tokens: usize,
}

impl Progress {
    fn new(format: Format, chunks: &Chunks) -> Self {
        let figures_show_it = format == Format::Text && io::stdout().is_terminal();
        let bar = if figures_show_it {
            ProgressBar::hidden()
        } else {
            let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {eta}");
            ProgressBar::new(chunks.len() as u64).with_style(style.expect("a template that parses"))
        };
        // Drawn before the first chunk is done, which may take a while.
        bar.tick();
        Self {
            bar,
            announce: figures_show_it && io::stderr().is_terminal(),
            start: Instant::now(),
            chunks: chunks.len(),
            tokens: chunks.tokens().len(),
        }
    }

    /// A chunk is done.
    fn advance(&mut self) {
        self.bar.inc(1);
        if std::mem::take(&mut self.announce) {
            let one = self.start.elapsed();
            let all = HumanDuration(one * u32::try_from(self.chunks).unwrap_or(u32::MAX));
            note(format_args!("{} chunks, {:.2} s each: {all} in all", self.chunks, one.as_secs_f64()));
        }
    }

    fn finish(self, model: &Model) {
        self.bar.finish_and_clear();
        let speed = self.tokens as f64 / self.start.elapsed().as_secs_f64();
        note(format_args!(
            "{} chunks, {} tokens, {speed:.1} tok/s | {} threads, {}",
            self.chunks,
            self.tokens,
            model.threads(),
            model.isa().isa()
        ));
    }
}
