//! Every way to write, and what each error says about what was written.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Context;
use std::time::Duration;

use futures_core::Stream;
use raftwright_node::{Priority, Responder, WriteResult};
use raftwright_traits::{
    ClientWriteError, Config, Fatal, LogIdOf, LogIdOption, Outcome, RaftError, Span, UnknownReason,
};

use crate::fixture::{Cluster, HeldLog, Holding, Map, TestTypes, config, put, with_both_leader_ids};
use crate::limits::{size_of_an_entry, together};

with_both_leader_ids!(
    many_writes_stand_side_by_side_and_are_answered_in_order,
    many_writes_that_find_no_room_are_refused_from_the_first_on,
    too_many_writes_at_once_are_refused_together,
    a_write_can_be_left_alone,
    a_blank_write_shows_that_the_leader_can_commit,
    a_write_is_fenced_by_the_leadership_it_expects,
    a_deadline_before_the_proposal_means_not_applied,
    a_deadline_after_the_proposal_means_unknown,
    a_write_that_expired_in_the_queue_tells_its_responder,
    a_responder_is_told_at_commit_and_at_apply,
    a_responder_is_told_the_end_when_the_node_stops,
    a_responder_that_is_refused_is_not_told,
    a_responder_that_panics_harms_nobody,
    a_write_of_high_priority_has_a_queue_of_its_own,
    a_write_of_low_priority_leaves_half_of_the_room,
    a_write_that_was_not_taken_up_before_the_stop_is_not_applied,
    a_refusal_for_want_of_room_means_not_applied,
    a_follower_s_refusal_means_not_applied,
);

fn error<V>(error: ClientWriteError<V>) -> Result<(), RaftError<ClientWriteError<V>>>
where
    V: TestTypes,
{
    Err(RaftError::APIError(error))
}

fn failed<C: TestTypes>(result: WriteResult<C>) -> ClientWriteError<C> {
    match result {
        Err(RaftError::APIError(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// Writes something else everywhere, and looks whether the key is there: it never will be.
async fn is_nowhere<C: TestTypes>(cluster: &Cluster<C>, key: &'static str) {
    let leader = cluster.leader().await;
    let index = cluster.write(leader, "after", key).await;
    for id in cluster.nodes.keys() {
        cluster.wait(*id).applied_index_at_least(index, "applied").await.unwrap();
        assert_eq!(cluster.get(*id, key).await, None, "{key} was surely not applied");
    }
}

async fn many_writes_stand_side_by_side_and_are_answered_in_order<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let raft = cluster.raft(cluster.leader().await);
    let other = raft.clone();
    let noise = tokio::spawn(async move {
        for i in 0..100 {
            other.client_write(put("noise", i)).await.unwrap();
        }
    });
    let mut results = raft.client_write_many((0..100).map(|i| put("n", i))).unwrap();
    assert_eq!(results.len(), 100);
    let mut indexes = Vec::new();
    while let Some(result) = results.next().await {
        let response = result.unwrap();
        assert_eq!(response.data, indexes.len().checked_sub(1).map(|i| i.to_string()), "each found the one before it");
        indexes.push(response.log_id.index);
    }
    assert!(results.is_empty());
    assert!(indexes.iter().copied().eq(indexes[0]..indexes[0] + 100), "side by side: {indexes:?}");
    noise.await.unwrap();
    // None of nothing.
    assert_eq!(raft.client_write_many(Vec::new()).unwrap().next().await, None);
    // It is a stream as well.
    let mut results = raft.client_write_many([put("n", 1)]).unwrap();
    let next = std::future::poll_fn(|cx: &mut Context<'_>| Pin::new(&mut results).poll_next(cx));
    assert!(next.await.unwrap().is_ok());
}

async fn many_writes_that_find_no_room_are_refused_from_the_first_on<C: TestTypes>() {
    // An entry counts for 56 bytes here: the second still fits.
    let config = Config { uncommitted_bytes_max: 120, ..config() };
    let cluster = Cluster::<C>::of_with([1], config, 1).await;
    cluster.logs[&1].set(Holding::Writes);
    let mut results = cluster.raft(1).client_write_many((0..4).map(|i| put("n", i))).unwrap();
    cluster.wait(1).log_index_at_least(4, "the second is in the log").await.unwrap();
    cluster.logs[&1].release();
    let mut outcomes = Vec::new();
    while let Some(result) = results.next().await {
        outcomes.push(result.map_err(|error| error.outcome()).map(drop));
    }
    assert_eq!(outcomes, [Ok(()), Ok(()), Err(Outcome::NotApplied), Err(Outcome::NotApplied)]);
    assert_eq!(cluster.get(1, "n").await, Some("1".to_owned()));
}

async fn too_many_writes_at_once_are_refused_together<C: TestTypes>() {
    let config = Config { api_queue_max: 10, ..config() };
    let cluster = Cluster::<C>::of_with([1], config, 1).await;
    let raft = cluster.raft(1);
    let many = |n: u32| raft.client_write_many((0..n).map(|i| put("lost", i)));
    assert_eq!(many(11).map(drop), error(ClientWriteError::Busy));
    is_nowhere(&cluster, "lost").await;
    // Two calls share the room until the core has taken them up.
    let first = raft.client_write_many((0..6).map(|i| put("a", i))).unwrap();
    assert_eq!(many(5).map(drop), error(ClientWriteError::Busy));
    drop(first);
    cluster.write(1, "b", 1).await;
    assert_eq!(cluster.get(1, "a").await, Some("5".to_owned()), "dropping the results changes nothing");
    assert_eq!(many(10).unwrap().len(), 10, "there is room again");
}

async fn a_write_can_be_left_alone<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let last = cluster.write(leader, "a", 0).await;
    cluster.raft(leader).client_write_ff(put("a", 1)).unwrap();
    for id in [1, 2, 3] {
        cluster.wait(id).applied_index(last + 1, "applied").await.unwrap();
        assert_eq!(cluster.get(id, "a").await, Some("1".to_owned()));
    }
}

async fn a_blank_write_shows_that_the_leader_can_commit<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let last = cluster.write(leader, "a", 0).await;
    let response = cluster.raft(leader).write_blank().await.unwrap();
    assert_eq!((response.log_id.index, response.data), (last + 1, None));
    assert_eq!(cluster.get(leader, "a").await, Some("0".to_owned()));
}

async fn a_write_is_fenced_by_the_leadership_it_expects<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let old = cluster.leader().await;
    let response = cluster.raft(old).client_write(put("a", 0)).await.unwrap();
    let leadership = response.log_id.leader_id;
    cluster.raft(old).write(put("a", 1)).expected_leader(leadership).await.unwrap();
    // The leadership goes to another and comes back: the same server, another leadership.
    let other = old % 3 + 1;
    cluster.raft(old).transfer_leader(other).await.unwrap();
    cluster.wait(other).current_leader(other, "the other leads").await.unwrap();
    let forwarded = failed(cluster.raft(old).write(put("fenced", 2)).expected_leader(leadership).await);
    assert!(matches!(&forwarded, ClientWriteError::ForwardToLeader(to) if to.leader_id == Some(other)));
    cluster.raft(other).transfer_leader(old).await.unwrap();
    cluster.wait(old).current_leader(old, "it leads again").await.unwrap();
    let fenced = failed(cluster.raft(old).write(put("fenced", 3)).expected_leader(leadership).await);
    assert_eq!(fenced, ClientWriteError::LeaderChanged);
    is_nowhere(&cluster, "fenced").await;
    let now = cluster.raft(old).with_raft_state(|replica| replica.vote().unwrap().leader_id).await.unwrap();
    let now = raftwright_traits::LeaderId::to_committed(&now);
    cluster.raft(old).write(put("a", 4)).expected_leader(now).await.unwrap();
}

async fn a_deadline_before_the_proposal_means_not_applied<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let late = failed(cluster.raft(leader).client_write_with_deadline(put("late", 1), Span::ZERO).await);
    assert_eq!((late.outcome(), late), (Outcome::NotApplied, ClientWriteError::Expired));
    is_nowhere(&cluster, "late").await;
}

async fn a_deadline_after_the_proposal_means_unknown<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1]).await;
    cluster.logs[&1].set(Holding::Writes);
    let short = Duration::from_millis(100).into();
    let late = failed(cluster.raft(1).client_write_with_deadline(put("a", 1), short).await);
    assert_eq!((late.outcome(), late), (Outcome::Unknown, ClientWriteError::Unknown(UnknownReason::Deadline)));
    cluster.logs[&1].release();
    cluster.write(1, "b", 1).await;
    assert_eq!(cluster.get(1, "a").await, Some("1".to_owned()), "and indeed it was applied");
}

/// What a responder was told, in order.
struct Told<C: TestTypes> {
    log: Arc<Mutex<Vec<&'static str>>>,
    result: Arc<Mutex<Option<WriteResult<C>>>>,
    committed: Arc<Mutex<Option<LogIdOf<C>>>>,
}

impl<C: TestTypes> Clone for Told<C> {
    fn clone(&self) -> Self {
        let Self { log, result, committed } = self;
        Self { log: Arc::clone(log), result: Arc::clone(result), committed: Arc::clone(committed) }
    }
}

impl<C: TestTypes> Told<C> {
    fn new() -> Self {
        Self { log: Arc::default(), result: Arc::default(), committed: Arc::default() }
    }

    fn log(&self) -> Vec<&'static str> {
        self.log.lock().unwrap().clone()
    }

    fn result(&self) -> WriteResult<C> {
        self.result.lock().unwrap().clone().expect("it was told the end")
    }
}

impl<C: TestTypes> Responder<C> for Told<C> {
    fn on_commit(&mut self, log_id: LogIdOf<C>) {
        self.log.lock().unwrap().push("committed");
        *self.committed.lock().unwrap() = Some(log_id);
    }

    fn on_complete(self: Box<Self>, result: WriteResult<C>) {
        self.log.lock().unwrap().push("complete");
        *self.result.lock().unwrap() = Some(result);
    }
}

async fn a_write_that_expired_in_the_queue_tells_its_responder<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1]).await;
    let told = Told::<C>::new();
    cluster.raft(1).write(put("late", 1)).deadline(Span::ZERO).responder(told.clone()).unwrap();
    is_nowhere(&cluster, "late").await;
    assert_eq!(told.log(), ["complete"]);
    assert_eq!(failed(told.result()), ClientWriteError::Expired);
}

async fn a_responder_is_told_at_commit_and_at_apply<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    // The state machine is busy for five seconds: what is committed meanwhile waits for it.
    let slow = cluster.raft(leader).clone();
    let slow = tokio::spawn(async move { slow.client_write("slow".to_owned()).await });
    let told = Told::<C>::new();
    let last = cluster.raft(leader).metrics().borrow().last_log_id.index_or_zero();
    cluster.wait(leader).metrics(|m| m.committed.index_or_zero() > last, "it is being applied").await.unwrap();
    cluster.raft(leader).write(put("a", 1)).responder(told.clone()).unwrap();
    cluster.wait(leader).metrics(|m| m.committed.index_or_zero() > last + 1, "committed").await.unwrap();
    assert!(!slow.is_finished());
    assert_eq!(told.log(), ["committed"]);
    slow.await.unwrap().unwrap();
    cluster.write(leader, "b", 1).await;
    assert_eq!(told.log(), ["committed", "complete"]);
    let response = told.result().unwrap();
    assert_eq!(Some(response.log_id), *told.committed.lock().unwrap());
    // A closure is a responder that wants to know the end alone.
    let (tx, rx) = tokio::sync::oneshot::channel();
    cluster.raft(leader).write(put("a", 2)).responder(move |result: WriteResult<C>| drop(tx.send(result))).unwrap();
    assert_eq!(rx.await.unwrap().unwrap().data, Some("1".to_owned()));
}

async fn a_responder_is_told_the_end_when_the_node_stops<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1]).await;
    let last = cluster.write(1, "a", 0).await;
    cluster.logs[&1].set(Holding::Writes);
    let told = Told::<C>::new();
    cluster.raft(1).write(put("a", 1)).responder(told.clone()).unwrap();
    cluster.wait(1).log_index_at_least(last + 1, "in the log").await.unwrap();
    let untaken = Told::<C>::new();
    cluster.raft(1).write(put("a", 2)).responder(untaken.clone()).unwrap();
    cluster.raft(1).shutdown().await.unwrap();
    assert_eq!((told.log(), untaken.log()), (vec!["complete"], vec!["complete"]));
    assert_eq!(failed(told.result()), ClientWriteError::Unknown(UnknownReason::Stopped));
    assert_eq!(untaken.result(), Err(RaftError::Fatal(Fatal::Stopped)), "it was never proposed");
}

async fn a_responder_that_is_refused_is_not_told<C: TestTypes>() {
    let config = Config { api_queue_max: 1, ..config() };
    let cluster = Cluster::<C>::of_with([1], config, 1).await;
    let (first, second) = (Told::<C>::new(), Told::<C>::new());
    cluster.raft(1).write(put("a", 1)).responder(first.clone()).unwrap();
    assert_eq!(cluster.raft(1).write(put("lost", 2)).responder(second.clone()), error(ClientWriteError::Busy));
    cluster.wait(1).metrics(|_| first.log().len() == 2, "the first has ended").await.unwrap();
    is_nowhere(&cluster, "lost").await;
    assert_eq!((first.log(), second.log()), (vec!["committed", "complete"], vec![]));
}

async fn a_responder_that_panics_harms_nobody<C: TestTypes>() {
    struct Rude;
    impl<C: TestTypes> Responder<C> for Rude {
        fn on_commit(&mut self, _: LogIdOf<C>) {
            panic!("at commit");
        }
        fn on_complete(self: Box<Self>, _: WriteResult<C>) {
            panic!("at the end");
        }
    }
    let cluster = Cluster::<C>::of([1]).await;
    cluster.raft(1).write(put("a", 1)).responder(Rude).unwrap();
    cluster.write(1, "b", 1).await;
    assert_eq!(cluster.get(1, "a").await, Some("1".to_owned()));
    cluster.logs[&1].set(Holding::Writes);
    cluster.raft(1).write(put("a", 2)).responder(Rude).unwrap();
    tokio::task::yield_now().await;
    assert_eq!(cluster.raft(1).shutdown().await, Ok(()));
}

async fn a_write_of_high_priority_has_a_queue_of_its_own<C: TestTypes>() {
    let config = Config { api_queue_max: 2, ..config() };
    let cluster = Cluster::<C>::of_with([1], config, 1).await;
    let raft = cluster.raft(1);
    // All are handed over before the core runs.
    let (a, b, full, urgent) = tokio::join!(
        raft.client_write(put("a", 1)),
        raft.client_write(put("a", 2)),
        raft.client_write(put("a", 3)),
        async { raft.write(put("a", "urgent")).priority(Priority::High).await },
    );
    assert_eq!(failed(full), ClientWriteError::Busy);
    let (a, b, urgent) = (a.unwrap(), b.unwrap(), urgent.unwrap());
    assert!(urgent.log_id < a.log_id && a.log_id < b.log_id, "it is taken up first");
}

async fn a_write_of_low_priority_leaves_half_of_the_room<C: TestTypes>() {
    let config = Config { api_queue_max: 4, uncommitted_bytes_max: 1_000, ..config() };
    let cluster = Cluster::<C>::of_with([1], config, 1).await;
    let raft = cluster.raft(1);
    let low = || async { raft.write(put("low", 1)).priority(Priority::Low).await };
    let (a, b, refused, c) = tokio::join!(
        raft.client_write(put("a", 1)),
        raft.client_write(put("a", 2)),
        low(),
        raft.client_write(put("a", 3))
    );
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    assert_eq!(failed(refused), ClientWriteError::Busy, "the queue is half full");
    is_nowhere(&cluster, "low").await;

    cluster.logs[&1].set(Holding::Writes);
    let mut writes = Vec::new();
    while raft.with_raft_state(|replica| replica.load().uncommitted_bytes).await.unwrap() <= 500 {
        let raft = raft.clone();
        writes.push(tokio::spawn(async move { raft.client_write(put("a", 4)).await }));
        tokio::task::yield_now().await;
    }
    assert_eq!(failed(low().await), ClientWriteError::Busy, "half of the room for what is not committed is used");
    let normal = raft.client_write_with_deadline(put("a", 5), Duration::from_millis(10).into()).await;
    assert_eq!(failed(normal), ClientWriteError::Unknown(UnknownReason::Deadline), "others are let in");
    cluster.logs[&1].release();
    for write in writes {
        write.await.unwrap().unwrap();
    }
    is_nowhere(&cluster, "low").await;
    assert!(low().await.is_ok());
}

async fn a_write_that_was_not_taken_up_before_the_stop_is_not_applied<C: TestTypes>() {
    let mut cluster = Cluster::<C>::of([1]).await;
    cluster.write(1, "a", 1).await;
    let raft = cluster.raft(1).clone();
    // Handed over, and then the stop, before the core runs.
    let many = raft.client_write_many([put("lost", 1), put("lost", 2)]).unwrap();
    let (write, stop) = tokio::join!(raft.client_write(put("lost", 0)), raft.shutdown());
    stop.unwrap();
    let write = write.unwrap_err();
    assert_eq!((write.outcome(), write), (Outcome::NotApplied, RaftError::Fatal(Fatal::Stopped)));
    let mut many = many;
    while let Some(result) = many.next().await {
        assert_eq!(result, Err(RaftError::Fatal(Fatal::Stopped)));
    }
    cluster.router.disconnect(1);
    cluster.start(1).await.unwrap();
    is_nowhere(&cluster, "lost").await;
}

/// `uncommitted_bytes_max`: no disk writes, so nothing is committed. What would exceed the bound is refused, unless it is alone.
async fn a_refusal_for_want_of_room_means_not_applied<C: TestTypes>() {
    let size = size_of_an_entry::<C>();
    for (bytes, fit) in [(4 * size, 4), (5 * size - 1, 4), (size - 1, 1)] {
        let config = Config { uncommitted_bytes_max: bytes, ..config() };
        let cluster = Cluster::<C>::of_with([1, 2, 3], config, 1).await;
        let leader = cluster.leader().await;
        let last = cluster.write(leader, "before", 1).await;
        cluster.logs.values().for_each(|log| log.set(Holding::Writes));
        // One letter each, so all entries have that size.
        let keys: Vec<String> = ('a'..='t').map(String::from).collect();
        let writes = together(keys.iter().map(|key| cluster.raft(leader).client_write(put(key, 1))));
        let release = async {
            cluster.wait(leader).log_index_at_least(last + fit, "what fits is in the log").await.unwrap();
            cluster.logs.values().for_each(HeldLog::release);
        };
        let (results, ()) = tokio::join!(writes, release);
        let (applied, busy) = results.split_at(fit as usize);
        assert!(applied.iter().all(Result::is_ok), "{applied:?}");
        let refused = Err(RaftError::APIError(ClientWriteError::Busy));
        assert!(busy.iter().all(|result| *result == refused), "{bytes} bytes: {busy:?}");
        is_nowhere(&cluster, "a marker").await;
        for id in [1, 2, 3] {
            let found = cluster.raft(id).with_state_machine(|map: &mut Map<C>| map.values.clone()).await.unwrap();
            let written: Vec<bool> = keys.iter().map(|key| found.contains_key(key)).collect();
            assert_eq!(written, results.iter().map(Result::is_ok).collect::<Vec<_>>(), "server {id}");
        }
    }
}

async fn a_follower_s_refusal_means_not_applied<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let follower = leader % 3 + 1;
    let before = cluster.raft(follower).metrics().borrow().last_log_id.index_or_zero();
    let refused = failed(cluster.raft(follower).client_write(put("lost", 1)).await);
    assert_eq!(refused.outcome(), Outcome::NotApplied);
    assert!(matches!(refused, ClientWriteError::ForwardToLeader(to) if to.leader_id == Some(leader)));
    assert_eq!(cluster.raft(follower).metrics().borrow().last_log_id.index_or_zero(), before);
    is_nowhere(&cluster, "lost").await;
}
