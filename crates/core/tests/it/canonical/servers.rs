//! What a server knows, and is about to say, makes a difference.

use raftwright_core::{
    ChangeConditions, ChangeMembers, HeartbeatResponse, Identity, Incarnation, Input, InstallSnapshotRequest, LogIdOf,
    ReadPolicy, Replica, ReplicaConfig, Restored, Round, StoredMembership, Ticket, Time, VoteKind, VoteResponse,
};

use super::{Words, assert_told_apart, first, id, membership, words_of};
use crate::solo::{Solo, Start, identity};
use crate::types::{Item, Member, Standard, led, vote};

type Server = Solo<Standard>;

fn follower() -> Server {
    Solo::start(Start::default())
}

fn held(mut server: Server) -> Server {
    server.prompt = false;
    server
}

fn with(mut server: Server, happens: impl FnOnce(&mut Server)) -> Words {
    happens(&mut server);
    words_of(&server.replica)
}

/// A server that has just started, and has not stepped yet.
fn started(restored: Restored<Standard>, incarnation: Option<Incarnation>) -> Words {
    let identity = Identity { id: 1, incarnation };
    words_of(&Replica::new(ReplicaConfig::default(), identity, restored, Time::ZERO, 1).unwrap())
}

#[test]
fn what_is_on_the_disk_makes_a_difference() {
    let voters = StoredMembership { log_id: first(), membership: membership(&[&[1, 2, 3]], &[]) };
    let restored = |vote, keys: &[(u64, u64)], last, committed: Option<(u64, u64)>| Restored {
        vote,
        purged: None,
        key_log_ids: first().into_iter().chain(keys.iter().map(|(term, index)| id(*term, *index))).collect(),
        last_log_id: Some(last),
        committed: committed.map(|(term, index)| id(term, index)),
        memberships: vec![voters.clone()],
        snapshot: None,
    };
    let voted = Some(vote::<Standard>(3, 2));
    let base = || restored(voted, &[(1, 2)], id(1, 4), None);
    let all = |incarnation| {
        vec![
            ("blank", started(Restored::default(), incarnation)),
            ("three entries", started(base(), incarnation)),
            ("fewer", started(Restored { last_log_id: Some(id(1, 3)), ..base() }, incarnation)),
            ("of another term", started(restored(voted, &[(2, 2)], id(2, 4), None), incarnation)),
            ("of two terms", started(restored(voted, &[(1, 2), (2, 3)], id(2, 4), None), incarnation)),
            ("of two others", started(restored(voted, &[(1, 2), (2, 4)], id(2, 4), None), incarnation)),
            ("committed", started(restored(voted, &[(1, 2)], id(1, 4), Some((1, 3))), incarnation)),
            ("another vote", started(Restored { vote: Some(vote::<Standard>(3, 3)), ..base() }, incarnation)),
            ("a later vote", started(Restored { vote: Some(vote::<Standard>(4, 2)), ..base() }, incarnation)),
            ("a leader", started(Restored { vote: Some(led::<Standard>(3, 2)), ..base() }, incarnation)),
            ("a snapshot", started(Restored { snapshot: Some(id(1, 3)), ..base() }, incarnation)),
            (
                "one that the log has yet to follow",
                started(Restored { snapshot: Some(id(1, 9)), ..base() }, incarnation),
            ),
        ]
    };
    assert_told_apart(&all(None));
    assert_told_apart(&all(Some(Incarnation(4))));
    assert_ne!(started(base(), None), started(base(), Some(Incarnation(4))), "another incarnation");
    let purged = Restored { purged: Some(id(1, 3)), key_log_ids: vec![id(1, 4)], snapshot: Some(id(1, 3)), ..base() };
    let kept = Restored { snapshot: Some(id(1, 3)), ..base() };
    assert_ne!(started(purged, None), started(kept, None), "purged");
}

#[test]
fn what_a_follower_knows_makes_a_difference() {
    let higher = |vote| {
        Input::VoteResponse(VoteResponse {
            from: identity(2),
            kind: VoteKind::Vote,
            asked: vote,
            granted: false,
            vote: Some(vote),
        })
    };
    let entry = |server: &mut Server, committed| {
        server.append(2, 1, first(), &[id(1, 2)], committed);
    };
    let pre_vote = ReplicaConfig { pre_vote: true, ..ReplicaConfig::default() };
    let asking = || Solo::start(Start { config: pre_vote.clone(), ..Start::default() });
    let restarted = || Solo::start(Start { terms: vec![1], vote: Some(led::<Standard>(1, 2)), ..Start::default() });
    assert_told_apart(&[
        ("a follower", with(follower(), |_| {})),
        ("another", with(Solo::start(Start { id: 2, ..Start::default() }), |_| {})),
        ("a learner", with(Solo::start(Start { id: 4, ..Start::default() }), |_| {})),
        ("of a larger cluster", with(Solo::start(Start { voters: 5, ..Start::default() }), |_| {})),
        (
            "a voter",
            with(follower(), |server| {
                server.ask_vote(2, 1, first());
            }),
        ),
        (
            "one whose vote is not durable",
            with(held(follower()), |server| {
                server.ask_vote(2, 1, first());
            }),
        ),
        (
            "one that has heard of a term",
            with(follower(), |server| {
                server.step(higher(vote::<Standard>(7, 2)));
            }),
        ),
        (
            "of another",
            with(follower(), |server| {
                server.step(higher(vote::<Standard>(8, 2)));
            }),
        ),
        (
            "one that follows",
            with(follower(), |server| {
                server.heartbeat(2, 1, None);
            }),
        ),
        (
            "another leader",
            with(follower(), |server| {
                server.heartbeat(3, 1, None);
            }),
        ),
        ("one with an entry", with(follower(), |server| entry(server, None))),
        ("that is not durable", with(held(follower()), |server| entry(server, None))),
        ("one with an entry, committed", with(follower(), |server| entry(server, Some(id(1, 2))))),
        (
            "one that asks",
            with(asking(), |server| {
                server.wake();
            }),
        ),
        (
            "one that campaigns",
            with(held(follower()), |server| {
                server.step(Input::Elect);
            }),
        ),
        (
            "with a vote of its own",
            with(follower(), |server| {
                server.step(Input::Elect);
            }),
        ),
    ]);
    let told = |committed| {
        with(restarted(), |server| {
            server.heartbeat(2, 1, committed);
        })
    };
    let verified = with(restarted(), |server| {
        server.append(2, 1, Some(id(1, 2)), &[], None);
    });
    assert_told_apart(&[
        ("one that follows", told(None)),
        ("one that knows its log to be the leader's", verified),
        ("one that knows what is committed", told(first())),
        ("one that knows more to be committed", told(Some(id(1, 2)))),
    ]);
    let granted = |voter: u64| {
        with(held(Solo::start(Start { voters: 5, ..Start::default() })), |server| {
            server.step(Input::Elect);
            server.grant(&[voter]);
        })
    };
    assert_told_apart(&[("2", granted(2)), ("3", granted(3)), ("nobody", granted(1))]);
}

/// Each kind of promise, and whom it is made to.
#[test]
fn what_waits_for_the_disk_makes_a_difference() {
    let waiting = |happens: fn(&mut Server)| {
        with(held(follower()), |server| {
            // The vote is on its way to the disk, and everything waits for that.
            server.append(2, 1, first(), &[id(1, 2)], None);
            happens(server);
        })
    };
    assert_told_apart(&[
        ("nothing more", waiting(|_| {})),
        (
            "a vote",
            waiting(|server| {
                server.ask_vote(3, 2, first());
            }),
        ),
        (
            "a refusal",
            waiting(|server| {
                server.ask_vote(3, 0, first());
            }),
        ),
        (
            "a heartbeat",
            waiting(|server| {
                server.heartbeat(2, 1, None);
            }),
        ),
        (
            "entries",
            waiting(|server| {
                server.append(2, 1, first(), &[id(1, 2)], None);
            }),
        ),
        (
            "a conflict",
            waiting(|server| {
                server.append(2, 1, Some(id(1, 9)), &[], None);
            }),
        ),
        (
            "entries of an older leader",
            waiting(|server| {
                server.append(3, 0, first(), &[], None);
            }),
        ),
        (
            "an older snapshot",
            waiting(|server| {
                install(server, 3, 0, id(0, 9));
            }),
        ),
    ]);
    let tickets = |after: u64| {
        with(held(follower()), |server| {
            (0..after).for_each(|_| {
                server.ticket();
            });
            server.ask_vote(2, 1, first());
        })
    };
    assert_ne!(tickets(0), tickets(1), "somebody else waits");
    // The snapshot's entries are all here, but not on the disk yet.
    let stored = |index| {
        with(follower(), |server| {
            server.heartbeat(2, 1, None);
            server.prompt = false;
            server.append(2, 1, first(), &[id(1, 2), id(1, 3)], Some(id(1, 3)));
            install(server, 2, 1, id(1, index));
        })
    };
    let unasked = with(follower(), |server| {
        server.heartbeat(2, 1, None);
        server.prompt = false;
        server.append(2, 1, first(), &[id(1, 2), id(1, 3)], Some(id(1, 3)));
    });
    assert_told_apart(&[("of two entries", stored(2)), ("of none", unasked)]);
    let initialized = |server: &mut Server| {
        let membership = membership(&[&[1, 2, 3]], &[]);
        server.call(|ticket| Input::Initialize { ticket, membership });
    };
    let blank = || Solo::restore(1, ReplicaConfig::default(), Restored::default());
    assert_told_apart(&[
        ("blank", with(held(blank()), |_| {})),
        ("being initialized", with(held(blank()), initialized)),
        ("initialized", with(blank(), initialized)),
    ]);
}

/// Of writes that are under way it counts which are complete, and how far each reaches.
#[test]
fn writes_that_overtake_make_a_difference() {
    let writing = |complete: Option<usize>| {
        with(follower(), |server| {
            server.heartbeat(2, 1, None);
            server.prompt = false;
            for (at, prev) in (2..).zip([id(0, 1), id(1, 2), id(1, 3)]) {
                server.append(2, 1, Some(prev), &[id(1, at)], None);
            }
            if let Some(at) = complete {
                let write = server.pending[at];
                server.step(Input::LogDone { write });
            }
        })
    };
    assert_told_apart(&[
        ("none is complete", writing(None)),
        ("the first", writing(Some(0))),
        ("the second", writing(Some(1))),
        ("the third", writing(Some(2))),
    ]);
}

fn install(server: &mut Server, from: u64, term: u64, last_log_id: LogIdOf<Standard>) -> Ticket {
    let last_membership = StoredMembership { log_id: first(), membership: membership(&[&[1, 2, 3]], &[]) };
    let vote = led::<Standard>(term, from);
    let request = InstallSnapshotRequest { from: identity(from), vote, last_log_id, last_membership };
    let ticket = server.ticket();
    server.step(Input::InstallSnapshot { ticket, request });
    ticket
}

#[test]
fn snapshots_make_a_difference() {
    let having = |happens: fn(&mut Server)| {
        with(Solo::start(Start { terms: vec![1, 1], committed: 3, ..voted() }), |server| {
            server.heartbeat(2, 1, Some(id(1, 3)));
            happens(server);
        })
    };
    let built = |server: &mut Server| {
        server.step(Input::BuildSnapshot);
        server.step(Input::SnapshotBuilt { last_log_id: id(1, 3) });
    };
    assert_told_apart(&[
        ("none", having(|_| {})),
        (
            "one being built",
            having(|server| {
                server.step(Input::BuildSnapshot);
            }),
        ),
        (
            "one that was tried",
            having(|server| {
                server.step(Input::BuildSnapshot);
                server.step(Input::SnapshotFailed);
            }),
        ),
        ("one", having(built)),
        (
            "an older one",
            having(|server| {
                server.step(Input::BuildSnapshot);
                server.step(Input::SnapshotBuilt { last_log_id: id(1, 2) });
            }),
        ),
        (
            "and the log purged",
            having(|server| {
                server.step(Input::BuildSnapshot);
                server.step(Input::SnapshotBuilt { last_log_id: id(1, 3) });
                server.step(Input::Purge { upto: 2 });
            }),
        ),
        (
            "and purged further",
            having(|server| {
                server.step(Input::BuildSnapshot);
                server.step(Input::SnapshotBuilt { last_log_id: id(1, 3) });
                server.step(Input::Purge { upto: 3 });
            }),
        ),
        (
            "a leader's being installed",
            having(|server| {
                install(server, 2, 1, id(1, 8));
            }),
        ),
        (
            "another",
            having(|server| {
                install(server, 2, 1, id(1, 9));
            }),
        ),
        (
            "for somebody else",
            having(|server| {
                server.ticket();
                install(server, 2, 1, id(1, 9));
            }),
        ),
        (
            "installed",
            having(|server| {
                let ticket = install(server, 2, 1, id(1, 8));
                server.step(Input::SnapshotInstalled { ticket });
            }),
        ),
        (
            "installed, but the log has not followed",
            having(|server| {
                let ticket = install(server, 2, 1, id(1, 8));
                server.prompt = false;
                server.step(Input::SnapshotInstalled { ticket });
            }),
        ),
    ]);
}

/// A server that has promised itself to the leader of term 1.
fn voted() -> Start<Standard> {
    Start { vote: Some(led::<Standard>(1, 2)), ..Start::default() }
}

// ---- leaders ----

/// Leads term 1; its blank entry, at index 2, is not committed.
fn leader() -> Server {
    let mut server = follower();
    server.lead();
    server
}

fn answer(server: &mut Server, from: u64, round: u64, accepted: bool) {
    let asked = *server.replica.vote().unwrap();
    let response = HeartbeatResponse { from: identity(from), round: Round(round), asked, accepted, vote: Some(asked) };
    server.step(Input::HeartbeatResponse(response));
}

fn read(server: &mut Server) {
    server.call(|ticket| Input::Read { ticket, policy: ReadPolicy::ReadIndex });
}

#[test]
fn what_a_leader_knows_makes_a_difference() {
    let of = |happens: fn(&mut Server)| with(leader(), happens);
    let stated = |from, incarnation| Identity { id: from, incarnation: Some(Incarnation(incarnation)) };
    let shown = |incarnation| {
        with(leader(), |server| {
            let (from, asked) = (stated(2, incarnation), *server.replica.vote().unwrap());
            let response = HeartbeatResponse { from, round: Round(1), asked, accepted: true, vote: None };
            server.step(Input::HeartbeatResponse(response));
        })
    };
    assert_told_apart(&[
        ("a leader", of(|_| {})),
        (
            "in its second round",
            of(|server| {
                server.step(Input::Beat);
            }),
        ),
        ("answered", of(|server| answer(server, 2, 1, true))),
        ("answered by another", of(|server| answer(server, 3, 1, true))),
        ("answered by an incarnation", shown(7)),
        ("answered by another incarnation", shown(8)),
        (
            "that has matched",
            of(|server| {
                server.matched(2, id(0, 1));
            }),
        ),
        (
            "that has another matched",
            of(|server| {
                server.matched(3, id(0, 1));
            }),
        ),
        (
            "that has committed",
            of(|server| {
                server.matched(2, id(1, 2));
            }),
        ),
        (
            "that has proposed",
            of(|server| {
                let entry = Item::data("x");
                server.call(|ticket| Input::Propose { ticket, entry });
            }),
        ),
        ("with a read", of(read)),
        (
            "with another's read",
            of(|server| {
                server.ticket();
                read(server);
            }),
        ),
        (
            "with two reads",
            of(|server| {
                read(server);
                read(server);
            }),
        ),
        (
            "with a read of a later round",
            of(|server| {
                server.step(Input::Beat);
                read(server);
            }),
        ),
        (
            "with a transfer",
            of(|server| {
                transfer(server, 2);
            }),
        ),
        (
            "with one to another",
            of(|server| {
                transfer(server, 3);
            }),
        ),
        (
            "with one for somebody else",
            of(|server| {
                server.ticket();
                transfer(server, 2);
            }),
        ),
        (
            "with one that nobody waits for",
            of(|server| {
                let ticket = transfer(server, 2);
                server.step(Input::Forget { ticket });
            }),
        ),
    ]);
}

fn transfer(server: &mut Server, to: u64) -> Ticket {
    let ticket = server.ticket();
    server.step(Input::TransferLeader { ticket, to });
    ticket
}

fn change(server: &mut Server, change: ChangeMembers<Standard>, conditions: ChangeConditions<Standard>) -> Ticket {
    let ticket = server.ticket();
    server.step(Input::ChangeMembers { ticket, change, conditions });
    ticket
}

/// Changes that wait until the leader has committed an entry of its own: each kind, and all that it says.
#[test]
fn changes_that_wait_make_a_difference() {
    let any = ChangeConditions::default;
    let node = |incarnation: Option<u64>| Member { address: 1, incarnation: incarnation.map(Incarnation) };
    let waits = |wanted: ChangeMembers<Standard>| {
        with(leader(), |server| {
            change(server, wanted, any());
        })
    };
    let given = |conditions| {
        with(leader(), |server| {
            change(server, ChangeMembers::Promote([4].into()), conditions);
        })
    };
    let voters = |voters: &[u64], retain, all: bool| {
        let voters = voters.iter().copied().collect();
        waits(if all {
            ChangeMembers::ReplaceVoters { voters, retain }
        } else {
            ChangeMembers::RemoveVoters { voters, retain }
        })
    };
    let replace = |old, new, incarnation| waits(ChangeMembers::ReplaceNode { old, new, node: node(incarnation) });
    assert_told_apart(&[
        ("none", with(leader(), |_| {})),
        ("set 4", waits(ChangeMembers::SetNodes([(4, node(None))].into()))),
        ("set 5", waits(ChangeMembers::SetNodes([(5, node(None))].into()))),
        ("set 4, of an incarnation", waits(ChangeMembers::SetNodes([(4, node(Some(1)))].into()))),
        ("update 4", waits(ChangeMembers::UpdateNodes([(4, node(None))].into()))),
        ("update 5", waits(ChangeMembers::UpdateNodes([(5, node(None))].into()))),
        ("remove 4", waits(ChangeMembers::RemoveNodes([4].into()))),
        ("remove 5", waits(ChangeMembers::RemoveNodes([5].into()))),
        ("add 4", waits(ChangeMembers::AddVoters([4].into()))),
        ("add 4 and 5", waits(ChangeMembers::AddVoters([4, 5].into()))),
        ("promote 4", waits(ChangeMembers::Promote([4].into()))),
        ("promote 5", waits(ChangeMembers::Promote([5].into()))),
        ("3 votes no more", voters(&[3], false, false)),
        ("2 votes no more", voters(&[2], false, false)),
        ("3 votes no more, and stays", voters(&[3], true, false)),
        ("3 alone votes", voters(&[3], false, true)),
        ("2 alone votes", voters(&[2], false, true)),
        ("3 alone votes, and all stay", voters(&[3], true, true)),
        ("4 for 3", replace(3, 4, None)),
        ("4 for 2", replace(2, 4, None)),
        ("5 for 3", replace(3, 5, None)),
        ("4 of an incarnation for 3", replace(3, 4, Some(1))),
        ("promote 4, if a membership", given(ChangeConditions { membership: Some(id(1, 3)), ..any() })),
        ("promote 4, if another", given(ChangeConditions { membership: Some(id(1, 4)), ..any() })),
        ("promote 4, if a leader", given(ChangeConditions { leader: Some(led::<Standard>(1, 1)), ..any() })),
        ("promote 4, if another leader", given(ChangeConditions { leader: Some(led::<Standard>(2, 1)), ..any() })),
        ("promote 4, if an entry", given(ChangeConditions { last_log_id: Some(id(1, 3)), ..any() })),
        ("promote 4, if another entry", given(ChangeConditions { last_log_id: Some(id(1, 4)), ..any() })),
        (
            "promote 4, for somebody else",
            with(leader(), |server| {
                server.ticket();
                change(server, ChangeMembers::Promote([4].into()), any());
            }),
        ),
        (
            "two",
            with(leader(), |server| {
                change(server, ChangeMembers::Promote([4].into()), any());
                change(server, ChangeMembers::Promote([5].into()), any());
            }),
        ),
    ]);
}

/// What becomes of changes that have begun.
#[test]
fn changes_under_way_make_a_difference() {
    let any = ChangeConditions::default;
    let member = |address| Member { address, incarnation: None };
    // Server 4 is a learner, and all that is committed.
    let settled = || {
        let mut server = leader();
        server.matched(2, id(1, 2));
        change(&mut server, ChangeMembers::SetNodes([(4, member(4))].into()), any());
        server.matched(2, id(1, 3));
        server
    };
    let add = |server: &mut Server| change(server, ChangeMembers::AddVoters([4].into()), any());
    let cancel = |server: &mut Server| {
        let ticket = server.ticket();
        server.step(Input::CancelChange { ticket });
        ticket
    };
    assert_told_apart(&[
        ("none", with(settled(), |_| {})),
        (
            "one",
            with(settled(), |server| {
                add(server);
            }),
        ),
        (
            "one that nobody waits for",
            with(settled(), |server| {
                let ticket = add(server);
                server.step(Input::Forget { ticket });
            }),
        ),
        (
            "one for somebody else",
            with(settled(), |server| {
                server.ticket();
                add(server);
            }),
        ),
        (
            "one that is taken back",
            with(settled(), |server| {
                add(server);
                cancel(server);
            }),
        ),
        (
            "one that is taken back, for nobody",
            with(settled(), |server| {
                add(server);
                let ticket = cancel(server);
                server.step(Input::Forget { ticket });
            }),
        ),
        (
            "one that is taken back, which nobody waits for",
            with(settled(), |server| {
                let ticket = add(server);
                cancel(server);
                server.step(Input::Forget { ticket });
            }),
        ),
    ]);
    let promoting = |happens: fn(&mut Server)| {
        with(settled(), |server| {
            change(server, ChangeMembers::Promote([4].into()), any());
            server.matched(2, id(1, 4));
            happens(server);
        })
    };
    assert_told_apart(&[
        ("a learner to be promoted", promoting(|_| {})),
        (
            "that has stored something",
            promoting(|server| {
                server.matched(4, id(0, 1));
            }),
        ),
        (
            "that has caught up",
            promoting(|server| {
                server.matched(4, id(1, 4));
            }),
        ),
        (
            "that has caught up too slowly",
            promoting(|server| {
                server.matched(4, id(0, 1));
                server.pass(200);
                server.matched(4, id(1, 4));
            }),
        ),
    ]);
    let leaving = |happens: fn(&mut Server)| {
        with(settled(), |server| {
            change(server, ChangeMembers::RemoveNodes([4].into()), any());
            happens(server);
            server.matched(2, id(1, 4));
        })
    };
    assert_told_apart(&[
        ("a learner that is removed", leaving(|_| {})),
        (
            "after a further round",
            leaving(|server| {
                server.step(Input::Beat);
            }),
        ),
        (
            "after a further entry",
            leaving(|server| {
                let entry = Item::data("x");
                server.call(|ticket| Input::Propose { ticket, entry });
            }),
        ),
    ]);
}
