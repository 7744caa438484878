//! Who is let in. Refusals come with one line in the log that names the peer, and disturb nobody else.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raftwright_net::{
    AcceptHandshake, CallError, ClusterId, DialHandshake, Features, Frame, FrameDecoder, FrameHead, Gate,
    HandshakeError, Hello, Kind, Lane, Limits, Link, OpenGate, PeerIdentity, ProtocolVersion, Refusal, RefusalReason,
    RequestId, Role, VersionRange, Welcome, encode_frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{
    CLUSTER, Echo, LogLines, MemberGate, PATIENCE, body, client, dialer, eventually, kind_of, node, open_gate, serve,
    target,
};

fn frame(kind: Kind, body: Bytes) -> Frame {
    Frame { kind, role: Role::Request, id: RequestId(0), body }
}

fn hello_of(identity: PeerIdentity) -> Hello {
    let (versions, features) = (VersionRange::CURRENT, Features::CURRENT);
    Hello { versions, features, lane: Lane::Bulk, identity, target: Some(2) }
}

fn accept(hello: Hello, host: PeerIdentity) -> Result<Welcome, RefusalReason> {
    let frame = frame(Kind::Hello, hello.encode().into_bytes());
    match AcceptHandshake::default().on_frame(frame, &MemberGate(host)) {
        Ok((session, welcome)) => {
            assert_eq!((session.peer, session.lane), (hello.identity, hello.lane));
            Ok(Welcome::decode(welcome.into_bytes()).unwrap())
        }
        Err(HandshakeError::RefusedPeer(refusal)) => Err(refusal.reason),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn version_1_of_the_handshake_is_these_bytes() {
    let hello = hello_of(node(1)).encode().into_bytes();
    let golden = [
        &[1, 0, 1, 0][..],           // versions, oldest and newest
        &[0; 8],                     // features
        &[2],                        // bulk
        &[0b1111],                   // cluster, node, incarnation and target are there
        &[7; 16],                    // cluster
        &[1, 0, 0, 0, 0, 0, 0, 0],   // node
        &[100, 0, 0, 0, 0, 0, 0, 0], // incarnation
        &[1, 0, 0, 0, 0, 0, 0, 0],   // boot epoch
        &[5, 0, 0, 0, 0, 0, 0, 0],   // membership
        &[2, 0, 0, 0, 0, 0, 0, 0],   // target
    ]
    .concat();
    assert_eq!(hello, golden);
    let welcome = Welcome { version: ProtocolVersion(1), features: Features(0), identity: PeerIdentity::default() };
    let golden = [&[1, 0][..], &[0; 8], &[0], &[0; 48]].concat();
    assert_eq!(welcome.encode().into_bytes(), golden);
    let refusal = Refusal::new(RefusalReason::WrongTarget, "no");
    assert_eq!(refusal.encode().into_bytes(), &[2, 2, 0, b'n', b'o'][..]);
}

#[test]
fn later_versions_may_append_to_the_handshake() {
    let mut bytes = hello_of(node(1)).encode().into_bytes().to_vec();
    for cut in 0..bytes.len() {
        assert!(Hello::decode(Bytes::copy_from_slice(&bytes[..cut])).is_err());
    }
    bytes.extend_from_slice(b"something of version 9");
    assert_eq!(Hello::decode(bytes.into()), Ok(hello_of(node(1))));
}

#[test]
fn a_host_admits_its_peers_and_nobody_else() {
    let host = node(2);
    assert_eq!(accept(hello_of(node(1)), host).unwrap().identity, host);
    let foreign = PeerIdentity { cluster: Some(ClusterId([8; 16])), ..node(1) };
    assert_eq!(accept(hello_of(foreign), host), Err(RefusalReason::WrongCluster));
    assert_eq!(accept(Hello { target: Some(3), ..hello_of(node(1)) }, host), Err(RefusalReason::WrongTarget));
    let wiped = PeerIdentity { incarnation: Some(5), ..node(1) };
    assert_eq!(accept(hello_of(wiped), host), Err(RefusalReason::StaleIncarnation));
    assert_eq!(accept(hello_of(node(77)), host), Err(RefusalReason::NotAPeer));
    assert_eq!(accept(hello_of(client()), host), Err(RefusalReason::NotAPeer), "a client on the bulk lane");
    let as_client = Hello { lane: Lane::Client, target: None, ..hello_of(client()) };
    assert!(accept(as_client, host).is_ok());
    // A node that belongs to no cluster yet can be greeted: that is how it joins.
    let blank = PeerIdentity { cluster: None, ..node(1) };
    assert!(accept(hello_of(blank), host).is_ok());
    assert!(accept(hello_of(node(1)), PeerIdentity { cluster: None, ..host }).is_ok());
}

#[test]
fn the_newest_common_version_is_chosen() {
    let range = |min, max| VersionRange { min: ProtocolVersion(min), max: ProtocolVersion(max) };
    assert_eq!(range(1, 3).newest_common(range(2, 5)), Some(ProtocolVersion(3)));
    assert_eq!(range(2, 5).newest_common(range(1, 3)), Some(ProtocolVersion(3)));
    assert_eq!(range(1, 2).newest_common(range(3, 4)), None);
    assert_eq!(range(3, 4).newest_common(range(1, 2)), None);
    let future = Hello { versions: range(2, 9), ..hello_of(node(1)) };
    assert_eq!(accept(future, node(2)), Err(RefusalReason::VersionMismatch));
    let both = Hello { versions: range(1, 9), ..hello_of(node(1)) };
    assert_eq!(accept(both, node(2)).unwrap().version, ProtocolVersion(1));
}

#[test]
fn a_caller_judges_its_host_too() {
    let dial = |welcome: Welcome| {
        let handshake = DialHandshake::with_hello(hello_of(node(1)));
        match handshake.on_frame(frame(Kind::Welcome, welcome.encode().into_bytes()), &MemberGate(node(1))) {
            Ok(session) => Ok(session.peer),
            Err(HandshakeError::RefusedPeer(refusal)) => Err(refusal.reason),
            Err(other) => panic!("{other}"),
        }
    };
    let welcome = Welcome { version: ProtocolVersion(1), features: Features::CURRENT, identity: node(2) };
    assert_eq!(dial(welcome), Ok(node(2)));
    assert_eq!(dial(Welcome { identity: node(3), ..welcome }), Err(RefusalReason::WrongTarget));
    let foreign = PeerIdentity { cluster: Some(ClusterId([8; 16])), ..node(2) };
    assert_eq!(dial(Welcome { identity: foreign, ..welcome }), Err(RefusalReason::WrongCluster));
    let wiped = PeerIdentity { incarnation: Some(1), ..node(2) };
    assert_eq!(dial(Welcome { identity: wiped, ..welcome }), Err(RefusalReason::StaleIncarnation));
    assert_eq!(dial(Welcome { version: ProtocolVersion(2), ..welcome }), Err(RefusalReason::VersionMismatch));
}

#[test]
fn frames_out_of_place_are_refused() {
    let gate = OpenGate { identity: node(2) };
    for kind in [Kind::Vote, Kind::Welcome, Kind::Client, Kind::Ping] {
        let error = AcceptHandshake::default().on_frame(frame(kind, Bytes::new()), &gate).unwrap_err();
        assert_eq!(error, HandshakeError::Unexpected(kind));
        assert_eq!(error.refusal_to_send().unwrap().reason, RefusalReason::Malformed);
    }
    let refused = frame(Kind::Refuse, Refusal::new(RefusalReason::Other(99), "line\nbreak").encode().into_bytes());
    let error = AcceptHandshake::default().on_frame(refused, &gate).unwrap_err();
    let HandshakeError::RefusedByPeer(refusal) = &error else { panic!("{error}") };
    assert_eq!((refusal.reason, refusal.text.as_str()), (RefusalReason::Other(99), "line\\nbreak"));
    assert_eq!(error.refusal_to_send(), None, "a refusal is not answered");
}

/// Connects as `caller` to `host`: both must agree on the reason, in one line each.
async fn refused(host: Arc<dyn Gate>, caller: Arc<dyn Gate>, wanted: u64, reason: RefusalReason) {
    let log = LogLines::capture();
    let (address, server) = serve(host, Limits::default(), Echo::new()).await;
    // One attempt is enough: a pause as long as the test keeps a second one away.
    let limits = Limits { backoff_min: PATIENCE, backoff_max: PATIENCE, ..Limits::default() };
    let dialer = raftwright_net::Dialer::new(caller, limits, 1);
    let mut link = Link::new(dialer, target(&address, wanted), Lane::Bulk);
    let error = link.call(Kind::AppendEntries, body("x"), PATIENCE).await.unwrap_err();
    let CallError::Dial(dial) = &error else { panic!("{error}") };
    assert_eq!(dial.refusal().unwrap().reason, reason, "{error}");
    assert!(error.is_surely_not_done());
    eventually(|| server.counters().refused() == 1 && server.counters().open() == 0).await;
    assert_eq!(server.counters().malformed(), 0);
    let accepting = log.with("connection refused");
    let dialing = log.with("connection to a peer not opened");
    assert_eq!((accepting.len(), dialing.len()), (1, 1), "{accepting:?} {dialing:?}");
    assert!(accepting[0].contains("127.0.0.1:") && accepting[0].contains(&reason.to_string()), "{accepting:?}");
    assert!(dialing[0].contains(&address) && dialing[0].contains(&reason.to_string()), "{dialing:?}");
    server.shutdown().await;
}

#[tokio::test]
async fn a_foreign_cluster_is_refused() {
    let foreign = PeerIdentity { cluster: Some(ClusterId([8; 16])), ..node(1) };
    refused(open_gate(node(2)), open_gate(foreign), 2, RefusalReason::WrongCluster).await;
}

#[tokio::test]
async fn a_wrong_node_id_is_refused() {
    refused(open_gate(node(2)), open_gate(node(1)), 3, RefusalReason::WrongTarget).await;
}

#[tokio::test]
async fn a_node_whose_disk_was_emptied_is_refused() {
    let wiped = PeerIdentity { incarnation: Some(12345), ..node(1) };
    refused(Arc::new(MemberGate(node(2))), open_gate(wiped), 2, RefusalReason::StaleIncarnation).await;
}

#[tokio::test]
async fn a_host_whose_disk_was_emptied_is_refused_by_its_caller() {
    let wiped = PeerIdentity { incarnation: Some(12345), ..node(2) };
    refused(open_gate(wiped), Arc::new(MemberGate(node(1))), 2, RefusalReason::StaleIncarnation).await;
}

#[tokio::test]
async fn a_connection_too_many_is_told_so() {
    let log = LogLines::capture();
    let limits = Limits { connections_max: 1, ..Limits::default() };
    let (address, server) = serve(open_gate(node(2)), limits, Echo::new()).await;
    let mut first = Link::new(dialer(node(1)), target(&address, 2), Lane::Control);
    first.call(Kind::Vote, body("x"), PATIENCE).await.unwrap();
    let mut second = Link::new(dialer(node(3)), target(&address, 2), Lane::Control);
    second.call(Kind::Vote, body("x"), PATIENCE).await.unwrap_err();
    assert_eq!(
        log.with("overloaded: too many connections").iter().filter(|line| line.contains("connection refused")).count(),
        1
    );
    first.call(Kind::Vote, body("y"), PATIENCE).await.unwrap();
    // The place is free again when the first has gone.
    drop(first);
    eventually(|| server.counters().open() == 0).await;
    while second.call(Kind::Vote, body("x"), PATIENCE).await.is_err() {}
    server.shutdown().await;
}

/// Who only connects and says nothing takes the places of its own address, not those of others.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn silent_strangers_keep_nobody_else_out() {
    let limits = Limits { handshakes_max: 4, handshakes_per_address_max: 3, ..Limits::default() };
    let (address, server) = serve(open_gate(node(2)), limits, Echo::new()).await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        silent.push(socket.connect(address.parse().unwrap()).await.unwrap());
    }
    eventually(|| server.counters().open() == 3 && server.counters().refused() == 5).await;
    let mut link = Link::new(dialer(node(1)), target(&address, 2), Lane::Control);
    assert_eq!(link.call(Kind::Vote, body("let me in"), PATIENCE).await.unwrap(), "let me in");
    drop(silent);
    // Each place is given back, those of handshakes that never ended too.
    eventually(|| server.counters().open() == 1).await;
    drop(link);
    eventually(|| server.counters().open() == 0).await;
    server.shutdown().await;
}

/// Sends raw bytes to a host; the host must close the connection with one line that names us, and serve others on.
async fn closed_after(bytes: &[u8], limits: Limits, reason: &str) {
    let log = LogLines::capture();
    let (address, server) = serve(open_gate(node(2)), limits, Echo::new()).await;
    let mut good = Link::new(dialer(node(1)), target(&address, 2), Lane::Control);
    good.call(Kind::Vote, body("before"), PATIENCE).await.unwrap();

    let mut stream = TcpStream::connect(&address).await.unwrap();
    let own_address = stream.local_addr().unwrap().to_string();
    stream.write_all(bytes).await.unwrap();
    let mut rest = Vec::new();
    // A reset instead of an end is as good: the host closed while bytes of ours were still on their way.
    let _reset = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it was not closed");
    eventually(|| server.counters().malformed() == 1).await;
    let lines = log.with(&own_address);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(reason), "{lines:?}");

    good.call(Kind::Vote, body("after"), PATIENCE).await.unwrap();
    assert_eq!(server.counters().accepted(), 1 + u64::from(reason.contains("node 1")));
    server.shutdown().await;
}

fn frame_bytes(kind: Kind, id: u64, body: raftwright_net::Body) -> Vec<u8> {
    let head = FrameHead { kind, role: Role::Request, id: RequestId(id) };
    let mut bytes = encode_frame(head, &body, u32::MAX).unwrap().to_vec();
    bytes.extend_from_slice(&body.into_bytes());
    bytes
}

#[tokio::test]
async fn random_bytes_close_the_connection() {
    closed_after(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Limits::default(), "wrong magic").await;
}

#[tokio::test]
async fn a_frame_of_another_version_closes_the_connection() {
    let mut bytes = frame_bytes(Kind::Hello, 0, hello_of(node(1)).encode());
    bytes[4] = 9;
    closed_after(&bytes, Limits::default(), "frame version 9 is not supported").await;
}

#[tokio::test]
async fn an_absurd_length_in_the_handshake_closes_the_connection() {
    let bytes = frame_bytes(Kind::Hello, 0, vec![0; 5000].into());
    closed_after(&bytes, Limits::default(), "exceeds the limit of 4096").await;
}

#[tokio::test]
async fn an_absurd_length_after_the_handshake_closes_the_connection() {
    let mut bytes = frame_bytes(Kind::Hello, 0, hello_of(node(1)).encode());
    bytes.extend(frame_bytes(Kind::AppendEntries, 1, vec![0; 5000].into()));
    let limits = Limits { body_len_max: 4999, ..Limits::default() };
    closed_after(&bytes, limits, "node 1 incarnation 0000000000000064 boot 1 of cluster").await;
}

#[tokio::test]
async fn a_request_on_the_wrong_lane_closes_the_connection() {
    let mut bytes = frame_bytes(Kind::Hello, 0, hello_of(node(1)).encode());
    bytes.extend(frame_bytes(Kind::Vote, 1, body("on the bulk lane")));
    closed_after(&bytes, Limits::default(), "node 1").await;
}

#[tokio::test]
async fn a_request_before_the_handshake_closes_the_connection() {
    let bytes = frame_bytes(Kind::Vote, 1, body("who am I?"));
    closed_after(&bytes, Limits::default(), "has no place in the handshake").await;
}

#[tokio::test]
async fn half_a_handshake_and_silence_close_the_connection() {
    let limits = Limits { handshake_deadline: Duration::from_millis(20), ..Limits::default() };
    let log = LogLines::capture();
    let (address, server) = serve(open_gate(node(2)), limits, Echo::new()).await;
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(b"RWnt").await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it was not closed").unwrap();
    eventually(|| server.counters().malformed() == 1).await;
    assert_eq!(log.with("no handshake in time").len(), 1);
    server.shutdown().await;
}

#[tokio::test]
async fn a_frame_that_dribbles_in_closes_the_connection() {
    let limits = Limits { header_deadline: Duration::from_millis(20), ..Limits::default() };
    let mut bytes = frame_bytes(Kind::Hello, 0, hello_of(node(1)).encode());
    bytes.extend(&frame_bytes(Kind::AppendEntries, 1, body("x"))[..20]);
    closed_after(&bytes, limits, "node 1").await;
}

#[tokio::test]
async fn a_caller_gives_up_on_a_host_that_never_greets() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let limits = Limits { handshake_deadline: Duration::from_millis(20), ..Limits::default() };
    let dialer = raftwright_net::Dialer::new(open_gate(node(1)), limits, 1);
    let mut link = Link::new(dialer, target(&address, 2), Lane::Control);
    let error = link.call(Kind::Vote, body("x"), PATIENCE).await.unwrap_err();
    assert!(matches!(error, CallError::Dial(raftwright_net::DialError::Deadline { .. })), "{error}");
}

#[tokio::test]
async fn every_lane_carries_its_kind() {
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Echo::new()).await;
    for lane in [Lane::Control, Lane::Bulk, Lane::Snapshot, Lane::Client] {
        let mut link = Link::new(dialer(node(1)), target(&address, 2), lane);
        assert_eq!(link.call(kind_of(lane), body("x"), PATIENCE).await.unwrap(), "x");
        assert_eq!(link.session().unwrap().peer, node(2));
    }
    server.shutdown().await;
}

#[tokio::test]
async fn the_host_answers_a_handshake_with_these_frames() {
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Echo::new()).await;
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(&frame_bytes(Kind::Hello, 0, hello_of(node(1)).encode())).await.unwrap();
    stream.write_all(&frame_bytes(Kind::Ping, 0, raftwright_net::Body::new())).await.unwrap();
    let mut decoder = FrameDecoder::new(4096);
    let mut frames = Vec::new();
    while frames.len() < 2 {
        let mut bytes = [0; 64];
        let read = stream.read(&mut bytes).await.unwrap();
        assert!(read > 0, "it was closed");
        decoder.feed(&bytes[..read]);
        while let Some(frame) = decoder.next_frame().unwrap() {
            frames.push(frame);
        }
    }
    let welcome = Welcome::decode(frames[0].body.clone()).unwrap();
    assert_eq!((frames[0].kind, welcome.identity), (Kind::Welcome, node(2)));
    assert_eq!(welcome.identity.cluster, Some(CLUSTER));
    assert_eq!((frames[1].kind, frames[1].role), (Kind::Ping, Role::Answer));
    server.shutdown().await;
}
