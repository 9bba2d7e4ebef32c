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

    /// The text. The last column is folded where the whole would be wider than `limit`; where not even the others
    /// leave room for it, it stands below each row.
    pub(crate) fn render(&self, limit: Option<usize>) -> String {
        let width = |column: usize| {
            let cells =
                self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.chars().count());
            cells.chain([self.heads[column].len()]).max().unwrap_or(0)
        };
        let last = self.heads.len().saturating_sub(1);
        let mut widths: Vec<usize> = (0..self.heads.len()).map(width).collect();
        let taken = |widths: &[usize]| -> usize {
            widths.iter().take(last).filter(|width| **width > 0).map(|width| width + GAP.len()).sum()
        };
        // What says least goes first, from the right; the name and the state stay.
        for column in (2..last).rev() {
            if limit.is_some_and(|limit| taken(&widths) > limit) {
                widths[column] = 0;
            }
        }
        let rights: Vec<bool> = (0..self.heads.len())
            .map(|column| self.rows.first().is_some_and(|row| row[column].right))
            .collect();
        let fold = Fold::of(taken(&widths), limit);
        let mut out = String::new();
        for (column, head) in self.heads.iter().enumerate() {
            if column < last && widths[column] == 0 {
                // No room for it.
            } else if column < last {
                push(&mut out, head, DIM, rights[column], widths[column]);
            } else if fold.beside() {
                push_last(&mut out, head, DIM, &fold);
            } else {
                push_last(&mut out, "", DIM, &fold);
            }
        }
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                if column < last && widths[column] == 0 {
                    // No room for it.
                } else if column < last {
                    push(&mut out, &cell.text, cell.style, cell.right, widths[column]);
                } else {
                    push_last(&mut out, &cell.text, cell.style, &fold);
                }
            }
        }
        out
    }
}

/// Between two columns.
const GAP: &str = "  ";
/// The narrowest last column that reads well beside the others.
const NARROWEST: usize = 24;
/// Where the last column begins when it stands below its row.
const BELOW: usize = 4;

/// Where the last column goes.
enum Fold {
    /// Beside the others, as long as it likes.
    Never,
    /// Beside the others, which take this much, in lines of at most that.
    Beside(usize, usize),
    /// Below its row, in lines of at most this.
    Below(usize),
}

impl Fold {
    fn of(before: usize, limit: Option<usize>) -> Self {
        match limit {
            None => Self::Never,
            Some(limit) if limit >= before + NARROWEST => Self::Beside(before, limit - before),
            Some(limit) => Self::Below(limit.saturating_sub(BELOW).max(NARROWEST)),
        }
    }

    fn beside(&self) -> bool {
        !matches!(self, Self::Below(_))
    }
}

fn push(out: &mut String, text: &str, style: Style, right: bool, width: usize) {
    let padding = " ".repeat(width.saturating_sub(text.chars().count()));
    let painted = if text.is_empty() { String::new() } else { paint(style, text) };
    if right {
        out.push_str(&format!("{padding}{painted}{GAP}"));
    } else {
        out.push_str(&format!("{painted}{padding}{GAP}"));
    }
}

/// Ends the row.
fn push_last(out: &mut String, text: &str, style: Style, fold: &Fold) {
    let (lines, indent) = match *fold {
        Fold::Never => (vec![text.to_owned()], 0),
        Fold::Beside(indent, width) => (folded(text, width), indent),
        Fold::Below(width) => (folded(text, width), BELOW),
    };
    if !fold.beside() {
        out.truncate(out.trim_end_matches(' ').len());
        out.push('\n');
    }
    for (index, line) in lines.iter().enumerate() {
        if index > 0 || !fold.beside() {
            if line.is_empty() {
                continue;
            }
            out.push_str(&" ".repeat(indent));
        }
        if !line.is_empty() {
            out.push_str(&paint(style, line));
        }
        out.truncate(out.trim_end_matches(' ').len());
        out.push('\n');
    }
}

/// The text in lines of at most `width` characters, broken between words where there are any.
fn folded(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        if used > 0 && used + 1 + word.len() <= width {
            used += 1;
            if let Some(line) = lines.last_mut() {
                line.push(' ');
            }
        } else if used > 0 {
            lines.push(String::new());
            used = 0;
        }
        while word.len() > width {
            let rest = word.split_off(width);
            if let Some(line) = lines.last_mut() {
                line.extend(word);
            }
            lines.push(String::new());
            word = rest;
        }
        used += word.len();
        if let Some(line) = lines.last_mut() {
            line.extend(word);
        }
    }
    lines
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
        let text = anstream::adapter::strip_str(&table.render(None)).to_string();
        assert_eq!(text, "NAME          PID  WHY\nweb             7  it runs\ndb-migrate  12345\n");
    }

    #[test]
    fn the_last_column_is_folded_to_the_terminal() {
        let mut table = Table::new(&["NAME", "PID", "WHY"]);
        let why = "waiting for tcp 127.0.0.1:1: nobody listens there";
        table.row(vec![Cell::plain("web".into()), Cell::right("7".into()), Cell::plain(why.into())]);
        table.row(vec![Cell::plain("db".into()), Cell::right("8".into()), Cell::plain(String::new())]);
        let at = |width| anstream::adapter::strip_str(&table.render(Some(width))).to_string();
        assert_eq!(
            at(40),
            "NAME  PID  WHY\nweb     7  waiting for tcp 127.0.0.1:1:\n           nobody listens there\ndb      8\n"
        );
        assert_eq!(
            at(30),
            "NAME  PID\nweb     7\n    waiting for tcp\n    127.0.0.1:1: nobody\n    listens there\ndb      8\n"
        );
        let mut wide = Table::new(&["NAME", "STATE", "UP", "CPU", "WHY"]);
        wide.row(["web", "ready", "10s", "1.0%", "it runs"].map(|text| Cell::plain(text.into())).into());
        let text = anstream::adapter::strip_str(&wide.render(Some(18))).to_string();
        assert_eq!(
            text, "NAME  STATE  UP\nweb   ready  10s\n    it runs\n",
            "what finds no room is left out"
        );
        assert_eq!(folded("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
    }
}
