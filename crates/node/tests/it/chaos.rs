//! Everything at once, from a seed: cut links, broken connections, hung disks, stopped servers, transfers. Whatever happens,
//! what was acknowledged is there in the end, once, on every server.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use raftwright_core::Rng;
use raftwright_traits::{ClientWriteError, RaftError};

use crate::fixture::{Advanced, Cluster, Holding, Map, Router, Standard, TestTypes, config, put};

const SERVERS: u64 = 5;
const CLIENTS: u64 = 4;
const ACTIONS: u32 = 40;

/// Writes keys of its own to any server, until it is told to stop. Says which were acknowledged.
async fn client<C: TestTypes>(router: Router<C>, id: u64, mut rng: Rng, stop: Arc<AtomicBool>) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    let mut server = 1;
    for n in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        // Thinks for a while; a server that is not there is not asked.
        tokio::time::sleep(Duration::from_millis(1 + rng.next_u64() % 20)).await;
        let Some(raft) = router.node(server) else {
            server = server % SERVERS + 1;
            continue;
        };
        let key = format!("{id}-{n}");
        match raft.client_write_with_deadline(put(&key, id), Duration::from_millis(700).into()).await {
            Ok(response) => {
                assert_eq!(response.data, None, "{key} was written once");
                assert!(acknowledged.insert(key));
            }
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                server = forward.leader_id.unwrap_or(server % SERVERS + 1);
            }
            Err(_) => server = server % SERVERS + 1,
        }
    }
    acknowledged
}

async fn act<C: TestTypes>(cluster: &mut Cluster<C>, rng: &mut Rng, down: &mut Option<u64>) {
    let server = rng.next_u64() % SERVERS + 1;
    match rng.next_u64() % 10 {
        0 | 1 => cluster.router.isolate(server),
        2 => cluster.router.mute([rng.next_u64() % SERVERS + 1].into_iter(), server),
        3 | 4 => cluster.router.heal(),
        5 => cluster.router.break_connections(),
        6 => cluster.logs[&server].set(Holding::Writes),
        7 => cluster.logs.values().for_each(|log| log.release()),
        8 => match down.take() {
            Some(server) => {
                // What a stopped server's disk held back is written or not; here it is.
                cluster.logs[&server].release();
                cluster.start(server).await.unwrap();
            }
            None => {
                cluster.stop(server).await;
                *down = Some(server);
            }
        },
        _ => {
            if let Some(raft) = cluster.router.node(server) {
                let to = rng.next_u64() % SERVERS + 1;
                drop(tokio::spawn(async move { raft.transfer_leader(to).await }));
            }
        }
    }
}

async fn story<C: TestTypes>(seed: u64) {
    let mut cluster = Cluster::<C>::of_with(1..=SERVERS, config(), seed).await;
    let mut rng = Rng::new(seed);
    cluster.router.set_delay(Duration::from_millis(rng.next_u64() % 4));
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for id in 0..CLIENTS {
        let (router, rng) = (cluster.router.clone(), Rng::new(rng.next_u64()));
        clients.push(tokio::spawn(client(router, id, rng, Arc::clone(&stop))));
    }
    let mut down = None;
    for _ in 0..ACTIONS {
        act(&mut cluster, &mut rng, &mut down).await;
        tokio::time::sleep(Duration::from_millis(rng.next_u64() % 500)).await;
    }
    cluster.router.heal();
    cluster.logs.values().for_each(|log| log.release());
    if let Some(server) = down {
        cluster.start(server).await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    let mut acknowledged = BTreeSet::new();
    for client in clients {
        acknowledged.append(&mut client.await.unwrap());
    }
    assert!(!acknowledged.is_empty(), "seed {seed}");
    let last = loop {
        // A transfer may still be under way.
        let leader = cluster.leader().await;
        match cluster.raft(leader).client_write(put("end", 1)).await {
            Ok(response) => break response.log_id.index,
            Err(error) => assert!(matches!(error, RaftError::APIError(_)), "seed {seed}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let mut histories = Vec::new();
    for id in 1..=SERVERS {
        cluster.wait(id).applied_index_at_least(last, "applied").await.unwrap();
        let (keys, applied): (BTreeSet<String>, _) = cluster
            .raft(id)
            .with_state_machine(|map: &mut Map<C>| (map.values.keys().cloned().collect(), map.applied.clone()))
            .await
            .unwrap();
        let lost: Vec<_> = acknowledged.difference(&keys).collect();
        assert!(lost.is_empty(), "seed {seed}: server {id} has lost {lost:?}");
        histories.push(applied);
    }
    assert!(histories.iter().all(|history| history[..last as usize] == histories[0][..last as usize]), "seed {seed}");
    for id in 1..=SERVERS {
        cluster.stop(id).await;
    }
    assert_eq!(cluster.runtime.alive(), 0, "seed {seed}");
}

fn run(seeds: std::ops::RangeInclusive<u64>, story: impl AsyncFn(u64)) {
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(story(seed));
    }
}

#[test]
fn chaos_loses_nothing_with_standard_leader_ids() {
    run(1..=3, story::<Standard>);
}

#[test]
fn chaos_loses_nothing_with_advanced_leader_ids() {
    run(101..=103, story::<Advanced>);
}
