//! The application of scenario files: its types, and its place in a world.

use std::collections::BTreeMap;

use bytes::Bytes;
use raftwright_traits::{BasicNode, declare_raft_types};
use raftwright_wal::WalOptions;

use super::application::Application;
use super::machine::Map;
use super::shelf::Shelf;
use super::stores::WalStores;
use super::world::NodeWorld;
use crate::runtime::SimRuntime;
use crate::world::{NodeId, TraceHash};

declare_raft_types!(
    /// A map of strings, on the simulator's runtime.
    pub App: D = Bytes, R = Option<String>, NodeId = u64, Node = BasicNode, AsyncRuntime = SimRuntime
);

/// The command that sets a key.
pub fn set(key: &str, value: &str) -> Bytes {
    Bytes::from(format!("{key}={value}"))
}

/// The application of scenario files.
#[derive(Debug, Clone, Default)]
pub struct Story {
    shelves: BTreeMap<NodeId, Shelf<App>>,
}

impl Application for Story {
    type C = App;
    type Machine = Map;
    type Probe = Map;
    type Stores = WalStores;

    fn machine(&mut self, node: NodeId) -> (Map, Map) {
        let map = Map::new(self.shelves.entry(node).or_default().clone());
        (map.clone(), map)
    }

    fn gone(&mut self, node: NodeId, wiped: bool) {
        if wiped {
            self.shelves.remove(&node);
        }
    }

    fn fingerprint(machine: &Map) -> Option<u64> {
        let mut hash = TraceHash::default();
        for (key, value) in &machine.state().values {
            hash.bytes(key.as_bytes());
            hash.bytes(value.as_bytes());
        }
        Some(hash.value())
    }

    fn hash(data: &Bytes) -> u64 {
        let mut hash = TraceHash::default();
        hash.bytes(data);
        hash.value()
    }
}

impl NodeWorld<Story> {
    /// A world without nodes, for scenario files.
    pub fn new(seed: u64) -> Self {
        let options = WalOptions { segment_bytes: 4 << 20, ..WalOptions::default() };
        Self::of(seed, Story::default(), WalStores::new(seed, options))
    }
}
