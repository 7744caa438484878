//! The servers that a client knows, and the way to each.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use raftwright_net::{CallError, Channel, Dialer, Kind, Lane, Limits, Target};
use raftwright_traits::UnknownReason;
use tokio::time::timeout;

use super::error::Trouble;
use crate::cluster_id::ClusterId;
use crate::gate::ClientGate;
use crate::protocol::{Leader, Request, RequestError, decode_answer};
use crate::service::Service;
use crate::state_machine::StateMachine;

/// Most connections that a client keeps. Servers may name any number of leaders; past it, all are opened anew.
pub const CLIENT_CONNECTIONS_MAX: usize = 64;

/// Longest pause between attempts to connect to a server. Shorter than what is left for an attempt, so that a call which
/// waits for the pause still learns that nothing was sent.
pub(super) const CONNECT_PAUSE_MAX: Duration = Duration::from_millis(20);

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Node {
    /// The server in whose process this client is.
    Here,
    /// A server at an address; with an id if it must be that one.
    At { addr: String, id: Option<u64> },
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Here => f.write_str("the server here"),
            Node::At { addr, id: None } => f.write_str(addr),
            Node::At { addr, id: Some(id) } => write!(f, "server {id} at {addr}"),
        }
    }
}

/// The servers that a client knows.
pub(super) struct Nodes<SM> {
    dialer: Arc<Dialer>,
    channels: Mutex<BTreeMap<Node, Channel>>,
    /// Given by the user.
    endpoints: Vec<Node>,
    here: Option<Arc<Service<SM>>>,
    leader: Mutex<Option<Node>>,
    /// Where in the circle of known servers a call begins while no leader is known.
    first: AtomicUsize,
}

impl<SM: StateMachine> Nodes<SM> {
    /// These servers, or those that the server here knows.
    pub(super) fn new(endpoints: Vec<String>, here: Option<Arc<Service<SM>>>, seed: u64) -> Self {
        let cluster: Option<ClusterId> = here.as_ref().and_then(|here| here.cluster_id());
        let limits = Limits { backoff_max: CONNECT_PAUSE_MAX, ..Limits::default() };
        Self {
            dialer: Dialer::new(Arc::new(ClientGate::new(cluster)), limits, seed),
            channels: Mutex::default(),
            endpoints: endpoints.into_iter().map(|addr| Node::At { addr, id: None }).collect(),
            here,
            leader: Mutex::default(),
            first: AtomicUsize::new(0),
        }
    }

    /// All that could be asked, the server here first.
    pub(super) fn all(&self) -> Vec<Node> {
        let Some(here) = &self.here else { return self.endpoints.clone() };
        let others = here.members().members.into_iter().filter(|member| member.id != here.id());
        let others = others.map(|member| Node::At { addr: member.addr, id: Some(member.id) });
        std::iter::once(Node::Here).chain(others).chain(self.endpoints.iter().cloned()).collect()
    }

    /// Where a call begins in the circle of servers.
    pub(super) fn start(&self) -> usize {
        self.first.load(Ordering::Relaxed)
    }

    /// A server of the circle.
    pub(super) fn any(&self, at: usize) -> Option<Node> {
        let mut all = self.all();
        let at = at.checked_rem(all.len())?;
        Some(all.swap_remove(at))
    }

    /// The leader, or while nobody knows it a server of the circle.
    pub(super) fn leader_or_any(&self, at: usize) -> Option<Node> {
        let leader = lock(&self.leader).clone();
        leader.or_else(|| self.any(at))
    }

    /// A server has said who leads.
    pub(super) fn hint(&self, leader: &Leader) -> Node {
        let node = match &self.here {
            Some(here) if here.id() == leader.id => Node::Here,
            Some(_) | None => Node::At { addr: leader.addr.clone(), id: Some(leader.id) },
        };
        *lock(&self.leader) = Some(node.clone());
        node
    }

    /// This server has answered what only a leader answers.
    pub(super) fn leads(&self, node: &Node) {
        let mut leader = lock(&self.leader);
        if leader.as_ref() != Some(node) {
            *leader = Some(node.clone());
        }
    }

    /// This server does not lead, cannot be reached, or is of no use: others are asked first from now on.
    pub(super) fn avoid(&self, node: &Node) {
        let mut leader = lock(&self.leader);
        if leader.as_ref() == Some(node) {
            *leader = None;
        }
        drop(leader);
        let start = self.start();
        if self.any(start).as_ref() == Some(node) {
            self.first.store(start.wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Asks a server, once.
    pub(super) async fn ask(&self, node: &Node, request: Request) -> Result<Bytes, Trouble> {
        let wait = request.wait;
        let (addr, id) = match (node, &self.here) {
            (Node::Here, Some(here)) => {
                let late = RequestError::Unknown(UnknownReason::Deadline);
                return timeout(wait, here.call(request)).await.unwrap_or(Err(late)).map_err(Trouble::Server);
            }
            (Node::Here, None) => return Err(Trouble::Call(CallError::ShutDown)),
            (Node::At { addr, id }, _) => (addr, id),
        };
        let channel = self.channel(node, Target { address: addr.clone(), node: *id });
        let bytes = channel.call(Kind::Client, request.encode(), wait).await.map_err(Trouble::Call)?;
        match decode_answer(bytes) {
            Ok(answer) => answer.map_err(Trouble::Server),
            Err(garbage) => Err(Trouble::Garbage(garbage)),
        }
    }

    pub(super) fn channel(&self, node: &Node, target: Target) -> Channel {
        let mut channels = lock(&self.channels);
        if let Some(channel) = channels.get(node) {
            return channel.clone();
        }
        if channels.len() >= CLIENT_CONNECTIONS_MAX {
            channels.clear();
        }
        let channel = Channel::spawn(Arc::clone(&self.dialer), target, Lane::Client);
        channels.insert(node.clone(), channel.clone());
        channel
    }
}

#[cfg(test)]
impl<SM> Nodes<SM> {
    /// How many connections it keeps.
    pub(super) fn connections(&self) -> usize {
        lock(&self.channels).len()
    }

    /// What its transport keeps to.
    pub(super) fn limits(&self) -> &Limits {
        self.dialer.limits()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change under these locks is one assignment or insertion.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
