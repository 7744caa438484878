//! The same seed gives the same run, to the bit.

use std::time::Duration;

use raftwright_core::Rng;
use raftwright_traits::{AsyncRuntime, LogIdOf};

use crate::fixture::{Cluster, Map, Standard, TestTypes, config, put};

/// What a run leaves behind: every value that a test can see, and when.
#[derive(Debug, PartialEq, Eq)]
struct Trace {
    leaders: Vec<(u64, u64)>,
    answers: Vec<String>,
    applied: Vec<Vec<LogIdOf<Standard>>>,
    messages: u64,
    took: u64,
}

/// Writes under leaders that are cut off, over and over.
async fn story<C: TestTypes>(seed: u64) -> (Cluster<C>, Vec<(u64, u64)>, Vec<String>, u64) {
    let cluster = Cluster::<C>::of_with([1, 2, 3, 4, 5], config(), seed).await;
    let start = cluster.runtime.now();
    let mut rng = Rng::new(seed);
    let (mut leaders, mut answers) = (Vec::new(), Vec::new());
    cluster.router.set_delay(Duration::from_millis(1));
    for round in 0..6 {
        let leader = cluster.leader().await;
        leaders.push((leader, cluster.raft(leader).metrics().borrow().current_term));
        let mut writes = Vec::new();
        for i in 0..rng.next_u64() % 40 {
            let raft = cluster.raft(leader).clone();
            let timeout = Duration::from_millis(rng.next_u64() % 5_000).into();
            writes.push(tokio::spawn(async move {
                raft.client_write_with_deadline(put("a", format!("{round}-{i}")), timeout).await
            }));
        }
        cluster.router.isolate(leader);
        cluster.leader_other_than(&[leader]).await;
        cluster.router.heal();
        for write in writes {
            answers.push(format!("{:?}", write.await.unwrap()));
        }
    }
    let leader = cluster.leader().await;
    let last = cluster.write(leader, "a", "end").await;
    for id in 1..=5 {
        cluster.wait(id).applied_index_at_least(last, "applied").await.unwrap();
    }
    let took = cluster.runtime.now().since(start).as_nanos();
    (cluster, leaders, answers, took)
}

fn run(seed: u64) -> Trace {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (cluster, leaders, answers, took) = story::<Standard>(seed).await;
        let mut applied = Vec::new();
        for id in 1..=5 {
            let raft = cluster.raft(id);
            applied.push(raft.with_state_machine(|map: &mut Map<Standard>| map.applied.clone()).await.unwrap());
        }
        Trace { leaders, answers, applied, messages: cluster.router.messages(), took }
    })
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let mut differ = 0;
    for seed in 1..=5 {
        let (once, twice) = (run(seed), run(seed));
        assert_eq!(once, twice, "seed {seed}");
        for applied in &once.applied[1..] {
            assert_eq!(applied, &once.applied[0], "seed {seed}: all have applied the same");
        }
        differ += usize::from(once != run(seed + 100));
    }
    assert_eq!(differ, 5, "another seed gives another run");
}
