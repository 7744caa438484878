//! Snapshots: when they are built, how they get to others, and what of the log may go for them.

use std::collections::BTreeSet;
use std::time::Duration;

use raftwright_node::{RaftMetrics, ServerState};
use raftwright_traits::{
    ClientWriteError, Config, EmptyNode, LogIdOption, LogIndex, RaftError, SnapshotPolicy, UnknownReason,
};

use crate::fixture::{Cluster, Map, TestTypes, config, put, with_both_leader_ids};

with_both_leader_ids!(
    by_hand_a_snapshot_is_built_and_the_log_purged,
    by_entries,
    by_bytes,
    by_either,
    by_no_policy,
    the_policy_changes_while_the_node_runs,
    entries_go_on_being_applied_while_a_snapshot_is_built,
    a_build_that_fails_is_noted_and_the_node_goes_on,
    a_restart_begins_with_the_snapshot,
    a_restart_finds_the_membership_behind_the_snapshot,
    a_follower_behind_a_purge_gets_the_snapshot_and_then_the_log,
    a_new_member_gets_the_snapshot,
    a_log_that_is_purged_during_a_transfer_costs_no_more_than_another,
    an_interrupted_transfer_is_taken_up_with_the_same_snapshot,
    a_transfer_delays_nobody_else,
    a_crash_before_the_commit_point_leaves_the_old_state,
    a_crash_between_install_and_purge_is_made_up_for,
    what_contradicts_an_installed_snapshot_is_dropped_at_the_start,
    a_writer_whose_entry_went_into_a_snapshot_is_told_so,
    entries_are_kept_for_those_who_lack_them_up_to_a_bound,
    a_slow_state_machine_costs_no_election,
    under_load_followers_that_come_and_go_catch_up,
);

/// Keeps what is said in the settings, and builds nothing by itself.
fn by_hand() -> Config {
    Config { snapshot_policy: SnapshotPolicy::Never, max_in_snapshot_log_to_keep: 0, ..config() }
}

fn followers<C: TestTypes>(cluster: &Cluster<C>, leader: u64) -> Vec<u64> {
    cluster.nodes.keys().copied().filter(|id| *id != leader).collect()
}

impl<C: TestTypes> Cluster<C> {
    async fn write_many(&self, leader: u64, name: &str, count: u64) -> LogIndex {
        let mut last = 0;
        for at in 0..count {
            last = self.write(leader, &format!("{name}{at}"), at).await;
        }
        last
    }

    /// Has a snapshot built that holds all that is applied now.
    async fn snapshot(&self, id: u64) -> LogIndex {
        let applied = self.raft(id).metrics().borrow().last_applied.index_or_zero();
        self.raft(id).trigger().snapshot().await.unwrap();
        self.wait(id).snapshot_at_least(applied, "a snapshot by hand").await.unwrap().snapshot.index_or_zero()
    }

    /// Has a snapshot built, and deletes the log that it stands for.
    async fn snapshot_and_purge(&self, id: u64) -> LogIndex {
        let upto = self.snapshot(id).await;
        self.raft(id).trigger().purge_log(upto).await.unwrap();
        self.wait(id).metrics(|m| m.purged.index_or_zero() >= upto, "purged by hand").await.unwrap();
        upto
    }

    /// Waits until this node has the state of that one.
    async fn has_caught_up(&self, id: u64, with: u64) {
        let goal = self.raft(with).metrics().borrow().last_applied.index_or_zero();
        self.wait(id).applied_index_at_least(goal, "has caught up").await.unwrap();
        assert_eq!(self.values(id).await, self.values(with).await);
    }

    async fn values(&self, id: u64) -> Vec<(String, String)> {
        let look = |map: &mut Map<C>| map.values.clone().into_iter().collect();
        self.raft(id).with_state_machine(look).await.unwrap()
    }

    /// The first entry that this node's state machine has applied, or the last one in the snapshot that it was made of.
    async fn began_with(&self, id: u64) -> LogIndex {
        self.raft(id).with_state_machine(|map: &mut Map<C>| map.applied[0].index).await.unwrap()
    }

    fn term(&self, id: u64) -> u64 {
        self.raft(id).metrics().borrow().current_term
    }
}

async fn by_hand_a_snapshot_is_built_and_the_log_purged<C: TestTypes>() {
    let mut cluster = Cluster::<C>::of_with([1], Config { max_in_snapshot_log_to_keep: 1_000, ..by_hand() }, 7).await;
    let last = cluster.write_many(1, "a", 20).await;
    assert!(cluster.raft(1).get_snapshot().await.unwrap().is_none());
    cluster.raft(1).trigger().purge_log(last).await.unwrap();
    assert_eq!(
        cluster.raft(1).with_raft_state(|replica| replica.purged()).await.unwrap(),
        None,
        "no snapshot, no purge"
    );

    assert_eq!(cluster.snapshot(1).await, last);
    let snapshot = cluster.raft(1).get_snapshot().await.unwrap().unwrap();
    assert_eq!(snapshot.meta.last_log_id.index_or_zero(), last);
    assert_eq!(snapshot.meta.last_membership.membership.configs(), [BTreeSet::from([1])]);
    cluster.raft(1).trigger().snapshot().await.unwrap();
    cluster.write(1, "b", 1).await;
    assert_eq!(cluster.shelves[&1].built(), 1, "there was nothing new to put into another");

    cluster.raft(1).trigger().purge_log(last - 5).await.unwrap();
    let metrics = cluster.wait(1).metrics(|m| m.purged.is_some(), "purged").await.unwrap();
    assert_eq!(metrics.purged.index_or_zero(), last - 5);
    cluster.raft(1).trigger().purge_log(last + 100).await.unwrap();
    let metrics = cluster.wait(1).metrics(|m| m.purged.index_or_zero() > last - 5, "purged").await.unwrap();
    assert_eq!(metrics.purged.index_or_zero(), last, "never past the snapshot");
    cluster.wait(1).purged(metrics.purged, "and no further").await.unwrap();
    cluster.wait(1).snapshot(metrics.snapshot.unwrap(), "this one").await.unwrap();

    cluster.stop(1).await;
    cluster.start(1).await.unwrap();
    cluster.wait(1).applied_index_at_least(last + 1, "the snapshot, and the log behind it").await.unwrap();
    assert_eq!(cluster.began_with(1).await, last);
    assert_eq!(cluster.get(1, "a19").await, Some("19".to_owned()));
}

async fn by_policy<C: TestTypes>(policy: SnapshotPolicy, built_at_least: u64) {
    let config = Config { snapshot_policy: policy, max_in_snapshot_log_to_keep: 3, ..config() };
    let cluster = Cluster::<C>::of_with([1, 2, 3], config, 7).await;
    let leader = cluster.leader().await;
    let last = cluster.write_many(leader, "key", 100).await;
    for id in [1, 2, 3] {
        cluster.wait(id).snapshot_at_least(last - 25, "every node builds its own").await.unwrap();
        cluster.wait(id).metrics(|m| m.purged.next_index() > m.snapshot.index_or_zero() - 3, "purged").await.unwrap();
        let metrics = cluster.raft(id).metrics().borrow().clone();
        assert_eq!(metrics.purged.index_or_zero(), metrics.snapshot.index_or_zero() - 3, "the settings keep three");
        assert!(cluster.shelves[&id].built() >= built_at_least, "{}", cluster.shelves[&id].built());
        assert!(cluster.shelves[&id].built() <= built_at_least + 3, "{}", cluster.shelves[&id].built());
    }
    assert!(cluster.router.snapshots().is_empty(), "nobody was in need of one");
}

async fn by_entries<C: TestTypes>() {
    by_policy::<C>(SnapshotPolicy::LogsSinceLast(20), 4).await;
}

async fn by_bytes<C: TestTypes>() {
    // What an entry counts for, by its own account.
    let size = raftwright_traits::RaftEntry::size(&<C::Entry as raftwright_traits::FromAppData<String>>::from_app_data(
        put("key50", 50),
    )) as u64;
    by_policy::<C>(SnapshotPolicy::BytesSinceLast(20 * size), 4).await;
}

async fn by_either<C: TestTypes>() {
    by_policy::<C>(SnapshotPolicy::Either { logs: 20, bytes: 1 << 40 }, 4).await;
}

async fn the_policy_changes_while_the_node_runs<C: TestTypes>() {
    let cluster = Cluster::<C>::of_with([1], by_hand(), 7).await;
    cluster.write_many(1, "a", 50).await;
    assert_eq!(cluster.shelves[&1].built(), 0);
    let settings = cluster.raft(1).runtime_config();
    settings.snapshot_policy(SnapshotPolicy::LogsSinceLast(20)).await.unwrap();
    let last = cluster.write_many(1, "b", 30).await;
    cluster.wait(1).snapshot_at_least(last - 20, "the new policy").await.unwrap();
    settings.snapshot_policy(SnapshotPolicy::Never).await.unwrap();
    let built = cluster.shelves[&1].built();
    cluster.write_many(1, "c", 50).await;
    assert_eq!(cluster.shelves[&1].built(), built);
    assert!(settings.snapshot_policy(SnapshotPolicy::LogsSinceLast(0)).await.is_err(), "always is no policy");
}

async fn by_no_policy<C: TestTypes>() {
    let cluster = Cluster::<C>::of_with([1], by_hand(), 7).await;
    cluster.write_many(1, "key", 300).await;
    assert_eq!(cluster.shelves[&1].built(), 0);
    assert_eq!(cluster.raft(1).metrics().borrow().purged, None);
}

async fn entries_go_on_being_applied_while_a_snapshot_is_built<C: TestTypes>() {
    let cluster = Cluster::<C>::of_with([1], by_hand(), 7).await;
    let begun_at = cluster.write_many(1, "a", 10).await;
    let shelf = &cluster.shelves[&1];
    shelf.builds.close();
    cluster.raft(1).trigger().snapshot().await.unwrap();
    shelf.builds.reached().await;
    let last = cluster.write_many(1, "b", 10).await;
    cluster.raft(1).trigger().snapshot().await.unwrap();
    cluster.write(1, "c", 1).await;
    assert_eq!(cluster.raft(1).metrics().borrow().snapshot, None, "it is not there yet");
    shelf.builds.open();
    let metrics = cluster.wait(1).snapshot_at_least(begun_at, "built").await.unwrap();
    assert_eq!(metrics.snapshot.index_or_zero(), begun_at, "it holds what was applied when it was begun");
    assert!(metrics.last_applied.index_or_zero() > last);
    let (_, content) = shelf.newest().unwrap();
    assert!(!String::from_utf8(content).unwrap().contains('b'));
    assert_eq!(shelf.built(), 1, "one at a time");
}

async fn a_build_that_fails_is_noted_and_the_node_goes_on<C: TestTypes>() {
    let config = Config { snapshot_policy: SnapshotPolicy::LogsSinceLast(10), ..config() };
    let cluster = Cluster::<C>::of_with([1], config, 7).await;
    let shelf = &cluster.shelves[&1];
    shelf.fail_builds(true);
    let last = cluster.write_many(1, "a", 35).await;
    assert_eq!(shelf.built(), 0);
    assert_eq!(cluster.raft(1).metrics().borrow().snapshot, None);
    assert!(cluster.raft(1).metrics().borrow().running_state.is_ok());
    shelf.fail_builds(false);
    cluster.write_many(1, "b", 12).await;
    cluster.wait(1).snapshot_at_least(last, "the policy asks again").await.unwrap();
    assert_eq!(
        cluster.snapshot(1).await,
        cluster.raft(1).metrics().borrow().last_applied.index_or_zero(),
        "by hand too"
    );
}

async fn a_restart_begins_with_the_snapshot<C: TestTypes>() {
    let mut cluster = Cluster::<C>::of_with([1, 2, 3], by_hand(), 7).await;
    let leader = cluster.leader().await;
    cluster.write_many(leader, "a", 10).await;
    for id in [1, 2, 3] {
        cluster.has_caught_up(id, leader).await;
        cluster.snapshot_and_purge(id).await;
    }
    let upto = cluster.write_many(leader, "b", 10).await;
    for id in [1, 2, 3] {
        cluster.wait(id).applied_index_at_least(upto, "all have all").await.unwrap();
    }
    for id in [1, 2, 3] {
        cluster.stop(id).await;
    }
    for id in [1, 2, 3] {
        cluster.start(id).await.unwrap();
        assert_eq!(cluster.shelves[&id].installed(), 1);
        let metrics = cluster.raft(id).metrics().borrow().clone();
        assert!(metrics.snapshot.is_some() && metrics.last_applied >= metrics.snapshot);
    }
    let leader = cluster.leader().await;
    cluster.write(leader, "c", 1).await;
    for id in [1, 2, 3] {
        cluster.has_caught_up(id, leader).await;
        assert_eq!(cluster.get(id, "a3").await, Some("3".to_owned()));
        assert_eq!(cluster.get(id, "b3").await, Some("3".to_owned()));
    }
    assert!(cluster.router.snapshots().is_empty(), "each had its own");
}

/// A cluster of three in which one follower lacks what the leader has purged: leader, that follower, and the purged index.
async fn one_behind<C: TestTypes>() -> (Cluster<C>, u64, u64, LogIndex) {
    let cluster = Cluster::<C>::of_with([1, 2, 3], by_hand(), 7).await;
    let leader = cluster.leader().await;
    cluster.write_many(leader, "early", 5).await;
    let behind = followers(&cluster, leader)[0];
    cluster.has_caught_up(behind, leader).await;
    cluster.router.isolate(behind);
    cluster.write_many(leader, "a", 20).await;
    let purged = cluster.snapshot_and_purge(leader).await;
    cluster.write_many(leader, "b", 10).await;
    (cluster, leader, behind, purged)
}

async fn a_follower_behind_a_purge_gets_the_snapshot_and_then_the_log<C: TestTypes>() {
    let (cluster, leader, behind, purged) = one_behind::<C>().await;
    let term = cluster.term(leader);
    cluster.router.heal();
    cluster.has_caught_up(behind, leader).await;
    assert_eq!(cluster.began_with(behind).await, purged);
    assert_eq!(cluster.shelves[&behind].installed(), 1);
    let metrics = cluster.raft(behind).metrics().borrow().clone();
    assert_eq!((metrics.snapshot.index_or_zero(), metrics.purged.index_or_zero()), (purged, purged));
    cluster.write(leader, "c", 1).await;
    cluster.has_caught_up(behind, leader).await;
    assert_eq!(cluster.router.snapshots().len(), 1, "one is enough");
    assert_eq!(cluster.term(leader), term);
    assert!(cluster.raft(leader).metrics().borrow().snapshots_sending.is_empty());
}

async fn a_new_member_gets_the_snapshot<C: TestTypes>() {
    let mut cluster = Cluster::<C>::of_with([1, 2], by_hand(), 7).await;
    let leader = cluster.leader().await;
    cluster.write_many(leader, "a", 20).await;
    let purged = cluster.snapshot_and_purge(leader).await;
    cluster.write_many(leader, "b", 3).await;
    cluster.add_blank(3).await;
    cluster.raft(leader).add_learner(3, EmptyNode {}, true).await.unwrap();
    cluster.raft(leader).change_membership(BTreeSet::from([1, 2, 3]), false).await.unwrap();
    cluster.has_caught_up(3, leader).await;
    assert_eq!(cluster.began_with(3).await, purged);
    cluster.wait(3).state(ServerState::Follower, "it votes").await.unwrap();
    cluster.wait(3).voters([1, 2, 3], "and knows who does").await.unwrap();
}

async fn a_log_that_is_purged_during_a_transfer_costs_no_more_than_another<C: TestTypes>() {
    let (cluster, leader, behind, first) = one_behind::<C>().await;
    cluster.router.pieces().close();
    cluster.router.heal();
    cluster.router.pieces().reached().await;
    let sending = cluster.raft(leader).metrics().borrow().snapshots_sending.clone();
    assert_eq!(sending.get(&behind).map(|last| last.index), Some(first), "observers see the transfer");
    cluster.write_many(leader, "c", 10).await;
    let second = cluster.snapshot_and_purge(leader).await;
    assert!(second > first);
    cluster.write_many(leader, "d", 10).await;
    cluster.router.pieces().open();
    cluster.has_caught_up(behind, leader).await;
    assert_eq!(cluster.began_with(behind).await, second);
    assert_eq!(cluster.router.snapshots().len(), 2);
}

async fn an_interrupted_transfer_is_taken_up_with_the_same_snapshot<C: TestTypes>() {
    let (cluster, leader, behind, first) = one_behind::<C>().await;
    let pieces = cluster.router.pieces();
    pieces.close();
    cluster.router.heal();
    for broken in 1..=3 {
        pieces.reached().await;
        assert_eq!(cluster.router.snapshots().len(), broken);
        cluster.write_many(leader, "c", 10).await;
        // Newer ones are built all the time; what is on its way still leads to the log that is there.
        cluster.snapshot(leader).await;
        cluster.router.break_connections();
        pieces.open();
        let count = |m: &raftwright_node::RaftMetrics<C>| m.snapshots_sending.is_empty();
        cluster.wait(leader).metrics(count, "the transfer has ended").await.unwrap();
        pieces.close();
    }
    pieces.open();
    cluster.has_caught_up(behind, leader).await;
    assert_eq!(cluster.began_with(behind).await, first);
    let sent = cluster.router.snapshots();
    assert!(sent.len() >= 4 && sent.iter().all(|one| *one == sent[0]), "{sent:?}");
}

async fn a_transfer_delays_nobody_else<C: TestTypes>() {
    let (cluster, leader, behind, _) = one_behind::<C>().await;
    let term = cluster.term(leader);
    cluster.router.pieces().close();
    cluster.router.heal();
    cluster.router.pieces().reached().await;
    let other = followers(&cluster, leader).into_iter().find(|id| *id != behind).unwrap();
    // Many election timeouts, on a clock that only moves when nothing runs.
    for _ in 0..20 {
        cluster.write(leader, "c", 1).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.has_caught_up(other, leader).await;
    }
    for id in [1, 2, 3] {
        assert_eq!(cluster.term(id), term);
        assert_eq!(cluster.raft(id).metrics().borrow().current_leader, Some(leader));
    }
    cluster.router.pieces().open();
    cluster.has_caught_up(behind, leader).await;
}

async fn a_crash_before_the_commit_point_leaves_the_old_state<C: TestTypes>() {
    let (mut cluster, leader, behind, purged) = one_behind::<C>().await;
    let before = cluster.values(behind).await;
    let installs = cluster.shelves[&behind].installs.clone();
    installs.close();
    cluster.router.heal();
    installs.reached().await;
    cluster.crash(behind);
    cluster.router.isolate(behind);
    cluster.start(behind).await.unwrap();
    let hint = cluster.raft(behind).metrics().borrow().committed.index_or_zero();
    cluster.wait(behind).applied_index_at_least(hint, "what it knew to be committed").await.unwrap();
    let metrics = cluster.raft(behind).metrics().borrow().clone();
    assert_eq!((metrics.snapshot, metrics.purged), (None, None));
    assert!(metrics.last_log_id.index_or_zero() < purged);
    let after = cluster.values(behind).await;
    assert!(before.starts_with(&after), "the old state, as far as it is known to be committed");
    cluster.router.heal();
    cluster.has_caught_up(behind, leader).await;
    assert_eq!(cluster.began_with(behind).await, purged);
}

async fn a_crash_between_install_and_purge_is_made_up_for<C: TestTypes>() {
    let (mut cluster, leader, behind, purged) = one_behind::<C>().await;
    cluster.crash(behind);
    let (meta, content) = cluster.shelves[&leader].newest().unwrap();
    cluster.shelves[&behind].keep(meta, content);
    cluster.start(behind).await.unwrap();
    let metrics = cluster.wait(behind).metrics(|m| m.purged.is_some(), "the log follows").await.unwrap();
    assert_eq!((metrics.purged.index_or_zero(), metrics.last_log_id.index_or_zero()), (purged, purged));
    assert_eq!(cluster.began_with(behind).await, purged);
    // And so it is found at the next start.
    cluster.stop(behind).await;
    cluster.start(behind).await.unwrap();
    cluster.router.heal();
    cluster.has_caught_up(behind, leader).await;
    assert!(cluster.router.snapshots().is_empty(), "the log behind it is still here");
}

/// Raft §6: a server uses the latest configuration in its log, regardless of whether the entry is committed. Here the state
/// machine knows an older one; the log of the snapshot is still there, and then it is not.
async fn a_restart_finds_the_membership_behind_the_snapshot<C: TestTypes>() {
    for max_in_snapshot_log_to_keep in [1_000, 0] {
        let config = Config { max_in_snapshot_log_to_keep, ..by_hand() };
        let mut cluster = Cluster::<C>::of_with([1, 2, 3], config, 7).await;
        let leader = cluster.leader().await;
        cluster.write_many(leader, "a", 3).await;
        match max_in_snapshot_log_to_keep {
            0 => cluster.snapshot_and_purge(leader).await,
            _ => cluster.snapshot(leader).await,
        };
        let purged = cluster.raft(leader).metrics().borrow().purged;
        assert_eq!(purged.is_some(), max_in_snapshot_log_to_keep == 0);
        cluster.router.isolate(leader);
        let raft = cluster.raft(leader).clone();
        let change = tokio::spawn(async move { raft.add_learner(9, EmptyNode {}, false).await });
        let knows = |metrics: &RaftMetrics<C>| metrics.membership_config.membership.contains(&9);
        cluster.wait(leader).metrics(knows, "in its log").await.unwrap();
        cluster.crash(leader);
        cluster.start(leader).await.unwrap();
        let metrics = cluster.raft(leader).metrics().borrow().clone();
        assert!(metrics.snapshot.is_some() && knows(&metrics), "{metrics:?}");
        change.abort();
    }
}

async fn what_contradicts_an_installed_snapshot_is_dropped_at_the_start<C: TestTypes>() {
    let mut cluster = Cluster::<C>::of_with([1, 2, 3], by_hand(), 7).await;
    let old = cluster.leader().await;
    cluster.write_many(old, "a", 3).await;
    cluster.router.isolate(old);
    // Never committed: longer than what the others commit in its place, and with a membership at the end.
    let raft = cluster.raft(old).clone();
    let writes: Vec<_> = (0..40).map(|at| raft.client_write(put("lost", at))).collect();
    let change = raft.add_learner(9, EmptyNode {}, false);
    let writes = writes.into_iter().map(|write| tokio::time::timeout(Duration::from_millis(1), write));
    let _ = tokio::join!(tokio::time::timeout(Duration::from_millis(1), change), async {
        for write in writes {
            let _ = write.await;
        }
    });
    let lost = raft.metrics().borrow().last_log_id.index_or_zero();
    drop(raft);
    let new = cluster.leader_other_than(&[old]).await;
    cluster.write_many(new, "b", 10).await;
    let purged = cluster.snapshot_and_purge(new).await;
    assert!(lost > purged, "{lost} {purged}");
    cluster.crash(old);
    cluster.logs[&old].hear_of(&cluster.raft(new).metrics().borrow().vote.unwrap());
    let (meta, content) = cluster.shelves[&new].newest().unwrap();
    cluster.shelves[&old].keep(meta, content);
    cluster.start(old).await.unwrap();
    let metrics = cluster.wait(old).metrics(|m| m.purged.is_some(), "the log follows").await.unwrap();
    assert_eq!(metrics.last_log_id.index_or_zero(), purged, "nothing of the old leader's is left");
    assert!(metrics.membership_config.membership.node(&9).is_none());
    cluster.router.heal();
    cluster.write(new, "c", 1).await;
    cluster.has_caught_up(old, new).await;
}

async fn a_writer_whose_entry_went_into_a_snapshot_is_told_so<C: TestTypes>() {
    let cluster = Cluster::<C>::of_with([1, 2, 3], by_hand(), 7).await;
    let old = cluster.leader().await;
    cluster.write_many(old, "a", 3).await;
    cluster.router.isolate(old);
    let raft = cluster.raft(old).clone();
    let write = tokio::spawn(async move { raft.client_write(put("unknown", 1)).await });
    let new = cluster.leader_other_than(&[old]).await;
    cluster.write_many(new, "b", 10).await;
    cluster.snapshot_and_purge(new).await;
    cluster.write(new, "c", 1).await;
    cluster.router.heal();
    cluster.has_caught_up(old, new).await;
    let told = write.await.unwrap();
    assert_eq!(told, Err(RaftError::APIError(ClientWriteError::Unknown(UnknownReason::Snapshot))));
}

async fn entries_are_kept_for_those_who_lack_them_up_to_a_bound<C: TestTypes>() {
    let config = Config {
        snapshot_policy: SnapshotPolicy::LogsSinceLast(10),
        max_in_snapshot_log_to_keep: 0,
        log_keep_for_followers_max: 50,
        ..config()
    };
    let cluster = Cluster::<C>::of_with([1, 2, 3], config, 7).await;
    let leader = cluster.leader().await;
    cluster.write_many(leader, "a", 10).await;
    let [away, there] = followers(&cluster, leader)[..] else { panic!() };
    cluster.has_caught_up(away, leader).await;
    let has = cluster.raft(away).metrics().borrow().last_log_id.index_or_zero();
    cluster.router.isolate(away);
    cluster.write_many(leader, "b", 40).await;
    let purged = |id| cluster.raft(id).metrics().borrow().purged.index_or_zero();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(purged(leader) <= has, "what the one that is away lacks is kept");
    assert!(purged(there) > has, "by the leader alone");
    cluster.router.heal();
    cluster.has_caught_up(away, leader).await;
    assert!(cluster.router.snapshots().is_empty());

    let has = cluster.raft(away).metrics().borrow().last_log_id.index_or_zero();
    cluster.router.isolate(away);
    cluster.write_many(leader, "c", 100).await;
    let past = |m: &raftwright_node::RaftMetrics<C>| m.purged.index_or_zero() > has;
    cluster.wait(leader).metrics(past, "up to a bound").await.unwrap();
    cluster.router.heal();
    cluster.has_caught_up(away, leader).await;
    assert!(!cluster.router.snapshots().is_empty());
}

async fn a_slow_state_machine_costs_no_election<C: TestTypes>() {
    let config = Config { snapshot_policy: SnapshotPolicy::LogsSinceLast(50), ..config() };
    let cluster = Cluster::<C>::of_with([1, 2, 3], config, 7).await;
    let leader = cluster.leader().await;
    let term = cluster.term(leader);
    // An apply that takes five seconds, on every node, in the middle of writes that never cease.
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let raft = cluster.raft(leader).clone();
            tokio::spawn(async move {
                for at in 0..100 {
                    let command =
                        if writer == 0 && at == 50 { "slow".to_owned() } else { put(&format!("w{writer}"), at) };
                    raft.client_write(command).await.unwrap();
                }
            })
        })
        .collect();
    let begun = cluster.runtime_now();
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(cluster.runtime_now().since(begun).as_millis() >= 5_000, "it was slow");
    for id in [1, 2, 3] {
        cluster.has_caught_up(id, leader).await;
        assert_eq!(cluster.term(id), term, "and nobody stood for election");
        assert_eq!(cluster.raft(id).metrics().borrow().current_leader, Some(leader));
    }
}

async fn under_load_followers_that_come_and_go_catch_up<C: TestTypes>() {
    let config = Config {
        snapshot_policy: SnapshotPolicy::LogsSinceLast(25),
        max_in_snapshot_log_to_keep: 5,
        log_keep_for_followers_max: 40,
        ..config()
    };
    let mut cluster = Cluster::<C>::of_with([1, 2, 3], config, 7).await;
    cluster.router.set_delay(Duration::from_millis(1));
    let leader = cluster.leader().await;
    let term = cluster.term(leader);
    let raft = cluster.raft(leader).clone();
    let writer = tokio::spawn(async move {
        for at in 0..2_000 {
            raft.client_write(put(&format!("key{}", at % 100), at)).await.unwrap();
        }
    });
    for round in 0..10 {
        let id = followers(&cluster, leader)[round % 2];
        match round % 3 {
            0 => cluster.crash(id),
            _ => cluster.stop(id).await,
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
        cluster.start(id).await.unwrap();
        let applied = cluster.raft(leader).metrics().borrow().last_applied.index_or_zero();
        cluster.wait(id).applied_index_at_least(applied, "it catches up under load").await.unwrap();
    }
    writer.await.unwrap();
    for id in [1, 2, 3] {
        cluster.has_caught_up(id, leader).await;
        assert_eq!(cluster.get(id, "key99").await, Some("1999".to_owned()));
    }
    assert_eq!(cluster.term(leader), term, "a follower that comes and goes costs no election");
    assert!(!cluster.router.snapshots().is_empty(), "some had to be sent a snapshot");
}
