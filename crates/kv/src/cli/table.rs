//! Columns.

use std::fmt::{Display, Formatter};

/// A table: a row of headings, and rows. Numbers stand to the right.
#[derive(Clone, Debug)]
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new(headings: impl Into<Vec<&'static str>>) -> Self {
        Self { headings: headings.into(), rows: Vec::new() }
    }

    /// Adds a row. Cells beyond the headings are not shown; missing ones are blank.
    pub fn row(&mut self, cells: impl Into<Vec<String>>) {
        self.rows.push(cells.into());
    }

    /// The cells without headings, with a blank between them.
    pub fn simple(&self) -> String {
        self.rows.iter().map(|row| row.join(" ") + "\n").collect()
    }
}

/// Most characters of a cell that a table shows. Whoever wants all of it asks for another format.
const CELL_CHARS_MAX: usize = 64;

/// A cell as it is shown: shortened, and without characters that would move the cursor of a terminal or worse.
fn shown(cell: &str) -> String {
    let mut chars = cell.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    let mut text: String = chars.by_ref().take(CELL_CHARS_MAX).collect();
    if chars.next().is_some() {
        text.push('\u{2026}');
    }
    text
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let headings: Vec<String> = self.headings.iter().map(|heading| (*heading).to_owned()).collect();
        let rows: Vec<Vec<String>> = self.rows.iter().map(|row| row.iter().map(|cell| shown(cell)).collect()).collect();
        let column = |i: usize| rows.iter().filter_map(move |row| row.get(i));
        let columns: Vec<(usize, bool)> = headings
            .iter()
            .enumerate()
            .map(|(i, heading)| {
                let width = column(i).chain([heading]).map(|cell| cell.chars().count()).max().unwrap_or(0);
                (width, column(i).all(|cell| cell == "-" || cell.parse::<u64>().is_ok()))
            })
            .collect();
        for row in std::iter::once(&headings).chain(&rows) {
            let mut line = String::new();
            for (cell, (width, numeric)) in row.iter().zip(&columns) {
                let cell = if *numeric { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") };
                line.push_str(&cell);
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn numbers_stand_right_and_words_left() {
        let mut table = Table::new(["ID", "ROLE", "LAG"]);
        table.row(["1".into(), "leader".into(), "-".into()]);
        table.row(["12".into(), "x".into(), "105".into()]);
        assert_eq!(table.to_string(), "ID  ROLE    LAG\n 1  leader    -\n12  x       105\n");
        assert_eq!(table.simple(), "1 leader -\n12 x 105\n");
    }

    #[test]
    fn a_long_or_wild_cell_does_not_break_the_table() {
        let mut table = Table::new(["KEY", "VALUE"]);
        table.row(["a".into(), "v".repeat(1 << 20)]);
        table.row(["b".into(), "\u{1b}[2J\n".into()]);
        let text = table.to_string();
        let mut lines = text.lines().skip(1);
        assert_eq!(lines.next().unwrap(), format!("a    {}\u{2026}", "v".repeat(64)));
        assert_eq!(lines.next().unwrap(), "b    \u{fffd}[2J\u{fffd}");
    }
}
