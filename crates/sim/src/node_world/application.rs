//! What a simulated cluster of whole nodes replicates, and on what.

use std::fmt::Debug;

use raftwright_core::RaftEntry;
use raftwright_traits::{
    BasicNode, Entry, EntryPayload, Incarnation, RaftLogStorage, RaftStateMachine, RaftTypeConfig, SnapshotContent,
    StandardLeaderId,
};
use raftwright_wal::testing::{Loss, SimDisk};

use crate::core_world::types::{CommandId, KvCommand, Membership, Payload, SimEntry, SimNode};
use crate::runtime::SimRuntime;
use crate::world::NodeId;

/// The types of an application that runs on the simulator: those that [`declare_raft_types!`] gives, with
/// `AsyncRuntime = SimRuntime`.
///
/// [`declare_raft_types!`]: raftwright_traits::declare_raft_types
pub trait SimConfig:
    RaftTypeConfig<
        NodeId = NodeId,
        Node = BasicNode,
        LeaderId = StandardLeaderId<NodeId>,
        Entry = Entry<Self>,
        AsyncRuntime = SimRuntime,
        SnapshotData: SnapshotContent,
    >
{
}

impl<C> SimConfig for C where
    C: RaftTypeConfig<
            NodeId = NodeId,
            Node = BasicNode,
            LeaderId = StandardLeaderId<NodeId>,
            Entry = Entry<C>,
            AsyncRuntime = SimRuntime,
            SnapshotData: SnapshotContent,
        >
{
}

/// What a cluster replicates.
pub trait Application: Debug + 'static {
    /// Its types.
    type C: SimConfig;
    /// Its state machine.
    type Machine: RaftStateMachine<Self::C>;
    /// A handle that looks into a state machine from outside.
    type Probe: Clone + Send + Sync + 'static;
    /// The stores of its nodes.
    type Stores: Stores<Self::C>;

    /// A node's state machine, for a process that starts now. State that survives a process is the application's to keep.
    fn machine(&mut self, node: NodeId) -> (Self::Machine, Self::Probe);

    /// The node's process has died, or its disk was emptied (`wiped`).
    fn gone(&mut self, _node: NodeId, _wiped: bool) {}

    /// A hash of the whole state, equal where the state is equal; asked for after each batch of entries.
    fn fingerprint(machine: &Self::Machine) -> Option<u64>;

    /// A hash of a command: two commands with one hash count as one.
    fn hash(data: &<Self::C as RaftTypeConfig>::D) -> u64;
}

/// The log stores of all nodes, and what they live on.
pub trait Stores<C: SimConfig>: Debug + 'static {
    /// A node's log.
    type Log: RaftLogStorage<C>;

    /// Opens a node's log, for a process that starts now. `random` is the only source of chance that it may use.
    ///
    /// # Errors
    ///
    /// Why the log refuses, in words. A refusal is never wrong; a log that lacks what it has promised is.
    fn open(&mut self, node: NodeId, random: u64) -> Result<Self::Log, String>;

    /// The process dies; its log was dropped before. Without `loss` the machine lives on, and what was written is still
    /// there, synced or not; with it the power goes, and what was not synced is lost as it says.
    fn kill(&mut self, node: NodeId, loss: Option<Loss>);

    /// The node, which is down, gets an empty disk.
    fn wipe(&mut self, node: NodeId, seed: u64);

    /// Whether there is something to write.
    fn has_work(&self, node: NodeId) -> bool;

    /// Writes what there is. Answers whether a flush must follow.
    fn write(&mut self, node: NodeId) -> bool;

    /// Flushes what was written, and completes its tokens.
    fn flush(&mut self, node: NodeId);

    /// Whether the disk is full, so that it has to be looked at again after a while.
    fn is_full(&self, _node: NodeId) -> bool {
        false
    }

    /// Looks again whether there is room. Answers whether a flush must follow.
    fn look_for_room(&mut self, _node: NodeId) -> bool {
        false
    }

    /// The node's disk, for faults; `None` for stores that have none of ours.
    fn disk(&self, node: NodeId) -> Option<&SimDisk>;
}

/// An entry as the checkers see it.
pub(super) fn seen<A: Application>(entry: &Entry<A::C>) -> SimEntry {
    let payload = match &entry.payload {
        EntryPayload::Blank => Payload::Blank,
        // The checkers compare commands by their names alone.
        EntryPayload::Normal(data) => Payload::Command(CommandId(A::hash(data)), KvCommand::Get { key: 0 }),
        EntryPayload::Membership(membership) => match seen_membership(membership) {
            Some(membership) => Payload::Membership(membership.into()),
            None => Payload::Blank,
        },
    };
    SimEntry { log_id: entry.log_id(), payload }
}

pub(super) fn seen_membership(membership: &raftwright_core::Membership<NodeId, BasicNode>) -> Option<Membership> {
    let of = |node: &BasicNode| {
        node.incarnation.map_or_else(SimNode::default, |Incarnation(own)| SimNode::bound(Incarnation(own)))
    };
    let nodes = membership.nodes().iter().map(|(id, node)| (*id, of(node))).collect();
    Membership::new(membership.configs().to_vec(), nodes).ok()
}
