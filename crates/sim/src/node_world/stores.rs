//! The real log of every node, on a simulated disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use raftwright_traits::{Entry, EntryCodec};
use raftwright_wal::testing::{Loss, SimDisk};
use raftwright_wal::{DataDir, DataDirOptions, FlushToken, WalLog, WalOptions, Writer};

use super::application::{SimConfig, Stores};
use crate::world::{NodeId, Rng};

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
    flush: Flush,
}

/// How a machine's system makes a batch durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flush {
    /// By the write itself, as on Linux: a crash before its end leaves any part of it, and after its end what it wrote is durable, and
    /// nothing else.
    Alone,
    /// By a sync behind the write, which covers all that was written to the file.
    Synced,
}

impl Flush {
    /// Most systems are of the first kind.
    fn draw(seed: u64) -> Self {
        if Rng::new(seed ^ 0x666c_7573_6800).one_in(3) { Self::Synced } else { Self::Alone }
    }

    fn new_disk(self, seed: u64) -> SimDisk {
        let disk = SimDisk::new(seed);
        if self == Self::Alone {
            disk.let_writes_take_time();
        }
        disk
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("open", &self.writer.is_some())
            .field("flush", &self.flush)
            .finish_non_exhaustive()
    }
}

impl WalStores {
    /// No node has a disk yet. The seed decides what tears how, and which machine flushes in which way.
    pub fn new(seed: u64, options: WalOptions) -> Self {
        Self { options, nodes: BTreeMap::new(), seed }
    }

    fn writer(&self, node: NodeId) -> Option<&Writer<SimDisk, FlushToken>> {
        self.nodes.get(&node)?.writer.as_ref()
    }

    fn store(&mut self, node: NodeId) -> &mut Store {
        let seed = self.seed ^ node.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.nodes.entry(node).or_insert_with(|| {
            let flush = Flush::draw(seed);
            Store { disk: flush.new_disk(seed), writer: None, flush }
        })
    }
}

impl WalStores {
    fn write_batch(&mut self, node: NodeId) -> bool {
        let store = self.store(node);
        let Some(writer) = store.writer.as_mut() else { return false };
        let written = match store.flush {
            Flush::Alone => writer.write_batch_durably(),
            Flush::Synced => writer.write_batch(),
        };
        // A failure completes all tokens with the error; the node then stops itself.
        written.is_ok_and(|taken| taken > 0)
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
        let store = self.store(node);
        (store.disk, store.writer) = (store.flush.new_disk(seed), None);
    }

    fn has_work(&self, node: NodeId) -> bool {
        // While a batch waits for room, what comes behind it wakes nobody.
        self.writer(node).is_some_and(|writer| writer.has_work() && !writer.is_held_up())
    }

    fn write(&mut self, node: NodeId) -> bool {
        self.write_batch(node)
    }

    fn flush(&mut self, node: NodeId) {
        let store = self.store(node);
        let Some(writer) = store.writer.as_mut() else { return };
        let flushed = match store.flush {
            Flush::Alone => {
                store.disk.end_writes();
                Ok(())
            }
            Flush::Synced => writer.sync(),
        };
        if flushed.is_ok() {
            writer.complete();
            while writer.housekeep() {}
        }
    }

    fn is_full(&self, node: NodeId) -> bool {
        self.writer(node).is_some_and(Writer::is_full)
    }

    fn look_for_room(&mut self, node: NodeId) -> bool {
        while !self.write_batch(node) {
            if !self.store(node).writer.as_mut().is_some_and(Writer::housekeep) {
                return false;
            }
        }
        true
    }

    fn disk(&self, node: NodeId) -> Option<&SimDisk> {
        self.nodes.get(&node).map(|store| &store.disk)
    }
}
