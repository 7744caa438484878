//! Rules about the text of Rust files.

use super::Complaint;
use super::rust_text::split;
use super::tree::Tree;

/// A file longer than this holds more than one noun.
const LINES_MAX: usize = 800;

/// Files that are longer for a reason.
const LONG: &[(&str, &str)] = &[];

/// Crates that others link: they say what they have to say through values and `tracing`, never on a terminal.
const LIBRARIES: &[&str] = &[
    "crates/core/src/",
    "crates/traits/src/",
    "crates/node/src/",
    "crates/wal/src/",
    "crates/net/src/",
    "crates/raftwright/src/",
];

/// Macros that no commit contains.
const LEFTOVERS: &[&str] = &["dbg!", "todo!", "unimplemented!"];

/// Macros that print.
const PRINTS: &[&str] = &["println!", "eprintln!", "print!", "eprint!"];

/// Checks every Rust file.
pub fn check(tree: &Tree) -> Vec<Complaint> {
    tree.rust().flat_map(|(path, text)| check_file(path, text)).collect()
}

fn check_file(path: &str, text: &str) -> Vec<Complaint> {
    let code = split(text).code;
    let mut found = leftovers(path, &code);
    found.extend(ignored_tests(path, &code));
    found.extend(unbiased_selects(path, &code));
    found.extend(too_long(path, text));
    if path.starts_with("crates/core/src/") {
        found.extend(names_std(path, text));
    }
    found
}

fn leftovers(path: &str, code: &str) -> Vec<Complaint> {
    let library = LIBRARIES.iter().any(|dir| path.starts_with(dir));
    let mut found = Vec::new();
    for (i, line) in code.lines().enumerate() {
        for name in LEFTOVERS.iter().chain(PRINTS.iter().filter(|_| library)) {
            if calls(line, name) {
                found.push(Complaint::at(path, i + 1, format!("`{name}` is left over")));
            }
        }
    }
    found
}

/// Whether a macro of exactly this name is called: `println!` is not in `eprintln!`.
fn calls(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// A test that does not run shows nothing.
fn ignored_tests(path: &str, code: &str) -> Vec<Complaint> {
    let flat = |line: &str| line.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let ignores = |line: &str| ["#[ignore]", "#[ignore="].iter().any(|attribute| flat(line).contains(attribute));
    let lines = code.lines().enumerate().filter(|(_, line)| ignores(line));
    lines.map(|(i, _)| Complaint::at(path, i + 1, "a test is ignored: mend it or delete it")).collect()
}

/// A `select!` without `biased` polls its branches in random order: no run could be repeated.
fn unbiased_selects(path: &str, code: &str) -> Vec<Complaint> {
    let mut found = Vec::new();
    if !path.contains("/src/") {
        return found;
    }
    for (at, call) in code.match_indices("select!") {
        let body = code[at + call.len()..].trim_start().trim_start_matches(['{', '(']).trim_start();
        if !body.starts_with("biased;") {
            let line = code[..at].lines().count().max(1);
            found.push(Complaint::at(
                path,
                line,
                "`select!` must begin with `biased;`: a random order cannot be repeated",
            ));
        }
    }
    found
}

fn too_long(path: &str, text: &str) -> Vec<Complaint> {
    let lines = text.lines().count();
    if lines <= LINES_MAX || LONG.iter().any(|(long, _)| *long == path) {
        return Vec::new();
    }
    vec![Complaint::about(path, format!("has {lines} lines, more than {LINES_MAX}: it holds more than one noun"))]
}

/// The core is what builds anywhere. Not even a comment in it needs the standard library.
fn names_std(path: &str, text: &str) -> Vec<Complaint> {
    let lines = text.lines().enumerate().filter(|(_, line)| line.contains("std::"));
    lines
        .map(|(i, _)| Complaint::at(path, i + 1, "the core names the standard library: use `core` or `alloc`"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: &str) -> usize {
        check_file(path, text).len()
    }

    #[test]
    fn leftovers_are_found_in_code_alone() {
        assert_eq!(complaints("crates/kv/src/a.rs", "fn f() { dbg!(1); }"), 1);
        assert_eq!(complaints("crates/kv/tests/a.rs", "fn f() { todo!() }"), 1);
        assert_eq!(complaints("crates/kv/src/a.rs", "// dbg!(1)\nlet a = \"todo!()\"; my_dbg!();"), 0);
    }

    #[test]
    fn libraries_do_not_print() {
        assert_eq!(complaints("crates/node/src/a.rs", "fn f() { println!(); eprintln!(); }"), 2);
        assert_eq!(complaints("crates/kv/src/a.rs", "fn f() { println!(); }"), 0);
        assert_eq!(complaints("crates/node/tests/a.rs", "fn f() { println!(); }"), 0);
        assert_eq!(complaints("crates/node/src/a.rs", "/// println!()\nfn f() {}"), 0);
    }

    #[test]
    fn ignored_tests_are_found() {
        assert_eq!(complaints("a.rs", "#[test]\n#[ignore]\nfn f() {}"), 1);
        assert_eq!(complaints("a.rs", "#[ignore = \"slow\"]\nfn f() {}"), 1);
        assert_eq!(complaints("a.rs", "// #[ignore]\n#[must_use]\nfn f() {}"), 0);
    }

    #[test]
    fn a_select_in_random_order_is_found() {
        assert_eq!(complaints("crates/x/src/a.rs", "tokio::select! {\n  biased;\n  _ = a => {} }"), 0);
        assert_eq!(complaints("crates/x/src/a.rs", "tokio::select! {\n  _ = a => {} }"), 1);
    }

    #[test]
    fn a_file_of_two_nouns_is_found() {
        assert_eq!(complaints("a.rs", &"\n".repeat(LINES_MAX)), 0);
        assert_eq!(complaints("a.rs", &"\n".repeat(LINES_MAX + 1)), 1);
    }

    #[test]
    fn the_core_names_no_std_even_in_comments() {
        assert_eq!(complaints("crates/core/src/a.rs", "use core::fmt;\nextern crate alloc;"), 0);
        assert_eq!(complaints("crates/core/src/a.rs", "//! like std::fmt"), 1);
        assert_eq!(complaints("crates/core/tests/a.rs", "use std::fmt;"), 0);
    }
}
