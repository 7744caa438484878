//! What people read.

use std::time::Duration;

use raftwright_core::{
    AdvancedLeaderId, CommittedLeaderId, CommittedTerm, Identity, Incarnation, LeaderId, LogId, MembershipError, Node,
    RestoreError, Round, Span, StandardLeaderId, Ticket, Time,
};

use crate::types::{Standard, id};

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
