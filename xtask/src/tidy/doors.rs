//! Everything that is not deterministic comes in through a few small doors: clock, random source, disk, network, threads. This
//! rule says which file is the door; `clippy.toml` bans the functions behind it by name.

use super::Complaint;
use super::rust_text::split;
use super::tree::Tree;

/// What only some files of a directory may name.
struct Door {
    dir: &'static str,
    names: &'static [&'static str],
    /// Files, or directories with all that lies in them.
    only_in: &'static [&'static str],
    why: &'static str,
}

const DOORS: &[Door] = &[
    Door {
        dir: "crates/wal/src/",
        names: &["std::fs", "std::os", "rustix::"],
        only_in: &["crates/wal/src/real_disk.rs", "crates/wal/src/platform.rs"],
        why: "all IO goes through the `Disk` trait, so that a simulated disk sees all of it",
    },
    Door {
        dir: "crates/wal/src/",
        names: &["std::thread"],
        only_in: &["crates/wal/src/thread.rs", "crates/wal/src/thread/tests.rs"],
        why: "the writer is a plain machine; one module drives it with a thread",
    },
    Door {
        dir: "crates/node/src/",
        names: &["std::fs", "std::net", "std::thread", "tokio::net", "tokio::fs", "std::time::Instant", "SystemTime"],
        only_in: &[],
        why: "a node reaches disk, network and clock through the traits that its embedder implements",
    },
    Door {
        dir: "crates/traits/src/",
        names: &["tokio::", "RandomState", "std::time::Instant", "SystemTime"],
        only_in: &["crates/traits/src/tokio_runtime.rs"],
        why: "clock and random source belong to the runtime",
    },
    Door {
        dir: "crates/traits/src/",
        names: &["std::fs", "std::net", "std::thread"],
        only_in: &[],
        why: "the traits do no IO",
    },
    Door {
        dir: "crates/sim/src/",
        names: &["std::time::Instant", "SystemTime", "std::thread", "std::net", "RandomState"],
        only_in: &["crates/sim/src/cli/"],
        why: "a run is a function of its seed",
    },
];

/// Checks every Rust file.
pub fn check(tree: &Tree) -> Vec<Complaint> {
    tree.rust().flat_map(|(path, text)| check_file(path, text)).collect()
}

fn check_file(path: &str, text: &str) -> Vec<Complaint> {
    let doors: Vec<&Door> = DOORS
        .iter()
        .filter(|door| path.starts_with(door.dir) && !door.only_in.iter().any(|file| path.starts_with(file)))
        .collect();
    if doors.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (i, line) in split(text).code.lines().enumerate() {
        for door in &doors {
            if let Some(name) = door.names.iter().find(|name| line.contains(**name)) {
                found.push(Complaint::at(path, i + 1, format!("names `{name}`: {}", door.why)));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_door_names_what_is_behind_it() {
        assert_eq!(check_file("crates/wal/src/real_disk.rs", "use std::fs::File;"), []);
        assert_eq!(check_file("crates/wal/src/writer.rs", "use std::fs::File;").len(), 1);
        assert_eq!(check_file("crates/wal/src/real_disk.rs", "std::thread::spawn(f);").len(), 1);
        assert_eq!(check_file("crates/node/src/core.rs", "let now = std::time::Instant::now();").len(), 1);
        assert_eq!(check_file("crates/node/src/core.rs", "// std::fs is none of our business"), []);
        assert_eq!(check_file("crates/kv/src/main.rs", "use std::fs::File;"), []);
        assert_eq!(check_file("crates/sim/src/cli/run.rs", "use std::time::Instant;"), []);
        assert_eq!(check_file("crates/sim/src/world/clock.rs", "use std::time::Instant;").len(), 1);
    }
}
