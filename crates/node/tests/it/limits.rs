//! Each bound of a node that is a constant, and what happens there: `docs/limits.md` lists them. The numbers stand here once
//! more, on purpose: whoever changes a bound changes its page and its test.

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use raftwright_core::Round;
use raftwright_node::{Priority, ReadPolicy, WriteResult};
use raftwright_traits::{
    ClientWriteError, Config, HeartbeatRequest, Identity, LinearizableReadError, LogIdOption, LogIndex, Outcome,
    RaftError, Vote,
};

use crate::fixture::{Cluster, Echo, Holding, Map, Standard, TestTypes, config, put, with_both_leader_ids};

with_both_leader_ids!(
    the_state_machine_s_worker_pauses_between_its_turns,
    the_core_pauses_between_its_turns,
    a_replication_task_pauses_between_its_turns,
    answers_of_a_target_are_taken_up_in_goes,
    what_is_on_its_way_to_a_target_is_bounded,
    reads_that_wait_for_the_state_machine_are_bounded,
    reads_that_wait_for_the_leader_s_word_are_bounded,
    calls_under_way_are_bounded_and_made_again_later,
    a_follower_that_may_make_no_call_refuses_reads,
    urgent_writes_that_wait_are_bounded,
    closures_that_wait_are_bounded,
    closures_let_entries_in_between,
    calls_about_snapshots_that_wait_are_bounded,
    a_start_reads_the_log_in_pieces,
    the_core_takes_up_so_many_calls_in_one_go,
    the_state_machine_gets_so_many_bytes_at_a_time,
);

/// How long the state machine takes for the command `slow` (the fixture's).
const SLOW: &str = "slow";

/// Has the state machine of node 1 busy for seconds, beginning now. Whatever else is to be done waits for it.
async fn keep_busy<C: TestTypes>(cluster: &Cluster<C>) -> tokio::task::JoinHandle<WriteResult<C>> {
    let raft = cluster.raft(1).clone();
    let before = cluster.raft(1).metrics().borrow().committed;
    let slow = tokio::spawn(async move { raft.client_write(SLOW.to_owned()).await });
    cluster.wait(1).metrics(|m| m.committed > before, "it is being applied").await.unwrap();
    slow
}

/// The results of all, which are begun together: before any task of the node runs.
pub(crate) async fn together<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    tokio::task::unconstrained(poll_fn(|cx| {
        let mut all = Poll::Ready(());
        for (future, output) in waiting.iter_mut().filter(|(_, output)| output.is_none()) {
            match future.as_mut().poll(cx) {
                Poll::Ready(value) => *output = Some(value),
                Poll::Pending => all = Poll::Pending,
            }
        }
        all
    }))
    .await;
    waiting.into_iter().filter_map(|(_, output)| output).collect()
}

/// Begins all of them together, and gives them up before any task of the node runs: what was handed over stays so.
async fn begun_and_left<F: Future>(futures: impl IntoIterator<Item = F>) {
    let mut begun: Vec<_> = futures.into_iter().map(Box::pin).collect();
    tokio::task::unconstrained(poll_fn(|cx| {
        assert!(begun.iter_mut().all(|future| future.as_mut().poll(cx).is_pending()), "nobody has answered yet");
        Poll::Ready(())
    }))
    .await;
}

/// How often each value stands in a row, at most.
fn longest_run(values: &[usize]) -> usize {
    values.chunk_by(|a, b| a == b).map(<[usize]>::len).max().unwrap_or(0)
}

/// `TURNS_MAX`: a thousand batches are to be applied, and nothing has to be waited for. The worker lets others run all the
/// same.
async fn the_state_machine_s_worker_pauses_between_its_turns<C: TestTypes>() {
    let cluster = Cluster::<C>::of_with([1], Config { apply_bytes_max: 1, ..config() }, 1).await;
    let slow = keep_busy(&cluster).await;
    let polls = Arc::new(Mutex::new(Vec::new()));
    for i in 0..1_000 {
        let (runtime, polls) = (cluster.runtime.clone(), Arc::clone(&polls));
        let told = move |_: WriteResult<C>| polls.lock().unwrap().push(runtime.polls());
        cluster.raft(1).write(put("a", i)).responder(told).unwrap();
    }
    slow.await.unwrap().unwrap();
    cluster.write(1, "b", 1).await;
    let polls = polls.lock().unwrap().clone();
    assert_eq!((polls.len(), longest_run(&polls)), (1_000, 64));
}

/// `TURNS_MAX`: the core takes up one call a turn, and a thousand wait.
async fn the_core_pauses_between_its_turns<C: TestTypes>() {
    let cluster = Cluster::<C>::of_with([1], Config { api_batch_max: 1, ..config() }, 1).await;
    let look = |_| {
        let runtime = cluster.runtime.clone();
        cluster.raft(1).with_raft_state(move |_| runtime.polls())
    };
    let polls: Vec<usize> = together((0..1_000).map(look)).await.into_iter().map(Result::unwrap).collect();
    assert_eq!((polls.len(), longest_run(&polls)), (1_000, 64));
}

/// A leader whose only follower is one that answers as it is told, with so many entries to send to it.
async fn leader_with_echo<C: TestTypes>(config: Config, entries: usize) -> (Cluster<C>, Echo, LogIndex) {
    let config = Config { rpc_timeout: 600_000, ..config };
    let mut cluster = Cluster::<C>::blank_with([], config, 1).await;
    let echo = Echo::new(cluster.runtime.clone());
    cluster.start_with(1, echo.clone()).await;
    cluster.raft(1).initialize(BTreeSet::from([1, 2])).await.unwrap();
    cluster.wait(1).current_leader(1, "the echo grants every vote").await.unwrap();
    drop(cluster.raft(1).client_write_many((0..entries).map(|i| put("a", i))).unwrap());
    let last = entries as LogIndex + 2;
    cluster.wait(1).log_index_at_least(last, "all are in the log").await.unwrap();
    (cluster, echo, last)
}

/// `TURNS_MAX`: a target that answers at once gives a replication task something to do in every turn.
async fn a_replication_task_pauses_between_its_turns<C: TestTypes>() {
    let config = Config { append_entries_max: 1, inflight_requests_max: 1, ..config() };
    let (cluster, echo, last) = leader_with_echo::<C>(config, 1_000).await;
    echo.answer_from(1);
    cluster.wait(1).applied_index_at_least(last, "replicated").await.unwrap();
    let answered_at = echo.answered_at();
    assert!(answered_at.len() >= 1_000);
    assert_eq!(longest_run(&answered_at), 64);
}

/// `ANSWERS_BATCH_MAX`: 600 answers are there. After 256 of them the task does what follows from those.
async fn answers_of_a_target_are_taken_up_in_goes<C: TestTypes>() {
    let config = Config { append_entries_max: 1, inflight_requests_max: 600, ..config() };
    let (cluster, echo, last) = leader_with_echo::<C>(config, 3_000).await;
    echo.answer_from(600);
    cluster.wait(1).applied_index_at_least(last, "replicated").await.unwrap();
    assert_eq!(echo.most_answers_between_requests(last), 256);
}

/// `append_entries_max`, `append_bytes_max`, `inflight_requests_max`, `inflight_bytes_max`: the target answers nothing but where
/// its log agrees. Each bound by itself stops a leader that has a thousand entries for it.
async fn what_is_on_its_way_to_a_target_is_bounded<C: TestTypes>() {
    let size = size_of_an_entry::<C>();
    let one = Config { append_entries_max: 1, ..config() };
    let cases = [
        (Config { append_entries_max: 7, inflight_requests_max: 1, ..config() }, (1, 7)),
        (Config { append_bytes_max: 7 * size + 1, inflight_requests_max: 1, ..config() }, (1, 7)),
        (Config { inflight_requests_max: 5, ..one.clone() }, (5, 1)),
        (Config { inflight_bytes_max: 20 * size, ..one }, (20, 1)),
    ];
    for (config, expected) in cases {
        let (cluster, echo, _) = leader_with_echo::<C>(config, 1_000).await;
        let read = cluster.raft(1).ensure_linearizable(ReadPolicy::ReadIndex).await;
        assert!(read.is_ok(), "heartbeats go on, and by now all has been sent that may be: {read:?}");
        assert_eq!(echo.requests_and_entries_that_wait(), expected);
    }
}

/// What a short write counts for, by its own account.
pub(crate) fn size_of_an_entry<C: TestTypes>() -> usize {
    raftwright_traits::RaftEntry::size(&<C::Entry as raftwright_traits::FromAppData<String>>::from_app_data(put(
        "a", 1,
    )))
}

/// `reads_max`: reads that are confirmed wait for the state machine, which is busy.
async fn reads_that_wait_for_the_state_machine_are_bounded<C: TestTypes>() {
    let cluster = Cluster::<C>::of_with([1], Config { reads_max: 3, ..config() }, 1).await;
    let slow = keep_busy(&cluster).await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let raft = cluster.raft(1).clone();
        waiting.push(tokio::spawn(async move { raft.ensure_linearizable(ReadPolicy::ReadIndex).await }));
        // The next one comes when this one waits.
        cluster.raft(1).with_raft_state(|_| ()).await.unwrap();
    }
    let refused = cluster.raft(1).ensure_linearizable(ReadPolicy::ReadIndex).await;
    assert_eq!(refused, Err(RaftError::APIError(LinearizableReadError::Busy)));
    assert!(!slow.is_finished());
    for read in waiting {
        read.await.unwrap().unwrap();
    }
    cluster.raft(1).ensure_linearizable(ReadPolicy::ReadIndex).await.unwrap();
}

/// `reads_max`: reads at a follower wait for the leader, which does not answer.
async fn reads_that_wait_for_the_leader_s_word_are_bounded<C: TestTypes>() {
    let cluster = Cluster::<C>::of_with([1, 2, 3], Config { reads_max: 3, ..config() }, 1).await;
    let leader = cluster.leader().await;
    let follower = leader % 3 + 1;
    cluster.router.mute([follower].into_iter(), leader);
    let reads = together((0..4).map(|_| cluster.raft(follower).ensure_linearizable(ReadPolicy::ReadIndex))).await;
    let busy = Err(RaftError::APIError(LinearizableReadError::Busy));
    let unconfirmed = Err(RaftError::APIError(LinearizableReadError::NotConfirmed));
    assert_eq!(reads, [unconfirmed.clone(), unconfirmed.clone(), unconfirmed, busy]);
}

/// `CALLS_MAX`: nobody answers, and calls take long to be given up. The votes of later elections are not asked for then; when
/// there is room again, they are.
async fn calls_under_way_are_bounded_and_made_again_later<C: TestTypes>() {
    let (mut cluster, _) = with_all_calls_under_way::<C>().await;
    for id in 2..=5 {
        cluster.add_blank(id).await;
    }
    cluster.router.heal();
    let leader = cluster.leader().await;
    cluster.write(leader, "a", 1).await;
}

/// A server of five whose calls nobody answers, when it has made as many as it may.
async fn with_all_calls_under_way<C: TestTypes>() -> (Cluster<C>, usize) {
    let cluster = Cluster::<C>::blank_with([1], Config { rpc_timeout: 40_000, ..config() }, 1).await;
    cluster.raft(1).with_raft_state(|_| ()).await.unwrap();
    let idle = cluster.runtime.alive();
    cluster.router.isolate(1);
    cluster.raft(1).initialize((1..=5).collect::<BTreeSet<u64>>()).await.unwrap();
    // A hundred elections, each of which asks four servers.
    let never = cluster.raft(1).wait(Some(Duration::from_secs(30))).log_index(1 << 40, "never").await;
    assert!(never.is_err());
    assert_eq!((cluster.router.messages(), cluster.runtime.alive() - idle), (64, 64));
    (cluster, idle)
}

/// `CALLS_MAX`: the question about a read is such a call.
async fn a_follower_that_may_make_no_call_refuses_reads<C: TestTypes>() {
    let (cluster, idle) = with_all_calls_under_way::<C>().await;
    let raft = cluster.raft(1);
    let term = raft.metrics().borrow().current_term + 1;
    let vote = Vote::<C::LeaderId>::new(term, 2).commit();
    let from = Identity { id: 2, incarnation: None };
    let request = HeartbeatRequest::<C> { from, vote, round: Round(1), committed: None };
    assert!(raft.heartbeat(request).await.unwrap().accepted);
    let read = raft.ensure_linearizable(ReadPolicy::ReadIndex).await;
    assert_eq!(read, Err(RaftError::APIError(LinearizableReadError::Busy)));
    assert_eq!(cluster.runtime.alive() - idle, 64);
}

/// `URGENT_QUEUE_MAX`: writes of high priority find room where others find none, and not without end.
async fn urgent_writes_that_wait_are_bounded<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1]).await;
    let raft = cluster.raft(1);
    let urgent = |i: u32| raft.write(put("urgent", i)).priority(Priority::High).send_ff();
    for i in 0..1_024 {
        urgent(i).unwrap();
    }
    let Err(RaftError::APIError(refused)) = urgent(1_024) else { panic!("it is let in") };
    assert_eq!((refused.outcome(), refused), (Outcome::NotApplied, ClientWriteError::Busy));
    cluster.write(1, "a", 1).await;
    assert_eq!(cluster.get(1, "urgent").await, Some("1023".to_owned()));
    urgent(1_025).unwrap();
}

/// `CLOSURES_MAX`: past it, a closure is not handed over, and its caller waits for room.
async fn closures_that_wait_are_bounded<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1]).await;
    let slow = keep_busy(&cluster).await;
    let run = || cluster.raft(1).with_state_machine(|map: &mut Map<C>| map.closures.push(1));
    begun_and_left((0..1_100).map(|_| run())).await;
    slow.await.unwrap().unwrap();
    let ran = || cluster.raft(1).with_state_machine(|map: &mut Map<C>| map.closures.len());
    assert_eq!(ran().await.unwrap(), 1_024);
    let slow = keep_busy(&cluster).await;
    assert_eq!(together((0..1_100).map(|_| run())).await.len(), 1_100, "those who wait are let in");
    assert_eq!(ran().await.unwrap(), 1_024 + 1_100);
    slow.await.unwrap().unwrap();
}

/// `CLOSURES_BATCH_MAX`: however many closures wait, entries are applied between them.
async fn closures_let_entries_in_between<C: TestTypes>() {
    let cluster = Cluster::<C>::of_with([1], Config { apply_bytes_max: 1, ..config() }, 1).await;
    let slow = keep_busy(&cluster).await;
    drop(cluster.raft(1).client_write_many((0..20).map(|i| put("a", i))).unwrap());
    let applied = |map: &mut Map<C>| map.applied.len();
    let seen = together((0..200).map(|_| cluster.raft(1).with_state_machine(applied))).await;
    let seen: Vec<usize> = seen.into_iter().map(Result::unwrap).collect();
    let runs: Vec<usize> = seen.chunk_by(|a, b| a == b).map(<[usize]>::len).collect();
    assert_eq!(runs, [64, 64, 64, 8]);
    slow.await.unwrap().unwrap();
}

/// `SNAPSHOT_CALLS_MAX`: past it, a call is not handed over, and its caller waits for room.
async fn calls_about_snapshots_that_wait_are_bounded<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1]).await;
    let slow = keep_busy(&cluster).await;
    begun_and_left((0..100).map(|_| cluster.raft(1).begin_receiving_snapshot())).await;
    slow.await.unwrap().unwrap();
    cluster.raft(1).get_snapshot().await.unwrap();
    assert_eq!(cluster.shelves[&1].places(), 64);
    let all = together((0..100).map(|_| cluster.raft(1).begin_receiving_snapshot())).await;
    assert!(all.len() == 100 && all.iter().all(Result::is_ok), "those who wait are let in");
    assert_eq!(cluster.shelves[&1].places(), 164);
}

/// `SCAN_BYTES_MAX`: memberships are looked for in pieces, and found in the last of them.
async fn a_start_reads_the_log_in_pieces<C: TestTypes>() {
    let mut cluster = Cluster::<C>::of_with([1], Config { apply_bytes_max: 1 << 20, ..config() }, 1).await;
    for i in 0..10 {
        cluster.write(1, "a", i).await;
    }
    cluster.add_blank(2).await;
    cluster.raft(1).add_learner(2, raftwright_traits::EmptyNode {}, true).await.unwrap();
    let last = cluster.raft(1).metrics().borrow().last_log_id.index_or_zero();
    cluster.stop(1).await;
    let log = cluster.logs[&1].clone();
    log.take_limits();
    log.set_read_max(3);
    cluster.start(1).await.unwrap();
    let limits = log.take_limits();
    assert_eq!(limits.len() as u64, last.div_ceil(3), "in pieces");
    assert!(limits.iter().all(|limit| *limit == 4 << 20), "{limits:?}");
    let members = cluster.raft(1).with_raft_state(|replica| replica.membership().membership.clone()).await.unwrap();
    assert!(members.node(&2).is_some(), "{members}");
}

/// `api_batch_max`: calls that wait together become as many log writes as goes are needed. Those of high priority have their
/// own share of a go.
async fn the_core_takes_up_so_many_calls_in_one_go<C: TestTypes>() {
    for (ordinary, urgent, goes) in [(10, 0, 3), (0, 10, 3), (8, 8, 2)] {
        let cluster = Cluster::<C>::of_with([1], Config { api_batch_max: 4, ..config() }, 1).await;
        let last = cluster.write(1, "a", 0).await;
        cluster.logs[&1].set(Holding::Writes);
        let write = |i: u64, priority| cluster.raft(1).write(put("a", i)).priority(priority).send_ff().unwrap();
        (0..ordinary).for_each(|i| write(i, Priority::Normal));
        (0..urgent).for_each(|i| write(i, Priority::High));
        cluster.wait(1).log_index_at_least(last + ordinary + urgent, "all are in the log").await.unwrap();
        assert_eq!(cluster.logs[&1].held(), goes, "{ordinary} and {urgent} urgent ones");
        cluster.logs[&1].release();
    }
}

/// `apply_bytes_max`: what waits for a slow state machine is handed to it in pieces; a single larger entry goes alone.
async fn the_state_machine_gets_so_many_bytes_at_a_time<C: TestTypes>() {
    let size = size_of_an_entry::<C>();
    for (bytes, most) in [(5 * size, 5), (5 * size + 1, 5), (size - 1, 1), (1 << 20, 23)] {
        let cluster = Cluster::<C>::of_with([1], Config { apply_bytes_max: bytes, ..config() }, 1).await;
        let slow = keep_busy(&cluster).await;
        drop(cluster.raft(1).client_write_many((0..23).map(|i| put("a", i))).unwrap());
        slow.await.unwrap().unwrap();
        cluster.write(1, "b", 1).await;
        let batches = cluster.raft(1).with_state_machine(|map: &mut Map<C>| map.batches.clone()).await.unwrap();
        assert_eq!(batches.iter().copied().max(), Some(most), "{bytes} bytes: {batches:?}");
    }
}

/// `WRITES_WAITING_MAX`: the log and its disk keep up, and the state machine does not. Writes are refused once so many wait for
/// it, those of low priority once half as many do; when it has caught up, there is room again.
#[tokio::test(start_paused = true)]
async fn writes_that_wait_for_the_state_machine_are_bounded() {
    const MAX: usize = 1 << 18;
    let config = Config { api_queue_max: MAX, ..config() };
    let cluster = Cluster::<Standard>::of_with([1], config, 1).await;
    let slow = keep_busy(&cluster).await;
    let raft = cluster.raft(1);
    let first = raft.metrics().borrow().last_log_id.index_or_zero();
    let low = || raft.write(put("low", 1)).priority(Priority::Low).deadline(Duration::from_millis(1).into());
    let many = |count: usize| drop(raft.client_write_many((0..count).map(|_| put("a", 1))).unwrap());
    // The slow one waits, too.
    many(MAX / 2 - 2);
    let told = low().send().await;
    assert!(matches!(told, Err(RaftError::APIError(ClientWriteError::Unknown(_)))), "it is let in: {told:?}");
    assert_eq!(low().send().await, Err(RaftError::APIError(ClientWriteError::Busy)));
    many(MAX / 2);
    assert_eq!(raft.client_write(put("lost", 1)).await, Err(RaftError::APIError(ClientWriteError::Busy)));
    assert_eq!(raft.metrics().borrow().last_log_id.index_or_zero(), first + MAX as u64 - 1);
    assert!(!slow.is_finished());
    slow.await.unwrap().unwrap();
    cluster.write(1, "b", 1).await;
    assert_eq!(cluster.get(1, "lost").await, None);
}
