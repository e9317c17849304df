//! Runs Quantloom and other engines on the same files in turn, and tells how fast they are.
//!
//! An engine's every turn is a process of its own, so that threads and memory are its own. In each round every engine
//! has a turn, in an order that rotates, and before them the machine's limits have theirs: whatever slows the machine
//! for a while slows all. Besides it tells, with `types`, how exact Quantloom and llama.cpp are.

mod engines;
mod llama_bench;
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

use engines::{Engine, Start};
use llama_bench::{LlamaBench, Named};
use prepare::{Pythons, Starter};
use results::{Agreement, Column, Comparison, Limits, MARKERS, Machine, Markers, Results, Setting};
use serde::de::DeserializeOwned;
use worker::Result;

/// Measures Quantloom beside llama.cpp, Candle, Realizar, mistral.rs and any `llama-bench`, in turn
#[derive(Parser)]
#[command(name = "peers", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// What to compare; `avx2` compiles llama.cpp once more
    #[arg(long, value_delimiter = ',', default_value = "speed,details,busy", value_name = "WHAT,…")]
    compare: Vec<Comparison>,
    /// Times that every engine has its turn, those that are kept among them
    #[arg(long, default_value_t = 5, value_name = "N")]
    rounds: usize,
    /// The types of the model for speed, and mixtures
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "Q4_0,Q4_1,Q5_0,Q5_1,Q8_0,Q2_K,Q3_K,Q4_K,Q5_K,Q6_K,IQ4_NL,IQ4_XS,MXFP4,Q4_K_M",
        value_name = "TYPE,…"
    )]
    types: Vec<String>,
    /// Threads
    #[arg(long, value_delimiter = ',', default_value = "1,2", value_name = "N,…")]
    threads: Vec<usize>,
    /// Compare the speed of a `llama-bench`, too: of another build of llama.cpp, or of a fork
    #[arg(long, value_name = "NAME=FILE")]
    llama_bench: Vec<Named>,
    /// Flags for that of this name; of several such the fastest counts [default: it is run without]
    #[arg(long, value_name = "NAME=FLAGS", allow_hyphen_values = true)]
    llama_bench_args: Vec<Named>,
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
    /// Go on with what is kept there: add the rounds, or the types, that it lacks
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
    let benches = LlamaBench::all(&cli.llama_bench, &cli.llama_bench_args)?;
    let engines: Vec<&str> = cli
        .compare
        .iter()
        .flat_map(|&comparison| engines::of(comparison))
        .map(|engine| engine.name)
        .collect();
    let names = || engines.iter().copied().chain(benches.iter().map(|bench| &bench.name[..]));
    if let Some(unknown) = cli.without.iter().find(|without| !names().any(|name| name == **without)) {
        return Err(format!("--without {unknown:?}: there are {}", Vec::from_iter(names()).join(", ")));
    }
    if let Some(taken) = benches.iter().find(|bench| names().filter(|name| *name == bench.name).count() > 1) {
        return Err(format!("--llama-bench {:?}: another engine has that name", taken.name));
    }
    if cli.leaves_out(engines::OURS.name) {
        return Err(format!("--without {:?}: all others are held against it", engines::OURS.name));
    }
    let plans = plans(cli, &benches)?;
    let mut results =
        Results { date: String::new(), machine: machine(), agreement: Vec::new(), settings: Vec::new() };
    if cli.append && json.exists() {
        results = kept(&json, results.machine)?;
    }
    if results.agreement.is_empty() && cli.compare.contains(&Comparison::Speed) {
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
            if setting.limits.len() >= round {
                continue;
            }
            eprintln!("round {round} of {}: {}", cli.rounds, setting.title());
            take_turns(setting, &plan.model, &mut starters, &benches, cli)?;
            results.date = time::OffsetDateTime::now_utc().date().to_string();
            let text = serde_json::to_string_pretty(&results).expect("results are JSON");
            fs::write(&json, text + "\n").map_err(|error| in_file(&json, error))?;
        }
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

fn plans(cli: &Cli, benches: &[LlamaBench]) -> Result<Vec<Plan>> {
    let most = cli.threads.iter().copied().max().unwrap_or(1);
    let mut plans = Vec::new();
    for &comparison in &cli.compare {
        let some = |types: &[&str]| types.iter().map(|&ty| ty.to_owned()).collect();
        let (types, threads): (Vec<String>, _) = match comparison {
            Comparison::Speed => (cli.types.clone(), cli.threads.clone()),
            Comparison::Details => (some(&["Q4_0", "Q8_0"]), vec![most]),
            Comparison::Avx2 => (some(&["Q4_0"]), cli.threads.clone()),
            Comparison::Busy => (some(&["Q4_0"]), vec![most]),
        };
        for ty in types {
            let model = prepare::speed_model(&ty)?;
            let gguf = Gguf::open(&model).map_err(|error| error.to_string())?;
            let products_per_token = products_per_token(&gguf)?;
            let loaded = Model::from_gguf(gguf, isa(comparison)?, 1).map_err(|error| error.to_string())?;
            let benches = if comparison == Comparison::Speed { benches } else { &[] };
            let names = engines::of(comparison).map(|engine| engine.name);
            let names = names.chain(benches.iter().map(|bench| &bench.name[..]));
            let columns: Vec<Column> = names.filter(|name| !cli.leaves_out(name)).map(Column::new).collect();
            plans.extend(threads.iter().map(|&threads| Plan {
                setting: Setting {
                    comparison,
                    ty: ty.clone(),
                    threads,
                    bytes_per_token: loaded.bytes_per_token(),
                    products_per_token,
                    limits: Vec::new(),
                    engines: columns.clone(),
                },
                model: model.clone(),
            }));
        }
    }
    Ok(plans)
}

/// Products that a token of a prompt takes on average. The last token alone has logits, and of the others the last layer
/// needs keys and values alone.
fn products_per_token(gguf: &Gguf) -> Result<u64> {
    let layers = gguf.metadata().require_u32(prepare::LAYERS).map_err(|error| error.to_string())?;
    let last = format!("blk.{}.", layers - 1);
    let products = gguf.tensors().iter().map(|tensor| {
        let is_of_all = match tensor.name().strip_prefix(&last) {
            Some(name) => name.starts_with("attn_k.") || name.starts_with("attn_v."),
            None => tensor.name().starts_with("blk."),
        };
        if is_of_all { (tensor.cols() * tensor.rows()) as u64 } else { 0 }
    });
    Ok(products.sum())
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
fn take_turns(
    setting: &mut Setting,
    model: &Path,
    starters: &mut Starters,
    benches: &[LlamaBench],
    cli: &Cli,
) -> Result<()> {
    prepare::warm(model)?;
    setting.limits.push(limits(setting, model)?);
    // Nobody always follows the same one.
    let (round, count) = (setting.limits.len(), setting.engines.len());
    for i in (0..count).map(|i| (i + round) % count) {
        let column = &mut setting.engines[i];
        if column.not_run.is_some() || cli.leaves_out(&column.engine) {
            continue;
        }
        let (threads, patience) = (setting.threads, cli.patience());
        let engine = engines::of(setting.comparison).find(|engine| engine.name == column.engine);
        let bench = benches.iter().find(|bench| bench.name == column.engine);
        let turn = match (engine, bench) {
            (Some(engine), _) => starters.get(engine).and_then(|starter| match engine.start {
                Start::Mistral => llama_bench::turn([starter.command(threads)], model, threads, patience),
                _ => series::turn(starter, setting.comparison, model, threads, patience),
            }),
            (None, Some(bench)) => bench.turn(model, threads, patience),
            // It was compared before, and is not named this time.
            (None, None) => continue,
        };
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

/// What every engine that has a worker says of a real model: as it comes, which is Q4_1, and in two types more.
fn agreement(cli: &Cli, starters: &mut Starters) -> Result<Vec<Agreement>> {
    let threads = cli.threads.iter().copied().max().unwrap_or(1);
    let mut agreement = Vec::new();
    for ty in [None, Some("Q4_0"), Some("Q8_0")] {
        let path = prepare::real_model(ty)?;
        let ty = ty.unwrap_or("Q4_1");
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
        eprintln!("{ty}: {BEGINNING:?} goes on {text:?}");
        for engine in engines::ALL.iter().filter(|engine| engine.name != engines::OURS.name) {
            if !cli.leaves_out(engine.name) {
                let outcome = series::compared(speak(engine), &expected);
                eprintln!("{}: {outcome}", engine.name);
                agreement.push(Agreement { engine: engine.name.into(), ty: ty.into(), outcome });
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
