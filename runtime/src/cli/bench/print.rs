//! Measurements in the forms of llama-bench.

use std::io::{self, Write};

use clap::ValueEnum;

use crate::bench::llama_bench::{Measurement, Summary};
use crate::table::Align;

/// A form of output.
#[derive(Clone, Copy, ValueEnum)]
pub enum Format {
    Md,
    Csv,
    Json,
    Jsonl,
}

/// A column of the Markdown table. Rows are printed as they come, so that its width can't wait for its cells.
pub struct Column {
    pub name: &'static str,
    width: usize,
    align: Align,
    cell: fn(&Summary) -> String,
}

pub const COLUMNS: [Column; 9] = [
    Column { name: "model", width: 30, align: Align::Left, cell: |s| s.model_type.clone() },
    Column { name: "size", width: 10, align: Align::Right, cell: |s| size(s.model_size) },
    Column { name: "params", width: 10, align: Align::Right, cell: |s| params(s.model_n_params) },
    Column { name: "backend", width: 10, align: Align::Left, cell: |s| s.backends.into() },
    Column { name: "threads", width: 7, align: Align::Right, cell: |s| s.n_threads.to_string() },
    Column { name: "type_k", width: 6, align: Align::Right, cell: |s| (&*s.type_k).into() },
    Column { name: "type_v", width: 6, align: Align::Right, cell: |s| (&*s.type_v).into() },
    Column { name: "test", width: 15, align: Align::Right, cell: |s| s.test().to_string() },
    Column {
        name: "t/s",
        width: 20,
        align: Align::Right,
        cell: |s| format!("{:.2} ± {:.2}", s.avg_ts, s.stddev_ts),
    },
];

/// Prints measurements one after the other. JSON is one array and comes at the end.
pub enum Printer<W: Write> {
    Md(W, Vec<Column>),
    Csv(Box<csv::Writer<W>>),
    Json(W, Vec<Measurement>),
    Jsonl(W),
}

impl<W: Write> Printer<W> {
    /// Prints what stands before the first; `columns` are those of Markdown.
    pub fn new(mut out: W, format: Format, columns: Vec<Column>) -> io::Result<Self> {
        Ok(match format {
            Format::Md => {
                row(&mut out, &columns, |column| column.name.into())?;
                row(&mut out, &columns, |column| match column.align {
                    Align::Left => "-".repeat(column.width),
                    Align::Right => "-".repeat(column.width - 1) + ":",
                })?;
                Self::Md(out, columns)
            }
            Format::Csv => Self::Csv(Box::new(csv::Writer::from_writer(out))),
            Format::Json => Self::Json(out, Vec::new()),
            Format::Jsonl => Self::Jsonl(out),
        })
    }

    pub fn print(&mut self, measurement: Measurement) -> io::Result<()> {
        match self {
            Self::Md(out, columns) => row(out, columns, |column| (column.cell)(&measurement.summary)),
            Self::Csv(out) => {
                out.serialize(measurement.summary)?;
                out.flush()
            }
            Self::Json(_, measurements) => {
                measurements.push(measurement);
                Ok(())
            }
            Self::Jsonl(out) => writeln!(out, "{}", serde_json::to_string(&measurement)?),
        }
    }

    /// Prints what stands after the last.
    pub fn finish(self, isa: &str) -> io::Result<()> {
        match self {
            Self::Md(mut out, _) => writeln!(out, "\nbuild: quantloom {} ({isa})", env!("CARGO_PKG_VERSION")),
            Self::Json(mut out, measurements) => {
                writeln!(out, "{}", serde_json::to_string_pretty(&measurements)?)
            }
            Self::Csv(_) | Self::Jsonl(_) => Ok(()),
        }
    }
}

fn row(out: &mut impl Write, columns: &[Column], cell: impl Fn(&Column) -> String) -> io::Result<()> {
    let cells = columns.iter().map(|column| {
        let (cell, width) = (cell(column), column.width);
        match column.align {
            Align::Left => format!(" {cell:<width$} |"),
            Align::Right => format!(" {cell:>width$} |"),
        }
    });
    writeln!(out, "|{}", cells.collect::<String>())
}

fn size(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 1024.0 { format!("{mib:.2} MiB") } else { format!("{:.2} GiB", mib / 1024.0) }
}

fn params(n: u64) -> String {
    let millions = n as f64 / 1e6;
    if millions < 1000.0 { format!("{millions:.2} M") } else { format!("{:.2} B", millions / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_params_have_the_units_of_llama_bench() {
        for (bytes, expected) in [
            (0, "0.00 MiB"),
            (636_000_000, "606.54 MiB"),
            ((1 << 30) - 1, "1024.00 MiB"),
            (1 << 30, "1.00 GiB"),
        ] {
            assert_eq!(size(bytes), expected, "{bytes}");
        }
        for (n, expected) in [(134_515_008, "134.52 M"), (1_100_048_384, "1.10 B"), (6_738_415_616, "6.74 B")]
        {
            assert_eq!(params(n), expected, "{n}");
        }
    }
}
