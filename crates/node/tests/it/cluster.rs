//! Elections, writes and reads.

use std::time::Duration;

use raftwright_node::{ReadPolicy, ServerState};
use raftwright_traits::{
    ClientWriteError, Config, LinearizableReadError, LogIdOption, RaftError, TransferLeaderError, TransferLeaderRequest,
};

use crate::fixture::{Cluster, Map, TestTypes, config, put, with_both_leader_ids};

with_both_leader_ids!(
    a_write_reaches_every_state_machine,
    many_writes_are_answered_in_order,
    a_linearizable_read_sees_what_was_acknowledged,
    a_follower_names_the_leader,
    writes_go_on_when_the_leader_stops,
    a_restarted_node_applies_its_log_again,
    a_server_alone_leads_and_writes,
    leadership_is_handed_over,
    a_leader_that_goes_away_has_not_handed_over,
    a_transfer_that_another_wins_is_told_so,
    a_slow_state_machine_causes_no_election,
    an_election_can_be_asked_for,
    a_slow_network_carries_a_pipeline,
);

async fn a_write_reaches_every_state_machine<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let response = cluster.raft(leader).client_write(put("a", 1)).await.unwrap();
    assert_eq!((response.data, response.membership), (None, None));
    let response = cluster.raft(leader).client_write(put("a", 2)).await.unwrap();
    assert_eq!(response.data, Some("1".to_owned()), "the answer is the state machine's");
    for id in [1, 2, 3] {
        let metrics = cluster.wait(id).applied_index(response.log_id.index, "applied").await.unwrap();
        assert_eq!(metrics.last_applied, Some(response.log_id));
        assert_eq!(cluster.get(id, "a").await, Some("2".to_owned()));
    }
}

async fn many_writes_are_answered_in_order<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let raft = cluster.raft(cluster.leader().await);
    let mut tasks = Vec::new();
    for i in 0..1_000 {
        let raft = raft.clone();
        tasks.push(tokio::spawn(async move { raft.client_write(put("n", i)).await }));
    }
    let mut indexes = Vec::new();
    for (i, task) in tasks.into_iter().enumerate() {
        let response = task.await.unwrap().unwrap();
        let before = i.checked_sub(1).map(|i| i.to_string());
        assert_eq!(response.data, before, "each write found the one before it");
        indexes.push(response.log_id.index);
    }
    assert!(indexes.is_sorted());
    for id in [1, 2, 3] {
        cluster.wait(id).applied_index(indexes[999], "applied").await.unwrap();
        let applied = cluster.raft(id).with_state_machine(|map: &mut Map<C>| map.applied.clone()).await.unwrap();
        assert!(applied.iter().map(|id| id.index).eq(1..=indexes[999]), "each entry was applied once, in order");
    }
}

async fn a_linearizable_read_sees_what_was_acknowledged<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    for i in 0..10 {
        let index = cluster.write(leader, "a", i).await;
        let read = cluster.raft(leader).ensure_linearizable(ReadPolicy::ReadIndex).await.unwrap();
        assert!(read.index_or_zero() >= index);
        assert_eq!(cluster.get(leader, "a").await, Some(i.to_string()));
    }
    // A leader that cannot reach a quorum confirms nothing.
    cluster.router.isolate(leader);
    match cluster.raft(leader).ensure_linearizable(ReadPolicy::ReadIndex).await {
        Err(RaftError::APIError(LinearizableReadError::NotConfirmed | LinearizableReadError::ForwardToLeader(_))) => {}
        other => panic!("an isolated leader confirmed a read: {other:?}"),
    }
}

async fn a_follower_names_the_leader<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let follower = [1, 2, 3].into_iter().find(|id| *id != leader).unwrap();
    match cluster.raft(follower).client_write(put("a", 1)).await {
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
            assert_eq!(forward.leader_id, Some(leader));
            assert!(forward.leader_node.is_some());
        }
        other => panic!("{other:?}"),
    }
    match cluster.raft(follower).get_read_log_id(ReadPolicy::ReadIndex).await {
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
            assert_eq!(forward.leader_id, Some(leader));
        }
        other => panic!("{other:?}"),
    }
}

async fn writes_go_on_when_the_leader_stops<C: TestTypes>() {
    let mut cluster = Cluster::<C>::of([1, 2, 3]).await;
    let first = cluster.leader().await;
    cluster.write(first, "a", 1).await;
    cluster.stop(first).await;
    let second = cluster.leader().await;
    let index = cluster.write(second, "b", 2).await;
    cluster.start(first).await.unwrap();
    cluster.wait(first).applied_index_at_least(index, "the old leader has caught up").await.unwrap();
    assert_eq!(cluster.get(first, "a").await, Some("1".to_owned()));
    assert_eq!(cluster.get(first, "b").await, Some("2".to_owned()));
}

async fn a_restarted_node_applies_its_log_again<C: TestTypes>() {
    let mut cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let mut index = 0;
    for i in 0..100 {
        index = cluster.write(leader, "a", i).await;
    }
    for id in [1, 2, 3] {
        cluster.wait(id).applied_index(index, "applied").await.unwrap();
    }
    for id in [1, 2, 3] {
        cluster.stop(id).await;
    }
    // Alone: what the store remembers as committed is applied, without a leader.
    cluster.start(1).await.unwrap();
    let metrics = cluster.raft(1).metrics().borrow().clone();
    assert_eq!(metrics.last_log_id.index_or_zero(), index, "what is on the disk shows at once");
    let metrics = cluster.wait(1).applied_index_at_least(index, "applied again").await.unwrap();
    assert_eq!(metrics.current_leader, None);
    assert_eq!(metrics.membership_config.membership.configs(), [[1, 2, 3].into()]);
    assert_eq!(cluster.get(1, "a").await, Some("99".to_owned()));
    let applied = cluster.raft(1).with_state_machine(|map: &mut Map<C>| map.applied.len()).await.unwrap();
    assert_eq!(applied as u64, index, "each entry once");

    cluster.start(2).await.unwrap();
    cluster.start(3).await.unwrap();
    let leader = cluster.leader().await;
    cluster.write(leader, "a", "again").await;
}

async fn a_server_alone_leads_and_writes<C: TestTypes>() {
    let mut cluster = Cluster::<C>::of([1]).await;
    let index = cluster.write(1, "a", 1).await;
    cluster.stop(1).await;
    cluster.start(1).await.unwrap();
    cluster.wait(1).state(ServerState::Leader, "it leads again").await.unwrap();
    assert!(cluster.write(1, "a", 2).await > index);
    assert_eq!(cluster.get(1, "a").await, Some("2".to_owned()));
}

async fn leadership_is_handed_over<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let target = [1, 2, 3].into_iter().find(|id| *id != leader).unwrap();
    cluster.write(leader, "a", 1).await;
    cluster.raft(leader).transfer_leader(target).await.unwrap();
    for id in [1, 2, 3] {
        cluster.wait(id).current_leader(target, "the target leads").await.unwrap();
    }
    cluster.write(target, "a", 2).await;

    match cluster.raft(target).transfer_leader(target).await {
        Err(RaftError::APIError(TransferLeaderError::NotApplicable(id))) => assert_eq!(id, target),
        other => panic!("{other:?}"),
    }
    // A target that cannot be reached does not take over; the leader serves on.
    cluster.router.isolate(leader);
    match cluster.raft(target).transfer_leader(leader).await {
        Err(RaftError::APIError(TransferLeaderError::Deadline)) => {}
        other => panic!("{other:?}"),
    }
    cluster.write(target, "a", 3).await;
}

async fn a_leader_that_goes_away_has_not_handed_over<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    cluster.router.isolate(leader);
    // It gives way for want of a quorum, long before the caller is told.
    let transfer = cluster.raft(leader).transfer_leader(leader % 3 + 1).await;
    assert_eq!(transfer, Err(RaftError::APIError(TransferLeaderError::Deadline)));
    assert_ne!(cluster.raft(leader).metrics().borrow().state, ServerState::Leader);
}

async fn a_transfer_that_another_wins_is_told_so<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let (to, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    cluster.write(leader, "a", 1).await;
    cluster.router.isolate(to);
    let (raft, asked) = (cluster.raft(leader), cluster.raft(other));
    let request = raft
        .with_raft_state(move |replica| TransferLeaderRequest::<C> {
            from: replica.identity(),
            vote: *replica.vote().unwrap(),
            last_log_id: replica.last_log_id(),
            to: other,
        })
        .await
        .unwrap();
    let (transfer, _) = tokio::join!(raft.transfer_leader(to), asked.handle_transfer_leader(request));
    match transfer {
        Err(RaftError::APIError(TransferLeaderError::ForwardToLeader(forward))) => {
            assert_eq!(forward.leader_id, Some(other));
        }
        unexpected => panic!("{unexpected:?}"),
    }
}

async fn a_slow_state_machine_causes_no_election<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let term = cluster.raft(leader).metrics().borrow().current_term;
    // Every state machine takes five seconds, a dozen election timeouts.
    let raft = cluster.raft(leader).clone();
    let slow = tokio::spawn(async move { raft.client_write("slow".to_owned()).await });
    for i in 0..50 {
        cluster.raft(leader).wait(None).log_index_at_least(i, "under load").await.unwrap();
        let _ = cluster.raft(leader).client_write_with_deadline(put("a", i), Duration::from_millis(20).into()).await;
    }
    slow.await.unwrap().unwrap();
    let index = cluster.write(leader, "b", 1).await;
    for id in [1, 2, 3] {
        let metrics = cluster.wait(id).applied_index_at_least(index, "applied").await.unwrap();
        assert_eq!((metrics.current_term, metrics.current_leader), (term, Some(leader)));
    }
}

async fn an_election_can_be_asked_for<C: TestTypes>() {
    let config = Config { enable_elect: false, ..config() };
    let cluster = Cluster::<C>::blank_with([1, 2, 3], config, 3).await;
    cluster.raft(1).initialize([1, 2, 3].into_iter().collect::<std::collections::BTreeSet<_>>()).await.unwrap();
    let early = cluster.raft(1).wait(Some(Duration::from_secs(5))).leader("nobody campaigns by itself").await;
    assert!(early.is_err());
    cluster.raft(1).trigger().elect().await.unwrap();
    cluster.wait(2).current_leader(1, "elected").await.unwrap();
    cluster.raft(1).trigger().heartbeat().await.unwrap();
    cluster.write(1, "a", 1).await;
}

async fn a_slow_network_carries_a_pipeline<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    cluster.router.set_delay(Duration::from_millis(10));
    let before = cluster.runtime_now();
    let mut tasks = Vec::new();
    for i in 0..100 {
        let raft = cluster.raft(leader).clone();
        tasks.push(tokio::spawn(async move { raft.client_write(put("n", i)).await }));
        // One append each: the next is proposed when this one is in the log.
        let last = cluster.raft(leader).metrics().borrow().last_log_id.index_or_zero();
        cluster.wait(leader).log_index_at_least(last + 1, "in the log").await.unwrap();
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    // On a clock that only moves when nothing runs, this counts round trips: a hundred of them, if each waited for the last.
    let rounds = cluster.runtime_now().since(before).as_millis() / 20;
    assert!(rounds < 20, "{rounds} round trips for 100 writes");
}
