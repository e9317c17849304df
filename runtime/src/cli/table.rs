//! Aligned columns.

use std::array;
use std::io::{self, Write};
use std::iter;

/// Where the cells of a column stand.
#[derive(Clone, Copy)]
pub enum Align {
    Left,
    Right,
}

/// Writes a header and rows in columns as wide as their widest cell, two spaces apart. Control characters are
/// escaped, so that a row is a line.
pub fn write<const N: usize>(
    out: &mut impl Write,
    align: [Align; N],
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> io::Result<()> {
    let rows = rows.map(|row| row.map(|cell| escape(&cell)));
    let rows: Vec<_> = iter::once(header.map(String::from)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = array::from_fn(width);
    for row in &rows {
        let cells = row.iter().zip(align).zip(widths).map(|((cell, align), width)| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

fn escape(cell: &str) -> String {
    cell.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}
