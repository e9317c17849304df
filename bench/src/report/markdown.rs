//! The report to read.

use std::fmt::{self, Display, Formatter};

use super::{Effort, Figure, Outcome, Report, Row};
use crate::Cache;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { machine, effort: Effort { rounds, batches, batch_us }, .. } = self;
        let caches: Vec<String> = machine.caches.iter().map(Cache::to_string).collect();
        let caches = if caches.is_empty() { "unknown".into() } else { caches.join(", ") };
        writeln!(f, "# Kernels beside the limits of the machine\n")?;
        writeln!(f, "- CPU: {}, {}", machine.cpu, machine.system)?;
        writeln!(f, "- data caches: {caches}")?;
        writeln!(f, "- built by {}, {}", machine.compiler, machine.build)?;
        writeln!(
            f,
            "- one thread; medians of {rounds} rounds, in each of which every limit and every cell had a turn \
             of {batches} batches of {batch_us} µs at least, of which the median counts; spread is the distance \
             of the quartiles over the rounds"
        )?;

        writeln!(f, "\n## Read bandwidth\n")?;
        let bandwidths = self.bandwidths.iter().map(|bandwidth| {
            let held_by = bandwidth.held_by.map_or("no known cache".into(), |cache| cache.to_string());
            [
                bandwidth.place.name().into(),
                size(bandwidth.working_set),
                held_by,
                rate(bandwidth.gb_per_second.median),
                spread(bandwidth.gb_per_second),
                bandwidth.by.into(),
            ]
        });
        table(f, "<><>><", ["place", "working set", "fits", "GB/s", "spread", "by"], bandwidths)?;

        writeln!(f, "\n## Dot-product peak, 8 bits by 8 bits\n")?;
        let peaks = self.peaks.iter().map(|peak| {
            let [median, spread, by] = match &peak.outcome {
                Outcome::Measured(peak) => {
                    let figure = peak.gmac_per_second;
                    [rate(figure.median), spread(figure), peak.by.into()]
                }
                Outcome::NotRun { not_run } => not_run_because(not_run),
            };
            [peak.isa.to_string(), peak.features.join(" "), median, spread, by]
        });
        table(f, "<<>><", ["instruction set", "CPU features", "GMAC/s", "spread", "by"], peaks)?;

        let (products, conversions): (Vec<&Row>, Vec<&Row>) =
            self.cells.iter().partition(|row| row.operation.is_product());
        if !products.is_empty() {
            writeln!(
                f,
                "\n## Products\n\n\
                 GB/s are bytes of weights. The limit is the lower of the instruction set's peak and the \
                 place's bandwidth times multiply-accumulates per byte; a share is GMAC/s by it. \
                 Activations, which all rows share, and all work in floats count as nothing.\n"
            )?;
            cells(f, &products)?;
        }
        if !conversions.is_empty() {
            writeln!(
                f,
                "\n## Conversions\n\n\
                 GB/s are bytes of blocks and of floats together, one of them read and the other written; \
                 the limit is the bandwidth of reading as much.\n"
            )?;
            cells(f, &conversions)?;
        }
        writeln!(f, "\n![Every product under the machine's roofline](roofline.svg)")
    }
}

/// Cells whose rates are of one unit.
fn cells(f: &mut Formatter<'_>, rows: &[&Row]) -> fmt::Result {
    let unit = rows.first().map_or("", |row| row.unit);
    let header = ["cell", "GB/s", unit, "spread", "at most", "share", "limit"];
    let rows = rows.iter().map(|row| {
        let name = row.name.clone();
        match &row.outcome {
            Outcome::Measured(measured) => [
                name,
                rate(measured.gb_per_second.median),
                rate(measured.rate.median),
                spread(measured.rate),
                rate(measured.at_most),
                percent(measured.share),
                measured.limit.to_string(),
            ],
            Outcome::NotRun { not_run } => {
                let [rate, spread, because] = not_run_because(not_run);
                [name, rate.clone(), rate.clone(), spread.clone(), rate, spread, because]
            }
        }
    });
    table(f, "<>>>>><", header, rows)
}

/// In place of a rate, its spread, and what follows them.
fn not_run_because(reason: &str) -> [String; 3] {
    ["–".into(), "–".into(), format!("not run: {reason}")]
}

/// A table that is also aligned where nothing renders it. `align` has a sign for each column.
fn table<const N: usize>(
    f: &mut Formatter<'_>,
    align: &str,
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> fmt::Result {
    // A bar would end the cell.
    let rows = rows.map(|row| row.map(|cell| cell.replace('|', "\\|")));
    let rows: Vec<[String; N]> = std::iter::once(header.map(String::from)).chain(rows).collect();
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for (i, row) in rows.iter().enumerate() {
        for ((cell, width), side) in row.iter().zip(widths).zip(align.chars()) {
            if side == '<' { write!(f, "| {cell:<width$} ")? } else { write!(f, "| {cell:>width$} ")? }
        }
        writeln!(f, "|")?;
        if i == 0 {
            for (width, side) in widths.into_iter().zip(align.chars()) {
                let end = if side == '<' { '-' } else { ':' };
                write!(f, "|{}{end}", "-".repeat(width + 1))?;
            }
            writeln!(f, "|")?;
        }
    }
    Ok(())
}

/// Three digits, more before the point.
pub fn rate(giga: f64) -> String {
    let digits = if giga < 10.0 { 2 } else { usize::from(giga < 100.0) };
    format!("{giga:.digits$}")
}

/// Whole percents, tenths where there are few.
pub fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent < 9.95 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

fn spread(figure: Figure) -> String {
    percent((figure.high - figure.low) / figure.median)
}

pub fn size(bytes: usize) -> String {
    if bytes < 1 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) }
}

impl Display for Cache {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "L{} ({})", self.level, size(self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use quantloom_kernels::FORMATS;

    use super::*;
    use crate::{Machine, cells};

    /// What can't run is there all the same, and says why.
    #[test]
    fn cells_that_were_not_run() {
        let because = || Outcome::NotRun { not_run: "this CPU lacks vectors".into() };
        let cells: Vec<_> = cells(FORMATS).iter().map(|cell| Row::new(cell, because())).collect();
        let (machine, bandwidths, peaks) = (Machine::here(), Vec::new(), Vec::new());
        let effort = Effort { rounds: 9, batches: 15, batch_us: 1000 };
        let report = Report { machine, effort, bandwidths, peaks, cells };
        let (text, json) = (report.to_string(), serde_json::to_value(&report).unwrap());
        for (row, json) in report.cells.iter().zip(json["cells"].as_array().unwrap()) {
            let line = text.lines().find(|line| line.starts_with(&format!("| {} ", row.name)));
            let line = line.unwrap_or_else(|| panic!("{} is missing", row.name));
            assert!(line.contains("not run: this CPU lacks vectors"), "{line}");
            assert_eq!(json["not_run"], "this CPU lacks vectors", "{}", row.name);
            assert!(json.get("share").is_none(), "{}", row.name);
        }
    }

    #[test]
    fn numbers_keep_two_or_three_digits() {
        for (got, expected) in [
            (rate(0.0314), "0.03"),
            (rate(9.87), "9.87"),
            (rate(98.76), "98.8"),
            (rate(987.6), "988"),
            (percent(0.004), "0.4 %"),
            (percent(0.0996), "10 %"),
            (percent(1.0), "100 %"),
            (size(16 << 10), "16 KiB"),
            (size(960 << 20), "960 MiB"),
        ] {
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn bars_stay_inside_their_cell() {
        struct Table;
        impl Display for Table {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                table(f, "<>", ["a", "b"], [["x|y".into(), "10".into()]].into_iter())
            }
        }
        assert_eq!(Table.to_string(), "| a    |  b |\n|------|---:|\n| x\\|y | 10 |\n");
    }
}
