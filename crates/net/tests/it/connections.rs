//! Open connections: order, pipelining, loss, coming back, shutting down.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raftwright_net::limits::BULK_IN_FLIGHT_MAX;
use raftwright_net::{
    Body, CallError, Channel, Dialer, Fault, FaultCode, FrameHead, Handler, Kind, Lane, Limits, Link, Listener,
    RequestId, Role, Session, encode_frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::raw_peer::RawPeer;
use crate::support::{Echo, PATIENCE, body, client, dialer, eventually, node, open_gate, serve, target};

#[tokio::test]
async fn the_bulk_lane_begins_all_and_answers_in_order() {
    let echo = Echo::new();
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&echo)).await;
    let mut peer = RawPeer::open(&address, Lane::Bulk).await;
    // The first waits for a permit, the others could be answered at once.
    for (id, text) in [(1, "wait"), (2, "two"), (3, "three")] {
        peer.send(Kind::AppendEntries, Role::Request, id, body(text)).await;
    }
    eventually(|| *echo.seen.lock().unwrap() == ["wait", "two", "three"]).await;
    echo.permits.add_permits(1);
    for (id, text) in [(1, "wait"), (2, "two"), (3, "three")] {
        let frame = peer.next().await.unwrap();
        assert_eq!((frame.id, frame.role, &frame.body[..]), (RequestId(id), Role::Answer, text.as_bytes()));
    }
    server.shutdown().await;
}

#[tokio::test]
async fn the_control_lane_answers_as_each_is_ready() {
    let echo = Echo::new();
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&echo)).await;
    let mut peer = RawPeer::open(&address, Lane::Control).await;
    peer.send(Kind::Vote, Role::Request, 1, body("wait for the disk")).await;
    peer.send(Kind::Heartbeat, Role::Request, 2, body("beat")).await;
    assert_eq!(peer.next().await.unwrap().id, RequestId(2), "a heartbeat does not wait for a vote");
    echo.permits.add_permits(1);
    assert_eq!(peer.next().await.unwrap().id, RequestId(1));
    server.shutdown().await;
}

#[tokio::test]
async fn requests_beyond_the_bound_stay_in_the_socket() {
    let echo = Echo::new();
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&echo)).await;
    let mut peer = RawPeer::open(&address, Lane::Bulk).await;
    let count = 3 * BULK_IN_FLIGHT_MAX;
    for id in 1..=count {
        peer.send(Kind::AppendEntries, Role::Request, id as u64, body("wait")).await;
    }
    eventually(|| echo.seen.lock().unwrap().len() == BULK_IN_FLIGHT_MAX).await;
    // Each answer makes room for one more, never for two.
    for answered in 1..=count {
        echo.permits.add_permits(1);
        assert_eq!(peer.next().await.unwrap().id, RequestId(answered as u64));
        assert!(echo.seen.lock().unwrap().len() <= BULK_IN_FLIGHT_MAX + answered);
    }
    assert_eq!(echo.seen.lock().unwrap().len(), count);
    server.shutdown().await;
}

#[tokio::test]
async fn a_channel_carries_many_callers_and_each_gets_its_own_answer() {
    let echo = Echo::new();
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&echo)).await;
    let channel = Channel::spawn(dialer(client()), target(&address, 2), Lane::Client);
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..50 {
        let channel = channel.clone();
        callers.spawn(async move {
            for round in 0..20 {
                let text = format!("{caller}/{round}");
                assert_eq!(channel.call(Kind::Client, body(&text), PATIENCE).await.unwrap(), text);
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    assert_eq!(server.counters().accepted(), 1);
    server.shutdown().await;
}

#[tokio::test]
async fn pending_requests_fail_when_the_connection_drops() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let channel = Channel::spawn(dialer(client()), target(&address, 2), Lane::Client);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let channel = channel.clone();
        callers.spawn(async move { channel.call(Kind::Client, body("x"), PATIENCE).await });
    }
    let mut peer = RawPeer::accept(&listener).await;
    for _ in 0..10 {
        assert_eq!(peer.next().await.unwrap().kind, Kind::Client);
    }
    drop(peer);
    while let Some(failed) = callers.join_next().await {
        let error = failed.unwrap().unwrap_err();
        assert!(matches!(error, CallError::Lost(_)), "{error}");
        assert!(!error.is_surely_not_done(), "the peer may have acted on it");
    }
    // The channel is as good as new: the next call connects again.
    let call = tokio::spawn(async move { channel.call(Kind::Client, body("again"), PATIENCE).await });
    let mut peer = RawPeer::accept(&listener).await;
    let frame = peer.next().await.unwrap();
    peer.send(Kind::Client, Role::Answer, frame.id.0, body("answer")).await;
    assert_eq!(call.await.unwrap().unwrap(), "answer");
}

#[tokio::test]
async fn a_call_on_a_link_fails_when_the_connection_drops() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut link = Link::new(dialer(node(1)), target(&address, 2), Lane::Control);
    let host = async {
        let mut peer = RawPeer::accept(&listener).await;
        assert_eq!(peer.next().await.unwrap().kind, Kind::Vote);
    };
    let (answer, ()) = tokio::join!(link.call(Kind::Vote, body("x"), PATIENCE), host);
    assert!(matches!(answer, Err(CallError::Lost(_))), "{answer:?}");
}

#[tokio::test]
async fn a_link_comes_back_after_its_host_does() {
    let echo = Echo::new();
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&echo)).await;
    let mut link = Link::new(dialer(node(1)), target(&address, 2), Lane::Control);
    link.call(Kind::Vote, body("one"), PATIENCE).await.unwrap();
    server.shutdown().await;
    let error = link.call(Kind::Vote, body("two"), PATIENCE).await.unwrap_err();
    assert!(matches!(error, CallError::Dial(_) | CallError::Lost(_)), "{error}");
    let socket = TcpListener::bind(&address).await.unwrap();
    let server = Listener::from_socket(socket, open_gate(node(2)), Limits::default()).serve(echo);
    assert_eq!(link.call(Kind::Vote, body("three"), PATIENCE).await.unwrap(), "three");
    server.shutdown().await;
}

#[tokio::test]
async fn a_connection_closed_while_idle_costs_no_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut link = Link::new(dialer(node(1)), target(&address, 2), Lane::Control);
    for text in ["one", "two"] {
        let host = async {
            let mut peer = RawPeer::accept(&listener).await;
            let frame = peer.next().await.unwrap();
            peer.send(frame.kind, Role::Answer, frame.id.0, body(text)).await;
        };
        let (answer, ()) = tokio::join!(link.call(Kind::Vote, body("x"), PATIENCE), host);
        assert_eq!(answer.unwrap(), text);
        // The host's end is closed here. Its packet has to pass the reactor once before it can be noticed.
        the_reactor_has_looked().await;
    }
}

/// Lets the runtime look at its sockets: a whole connection comes and goes after everything sent before.
pub(crate) async fn the_reactor_has_looked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (caller, host) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let mut host = host.unwrap().0;
    drop(caller);
    assert_eq!(host.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn an_abandoned_call_leaves_the_link_usable_and_its_answer_is_passed_over() {
    let echo = Echo::new();
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&echo)).await;
    let mut link = Link::new(dialer(node(1)), target(&address, 2), Lane::Bulk);
    let error = link.call(Kind::AppendEntries, body("wait"), Duration::from_millis(30)).await.unwrap_err();
    if error == (CallError::Deadline { sent: false }) {
        // A slow machine: the connection was not even open. Then there is nothing to abandon.
        echo.permits.add_permits(1);
    } else {
        assert_eq!(error, CallError::Deadline { sent: true });
        eventually(|| !echo.seen.lock().unwrap().is_empty()).await;
        echo.permits.add_permits(1);
    }
    assert_eq!(link.call(Kind::AppendEntries, body("next"), PATIENCE).await.unwrap(), "next");
    assert_eq!(server.counters().accepted(), 1);
    server.shutdown().await;
}

#[tokio::test]
async fn a_silent_peer_is_pinged_and_then_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let limits = Limits { silence_max: Duration::from_millis(300), ..Limits::default() };
    let mut link = Link::new(Dialer::new(open_gate(node(1)), limits, 1), target(&address, 2), Lane::Control);
    let host = async {
        let mut peer = RawPeer::accept(&listener).await;
        assert_eq!(peer.next().await.unwrap().kind, Kind::Vote);
        // One sign of life is given, the next ping is not answered: the connection is half open.
        assert_eq!(peer.next().await.unwrap().kind, Kind::Ping);
        peer.send(Kind::Ping, Role::Answer, 0, Body::new()).await;
        assert_eq!(peer.next().await.unwrap().kind, Kind::Ping);
        assert_eq!(peer.next().await, None, "given up");
    };
    let call = async {
        let answer = link.call(Kind::Vote, body("x"), PATIENCE).await;
        drop(link);
        answer
    };
    let (answer, ()) = tokio::join!(call, host);
    assert_eq!(answer, Err(CallError::Silent));
}

#[tokio::test]
async fn a_peer_that_is_slow_to_answer_is_not_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let limits = Limits { silence_max: Duration::from_millis(200), ..Limits::default() };
    let mut link = Link::new(Dialer::new(open_gate(node(1)), limits, 1), target(&address, 2), Lane::Control);
    let host = async {
        let mut peer = RawPeer::accept(&listener).await;
        let request = peer.next().await.unwrap();
        // Longer than any silence would be allowed to last.
        for _ in 0..4 {
            assert_eq!(peer.next().await.unwrap().kind, Kind::Ping);
            peer.send(Kind::Ping, Role::Answer, 0, Body::new()).await;
        }
        peer.send(request.kind, Role::Answer, request.id.0, body("at last")).await;
        peer
    };
    let (answer, _peer) = tokio::join!(link.call(Kind::Vote, body("x"), PATIENCE), host);
    assert_eq!(answer.unwrap(), "at last");
}

/// A host that greets and hangs up is not asked again at once: the call fails, and the next one waits for the pause.
#[tokio::test]
async fn a_host_that_greets_and_hangs_up_is_met_once_a_call() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut met = 0;
    let host = async {
        loop {
            drop(RawPeer::accept(&listener).await);
            met += 1;
        }
    };
    let mut link = Link::new(dialer(node(1)), target(&address, 2), Lane::Control);
    let calls = async {
        for _ in 0..3 {
            // Perhaps it was gone before the request was written, perhaps after: it gets no answer in either case.
            assert!(link.call(Kind::Vote, body("x"), PATIENCE).await.is_err());
        }
    };
    tokio::select! {
        () = host => {}
        () = calls => {}
    }
    assert_eq!(met, 3);
}

/// Fails in every way a handler can.
struct Failing;

impl Handler for Failing {
    async fn handle(self: Arc<Self>, _: Arc<Session>, _: Kind, body: Bytes) -> Result<Body, Fault> {
        match &body[..] {
            b"busy" => Err(Fault::new(FaultCode::Busy, "later")),
            b"long" => Ok(vec![0; 5000].into()),
            _ => Ok(body.into()),
        }
    }
}

#[tokio::test]
async fn a_failed_request_fails_alone() {
    let limits = Limits { body_len_max: 4000, ..Limits::default() };
    let (address, server) = serve(open_gate(node(2)), limits, Arc::new(Failing)).await;
    let mut link = Link::new(Dialer::new(open_gate(node(1)), limits, 1), target(&address, 2), Lane::Control);
    let error = link.call(Kind::Vote, body("busy"), PATIENCE).await.unwrap_err();
    assert_eq!(error, CallError::Fault(Fault::new(FaultCode::Busy, "later")));
    assert!(error.is_surely_not_done());
    let error = link.call(Kind::Vote, body("long"), PATIENCE).await.unwrap_err();
    assert!(matches!(&error, CallError::Fault(fault) if fault.text().contains("too long")), "{error}");
    assert!(!error.is_surely_not_done(), "the request was handled: only its answer is lost");
    let error = link.call(Kind::Vote, vec![0; 4001].into(), PATIENCE).await.unwrap_err();
    assert!(matches!(error, CallError::TooLong(_)), "{error}");
    assert_eq!(link.call(Kind::Vote, body("fine"), PATIENCE).await.unwrap(), "fine");
    assert_eq!(server.counters().accepted(), 1, "all on one connection");
    server.shutdown().await;
}

#[tokio::test]
async fn long_bodies_arrive_whole_in_both_directions() {
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Echo::new()).await;
    let mut link = Link::new(dialer(node(1)), target(&address, 2), Lane::Snapshot);
    let long = Bytes::from((0..20_000_000_u32).map(|i| (i / 1000) as u8).collect::<Vec<_>>());
    let answer = link.call(Kind::Snapshot, long.clone().into(), PATIENCE).await.unwrap();
    assert!(answer == long);
    server.shutdown().await;
}

#[tokio::test]
async fn much_in_both_directions_at_once_does_not_block() {
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Echo::new()).await;
    let channel = Channel::spawn(dialer(client()), target(&address, 2), Lane::Client);
    // Several times what the kernel and the queue of unsent bytes hold together.
    let long = Bytes::from(vec![9; 1 << 20]);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (channel, long) = (channel.clone(), long.clone());
        callers.spawn(async move { channel.call(Kind::Client, long.clone().into(), PATIENCE).await.unwrap() == long });
    }
    while let Some(same) = callers.join_next().await {
        assert!(same.unwrap());
    }
    server.shutdown().await;
}

#[tokio::test]
async fn requests_beyond_the_bytes_allowed_stay_in_the_socket() {
    let limits = Limits { in_flight_bytes_max: 10, ..Limits::default() };
    let echo = Echo::new();
    let (address, server) = serve(open_gate(node(2)), limits, Arc::clone(&echo)).await;
    let mut peer = RawPeer::open(&address, Lane::Control).await;
    for id in 1..=3 {
        peer.send(Kind::Vote, Role::Request, id, body("wait: seventeen b")).await;
    }
    for id in 1..=3 {
        eventually(|| !echo.seen.lock().unwrap().is_empty()).await;
        the_reactor_has_looked().await;
        assert_eq!(echo.seen.lock().unwrap().len(), id, "one is always taken, however long");
        echo.permits.add_permits(1);
        assert_eq!(peer.next().await.unwrap().id, RequestId(id as u64));
        eventually(|| echo.seen.lock().unwrap().len() == 3.min(id + 1)).await;
    }
    server.shutdown().await;
}

#[tokio::test]
async fn shutdown_leaves_no_task_and_lets_running_requests_finish() {
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    let echo = Echo::new();
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&echo)).await;
    let mut idle = Link::new(dialer(node(1)), target(&address, 2), Lane::Control);
    idle.call(Kind::Vote, body("x"), PATIENCE).await.unwrap();
    let channel = Channel::spawn(dialer(client()), target(&address, 2), Lane::Client);
    let half_open = TcpStream::connect(&address).await.unwrap();
    let call = tokio::spawn({
        let channel = channel.clone();
        async move { channel.call(Kind::Client, body("wait"), PATIENCE).await }
    });
    eventually(|| echo.seen.lock().unwrap().len() == 2).await;
    let release = async {
        tokio::task::yield_now().await;
        echo.permits.add_permits(1);
    };
    tokio::join!(server.shutdown(), release);
    assert_eq!(call.await.unwrap().unwrap(), "wait");
    drop((channel, idle, half_open));
    eventually(|| metrics.num_alive_tasks() == before).await;
}

#[tokio::test]
async fn shutdown_does_not_wait_for_a_request_that_never_finishes() {
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    let echo = Echo::new();
    let limits = Limits { shutdown_grace: Duration::from_millis(20), ..Limits::default() };
    let (address, server) = serve(open_gate(node(2)), limits, Arc::clone(&echo)).await;
    let mut peer = RawPeer::open(&address, Lane::Control).await;
    peer.send(Kind::Vote, Role::Request, 1, body("wait")).await;
    eventually(|| echo.seen.lock().unwrap().len() == 1).await;
    server.shutdown().await;
    assert_eq!(metrics.num_alive_tasks(), before);
    assert_eq!(peer.next().await, None);
}

#[tokio::test]
async fn a_peer_that_takes_no_answers_is_closed() {
    let limits = Limits { write_stall_max: Duration::from_millis(50), ..Limits::default() };
    let echo = Echo::new();
    let (address, server) = serve(open_gate(node(2)), limits, Arc::clone(&echo)).await;
    let mut peer = RawPeer::open(&address, Lane::Control).await;
    // Answers beyond what the kernel's buffers hold, and nobody reads them.
    let long = Bytes::from(vec![1; 1 << 19]);
    let mut id = 0;
    while server.counters().malformed() == 0 {
        id += 1;
        let header = FrameHead { kind: Kind::Vote, role: Role::Request, id: RequestId(id) };
        let frame = [&encode_frame(header, &long.clone().into(), 1 << 20).unwrap()[..], &long].concat();
        // Fails, or does not move any more, once the host has had enough.
        let write = tokio::time::timeout(Duration::from_millis(200), peer.stream.write_all(&frame));
        let _enough = write.await;
    }
    eventually(|| server.counters().open() == 0).await;
    server.shutdown().await;
}

#[tokio::test]
async fn who_gives_up_before_the_request_was_sent_knows_that_it_never_will_be() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let channel = Channel::spawn(dialer(client()), target(&address, 2), Lane::Client);
    // The kernel has completed the connection, and nobody shakes hands.
    let error = channel.call(Kind::Client, body("first"), Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(error, CallError::Deadline { sent: false });
    assert!(error.is_surely_not_done());
    let second = tokio::spawn({
        let channel = channel.clone();
        async move { channel.call(Kind::Client, body("second"), PATIENCE).await }
    });
    let mut peer = RawPeer::accept(&listener).await;
    let frame = peer.next().await.unwrap();
    assert_eq!((frame.id, &frame.body[..]), (RequestId(1), &b"second"[..]), "the first one was not sent");
    peer.send(Kind::Client, Role::Answer, 1, body("done")).await;
    assert_eq!(second.await.unwrap().unwrap(), "done");
    // Sent, and not answered: nobody knows.
    let error = channel.call(Kind::Client, body("third"), Duration::from_millis(500)).await.unwrap_err();
    assert_eq!(error, CallError::Deadline { sent: true });
    assert!(!error.is_surely_not_done());
    assert_eq!(peer.next().await.unwrap().body, "third");
}

/// Nobody can wait for an answer any more once the last handle is gone. A host that is alive and never answers keeps neither
/// the task nor the socket.
#[tokio::test]
async fn a_channel_that_nobody_holds_ends_whatever_its_host_owes() {
    let echo = Echo::new();
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&echo)).await;
    let channel = Channel::spawn(dialer(client()), target(&address, 2), Lane::Client);
    {
        let mut call = std::pin::pin!(channel.call(Kind::Client, body("wait"), PATIENCE));
        tokio::select! {
            biased;
            answer = &mut call => panic!("nobody answers: {answer:?}"),
            () = eventually(|| echo.seen.lock().unwrap().len() == 1) => {}
        }
    }
    assert_eq!(server.counters().open(), 1);
    drop(channel);
    eventually(|| server.counters().open() == 0).await;
    server.shutdown().await;
}
