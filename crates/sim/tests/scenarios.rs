//! Every scenario file of the project passes, and a scenario runs the same twice.

#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)] // a test fails by panicking

use std::path::PathBuf;

use raftwright_sim::node_world::{run_story, tell_story};
use raftwright_sim::scenario::{Scenario, parse};

fn files() -> Vec<(PathBuf, Scenario)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let scenario = parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path, scenario)
        })
        .collect()
}

#[test]
fn all_stories_are_true() {
    let files = files();
    assert!(files.len() >= 12);
    for (path, scenario) in files {
        run_story(&scenario, None).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// What the documentation gives as an example can be copied and run.
#[test]
fn the_example_of_the_documentation_is_true() {
    let page = include_str!("../../../docs/scenarios.md");
    let example = page.split("## An example").nth(1).and_then(|rest| rest.split("```").nth(1)).unwrap();
    let scenario = parse(example).unwrap_or_else(|error| panic!("{error}"));
    run_story(&scenario, None).unwrap_or_else(|error| panic!("{error}"));
}

/// Whole nodes, their logs and their calls: the order of all polls and messages comes from the seed alone.
#[test]
fn a_story_runs_the_same_twice_and_differently_under_another_seed() {
    for (path, scenario) in files().into_iter().take(4) {
        let trace = |seed| {
            let (told, world) = tell_story(&scenario, Some(seed));
            (told, world.trace_hash(), world.executor.polls(), world.now())
        };
        assert_eq!(trace(3), trace(3), "{}", path.display());
        assert_ne!(trace(3).1, trace(4).1, "{}", path.display());
    }
}

#[track_caller]
fn fails(text: &str, line: usize, what: &str) {
    let error = run_story(&parse(text).unwrap(), None).expect_err("the story is false");
    assert_eq!(error.line, line, "{error}");
    assert!(error.what.contains(what), "{error}");
}

#[test]
fn false_stories_fail_at_their_line() {
    fails("cluster 1,2,3\nwrite leader a=1\nread leader a = 2", 3, "a is 1, not 2");
    fails("cluster 1,2,3\nwrite leader a=1 fails", 2, "succeeds");
    fails("cluster 1,2,3\nexpect no leader", 2, "leads");
    fails("cluster 1,2,3\nwipe 1", 2, "runs");
    fails("cluster 1,2,3\ncrash 1\nexpect value 1 a = none", 3, "down");
    fails("cluster 1,2,3\nmark\ncrash leader\nuntil leader within 5s\nexpect same-term", 5, "the term was");
    fails("cluster 1,2,3\nconfig pre_vote=false", 2, "before the first node");
    fails("cluster 1,2,3\npartition 1 | 2 | 3\nrun 2s\nuntil leader within 2s", 4, "no leader");
    fails("cluster 1,2,3\ncrash 1\ncrash 2\nwrite 3 a=1 within 2s", 4, "fails");
    fails("cluster 1,2,3\nend w ok", 2, "no operation w");
}
