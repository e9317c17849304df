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
    /// The model's format.
    pub format: String,
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
    /// Of the file's matrices.
    pub format: String,
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
    /// All engines, all measures
    Main,
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
pub const DECODED: usize = 128;
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
             distance of their quartiles; in parentheses by how many times Quantloom is faster, or needs less, in the \
             same rounds.\n",
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
        self.settings.iter().try_for_each(|setting| write!(f, "\n{setting}"))
    }
}

impl Results {
    fn agreement(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut formats: Vec<&str> = Vec::new();
        let mut engines: Vec<&str> = Vec::new();
        for Agreement { engine, format, .. } in &self.agreement {
            if !formats.contains(&&format[..]) {
                formats.push(format);
            }
            if !engines.contains(&&engine[..]) {
                engines.push(engine);
            }
        }
        writeln!(f, "\nGreedy text of SmolLM2-135M-Instruct beside Quantloom's:\n")?;
        writeln!(f, "| | {} |", formats.join(" | "))?;
        writeln!(f, "|---|{}", "---|".repeat(formats.len()))?;
        for engine in engines {
            let cells = formats.iter().map(|format| {
                let spoken = self.agreement.iter().find(|one| one.engine == engine && one.format == *format);
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
            Self::NotRun(why) => write!(f, "not run: {}", cell(why)),
        }
    }
}

/// What would end a cell does not.
pub fn cell(text: &str) -> String {
    text.replace('|', "/").replace(char::is_control, " ")
}

impl Setting {
    /// Whether two are of the same kind, so that their rounds belong together.
    pub fn is_like(&self, other: &Self) -> bool {
        let kind = |setting: &Self| (setting.comparison, setting.format.clone(), setting.threads);
        kind(self) == kind(other)
    }

    pub fn title(&self) -> String {
        let Self { comparison, format, threads, .. } = self;
        let plural = if *threads == 1 { "" } else { "s" };
        let besides = match comparison {
            Comparison::Main => "",
            Comparison::Avx2 => ", AVX2 alone",
            Comparison::Busy => ", beside a process that keeps a core busy",
        };
        format!("{format}, {threads} thread{plural}{besides}")
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
                Some(why) => vec![format!("not run: {}", cell(why))],
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
        let dead = Column { not_run: Some("a | b\nc".into()), ..column("Dead", &[]) };
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
                Agreement { engine: "Theirs".into(), format: "Q4_0".into(), outcome: Spoken::Same(32) },
                Agreement { engine: "Theirs".into(), format: "Q8_0".into(), outcome: Spoken::DiffersFrom(3) },
            ],
            settings: vec![Setting {
                comparison: Comparison::Main,
                format: "Q4_0".into(),
                threads: 1,
                bytes_per_token: 500,
                products_per_token: 1000,
                limits: vec![Limits { read: 20e9, products: 300e9 }; 3],
                engines: vec![column("Ours", &ours), column("Theirs", &theirs), dead],
            }],
        }
    }

    #[test]
    fn a_table_tells_medians_spreads_and_ratios() {
        let expected = "\
Measured 2030-01-02 on 2 cores of \"A CPU\" (avx2 fma), with rustc. Medians of the rounds, ± half the distance of \
their quartiles; in parentheses by how many times Quantloom is faster, or needs less, in the same rounds.

- Ours 1.2
- Theirs 1.2
- Dead 1.2

Greedy text of SmolLM2-135M-Instruct beside Quantloom's:

| | Q4_0 | Q8_0 |
|---|---|---|
| Theirs | the same 32 tokens | differs from token 3 on |

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
