//! Aligned columns.

use std::fmt::{self, Display};

use unicode_width::UnicodeWidthStr as _;

/// On which side of its column a cell stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows of cells, shown in columns two spaces apart. Widths are terminal columns, not bytes. Cells must be printable
/// already: foreign strings go through [`Printable`](crate::base::Printable) first.
#[derive(Clone, Debug)]
pub struct Table {
    aligns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Creates a table with one alignment per column.
    pub fn new(aligns: impl Into<Vec<Align>>) -> Self {
        Self { aligns: aligns.into(), rows: Vec::new() }
    }

    /// Adds a row. Missing cells are empty.
    pub fn row<T: ToString>(&mut self, cells: impl IntoIterator<Item = T>) {
        let mut cells: Vec<String> = cells.into_iter().map(|cell| cell.to_string()).collect();
        cells.resize(self.aligns.len(), String::new());
        self.rows.push(cells);
    }

    /// Returns whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = |i: usize| self.rows.iter().map(|row| row[i].width()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.aligns.len()).map(column).collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, &width), align) in row.iter().zip(&widths).zip(&self.aligns) {
                if !line.is_empty() {
                    line.push_str("  ");
                }
                let pad = " ".repeat(width - cell.width());
                match align {
                    Align::Left => line.extend([cell.as_str(), &pad]),
                    Align::Right => line.extend([&pad, cell.as_str()]),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_by_terminal_width() {
        let mut table = Table::new([Align::Left, Align::Right, Align::Left]);
        table.row(["日本", "1 B", "a"]);
        table.row(["x", "200 B"]);
        assert_eq!(table.to_string(), "日本    1 B  a\nx     200 B\n");
        assert_eq!(Table::new([]).to_string(), "");
    }
}
