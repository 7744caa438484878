//! What a node shows of itself: watches, waits, callbacks, a recorder.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use raftwright_node::{MetricsRecorder, RaftDataMetrics, RaftMetrics, RaftServerMetrics, ServerState, WaitError};
use raftwright_traits::{Config, Fatal, LogIdOption, LogIndex, RaftError, Span, Term};

use crate::fixture::{Cluster, Holding, TestTypes, config, put, with_both_leader_ids};

with_both_leader_ids!(
    metrics_survive_an_admin_page,
    each_watch_shows_its_part,
    a_target_s_lag_and_last_contact_show,
    a_slow_disk_and_a_slow_state_machine_show,
    every_condition_can_be_waited_for,
    a_wait_ends_with_the_node_or_the_time,
    callbacks_know_when_a_leadership_begins_and_ends,
    a_callback_that_comes_late_is_told_and_one_taken_back_is_not,
    callbacks_are_bounded,
    a_recorder_counts_what_happens,
);

async fn metrics_survive_an_admin_page<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let index = cluster.write(leader, "a", 1).await;
    let metrics = cluster.wait(leader).applied_index(index, "applied").await.unwrap();
    let text = serde_json::to_string(&metrics).unwrap();
    assert_eq!(serde_json::from_str::<RaftMetrics<C>>(&text).unwrap(), metrics, "{text}");
    let text = serde_json::to_string(&metrics.data()).unwrap();
    assert_eq!(serde_json::from_str::<RaftDataMetrics<C>>(&text).unwrap(), metrics.data());
    let text = serde_json::to_string(&metrics.server()).unwrap();
    assert_eq!(serde_json::from_str::<RaftServerMetrics<C>>(&text).unwrap(), metrics.server());
    assert!(text.contains("\"state\":\"Leader\""), "{text}");
    cluster.raft(leader).shutdown().await.unwrap();
    let metrics = cluster.raft(leader).metrics().borrow().clone();
    assert_eq!(metrics.running_state, Err(Fatal::Stopped));
    let text = serde_json::to_string(&metrics).unwrap();
    assert_eq!(serde_json::from_str::<RaftMetrics<C>>(&text).unwrap(), metrics, "{text}");
}

async fn each_watch_shows_its_part<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let raft = cluster.raft(leader);
    let (mut data, mut server) = (raft.data_metrics(), raft.server_metrics());
    assert_eq!(server.borrow_and_update().current_leader, Some(leader));
    let index = cluster.write(leader, "a", 1).await;
    data.wait_for(|data| data.last_applied.index_or_zero() == index && data.durable == index).await.unwrap();
    assert!(!server.has_changed().unwrap(), "a write is no news of the server");
    cluster.router.isolate(leader);
    let seen = server.wait_for(|server| server.state != ServerState::Leader).await.unwrap().clone();
    assert_eq!(seen.id, leader);
    data.wait_for(|data| data.replication.is_none() && data.heartbeat.is_none()).await.unwrap();
}

async fn a_target_s_lag_and_last_contact_show<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let (near, far) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let last = cluster.write(leader, "a", 0).await;
    let all = |m: &RaftMetrics<C>| m.replication_lag().is_some_and(|lag| lag.values().all(|lag| *lag == 0));
    cluster.wait(leader).metrics(all, "nobody lacks anything").await.unwrap();
    cluster.router.isolate(far);
    for i in 0..10 {
        cluster.write(leader, "a", i).await;
    }
    let lags = move |m: &RaftMetrics<C>| {
        let lag = m.replication_lag().unwrap_or_default();
        (lag.get(&near), lag.get(&far)) == (Some(&0), Some(&10))
    };
    let metrics = cluster.wait(leader).metrics(lags, "one lacks what was written since").await.unwrap();
    assert_eq!(metrics.data().replication_lag(), metrics.replication_lag());
    assert_eq!(metrics.last_log_id.index_or_zero(), last + 10);
    // More than two heartbeats ago, where the others answer each.
    let silent = move |m: &RaftMetrics<C>| {
        let age = |id| m.heartbeat.as_ref().and_then(|ages| *ages.get(&id)?);
        age(far) > Some(1_000) && age(near) < Some(1_000)
    };
    let metrics = cluster.wait(leader).metrics(silent, "one was last heard from long ago").await.unwrap();
    assert!(metrics.millis_since_quorum_ack < Some(1_000), "a quorum answers: {metrics:?}");
}

async fn a_slow_disk_and_a_slow_state_machine_show<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1]).await;
    let last = cluster.write(1, "a", 0).await;
    cluster.logs[&1].set(Holding::Writes);
    let raft = cluster.raft(1).clone();
    let write = tokio::spawn(async move { raft.client_write("slow".to_owned()).await });
    let metrics = cluster.wait(1).log_index(last + 1, "in the log").await.unwrap();
    assert_eq!((metrics.flush_lag(), metrics.durable), (1, last));
    // Time passes while nothing else can run.
    let late = cluster.raft(1).wait(Some(Duration::from_millis(20))).applied_index(last + 1, "not yet").await;
    assert!(late.is_err());
    cluster.logs[&1].release();
    let metrics = cluster.wait(1).metrics(|m| m.committed.index_or_zero() > last, "committed").await.unwrap();
    assert_eq!((metrics.flush_lag(), metrics.apply_lag()), (0, 1));
    assert_eq!(metrics.flush_micros, Some(20_000));
    write.await.unwrap().unwrap();
    let metrics = cluster.wait(1).applied_index(last + 1, "applied").await.unwrap();
    assert_eq!(metrics.apply_lag(), 0);
}

async fn every_condition_can_be_waited_for<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let index = cluster.write(leader, "a", 1).await;
    let wait = || cluster.wait(leader);
    assert_eq!(wait().leader("a leader").await.unwrap().current_leader, Some(leader));
    assert_eq!(wait().current_leader(leader, "this one").await.unwrap().id, leader);
    assert_eq!(wait().state(ServerState::Leader, "it leads").await.unwrap().state, ServerState::Leader);
    assert_eq!(wait().log_index(index, "log").await.unwrap().last_log_id.index_or_zero(), index);
    assert!(wait().log_index_at_least(index - 1, "log").await.is_ok());
    assert_eq!(wait().applied_index(index, "applied").await.unwrap().last_applied.index_or_zero(), index);
    assert!(wait().applied_index_at_least(index - 1, "applied").await.is_ok());
    assert!(wait().voters([1, 2, 3], "members").await.is_ok());
    assert!(wait().purged(None, "purged").await.is_ok());
    assert!(wait().metrics(|m| m.current_term > 0, "anything").await.is_ok());
}

async fn a_wait_ends_with_the_node_or_the_time<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1]).await;
    let short = cluster.raft(1).wait(Some(Duration::from_millis(10)));
    assert_eq!(short.log_index(1 << 40, "purged").await, Err(WaitError::Timeout("purged".to_owned())));
    let wait = cluster.wait(1);
    let (ended, stopped) = tokio::join!(wait.state(ServerState::Candidate, "never"), cluster.raft(1).shutdown());
    assert_eq!(ended, Err(WaitError::Stopped { what: "never".to_owned(), why: Fatal::Stopped }));
    stopped.unwrap();
}

/// Leaderships that began (true) and ended (false), as callbacks were told.
type Told<C> = Arc<Mutex<Vec<(bool, <C as raftwright_traits::RaftTypeConfig>::LeaderId)>>>;

async fn observe<C: TestTypes>(cluster: &Cluster<C>, id: u64) -> (Told<C>, raftwright_node::LeaderChangeHandle) {
    let told = Told::<C>::default();
    let (start, stop) = (Arc::clone(&told), Arc::clone(&told));
    let handle = cluster.raft(id).on_leader_change(
        move |leader| start.lock().unwrap().push((true, leader)),
        move |leader| stop.lock().unwrap().push((false, leader)),
    );
    (told, handle.await.unwrap())
}

async fn callbacks_know_when_a_leadership_begins_and_ends<C: TestTypes>() {
    let cluster = Cluster::<C>::blank([1, 2, 3]).await;
    let (told, _handle) = observe(&cluster, 1).await;
    cluster.raft(1).initialize(std::collections::BTreeSet::from([1, 2, 3])).await.unwrap();
    let mut leader = cluster.leader().await;
    // Around and around, so that server 1 leads several times.
    for _ in 0..6 {
        let next = leader % 3 + 1;
        cluster.raft(leader).transfer_leader(next).await.unwrap();
        leader = cluster.leader().await;
    }
    // A panic of one harms nobody.
    let rude = cluster.raft(1).on_leader_change(|_| panic!("at the start"), |_| panic!("at the end")).await;
    if leader != 1 {
        cluster.raft(leader).transfer_leader(1).await.unwrap();
        cluster.leader().await;
    }
    cluster.raft(1).shutdown().await.unwrap();
    drop(rude);
    let told = told.lock().unwrap().clone();
    assert!(told.len() >= 4, "{told:?}");
    for pair in told.chunks(2) {
        assert!(matches!(pair, [(true, began), (false, ended)] if began == ended), "each begins and ends: {told:?}");
        assert_eq!(raftwright_traits::LeaderId::node_id(&pair[0].1), 1);
    }
    assert!(told.chunks(2).is_sorted_by(|a, b| a[0].1 < b[0].1), "each once: {told:?}");
}

async fn a_callback_that_comes_late_is_told_and_one_taken_back_is_not<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1]).await;
    let (late, _handle) = observe(&cluster, 1).await;
    assert_eq!(late.lock().unwrap().len(), 1, "it leads already");
    let (taken_back, handle) = observe(&cluster, 1).await;
    drop(handle);
    cluster.raft(1).shutdown().await.unwrap();
    assert_eq!(late.lock().unwrap().len(), 2);
    assert_eq!(taken_back.lock().unwrap().len(), 1);
}

async fn callbacks_are_bounded<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1]).await;
    let mut handles = Vec::new();
    let refused = loop {
        match cluster.raft(1).on_leader_change(|_| {}, |_| {}).await {
            Ok(handle) => handles.push(handle),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, RaftError::APIError(raftwright_node::TooManyObservers)));
    assert_eq!(handles.len(), 64);
    handles.pop();
    assert!(cluster.raft(1).on_leader_change(|_| {}, |_| {}).await.is_ok(), "one was dropped");
}

#[derive(Default)]
struct Counts {
    proposals: usize,
    appended: usize,
    applied: usize,
    replicated: usize,
    flushes: usize,
    committed: LogIndex,
    states: Vec<(ServerState, Term)>,
}

#[derive(Default)]
struct Counter(Mutex<Counts>);

impl MetricsRecorder for Counter {
    fn record_proposals(&self, writes: usize) {
        self.0.lock().unwrap().proposals += writes;
    }
    fn record_append(&self, entries: usize) {
        self.0.lock().unwrap().appended += entries;
    }
    fn record_flush(&self, _: Span) {
        self.0.lock().unwrap().flushes += 1;
    }
    fn record_replicate(&self, entries: usize) {
        self.0.lock().unwrap().replicated += entries;
    }
    fn record_apply(&self, entries: usize, _: Span) {
        self.0.lock().unwrap().applied += entries;
    }
    fn record_committed(&self, index: LogIndex) {
        self.0.lock().unwrap().committed = index;
    }
    fn record_state(&self, state: ServerState, term: Term) {
        self.0.lock().unwrap().states.push((state, term));
    }
}

async fn a_recorder_counts_what_happens<C: TestTypes>() {
    let cluster = Cluster::<C>::of_with([1, 2, 3], Config { enable_elect: true, ..config() }, 5).await;
    let leader = cluster.leader().await;
    let last = cluster.write(leader, "a", 0).await;
    let follower = leader % 3 + 1;
    for id in [1, 2, 3] {
        cluster.wait(id).applied_index(last, "quiet").await.unwrap();
    }
    let counters = [leader, follower].map(|id| {
        let counter = Arc::new(Counter::default());
        cluster.raft(id).set_metrics_recorder(Some(Arc::<Counter>::clone(&counter)));
        counter
    });
    let index = cluster.write(leader, "a", 1).await;
    let mut many = cluster.raft(leader).client_write_many((0..9).map(|i| put("a", i))).unwrap();
    while let Some(result) = many.next().await {
        result.unwrap();
    }
    cluster.wait(follower).applied_index(index + 9, "applied").await.unwrap();
    let [of_leader, of_follower] = counters.map(|counter| std::mem::take(&mut *counter.0.lock().unwrap()));
    assert_eq!((of_leader.proposals, of_leader.appended, of_leader.applied), (10, 10, 10));
    assert_eq!((of_leader.replicated, of_leader.committed), (20, index + 9), "to two targets");
    assert!(of_leader.flushes >= 2);
    assert_eq!((of_follower.proposals, of_follower.appended, of_follower.applied), (0, 10, 10));
    // It is told of roles, and no more once it is taken away.
    let counter = Arc::new(Counter::default());
    cluster.raft(follower).set_metrics_recorder(Some(Arc::<Counter>::clone(&counter)));
    cluster.raft(leader).transfer_leader(follower).await.unwrap();
    cluster.wait(follower).state(ServerState::Leader, "it leads").await.unwrap();
    assert_eq!(counter.0.lock().unwrap().states.last().map(|(state, _)| *state), Some(ServerState::Leader));
    cluster.raft(follower).set_metrics_recorder(None);
    let before = counter.0.lock().unwrap().appended;
    cluster.write(follower, "a", 2).await;
    assert_eq!(counter.0.lock().unwrap().appended, before);
}
