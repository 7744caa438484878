//! The words of a state, by which a search tells whether it has been there before. What makes a difference from here on is in
//! them, what does not is not; servers that are renamed have renamed words; and who has the same words goes the same ways.

mod servers;
mod streams;
mod ways;

use raftwright_core::{
    AppendEntriesResponse, AppendOutcome, Canonical, HeartbeatResponse, Identity, Incarnation, Input, LogIdOf,
    Membership, MembershipOf, PeerRefusal, ReadPolicy, Replica, Round, Span, Ticket, VoteKind, VoteRequest,
    VoteResponse,
};

use crate::cluster::{Cluster, Setup};
use crate::disk::first_log_id;
use crate::solo::{Solo, Start, identity};
use crate::types::{Advanced, Kind, Member, Standard, led, vote};

type Words = Vec<u64>;

/// The words of something under names given to servers and tickets.
fn words_under<T: Kind>(
    server: impl Fn(&u64) -> u64,
    ticket: impl Fn(Ticket) -> u64,
    add: impl FnOnce(&mut Canonical<'_, T>),
) -> Words {
    let mut words = Canonical::new(&server, &ticket);
    add(&mut words);
    words.words().to_vec()
}

/// The words of something whose servers have these names, and whose tickets have none.
fn words_as<T: Kind>(server: impl Fn(&u64) -> u64, add: impl FnOnce(&mut Canonical<'_, T>)) -> Words {
    words_under(server, |_| 0, add)
}

fn words<T: Kind>(add: impl FnOnce(&mut Canonical<'_, T>)) -> Words {
    words_under(|id| *id, |ticket| ticket.0, add)
}

fn words_of<T: Kind>(replica: &Replica<T>) -> Words {
    words(|words| replica.canonical(words))
}

fn id(term: u64, index: u64) -> LogIdOf<Standard> {
    crate::types::id::<Standard>(term, index)
}

fn first() -> Option<LogIdOf<Standard>> {
    Some(first_log_id::<Standard>())
}

/// Each has words of its own.
fn assert_told_apart(all: &[(&str, Words)]) {
    for (at, (what, words)) in all.iter().enumerate() {
        for (other, others) in &all[..at] {
            assert_ne!(words, others, "{what} is taken for {other}");
        }
    }
}

// ---- what is added ----

#[test]
fn what_has_no_order_is_sorted_and_counts_once() {
    let set = |ids: &[u64]| words::<Standard>(|words| words.unordered(ids.iter(), Canonical::server));
    assert_eq!(set(&[3, 1, 2]), set(&[1, 2, 3]));
    assert_eq!(set(&[2, 1, 2]), set(&[1, 2]));
    assert_ne!(set(&[1, 2]), set(&[1, 3]));
    assert_ne!(set(&[1, 2]), set(&[1]));
    let sets = |sets: &[&[u64]]| {
        words::<Standard>(|words| {
            words.unordered(sets.iter(), |words, set| set.iter().for_each(|id| words.server(id)));
        })
    };
    assert_ne!(sets(&[&[1], &[2, 3]]), sets(&[&[1, 2], &[3]]), "where one ends is told");
}

#[test]
fn nothing_is_told_from_something() {
    let option =
        |value: Option<u64>| words::<Standard>(|words| words.option(value.as_ref(), |words, x| words.word(*x)));
    assert_told_apart(&[("none", option(None)), ("zero", option(Some(0))), ("one", option(Some(1)))]);
    let incarnation = |of| words::<Standard>(|words| words.incarnation(of));
    assert_told_apart(&[
        ("none", incarnation(None)),
        ("zero", incarnation(Some(Incarnation(0)))),
        ("one", incarnation(Some(Incarnation(1)))),
    ]);
    let flag = |flag| words::<Standard>(|words| words.flag(flag));
    assert_ne!(flag(true), flag(false));
}

/// The words can be looked at where a search goes wrong.
#[test]
fn words_can_be_shown() {
    let (server, ticket) = (|id: &u64| *id, |ticket: Ticket| ticket.0);
    let mut words: Canonical<'_, Standard> = Canonical::new(&server, &ticket);
    words.ticket(Ticket(77));
    assert!(format!("{words:?}").contains("77"));
}

#[test]
fn votes_and_log_ids_are_told_apart() {
    let of_vote = |vote| words::<Standard>(|words| words.vote(&vote));
    assert_told_apart(&[
        ("a vote", of_vote(vote::<Standard>(1, 2))),
        ("of a leader", of_vote(led::<Standard>(1, 2))),
        ("of another term", of_vote(vote::<Standard>(2, 2))),
        ("of another server", of_vote(vote::<Standard>(1, 3))),
    ]);
    let of_id = |id| words::<Advanced>(|words| words.log_id(&id));
    let advanced = |term, node| led::<Advanced>(term, node).leader_id;
    let at = |leader_id, index| LogIdOf::<Advanced> { leader_id, index };
    assert_told_apart(&[
        ("an entry", of_id(at(advanced(1, 2), 5))),
        ("another index", of_id(at(advanced(1, 2), 6))),
        ("another term", of_id(at(advanced(2, 2), 5))),
        ("another leader of that term", of_id(at(advanced(1, 3), 5))),
    ]);
}

fn membership(configs: &[&[u64]], learners: &[u64]) -> MembershipOf<Standard> {
    let member = |id: &u64| (*id, Member { address: *id, incarnation: None });
    let nodes = configs.iter().copied().flatten().chain(learners).map(member).collect();
    Membership::new(configs.iter().map(|ids| ids.iter().copied().collect()).collect(), nodes).unwrap()
}

#[test]
fn memberships_are_told_apart() {
    let of = |membership: &MembershipOf<Standard>| words::<Standard>(|words| words.membership(membership));
    let plain = membership(&[&[1, 2, 3]], &[4]);
    let bound = |incarnation| plain.with_incarnations(|id| (*id == 2).then_some(Incarnation(incarnation))).unwrap();
    let joint = plain.toward([1, 2].into(), false).unwrap();
    assert_told_apart(&[
        ("one", of(&plain)),
        ("with another learner", of(&membership(&[&[1, 2, 3]], &[5]))),
        ("without learners", of(&membership(&[&[1, 2, 3]], &[]))),
        ("with other voters", of(&membership(&[&[1, 2, 4]], &[3]))),
        ("joint", of(&joint)),
        ("joint the other way", of(&membership(&[&[1, 2], &[1, 2, 3]], &[4]))),
        ("joint, and retains", of(&plain.toward([1, 2].into(), true).unwrap())),
        ("promoting", of(&plain.promote([4].into()).unwrap())),
        ("bound", of(&bound(8))),
        ("bound to another", of(&bound(9))),
    ]);
    let moved = plain.with_node(2, Member { address: 77, incarnation: None });
    assert_eq!(of(&moved), of(&plain), "where a member is makes no difference to the protocol");
}

// ---- what is said ----

/// Two servers that a message speaks of.
type Pair = (u64, u64);

fn vote_request((from, other): Pair) -> VoteRequest<Standard> {
    let (vote, permit) = (vote::<Standard>(3, from), Some(led::<Standard>(2, other)));
    VoteRequest { from: identity(from), vote, last_log_id: Some(id(2, 7)), kind: VoteKind::Transfer, permit }
}

fn vote_response((from, other): Pair) -> VoteResponse<Standard> {
    let asked = vote::<Standard>(3, other);
    VoteResponse { from: identity(from), kind: VoteKind::Vote, asked, granted: true, vote: Some(asked) }
}

fn heartbeat_response((from, other): Pair) -> HeartbeatResponse<Standard> {
    let asked = led::<Standard>(3, other);
    HeartbeatResponse { from: identity(from), round: Round(4), asked, accepted: true, vote: Some(asked) }
}

fn append_response((from, other): Pair) -> AppendEntriesResponse<Standard> {
    AppendEntriesResponse { from: identity(from), outcome: AppendOutcome::HigherVote(vote::<Standard>(3, other)) }
}

/// One more word in a message and the search would look at a state twice; one less, and it would not look at one at all.
#[test]
fn messages_are_told_apart_by_all_that_they_say() {
    let stated = Identity { id: 1, incarnation: Some(Incarnation(5)) };
    let of = |request: VoteRequest<Standard>| words(|words| request.canonical(words));
    let base = || vote_request((1, 2));
    assert_told_apart(&[
        ("a request", of(base())),
        ("of another server", of(VoteRequest { from: identity(3), ..base() })),
        ("of an incarnation", of(VoteRequest { from: stated, ..base() })),
        ("for another vote", of(VoteRequest { vote: vote::<Standard>(4, 1), ..base() })),
        ("with another log", of(VoteRequest { last_log_id: Some(id(2, 8)), ..base() })),
        ("with no log", of(VoteRequest { last_log_id: None, ..base() })),
        ("for a pre-vote", of(VoteRequest { kind: VoteKind::PreVote, ..base() })),
        ("for a vote", of(VoteRequest { kind: VoteKind::Vote, ..base() })),
        ("without a permit", of(VoteRequest { permit: None, ..base() })),
    ]);
    let of = |response: VoteResponse<Standard>| words(|words| response.canonical(words));
    let base = || vote_response((1, 2));
    assert_told_apart(&[
        ("an answer", of(base())),
        ("of another server", of(VoteResponse { from: identity(3), ..base() })),
        ("of an incarnation", of(VoteResponse { from: stated, ..base() })),
        ("to another question", of(VoteResponse { kind: VoteKind::PreVote, ..base() })),
        ("to one about another vote", of(VoteResponse { asked: vote::<Standard>(4, 2), ..base() })),
        ("a refusal", of(VoteResponse { granted: false, ..base() })),
        ("of one with another vote", of(VoteResponse { vote: Some(vote::<Standard>(9, 9)), ..base() })),
        ("of one with no vote", of(VoteResponse { vote: None, ..base() })),
    ]);
    let of = |response: HeartbeatResponse<Standard>| words(|words| response.canonical(words));
    let base = || heartbeat_response((1, 2));
    assert_told_apart(&[
        ("an answer", of(base())),
        ("of another server", of(HeartbeatResponse { from: identity(3), ..base() })),
        ("of an incarnation", of(HeartbeatResponse { from: stated, ..base() })),
        ("to another round", of(HeartbeatResponse { round: Round(5), ..base() })),
        ("to another leader", of(HeartbeatResponse { asked: led::<Standard>(3, 3), ..base() })),
        ("a refusal", of(HeartbeatResponse { accepted: false, ..base() })),
        ("of one with no vote", of(HeartbeatResponse { vote: None, ..base() })),
    ]);
    let from = |from| move |outcome| AppendEntriesResponse { from, outcome };
    let of = |response: AppendEntriesResponse<Standard>| words(|words| response.canonical(words));
    let (one, matched) = (from(identity(1)), Some(id(2, 7)));
    let conflict = |prev, hint| of(one(AppendOutcome::Conflict { prev, hint }));
    assert_told_apart(&[
        ("stored", of(one(AppendOutcome::Success { matched }))),
        ("stored elsewhere", of(from(identity(2))(AppendOutcome::Success { matched }))),
        ("stored by an incarnation", of(from(stated)(AppendOutcome::Success { matched }))),
        ("stored less", of(one(AppendOutcome::Success { matched: Some(id(2, 6)) }))),
        ("stored nothing", of(one(AppendOutcome::Success { matched: None }))),
        ("a conflict", conflict(id(2, 7), matched)),
        ("a conflict earlier", conflict(id(2, 6), matched)),
        ("a conflict with nothing", conflict(id(2, 7), None)),
        ("a higher vote", of(append_response((1, 2)))),
        ("another higher vote", of(append_response((1, 3)))),
        ("busy", of(one(AppendOutcome::Refused(PeerRefusal::Busy)))),
        ("malformed", of(one(AppendOutcome::Refused(PeerRefusal::Malformed)))),
    ]);
}

#[test]
fn renamed_messages_have_renamed_words() {
    fn check(add: impl Fn(Pair, &mut Canonical<'_, Standard>)) {
        let renamed = |id: &u64| id % 3 + 1;
        let twin = words(|words| add((2, 3), words));
        assert_eq!(words_as(renamed, |words| add((1, 2), words)), twin);
        assert_ne!(words(|words| add((1, 2), words)), twin);
    }
    check(|of, words| vote_request(of).canonical(words));
    check(|of, words| vote_response(of).canonical(words));
    check(|of, words| heartbeat_response(of).canonical(words));
    check(|of, words| append_response(of).canonical(words));
}

// ---- servers under other names ----

/// Something that happens to servers whose names are given.
type Happening<T> = fn(&mut Cluster<T>, [u64; 3]);

/// What happens: after each of these, the states are looked at.
fn story<T: Kind>() -> Vec<Happening<T>> {
    vec![
        |_, _| {},
        |cluster, [a, ..]| cluster.elect(a),
        |cluster, [_, b, _]| cluster.hold_disk(b),
        |cluster, [a, ..]| cluster.propose(a, "x"),
        |cluster, [a, ..]| {
            cluster.call(a, "read", |ticket| Input::Read { ticket, policy: ReadPolicy::ReadIndex });
        },
        |cluster, _| cluster.settle(),
        |cluster, [_, b, _]| cluster.release_disk(b),
        |cluster, _| cluster.settle(),
        |cluster, [a, b, _]| {
            let voters = [a, b].into();
            cluster.call(a, "change", |ticket| Input::ChangeMembership { ticket, voters, retain: true });
        },
        |cluster, _| cluster.settle(),
        |cluster, [a, b, _]| {
            cluster.call(a, "transfer", |ticket| Input::TransferLeader { ticket, to: b });
        },
        |cluster, _| cluster.settle(),
    ]
}

fn renamed_clusters_have_renamed_words<T: Kind>() {
    for names in [[1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]] {
        // Server 0 stands in the first entry of every cluster, and is none.
        let renamed = |id: &u64| id.checked_sub(1).map_or(0, |at| names[at as usize]);
        let (mut one, mut twin) = (Cluster::<T>::new(Setup::voters(3)), Cluster::<T>::new(Setup::voters(3)));
        for (at, happen) in story::<T>().into_iter().enumerate() {
            happen(&mut one, [1, 2, 3]);
            happen(&mut twin, names);
            for id in 1..=3 {
                let here = words_as(renamed, |words| one.replica(id).canonical(words));
                let there = words_as(|id| *id, |words| twin.replica(renamed(&id)).canonical(words));
                assert_eq!(here, there, "server {id} named as in {names:?}, after step {at}");
            }
        }
        assert!(twin.replica(names[1]).is_leader(), "the story has come to its end");
        assert_ne!(words_of(one.replica(1)), words_of(twin.replica(1)), "without renaming they are different");
    }
}

#[test]
fn renamed_clusters_have_renamed_words_with_standard_leader_ids() {
    renamed_clusters_have_renamed_words::<Standard>();
}

#[test]
fn renamed_clusters_have_renamed_words_with_advanced_leader_ids() {
    renamed_clusters_have_renamed_words::<Advanced>();
}

// ---- what makes no difference ----

#[test]
fn time_and_chance_are_left_out() {
    let mut one = Cluster::<Standard>::new(Setup::voters(3));
    let mut other = Cluster::<Standard>::new(Setup { seed: 99, ..Setup::voters(3) });
    for (at, happen) in story().into_iter().enumerate() {
        happen(&mut one, [1, 2, 3]);
        other.pass(Span::from_nanos(7), false);
        happen(&mut other, [1, 2, 3]);
        for id in 1..=3 {
            assert_eq!(words_of(one.replica(id)), words_of(other.replica(id)), "server {id} after step {at}");
        }
    }
}

/// Two servers came to lead the third term with the same log; one of them has led before, and has opened more streams and
/// written more often.
#[test]
fn names_of_streams_and_writes_are_left_out() {
    let (mut one, mut other) = (Solo::<Standard>::start(Start::default()), Solo::start(Start::default()));
    one.lead();
    one.matched(2, id(1, 2));
    other.append(2, 1, Some(first_log_id::<Standard>()), &[id(1, 2)], Some(id(1, 2)));
    for server in [&mut one, &mut other] {
        server.heartbeat(2, 2, None);
        server.pass(150);
        server.lead();
    }
    assert_eq!(words_of(&one.replica), words_of(&other.replica));
    assert_ne!(one.stream_to(2), other.stream_to(2), "the streams have other names");
}

/// What waits for one write is said in one breath.
#[test]
fn the_order_of_promises_for_one_write_is_left_out() {
    let asked = |voters: &[(u64, u64)]| {
        let mut server = Solo::<Standard>::start(Start::default());
        server.prompt = false;
        server.ask_vote(2, 1, Some(first_log_id::<Standard>()));
        for (ticket, term) in voters {
            let vote = vote::<Standard>(*term, 3);
            let (kind, ticket) = (VoteKind::Vote, Ticket(*ticket));
            let request = VoteRequest { from: identity(3), vote, last_log_id: None, kind, permit: None };
            server.step(Input::VoteRequest { ticket, request });
        }
        words_of(&server.replica)
    };
    assert_eq!(asked(&[(50, 1), (51, 1)]), asked(&[(51, 1), (50, 1)]));
    assert_eq!(asked(&[(50, 1), (50, 1)]), asked(&[(50, 1)]), "the same twice is the same");
    assert_ne!(asked(&[(50, 1)]), asked(&[(51, 1)]), "for somebody else");
}
