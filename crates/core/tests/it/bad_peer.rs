//! Peers that are broken, confused or hostile. Whatever they say is answered or dropped, panics nobody, and changes nothing
//! that it must not (FAULTS I6).

use raftwright_core::invariants::Facts;
use raftwright_core::{
    AppendEntriesRequest, AppendOutcome, Effect, HeartbeatResponse, Identity, Incarnation, Input, LogIdOf, LogIdOption,
    Membership, MembershipOf, Message, Note, PeerRefusal, ReadPolicy, Replica, ReplicaConfig, Reply, Report,
    RestoreError, Restored, Rng, Round, ServerState, StoredMembership, StreamId, TransferLeaderRequest, VoteKind,
    VoteOf, VoteRequest, VoteResponse, WriteId,
};

use crate::cluster::{Cluster, Setup};
use crate::disk::Image;
use crate::solo::{Solo, Start, identity};
use crate::types::{Advanced, Item, Kind, Member, Payload, Standard, led, vote};

type Id = LogIdOf<Standard>;

fn id(term: u64, index: u64) -> Id {
    crate::types::id::<Standard>(term, index)
}

const MALFORMED: Option<AppendOutcome<Standard>> = Some(AppendOutcome::Refused(PeerRefusal::Malformed));

/// Server 1 with five entries, of which the first three are committed, following nobody.
fn follower() -> Solo {
    Solo::start(Start { terms: vec![1, 1, 2, 2], vote: Some(vote::<Standard>(2, 9)), committed: 3, ..Start::default() })
}

fn last_note(server: &Solo) -> bool {
    server.done.iter().any(|effect| matches!(effect, Effect::Note(Note::BadPeer { .. })))
}

#[test]
fn entries_that_cannot_be_are_refused_and_change_no_log() {
    let max = u64::MAX;
    let cases: [(Option<Id>, Vec<Id>, &str); 10] = [
        (Some(id(2, 5)), vec![id(3, 7)], "a gap behind the previous entry"),
        (Some(id(2, 5)), vec![id(3, 6), id(3, 8)], "a gap in the middle"),
        (Some(id(2, 5)), vec![id(3, 6), id(3, 6)], "an index twice"),
        (Some(id(2, 5)), vec![id(3, 6), id(2, 7)], "terms that go back"),
        (Some(id(2, 5)), vec![id(1, 6)], "an entry older than the one before"),
        (Some(id(2, 5)), vec![id(4, 6)], "an entry of a term to come"),
        (Some(id(9, 5)), vec![], "a previous entry of a term to come"),
        (Some(id(2, 0)), vec![id(3, 1)], "a previous entry at index 0"),
        (Some(id(3, max)), vec![id(3, 1)], "an index behind the last number"),
        (None, vec![id(3, 2)], "a start that is none"),
    ];
    for (prev, entries, what) in cases {
        let mut server = follower();
        let log = server.log.clone();
        assert_eq!(server.append(2, 3, prev, &entries, Some(id(3, max))), MALFORMED, "{what}");
        assert_eq!(server.log, log, "{what}");
        assert_eq!(server.replica.committed(), Some(id(1, 3)), "{what}");
        assert!(last_note(&server), "{what}: the operator hears of it");
    }
}

#[test]
fn committed_entries_are_never_replaced() {
    let cases = [
        (Some(id(0, 1)), vec![id(3, 2)], "another entry in their place"),
        (Some(id(1, 2)), vec![id(2, 3), id(3, 4)], "another one at the commit index"),
        (None, vec![id(3, 1)], "another start of the log"),
        (Some(id(3, 2)), vec![], "another previous entry"),
        (Some(id(2, 3)), vec![id(3, 4)], "another previous entry at the commit index"),
    ];
    for (prev, entries, what) in cases {
        let mut server = follower();
        let log = server.log.clone();
        assert_eq!(server.append(2, 3, prev, &entries, None), MALFORMED, "{what}");
        assert_eq!(server.log, log, "{what}");
    }
}

#[test]
fn a_commit_index_beyond_everything_commits_only_what_is_verified() {
    let mut server = follower();
    server.heartbeat(2, 3, Some(id(3, u64::MAX)));
    assert_eq!(server.replica.committed(), Some(id(1, 3)));
    server.append(2, 3, Some(id(2, 4)), &[], Some(id(3, u64::MAX)));
    assert_eq!(server.replica.committed(), Some(id(2, 4)));
    server.append(2, 3, Some(id(2, 5)), &[id(3, 6)], Some(id(u64::MAX, u64::MAX)));
    assert_eq!(server.replica.committed(), Some(id(3, 6)));
}

/// A follower whose log is purged up to T5.10, with two entries behind that.
fn purged() -> Solo {
    let membership = StoredMembership { log_id: Some(id(0, 1)), membership: three() };
    let restored = Restored {
        vote: Some(vote::<Standard>(5, 9)),
        purged: Some(id(5, 10)),
        key_log_ids: vec![id(5, 11)],
        last_log_id: Some(id(5, 12)),
        committed: Some(id(5, 10)),
        memberships: vec![membership],
        snapshot: Some(id(5, 10)),
    };
    Solo::restore(1, Start::<Standard>::default().config, restored)
}

fn three() -> MembershipOf<Standard> {
    let nodes = (1..=3).map(|id| (id, Member { address: id, incarnation: None })).collect();
    Membership::new(vec![(1..=3).collect()], nodes).unwrap()
}

/// What was purged was committed: entries that contradict it are refused, though it cannot be read any more.
#[test]
fn entries_behind_what_was_purged_must_not_contradict_it() {
    let cases = [
        (Some(id(1, 8)), vec![id(1, 9), id(1, 10), id(1, 11)], "an older term across the end of what was purged"),
        (Some(id(1, 8)), vec![id(1, 9), id(5, 10), id(4, 11)], "terms that go back"),
        (Some(id(1, 8)), vec![id(6, 9)], "a later term inside"),
        (Some(id(6, 8)), vec![id(6, 9)], "a later term before"),
        (Some(id(4, 10)), vec![id(6, 11)], "another entry at its end"),
        (None, (1..=13).map(|index| id(1, index)).collect(), "a whole other log"),
    ];
    for (prev, entries, what) in cases {
        let mut server = purged();
        assert_eq!(server.append(2, 6, prev, &entries, None), MALFORMED, "{what}");
        assert_eq!(server.replica.last_log_id(), Some(id(5, 12)), "{what}");
    }
    let mut server = purged();
    let outcome = server.append(2, 6, Some(id(1, 8)), &[id(3, 9), id(5, 10), id(5, 11), id(6, 12)], None);
    assert_eq!(outcome, Some(AppendOutcome::Success { matched: Some(id(6, 12)) }), "what fits is taken");
}

#[test]
fn a_leadership_that_cannot_be_is_not_followed() {
    let cases: [(u64, VoteOf<Standard>, &str); 4] = [
        (2, vote::<Standard>(3, 2), "a vote that no quorum has granted"),
        (2, led::<Standard>(3, 3), "somebody else's vote"),
        (1, led::<Standard>(3, 1), "our own"),
        (2, led::<Standard>(u64::MAX, 2), "the last of all terms"),
    ];
    for (from, vote, what) in cases {
        let mut server = follower();
        let before = Facts::of(&server.replica);
        let request = AppendEntriesRequest {
            from: identity(from),
            vote,
            prev_log_id: Some(id(2, 5)),
            entries: vec![Item::at(id(3, 6), "x")],
            committed: Some(id(2, 5)),
        };
        let reply = server.call(|ticket| Input::AppendEntries { ticket, request });
        assert!(matches!(reply, Some(Reply::Append(_))), "{what}");
        let request =
            raftwright_core::HeartbeatRequest { from: identity(from), vote, round: Round(u64::MAX), committed: None };
        let reply = server.call(|ticket| Input::Heartbeat { ticket, request });
        assert!(matches!(reply, Some(Reply::Heartbeat(HeartbeatResponse { accepted: false, .. }))), "{what}");
        assert_eq!(Facts::of(&server.replica), before, "{what}");
    }
}

#[test]
fn a_vote_that_cannot_be_is_not_given() {
    let cases: [(u64, VoteOf<Standard>, &str); 4] = [
        (2, led::<Standard>(3, 2), "a leader's vote"),
        (2, vote::<Standard>(3, 3), "in somebody else's name"),
        (1, vote::<Standard>(3, 1), "in ours"),
        (2, vote::<Standard>(u64::MAX, 2), "the last of all terms"),
    ];
    for (from, vote, what) in cases {
        for kind in [VoteKind::PreVote, VoteKind::Vote, VoteKind::Transfer] {
            let mut server = follower();
            let before = Facts::of(&server.replica);
            let request = VoteRequest {
                from: identity(from),
                vote,
                last_log_id: Some(id(u64::MAX, u64::MAX)),
                kind,
                permit: None,
            };
            let reply = server.call(|ticket| Input::VoteRequest { ticket, request });
            assert!(matches!(reply, Some(Reply::Vote(VoteResponse { granted: false, .. }))), "{what}");
            assert_eq!(Facts::of(&server.replica), before, "{what}");
        }
    }
}

/// No message, nor a few, can leave us without a term to campaign in.
#[test]
fn no_peer_can_use_up_the_terms() {
    for shift in 0..64 {
        let term = u64::MAX >> shift;
        let mut server = follower();
        server.ask_vote(2, term, Some(id(2, 5)));
        server.heartbeat(3, term, None);
        let stranger = vote::<Standard>(term, 7);
        server.step(Input::VoteResponse(VoteResponse {
            from: identity(7),
            kind: VoteKind::Vote,
            asked: stranger,
            granted: false,
            vote: Some(stranger),
        }));
        server.pass(10_000);
        server.step(Input::Elect);
        assert_eq!(server.replica.server_state(), ServerState::Candidate, "after term {term}");
        server.grant(&[2, 3]);
        assert!(server.replica.is_leader(), "after term {term}");
    }
}

/// A vote counts when it is on the disk, and nobody can say it in our name.
#[test]
fn a_vote_in_our_own_name_does_not_count() {
    let mut server = follower();
    server.prompt = false;
    server.step(Input::Elect);
    server.grant(&[1, 2]);
    assert_eq!(server.replica.server_state(), ServerState::Candidate);
    server.complete_all();
    assert!(server.replica.is_leader());
}

/// BUGS 20: answers of strangers, of learners, of those who were asked for something else, and twice.
#[test]
fn only_voters_count_and_each_once() {
    let mut server: Solo = Solo::start(Start { voters: 5, ..Start::default() });
    server.step(Input::Elect);
    server.grant(&[2, 2, 2, 6, 7, 1, 1]);
    assert_eq!(server.replica.server_state(), ServerState::Candidate, "two of five");
    server.grant(&[3]);
    assert!(server.replica.is_leader());
}

fn leader() -> Solo {
    let mut server = follower();
    server.lead();
    server
}

#[test]
fn acknowledgements_of_what_a_leader_does_not_have_do_not_count() {
    let mut server = leader();
    let stream = server.stream_to(2);
    for matched in [id(3, 7), id(u64::MAX, u64::MAX), id(4, 6), id(1, 5), id(0, 0), id(3, 0)] {
        server.step(Input::Stream { stream, report: Report::Matched { from: identity(2), matched } });
        assert!(server.replica.matched().all(|(_, known)| known.is_none_or(|known| known == id(1, 3))), "{matched}");
        assert_eq!(server.replica.committed(), Some(id(1, 3)), "{matched}");
    }
}

/// A server that was removed is served until it knows. What it says is believed no more than before.
#[test]
fn acknowledgements_of_a_removed_server_are_checked_too() {
    let mut server = leader();
    let stream = server.stream_to(3);
    server.matched(2, id(3, 6));
    let voters = [1, 2].into_iter().collect();
    server.call(|ticket| Input::ChangeMembership { ticket, voters, retain: false });
    for index in [7, 8] {
        server.matched(2, id(3, index));
    }
    assert_eq!(server.replica.committed(), Some(id(3, 8)), "the uniform membership without server 3");
    for matched in [id(u64::MAX, u64::MAX), id(3, 99), id(2, 8)] {
        server.step(Input::Stream { stream, report: Report::Matched { from: identity(3), matched } });
        let known = server.replica.matched().all(|(_, known)| known.is_none_or(|known| known.index <= 8));
        assert!(known, "{matched}");
    }
    assert!(server.replica.is_leader());
}

#[test]
fn acknowledgements_of_others_than_the_target_do_not_count() {
    let mut server = leader();
    let (to_2, to_3) = (server.stream_to(2), server.stream_to(3));
    let matched = id(3, 6);
    for (stream, from) in [(to_2, 3), (to_3, 2), (to_2, 1), (to_2, 7), (StreamId(0), 2), (StreamId(99), 2)] {
        server.step(Input::Stream { stream, report: Report::Matched { from: identity(from), matched } });
        assert_eq!(server.replica.committed(), Some(id(1, 3)));
        let vote = vote::<Standard>(9, 3);
        server.step(Input::Stream { stream, report: Report::HigherVote { from: identity(from), vote } });
        assert!(server.replica.is_leader(), "{from} on {stream}");
    }
    server.step(Input::Stream { stream: to_2, report: Report::Matched { from: identity(2), matched } });
    assert_eq!(server.replica.committed(), Some(matched));
}

/// BUGS 41 and its other side: a higher vote of a member ends a leadership; what is no higher vote does not.
#[test]
fn only_a_higher_vote_of_a_member_ends_a_leadership() {
    let mut server = leader();
    let asked = *server.replica.vote().unwrap();
    let higher = vote::<Standard>(9, 2);
    let refusal =
        |from, asked, vote| HeartbeatResponse { from: identity(from), round: Round(1), asked, accepted: false, vote };
    for response in [
        refusal(7, asked, Some(higher)),
        refusal(2, vote::<Standard>(1, 1), Some(higher)),
        refusal(2, asked, None),
        refusal(2, asked, Some(vote::<Standard>(2, 3))),
        refusal(2, asked, Some(vote::<Standard>(3, 3))),
        refusal(2, asked, Some(vote::<Standard>(u64::MAX, 3))),
    ] {
        server.step(Input::HeartbeatResponse(response.clone()));
        assert!(server.replica.is_leader(), "{response:?}");
    }
    server.step(Input::HeartbeatResponse(refusal(2, asked, Some(higher))));
    assert!(!server.replica.is_leader());
}

/// A round that was never sent confirms nothing that was not asked; BUGS 9.
#[test]
fn rounds_to_come_confirm_no_read() {
    let mut server = leader();
    let asked = *server.replica.vote().unwrap();
    server.call(|ticket| Input::Read { ticket, policy: ReadPolicy::ReadIndex });
    let answer = |from, asked, round| HeartbeatResponse {
        from: identity(from),
        round: Round(round),
        asked,
        accepted: true,
        vote: Some(asked),
    };
    // From nobody, from an earlier leadership, for the round that was sent before the read came.
    server.step(Input::HeartbeatResponse(answer(7, asked, u64::MAX)));
    server.step(Input::HeartbeatResponse(answer(2, vote::<Standard>(2, 1), u64::MAX)));
    server.step(Input::HeartbeatResponse(answer(2, asked, 0)));
    assert_eq!(server.unanswered(), 1);
    server.step(Input::HeartbeatResponse(answer(2, asked, 1)));
    assert_eq!(server.unanswered(), 1, "round 1 began with the leadership, before the read");
    server.step(Input::HeartbeatResponse(answer(2, asked, 2)));
    assert_eq!(server.unanswered(), 0);
}

#[test]
fn only_the_leader_can_ask_to_take_over() {
    let mut server = follower();
    server.append(2, 3, Some(id(2, 5)), &[], None);
    let request = |from, vote, to, last| TransferLeaderRequest { from: identity(from), vote, to, last_log_id: last };
    let now = led::<Standard>(3, 2);
    for request in [
        request(3, led::<Standard>(3, 3), 1, Some(id(2, 5))),
        request(3, now, 1, Some(id(2, 5))),
        request(2, vote::<Standard>(3, 2), 1, Some(id(2, 5))),
        request(2, led::<Standard>(2, 2), 1, Some(id(2, 5))),
        request(2, led::<Standard>(u64::MAX, 2), 1, Some(id(2, 5))),
        request(2, now, 3, Some(id(2, 5))),
        request(2, now, 1, Some(id(3, 6))),
        request(2, now, 1, Some(id(u64::MAX, u64::MAX))),
    ] {
        server.step(Input::TransferRequest { request: request.clone() });
        assert_eq!(server.replica.server_state(), ServerState::Follower, "{request:?}");
    }
    server.step(Input::TransferRequest { request: request(2, now, 1, Some(id(2, 5))) });
    assert_eq!(server.replica.server_state(), ServerState::Candidate);
}

/// A membership that cannot be does not get into a log, and proposals bring none.
#[test]
fn memberships_that_cannot_be_are_refused() {
    let mut server = follower();
    let item = Item { log_id: id(3, 6), payload: Payload::Membership(Membership::default()) };
    assert_eq!(server.append_items(2, 3, Some(id(2, 5)), vec![item], None), MALFORMED);
    let mut server = leader();
    let entry = Item { log_id: id(0, 0), payload: Payload::Membership(three()) };
    let reply = server.call(|ticket| Input::Propose { ticket, entry });
    assert!(matches!(reply, Some(Reply::Refused(_))));
}

/// A leader only appends (Raft §5.3): what it has sent before it cannot replace, and no "stored" is said for what is cut.
#[test]
fn a_leader_cannot_replace_what_it_sent_before() {
    let mut server = follower();
    server.prompt = false;
    assert_eq!(server.append(2, 4, Some(id(2, 5)), &[id(3, 6), id(3, 7)], None), None);
    let outcome = server.append(2, 4, Some(id(2, 5)), &[id(3, 6), id(4, 7)], None);
    server.complete_all();
    assert_eq!(outcome, MALFORMED);
    assert_eq!(server.log.last(), Some(&id(3, 7)));
}

/// Every answer that waits for the disk has a place in a bounded queue, whatever it is and however often it is asked for.
#[test]
fn answers_that_wait_for_the_disk_are_bounded() {
    let config = ReplicaConfig { promises_max: 5, writes_max: 5, pre_vote: false, ..ReplicaConfig::default() };
    let mut server: Solo =
        Solo::start(Start { config, terms: vec![1], vote: Some(vote::<Standard>(1, 2)), ..Start::default() });
    server.prompt = false;
    for round in 0..40 {
        server.heartbeat(2, 2, None);
        server.append(2, 2, Some(id(1, 2)), &[id(2, 3)], None);
        server.append(2, 2, Some(id(2, 9)), &[], None);
        server.append(3, 1, Some(id(1, 2)), &[], None);
        server.append(2, 2, Some(id(9, 9)), &[], None);
        server.ask_vote(3, 3, Some(id(1, 2)));
        server.ask_vote(3, 1, Some(id(1, 2)));
        server.heartbeat(3, round, None);
        let load = server.replica.load();
        assert!(load.promises <= 5 && load.writes <= 6, "{load:?}");
        assert!(server.unanswered() <= 5, "{} wait", server.unanswered());
    }
    server.complete_all();
    assert_eq!(server.unanswered(), 0);
    assert_eq!(server.replica.load().promises, 0);
}

/// A vote that is given ends a leadership or a candidacy, whether or not there is room to say so: who has promised itself to
/// a higher term must not go on in a lower one.
#[test]
fn a_vote_that_is_given_is_never_given_in_secret() {
    let config = ReplicaConfig { promises_max: 3, pre_vote: false, ..ReplicaConfig::default() };
    let terms = vec![1];
    for leads in [true, false] {
        let (vote, config) = (Some(vote::<Standard>(1, 2)), config.clone());
        let mut server: Solo = Solo::start(Start { config, terms: terms.clone(), vote, ..Start::default() });
        server.step(Input::Elect);
        server.prompt = false;
        if leads {
            server.grant(&[2, 3]);
        } else {
            server.wake();
        }
        // What is refused waits for our own vote to be durable, and fills the queue.
        for _ in 0..10 {
            server.ask_vote(2, 1, Some(id(1, 2)));
        }
        server.pass(1000);
        for _ in 0..3 {
            server.ask_vote(3, 9, Some(id(9, 9)));
            let (state, vote) = (server.replica.server_state(), *server.replica.vote().unwrap());
            let own = vote.node_id() == 1;
            assert_eq!(own, state != ServerState::Follower, "{state} with vote {vote}");
        }
        server.complete_all();
        server.grant(&[2, 3]);
        assert_eq!(server.unanswered(), 0);
    }
}

/// Completions that nobody waits for: of writes to come, of none, twice.
#[test]
fn completions_of_nothing_change_nothing() {
    let mut server = follower();
    server.prompt = false;
    server.append(2, 3, Some(id(2, 5)), &[id(3, 6)], None);
    let before = Facts::of(&server.replica);
    for write in [WriteId(0), WriteId(3), WriteId(99), WriteId(u64::MAX)] {
        server.step(Input::LogDone { write });
    }
    assert_eq!(Facts::of(&server.replica), before);
    assert_eq!(server.unanswered(), 1);
}

// ---- what is found at a start ----

fn restart(change: impl FnOnce(&mut Restored<Standard>)) -> Result<(), RestoreError<Standard>> {
    let nodes = (1..=3).map(|id| (id, Member { address: id, incarnation: None })).collect();
    let membership = Membership::new(vec![(1..=3).collect()], nodes).unwrap();
    let mut log = vec![Item { log_id: id(0, 1), payload: Payload::Membership(membership) }];
    log.extend(crate::types::items(&[1, 2, 2]));
    let image = Image { vote: Some(vote::<Standard>(2, 1)), purged: None, log };
    let mut restored = image.restored(Some(id(1, 2)), &StoredMembership::default(), None);
    change(&mut restored);
    let now = raftwright_core::Time::ZERO;
    Replica::new(ReplicaConfig::default(), identity(1), restored, now, 1).map(|_| ())
}

#[test]
fn a_disk_that_a_correct_server_left_is_accepted() {
    assert_eq!(restart(|_| {}), Ok(()));
}

/// BUGS 7, 8.
#[test]
fn a_lost_vote_stops_the_start() {
    assert_eq!(restart(|disk| disk.vote = None), Err(RestoreError::VoteMissing));
    assert_eq!(restart(|disk| disk.vote = Some(vote::<Standard>(1, 1))), Err(RestoreError::VoteBehindLog));
}

#[test]
fn a_log_that_contradicts_itself_stops_the_start() {
    assert_eq!(restart(|disk| disk.last_log_id = Some(id(3, 4))), Err(RestoreError::Log));
    assert_eq!(restart(|disk| disk.key_log_ids.reverse()), Err(RestoreError::Log));
    assert_eq!(restart(|disk| disk.purged = Some(id(2, 9))), Err(RestoreError::Log));
}

#[test]
fn a_commit_index_that_the_log_contradicts_stops_the_start() {
    let beyond = id(2, 9);
    let last = Some(id(2, 4));
    assert_eq!(
        restart(|disk| disk.committed = Some(beyond)),
        Err(RestoreError::AppliedBeyondLog { applied: beyond, last })
    );
    assert!(restart(|disk| disk.committed = Some(id(3, 3))).is_err(), "another entry was applied than the log has");
    assert!(restart(|disk| disk.memberships[0].log_id = Some(id(2, 9))).is_err(), "a membership of no entry");
}

// ---- everything at once ----

/// Random nonsense at a real server of a real cluster: it answers or drops, and what is committed stays.
fn storm<T: Kind>(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut setup = Setup::voters(3);
    setup.incarnations = rng.next_u64().is_multiple_of(2);
    let mut cluster = Cluster::<T>::new(setup);
    cluster.telling = false;
    cluster.elect(1);
    for text in ["a", "b", "c"] {
        cluster.propose(1, text);
    }
    cluster.settle();
    cluster.pass(raftwright_core::Span::from_millis(60), true);
    let committed = cluster.replica(1).committed();
    cluster.cuts.extend([(1, 2), (2, 1), (2, 3), (3, 2)]);
    for _ in 0..60 {
        cluster.pass(raftwright_core::Span::from_nanos(rng.next_u64() % 40_000_000), false);
        cluster.wire.clear();
        nonsense(&mut cluster, &mut rng, 2);
        let replica = cluster.replica(2);
        assert!(replica.committed() >= committed, "seed {seed}");
        assert!(cluster.servers[&2].disk.live.has(committed.unwrap()), "seed {seed}");
    }
}

fn wild(rng: &mut Rng) -> u64 {
    match rng.next_u64() % 8 {
        0 => u64::MAX,
        1 => u64::MAX - 1,
        2 => 1 << 32,
        3 => rng.next_u64(),
        _ => rng.next_u64() % 9,
    }
}

fn wild_id<T: Kind>(rng: &mut Rng) -> LogIdOf<T> {
    let term = wild(rng);
    crate::types::id::<T>(term, wild(rng))
}

fn wild_vote<T: Kind>(rng: &mut Rng, from: u64) -> VoteOf<T> {
    let node = if rng.next_u64().is_multiple_of(4) { wild(rng) } else { from };
    let term = wild(rng);
    if rng.next_u64().is_multiple_of(2) { led::<T>(term, node) } else { vote::<T>(term, node) }
}

fn nonsense<T: Kind>(cluster: &mut Cluster<T>, rng: &mut Rng, to: u64) {
    let from_id = rng.next_u64() % 5;
    let incarnation = rng.next_u64().is_multiple_of(2).then(|| Incarnation(wild(rng)));
    let from = Identity { id: from_id, incarnation };
    let theirs = wild_vote::<T>(rng, from_id);
    let maybe = |rng: &mut Rng| rng.next_u64().is_multiple_of(4).then(|| wild_id::<T>(rng));
    let kind = [VoteKind::PreVote, VoteKind::Vote, VoteKind::Transfer][usize::try_from(rng.next_u64() % 3).unwrap()];
    match rng.next_u64() % 8 {
        0 => {
            let last_log_id = maybe(rng);
            cluster.forge(to, Message::Vote(VoteRequest { from, vote: theirs, last_log_id, kind, permit: None }));
        }
        1 => {
            let (round, committed) = (Round(wild(rng)), maybe(rng));
            let request = raftwright_core::HeartbeatRequest { from, vote: theirs, round, committed };
            cluster.forge(to, Message::Heartbeat(request));
        }
        2 | 3 => {
            let prev = maybe(rng);
            let mut at = prev.index_or_zero();
            let mut entries = Vec::new();
            for _ in 0..rng.next_u64() % 4 {
                at = at.wrapping_add(if rng.next_u64().is_multiple_of(8) { wild(rng) } else { 1 });
                let log_id = LogIdOf::<T> { index: at, ..wild_id::<T>(rng) };
                // One log id, one text: what the checker of log matching asks of leaders that are real.
                entries.push(Item::at(log_id, "nonsense"));
            }
            // Below the terms of the real leader nothing may get in; above, anything could, and no checker could tell.
            let vote = if theirs.term() > 1 { led::<T>(0, from_id) } else { theirs };
            let request = AppendEntriesRequest { from, vote, prev_log_id: prev, entries, committed: maybe(rng) };
            cluster.forge_append(to, request);
        }
        4 => {
            let request = TransferLeaderRequest { from, vote: theirs, to, last_log_id: maybe(rng) };
            cluster.forge(to, Message::TransferLeader(request));
        }
        5 => {
            let (asked, vote) = (wild_vote::<T>(rng, to), Some(theirs));
            cluster.step(to, Input::VoteResponse(VoteResponse { from, kind, asked, granted: false, vote }));
        }
        6 => {
            let asked = wild_vote::<T>(rng, to);
            let response =
                HeartbeatResponse { from, round: Round(wild(rng)), asked, accepted: true, vote: Some(theirs) };
            cluster.step(to, Input::HeartbeatResponse(response));
        }
        _ => {
            let report = Report::Matched { from, matched: wild_id::<T>(rng) };
            cluster.step(to, Input::Stream { stream: StreamId(wild(rng)), report });
            cluster.step(to, Input::LogDone { write: WriteId(wild(rng)) });
            cluster.step(to, Input::Purge { upto: wild(rng) });
            cluster.step(to, Input::SnapshotInstalled { ticket: raftwright_core::Ticket(wild(rng)) });
        }
    }
}

#[test]
fn a_storm_of_nonsense_is_survived() {
    for seed in 0..150 {
        storm::<Standard>(seed);
        storm::<Advanced>(seed);
    }
}
