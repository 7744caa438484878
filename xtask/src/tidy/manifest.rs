//! One version table, and an argument for each line of it; one lint table, and every package under it.

use super::Complaint;
use super::tree::Tree;

/// The fewest words that can argue anything.
const ARGUMENT_WORDS_MIN: usize = 2;

/// Checks the root manifest and those of the packages.
pub fn check(tree: &Tree) -> Vec<Complaint> {
    let mut found = tree.text("Cargo.toml").map(arguments).unwrap_or_default();
    for (path, text) in tree.files("Cargo.toml").filter(|(path, _)| *path != "Cargo.toml" && !super::is_apart(path)) {
        found.extend(package(path, text));
    }
    let root = tree.text("clippy.toml").unwrap_or_default();
    for (path, text) in tree.files("/clippy.toml") {
        found.extend(bans(path, root, text));
    }
    found
}

/// A `clippy.toml` of a crate replaces the one at the root, so it has to repeat what that says.
fn bans(path: &str, root: &str, text: &str) -> Vec<Complaint> {
    let says = |line: &&str| line.starts_with("allow-") || line.trim_start().starts_with('{');
    let lost = root.lines().filter(says).filter(|line| !text.lines().any(|own| own == *line));
    lost.map(|line| Complaint::about(path, format!("loses a line of the root's clippy.toml: {}", line.trim())))
        .collect()
}

/// Every crate of others in the version table says why it is there, on its line or on the one above it.
fn arguments(text: &str) -> Vec<Complaint> {
    let mut found = Vec::new();
    let mut inside = false;
    let mut above = "";
    for (i, line) in text.lines().enumerate() {
        if line.starts_with('[') {
            inside = line.trim() == "[workspace.dependencies]";
        } else if inside && line.contains('=') && !line.starts_with('#') && !line.contains("path =") {
            let argument = line.rsplit_once('#').map(|(_, argument)| argument).or(above.strip_prefix('#'));
            if argument.is_none_or(|argument| argument.split_whitespace().count() < ARGUMENT_WORDS_MIN) {
                let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
                found.push(Complaint::at(
                    "Cargo.toml",
                    i + 1,
                    format!("`{name}`: say in a comment why this dependency is here"),
                ));
            }
        }
        above = line;
    }
    found
}

/// A package takes versions and lints from the workspace.
fn package(path: &str, text: &str) -> Vec<Complaint> {
    let Ok(manifest) = text.parse::<toml::Table>() else { return Vec::new() };
    let mut found = Vec::new();
    if manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool) != Some(true) {
        found.push(Complaint::about(path, "must take its lints from the workspace: `[lints] workspace = true`"));
    }
    let own_version = |spec: &toml::Value| {
        spec.is_str() || ["version", "git"].iter().any(|key| spec.get(key).is_some())
            // A package may name itself by its path: there is no other way for its tests to switch on its features.
            || spec.get("path").and_then(toml::Value::as_str).is_some_and(|p| p != ".")
    };
    let platforms = manifest.get("target").and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::values);
    for table in std::iter::once(&manifest).chain(platforms.filter_map(toml::Value::as_table)) {
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, spec) in table.get(section).and_then(toml::Value::as_table).into_iter().flatten() {
                if own_version(spec) {
                    found.push(Complaint::about(
                        path,
                        format!("`{name}`: versions stand in the root manifest; say `workspace = true`"),
                    ));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_without_an_argument_is_found() {
        let table = |lines: &str| arguments(&format!("[workspace.dependencies]\n{lines}\n[profile.dev]\ndebug = 1\n"));
        assert_eq!(table("own = { path = \"crates/own\" }\na = \"1\" # parses what others write"), []);
        assert_eq!(table("# parses what others write\na = \"1\""), []);
        assert_eq!(table("a = \"1\"").len(), 1);
        assert_eq!(table("a = { version = \"1\", features = [\"x\"] } # needed").len(), 1);
    }

    #[test]
    fn a_ban_that_a_crate_loses_is_found() {
        let root = "# Bans.\nallow-x = true\nmethods = [\n    { path = \"a\" },\n]\n";
        assert_eq!(
            bans("x", root, "allow-x = true\nmethods = [\n    { path = \"a\" },\n    { path = \"b\" },\n]\n"),
            []
        );
        assert_eq!(bans("x", root, "allow-x = true\n").len(), 1);
    }

    #[test]
    fn a_package_outside_the_lint_table_is_found() {
        assert_eq!(package("x", "[lints]\nworkspace = true"), []);
        assert_eq!(package("x", "[package]\nname = \"x\"").len(), 1);
    }

    #[test]
    fn a_version_outside_the_version_table_is_found() {
        let with = |line: &str| package("x", &format!("[lints]\nworkspace = true\n[dev-dependencies]\n{line}"));
        assert_eq!(with("a = { workspace = true, features = [\"y\"] }\nx = { path = \".\" }"), []);
        assert_eq!(with("a = \"1\"").len(), 1);
        assert_eq!(with("a = { version = \"1\" }").len(), 1);
        assert_eq!(with("a = { path = \"../a\" }").len(), 1);
    }
}
