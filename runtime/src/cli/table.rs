//! Aligned columns.

use std::array;
use std::io::{self, Write};

/// Where the cells of a column stand.
#[derive(Clone, Copy, PartialEq)]
pub enum Align {
    Left,
    Right,
}

/// Writes `rows` in columns as wide as their widest cell, two spaces apart. Control characters are escaped, so
/// that a row is a line.
pub fn write<const N: usize>(out: &mut impl Write, align: [Align; N], rows: &[[String; N]]) -> io::Result<()> {
    let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|cell| escape(cell))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = array::from_fn(width);
    for row in &rows {
        let mut line = String::new();
        for ((cell, align), width) in row.iter().zip(align).zip(widths) {
            match align {
                Align::Left => line += &format!("{cell:<width$}  "),
                Align::Right => line += &format!("{cell:>width$}  "),
            }
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn escape(cell: &str) -> String {
    cell.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}
