//! A server that does as it is told and remembers what has arrived.

use std::collections::VecDeque;
use std::fmt::{self, Debug, Formatter};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use raftwright_core::{Identity, Incarnation, RaftEntry};

use crate::{
    AppendEntriesRequest, AppendEntriesResponse, AppendOutcome, HeartbeatRequest, HeartbeatResponse, InstallOutcome,
    InstallSnapshotRequest, InstallSnapshotResponse, RaftTypeConfig, TransferLeaderRequest, VoteOf, VoteRequest,
    VoteResponse,
};

/// Something that a server was asked.
#[derive(Clone, Debug)]
pub enum Arrived<C: RaftTypeConfig> {
    /// RequestVote.
    Vote(VoteRequest<C>),
    /// AppendEntries.
    Append(AppendEntriesRequest<C>),
    /// A heartbeat.
    Heartbeat(HeartbeatRequest<C>),
    /// TimeoutNow.
    Transfer(TransferLeaderRequest<C>),
    /// A snapshot, with its content.
    Snapshot(InstallSnapshotRequest<C>, Vec<u8>),
}

struct Inner<C: RaftTypeConfig> {
    arrived: Vec<Arrived<C>>,
    /// Outcomes of the next appends; then they succeed.
    outcomes: VecDeque<AppendOutcome<C>>,
    installs: VecDeque<InstallOutcome<C>>,
    /// It has promised itself to this vote, if to any.
    promised: Option<VoteOf<C>>,
    /// Answers wait.
    held: bool,
    /// Who waits for something to arrive.
    watching: Vec<Waker>,
    waiting: Vec<Waker>,
}

/// A server that answers what it is asked. Clones are the same server. The builder of a network calls it with what arrives,
/// and sends back what it answers.
pub struct TestPeer<C: RaftTypeConfig> {
    me: Identity<C::NodeId>,
    inner: Arc<Mutex<Inner<C>>>,
}

impl<C: RaftTypeConfig> Clone for TestPeer<C> {
    fn clone(&self) -> Self {
        Self { me: self.me, inner: Arc::clone(&self.inner) }
    }
}

impl<C: RaftTypeConfig> Debug for TestPeer<C> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestPeer").field("me", &self.me).field("arrived", &self.lock().arrived.len()).finish()
    }
}

impl<C: RaftTypeConfig> TestPeer<C> {
    /// A server of that id.
    pub fn new(id: C::NodeId) -> Self {
        let inner = Inner {
            arrived: Vec::new(),
            outcomes: VecDeque::new(),
            installs: VecDeque::new(),
            promised: None,
            held: false,
            watching: Vec::new(),
            waiting: Vec::new(),
        };
        Self { me: Identity { id, incarnation: Some(Incarnation(100)) }, inner: Arc::new(Mutex::new(inner)) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<C>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who answers.
    pub fn identity(&self) -> Identity<C::NodeId> {
        self.me
    }

    /// What has arrived, in order.
    pub fn arrived(&self) -> Vec<Arrived<C>> {
        self.lock().arrived.clone()
    }

    pub(super) fn next_outcome(&self, outcome: AppendOutcome<C>) {
        self.lock().outcomes.push_back(outcome);
    }

    pub(super) fn next_install(&self, outcome: InstallOutcome<C>) {
        self.lock().installs.push_back(outcome);
    }

    pub(super) fn promise(&self, vote: VoteOf<C>) {
        self.lock().promised = Some(vote);
    }

    /// From now on what arrives is not answered, until it is let go.
    pub(super) fn hold(&self) {
        self.lock().held = true;
    }

    pub(super) fn let_go(&self) {
        let mut inner = self.lock();
        inner.held = false;
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Waits until so many requests have arrived.
    pub(super) async fn has_got(&self, count: usize) {
        poll_fn(|cx| {
            let mut inner = self.lock();
            if inner.arrived.len() >= count {
                return Poll::Ready(());
            }
            inner.watching.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn remember(&self, what: Arrived<C>) {
        let mut inner = self.lock();
        inner.arrived.push(what);
        let watching = std::mem::take(&mut inner.watching);
        drop(inner);
        watching.into_iter().for_each(Waker::wake);
    }

    async fn arrive(&self, what: Arrived<C>) {
        self.remember(what);
        poll_fn(|cx| {
            let mut inner = self.lock();
            if !inner.held {
                return Poll::Ready(());
            }
            inner.waiting.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Answers RequestVote.
    pub async fn vote(&self, rpc: VoteRequest<C>) -> VoteResponse<C> {
        self.arrive(Arrived::Vote(rpc.clone())).await;
        let promised = self.lock().promised;
        let (granted, vote) = (promised.is_none(), promised.or(Some(rpc.vote)));
        VoteResponse::<C> { from: self.me, kind: rpc.kind, asked: rpc.vote, granted, vote }
    }

    /// Answers AppendEntries: what was asked for, else success up to the last entry.
    pub async fn append_entries(&self, rpc: AppendEntriesRequest<C>) -> AppendEntriesResponse<C> {
        let matched = rpc.entries.last().map(RaftEntry::log_id).or(rpc.prev_log_id);
        self.arrive(Arrived::Append(rpc)).await;
        let outcome = self.lock().outcomes.pop_front().unwrap_or(AppendOutcome::<C>::Success { matched });
        AppendEntriesResponse::<C> { from: self.me, outcome }
    }

    /// Answers a heartbeat.
    pub async fn heartbeat(&self, rpc: HeartbeatRequest<C>) -> HeartbeatResponse<C> {
        let HeartbeatRequest::<C> { vote: asked, round, .. } = rpc;
        self.arrive(Arrived::Heartbeat(rpc)).await;
        let promised = self.lock().promised;
        let (accepted, vote) = (promised.is_none(), promised.or(Some(asked)));
        HeartbeatResponse::<C> { from: self.me, round, asked, accepted, vote }
    }

    /// Takes the request to take over.
    pub async fn transfer_leader(&self, rpc: TransferLeaderRequest<C>) {
        self.arrive(Arrived::Transfer(rpc)).await;
    }

    /// Answers a snapshot that has arrived whole.
    pub async fn install(&self, head: InstallSnapshotRequest<C>, content: Vec<u8>) -> InstallSnapshotResponse<C> {
        self.arrive(Arrived::Snapshot(head, content)).await;
        let outcome = self.lock().installs.pop_front().unwrap_or(InstallOutcome::<C>::Installed);
        InstallSnapshotResponse::<C> { from: self.me, outcome }
    }
}
