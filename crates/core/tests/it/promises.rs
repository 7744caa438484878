//! Answers that wait for the disk: what each says when something else has happened meanwhile.

use raftwright_core::{
    AppendOutcome, Effect, HeartbeatRequest, Input, InstallOutcome, Membership, MembershipOf, Reply, Round, VoteKind,
    VoteRequest,
};

use crate::disk::first_log_id;
use crate::solo::{Solo, Start, identity};
use crate::types::{Item, Member, Standard, id, led, vote};

type Server = Solo<Standard>;

fn replies(server: &Server, begin: usize) -> Vec<Reply<Standard>> {
    let replies = server.done[begin..].iter().filter_map(|effect| match effect {
        Effect::Reply { reply, .. } => Some(reply.clone()),
        _ => None,
    });
    replies.collect()
}

/// Before the disk is done this server promises itself to another: nothing that was promised before is said. What is said
/// instead names the new vote, so that whoever asked knows whom to look for (BUGS 16).
#[test]
fn what_was_promised_before_is_refused_under_a_later_vote() {
    let terms = vec![1];
    let mut server = Server::start(Start { terms, vote: Some(led::<Standard>(1, 2)), ..Start::default() });
    server.prompt = false;
    let last = Some(id::<Standard>(1, 2));
    server.ask_vote(3, 2, last);
    server.append(3, 2, last, &[id::<Standard>(2, 3)], None);
    server.heartbeat(3, 2, None);
    server.pass(200);
    server.ask_vote(2, 7, Some(id::<Standard>(9, 9)));
    let later = vote::<Standard>(7, 2);
    let begin = server.done.len();
    server.complete_all();
    let said = replies(&server, begin);
    assert_eq!(said.len(), 4);
    for reply in &said[..3] {
        match reply {
            Reply::Vote(response) => {
                assert!(!response.granted && response.asked == vote::<Standard>(2, 3));
                assert_eq!(response.vote, Some(later));
            }
            Reply::Append(response) => assert_eq!(response.outcome, AppendOutcome::HigherVote(later)),
            Reply::Heartbeat(response) => {
                assert!(!response.accepted && response.asked == led::<Standard>(2, 3));
                assert_eq!(response.vote, Some(later));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(
        matches!(&said[3], Reply::Vote(response) if response.granted && response.asked == later),
        "the last one holds"
    );
}

/// The same for a snapshot that was not needed, and a server that is being initialized, which stays so.
#[test]
fn a_snapshot_is_refused_and_the_first_entry_stays() {
    let vote = Some(led::<Standard>(1, 2));
    let mut server = Server::start(Start { terms: vec![1], vote, ..Start::default() });
    server.heartbeat(2, 1, None);
    server.prompt = false;
    server.append(2, 1, Some(id::<Standard>(1, 2)), &[id::<Standard>(1, 3)], None);
    let last_membership =
        raftwright_core::StoredMembership { log_id: Some(first_log_id::<Standard>()), membership: voters() };
    let request = raftwright_core::InstallSnapshotRequest {
        from: identity(2),
        vote: led::<Standard>(1, 2),
        last_log_id: id::<Standard>(1, 3),
        last_membership,
    };
    assert_eq!(server.call(|ticket| Input::InstallSnapshot { ticket, request }), None, "its entries are not durable");
    server.pass(200);
    server.ask_vote(3, 4, Some(id::<Standard>(9, 9)));
    let begin = server.done.len();
    server.complete_all();
    let later = crate::types::vote::<Standard>(4, 3);
    let refused = replies(&server, begin)
        .iter()
        .any(|reply| matches!(reply, Reply::InstallSnapshot(response) if response.outcome == InstallOutcome::HigherVote(later)));
    assert!(refused);

    let mut blank = Server::restore(1, raftwright_core::ReplicaConfig::default(), raftwright_core::Restored::default());
    blank.prompt = false;
    let membership = voters();
    blank.call(|ticket| Input::Initialize { ticket, membership });
    blank.ask_vote(3, 4, Some(id::<Standard>(3, 9)));
    let begin = blank.done.len();
    blank.complete_all();
    let first = first_log_id::<Standard>();
    assert!(replies(&blank, begin).contains(&Reply::Done { log_id: first }));
}

fn voters() -> MembershipOf<Standard> {
    let nodes = (1..=3).map(|id| (id, Member { address: id, incarnation: None })).collect();
    Membership::new(vec![[1, 2, 3].into()], nodes).unwrap()
}

/// A heartbeat that follows an earlier leader is refused and says whom this server follows.
#[test]
fn an_earlier_leader_hears_of_the_later() {
    let mut server = Server::start(Start::default());
    server.heartbeat(3, 5, None);
    let answer = server.heartbeat(2, 4, None).unwrap();
    assert!(!answer.accepted);
    assert_eq!((answer.vote, answer.asked), (Some(led::<Standard>(5, 3)), led::<Standard>(4, 2)));
    let request = HeartbeatRequest { from: identity(3), vote: led::<Standard>(5, 3), round: Round(9), committed: None };
    let Some(Reply::Heartbeat(answer)) = server.call(|ticket| Input::Heartbeat { ticket, request }) else { panic!() };
    assert!(answer.accepted && answer.round == Round(9));
}

/// A vote that was given to somebody is given to them again, whether this server would like to lead itself or not, and
/// costs no second write.
#[test]
fn a_vote_given_again_costs_nothing() {
    let mut server = Server::start(Start::default());
    let first = Some(first_log_id::<Standard>());
    assert!(server.ask_vote(2, 3, first).unwrap().granted);
    let begin = server.done.len();
    assert!(server.ask_vote(2, 3, first).unwrap().granted);
    assert!(!server.done[begin..].iter().any(|effect| matches!(effect, Effect::Write { .. })));
    let request = VoteRequest {
        from: identity(2),
        vote: vote::<Standard>(3, 2),
        last_log_id: first,
        kind: VoteKind::PreVote,
        permit: None,
    };
    let Some(Reply::Vote(answer)) = server.call(|ticket| Input::VoteRequest { ticket, request }) else { panic!() };
    assert!(answer.granted, "and would be");
}

/// What cannot be proposed: an entry that carries a membership. Memberships keep their rules only when they are asked for.
#[test]
fn a_membership_is_not_proposed() {
    let mut server = Server::start(Start::default());
    server.lead();
    let before = server.replica.last_log_id();
    let entry = Item { log_id: first_log_id::<Standard>(), payload: crate::types::Payload::Membership(voters()) };
    let reply = server.call(|ticket| Input::Propose { ticket, entry });
    assert_eq!(reply, Some(Reply::Refused(raftwright_core::Refusal::ChangeInProgress)));
    assert_eq!(server.replica.last_log_id(), before);
}
