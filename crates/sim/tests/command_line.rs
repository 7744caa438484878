//! The command line, as a person or a script uses it.

#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)] // a test fails by panicking

use std::path::{Path, PathBuf};
use std::process::Command;

/// How a command ended: with which code, and what it printed.
struct Ended {
    code: Option<i32>,
    out: String,
    errors: String,
}

fn sim(arguments: &[&str]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_raftwright-sim")).args(arguments).output().expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("it prints text");
    Ended { code: output.status.code(), out: text(output.stdout), errors: text(output.stderr) }
}

/// A file that one test alone writes.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[test]
fn a_run_ends_with_the_line_that_sums_it_up() {
    let ended = sim(&["run", "--seeds", "0..2", "--world", "core", "--profile", "calm"]);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    let last = ended.out.lines().last().expect("a line");
    assert!(last.starts_with("seeds: 2  failed: 0  simulated: "), "{last}");
    assert!(last.contains("  faults: ") && last.ends_with(" checked"), "{last}");
}

#[test]
fn a_run_that_is_made_twice_is_compared() {
    let ended = sim(&["run", "--seeds", "0..1", "--profile", "crashes", "--twice"]);
    assert_eq!(ended.code, Some(0), "{}", ended.out);
}

/// Two processes, the same lines.
#[test]
fn a_replay_prints_the_same_trace_again() {
    for world in ["core", "nodes"] {
        let replay = || sim(&["replay", "--seed", "3", "--profile", "crashes", "--world", world, "--trace"]);
        let (first, second) = (replay(), replay());
        assert_eq!(first.code, Some(0), "{}", first.errors);
        assert!(first.out.lines().count() > 1_000);
        assert!(first.out == second.out, "{world}: the traces differ");
    }
}

#[test]
fn the_end_of_a_trace_can_be_asked_for() {
    let ended = sim(&["replay", "--seed", "1", "--profile", "calm", "--trace", "--last", "5"]);
    assert_eq!(ended.out.lines().count(), 5 + 2, "{}", ended.out);
}

#[test]
fn a_report_is_a_page_that_needs_nothing_else() {
    let path = file("report.html");
    let shown = path.to_str().expect("a path of text");
    let ended = sim(&["report", "--seed", "1", "--profile", "calm", "--output", shown]);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert!(ended.out.contains(shown), "{}", ended.out);
    let page = std::fs::read_to_string(&path).expect("the page is there");
    assert!(page.contains("<svg") && page.contains("profile calm, seed 1"));
    assert!(!page.contains("src=\"http") && !page.contains("href=\"http"), "it asks for something from elsewhere");
}

#[test]
fn a_seed_that_passes_is_not_shrunk() {
    let path = file("not-shrunk.scn");
    let ended = sim(&["shrink", "--seed", "1", "--profile", "calm", "--output", path.to_str().expect("text")]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "seed 1 passes\n"));
    assert!(!path.exists());
}

#[test]
fn scenario_files_are_counted() {
    let (right, wrong) = (file("right.scn"), file("wrong.scn"));
    std::fs::write(&right, "cluster 1,2,3\nwrite leader a=1\n").expect("written");
    std::fs::write(&wrong, "cluster 1,2,3\nread leader a = 1\n").expect("written");
    let [right, wrong] = [&right, &wrong].map(|path| path.to_str().expect("text").to_owned());
    let ended = sim(&["scenario", &right]);
    assert_eq!((ended.code, ended.out.lines().last()), (Some(0), Some("1 passed, 0 failed")));
    let ended = sim(&["scenario", &right, &wrong]);
    assert_eq!((ended.code, ended.out.lines().last()), (Some(1), Some("1 passed, 1 failed")));
    assert!(ended.out.contains("line 2: "), "{}", ended.out);
}

/// An ordinary build has no switch for broken variants, and says how to make one that has.
#[cfg(not(feature = "sabotage"))]
#[test]
fn an_ordinary_build_cannot_be_sabotaged() {
    let ended = sim(&["sabotage"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.errors.contains("--features sabotage"), "{}", ended.errors);
}

#[test]
fn what_is_asked_wrongly_is_refused() {
    assert_eq!(sim(&["run", "--seeds", "7"]).code, Some(2));
    assert_eq!(sim(&["run", "--seeds", "7..7"]).code, Some(2));
    assert_eq!(sim(&["run", "--seeds", "9..5"]).code, Some(2));
    assert_eq!(sim(&["run", "--profile", "nonsense"]).code, Some(2));
    assert_eq!(sim(&["scenario", "no-such-file.scn"]).code, Some(1));
}
