//! The table of bounds in `docs/limits.md`, drawn from the constants and settings of the crates: what is written there is what
//! stands in the code, with the words that stand beside it.

use crate::tidy::rust_text::split;
use crate::tidy::tree::Tree;

/// The page.
pub const PAGE: &str = "docs/limits.md";

const OPEN: &str = "<!-- bounds -->\n";
const CLOSE: &str = "<!-- /bounds -->";

/// The crates whose bounds a user meets, in reading order.
const CRATES: &[&str] = &["core", "traits", "node", "wal", "net", "raftwright", "kv"];

/// A bound: its name, its value where it has a fixed one, and what is said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bound {
    name: String,
    value: String,
    doc: String,
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
        tables += &format!("\n## `crates/{name}`\n\n| bound | value | meaning |\n|---|---|---|\n");
        for (path, bounds) in files {
            for bound in bounds {
                let file = path.strip_prefix(&dir).unwrap_or(path);
                let (name, value, doc) = (&bound.name, &bound.value, &bound.doc);
                tables += &format!("| `{name}`, [{file}](../{path}) | {value} | {doc} |\n");
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
    line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub ")).unwrap_or(line)
}

fn constant(line: &str) -> Option<(&str, String)> {
    let (name, rest) = without_visibility(line).strip_prefix("const ")?.split_once(':')?;
    let (_, value) = rest.split_once('=')?;
    name.ends_with("_MAX").then(|| (name, value.trim().trim_end_matches(';').to_owned()))
}

fn setting(line: &str) -> Option<(&str, String)> {
    let (name, rest) = without_visibility(line).split_once(':')?;
    let public_field = line.starts_with("pub ") && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    (public_field && name.ends_with("_max") && rest.ends_with(',')).then(|| (name, "a setting".to_owned()))
}

/// A comment as the cell of a table: no links, no bars. Without backticks too, for what they name there is looked for here.
fn plain(doc: &str) -> String {
    doc.trim().replace("[`", "").replace("`]", "").replace('`', "").replace('|', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "/// Most [`Thing`]s.\n/// Past it, busy.\n#[rustfmt::skip]\npub(crate) const THINGS_MAX: usize = 1 << 4;\n\
        const SILENT_MAX: u8 = 1;\n/// A name.\nconst NAME: u8 = 2;\nstruct S {\n    /// Most bytes.\n    pub bytes_max: usize,\n}\n\
        mod tests {\n/// No.\nconst TEST_MAX: u8 = 3;\n}";

    #[test]
    fn constants_and_settings_with_words_are_bounds() {
        let of = |name: &str, value: &str, doc: &str| Bound { name: name.into(), value: value.into(), doc: doc.into() };
        assert_eq!(
            bounds(CODE),
            [of("THINGS_MAX", "1 << 4", "Most Things. Past it, busy."), of("bytes_max", "a setting", "Most bytes.")]
        );
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
