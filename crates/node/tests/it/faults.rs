//! Disks, state machines and networks that fail.

use std::sync::Arc;
use std::time::Duration;

use raftwright_core::WriteId;
use raftwright_node::ReadPolicy;
use raftwright_traits::{
    ChangeMembershipError, ClientWriteError, Config, EmptyNode, Fatal, FlushSink, IOFlushed, Identity, LogIdOption,
    Outcome, RaftError, RaftLogReader, RaftLogStorage, StorageError, StorageErrorKind, UnknownReason, Vote, VoteKind,
    VoteRequest,
};

use crate::fixture::{Cluster, Holding, TestTypes, config, put, with_both_leader_ids};

with_both_leader_ids!(
    nothing_is_acknowledged_before_it_is_durable,
    a_follower_acknowledges_only_what_is_durable,
    a_leader_with_a_hung_disk_gives_way,
    a_failed_write_stops_the_node,
    a_lost_write_stops_the_node,
    a_vote_that_cannot_be_stored_is_not_granted,
    a_panic_of_the_state_machine_stops_the_node,
    an_error_of_the_state_machine_stops_the_node,
    a_full_queue_refuses_at_once,
    peers_wait_for_a_full_queue,
    a_write_that_was_replaced_is_told_so,
    a_write_that_survived_its_leader_is_acknowledged,
    completions_in_any_order_acknowledge_the_prefix,
    broken_connections_lose_no_entry,
    a_failed_read_stops_the_node,
    a_lost_heartbeat_costs_no_election,
    what_cannot_be_read_or_trusted_does_not_start,
    a_leader_with_a_full_disk_refuses_writes_and_serves_on,
    a_follower_with_a_full_disk_takes_no_entries,
);

const SHORT: Duration = Duration::from_millis(100);

/// A full disk is an error to the caller and a state to recover from (B9), without a restart and without an election.
async fn a_leader_with_a_full_disk_refuses_writes_and_serves_on<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let before = cluster.write(leader, "a", 1).await;
    let term = cluster.raft(leader).metrics().borrow().current_term;
    cluster.logs[&leader].set_full(true);
    let write = cluster.raft(leader).client_write(put("a", 2)).await;
    assert_eq!(write, Err(RaftError::APIError(ClientWriteError::DiskFull)));
    let Err(RaftError::APIError(error)) = write else { unreachable!() };
    assert_eq!(error.outcome(), Outcome::NotApplied);
    cluster.raft(leader).ensure_linearizable(ReadPolicy::ReadIndex).await.unwrap();
    assert_eq!(cluster.get(leader, "a").await, Some("1".to_owned()));
    assert_eq!(cluster.raft(leader).metrics().borrow().last_log_id.index_or_zero(), before, "nothing was appended");
    cluster.logs[&leader].set_full(false);
    cluster.write(leader, "a", 3).await;
    assert_eq!(cluster.get(leader, "a").await, Some("3".to_owned()));
    assert_eq!(cluster.raft(leader).metrics().borrow().current_term, term);
}

/// The others go on without it, and it catches up when there is room.
async fn a_follower_with_a_full_disk_takes_no_entries<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let full = [1, 2, 3].into_iter().find(|id| *id != leader).unwrap();
    let before = cluster.write(leader, "a", 1).await;
    cluster.wait(full).applied_index(before, "all have it").await.unwrap();
    let term = cluster.raft(leader).metrics().borrow().current_term;
    cluster.logs[&full].set_full(true);
    let after = cluster.write(leader, "a", 2).await;
    assert_eq!(cluster.raft(full).metrics().borrow().last_log_id.index_or_zero(), before, "it has taken nothing");
    cluster.logs[&full].set_full(false);
    cluster.wait(full).applied_index_at_least(after, "room again").await.unwrap();
    assert_eq!(cluster.get(full, "a").await, Some("2".to_owned()));
    assert_eq!(cluster.raft(leader).metrics().borrow().current_term, term);
}

async fn nothing_is_acknowledged_before_it_is_durable<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1]).await;
    let before = cluster.write(1, "a", 1).await;
    cluster.logs[&1].set(Holding::Writes);
    // Shorter than the time after which a hung disk makes the leader step down.
    let write = cluster.raft(1).client_write_with_deadline(put("a", 2), SHORT.into()).await;
    assert_eq!(write, Err(RaftError::APIError(ClientWriteError::Unknown(UnknownReason::Deadline))));
    let metrics = cluster.raft(1).metrics().borrow().clone();
    assert_eq!(metrics.last_log_id.index_or_zero(), before + 1, "it is in the log");
    assert_eq!(metrics.committed.index_or_zero(), before, "and not committed");
    assert_eq!(cluster.get(1, "a").await, Some("1".to_owned()));
    cluster.logs[&1].release();
    cluster.wait(1).applied_index_at_least(before + 1, "durable, so applied").await.unwrap();
    assert_eq!(cluster.get(1, "a").await, Some("2".to_owned()));
}

async fn a_follower_acknowledges_only_what_is_durable<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let before = cluster.write(leader, "a", 1).await;
    let term = cluster.raft(leader).metrics().borrow().current_term;
    for id in [1, 2, 3] {
        cluster.wait(id).applied_index(before, "all have it").await.unwrap();
    }
    let followers: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
    followers.iter().for_each(|id| cluster.logs[id].set(Holding::Writes));
    let write = cluster.raft(leader).client_write_with_deadline(put("a", 2), Duration::from_secs(2).into()).await;
    assert_eq!(write, Err(RaftError::APIError(ClientWriteError::Unknown(UnknownReason::Deadline))));
    assert_eq!(cluster.raft(leader).metrics().borrow().committed.index_or_zero(), before);
    cluster.logs[&followers[0]].release();
    let metrics = cluster.wait(leader).applied_index_at_least(before + 1, "a quorum has it").await.unwrap();
    assert_eq!(metrics.current_term, term, "heartbeats went on all the time");
}

async fn a_leader_with_a_hung_disk_gives_way<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let old = cluster.leader().await;
    cluster.write(old, "a", 1).await;
    cluster.logs[&old].set(Holding::Writes);
    let raft = cluster.raft(old).clone();
    let write = tokio::spawn(async move { raft.client_write(put("a", 2)).await });
    let new = cluster.leader_other_than(&[old]).await;
    let index = cluster.write(new, "b", 1).await;
    cluster.logs[&old].release();
    cluster.wait(old).applied_index_at_least(index, "it has caught up").await.unwrap();
    // The followers had it on their disks, or not: the caller is told which.
    match write.await.unwrap() {
        Ok(_) => assert_eq!(cluster.get(new, "a").await, Some("2".to_owned())),
        Err(RaftError::APIError(ClientWriteError::Superseded)) => {
            assert_eq!(cluster.get(new, "a").await, Some("1".to_owned()));
        }
        other => panic!("{other:?}"),
    }
}

/// Everything that a stopped node is asked fails with why it has stopped.
async fn expect_stopped<C: TestTypes>(cluster: &Cluster<C>, id: u64, why: impl Fn(&Fatal) -> bool) {
    let raft = cluster.raft(id);
    raft.wait(None).metrics(|m| m.running_state.is_err(), "stopped").await.unwrap();
    let fatal = raft.metrics().borrow().running_state.clone().unwrap_err();
    assert!(why(&fatal), "{fatal:?}");
    assert_eq!(raft.client_write(put("a", 1)).await, Err(RaftError::Fatal(fatal.clone())));
    assert_eq!(raft.ensure_linearizable(ReadPolicy::ReadIndex).await, Err(RaftError::Fatal(fatal.clone())));
    assert_eq!(raft.add_learner(5, EmptyNode {}, true).await, Err(RaftError::Fatal(fatal.clone())));
    assert_eq!(raft.is_initialized().await, Err(fatal.clone()));
    assert_eq!(raft.trigger().elect().await, Err(fatal.clone()));
    assert!(raft.wait(None).log_index(1 << 40, "never").await.is_err());
    raft.shutdown().await.unwrap();
    assert_eq!(raft.metrics().borrow().running_state, Err(fatal), "the first reason stays");
}

async fn a_broken_log_stops_the_node<C: TestTypes>(holding: Holding, kind: StorageErrorKind) {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    cluster.write(leader, "a", 1).await;
    // The others are out of reach, so nobody but the broken disk decides about these calls.
    cluster.router.isolate(leader);
    cluster.logs[&leader].set(holding);
    let raft = cluster.raft(leader);
    let (write, change, read) = tokio::join!(
        raft.client_write(put("a", 2)),
        raft.add_learner(4, EmptyNode {}, false),
        raft.ensure_linearizable(ReadPolicy::ReadIndex)
    );
    assert_eq!(write, Err(RaftError::APIError(ClientWriteError::Unknown(UnknownReason::Stopped))));
    assert_eq!(change, Err(RaftError::APIError(ChangeMembershipError::Unknown(UnknownReason::Stopped))));
    assert!(matches!(read, Err(RaftError::Fatal(Fatal::Storage(_)))), "{read:?}");
    expect_stopped(&cluster, leader, |fatal| matches!(fatal, Fatal::Storage(error) if error.kind == kind)).await;
    // The others go on.
    let next = cluster.leader_other_than(&[leader]).await;
    cluster.write(next, "a", 3).await;
}

async fn a_failed_write_stops_the_node<C: TestTypes>() {
    a_broken_log_stops_the_node::<C>(Holding::Fail, StorageErrorKind::Write).await;
}

async fn a_lost_write_stops_the_node<C: TestTypes>() {
    a_broken_log_stops_the_node::<C>(Holding::Lose, StorageErrorKind::TokenDropped).await;
}

/// BUGS 5: who cannot remember a vote has not given it.
async fn a_vote_that_cannot_be_stored_is_not_granted<C: TestTypes>() {
    let config = Config { enable_elect: false, ..config() };
    let vote = Vote::<C::LeaderId>::new(5, 2);
    let from = Identity { id: 2, incarnation: None };
    let request = || VoteRequest::<C> { from, vote, last_log_id: None, kind: VoteKind::Vote, permit: None };
    for (holding, kind) in [(Holding::Fail, StorageErrorKind::Write), (Holding::Lose, StorageErrorKind::TokenDropped)] {
        let cluster = Cluster::<C>::blank_with([1], config.clone(), 1).await;
        cluster.logs[&1].set(holding);
        let answer = cluster.raft(1).vote(request()).await;
        assert!(matches!(&answer, Err(Fatal::Storage(error)) if error.kind == kind), "{answer:?}");
        expect_stopped(&cluster, 1, |fatal| matches!(fatal, Fatal::Storage(error) if error.kind == kind)).await;
    }
    let cluster = Cluster::<C>::blank_with([1], config, 1).await;
    assert!(cluster.raft(1).vote(request()).await.unwrap().granted, "on a good disk it is");
}

async fn a_broken_state_machine_stops_the_node<C: TestTypes>(command: &str, why: impl Fn(&Fatal) -> bool) {
    let cluster = Cluster::<C>::of([1]).await;
    cluster.write(1, "a", 1).await;
    let raft = cluster.raft(1);
    let (first, second) = tokio::join!(raft.client_write(command.to_owned()), raft.client_write(put("a", 2)));
    for write in [first, second] {
        let Err(RaftError::APIError(error)) = write else { panic!("{write:?}") };
        assert_eq!(error, ClientWriteError::Unknown(UnknownReason::Stopped));
        assert_eq!(error.outcome(), Outcome::Unknown);
    }
    expect_stopped(&cluster, 1, why).await;
}

async fn a_panic_of_the_state_machine_stops_the_node<C: TestTypes>() {
    let told = |fatal: &Fatal| matches!(fatal, Fatal::Panicked(message) if message.contains("told to panic"));
    a_broken_state_machine_stops_the_node::<C>("panic", told).await;
}

async fn an_error_of_the_state_machine_stops_the_node<C: TestTypes>() {
    let told = |fatal: &Fatal| matches!(fatal, Fatal::Storage(error) if error.kind == StorageErrorKind::StateMachine);
    a_broken_state_machine_stops_the_node::<C>("fail", told).await;
}

async fn a_full_queue_refuses_at_once<C: TestTypes>() {
    let config = Config { api_queue_max: 2, ..config() };
    let cluster = Cluster::<C>::of_with([1], config, 1).await;
    let raft = cluster.raft(1);
    // All three are handed over before anything else runs.
    let (a, b, c) =
        tokio::join!(raft.client_write(put("a", 1)), raft.client_write(put("a", 2)), raft.client_write(put("a", 3)));
    assert!(a.is_ok() && b.is_ok());
    assert_eq!(c, Err(RaftError::APIError(ClientWriteError::Busy)));
    assert_eq!(cluster.get(1, "a").await, Some("2".to_owned()));
    cluster.write(1, "a", 4).await;
}

async fn peers_wait_for_a_full_queue<C: TestTypes>() {
    // Room for one: requests of peers, which come many at a time, wait and are never refused.
    let config = Config { api_queue_max: 1, append_entries_max: 1, ..config() };
    let cluster = Cluster::<C>::of_with([1, 2, 3], config, 1).await;
    let leader = cluster.leader().await;
    cluster.router.isolate(leader % 3 + 1);
    let mut last = 0;
    for i in 0..100 {
        last = cluster.write(leader, "a", i).await;
    }
    cluster.router.heal();
    for id in [1, 2, 3] {
        cluster.wait(id).applied_index_at_least(last, "caught up").await.unwrap();
        assert_eq!(cluster.get(id, "a").await, Some("99".to_owned()));
    }
}

async fn a_write_that_was_replaced_is_told_so<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let old = cluster.leader().await;
    let index = cluster.write(old, "a", 1).await;
    for id in [1, 2, 3] {
        cluster.wait(id).applied_index(index, "all have it").await.unwrap();
    }
    cluster.router.isolate(old);
    let raft = cluster.raft(old).clone();
    let replaced = tokio::spawn(async move { raft.client_write(put("a", "lost")).await });
    cluster.wait(old).log_index_at_least(index + 1, "it is in the old leader's log").await.unwrap();
    let new = cluster.leader_other_than(&[old]).await;
    let index = cluster.write(new, "a", 2).await;
    assert!(!replaced.is_finished(), "nobody knows yet what became of it");
    cluster.router.heal();
    assert_eq!(replaced.await.unwrap(), Err(RaftError::APIError(ClientWriteError::Superseded)));
    cluster.wait(old).applied_index_at_least(index, "the old leader follows").await.unwrap();
    assert_eq!(cluster.get(old, "a").await, Some("2".to_owned()));
}

async fn a_write_that_survived_its_leader_is_acknowledged<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let old = cluster.leader().await;
    let index = cluster.write(old, "a", 1).await;
    for id in [1, 2, 3] {
        cluster.wait(id).applied_index(index, "all have it").await.unwrap();
    }
    // The entry reaches the others' logs, and no answer comes back: the leader never learns that it is committed.
    cluster.router.mute([1, 2, 3].into_iter().filter(|id| *id != old), old);
    let raft = cluster.raft(old).clone();
    let write = tokio::spawn(async move { raft.client_write(put("a", 2)).await });
    for id in [1, 2, 3] {
        cluster.wait(id).log_index_at_least(index + 1, "the entry is in its log").await.unwrap();
    }
    cluster.router.isolate(old);
    let new = cluster.leader_other_than(&[old]).await;
    assert!(!write.is_finished());
    cluster.router.heal();
    assert_eq!(write.await.unwrap().unwrap().log_id.index, index + 1, "the new leader has committed it");
    assert_eq!(cluster.get(new, "a").await, Some("2".to_owned()));
}

async fn completions_in_any_order_acknowledge_the_prefix<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1]).await;
    let before = cluster.write(1, "a", 0).await;
    let log = &cluster.logs[&1];
    log.set(Holding::Writes);
    let mut writes = Vec::new();
    for i in 1..=3 {
        let raft = cluster.raft(1).clone();
        writes.push(tokio::spawn(async move { raft.client_write(put("a", i)).await }));
        cluster.wait(1).log_index_at_least(before + i, "a log write of its own").await.unwrap();
    }
    assert_eq!(log.held(), 3);
    // The third and the second are durable, the first is not: nothing is.
    log.release_last();
    log.release_last();
    let read = cluster.raft(1).with_raft_state(|replica| (replica.durable_index(), replica.committed())).await.unwrap();
    assert_eq!((read.0, read.1.index_or_zero()), (before, before));
    assert!(writes.iter().all(|write| !write.is_finished()));
    log.release();
    for (i, write) in writes.into_iter().enumerate() {
        assert_eq!(write.await.unwrap().unwrap().data, Some(i.to_string()));
    }
}

async fn broken_connections_lose_no_entry<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    // Reads take their time, so that connections break under them as well.
    cluster.logs[&leader].set_read_delay(Duration::from_millis(3));
    cluster.router.set_delay(Duration::from_millis(2));
    let mut last = 0;
    for i in 0..50 {
        let write = |value: u32| {
            let raft = cluster.raft(leader).clone();
            tokio::spawn(async move { raft.client_write(put("a", value)).await })
        };
        let first = write(i);
        for _ in 0..i {
            tokio::task::yield_now().await;
        }
        cluster.router.break_connections();
        // Makes the streams look at their connections while they read.
        let second = write(i);
        first.await.unwrap().unwrap();
        last = second.await.unwrap().unwrap().log_id.index;
    }
    for id in [1, 2, 3] {
        cluster.wait(id).applied_index(last, "applied").await.unwrap();
        assert_eq!(cluster.get(id, "a").await, Some("49".to_owned()));
    }
}

async fn a_lost_heartbeat_costs_no_election<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let term = cluster.raft(leader).metrics().borrow().current_term;
    for _ in 0..10 {
        cluster.router.isolate(leader);
        cluster.raft(leader).trigger().heartbeat().await.unwrap();
        let sent = cluster.router.messages() + 2;
        while cluster.router.messages() < sent {
            tokio::task::yield_now().await;
        }
        cluster.router.heal();
        // As long as an election takes, twice.
        for id in [1, 2, 3] {
            let wait = cluster.raft(id).wait(Some(Duration::from_millis(600)));
            let changed = wait.metrics(|m| m.current_term != term || m.current_leader != Some(leader), "unrest").await;
            assert!(changed.is_err(), "{changed:?}");
        }
    }
}

async fn a_failed_read_stops_the_node<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1]).await;
    cluster.write(1, "a", 1).await;
    cluster.logs[&1].fail_reads();
    let write = cluster.raft(1).client_write(put("a", 2)).await;
    assert_eq!(write, Err(RaftError::APIError(ClientWriteError::Unknown(UnknownReason::Stopped))));
    let bad_read = |fatal: &Fatal| matches!(fatal, Fatal::Storage(error) if error.kind == StorageErrorKind::Read);
    expect_stopped(&cluster, 1, bad_read).await;
}

async fn what_cannot_be_read_or_trusted_does_not_start<C: TestTypes>() {
    let mut cluster = Cluster::<C>::of([1]).await;
    cluster.write(1, "a", 1).await;
    let last = cluster.write(1, "a", 2).await;
    cluster.stop(1).await;

    // Purged entries that the state machine does not have.
    let log = cluster.logs[&1].clone();
    let purged = log.clone().log_id_at(last - 1).await.unwrap();
    let mut purging = log.clone();
    purging.purge(purged, IOFlushed::new(WriteId(0), Arc::new(Deaf)));
    match cluster.start(1).await {
        Err(Fatal::Start(why)) => assert!(why.contains("purged"), "{why}"),
        other => panic!("{other:?}"),
    }
    cluster.logs[&1].fail_reads();
    match cluster.start(1).await {
        Err(Fatal::Storage(error)) => assert_eq!(error.kind, StorageErrorKind::Read),
        other => panic!("{other:?}"),
    }
    assert_eq!(cluster.runtime.alive(), 0);
}

/// Does not care when a write is durable.
struct Deaf;

impl FlushSink for Deaf {
    fn flushed(&self, _: WriteId, _: Result<(), StorageError>) {}
}
