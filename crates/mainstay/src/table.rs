//! A table of text: columns as wide as their widest cell, the last one as wide as it likes.

use anstyle::Style;

use crate::terminal::{DIM, paint};

/// One cell.
pub(crate) struct Cell {
    text: String,
    style: Style,
    right: bool,
}

impl Cell {
    pub(crate) fn plain(text: String) -> Self {
        Self { text, style: Style::new(), right: false }
    }

    pub(crate) fn styled(text: String, style: Style) -> Self {
        Self { text, style, right: false }
    }

    pub(crate) fn right(text: String) -> Self {
        Self { text, style: Style::new(), right: true }
    }
}

/// Rows under a heading.
pub(crate) struct Table {
    heads: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(heads: &[&'static str]) -> Self {
        Self { heads: heads.to_vec(), rows: Vec::new() }
    }

    /// Adds a row of as many cells as there are headings.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.heads.len(), "a cell for each heading");
        self.rows.push(cells);
    }

    pub(crate) fn render(&self) -> String {
        let width = |column: usize| {
            let cells =
                self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.chars().count());
            cells.chain([self.heads[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.heads.len()).map(width).collect();
        let last = self.heads.len().saturating_sub(1);
        let rights: Vec<bool> = (0..self.heads.len())
            .map(|column| self.rows.first().is_some_and(|row| row[column].right))
            .collect();
        let mut out = String::new();
        for (column, head) in self.heads.iter().enumerate() {
            push(&mut out, head, DIM, rights[column], widths[column], column == last);
        }
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                push(&mut out, &cell.text, cell.style, cell.right, widths[column], column == last);
            }
        }
        out
    }
}

fn push(out: &mut String, text: &str, style: Style, right: bool, width: usize, last: bool) {
    let padding = " ".repeat(width.saturating_sub(text.chars().count()));
    let painted = if text.is_empty() { String::new() } else { paint(style, text) };
    match (last, right) {
        (true, _) => {
            out.push_str(&painted);
            out.truncate(out.trim_end_matches(' ').len());
            out.push('\n');
        }
        (false, true) => out.push_str(&format!("{padding}{painted}  ")),
        (false, false) => out.push_str(&format!("{painted}{padding}  ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["NAME", "PID", "WHY"]);
        table.row(vec![Cell::plain("web".into()), Cell::right("7".into()), Cell::plain("it runs".into())]);
        table.row(vec![
            Cell::plain("db-migrate".into()),
            Cell::right("12345".into()),
            Cell::plain(String::new()),
        ]);
        let text = anstream::adapter::strip_str(&table.render()).to_string();
        assert_eq!(text, "NAME          PID  WHY\nweb             7  it runs\ndb-migrate  12345\n");
    }
}
