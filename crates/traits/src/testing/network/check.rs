//! A check, and what it works with.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use raftwright_core::{
    CommittedLeaderId, Identity, Incarnation, LogIndex, Membership, RaftEntry, Round, Span, Vote, VoteKind,
};

use super::builder::{NetworkBuilder, Served};
use super::peer::{Arrived, TestPeer};
use crate::testing::model::entries_differ;
use crate::testing::trial::{Checked, Failure};
use crate::type_config::FromAppData;
use crate::{
    AppendEntriesRequest, AppendEntriesResponse, AppendOutcome, CommittedLeaderIdOf, HeartbeatRequest, LogIdOf,
    RPCError, RPCOption, RaftNetworkFactory, RaftTypeConfig, TransferLeaderRequest, VoteOf, VoteRequest,
};

/// Time enough for everything: nothing here is about speed.
pub(super) const AMPLE: RPCOption = RPCOption { timeout: Span::from_secs(30) };
/// How often a call is tried when the network may wait before it connects again.
const TRIES_MAX: usize = 500;

pub(super) type Running<'t> = Pin<Box<dyn Future<Output = Checked> + 't>>;

pub(super) struct Check<C: RaftTypeConfig, B: NetworkBuilder<C>> {
    pub(super) name: &'static str,
    /// It needs contents of snapshots.
    pub(super) snapshots: bool,
    pub(super) run: for<'t> fn(&'t Bench<C, B>) -> Running<'t>,
}

macro_rules! network_checks {
    ($snapshots:literal: $($check:ident),+ $(,)?) => {
        vec![$($crate::testing::network::check::Check {
            name: stringify!($check),
            snapshots: $snapshots,
            run: |bench| Box::pin($check(bench)),
        }),+]
    };
}
pub(super) use network_checks;

pub(super) type ClientOf<C, B> = <<B as NetworkBuilder<C>>::Factory as RaftNetworkFactory<C>>::Network;

/// A server, and a client of server 1 that reaches it.
pub(super) struct Line<C: RaftTypeConfig, B: NetworkBuilder<C>> {
    pub(super) peer: TestPeer<C>,
    pub(super) node: C::Node,
    pub(super) server: B::Server,
    pub(super) client: ClientOf<C, B>,
}

/// What a check works with. Requests come from server 1, a leader of term 3.
pub(super) struct Bench<C: RaftTypeConfig, B: NetworkBuilder<C>> {
    pub(super) builder: Rc<B>,
    notes: RefCell<Vec<String>>,
    types: std::marker::PhantomData<fn() -> C>,
}

impl<C: RaftTypeConfig, B: NetworkBuilder<C>> Bench<C, B> {
    pub(super) fn new(builder: Rc<B>) -> Self {
        Self { builder, notes: RefCell::default(), types: std::marker::PhantomData }
    }

    pub(super) fn note(&self, what: impl Into<String>) {
        self.notes.borrow_mut().push(what.into());
    }

    pub(super) fn steps(&self) -> Vec<String> {
        self.notes.take()
    }

    /// A server of that number.
    pub(super) async fn serve(&self, number: u64) -> (TestPeer<C>, Served<C, B::Server>) {
        self.note(format!("server {number} starts"));
        let peer = TestPeer::new(self.builder.node_id(number));
        (peer.clone(), self.builder.serve(number, peer).await)
    }

    /// A client of server 1 for this target.
    pub(super) async fn client(&self, number: u64, node: &C::Node) -> ClientOf<C, B> {
        self.note(format!("server 1 makes a client for server {number}"));
        self.builder.factory(1).new_client(self.builder.node_id(number), node).await
    }

    /// Server 2, and a client for it.
    pub(super) async fn line(&self) -> Line<C, B> {
        let (peer, Served { node, server }) = self.serve(2).await;
        let client = self.client(2, &node).await;
        Line { peer, node, server, client }
    }

    pub(super) fn me(&self) -> Identity<C::NodeId> {
        Identity { id: self.builder.node_id(1), incarnation: Some(Incarnation(100)) }
    }

    pub(super) fn id(&self, term: u64, index: LogIndex) -> LogIdOf<C> {
        LogIdOf::<C>::new(CommittedLeaderIdOf::<C>::new(term, Some(self.builder.node_id(1))), index)
    }

    pub(super) fn leader(&self, term: u64) -> VoteOf<C> {
        Vote::new_committed(term, self.builder.node_id(1))
    }

    pub(super) fn vote_request(&self, kind: VoteKind, last: Option<LogIdOf<C>>) -> VoteRequest<C> {
        let vote = Vote::new(3, self.builder.node_id(1));
        VoteRequest::<C> { from: self.me(), vote, last_log_id: last, kind, permit: None }
    }

    pub(super) fn heartbeat_request(&self, round: u64) -> HeartbeatRequest<C> {
        let committed = round.is_multiple_of(2).then(|| self.id(2, round));
        HeartbeatRequest::<C> { from: self.me(), vote: self.leader(3), round: Round(round), committed }
    }

    pub(super) fn transfer_request(&self) -> TransferLeaderRequest<C> {
        let to = self.builder.node_id(2);
        TransferLeaderRequest::<C> { from: self.me(), vote: self.leader(3), to, last_log_id: Some(self.id(3, 12)) }
    }

    pub(super) fn normal(&self, index: LogIndex, bytes: usize) -> C::Entry {
        let mut entry = C::Entry::from_app_data(self.builder.data(index, bytes));
        entry.set_log_id(self.id(3, index));
        entry
    }

    pub(super) fn members(&self) -> Checked<crate::MembershipOf<C>> {
        let id = |number| self.builder.node_id(number);
        let nodes: BTreeMap<_, _> = (1..=4).map(|number| (id(number), C::Node::default())).collect();
        let configs = vec![BTreeSet::from([id(1), id(2)]), BTreeSet::from([id(2), id(3)])];
        Membership::new(configs, nodes).map_err(|error| Failure(format!("node_id() must tell numbers apart: {error}")))
    }

    /// An append of entries behind `prev`.
    pub(super) fn append(&self, prev: LogIndex, entries: Vec<C::Entry>) -> AppendEntriesRequest<C> {
        let prev_log_id = (prev > 0).then(|| self.id(3, prev));
        let committed = Some(self.id(3, prev));
        AppendEntriesRequest::<C> { from: self.me(), vote: self.leader(3), prev_log_id, entries, committed }
    }

    /// An append of one entry at `index`.
    pub(super) fn append_one(&self, index: LogIndex) -> AppendEntriesRequest<C> {
        self.append(index - 1, vec![self.normal(index, 40)])
    }

    /// Calls again until there is an answer: a network may wait before it connects again.
    pub(super) async fn eventually<T>(
        &self,
        what: &str,
        mut call: impl AsyncFnMut() -> Result<T, RPCError>,
    ) -> Checked<T> {
        let mut last = None;
        for _ in 0..TRIES_MAX {
            match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => last = Some(error),
            }
            self.builder.pause().await;
        }
        Err(Failure(format!("{what} fails {TRIES_MAX} times, the last time with {last:?}")))
    }
}

/// What has arrived is this append.
pub(super) fn is_append<C: RaftTypeConfig>(arrived: Option<&Arrived<C>>, sent: &AppendEntriesRequest<C>) -> Checked {
    let Some(Arrived::Append(found)) = arrived else {
        return Err(Failure(format!("what arrived is {arrived:?}, not an append")));
    };
    if let Some(difference) = entries_differ::<C>(&sent.entries, &found.entries) {
        return Err(Failure(difference));
    }
    let rest = |append: &AppendEntriesRequest<C>| (append.from, append.vote, append.prev_log_id, append.committed);
    match rest(sent) == rest(found) {
        true => Ok(()),
        false => Err(Failure(format!("the append arrived as {:?}, and was sent as {:?}", rest(found), rest(sent)))),
    }
}

/// The answer is success up to this entry: that of the request which it answers.
pub(super) fn is_matched<C: RaftTypeConfig>(
    answer: &AppendEntriesResponse<C>,
    id: C::NodeId,
    matched: LogIdOf<C>,
) -> Checked {
    let expected = AppendOutcome::<C>::Success { matched: Some(matched) };
    match answer.outcome == expected && answer.from.id == id {
        true => Ok(()),
        false => {
            Err(Failure(format!("the answer is {:?} of {}, not {expected:?} of {id}", answer.outcome, answer.from)))
        }
    }
}

/// Runs a call until something has happened, and gives it up.
pub(super) async fn give_up<F: Future>(call: F, happened: impl Future<Output = ()>) -> Option<F::Output> {
    let (mut call, mut happened) = (pin!(call), pin!(happened));
    poll_fn(|cx| match (call.as_mut().poll(cx), happened.as_mut().poll(cx)) {
        (Poll::Ready(output), _) => Poll::Ready(Some(output)),
        (Poll::Pending, Poll::Ready(())) => Poll::Ready(None),
        (Poll::Pending, Poll::Pending) => Poll::Pending,
    })
    .await
}
