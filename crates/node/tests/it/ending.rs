//! However a node ends, everybody who waits for it is answered: a test for each kind of waiter, by shutdown and by a failure.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::future::Future;
use std::io::Cursor;

use raftwright_core::{InstallSnapshotRequest, ReadIndexRequest, ReadPolicy};
use raftwright_node::{Raft, ServerState, WaitError, WriteResult};
use raftwright_traits::{
    AppendEntriesRequest, ChangeMembershipError, ClientWriteError, Config, EmptyNode, Fatal, HeartbeatRequest,
    Identity, InitializeError, LogIdOption, Membership, Outcome, RaftError, Round, Snapshot, SnapshotMeta,
    StoredMembership, TransferLeaderError, UnknownReason, Vote, VoteKind, VoteRequest,
};
use tokio::task::JoinHandle;

use crate::fixture::{Cluster, Holding, Map, TestTypes, config, put, with_both_leader_ids};

with_both_leader_ids!(
    a_write_that_waits_is_answered,
    writes_that_wait_together_are_answered,
    a_read_that_waits_is_answered,
    a_read_of_a_follower_that_waits_is_answered,
    a_change_of_the_membership_that_waits_is_answered,
    a_caller_that_waits_for_a_learner_is_answered,
    a_transfer_that_waits_is_answered,
    an_initialization_that_waits_is_answered,
    peers_that_wait_are_answered,
    a_leader_that_waits_for_its_snapshot_is_answered,
    closures_and_looks_at_snapshots_that_wait_are_answered,
    waits_are_answered,
    a_full_queue_of_those_who_wait_for_room_is_answered,
    what_outlives_the_last_handle_is_answered,
);

/// How a node ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Shutdown,
    /// A task of it panics.
    Failure,
}

const ENDS: [End; 2] = [End::Shutdown, End::Failure];

impl End {
    async fn come<C: TestTypes>(self, raft: &Raft<C>) {
        match self {
            End::Shutdown => raft.shutdown().await.unwrap(),
            End::Failure => {
                let told = raft.with_state_machine(|_: &mut Map<C>| panic!("told to panic")).await;
                assert!(matches!(told, Err(Fatal::Panicked(_))), "{told:?}");
                raft.wait(None).metrics(|m| m.running_state.is_err(), "it has stopped").await.unwrap();
            }
        }
    }

    fn is_why(self, fatal: &Fatal) -> bool {
        match self {
            End::Shutdown => *fatal == Fatal::Stopped,
            End::Failure => matches!(fatal, Fatal::Panicked(why) if why.contains("told to panic")),
        }
    }
}

/// Lets a caller wait, and looks whether it does: nothing answers it although everything has run that can.
async fn waiting<V>(waiter: impl Future<Output = V> + Send + 'static) -> JoinHandle<V>
where
    V: Send + Debug + 'static,
{
    let task = tokio::spawn(waiter);
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert!(!task.is_finished(), "it has nothing to wait for: {:?}", task.await);
    task
}

/// A leader that nobody answers and whose disk holds its writes back: nothing that needs either ever ends.
async fn stuck_leader<C: TestTypes>() -> (Cluster<C>, Raft<C>) {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    cluster.write(leader, "a", 0).await;
    cluster.router.isolate(leader);
    cluster.logs[&leader].set(Holding::Writes);
    let raft = cluster.raft(leader).clone();
    (cluster, raft)
}

/// A blank server whose disk holds its writes back.
async fn stuck_blank<C: TestTypes>() -> (Cluster<C>, Raft<C>) {
    let cluster = Cluster::<C>::blank_with([1], Config { enable_elect: false, ..config() }, 3).await;
    cluster.logs[&1].set(Holding::Writes);
    let raft = cluster.raft(1).clone();
    (cluster, raft)
}

async fn a_write_that_waits_is_answered<C: TestTypes>() {
    for end in ENDS {
        let (_cluster, raft) = stuck_leader::<C>().await;
        let caller = raft.clone();
        let waiter = waiting(async move { caller.client_write(put("a", 1)).await }).await;
        end.come(&raft).await;
        let error = waiter.await.unwrap().unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown);
        assert_eq!(error, RaftError::APIError(ClientWriteError::Unknown(UnknownReason::Stopped)));
    }
}

async fn writes_that_wait_together_are_answered<C: TestTypes>() {
    for end in ENDS {
        let (_cluster, raft) = stuck_leader::<C>().await;
        let mut many = raft.client_write_many([put("a", 1), put("a", 2)]).unwrap();
        let waiter = waiting(async move { [many.next().await, many.next().await, many.next().await] }).await;
        let blank = raft.clone();
        let blank = waiting(async move { blank.write_blank().await }).await;
        end.come(&raft).await;
        let unknown = || Err(RaftError::APIError(ClientWriteError::Unknown(UnknownReason::Stopped)));
        assert_eq!(waiter.await.unwrap(), [Some(unknown()), Some(unknown()), None]);
        assert_eq!(blank.await.unwrap(), unknown());
    }
}

async fn a_read_that_waits_is_answered<C: TestTypes>() {
    for end in ENDS {
        let (_cluster, raft) = stuck_leader::<C>().await;
        let (read, id, index) = (raft.clone(), raft.clone(), raft.clone());
        let read = waiting(async move { read.ensure_linearizable(ReadPolicy::ReadIndex).await }).await;
        let id = waiting(async move { id.get_read_log_id(ReadPolicy::ReadIndex).await }).await;
        let from = Identity { id: 2, incarnation: None };
        let request = ReadIndexRequest { from, policy: ReadPolicy::ReadIndex };
        let index = waiting(async move { index.read_index(request).await }).await;
        end.come(&raft).await;
        assert!(matches!(read.await.unwrap(), Err(RaftError::Fatal(fatal)) if end.is_why(&fatal)));
        assert!(matches!(id.await.unwrap(), Err(RaftError::Fatal(fatal)) if end.is_why(&fatal)));
        assert!(matches!(index.await.unwrap(), Err(fatal) if end.is_why(&fatal)));
    }
}

async fn a_read_of_a_follower_that_waits_is_answered<C: TestTypes>() {
    for end in ENDS {
        let cluster = Cluster::<C>::of([1, 2, 3]).await;
        let leader = cluster.leader().await;
        let raft = cluster.raft(leader % 3 + 1).clone();
        cluster.router.isolate(leader % 3 + 1);
        let read = raft.clone();
        let read = waiting(async move { read.ensure_linearizable(ReadPolicy::ReadIndex).await }).await;
        end.come(&raft).await;
        assert!(matches!(read.await.unwrap(), Err(RaftError::Fatal(fatal)) if end.is_why(&fatal)));
    }
}

async fn a_change_of_the_membership_that_waits_is_answered<C: TestTypes>() {
    let unknown = || Err(RaftError::APIError(ChangeMembershipError::Unknown(UnknownReason::Stopped)));
    for end in ENDS {
        let (_cluster, raft) = stuck_leader::<C>().await;
        let learner = raft.clone();
        let learner = waiting(async move { learner.add_learner(4, EmptyNode {}, false).await }).await;
        end.come(&raft).await;
        assert_eq!(learner.await.unwrap(), unknown());

        let (_cluster, raft) = stuck_leader::<C>().await;
        let change = raft.clone();
        let voters = BTreeSet::from([raft.id()]);
        let change = waiting(async move { change.change_membership(voters, false).await }).await;
        end.come(&raft).await;
        assert_eq!(change.await.unwrap(), unknown());
    }
}

async fn a_caller_that_waits_for_a_learner_is_answered<C: TestTypes>() {
    for end in ENDS {
        let cluster = Cluster::<C>::of([1]).await;
        let raft = cluster.raft(1).clone();
        let learner = raft.clone();
        let learner = waiting(async move { learner.add_learner(4, EmptyNode {}, true).await }).await;
        assert!(
            raft.metrics().borrow().membership_config.membership.contains(&4),
            "it is added, and cannot be reached"
        );
        end.come(&raft).await;
        let error = learner.await.unwrap().unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
    }
    // The same for a leader that gives way meanwhile.
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let raft = cluster.raft(leader).clone();
    let learner = waiting(async move { raft.add_learner(4, EmptyNode {}, true).await }).await;
    cluster.router.isolate(leader);
    let error = learner.await.unwrap().unwrap_err();
    assert_eq!(error, RaftError::APIError(ChangeMembershipError::Unknown(UnknownReason::LeadershipLost)));
    let next = cluster.leader_other_than(&[leader]).await;
    assert!(cluster.raft(next).metrics().borrow().membership_config.membership.contains(&4), "and it was applied");
}

async fn a_transfer_that_waits_is_answered<C: TestTypes>() {
    for end in ENDS {
        let cluster = Cluster::<C>::of([1, 2, 3]).await;
        let leader = cluster.leader().await;
        let raft = cluster.raft(leader).clone();
        let to = leader % 3 + 1;
        cluster.router.isolate(to);
        let transfer = raft.clone();
        let transfer = waiting(async move { transfer.transfer_leader(to).await }).await;
        end.come(&raft).await;
        match transfer.await.unwrap() {
            Err(RaftError::Fatal(fatal)) => assert!(end.is_why(&fatal)),
            other => panic!("{other:?}"),
        }
    }
    // One whose target never takes over ends by itself, and the leader serves on.
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    cluster.router.isolate(leader % 3 + 1);
    let late = cluster.raft(leader).transfer_leader(leader % 3 + 1).await;
    assert_eq!(late, Err(RaftError::APIError(TransferLeaderError::Deadline)));
    cluster.write(leader, "a", 1).await;
}

async fn an_initialization_that_waits_is_answered<C: TestTypes>() {
    for end in ENDS {
        let (_cluster, raft) = stuck_blank::<C>().await;
        let initialize = raft.clone();
        let members = BTreeSet::from([1]);
        let initialize = waiting(async move { initialize.initialize(members).await }).await;
        end.come(&raft).await;
        let error = initialize.await.unwrap().unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown);
        assert_eq!(error, RaftError::APIError(InitializeError::Unknown(UnknownReason::Stopped)));
    }
}

async fn peers_that_wait_are_answered<C: TestTypes>() {
    let from = Identity { id: 2, incarnation: None };
    let vote = Vote::<C::LeaderId>::new(1, 2);
    let leader = vote.commit();
    for end in ENDS {
        let (_cluster, raft) = stuck_blank::<C>().await;
        let request = VoteRequest::<C> { from, vote, last_log_id: None, kind: VoteKind::Vote, permit: None };
        let asked = raft.clone();
        let asked = waiting(async move { asked.vote(request).await }).await;
        end.come(&raft).await;
        assert!(matches!(asked.await.unwrap(), Err(fatal) if end.is_why(&fatal)));

        let (_cluster, raft) = stuck_blank::<C>().await;
        let heartbeat = HeartbeatRequest::<C> { from, vote: leader, round: Round(1), committed: None };
        let told = raft.clone();
        let told = waiting(async move { told.heartbeat(heartbeat).await }).await;
        let id = raftwright_traits::LogIdOf::<C> {
            leader_id: raftwright_traits::LeaderId::to_committed(&leader.leader_id),
            index: 1,
        };
        let entries = vec![raftwright_core::RaftEntry::blank(id)];
        let append = AppendEntriesRequest::<C> { from, vote: leader, prev_log_id: None, entries, committed: None };
        let given = raft.clone();
        let given = waiting(async move { given.append_entries(append).await }).await;
        end.come(&raft).await;
        assert!(matches!(told.await.unwrap(), Err(fatal) if end.is_why(&fatal)));
        assert!(matches!(given.await.unwrap(), Err(fatal) if end.is_why(&fatal)));
    }
}

async fn a_leader_that_waits_for_its_snapshot_is_answered<C: TestTypes>() {
    let from = Identity { id: 2, incarnation: None };
    let vote = Vote::<C::LeaderId>::new(1, 2).commit();
    let leader_id = raftwright_traits::LeaderId::to_committed(&vote.leader_id);
    let last_log_id = raftwright_traits::LogIdOf::<C> { leader_id, index: 5 };
    for end in ENDS {
        let cluster = Cluster::<C>::blank_with([1], Config { enable_elect: false, ..config() }, 3).await;
        let raft = cluster.raft(1).clone();
        let membership = Membership::new(vec![[2].into()], [(2, EmptyNode {})].into()).unwrap();
        let last_membership = StoredMembership::<C> { log_id: Some(last_log_id), membership };
        let meta = SnapshotMeta {
            last_log_id: Some(last_log_id),
            last_membership: last_membership.clone(),
            snapshot_id: "x".to_owned(),
        };
        let request = InstallSnapshotRequest { from, vote, last_log_id, last_membership };
        let snapshot = Snapshot::<C> { meta, snapshot: Cursor::new(Vec::new()) };
        let heartbeat = HeartbeatRequest::<C> { from, vote, round: Round(1), committed: None };
        assert!(raft.heartbeat(heartbeat).await.unwrap().accepted, "it follows the leader");
        cluster.shelves[&1].installs.close();
        let install = raft.clone();
        let install = waiting(async move { install.install_full_snapshot(request, snapshot).await }).await;
        // What is being installed is installed to the end.
        let ending = raft.clone();
        let ending = waiting(async move { end.come(&ending).await }).await;
        cluster.shelves[&1].installs.open();
        ending.await.unwrap();
        match install.await.unwrap() {
            Ok(response) => assert_eq!(response.from.id, 1),
            Err(fatal) => assert!(end.is_why(&fatal)),
        }
    }
}

async fn closures_and_looks_at_snapshots_that_wait_are_answered<C: TestTypes>() {
    for end in ENDS {
        let cluster = Cluster::<C>::of([1]).await;
        let raft = cluster.raft(1).clone();
        // The state machine is busy for five seconds; the clock stands still while anything can run.
        let last = raft.metrics().borrow().last_log_id.index_or_zero();
        raft.client_write_ff("slow".to_owned()).unwrap();
        raft.wait(None).metrics(|m| m.committed.index_or_zero() > last, "it is being applied").await.unwrap();
        // What ends the node comes first, and waits as well; the others come after.
        let ending = raft.clone();
        let ending = waiting(async move { end.come(&ending).await }).await;
        let (closure, snapshot) = (raft.clone(), raft.clone());
        let closure = tokio::spawn(async move { closure.with_state_machine(|map: &mut Map<C>| map.get("a")).await });
        let snapshot = tokio::spawn(async move { snapshot.get_snapshot().await.map(|found| found.is_some()) });
        ending.await.unwrap();
        assert!(matches!(closure.await.unwrap(), Err(fatal) if end.is_why(&fatal)), "{end:?}");
        assert!(matches!(snapshot.await.unwrap(), Err(fatal) if end.is_why(&fatal)), "{end:?}");
        let look = raft.with_raft_state(|replica| replica.is_leader()).await;
        assert!(matches!(look, Err(fatal) if end.is_why(&fatal)));
    }
}

async fn waits_are_answered<C: TestTypes>() {
    for end in ENDS {
        let cluster = Cluster::<C>::of([1]).await;
        let raft = cluster.raft(1).clone();
        let (state, applied) = (raft.wait(None), raft.clone());
        let state = waiting(async move { state.state(ServerState::Candidate, "never").await }).await;
        let applied = waiting(async move { applied.ensure_applied(1 << 40, None).await }).await;
        end.come(&raft).await;
        for error in [state.await.unwrap().unwrap_err(), applied.await.unwrap().unwrap_err()] {
            assert!(matches!(&error, WaitError::Stopped { why, .. } if end.is_why(why)), "{error:?}");
        }
    }
}

async fn a_full_queue_of_those_who_wait_for_room_is_answered<C: TestTypes>() {
    let config = Config { api_queue_max: 1, enable_elect: false, ..config() };
    let cluster = Cluster::<C>::blank_with([1], config, 1).await;
    let raft = cluster.raft(1);
    // All are there before the node runs: one has the place, the others wait for it, and the stop overtakes them.
    let look = || raft.with_raft_state(|replica| replica.is_leader());
    let (a, b, c, stop) = tokio::join!(look(), look(), async { raft.trigger().heartbeat().await }, raft.shutdown());
    stop.unwrap();
    assert_eq!((a, b, c), (Err(Fatal::Stopped), Err(Fatal::Stopped), Err(Fatal::Stopped)));
}

async fn what_outlives_the_last_handle_is_answered<C: TestTypes>() {
    let (mut cluster, raft) = stuck_leader::<C>().await;
    let id = raft.id();
    let mut many = raft.client_write_many([put("a", 1)]).unwrap();
    let (tx, told) = tokio::sync::oneshot::channel();
    raft.write(put("a", 2)).responder(move |result: WriteResult<C>| drop(tx.send(result))).unwrap();
    let wait = raft.wait(None);
    let mut metrics = raft.metrics();
    let waits = waiting(async move { wait.log_index(1 << 40, "never").await }).await;
    cluster.router.disconnect(id);
    cluster.nodes.clear();
    drop(raft);
    let unknown = || Err(RaftError::APIError(ClientWriteError::Unknown(UnknownReason::Stopped)));
    assert_eq!(many.next().await, Some(unknown()));
    assert_eq!(told.await.unwrap(), unknown());
    assert!(matches!(waits.await.unwrap(), Err(WaitError::Stopped { why: Fatal::Stopped, .. })));
    metrics.wait_for(|m| m.running_state == Err(Fatal::Stopped)).await.unwrap();
}
