//! The log of this project: as callers use it that wait, and as a node does, which does not.

use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use raftwright_wal::{
    Callers, DataDir, DataDirOptions, Log, Op, Opened, RawEntry, RawLogId, RealDisk, Waiter, WalOptions, WalThread,
    open as open_log,
};

use super::{Load, PAYLOADS, Session, noise};

/// How a caller hands over its write.
#[derive(Clone, Copy)]
enum How {
    /// It writes itself where nobody else does.
    Write,
    /// As a node, whose core must not wait for a disk: the log's thread writes.
    Submit,
}

struct Ours {
    log: Log<RealDisk, Waiter>,
    callers: Callers,
    how: How,
    next: Mutex<u64>,
    payloads: Vec<Bytes>,
    thread: WalThread<RealDisk, Waiter>,
}

/// With its defaults.
pub(super) fn open(dir: &Path, _: Load) -> Box<dyn Session> {
    start(dir, How::Write, WalOptions::default())
}

/// With its defaults, and all writes by its thread.
pub(super) fn open_submitting(dir: &Path, _: Load) -> Box<dyn Session> {
    start(dir, How::Submit, WalOptions::default())
}

/// With a first segment that is long enough for the whole measurement, and zeroed before it begins, as the blocks of the bare
/// loop are.
fn zeroed() -> WalOptions {
    WalOptions { segment_bytes: 1 << 30, first_segment_bytes: 1 << 30, ..WalOptions::default() }
}

/// As the first, zeroed before.
pub(super) fn open_zeroed(dir: &Path, _: Load) -> Box<dyn Session> {
    start(dir, How::Write, zeroed())
}

/// As the second, zeroed before.
pub(super) fn open_zeroed_submitting(dir: &Path, _: Load) -> Box<dyn Session> {
    start(dir, How::Submit, zeroed())
}

fn start(dir: &Path, how: How, options: WalOptions) -> Box<dyn Session> {
    let data =
        DataDir::open(RealDisk, &dir.join("node"), DataDirOptions { node_id: 1, random: 1 }).expect("a directory");
    let Opened { log, writer, .. } = open_log(Arc::new(data), options).expect("a new log");
    let thread = WalThread::spawn(writer).expect("a thread");
    Box::new(Ours { log, callers: Callers::default(), how, next: Mutex::new(1), payloads: noise(), thread })
}

impl Session for Ours {
    fn append(&self, _: usize, batch: usize) {
        let (token, waiting) = self.callers.caller();
        let mut next = self.next.lock().expect("no caller has panicked");
        let entries = (*next..*next + batch as u64).map(|index| RawEntry {
            kind: 1,
            log_id: RawLogId { term: 0, node: None, index },
            payload: self.payloads[index as usize % PAYLOADS].clone(),
        });
        let op = Op::Append(entries.collect());
        *next += batch as u64;
        match self.how {
            How::Write => {
                let submitted = self.thread.submit(op, token).map_err(|refused| refused.error).expect("room");
                drop(next);
                submitted.write();
            }
            How::Submit => {
                self.log.submit(op, token).map_err(|refused| refused.error).expect("room");
                drop(next);
            }
        }
        waiting.wait().expect("the disk works");
    }
}
