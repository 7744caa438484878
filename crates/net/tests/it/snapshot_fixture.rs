//! Content that counts what is done to it, a node that receives it, a line that breaks.

use std::collections::BTreeSet;
use std::io::{Error, Result};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use raftwright_net::{Fault, RaftService};
use raftwright_traits::{
    AppendEntriesRequest, AppendEntriesResponse, AppendOutcome, CommittedLeaderId, CommittedLeaderIdOf,
    HeartbeatRequest, HeartbeatResponse, Identity, Incarnation, InstallOutcome, InstallSnapshotRequest,
    InstallSnapshotResponse, LogId, LogIdOf, Membership, RaftTypeConfig, Snapshot, SnapshotContent, SnapshotMeta,
    SnapshotRequest, StoredMembership, TransferLeaderRequest, Vote, VoteOf, VoteRequest, VoteResponse,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Config;

impl RaftTypeConfig for Config {
    type D = Bytes;
    type R = Bytes;
    type NodeId = u64;
    type Node = raftwright_traits::BasicNode;
    type LeaderId = raftwright_traits::StandardLeaderId<u64>;
    type Entry = raftwright_traits::Entry<Config>;
    type SnapshotData = Content;
    type AsyncRuntime = raftwright_traits::TokioRuntime;
}

/// A gate for threads: closed, whoever comes waits.
#[derive(Debug, Default)]
pub(crate) struct ThreadGate {
    closed: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicUsize,
}

impl ThreadGate {
    pub(crate) fn set_closed(&self, closed: bool) {
        *self.closed.lock().unwrap() = closed;
        self.opened.notify_all();
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    fn pass(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let closed = self.closed.lock().unwrap();
        drop(self.opened.wait_while(closed, |closed| *closed).unwrap());
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What happens to all contents of one node.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) writes: ThreadGate,
    /// Contents that exist.
    pub(crate) alive: AtomicUsize,
    /// Bytes written, repeated ones included.
    pub(crate) written: AtomicU64,
    /// Bytes read, repeated ones included.
    pub(crate) read: AtomicU64,
    /// Once this many bytes were written, writing fails; 0 for never.
    pub(crate) full_at: AtomicU64,
}

/// Content in memory, on a disk that counts.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) bytes: Vec<u8>,
    pub(crate) disk: Arc<Disk>,
}

impl Content {
    pub(crate) fn new(bytes: Vec<u8>, disk: &Arc<Disk>) -> Self {
        disk.alive.fetch_add(1, Ordering::SeqCst);
        Content { bytes, disk: Arc::clone(disk) }
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        self.disk.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl SnapshotContent for Content {
    fn size(&self) -> Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let rest = &self.bytes[offset as usize..];
        // Short reads are allowed, and happen.
        let count = rest.len().min(buffer.len()).min(10_000);
        buffer[..count].copy_from_slice(&rest[..count]);
        self.disk.read.fetch_add(count as u64, Ordering::SeqCst);
        Ok(count)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.disk.writes.pass();
        let full_at = self.disk.full_at.load(Ordering::SeqCst);
        if full_at > 0 && offset >= full_at {
            return Err(Error::other("the disk is full"));
        }
        assert_eq!(offset, self.bytes.len() as u64, "written from the start on, without gaps");
        self.bytes.extend_from_slice(bytes);
        self.disk.written.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        Ok(())
    }
}

pub(crate) fn me(id: u64) -> Identity<u64> {
    Identity { id, incarnation: Some(Incarnation(id * 100)) }
}

pub(crate) fn log_id(term: u64, index: u64) -> LogIdOf<Config> {
    LogId::new(CommittedLeaderIdOf::<Config>::new(term, None), index)
}

pub(crate) fn leader(term: u64, id: u64) -> VoteOf<Config> {
    Vote::new_committed(term, id)
}

/// Bytes that are different everywhere.
pub(crate) fn noise(len: usize, mut seed: u64) -> Vec<u8> {
    let mut next = || {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (seed >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

pub(crate) fn meta(index: u64) -> SnapshotMeta<Config> {
    let voters = [1, 2, 3].into();
    let node = |id| (id, raftwright_traits::BasicNode::new(format!("host{id}:1")));
    let membership = Membership::new(vec![voters], (1..=3).map(node).collect()).unwrap();
    SnapshotMeta {
        last_log_id: Some(log_id(2, index)),
        last_membership: StoredMembership::<Config> { log_id: Some(log_id(1, 1)), membership },
        snapshot_id: format!("2-{index}"),
    }
}

/// Node `from` leads in `term` and sends these bytes.
pub(crate) fn request(from: u64, term: u64, index: u64, bytes: Vec<u8>, disk: &Arc<Disk>) -> SnapshotRequest<Config> {
    let snapshot = Snapshot { meta: meta(index), snapshot: Content::new(bytes, disk) };
    SnapshotRequest { from: me(from), vote: leader(term, from), snapshot: Arc::new(snapshot) }
}

/// Node 2: follows everybody, keeps what it installed.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) disk: Arc<Disk>,
    pub(crate) begun: AtomicUsize,
    pub(crate) installed: Mutex<Vec<(InstallSnapshotRequest<Config>, Snapshot<Config>)>>,
    /// An installation takes one.
    pub(crate) installs: Semaphore,
    /// Installations that wait for one, or have had one.
    pub(crate) installing: AtomicUsize,
    /// What it says to every offer.
    pub(crate) says: Mutex<Option<InstallOutcome<Config>>>,
}

impl Target {
    pub(crate) fn new() -> Self {
        Target {
            disk: Arc::default(),
            begun: AtomicUsize::default(),
            installed: Mutex::default(),
            installs: Semaphore::new(1000),
            installing: AtomicUsize::default(),
            says: Mutex::default(),
        }
    }

    pub(crate) fn last_installed(&self) -> Vec<u8> {
        self.installed.lock().unwrap().last().unwrap().1.snapshot.bytes.clone()
    }
}

impl RaftService<Config> for Target {
    async fn vote(&self, rpc: VoteRequest<Config>) -> std::result::Result<VoteResponse<Config>, Fault> {
        Ok(VoteResponse::<Config> { from: me(2), kind: rpc.kind, asked: rpc.vote, granted: true, vote: Some(rpc.vote) })
    }

    async fn append_entries(
        &self,
        rpc: AppendEntriesRequest<Config>,
    ) -> std::result::Result<AppendEntriesResponse<Config>, Fault> {
        let matched = rpc.prev_log_id;
        Ok(AppendEntriesResponse::<Config> { from: me(2), outcome: AppendOutcome::<Config>::Success { matched } })
    }

    async fn heartbeat(&self, rpc: HeartbeatRequest<Config>) -> std::result::Result<HeartbeatResponse<Config>, Fault> {
        let vote = Some(rpc.vote);
        Ok(HeartbeatResponse::<Config> { from: me(2), round: rpc.round, asked: rpc.vote, accepted: true, vote })
    }

    async fn transfer_leader(&self, _: TransferLeaderRequest<Config>) -> std::result::Result<(), Fault> {
        Ok(())
    }

    async fn check_snapshot(
        &self,
        _: &InstallSnapshotRequest<Config>,
    ) -> std::result::Result<Option<InstallSnapshotResponse<Config>>, Fault> {
        let says = self.says.lock().unwrap().clone();
        Ok(says.map(|outcome| InstallSnapshotResponse::<Config> { from: me(2), outcome }))
    }

    async fn begin_receiving_snapshot(&self) -> std::result::Result<Content, Fault> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Ok(Content::new(Vec::new(), &self.disk))
    }

    async fn install_full_snapshot(
        &self,
        head: InstallSnapshotRequest<Config>,
        snapshot: Snapshot<Config>,
    ) -> std::result::Result<InstallSnapshotResponse<Config>, Fault> {
        self.installing.fetch_add(1, Ordering::SeqCst);
        self.installs.acquire().await.unwrap().forget();
        self.installed.lock().unwrap().push((head, snapshot));
        Ok(InstallSnapshotResponse::<Config> { from: me(2), outcome: InstallOutcome::<Config>::Installed })
    }
}

/// What a line does to the bytes on their way to the target, connection by connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    /// Breaks after so many bytes.
    CutAfter(u64),
    /// Inverts the byte at this place.
    Flip(u64),
    Whole,
}

/// A line to `target` whose connections have these fates, one after the other; later ones are whole. Where it listens,
/// and how many bytes it has carried.
pub(crate) async fn line(target: String, fates: Vec<Fate>) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let carried = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&carried);
    tokio::spawn(async move {
        let mut fates = fates.into_iter();
        while let Ok((near, _)) = listener.accept().await {
            let fate = fates.next().unwrap_or(Fate::Whole);
            let Ok(far) = TcpStream::connect(&target).await else { continue };
            tokio::spawn(carry(near, far, fate, Arc::clone(&count)));
        }
    });
    (address, carried)
}

async fn carry(near: TcpStream, far: TcpStream, fate: Fate, count: Arc<AtomicU64>) {
    let (mut near_read, mut near_write) = near.into_split();
    let (mut far_read, mut far_write) = far.into_split();
    let there = async {
        let mut buffer = vec![0; 8192];
        let mut done = 0;
        loop {
            let room = match fate {
                Fate::CutAfter(at) => (at - done).min(buffer.len() as u64) as usize,
                Fate::Flip(_) | Fate::Whole => buffer.len(),
            };
            if room == 0 {
                return;
            }
            let Ok(len @ 1..) = near_read.read(&mut buffer[..room]).await else { return };
            if let Fate::Flip(at) = fate
                && (done..done + len as u64).contains(&at)
            {
                buffer[(at - done) as usize] ^= 0xff;
            }
            done += len as u64;
            count.fetch_add(len as u64, Ordering::SeqCst);
            if far_write.write_all(&buffer[..len]).await.is_err() {
                return;
            }
        }
    };
    let back = async { drop(tokio::io::copy(&mut far_read, &mut near_write).await) };
    // Whichever side ends, both do.
    tokio::select! {
        biased;
        () = there => {}
        () = back => {}
    }
}

/// Numbers that were seen, for "all different".
pub(crate) fn all_different(numbers: &[u64]) -> bool {
    numbers.iter().collect::<BTreeSet<_>>().len() == numbers.len()
}
