//! Tables in text: in Markdown, and as bare columns.

use std::array;
use std::fmt;
use std::iter;

#[cfg(feature = "cli")]
use crate::escape::one_line;

/// Where the cells of a column stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// A header and rows, all cells as wide as the widest in their column.
struct Table<const N: usize> {
    align: [Align; N],
    widths: [usize; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    fn new(
        align: [Align; N],
        header: [&str; N],
        rows: impl Iterator<Item = [String; N]>,
        escape: impl Fn(&str) -> String,
    ) -> Self {
        let rows = rows.map(|row| row.map(|cell| escape(&cell)));
        let rows: Vec<_> = iter::once(header.map(String::from)).chain(rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        Self { align, widths: array::from_fn(width), rows }
    }

    /// The cells of each row, a string each.
    fn rows(&self) -> impl Iterator<Item = [String; N]> {
        self.rows.iter().map(|row| {
            array::from_fn(|column| {
                let (cell, width) = (&row[column], self.widths[column]);
                // By hand: a width of more than 16 bits is nothing that `format!` takes.
                let padding = " ".repeat(width - cell.chars().count());
                match self.align[column] {
                    Align::Left => format!("{cell}{padding}"),
                    Align::Right => format!("{padding}{cell}"),
                }
            })
        })
    }
}

/// The longest cell in characters: names come from files, and every row is as wide as the widest.
#[cfg(feature = "cli")]
const MAX_CELL: usize = 200;

/// Writes columns two spaces apart. Control characters are escaped, so that a row is a line; long cells are cut.
#[cfg(feature = "cli")]
pub fn write<const N: usize>(
    out: &mut impl std::io::Write,
    align: [Align; N],
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> std::io::Result<()> {
    let escape = |text: &str| one_line(text, MAX_CELL);
    Table::new(align, header, rows, escape)
        .rows()
        .try_for_each(|row| writeln!(out, "{}", row.join("  ").trim_end()))
}

/// Writes a Markdown table that is also aligned where nothing renders it.
pub fn markdown<const N: usize>(
    out: &mut impl fmt::Write,
    align: [Align; N],
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> fmt::Result {
    // A bar would end the cell.
    let table = Table::new(align, header, rows, |cell| cell.replace('|', "\\|"));
    for (i, row) in table.rows().enumerate() {
        writeln!(out, "| {} |", row.join(" | "))?;
        if i == 0 {
            for (width, align) in table.widths.iter().zip(align) {
                write!(out, "|{}{}", "-".repeat(width + 1), if align == Align::Left { '-' } else { ':' })?;
            }
            writeln!(out, "|")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stay_in_their_columns() {
        let rows = || [["a|b", "1"], ["ä\n", "234"]].map(|row| row.map(String::from)).into_iter();
        let (align, header) = ([Align::Left, Align::Right], ["name", "n"]);
        let mut text = String::new();
        markdown(&mut text, align, header, rows().take(1)).unwrap();
        assert_eq!(text, "| name | n |\n|------|--:|\n| a\\|b | 1 |\n");
        #[cfg(feature = "cli")]
        {
            let mut bytes = Vec::new();
            write(&mut bytes, align, header, rows()).unwrap();
            assert_eq!(String::from_utf8(bytes).unwrap(), "name    n\na|b     1\nä\\n   234\n");
        }
    }
}
