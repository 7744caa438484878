//! The real log of every node, on a simulated disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use raftwright_traits::{Entry, EntryCodec};
use raftwright_wal::testing::{Loss, SimDisk};
use raftwright_wal::{DataDir, DataDirOptions, FlushToken, WalLog, WalOptions, Writer};

use super::application::{SimConfig, Stores};
use crate::world::NodeId;

/// Where a node's log lies on its disk.
pub const DIRECTORY: &str = "/node";

/// Logs of the real kind; the world drives their writers.
#[derive(Debug)]
pub struct WalStores {
    options: WalOptions,
    nodes: BTreeMap<NodeId, Store>,
    seed: u64,
}

struct Store {
    disk: SimDisk,
    writer: Option<Writer<SimDisk, FlushToken>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("open", &self.writer.is_some()).finish_non_exhaustive()
    }
}

impl WalStores {
    /// No node has a disk yet. The seed decides what tears how.
    pub fn new(seed: u64, options: WalOptions) -> Self {
        Self { options, nodes: BTreeMap::new(), seed }
    }

    fn store(&mut self, node: NodeId) -> &mut Store {
        let seed = self.seed ^ node.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.nodes.entry(node).or_insert_with(|| Store { disk: SimDisk::new(seed), writer: None })
    }
}

impl<C> Stores<C> for WalStores
where
    C: SimConfig,
    Entry<C>: EntryCodec<C>,
{
    type Log = WalLog<C, SimDisk>;

    fn open(&mut self, node: NodeId, random: u64) -> Result<Self::Log, String> {
        let wal = self.options;
        let store = self.store(node);
        let options = DataDirOptions { node_id: node, random };
        let dir =
            DataDir::open(store.disk.clone(), Path::new(DIRECTORY), options).map_err(|error| error.to_string())?;
        let opened = WalLog::<C, SimDisk>::open_with_writer(Arc::new(dir), wal);
        let (log, writer, _) = opened.map_err(|error| error.to_string())?;
        store.writer = Some(writer);
        Ok(log)
    }

    fn kill(&mut self, node: NodeId, loss: Option<Loss>) {
        let store = self.store(node);
        store.writer = None;
        match loss {
            None => store.disk.kill(),
            Some(loss) => store.disk.power_cut(loss),
        }
    }

    fn wipe(&mut self, node: NodeId, seed: u64) {
        *self.store(node) = Store { disk: SimDisk::new(seed), writer: None };
    }

    fn has_work(&self, node: NodeId) -> bool {
        self.nodes.get(&node).and_then(|store| store.writer.as_ref()).is_some_and(Writer::has_work)
    }

    fn write(&mut self, node: NodeId) -> bool {
        // A failure completes all tokens with the error; the node then stops itself.
        self.store(node).writer.as_mut().is_some_and(|writer| writer.write_batch().is_ok_and(|taken| taken > 0))
    }

    fn flush(&mut self, node: NodeId) {
        let Some(writer) = self.store(node).writer.as_mut() else { return };
        if writer.sync().is_ok() {
            writer.complete();
            while writer.housekeep() {}
        }
    }

    fn disk(&self, node: NodeId) -> Option<&SimDisk> {
        self.nodes.get(&node).map(|store| &store.disk)
    }
}
