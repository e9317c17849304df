//! Runs Quantloom and other engines on the same files in turn, and tells how fast they are.
//!
//! An engine's every turn is a process of its own, so that threads and memory are its own. In each round every engine
//! has a turn, in an order that rotates, and before them the machine's limits have theirs: whatever slows the machine
//! for a while slows all. Besides it tells, with `types`, how exact Quantloom and llama.cpp are.

mod engines;
mod prepare;
mod results;
mod series;
mod types;
mod worker;

use std::collections::HashMap;
use std::env;
use std::fmt::Display;
use std::fs;
use std::hint;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::{Parser, Subcommand};
use quantloom::gguf::Gguf;
use quantloom::tokenizer::{EncodeOptions, SpecialTokens};
use quantloom::{Model, bench};
use quantloom_kernels::{Isa, Supported};

use engines::Engine;
use prepare::{Pythons, Starter};
use results::{Agreement, Column, Comparison, Limits, MARKERS, Machine, Markers, Results, Setting};
use serde::de::DeserializeOwned;
use worker::Result;

/// Measures Quantloom beside llama.cpp, Candle and Realizar, in turn
#[derive(Parser)]
#[command(name = "peers", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// What to compare; `avx2` compiles llama.cpp once more
    #[arg(long, value_delimiter = ',', default_value = "main,busy", value_name = "WHAT,…")]
    compare: Vec<Comparison>,
    /// Times that every engine has its turn
    #[arg(long, default_value_t = 5, value_name = "N")]
    rounds: usize,
    /// The formats of the model for speed
    #[arg(long, value_delimiter = ',', default_value = "Q4_0,Q8_0", value_name = "TYPE,…")]
    formats: Vec<String>,
    /// Threads
    #[arg(long, value_delimiter = ',', default_value = "1,2", value_name = "N,…")]
    threads: Vec<usize>,
    /// Leave an engine out, which may have its turn in rounds that are added later
    #[arg(long, value_name = "NAME")]
    without: Vec<String>,
    /// A Python that has llama-cpp-python, compiled for this machine [default: one is made, which takes long]
    #[arg(long, global = true, value_name = "FILE")]
    llama_python: Option<PathBuf>,
    /// One that has it compiled for AVX2 alone
    #[arg(long, value_name = "FILE")]
    llama_avx2_python: Option<PathBuf>,
    /// Seconds that an engine may take for one answer
    #[arg(long, global = true, default_value_t = 300, value_name = "N")]
    patience: u64,
    /// Where the results are kept [default: peers.json, or types.json, in the target folder]
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Add rounds, or types, to those that are kept there
    #[arg(long, global = true)]
    append: bool,
    /// Put the results into the project's README, too
    #[arg(long, global = true)]
    readme: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Compare how far logits of Quantloom and llama.cpp are from exact ones, and their texts, in each type of a model
    Types(types::Options),
}

impl Cli {
    fn leaves_out(&self, engine: &str) -> bool {
        self.without.iter().any(|name| name == engine)
    }

    /// Where results are kept that are `name` where no other place is asked for.
    fn json(&self, name: &str) -> PathBuf {
        self.json.clone().unwrap_or_else(|| prepare::target().join(name))
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.patience)
    }
}

/// Tokens of the greedy text by which engines are told apart.
const SPOKEN: usize = 32;
/// Its beginning: of no token that follows is another nearly as likely.
const BEGINNING: &str = "1, 2, 3, 4,";

fn main() -> ExitCode {
    if env::args().nth(1).as_deref() == Some(series::BUSY) {
        return be_busy();
    }
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let mut starters = Starters::new(cli);
    if let Some(Command::Types(options)) = &cli.command {
        let types = types::run(options, cli, machine(), &mut starters)?;
        return told(&types, types::MARKERS, cli);
    }
    let json = cli.json("peers.json");
    if let Some(unknown) =
        cli.without.iter().find(|name| !engines::ALL.iter().any(|engine| engine.name == **name))
    {
        let names: Vec<&str> = engines::ALL.iter().map(|engine| engine.name).collect();
        return Err(format!("--without {unknown:?}: there are {}", names.join(", ")));
    }
    if cli.leaves_out(engines::OURS.name) {
        return Err(format!("--without {:?}: all others are held against it", engines::OURS.name));
    }
    let plans = plans(cli)?;
    let mut results =
        Results { date: String::new(), machine: machine(), agreement: Vec::new(), settings: Vec::new() };
    if cli.append && json.exists() {
        results = kept(&json, results.machine)?;
    }
    if results.agreement.is_empty() && cli.compare.contains(&Comparison::Main) {
        results.agreement = agreement(cli, &mut starters)?;
    }
    for round in 1..=cli.rounds {
        for plan in &plans {
            let setting = match results.settings.iter().position(|setting| setting.is_like(&plan.setting)) {
                Some(i) => {
                    let kept = &mut results.settings[i];
                    let is_new =
                        |column: &&Column| kept.engines.iter().all(|old| old.engine != column.engine);
                    let new: Vec<Column> = plan.setting.engines.iter().filter(is_new).cloned().collect();
                    kept.engines.extend(new);
                    kept
                }
                None => results.settings.push_mut(plan.setting.clone()),
            };
            eprintln!("round {round} of {}: {}", cli.rounds, setting.title());
            take_turns(setting, &plan.model, &mut starters, cli)?;
        }
        results.date = time::OffsetDateTime::now_utc().date().to_string();
        let text = serde_json::to_string_pretty(&results).expect("results are JSON");
        fs::write(&json, text + "\n").map_err(|error| in_file(&json, error))?;
    }
    told(&results, MARKERS, cli)
}

fn told(results: &impl Display, markers: Markers, cli: &Cli) -> Result<()> {
    println!("{results}");
    if cli.readme { into_readme(results, markers) } else { Ok(()) }
}

/// A setting without results, and the model it runs.
struct Plan {
    setting: Setting,
    model: PathBuf,
}

fn plans(cli: &Cli) -> Result<Vec<Plan>> {
    let most = cli.threads.iter().copied().max().unwrap_or(1);
    let mut plans = Vec::new();
    for &comparison in &cli.compare {
        let (formats, threads) = match comparison {
            Comparison::Main => (cli.formats.clone(), cli.threads.clone()),
            Comparison::Avx2 => (vec!["Q4_0".into()], cli.threads.clone()),
            Comparison::Busy => (vec!["Q4_0".into()], vec![most]),
        };
        for format in formats {
            let model = prepare::speed_model(&format)?;
            let gguf = Gguf::open(&model).map_err(|error| error.to_string())?;
            // The output matrix is multiplied by the last token of a prompt alone.
            let products = gguf.tensors().iter().filter(|tensor| tensor.name().starts_with("blk."));
            let products_per_token = products.map(|tensor| (tensor.cols() * tensor.rows()) as u64).sum();
            let loaded = Model::from_gguf(gguf, isa(comparison)?, 1).map_err(|error| error.to_string())?;
            plans.extend(threads.iter().map(|&threads| {
                Plan {
                    setting: Setting {
                        comparison,
                        format: format.clone(),
                        threads,
                        bytes_per_token: loaded.bytes_per_token(),
                        products_per_token,
                        limits: Vec::new(),
                        engines: engines(comparison)
                            .iter()
                            .filter(|engine| !cli.leaves_out(engine.name))
                            .map(|engine| Column::new(engine.name))
                            .collect(),
                    },
                    model: model.clone(),
                }
            }));
        }
    }
    Ok(plans)
}

fn engines(comparison: Comparison) -> &'static [Engine] {
    match comparison {
        Comparison::Main => engines::ALL,
        Comparison::Avx2 => engines::ON_AVX2,
        Comparison::Busy => engines::DISTURBED,
    }
}

/// What our kernels run on.
fn isa(comparison: Comparison) -> Result<Supported> {
    let isa = match comparison {
        Comparison::Avx2 => Supported::new(Isa::Avx2Fma),
        _ => Ok(Supported::all().next_back().expect("scalar kernels run everywhere")),
    };
    isa.map_err(|error| error.to_string())
}

/// One round of a setting.
fn take_turns(setting: &mut Setting, model: &Path, starters: &mut Starters, cli: &Cli) -> Result<()> {
    prepare::warm(model)?;
    setting.limits.push(limits(setting, model)?);
    // Nobody always follows the same one.
    let (round, count) = (setting.limits.len(), setting.engines.len());
    for i in (0..count).map(|i| (i + round) % count) {
        let column = &mut setting.engines[i];
        if column.not_run.is_some() || cli.leaves_out(&column.engine) {
            continue;
        }
        let engine = engines(setting.comparison).iter().find(|engine| engine.name == column.engine);
        let engine = engine.ok_or_else(|| format!("there is no engine {:?} any more", column.engine))?;
        let turn = starters.get(engine).and_then(|starter| {
            series::turn(starter, setting.comparison, model, setting.threads, cli.patience())
        });
        match turn {
            Ok(turn) => column.add(round, turn)?,
            Err(why) => {
                eprintln!("{} is not run: {why}", column.engine);
                column.not_run = Some(why);
            }
        }
    }
    Ok(())
}

fn limits(setting: &Setting, model: &Path) -> Result<Limits> {
    let isa = isa(setting.comparison)?;
    let limits = || {
        let model = Model::from_gguf(Gguf::open(model)?, isa, setting.threads)?;
        let (read, products) = (bench::read_bandwidth(&model, 5)?, bench::multiply_peak(&model, 5)?);
        Ok(Limits { read, products })
    };
    limits().map_err(|error: quantloom::Error| error.to_string())
}

/// What every engine says of a real model: as it comes, which is Q4_1, and in the formats that are measured.
fn agreement(cli: &Cli, starters: &mut Starters) -> Result<Vec<Agreement>> {
    let threads = cli.threads.iter().copied().max().unwrap_or(1);
    let mut agreement = Vec::new();
    for format in [None].into_iter().chain(cli.formats.iter().map(|format| Some(&format[..]))) {
        let path = prepare::real_model(format)?;
        let model = Model::load(&path, Some(1)).map_err(|error| error.to_string())?;
        let options = EncodeOptions { add_bos: false, add_eos: false, parse_special: false };
        let prompt = model.tokenizer().encode(BEGINNING, options);
        let mut speak = |engine: &Engine| {
            let starter = starters.get(engine)?;
            let context = prompt.len() + SPOKEN;
            let mut worker = series::loaded(starter, &path, context, threads, cli.patience())?;
            series::speak(&mut worker, &prompt, SPOKEN)
        };
        let expected = speak(&engines::OURS)?;
        let text = model.tokenizer().decode(&expected, SpecialTokens::Skip);
        eprintln!("{}: {BEGINNING:?} goes on {text:?}", format.unwrap_or("Q4_1"));
        for engine in engines::ALL.iter().filter(|engine| engine.name != engines::OURS.name) {
            if !cli.leaves_out(engine.name) {
                let outcome = series::compared(speak(engine), &expected);
                eprintln!("{}: {outcome}", engine.name);
                let format = format.unwrap_or("Q4_1").into();
                agreement.push(Agreement { engine: engine.name.into(), format, outcome });
            }
        }
    }
    Ok(agreement)
}

/// The engines that are ready, and why others are not.
struct Starters {
    pythons: Pythons,
    made: HashMap<&'static str, Result<Starter>>,
}

impl Starters {
    fn new(cli: &Cli) -> Self {
        let pythons = Pythons { native: cli.llama_python.clone(), avx2: cli.llama_avx2_python.clone() };
        Self { pythons, made: HashMap::new() }
    }

    /// Built when it is first asked for.
    fn get(&mut self, engine: &Engine) -> Result<&Starter> {
        let made = self.made.entry(engine.name).or_insert_with(|| Starter::new(engine, &self.pythons));
        made.as_ref().map_err(Clone::clone)
    }
}

fn machine() -> Machine {
    let here = quantloom_bench::Machine::here();
    Machine {
        cpu: here.cpu,
        cores: thread::available_parallelism().map_or(1, |n| n.get()),
        system: here.system,
        features: bench::cpu_features().into_iter().map(str::to_owned).collect(),
        compiler: here.compiler.into(),
    }
}

/// Results of before, which must be of this machine.
fn kept(path: &Path, here: Machine) -> Result<Results> {
    let kept: Results = read(path)?;
    if kept.machine == here {
        Ok(kept)
    } else {
        Err(in_file(
            path,
            "these results are of another machine or compiler: leave out --append to begin anew",
        ))
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).map_err(|error| in_file(path, error))?;
    serde_json::from_str(&text).map_err(|error| in_file(path, error))
}

fn into_readme(results: &impl Display, markers: Markers) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let text = fs::read_to_string(&path).map_err(|error| in_file(&path, error))?;
    let text = results::replaced(&text, markers, &format!("\n{results}\n"))
        .ok_or_else(|| in_file(&path, format!("lacks the two lines {markers:?}")))?;
    fs::write(&path, text).map_err(|error| in_file(&path, error))
}

fn in_file(path: &Path, problem: impl Display) -> String {
    format!("{}: {problem}", path.display())
}

/// Keeps a core busy until standard input ends.
fn be_busy() -> ExitCode {
    thread::spawn(|| {
        loop {
            hint::spin_loop();
        }
    });
    match io::copy(&mut io::stdin().lock(), &mut io::sink()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
