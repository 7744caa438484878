//! A directory goes from node to node, and comes back after a restart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use directory_snapshot::content::DirectorySnapshot;
use directory_snapshot::network::Network;
use directory_snapshot::store::{Pages, Wiki};
use raftwright::{BasicNode, Config, MemLogStore, Raft, SnapshotContent, SnapshotPolicy};

/// A bound on waiting for what must happen. Reaching it fails a test; nothing depends on its length.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(30));

async fn start(id: u64, network: &Network, log: MemLogStore<Wiki>, directory: &Path) -> Raft<Wiki> {
    let config = Config { snapshot_policy: SnapshotPolicy::Never, max_in_snapshot_log_to_keep: 0, ..Config::default() };
    let pages = Pages::open(directory).unwrap();
    let raft = Raft::new(id, Arc::new(config), network.clone(), log, pages).await.unwrap();
    network.connect(raft.clone());
    raft
}

async fn page(raft: &Raft<Wiki>, name: &'static str) -> Option<String> {
    raft.with_state_machine(move |pages: &mut Pages| pages.page(name).map(|text| text.to_string())).await.unwrap()
}

#[tokio::test]
async fn a_directory_of_many_files_reaches_a_new_node_and_survives_its_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (network, log) = (Network::default(), MemLogStore::new());
    let first = start(1, &network, MemLogStore::new(), &directory.path().join("1")).await;
    first.initialize(BTreeMap::from([(1, BasicNode::new("one"))])).await.unwrap();
    for (name, text) in
        [("a", "1".repeat(5_000)), ("../b", "two".to_owned()), ("empty", String::new()), ("ключ", "x".into())]
    {
        first.client_write((name.to_owned(), text)).await.unwrap();
    }
    first.trigger().snapshot().await.unwrap();
    first.wait(PATIENCE).metrics(|metrics| metrics.purged.is_some(), "snapshot and purge").await.unwrap();
    first.client_write(("late".to_owned(), "in the log alone".to_owned())).await.unwrap();

    let second = start(2, &network, log.clone(), &directory.path().join("2")).await;
    first.add_learner(2, BasicNode::new("two"), true).await.unwrap();
    assert!(network.pieces() > 5, "more than one piece");
    let applied = first.metrics().borrow().last_applied.unwrap().index;
    second.wait(PATIENCE).applied_index_at_least(applied, "the log behind it").await.unwrap();
    for (name, text) in
        [("a", "1".repeat(5_000)), ("../b", "two".into()), ("empty", String::new()), ("ключ", "x".into())]
    {
        assert_eq!(page(&second, name).await, Some(text), "{name}");
    }
    assert_eq!(page(&second, "late").await.as_deref(), Some("in the log alone"));

    second.shutdown().await.unwrap();
    drop(second);
    let second = start(2, &network, log, &directory.path().join("2")).await;
    assert_eq!(page(&second, "../b").await.as_deref(), Some("two"), "from its own directory, before any log");
}

#[test]
fn bytes_make_the_same_directory_however_they_are_cut() {
    let directory = tempfile::tempdir().unwrap();
    let from = directory.path().join("from");
    std::fs::create_dir(&from).unwrap();
    for (name, length) in [("one", 100), ("two", 0), ("three", 1)] {
        std::fs::write(from.join(name), vec![7u8; length]).unwrap();
    }
    let sent = DirectorySnapshot::open(&from).unwrap();
    let size = sent.size().unwrap();
    for piece in [1, 3, 50, 1_000] {
        let to = directory.path().join(format!("to-{piece}"));
        let mut received = DirectorySnapshot::create(&to).unwrap();
        let mut at = 0;
        while at < size {
            let mut buffer = vec![0; piece];
            let count = sent.read_at(at, &mut buffer).unwrap();
            received.write_at(at, &buffer[..count]).unwrap();
            // After a break the last bytes may come again.
            received.write_at(at, &buffer[..count]).unwrap();
            at += count as u64;
        }
        received.finish().unwrap();
        for name in ["one", "two", "three"] {
            assert_eq!(std::fs::read(to.join(name)).unwrap(), std::fs::read(from.join(name)).unwrap());
        }
    }
}

#[test]
fn what_does_not_arrive_whole_leaves_nothing_and_what_leads_elsewhere_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let from = directory.path().join("from");
    std::fs::create_dir(&from).unwrap();
    std::fs::write(from.join("one"), b"1234").unwrap();
    let sent = DirectorySnapshot::open(&from).unwrap();
    let size = usize::try_from(sent.size().unwrap()).unwrap();
    let mut bytes = vec![0; size];
    let head = sent.read_at(0, &mut bytes).unwrap();
    sent.read_at(head as u64, &mut bytes[head..]).unwrap();
    for cut in [0, 5, head, size - 1] {
        let to = directory.path().join("to");
        let mut received = DirectorySnapshot::create(&to).unwrap();
        received.write_at(0, &bytes[..cut]).unwrap();
        assert!(received.finish().is_err(), "cut at {cut}");
        assert!(!to.exists());
    }
    let table = br#"[["../one",4]]"#;
    let evil = [&(table.len() as u64).to_le_bytes()[..], table, b"1234"].concat();
    let mut received = DirectorySnapshot::create(&directory.path().join("to")).unwrap();
    assert!(received.write_at(0, &evil).is_err());
    let absurd = [u64::MAX.to_le_bytes(), [0; 8]].concat();
    let mut received = DirectorySnapshot::create(&directory.path().join("to")).unwrap();
    assert!(received.write_at(0, &absurd).is_err());
}
