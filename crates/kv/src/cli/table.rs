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

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let columns: Vec<(usize, bool)> = self
            .headings
            .iter()
            .enumerate()
            .map(|(i, heading)| {
                let cells = || self.rows.iter().filter_map(move |row| row.get(i));
                let width = cells().map(|cell| cell.chars().count()).max().unwrap_or(0).max(heading.len());
                let numeric = cells().all(|cell| cell == "-" || cell.parse::<u64>().is_ok());
                (width, numeric)
            })
            .collect();
        let line = |f: &mut Formatter<'_>, cells: &mut dyn Iterator<Item = &str>| {
            let mut text = String::new();
            for (cell, (width, numeric)) in cells.zip(&columns) {
                let cell = if *numeric { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") };
                text.push_str(&cell);
            }
            writeln!(f, "{}", text.trim_end())
        };
        line(f, &mut self.headings.iter().copied())?;
        self.rows.iter().try_for_each(|row| line(f, &mut row.iter().map(String::as_str)))
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
}
