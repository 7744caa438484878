//! What the simulator and reviews have found, each as small as it gets.

use std::collections::BTreeMap;

use raftwright_core::{
    Identity, Incarnation, Input, LeaderId, LogIdOf, Membership, ReplicaConfig, Reply, Restored, ServerState,
    StoredMembership, VoteKind, VoteRequest,
};

use crate::solo::{Solo, Start};
use crate::types::{Item, Member, Standard, vote};

fn id(term: u64, index: u64) -> LogIdOf<Standard> {
    crate::types::id::<Standard>(term, index)
}

/// Found by the simulator (profile membership, seed 152). What is said about a vote that is durable has nothing to wait for,
/// however many answers about entries do (BUGS 45).
#[test]
fn answers_about_entries_hold_up_no_heartbeat() {
    let config = ReplicaConfig { promises_max: 2, pre_vote: false, ..ReplicaConfig::default() };
    let vote = Some(vote::<Standard>(1, 2));
    let mut server: Solo = Solo::start(Start { config, terms: vec![1], vote, ..Start::default() });
    assert!(server.heartbeat(2, 2, None).is_some_and(|answer| answer.accepted));
    server.prompt = false;
    for index in [3, 4] {
        assert!(
            server.append(2, 2, Some(id(if index == 3 { 1 } else { 2 }, index - 1)), &[id(2, index)], None).is_none()
        );
    }
    assert_eq!(server.replica.load().promises, 2);
    assert!(server.heartbeat(2, 2, None).is_some_and(|answer| answer.accepted));
}

/// Found at random (advanced leader ids, seed 1824). A server that refuses a candidate still learns its term, or candidates
/// that cannot win stay a term ahead of the one that can (Raft §5.1).
#[test]
fn a_refused_candidate_teaches_its_term() {
    let mut server: Solo = Solo::with_log(&[2]);
    let refused = server.ask_vote(3, 34, Some(id(1, 2)));
    assert!(refused.is_some_and(|answer| !answer.granted));
    server.step(Input::Elect);
    assert_eq!((server.replica.server_state(), server.term()), (ServerState::Candidate, 35));
}

/// Followers alone can commit. What is still queued for the leader's own disk keeps its room until it is there, or that queue
/// grows past every bound.
#[test]
fn what_waits_for_the_own_disk_keeps_its_room() {
    let mut server: Solo = Solo::start(Start::default());
    server.lead();
    server.prompt = false;
    let entry = Item::data("123456");
    let proposed = server.call(|ticket| Input::Propose { ticket, entry });
    let Some(Reply::Proposed(log_id)) = proposed else { panic!("{proposed:?}") };
    server.matched(2, log_id);
    server.matched(3, log_id);
    assert_eq!(server.replica.committed(), Some(log_id));
    assert_eq!(server.replica.load().uncommitted_bytes, 6);
    server.complete_all();
    assert_eq!(server.replica.load().uncommitted_bytes, 0);
}

/// Found by the simulator (profile mixed, seed 38). A server that slept through another's removal and return knows it by its
/// former incarnation. It votes for it all the same: whose vote counts is judged by who counts (Thesis §4.1).
#[test]
fn a_candidate_is_not_judged_by_an_old_membership() {
    let bound = |id: u64| (id, Member { incarnation: Some(Incarnation(id)), ..Member::default() });
    let nodes: BTreeMap<u64, Member> = [1, 2, 3].into_iter().map(bound).collect();
    let membership = Membership::new(vec![[1, 2, 3].into()], nodes).unwrap();
    let first = id(0, 1);
    let restored = Restored {
        key_log_ids: vec![first],
        last_log_id: Some(first),
        memberships: vec![StoredMembership { log_id: Some(first), membership }],
        ..Restored::default()
    };
    let mut server: Solo = Solo::restore(1, ReplicaConfig::default(), restored);
    let from = Identity { id: 3, incarnation: Some(Incarnation(99)) };
    let asked = vote::<Standard>(5, 3);
    assert_eq!(asked.leader_id.node_id(), 3);
    let request = VoteRequest { from, vote: asked, last_log_id: Some(id(4, 9)), kind: VoteKind::Vote, permit: None };
    match server.call(|ticket| Input::VoteRequest { ticket, request }) {
        Some(Reply::Vote(answer)) => assert!(answer.granted),
        other => panic!("{other:?}"),
    }
}
