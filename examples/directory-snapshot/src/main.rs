//! Two nodes and a directory: the second one gets it whole.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use directory_snapshot::network::Network;
use directory_snapshot::store::{Pages, Wiki};
use raftwright::{BasicNode, BoxError, Config, MemLogStore, Raft, SnapshotPolicy};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let directory = tempfile::tempdir()?;
    let network = Network::default();
    let config = Config { snapshot_policy: SnapshotPolicy::Never, max_in_snapshot_log_to_keep: 0, ..Config::default() };
    let config = Arc::new(config.validate()?);
    let mut nodes = BTreeMap::new();
    for id in [1, 2] {
        let pages = Pages::open(&directory.path().join(id.to_string()))?;
        let raft: Raft<Wiki> = Raft::new(id, Arc::clone(&config), network.clone(), MemLogStore::new(), pages).await?;
        network.connect(raft.clone());
        nodes.insert(id, raft);
    }
    let first = &nodes[&1];
    first.initialize(BTreeMap::from([(1, BasicNode::new("one"))])).await?;
    for page in 0..100 {
        first.client_write((format!("page {page}"), format!("what page {page} says\n").repeat(50))).await?;
    }
    first.trigger().snapshot().await?;
    let metrics =
        first.wait(Some(Duration::from_secs(10))).metrics(|m| m.purged.is_some(), "snapshot and purge").await?;
    println!("node 1 keeps its 100 pages as a directory, and no log up to {:?}", metrics.purged);
    first.add_learner(2, BasicNode::new("two"), true).await?;
    let count = nodes[&2].with_state_machine(|pages: &mut Pages| pages.count()).await?;
    println!("node 2 got {count} pages, in {} pieces", network.pieces());
    for raft in nodes.into_values() {
        raft.shutdown().await?;
    }
    Ok(())
}
