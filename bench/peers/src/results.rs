//! What was measured, and how it is told: kept as JSON, shown as Markdown.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

/// Everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Of the last round, in UTC.
    pub date: String,
    pub machine: Machine,
    pub agreement: Vec<Agreement>,
    pub settings: Vec<Setting>,
}

/// What was measured on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub system: String,
    /// Of the CPU's features those that Quantloom's kernels know of.
    pub features: Vec<String>,
    pub compiler: String,
}

/// What an engine said of a real model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    pub engine: String,
    /// Of the model's matrices.
    pub ty: String,
    pub outcome: Spoken,
}

/// Greedy text beside Quantloom's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spoken {
    /// All these tokens are the same.
    Same(usize),
    /// From this one on, counted from 1, they differ.
    DiffersFrom(usize),
    NotRun(String),
}

/// A file, threads, and everyone who runs the one on the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    pub comparison: Comparison,
    /// Of the file's matrices, or the mixture that they are.
    pub ty: String,
    pub threads: usize,
    /// Weights that one token reads.
    pub bytes_per_token: u64,
    /// Products that one token of a prompt takes.
    pub products_per_token: u64,
    /// In each round.
    pub limits: Vec<Limits>,
    pub engines: Vec<Column>,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// The speed of all engines, in every type
    Speed,
    /// Loading, memory and long contexts
    Details,
    /// Quantloom and llama.cpp on AVX2 alone
    Avx2,
    /// Quantloom and llama.cpp beside a process that keeps a core busy
    Busy,
}

/// The machine between two rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes per second that the threads read of the model's file and do nothing else.
    pub read: f64,
    /// Products of 8 bits per second that the threads accumulate.
    pub products: f64,
}

/// An engine's part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    pub engine: String,
    pub version: String,
    pub notes: String,
    /// By the number of the round. They are kept when a later round fails.
    pub samples: BTreeMap<Measure, BTreeMap<usize, f64>>,
    /// Why there are no more of them.
    pub not_run: Option<String>,
}

/// An engine's part in one round.
pub struct Turn {
    pub version: String,
    pub notes: String,
    pub samples: Vec<(Measure, f64)>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    Prefill,
    Decode,
    DeepDecode,
    BusyDecode,
    BusyShare,
    Load,
    FirstToken,
    PeakMemory,
    AnonymousMemory,
}

/// Tokens of a prompt.
pub const PROMPT: usize = 512;
/// Single tokens after a short prompt.
pub const DECODED: usize = 64;
/// Tokens before those of `DeepDecode`.
pub const DEPTH: usize = 1024;
/// Single tokens after those.
pub const DECODED_DEEP: usize = 64;
/// Tokens of the short prompt.
pub const SHORT: usize = 6;

impl Measure {
    fn header(self) -> String {
        match self {
            Self::Prefill => format!("prefill {PROMPT}, tok/s"),
            Self::Decode => format!("decode {DECODED}, tok/s"),
            Self::DeepDecode => format!("at depth {DEPTH}, tok/s"),
            Self::BusyDecode => "beside a busy process, tok/s".into(),
            Self::BusyShare => "of the idle speed, %".into(),
            Self::Load => "load, ms".into(),
            Self::FirstToken => "first token, ms".into(),
            Self::PeakMemory => "peak memory, MB".into(),
            Self::AnonymousMemory => "of it anonymous, MB".into(),
        }
    }

    /// Whether less is better.
    fn is_a_cost(self) -> bool {
        matches!(self, Self::Load | Self::FirstToken | Self::PeakMemory | Self::AnonymousMemory)
    }
}

/// Numbers of several rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub median: f64,
    /// Half the distance of the quartiles, by the median. `None` of a single number.
    pub spread: Option<f64>,
}

impl Summary {
    /// Of any number of samples but none.
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let quantile = |share: f64| {
            let position = share * last as f64;
            let (below, above) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
            below + (above - below) * position.fract()
        };
        let median = quantile(0.5);
        let spread = (last > 0).then(|| (quantile(0.75) - quantile(0.25)) / 2.0 / median);
        Some(Self { median, spread })
    }
}

/// The median, over the rounds that both took part in, of a by b: what slows a whole round cancels out.
fn ratio(a: &BTreeMap<usize, f64>, b: &BTreeMap<usize, f64>) -> Option<f64> {
    let ratios = a.iter().filter_map(|(round, a)| Some(a / b.get(round)?));
    Summary::of(ratios).map(|summary| summary.median)
}

impl Column {
    /// Without samples.
    pub fn new(engine: &str) -> Self {
        let (version, notes, samples) = Default::default();
        Self { engine: engine.into(), version, notes, samples, not_run: None }
    }

    /// Adds a round, which must be of the same version as those before.
    pub fn add(&mut self, round: usize, turn: Turn) -> Result<(), String> {
        let Turn { version, notes, samples } = turn;
        if !self.version.is_empty() && (&self.version, &self.notes) != (&version, &notes) {
            let (engine, before) = (&self.engine, &self.version);
            return Err(format!(
                "rounds of {engine} {before} are kept, and this is {version}: leave out --append"
            ));
        }
        (self.version, self.notes) = (version, notes);
        for (measure, sample) in samples {
            self.samples.entry(measure).or_default().insert(round, sample);
        }
        Ok(())
    }

    /// Its cell of a table: the median, its spread, and how many times as good the first column is.
    fn cell(&self, measure: Measure, first: &Self) -> String {
        let Some(theirs) = self.samples.get(&measure) else { return String::new() };
        let Some(summary) = Summary::of(theirs.values().copied()) else { return String::new() };
        let mut cell = Measured(summary, "").to_string();
        if let Some(ours) = first.samples.get(&measure).filter(|_| self.engine != first.engine) {
            let ratio = if measure.is_a_cost() { ratio(theirs, ours) } else { ratio(ours, theirs) };
            cell += &ratio.map_or(String::new(), |ratio| format!(" ({ratio:.2})"));
        }
        cell
    }

    /// Its name, and of how many rounds it took part in fewer than there were.
    fn title(&self, rounds: usize) -> String {
        match self.samples.values().map(BTreeMap::len).max() {
            Some(its) if its < rounds => format!("{}, {its} of {rounds} rounds", self.engine),
            _ => self.engine.clone(),
        }
    }
}

/// A median with a unit, and its spread.
struct Measured(Summary, &'static str);

impl Display for Measured {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(Summary { median, spread }, unit) = self;
        write!(f, "{}{unit}", Number(*median))?;
        spread.map_or(Ok(()), |spread| write!(f, " ±{:.0} %", spread * 100.0))
    }
}

/// With three digits that count, or more.
struct Number(f64);

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let decimals = if self.0 < 9.995 { 2 } else { usize::from(self.0 < 99.95) };
        write!(f, "{:.decimals$}", self.0)
    }
}

impl Display for Results {
    /// Markdown.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Machine { cpu, cores, features, compiler, .. } = &self.machine;
        writeln!(
            f,
            "Measured {} on {cores} cores of \"{cpu}\" ({}), with {compiler}. Medians of the rounds, ± half the \
             distance of their quartiles.\n",
            self.date,
            features.join(" ")
        )?;
        let mut engines: Vec<&Column> = Vec::new();
        for column in self.settings.iter().flat_map(|setting| &setting.engines) {
            if !column.version.is_empty() && !engines.iter().any(|known| known.engine == column.engine) {
                engines.push(column);
            }
        }
        for Column { engine, version, notes, .. } in engines {
            writeln!(f, "- {engine} {version}{}{notes}", if notes.is_empty() { "" } else { ": " })?;
        }
        if !self.agreement.is_empty() {
            self.agreement(f)?;
        }
        let (speed, others): (Vec<&Setting>, Vec<_>) =
            self.settings.iter().partition(|setting| setting.comparison == Comparison::Speed);
        let mut threads: Vec<usize> = speed.iter().map(|setting| setting.threads).collect();
        threads.sort_unstable();
        threads.dedup();
        for measure in [Measure::Decode, Measure::Prefill] {
            for &threads in &threads {
                let settings = speed.iter().copied().filter(|setting| setting.threads == threads).collect();
                write!(f, "\n{}", Speeds { measure, threads, settings })?;
            }
        }
        if !others.is_empty() {
            writeln!(
                f,
                "\nIn the parentheses of the tables below: by how many times Quantloom is faster, or needs less, in the \
                 same rounds."
            )?;
        }
        others.iter().try_for_each(|setting| write!(f, "\n{setting}"))
    }
}

/// The speed of all engines in every type, on so many threads.
struct Speeds<'a> {
    measure: Measure,
    threads: usize,
    /// One of each type.
    settings: Vec<&'a Setting>,
}

impl Display for Speeds<'_> {
    /// A title and a table.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { measure, threads, settings } = self;
        let mut engines: Vec<&str> = Vec::new();
        for column in settings.iter().flat_map(|setting| &setting.engines) {
            if !engines.contains(&&column.engine[..]) {
                engines.push(&column.engine);
            }
        }
        let limits = || settings.iter().flat_map(|setting| &setting.limits);
        let (limit, unit, does) = match measure {
            Measure::Prefill => {
                (Summary::of(limits().map(|limits| limits.products / 1e9)), " GMAC/s", "multiplies")
            }
            _ => (Summary::of(limits().map(|limits| limits.read / 1e9)), " GB/s", "reads"),
        };
        let Some(limit) = limit else { return Ok(()) };
        writeln!(
            f,
            "**{}, {}**; in parentheses the share of what this machine {does} in the same rounds, {}\n",
            measure.header(),
            in_threads(*threads),
            Measured(limit, unit)
        )?;
        writeln!(f, "| | {} | Quantloom beside the fastest other |", engines.join(" | "))?;
        writeln!(f, "|---|{}--:|", "--:|".repeat(engines.len()))?;
        let mut spread = 0.0_f64;
        let mut notes: Vec<(String, Vec<&str>)> = Vec::new();
        for setting in settings {
            let find = |engine: &str| setting.engines.iter().find(|column| column.engine == engine);
            let mut cells = Vec::new();
            for engine in &engines {
                let column = find(engine);
                let samples = column.and_then(|column| column.samples.get(measure));
                let summary = samples.and_then(|samples| Summary::of(samples.values().copied()));
                spread = spread.max(summary.and_then(|summary| summary.spread).unwrap_or(0.0));
                let share = samples.and_then(|samples| setting.share(*measure, samples));
                let cell = summary.zip(share).map_or(String::new(), |(summary, share)| {
                    format!("{} ({:.0} %)", Number(summary.median), share * 100.0)
                });
                let rounds = samples.map_or(0, BTreeMap::len);
                let why = column.and_then(|column| column.not_run.as_deref());
                let mut note = |text: String| match notes.iter_mut().find(|(known, _)| *known == text) {
                    Some((_, types)) => types.push(&setting.ty),
                    None => notes.push((text, vec![&setting.ty[..]])),
                };
                match why {
                    Some(why) => note(format!("{engine} is not run: {}", cell_text(why))),
                    None if rounds > 0 && rounds < setting.limits.len() => {
                        note(format!("{engine} took part in {rounds} of {} rounds", setting.limits.len()));
                    }
                    None => {}
                }
                cells.push(cell);
            }
            let best = setting
                .best_other(*measure)
                .map_or(String::new(), |(name, ratio)| format!("{ratio:.2} × {name}"));
            writeln!(f, "| {} | {} | {best} |", setting.ty, cells.join(" | "))?;
        }
        writeln!(f, "\nNo engine's rounds spread by more than ±{:.0} %.", spread * 100.0)?;
        if !notes.is_empty() {
            writeln!(f)?;
        }
        notes.iter().try_for_each(|(note, types)| writeln!(f, "- {}: {note}", types.join(", ")))
    }
}

fn in_threads(threads: usize) -> String {
    format!("{threads} thread{}", if threads == 1 { "" } else { "s" })
}

impl Results {
    fn agreement(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut types: Vec<&str> = Vec::new();
        let mut engines: Vec<&str> = Vec::new();
        for Agreement { engine, ty, .. } in &self.agreement {
            if !types.contains(&&ty[..]) {
                types.push(ty);
            }
            if !engines.contains(&&engine[..]) {
                engines.push(engine);
            }
        }
        writeln!(f, "\nGreedy text of SmolLM2-135M-Instruct beside Quantloom's:\n")?;
        writeln!(f, "| | {} |", types.join(" | "))?;
        writeln!(f, "|---|{}", "---|".repeat(types.len()))?;
        for engine in engines {
            let cells = types.iter().map(|ty| {
                let spoken = self.agreement.iter().find(|one| one.engine == engine && one.ty == *ty);
                spoken.map_or(String::new(), |spoken| spoken.outcome.to_string())
            });
            writeln!(f, "| {engine} | {} |", cells.collect::<Vec<_>>().join(" | "))?;
        }
        Ok(())
    }
}

impl Display for Spoken {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same(count) => write!(f, "the same {count} tokens"),
            Self::DiffersFrom(first) => write!(f, "differs from token {first} on"),
            Self::NotRun(why) => write!(f, "not run: {}", cell_text(why)),
        }
    }
}

/// What would end a cell does not.
pub fn cell_text(text: &str) -> String {
    text.replace('|', "/").replace(char::is_control, " ")
}

impl Setting {
    /// Whether two are of the same kind, so that their rounds belong together.
    pub fn is_like(&self, other: &Self) -> bool {
        let kind = |setting: &Self| (setting.comparison, setting.ty.clone(), setting.threads);
        kind(self) == kind(other)
    }

    pub fn title(&self) -> String {
        let Self { comparison, ty, threads, .. } = self;
        let besides = match comparison {
            Comparison::Speed | Comparison::Details => "",
            Comparison::Avx2 => ", AVX2 alone",
            Comparison::Busy => ", beside a process that keeps a core busy",
        };
        format!("{ty}, {}{besides}", in_threads(*threads))
    }

    /// The median of what part of the machine's limits samples are, each of those of its round.
    fn share(&self, measure: Measure, samples: &BTreeMap<usize, f64>) -> Option<f64> {
        let limit = |limits: &Limits| match measure {
            Measure::Prefill => limits.products / self.products_per_token as f64,
            _ => limits.read / self.bytes_per_token as f64,
        };
        let shares =
            samples.iter().filter_map(|(round, speed)| Some(speed / limit(self.limits.get(round - 1)?)));
        Summary::of(shares).map(|summary| summary.median)
    }

    /// The engine that is fastest but for the first, and how many times as fast the first is.
    fn best_other(&self, measure: Measure) -> Option<(&str, f64)> {
        let (first, others) = self.engines.split_first()?;
        let median =
            |column: &Column| Some(Summary::of(column.samples.get(&measure)?.values().copied())?.median);
        let others = others.iter().filter_map(|column| Some((median(column)?, column)));
        let (_, best) = others.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
        Some((&best.engine, ratio(first.samples.get(&measure)?, &best.samples[&measure])?))
    }

    /// What the machine allows at most, where that is known.
    fn limit(&self, measure: Measure) -> Option<f64> {
        let median = |limit: fn(&Limits) -> f64| Some(Summary::of(self.limits.iter().map(limit))?.median);
        match measure {
            Measure::Prefill => Some(median(|limits| limits.products)? / self.products_per_token as f64),
            Measure::Decode => Some(median(|limits| limits.read)? / self.bytes_per_token as f64),
            _ => None,
        }
    }
}

impl Display for Setting {
    /// A title and a table.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { limits, engines, .. } = self;
        write!(f, "**{}**", self.title())?;
        let of = |scale: f64, limit: fn(&Limits) -> f64| {
            Summary::of(limits.iter().map(|limits| limit(limits) / scale))
        };
        if let (Some(read), Some(products)) =
            (of(1e9, |limits| limits.read), of(1e9, |limits| limits.products))
        {
            let rounds = limits.len();
            write!(f, ", {rounds} round{}, in which the threads read ", if rounds == 1 { "" } else { "s" })?;
            write!(f, "{} and multiply {}", Measured(read, " GB/s"), Measured(products, " GMAC/s"))?;
        }
        let mut measures: Vec<Measure> =
            engines.iter().flat_map(|column| column.samples.keys().copied()).collect();
        measures.sort_unstable();
        measures.dedup();
        let headers: Vec<String> = measures.iter().map(|measure| measure.header()).collect();
        writeln!(f, "\n\n| | {} |", headers.join(" | "))?;
        writeln!(f, "|---|{}", "--:|".repeat(measures.len()))?;
        for column in engines {
            let cells: Vec<String> = match &column.not_run {
                Some(why) => vec![format!("not run: {}", cell_text(why))],
                None => measures.iter().map(|&measure| column.cell(measure, &engines[0])).collect(),
            };
            let empty = " |".repeat(measures.len().saturating_sub(cells.len()));
            writeln!(f, "| {} | {} |{empty}", column.title(limits.len()), cells.join(" | "))?;
        }
        let limits: Vec<String> = measures
            .iter()
            .map(|&measure| self.limit(measure).map_or(String::new(), |limit| Number(limit).to_string()))
            .collect();
        writeln!(f, "| this machine allows | {} |", limits.join(" | "))
    }
}

/// Two lines of a text between which results stand.
pub type Markers = [&'static str; 2];

/// Those of [`Results`].
pub const MARKERS: Markers = ["<!-- written by bench/peers -->\n", "<!-- end of bench/peers -->\n"];

/// A text with what stands between the markers replaced; `None` where it doesn't have each of them once, in order.
pub fn replaced(text: &str, [begin, end]: Markers, results: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (old, after) = rest.split_once(end)?;
    let again = [before, old, after].iter().any(|part| part.contains(begin) || part.contains(end));
    (!again).then(|| format!("{before}{begin}{results}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_the_rounds() {
        for (samples, expected) in [
            (&[][..], None),
            (&[4.0], Some((4.0, None))),
            (&[3.0, 1.0], Some((2.0, Some(0.25)))),
            (&[5.0, 1.0, 2.0, 10.0, 4.0], Some((4.0, Some(0.375)))),
        ] {
            let summary =
                Summary::of(samples.iter().copied()).map(|summary| (summary.median, summary.spread));
            assert_eq!(summary, expected, "{samples:?}");
        }
    }

    /// The second round was slow for everyone.
    #[test]
    fn ratios_are_of_the_same_rounds() {
        let rounds = |samples: &[(usize, f64)]| samples.iter().copied().collect::<BTreeMap<_, _>>();
        let ours = rounds(&[(1, 4.0), (2, 1.0), (3, 4.0)]);
        for (theirs, expected) in [
            (rounds(&[(1, 2.0), (2, 0.5), (3, 2.0)]), Some(2.0)),
            (rounds(&[(2, 0.5)]), Some(2.0)),
            (rounds(&[(4, 0.5)]), None),
            (rounds(&[]), None),
        ] {
            assert_eq!(ratio(&ours, &theirs), expected, "{theirs:?}");
        }
    }

    #[test]
    fn numbers_have_three_digits() {
        for (number, expected) in [
            (0.5, "0.50"),
            (9.994, "9.99"),
            (9.996, "10.0"),
            (99.94, "99.9"),
            (99.96, "100"),
            (1234.5, "1234"),
        ] {
            assert_eq!(Number(number).to_string(), expected);
        }
    }

    fn column(engine: &str, samples: &[(Measure, &[f64])]) -> Column {
        Column {
            engine: engine.into(),
            version: "1.2".into(),
            notes: String::new(),
            samples: samples
                .iter()
                .map(|(measure, samples)| (*measure, (1..).zip(samples.iter().copied()).collect()))
                .collect(),
            not_run: None,
        }
    }

    fn results() -> Results {
        let [dead, lost] =
            ["Dead", "Theirs"].map(|name| Column { not_run: Some("a | b\nc".into()), ..column(name, &[]) });
        let setting = |comparison, ty: &str, engines| Setting {
            comparison,
            ty: ty.into(),
            threads: 1,
            bytes_per_token: 500_000_000,
            products_per_token: 1000,
            limits: vec![Limits { read: 20e9, products: 300e9 }; 3],
            engines,
        };
        let ours = [(Measure::Prefill, &[200.0, 210.0, 190.0][..]), (Measure::Load, &[10.0, 10.0, 10.0])];
        let theirs = [(Measure::Prefill, &[100.0, 100.0][..]), (Measure::Load, &[25.0, 25.0])];
        Results {
            date: "2030-01-02".into(),
            machine: Machine {
                cpu: "A CPU".into(),
                cores: 2,
                system: "linux".into(),
                features: vec!["avx2".into(), "fma".into()],
                compiler: "rustc".into(),
            },
            agreement: vec![
                Agreement { engine: "Theirs".into(), ty: "Q4_0".into(), outcome: Spoken::Same(32) },
                Agreement { engine: "Theirs".into(), ty: "Q8_0".into(), outcome: Spoken::DiffersFrom(3) },
            ],
            settings: vec![
                setting(
                    Comparison::Details,
                    "Q4_0",
                    vec![column("Ours", &ours), column("Theirs", &theirs), dead],
                ),
                setting(
                    Comparison::Speed,
                    "Q4_0",
                    vec![
                        column("Ours", &[(Measure::Decode, &[20.0, 30.0, 30.0])]),
                        column("Theirs", &[(Measure::Decode, &[10.0, 10.0, 10.0])]),
                        column("Best", &[(Measure::Decode, &[24.0, 24.0])]),
                    ],
                ),
                setting(
                    Comparison::Speed,
                    "Q8_0",
                    vec![column("Ours", &[(Measure::Decode, &[20.0, 20.0, 20.0])]), lost],
                ),
            ],
        }
    }

    #[test]
    fn tables_tell_medians_spreads_shares_and_ratios() {
        let expected = "\
Measured 2030-01-02 on 2 cores of \"A CPU\" (avx2 fma), with rustc. Medians of the rounds, ± half the distance of \
their quartiles.

- Ours 1.2
- Theirs 1.2
- Dead 1.2
- Best 1.2

Greedy text of SmolLM2-135M-Instruct beside Quantloom's:

| | Q4_0 | Q8_0 |
|---|---|---|
| Theirs | the same 32 tokens | differs from token 3 on |

**decode 64, tok/s, 1 thread**; in parentheses the share of what this machine reads in the same rounds, 20.0 GB/s ±0 %

| | Ours | Theirs | Best | Quantloom beside the fastest other |
|---|--:|--:|--:|--:|
| Q4_0 | 30.0 (75 %) | 10.0 (25 %) | 24.0 (60 %) | 1.04 × Best |
| Q8_0 | 20.0 (50 %) |  |  |  |

No engine's rounds spread by more than ±8 %.

- Q4_0: Best took part in 2 of 3 rounds
- Q8_0: Theirs is not run: a / b c

**prefill 512, tok/s, 1 thread**; in parentheses the share of what this machine multiplies in the same rounds, 300 GMAC/s ±0 %

| | Ours | Theirs | Best | Quantloom beside the fastest other |
|---|--:|--:|--:|--:|
| Q4_0 |  |  |  |  |
| Q8_0 |  |  |  |  |

No engine's rounds spread by more than ±0 %.

- Q8_0: Theirs is not run: a / b c

In the parentheses of the tables below: by how many times Quantloom is faster, or needs less, in the same rounds.

**Q4_0, 1 thread**, 3 rounds, in which the threads read 20.0 GB/s ±0 % and multiply 300 GMAC/s ±0 %

| | prefill 512, tok/s | load, ms |
|---|--:|--:|
| Ours | 200 ±2 % | 10.0 ±0 % |
| Theirs, 2 of 3 rounds | 100 ±0 % (2.05) | 25.0 ±0 % (2.50) |
| Dead | not run: a / b c | |
| this machine allows | 300000000 |  |
";
        assert_eq!(results().to_string(), expected);
    }

    #[test]
    fn results_outlive_a_file() {
        let json = serde_json::to_string(&results()).expect("it is JSON");
        assert_eq!(serde_json::from_str::<Results>(&json).expect("and back"), results());
    }

    #[test]
    fn only_what_is_between_the_markers_is_replaced() {
        let [begin, end] = MARKERS;
        for (text, expected) in [
            (format!("a\n{begin}old\n{end}b\n"), Some(format!("a\n{begin}new\n{end}b\n"))),
            (format!("{begin}{end}"), Some(format!("{begin}new\n{end}"))),
            ("a\n".into(), None),
            (format!("a\n{begin}old\n"), None),
            (format!("{end}old\n{begin}"), None),
            (format!("{begin}old\n{end}{begin}"), None),
            (format!("{begin}{begin}{end}"), None),
        ] {
            assert_eq!(replaced(&text, MARKERS, "new\n"), expected, "{text:?}");
        }
    }
}
