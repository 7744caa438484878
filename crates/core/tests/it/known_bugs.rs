//! Bugs that others had (`docs/known-bugs.md`), for which no story stands elsewhere.

use raftwright_core::{
    HeartbeatResponse, Input, LogIdOf, Membership, MembershipOf, Message, ReadPolicy, Reply, Report, Restored, Round,
    StoredMembership, Ticket, VoteOf,
};

use crate::solo::{Solo, Start, identity};
use crate::types::{Item, Member, Standard, vote};

fn at(term: u64, index: u64) -> LogIdOf<Standard> {
    crate::types::id::<Standard>(term, index)
}

fn leader(voters: u64) -> Solo {
    let mut server: Solo = Solo::start(Start { voters, ..Start::default() });
    server.step(Input::Elect);
    server.grant(&(2..=voters).collect::<Vec<u64>>());
    assert!(server.replica.is_leader());
    server
}

fn read(ticket: Ticket) -> Input<Standard> {
    Input::Read { ticket, policy: ReadPolicy::ReadIndex }
}

fn answer(from: u64, asked: VoteOf<Standard>, round: Round) -> Input<Standard> {
    Input::HeartbeatResponse(HeartbeatResponse {
        from: identity(from),
        round,
        asked,
        accepted: true,
        vote: Some(asked),
    })
}

/// The round of the next heartbeat, which is sent.
fn next_round(server: &mut Solo) -> Round {
    server.step(Input::Beat);
    let mut rounds = server.sent_since(0).into_iter().filter_map(|(_, message)| match message {
        Message::Heartbeat(request) => Some(request.round),
        Message::Vote(_) | Message::TransferLeader(_) => None,
    });
    rounds.next_back().expect("a leader beats")
}

/// BUGS 9: a read is confirmed by a round of its own leadership, which the core names. An answer that the same server was sent
/// in an earlier leadership releases nothing, though its round has the same number.
#[test]
fn a_round_of_an_earlier_leadership_confirms_no_read() {
    let mut server = leader(3);
    let first = *server.replica.vote().unwrap();
    server.call(read);
    let round = next_round(&mut server);
    // Another term, and back.
    let higher = vote::<Standard>(server.term() + 1, 2);
    let refusal = HeartbeatResponse { from: identity(2), round, asked: first, accepted: false, vote: Some(higher) };
    server.step(Input::HeartbeatResponse(refusal));
    assert!(!server.replica.is_leader());
    assert_eq!(server.unanswered(), 0, "its readers are told");
    server.step(Input::Elect);
    server.grant(&[2, 3]);
    let second = *server.replica.vote().unwrap();
    assert!(server.replica.is_leader() && second > first);
    // The new leadership's own entry is committed, so that reads wait for their round alone.
    server.matched(2, server.replica.last_log_id().unwrap());
    server.call(read);
    let round = next_round(&mut server);
    server.step(answer(2, first, round));
    server.step(answer(3, first, Round(round.0 + 1)));
    assert_eq!(server.unanswered(), 1, "the old leadership's answers confirm nothing");
    server.step(answer(2, second, round));
    assert_eq!(server.unanswered(), 0);
}

/// BUGS 11: with 2, 3, 4, 5 and 6 voters a read waits for exactly a majority, the leader included.
#[test]
fn a_read_waits_for_exactly_a_majority() {
    for voters in 2..=6 {
        let mut server = leader(voters);
        let asked = *server.replica.vote().unwrap();
        let last = server.replica.last_log_id().unwrap();
        for from in 2..=voters {
            server.matched(from, last);
        }
        assert_eq!(server.call(read), None);
        let round = next_round(&mut server);
        let majority = voters / 2 + 1;
        for from in 2..majority {
            server.step(answer(from, asked, round));
            // Said twice, it counts once.
            server.step(answer(from, asked, round));
        }
        assert_eq!(server.unanswered(), 1, "{} of {voters} is no majority", majority - 1);
        server.step(answer(majority, asked, round));
        assert_eq!(server.unanswered(), 0, "{majority} of {voters} is one");
    }
}

/// BUGS 18: when the address of a member changes, a second catch-up to it begins. What the first one still reports counts for
/// nothing, and cuts nothing.
#[test]
fn of_two_catch_ups_to_one_peer_the_later_counts() {
    let mut server = leader(3);
    let last = server.replica.last_log_id().unwrap();
    server.matched(2, last);
    server.matched(3, last);
    let old = server.stream_to(2);
    let node = Member { address: 20, incarnation: None };
    assert_eq!(server.call(|ticket| Input::AddLearner { ticket, id: 2, node }), None);
    let new = server.stream_to(2);
    assert_ne!(old, new, "it is replicated to at its new address");
    let (committed, last) = (server.replica.committed(), server.replica.last_log_id().unwrap());
    assert!(committed < Some(last));
    let report = |stream| Input::Stream { stream, report: Report::Matched { from: identity(2), matched: last } };
    server.step(report(old));
    assert_eq!(server.replica.committed(), committed, "an acknowledgement of the first catch-up");
    server.step(Input::Stream { stream: old, report: Report::NeedsSnapshot });
    server.step(report(new));
    assert_eq!(server.replica.committed(), Some(last));
    assert_eq!(server.replica.last_log_id(), Some(last));
}

fn members(ids: std::ops::RangeInclusive<u64>) -> MembershipOf<Standard> {
    let nodes = ids.clone().map(|id| (id, Member { address: id, incarnation: None })).collect();
    Membership::new(vec![ids.collect()], nodes).unwrap()
}

/// BUGS 25: a change that is committed and not applied yet, or not even known to be committed, decides who votes.
#[test]
fn a_campaign_goes_by_the_membership_in_the_log() {
    let stored = |log_id, membership| StoredMembership { log_id: Some(log_id), membership };
    let restored = Restored::<Standard> {
        vote: Some(vote::<Standard>(1, 9)),
        key_log_ids: vec![at(0, 1), at(1, 2)],
        last_log_id: Some(at(1, 2)),
        memberships: vec![stored(at(0, 1), members(1..=3)), stored(at(1, 2), members(1..=5))],
        ..Restored::default()
    };
    let mut server: Solo = Solo::restore(1, Start::<Standard>::default().config, restored);
    let begin = server.step(Input::Elect);
    let asked: Vec<u64> = server.sent_since(begin).into_iter().map(|(to, _)| to).collect();
    assert_eq!(asked, [2, 3, 4, 5]);
    server.grant(&[2]);
    assert!(!server.replica.is_leader(), "two of three, but not of five");
    server.grant(&[4]);
    assert!(server.replica.is_leader());
}

/// BUGS 35: an election that is asked of a leader changes nothing, however often.
#[test]
fn an_election_asked_of_a_leader_changes_nothing() {
    let mut server = leader(3);
    let (vote, done) = (server.replica.vote().copied(), server.done.len());
    for _ in 0..3 {
        server.step(Input::Elect);
    }
    assert!(server.replica.is_leader());
    assert_eq!((server.replica.vote().copied(), server.done.len()), (vote, done), "no vote, no message, no write");
}

/// BUGS 47: indexes and terms go past 32 bits as if there were nothing there.
#[test]
fn indexes_and_terms_pass_32_bits() {
    let edge = u64::from(u32::MAX);
    let purged = at(edge - 1, edge - 1);
    let restored = Restored::<Standard> {
        vote: Some(vote::<Standard>(edge - 1, 9)),
        purged: Some(purged),
        key_log_ids: Vec::new(),
        last_log_id: Some(purged),
        committed: Some(purged),
        memberships: vec![StoredMembership { log_id: Some(at(0, 1)), membership: members(1..=3) }],
        snapshot: Some(purged),
    };
    let mut server: Solo = Solo::restore(1, Start::<Standard>::default().config, restored);
    server.step(Input::Elect);
    server.grant(&[2, 3]);
    assert!(server.replica.is_leader());
    assert_eq!(server.term(), edge);
    for i in 1..=3 {
        let entry = Item::data("x");
        let proposed = server.call(|ticket| Input::Propose { ticket, entry });
        let last = server.replica.last_log_id().unwrap();
        assert_eq!(proposed, Some(Reply::Proposed(last)));
        assert_eq!(last, at(edge, edge + i), "behind the blank entry at the edge");
        let begin = server.matched(3, last);
        assert_eq!(server.applied_since(begin), [last]);
    }
    // The next term is past the edge too, and so is a follower's view of it.
    assert!(server.ask_vote(2, edge + 1, server.replica.last_log_id()).is_some());
    let behind = at(edge, edge + 3);
    server.append(2, edge + 2, Some(behind), &[at(edge + 2, edge + 4)], Some(at(edge + 2, edge + 4)));
    assert_eq!((server.term(), server.replica.committed()), (edge + 2, Some(at(edge + 2, edge + 4))));
}
