//! What happens at the bounds of the transport.

use std::sync::Arc;

use bytes::Bytes;
use raftwright_net::limits::{
    BULK_IN_FLIGHT_MAX, CLIENT_IN_FLIGHT_MAX, CONTROL_IN_FLIGHT_MAX, HANDSHAKE_DEADLINE, INSTALL_WAIT_MAX,
    SNAPSHOT_ID_LEN_MAX, SNAPSHOT_IN_FLIGHT_MAX, SNAPSHOT_PIECE_BYTES_MAX,
};
use raftwright_net::{
    Body, CallError, Channel, DialError, Dialer, Features, FrameError, FrameHead, HANDSHAKE_BODY_LEN_MAX, Handler,
    Kind, Lane, Limits, Link, LinkError, ProtocolVersion, RaftHandler, Refusal, RefusalReason, RequestId, Role,
    Session, TcpNetworkFactory, WireMessage, encode_frame,
};
use raftwright_traits::crc32c;
use raftwright_traits::transfer::{SnapshotFinish, SnapshotOffer, SnapshotPiece, TransferAnswer, TransferRequest};
use raftwright_traits::{BasicNode, InstallOutcome, RPCOption, RaftNetworkFactory, RaftNetworkV2, Span};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;

use crate::connections::the_reactor_has_looked;
use crate::raw_peer::{RawPeer, hello};
use crate::snapshot_fixture::{Config, Disk, Target, leader, me, meta, noise, request};
use crate::support::{Echo, PATIENCE, body, dialer, eventually, kind_of, node, open_gate, serve, target};

const LANES: [(Lane, usize); 4] = [
    (Lane::Control, CONTROL_IN_FLIGHT_MAX),
    (Lane::Bulk, BULK_IN_FLIGHT_MAX),
    (Lane::Snapshot, SNAPSHOT_IN_FLIGHT_MAX),
    (Lane::Client, CLIENT_IN_FLIGHT_MAX),
];

#[tokio::test]
async fn a_host_handles_as_many_requests_as_the_lane_allows() {
    for (lane, max) in LANES {
        let echo = Echo::new();
        let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&echo)).await;
        let mut peer = RawPeer::open(&address, lane).await;
        let count = max + 3;
        for id in 1..=count {
            peer.send(kind_of(lane), Role::Request, id as u64, body("wait")).await;
        }
        let seen = || echo.seen.lock().unwrap().len();
        eventually(|| seen() >= max).await;
        the_reactor_has_looked().await;
        assert_eq!(seen(), max, "{lane:?}: the rest stays in the socket");
        echo.permits.add_permits(1);
        peer.next().await.unwrap();
        eventually(|| seen() == max + 1).await;
        the_reactor_has_looked().await;
        assert_eq!(seen(), max + 1, "{lane:?}: an answer makes room for one");
        echo.permits.add_permits(count);
        for _ in 1..count {
            peer.next().await.unwrap();
        }
        assert_eq!(seen(), count, "{lane:?}");
        server.shutdown().await;
    }
}

#[tokio::test]
async fn a_channel_sends_as_many_requests_as_the_lane_allows() {
    for (lane, max) in LANES {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let channel = Channel::spawn(dialer(node(1)), target(&address, 2), lane);
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..max + 1 {
            let channel = channel.clone();
            callers.spawn(async move { channel.call(kind_of(lane), body("x"), PATIENCE).await });
        }
        let mut peer = RawPeer::accept(&listener).await;
        for id in 1..=max as u64 {
            assert_eq!(peer.next().await.unwrap().id, RequestId(id), "{lane:?}");
        }
        tokio::select! {
            biased;
            more = peer.next() => panic!("{lane:?}: {more:?}"),
            () = the_reactor_has_looked() => {}
        }
        peer.send(kind_of(lane), Role::Answer, 1, Body::new()).await;
        let last = max as u64 + 1;
        assert_eq!(peer.next().await.unwrap().id, RequestId(last), "{lane:?}: there was room for it");
        for id in 2..=last {
            peer.send(kind_of(lane), Role::Answer, id, Body::new()).await;
        }
        while let Some(answered) = callers.join_next().await {
            assert!(answered.unwrap().is_ok(), "{lane:?}");
        }
    }
}

/// Who opens more connections than one address may have is turned away, and keeps nobody else out.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn one_address_gets_a_part_of_the_connections() {
    let limits = Limits { connections_per_address_max: 2, ..Limits::default() };
    let (address, server) = serve(open_gate(node(2)), limits, Echo::new()).await;
    let first = RawPeer::open(&address, Lane::Bulk).await;
    let second = RawPeer::open(&address, Lane::Bulk).await;
    let mut third = RawPeer::new(TcpStream::connect(&address).await.unwrap());
    let refusal = third.next().await.unwrap();
    assert_eq!(refusal.kind, Kind::Refuse);
    assert_eq!(Refusal::decode(refusal.body).unwrap().reason, RefusalReason::Overloaded);
    assert_eq!(third.next().await, None, "and closed");

    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut elsewhere = RawPeer::new(socket.connect(address.parse().unwrap()).await.unwrap());
    elsewhere.send(Kind::Hello, Role::Request, 0, hello(Lane::Bulk).encode()).await;
    assert_eq!(elsewhere.next().await.unwrap().kind, Kind::Welcome);

    drop(first);
    eventually(|| server.counters().open() == 2).await;
    let again = RawPeer::open(&address, Lane::Bulk).await;
    drop((second, again, elsewhere));
    eventually(|| server.counters().open() == 0).await;
    server.shutdown().await;
}

/// The header of a frame with a body of so many bytes.
fn header(kind: Kind, len: u32) -> Vec<u8> {
    let head = FrameHead { kind, role: Role::Request, id: RequestId(0) };
    encode_frame(head, &vec![0; len as usize].into(), u32::MAX).unwrap().to_vec()
}

#[tokio::test]
async fn a_stranger_s_long_greeting_is_refused_by_its_header_alone() {
    let smaller = Limits { handshake_body_len_max: 100, ..Limits::default() };
    for (limits, max) in [(Limits::default(), HANDSHAKE_BODY_LEN_MAX), (smaller, 100)] {
        let (address, server) = serve(open_gate(node(2)), limits, Echo::new()).await;
        let mut longest = RawPeer::new(TcpStream::connect(&address).await.unwrap());
        // What a later version may have added is passed over.
        let mut greeting = hello(Lane::Bulk).encode().into_bytes().to_vec();
        greeting.resize(max as usize, 0);
        longest.send(Kind::Hello, Role::Request, 0, greeting.into()).await;
        assert_eq!(longest.next().await.unwrap().kind, Kind::Welcome);

        let mut longer = TcpStream::connect(&address).await.unwrap();
        longer.write_all(&header(Kind::Hello, max + 1)).await.unwrap();
        // Not a byte of the body is sent: a host that waited for it would wait for the deadline.
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, longer.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "closed, or reset");
        eventually(|| server.counters().malformed() == 1).await;
        server.shutdown().await;

        let host = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = host.local_addr().unwrap().to_string();
        let mut link = Link::new(Dialer::new(open_gate(node(1)), limits, 1), target(&address, 2), Lane::Bulk);
        let answer = async {
            let mut peer = RawPeer::new(host.accept().await.unwrap().0);
            assert_eq!(peer.next().await.unwrap().kind, Kind::Hello);
            peer.stream.write_all(&header(Kind::Welcome, max + 1)).await.unwrap();
            peer
        };
        let (error, _peer) = tokio::join!(link.call(Kind::AppendEntries, body("x"), PATIENCE), answer);
        let Err(CallError::Dial(DialError::Link { error, .. })) = error else { panic!("{error:?}") };
        assert_eq!(error, LinkError::Frame(FrameError::TooLong { len: u64::from(max) + 1, max }));
    }
}

/// With chunks as large as the setting can say, the pieces are those that a target takes.
#[tokio::test]
async fn a_chunk_beyond_the_bound_is_cut_as_the_bound_says() {
    let handler = RaftHandler::new(Target::new());
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&handler)).await;
    let limits = Limits { snapshot_chunk_bytes: u32::MAX, ..Limits::default() };
    let dialer = Dialer::new(open_gate(node(1)), limits, 1);
    let mut network = TcpNetworkFactory::<Config>::new(dialer).new_client(2, &BasicNode::new(&address)).await;
    let bytes = noise(SNAPSHOT_PIECE_BYTES_MAX + 1, 1);
    let request = request(1, 3, 9, bytes.clone(), &Arc::new(Disk::default()));
    let option = RPCOption { timeout: Span::from_secs(120) };
    let sent = network.full_snapshot(request, option).await.unwrap();
    assert_eq!(sent.outcome, InstallOutcome::<Config>::Installed);
    assert_eq!(handler.service().last_installed(), bytes);
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_an_installation_is_told_in_time_that_it_goes_on() {
    let handler = RaftHandler::new(Target::new());
    handler.service().installs.forget_permits(1000);
    let (version, features) = (ProtocolVersion(1), Features::CURRENT);
    let session = Arc::new(Session { peer: node(1), lane: Lane::Snapshot, version, features });
    let ask = async |request: TransferRequest<Config>| {
        let answer = Arc::clone(&handler).handle(Arc::clone(&session), Kind::Snapshot, request.encode().into_bytes());
        TransferAnswer::<Config>::decode(answer.await.unwrap().into_bytes()).unwrap()
    };
    let offer = SnapshotOffer { from: me(1), vote: leader(3, 1), meta: meta(9), size: 1, anew: false };
    let TransferAnswer::Accepted { receipt, .. } = ask(TransferRequest::Offer(offer)).await else { panic!("refused") };
    ask(TransferRequest::Piece(SnapshotPiece::new(receipt, 0, Bytes::from_static(b"x")))).await;
    let finish = SnapshotFinish { receipt, size: 1, checksum: crc32c::crc32c(b"x"), wait: Span::from_secs(3600) };
    let before = Instant::now();
    assert_eq!(ask(TransferRequest::Finish(finish)).await, TransferAnswer::Installing(receipt));
    assert_eq!(before.elapsed().as_secs(), INSTALL_WAIT_MAX.as_secs(), "not the hour that was asked for");
    handler.service().installs.add_permits(1);
    assert!(matches!(ask(TransferRequest::Finish(finish)).await, TransferAnswer::Done(_)));
}

/// However many addresses strangers come from: handshakes have places of their own, and no more.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn all_addresses_together_get_a_part_of_the_handshakes() {
    let limits = Limits { handshakes_max: 4, handshakes_per_address_max: 3, ..Limits::default() };
    let (address, server) = serve(open_gate(node(2)), limits, Echo::new()).await;
    let mut silent = Vec::new();
    for from in ["127.0.0.2:0", "127.0.0.3:0"] {
        for _ in 0..3 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(from.parse().unwrap()).unwrap();
            silent.push(socket.connect(address.parse().unwrap()).await.unwrap());
        }
    }
    eventually(|| server.counters().open() + server.counters().refused() as usize == 6).await;
    assert_eq!((server.counters().open(), server.counters().refused()), (4, 2));
    drop(silent);
    eventually(|| server.counters().open() == 0).await;
    server.shutdown().await;
}

/// Who connects and says nothing has so much time, whichever side it is on.
#[tokio::test]
async fn a_handshake_has_its_time_and_no_more() {
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Echo::new()).await;
    let mut silent = TcpStream::connect(&address).await.unwrap();
    eventually(|| server.counters().open() == 1).await;
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute_address = mute.local_addr().unwrap().to_string();
    let hour = std::time::Duration::from_secs(3600);
    // From here on time passes as soon as nothing can run.
    tokio::time::pause();
    let before = Instant::now();
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0, "closed without a word");
    assert_eq!(before.elapsed().as_secs(), HANDSHAKE_DEADLINE.as_secs());
    let before = Instant::now();
    let mut link = Link::new(dialer(node(1)), target(&mute_address, 2), Lane::Control);
    let error = link.call(Kind::Vote, body("x"), hour).await.unwrap_err();
    assert!(matches!(error, CallError::Dial(DialError::Deadline { .. })), "{error}");
    assert_eq!(before.elapsed().as_secs(), HANDSHAKE_DEADLINE.as_secs());
    tokio::time::resume();
    server.shutdown().await;
}

/// A host that lives and answers nothing: what was abandoned on a connection holds its place there, and a connection without a
/// place is given up for another one.
#[tokio::test]
async fn requests_that_were_abandoned_fill_a_link_up_to_its_bound() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut link = Link::new(dialer(node(1)), target(&address, 2), Lane::Snapshot);
    let mut peer = None;
    for id in 1..=SNAPSHOT_IN_FLIGHT_MAX as u64 {
        let mut call = std::pin::pin!(link.call(Kind::Snapshot, body("x"), PATIENCE));
        let heard = async {
            if peer.is_none() {
                peer = Some(RawPeer::accept(&listener).await);
            }
            peer.as_mut().unwrap().next().await.unwrap().id
        };
        tokio::select! {
            biased;
            answer = &mut call => panic!("nobody answers: {answer:?}"),
            heard = heard => assert_eq!(heard, RequestId(id)),
        }
    }
    let error = link.call(Kind::Snapshot, body("one more"), PATIENCE).await.unwrap_err();
    assert_eq!(error, CallError::Silent);
    assert_eq!(peer.unwrap().next().await, None, "closed, and the one more was not sent");
    let (answer, ()) = tokio::join!(link.call(Kind::Snapshot, body("anew"), PATIENCE), async {
        let mut peer = RawPeer::accept(&listener).await;
        let request = peer.next().await.unwrap();
        peer.send(Kind::Snapshot, Role::Answer, request.id.0, body("here")).await;
    });
    assert_eq!(answer.unwrap(), "here");
}

/// The id of a snapshot that no target would read is not sent.
#[tokio::test]
async fn a_snapshot_with_too_long_an_id_is_not_sent() {
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Echo::new()).await;
    let mut factory = TcpNetworkFactory::<Config>::new(dialer(node(1)));
    let mut network = factory.new_client(2, &BasicNode::new(&address)).await;
    let option = RPCOption { timeout: Span::from_secs(120) };
    let mut rpc = request(1, 5, 40, noise(10, 1), &Arc::default());
    Arc::get_mut(&mut rpc.snapshot).unwrap().meta.snapshot_id = "x".repeat(SNAPSHOT_ID_LEN_MAX + 1);
    let error = network.full_snapshot(rpc, option).await.unwrap_err();
    assert!(error.to_string().contains("too long an id"), "{error}");
    server.shutdown().await;
}
