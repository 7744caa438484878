//! Commands delivered more than once, and bytes that are no commands.

use std::sync::Arc;

use bytes::Bytes;
use raftwright::net::{Channel, Dialer, Kind, Lane, Limits, OpenGate, PeerIdentity, Target};
use raftwright::{
    BoxError, COMMAND_BYTES_MAX, Client, ClientError, Cluster, Outcome, RequestError, SESSIONS_MAX, StateMachine,
    encode,
};

use crate::tally::{PATIENCE, Tally, add, catch_up, leader_of, patient_client, three};

/// A log entry's bytes, from the documented format: a command of a session.
fn in_session(session: u128, sequence: u64, command: &(String, u64)) -> Bytes {
    let mut bytes = vec![3];
    bytes.extend_from_slice(&session.to_le_bytes());
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.extend_from_slice(&0u64.to_le_bytes());
    bytes.extend(encode(command).unwrap());
    bytes.into()
}

/// Has an entry of these bytes applied, by whoever leads. On a busy machine it may be delivered more than once: what these
/// tests deliver stands that.
async fn propose(cluster: &Cluster<Tally>, bytes: impl Into<Bytes>) -> Bytes {
    let bytes = bytes.into();
    for _ in 0..20 {
        let leader = leader_of(cluster).await;
        if let Ok(done) = cluster.server(leader).unwrap().raft().client_write(bytes.clone()).await {
            return done.data;
        }
    }
    panic!("twenty leaders have come and gone");
}

async fn open_session(cluster: &Cluster<Tally>, nonce: u8) -> u128 {
    let answer = propose(cluster, vec![2, nonce, 0, 0, 0, 0, 0, 0, 0]).await;
    assert_eq!(answer[0], 1);
    u128::from_le_bytes(answer[1..].try_into().unwrap())
}

#[tokio::test]
async fn a_command_delivered_twice_is_applied_once_on_every_server() {
    let mut cluster = three().await;
    let client = patient_client(&cluster);
    let session = open_session(&cluster, 9).await;
    let first = propose(&cluster, in_session(session, 1, &add("a", 5))).await;
    let again = propose(&cluster, in_session(session, 1, &add("a", 5))).await;
    assert_eq!((&first, &first[..]), (&again, &[&[0], &encode(&5u64).unwrap()[..]].concat()[..]));

    // A new leader knows of it too, and so does a server that has made its state anew from the log.
    let leader = leader_of(&cluster).await;
    cluster.stop(leader).await.unwrap();
    client.write(add("b", 1)).await.unwrap();
    assert_eq!(propose(&cluster, in_session(session, 1, &add("a", 5))).await, first);
    cluster.start(leader).await.unwrap();
    assert_eq!(propose(&cluster, in_session(session, 1, &add("a", 5))).await, first);
    assert_eq!(client.read("a".into()).await.unwrap(), 5);
    let (back, other) = (cluster.server(leader).unwrap(), cluster.server(leader_of(&cluster).await).unwrap());
    catch_up(back, other).await;
    assert_eq!(back.stale("a".into()).await.unwrap(), 5);
}

#[tokio::test]
async fn a_session_that_had_to_go_is_never_opened_again_by_a_repetition() {
    crate::logs::capture();
    let cluster = Cluster::<Tally>::local(1).await.unwrap();
    let client = patient_client(&cluster);
    assert_eq!(client.write(add("a", 1)).await.unwrap(), 1);
    let server = cluster.server(1).unwrap();
    let session = open_session(&cluster, 1).await;
    propose(&cluster, in_session(session, 1, &add("a", 1))).await;
    let mut others = tokio::task::JoinSet::new();
    for _ in 0..SESSIONS_MAX {
        let raft = server.raft().clone();
        others.spawn(async move { raft.client_write(vec![2, 0, 0, 0, 0, 0, 0, 0, 0].into()).await.unwrap() });
    }
    others.join_all().await;
    assert_eq!(propose(&cluster, in_session(session, 1, &add("a", 1))).await[..], [2], "expired");
    assert_eq!(client.read("a".into()).await.unwrap(), 2);
    // The client's own session has gone as well. Its next command was surely not applied in it, so it goes into another.
    assert_eq!(client.write(add("a", 1)).await.unwrap(), 3);
}

/// Its commands are numbers, those of the cluster are not.
#[derive(Default)]
struct Other;

impl StateMachine for Other {
    type Command = u8;
    type Query = ();
    type Answer = u64;

    fn apply(&mut self, _: u8) -> u64 {
        0
    }

    fn query(&self, (): ()) -> u64 {
        0
    }

    fn snapshot(&self) -> Result<Vec<u8>, BoxError> {
        Ok(Vec::new())
    }

    fn restore(&mut self, _: &[u8]) -> Result<(), BoxError> {
        Ok(())
    }
}

#[tokio::test]
async fn commands_and_queries_of_other_types_are_refused_and_stop_nobody() {
    let cluster = three().await;
    let stranger = Client::<Other>::connect((1..=3).map(|id| cluster.addr(id).unwrap())).with_deadline(PATIENCE);
    for error in [stranger.write(7).await.unwrap_err(), stranger.read(()).await.unwrap_err()] {
        assert!(matches!(error, ClientError::Server(RequestError::Malformed(_))), "{error}");
        assert_eq!(error.outcome(), Outcome::NotApplied);
    }
    assert_eq!(patient_client(&cluster).write(add("a", 1)).await.unwrap(), 1);
}

#[tokio::test]
async fn bytes_that_are_no_request_are_answered_and_stop_nobody() {
    let cluster = three().await;
    patient_client(&cluster).write(add("a", 1)).await.unwrap();
    let leader = leader_of(&cluster).await;
    let gate = OpenGate { identity: PeerIdentity::default() };
    let dialer = Dialer::new(Arc::new(gate), Limits::default(), 1);
    let target = Target { address: cluster.addr(leader).unwrap().to_owned(), node: None };
    let channel = Channel::spawn(dialer, target, Lane::Client);
    let wait = 5000u32.to_le_bytes();
    let write = |envelope: &[u8]| [&[1, 1], &wait[..], envelope].concat();
    let cases = [
        vec![],
        vec![255; 100],
        vec![1],
        vec![1, 99, 0, 0, 0, 0],
        vec![1, 6, 0, 0, 1, 0, 200, 200],
        write(&[]),
        write(&[77, 77]),
        write(&[3, 1]),
        [&[1, 2], &wait[..], &[255, 255]].concat(),
    ];
    for case in cases {
        let answer = channel.call(Kind::Client, case.clone().into(), PATIENCE).await.unwrap();
        // Refused at once, or answered as an entry that is no command.
        assert!(answer[..2] == [1, 1] || answer[..] == [1, 0, 4], "{case:?}: {answer:?}");
    }
    assert_eq!(patient_client(&cluster).write(add("a", 1)).await.unwrap(), 2);
}

#[tokio::test]
async fn a_command_that_is_too_long_is_refused_before_it_is_written() {
    let cluster = three().await;
    let long = "x".repeat(COMMAND_BYTES_MAX);
    let error = patient_client(&cluster).write((long.clone(), 1)).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert!(error.to_string().contains("above the limit"), "{error}");
    // By a client that knows the limit, without a word to any server, and by every server.
    let deaf = Client::<Tally>::connect(["127.0.0.1:1"]).write((long.clone(), 1)).await.unwrap_err();
    assert_eq!(deaf, error);
    for id in cluster.running() {
        let refused = cluster.server(id).unwrap().write((long.clone(), 1)).await.unwrap_err();
        assert!(matches!(&refused, RequestError::Refused(text) if text.contains("above the limit")), "{refused}");
    }
    let quarter = "y".repeat(COMMAND_BYTES_MAX / 4);
    assert_eq!(patient_client(&cluster).write((quarter, 1)).await.unwrap(), 1);
}
