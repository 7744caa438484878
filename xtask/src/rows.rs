//! Runs the tests that the tables of features and of known bugs name, and says of each whether it passed. That a named test
//! exists is a rule of tidy; that it passes is seen here, on its own, without the thousand tests that nobody names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use crate::tidy::architecture::quoted;
use crate::tidy::tree::Tree;

/// The pages with such tables.
const PAGES: &[&str] = &["docs/features.md", "docs/known-bugs.md"];

/// Stories by the folder that they stand in, with the test that tells all of its folder.
const TELLERS: &[(&str, &str, &str)] = &[
    ("/tests/scripts/", ".txt", "crates/core/tests/it/scripts.rs::every_story_happens_as_it_is_told"),
    ("/scenarios/", ".scn", "crates/sim/tests/scenarios.rs::all_stories_are_true"),
];

/// Whether a name in a table is that of a test: a function in a Rust file, a story that a test tells, or a script for a shell.
pub fn is_test(name: &str) -> bool {
    name.contains(".rs::") || teller(name).is_some() || name.ends_with(".sh")
}

/// The test that tells a story.
fn teller(name: &str) -> Option<&'static str> {
    TELLERS.iter().find(|(folder, ending, _)| name.contains(folder) && name.ends_with(ending)).map(|(_, _, test)| *test)
}

/// Tests that one command runs: those of a target of a package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    /// The package's directory, with `/` at its end.
    dir: String,
    /// `--lib`, or `--test` and the target's name.
    args: Vec<String>,
}

/// A test by what its path must contain: the module of its file, and its function.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Test {
    module: String,
    function: String,
}

/// Where the test of a file is run, and how it is recognised there. `None` if the file is neither of a library nor of a test.
fn place(name: &str) -> Option<(Target, Test)> {
    let (file, function) = name.split_once(".rs::")?;
    let (dir, within, src) = match file.split_once("/src/") {
        Some((dir, within)) => (dir, within, true),
        None => file.split_once("/tests/").map(|(dir, within)| (dir, within, false))?,
    };
    let mut parts: Vec<&str> = within.split('/').collect();
    let args = if src {
        vec!["--lib".to_owned()]
    } else {
        // A file beside others is a target, and so is a directory with its `main.rs`.
        let target = if parts.len() == 1 { parts.pop() } else { Some(parts.remove(0)) };
        vec!["--test".to_owned(), target?.to_owned()]
    };
    parts.retain(|part| !matches!(*part, "mod" | "lib" | "main"));
    let test = Test { module: parts.join("::"), function: function.to_owned() };
    Some((Target { dir: format!("{dir}/"), args }, test))
}

impl Test {
    /// Whether a line of a test's output is about this test.
    fn is(&self, path: &str) -> bool {
        path.rsplit("::").next() == Some(self.function.as_str()) && path.starts_with(&self.module)
    }
}

/// What a run of tests said of each: its path, and whether it passed. Tests that were left out say neither.
fn verdicts(output: &str) -> Vec<(&str, bool)> {
    let line = |line: &'_ str| -> Option<(usize, bool)> {
        let (path, verdict) = line.strip_prefix("test ")?.split_once(" ... ")?;
        let path = path.strip_suffix(" - should panic").unwrap_or(path);
        match verdict.trim() {
            "ok" => Some((path.len(), true)),
            "FAILED" => Some((path.len(), false)),
            _ => None,
        }
    };
    output.lines().filter_map(|text| line(text).map(|(len, passed)| (&text["test ".len()..][..len], passed))).collect()
}

/// The rows of a page's tables that name a test, by their section; those of other sections are left out.
fn named<'a>(page: &'a str, section: Option<&str>) -> (usize, BTreeSet<&'a str>) {
    let (mut rows, mut names, mut wanted) = (0, BTreeSet::new(), section.is_none());
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            wanted = section.is_none_or(|section| title == section);
        }
        let tests: Vec<&str> = quoted(line).into_iter().map(|(_, name)| name).filter(|name| is_test(name)).collect();
        if wanted && line.starts_with('|') && !tests.is_empty() {
            rows += 1;
            names.extend(tests);
        }
    }
    (rows, names)
}

/// Runs what the tables name, or only what begins with `prefix`, or what one section names.
///
/// # Errors
/// The tests that failed, and those that were named and not run.
pub fn run(root: &Path, prefix: Option<&str>) -> Result<(), String> {
    let tree = Tree::read(root)?;
    let section = prefix.filter(|text| text.contains(' '));
    let prefix = prefix.filter(|_| section.is_none()).unwrap_or_default();
    let mut names = BTreeSet::new();
    for page in PAGES {
        let text = tree.text(page).ok_or_else(|| format!("{page} is missing"))?;
        let (rows, of_page) = named(text, section);
        println!("{page}: {rows} rows name {} tests", of_page.len());
        names.extend(of_page);
    }
    names.retain(|name| name.starts_with(prefix));
    let mut bad = Vec::new();
    let mut targets: BTreeMap<Target, BTreeMap<Test, BTreeSet<&str>>> = BTreeMap::new();
    let mut passed = 0;
    for name in &names {
        if name.ends_with(".sh") {
            match Command::new("bash").arg(root.join(name)).current_dir(root).status() {
                Ok(status) if status.success() => passed += 1,
                Ok(_) | Err(_) => bad.push(format!("{name}: failed")),
            }
            continue;
        }
        match place(teller(name).unwrap_or(name)) {
            Some((target, test)) => drop(targets.entry(target).or_default().entry(test).or_default().insert(name)),
            None => bad.push(format!("{name}: it is not known how to run it")),
        }
    }
    for (target, tests) in &targets {
        let output = run_target(root, &tree, target, tests.keys())?;
        let verdicts = verdicts(&output);
        for (test, names) in tests {
            let of_test: Vec<bool> =
                verdicts.iter().filter(|(path, _)| test.is(path)).map(|(_, passed)| *passed).collect();
            let verdict = match of_test[..] {
                [] => "was not run",
                _ if of_test.contains(&false) => "failed",
                _ => {
                    passed += names.len();
                    continue;
                }
            };
            bad.extend(names.iter().map(|name| format!("{name}: {verdict}")));
        }
    }
    println!("{passed} of {} named tests passed", names.len());
    if bad.is_empty() { Ok(()) } else { Err(bad.join("\n")) }
}

/// Runs tests of one target and returns what was printed.
fn run_target<'a>(
    root: &Path,
    tree: &Tree,
    target: &Target,
    tests: impl Iterator<Item = &'a Test>,
) -> Result<String, String> {
    let manifest = format!("{}Cargo.toml", target.dir);
    let text = tree.text(&manifest).ok_or_else(|| format!("{manifest} is missing"))?;
    let mut command = Command::new("cargo");
    command.arg("test").arg("--no-fail-fast").arg("--manifest-path").arg(root.join(&manifest)).args(&target.args);
    // A package with a feature for its tests has them behind it.
    if text.contains("\ntesting = ") && target.dir.ends_with("traits/") {
        command.args(["--features", "testing"]);
    }
    command.arg("--").args(tests.map(|test| &test.function));
    println!("== {} {}", target.dir, target.args.join(" "));
    let output = command.current_dir(root).output().map_err(|e| format!("cargo test: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        println!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_where_its_test_is_run() {
        let at =
            |name| place(name).map(|(target, test)| (target.dir, target.args.join(" "), test.module, test.function));
        let place = |dir: &str, args: &str, module: &str| {
            Some((dir.to_owned(), args.to_owned(), module.to_owned(), "f".to_owned()))
        };
        assert_eq!(at("crates/a/tests/it/b.rs::f"), place("crates/a/", "--test it", "b"));
        assert_eq!(at("crates/a/tests/it/b/mod.rs::f"), place("crates/a/", "--test it", "b"));
        assert_eq!(at("crates/a/tests/it/main.rs::f"), place("crates/a/", "--test it", ""));
        assert_eq!(at("crates/a/tests/b.rs::f"), place("crates/a/", "--test b", ""));
        assert_eq!(at("crates/a/src/b/c.rs::f"), place("crates/a/", "--lib", "b::c"));
        assert_eq!(at("crates/a/src/lib.rs::f"), place("crates/a/", "--lib", ""));
        assert_eq!(at("crates/a/b.rs::f"), None);
        assert!(teller("crates/core/tests/scripts/x.txt").is_some() && teller("crates/core/x.txt").is_none());
    }

    #[test]
    fn a_test_is_found_in_what_was_printed() {
        let printed = "running 3 tests\ntest b::standard::f ... ok\ntest b::advanced::f ... FAILED\ntest c::f ... ok\n\
            test b::g - should panic ... ok\ntest b::h ... ignored\n";
        let all = verdicts(printed);
        let of = |module: &str, function: &str| {
            let test = Test { module: module.into(), function: function.into() };
            all.iter().filter(|(path, _)| test.is(path)).map(|(_, passed)| *passed).collect::<Vec<_>>()
        };
        assert_eq!(of("b", "f"), [true, false], "under each kind of leader id");
        assert_eq!(of("c", "f"), [true]);
        assert_eq!(of("b", "g"), [true]);
        assert_eq!(of("b", "h"), [false; 0], "left out");
    }

    #[test]
    fn the_rows_of_a_section_are_found() {
        let page = "## One\n| what | test |\n|---|---|\n| a | `x/tests/y.rs::f`, `x/tests/y.rs::g` |\n\
            ## Two\n| b | `x/tests/scripts/z.txt` |\n| c | `x/src/y.rs` |\n";
        assert_eq!(named(page, None).0, 2);
        assert_eq!(named(page, None).1.len(), 3);
        assert_eq!(named(page, Some("Two")), (1, BTreeSet::from(["x/tests/scripts/z.txt"])));
    }
}
