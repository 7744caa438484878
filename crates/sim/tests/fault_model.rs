//! The page about what may go wrong says what there is.

#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)] // a test fails by panicking

use std::path::PathBuf;

use raftwright_sim::world::Fault;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn every_counter_has_its_row() {
    let page = std::fs::read_to_string(root().join("docs/fault-model.md")).unwrap();
    for fault in Fault::ALL {
        assert!(page.contains(&format!("`{fault}`")), "{fault} is missing");
    }
}

#[test]
fn every_story_and_test_that_it_names_is_there() {
    let page = std::fs::read_to_string(root().join("docs/fault-model.md")).unwrap();
    let mut named = 0;
    for name in page.split('`').skip(1).step_by(2) {
        let path = match name.strip_suffix(".scn") {
            Some("") => continue,
            Some(_) => root().join("crates/sim/scenarios").join(name),
            None if name.starts_with("crates/") => root().join(name.split("::").next().unwrap()),
            None => continue,
        };
        named += 1;
        assert!(path.exists(), "{name}");
        if let Some((_, test)) = name.split_once("::") {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains(&format!("fn {test}")), "{name}");
        }
    }
    assert!(named > 60, "{named}");
}
