//! How a node ends.

use std::time::Duration;

use raftwright_node::Raft;
use raftwright_traits::{AsyncRuntime, ClientWriteError, Config, Fatal, RaftError, UnknownReason};

use crate::fixture::{
    Cluster, HeldLog, Holding, Map, Router, TestRuntime, TestTypes, config, put, with_both_leader_ids,
};

with_both_leader_ids!(
    shutdown_answers_everybody_and_leaves_no_task,
    shutdown_can_be_called_twice,
    dropping_the_last_handle_stops_the_node,
    a_hung_peer_does_not_delay_the_shutdown,
    an_entry_that_is_being_applied_is_applied_to_the_end,
    settings_that_cannot_work_are_refused,
    closures_run_in_order_and_know_their_type,
    a_look_at_the_replica_sees_it_between_two_turns,
);

async fn shutdown_answers_everybody_and_leaves_no_task<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    for id in [1, 2, 3] {
        cluster.logs[&id].set(Holding::Writes);
    }
    let raft = cluster.raft(leader).clone();
    let write = tokio::spawn(async move { raft.client_write(put("a", 1)).await });
    let raft = cluster.raft(leader).clone();
    let wait = tokio::spawn(async move { raft.wait(None).log_index(1 << 40, "never").await });
    let last = cluster.raft(leader).metrics().borrow().last_log_id.unwrap().index;
    cluster.wait(leader).log_index_at_least(last + 1, "in the log").await.unwrap();
    assert!(cluster.runtime.alive() >= 3 * 2 + 4, "a core and a worker each, and the leader's two for each target");
    for id in [1, 2, 3] {
        cluster.raft(id).shutdown().await.unwrap();
    }
    assert_eq!(cluster.runtime.alive(), 0);
    assert_eq!(write.await.unwrap(), Err(RaftError::APIError(ClientWriteError::Unknown(UnknownReason::Stopped))));
    assert!(wait.await.unwrap().is_err());
    assert_eq!(cluster.raft(leader).client_write(put("a", 2)).await, Err(RaftError::Fatal(Fatal::Stopped)));
    assert_eq!(cluster.raft(leader).metrics().borrow().running_state, Err(Fatal::Stopped));
}

async fn shutdown_can_be_called_twice<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1]).await;
    let (a, b) = tokio::join!(cluster.raft(1).shutdown(), cluster.raft(1).shutdown());
    assert_eq!((a, b), (Ok(()), Ok(())));
    assert_eq!(cluster.raft(1).shutdown().await, Ok(()));
}

async fn dropping_the_last_handle_stops_the_node<C: TestTypes>() {
    let mut cluster = Cluster::<C>::of([1, 2, 3]).await;
    let runtime = cluster.runtime.clone();
    let watch = cluster.raft(1).metrics();
    let one_more = cluster.raft(1).clone();
    for id in [1, 2, 3] {
        cluster.router.disconnect(id);
    }
    cluster.nodes.clear();
    one_more.wait(None).metrics(|m| m.current_leader.is_none(), "still running").await.unwrap();
    drop(one_more);
    while runtime.alive() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(watch.borrow().running_state, Err(Fatal::Stopped));
}

async fn a_hung_peer_does_not_delay_the_shutdown<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    cluster.router.isolate(leader);
    let raft = cluster.raft(leader).clone();
    let write = tokio::spawn(async move { raft.client_write(put("a", 1)).await });
    cluster.wait(leader).metrics(|m| m.current_leader.is_none(), "nobody answers it").await.unwrap();
    let before = cluster.runtime.now();
    cluster.raft(leader).shutdown().await.unwrap();
    assert_eq!(cluster.runtime.now(), before, "nothing had to time out");
    assert!(write.await.unwrap().is_err());
}

async fn an_entry_that_is_being_applied_is_applied_to_the_end<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1]).await;
    let raft = cluster.raft(1).clone();
    let write = tokio::spawn(async move { raft.client_write("slow".to_owned()).await });
    let last = cluster.write(1, "a", 1);
    let (shutdown, _) = tokio::join!(
        async {
            cluster.wait(1).log_index_at_least(3, "in the log").await.unwrap();
            // The worker has it in hand: time passes only once nothing else can run.
            tokio::time::timeout(Duration::from_secs(1), std::future::pending::<()>()).await.unwrap_err();
            cluster.raft(1).shutdown().await
        },
        tokio::time::timeout(Duration::from_secs(30), async {
            tokio::select! { _ = last => {}, () = tokio::time::sleep(Duration::from_secs(2)) => {} }
        }),
    );
    shutdown.unwrap();
    assert!(write.await.unwrap().is_ok(), "it was applied, and its caller told so");
}

async fn settings_that_cannot_work_are_refused<C: TestTypes>() {
    let config = Config { election_timeout_max: 1, ..config() };
    let router = Router::<C>::new();
    let runtime = TestRuntime::new(1);
    let start =
        Raft::with_runtime(runtime.clone(), 1, config.into(), router.factory(1), HeldLog::<C>::new(), Map::<C>::new());
    match start.await {
        Err(Fatal::Start(why)) => assert!(why.contains("election_timeout_max"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(runtime.alive(), 0);
}

async fn closures_run_in_order_and_know_their_type<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1]).await;
    let raft = cluster.raft(1);
    let push = |n: u32| {
        raft.with_state_machine(move |map: &mut Map<C>| {
            map.closures.push(n);
            map.closures.len()
        })
    };
    let (a, b, c) = tokio::join!(push(1), push(2), push(3));
    assert_eq!((a, b, c), (Ok(1), Ok(2), Ok(3)));
    assert_eq!(raft.with_state_machine(|map: &mut Map<C>| map.closures.clone()).await, Ok(vec![1, 2, 3]));
    let wrong = raft.with_state_machine(|text: &mut String| text.len()).await;
    assert!(matches!(wrong, Err(Fatal::Storage(_))), "{wrong:?}");
    cluster.write(1, "a", "the node goes on").await;
}

async fn a_look_at_the_replica_sees_it_between_two_turns<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let raft = cluster.raft(leader);
    let writer = raft.clone();
    let writes = tokio::spawn(async move {
        for i in 0..100 {
            writer.client_write(put("a", i)).await.unwrap();
        }
    });
    let mut before = None;
    while !writes.is_finished() {
        let look = |replica: &raftwright_core::Replica<raftwright_traits::Of<C>>| {
            (replica.committed(), replica.last_log_id(), replica.identity().id)
        };
        let (committed, last, id) = raft.with_raft_state(look).await.unwrap();
        assert_eq!(id, leader);
        assert!(committed <= last && before <= committed, "{before:?} {committed:?} {last:?}");
        before = committed;
        tokio::task::yield_now().await;
    }
    writes.await.unwrap();
    assert!(before.is_some());
    raft.shutdown().await.unwrap();
    assert_eq!(raft.with_raft_state(|_| ()).await, Err(Fatal::Stopped));
}
