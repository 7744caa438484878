//! Which crate may name which. The picture is in `ARCHITECTURE.md`; this is its table.

use std::collections::BTreeSet;

use super::Complaint;
use super::tree::Tree;

/// A package of the workspace and the packages of the workspace that it may name.
type Edges = &'static [(&'static str, &'static [&'static str])];

/// What a package may name in its `[dependencies]` and `[build-dependencies]`.
const EDGES: Edges = &[
    ("raftwright-core", &[]),
    ("raftwright-traits", &["raftwright-core"]),
    // The node knows the log and the network as traits alone: it never names the crates that implement them.
    ("raftwright-node", &["raftwright-core", "raftwright-traits"]),
    ("raftwright-wal", &["raftwright-core", "raftwright-traits"]),
    ("raftwright-net", &["raftwright-core", "raftwright-traits"]),
    // The only place where the parts meet.
    ("raftwright", &["raftwright-core", "raftwright-traits", "raftwright-node", "raftwright-wal", "raftwright-net"]),
    ("raftwright-kv", &["raftwright"]),
    ("raftwright-sim", &["raftwright-core", "raftwright-traits", "raftwright-node", "raftwright-wal"]),
    // Whoever brings a log of their own needs the traits and nothing else.
    ("custom-log", &["raftwright-traits"]),
    ("hello-cluster", &["raftwright"]),
    ("directory-snapshot", &["raftwright"]),
    ("xtask", &[]),
];

/// What its tests may name besides. A package may always name itself, to switch on a feature of its own.
const TEST_EDGES: Edges = &[
    // The full path through a node is tested on the real log; the node itself still cannot name it.
    ("raftwright-node", &["raftwright-wal"]),
];

/// The crates of others that the core may use. Each of them would be in everything that embeds the protocol.
const CORE_USES: &[&str] = &["serde"];

/// Checks every manifest of the workspace.
pub fn check(tree: &Tree) -> Vec<Complaint> {
    tree.files("Cargo.toml")
        .filter(|(path, _)| *path != "Cargo.toml" && !super::is_apart(path))
        .flat_map(|(path, text)| check_manifest(path, text))
        .collect()
}

fn check_manifest(path: &str, text: &str) -> Vec<Complaint> {
    let manifest: toml::Table = match text.parse() {
        Ok(manifest) => manifest,
        Err(e) => return vec![Complaint::about(path, format!("is no TOML: {e}"))],
    };
    let name = manifest.get("package").and_then(|p| p.get("name")).and_then(toml::Value::as_str).unwrap_or_default();
    let Some(allowed) = edges_of(EDGES, name) else {
        return vec![Complaint::about(
            path,
            format!("package `{name}` is not in the table of edges in xtask/src/tidy/edges.rs"),
        )];
    };
    let ours = |named: &str| EDGES.iter().any(|(package, _)| *package == named);
    let mut found = Vec::new();
    for named in named_in(&manifest, &["dependencies", "build-dependencies"]) {
        if ours(&named) && !allowed.contains(&named.as_str()) {
            found.push(Complaint::about(path, format!("`{name}` must not depend on `{named}`")));
        }
        if name == "raftwright-core" && !ours(&named) && !CORE_USES.contains(&named.as_str()) {
            found.push(Complaint::about(path, format!("the core must not depend on `{named}`")));
        }
    }
    let in_tests = edges_of(TEST_EDGES, name).unwrap_or_default();
    for named in named_in(&manifest, &["dev-dependencies"]) {
        let fine = named == name || allowed.contains(&named.as_str()) || in_tests.contains(&named.as_str());
        if ours(&named) && !fine {
            found.push(Complaint::about(path, format!("the tests of `{name}` must not depend on `{named}`")));
        }
    }
    found
}

fn edges_of(edges: Edges, name: &str) -> Option<&'static [&'static str]> {
    edges.iter().find(|(package, _)| *package == name).map(|(_, allowed)| *allowed)
}

/// The packages named in these sections, also in those for one platform alone.
fn named_in(manifest: &toml::Table, sections: &[&str]) -> BTreeSet<String> {
    let platforms = manifest.get("target").and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::values);
    let tables = std::iter::once(manifest).chain(platforms.filter_map(toml::Value::as_table));
    tables
        .flat_map(|table| sections.iter().filter_map(|section| table.get(*section)?.as_table()))
        .flatten()
        .map(|(key, spec)| spec.get("package").and_then(toml::Value::as_str).unwrap_or(key).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str, rest: &str) -> Vec<Complaint> {
        check_manifest("x/Cargo.toml", &format!("[package]\nname = \"{name}\"\n{rest}"))
    }

    #[test]
    fn the_edges_of_the_picture_are_allowed() {
        assert_eq!(manifest("raftwright-core", "[dependencies]\nserde.workspace = true"), []);
        assert_eq!(manifest("raftwright-traits", "[dependencies]\nraftwright-core.workspace = true"), []);
        assert_eq!(manifest("raftwright-node", "[dev-dependencies]\nraftwright-wal.workspace = true"), []);
        assert_eq!(manifest("raftwright-wal", "[dev-dependencies]\nraftwright-wal = { path = \".\" }"), []);
    }

    #[test]
    fn any_other_edge_is_found() {
        for (name, rest) in [
            ("raftwright-core", "[dependencies]\nraftwright-traits.workspace = true"),
            ("raftwright-node", "[dependencies]\nraftwright-wal.workspace = true"),
            ("raftwright-wal", "[target.'cfg(unix)'.dependencies]\nraftwright-node.workspace = true"),
            ("raftwright-wal", "[dependencies]\nrenamed = { package = \"raftwright-node\", path = \"../node\" }"),
            ("raftwright-net", "[build-dependencies]\nraftwright-node.workspace = true"),
            ("raftwright-net", "[dev-dependencies]\nraftwright-node.workspace = true"),
            ("raftwright-kv", "[dependencies]\nraftwright-wal.workspace = true"),
        ] {
            assert_eq!(manifest(name, rest).len(), 1, "{name}: {rest}");
        }
    }

    #[test]
    fn the_core_uses_nothing_but_what_is_listed() {
        assert_eq!(manifest("raftwright-core", "[dependencies]\nrand = \"1\"").len(), 1);
    }

    #[test]
    fn a_package_outside_the_table_is_found() {
        assert_eq!(manifest("raftwright-new", "").len(), 1);
    }
}
