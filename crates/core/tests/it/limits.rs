//! Bounds and moments, to the unit: what holds at the limit, and what does not one step beyond it.

use raftwright_core::{
    ChangeConditions, ChangeMembers, Effect, ElectionPriority, HeartbeatResponse, Identity, Incarnation, Input,
    Message, Note, ReadPolicy, Refusal, ReplicaConfig, Reply, Restored, Round, SnapshotPolicy, Span, StepDown, Ticket,
    Time, VoteKind, VoteRequest, VoteResponse,
};

use crate::disk::first_log_id;
use crate::solo::{Solo, Start, identity};
use crate::types::{Item, Member, Standard, id, led, vote};

type Server = Solo<Standard>;

const MIN: Span = Span::from_millis(150);
const MAX: Span = Span::from_millis(300);
const NANO: Span = Span::from_nanos(1);

fn leader() -> Server {
    let mut server: Server = Solo::start(Start::default());
    server.lead();
    server
}

/// Moves to that moment.
fn at(server: &mut Server, moment: Time) {
    assert!(server.now <= moment);
    server.now = moment;
}

/// Moves to the last moment before that.
fn before(server: &mut Server, moment: Time) {
    at(server, Time::from_nanos(moment.as_nanos() - 1));
}

fn beats(server: &mut Server) -> usize {
    let begin = server.step(Input::Wake);
    server.sent_since(begin).iter().filter(|(_, message)| matches!(message, Message::Heartbeat(_))).count()
}

fn answer(server: &mut Server, from: u64, round: u64) {
    let asked = *server.replica.vote().unwrap();
    let from = identity(from);
    let response = HeartbeatResponse { from, round: Round(round), asked, accepted: true, vote: Some(asked) };
    server.step(Input::HeartbeatResponse(response));
}

fn steps_down(server: &mut Server) -> Option<StepDown> {
    let begin = server.step(Input::Wake);
    server.done[begin..].iter().find_map(|effect| match effect {
        Effect::Note(Note::SteppedDown { reason }) => Some(*reason),
        _ => None,
    })
}

// ---- the clock of a leader ----

#[test]
fn a_heartbeat_goes_out_on_time() {
    let mut server = leader();
    let due = server.now + Span::from_millis(50);
    assert_eq!(server.replica.deadline(), Some(due));
    before(&mut server, due);
    assert_eq!(beats(&mut server), 0);
    at(&mut server, due);
    assert_eq!(beats(&mut server), 2);
    assert_eq!(server.replica.deadline(), Some(due + Span::from_millis(50)), "and the next one after it");
}

#[test]
fn a_leader_without_a_quorum_leads_for_the_longest_election_timeout() {
    let config = ReplicaConfig { enable_heartbeat: false, pre_vote: false, ..ReplicaConfig::default() };
    let mut server: Server = Solo::start(Start { config, ..Start::default() });
    server.lead();
    let end = server.now + MAX;
    assert_eq!(server.replica.deadline(), Some(end), "no heartbeat is due before");
    before(&mut server, end);
    assert_eq!(steps_down(&mut server), None);
    at(&mut server, end);
    assert_eq!(steps_down(&mut server), Some(StepDown::NoQuorum));
}

/// A leader whose disk hangs is confirmed by the others, and gives way all the same.
#[test]
fn a_leader_with_a_hung_disk_leads_for_the_longest_election_timeout() {
    let mut server = leader();
    server.pass(10);
    server.prompt = false;
    server.call(|ticket| Input::Propose { ticket, entry: Item::data("x") });
    let end = server.now + MAX;
    for round in 1..=6 {
        server.pass(49);
        answer(&mut server, 2, round);
        beats(&mut server);
    }
    before(&mut server, end);
    assert_eq!(steps_down(&mut server), None);
    at(&mut server, end);
    assert_eq!(server.replica.deadline(), Some(end));
    assert_eq!(steps_down(&mut server), Some(StepDown::DiskStalled));
}

#[test]
fn a_transfer_ends_after_the_longest_election_timeout() {
    let mut server = leader();
    let ticket = server.ticket();
    server.step(Input::TransferLeader { ticket, to: 2 });
    let end = server.now + MAX;
    server.pass(280);
    server.step(Input::Beat);
    (1..=2).for_each(|round| answer(&mut server, 3, round));
    assert_eq!(server.replica.deadline(), Some(end), "nothing else is due before");
    let answered = |server: &mut Server| {
        let begin = server.step(Input::Wake);
        server.done[begin..].iter().any(|effect| {
            matches!(effect, Effect::Reply { ticket: of, reply: Reply::Refused(Refusal::Busy) } if *of == ticket)
        })
    };
    before(&mut server, end);
    assert!(!answered(&mut server));
    let entry = || Item::data("x");
    let refused = server.call(|ticket| Input::Propose { ticket, entry: entry() });
    assert_eq!(refused, Some(Reply::Refused(Refusal::TransferInProgress)));
    at(&mut server, end);
    assert!(answered(&mut server));
    assert!(matches!(server.call(|ticket| Input::Propose { ticket, entry: entry() }), Some(Reply::Proposed(_))));
}

#[test]
fn a_removed_server_is_told_for_four_election_timeouts() {
    let mut server = leader();
    server.matched(2, id::<Standard>(1, 2));
    change(&mut server, ChangeMembers::SetNodes([(4, Member::default())].into()));
    server.matched(2, id::<Standard>(1, 3));
    change(&mut server, ChangeMembers::RemoveNodes([4].into()));
    let stream = server.stream_to(4);
    server.matched(2, id::<Standard>(1, 4));
    let end = server.now + MAX * 4;
    let closed = |server: &mut Server| {
        let begin = server.step(Input::Wake);
        server.done[begin..].iter().any(|effect| matches!(effect, Effect::CloseStream { stream: of } if *of == stream))
    };
    for round in 1..=24 {
        server.pass(49);
        answer(&mut server, 2, round);
        assert!(!closed(&mut server), "round {round}");
        server.step(Input::Beat);
    }
    answer(&mut server, 2, 25);
    before(&mut server, end);
    assert!(!closed(&mut server));
    at(&mut server, end);
    assert!(closed(&mut server));
}

/// It is left as soon as it has stored its removal, and a heartbeat sent later has told it that this is committed.
#[test]
fn a_removed_server_that_knows_is_left() {
    let removing = |matched: Option<u64>, round: u64| {
        let mut server = leader();
        server.matched(2, id::<Standard>(1, 2));
        change(&mut server, ChangeMembers::SetNodes([(4, Member::default())].into()));
        server.matched(2, id::<Standard>(1, 3));
        change(&mut server, ChangeMembers::RemoveNodes([4].into()));
        let stream = server.stream_to(4);
        server.matched(2, id::<Standard>(1, 4));
        server.step(Input::Beat);
        if let Some(matched) = matched {
            server.matched(4, id::<Standard>(1, matched));
        }
        answer(&mut server, 4, round);
        server.done.iter().any(|effect| matches!(effect, Effect::CloseStream { stream: of } if *of == stream))
    };
    assert!(removing(Some(4), 2));
    assert!(!removing(Some(4), 1), "that heartbeat was sent before");
    assert!(!removing(Some(3), 2), "it has not stored its removal");
    assert!(!removing(None, 2));
}

fn change(server: &mut Server, change: ChangeMembers<Standard>) -> Option<Reply<Standard>> {
    let conditions = ChangeConditions::default();
    server.call(|ticket| Input::ChangeMembers { ticket, change, conditions })
}

/// A learner has caught up when a round of entries took less than the shortest election timeout (Thesis §4.2.1).
#[test]
fn a_learner_is_promoted_when_its_round_was_short_enough() {
    let promoted = |took: Span, stored: u64| {
        let mut server = leader();
        server.matched(2, id::<Standard>(1, 2));
        change(&mut server, ChangeMembers::SetNodes([(4, Member::default())].into()));
        server.matched(2, id::<Standard>(1, 3));
        change(&mut server, ChangeMembers::Promote([4].into()));
        server.matched(2, id::<Standard>(1, 4));
        server.matched(4, first_log_id::<Standard>());
        server.now += took;
        server.matched(4, id::<Standard>(1, stored));
        server.replica.membership().membership.is_voter(&4)
    };
    assert!(promoted(Span::from_nanos(MIN.as_nanos() - 1), 4));
    assert!(!promoted(MIN, 4));
    assert!(!promoted(NANO, 3), "not all that was there when the round began");
}

/// Incarnations are bound when all voters have shown theirs, or after the longest election timeout.
#[test]
fn incarnations_are_bound_when_all_are_known_or_in_time() {
    let bound = |shown: &[u64], after: Span| {
        let mut server = leader();
        server.matched(2, id::<Standard>(1, 2));
        let asked = *server.replica.vote().unwrap();
        for from in shown {
            let from = Identity { id: *from, incarnation: Some(Incarnation(*from)) };
            let response = HeartbeatResponse { from, round: Round(1), asked, accepted: true, vote: None };
            server.step(Input::HeartbeatResponse(response));
        }
        let end = server.now + after;
        for round in 2.. {
            server.now = end.min(server.now + Span::from_millis(100));
            server.step(Input::Beat);
            let from = Identity { id: 2, incarnation: Some(Incarnation(2)) };
            let response = HeartbeatResponse { from, round: Round(round), asked, accepted: true, vote: None };
            server.step(Input::HeartbeatResponse(response));
            if server.now == end {
                break;
            }
        }
        server.step(Input::Wake);
        server.replica.membership().membership.node(&2).unwrap().incarnation
    };
    assert_eq!(bound(&[2, 3], Span::ZERO), Some(Incarnation(2)));
    assert_eq!(bound(&[2], Span::from_nanos(MAX.as_nanos() - 1)), None);
    assert_eq!(bound(&[2], MAX), Some(Incarnation(2)));
}

#[test]
fn a_read_that_may_be_so_stale_is_served_by_an_answer_so_old() {
    let mut server = leader();
    answer(&mut server, 2, 1);
    let sent = server.now;
    server.pass(70);
    let read = |server: &mut Server, span| {
        server.call(|ticket| Input::Read { ticket, policy: ReadPolicy::AckedWithin(span) }).is_some()
    };
    let age = server.now.since(sent);
    assert!(read(&mut server, age));
    assert!(!read(&mut server, Span::from_nanos(age.as_nanos() - 1)));
}

/// All reads that wait share the rounds: one is under way, and the next is sent when that is answered.
#[test]
fn reads_that_wait_share_a_round() {
    let mut server = leader();
    let read = |server: &mut Server| {
        let ticket = server.ticket();
        let begin = server.step(Input::Read { ticket, policy: ReadPolicy::ReadIndex });
        server.sent_since(begin).len()
    };
    assert_eq!(read(&mut server), 0, "the round of the election is under way");
    assert_eq!(read(&mut server), 0);
    let begin = server.done.len();
    answer(&mut server, 2, 1);
    assert_eq!(server.sent_since(begin).len(), 2, "that round was sent before they came");
    assert_eq!(server.unanswered(), 2);
    assert_eq!(read(&mut server), 0);
    let begin = server.done.len();
    answer(&mut server, 3, 2);
    assert_eq!((server.unanswered(), server.sent_since(begin).len()), (1, 2));
    let begin = server.done.len();
    answer(&mut server, 2, 3);
    assert_eq!((server.unanswered(), server.sent_since(begin).len()), (0, 0), "nobody wants another");
    assert_eq!(read(&mut server), 2, "nothing is under way");
}

// ---- the clock of the others ----

fn asks(server: &mut Server, from: u64, vote: raftwright_core::VoteOf<Standard>, kind: VoteKind) -> bool {
    let last_log_id = server.replica.last_log_id();
    let request = VoteRequest { from: identity(from), vote, last_log_id, kind, permit: None };
    match server.call(|ticket| Input::VoteRequest { ticket, request }) {
        Some(Reply::Vote(response)) => response.granted,
        other => panic!("a request for a vote is answered {other:?}"),
    }
}

/// A leader does not vote for another as long as it was confirmed within the shortest election timeout, a follower not as
/// long as it has heard from its leader within that.
#[test]
fn no_vote_is_given_for_the_shortest_election_timeout() {
    let mut leads = leader();
    let mut follows: Server = Solo::start(Start::default());
    follows.heartbeat(2, 1, None);
    for server in [&mut leads, &mut follows] {
        let end = server.now + MIN;
        before(server, end);
        assert!(!asks(server, 3, vote::<Standard>(2, 3), VoteKind::PreVote));
        at(server, end);
        assert!(asks(server, 3, vote::<Standard>(2, 3), VoteKind::PreVote));
    }
}

/// Being told to campaign brings the election forward to the end of the promise, and no further.
#[test]
fn a_campaign_that_is_asked_for_waits_for_the_promise() {
    let mut server: Server = Solo::start(Start::default());
    server.heartbeat(2, 1, None);
    let end = server.now + MIN;
    server.step(Input::Elect);
    assert_eq!(server.replica.deadline(), Some(end));
    before(&mut server, end);
    server.step(Input::Wake);
    assert_eq!(server.term(), 1);
    at(&mut server, end);
    server.step(Input::Wake);
    assert_eq!(server.term(), 2);
}

/// The times at which elections start: all of those that the settings and the priority allow, and no others.
#[test]
fn election_timeouts_are_spread_over_what_is_allowed() {
    let drawn = |priority: ElectionPriority| {
        let deadline = |seed| {
            let config = ReplicaConfig { election_priority: priority, ..ReplicaConfig::default() };
            let restored = voters_of(3);
            let replica = raftwright_core::Replica::<Standard>::new(config, identity(1), restored, Time::ZERO, seed);
            replica.unwrap().deadline().unwrap().since(Time::ZERO)
        };
        let all: Vec<Span> = (0..400).map(deadline).collect();
        (all.iter().min().unwrap().as_millis(), all.iter().max().unwrap().as_millis())
    };
    let within = |drawn: (u64, u64), from: u64, to: u64| {
        let slack = (to - from) / 10;
        assert!(drawn.0 >= from && drawn.0 <= from + slack, "{drawn:?} begins at {from}");
        assert!(drawn.1 <= to && drawn.1 + slack >= to, "{drawn:?} ends at {to}");
    };
    within(drawn(ElectionPriority::High), 150, 187);
    within(drawn(ElectionPriority::Normal), 150, 300);
    within(drawn(ElectionPriority::Low), 300, 450);
    within(drawn(ElectionPriority::Never), 300, 450);
}

fn voters_of(count: u64) -> Restored<Standard> {
    let nodes = (1..=count).map(|id| (id, Member { address: id, incarnation: None })).collect();
    let membership = raftwright_core::Membership::new(vec![(1..=count).collect()], nodes).unwrap();
    let first = Some(first_log_id::<Standard>());
    Restored {
        key_log_ids: first.into_iter().collect(),
        last_log_id: first,
        memberships: vec![raftwright_core::StoredMembership { log_id: first, membership }],
        ..Restored::default()
    }
}

/// Who only asks whether it could win asks again soon: after a third of the shortest election timeout at the earliest.
#[test]
fn a_pre_candidate_asks_again_soon() {
    let asked: Vec<Span> = (0..200)
        .map(|seed| {
            let config = ReplicaConfig::default();
            let replica =
                raftwright_core::Replica::<Standard>::new(config, identity(1), voters_of(3), Time::ZERO, seed);
            let (mut replica, mut effects) = (replica.unwrap(), raftwright_core::Effects::new());
            let now = replica.deadline().unwrap();
            replica.step(now, Input::Wake, &mut effects);
            assert_eq!(replica.server_state(), raftwright_core::ServerState::PreCandidate);
            replica.deadline().unwrap().since(now)
        })
        .collect();
    let (least, most) = (asked.iter().min().unwrap().as_millis(), asked.iter().max().unwrap().as_millis());
    assert!((50..=55).contains(&least) && (145..=150).contains(&most), "{least} to {most}");
}

/// A server whose disk has hung for the longest election timeout leaves it to others to campaign.
#[test]
fn a_hung_disk_puts_an_election_off() {
    let campaigns = |hung: Span| {
        let mut server: Server = Solo::start(Start::default());
        let due = server.replica.deadline().unwrap() + MAX;
        server.now = Time::from_nanos(due.as_nanos() - hung.as_nanos());
        server.prompt = false;
        server.heartbeat(2, 1, None);
        let due = server.replica.deadline().unwrap().max(due);
        at(&mut server, due);
        server.step(Input::Wake);
        (server.term() > 1, server.now)
    };
    assert!(!campaigns(MAX).0);
    assert!(campaigns(Span::from_millis(1)).0);
}

// ---- bounds ----

/// As many changes as may wait for one that nobody asked for: sixteen.
#[test]
fn changes_that_wait_are_bounded() {
    let mut server = leader();
    for member in 0..16 {
        let waits = change(&mut server, ChangeMembers::SetNodes([(10 + member, Member::default())].into()));
        assert_eq!(waits, None, "none begins before the leader has committed an entry of its own");
    }
    let refused = Some(Reply::Refused(Refusal::ChangeInProgress));
    assert_eq!(change(&mut server, ChangeMembers::SetNodes([(40, Member::default())].into())), refused);
}

#[test]
fn terms_are_believed_up_to_a_bound() {
    let granted = |term| {
        let mut server: Server = Solo::start(Start::default());
        asks(&mut server, 2, vote::<Standard>(term, 2), VoteKind::PreVote)
    };
    assert!(granted(1 << 32));
    assert!(!granted((1 << 32) + 1), "one jump at a time");
    let restored = |term| {
        let mut server: Server = Solo::start(Start { vote: Some(led::<Standard>(term, 3)), ..Start::default() });
        asks(&mut server, 2, vote::<Standard>(term + 1, 2), VoteKind::PreVote)
    };
    assert!(restored((1 << 62) - 2));
    assert!(!restored((1 << 62) - 1), "the terms are used up");
    let mut last: Server = Solo::start(Start { vote: Some(vote::<Standard>((1 << 62) - 2, 1)), ..Start::default() });
    last.step(Input::Elect);
    assert_eq!(last.term(), (1 << 62) - 1);
    last.pass(300);
    last.step(Input::Elect);
    assert_eq!(last.term(), (1 << 62) - 1, "there is no further one to ask for");
}

/// A candidate asks for more than the greatest term that a member was seen to have.
#[test]
fn the_next_term_is_above_all_that_were_seen() {
    let mut server: Server = Solo::start(Start { vote: Some(vote::<Standard>(5, 1)), ..Start::default() });
    let asked = vote::<Standard>(5, 1);
    let seen = |from, term| {
        let vote = Some(vote::<Standard>(term, from));
        Input::VoteResponse(VoteResponse { from: identity(from), kind: VoteKind::Vote, asked, granted: false, vote })
    };
    server.step(seen(2, 8));
    server.step(seen(2, 7));
    server.step(seen(9, 30));
    server.step(Input::Elect);
    assert_eq!(server.term(), 9, "nobody knows 9, who says 30");
}

/// What may wait for the disk, writes and answers: so many, and no more.
#[test]
fn what_waits_for_the_disk_is_bounded_to_the_unit() {
    let config = ReplicaConfig { writes_max: 3, promises_max: 4, pre_vote: false, ..ReplicaConfig::default() };
    let mut server: Server = Solo::start(Start { config, ..Start::default() });
    server.prompt = false;
    // The vote for the leader, and two appends.
    server.append(2, 1, Some(first_log_id::<Standard>()), &[id::<Standard>(1, 2)], None);
    server.append(2, 1, Some(id::<Standard>(1, 2)), &[id::<Standard>(1, 3)], None);
    assert_eq!(server.replica.load().writes, 3);
    let more = server.append(2, 1, Some(id::<Standard>(1, 3)), &[id::<Standard>(1, 4)], None);
    assert!(matches!(more, Some(raftwright_core::AppendOutcome::Refused(raftwright_core::PeerRefusal::Busy))));
    assert_eq!(server.replica.load().promises, 2);
    server.heartbeat(2, 1, None);
    server.heartbeat(2, 1, None);
    assert_eq!(server.replica.load().promises, 4);
    let refused = server.heartbeat(2, 1, None).expect("there is no room to wait");
    assert!(!refused.accepted && refused.vote.is_none());
    assert_eq!(server.replica.load().promises, 4);
}

/// A vote is given, but there is no room to wait until that is durable: then it is not said, nor hinted at.
#[test]
fn a_vote_that_cannot_wait_for_the_disk_is_not_said() {
    let config = ReplicaConfig { promises_max: 1, pre_vote: false, ..ReplicaConfig::default() };
    let mut server: Server = Solo::start(Start { config, ..Start::default() });
    server.prompt = false;
    let first = Some(first_log_id::<Standard>());
    assert_eq!(server.ask_vote(2, 1, first), None, "it waits");
    let answer = server.ask_vote(3, 2, first).expect("there is no room to wait");
    assert!(!answer.granted && answer.vote.is_none() && answer.asked == vote::<Standard>(2, 3));
    assert_eq!(server.replica.vote(), Some(&vote::<Standard>(2, 3)), "but it is given");
    server.complete_all();
    assert!(server.ask_vote(3, 2, first).is_some_and(|answer| answer.granted), "and said when it is asked for again");
}

/// To give a vote is a write, for which there may be no room. To say whether one would give it is none.
#[test]
fn a_vote_needs_room_for_a_write_and_a_pre_vote_does_not() {
    let config = ReplicaConfig { writes_max: 1, pre_vote: false, ..ReplicaConfig::default() };
    let mut server: Server = Solo::start(Start { config, ..Start::default() });
    server.prompt = false;
    let last_log_id = Some(first_log_id::<Standard>());
    assert_eq!(server.ask_vote(2, 1, last_log_id), None, "it waits for the disk");
    assert_eq!(server.replica.load().writes, 1);
    let begin = server.done.len();
    for kind in [VoteKind::Vote, VoteKind::PreVote] {
        let request = VoteRequest { from: identity(3), vote: vote::<Standard>(2, 3), last_log_id, kind, permit: None };
        server.call(|ticket| Input::VoteRequest { ticket, request });
    }
    server.complete_all();
    let said = server.done[begin..].iter().filter_map(|effect| match effect {
        Effect::Reply { reply: Reply::Vote(response), .. } => {
            Some((response.asked.term(), response.kind, response.granted))
        }
        _ => None,
    });
    let said: Vec<_> = said.collect();
    assert_eq!(said, [(1, VoteKind::Vote, true), (2, VoteKind::Vote, false), (2, VoteKind::PreVote, true)]);
}

/// A lease is over at its end, for those as well who only ask how long it lasts.
#[test]
fn a_lease_is_none_at_its_end() {
    let mut server = leader();
    assert_eq!(server.replica.lease_until(), None, "an election is no lease");
    answer(&mut server, 2, 1);
    let until = server.replica.lease_until().unwrap();
    before(&mut server, until);
    server.step(Input::Wake);
    assert_eq!(server.replica.lease_until(), Some(until));
    assert_eq!(server.replica.last_quorum_ack(), Some(Time::ZERO + MIN));
    at(&mut server, until);
    server.step(Input::Wake);
    assert_eq!(server.replica.lease_until(), None);
}

// ---- members that come back ----

/// A server that was removed and is added again before it was left may be another by now: its stream begins anew.
#[test]
fn a_server_that_comes_back_is_taken_for_another() {
    let mut server = leader();
    server.matched(2, id::<Standard>(1, 2));
    change(&mut server, ChangeMembers::SetNodes([(4, Member::default())].into()));
    server.matched(2, id::<Standard>(1, 3));
    server.matched(4, id::<Standard>(1, 3));
    change(&mut server, ChangeMembers::RemoveNodes([4].into()));
    let before = server.stream_to(4);
    server.matched(2, id::<Standard>(1, 4));
    let begin = server.done.len();
    change(&mut server, ChangeMembers::SetNodes([(4, Member::default())].into()));
    let closed = |effect: &Effect<Standard>| matches!(effect, Effect::CloseStream { stream } if *stream == before);
    assert_eq!(server.done[begin..].iter().filter(|effect| closed(effect)).count(), 1);
    assert_ne!(server.stream_to(4), before);
    assert_eq!(matched_of(&server, 4), None);
}

fn matched_of(server: &Server, id: u64) -> Option<u64> {
    server.replica.matched().find(|(of, _)| *of == id).and_then(|(_, matched)| matched).map(|matched| matched.index)
}

/// A new address leads to the same server, which still has what it had. Another incarnation has nothing.
#[test]
fn what_a_server_had_stays_known_unless_another_takes_its_place() {
    let after = |incarnation: Option<u64>| {
        let mut server = leader();
        server.matched(2, id::<Standard>(1, 2));
        server.matched(3, id::<Standard>(1, 2));
        let before = server.stream_to(3);
        let node = Member { address: 33, incarnation: incarnation.map(Incarnation) };
        change(&mut server, ChangeMembers::UpdateNodes([(3, node)].into()));
        assert_ne!(server.stream_to(3), before, "it is connected to anew");
        matched_of(&server, 3)
    };
    assert_eq!(after(None), Some(2));
    assert_eq!(after(Some(9)), None);
}

// ---- snapshots ----

fn builds(server: &Server, begin: usize) -> Vec<u64> {
    let built = server.done[begin..].iter().filter_map(|effect| match effect {
        Effect::BuildSnapshot { at } => Some(at.index),
        _ => None,
    });
    built.collect()
}

fn following(policy: SnapshotPolicy) -> Server {
    let config = ReplicaConfig { snapshot_policy: policy, log_keep: 2, ..ReplicaConfig::default() };
    let mut server: Server = Solo::start(Start { config, ..Start::default() });
    server.heartbeat(2, 1, Some(first_log_id::<Standard>()));
    server
}

/// Appends and commits the next entry, of so many bytes. Says which snapshots are to be built.
fn grow(server: &mut Server, bytes: usize) -> Vec<u64> {
    let prev = server.replica.last_log_id().unwrap();
    let next = id::<Standard>(1, prev.index + 1);
    let begin = server.done.len();
    server.append_items(2, 1, Some(prev), vec![Item::at(next, &"x".repeat(bytes))], Some(next));
    builds(server, begin)
}

#[test]
fn a_snapshot_is_due_after_so_many_entries_or_bytes() {
    let mut server = following(SnapshotPolicy::LogsSinceLast(4));
    let due: Vec<_> = (0..3).map(|_| grow(&mut server, 1)).collect();
    assert_eq!(due, [vec![], vec![], vec![4]], "the first entry counts");
    server.step(Input::SnapshotBuilt { last_log_id: id::<Standard>(1, 4) });
    let due: Vec<_> = (0..4).map(|_| grow(&mut server, 1)).collect();
    assert_eq!(due, [vec![], vec![], vec![], vec![8]]);

    let mut server = following(SnapshotPolicy::BytesSinceLast(10));
    assert_eq!((grow(&mut server, 9), grow(&mut server, 1)), (vec![], vec![3]));
    server.step(Input::SnapshotBuilt { last_log_id: id::<Standard>(1, 3) });
    assert_eq!((grow(&mut server, 9), grow(&mut server, 1)), (vec![], vec![5]), "counted from the last one");

    let either = SnapshotPolicy::Either { logs: 5, bytes: 10 };
    let mut server = following(either);
    assert_eq!((grow(&mut server, 9), grow(&mut server, 1)), (vec![], vec![3]));
    let mut server = following(either);
    let due: Vec<_> = (0..4).map(|_| grow(&mut server, 1)).collect();
    assert_eq!(due, [vec![], vec![], vec![], vec![5]]);

    let mut server = following(SnapshotPolicy::Never);
    assert!((0..9).all(|_| grow(&mut server, 100).is_empty()));
}

/// One that fails is tried again when the policy asks for another, not at once.
#[test]
fn a_snapshot_that_failed_is_tried_again_later() {
    let mut server = following(SnapshotPolicy::LogsSinceLast(3));
    assert_eq!((grow(&mut server, 1), grow(&mut server, 1)), (vec![], vec![3]));
    let begin = server.step(Input::SnapshotFailed);
    assert!(builds(&server, begin).is_empty());
    assert!(matches!(server.done[begin..], [Effect::Note(Note::SnapshotFailed { .. })]));
    let begin = server.step(Input::SnapshotFailed);
    assert!(server.done[begin..].is_empty(), "there is none that could fail");
    let due: Vec<_> = (0..3).map(|_| grow(&mut server, 1)).collect();
    assert_eq!(due, [vec![], vec![], vec![6]]);
}

#[test]
fn what_was_applied_while_a_snapshot_was_built_counts_for_the_next() {
    let mut server = following(SnapshotPolicy::LogsSinceLast(3));
    assert_eq!((grow(&mut server, 1), grow(&mut server, 1)), (vec![], vec![3]));
    assert!((0..3).all(|_| grow(&mut server, 1).is_empty()), "one at a time");
    let begin = server.step(Input::SnapshotBuilt { last_log_id: id::<Standard>(1, 3) });
    assert_eq!(builds(&server, begin), [6]);
}

#[test]
fn a_snapshot_of_nothing_new_is_not_built() {
    let mut server = following(SnapshotPolicy::Never);
    grow(&mut server, 1);
    let begin = server.step(Input::BuildSnapshot);
    assert_eq!(builds(&server, begin), [2]);
    server.step(Input::SnapshotBuilt { last_log_id: id::<Standard>(1, 2) });
    let begin = server.step(Input::BuildSnapshot);
    assert!(builds(&server, begin).is_empty());
    grow(&mut server, 1);
    let begin = server.step(Input::BuildSnapshot);
    assert_eq!(builds(&server, begin), [3]);
}

/// Of the log stays what the settings say, behind the snapshot; and an older snapshot takes nothing back.
#[test]
fn the_log_keeps_so_many_entries_behind_its_snapshot() {
    let mut server = following(SnapshotPolicy::Never);
    (0..6).for_each(|_| {
        grow(&mut server, 1);
    });
    let built = |server: &mut Server, index| {
        server.step(Input::BuildSnapshot);
        server.step(Input::SnapshotBuilt { last_log_id: id::<Standard>(1, index) });
        server.replica.purged().map(|purged| purged.index)
    };
    assert_eq!(built(&mut server, 2), None);
    assert_eq!(built(&mut server, 5), Some(3));
    assert_eq!(built(&mut server, 4), Some(3));
    server.step(Input::Purge { upto: 7 });
    assert_eq!(server.replica.purged().map(|purged| purged.index), Some(5), "as far as the snapshot goes");
    server.step(Input::Purge { upto: 4 });
    assert_eq!(server.replica.purged().map(|purged| purged.index), Some(5));
}

/// A leader keeps for the slowest member what that lacks, but no more than a bound.
#[test]
fn the_log_is_kept_for_the_slowest_member_up_to_a_bound() {
    let purged = |matched: Option<u64>, bound: u64| {
        let config = ReplicaConfig {
            snapshot_policy: SnapshotPolicy::Never,
            log_keep: 0,
            log_keep_for_followers_max: bound,
            pre_vote: false,
            ..ReplicaConfig::default()
        };
        let mut server: Server = Solo::start(Start { config, ..Start::default() });
        server.lead();
        for _ in 0..8 {
            server.call(|ticket| Input::Propose { ticket, entry: Item::data("x") });
        }
        server.matched(2, id::<Standard>(1, 10));
        if let Some(matched) = matched {
            server.matched(3, id::<Standard>(1, matched));
        }
        server.step(Input::BuildSnapshot);
        server.step(Input::SnapshotBuilt { last_log_id: id::<Standard>(1, 10) });
        server.replica.purged().map(|purged| purged.index)
    };
    assert_eq!(purged(Some(7), 9), Some(7));
    assert_eq!(purged(Some(7), 3), Some(7));
    assert_eq!(purged(Some(7), 2), Some(8), "no more than two entries are kept for it");
    assert_eq!(purged(None, 20), None);
    assert_eq!(purged(Some(10), 20), Some(10));
}

/// A ticket that was forgotten, and only that one, is not answered when a leadership ends.
#[test]
fn only_what_was_forgotten_is_not_answered() {
    let mut server = leader();
    let wait = |server: &mut Server, input: fn(Ticket) -> Input<Standard>| {
        let ticket = server.ticket();
        server.step(input(ticket));
        ticket
    };
    let asked: Vec<Ticket> = vec![
        wait(&mut server, |ticket| Input::Read { ticket, policy: ReadPolicy::ReadIndex }),
        wait(&mut server, |ticket| Input::Read { ticket, policy: ReadPolicy::ReadIndex }),
        wait(&mut server, |ticket| Input::RemoveLearners { ticket, ids: [9].into() }),
        wait(&mut server, |ticket| Input::AddLearner { ticket, id: 4, node: Member::default() }),
        wait(&mut server, |ticket| Input::TransferLeader { ticket, to: 2 }),
    ];
    for forgotten in [0, 2] {
        server.step(Input::Forget { ticket: asked[forgotten] });
    }
    let begin = server.done.len();
    server.heartbeat(3, 2, None);
    let answered: Vec<Ticket> = server.done[begin..]
        .iter()
        .filter_map(|effect| match effect {
            Effect::Reply { ticket, reply: Reply::Refused(Refusal::NotLeader { leader: Some(3) }) } => Some(*ticket),
            _ => None,
        })
        .collect();
    assert_eq!(answered, [asked[1], asked[3], asked[4]]);
}
