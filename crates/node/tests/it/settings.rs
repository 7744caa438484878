//! Settings that change while a node runs.

use std::time::Duration;

use raftwright_node::ServerState;
use raftwright_traits::{Config, Fatal, RaftError, ReloadError};

use crate::fixture::{Cluster, TestTypes, config, with_both_leader_ids};

with_both_leader_ids!(
    a_leader_without_heartbeats_gives_way,
    heartbeats_by_hand_keep_a_leadership,
    alone_a_leader_leads_on_without_heartbeats,
    elections_are_switched_off_and_on,
    asking_before_an_election_is_switched_off,
    some_settings_reload_and_others_are_named,
);

const LONG: Duration = Duration::from_secs(5);

async fn a_leader_without_heartbeats_gives_way<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    cluster.raft(leader).runtime_config().heartbeat(false).await.unwrap();
    let next = cluster.leader_other_than(&[leader]).await;
    assert_ne!(next, leader);
    cluster.raft(leader).runtime_config().heartbeat(true).await.unwrap();
    cluster.write(cluster.leader().await, "a", 1).await;
}

/// The twin of the one before: what a leader's own clock does not do any more, its caller does.
async fn heartbeats_by_hand_keep_a_leadership<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let term = cluster.raft(leader).metrics().borrow().current_term;
    cluster.raft(leader).runtime_config().heartbeat(false).await.unwrap();
    // Ten of the longest election timeouts, on a clock that only moves when nothing runs.
    for _ in 0..60 {
        cluster.raft(leader).trigger().heartbeat().await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for id in [1, 2, 3] {
        let metrics = cluster.raft(id).metrics().borrow().clone();
        assert_eq!((metrics.current_term, metrics.current_leader), (term, Some(leader)), "server {id}");
    }
}

async fn alone_a_leader_leads_on_without_heartbeats<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1]).await;
    cluster.raft(1).runtime_config().tick(false).await.unwrap();
    let gone = cluster.raft(1).wait(Some(LONG)).metrics(|m| m.state != ServerState::Leader, "leads no more").await;
    assert!(gone.is_err(), "{gone:?}");
    cluster.write(1, "a", 1).await;
}

async fn elections_are_switched_off_and_on<C: TestTypes>() {
    let mut cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let others: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
    for id in &others {
        cluster.raft(*id).runtime_config().elect(false).await.unwrap();
    }
    cluster.stop(leader).await;
    let campaign = |m: &raftwright_node::RaftMetrics<C>| !matches!(m.state, ServerState::Follower);
    let any = cluster.raft(others[0]).wait(Some(LONG)).metrics(campaign, "campaigns").await;
    assert!(any.is_err(), "{any:?}");
    cluster.raft(others[0]).runtime_config().elect(true).await.unwrap();
    cluster.wait(others[1]).current_leader(others[0], "the only one that campaigns").await.unwrap();
}

async fn asking_before_an_election_is_switched_off<C: TestTypes>() {
    let mut cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let (a, b) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    cluster.stop(leader).await;
    cluster.stop(b).await;
    let term = cluster.raft(a).metrics().borrow().current_term;
    let later = cluster.raft(a).wait(Some(LONG)).metrics(|m| m.current_term > term, "a later term").await;
    assert!(later.is_err(), "it asks, and nobody says yes: {later:?}");
    cluster.raft(a).runtime_config().pre_vote(false).await.unwrap();
    cluster.wait(a).metrics(|m| m.current_term > term + 1, "it campaigns without asking").await.unwrap();
}

async fn some_settings_reload_and_others_are_named<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1]).await;
    let raft = cluster.raft(1);
    let faster = Config { heartbeat_interval: 10, reads_max: 7, ..config() };
    assert_eq!(raft.runtime_config().reload(faster.clone()).await, Ok(()));
    assert_eq!(*raft.config(), faster);
    let refused =
        raft.runtime_config().reload(Config { reads_max: 8, election_timeout_min: 151, ..faster.clone() }).await;
    let named = ReloadError::Fixed { setting: "election_timeout_min".to_owned() };
    assert_eq!(refused, Err(RaftError::APIError(named)));
    let refused = raft.runtime_config().reload(Config { reads_max: 0, ..faster.clone() }).await;
    assert!(matches!(refused, Err(RaftError::APIError(ReloadError::Invalid(_)))), "{refused:?}");
    assert_eq!(*raft.config(), faster, "nothing was changed");
    raft.shutdown().await.unwrap();
    assert_eq!(raft.runtime_config().elect(true).await, Err(RaftError::Fatal(Fatal::Stopped)));
}
