//! Settings that change while a server runs.

use raftwright_core::{Effect, Input, Message, Note, Refusal, ReplicaConfig, Reply, Span, StepDown, VoteKind};

use crate::solo::{Solo, Start};
use crate::types::Item;

fn config() -> ReplicaConfig {
    ReplicaConfig { pre_vote: false, ..ReplicaConfig::default() }
}

fn beats(server: &Solo, since: usize) -> usize {
    server.sent_since(since).iter().filter(|(_, message)| matches!(message, Message::Heartbeat(_))).count()
}

#[test]
fn a_leader_told_not_to_beat_is_silent_and_gives_way() {
    let mut server: Solo = Solo::start(Start::default());
    server.lead();
    let begin = server.step(Input::Configure(ReplicaConfig { enable_heartbeat: false, ..config() }));
    server.wake();
    assert_eq!(beats(&server, begin), 0);
    let told = server.done[begin..]
        .iter()
        .any(|effect| matches!(effect, Effect::Note(Note::SteppedDown { reason: StepDown::NoQuorum })));
    assert!(told && !server.replica.is_leader(), "nobody has confirmed it for an election timeout");
}

#[test]
fn a_leader_told_to_beat_again_does_so_at_once() {
    let mut server: Solo = Solo::start(Start::default());
    server.lead();
    server.step(Input::Configure(ReplicaConfig { enable_heartbeat: false, ..config() }));
    server.pass(100);
    server.step(Input::Configure(config()));
    assert!(server.replica.deadline() <= Some(server.now), "a beat is overdue");
    let begin = server.wake();
    assert_eq!(beats(&server, begin), 2);
}

#[test]
fn a_shorter_interval_counts_from_now() {
    let slow = ReplicaConfig { heartbeat_interval: Span::from_millis(70), ..config() };
    let mut server: Solo = Solo::start(Start { config: slow, ..Start::default() });
    server.lead();
    server.step(Input::Configure(ReplicaConfig { heartbeat_interval: Span::from_millis(5), ..config() }));
    assert_eq!(server.replica.deadline(), Some(server.now + Span::from_millis(5)));
}

#[test]
fn alone_a_leader_needs_no_heartbeats_to_lead_on() {
    let config = ReplicaConfig { enable_heartbeat: false, ..config() };
    let mut server: Solo = Solo::start(Start { voters: 1, config, ..Start::default() });
    server.step(Input::Elect);
    for _ in 0..100 {
        server.wake();
        assert!(server.replica.is_leader());
    }
}

#[test]
fn pre_vote_is_switched_before_the_next_election() {
    let mut server: Solo = Solo::start(Start::default());
    for pre_vote in [true, false] {
        server.step(Input::Configure(ReplicaConfig { pre_vote, ..config() }));
        let begin = server.wake();
        let asked = server.sent_since(begin).iter().all(|(_, message)| match message {
            Message::Vote(request) => (request.kind == VoteKind::PreVote) == pre_vote,
            Message::Heartbeat(_) | Message::TransferLeader(_) => false,
        });
        assert!(asked && !server.sent_since(begin).is_empty());
    }
}

#[test]
fn bounds_are_set_anew() {
    let mut server: Solo = Solo::start(Start::default());
    server.lead();
    server.prompt = false;
    let propose = |server: &mut Solo| {
        let entry = Item::data("0123456789");
        server.call(|ticket| Input::Propose { ticket, entry }).unwrap()
    };
    assert!(matches!(propose(&mut server), Reply::Proposed(_)));
    server.step(Input::Configure(ReplicaConfig { uncommitted_bytes_max: 15, ..config() }));
    assert_eq!(propose(&mut server), Reply::Refused(Refusal::Busy));
    server.step(Input::Configure(config()));
    assert!(matches!(propose(&mut server), Reply::Proposed(_)));
}
