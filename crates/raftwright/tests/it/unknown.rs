//! Calls that get no answer.

use std::time::Duration;

use raftwright::{Client, ClientError, Cluster, Outcome, RequestError, UnknownReason};

use crate::tally::{PATIENCE, Tally, add, led_by_one};

#[tokio::test]
async fn a_write_that_no_quorum_has_may_or_may_not_be_applied() {
    let mut cluster = led_by_one().await;
    let client = cluster.client();
    client.write(add("a", 1)).await.unwrap();
    cluster.stop(2).await.unwrap();
    cluster.stop(3).await.unwrap();
    let error = client.with_deadline(Duration::from_millis(300)).write(add("a", 1)).await.unwrap_err();
    assert!(matches!(error, ClientError::Deadline { outcome: Outcome::Unknown, .. }), "{error:?}");
    let read = client.with_deadline(Duration::from_millis(300)).read("a".into()).await.unwrap_err();
    assert!(matches!(read, ClientError::Deadline { outcome: Outcome::NotApplied, .. }), "{read:?}");
    // It was in the log of a server that lived on, so here it is applied after all: once.
    cluster.start(2).await.unwrap();
    assert_eq!(client.with_deadline(PATIENCE).write(add("a", 1)).await.unwrap(), 3);
}

#[tokio::test]
async fn a_write_that_reached_nobody_is_surely_not_applied() {
    let mut cluster = led_by_one().await;
    let client = cluster.client();
    client.write(add("a", 1)).await.unwrap();
    for id in 1..=3 {
        cluster.stop(id).await.unwrap();
    }
    let error = client.with_deadline(Duration::from_millis(300)).write(add("a", 1)).await.unwrap_err();
    assert!(matches!(error, ClientError::Deadline { outcome: Outcome::NotApplied, .. }), "{error:?}");
    assert!(error.to_string().contains("cannot connect"), "{error}");
}

#[tokio::test]
async fn a_client_without_servers_says_so() {
    let nobody = Client::<Tally>::connect(Vec::<String>::new());
    assert_eq!(nobody.write(add("a", 1)).await.unwrap_err(), ClientError::NoEndpoint);
}

#[tokio::test]
async fn a_server_that_stops_says_that_it_stopped() {
    let mut cluster = led_by_one().await;
    let here = cluster.server(1).unwrap().client();
    here.write(add("a", 1)).await.unwrap();
    let raft = cluster.server(1).unwrap().raft().clone();
    cluster.stop(2).await.unwrap();
    cluster.stop(3).await.unwrap();
    let pending = tokio::spawn({
        let raft = raft.clone();
        let bytes = [&[1][..], &raftwright::encode(&add("a", 1)).unwrap()].concat();
        async move { raft.client_write(bytes.into()).await }
    });
    let index = raft.metrics().borrow().last_log_id.unwrap().index;
    raft.wait(Some(PATIENCE)).log_index_at_least(index + 1, "the pending write").await.unwrap();
    cluster.stop(1).await.unwrap();
    let error = pending.await.unwrap().unwrap_err();
    let unknown = raftwright::ClientWriteError::Unknown(UnknownReason::Stopped);
    assert_eq!(error, raftwright::RaftError::APIError(unknown));
    // The client in its process finds it stopped and nobody else there.
    let error = here.with_deadline(Duration::from_millis(300)).write(add("a", 1)).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    assert!(!matches!(error, ClientError::Server(RequestError::Refused(_))), "{error}");
}

/// Panics when told to.
#[derive(Default)]
struct Fragile;

impl raftwright::StateMachine for Fragile {
    type Command = bool;
    type Query = ();
    type Answer = bool;

    fn apply(&mut self, fatal: bool) -> bool {
        assert!(!fatal, "told to");
        true
    }

    fn query(&self, (): ()) -> bool {
        true
    }

    fn snapshot(&self) -> Result<Vec<u8>, raftwright::BoxError> {
        Ok(Vec::new())
    }

    fn restore(&mut self, _: &[u8]) -> Result<(), raftwright::BoxError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_state_machine_that_panics_stops_its_server_with_a_reason_and_hangs_nobody() {
    crate::logs::capture();
    let cluster = Cluster::<Fragile>::local(1).await.unwrap();
    let client = cluster.client();
    assert!(client.write(false).await.unwrap());
    let error = client.with_deadline(Duration::from_millis(500)).write(true).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    let server = cluster.server(1).unwrap();
    assert!(server.raft().wait(Some(PATIENCE)).metrics(|_| false, "never").await.is_err());
    let failure = server.status().failure.unwrap();
    assert!(failure.contains("told to"), "{failure}");
    assert!(matches!(server.stale(()).await, Err(RequestError::Stopped(why)) if why.contains("told to")));
    assert_eq!(client.status_of(cluster.addr(1).unwrap()).await.unwrap().failure, Some(failure));
    cluster.shutdown().await;
}
