//! Every promise is broken once, and each time it is noticed. What holds at the limit is let pass.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::{Facts, check, check_delta};
use crate::log_shape::LogShape;
use crate::write_tracker::WriteTracker;
use crate::{
    CommittedLeaderId, CommittedTerm, Effect, Effects, Identity, Input, LogId, LogIdOf, Membership, MembershipOf,
    RaftEntry, Replica, ReplicaConfig, Report, Restored, ServerState, StandardLeaderId, StoredMembership, StreamId,
    Ticket, Time, Types, Vote, VoteKind, VoteResponse, WriteId,
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Plain;

impl Types for Plain {
    type NodeId = u64;
    type Node = ();
    type LeaderId = StandardLeaderId<u64>;
    type Entry = Entry;
}

#[derive(Debug)]
struct Entry(LogIdOf<Plain>, Option<MembershipOf<Plain>>);

impl RaftEntry<Plain> for Entry {
    fn blank(log_id: LogIdOf<Plain>) -> Self {
        Self(log_id, None)
    }

    fn of_membership(log_id: LogIdOf<Plain>, membership: MembershipOf<Plain>) -> Self {
        Self(log_id, Some(membership))
    }

    fn log_id(&self) -> LogIdOf<Plain> {
        self.0
    }

    fn set_log_id(&mut self, log_id: LogIdOf<Plain>) {
        self.0 = log_id;
    }

    fn membership(&self) -> Option<&MembershipOf<Plain>> {
        self.1.as_ref()
    }

    fn size(&self) -> usize {
        1
    }
}

fn id(term: u64, index: u64) -> LogIdOf<Plain> {
    LogId::new(CommittedTerm::new(term, None), index)
}

fn stored(log_id: LogIdOf<Plain>) -> StoredMembership<Plain> {
    let nodes = (1..=3).map(|id| (id, ())).collect();
    let membership = Membership::new(alloc::vec![BTreeSet::from([1, 2, 3])], nodes).expect("it can be");
    StoredMembership { log_id: Some(log_id), membership }
}

/// A follower whose log goes from 2 to 6, of which 4 is committed.
fn follower() -> Replica<Plain> {
    let restored = Restored {
        vote: Some(Vote::new(1, 9)),
        purged: Some(id(1, 1)),
        key_log_ids: alloc::vec![id(1, 2)],
        last_log_id: Some(id(1, 6)),
        committed: Some(id(1, 4)),
        memberships: alloc::vec![stored(id(1, 1))],
        snapshot: Some(id(1, 1)),
    };
    let identity = Identity { id: 1, incarnation: None };
    Replica::new(ReplicaConfig::default(), identity, restored, Time::ZERO, 1).expect("it can start")
}

/// It leads term 2; its blank entry is 7.
fn leader() -> Replica<Plain> {
    let (mut replica, mut effects) = (follower(), Effects::new());
    let config = ReplicaConfig { pre_vote: false, ..ReplicaConfig::default() };
    replica.step(Time::ZERO, Input::Configure(config), &mut effects);
    let now = replica.deadline().expect("it waits for a leader");
    replica.step(now, Input::Wake, &mut effects);
    for write in writes(&mut effects) {
        replica.step(now, Input::LogDone { write }, &mut effects);
    }
    let asked = *replica.vote().expect("it campaigns");
    let from = Identity { id: 2, incarnation: None };
    let response = VoteResponse { from, kind: VoteKind::Vote, asked, granted: true, vote: Some(asked) };
    replica.step(now, Input::VoteResponse(response), &mut effects);
    for write in writes(&mut effects) {
        replica.step(now, Input::LogDone { write }, &mut effects);
    }
    assert!(replica.is_leader());
    replica
}

fn writes(effects: &mut Effects<Plain>) -> Vec<WriteId> {
    let all = effects.drain().filter_map(|effect| match effect {
        Effect::Write { id, .. } => Some(id),
        _ => None,
    });
    all.collect()
}

/// What is said about a replica in which something was broken.
fn broken(mut replica: Replica<Plain>, break_it: impl FnOnce(&mut Replica<Plain>)) -> Option<&'static str> {
    assert_eq!(check(&replica), Ok(()), "it is whole before");
    break_it(&mut replica);
    check(&replica).err()
}

fn shape(purged: u64, last: u64) -> LogShape<Plain> {
    let runs = if last > purged { alloc::vec![id(1, purged + 1)] } else { Vec::new() };
    LogShape::restore(Some(id(1, purged)), runs, Some(id(1, last))).expect("it can be")
}

#[test]
fn a_follower_is_whole_or_it_is_noticed() {
    let of = |break_it: fn(&mut Replica<Plain>)| broken(follower(), break_it);
    assert_eq!(of(|_| {}), None);
    assert_eq!(of(|replica| replica.state.committed = Some(id(1, 6))), None, "all of it is committed");
    assert_eq!(of(|replica| replica.state.committed = Some(id(1, 7))), Some("purged <= committed <= last"));
    assert_eq!(of(|replica| replica.state.shape = shape(4, 6)), None, "purged up to what is committed");
    assert_eq!(of(|replica| replica.state.shape = shape(5, 6)), Some("purged <= committed <= last"));
    assert_eq!(of(|replica| replica.state.writes = WriteTracker::new(5)), None, "something is on its way");
    assert_eq!(of(|replica| replica.state.writes = WriteTracker::new(7)), Some("durable <= last"));
    assert_eq!(of(|replica| replica.state.committed = Some(id(9, 4))), Some("what is committed is in the log"));
    let pushed = |replica: &mut Replica<Plain>, index| replica.state.memberships.push(stored(id(1, index)));
    let ahead = |index| broken(follower(), |replica| pushed(replica, index));
    assert_eq!(ahead(6), None, "the last entry carries one");
    assert_eq!(ahead(7), Some("the membership that counts is in the log (Raft §6)"));
    let settled = |index| {
        broken(follower(), |replica| {
            pushed(replica, index);
            replica.state.memberships.commit(index);
        })
    };
    assert_eq!(settled(4), None);
    assert_eq!(settled(5), Some("the committed membership is committed"));
}

#[test]
fn a_leader_is_whole_or_it_is_noticed() {
    let of = |break_it: fn(&mut Replica<Plain>)| broken(leader(), break_it);
    assert_eq!(of(|_| {}), None);
    let foreign = Some("a leader's vote is its own, and committed");
    assert_eq!(of(|replica| replica.state.vote = None), foreign);
    assert_eq!(of(|replica| replica.state.vote = Some(Vote::new_committed(2, 3))), foreign);
    assert_eq!(of(|replica| replica.state.vote = Some(Vote::new(2, 1))), foreign);
    assert_eq!(
        of(|replica| {
            replica.state.shape.truncate(7);
            replica.state.writes = WriteTracker::new(6);
        }),
        Some("a leader's blank entry is in its log")
    );
    let mut matched = leader();
    let (mut effects, now) = (Effects::new(), Time::ZERO);
    matched.step(now, Input::Propose { ticket: Ticket(1), entry: Entry(id(0, 0), None) }, &mut effects);
    let from = Identity { id: 2, incarnation: None };
    let report = Report::Matched { from, matched: id(2, 8) };
    matched.step(now, Input::Stream { stream: StreamId(1), report }, &mut effects);
    let cut = broken(matched, |replica| {
        replica.state.shape.truncate(8);
        replica.state.writes = WriteTracker::new(7);
    });
    assert_eq!(cut, Some("nobody has matched more than the leader has"));
}

fn facts(server_state: ServerState, vote: Option<(u64, u64)>, last: (u64, u64), committed: u64) -> Facts<Plain> {
    Facts {
        server_state,
        vote: vote.map(|(term, node)| Vote::new_committed(term, node)),
        last: Some(id(last.0, last.1)),
        committed: Some(id(1, committed)),
        purged: Some(id(1, committed - 1)),
        durable: committed,
    }
}

#[test]
fn what_goes_back_is_noticed() {
    let base = || facts(ServerState::Follower, Some((2, 2)), (1, 9), 5);
    let to = |after: Facts<Plain>| check_delta(&base(), &after).err();
    assert_eq!(to(base()), None);
    assert_eq!(to(Facts { vote: Some(Vote::new_committed(3, 1)), ..base() }), None);
    let vote = Some("a vote never goes back (Raft §5.2)");
    assert_eq!(to(Facts { vote: Some(Vote::new_committed(1, 2)), ..base() }), vote);
    assert_eq!(to(Facts { vote: Some(Vote::new(2, 2)), ..base() }), vote);
    assert_eq!(to(Facts { vote: None, ..base() }), vote);
    assert_eq!(check_delta(&Facts { vote: None, ..base() }, &base()), Ok(()), "there is a first one");
    assert_eq!(check_delta(&Facts { vote: None, ..base() }, &Facts { vote: None, ..base() }), Ok(()));
    assert_eq!(to(Facts { committed: Some(id(1, 6)), ..base() }), None);
    assert_eq!(to(Facts { committed: Some(id(1, 4)), ..base() }), Some("the commit index never goes back"));
    assert_eq!(to(Facts { purged: Some(id(1, 5)), ..base() }), None);
    assert_eq!(to(Facts { purged: Some(id(1, 3)), ..base() }), Some("what was purged never comes back"));
}

/// Another's log may be cut, and so may one's own between two leaderships.
#[test]
fn a_leader_that_cuts_its_log_is_noticed() {
    let at = |state, term, last| facts(state, Some((term, 1)), (1, last), 5);
    let (leads, follows) = (ServerState::Leader, ServerState::Follower);
    let step = |before, after| check_delta(&before, &after).err();
    assert_eq!(step(at(leads, 2, 9), at(leads, 2, 9)), None);
    assert_eq!(step(at(leads, 2, 9), at(leads, 2, 10)), None);
    assert_eq!(step(at(leads, 2, 9), at(leads, 2, 8)), Some("a leader only appends to its log (Raft §5.3)"));
    assert_eq!(step(at(leads, 2, 9), at(follows, 2, 8)), None);
    assert_eq!(step(at(follows, 2, 9), at(leads, 2, 8)), None);
    assert_eq!(step(at(leads, 2, 9), at(leads, 3, 8)), None);
}
