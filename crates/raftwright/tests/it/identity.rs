//! Servers that are not who the others know.

use std::collections::BTreeSet;

use raftwright::{Client, ClientError, Outcome, RequestError, Server};

use crate::logs::line_with;
use crate::tally::{PATIENCE, Tally, add, all_bound, insist, leader_of, patient_client, three};

#[tokio::test]
async fn a_wiped_server_under_its_old_id_is_refused_and_told_why() {
    let mut cluster = three().await;
    let client = patient_client(&cluster);
    client.write(add("a", 1)).await.unwrap();
    let leader = leader_of(&cluster).await;
    all_bound(cluster.server(leader).unwrap()).await;
    let victim = cluster.running().into_iter().find(|id| *id != leader).unwrap();
    let known = cluster.server(victim).unwrap().incarnation();
    cluster.stop(victim).await.unwrap();
    std::fs::remove_dir_all(cluster.data_dir(victim)).unwrap();
    cluster.start(victim).await.unwrap();

    let wiped = cluster.server(victim).unwrap();
    let now = wiped.incarnation();
    assert_ne!(known, now);
    let (known, now) = (format!("{known:016x}"), format!("{now:016x}"));
    // Both sides say so: the others refuse it, and it says that it was refused.
    line_with(&["connection refused", "its disk was emptied", &known, &now]).await;
    line_with(&["connection to a peer not opened", "its disk was emptied", &known, &now]).await;

    // The others go on without it, and it has no part in what they do.
    assert_eq!(client.write(add("a", 1)).await.unwrap(), 2);
    assert!(matches!(wiped.write(add("a", 1)).await, Err(RequestError::NotLeader { .. })));
    assert_eq!(wiped.stale("a".into()).await.unwrap(), 0);
    // Removed and added again, it is welcome.
    let others: BTreeSet<u64> = cluster.running().into_iter().filter(|id| *id != victim).collect();
    insist(async || client.change_membership(others.clone(), false).await).await;
    insist(async || client.add_learner(victim, cluster.addr(victim).unwrap()).await).await;
    let leader = cluster.server(leader_of(&cluster).await).unwrap();
    all_bound(leader).await;
}

#[tokio::test]
async fn a_server_of_another_cluster_is_refused_and_told_why() {
    let cluster = three().await;
    patient_client(&cluster).write(add("a", 1)).await.unwrap();
    let temp = tempfile::tempdir().unwrap();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let own = socket.local_addr().unwrap().to_string();
    let stray = Server::<Tally>::builder()
        .id(4)
        .data_dir(temp.path().join("4"))
        .socket(socket)
        .cluster_name("another")
        .initial_cluster([(4, own.as_str()), (1, cluster.addr(1).unwrap())])
        .start(Tally::default())
        .await
        .unwrap();
    let theirs = cluster.server(1).unwrap().cluster_id().unwrap();
    let strays = stray.cluster_id().unwrap();
    assert_ne!(theirs, strays);
    line_with(&["wrong cluster", &theirs.to_string(), &strays.to_string()]).await;
    assert_eq!(stray.status().leader, None);
    assert_eq!(patient_client(&cluster).write(add("a", 1)).await.unwrap(), 2);

    // A client that has met one cluster does not follow to another.
    let client = Client::<Tally>::connect([cluster.addr(1).unwrap(), &own]).with_deadline(PATIENCE);
    client.read("a".into()).await.unwrap();
    let error = client.status_of(&own).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert!(matches!(&error, ClientError::Server(RequestError::Refused(text)) if text.contains("cluster")), "{error}");
    stray.shutdown().await;
}

#[tokio::test]
async fn a_server_that_has_joined_a_cluster_does_not_begin_another() {
    let mut cluster = three().await;
    patient_client(&cluster).write(add("a", 1)).await.unwrap();
    let id = cluster.server(2).unwrap().cluster_id();
    let dir = cluster.data_dir(2);
    let addr = cluster.addr(2).unwrap().to_owned();
    cluster.stop(2).await.unwrap();
    let other_list = Server::<Tally>::builder()
        .id(2)
        .data_dir(&dir)
        .listen(addr.clone())
        .initial_cluster([(2, addr.as_str())])
        .start(Tally::default())
        .await
        .unwrap();
    assert_eq!(other_list.cluster_id(), id, "it stays in its cluster, whatever the list says now");
    assert_eq!(other_list.client().with_deadline(PATIENCE).write(add("a", 1)).await.unwrap(), 2);
    assert!(other_list.init([(2, addr)]).await.unwrap_err().to_string().contains("belongs to a cluster"));
    other_list.shutdown().await;
}
