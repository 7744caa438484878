//! Whole snapshots through real sockets, and what may go wrong on their way.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use raftwright_net::{
    Body, Dialer, Fault, Handler, Kind, Limits, Listener, RaftHandler, Session, TcpNetwork, TcpNetworkFactory,
};
use raftwright_traits::{
    AppendEntriesRequest, BasicNode, HeartbeatRequest, InstallOutcome, InstallSnapshotResponse, PeerRefusal, RPCError,
    RPCOption, RaftNetworkFactory, RaftNetworkV2, Round, Span,
};

use crate::snapshot_fixture::{Config, Disk, Fate, Target, leader, line, me, meta, noise, request};
use crate::support::{eventually, node, open_gate, serve};

const OPTION: RPCOption = RPCOption { timeout: Span::from_secs(120) };

/// Chunks of 64 KiB in pieces of 16.
const CHUNK: u32 = 64 * 1024;

fn limits() -> Limits {
    Limits {
        snapshot_chunk_bytes: CHUNK,
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(2),
        ..Limits::default()
    }
}

async fn network(from: u64, address: &str, limits: Limits) -> TcpNetwork<Config> {
    let dialer = Dialer::new(open_gate(node(from)), limits, 1);
    TcpNetworkFactory::<Config>::new(dialer).new_client(2, &BasicNode::new(address)).await
}

fn installed() -> InstallSnapshotResponse<Config> {
    InstallSnapshotResponse::<Config> { from: me(2), outcome: InstallOutcome::<Config>::Installed }
}

/// Sends until it is there; how many attempts failed.
async fn send_until_installed(
    network: &mut TcpNetwork<Config>,
    request: &raftwright_traits::SnapshotRequest<Config>,
) -> usize {
    let mut failed = 0;
    loop {
        match network.full_snapshot(request.clone(), OPTION).await {
            Ok(response) => {
                assert_eq!(response, installed());
                return failed;
            }
            Err(RPCError::Refused(why)) => panic!("{why}"),
            Err(_) => failed += 1,
        }
        assert!(failed < 1000, "it never arrives");
    }
}

#[tokio::test]
async fn a_snapshot_arrives_whole_and_is_installed_as_what_it_is() {
    let handler = RaftHandler::new(Target::new());
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&handler)).await;
    let disk = Arc::new(Disk::default());
    let mut network = network(1, &address, limits()).await;
    // Nothing, one byte, less and more than a piece, whole chunks, and one more.
    let chunk = CHUNK as usize;
    for (index, len) in (1..).zip([0, 1, chunk / 4 - 1, chunk / 4, chunk / 4 + 1, chunk, 3 * chunk, 3 * chunk + 1]) {
        let bytes = noise(len, index);
        let request = request(1, 3, index, bytes.clone(), &disk);
        assert_eq!(network.full_snapshot(request.clone(), OPTION).await.unwrap(), installed(), "{len}");
        let installed = handler.service().installed.lock().unwrap();
        let (head, snapshot) = installed.last().unwrap();
        assert_eq!(Some(head), request.head().as_ref());
        assert_eq!(snapshot.meta, meta(index));
        assert_eq!(snapshot.snapshot.bytes, bytes);
    }
    assert_eq!(server.counters().accepted(), 1, "all on one connection");
    server.shutdown().await;
}

#[tokio::test]
async fn a_transfer_cut_anywhere_goes_on_where_it_broke() {
    let handler = RaftHandler::new(Target::new());
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&handler)).await;
    let bytes = noise(2_000_000, 1);
    // In the handshake, in the offer, in heads and bodies of pieces, between them.
    let cuts: Vec<u64> = (0..60).map(|i| (i * 37_123 + 5) % 170_000 + i).collect();
    let (address, carried) = line(address, cuts.iter().map(|cut| Fate::CutAfter(*cut)).collect()).await;
    let disk = Arc::new(Disk::default());
    let request = request(1, 3, 9, bytes.clone(), &disk);
    let mut network = network(1, &address, limits()).await;
    let failed = send_until_installed(&mut network, &request).await;
    assert!(failed > 15, "only {failed} cuts were met");
    assert_eq!(handler.service().last_installed(), bytes);
    assert_eq!(handler.service().begun.load(Ordering::SeqCst), 1, "one content, however often it broke");
    assert_eq!(handler.service().disk.written.load(Ordering::SeqCst), bytes.len() as u64, "each byte once");
    let (size, lost) = (bytes.len() as u64, (failed as u64) * u64::from(CHUNK));
    // Handshake, offer and heads: well below this for each connection and each piece.
    let heads = 1024 * (failed as u64 + 1) + 128 * (size / (u64::from(CHUNK) / 4) + 4 * failed as u64 + 2);
    let carried = carried.load(Ordering::SeqCst);
    assert!(carried <= size + lost + heads, "{carried} bytes on the line for {size} and {failed} cuts");
    // Beside what was sent, at most the one piece that was read ahead.
    let read = disk.read.load(Ordering::SeqCst);
    assert!(read <= size + lost + lost / 4, "{read} bytes read");
    server.shutdown().await;
}

#[tokio::test]
async fn a_byte_that_changes_on_its_way_is_never_installed() {
    let bytes = noise(300_000, 2);
    for at in [10, 150, 300, 5_000, 100_000, 250_000] {
        let handler = RaftHandler::new(Target::new());
        let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&handler)).await;
        let (address, _) = line(address, vec![Fate::Flip(at)]).await;
        let request = request(1, 3, 9, bytes.clone(), &Arc::default());
        let mut network = network(1, &address, limits()).await;
        // The frame's checksum finds it, and ends the connection.
        assert_eq!(send_until_installed(&mut network, &request).await, 1, "flipped at {at}");
        assert_eq!(handler.service().last_installed(), bytes);
        server.shutdown().await;
    }
}

#[tokio::test]
async fn two_snapshots_that_look_the_same_are_never_glued_together() {
    let handler = RaftHandler::new(Target::new());
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&handler)).await;
    let (address, _) = line(address, vec![Fate::CutAfter(150_000)]).await;
    let disk = Arc::default();
    let (first, second) = (noise(300_000, 3), noise(300_000, 4));
    let mut network = network(1, &address, limits()).await;
    network.full_snapshot(request(1, 3, 9, first, &disk), OPTION).await.unwrap_err();
    let had = handler.service().disk.written.load(Ordering::SeqCst);
    assert!(had > 0);
    // The same leader, the same last entry, the same id, the same length.
    let request = request(1, 3, 9, second.clone(), &disk);
    assert_eq!(network.full_snapshot(request, OPTION).await.unwrap(), installed());
    assert_eq!(handler.service().last_installed(), second);
    assert_eq!(handler.service().begun.load(Ordering::SeqCst), 2);
    server.shutdown().await;
}

#[tokio::test]
async fn a_leader_that_remembers_nothing_reads_again_what_the_target_has() {
    let handler = RaftHandler::new(Target::new());
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&handler)).await;
    let (near, _) = line(address.clone(), vec![Fate::CutAfter(150_000)]).await;
    let bytes = noise(300_000, 5);
    let mut first = network(1, &near, limits()).await;
    first.full_snapshot(request(1, 3, 9, bytes.clone(), &Arc::default()), OPTION).await.unwrap_err();
    drop(first);
    let had = handler.service().disk.written.load(Ordering::SeqCst);
    // A disk of its own: the first one may still be reading ahead.
    let disk = Arc::new(Disk::default());
    let mut second = network(1, &address, limits()).await;
    let request = request(1, 3, 9, bytes.clone(), &disk);
    assert_eq!(second.full_snapshot(request, OPTION).await.unwrap(), installed());
    assert_eq!(handler.service().last_installed(), bytes);
    assert_eq!(handler.service().disk.written.load(Ordering::SeqCst), 300_000, "each byte was sent and written once");
    assert_eq!(disk.read.load(Ordering::SeqCst), 300_000, "{had} of them only compared");
    server.shutdown().await;
}

#[tokio::test]
async fn a_target_whose_disk_hangs_still_hears_heartbeats_and_appends() {
    let handler = RaftHandler::new(Target::new());
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&handler)).await;
    handler.service().disk.writes.set_closed(true);
    let bytes = noise(500_000, 6);
    let snapshot = request(1, 3, 9, bytes.clone(), &Arc::default());
    let mut transfer = network(1, &address, limits()).await;
    let sending = tokio::spawn(async move { transfer.full_snapshot(snapshot, OPTION).await });
    eventually(|| handler.service().disk.writes.waiting() == 1).await;
    let mut other = network(1, &address, limits()).await;
    for round in 0..50 {
        let heartbeat =
            HeartbeatRequest::<Config> { from: me(1), vote: leader(3, 1), round: Round(round), committed: None };
        assert_eq!(other.heartbeat(heartbeat, OPTION).await.unwrap().round, Round(round));
        let append = AppendEntriesRequest::<Config> {
            from: me(1),
            vote: leader(3, 1),
            prev_log_id: None,
            entries: Vec::new(),
            committed: None,
        };
        other.append_entries(append, OPTION).await.unwrap();
    }
    assert_eq!(handler.service().disk.written.load(Ordering::SeqCst), 0, "the disk hung all the while");
    handler.service().disk.writes.set_closed(false);
    assert_eq!(sending.await.unwrap().unwrap(), installed());
    assert_eq!(handler.service().last_installed(), bytes);
    server.shutdown().await;
}

#[tokio::test]
async fn a_target_that_is_silent_for_too_long_is_given_up_and_gone_on_with_later() {
    let handler = RaftHandler::new(Target::new());
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&handler)).await;
    handler.service().disk.writes.set_closed(true);
    let bytes = noise(500_000, 7);
    let request = request(1, 3, 9, bytes.clone(), &Arc::default());
    let mut network = network(1, &address, limits()).await;
    let short = RPCOption { timeout: Span::from_millis(50) };
    assert_eq!(network.full_snapshot(request.clone(), short).await.unwrap_err(), RPCError::Timeout);
    handler.service().disk.writes.set_closed(false);
    assert_eq!(send_until_installed(&mut network, &request).await, 0);
    assert_eq!(handler.service().last_installed(), bytes);
    assert_eq!(handler.service().begun.load(Ordering::SeqCst), 1);
    server.shutdown().await;
}

#[tokio::test]
async fn a_transfer_that_was_dropped_goes_on_where_it_was_dropped() {
    let handler = RaftHandler::new(Target::new());
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&handler)).await;
    let bytes = noise(3_000_000, 8);
    let request = request(1, 3, 9, bytes.clone(), &Arc::default());
    let mut network = network(1, &address, limits()).await;
    for part in 1..=5 {
        let arrived = || handler.service().disk.written.load(Ordering::SeqCst) >= part * 300_000;
        tokio::select! {
            biased;
            () = eventually(arrived) => {}
            sent = network.full_snapshot(request.clone(), OPTION) => panic!("too early: {sent:?}"),
        }
    }
    assert_eq!(network.full_snapshot(request, OPTION).await.unwrap(), installed());
    assert_eq!(handler.service().last_installed(), bytes);
    assert_eq!(handler.service().begun.load(Ordering::SeqCst), 1);
    assert_eq!(handler.service().disk.written.load(Ordering::SeqCst), bytes.len() as u64);
    server.shutdown().await;
}

#[tokio::test]
async fn a_new_leader_takes_the_place_of_an_old_one_and_the_old_one_hears_of_it() {
    let handler = RaftHandler::new(Target::new());
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&handler)).await;
    let (old_bytes, new_bytes) = (noise(500_000, 9), noise(400_000, 10));
    let old = request(1, 3, 9, old_bytes, &Arc::default());
    let new = request(3, 4, 12, new_bytes.clone(), &Arc::default());
    // The old leader is in the middle of it.
    handler.service().disk.writes.set_closed(true);
    let mut old_network = network(1, &address, limits()).await;
    let request = old.clone();
    let old_sending = tokio::spawn(async move { (old_network.full_snapshot(request, OPTION).await, old_network) });
    eventually(|| handler.service().disk.writes.waiting() == 1).await;
    let mut new_network = network(3, &address, limits()).await;
    let new_sending = tokio::spawn(async move { new_network.full_snapshot(new, OPTION).await });
    handler.service().installs.forget_permits(1000);
    handler.service().disk.writes.set_closed(false);
    // The new one has everything there and is being installed.
    eventually(|| handler.service().installing.load(Ordering::SeqCst) == 1).await;
    let (ended, mut old_network) = old_sending.await.unwrap();
    assert!(matches!(ended, Err(RPCError::Network(_))), "{ended:?}");
    let busy = InstallOutcome::<Config>::Refused(PeerRefusal::Busy);
    assert_eq!(old_network.full_snapshot(old.clone(), OPTION).await.unwrap().outcome, busy);
    handler.service().installs.add_permits(1000);
    assert_eq!(new_sending.await.unwrap().unwrap(), installed());
    assert_eq!(handler.service().last_installed(), new_bytes);
    // Only installed content is left, and what the senders hold is on other disks.
    eventually(|| handler.service().disk.alive.load(Ordering::SeqCst) == 1).await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_leader_of_an_older_term_is_told_the_newer_vote_while_that_one_is_received() {
    let inner = RaftHandler::new(Target::new());
    let handler = Arc::new(Counting { count: Default::default(), inner: Arc::clone(&inner) });
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&handler)).await;
    inner.service().disk.writes.set_closed(true);
    let new = request(3, 4, 12, noise(400_000, 11), &Arc::default());
    let mut new_network = network(3, &address, limits()).await;
    let new_sending = tokio::spawn(async move { new_network.full_snapshot(new, OPTION).await });
    // The offer and the four pieces of a chunk.
    eventually(|| handler.count.load(Ordering::SeqCst) == 5).await;
    let disk = Arc::new(Disk::default());
    let old = request(1, 3, 9, noise(500_000, 12), &disk);
    let mut old_network = network(1, &address, limits()).await;
    let old_sending = tokio::spawn(async move { old_network.full_snapshot(old, OPTION).await });
    eventually(|| handler.count.load(Ordering::SeqCst) == 6).await;
    inner.service().disk.writes.set_closed(false);
    let told = old_sending.await.unwrap().unwrap();
    assert_eq!((told.from, told.outcome), (me(2), InstallOutcome::<Config>::HigherVote(leader(4, 3))));
    assert_eq!(disk.read.load(Ordering::SeqCst), 0, "not a byte of it was read");
    assert_eq!(new_sending.await.unwrap().unwrap(), installed());
    assert_eq!(inner.service().begun.load(Ordering::SeqCst), 1);
    server.shutdown().await;
}

#[tokio::test]
async fn a_target_that_needs_nothing_is_sent_nothing() {
    let handler = RaftHandler::new(Target::new());
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&handler)).await;
    let mut network = network(1, &address, limits()).await;
    let disk = Arc::new(Disk::default());
    for says in [
        InstallOutcome::<Config>::Installed,
        InstallOutcome::<Config>::HigherVote(leader(9, 3)),
        InstallOutcome::<Config>::Refused(PeerRefusal::Malformed),
    ] {
        *handler.service().says.lock().unwrap() = Some(says.clone());
        let request = request(1, 3, 9, noise(100_000, 13), &disk);
        assert_eq!(network.full_snapshot(request, OPTION).await.unwrap().outcome, says);
    }
    assert_eq!(disk.read.load(Ordering::SeqCst), 0, "not even read");
    assert_eq!(handler.service().begun.load(Ordering::SeqCst), 0);
    server.shutdown().await;
}

#[tokio::test]
async fn a_target_that_was_restarted_begins_anew() {
    let handler = RaftHandler::new(Target::new());
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&handler)).await;
    let bytes = noise(500_000, 14);
    let request = request(1, 3, 9, bytes.clone(), &Arc::default());
    let mut network = network(1, &address, limits()).await;
    tokio::select! {
        biased;
        () = eventually(|| handler.service().disk.written.load(Ordering::SeqCst) >= 100_000) => {}
        sent = network.full_snapshot(request.clone(), OPTION) => panic!("too early: {sent:?}"),
    }
    server.shutdown().await;
    let restarted = RaftHandler::new(Target::new());
    let socket = tokio::net::TcpListener::bind(&address).await.unwrap();
    let server = Listener::from_socket(socket, open_gate(node(2)), Limits::default()).serve(Arc::clone(&restarted));
    send_until_installed(&mut network, &request).await;
    assert_eq!(restarted.service().last_installed(), bytes);
    drop(handler);
    server.shutdown().await;
}

#[tokio::test]
async fn a_disk_that_is_full_ends_the_receipt_and_room_lets_it_begin_again() {
    let handler = RaftHandler::new(Target::new());
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&handler)).await;
    handler.service().disk.full_at.store(200_000, Ordering::SeqCst);
    let bytes = noise(500_000, 15);
    let request = request(1, 3, 9, bytes.clone(), &Arc::default());
    let mut network = network(1, &address, limits()).await;
    let error = network.full_snapshot(request.clone(), OPTION).await.unwrap_err();
    assert!(matches!(&error, RPCError::Network(text) if text.contains("could not write")), "{error}");
    assert_eq!(handler.service().disk.alive.load(Ordering::SeqCst), 0, "nothing is left of it");
    handler.service().disk.full_at.store(0, Ordering::SeqCst);
    assert_eq!(send_until_installed(&mut network, &request).await, 0);
    assert_eq!(handler.service().last_installed(), bytes);
    assert_eq!(handler.service().begun.load(Ordering::SeqCst), 2);
    server.shutdown().await;
}

/// Counts requests.
struct Counting {
    count: std::sync::atomic::AtomicUsize,
    inner: Arc<RaftHandler<Config, Target>>,
}

impl Handler for Counting {
    async fn handle(self: Arc<Self>, session: Arc<Session>, kind: Kind, body: Bytes) -> Result<Body, Fault> {
        self.count.fetch_add(1, Ordering::SeqCst);
        Arc::clone(&self.inner).handle(session, kind, body).await
    }
}

#[tokio::test]
async fn an_installation_may_take_longer_than_the_silence_that_is_allowed() {
    let inner = RaftHandler::new(Target::new());
    let handler = Arc::new(Counting { count: Default::default(), inner: Arc::clone(&inner) });
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&handler)).await;
    inner.service().installs.forget_permits(1000);
    let mut transfer = network(1, &address, limits()).await;
    let option = RPCOption { timeout: Span::from_millis(300) };
    let count = || handler.count.load(Ordering::SeqCst);
    let begun = || inner.service().installing.load(Ordering::SeqCst);
    let all_done = || inner.service().installed.lock().unwrap().len() == begun();
    for index in 1..=100 {
        let (asked_before, begun_before) = (count(), begun());
        let snapshot = request(1, 3, index, noise(1000, index), &Arc::default());
        let sending = tokio::spawn(async move { (transfer.full_snapshot(snapshot, option).await, transfer) });
        // Offer, piece, finish, and then twice as long as the silence that is allowed, asked every third of it.
        eventually(|| sending.is_finished() || count() >= asked_before + 3 + 6).await;
        let lasted = !sending.is_finished();
        inner.service().installs.add_permits(10);
        let (ended, again) = sending.await.unwrap();
        eventually(all_done).await;
        match ended {
            Ok(response) => assert_eq!(response, installed()),
            // A machine that stands still is silent too. Then another transfer has to last as long.
            Err(error) => assert_eq!(error, RPCError::Timeout),
        }
        if lasted {
            assert_eq!(begun(), begun_before + 1, "installed once");
            return server.shutdown().await;
        }
        inner.service().installs.forget_permits(1000);
        transfer = again;
    }
    panic!("they are given up again and again");
}

#[tokio::test(start_paused = true)]
async fn all_transfers_of_a_node_together_keep_to_its_rate() {
    let rate = 100_000;
    let mut limits = limits();
    limits.snapshot_bytes_per_second = rate;
    let dialer = Dialer::new(open_gate(node(1)), limits, 1);
    let mut sending = Vec::new();
    let begun = tokio::time::Instant::now();
    let mut handlers = Vec::new();
    for seed in [17, 18] {
        let handler = RaftHandler::new(Target::new());
        let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&handler)).await;
        let mut factory = TcpNetworkFactory::<Config>::new(Arc::clone(&dialer));
        let mut network = factory.new_client(2, &BasicNode::new(&address)).await;
        let request = request(1, 3, 9, noise(1_000_000, seed), &Arc::default());
        sending.push(tokio::spawn(async move { send_until_installed(&mut network, &request).await }));
        handlers.push((handler, server));
    }
    for sending in sending {
        sending.await.unwrap();
    }
    // Virtual time: two million bytes, of which one chunk may leave at once.
    let least = Duration::from_millis((2_000_000 - u64::from(CHUNK)) * 1000 / rate);
    assert!(begun.elapsed() >= least, "{:?} is less than {least:?}", begun.elapsed());
    for (handler, server) in handlers {
        assert_eq!(handler.service().last_installed().len(), 1_000_000);
        server.shutdown().await;
    }
}
