//! Every checker can fail: each is shown a world in which its property is broken, and one in which it is not.

#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)] // a test fails by panicking

use std::collections::{BTreeMap, BTreeSet};

use raftwright_core::{Incarnation, RaftEntry, Vote as CoreVote, VoteKind, Write, WriteId};
use raftwright_sim::checkers::{Checkers, Disks, Fact, GodView, Ledger, Who};
use raftwright_sim::core_world::store::{LogView, SimStore};
use raftwright_sim::core_world::types::{LogId, Membership, SimEntry, SimNode, Vote, log_id};

/// Nodes whose disks a test writes by hand.
#[derive(Debug, Default)]
struct World {
    disks: BTreeMap<u64, SimStore>,
    writes: u64,
    ledger: Ledger,
    checkers: Checkers,
}

#[derive(Debug)]
struct OnlyDisks<'a>(&'a BTreeMap<u64, SimStore>);

impl Disks for OnlyDisks<'_> {
    fn disk(&self, node: u64) -> Option<&SimStore> {
        self.0.get(&node)
    }
    fn incarnation(&self, node: u64) -> Option<Incarnation> {
        Some(Incarnation(node))
    }
    fn former(&self, _: u64) -> Option<(Incarnation, &LogView)> {
        None
    }
}

fn membership(sets: &[&[u64]]) -> Membership {
    let sets: Vec<BTreeSet<u64>> = sets.iter().map(|set| set.iter().copied().collect()).collect();
    let nodes = (1..=5).map(|id| (id, SimNode::default())).collect();
    Membership::new(sets, nodes).expect("a possible membership")
}

fn blank(term: u64, index: u64) -> SimEntry {
    SimEntry::blank(log_id(term, index))
}

fn candidate(term: u64, node: u64) -> Vote {
    CoreVote::new(term, node)
}

impl World {
    /// Nodes 1 to 3 have the first membership, durably, and it is committed.
    fn new() -> Self {
        let mut world = World::default();
        for node in 1..=3 {
            world.append(node, vec![SimEntry::of_membership(log_id(0, 1), membership(&[&[1, 2, 3]]))], true);
        }
        world.commit(1);
        world
    }

    fn write(&mut self, node: u64, op: Write<raftwright_sim::core_world::types::SimTypes>, durable: bool) {
        self.writes += 1;
        let disk = self.disks.entry(node).or_default();
        disk.submit(WriteId(self.writes), op, None).expect("the write fits");
        if durable {
            while disk.complete_oldest().is_some() {}
        }
    }

    fn append(&mut self, node: u64, entries: Vec<SimEntry>, durable: bool) {
        self.write(node, Write::Append(entries), durable);
    }

    fn vote(&mut self, node: u64, vote: Vote, durable: bool) {
        self.write(node, Write::Vote(vote), durable);
    }

    /// Node 1's log up to there is committed.
    fn commit(&mut self, upto: u64) {
        for index in self.ledger.last_index() + 1..=upto {
            let stored = self.disks[&1].readable().get(index).expect("node 1 has it").clone();
            self.ledger.push(stored.entry.log_id, stored.chain);
        }
    }

    fn see(&mut self, node: u64, fact: Fact) -> Result<(), String> {
        self.see_in(node, 1, fact)
    }

    fn see_in(&mut self, node: u64, boot: u64, fact: Fact) -> Result<(), String> {
        let who = Who { node, incarnation: Incarnation(node), boot };
        let disks = OnlyDisks(&self.disks);
        let view = GodView { disks: &disks, ledger: &self.ledger };
        self.checkers.observe(who, &fact, &view).map_err(|broken| broken.property.to_owned())
    }

    fn chain(&self, node: u64, index: u64) -> u64 {
        self.disks[&node].readable().get(index).expect("it is there").chain
    }
}

#[track_caller]
fn broken(seen: Result<(), String>, property: &str) {
    assert_eq!(seen, Err(property.to_owned()));
}

#[test]
fn two_leaders_of_a_term_are_found() {
    let mut world = World::new();
    for node in 1..=3 {
        world.vote(node, candidate(2, 1), true);
    }
    assert_eq!(world.see(1, Fact::BecameLeader { vote: candidate(2, 1).commit() }), Ok(()));
    broken(world.see(2, Fact::BecameLeader { vote: candidate(2, 2).commit() }), "election safety");
}

#[test]
fn a_leader_without_a_quorum_of_durable_votes_is_found() {
    let mut world = World::new();
    world.vote(1, candidate(2, 1), true);
    world.vote(2, candidate(2, 1), false);
    broken(world.see(1, Fact::BecameLeader { vote: candidate(2, 1).commit() }), "election safety");
}

#[test]
fn two_votes_in_a_term_are_found_across_restarts() {
    let mut world = World::new();
    world.vote(3, candidate(2, 1), true);
    let grant = |vote| Fact::Granted { vote, kind: VoteKind::Vote };
    assert_eq!(world.see_in(3, 1, grant(candidate(2, 1))), Ok(()));
    broken(world.see_in(3, 2, grant(candidate(2, 2))), "election safety");
    // A pre-vote binds nobody.
    assert_eq!(world.see(3, Fact::Granted { vote: candidate(2, 2), kind: VoteKind::PreVote }), Ok(()));
}

#[test]
fn a_vote_that_is_said_before_it_is_durable_is_found() {
    let mut world = World::new();
    world.vote(3, candidate(2, 1), false);
    broken(world.see(3, Fact::Granted { vote: candidate(2, 1), kind: VoteKind::Vote }), "promises are durable");
    broken(world.see(3, Fact::AskedForVote { vote: candidate(3, 3), kind: VoteKind::Vote }), "promises are durable");
}

#[test]
fn an_acknowledgement_of_what_is_not_on_the_disk_is_found() {
    let mut world = World::new();
    world.append(2, vec![blank(1, 2)], false);
    broken(world.see(2, Fact::Acknowledged { matched: log_id(1, 2) }), "promises are durable");
    assert_eq!(world.see(2, Fact::Acknowledged { matched: log_id(0, 1) }), Ok(()));
}

#[test]
fn a_leader_that_truncates_is_found() {
    let mut world = World::new();
    world.append(1, vec![blank(1, 2)], true);
    let leading = Some(candidate(1, 1).commit());
    broken(world.see(1, Fact::Truncating { since: 2, leading }), "leader append-only");
    assert_eq!(world.see(1, Fact::Truncating { since: 2, leading: None }), Ok(()));
}

#[test]
fn logs_that_share_an_entry_and_differ_before_it_are_found() {
    let mut world = World::new();
    world.append(1, vec![blank(1, 2), blank(2, 3)], true);
    world.append(2, vec![blank(2, 2), blank(2, 3)], true);
    let appended = Fact::Appended { first: 3, last: 3, leading: None };
    assert_eq!(world.see(1, appended), Ok(()));
    broken(world.see(2, appended), "log matching");
}

#[test]
fn a_leader_that_lacks_a_committed_entry_is_found() {
    let mut world = World::new();
    world.append(1, vec![blank(1, 2)], true);
    world.commit(2);
    for node in 1..=3 {
        world.vote(node, candidate(2, 3), true);
    }
    broken(world.see(3, Fact::BecameLeader { vote: candidate(2, 3).commit() }), "leader completeness");
}

#[test]
fn applying_what_is_not_committed_twice_or_differently_is_found() {
    let mut world = World::new();
    let applied = |log_id, chain, state| Fact::Applied { log_id, chain, state };
    let first = world.chain(1, 1);
    assert_eq!(world.see(1, applied(log_id(0, 1), first, 7)), Ok(()));
    broken(world.see(1, applied(log_id(0, 1), first, 7)), "state machine safety");
    broken(world.see(2, applied(log_id(0, 1), first, 8)), "state machine safety");
    world.append(1, vec![blank(1, 2)], true);
    let second = world.chain(1, 2);
    broken(world.see_in(1, 2, applied(log_id(1, 2), second, 9)), "state machine safety");
}

#[test]
fn dropping_a_committed_entry_is_found() {
    let mut world = World::new();
    world.append(1, vec![blank(1, 2)], true);
    world.append(2, vec![blank(1, 2)], true);
    world.commit(2);
    let property = "committed entries are immutable";
    broken(world.see(2, Fact::Truncating { since: 2, leading: None }), property);
    broken(world.see(2, Fact::Committed { upto: log_id(2, 2) }), property);
    broken(world.see(2, Fact::Purging { upto: log_id(1, 3) }), property);
    assert_eq!(world.see(2, Fact::Purging { upto: log_id(1, 2) }), Ok(()));
}

fn stands(upto: LogId, term: u64) -> Fact {
    Fact::CommitStands { upto, leading: Some(term), config_index: 1 }
}

#[test]
fn a_commit_without_a_quorum_of_disks_is_found() {
    let mut world = World::new();
    world.append(1, vec![blank(1, 2)], true);
    world.append(2, vec![blank(1, 2)], false);
    broken(world.see(1, stands(log_id(1, 2), 1)), "commit on a durable quorum");
    world.append(3, vec![blank(1, 2)], true);
    assert_eq!(world.see(1, stands(log_id(1, 2), 1)), Ok(()));
}

/// The paper's Figure 8: an entry of an earlier term on a majority is not committed by counting.
#[test]
fn a_commit_of_an_earlier_term_by_counting_is_found() {
    let mut world = World::new();
    for node in 1..=3 {
        world.append(node, vec![blank(1, 2)], true);
    }
    broken(world.see(1, stands(log_id(1, 2), 3)), "commit on a durable quorum");
}

#[test]
fn a_joint_commit_needs_both_majorities() {
    let mut world = World::new();
    let joint = SimEntry::of_membership(log_id(1, 2), membership(&[&[1, 2, 3], &[1, 4, 5]]));
    for node in 1..=3 {
        world.append(node, vec![joint.clone()], true);
    }
    let commit = Fact::CommitStands { upto: log_id(1, 2), leading: Some(1), config_index: 2 };
    broken(world.see(1, commit), "commit on a durable quorum");
    for node in 4..=5 {
        world.append(node, vec![SimEntry::of_membership(log_id(0, 1), membership(&[&[1, 2, 3]])), joint.clone()], true);
    }
    assert_eq!(world.see(1, commit), Ok(()));
}

#[test]
fn a_vote_or_a_commit_index_that_goes_back_is_found() {
    let mut world = World::new();
    let property = "term, vote and commit index never go back";
    world.vote(1, candidate(5, 1), true);
    assert_eq!(world.see(1, Fact::DiskChanged), Ok(()));
    world.vote(1, candidate(4, 1), true);
    broken(world.see(1, Fact::DiskChanged), property);
    world.append(2, vec![blank(1, 2)], true);
    world.append(1, vec![blank(1, 2)], true);
    world.commit(2);
    assert_eq!(world.see(2, Fact::Committed { upto: log_id(1, 2) }), Ok(()));
    broken(world.see(2, Fact::Committed { upto: log_id(0, 1) }), property);
    // A new process may have to learn it again.
    assert_eq!(world.see_in(2, 2, Fact::Committed { upto: log_id(0, 1) }), Ok(()));
}

#[test]
fn a_lost_vote_is_found() {
    let mut world = World::new();
    world.vote(1, candidate(5, 1), true);
    assert_eq!(world.see(1, Fact::DiskChanged), Ok(()));
    world.disks.insert(1, SimStore::default());
    broken(world.see_in(1, 2, Fact::Booted), "term, vote and commit index never go back");
}

#[test]
fn membership_steps_that_skip_one_come_too_early_or_overlap_are_found() {
    let property = "membership changes one step at a time";
    let change = |term, index, sets: &[&[u64]]| SimEntry::of_membership(log_id(term, index), membership(sets));
    let leading = Some(candidate(1, 1).commit());
    let appended = |index, leading| Fact::Appended { first: index, last: index, leading };

    // From one set of voters to another without a joint membership between.
    let mut world = World::new();
    world.append(1, vec![change(1, 2, &[&[1, 4, 5]])], true);
    broken(world.see(1, appended(2, None)), property);

    // Before an entry of the leader's own term is committed.
    let mut world = World::new();
    world.append(1, vec![change(1, 2, &[&[1, 2, 3], &[1, 2]])], true);
    broken(world.see(1, appended(2, leading)), property);

    // A joint membership is left to either side, and to no third.
    for (sets, allowed) in [(&[1_u64, 2][..], true), (&[1, 2, 3], true), (&[1, 3], false)] {
        let mut world = World::new();
        world.append(1, vec![blank(1, 2), change(1, 3, &[&[1, 2, 3], &[1, 2]])], true);
        world.commit(3);
        world.append(1, vec![change(1, 4, &[sets])], true);
        let seen = world.see(1, appended(4, leading));
        assert_eq!(seen.is_ok(), allowed, "{sets:?}: {seen:?}");
    }

    // A leader takes back a joint membership of its own that is not committed; not one that another has left.
    for (term, allowed) in [(1, true), (2, false)] {
        let mut world = World::new();
        world.append(1, vec![blank(1, 2), change(1, 3, &[&[1, 2, 3], &[1, 2]])], true);
        world.commit(2);
        world.append(1, vec![change(term, 4, &[&[1, 2, 3]])], true);
        let seen = world.see(1, appended(4, Some(candidate(term, 1).commit())));
        assert_eq!(seen.is_ok(), allowed, "{seen:?}");
    }

    // While the one before is not committed.
    let mut world = World::new();
    world.append(1, vec![blank(1, 2), change(1, 3, &[&[1, 2, 3], &[1, 2]])], true);
    world.commit(2);
    assert_eq!(world.see(1, appended(3, leading)), Ok(()));
    world.append(1, vec![change(1, 4, &[&[1, 2]])], true);
    broken(world.see(1, appended(4, leading)), property);
}

#[test]
fn a_read_that_would_miss_a_commit_is_found() {
    let mut world = World::new();
    world.append(1, vec![blank(1, 2)], true);
    world.commit(2);
    let answered = |committed_at_call| Fact::ReadAnswered { committed_at_call, read_log_id: log_id(0, 1) };
    broken(world.see(3, answered(2)), "reads see what was committed");
    assert_eq!(world.see(3, answered(1)), Ok(()));
}

#[test]
fn a_snapshot_that_is_no_prefix_is_found() {
    let property = "a snapshot is a prefix of the log";
    let seen = || {
        let mut world = World::new();
        world.append(1, vec![blank(1, 2)], true);
        world.commit(2);
        let chain = [1, 2].map(|index| world.chain(1, index));
        for (log_id, chain) in [(log_id(0, 1), chain[0]), (log_id(1, 2), chain[1])] {
            assert_eq!(world.see(1, Fact::Applied { log_id, chain, state: 10 + log_id.index }), Ok(()));
        }
        (world, chain)
    };
    let kept = |log_id, chain, state| Fact::SnapshotKept { log_id, chain, state };
    let installed = |log_id, chain, state| Fact::Installed { log_id, chain, state };

    let (mut world, chain) = seen();
    assert_eq!(world.see(1, kept(log_id(1, 2), chain[1], 12)), Ok(()));
    assert_eq!(world.see(2, installed(log_id(1, 2), chain[1], 12)), Ok(()));
    // Another state than the one after that entry.
    broken(world.see(1, kept(log_id(1, 2), chain[1], 11)), property);
    let (mut world, chain) = seen();
    broken(world.see(2, installed(log_id(0, 1), chain[0], 12)), property);
    // An entry that is not committed, and one of another log.
    let (mut world, chain) = seen();
    broken(world.see(1, kept(log_id(1, 3), chain[1], 12)), property);
    let (mut world, chain) = seen();
    broken(world.see(1, kept(log_id(2, 2), chain[1], 12)), property);
    let (mut world, chain) = seen();
    broken(world.see(1, kept(log_id(1, 2), chain[0], 12)), property);

    // A state is not replaced by one that is no newer.
    let (mut world, chain) = seen();
    broken(world.see(1, installed(log_id(0, 1), chain[0], 11)), "state machine safety");
}

#[test]
fn a_lease_that_outlives_an_election_is_found() {
    let mut world = World::new();
    let first = candidate(1, 1).commit();
    let lead = |world: &mut World, term, node| {
        for voter in 1..=3 {
            world.vote(voter, candidate(term, node), true);
        }
        world.see(node, Fact::BecameLeader { vote: candidate(term, node).commit() })
    };
    assert_eq!(lead(&mut world, 1, 1), Ok(()));
    assert_eq!(world.see(1, Fact::LeaseHeld { vote: first }), Ok(()));
    assert_eq!(lead(&mut world, 2, 2), Ok(()));
    assert_eq!(world.see(2, Fact::LeaseHeld { vote: candidate(2, 2).commit() }), Ok(()));
    broken(world.see(1, Fact::LeaseHeld { vote: first }), "a lease is exclusive");
}

#[test]
fn every_property_names_its_source_and_is_tested_here() {
    let tested = include_str!("checkers.rs");
    for (property, source) in Checkers::default().properties() {
        assert!(!source.is_empty());
        assert!(tested.matches(property).count() > 0, "{property}");
    }
}
