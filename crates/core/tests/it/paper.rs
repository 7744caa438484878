//! The paper's Figure 2, a test a sentence; Figures 7 and 8. Where this implementation says a thing in other words than the
//! paper, the test's comment says which.

use raftwright_core::{
    AppendOutcome, Effect, Input, LogId, Message, RaftEntry, Reply, ServerState, StreamConfig, StreamEffect,
    StreamInput, Tail, Time, Vote, VoteKind, Write,
};

use crate::cluster::{Cluster, Setup};
use crate::solo::{Solo, Start, identity};
use crate::types::{Item, Standard, led, vote};

type Id = raftwright_core::LogIdOf<Standard>;

fn id(term: u64, index: u64) -> Id {
    crate::types::id::<Standard>(term, index)
}

fn solo(terms: &[u64]) -> Solo {
    Solo::with_log(terms)
}

// ---- State ----

/// Raft, Figure 2, persistent state: "Updated on stable storage before responding to RPCs".
#[test]
fn persistent_state_is_on_stable_storage_before_a_response() {
    let mut server = solo(&[]);
    server.prompt = false;
    assert_eq!(server.ask_vote(2, 1, Some(id(0, 1))), None, "the vote is not durable");
    server.complete_all();
    assert_eq!(server.unanswered(), 0);

    assert_eq!(server.append(2, 2, Some(id(0, 1)), &[id(2, 2)], None), None, "neither are the vote and the entry");
    server.complete_one();
    assert_eq!(server.unanswered(), 1, "now the vote is, and the entry is not");
    server.complete_one();
    assert_eq!(server.unanswered(), 0);
}

/// Raft, Figure 2, currentTerm: "initialized to 0 on first boot, increases monotonically".
#[test]
fn current_term_starts_at_zero_and_increases_monotonically() {
    let mut server = solo(&[]);
    assert_eq!(server.term(), 0);
    server.heartbeat(2, 5, None);
    assert_eq!(server.term(), 5);
    server.heartbeat(3, 4, None);
    server.append(3, 3, None, &[], None);
    assert_eq!(server.term(), 5, "nothing takes a term back");
    server.pass(150);
    server.step(Input::Elect);
    assert_eq!(server.term(), 6);
}

/// Raft, Figure 2, votedFor: "candidateId that received vote in current term (or null if none)".
#[test]
fn voted_for_is_who_received_the_vote_in_the_current_term() {
    let mut server = solo(&[]);
    assert_eq!(server.replica.vote(), None);
    assert!(server.ask_vote(2, 1, Some(id(0, 1))).unwrap().granted);
    assert_eq!(server.replica.vote(), Some(&vote::<Standard>(1, 2)));
    assert!(!server.ask_vote(3, 1, Some(id(0, 1))).unwrap().granted, "one vote a term");
    assert_eq!(server.replica.vote(), Some(&vote::<Standard>(1, 2)));
}

/// Raft, Figure 2, log[]: "first index is 1".
#[test]
fn the_first_index_is_one() {
    let server = solo(&[]);
    assert_eq!(server.replica.last_log_id(), Some(id(0, 1)));
    let mut blank: Solo = Solo::restore(1, Start::<Standard>::default().config, raftwright_core::Restored::default());
    assert_eq!(
        blank.append(2, 1, None, &[id(1, 1), id(1, 2)], None),
        Some(AppendOutcome::Success { matched: Some(id(1, 2)) })
    );
    assert!(matches!(blank.append(2, 1, None, &[id(1, 0)], None), Some(AppendOutcome::Refused(_))));
}

/// Raft, Figure 2, log[]: "term when entry was received by leader".
#[test]
fn an_entry_keeps_the_term_in_which_the_leader_received_it() {
    let mut server = solo(&[1]);
    server.lead();
    let entry = Item::data("x");
    let reply = server.call(|ticket| Input::Propose { ticket, entry });
    assert_eq!(reply, Some(Reply::Proposed(id(2, 4))));
    assert_eq!(server.log, [id(0, 1), id(1, 2), id(2, 3), id(2, 4)]);
}

/// Raft, Figure 2, commitIndex: "initialized to 0, increases monotonically".
#[test]
fn commit_index_starts_at_zero_and_increases_monotonically() {
    let mut server = solo(&[1, 1, 1]);
    assert_eq!(server.replica.committed(), None);
    server.append(2, 1, Some(id(1, 4)), &[], Some(id(1, 4)));
    assert_eq!(server.replica.committed(), Some(id(1, 4)));
    server.append(2, 1, Some(id(1, 4)), &[], Some(id(1, 2)));
    server.heartbeat(2, 1, None);
    assert_eq!(server.replica.committed(), Some(id(1, 4)));
}

/// Raft, Figure 2, lastApplied: "initialized to 0, increases monotonically".
#[test]
fn last_applied_increases_monotonically() {
    let mut server = solo(&[1, 1, 1]);
    for committed in [2, 4, 3, 2, 4] {
        server.append(2, 1, Some(id(1, 4)), &[], Some(id(1, committed)));
    }
    assert_eq!(server.applied_since(0), [id(1, 2), id(1, 4)]);
}

/// Raft, Figure 2, nextIndex[]: "initialized to leader last log index + 1".
#[test]
fn next_index_is_initialized_to_the_leaders_last_log_index_plus_one() {
    let mut server = solo(&[1, 1]);
    server.lead();
    let next: Vec<u64> = server
        .done
        .iter()
        .filter_map(|effect| match effect {
            Effect::OpenStream { next, .. } => Some(*next),
            _ => None,
        })
        .collect();
    assert_eq!(next, [4, 4], "its log ended at 3; its blank entry is the first that it sends");
}

/// Raft, Figure 2, matchIndex[]: "initialized to 0, increases monotonically".
#[test]
fn match_index_starts_at_zero_and_increases_monotonically() {
    let mut server = solo(&[1, 1]);
    server.lead();
    let matched = |server: &Solo| server.replica.matched().map(|(_, id)| id).collect::<Vec<_>>();
    assert_eq!(matched(&server), [None, None]);
    server.matched(2, id(2, 4));
    server.matched(2, id(1, 3));
    assert_eq!(matched(&server), [Some(id(2, 4)), None]);
}

/// Raft, Figure 2, volatile state on leaders: "Reinitialized after election".
#[test]
fn leader_state_is_reinitialized_after_election() {
    let mut server = solo(&[1]);
    server.lead();
    server.matched(2, id(2, 3));
    let stream = server.stream_to(3);
    server.heartbeat(2, 3, None);
    server.pass(150);
    server.lead();
    assert!(server.replica.matched().all(|(_, matched)| matched.is_none()));
    let report = raftwright_core::Report::Matched { from: identity(3), matched: id(2, 3) };
    server.step(Input::Stream { stream, report });
    assert!(server.replica.matched().all(|(_, matched)| matched.is_none()), "the old stream's reports are void");
}

// ---- AppendEntries RPC ----

/// Raft, Figure 2, AppendEntries: "Invoked by leader to replicate log entries; also used as heartbeat". The heartbeat is a
/// message of its own here, so that entries never delay it.
#[test]
fn append_entries_replicates_and_a_heartbeat_keeps_followers() {
    let mut server = solo(&[]);
    assert!(matches!(server.append(2, 1, Some(id(0, 1)), &[id(1, 2)], None), Some(AppendOutcome::Success { .. })));
    let before = server.replica.deadline();
    server.pass(10);
    assert!(server.heartbeat(2, 1, None).unwrap().accepted);
    assert_ne!(server.replica.deadline(), before, "it waits anew");
    assert_eq!(server.replica.server_state(), ServerState::Follower);
}

/// Raft, Figure 2, AppendEntries, leaderId: "so follower can redirect clients".
#[test]
fn a_follower_redirects_clients_to_the_leader() {
    let mut server = solo(&[]);
    server.append(3, 1, Some(id(0, 1)), &[], None);
    assert_eq!(server.replica.leader(), Some(3));
    let entry = Item::data("x");
    let reply = server.call(|ticket| Input::Propose { ticket, entry });
    assert_eq!(reply, Some(Reply::Refused(raftwright_core::Refusal::NotLeader { leader: Some(3) })));
}

/// Raft, Figure 2, AppendEntries, entries[]: "may send more than one for efficiency".
#[test]
fn one_request_carries_many_entries() {
    let mut server = solo(&[]);
    let entries: Vec<Id> = (2..=100).map(|index| id(1, index)).collect();
    let outcome = server.append(2, 1, Some(id(0, 1)), &entries, None);
    assert_eq!(outcome, Some(AppendOutcome::Success { matched: Some(id(1, 100)) }));
    let writes = server.done.iter().filter(|effect| matches!(effect, Effect::Write { op: Write::Append(_), .. }));
    assert_eq!(writes.count(), 1, "one write for all");
}

/// Raft, Figure 2, AppendEntries results, term: "for leader to update itself".
#[test]
fn a_leader_learns_of_a_newer_term_from_the_answer() {
    let mut server = solo(&[]);
    server.lead();
    let stream = server.stream_to(2);
    let vote = vote::<Standard>(7, 3);
    let report = raftwright_core::Report::HigherVote { from: identity(2), vote };
    server.step(Input::Stream { stream, report });
    assert_eq!(server.replica.server_state(), ServerState::Follower);
    server.pass(1000);
    server.step(Input::Elect);
    assert_eq!(server.term(), 8, "its next term is above the one that it was told");
}

/// Raft, Figure 2, AppendEntries results, success: "true if follower contained entry matching prevLogIndex and
/// prevLogTerm".
#[test]
fn success_means_that_the_previous_entry_matched() {
    let mut server = solo(&[1, 1, 2]);
    assert_eq!(
        server.append(2, 3, Some(id(1, 3)), &[], None),
        Some(AppendOutcome::Success { matched: Some(id(1, 3)) }),
        "and it says up to where the logs are the same, not up to where its log goes"
    );
}

/// Raft, Figure 2, AppendEntries 1: "Reply false if term < currentTerm".
#[test]
fn append_entries_of_an_older_term_is_refused() {
    let mut server = solo(&[3]);
    let outcome = server.append(2, 2, Some(id(3, 2)), &[id(2, 3)], None);
    assert_eq!(outcome, Some(AppendOutcome::HigherVote(vote::<Standard>(3, 9))));
    assert_eq!(server.log, [id(0, 1), id(3, 2)]);
}

/// Raft, Figure 2, AppendEntries 2: "Reply false if log doesn't contain an entry at prevLogIndex whose term matches".
#[test]
fn append_entries_is_refused_if_the_previous_entry_is_missing_or_another() {
    let mut server = solo(&[1, 1, 2, 2]);
    let missing = server.append(2, 4, Some(id(3, 9)), &[id(4, 10)], None);
    assert_eq!(missing, Some(AppendOutcome::Conflict { prev: id(3, 9), hint: Some(id(2, 5)) }));
    let another = server.append(2, 4, Some(id(3, 5)), &[id(4, 6)], None);
    assert_eq!(another, Some(AppendOutcome::Conflict { prev: id(3, 5), hint: Some(id(1, 3)) }));
    assert_eq!(server.log.len(), 5, "nothing was stored, nothing cut");
}

/// Raft §5.3, end: "one AppendEntries RPC will be required for each term with conflicting entries". What is committed surely
/// agrees, so the search never goes below it.
#[test]
fn the_conflict_hint_never_goes_below_the_commit_index() {
    let mut server: Solo =
        Solo::start(Start { terms: vec![1; 10], vote: Some(vote::<Standard>(1, 2)), committed: 6, ..Start::default() });
    let outcome = server.append(2, 3, Some(id(2, 10)), &[id(3, 11)], None);
    assert_eq!(outcome, Some(AppendOutcome::Conflict { prev: id(2, 10), hint: Some(id(1, 6)) }));
}

/// Raft, Figure 2, AppendEntries 3: "delete the existing entry and all that follow it".
#[test]
fn a_conflicting_entry_and_all_that_follow_are_deleted() {
    let mut server = solo(&[1, 2, 2, 2]);
    server.append(2, 3, Some(id(1, 2)), &[id(3, 3)], None);
    assert_eq!(server.log, [id(0, 1), id(1, 2), id(3, 3)]);
}

/// Raft, Figure 2, AppendEntries 3, the other way round: only a conflict deletes.
#[test]
fn entries_that_do_not_conflict_stay() {
    let mut server = solo(&[1, 2, 2, 2]);
    server.append(2, 3, Some(id(0, 1)), &[id(1, 2), id(2, 3)], None);
    server.append(2, 3, Some(id(1, 2)), &[], None);
    assert_eq!(server.log, [id(0, 1), id(1, 2), id(2, 3), id(2, 4), id(2, 5)]);
}

/// Raft, Figure 2, AppendEntries 4: "Append any new entries not already in the log".
#[test]
fn only_new_entries_are_appended() {
    let mut server = solo(&[1, 1]);
    server.append(2, 1, Some(id(0, 1)), &[id(1, 2), id(1, 3), id(1, 4)], None);
    let appended: Vec<Id> = server
        .done
        .iter()
        .filter_map(|effect| match effect {
            Effect::Write { op: Write::Append(entries), .. } => Some(entries),
            _ => None,
        })
        .flatten()
        .map(RaftEntry::log_id)
        .collect();
    assert_eq!(appended, [id(1, 4)]);
}

/// Raft, Figure 2, AppendEntries 5: "set commitIndex = min(leaderCommit, index of last new entry)".
#[test]
fn commit_index_is_the_lesser_of_leader_commit_and_the_last_new_entry() {
    let mut server = solo(&[1, 2, 2]);
    server.append(2, 3, Some(id(1, 2)), &[], Some(id(3, 9)));
    assert_eq!(server.replica.committed(), Some(id(1, 2)), "what is behind may be somebody else's");
    server.append(2, 3, Some(id(1, 2)), &[id(3, 3), id(3, 4)], Some(id(3, 3)));
    assert_eq!(server.replica.committed(), Some(id(3, 3)));
}

// ---- RequestVote RPC ----

/// Raft, Figure 2, RequestVote: "Invoked by candidates to gather votes".
#[test]
fn request_vote_carries_the_candidates_term_id_and_last_log_id() {
    let mut server = solo(&[1, 2]);
    let begin = server.step(Input::Elect);
    for (to, message) in server.sent_since(begin) {
        let Message::Vote(request) = message else { panic!("a vote request to {to}") };
        assert_eq!(request.from, identity(1));
        assert_eq!(request.vote, vote::<Standard>(3, 1));
        assert_eq!(request.last_log_id, Some(id(2, 3)));
        assert_eq!(request.kind, VoteKind::Vote);
    }
}

/// Raft, Figure 2, RequestVote results, term: "for candidate to update itself".
#[test]
fn a_candidate_learns_of_a_newer_term_from_the_answer() {
    let mut server = solo(&[]);
    server.step(Input::Elect);
    let asked = *server.replica.vote().unwrap();
    let newer = Some(vote::<Standard>(9, 3));
    let response =
        raftwright_core::VoteResponse { from: identity(2), kind: VoteKind::Vote, asked, granted: false, vote: newer };
    server.step(Input::VoteResponse(response));
    server.wake();
    assert_eq!(server.term(), 10, "the next election is above it");
}

/// Raft, Figure 2, RequestVote results, voteGranted: "true means candidate received vote". Nothing else does (BUGS 48).
#[test]
fn only_an_explicit_grant_is_a_vote() {
    let mut server = solo(&[]);
    server.step(Input::Elect);
    let asked = *server.replica.vote().unwrap();
    for (from, kind, asked, granted) in [
        (2, VoteKind::Vote, asked, false),
        (2, VoteKind::PreVote, asked, true),
        (2, VoteKind::Vote, vote::<Standard>(0, 1), true),
        (2, VoteKind::Vote, asked.commit(), true),
        (7, VoteKind::Vote, asked, true),
        (1, VoteKind::Vote, asked, true),
    ] {
        let from = identity(from);
        let response = raftwright_core::VoteResponse { from, kind, asked, granted, vote: Some(asked) };
        server.step(Input::VoteResponse(response));
        assert_eq!(server.replica.server_state(), ServerState::Candidate);
    }
    server.grant(&[2]);
    assert!(server.replica.is_leader());
}

/// Raft, Figure 2, RequestVote 1: "Reply false if term < currentTerm".
#[test]
fn request_vote_of_an_older_term_is_refused() {
    let mut server = solo(&[3]);
    let response = server.ask_vote(2, 2, Some(id(3, 9))).unwrap();
    assert!(!response.granted);
    assert_eq!(response.vote, Some(vote::<Standard>(3, 9)), "and the answer says which term is the present one");
}

/// Raft, Figure 2, RequestVote 2: "If votedFor is null or candidateId".
#[test]
fn a_vote_is_given_once_a_term_and_repeated_to_the_same_candidate() {
    let mut server = solo(&[]);
    assert!(server.ask_vote(2, 1, Some(id(0, 1))).unwrap().granted);
    assert!(server.ask_vote(2, 1, Some(id(0, 1))).unwrap().granted, "the answer may have been lost");
    assert!(!server.ask_vote(3, 1, Some(id(0, 1))).unwrap().granted);
    assert!(server.ask_vote(3, 2, Some(id(0, 1))).unwrap().granted, "a new term, a new vote");
}

/// Raft, Figure 2, RequestVote 2: "candidate's log is at least as up-to-date as receiver's log" (Raft §5.4.1: the later term
/// of the last entries, then the longer log).
#[test]
fn a_vote_is_given_only_to_a_log_that_is_as_up_to_date() {
    let cases = [
        (Some(id(2, 4)), true, "the same log"),
        (Some(id(2, 5)), true, "the same last term, longer"),
        (Some(id(2, 3)), false, "the same last term, shorter"),
        (Some(id(3, 2)), true, "a later last term, shorter"),
        (Some(id(1, 9)), false, "an earlier last term, longer"),
        (None, false, "an empty log"),
    ];
    for (last, granted, why) in cases {
        let mut server = solo(&[1, 1, 2]);
        assert_eq!(server.ask_vote(2, 4, last).unwrap().granted, granted, "{why}");
    }
}

// ---- Rules for servers: all ----

/// Raft, Figure 2, all servers: "If commitIndex > lastApplied: increment lastApplied, apply". Here also: what is durable.
#[test]
fn what_is_committed_and_durable_is_applied() {
    let mut server = solo(&[]);
    server.append(2, 1, Some(id(0, 1)), &[], Some(id(0, 1)));
    assert_eq!(server.applied_since(0), [id(0, 1)]);
    server.prompt = false;
    server.append(2, 1, Some(id(0, 1)), &[id(1, 2)], Some(id(1, 2)));
    assert_eq!(server.replica.committed(), Some(id(1, 2)));
    assert_eq!(server.applied_since(0), [id(0, 1)], "its own disk does not have it");
    server.complete_all();
    assert_eq!(server.applied_since(0), [id(0, 1), id(1, 2)]);
}

/// Raft, Figure 2, all servers: "If RPC request or response contains term T > currentTerm: set currentTerm = T, convert to
/// follower". Here a server takes a term over only with a vote that it gives or follows; else it remembers it for its own
/// next election, and a leader steps down. So a server that cannot win does not make others forget their leader.
#[test]
fn a_higher_term_ends_a_leadership() {
    let higher = vote::<Standard>(9, 3);
    let leader = || {
        let mut server = solo(&[]);
        server.lead();
        server.pass(400);
        server
    };

    let mut server = leader();
    assert!(server.ask_vote(3, 9, Some(id(1, 9))).unwrap().granted);
    assert_eq!((server.replica.server_state(), server.term()), (ServerState::Follower, 9));

    let mut server = leader();
    server.heartbeat(3, 9, None);
    assert_eq!((server.replica.server_state(), server.term()), (ServerState::Follower, 9));

    let mut server = leader();
    server.append(3, 9, None, &[], None);
    assert_eq!((server.replica.server_state(), server.term()), (ServerState::Follower, 9));

    let mut server = leader();
    let asked = *server.replica.vote().unwrap();
    let response = raftwright_core::HeartbeatResponse {
        from: identity(3),
        round: raftwright_core::Round(1),
        asked,
        accepted: false,
        vote: Some(higher),
    };
    server.step(Input::HeartbeatResponse(response));
    assert_eq!(server.replica.server_state(), ServerState::Follower);

    let mut server = leader();
    let stream = server.stream_to(3);
    let report = raftwright_core::Report::HigherVote { from: identity(3), vote: higher };
    server.step(Input::Stream { stream, report });
    assert_eq!(server.replica.server_state(), ServerState::Follower);
}

// ---- Rules for servers: followers ----

/// Raft, Figure 2, followers: "Respond to RPCs from candidates and leaders".
#[test]
fn followers_respond_to_candidates_and_leaders() {
    let mut server = solo(&[]);
    assert!(server.ask_vote(2, 1, Some(id(0, 1))).is_some());
    assert!(server.heartbeat(2, 1, None).is_some());
    assert!(server.append(2, 1, Some(id(0, 1)), &[id(1, 2)], None).is_some());
    assert!(server.ask_vote(3, 1, Some(id(0, 1))).is_some(), "a refusal is a response too");
    assert_eq!(server.unanswered(), 0);
}

/// Raft, Figure 2, followers: "If election timeout elapses without receiving AppendEntries RPC from current leader or
/// granting vote to candidate: convert to candidate".
#[test]
fn a_follower_that_hears_nothing_becomes_a_candidate() {
    let mut server = solo(&[]);
    server.heartbeat(2, 1, None);
    let deadline = server.replica.deadline().unwrap();
    server.now = deadline;
    server.append(2, 1, Some(id(0, 1)), &[], None);
    server.step(Input::Wake);
    assert_eq!(server.replica.server_state(), ServerState::Follower, "it heard from its leader in time");

    let deadline = server.replica.deadline().unwrap();
    server.now = deadline;
    assert!(server.ask_vote(3, 2, Some(id(0, 1))).unwrap().granted);
    server.step(Input::Wake);
    assert_eq!(server.replica.server_state(), ServerState::Follower, "it gave its vote");

    let deadline = server.replica.deadline().unwrap();
    server.now = deadline;
    server.append(2, 1, Some(id(0, 1)), &[], None);
    assert!(!server.ask_vote(2, 2, Some(id(0, 1))).unwrap().granted);
    server.step(Input::Wake);
    assert_eq!(
        server.replica.server_state(),
        ServerState::Candidate,
        "neither an old leader nor a refused vote puts it off"
    );
}

// ---- Rules for servers: candidates ----

/// Raft, Figure 2, candidates: "Increment currentTerm".
#[test]
fn a_candidate_increments_its_term() {
    let mut server = solo(&[4]);
    server.step(Input::Elect);
    assert_eq!(server.term(), 5);
}

/// Raft, Figure 2, candidates: "Vote for self".
#[test]
fn a_candidate_votes_for_itself_and_counts_that_once_it_is_durable() {
    let mut server = solo(&[]);
    server.prompt = false;
    server.step(Input::Elect);
    assert_eq!(server.replica.vote(), Some(&vote::<Standard>(1, 1)));
    server.grant(&[2]);
    assert_eq!(server.replica.server_state(), ServerState::Candidate, "one vote of three, and one not on the disk");
    server.complete_one();
    assert!(server.replica.is_leader());
}

/// Raft, Figure 2, candidates: "Reset election timer".
#[test]
fn a_candidate_resets_its_election_timer() {
    let mut server = solo(&[]);
    server.wake();
    assert_eq!(server.replica.server_state(), ServerState::Candidate);
    let config = Start::<Standard>::default().config;
    let left = server.replica.deadline().unwrap().since(server.now);
    assert!(left >= config.election_timeout_min && left <= config.election_timeout_max);
}

/// Raft, Figure 2, candidates: "Send RequestVote RPCs to all other servers".
#[test]
fn a_candidate_asks_all_other_servers() {
    let mut server: Solo = Solo::start(Start { voters: 5, ..Start::default() });
    let begin = server.step(Input::Elect);
    let asked: Vec<u64> = server.sent_since(begin).into_iter().map(|(to, _)| to).collect();
    assert_eq!(asked, [2, 3, 4, 5]);
}

/// Raft, Figure 2, candidates: "If votes received from majority of servers: become leader".
#[test]
fn a_majority_of_votes_makes_a_leader() {
    for voters in 1..=6_u64 {
        let mut server: Solo = Solo::start(Start { voters, ..Start::default() });
        server.step(Input::Elect);
        for voter in 2..=voters {
            let elected = voter > voters / 2 + 1;
            assert_eq!(server.replica.is_leader(), elected, "{} votes of {voters}", voter - 1);
            if !elected {
                server.grant(&[voter]);
                server.grant(&[voter]);
            }
        }
        assert!(server.replica.is_leader());
    }
}

/// Raft, Figure 2, candidates: "If AppendEntries RPC received from new leader: convert to follower".
#[test]
fn a_candidate_follows_the_leader_of_its_term() {
    let mut server = solo(&[]);
    server.step(Input::Elect);
    server.append(2, 1, Some(id(0, 1)), &[id(1, 2)], None);
    assert_eq!((server.replica.server_state(), server.replica.leader()), (ServerState::Follower, Some(2)));
    server.grant(&[2, 3]);
    assert!(!server.replica.is_leader(), "late votes elect nobody");
}

/// Raft, Figure 2, candidates: "If election timeout elapses: start new election".
#[test]
fn a_candidate_that_neither_wins_nor_loses_starts_a_new_election() {
    let mut server = solo(&[]);
    server.wake();
    server.wake();
    assert_eq!((server.replica.server_state(), server.term()), (ServerState::Candidate, 2));
}

// ---- Rules for servers: leaders ----

/// Raft, Figure 2, leaders: "Upon election: send initial empty AppendEntries RPCs (heartbeat) to each server; repeat during
/// idle periods".
#[test]
fn a_leader_sends_heartbeats_upon_election_and_when_idle() {
    let mut server = solo(&[]);
    let heartbeats = |server: &Solo, begin: usize| -> Vec<u64> {
        let sent = server.sent_since(begin).into_iter();
        sent.filter(|(_, message)| matches!(message, Message::Heartbeat(_))).map(|(to, _)| to).collect()
    };
    server.lead();
    assert_eq!(heartbeats(&server, 0), [2, 3]);
    let before = server.now;
    let begin = server.wake();
    assert_eq!(heartbeats(&server, begin), [2, 3]);
    assert_eq!(server.now.since(before), Start::<Standard>::default().config.heartbeat_interval);
}

/// Raft, Figure 2, leaders: "If command received from client: append entry to local log, respond after entry applied". The
/// shell responds when the state machine has applied the entry under the log id that the replica names at once.
#[test]
fn a_command_is_appended_at_once_and_applied_when_committed() {
    let mut server = solo(&[]);
    server.lead();
    let entry = Item::data("x");
    let reply = server.call(|ticket| Input::Propose { ticket, entry });
    assert_eq!(reply, Some(Reply::Proposed(id(1, 3))));
    assert_eq!(server.log.last(), Some(&id(1, 3)));
    assert!(server.applied_since(0).is_empty());
    server.matched(2, id(1, 3));
    assert_eq!(server.applied_since(0), [id(1, 3)]);
}

/// A stream that a test feeds.
fn stream(next: u64, last: Id) -> (raftwright_core::Stream<Standard>, Vec<StreamEffect<Standard>>) {
    let tail = Tail { last, committed: None };
    let mut stream =
        raftwright_core::Stream::new(StreamConfig::default(), identity(1), led::<Standard>(3, 1), next, tail, 1);
    let mut effects = Vec::new();
    stream.step(Time::ZERO, StreamInput::Wake, &mut effects);
    (stream, effects)
}

/// Raft, Figure 2, leaders: "If last log index >= nextIndex for a follower: send AppendEntries RPC with log entries starting
/// at nextIndex".
#[test]
fn entries_are_sent_from_next_index_on() {
    let (mut stream, effects) = stream(4, id(2, 5));
    let [StreamEffect::Read { epoch, start: 4, end: 6, .. }] = effects[..] else { panic!("{effects:?}") };
    let entries = vec![Item::at(id(2, 4), "a"), Item::at(id(2, 5), "b")];
    let mut effects = Vec::new();
    stream.step(Time::ZERO, StreamInput::Entries { epoch, prev: Some(id(1, 3)), entries }, &mut effects);
    let [StreamEffect::Send { request, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(request.prev_log_id, Some(id(1, 3)));
    assert_eq!(request.entries.iter().map(RaftEntry::log_id).collect::<Vec<_>>(), [id(2, 4), id(2, 5)]);
}

/// Raft, Figure 2, leaders: "If successful: update nextIndex and matchIndex for follower".
#[test]
fn success_moves_next_index_and_match_index() {
    let mut cluster = Cluster::<Standard>::new(Setup::voters(3));
    cluster.elect(1);
    cluster.propose(1, "x");
    cluster.settle();
    let matched: Vec<_> = cluster.replica(1).matched().collect();
    assert_eq!(matched, [(2, Some(id(1, 3))), (3, Some(id(1, 3)))]);
}

/// Raft, Figure 2, leaders: "If AppendEntries fails because of log inconsistency: decrement nextIndex and retry". It is
/// decremented to where the follower says.
#[test]
fn inconsistency_decrements_next_index_and_retries() {
    let (mut stream, effects) = stream(9, id(3, 9));
    let [StreamEffect::Read { epoch, start: 9, .. }] = effects[..] else { panic!("{effects:?}") };
    let mut effects = Vec::new();
    let entries = vec![Item::at(id(3, 9), "x")];
    stream.step(Time::ZERO, StreamInput::Entries { epoch, prev: Some(id(3, 8)), entries }, &mut effects);
    effects.clear();
    let outcome = AppendOutcome::Conflict { prev: id(3, 8), hint: Some(id(1, 4)) };
    let response = raftwright_core::AppendEntriesResponse { from: identity(2), outcome };
    stream.step(Time::ZERO, StreamInput::Answer { epoch, response }, &mut effects);
    assert!(matches!(effects[..], [StreamEffect::Read { start: 5, .. }]), "{effects:?}");
}

/// Raft, Figure 2, leaders: "a majority of matchIndex[i] >= N, and log[N].term == currentTerm: set commitIndex = N".
#[test]
fn a_majority_of_the_own_term_commits() {
    let vote = Some(vote::<Standard>(1, 2));
    let mut server: Solo = Solo::start(Start { voters: 5, terms: vec![1, 1], vote, ..Start::default() });
    server.step(Input::Elect);
    server.grant(&[2, 3]);
    server.matched(2, id(2, 4));
    assert_eq!(server.replica.committed(), None, "two of five");
    server.matched(3, id(1, 3));
    assert_eq!(server.replica.committed(), None, "index 3 is on three of five, and of an earlier term");
    server.matched(4, id(2, 4));
    assert_eq!(server.replica.committed(), Some(id(2, 4)));
}

// ---- Figures ----

/// Raft, Figure 7: a leader of term 8 and the six logs that its followers may have. All become like its own.
#[test]
fn figure_7_every_follower_is_repaired() {
    let leader = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [(&str, &[u64]); 6] = [
        ("a", &[1, 1, 1, 4, 4, 5, 5, 6, 6]),
        ("b", &[1, 1, 1, 4]),
        ("c", &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6]),
        ("d", &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7]),
        ("e", &[1, 1, 1, 4, 4, 4, 4]),
        ("f", &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3]),
    ];
    let mut cluster = Cluster::<Standard>::blank(Setup::voters(7), &[]);
    cluster.install(1, Some(vote::<Standard>(7, 1)), &leader, 0);
    for ((_, terms), server) in followers.iter().zip(2..) {
        cluster.install(server, Some(vote::<Standard>(7, 1)), terms, 0);
    }
    cluster.pass(raftwright_core::Span::from_millis(150), false);
    cluster.elect(1);
    cluster.pass(raftwright_core::Span::from_millis(300), true);
    let wanted = cluster.servers[&1].disk.durable.log.clone();
    assert_eq!(wanted.last().map(|item| item.log_id), Some(LogId { index: 12, ..id(8, 12) }));
    for ((name, _), server) in followers.iter().zip(2..) {
        assert_eq!(cluster.servers[&server].disk.durable.log, wanted, "follower {name}");
        assert_eq!(cluster.replica(server).committed(), Some(id(8, 12)), "follower {name}");
    }
}

/// Raft, Figure 7: c and d have longer logs than the leader, so they did not vote for it; who did is a majority.
#[test]
fn figure_7_votes_come_from_those_that_are_not_ahead() {
    let candidate = Some(id(6, 11));
    let cases: [(&[u64], bool); 6] = [
        (&[1, 1, 1, 4, 4, 5, 5, 6, 6], true),
        (&[1, 1, 1, 4], true),
        (&[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6], false),
        (&[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7], false),
        (&[1, 1, 1, 4, 4, 4, 4], true),
        (&[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3], true),
    ];
    for (terms, granted) in cases {
        assert_eq!(solo(terms).ask_vote(2, 8, candidate).unwrap().granted, granted, "{terms:?}");
    }
}

/// Raft, Figure 8, (c) and (e): an entry of term 2 on a majority is not committed; an own-term entry commits both.
#[test]
fn figure_8_an_earlier_term_is_never_committed_by_counting() {
    let mut server: Solo =
        Solo::start(Start { voters: 5, terms: vec![1, 2], vote: Some(vote::<Standard>(3, 5)), ..Start::default() });
    server.step(Input::Elect);
    server.grant(&[2, 3]);
    assert_eq!(server.replica.last_log_id(), Some(id(4, 4)));
    for follower in [2, 3, 4, 5] {
        server.matched(follower, id(2, 3));
        assert_eq!(
            server.replica.committed(),
            None,
            "(c) term 2 is on {follower} servers and can still be overwritten"
        );
    }
    server.matched(2, id(4, 4));
    assert_eq!(server.replica.committed(), None);
    server.matched(3, id(4, 4));
    assert_eq!(server.replica.committed(), Some(id(4, 4)), "(e) its own term is on a majority");
}

/// Raft, Figure 8, (a) to (d) on a whole cluster, for every server that might be asked to lead after (c): the entry of term 2
/// may be lost, and nobody had applied it.
#[test]
fn figure_8_an_uncommitted_entry_may_be_overwritten() {
    let mut cluster = Cluster::<Standard>::blank(Setup::voters(5), &[]);
    for (server, terms) in [(1, &[1, 2][..]), (2, &[1, 2]), (3, &[1, 2]), (4, &[1]), (5, &[1, 3])] {
        cluster.install(server, Some(Vote::new(3, 5)), terms, 0);
    }
    cluster.pass(raftwright_core::Span::from_millis(150), false);
    cluster.crash(1, 0);
    cluster.step(5, Input::Elect);
    cluster.settle();
    cluster.pass(raftwright_core::Span::from_millis(100), true);
    assert!(cluster.replica(5).is_leader());
    for server in [2, 3, 4, 5] {
        assert!(cluster.servers[&server].disk.durable.has(id(3, 3)), "server {server}");
        assert!(cluster.servers[&server].applied >= Some(id(4, 4)), "server {server}");
    }
}
