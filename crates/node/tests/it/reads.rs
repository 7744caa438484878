//! Reads at any server.

use std::time::Duration;

use raftwright_node::ReadPolicy;
use raftwright_traits::{LinearizableReadError, LogIdOption, RaftError, ReadIndexAnswer, ReadIndexRequest, Span};

use crate::fixture::{Cluster, TestTypes, with_both_leader_ids};

with_both_leader_ids!(
    a_follower_serves_a_linearizable_read,
    reads_that_wait_at_a_follower_share_a_question,
    a_follower_that_is_cut_off_confirms_nothing,
    a_read_may_be_stale_within_a_bound,
    a_read_by_lease_needs_no_message,
    a_write_is_read_back_on_any_server,
    only_the_leader_answers_a_read_index,
);

async fn leader_and_follower<C: TestTypes>(cluster: &Cluster<C>) -> (u64, u64) {
    let leader = cluster.leader().await;
    (leader, [1, 2, 3].into_iter().find(|id| *id != leader).unwrap())
}

/// Thesis §6.4, last part: the follower asks the leader for a read index, and waits until it has applied so far.
async fn a_follower_serves_a_linearizable_read<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let (leader, follower) = leader_and_follower(&cluster).await;
    // A follower may not know its leader yet.
    cluster.wait(follower).metrics(|m| m.current_leader == Some(leader), "follows").await.unwrap();
    for i in 0..10 {
        let index = cluster.write(leader, "a", i).await;
        let policy = if i % 2 == 0 { ReadPolicy::ReadIndex } else { ReadPolicy::Lease };
        let read = cluster.raft(follower).ensure_linearizable(policy).await.unwrap();
        assert!(read.index_or_zero() >= index);
        assert_eq!(cluster.get(follower, "a").await, Some(i.to_string()));
    }
}

async fn reads_that_wait_at_a_follower_share_a_question<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let (leader, follower) = leader_and_follower(&cluster).await;
    cluster.wait(follower).metrics(|m| m.current_leader == Some(leader), "follows").await.unwrap();
    let before = cluster.router.messages();
    let mut reads = Vec::new();
    for _ in 0..1_000 {
        let raft = cluster.raft(follower).clone();
        reads.push(tokio::spawn(async move { raft.ensure_linearizable(ReadPolicy::ReadIndex).await }));
    }
    for read in reads {
        read.await.unwrap().unwrap();
    }
    let messages = cluster.router.messages() - before;
    assert!(messages < 500, "{messages} messages for a thousand reads");
}

async fn a_follower_that_is_cut_off_confirms_nothing<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let (leader, follower) = leader_and_follower(&cluster).await;
    cluster.write(leader, "a", 1).await;
    cluster.router.isolate(follower);
    match cluster.raft(follower).ensure_linearizable(ReadPolicy::ReadIndex).await {
        Err(RaftError::APIError(LinearizableReadError::NotConfirmed | LinearizableReadError::ForwardToLeader(_))) => {}
        other => panic!("{other:?}"),
    }
    // Once it is back it serves reads again.
    cluster.router.heal();
    cluster.wait(follower).metrics(|m| m.current_leader.is_some_and(|id| id != follower), "follows").await.unwrap();
    let index = cluster.write(cluster.leader().await, "a", 2).await;
    let read = cluster.raft(follower).ensure_linearizable(ReadPolicy::ReadIndex).await.unwrap();
    assert!(read.index_or_zero() >= index);
}

async fn a_read_may_be_stale_within_a_bound<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let (leader, follower) = leader_and_follower(&cluster).await;
    cluster.wait(follower).metrics(|m| m.current_leader == Some(leader), "follows").await.unwrap();
    let index = cluster.write(leader, "a", 1).await;
    let long = ReadPolicy::AckedWithin(Span::from_secs(3_600));
    let first = cluster.raft(follower).ensure_linearizable(ReadPolicy::ReadIndex).await.unwrap();
    assert!(first.index_or_zero() >= index);
    // From now on nobody can be asked, and within the bound nobody needs to be.
    cluster.router.isolate(follower);
    assert_eq!(cluster.raft(follower).ensure_linearizable(long).await.unwrap(), first);
    // The clock of these tests is turned by hand.
    tokio::time::advance(Duration::from_millis(20)).await;
    match cluster.raft(follower).ensure_linearizable(ReadPolicy::AckedWithin(Span::from_millis(10))).await {
        Err(RaftError::APIError(LinearizableReadError::NotConfirmed | LinearizableReadError::ForwardToLeader(_))) => {}
        other => panic!("{other:?}"),
    }
    // A leader goes by the last round that a quorum has answered.
    assert!(cluster.raft(leader).ensure_linearizable(long).await.unwrap().index_or_zero() >= index);
}

async fn a_read_by_lease_needs_no_message<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let index = cluster.write(leader, "a", 1).await;
    cluster.wait(leader).metrics(|m| m.last_applied.index_or_zero() >= index, "applied").await.unwrap();
    cluster.raft(leader).ensure_linearizable(ReadPolicy::ReadIndex).await.unwrap();
    // The round has just been answered, so the lease has just begun.
    cluster.router.isolate(leader);
    let read = cluster.raft(leader).ensure_linearizable(ReadPolicy::Lease).await.unwrap();
    assert_eq!(read.index_or_zero(), index);
}

async fn a_write_is_read_back_on_any_server<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let (leader, follower) = leader_and_follower(&cluster).await;
    let index = cluster.write(leader, "a", 7).await;
    cluster.raft(follower).ensure_applied(index, None).await.unwrap();
    assert_eq!(cluster.get(follower, "a").await, Some("7".to_owned()));
    let late = cluster.raft(follower).ensure_applied(index + 1_000, Some(Span::from(Duration::from_millis(1)))).await;
    assert!(late.is_err());
}

async fn only_the_leader_answers_a_read_index<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let (leader, follower) = leader_and_follower(&cluster).await;
    cluster.wait(follower).metrics(|m| m.current_leader == Some(leader), "follows").await.unwrap();
    let from = raftwright_traits::Identity { id: 3, incarnation: None };
    let request = ReadIndexRequest::<C> { from, policy: ReadPolicy::ReadIndex };
    let refused = cluster.raft(follower).read_index(request.clone()).await.unwrap();
    assert_eq!(refused.answer, ReadIndexAnswer::<C>::NotLeader { leader: Some(leader) });
    let answered = cluster.raft(leader).read_index(request).await.unwrap();
    assert!(matches!(answered.answer, ReadIndexAnswer::<C>::Confirmed { .. }));
    assert_eq!(answered.from.id, leader);
}
