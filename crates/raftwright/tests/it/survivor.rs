//! A cluster that has lost its majority for good.

use std::collections::BTreeSet;
use std::time::Duration;

use raftwright::wal::{DataDirError, SnapshotDir};
use raftwright::{Config, Outcome, Server, SurvivorError, begin_anew};

use crate::tally::{PATIENCE, Tally, add, catch_up, insist, leader_of, patient_client, three};

#[tokio::test]
async fn one_of_three_begins_anew_and_the_rest_of_the_old_cluster_is_refused() {
    let mut cluster = three().await;
    let client = patient_client(&cluster);
    for _ in 0..5 {
        client.write(add("a", 1)).await.unwrap();
    }
    let leader = leader_of(&cluster).await;
    catch_up(cluster.server(1).unwrap(), cluster.server(leader).unwrap()).await;
    let old_id = cluster.server(1).unwrap().cluster_id();
    for id in 1..=3 {
        cluster.stop(id).await.unwrap();
    }
    let (dir, addr) = (cluster.data_dir(1), cluster.addr(1).unwrap().to_owned());
    cluster.start(1).await.unwrap();
    let running = begin_anew(&dir, &addr).await.unwrap_err();
    assert!(matches!(running, SurvivorError::DataDir(DataDirError::Locked { .. })), "{running}");
    let one_of_three = cluster.server(1).unwrap().client().with_deadline(Duration::from_millis(300));
    assert_eq!(one_of_three.write(add("a", 1)).await.unwrap_err().outcome(), Outcome::NotApplied);
    cluster.stop(1).await.unwrap();

    let begun = begin_anew(&dir, &addr).await.unwrap();
    assert_eq!((begun.id, begun.old_cluster), (1, old_id));
    assert_eq!(begun.membership_index, begun.last_index + 1);
    // Who is not sure that it was done does it again.
    let again = begin_anew(&dir, &addr).await.unwrap();
    assert_eq!((again.old_cluster, again.last_index), (Some(begun.new_cluster), begun.membership_index));

    cluster.start(1).await.unwrap();
    let first = cluster.server(1).unwrap();
    let alone = first.client().with_deadline(PATIENCE);
    assert_eq!(alone.read("a".into()).await.unwrap(), 5, "what it had is there");
    assert_eq!(alone.write(add("a", 1)).await.unwrap(), 6);
    assert_eq!(first.members().members.iter().map(|m| (m.id, m.voter)).collect::<Vec<_>>(), [(1, true)]);
    assert_eq!(first.cluster_id(), Some(again.new_cluster));

    // One that was thought to be gone comes back, and finds a cluster that is not its own.
    cluster.start(2).await.unwrap();
    let first = cluster.server(1).unwrap();
    let refused = async {
        while first.connections().unwrap().refused == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("it asks the first");
    let returned = cluster.server(2).unwrap();
    assert_eq!((returned.cluster_id(), returned.status().leader), (old_id, None));
    cluster.stop(2).await.unwrap();

    // The cluster grows again, by new servers.
    let first = cluster.server(1).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let builder = Server::builder().id(4).data_dir(temp.path().join("4")).listen("127.0.0.1:0");
    let fourth: Server<Tally> = builder.start(Tally::default()).await.unwrap();
    insist(async || alone.add_learner(4, fourth.advertised_addr()).await).await;
    insist(async || alone.change_membership(BTreeSet::from([1, 4]), false).await).await;
    catch_up(&fourth, first).await;
    assert_eq!(fourth.stale("a".into()).await.unwrap(), 6);
    fourth.shutdown().await;
    cluster.shutdown().await;
}

#[tokio::test]
async fn what_cannot_be_begun_with_is_left_as_it_was() {
    let temp = tempfile::tempdir().unwrap();
    let missing = temp.path().join("missing");
    assert!(begin_anew(&missing, "h:1").await.is_err());
    assert!(!missing.exists(), "and nothing is made");

    let blank = temp.path().join("blank");
    let builder = Server::builder().id(1).data_dir(&blank).listen("127.0.0.1:0");
    let server: Server<Tally> = builder.start(Tally::default()).await.unwrap();
    server.shutdown().await;
    assert!(matches!(begin_anew(&blank, "h:1").await, Err(SurvivorError::Nothing)));

    let builder = Server::builder().id(1).data_dir(&blank).listen("127.0.0.1:0");
    let server: Server<Tally> = builder.start(Tally::default()).await.unwrap();
    server.init([(1, server.advertised_addr())]).await.unwrap();
    server.client().with_deadline(PATIENCE).write(add("a", 1)).await.unwrap();
    let (old_id, last) = (server.cluster_id(), server.status().last_log_index.unwrap());
    server.shutdown().await;
    // As after a crash between installing a snapshot and purging the log.
    let snapshots = SnapshotDir::open(blank.join("snapshots")).unwrap();
    drop(snapshots.create().unwrap().commit(last + 10, b"").unwrap());
    drop(snapshots);
    let ahead = begin_anew(&blank, "h:1").await.unwrap_err();
    assert!(
        matches!(ahead, SurvivorError::SnapshotAhead { snapshot, log } if (snapshot, log) == (last + 10, last)),
        "{ahead}"
    );
    let inspector = raftwright::wal::Inspector::open(raftwright::wal::RealDisk, &blank).unwrap();
    assert_eq!(inspector.identity().unwrap().cluster_id, old_id.map(|id| id.0));
    assert_eq!(inspector.verify().unwrap().extent.last.unwrap().index, last);
}

/// What its snapshot held, its log does not hold any more.
#[tokio::test]
async fn a_server_that_lost_its_snapshot_begins_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let config = Config { max_in_snapshot_log_to_keep: 0, ..Config::default() };
    let builder = Server::builder().id(1).data_dir(temp.path()).listen("127.0.0.1:0").config(config);
    let server: Server<Tally> = builder.start(Tally::default()).await.unwrap();
    server.init([(1, server.advertised_addr())]).await.unwrap();
    server.client().with_deadline(PATIENCE).write(add("a", 1)).await.unwrap();
    let index = server.snapshot().await.unwrap();
    let wait = server.raft().wait(Some(PATIENCE));
    wait.metrics(|metrics| metrics.purged.is_some_and(|purged| purged.index == index), "purged").await.unwrap();
    let old_id = server.cluster_id();
    server.shutdown().await;
    for snapshot in std::fs::read_dir(temp.path().join("snapshots")).unwrap() {
        std::fs::remove_file(snapshot.unwrap().path()).unwrap();
    }
    let lost = begin_anew(temp.path(), "h:1").await.unwrap_err();
    assert!(matches!(lost, SurvivorError::StateLost { purged } if purged == index), "{lost}");
    let inspector = raftwright::wal::Inspector::open(raftwright::wal::RealDisk, temp.path()).unwrap();
    assert_eq!(inspector.identity().unwrap().cluster_id, old_id.map(|id| id.0));
}
