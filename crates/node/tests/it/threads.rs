//! The same node on a runtime with threads: whatever they interleave, what was acknowledged was applied once, everywhere.

use std::collections::BTreeSet;

use raftwright_traits::{ClientWriteError, Config, Outcome, RaftError};

use crate::fixture::{Cluster, Map, Standard, TestTypes, put};

const CLIENTS: u64 = 32;
const WRITES: u64 = 200;

/// Writes its keys one after the other to whoever leads, and says which were acknowledged and which are unknown.
async fn client<C: TestTypes>(cluster: &Cluster<C>, id: u64) -> (Vec<String>, Vec<String>) {
    let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
    let mut leader = 1;
    for n in 0..WRITES {
        let key = format!("{id}-{n}");
        loop {
            match cluster.raft(leader).client_write(put(&key, id)).await {
                Ok(response) => {
                    assert_eq!(response.data, None, "{key} was written once");
                    acknowledged.push(key);
                    break;
                }
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => match forward.leader_id {
                    Some(next) if next != leader => leader = next,
                    Some(_) | None => leader = leader % 3 + 1,
                },
                Err(RaftError::APIError(error)) => match error.outcome() {
                    Outcome::NotApplied => {}
                    Outcome::Unknown => {
                        unknown.push(key);
                        break;
                    }
                },
                Err(RaftError::Fatal(fatal)) => panic!("{fatal}"),
            }
            tokio::task::yield_now().await;
        }
    }
    (acknowledged, unknown)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_acknowledged_was_applied_once_everywhere() {
    let config = Config {
        heartbeat_interval: 50,
        election_timeout_min: 1_000,
        election_timeout_max: 2_000,
        ..Config::default()
    };
    let cluster = std::sync::Arc::new(Cluster::<Standard>::of_with([1, 2, 3], config, 5).await);
    let mut clients = Vec::new();
    for id in 0..CLIENTS {
        let cluster = std::sync::Arc::clone(&cluster);
        clients.push(tokio::spawn(async move { client(&cluster, id).await }));
    }
    // The leadership goes round while they write, and connections break.
    for target in [2, 3, 1, 2] {
        let _ = cluster.raft(cluster.leader().await).transfer_leader(target).await;
        cluster.router.break_connections();
    }
    let (mut acknowledged, mut unknown) = (BTreeSet::new(), BTreeSet::new());
    for client in clients {
        let (of_client, unknown_of_client) = client.await.unwrap();
        acknowledged.extend(of_client);
        unknown.extend(unknown_of_client);
    }
    let leader = cluster.leader().await;
    let last = cluster.write(leader, "end", 1).await;
    for id in [1, 2, 3] {
        cluster.wait(id).applied_index_at_least(last, "applied").await.unwrap();
        let (keys, applied): (BTreeSet<String>, _) = cluster
            .raft(id)
            .with_state_machine(|map: &mut Map<Standard>| (map.values.keys().cloned().collect(), map.applied.clone()))
            .await
            .unwrap();
        assert!(applied.iter().map(|id| id.index).eq(1..=applied.len() as u64), "each entry once, in order");
        assert!(acknowledged.is_subset(&keys), "server {id} has all that was acknowledged");
        assert!(keys.iter().all(|key| key == "end" || acknowledged.contains(key) || unknown.contains(key)));
    }
    assert!(acknowledged.len() as u64 > CLIENTS * WRITES / 2);
    for id in [1, 2, 3] {
        cluster.raft(id).shutdown().await.unwrap();
    }
}
