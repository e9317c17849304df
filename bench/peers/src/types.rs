//! A model in each type that `quantloom quantize` writes, run by Quantloom and llama.cpp: how far the logits of each are
//! from what the file's weights mean, and whether both make the same text of them.
//!
//! What the weights mean is a forward pass in float64 that is neither's, `exact.py`, over what llama.cpp's `gguf`
//! dequantizes. Distances, and gaps between two logits, are shares of the standard deviation that logits have there.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::{Path, PathBuf};

use quantloom::gguf::{Formats, Gguf, TensorType};
use quantloom::quantize::tensor_type;
use quantloom::tokenizer::{EncodeOptions, Tokenizer};
use quantloom_peers::Request;
use serde::{Deserialize, Serialize};

use crate::engines::{EXACT, Engine, LLAMA_CPP, OURS};
use crate::prepare;
use crate::results::{Machine, Markers, cell_text};
use crate::series;
use crate::worker::{Result, Worker};
use crate::{Cli, SPOKEN, Starters};

/// Where the table stands in a text.
pub const MARKERS: Markers =
    ["<!-- written by bench/peers types -->\n", "<!-- end of bench/peers types -->\n"];

/// Text whose logits are looked at: from Moby-Dick.
const TEXT: &str = "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my \
    purse, and nothing particular to interest me on shore, I thought I would sail about a little and see the watery \
    part of the world. It is a way I have of driving off the spleen, and regulating the circulation.";
/// Its first tokens.
const TOKENS: usize = 64;
/// What both engines go on with.
const PROMPTS: [&str; 3] = ["The capital of France is", "1, 2, 3, 4,", "Once upon a time"];

/// What to run.
#[derive(clap::Args)]
pub struct Options {
    /// A model file, or a name that `quantloom pull` knows. One that is quantized will do: what comes of it is only
    /// compared with itself
    model: PathBuf,
    /// The types [default: all that Quantloom can write]
    #[arg(long, value_delimiter = ',', value_name = "TYPE,…")]
    types: Vec<String>,
    /// Leave only the model's first layers, as some types take long to write
    #[arg(long, value_name = "N")]
    layers: Option<u32>,
    /// Threads of each engine
    #[arg(long, default_value_t = 2, value_name = "N")]
    threads: usize,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Types {
    /// Of the last type, in UTC.
    pub date: String,
    pub machine: Machine,
    /// Name, version and notes of Quantloom, of llama.cpp, and of what both are compared with.
    pub versions: Vec<[String; 3]>,
    pub models: Vec<OfModel>,
}

/// A model's part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OfModel {
    /// The name of its file.
    pub file: String,
    /// Where only the first are left.
    pub layers: Option<u32>,
    pub types: Vec<OfType>,
}

/// A type's part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OfType {
    pub name: String,
    /// Or why there is none.
    pub outcome: Result<Outcome>,
}

/// What both engines made of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Whether Quantloom has dequantized the weights, as `gguf` doesn't know the type.
    pub dequantized_here: bool,
    pub ours: Distances,
    pub theirs: Distances,
    /// After each of [`PROMPTS`].
    pub texts: Vec<Text>,
}

/// The root mean square over all logits of what they differ by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distances {
    /// When the text runs as a prompt.
    pub prompt: f64,
    /// When it runs token by token.
    pub single: f64,
}

/// Two greedy texts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Text {
    /// All tokens are the same.
    Same,
    /// They part.
    Parts {
        /// From this one on, counted from 1.
        token: usize,
        /// By how much our token's logit should be above theirs; it is below where that is negative.
        gap: f64,
    },
}

/// Runs the types, each on its own file.
pub fn run(options: &Options, cli: &Cli, machine: Machine, starters: &mut Starters) -> Result<Types> {
    let formats = Formats::default();
    let types: Vec<TensorType> = if options.types.is_empty() {
        formats.types().filter(|ty| tensor_type(ty.name(), &formats).is_ok()).collect()
    } else {
        let named = options.types.iter().map(|name| tensor_type(name, &formats));
        named.collect::<std::result::Result<_, _>>().map_err(|error| error.to_string())?
    };
    let mut source = quantloom::pull::resolve(options.model.clone()).map_err(|error| error.to_string())?;
    let file = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let versions = versions(cli, starters)?;
    let json = cli.json("types.json");
    let new = Types { date: String::new(), machine, versions, models: Vec::new() };
    let mut results = if cli.append && json.exists() { kept(&json, new)? } else { new };
    let is_it = |model: &OfModel| (&model.file, model.layers) == (&file, options.layers);
    let i = results.models.iter().position(is_it).unwrap_or_else(|| {
        results.models.push(OfModel { file: file.clone(), layers: options.layers, types: Vec::new() });
        results.models.len() - 1
    });

    let folder = tempfile::tempdir().map_err(|error| format!("no folder for files: {error}"))?;
    if let Some(layers) = options.layers {
        let cut = folder.path().join("cut.gguf");
        prepare::cut(&source, &cut, layers)?;
        source = cut;
    }
    let gguf = Gguf::open(&source).map_err(|error| error.to_string())?;
    let tokenizer = Tokenizer::from_metadata(gguf.metadata()).map_err(|error| error.to_string())?;
    let options_of_text = EncodeOptions { add_bos: true, add_eos: false, parse_special: false };
    let encode = |text| tokenizer.encode(text, options_of_text);
    let mut text = encode(TEXT);
    text.truncate(TOKENS);
    let (prompts, threads) = (PROMPTS.map(encode), options.threads);
    let mut work = Work { folder: folder.path(), source, text, prompts, threads, cli, starters };
    for ty in types {
        let of_types = &mut results.models[i].types;
        if of_types.iter().any(|of| of.name == ty.name() && of.outcome.is_ok()) {
            continue;
        }
        let result = OfType { name: ty.name().into(), outcome: work.outcome(ty.name()) };
        eprintln!("{result}");
        of_types.retain(|of| of.name != result.name);
        of_types.push(result);
        // As they would stand had all run at once.
        of_types.sort_by_key(|of| formats.types().position(|ty| ty.name() == of.name));
        results.date = time::OffsetDateTime::now_utc().date().to_string();
        let text = serde_json::to_string_pretty(&results).expect("results are JSON");
        fs::write(&json, text + "\n").map_err(|error| crate::in_file(&json, error))?;
    }
    Ok(results)
}

/// Name, version and notes of all that take part.
fn versions(cli: &Cli, starters: &mut Starters) -> Result<Vec<[String; 3]>> {
    let version = |engine: &Engine| {
        let worker = Worker::start(starters.get(engine)?.command(1), cli.patience())?;
        Ok([engine.name, &worker.version, &worker.notes].map(str::to_owned))
    };
    [OURS, LLAMA_CPP, EXACT].iter().map(version).collect()
}

/// Results of before, which must be of the same machine and versions.
fn kept(path: &Path, new: Types) -> Result<Types> {
    let kept: Types = crate::read(path)?;
    if (&kept.machine, &kept.versions) == (&new.machine, &new.versions) {
        Ok(kept)
    } else {
        let problem =
            "these results are of another machine or other versions: leave out --append to begin anew";
        Err(crate::in_file(path, problem))
    }
}

/// What all types share.
struct Work<'a> {
    folder: &'a Path,
    source: PathBuf,
    text: Vec<u32>,
    prompts: [Vec<u32>; PROMPTS.len()],
    threads: usize,
    cli: &'a Cli,
    starters: &'a mut Starters,
}

/// What an engine made of a file.
struct Run {
    prompt: Vec<f64>,
    single: Vec<f64>,
    spoken: Vec<Vec<u32>>,
}

impl Work<'_> {
    fn outcome(&mut self, name: &str) -> Result<Outcome> {
        let [file, widened] = ["model.gguf", "f32.gguf"].map(|name| self.folder.join(name));
        prepare::quantized(&self.source, &file, name)?;
        let ours = self.run(&OURS, &file)?;
        let theirs = self.run(&LLAMA_CPP, &file)?;
        let mut exact = self.exact(&file);
        let dequantized_here = exact.is_err();
        if dequantized_here {
            prepare::quantized(&file, &widened, "F32")?;
            exact = self.exact(&widened);
        }
        let (mut exact, meant) = exact?;
        let spread = spread(&meant, self.text.len());
        let distances = |run: &Run| Distances {
            prompt: distance(&run.prompt, &meant) / spread,
            single: distance(&run.single, &meant) / spread,
        };
        let mut texts = Vec::new();
        for ((prompt, ours), theirs) in self.prompts.iter().zip(&ours.spoken).zip(&theirs.spoken) {
            let Some((at, (&our, &their))) = ours.iter().zip(theirs).enumerate().find(|(_, (a, b))| a != b)
            else {
                texts.push(Text::Same);
                continue;
            };
            let tokens: Vec<u32> = prompt.iter().chain(&ours[..at]).copied().collect();
            let logits = self.logits(&mut exact, &tokens, false)?;
            let last = &logits[logits.len() - logits.len() / tokens.len()..];
            let gap = (last[our as usize] - last[their as usize]) / spread;
            texts.push(Text::Parts { token: at + 1, gap });
        }
        Ok(Outcome { dequantized_here, ours: distances(&ours), theirs: distances(&theirs), texts })
    }

    /// The exact engine, and its logits.
    fn exact(&mut self, file: &Path) -> Result<(Worker, Vec<f64>)> {
        let mut worker = self.load(&EXACT, file)?;
        let meant = self.logits(&mut worker, &self.text, false)?;
        Ok((worker, meant))
    }

    fn run(&mut self, engine: &Engine, file: &Path) -> Result<Run> {
        let mut worker = self.load(engine, file)?;
        let [prompt, single] =
            [false, true].map(|one_by_one| self.logits(&mut worker, &self.text, one_by_one));
        let spoken = self.prompts.iter().map(|prompt| series::speak(&mut worker, prompt, SPOKEN));
        Ok(Run { prompt: prompt?, single: single?, spoken: spoken.collect::<Result<_>>()? })
    }

    fn load(&mut self, engine: &Engine, file: &Path) -> Result<Worker> {
        let longest = self.prompts.iter().map(Vec::len).max().unwrap_or(0) + SPOKEN;
        let context = longest.max(self.text.len());
        let named = |why| format!("{}: {why}", engine.name);
        let starter = self.starters.get(engine)?;
        series::loaded(starter, file, context, self.threads, self.cli.patience()).map_err(named)
    }

    fn logits(&self, worker: &mut Worker, tokens: &[u32], one_by_one: bool) -> Result<Vec<f64>> {
        let file = self.folder.join("logits.f64");
        worker.ask(&Request::Logits { tokens: tokens.to_vec(), one_by_one, file: file.clone() })?;
        let bytes = fs::read(&file).map_err(|error| crate::in_file(&file, error))?;
        Ok(bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
    }
}

/// The root mean square of what two have different.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "logits of one vocabulary after the same tokens");
    let squares: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    (squares / a.len() as f64).sqrt()
}

/// The standard deviation of the logits after a token, over `tokens` of them.
fn spread(logits: &[f64], tokens: usize) -> f64 {
    let vocabulary = logits.len() / tokens;
    let of_all: Vec<f64> = logits
        .chunks_exact(vocabulary)
        .flat_map(|logits| {
            let mean = logits.iter().sum::<f64>() / vocabulary as f64;
            logits.iter().map(move |logit| logit - mean)
        })
        .collect();
    distance(&of_all, &vec![0.0; of_all.len()])
}

impl Outcome {
    /// Whether what parts a text may be chance. An engine whose logits err by `d` has the difference of two of them wrong
    /// by √2·d; it is unlikely to be three times that.
    fn is_tie(&self, gap: f64) -> bool {
        let wrong = if gap < 0.0 { self.ours } else { self.theirs };
        gap.abs() <= 3.0 * 2f64.sqrt() * wrong.single.max(wrong.prompt)
    }
}

/// A share, as per cent.
struct PerCent(f64);

impl Display for PerCent {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let decimals = if self.0 < 0.001 { 4 } else { 2 };
        write!(f, "{:.decimals$} %", self.0 * 100.0)
    }
}

impl Display for OfType {
    /// A row of the table.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let outcome = match &self.outcome {
            Err(why) => return write!(f, "| {} | not run: {} | | | | |", self.name, cell_text(why)),
            Ok(outcome) => outcome,
        };
        write!(f, "| {}{} |", self.name, if outcome.dequantized_here { "*" } else { "" })?;
        for of in [|of: &Distances| of.prompt, |of: &Distances| of.single] {
            let (ours, theirs) = (of(&outcome.ours), of(&outcome.theirs));
            write!(f, " {} | {} ({:.2}) |", PerCent(ours), PerCent(theirs), theirs / ours)?;
        }
        let texts: Vec<String> = outcome
            .texts
            .iter()
            .zip(1..)
            .filter_map(|(text, number)| match *text {
                Text::Same => None,
                Text::Parts { token, gap } => {
                    let is = if outcome.is_tie(gap) { "a tie" } else { "**no tie**" };
                    let whose = if gap < 0.0 { "llama.cpp" } else { "Quantloom" };
                    Some(format!("{number} parts at token {token}: {is}, {} for {whose}", PerCent(gap.abs())))
                }
            })
            .collect();
        write!(f, " {} |", if texts.is_empty() { "the same".into() } else { texts.join("; ") })
    }
}

impl Display for Types {
    /// Markdown.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "Measured {} on \"{}\":\n", self.date, self.machine.cpu)?;
        for [engine, version, notes] in &self.versions {
            writeln!(f, "- {engine} {version}{}{notes}", if notes.is_empty() { "" } else { ": " })?;
        }
        self.models.iter().try_for_each(|model| write!(f, "\n{model}"))
    }
}

impl Display for OfModel {
    /// A title and a table.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let layers = self.layers.map_or(String::new(), |layers| format!(", its first {layers} layers"));
        writeln!(f, "**{}{layers}**\n", self.file)?;
        writeln!(f, "| | prompt: Quantloom | llama.cpp | token by token: Quantloom | llama.cpp | texts |")?;
        writeln!(f, "|---|--:|--:|--:|--:|---|")?;
        self.types.iter().try_for_each(|of| writeln!(f, "{of}"))?;
        if self.types.iter().any(|of| of.outcome.as_ref().is_ok_and(|outcome| outcome.dequantized_here)) {
            writeln!(f, "\n\\* `gguf` doesn't know the type: its weights were dequantized by Quantloom")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_shares_of_the_spread() {
        // Two tokens, whose logits have the means 2 and 20.
        let meant = [1.0, 3.0, 17.0, 23.0];
        assert_eq!(spread(&meant, 2), 5f64.sqrt());
        assert_eq!(distance(&meant, &meant), 0.0);
        assert_eq!(distance(&[1.0, 3.0, 17.0, 25.0], &meant), 1.0);
    }

    fn outcome(ours: f64, theirs: f64, texts: &[Text]) -> Outcome {
        let [ours, theirs] = [ours, theirs].map(|of| Distances { prompt: 2.0 * of, single: of });
        Outcome { dequantized_here: false, ours, theirs, texts: texts.to_vec() }
    }

    #[test]
    fn a_tie_is_what_the_engine_that_errs_may_err_by() {
        // Three times √2 times twice 0.01 or 0.02.
        let outcome = outcome(0.01, 0.02, &[]);
        for (gap, expected) in
            [(0.0, true), (-0.08, true), (-0.09, false), (0.09, true), (0.16, true), (0.18, false)]
        {
            assert_eq!(outcome.is_tie(gap), expected, "{gap}");
        }
    }

    fn results() -> Types {
        let parts = [Text::Parts { token: 3, gap: 0.01 }, Text::Same, Text::Parts { token: 1, gap: -0.5 }];
        let known = Ok(outcome(0.000_002, 0.000_001, &[Text::Same]));
        let new = Ok(Outcome { dequantized_here: true, ..outcome(0.01, 0.03, &parts) });
        let types = [("F32", known), ("Q9", new), ("Q10", Err("rows of 576 | no blocks".into()))];
        Types {
            date: "2030-01-02".into(),
            machine: Machine {
                cpu: "A CPU".into(),
                cores: 2,
                system: "linux".into(),
                features: vec!["avx2".into()],
                compiler: "rustc".into(),
            },
            versions: [["Ours", "1.0", "scalar"], ["Theirs", "2.0", ""]]
                .map(|version| version.map(str::to_owned))
                .into(),
            models: vec![OfModel {
                file: "a.gguf".into(),
                layers: Some(2),
                types: types.map(|(name, outcome)| OfType { name: name.into(), outcome }).into(),
            }],
        }
    }

    #[test]
    fn a_table_tells_distances_and_texts() {
        let expected = "\
Measured 2030-01-02 on \"A CPU\":

- Ours 1.0: scalar
- Theirs 2.0

**a.gguf, its first 2 layers**

| | prompt: Quantloom | llama.cpp | token by token: Quantloom | llama.cpp | texts |
|---|--:|--:|--:|--:|---|
| F32 | 0.0004 % | 0.0002 % (0.50) | 0.0002 % | 0.0001 % (0.50) | the same |
| Q9* | 2.00 % | 6.00 % (3.00) | 1.00 % | 3.00 % (3.00) | 1 parts at token 3: a tie, 1.00 % for Quantloom; \
3 parts at token 1: **no tie**, 50.00 % for llama.cpp |
| Q10 | not run: rows of 576 / no blocks | | | | |

\\* `gguf` doesn't know the type: its weights were dequantized by Quantloom
";
        assert_eq!(results().to_string(), expected);
    }

    #[test]
    fn results_are_added_to_those_of_the_same_versions() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(&file, serde_json::to_string(&results()).expect("it is JSON")).expect("it is written");
        let new = Types { date: String::new(), models: Vec::new(), ..results() };
        assert_eq!(kept(file.path(), new.clone()), Ok(results()));
        let mut other = [new.clone(), new];
        other[0].versions[1][1] = "2.1".into();
        other[1].machine.cores = 4;
        for other in other {
            assert!(kept(file.path(), other.clone()).is_err(), "{other:?}");
        }
    }
}
