//! Writing and reading while servers come and go.

use raftwright::{Client, RequestError};

use crate::tally::{PATIENCE, Tally, add, catch_up, leader_of, led_by_one, patient_client, three};

#[tokio::test]
async fn what_is_written_can_be_read_at_every_server() {
    let cluster = three().await;
    let client = patient_client(&cluster);
    assert_eq!(client.write(add("a", 2)).await.unwrap(), 2);
    assert_eq!(client.write(add("a", 3)).await.unwrap(), 5);
    assert_eq!(client.read("a".into()).await.unwrap(), 5);
    let leader = leader_of(&cluster).await;
    for id in cluster.running() {
        let server = cluster.server(id).unwrap();
        assert_eq!(server.client().with_deadline(PATIENCE).read("a".into()).await.unwrap(), 5, "through server {id}");
        catch_up(server, cluster.server(leader).unwrap()).await;
        assert_eq!(server.stale("a".into()).await.unwrap(), 5, "server {id}'s own copy");
    }
    assert_eq!(client.stale_read("b".into()).await.unwrap(), 0);
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_server_that_does_not_lead_says_who_does() {
    let cluster = led_by_one().await;
    patient_client(&cluster).write(add("a", 1)).await.unwrap();
    let leader = 1;
    let server = cluster.server(2).unwrap();
    server.raft().wait(None).current_leader(leader, "the follower knows").await.unwrap();
    match server.write(add("a", 1)).await.unwrap_err() {
        RequestError::NotLeader { leader: Some(hint) } => {
            assert_eq!((hint.id, hint.addr.as_str()), (leader, cluster.addr(leader).unwrap()));
        }
        other => panic!("{other}"),
    }
    assert_eq!(cluster.server(leader).unwrap().write(add("a", 1)).await.unwrap(), 2);
    // Reads it serves itself: it asks the leader how far it must be.
    assert_eq!(server.read("a".into()).await.unwrap(), 2);
    assert_eq!(cluster.server(leader).unwrap().read("a".into()).await.unwrap(), 2);
}

#[tokio::test]
async fn writes_go_on_when_the_leader_stops_and_it_comes_back_with_its_data() {
    let mut cluster = three().await;
    let client = patient_client(&cluster);
    assert_eq!(client.write(add("a", 1)).await.unwrap(), 1);
    let first = leader_of(&cluster).await;
    let incarnation = cluster.server(first).unwrap().incarnation();
    cluster.stop(first).await.unwrap();
    assert_eq!(client.write(add("a", 1)).await.unwrap(), 2);
    let second = leader_of(&cluster).await;
    assert_ne!(first, second);

    cluster.start(first).await.unwrap();
    let back = cluster.server(first).unwrap();
    assert_eq!(back.incarnation(), incarnation);
    assert_eq!(back.status().boot_epoch, 2);
    catch_up(back, cluster.server(second).unwrap()).await;
    assert_eq!(back.stale("a".into()).await.unwrap(), 2);
    cluster.shutdown().await;
}

#[tokio::test]
async fn nothing_is_lost_when_all_stop_and_start() {
    let mut cluster = three().await;
    let client = patient_client(&cluster);
    for _ in 0..20 {
        client.write(add("a", 1)).await.unwrap();
    }
    let cluster_id = cluster.server(1).unwrap().cluster_id();
    for id in 1..=3 {
        cluster.stop(id).await.unwrap();
    }
    for id in 1..=3 {
        cluster.start(id).await.unwrap();
    }
    assert_eq!(client.read("a".into()).await.unwrap(), 20, "with the client of before");
    assert_eq!(client.write(add("a", 1)).await.unwrap(), 21, "in the session of before");
    for id in 1..=3 {
        assert_eq!(cluster.server(id).unwrap().cluster_id(), cluster_id);
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_on_one_client_lose_and_double_nothing_when_the_leader_stops() {
    const WRITERS: u64 = 64;
    const WRITES: u64 = 30;
    let mut cluster = three().await;
    let client = patient_client(&cluster);
    client.write(add("total", 0)).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let client = client.clone();
        writers.spawn(async move {
            for write in 1..=WRITES {
                client.write(add("total", 1)).await.unwrap();
                let mine = client.write(add(&format!("writer {writer}"), 1)).await.unwrap();
                assert_eq!(mine, write, "writer {writer}");
            }
        });
    }
    let leader = leader_of(&cluster).await;
    cluster.stop(leader).await.unwrap();
    cluster.start(leader).await.unwrap();
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    assert_eq!(client.read("total".into()).await.unwrap(), WRITERS * WRITES);
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_cluster_of_one_serves() {
    crate::logs::capture();
    let mut cluster = raftwright::Cluster::<Tally>::local(1).await.unwrap();
    let client = patient_client(&cluster);
    assert_eq!(client.write(add("a", 1)).await.unwrap(), 1);
    cluster.stop(1).await.unwrap();
    cluster.start(1).await.unwrap();
    assert_eq!(client.read("a".into()).await.unwrap(), 1);
}

#[tokio::test]
async fn one_address_is_enough_to_find_the_leader() {
    let cluster = three().await;
    for id in 1..=3 {
        let client = Client::<Tally>::connect([cluster.addr(id).unwrap()]).with_deadline(PATIENCE);
        client.write(add("a", 1)).await.unwrap();
        let members = client.members().await.unwrap();
        assert_eq!(members.members.iter().map(|m| m.id).collect::<Vec<_>>(), [1, 2, 3]);
        let status = client.status_of(cluster.addr(id).unwrap()).await.unwrap();
        assert_eq!((status.id, status.failure), (id, None));
    }
}

/// Nothing that a shut down cluster has started runs any more, in this runtime.
#[test]
fn shutdown_leaves_no_task_and_no_lock() {
    crate::logs::capture();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut cluster = raftwright::Cluster::<Tally>::local(3).await.unwrap();
        let client = patient_client(&cluster);
        client.write(add("a", 1)).await.unwrap();
        for id in 1..=3 {
            cluster.stop(id).await.unwrap();
            let options = raftwright::wal::DataDirOptions { node_id: id, random: 1 };
            raftwright::wal::DataDir::open(raftwright::wal::RealDisk, &cluster.data_dir(id), options).unwrap();
        }
        drop(client);
        let metrics = tokio::runtime::Handle::current().metrics();
        // The client's connections end by themselves once nobody holds them; everything else has ended already.
        let quiet = async {
            while metrics.num_alive_tasks() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, quiet).await.unwrap();
    });
}

/// Dropping without a word ends everything too, only without waiting for it.
#[test]
fn dropping_a_cluster_ends_it() {
    crate::logs::capture();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let cluster = raftwright::Cluster::<Tally>::local(3).await.unwrap();
        patient_client(&cluster).write(add("a", 1)).await.unwrap();
        let dir = cluster.data_dir(1);
        drop(cluster);
        assert!(!dir.exists());
        let metrics = tokio::runtime::Handle::current().metrics();
        let quiet = async {
            while metrics.num_alive_tasks() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, quiet).await.unwrap();
    });
}
