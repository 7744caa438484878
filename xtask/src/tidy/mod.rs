//! The house rules. Each is a function from texts to complaints, so that each has a test in which it fires; `tests/tidy.rs`
//! runs all of them over the checkout, and so does `cargo xtask tidy`.

pub mod architecture;
pub mod doors;
pub mod edges;
pub mod links;
pub mod manifest;
pub mod rust_text;
pub mod sections;
pub mod snippet;
pub mod source;
pub mod tables;
pub mod tree;

use std::fmt::{Display, Formatter};
use std::path::Path;

use crate::steps::STEPS;
use tree::Tree;

/// Workspaces of their own within the checkout, which nobody else builds: their manifests name versions themselves.
const OWN_WORKSPACES: &[&str] = &["bench/", "examples/raft-kv-rocksdb/", "fuzz/"];

/// Whether the file belongs to one of them.
fn is_apart(path: &str) -> bool {
    OWN_WORKSPACES.iter().any(|dir| path.starts_with(dir))
}

/// A place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    /// The file, from the root of the checkout.
    pub path: String,
    /// The line, from 1; 0 for the whole file.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl Complaint {
    /// A complaint about a line.
    pub fn at(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }

    /// A complaint about a whole file.
    pub fn about(path: &str, what: impl Into<String>) -> Self {
        Self::at(path, 0, what)
    }
}

impl Display for Complaint {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{line}: {}", self.path, self.what),
        }
    }
}

/// Every rule over the whole checkout.
///
/// # Errors
/// A file that cannot be read.
pub fn check(root: &Path) -> Result<Vec<Complaint>, String> {
    let tree = Tree::read(root)?;
    let mut found = Vec::new();
    found.extend(edges::check(&tree));
    found.extend(doors::check(&tree));
    found.extend(manifest::check(&tree));
    found.extend(architecture::check(&tree));
    found.extend(tables::check(&tree));
    found.extend(links::check(&tree));
    found.extend(sections::check(&tree));
    found.extend(source::check(&tree));
    found.extend(snippet::check(&tree));
    found.extend(ci_runs_every_step(tree.text(".ci/run")));
    found.sort();
    Ok(found)
}

/// Prints what [`check`] finds.
///
/// # Errors
/// How many places break a rule.
pub fn report(root: &Path) -> Result<(), String> {
    let found = check(root)?;
    for complaint in &found {
        println!("{complaint}");
    }
    match found.len() {
        0 => {
            println!("tidy: nothing to complain about");
            Ok(())
        }
        n => Err(format!("tidy: {n} places break a rule of the house")),
    }
}

/// What a person runs with `cargo xtask verify` is what CI runs, to the letter.
fn ci_runs_every_step(ci: Option<&str>) -> Vec<Complaint> {
    let Some(ci) = ci else { return vec![Complaint::about(".ci/run", "is missing")] };
    STEPS
        .iter()
        .filter(|step| {
            !ci.contains(step.line) || !step.env.iter().all(|(key, value)| ci.contains(&format!("{key}=\"{value}\"")))
        })
        .map(|step| {
            Complaint::about(".ci/run", format!("does not run the step of `cargo xtask verify` `{}`", step.line))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_ci_leaves_out_is_found() {
        let mut all = String::new();
        for step in STEPS {
            for (key, value) in step.env {
                all += &format!("{key}=\"{value}\" ");
            }
            all += &format!("{}\n", step.line);
        }
        assert_eq!(ci_runs_every_step(Some(&all)), []);
        assert_eq!(ci_runs_every_step(Some(&all.replace("cargo test --workspace", "cargo test"))).len(), 1);
        assert_eq!(ci_runs_every_step(Some(&all.replace("-D warnings\" cargo doc", "\" cargo doc"))).len(), 1);
        assert_eq!(ci_runs_every_step(None).len(), 1);
    }
}
