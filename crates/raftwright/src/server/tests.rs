use super::*;
use crate::protocol::{Op, Request};
use crate::service::REQUEST_WAIT_MAX;
use crate::{BoxError, decode, encode};
use raftwright_traits::{Config, Outcome, UnknownReason};

/// Sums what it is given.
#[derive(Default)]
struct Sum(u64);

impl StateMachine for Sum {
    type Command = u64;
    type Query = ();
    type Answer = u64;

    fn apply(&mut self, add: u64) -> u64 {
        self.0 += add;
        self.0
    }

    fn query(&self, (): ()) -> u64 {
        self.0
    }

    fn snapshot(&self) -> Result<Vec<u8>, BoxError> {
        encode(&self.0)
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), BoxError> {
        self.0 = decode(snapshot)?;
        Ok(())
    }
}

/// A client that says it will wait for weeks holds its place in a server for no longer than the server's own bound.
#[tokio::test]
async fn no_request_is_worked_on_for_ever() {
    let temp = tempfile::tempdir().unwrap();
    // It leads on for longer than the request is worked on, although nobody confirms it.
    let config = Config { election_timeout_min: 100_000, election_timeout_max: 200_000, ..Config::default() };
    let builder = Server::<Sum>::builder().id(1).data_dir(temp.path().join("d")).listen("127.0.0.1:0").config(config);
    let server = builder.initial_cluster([(1, "127.0.0.1:1")]).start(Sum::default()).await.unwrap();
    server.raft().wait(None).current_leader(1, "it leads").await.unwrap();
    // From the next entry on it needs a second server, which there is not: nothing is committed any more.
    server.raft().add_learner(2, BasicNode::new("127.0.0.1:2"), false).await.unwrap();
    let raft = server.raft().clone();
    let change = tokio::spawn(async move { raft.change_membership([1, 2].into(), false).await });
    let joint = |m: &raftwright_node::RaftMetrics<EasyConfig>| m.membership_config.membership.is_joint();
    server.raft().wait(None).metrics(joint, "it needs both").await.unwrap();
    let month = Duration::from_secs(30 * 24 * 3600);
    let request = Request { op: Op::Write, wait: month, payload: Envelope::alone(&1u64).unwrap() };
    // From here on time passes as soon as nothing can run.
    tokio::time::pause();
    let before = tokio::time::Instant::now();
    let late = server.service.call(request).await.unwrap_err();
    assert_eq!((&late, late.outcome()), (&RequestError::Unknown(UnknownReason::Deadline), Outcome::Unknown));
    assert_eq!(before.elapsed().as_secs(), REQUEST_WAIT_MAX.as_secs());
    tokio::time::resume();
    server.shutdown().await;
    assert!(change.await.unwrap().is_err());
}

/// A disk that hangs keeps the log's writer, and not the server that stops.
#[tokio::test(start_paused = true)]
async fn a_server_that_stops_does_not_wait_for_a_hung_disk_for_ever() {
    let before = tokio::time::Instant::now();
    log_ended(std::future::pending(), 1).await;
    assert_eq!(before.elapsed().as_secs(), LOG_END_MAX.as_secs());
    let before = tokio::time::Instant::now();
    log_ended(std::future::ready(()), 1).await;
    assert_eq!(before.elapsed(), Duration::ZERO, "one that has ended is not waited for");
}

/// A crash, or a disk that is full, between the cluster's id and the first entry of its log.
#[tokio::test]
async fn a_cluster_that_has_an_id_and_no_beginning_can_be_begun() {
    let temp = tempfile::tempdir().unwrap();
    let builder = || Server::<Sum>::builder().id(1).data_dir(temp.path().join("d")).listen("127.0.0.1:0");
    let server = builder().start(Sum::default()).await.unwrap();
    assert!(server.gate.found_cluster().unwrap());
    let cluster_id = server.cluster_id();
    server.shutdown().await;
    let server = builder().start(Sum::default()).await.unwrap();
    server.init([(1, server.advertised_addr())]).await.unwrap();
    assert_eq!(server.cluster_id(), cluster_id);
    assert_eq!(server.client().write(5).await.unwrap(), 5);
    assert!(matches!(server.init([(1, "x:1")]).await, Err(InitError::BelongsToCluster { id: 1 })));
    server.shutdown().await;
}

/// What is unknown to the node is not told as surely not applied.
#[test]
fn a_beginning_of_which_nobody_knows_is_told_as_such() {
    let of = |error: InitializeError<EasyConfig>| InitError::of(RaftError::APIError(error), 1);
    let unknown = of(InitializeError::Unknown(UnknownReason::Stopped));
    assert_eq!((&unknown, unknown.outcome()), (&InitError::Unknown(UnknownReason::Stopped), Outcome::Unknown));
    for surely in [InitializeError::AlreadyInitialized, InitializeError::NotInMembership, InitializeError::Busy] {
        assert_eq!(of(surely).outcome(), Outcome::NotApplied);
    }
}
