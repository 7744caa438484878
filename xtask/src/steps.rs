//! `verify` and `fix`: the same checks, once looking only, once mending.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::limits;
use crate::tidy::tree::Tree;
use crate::tidy::{self, snippet};

/// One command of `verify`. `.ci/run` contains the same lines; a tidy rule compares them.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// What it checks.
    pub name: &'static str,
    /// Environment variables, as a shell would set them in front of the command.
    pub env: &'static [(&'static str, &'static str)],
    /// The command line.
    pub line: &'static str,
}

/// The commands of `verify`, in order: the quick ones first.
pub const STEPS: &[Step] = &[
    Step { name: "formatting", env: &[], line: "cargo fmt --all -- --check" },
    Step { name: "tidy", env: &[], line: "cargo xtask tidy" },
    Step { name: "clippy", env: &[], line: "cargo clippy --workspace --all-targets -- -D warnings" },
    Step { name: "tests", env: &[], line: "cargo test --workspace" },
    Step { name: "docs", env: &[("RUSTDOCFLAGS", "-D warnings")], line: "cargo doc --workspace --no-deps --lib" },
    Step { name: "core for wasm32", env: &[], line: "cargo build -p raftwright-core --target wasm32-unknown-unknown" },
    Step { name: "dependency budgets", env: &[], line: "cargo xtask deps" },
];

/// The target that has neither clock nor files nor threads: what builds for it cannot have used them.
const WASM: &str = "wasm32-unknown-unknown";

/// The most crates that a library may bring along, itself not counted, with its default features.
const BUDGETS: &[(&str, usize)] = &[("raftwright-core", 3), ("raftwright", 45)];

/// Runs every step and reports all that failed. Writes nothing but build output.
///
/// # Errors
/// The names of the steps that failed.
pub fn verify(root: &Path) -> Result<(), String> {
    let mut failed = Vec::new();
    for step in STEPS {
        println!("== {}: {}", step.name, step.line);
        if step.line.contains(WASM) && !has_wasm_target() {
            println!("!! SKIPPED: the target {WASM} is not installed; `rustup target add {WASM}` installs it");
            continue;
        }
        let start = Instant::now();
        let result = run(root, step);
        println!(
            "== {}: {} in {:.1} s",
            step.name,
            if result.is_ok() { "ok" } else { "FAILED" },
            start.elapsed().as_secs_f64()
        );
        if result.is_err() {
            failed.push(step.name);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("verify failed: {}", failed.join(", "))) }
}

/// Formats, applies what clippy can mend by itself, and rewrites what is drawn from code: the README's program, the bounds.
///
/// # Errors
/// The first command that failed.
pub fn fix(root: &Path) -> Result<(), String> {
    for line in [
        "cargo fmt --all",
        "cargo clippy --fix --allow-dirty --allow-staged --workspace --all-targets",
        "cargo fmt --all",
    ] {
        println!("== {line}");
        run(root, &Step { name: "fix", env: &[], line })?;
    }
    redraw(root)?;
    tidy::report(root)
}

/// Rewrites the parts of the documentation that are drawn from code: the README's program, the table of bounds.
///
/// # Errors
/// What cannot be read or written.
pub fn redraw(root: &Path) -> Result<(), String> {
    let tree = Tree::read(root)?;
    let text = |path: &str| tree.text(path).ok_or_else(|| format!("{path} is missing"));
    rewrite(
        root,
        snippet::README,
        text(snippet::README)?,
        &snippet::replaced(text(snippet::README)?, text(snippet::PROGRAM)?)?,
    )?;
    rewrite(root, limits::PAGE, text(limits::PAGE)?, &limits::refreshed(text(limits::PAGE)?, &tree)?)
}

fn rewrite(root: &Path, path: &str, before: &str, after: &str) -> Result<(), String> {
    if before == after {
        return Ok(());
    }
    println!("== rewriting {path}");
    std::fs::write(root.join(path), after).map_err(|e| format!("{path}: {e}"))
}

/// Counts the crates behind each library and compares them with its budget.
///
/// # Errors
/// The libraries that are over it.
pub fn deps(root: &Path) -> Result<(), String> {
    let mut over = Vec::new();
    for (package, budget) in BUDGETS {
        let output = Command::new("cargo")
            .args(["tree", "--package", package, "--edges", "normal", "--prefix", "none", "--format", "{p}"])
            .current_dir(root)
            .output()
            .map_err(|e| format!("cargo tree: {e}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let count = count_crates(&String::from_utf8_lossy(&output.stdout), package);
        println!("{package}: {count} crates beside it, at most {budget}");
        if count > *budget {
            over.push(format!("{package} brings {count} crates along; its budget is {budget}"));
        }
    }
    if over.is_empty() { Ok(()) } else { Err(over.join("\n")) }
}

/// Different crates in the output of `cargo tree --prefix none`, without the package itself.
fn count_crates(tree: &str, package: &str) -> usize {
    let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    names.len() - usize::from(names.contains(package))
}

fn run(root: &Path, step: &Step) -> Result<(), String> {
    let mut words = step.line.split_whitespace();
    let program = words.next().unwrap_or("cargo");
    let status = Command::new(program)
        .args(words)
        .envs(step.env.iter().copied())
        .current_dir(root)
        .status()
        .map_err(|e| format!("{}: {e}", step.line))?;
    if status.success() { Ok(()) } else { Err(format!("failed: {}", step.line)) }
}

fn has_wasm_target() -> bool {
    Command::new("rustc").args(["--print", "target-libdir", "--target", WASM]).output().is_ok_and(|output| {
        output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).exists()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_are_counted_once_and_without_the_package_itself() {
        let tree = "raftwright v0.1.0 (/x)\nbytes v1.0.0\ntokio v1.0.0\nbytes v1.0.0\nbytes v1.0.0 (*)\n\n";
        assert_eq!(count_crates(tree, "raftwright"), 2);
    }

    #[test]
    fn a_failing_command_is_an_error() {
        let step = |line| Step { name: "try", env: &[], line };
        assert!(run(Path::new("."), &step("true")).is_ok());
        assert!(run(Path::new("."), &step("false")).is_err());
    }
}
