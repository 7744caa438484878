//! Scenario files of the simulator.

use raftwright_sim::scenario;

pub(crate) fn parse(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(error) = scenario::parse(text) {
        assert!(!error.to_string().is_empty(), "a refusal says why");
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/sim/scenarios");
    let mut names: Vec<_> = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    names.sort();
    // The shortest say as much as the longest.
    let mut texts: Vec<Vec<u8>> = names.iter().filter_map(|path| std::fs::read(path).ok()).collect();
    texts.sort_by_key(Vec::len);
    texts.truncate(8);
    texts
}
