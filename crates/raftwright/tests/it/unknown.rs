//! Calls that get no answer.

use std::time::Duration;

use raftwright::{Client, ClientError, Cluster, Outcome, RequestError, StateMachine, UnknownReason};

use crate::tally::{PATIENCE, Tally, add, led_by_one, patient_client};

/// A deadline that is there to pass.
const SHORT: Duration = Duration::from_millis(300);

/// What a write comes to that is not answered before the client's deadline. A machine that stands still may let the deadline pass
/// before anything is sent: such a write is surely not applied, and made again.
pub(crate) async fn sent<SM: StateMachine>(client: &Client<SM>, command: SM::Command) -> ClientError
where
    SM::Command: Clone,
{
    for _ in 0..100 {
        match client.write(command.clone()).await {
            Ok(_) => panic!("it is answered"),
            Err(error) if error.outcome() == Outcome::Unknown => return error,
            Err(_) => {}
        }
    }
    panic!("a hundred writes are surely not applied");
}

#[tokio::test]
async fn a_write_that_no_quorum_has_may_or_may_not_be_applied() {
    let mut cluster = led_by_one().await;
    let client = patient_client(&cluster);
    client.write(add("a", 1)).await.unwrap();
    cluster.stop(2).await.unwrap();
    cluster.stop(3).await.unwrap();
    let error = sent(&client.with_deadline(SHORT), add("a", 1)).await;
    assert!(matches!(error, ClientError::Deadline { outcome: Outcome::Unknown, .. }), "{error:?}");
    let read = client.with_deadline(SHORT).read("a".into()).await.unwrap_err();
    assert!(matches!(read, ClientError::Deadline { outcome: Outcome::NotApplied, .. }), "{read:?}");
    // It was in the log of a server that lived on, so here it is applied after all: once.
    cluster.start(2).await.unwrap();
    assert_eq!(client.write(add("a", 1)).await.unwrap(), 3);
}

#[tokio::test]
async fn a_write_that_reached_nobody_is_surely_not_applied() {
    let mut cluster = led_by_one().await;
    let client = patient_client(&cluster);
    client.write(add("a", 1)).await.unwrap();
    for id in 1..=3 {
        cluster.stop(id).await.unwrap();
    }
    // The client finds out that its connections are gone; a write that met one of them first might have been sent.
    let hurried = client.with_deadline(SHORT);
    while !hurried.read("a".into()).await.unwrap_err().to_string().contains("cannot connect") {}
    // Where the machine stands still, the deadline may pass before anybody says that nobody is there.
    for attempt in 0.. {
        let error = hurried.write(add("a", 1)).await.unwrap_err();
        assert!(matches!(error, ClientError::Deadline { outcome: Outcome::NotApplied, .. }), "{error:?}");
        if error.to_string().contains("cannot connect") {
            break;
        }
        assert!(attempt < 100, "{error}");
    }
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
    let error = here.with_deadline(SHORT).write(add("a", 1)).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    assert!(!matches!(error, ClientError::Server(RequestError::Refused(_))), "{error}");
}

/// Panics when told to.
#[derive(Default)]
struct Fragile;

impl StateMachine for Fragile {
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
    let client = patient_client(&cluster);
    assert!(client.write(false).await.unwrap());
    let error = sent(&client.with_deadline(SHORT), true).await;
    assert_eq!(error.outcome(), Outcome::Unknown);
    let server = cluster.server(1).unwrap();
    assert!(server.raft().wait(Some(PATIENCE)).metrics(|_| false, "never").await.is_err());
    let failure = server.status().failure.unwrap();
    assert!(failure.contains("told to"), "{failure}");
    assert!(matches!(server.stale(()).await, Err(RequestError::Stopped(why)) if why.contains("told to")));
    assert_eq!(client.status_of(cluster.addr(1).unwrap()).await.unwrap().failure, Some(failure));
    cluster.shutdown().await;
}
