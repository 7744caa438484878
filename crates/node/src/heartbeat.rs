//! The task that shows one target that its leader lives.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use raftwright_traits::{
    AsyncRuntime, Config, HeartbeatRequest, HeartbeatResponse, RPCError, RPCOption, RaftNetworkFactory, RaftNetworkV2,
    RaftTypeConfig, Span,
};

use crate::limits::HEARTBEATS_UNDER_WAY_MAX;
use crate::notify::Notify;
use crate::shared::Shared;
use crate::sync::Slot;

/// Owns the target's control lane while this server leads. Its mailbox holds one heartbeat, the newest; nothing else is
/// ever in front of it, neither entries nor snapshots nor a disk.
///
/// A heartbeat that has no answer yet may be lost, so the next one does not wait for it for long. But it may also be on a long way,
/// and its answer proves as much when it comes late: a round counts from its *send*, on this server's clock, so that no
/// lease is longer by a late answer (Thesis §6.4.1). So several may be under way, each on a connection of its own, and one that hangs
/// holds up none of the others. Where a round trip is short there is one connection.
pub(crate) struct HeartbeatWorker<C: RaftTypeConfig, N> {
    shared: Arc<Shared<C>>,
    target: C::NodeId,
    node: C::Node,
    factory: Arc<tokio::sync::Mutex<N>>,
    mailbox: Arc<Slot<HeartbeatRequest<C>>>,
}

type Answer<C> = Result<HeartbeatResponse<C>, RPCError>;
/// A heartbeat, until it is answered or given up; then its connection is free again.
type Exchange<C, W> = Pin<Box<dyn Future<Output = (Answer<C>, W)> + Send>>;
type Sleep<C> = <<C as RaftTypeConfig>::AsyncRuntime as AsyncRuntime>::Sleep;

/// The heartbeats under way, and the connections to their target.
struct Beats<C: RaftTypeConfig, W> {
    /// Each holds its connection until its end. Oldest first; at most [`HEARTBEATS_UNDER_WAY_MAX`].
    under_way: VecDeque<Exchange<C, W>>,
    /// The last one is used next. That is the one with the newest answer; what has given none waits until there is no other.
    idle: VecDeque<W>,
    /// Until when the newest one under way holds up the next.
    pause: Option<Pin<Box<Sleep<C>>>>,
}

impl<C: RaftTypeConfig, N: RaftNetworkFactory<C>> HeartbeatWorker<C, N> {
    pub(crate) fn new(
        shared: Arc<Shared<C>>,
        target: C::NodeId,
        node: C::Node,
        factory: Arc<tokio::sync::Mutex<N>>,
        mailbox: Arc<Slot<HeartbeatRequest<C>>>,
    ) -> Self {
        Self { shared, target, node, factory, mailbox }
    }

    /// Runs until its mailbox is closed.
    pub(crate) async fn run(self) {
        tokio::select! {
            biased;
            () = self.closed() => {}
            () = self.beat() => {}
        }
    }

    /// Waits for the close. The mailbox wakes one task, and this is the same task that waits for its values.
    async fn closed(&self) {
        self.mailbox.closed().await;
    }

    async fn beat(&self) {
        let mut beats = Beats::<C, N::Network> { under_way: VecDeque::new(), idle: VecDeque::new(), pause: None };
        loop {
            let may_send = beats.may_send();
            tokio::select! {
                biased;
                answer = beats.progress() => {
                    if let Some(answer) = answer {
                        self.on_answer(answer);
                    }
                }
                request = self.mailbox.take(), if may_send => {
                    let Some(request) = request else { return };
                    self.send(request, &mut beats).await;
                }
            }
        }
    }

    /// Sends a heartbeat on a connection that is free, or on a new one.
    async fn send(&self, request: HeartbeatRequest<C>, beats: &mut Beats<C, N::Network>) {
        let mut network = match beats.idle.pop_back() {
            Some(network) => network,
            None => self.factory.lock().await.new_client(self.target, &self.node).await,
        };
        let (config, runtime) = (self.shared.config(), &self.shared.runtime);
        let (now, timeout) = (runtime.now(), patience(&config));
        let late = runtime.sleep_until(now + timeout);
        beats.pause = Some(Box::pin(runtime.sleep_until(now + pace(&config))));
        beats.under_way.push_back(Box::pin(async move {
            let answer = tokio::select! {
                biased;
                answer = network.heartbeat(request, RPCOption { timeout }) => answer,
                () = late => Err(RPCError::Timeout),
            };
            (answer, network)
        }));
    }

    fn on_answer(&self, answer: Answer<C>) {
        match answer {
            Ok(response) if response.from.id != self.target => {
                tracing::warn!(target = %self.target, from = %response.from, "another server answers for a target");
            }
            Ok(response) => self.shared.notify.push(Notify::HeartbeatResponse(response)),
            Err(error) => tracing::debug!(target = %self.target, %error, "a heartbeat got no answer"),
        }
    }
}

impl<C: RaftTypeConfig, W> Beats<C, W> {
    fn may_send(&self) -> bool {
        self.pause.is_none() && self.under_way.len() < HEARTBEATS_UNDER_WAY_MAX
    }

    /// Waits until one of them ends, whose answer this is, or until the next need no longer wait for the newest.
    async fn progress(&mut self) -> Option<Answer<C>> {
        poll_fn(|cx| self.poll_progress(cx)).await
    }

    fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<Option<Answer<C>>> {
        for at in 0..self.under_way.len() {
            let Some(Poll::Ready((answer, network))) = self.under_way.get_mut(at).map(|beat| beat.as_mut().poll(cx))
            else {
                continue;
            };
            drop(self.under_way.remove(at));
            match answer.is_ok() {
                true => self.idle.push_back(network),
                false => self.idle.push_front(network),
            }
            if self.under_way.is_empty() {
                self.pause = None;
            }
            return Poll::Ready(Some(answer));
        }
        if self.pause.as_mut().is_some_and(|pause| pause.as_mut().poll(cx).is_ready()) {
            self.pause = None;
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

/// How long a heartbeat without an answer holds up the next one. Half an election timeout, so that one lost message does not make the
/// target start an election.
fn pace(config: &Config) -> Span {
    Span::from_millis((config.election_timeout_min / 2).max(config.heartbeat_interval).max(1))
}

/// How long an answer is waited for: until as many others could have been sent as may be under way. Twice the shortest
/// election timeout, or more; a cluster with longer round trips could elect nobody.
fn patience(config: &Config) -> Span {
    let paces = pace(config).as_millis().saturating_mul(HEARTBEATS_UNDER_WAY_MAX as u64);
    Span::from_millis(paces.min(config.rpc_timeout.max(1)))
}
