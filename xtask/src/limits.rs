//! The table of bounds in `docs/limits.md`, drawn from the constants and settings of the crates: what is written there is what
//! stands in the code, with the words that stand beside it. Which test shows what happens at a bound is written on the page
//! itself; drawing it anew keeps that column.

use std::collections::BTreeMap;

use crate::tidy::rust_text::split;
use crate::tidy::tree::Tree;

/// The page.
pub const PAGE: &str = "docs/limits.md";

const OPEN: &str = "<!-- bounds -->\n";
const CLOSE: &str = "<!-- /bounds -->";

/// The crates whose bounds a user meets, in reading order.
const CRATES: &[&str] = &["core", "traits", "node", "wal", "net", "raftwright", "kv"];

/// A bound: its name, its value (`None` for a setting), and what is said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bound {
    name: String,
    value: Option<String>,
    doc: String,
}

/// The test of each row that has one, by the row's first cell.
fn tests(page: &str) -> BTreeMap<&str, &str> {
    let row = |line: &'_ str| -> Option<(usize, usize)> {
        let head = line.find("](../").and_then(|at| line.get(at..)?.find(" |").map(|end| at + end + 2))?;
        (line.matches(" | ").count() == 3).then_some((head, line.rfind(" | ")? + 3))
    };
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.filter_map(|line| row(line).map(|(head, test)| (&line[..head], line[test..].trim_end_matches(" |")))).collect()
}

/// What settings are if nobody says otherwise, by file and name.
fn defaults(tree: &Tree) -> BTreeMap<(&str, &str), &str> {
    let mut found = BTreeMap::new();
    for (path, text) in tree.rust().filter(|(_, text)| text.contains("impl Default for ")) {
        let mut inside = false;
        for line in text.lines() {
            inside = match line {
                "}" => false,
                _ => inside || line.starts_with("impl Default for "),
            };
            let field = line.trim().trim_end_matches(',').split_once(": ");
            if let Some((name, value)) = field.filter(|(name, _)| inside && name.ends_with("_max")) {
                found.insert((path, name), value);
            }
        }
    }
    found
}

/// The default of a setting. One that is another's is looked up there.
fn default_of(defaults: &BTreeMap<(&str, &str), &str>, path: &str, name: &str) -> String {
    let Some(value) = defaults.get(&(path, name)) else { return "none: it must be given".to_owned() };
    match value.split_once('.') {
        Some((of, field)) if of.bytes().all(|b| b.is_ascii_lowercase()) => {
            let field = field.trim_end_matches(".as_millis()");
            let there = defaults.iter().find(|((at, name), _)| *at != path && *name == field);
            there.map_or_else(|| (*value).to_owned(), |(_, value)| (*value).to_owned())
        }
        Some(_) | None => (*value).to_owned(),
    }
}

/// The page with its tables as they should be now.
///
/// # Errors
/// A mark is missing.
pub fn refreshed(page: &str, tree: &Tree) -> Result<String, String> {
    let missing = || format!("{PAGE}: the marks `{}` and `{CLOSE}` are missing", OPEN.trim_end());
    let (before, rest) = page.split_once(OPEN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(CLOSE).ok_or_else(missing)?;
    let mut tables = String::new();
    let tests = tests(page);
    let defaults = defaults(tree);
    for name in CRATES {
        let dir = format!("crates/{name}/src/");
        let files: Vec<(&str, Vec<Bound>)> = tree
            .rust()
            .filter(|(path, _)| path.starts_with(&dir) && !path.ends_with("tests.rs") && !path.contains("/testing/"))
            .map(|(path, text)| (path, bounds(text)))
            .filter(|(_, bounds)| !bounds.is_empty())
            .collect();
        if files.is_empty() {
            continue;
        }
        tables += &format!(
            "\n## `crates/{name}`\n\n| bound | value, or default of a setting | what it is, and what happens there | test |\n|---|---|---|---|\n"
        );
        for (path, bounds) in files {
            for bound in bounds {
                let file = path.strip_prefix(&dir).unwrap_or(path);
                let (name, doc) = (&bound.name, &bound.doc);
                let value = match bound.value.as_deref() {
                    Some(value) => value.to_owned(),
                    None => default_of(&defaults, path, name),
                };
                let head = format!("| `{name}`, [{file}](../{path}) |");
                let test = tests.get(head.as_str()).copied().unwrap_or("-");
                tables += &format!("{head} {value} | {doc} | {test} |\n");
            }
        }
    }
    Ok(format!("{before}{OPEN}{tables}\n{CLOSE}{after}"))
}

/// The bounds of a file: constants whose name ends in `_MAX`, and fields that end in `_max`. Those without a word about them
/// are details of their function.
fn bounds(text: &str) -> Vec<Bound> {
    let code = split(text).code;
    let mut found = Vec::new();
    let mut doc = String::new();
    for (line, code_line) in text.lines().zip(code.lines()) {
        if code_line.trim() == "mod tests {" {
            break;
        }
        let trimmed = line.trim();
        if let Some(words) = trimmed.strip_prefix("///") {
            doc.push(' ');
            doc.push_str(words.trim());
            continue;
        }
        if let Some((name, value)) = constant(trimmed).or_else(|| setting(trimmed))
            && !doc.trim().is_empty()
        {
            found.push(Bound { name: name.to_owned(), value, doc: plain(&doc) });
        }
        if !trimmed.starts_with("#[") {
            doc.clear();
        }
    }
    found
}

fn without_visibility(line: &str) -> &str {
    let restricted = line.strip_prefix("pub(").and_then(|rest| rest.split_once(") ")).map(|(_, rest)| rest);
    restricted.or_else(|| line.strip_prefix("pub ")).unwrap_or(line)
}

fn constant(line: &str) -> Option<(&str, Option<String>)> {
    let (name, rest) = without_visibility(line).strip_prefix("const ")?.split_once(':')?;
    let (_, value) = rest.split_once('=')?;
    name.ends_with("_MAX").then(|| (name, Some(value.trim().trim_end_matches(';').to_owned())))
}

fn setting(line: &str) -> Option<(&str, Option<String>)> {
    let (name, rest) = without_visibility(line).split_once(':')?;
    let public_field = line.starts_with("pub ") && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    (public_field && name.ends_with("_max") && rest.ends_with(',')).then_some((name, None))
}

/// A comment as the cell of a table: no links, no bars. Without backticks too, for what they name there is looked for here.
fn plain(doc: &str) -> String {
    doc.trim().replace("[`", "").replace("`]", "").replace('`', "").replace('|', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "/// Most [`Thing`]s.\n/// Past it, busy.\n#[rustfmt::skip]\npub(crate) const THINGS_MAX: usize = 1 << 4;\n\
        const SILENT_MAX: u8 = 1;\n/// Here.\npub(super) const NEAR_MAX: u8 = 1;\n/// A name.\nconst NAME: u8 = 2;\nstruct S {\n    /// Most bytes.\n    pub bytes_max: usize,\n}\n\
        mod tests {\n/// No.\nconst TEST_MAX: u8 = 3;\n}";

    #[test]
    fn constants_and_settings_with_words_are_bounds() {
        let of = |name: &str, value: Option<&str>, doc: &str| Bound {
            name: name.into(),
            value: value.map(Into::into),
            doc: doc.into(),
        };
        assert_eq!(
            bounds(CODE),
            [
                of("THINGS_MAX", Some("1 << 4"), "Most Things. Past it, busy."),
                of("NEAR_MAX", Some("1"), "Here."),
                of("bytes_max", None, "Most bytes.")
            ]
        );
    }

    #[test]
    fn defaults_are_found_also_elsewhere_and_tests_are_kept() {
        let other = "impl Default for Other {\n    fn default() -> Self {\n        Self {\n            size_max: 7,\n        }\n    }\n}\n\
            /// Here.\nstruct T {\n    /// Most of it.\n    pub bytes_max: usize,\n}\n\
            impl Default for T {\n    fn default() -> Self {\n        Self {\n            bytes_max: other.size_max,\n        }\n    }\n}\n";
        let there = "impl Default for U {\n    fn default() -> Self {\n        Self {\n            size_max: 9 << 2,\n        }\n    }\n}\n";
        let tree = Tree::of(&[("crates/node/src/a.rs", other), ("crates/core/src/b.rs", there)]);
        let page = format!("{OPEN}{CLOSE}");
        let fresh = refreshed(&page, &tree).unwrap();
        assert!(
            fresh.contains("| `bytes_max`, [a.rs](../crates/node/src/a.rs) | 9 << 2 | Most of it. | - |"),
            "{fresh}"
        );
        let shown = fresh.replace("Most of it. | - |", "Most of it. | `crates/a.rs::b`, `c` |");
        assert_eq!(refreshed(&shown, &tree).unwrap(), shown);
    }

    #[test]
    fn the_tables_replace_what_was_there_and_nothing_else() {
        let tree = Tree::of(&[("crates/node/src/a.rs", CODE), ("crates/sim/src/b.rs", CODE)]);
        let page = format!("# Limits\n{OPEN}old\n{CLOSE}\nend\n");
        let fresh = refreshed(&page, &tree).unwrap();
        assert!(fresh.starts_with("# Limits\n") && fresh.ends_with("\nend\n") && !fresh.contains("old"));
        assert_eq!(fresh.matches("THINGS_MAX").count(), 1);
        assert_eq!(refreshed(&fresh, &tree).unwrap(), fresh);
        assert!(refreshed("no marks", &tree).is_err());
    }
}
