//! What clients and operators ask: every ticket is answered once, each bound is kept, and a refusal says whether something may
//! still happen.

use raftwright_core::{
    Effect, Effects, Input, Load, Membership, MembershipError, ReadPolicy, Refusal, ReplicaConfig, Reply, Span,
};

use crate::cluster::{Cluster, Setup};
use crate::solo::{Solo, Start};
use crate::types::{Item, Member, Standard, id};

fn leader(config: ReplicaConfig) -> Solo {
    let mut server: Solo = Solo::start(Start { config, ..Start::default() });
    server.lead();
    server
}

fn propose(server: &mut Solo, text: &str) -> Reply<Standard> {
    let entry = Item::data(text);
    server.call(|ticket| Input::Propose { ticket, entry }).expect("a proposal is answered at once")
}

const BUSY: Reply<Standard> = Reply::Refused(Refusal::Busy);

/// BUGS 23.
#[test]
fn uncommitted_bytes_are_bounded_and_come_back() {
    let mut server = leader(ReplicaConfig { uncommitted_bytes_max: 10, ..ReplicaConfig::default() });
    assert!(matches!(propose(&mut server, "123456"), Reply::Proposed(_)));
    assert_eq!(propose(&mut server, "12345"), BUSY);
    assert!(matches!(propose(&mut server, "1234"), Reply::Proposed(_)));
    assert_eq!(server.replica.load().uncommitted_bytes, 10);
    server.matched(2, id::<Standard>(1, 4));
    assert_eq!(server.replica.load(), Load::default());
    assert!(matches!(propose(&mut server, "larger than the bound, alone"), Reply::Proposed(_)));
    assert_eq!(propose(&mut server, "x"), BUSY);
}

#[test]
fn reads_that_wait_are_bounded() {
    let mut server = leader(ReplicaConfig { reads_max: 2, ..ReplicaConfig::default() });
    for _ in 0..2 {
        assert_eq!(server.call(|ticket| Input::Read { ticket, policy: ReadPolicy::ReadIndex }), None);
    }
    assert_eq!(server.call(|ticket| Input::Read { ticket, policy: ReadPolicy::ReadIndex }), Some(BUSY));
}

#[test]
fn writes_that_wait_for_the_disk_are_bounded() {
    let mut server = leader(ReplicaConfig { writes_max: 3, ..ReplicaConfig::default() });
    server.prompt = false;
    for text in ["a", "b", "c"] {
        assert!(matches!(propose(&mut server, text), Reply::Proposed(_)));
    }
    assert_eq!(propose(&mut server, "d"), BUSY);
    server.complete_one();
    assert!(matches!(propose(&mut server, "d"), Reply::Proposed(_)));
}

/// Rounds that nobody answers do not pile up: a leader without a quorum steps down first.
#[test]
fn a_leadership_that_ends_answers_everybody() {
    let mut cluster = Cluster::<Standard>::new(Setup { learners: vec![4], ..Setup::voters(3) });
    cluster.elect(1);
    cluster.cuts.extend([(1, 2), (1, 3), (1, 4)]);
    let change = |voters: &[u64]| {
        let voters = voters.iter().copied().collect();
        move |ticket| Input::ChangeMembership { ticket, voters, retain: false }
    };
    cluster.call(1, "change", change(&[1, 2, 4]));
    cluster.call(1, "another", change(&[1, 2]));
    cluster.call(1, "transfer", |ticket| Input::TransferLeader { ticket, to: 2 });
    cluster.call(1, "read", |ticket| Input::Read { ticket, policy: ReadPolicy::ReadIndex });
    cluster.pass(Span::from_millis(400), true);
    assert!(!cluster.replica(1).is_leader());
    assert_eq!(cluster.waiting_calls(), Vec::<&str>::new());
    let answer = |name: &str| cluster.answers.iter().find(|(call, _)| call == name).map(|(_, reply)| reply.clone());
    assert_eq!(answer("another"), Some(Reply::Refused(Refusal::ChangeInProgress)));
    assert_eq!(answer("change"), Some(Reply::Refused(Refusal::Unknown)), "the entry is in our log and may yet commit");
    assert!(matches!(answer("read"), Some(Reply::Refused(Refusal::NotLeader { .. }))));
    assert!(matches!(answer("transfer"), Some(Reply::Refused(_))));
}

/// A caller that has gone is not answered, and what it asked for does not keep others waiting.
#[test]
fn what_is_forgotten_is_not_answered() {
    let mut cluster = Cluster::<Standard>::new(Setup { learners: vec![4], ..Setup::voters(3) });
    cluster.elect(1);
    let read = cluster.call(1, "read", |ticket| Input::Read { ticket, policy: ReadPolicy::ReadIndex });
    cluster.forget(1, read);
    cluster.cuts.insert((2, 1));
    cluster.propose(1, "x");
    let transfer = cluster.call(1, "transfer", |ticket| Input::TransferLeader { ticket, to: 2 });
    cluster.forget(1, transfer);
    cluster.settle();
    cluster.pass(Span::from_millis(310), true);
    cluster.cuts.clear();
    let voters = [1, 2, 4].into_iter().collect();
    let change = cluster.call(1, "change", |ticket| Input::ChangeMembership { ticket, voters, retain: false });
    cluster.forget(1, change);
    cluster.settle();
    let asked = ["read", "transfer", "change"];
    assert!(!cluster.answers.iter().any(|(call, _)| asked.contains(&call.as_str())), "{:?}", cluster.answers);
    cluster.pass(Span::from_secs(2), true);
    let leader = cluster.leaders()[0];
    let members = &cluster.replica(leader).membership().membership;
    assert!(members.is_voter(&4) && !members.is_joint(), "what was begun is finished all the same: {members}");
}

/// Membership changes that nobody asked for do not refuse those that somebody did (an incarnation is being bound).
#[test]
fn a_change_waits_for_one_that_nobody_asked_for() {
    let mut cluster = Cluster::<Standard>::new(Setup { incarnations: true, ..Setup::voters(3) });
    cluster.elect(1);
    cluster.add_blank(4);
    let node = Member { address: 4, incarnation: None };
    cluster.call(1, "add", |ticket| Input::AddLearner { ticket, id: 4, node });
    cluster.settle();
    // Server 4 has shown itself and is being bound; the change comes at the same moment.
    let voters = [1, 2, 3, 4].into_iter().collect();
    cluster.call(1, "change", |ticket| Input::ChangeMembership { ticket, voters, retain: false });
    cluster.pass(Span::from_millis(500), true);
    assert_eq!(cluster.waiting_calls(), Vec::<&str>::new());
    assert!(cluster.answers.iter().all(|(_, reply)| matches!(reply, Reply::Done { .. })), "{:?}", cluster.answers);
    let members = &cluster.replica(1).membership().membership;
    assert!(members.nodes().values().all(|member| member.incarnation.is_some()), "everybody is bound: {members:?}");
}

/// What is to be done can be looked at before it is taken, and is taken once.
#[test]
fn effects_can_be_looked_at() {
    let mut server = leader(ReplicaConfig::default());
    let mut effects = Effects::default();
    assert!(effects.is_empty() && effects.as_slice().is_empty());
    server.replica.step(server.now, Input::Beat, &mut effects);
    assert!(!effects.is_empty());
    assert!(matches!(effects.as_slice(), [Effect::Send { to: 2, .. }, Effect::Send { to: 3, .. }]));
    assert_eq!(effects.drain().count(), 2);
    assert!(effects.is_empty());
}

/// A membership that cannot be, or that does not have this server as a voter, initializes nothing.
#[test]
fn a_membership_that_makes_no_sense_initializes_nothing() {
    let members = |configs: Vec<&[u64]>| {
        let nodes = (1..=3).map(|id| (id, Member { address: id, incarnation: None })).collect();
        Membership::new(configs.iter().map(|ids| ids.iter().copied().collect()).collect(), nodes).unwrap()
    };
    let initialize = |membership| {
        let mut server: Solo = Solo::restore(1, ReplicaConfig::default(), raftwright_core::Restored::default());
        let reply = server.call(|ticket| Input::Initialize { ticket, membership });
        (reply, server.replica.last_log_id().is_some())
    };
    let refused = |refusal| (Some(Reply::Refused(refusal)), false);
    assert_eq!(initialize(Membership::default()), refused(Refusal::Membership(MembershipError::EmptyVoters)));
    assert_eq!(initialize(members(vec![&[2, 3]])), refused(Refusal::NotInMembership));
    assert_eq!(initialize(members(vec![&[1, 2], &[1, 3]])), refused(Refusal::NotInMembership), "joint");
    let log_id = crate::disk::first_log_id::<Standard>();
    assert_eq!(initialize(members(vec![&[1]])), (Some(Reply::Done { log_id }), true));
}
