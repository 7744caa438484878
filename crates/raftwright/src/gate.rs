//! Who may talk to this node: the same cluster, the right node, the data directory that the membership knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use raftwright_net::{Gate, OpenedBy, PeerHello, PeerIdentity, Refusal, RefusalReason};
use raftwright_traits::{BasicNode, LogIndex, Membership, Node};
use raftwright_wal::{DataDir, DataDirError, RealDisk};

use crate::cluster_id::ClusterId;

/// Most nodes that are remembered while the membership does not name their incarnation.
const SEEN_MAX: usize = 1024;

/// The gate of a node.
pub(crate) struct NodeGate {
    state: Mutex<State>,
}

struct State {
    own: PeerIdentity,
    /// Where an adopted cluster id is kept; `None` once the node is shut down.
    dir: Option<Arc<DataDir<RealDisk>>>,
    /// The members, with the incarnation that the membership names.
    members: BTreeMap<u64, Option<u64>>,
    /// Who has been here while the membership named no incarnation for it.
    seen: BTreeMap<u64, Seen>,
}

/// A data directory: its incarnation, and how often it had been opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    incarnation: u64,
    boot_epoch: u64,
}

impl NodeGate {
    /// The gate of the node that lives in that data directory.
    pub(crate) fn new(dir: Arc<DataDir<RealDisk>>) -> Self {
        let identity = dir.identity();
        let own = PeerIdentity {
            cluster: identity.cluster_id.map(|id| ClusterId(id).into()),
            node: Some(identity.node_id),
            incarnation: Some(identity.incarnation),
            boot_epoch: identity.boot_epoch,
            membership: 0,
        };
        let state = State { own, dir: Some(dir), members: BTreeMap::new(), seen: BTreeMap::new() };
        Self { state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No panic can come between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cluster, once it is known.
    pub(crate) fn cluster_id(&self) -> Option<ClusterId> {
        self.lock().own.cluster.map(ClusterId::from)
    }

    /// Keeps the cluster's id, durably.
    pub(crate) fn join_cluster(&self, id: ClusterId) -> Result<(), DataDirError> {
        self.lock().join_cluster(id)
    }

    /// Gives a node that belongs to no cluster one of its own, durably; if an earlier attempt got this far, it is the same one.
    /// False if this node belongs to a cluster that somebody else has founded: making a second beginning under one id would
    /// split it.
    pub(crate) fn found_cluster(&self) -> Result<bool, DataDirError> {
        let mut state = self.lock();
        let PeerIdentity { node: Some(node), incarnation: Some(incarnation), .. } = state.own else { return Ok(false) };
        let own = ClusterId::of_founder(node, incarnation);
        if state.own.cluster.is_none() {
            state.join_cluster(own)?;
        }
        Ok(state.own.cluster == Some(own.into()))
    }

    /// Takes note of a membership, which stands at this index of the log.
    pub(crate) fn on_membership(&self, index: LogIndex, membership: &Membership<u64, BasicNode>) {
        let named = |node: &BasicNode| node.incarnation().map(|incarnation| incarnation.0);
        let members: BTreeMap<u64, Option<u64>> =
            membership.nodes().iter().map(|(id, node)| (*id, named(node))).collect();
        let mut state = self.lock();
        // A node that has left, or has left and come back (its incarnation was named and is no more), may have a new
        // data directory: what was seen of the old one says nothing about it.
        let gone: BTreeSet<u64> = state
            .members
            .iter()
            .filter(|(id, was)| members.get(id).is_none_or(|is| was.is_some() && is.is_none()))
            .map(|(id, _)| *id)
            .collect();
        state.seen.retain(|id, _| !gone.contains(id));
        state.members = members;
        state.own.membership = index;
    }

    /// Lets go of the data directory.
    pub(crate) fn close(&self) {
        self.lock().dir = None;
    }
}

impl Gate for NodeGate {
    fn identity(&self) -> PeerIdentity {
        self.lock().own
    }

    fn admit(&self, peer: &PeerHello) -> Result<(), Refusal> {
        let mut state = self.lock();
        match peer.identity.node {
            Some(node) if peer.lane.is_for_peers() => state.admit_node(node, peer),
            // Whoever opens the lane for clients is served as a client, whatever else it is.
            Some(_) | None => Ok(()),
        }
    }
}

impl State {
    fn admit_node(&mut self, node: u64, peer: &PeerHello) -> Result<(), Refusal> {
        if Some(node) == self.own.node {
            let text = format!("it says that it is node {node}, which is this node: two nodes were given the same id");
            return Err(Refusal::new(RefusalReason::NotAPeer, text));
        }
        if let (Some(ours), Some(theirs)) = (self.own.cluster, peer.identity.cluster)
            && ours != theirs
        {
            // The handshake has compared them too, but perhaps before this node had joined a cluster.
            let text = format!("this node is of cluster {ours}, the peer of cluster {theirs}");
            return Err(Refusal::new(RefusalReason::WrongCluster, text));
        }
        let stated =
            peer.identity.incarnation.map(|incarnation| Seen { incarnation, boot_epoch: peer.identity.boot_epoch });
        let seen = self.seen.get(&node).copied();
        // Whoever knows a newer membership than we do cannot be judged by ours: it may have been removed and added again,
        // or have joined, since. The core counts its votes and acknowledgements by what the counting server knows.
        let judged = peer.identity.membership <= self.own.membership;
        match self.members.get(&node).copied().flatten() {
            _ if !judged => {}
            Some(named) => check_named(node, named, stated)?,
            None => check_seen(node, seen, stated)?,
        }
        check_boot_epoch(node, seen, stated)?;
        self.adopt_cluster(peer)?;
        // Nothing is kept of a node outside the membership: it may come back as another one before the membership that
        // names it arrives here.
        if let Some(stated) = stated
            && judged
            && (self.members.is_empty() || self.members.contains_key(&node))
            && (self.seen.len() < SEEN_MAX || self.seen.contains_key(&node))
        {
            self.seen.insert(node, stated);
        }
        Ok(())
    }

    /// A blank node belongs to the cluster of the first peer that comes to it. This writes a file once in the life of a
    /// data directory, at a moment when the node has nothing else to do.
    fn adopt_cluster(&mut self, peer: &PeerHello) -> Result<(), Refusal> {
        let (None, Some(theirs), OpenedBy::Peer) = (self.own.cluster, peer.identity.cluster, peer.opened_by) else {
            return Ok(());
        };
        self.join_cluster(theirs.into()).map_err(|error| {
            Refusal::new(RefusalReason::Overloaded, format!("the cluster's id cannot be kept: {error}"))
        })?;
        tracing::info!(cluster = %ClusterId::from(theirs), peer = %peer.identity, "joined the cluster of a peer");
        Ok(())
    }

    fn join_cluster(&mut self, id: ClusterId) -> Result<(), DataDirError> {
        if let Some(dir) = &self.dir {
            dir.set_cluster_id(id.0)?;
            self.own.cluster = Some(id.into());
        }
        Ok(())
    }
}

/// The incarnation that the membership names is the only one.
fn check_named(node: u64, named: u64, stated: Option<Seen>) -> Result<(), Refusal> {
    match stated {
        Some(stated) if stated.incarnation == named => Ok(()),
        Some(_) | None => Err(other_directory(node, named, stated.map(|stated| stated.incarnation))),
    }
}

/// Before the membership names an incarnation, the first that came is the only one.
fn check_seen(node: u64, seen: Option<Seen>, stated: Option<Seen>) -> Result<(), Refusal> {
    match (seen, stated) {
        (Some(seen), Some(stated)) if seen.incarnation != stated.incarnation => {
            Err(other_directory(node, seen.incarnation, Some(stated.incarnation)))
        }
        (Some(_) | None, Some(_) | None) => Ok(()),
    }
}

/// A directory that has been opened fewer times than before is an old copy: it has forgotten what its node promised.
fn check_boot_epoch(node: u64, seen: Option<Seen>, stated: Option<Seen>) -> Result<(), Refusal> {
    match (seen, stated) {
        (Some(seen), Some(stated)) if seen.incarnation == stated.incarnation && stated.boot_epoch < seen.boot_epoch => {
            let text = format!(
                "node {node} was here after {} starts of its data directory and now comes after {}: the directory was \
                 restored from an old copy; remove node {node} from the cluster and add it again with an empty one",
                seen.boot_epoch, stated.boot_epoch
            );
            Err(Refusal::new(RefusalReason::StaleIncarnation, text))
        }
        (Some(_) | None, Some(_) | None) => Ok(()),
    }
}

fn other_directory(node: u64, known: u64, stated: Option<u64>) -> Refusal {
    let stated = stated.map_or_else(|| "without one".to_owned(), |stated| format!("with incarnation {stated:016x}"));
    let text = format!(
        "node {node} is known by its data directory of incarnation {known:016x} and now comes {stated}: its disk was \
         emptied, or another node took its id; remove node {node} from the cluster and add it again"
    );
    Refusal::new(RefusalReason::StaleIncarnation, text)
}

/// The gate of a client: it keeps to the cluster that it met first.
pub(crate) struct ClientGate {
    cluster: Mutex<Option<raftwright_net::ClusterId>>,
}

impl ClientGate {
    /// A client of that cluster, or of the first one that it meets.
    pub(crate) fn new(cluster: Option<ClusterId>) -> Self {
        Self { cluster: Mutex::new(cluster.map(Into::into)) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<raftwright_net::ClusterId>> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate for ClientGate {
    fn identity(&self) -> PeerIdentity {
        PeerIdentity { cluster: *self.lock(), ..PeerIdentity::default() }
    }

    fn admit(&self, peer: &PeerHello) -> Result<(), Refusal> {
        let mut cluster = self.lock();
        *cluster = cluster.or(peer.identity.cluster);
        // Two first connections may be under way at once.
        match (*cluster, peer.identity.cluster) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                let text = format!("this client talks to cluster {ours}, the server is {}", peer.identity);
                Err(Refusal::new(RefusalReason::WrongCluster, text))
            }
            (Some(_) | None, Some(_) | None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
