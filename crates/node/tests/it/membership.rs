//! Members come and go.

use std::collections::BTreeSet;

use raftwright_node::ServerState;
use raftwright_traits::{
    ChangeConditions, ChangeMembers, ChangeMembershipError, ClientWriteError, EmptyNode, InitializeError, LogIdOption,
    MembershipError, RaftError,
};

use crate::fixture::{Cluster, TestTypes, put, with_both_leader_ids};

with_both_leader_ids!(
    a_blank_server_waits_to_be_told,
    a_server_is_initialized_once,
    a_first_membership_must_make_sense,
    a_cluster_grows_from_one_to_three,
    a_learner_that_is_waited_for_has_the_log,
    an_unreachable_learner_is_added_all_the_same,
    the_leader_can_be_removed,
    removed_voters_can_stay_as_learners,
    a_change_must_make_sense,
    a_change_depends_on_what_its_caller_saw,
    a_learner_becomes_a_voter_when_it_has_caught_up,
    a_change_that_cannot_finish_is_taken_back,
    one_server_takes_the_place_of_another,
    a_learner_is_a_learner_after_a_restart,
);

fn ids(ids: impl IntoIterator<Item = u64>) -> BTreeSet<u64> {
    ids.into_iter().collect()
}

async fn a_blank_server_waits_to_be_told<C: TestTypes>() {
    let cluster = Cluster::<C>::blank([1]).await;
    assert!(!cluster.raft(1).is_initialized().await.unwrap());
    let metrics = cluster.raft(1).metrics().borrow().clone();
    assert_eq!((metrics.state, metrics.current_leader, metrics.vote), (ServerState::Learner, None, None));
    match cluster.raft(1).client_write(put("a", 1)).await {
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => assert_eq!(forward.leader_id, None),
        other => panic!("{other:?}"),
    }
    let server = cluster.raft(1).server_metrics();
    cluster.raft(1).initialize(ids([1])).await.unwrap();
    assert!(cluster.raft(1).is_initialized().await.unwrap());
    cluster.wait(1).state(ServerState::Leader, "alone, it leads").await.unwrap();
    assert_eq!(server.borrow().state, ServerState::Leader, "the watch of a part is kept up to date");
    let json = serde_json::to_value(&*cluster.raft(1).metrics().borrow()).unwrap();
    assert_eq!((&json["state"], &json["current_leader"]), (&"Leader".into(), &1.into()));
    assert_eq!(json["running_state"], serde_json::json!({ "Ok": null }));
}

async fn a_server_is_initialized_once<C: TestTypes>() {
    let mut cluster = Cluster::<C>::blank([1, 2]).await;
    cluster.raft(1).initialize(ids([1])).await.unwrap();
    let again = Err(RaftError::APIError(InitializeError::AlreadyInitialized));
    assert_eq!(cluster.raft(1).initialize(ids([1])).await, again);
    cluster.wait(1).state(ServerState::Leader, "it leads").await.unwrap();
    assert_eq!(cluster.raft(1).initialize(ids([1, 2])).await, again);
    cluster.stop(1).await;
    cluster.start(1).await.unwrap();
    assert_eq!(cluster.raft(1).initialize(ids([1])).await, again, "also after a restart");
}

async fn a_first_membership_must_make_sense<C: TestTypes>() {
    let cluster = Cluster::<C>::blank([1]).await;
    let error = |error| Err(RaftError::APIError(error));
    assert_eq!(cluster.raft(1).initialize(ids([2, 3])).await, error(InitializeError::NotInMembership));
    let empty = InitializeError::Membership(MembershipError::EmptyVoters);
    assert_eq!(cluster.raft(1).initialize(ids([])).await, error(empty));
    assert!(!cluster.raft(1).is_initialized().await.unwrap());
}

async fn a_cluster_grows_from_one_to_three<C: TestTypes>() {
    let cluster = Cluster::<C>::blank([1, 2, 3]).await;
    cluster.raft(1).initialize(ids([1])).await.unwrap();
    cluster.wait(1).state(ServerState::Leader, "alone, it leads").await.unwrap();
    cluster.write(1, "a", 1).await;
    for id in [2, 3] {
        cluster.raft(1).add_learner(id, EmptyNode {}, true).await.unwrap();
        cluster.wait(id).state(ServerState::Learner, "a learner").await.unwrap();
    }
    let log_id = cluster.raft(1).change_membership(ids([1, 2, 3]), false).await.unwrap();
    let index = cluster.write(1, "b", 2).await;
    for id in [1, 2, 3] {
        cluster.wait(id).voters([1, 2, 3], "the new voters").await.unwrap();
        let metrics = cluster.wait(id).applied_index_at_least(index, "applied").await.unwrap();
        assert_eq!(metrics.membership_config.log_id, Some(log_id), "uniform, and its entry is the one returned");
        assert_eq!(cluster.get(id, "a").await, Some("1".to_owned()));
    }
    let metrics = cluster.raft(1).metrics().borrow().clone();
    let targets: Vec<u64> = metrics.replication.unwrap().into_keys().filter(|id| *id != 1).collect();
    assert_eq!(targets, [2, 3]);
    // Two of three are enough now, and one is not.
    cluster.router.isolate(3);
    cluster.write(1, "c", 3).await;
}

async fn a_learner_that_is_waited_for_has_the_log<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1]).await;
    let _late = Cluster::<C>::blank([9]).await;
    for i in 0..500 {
        cluster.write(1, "a", i).await;
    }
    let (log, learner) = {
        let mut cluster = Cluster::<C>::blank([2]).await;
        (cluster.logs.remove(&2).unwrap(), cluster.nodes.remove(&2).unwrap())
    };
    cluster.router.connect(2, learner.clone());
    let log_id = cluster.raft(1).add_learner(2, EmptyNode {}, true).await.unwrap();
    let metrics = learner.metrics().borrow().clone();
    assert!(metrics.last_log_id.index_or_zero() >= log_id.index, "it has the log when the call returns");
    assert_eq!(metrics.state, ServerState::Learner);
    drop(log);
}

async fn an_unreachable_learner_is_added_all_the_same<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1]).await;
    let log_id = cluster.raft(1).add_learner(2, EmptyNode {}, false).await.unwrap();
    let metrics = cluster.raft(1).metrics().borrow().clone();
    assert_eq!(metrics.membership_config.log_id, Some(log_id));
    assert!(metrics.membership_config.membership.learner_ids().eq([2]));
    cluster.write(1, "a", 1).await;
    cluster.raft(1).remove_learners(ids([2])).await.unwrap();
    let metrics = cluster.wait(1).metrics(|m| m.membership_config.membership.nodes().len() == 1, "gone").await.unwrap();
    assert!(!metrics.membership_config.membership.contains(&2));
    let is_voter = Err(RaftError::APIError(ChangeMembershipError::IsVoter(1)));
    assert_eq!(cluster.raft(1).remove_learners(ids([1])).await, is_voter);
}

async fn the_leader_can_be_removed<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    cluster.write(leader, "a", 1).await;
    let rest = ids([1, 2, 3].into_iter().filter(|id| *id != leader));
    cluster.raft(leader).change_membership(rest.clone(), false).await.unwrap();
    let next = cluster.leader_other_than(&[leader]).await;
    assert_ne!(next, leader);
    for id in &rest {
        cluster.wait(*id).voters(rest.clone(), "the rest votes").await.unwrap();
    }
    let index = cluster.write(next, "b", 2).await;
    for id in &rest {
        cluster.wait(*id).applied_index_at_least(index, "applied").await.unwrap();
    }
    cluster.wait(leader).metrics(|m| m.state != ServerState::Leader, "it leads no more").await.unwrap();
}

async fn removed_voters_can_stay_as_learners<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let gone = [1, 2, 3].into_iter().find(|id| *id != leader).unwrap();
    let rest = ids([1, 2, 3].into_iter().filter(|id| *id != gone));
    cluster.raft(leader).change_membership(rest.clone(), true).await.unwrap();
    let index = cluster.write(leader, "a", 1).await;
    cluster.wait(gone).state(ServerState::Learner, "a learner now").await.unwrap();
    cluster.wait(gone).applied_index_at_least(index, "it still gets the log").await.unwrap();
}

async fn a_change_must_make_sense<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let error = |error| Err(RaftError::APIError(ChangeMembershipError::Membership(error)));
    let raft = cluster.raft(leader);
    assert_eq!(raft.change_membership(ids([]), false).await, error(MembershipError::EmptyVoters));
    assert_eq!(raft.change_membership(ids([1, 2, 7]), false).await, error(MembershipError::VoterWithoutNode(7)));
    let (one, other) =
        tokio::join!(raft.change_membership(ids([leader]), true), raft.add_learner(8, EmptyNode {}, false),);
    assert!(one.is_ok());
    assert_eq!(other, Err(RaftError::APIError(ChangeMembershipError::InProgress)));
}

async fn a_change_depends_on_what_its_caller_saw<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let raft = cluster.raft(cluster.leader().await);
    raft.add_learner(9, EmptyNode {}, false).await.unwrap();
    let seen = raft.metrics().borrow().membership_config.log_id;
    raft.add_learner(8, EmptyNode {}, false).await.unwrap();
    let stale = ChangeConditions::<C> { membership: seen, leader: None, last_log_id: None };
    let remove = || ChangeMembers::<C>::RemoveNodes(ids([9]));
    let refused = raft.change_members(remove(), stale).await;
    assert_eq!(refused, Err(RaftError::APIError(ChangeMembershipError::ConditionFailed)));
    let membership = cluster.wait(raft.id()).metrics(|m| m.membership_config.log_id > seen, "told").await.unwrap();
    let fresh =
        ChangeConditions::<C> { membership: membership.membership_config.log_id, ..ChangeConditions::<C>::default() };
    raft.change_members(remove(), fresh).await.unwrap();
    let stranger = ChangeMembers::<C>::UpdateNodes([(77, EmptyNode {})].into());
    let refused = raft.change_members(stranger, ChangeConditions::<C>::default()).await;
    assert_eq!(refused, Err(RaftError::APIError(ChangeMembershipError::NotApplicable(77))));
}

async fn a_learner_becomes_a_voter_when_it_has_caught_up<C: TestTypes>() {
    let mut cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    cluster.raft(leader).add_learner(4, EmptyNode {}, false).await.unwrap();
    let promote = ChangeMembers::<C>::Promote(ids([4]));
    cluster.raft(leader).change_members(promote, ChangeConditions::<C>::default()).await.unwrap();
    for i in 0..10 {
        cluster.write(leader, "a", i).await;
    }
    // The server is not even there; and who was asked need not be the one that does it.
    cluster.stop(leader).await;
    let leader = cluster.leader().await;
    cluster.add_blank(4).await;
    let uniform = |m: &raftwright_node::RaftMetrics<C>| {
        let membership = &m.membership_config.membership;
        membership.is_voter(&4) && !membership.is_joint()
    };
    cluster.wait(leader).metrics(uniform, "4 votes").await.unwrap();
    cluster.wait(4).state(ServerState::Follower, "it knows").await.unwrap();
}

async fn a_change_that_cannot_finish_is_taken_back<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let raft = cluster.raft(leader).clone();
    let nothing = Err(RaftError::APIError(ChangeMembershipError::NothingToCancel));
    assert_eq!(raft.cancel_membership_change().await, nothing);
    for id in [4, 5] {
        raft.add_learner(id, EmptyNode {}, false).await.unwrap();
    }
    let asked = raft.clone();
    let change = tokio::spawn(async move { asked.change_membership(ids([1, 4, 5]), false).await });
    cluster.wait(leader).metrics(|m| m.membership_config.membership.is_joint(), "under way").await.unwrap();
    // Longer than any election timeout: the leader leads on, and confirms reads.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    raft.ensure_linearizable(raftwright_node::ReadPolicy::ReadIndex).await.unwrap();
    raft.cancel_membership_change().await.unwrap();
    assert_eq!(change.await.unwrap(), Err(RaftError::APIError(ChangeMembershipError::Cancelled)));
    cluster.write(leader, "a", 1).await;
    let membership = raft.metrics().borrow().membership_config.membership.clone();
    assert_eq!(membership.voter_ids().collect::<BTreeSet<_>>(), ids([1, 2, 3]));
}

async fn one_server_takes_the_place_of_another<C: TestTypes>() {
    let mut cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let old = [1, 2, 3].into_iter().find(|id| *id != leader).unwrap();
    cluster.add_blank(4).await;
    let replace = ChangeMembers::<C>::ReplaceNode { old, new: 4, node: EmptyNode {} };
    cluster.raft(leader).change_members(replace, ChangeConditions::<C>::default()).await.unwrap();
    let index = cluster.write(leader, "a", 1).await;
    cluster.wait(4).applied_index_at_least(index, "the new server has it").await.unwrap();
    let membership = cluster.raft(leader).metrics().borrow().membership_config.membership.clone();
    assert!(membership.is_voter(&4) && !membership.contains(&old));
}

/// BUGS 36: what a server finds in its own log decides, not that it was started.
async fn a_learner_is_a_learner_after_a_restart<C: TestTypes>() {
    let mut cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    cluster.add_blank(4).await;
    cluster.raft(leader).add_learner(4, EmptyNode {}, true).await.unwrap();
    let index = cluster.write(leader, "a", 1).await;
    cluster.wait(4).applied_index_at_least(index, "it has the log").await.unwrap();
    cluster.stop(4).await;
    // Nobody is there whom it could hear: a voter would stand for election.
    for id in [1, 2, 3] {
        cluster.router.isolate(id);
    }
    cluster.start(4).await.unwrap();
    let term = cluster.raft(4).metrics().borrow().current_term;
    let other = |m: &raftwright_node::RaftMetrics<C>| m.state != ServerState::Learner || m.current_term != term;
    let long = std::time::Duration::from_secs(5);
    assert!(cluster.raft(4).wait(Some(long)).metrics(other, "it campaigns").await.is_err());
    // By hand neither: nobody would count its vote.
    cluster.raft(4).trigger().elect().await.unwrap();
    assert!(cluster.raft(4).wait(Some(long)).metrics(other, "it campaigns").await.is_err());
    cluster.router.heal();
    let index = cluster.write(cluster.leader().await, "a", 2).await;
    cluster.wait(4).applied_index_at_least(index, "it follows again").await.unwrap();
    assert_eq!(cluster.raft(4).metrics().borrow().state, ServerState::Learner);
}
