//! The log of this project, as a node uses it: with its thread.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, Thread};

use bytes::Bytes;
use raftwright_wal::{
    Completion, DataDir, DataDirOptions, Log, Op, Opened, RawEntry, RawLogId, RealDisk, WalError, WalOptions,
    WalThread, open as open_log,
};

use super::{Load, PAYLOADS, Session, noise};

/// Wakes the caller.
struct Token {
    done: Arc<AtomicBool>,
    caller: Thread,
}

impl Completion for Token {
    fn complete(self, result: Result<(), WalError>) {
        result.expect("the disk works");
        self.done.store(true, Ordering::Release);
        self.caller.unpark();
    }
}

struct Ours {
    log: Log<RealDisk, Token>,
    next: Mutex<u64>,
    payloads: Vec<Bytes>,
    _thread: WalThread<RealDisk, Token>,
}

/// With its defaults.
pub(super) fn open(dir: &Path, _: Load) -> Box<dyn Session> {
    start(dir, WalOptions::default())
}

/// With a first segment that is long enough for the whole measurement, and zeroed before it begins, as the blocks of the bare
/// loop are.
pub(super) fn open_zeroed(dir: &Path, _: Load) -> Box<dyn Session> {
    start(dir, WalOptions { segment_bytes: 1 << 30, first_segment_bytes: 1 << 30, ..WalOptions::default() })
}

fn start(dir: &Path, options: WalOptions) -> Box<dyn Session> {
    let data =
        DataDir::open(RealDisk, &dir.join("node"), DataDirOptions { node_id: 1, random: 1 }).expect("a directory");
    let Opened { log, writer, .. } = open_log(Arc::new(data), options).expect("a new log");
    let thread = WalThread::spawn(writer).expect("a thread");
    Box::new(Ours { log, next: Mutex::new(1), payloads: noise(), _thread: thread })
}

impl Session for Ours {
    fn append(&self, _: usize, batch: usize) {
        let done = Arc::new(AtomicBool::new(false));
        let token = Token { done: Arc::clone(&done), caller: thread::current() };
        {
            let mut next = self.next.lock().expect("no caller has panicked");
            let entries = (*next..*next + batch as u64).map(|index| RawEntry {
                kind: 1,
                log_id: RawLogId { term: 0, node: None, index },
                payload: self.payloads[index as usize % PAYLOADS].clone(),
            });
            let entries = entries.collect();
            *next += batch as u64;
            self.log.submit(Op::Append(entries), token).map_err(|refused| refused.error).expect("room");
        }
        while !done.load(Ordering::Acquire) {
            thread::park();
        }
    }
}
