//! Snapshots of a leader at the door: which are installed, which are not needed, and which cannot be.

use raftwright_core::{
    Effect, Input, InstallOutcome, InstallSnapshotRequest, LogIdOf, Membership, MembershipOf, Note, PeerRefusal,
    Replica, ReplicaConfig, Reply, Report, RestoreError, Restored, StoredMembership, Time, VoteOf,
};

use crate::disk::first_log_id;
use crate::solo::{Solo, Start, identity};
use crate::types::{Member, Standard, led, vote};

type Server = Solo<Standard>;
type Id = LogIdOf<Standard>;

fn id(term: u64, index: u64) -> Id {
    crate::types::id::<Standard>(term, index)
}

/// Follows server 2 in term 1; its log goes to 4, of which 3 is committed.
fn follower() -> Server {
    let vote = Some(led::<Standard>(1, 2));
    let mut server = Server::start(Start { terms: vec![1, 1, 1], vote, committed: 3, ..Start::default() });
    server.heartbeat(2, 1, None);
    server
}

fn voters() -> MembershipOf<Standard> {
    let nodes = (1..=3).map(|id| (id, Member { address: id, incarnation: None })).collect();
    Membership::new(vec![[1, 2, 3].into()], nodes).unwrap()
}

fn head(last_log_id: Id) -> InstallSnapshotRequest<Standard> {
    let last_membership = StoredMembership { log_id: Some(first_log_id::<Standard>()), membership: voters() };
    InstallSnapshotRequest { from: identity(2), vote: led::<Standard>(1, 2), last_log_id, last_membership }
}

/// What becomes of a snapshot: `None` if it is being installed.
fn offer(server: &mut Server, request: InstallSnapshotRequest<Standard>) -> Option<InstallOutcome<Standard>> {
    let begin = server.done.len();
    let answer = match server.call(|ticket| Input::InstallSnapshot { ticket, request }) {
        Some(Reply::InstallSnapshot(response)) => Some(response.outcome),
        None => None,
        Some(other) => panic!("a snapshot is answered {other:?}"),
    };
    let installs = server.done[begin..].iter().any(|effect| matches!(effect, Effect::InstallSnapshot { .. }));
    assert!(!(installs && answer.is_some()), "what is not needed is not installed");
    assert!(installs || answer.is_some() || !server.pending.is_empty(), "it is installed or answered");
    answer
}

const BUSY: Option<InstallOutcome<Standard>> = Some(InstallOutcome::Refused(PeerRefusal::Busy));
const MALFORMED: Option<InstallOutcome<Standard>> = Some(InstallOutcome::Refused(PeerRefusal::Malformed));

#[test]
fn a_snapshot_that_cannot_be_is_refused() {
    let with = |log_id, membership| StoredMembership { log_id, membership };
    let (first, last) = (Some(first_log_id::<Standard>()), id(1, 9));
    let cases = [
        ("of nothing", head(id(0, 0))),
        ("of a leader to come", head(id(2, 9))),
        (
            "without a membership",
            InstallSnapshotRequest { last_membership: with(first, Membership::default()), ..head(last) },
        ),
        ("with one of no entry", InstallSnapshotRequest { last_membership: with(None, voters()), ..head(last) }),
        (
            "with one before all",
            InstallSnapshotRequest { last_membership: with(Some(id(0, 0)), voters()), ..head(last) },
        ),
        (
            "with one behind it",
            InstallSnapshotRequest { last_membership: with(Some(id(1, 10)), voters()), ..head(last) },
        ),
        (
            "with one of an earlier term behind it",
            InstallSnapshotRequest { last_membership: with(Some(id(0, 10)), voters()), ..head(last) },
        ),
        ("that replaces what is committed", head(id(0, 3))),
        ("of somebody else's leadership", InstallSnapshotRequest { vote: led::<Standard>(1, 3), ..head(last) }),
        ("of a candidate", InstallSnapshotRequest { vote: vote::<Standard>(1, 2), ..head(last) }),
    ];
    for (what, request) in cases {
        let mut server = follower();
        let begin = server.done.len();
        assert_eq!(offer(&mut server, request), MALFORMED, "{what}");
        let noted =
            server.done[begin..].iter().any(|effect| matches!(effect, Effect::Note(Note::BadPeer { from: 2, .. })));
        assert!(noted, "{what}");
        assert_eq!(server.replica.committed(), Some(id(1, 3)), "{what}");
    }
    let at_the_limit = InstallSnapshotRequest { last_membership: with(Some(last), voters()), ..head(last) };
    assert_eq!(offer(&mut follower(), at_the_limit), None, "its last entry may carry the membership");
    assert_eq!(offer(&mut follower(), head(id(0, 4))), None, "that entry of ours is not committed");
}

#[test]
fn a_snapshot_that_is_not_needed_is_not_installed() {
    let mut server = follower();
    assert_eq!(offer(&mut server, head(id(1, 2))), Some(InstallOutcome::Installed));
    assert_eq!(server.replica.committed(), Some(id(1, 3)));
    assert_eq!(offer(&mut server, head(id(1, 4))), Some(InstallOutcome::Installed));
    assert_eq!(server.replica.committed(), Some(id(1, 4)), "a snapshot holds nothing but what is committed");
    server.step(Input::BuildSnapshot);
    server.step(Input::SnapshotBuilt { last_log_id: id(1, 4) });
    server.step(Input::Purge { upto: 3 });
    for index in 1..=3 {
        assert_eq!(offer(&mut server, head(id(1, index))), Some(InstallOutcome::Installed), "{index}");
    }
}

#[test]
fn a_snapshot_waits_for_its_turn() {
    let mut server = follower();
    assert_eq!(offer(&mut server, head(id(1, 8))), None);
    assert_eq!(offer(&mut server, head(id(1, 9))), BUSY, "one at a time");

    let config = ReplicaConfig { writes_max: 1, pre_vote: false, ..ReplicaConfig::default() };
    let mut server = follower();
    server.step(Input::Configure(config));
    server.prompt = false;
    server.append(2, 1, Some(id(1, 4)), &[id(1, 5)], None);
    assert_eq!(offer(&mut server, head(id(1, 8))), BUSY, "the disk is behind");
    server.complete_all();
    assert_eq!(offer(&mut server, head(id(1, 8))), None);

    // Of a leader whom the disk has not heard of yet.
    let mut server = follower();
    server.prompt = false;
    let later = || InstallSnapshotRequest { from: identity(3), vote: led::<Standard>(2, 3), ..head(id(1, 8)) };
    assert_eq!(offer(&mut server, later()), BUSY);
    assert_eq!(server.replica.leader(), Some(3), "it is followed all the same");
    server.complete_all();
    assert_eq!(offer(&mut server, later()), None);
    let mine = led::<Standard>(2, 3);
    assert_eq!(offer(&mut server, head(id(1, 8))), Some(InstallOutcome::HigherVote(mine)), "of an earlier leader");
}

/// What was installed is committed and durable, and what was in the log instead is gone. Only the ticket of the one that is
/// being installed counts, and once.
#[test]
fn an_install_ends_once() {
    let mut server = follower();
    let request = head(id(1, 8));
    let ticket = server.ticket();
    server.step(Input::InstallSnapshot { ticket, request });
    server.step(Input::SnapshotInstalled { ticket: raftwright_core::Ticket(ticket.0 + 1) });
    assert_eq!(server.replica.last_log_id(), Some(id(1, 4)), "of another");
    let begin = server.step(Input::SnapshotInstalled { ticket });
    let facts = (server.replica.last_log_id(), server.replica.committed(), server.replica.purged());
    assert_eq!(facts, (Some(id(1, 8)), Some(id(1, 8)), Some(id(1, 8))));
    assert_eq!(server.replica.durable_index(), 8);
    let told = |effect: &Effect<Standard>| matches!(effect, Effect::Reply { ticket: of, .. } if *of == ticket);
    assert_eq!(server.done[begin..].iter().filter(|effect| told(effect)).count(), 1);
    let begin = server.step(Input::SnapshotInstalled { ticket });
    assert!(server.done[begin..].is_empty());
    assert!(server.append(2, 1, Some(id(1, 8)), &[id(1, 9)], None).is_some(), "the log goes on behind it");
}

/// The entries came while the snapshot was being installed: nothing that is in the log is thrown away.
#[test]
fn entries_that_come_before_an_install_ends_stay() {
    for committed in [None, Some(id(1, 6))] {
        let mut server = follower();
        let (ticket, request) = (server.ticket(), head(id(1, 6)));
        server.step(Input::InstallSnapshot { ticket, request });
        server.append(2, 1, Some(id(1, 4)), &[id(1, 5), id(1, 6), id(1, 7)], committed);
        server.step(Input::SnapshotInstalled { ticket });
        let facts = (server.replica.last_log_id(), server.replica.committed(), server.replica.purged());
        assert_eq!(facts, (Some(id(1, 7)), Some(id(1, 6)), None));
        assert_eq!(server.unanswered(), 0);
    }
}

#[test]
fn a_snapshot_of_a_leader_that_was_never_voted_for_stops_the_start() {
    let membership = StoredMembership { log_id: Some(first_log_id::<Standard>()), membership: voters() };
    let start = |vote: Option<VoteOf<Standard>>| {
        let restored = Restored {
            vote,
            key_log_ids: vec![first_log_id::<Standard>()],
            last_log_id: Some(first_log_id::<Standard>()),
            memberships: vec![membership.clone()],
            snapshot: Some(id(3, 9)),
            ..Restored::default()
        };
        Replica::<Standard>::new(ReplicaConfig::default(), identity(1), restored, Time::ZERO, 1)
    };
    assert_eq!(start(None).err(), Some(RestoreError::VoteBehindLog));
    assert_eq!(start(Some(led::<Standard>(2, 2))).err(), Some(RestoreError::VoteBehindLog));
    let replica = start(Some(led::<Standard>(3, 2))).unwrap();
    assert_eq!((replica.last_log_id(), replica.committed()), (Some(id(3, 9)), Some(id(3, 9))));
}

/// What was purged, and what is in a snapshot, was committed once: a start knows it, whatever the state machine says.
#[test]
fn what_was_purged_or_is_in_a_snapshot_is_committed() {
    let start = |purged: Option<Id>, snapshot, committed| {
        let restored = Restored {
            vote: Some(led::<Standard>(1, 2)),
            purged,
            key_log_ids: purged.map_or(vec![first_log_id::<Standard>(), id(1, 2)], |_| vec![id(1, 4)]),
            last_log_id: Some(id(1, 6)),
            committed,
            memberships: vec![StoredMembership { log_id: Some(first_log_id::<Standard>()), membership: voters() }],
            snapshot,
        };
        let replica = Replica::<Standard>::new(ReplicaConfig::default(), identity(1), restored, Time::ZERO, 1).unwrap();
        (replica.committed(), replica.last_log_id())
    };
    let last = Some(id(1, 6));
    assert_eq!(start(None, None, None), (None, last));
    assert_eq!(start(None, Some(id(1, 3)), None), (Some(id(1, 3)), last));
    assert_eq!(start(Some(id(1, 3)), Some(id(1, 3)), None), (Some(id(1, 3)), last));
    assert_eq!(start(Some(id(1, 3)), Some(id(1, 5)), None), (Some(id(1, 5)), last));
    assert_eq!(start(Some(id(1, 3)), Some(id(1, 5)), last), (last, last));
    assert_eq!(start(Some(id(1, 3)), Some(id(1, 2)), None), (Some(id(1, 3)), last), "an older snapshot says nothing");
}

/// A leader whose log was purged further than its newest snapshot goes has lost that snapshot: it builds another.
#[test]
fn a_leader_that_has_lost_its_snapshot_builds_another() {
    let builds = |snapshot| {
        let restored = Restored {
            vote: Some(vote::<Standard>(1, 1)),
            purged: Some(id(1, 3)),
            key_log_ids: vec![id(1, 4)],
            last_log_id: Some(id(1, 5)),
            committed: Some(id(1, 4)),
            memberships: vec![StoredMembership { log_id: Some(first_log_id::<Standard>()), membership: voters() }],
            snapshot,
        };
        let config = ReplicaConfig { pre_vote: false, ..ReplicaConfig::default() };
        let mut server = Server::restore(1, config, restored);
        server.lead();
        let stream = server.stream_to(2);
        let begin = server.step(Input::Stream { stream, report: Report::NeedsSnapshot });
        let noted = Effect::<Standard>::Note(Note::TargetNeedsSnapshot { target: 2 });
        assert!(server.done[begin..].iter().any(|effect| format!("{effect:?}") == format!("{noted:?}")));
        server.done[begin..].iter().any(|effect| matches!(effect, Effect::BuildSnapshot { .. }))
    };
    assert!(builds(None));
    assert!(!builds(Some(id(1, 3))));
}
