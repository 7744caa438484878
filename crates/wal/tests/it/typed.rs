//! The log as the storage of a node.

use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use raftwright_traits::{
    AdvancedLeaderId, CommittedLeaderId, CommittedLeaderIdOf, CommittedTerm, Entry, EntryPayload, FlushSink, IOFlushed,
    Incarnation, LogId, RaftEntry, RaftLogReader, RaftLogStorage, RaftTypeConfig, StorageError, Vote,
};
use raftwright_wal::testing::{Loss, SimDisk};
use raftwright_wal::{DataDir, DataDirOptions, FlushToken, WalLog, Writer};

use crate::harness::{OPTIONS, ROOT};

raftwright_traits::declare_raft_types!(
    /// Standard leader ids.
    Standard:
        D = Bytes,
        R = (),
);

raftwright_traits::declare_raft_types!(
    /// Advanced leader ids.
    Advanced:
        D = Bytes,
        R = (),
        LeaderId = AdvancedLeaderId<u64>,
);

#[derive(Default)]
struct Sink(Mutex<Vec<(u64, Result<(), StorageError>)>>);

impl FlushSink for Sink {
    fn flushed(&self, write: raftwright_core::WriteId, result: Result<(), StorageError>) {
        self.0.lock().unwrap().push((write.0, result));
    }
}

struct Store<C: RaftTypeConfig> {
    log: WalLog<C, SimDisk>,
    writer: Writer<SimDisk, FlushToken>,
    sink: Arc<Sink>,
    next: u64,
}

impl<C: RaftTypeConfig> Store<C> {
    fn open(disk: &SimDisk) -> Self {
        let options = DataDirOptions { node_id: 1, random: 4711 };
        let dir = DataDir::open(disk.clone(), Path::new(ROOT), options).unwrap();
        let (log, writer, _) = WalLog::open_with_writer(Arc::new(dir), OPTIONS).unwrap();
        Self { log, writer, sink: Arc::default(), next: 0 }
    }

    fn token(&mut self) -> IOFlushed {
        self.next += 1;
        IOFlushed::new(raftwright_core::WriteId(self.next), Arc::clone(&self.sink) as Arc<dyn FlushSink>)
    }

    fn told(&self) -> usize {
        let told = self.sink.0.lock().unwrap();
        assert!(told.iter().all(|(_, result)| result.is_ok()), "{told:?}");
        told.len()
    }
}

/// Runs a future that never waits.
fn now<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("the log has everything at hand"),
    }
}

fn normal<C>(leader: CommittedLeaderIdOf<C>, index: u64, data: &'static str) -> Entry<C>
where
    C: RaftTypeConfig<D = Bytes>,
{
    Entry {
        log_id: LogId { leader_id: leader, index },
        payload: EntryPayload::Normal(Bytes::from_static(data.as_bytes())),
    }
}

fn ids<C: RaftTypeConfig>(entries: &[C::Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.log_id().index).collect()
}

#[test]
fn a_node_finds_its_vote_and_its_log_again() {
    let disk = SimDisk::new(1);
    let term = |term| CommittedTerm::new(term, None);
    {
        let mut store = Store::<Standard>::open(&disk);
        assert_eq!(now(store.log.read_vote()).unwrap(), None);
        let token = store.token();
        store.log.save_vote(&Vote::new_committed(3, 7), token);
        let token = store.token();
        let blank = Entry::blank(LogId { leader_id: term(1), index: 1 });
        store.log.append(vec![blank, normal(term(2), 2, "two"), normal(term(2), 3, "x")], token);
        let token = store.token();
        store.log.truncate(3, token);
        let token = store.token();
        store.log.append(vec![normal(term(3), 3, "three"), normal(term(3), 4, "four")], token);
        let token = store.token();
        store.log.purge(LogId { leader_id: term(1), index: 1 }, token);
        store.log.save_committed(Some(LogId { leader_id: term(3), index: 3 }));
        assert_eq!(store.told(), 0, "submitted is not durable");
        let mut reader = now(store.log.get_log_reader());
        assert_eq!(
            ids::<Standard>(&now(reader.try_get_log_entries(..)).unwrap()),
            [2, 3, 4],
            "and readable all the same"
        );
        store.writer.run_batch().unwrap();
        assert_eq!(store.told(), 5);
    }
    disk.power_cut(Loss::Everything);
    let mut store = Store::<Standard>::open(&disk);
    assert_eq!(now(store.log.read_vote()).unwrap(), Some(Vote::new_committed(3, 7)));
    let state = now(store.log.get_log_state()).unwrap();
    assert_eq!(state.last_purged_log_id, Some(LogId { leader_id: term(1), index: 1 }));
    assert_eq!(state.last_log_id, Some(LogId { leader_id: term(3), index: 4 }));
    assert_eq!(state.incarnation, Some(Incarnation(4711)));
    assert_eq!(now(store.log.read_committed()).unwrap(), Some(LogId { leader_id: term(3), index: 3 }));
    let entries = now(store.log.try_get_log_entries(0..=3)).unwrap();
    assert!(matches!(&entries[1].payload, EntryPayload::Normal(data) if data == "three"), "{entries:?}");
    assert_eq!(ids::<Standard>(&now(store.log.limited_get_log_entries(2, 9, 1)).unwrap()), [2]);
    let keys = now(store.log.get_key_log_ids(2, LogId { leader_id: term(3), index: 4 })).unwrap();
    assert_eq!(keys, [LogId { leader_id: term(2), index: 2 }, LogId { leader_id: term(3), index: 3 }]);
    assert!(now(store.log.log_id_at(5)).is_err());
}

#[test]
fn advanced_leader_ids_keep_their_node() {
    let disk = SimDisk::new(1);
    let leader = AdvancedLeaderId::new(5, Some(9));
    {
        let mut store = Store::<Advanced>::open(&disk);
        let token = store.token();
        store.log.save_vote(&Vote { leader_id: leader, committed: false }, token);
        let token = store.token();
        store.log.append(vec![normal::<Advanced>(leader, 1, "a")], token);
        store.writer.run_batch().unwrap();
    }
    disk.power_cut(Loss::Everything);
    let mut store = Store::<Advanced>::open(&disk);
    assert_eq!(now(store.log.read_vote()).unwrap(), Some(Vote { leader_id: leader, committed: false }));
    assert_eq!(now(store.log.log_id_at(1)).unwrap(), LogId { leader_id: leader, index: 1 });
}

/// The order of writes is a promise, so nothing is taken after a write that could not be.
#[test]
fn a_write_that_cannot_be_taken_stops_the_store() {
    let disk = SimDisk::new(1);
    let mut store = Store::<Standard>::open(&disk);
    let token = store.token();
    store.log.save_vote(&Vote::new(1, 1), token);
    store.writer.run_batch().unwrap();
    let token = store.token();
    store.log.append(vec![normal(CommittedTerm::new(1, None), 1, "a")], token);
    let token = store.token();
    store.log.append(vec![normal(CommittedTerm::new(1, None), 5, "gap")], token);
    let token = store.token();
    store.log.save_vote(&Vote::new(2, 1), token);
    assert!(store.writer.run_batch().is_err());
    let told = store.sink.0.lock().unwrap().clone();
    let failed: Vec<u64> = told.iter().filter(|(_, result)| result.is_err()).map(|(write, _)| *write).collect();
    assert_eq!(failed, [2, 3, 4], "{told:?}");
}

/// Dropping the store finishes what was submitted, on a real disk with its thread.
#[test]
fn dropping_the_store_finishes_what_was_submitted() {
    let root = tempfile::tempdir().unwrap();
    let open = || {
        let options = DataDirOptions { node_id: 1, random: 1 };
        let dir = DataDir::open(raftwright_wal::RealDisk, root.path(), options).unwrap();
        WalLog::<Standard, _>::open(Arc::new(dir), OPTIONS).unwrap().0
    };
    let sink = Arc::new(Sink::default());
    let token = |write| IOFlushed::new(raftwright_core::WriteId(write), Arc::clone(&sink) as Arc<dyn FlushSink>);
    let mut log = open();
    log.save_vote(&Vote::new_committed(1, 1), token(0));
    for index in 1..=500 {
        log.append(vec![normal(CommittedTerm::new(1, None), index, "payload")], token(index));
    }
    let end = log.end();
    drop(log);
    end.wait();
    let told: Vec<u64> = sink.0.lock().unwrap().iter().filter(|(_, r)| r.is_ok()).map(|(write, _)| *write).collect();
    assert_eq!(told, (0..=500).collect::<Vec<u64>>(), "all, in order");
    assert_eq!(now(open().get_log_state()).unwrap().last_log_id.unwrap().index, 500);
}

/// A range may begin before the log does, whether something was purged there or nothing ever stood there.
#[test]
fn a_range_that_begins_before_the_log_begins_with_it() {
    let mut store = Store::<Standard>::open(&SimDisk::new(1));
    let term = CommittedTerm::new(1, None);
    assert_eq!(now(store.log.try_get_log_entries(..)).unwrap(), []);
    let token = store.token();
    store.log.save_vote(&Vote::new_committed(1, 1), token);
    let token = store.token();
    store.log.append((1..=3).map(|index| normal(term, index, "x")).collect(), token);
    assert_eq!(ids::<Standard>(&now(store.log.try_get_log_entries(..)).unwrap()), [1, 2, 3]);
    assert_eq!(ids::<Standard>(&now(store.log.limited_get_log_entries(0, 3, 1 << 20)).unwrap()), [1, 2]);
    let token = store.token();
    store.log.purge(LogId { leader_id: term, index: 1 }, token);
    assert_eq!(ids::<Standard>(&now(store.log.try_get_log_entries(..)).unwrap()), [2, 3]);
    assert_eq!(now(store.log.try_get_log_entries(0..2)).unwrap(), []);
}
