//! What people read, and what a search compares.

use std::time::Duration;

use raftwright_core::{
    AdvancedLeaderId, Canonical, ChangeConditions, ChangeMembers, CommittedLeaderId, CommittedTerm, Identity,
    Incarnation, Input, LeaderId, LogId, MembershipError, Node, ReadPolicy, RestoreError, Round, Span,
    StandardLeaderId, Ticket, Time,
};

use crate::cluster::{Cluster, Setup};
use crate::types::{Member, Standard, id};

#[test]
fn times_and_spans_are_told_in_milliseconds() {
    assert_eq!(Span::from_millis(150).to_string(), "150ms");
    assert_eq!(Span::from_micros(1_500).to_string(), "1.500ms");
    let at = Time::ZERO + Span::from_secs(2);
    assert_eq!((at.to_string().as_str(), at - Time::from_nanos(1_000_000)), ("2000ms", Span::from_millis(1_999)));
    assert_eq!((Span::from_millis(7).as_millis(), Span::from_secs(1).divided_by(0)), (7, Span::from_secs(1)));
    assert_eq!(Span::from(Duration::from_micros(3)), Span::from_micros(3));
    assert_eq!(Span::from(Duration::MAX), Span::from_nanos(u64::MAX), "as long as can be told");
    assert_eq!(Duration::from(Span::from_millis(9)), Duration::from_millis(9));
}

#[test]
fn ids_are_told_in_short() {
    let identity = |incarnation| Identity { id: 3, incarnation };
    assert_eq!(identity(None).to_string(), "3");
    assert_eq!(identity(Some(Incarnation(255))).to_string(), "3@00000000000000ff");
    assert_eq!((Round(4).to_string(), Ticket(5).to_string()), ("r4".to_owned(), "t5".to_owned()));
    let term = <CommittedTerm<u64> as CommittedLeaderId>::new(7, Some(9));
    assert_eq!((term.term(), term.node_id(), format!("{term:?}")), (7, None, "T7".to_owned()), "the term says all");
    assert_eq!(LogId::new(term, 12).to_string(), "T7.12");
    let advanced = <AdvancedLeaderId<u64> as CommittedLeaderId>::new(7, Some(9));
    let (of_term, of_node) = (CommittedLeaderId::term(&advanced), CommittedLeaderId::node_id(&advanced));
    assert_eq!((of_term, of_node, advanced.to_string()), (7, Some(9), "T7-N9".to_owned()));
    assert_eq!(<StandardLeaderId<u64> as LeaderId>::new(1, 2).to_string(), "T1-N2");
}

#[test]
fn errors_say_what_is_wrong() {
    let text = |error: RestoreError<Standard>| error.to_string();
    assert_eq!(text(RestoreError::Log), "the parts of the log contradict each other");
    assert!(text(RestoreError::VoteMissing).contains("vote was lost"));
    assert!(text(RestoreError::VoteBehindLog).contains("older than the last log entry"));
    assert!(text(RestoreError::AppliedContradictsLog { applied: id::<Standard>(1, 2) }).contains("T1.2"));
    let beyond = RestoreError::AppliedBeyondLog { applied: id::<Standard>(1, 9), last: Some(id::<Standard>(1, 4)) };
    assert!(text(beyond).contains("ends at 4"));
    let text = |error: MembershipError<u64>| error.to_string();
    assert!(text(MembershipError::EmptyVoters).contains("at least one voter"));
    assert!(text(MembershipError::TooManyConfigs).contains("two while it changes"));
    assert!(text(MembershipError::VoterWithoutNode(4)).contains("add it as a learner first"));
    assert!(text(MembershipError::NotALearner(4)).contains("no learner"));
}

/// A type that stores nothing about a server cannot be bound to one.
#[test]
fn nothing_stored_is_no_incarnation() {
    assert_eq!(().incarnation(), None);
    assert!(!().bind_incarnation(Incarnation(1)));
}

/// The words of a state: the same for the same state, whenever it is, and others for another.
#[test]
fn a_state_is_told_from_another_by_its_words() {
    let words = |cluster: &Cluster<Standard>, id: u64| {
        let (server, ticket) = (|id: &u64| *id, |ticket: Ticket| ticket.0);
        let mut words = Canonical::new(&server, &ticket);
        cluster.replica(id).canonical(&mut words);
        words.words().to_vec()
    };
    let setup = || Setup { learners: vec![4, 5], incarnations: true, ..Setup::voters(3) };
    let (mut one, mut other) = (Cluster::<Standard>::new(setup()), Cluster::<Standard>::new(setup()));
    other.pass(Span::from_nanos(7), false);
    let mut seen = std::collections::BTreeSet::new();
    let node = || Member { address: 1, incarnation: None };
    let steps: Vec<fn(&mut Cluster<Standard>)> = vec![
        |_| {},
        |cluster| cluster.elect(1),
        |cluster| cluster.hold_disk(1),
        |cluster| cluster.propose(1, "x"),
        |cluster| {
            cluster.call(1, "read", |ticket| Input::Read { ticket, policy: ReadPolicy::ReadIndex });
        },
        |cluster| {
            cluster.call(1, "transfer", |ticket| Input::TransferLeader { ticket, to: 2 });
        },
    ];
    for step in steps {
        step(&mut one);
        step(&mut other);
        assert_eq!(words(&one, 1), words(&other, 1), "what time it is makes no difference");
        seen.insert(words(&one, 1));
    }
    assert_eq!(seen.len(), 5, "a disk that is held is nothing that a server knows");

    // Changes that wait for a binding of incarnations which nobody asked for.
    let change = |change: ChangeMembers<Standard>, conditions: ChangeConditions<Standard>| {
        let mut cluster = Cluster::<Standard>::new(setup());
        cluster.step(1, Input::Elect);
        cluster.settle();
        cluster.call(1, "first", |ticket| Input::ChangeMembers { ticket, change, conditions });
        words(&cluster, 1)
    };
    let seen_there = ChangeConditions { last_log_id: Some(id::<Standard>(1, 3)), ..ChangeConditions::default() };
    let all = [
        change(ChangeMembers::SetNodes([(6, node())].into()), ChangeConditions::default()),
        change(ChangeMembers::Promote([4].into()), ChangeConditions::default()),
        change(ChangeMembers::AddVoters([4].into()), ChangeConditions::default()),
        change(ChangeMembers::AddVoters([4].into()), seen_there),
        change(ChangeMembers::RemoveVoters { voters: [3].into(), retain: true }, ChangeConditions::default()),
        change(ChangeMembers::ReplaceNode { old: 3, new: 4, node: node() }, ChangeConditions::default()),
    ];
    assert!(all.iter().collect::<std::collections::BTreeSet<_>>().len() >= 5);
}
