//! What the architecture page names exists. Checked are the names in backticks that have a form which can be checked:
//!
//! * `crates/core/src/vote.rs`, `docs/` - a path from the root; `vote.rs` - a file of that name somewhere;
//! * `crates/core/tests/paper.rs::name` - a file and a function in it;
//! * `raftwright-core` - a package; `raftwright_core::Vote` - what is declared in that crate;
//! * `Vote`, `Vote::commit`, `MAX_SIZE`, `declare_raft_types!` - a type, its member, a constant, a macro of ours.
//!
//! * `sm::Worker` - a module of ours, and what it declares.
//!
//! Names of others are written with their path (`tokio::sync::Notify`) and are not checked, nor are words in lower case.

use std::collections::{BTreeMap, BTreeSet};

use super::Complaint;
use super::rust_text::{split, words};
use super::tree::Tree;

/// The pages whose names are checked.
const PAGES: &[&str] =
    &["ARCHITECTURE.md", "docs/limits.md", "docs/caveats.md", "docs/features.md", "docs/known-bugs.md"];

/// Checks every page that exists.
pub fn check(tree: &Tree) -> Vec<Complaint> {
    let names = Names::of(tree);
    PAGES
        .iter()
        .filter_map(|page| Some((*page, tree.text(page)?)))
        .flat_map(|(page, text)| check_page(tree, &names, page, text))
        .collect()
}

fn check_page(tree: &Tree, names: &Names, page: &str, text: &str) -> Vec<Complaint> {
    let mut found = Vec::new();
    for (line, name) in quoted(text) {
        if !names.knows(tree, name) {
            found.push(Complaint::at(page, line, format!("`{name}` does not exist")));
        }
    }
    found
}

/// What stands between backticks, outside of fenced blocks, with its line.
pub fn quoted(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (i, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            found.extend(line.split('`').skip(1).step_by(2).map(|name| (i + 1, name)));
        }
    }
    found
}

/// What the Rust files declare.
#[derive(Debug, Default)]
struct Names {
    /// Packages by name, with the directory of each.
    packages: BTreeMap<String, String>,
    /// Types, traits, constants, macros, modules and functions, with the directories of the packages that declare them.
    declared: BTreeMap<String, BTreeSet<String>>,
    /// Crates of others, by which a path of theirs begins.
    foreign: BTreeSet<String>,
    /// Every word in the code of a package.
    used: BTreeMap<String, BTreeSet<String>>,
}

/// Whether the code declares a function of that name, generic or not.
fn declares_fn(code: &str, name: &str) -> bool {
    ['(', '<'].iter().any(|behind| code.contains(&format!("fn {name}{behind}")))
}

/// Words after which a name is declared.
const DECLARING: &[&str] = &["struct", "enum", "trait", "type", "const", "static", "fn", "mod", "macro_rules", "union"];

impl Names {
    fn of(tree: &Tree) -> Self {
        let mut names = Self::default();
        let manifest: toml::Table = tree.text("Cargo.toml").and_then(|text| text.parse().ok()).unwrap_or_default();
        let table = manifest.get("workspace").and_then(|w| w.get("dependencies")).and_then(toml::Value::as_table);
        let listed = table.into_iter().flat_map(toml::Table::keys).map(|name| name.replace('-', "_"));
        names.foreign = ["std", "core", "alloc", "clippy"].into_iter().map(str::to_owned).chain(listed).collect();
        for (path, text) in tree.files("Cargo.toml") {
            let package = text.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
            if let (Some(package), Some(dir)) = (package, path.strip_suffix("Cargo.toml")) {
                names.packages.insert(package.to_owned(), dir.to_owned());
            }
        }
        for (path, text) in tree.rust() {
            let Some(dir) =
                names.packages.values().filter(|dir| path.starts_with(dir.as_str())).max_by_key(|dir| dir.len())
            else {
                continue;
            };
            let dir = dir.clone();
            // A tests directory declares helpers, not the architecture.
            if !path.contains("/src/") {
                continue;
            }
            let code = split(text).code;
            let mut declares = false;
            for (_, word) in words(&code) {
                if declares {
                    names.declared.entry(word.to_owned()).or_default().insert(dir.clone());
                }
                // `const fn` declares a function: the word after `const` is then no name, and harmless as one.
                declares = DECLARING.contains(&word);
                names.used.entry(dir.clone()).or_default().insert(word.to_owned());
            }
        }
        names
    }

    fn knows(&self, tree: &Tree, name: &str) -> bool {
        // Generic arguments and call parentheses are for the reader.
        let name = name.split_once(['<', '(']).map_or(name, |(head, _)| head);
        if name.is_empty()
            || name.contains(|c: char| c.is_whitespace() || "*{}$=,;\"|&@[]".contains(c))
            || name.starts_with(['/', '-', '.', '~'])
        {
            return true;
        }
        if let Some((file, function)) = name.split_once(".rs::") {
            let text = tree.text(&format!("{file}.rs"));
            return text.is_some_and(|text| declares_fn(&split(text).code, function));
        }
        if name.contains('/') {
            return tree.exists(name);
        }
        if [".rs", ".md", ".toml", ".sh"].iter().any(|ending| name.ends_with(ending)) {
            return tree.has_file_named(name);
        }
        if name.starts_with("raftwright-") {
            return self.packages.contains_key(name);
        }
        self.knows_path(name)
    }

    fn knows_path(&self, name: &str) -> bool {
        let parts: Vec<&str> = name.trim_end_matches('!').split("::").collect();
        let (first, rest) = (parts[0], &parts[1..]);
        if let Some(dir) = self.crate_dir(first) {
            return rest.iter().all(|part| self.in_package(dir, part));
        }
        let is_type = first.starts_with(|c: char| c.is_uppercase()) && !(rest.is_empty() && first.len() == 1);
        let is_macro = rest.is_empty() && name.ends_with('!');
        let is_module = !rest.is_empty() && !self.foreign.contains(first);
        if !is_type && !is_macro && !is_module {
            return true;
        }
        let Some(dirs) = self.declared.get(first) else { return false };
        rest.iter().all(|part| dirs.iter().any(|dir| self.in_package(dir, part)))
    }

    /// The directory of the package whose library has that name.
    fn crate_dir(&self, library: &str) -> Option<&str> {
        if !library.starts_with("raftwright_") {
            return None;
        }
        self.packages.get(&library.replace('_', "-")).map(String::as_str)
    }

    /// Whether the package declares it, or has it as a field or variant.
    fn in_package(&self, dir: &str, word: &str) -> bool {
        self.declared.get(word).is_some_and(|dirs| dirs.contains(dir))
            || self.used.get(dir).is_some_and(|used| used.contains(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(page: &str) -> Vec<String> {
        let tree = Tree::of(&[
            ("ARCHITECTURE.md", page),
            ("Cargo.toml", "[workspace.dependencies]\ntokio = \"1\" # tasks and timers\n"),
            ("crates/core/Cargo.toml", "[package]\nname = \"raftwright-core\"\n"),
            (
                "crates/core/src/vote.rs",
                "mod vote; pub const TERM_MAX: u64 = 9; /// A Ballot.\npub enum Vote { Cast } impl Vote { pub fn commit() {} }\nmacro_rules! number {}",
            ),
            ("crates/core/tests/paper.rs", "fn a_rule() {} fn any<T>() {} struct Helper;"),
            ("docs/wal.md", ""),
        ]);
        check(&tree).into_iter().map(|complaint| complaint.what).collect()
    }

    #[test]
    fn what_exists_may_be_named() {
        let page = "`Vote` `Vote<L>` `Vote::Cast` `Vote::commit()` `TERM_MAX` `number!` `raftwright-core` `raftwright_core::Vote`
            `raftwright_core::vote` `vote::Vote` `crates/core/src/vote.rs` `crates/core` `docs/` `wal.md` `crates/core/tests/paper.rs::a_rule`
            `crates/core/tests/paper.rs::any`";
        assert_eq!(complaints(page), Vec::<String>::new());
    }

    #[test]
    fn names_of_others_and_plain_words_are_not_checked() {
        let page = "`tokio::sync::Notify` `tokio::select!` `fdatasync` `cargo test --workspace` `/metrics` `T` `crates/*/src` `--id`\n```\n`Gone`\n```";
        assert_eq!(complaints(page), Vec::<String>::new());
    }

    #[test]
    fn what_does_not_exist_is_found() {
        for name in [
            "Ballot",
            "Vote::Spoilt",
            "Helper",
            "TERM_MIN",
            "gone!",
            "vote::Gone",
            "gone::Vote",
            "raftwright-gone",
            "raftwright_core::Gone",
            "crates/gone",
            "crates/core/src/gone.rs",
            "gone.md",
            "crates/core/tests/paper.rs::gone",
            "crates/core/tests/gone.rs::a_rule",
        ] {
            assert_eq!(complaints(&format!("see `{name}`")), [format!("`{name}` does not exist")]);
        }
    }
}
