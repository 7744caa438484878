use std::sync::Arc;

use raftwright_core::{RaftEntry, WriteId};
use raftwright_traits::{FlushSink, IOFlushed, MemLogStore, RaftLogReader, RaftLogStorage, StorageError};

use crate::{TestConfig, entry, id};

/// Every write must be flushed, and well.
struct MustFlush;

impl FlushSink for MustFlush {
    fn flushed(&self, _: WriteId, result: Result<(), StorageError>) {
        result.expect("a log in memory does not fail");
    }
}

fn done() -> IOFlushed {
    IOFlushed::new(WriteId(1), Arc::new(MustFlush))
}

/// A log with these terms from index 1 on.
fn log(terms: &[u64]) -> MemLogStore<TestConfig> {
    let mut log = MemLogStore::new();
    let entries = terms.iter().zip(1..).map(|(term, index)| entry(*term, index)).collect();
    log.append(entries, done());
    log
}

#[tokio::test]
async fn ranges_give_what_exists_in_order() {
    let mut log = log(&[1, 1, 2, 2, 5]);
    let indexes =
        |entries: Vec<_>| entries.iter().map(|e: &crate::Entry<TestConfig>| e.log_id.index).collect::<Vec<_>>();
    assert_eq!(indexes(log.try_get_log_entries(2..4).await.unwrap()), [2, 3]);
    assert_eq!(indexes(log.try_get_log_entries(4..).await.unwrap()), [4, 5]);
    assert_eq!(indexes(log.try_get_log_entries(..=1).await.unwrap()), [1]);
    assert!(log.try_get_log_entries(6..9).await.unwrap().is_empty());
    #[expect(clippy::reversed_empty_ranges, reason = "an empty range asked for the wrong way round is empty too")]
    let reversed = log.try_get_log_entries(4..2).await.unwrap();
    assert!(reversed.is_empty());
}

#[tokio::test]
async fn truncate_and_purge_cut_where_they_say() {
    let mut log = log(&[1, 1, 2, 2, 5]);
    log.truncate(5, done());
    log.purge(id(1, 2), done());
    let state = log.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(1, 2)), Some(id(2, 4))));
    assert_eq!(log.try_get_log_entries(0..).await.unwrap().len(), 2);
    log.purge(id(2, 4), done());
    let state = log.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(2, 4)), Some(id(2, 4))));
    log.append(vec![entry(6, 5)], done());
    assert_eq!(log.try_get_log_entries(0..).await.unwrap()[0].log_id(), id(6, 5));
}

/// BUGS 22: a byte limit never skips an entry and never gives none.
#[tokio::test]
async fn a_byte_limit_gives_at_least_one_entry_and_no_gap() {
    let mut log = log(&[1; 200]);
    let size = entry(1, 1).size();
    for bytes_max in [0, 1, size, size * 2 + 1, usize::MAX] {
        let mut next = 1;
        while next <= 200 {
            let some = log.limited_get_log_entries(next, 201, bytes_max).await.unwrap();
            assert!(!some.is_empty());
            for found in some {
                assert_eq!(found.log_id.index, next);
                next += 1;
            }
        }
    }
}

/// The default search finds the same runs as looking at every entry.
#[tokio::test]
async fn key_log_ids_are_the_first_entries_of_every_leader() {
    for pattern in 0u32..1 << 9 {
        let mut term = 1;
        let terms: Vec<u64> = (0..10)
            .map(|bit| {
                term += u64::from(pattern >> bit & 1);
                term
            })
            .collect();
        let mut log = log(&terms);
        let mut expected = Vec::new();
        for (term, index) in terms.iter().zip(1..) {
            if expected.last().is_none_or(|last: &crate::Id| last.leader_id != id(*term, 0).leader_id) {
                expected.push(id(*term, index));
            }
        }
        assert_eq!(log.get_key_log_ids(1, id(term, 10)).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_missing_entry_is_an_error_not_a_guess() {
    let mut log = log(&[1, 1]);
    assert!(log.log_id_at(3).await.is_err());
    assert!(log.get_key_log_ids(1, id(1, 5)).await.is_err());
}
