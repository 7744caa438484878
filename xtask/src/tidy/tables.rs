//! The tables of features and of known bugs are true: each row names a test, and the test exists (which the rule about
//! names checks). A row without a test is a wish, and wishes do not stand in these tables.

use super::Complaint;
use super::architecture::quoted;
use super::tree::Tree;
use crate::rows::is_test;

/// The pages with such tables.
const PAGES: &[&str] = &["docs/features.md", "docs/known-bugs.md"];

/// Checks every page that exists.
pub fn check(tree: &Tree) -> Vec<Complaint> {
    PAGES
        .iter()
        .filter_map(|page| Some((*page, tree.text(page)?)))
        .flat_map(|(page, text)| check_page(page, text))
        .collect()
}

fn check_page(page: &str, text: &str) -> Vec<Complaint> {
    let rows = text.lines().enumerate().filter(|(i, line)| line.starts_with('|') && !is_head(text, *i));
    let without = rows.filter(|(_, line)| !quoted(line).iter().any(|(_, name)| is_test(name)));
    without.map(|(i, _)| Complaint::at(page, i + 1, "a row without a test: name the one that shows it")).collect()
}

/// The head of a table is the row above the rule, and the rule itself.
fn is_head(text: &str, i: usize) -> bool {
    let is_rule = |line: Option<&str>| line.is_some_and(|line| line.starts_with("|-") || line.starts_with("| -"));
    is_rule(text.lines().nth(i)) || is_rule(text.lines().nth(i + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_a_test_is_found() {
        let page = |rows: &str| check_page("x", &format!("Text.\n\n| what | test |\n|---|---|\n{rows}\n")).len();
        assert_eq!(
            page(
                "| a | `crates/a/tests/b.rs::c` |\n| b | `examples/x.sh` |\n| c | `crates/core/tests/scripts/d.txt` |"
            ),
            0
        );
        assert_eq!(page("| a | soon |"), 1);
        assert_eq!(page("| a | `crates/a/src/b.rs` |\n| b | `crates/a/tests/b.rs::c` |"), 1);
    }
}
