use std::sync::atomic::{AtomicUsize, Ordering};

use raftwright_net::Target;
use serde::{Deserialize, Deserializer};

use super::nodes::CONNECT_PAUSE_MAX;
use super::*;
use crate::{BoxError, Server};

/// A state machine that is of no use but to be asked.
#[derive(Default)]
struct Nothing;

/// A query that counts how often a server has read it.
#[derive(Serialize)]
struct Counted;

static ATTEMPTS: AtomicUsize = AtomicUsize::new(0);

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        ATTEMPTS.fetch_add(1, Ordering::SeqCst);
        <()>::deserialize(from).map(|()| Counted)
    }
}

impl StateMachine for Nothing {
    type Command = ();
    type Query = Counted;
    type Answer = ();

    fn apply(&mut self, (): ()) {}

    fn query(&self, _: Counted) {}

    fn snapshot(&self) -> Result<Vec<u8>, BoxError> {
        Ok(Vec::new())
    }

    fn restore(&mut self, _: &[u8]) -> Result<(), BoxError> {
        Ok(())
    }
}

#[tokio::test]
async fn no_deadline_is_longer_than_a_day() {
    let client = Client::<Nothing>::connect(Vec::<String>::new());
    assert_eq!(client.with_deadline(CLIENT_DEADLINE_MAX).deadline, CLIENT_DEADLINE_MAX);
    let endless = client.with_deadline(Duration::MAX);
    assert_eq!(endless.deadline, CLIENT_DEADLINE_MAX);
    // An instant that far away does not exist: a call that computed it would panic.
    assert_eq!(endless.read(Counted).await, Err(ClientError::NoEndpoint));
}

/// Pauses between attempts double, but not for ever: who asks for long asks often.
#[tokio::test]
async fn pauses_between_attempts_have_a_bound() {
    let temp = tempfile::tempdir().unwrap();
    let builder = Server::<Nothing>::builder().id(1).data_dir(temp.path().join("d")).listen("127.0.0.1:0");
    // It belongs to no cluster, so it never leads.
    let server = builder.start(Nothing).await.unwrap();
    tokio::time::pause();
    let deadline = Duration::from_secs(60);
    let late = server.client().with_deadline(deadline).read(Counted).await.unwrap_err();
    assert!(matches!(late, ClientError::Deadline { outcome: Outcome::NotApplied, .. }), "{late}");
    let attempts = ATTEMPTS.load(Ordering::SeqCst) as u128;
    let fewest = deadline.as_millis() / PAUSE_MAX.as_millis();
    assert!((fewest..3 * fewest).contains(&attempts), "{attempts} attempts");
    tokio::time::resume();
    server.shutdown().await;
}

fn place(port: u64) -> (Node, Target) {
    let addr = format!("127.0.0.1:{port}");
    (Node::At { addr: addr.clone(), id: Some(port) }, Target { address: addr, node: Some(port) })
}

#[tokio::test]
async fn connections_beyond_the_bound_make_all_of_them_go() {
    let nodes = Nodes::<Nothing>::new(Vec::new(), None, 1);
    let opened = |port| {
        let (node, target) = place(port);
        nodes.channel(&node, target);
        nodes.connections()
    };
    for port in 1..=CLIENT_CONNECTIONS_MAX {
        assert_eq!(opened(port as u64), port);
    }
    assert_eq!(opened(1), CLIENT_CONNECTIONS_MAX, "it is there already");
    assert_eq!(opened(CLIENT_CONNECTIONS_MAX as u64 + 1), 1);
    assert_eq!(opened(1), 2, "opened anew");
}

/// The transport keeps to what it is told: that is tested there.
#[tokio::test]
async fn a_pause_before_connecting_is_shorter_than_any_attempt() {
    let nodes = Nodes::<Nothing>::new(Vec::new(), None, 1);
    assert_eq!(nodes.limits().backoff_max, CONNECT_PAUSE_MAX);
    assert!(CONNECT_PAUSE_MAX < ATTEMPT_MIN);
}
