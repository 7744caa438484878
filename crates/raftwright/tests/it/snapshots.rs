//! Snapshots of whole servers: files, sockets, restarts.

use raftwright::{Cluster, Config, LogIdOption, SnapshotPolicy};

use crate::tally::{PATIENCE, Tally, add, catch_up, leader_of, patient_client};

/// A snapshot every 50 entries, and almost nothing of the log kept behind it.
async fn cluster() -> Cluster<Tally> {
    crate::logs::capture();
    let config = Config {
        snapshot_policy: SnapshotPolicy::LogsSinceLast(50),
        max_in_snapshot_log_to_keep: 5,
        log_keep_for_followers_max: 20,
        ..Config::default()
    };
    Cluster::local_with(3, config, Tally::default).await.unwrap()
}

async fn write(cluster: &Cluster<Tally>, count: u64) {
    let client = patient_client(cluster);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..10 {
        let client = client.clone();
        writers.spawn(async move {
            for _ in 0..count / 10 {
                client.write(add(&format!("{writer}"), 1)).await.unwrap();
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
}

async fn purged(cluster: &Cluster<Tally>, id: u64, at_least: u64) {
    let wait = cluster.server(id).unwrap().raft().wait(Some(PATIENCE));
    wait.metrics(|metrics| metrics.purged.index_or_zero() >= at_least, "the log is purged").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_begins_with_the_snapshot_and_the_log_behind_it() {
    let mut cluster = cluster().await;
    write(&cluster, 200).await;
    for id in 1..=3 {
        purged(&cluster, id, 100).await;
    }
    let applied = cluster.server(1).unwrap().status().applied_index;
    assert!(applied.is_some());
    for id in 1..=3 {
        cluster.stop(id).await.unwrap();
    }
    for id in 1..=3 {
        assert!(std::fs::read_dir(cluster.data_dir(id).join("snapshots")).unwrap().count() >= 1);
        cluster.start(id).await.unwrap();
        let status = cluster.server(id).unwrap().status();
        assert!(status.snapshot_index >= Some(100) && status.applied_index >= status.snapshot_index, "{status:?}");
    }
    let client = patient_client(&cluster);
    for writer in 0..10 {
        assert_eq!(client.write(add(&format!("{writer}"), 1)).await.unwrap(), 21, "counted once, each of them");
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_was_away_too_long_gets_a_snapshot() {
    let mut cluster = cluster().await;
    write(&cluster, 20).await;
    let leader = leader_of(&cluster).await;
    let away = if leader == 1 { 2 } else { 1 };
    let had = cluster.server(away).unwrap().status().last_log_index.unwrap();
    cluster.stop(away).await.unwrap();
    write(&cluster, 400).await;
    // Whoever may come to lead has nothing but a snapshot to give.
    for id in cluster.running() {
        purged(&cluster, id, had + 1).await;
    }
    let leader = leader_of(&cluster).await;
    cluster.start(away).await.unwrap();
    let back = cluster.server(away).unwrap();
    catch_up(back, cluster.server(leader).unwrap()).await;
    assert!(back.status().snapshot_index.unwrap_or(0) > had, "it was sent one: {:?}", back.status());
    for writer in 0..10 {
        assert_eq!(back.stale(format!("{writer}")).await.unwrap(), 42);
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_server_is_replaced_by_a_new_one() {
    let mut cluster = cluster().await;
    write(&cluster, 200).await;
    let leader = leader_of(&cluster).await;
    purged(&cluster, leader, 100).await;
    let old = if leader == 1 { 2 } else { 1 };
    cluster.wipe(old).await.unwrap();
    assert!(!cluster.data_dir(old).exists());
    let new = cluster.add().await.unwrap();
    assert_eq!(new, 4, "an id is never used again");
    let leader = leader_of(&cluster).await;
    write(&cluster, 10).await;
    catch_up(cluster.server(new).unwrap(), cluster.server(leader).unwrap()).await;
    assert!(cluster.server(new).unwrap().status().snapshot_index.is_some(), "the log alone does not lead there");
    for writer in 0..10 {
        assert_eq!(cluster.server(new).unwrap().stale(format!("{writer}")).await.unwrap(), 21);
    }
    let members = cluster.server(new).unwrap().members().members;
    assert_eq!(members.iter().filter(|member| member.voter).count(), 3);
    // And it starts again with what it has.
    cluster.stop(new).await.unwrap();
    cluster.start(new).await.unwrap();
    write(&cluster, 10).await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_built_by_hand() {
    crate::logs::capture();
    let config = Config { snapshot_policy: SnapshotPolicy::Never, ..Config::default() };
    let cluster = Cluster::<Tally>::local_with(1, config, Tally::default).await.unwrap();
    write(&cluster, 50).await;
    let server = cluster.server(1).unwrap();
    assert_eq!(server.status().snapshot_index, None);
    let applied = server.status().applied_index.unwrap();
    assert_eq!(server.snapshot().await.unwrap(), applied);
    assert_eq!(server.snapshot().await.unwrap(), applied, "there is nothing new to put into another");
    cluster.shutdown().await;
}
