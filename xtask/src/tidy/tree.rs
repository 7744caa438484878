//! The texts of the checkout, read once, in an order that does not depend on the file system.

use std::collections::BTreeMap;
use std::path::Path;

/// Files whose text some rule looks at, by path from the root with `/` between its parts; and every path there is.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    texts: BTreeMap<String, String>,
}

/// Directories that hold nothing of ours: build output, and what the version control keeps.
const SKIPPED: &[&str] = &["target", ".git"];

impl Tree {
    /// Reads the checkout.
    ///
    /// # Errors
    /// What cannot be read, and why.
    pub fn read(root: &Path) -> Result<Self, String> {
        let mut tree = Self::default();
        tree.read_dir(root, "")?;
        Ok(tree)
    }

    /// A tree of these files: for tests of the rules.
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self { texts: files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect() }
    }

    fn read_dir(&mut self, dir: &Path, prefix: &str) -> Result<(), String> {
        let complain = |e: std::io::Error| format!("{}: {e}", dir.display());
        for entry in std::fs::read_dir(dir).map_err(complain)? {
            let entry = entry.map_err(complain)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = format!("{prefix}{name}");
            let kind = entry.file_type().map_err(complain)?;
            if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
                self.read_dir(&entry.path(), &format!("{path}/"))?;
            } else if kind.is_file() {
                // A file that is no text has a path that can be named, and nothing that a rule could read.
                let bytes = std::fs::read(entry.path()).map_err(|e| format!("{path}: {e}"))?;
                self.texts.insert(path, String::from_utf8(bytes).unwrap_or_default());
            }
        }
        Ok(())
    }

    /// The text of a file.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    /// Whether there is a file or directory of that path. A trailing `/` is ignored.
    pub fn exists(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let below = format!("{path}/");
        self.texts.contains_key(path)
            || self.texts.range(below.clone()..).next().is_some_and(|(p, _)| p.starts_with(&below))
    }

    /// Whether some file has that name, wherever it is.
    pub fn has_file_named(&self, name: &str) -> bool {
        self.texts.keys().any(|path| path.rsplit('/').next() == Some(name))
    }

    /// Every file with that ending, path and text, in ascending order.
    pub fn files<'a>(&'a self, ending: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.texts
            .iter()
            .filter(move |(path, _)| path.ends_with(ending))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Every Rust file.
    pub fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files(".rs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_exists_if_something_lies_in_it() {
        let tree = Tree::of(&[("a/b/c.rs", ""), ("ab.rs", "")]);
        for there in ["a", "a/", "a/b", "a/b/c.rs", "ab.rs"] {
            assert!(tree.exists(there), "{there}");
        }
        for missing in ["a/c", "ab", "a/b/c", "b"] {
            assert!(!tree.exists(missing), "{missing}");
        }
        assert!(tree.has_file_named("c.rs") && !tree.has_file_named("b"));
    }
}
