use std::sync::{Arc, Mutex};

use raftwright_core::WriteId;
use raftwright_traits::{FlushSink, IOFlushed, StorageError, StorageErrorKind};

#[derive(Default)]
struct Seen(Mutex<Vec<(WriteId, Result<(), StorageError>)>>);

impl FlushSink for Seen {
    fn flushed(&self, write: WriteId, result: Result<(), StorageError>) {
        self.0.lock().unwrap().push((write, result));
    }
}

/// BUGS 39: a write that a store loses is an error that somebody hears of.
#[test]
fn a_dropped_token_is_an_error() {
    let seen = Arc::new(Seen::default());
    drop(IOFlushed::new(WriteId(7), seen.clone()));
    let seen = seen.0.lock().unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].0, WriteId(7));
    assert_eq!(seen[0].1.as_ref().unwrap_err().kind, StorageErrorKind::TokenDropped);
}

#[test]
fn a_completed_token_is_reported_once() {
    let seen = Arc::new(Seen::default());
    IOFlushed::new(WriteId(7), seen.clone()).io_completed(Ok(()));
    assert_eq!(*seen.0.lock().unwrap(), [(WriteId(7), Ok(()))]);
}
