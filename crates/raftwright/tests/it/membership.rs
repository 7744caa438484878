//! Clusters that begin with one server and grow.

use std::collections::BTreeSet;
use std::time::Duration;

use raftwright::{
    Client, ClientError, Config, InitError, MEMBER_ADDR_BYTES_MAX, Outcome, RequestError, Server, UnknownReason,
};
use tempfile::TempDir;

use crate::tally::{PATIENCE, Tally, add, catch_up, insist, leader_of, led_by_one, patient_client};

async fn blank(id: u64, temp: &TempDir) -> Server<Tally> {
    crate::logs::capture();
    let builder = Server::builder().id(id).data_dir(temp.path().join(id.to_string())).listen("127.0.0.1:0");
    builder.start(Tally::default()).await.unwrap()
}

#[tokio::test]
async fn one_blank_server_is_initialized_and_others_are_added() {
    let temp = tempfile::tempdir().unwrap();
    let servers = [blank(1, &temp).await, blank(2, &temp).await, blank(3, &temp).await];
    let [first, second, third] = &servers;
    assert_eq!(first.cluster_id(), None);
    assert!(matches!(second.write(add("a", 1)).await, Err(RequestError::NotLeader { leader: None })));
    assert!(matches!(first.init([(2, "x:1")]).await, Err(InitError::NotAmongMembers { id: 1 })));
    first.init([(1, first.advertised_addr())]).await.unwrap();
    assert!(matches!(first.init([(1, "x:1")]).await, Err(InitError::BelongsToCluster { id: 1 })));

    let client = Client::<Tally>::connect([first.advertised_addr()]).with_deadline(PATIENCE);
    assert_eq!(client.write(add("a", 1)).await.unwrap(), 1);
    for server in [second, third] {
        insist(async || client.add_learner(server.id(), server.advertised_addr()).await).await;
    }
    insist(async || client.change_membership(BTreeSet::from([1, 2, 3]), false).await).await;
    for server in [second, third] {
        catch_up(server, first).await;
        assert_eq!(server.cluster_id(), first.cluster_id(), "learned from the leader");
        assert_eq!(server.stale("a".into()).await.unwrap(), 1);
        assert!(matches!(server.init([(server.id(), "x:1")]).await, Err(InitError::BelongsToCluster { .. })));
        // A client in any server's process reaches the leader.
        server.client().with_deadline(PATIENCE).write(add("b", 1)).await.unwrap();
    }
    let members = client.members().await.unwrap();
    assert!(members.members.iter().all(|member| member.voter), "{members:?}");

    insist(async || {
        client.transfer_leader(2).await?;
        // Asked, it may still lose the election; then it is asked again.
        let wait = second.raft().wait(Some(Duration::from_secs(2))).current_leader(2, "it was asked to");
        wait.await.map_err(|late| ClientError::Unknown { last: late.to_string() })
    })
    .await;
    assert_eq!(client.write(add("b", 1)).await.unwrap(), 3);
    insist(async || client.change_membership(BTreeSet::from([1, 2]), true).await).await;
    insist(async || client.remove_learners(BTreeSet::from([3])).await).await;
    assert_eq!(client.members().await.unwrap().members.len(), 2);
    let nobody = client.change_membership(BTreeSet::from([9]), false).await.unwrap_err();
    assert!(matches!(nobody, ClientError::Server(RequestError::Refused(_))), "{nobody}");
    for server in servers {
        server.shutdown().await;
    }
}

#[tokio::test]
async fn blank_servers_named_by_the_first_join_by_themselves() {
    let temp = tempfile::tempdir().unwrap();
    let servers = [blank(1, &temp).await, blank(2, &temp).await, blank(3, &temp).await];
    let members: Vec<(u64, &str)> = servers.iter().map(|server| (server.id(), server.advertised_addr())).collect();
    servers[0].init(members).await.unwrap();
    assert_eq!(servers[2].client().with_deadline(PATIENCE).write(add("a", 1)).await.unwrap_or(0), 1);
    let ids: BTreeSet<_> = servers.iter().map(Server::cluster_id).collect();
    assert!(ids.contains(&servers[0].cluster_id()));
    for server in servers {
        server.shutdown().await;
    }
}

/// An entry that fits into no frame would reach no follower, and nothing behind it would be committed any more.
#[tokio::test]
async fn an_address_beyond_the_bound_is_refused_before_it_is_written() {
    let cluster = led_by_one().await;
    let client = patient_client(&cluster);
    for too_long in [MEMBER_ADDR_BYTES_MAX + 1, 60 << 20] {
        let error = client.add_learner(9, "x".repeat(too_long)).await.unwrap_err();
        assert!(matches!(error, ClientError::Server(RequestError::Refused(_))), "{error}");
        assert_eq!(error.outcome(), Outcome::NotApplied);
    }
    client.write(add("a", 1)).await.unwrap();
    insist(async || client.add_learner(9, "x".repeat(MEMBER_ADDR_BYTES_MAX)).await).await;
    client.write(add("a", 1)).await.unwrap();
    let temp = tempfile::tempdir().unwrap();
    let blank = blank(7, &temp).await;
    let error = blank.init([(7, "x".repeat(MEMBER_ADDR_BYTES_MAX + 1))]).await.unwrap_err();
    assert!(matches!(error, InitError::Failed(_)) && error.outcome() == Outcome::NotApplied, "{error}");
    blank.init([(7, blank.advertised_addr())]).await.unwrap();
    blank.shutdown().await;
    cluster.shutdown().await;
}

/// The target was asked, and may have heard it: when it does not take over in time, it may do so later.
#[tokio::test]
async fn a_transfer_that_takes_too_long_may_come_about_yet() {
    let config = Config { election_timeout_min: 300, election_timeout_max: 600, ..Config::default() };
    let mut cluster = raftwright::Cluster::local_with(3, config, Tally::default).await.unwrap();
    let client = patient_client(&cluster);
    client.write(add("a", 1)).await.unwrap();
    let leader = leader_of(&cluster).await;
    let target = leader % 3 + 1;
    // It has all that the leader has, so it is asked at once; it only cannot answer.
    catch_up(cluster.server(target).unwrap(), cluster.server(leader).unwrap()).await;
    cluster.stop(target).await.unwrap();
    // A leader that loses its place meanwhile says that instead.
    let late = ClientError::Server(RequestError::Unknown(UnknownReason::Deadline));
    let mut errors = Vec::new();
    while !errors.contains(&late) {
        errors.push(client.transfer_leader(target).await.unwrap_err());
        assert!(errors.len() < 20 && errors.iter().all(|error| error.outcome() == Outcome::Unknown), "{errors:?}");
    }
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_learner_that_is_wiped_is_no_member_any_more() {
    let mut cluster = led_by_one().await;
    let client = patient_client(&cluster);
    insist(async || client.change_membership(BTreeSet::from([1, 2]), true).await).await;
    assert_eq!(client.members().await.unwrap().members.len(), 3, "the third is a learner");
    cluster.wipe(3).await.unwrap();
    let left: Vec<u64> = client.members().await.unwrap().members.iter().map(|member| member.id).collect();
    assert_eq!(left, [1, 2]);
    cluster.shutdown().await;
}

/// Who names only those whose vote it gives or takes undoes no change that it has not heard of.
#[tokio::test]
async fn votes_are_given_and_taken_one_by_one() {
    let cluster = led_by_one().await;
    let client = patient_client(&cluster);
    let voters_are = async |ids: &[u64]| {
        let wait = cluster.server(1).unwrap().raft().wait(Some(PATIENCE));
        let ids: BTreeSet<u64> = ids.iter().copied().collect();
        let seen =
            wait.metrics(|m| m.membership_config.membership.voter_ids().collect::<BTreeSet<_>>() == ids, "voters");
        seen.await.unwrap();
    };
    // Made again because its fate was unknown, it is refused if it was made.
    let remove = async |id, retain| match client.remove_voters(BTreeSet::from([id]), retain).await {
        Err(ClientError::Server(RequestError::Refused(_))) => Ok(0),
        other => other,
    };
    for (gone, left) in [(3, vec![1, 2]), (2, vec![1])] {
        insist(async || remove(gone, true).await).await;
        voters_are(&left).await;
    }
    for (come, now) in [(2, vec![1, 2]), (3, vec![1, 2, 3]), (3, vec![1, 2, 3])] {
        insist(async || client.add_voters(BTreeSet::from([come])).await).await;
        voters_are(&now).await;
    }
    insist(async || remove(2, false).await).await;
    for nobody in [client.remove_voters(BTreeSet::from([2]), true).await, client.add_voters(BTreeSet::from([2])).await]
    {
        let error = nobody.unwrap_err();
        assert!(matches!(error, ClientError::Server(RequestError::Refused(_))), "{error}");
    }
    voters_are(&[1, 3]).await;
    cluster.shutdown().await;
}
