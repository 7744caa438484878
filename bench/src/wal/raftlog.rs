//! `raft-log`, with its defaults. Callers share one log: each appends and asks for a flush, and waits for its callback.

use std::io;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use raft_log::api::raft_log_writer::RaftLogWriter;
use raft_log::api::types::Types;
use raft_log::{Config, RaftLog};

use super::{Load, PAYLOADS, Session, noise};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Kinds;

impl Types for Kinds {
    type LogId = (u64, u64);
    type LogPayload = String;
    type Vote = (u64, u64);
    type UserData = String;
    type Callback = SyncSender<io::Result<()>>;

    fn log_index(log_id: &(u64, u64)) -> u64 {
        log_id.1
    }

    fn payload_size(payload: &String) -> u64 {
        payload.len() as u64
    }
}

struct State {
    log: RaftLog<Kinds>,
    next: u64,
}

struct Running {
    state: Mutex<State>,
    payloads: Vec<String>,
}

pub(super) fn open(dir: &Path, _: Load) -> Box<dyn Session> {
    let path = dir.join("raft-log");
    std::fs::create_dir(&path).expect("a directory");
    let config = Config { dir: path.to_string_lossy().into_owned(), ..Config::default() };
    let log = RaftLog::<Kinds>::open(Arc::new(config)).expect("a new log");
    // Its payload is encoded by a trait that strings have; letters of the same length as the others' noise.
    let letters = |bytes: &[u8]| bytes.iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    Box::new(Running {
        state: Mutex::new(State { log, next: 1 }),
        payloads: noise().iter().map(|bytes| letters(bytes)).collect(),
    })
}

impl Session for Running {
    fn append(&self, _: usize, batch: usize) {
        let (sender, receiver) = sync_channel(1);
        {
            let mut state = self.state.lock().expect("no caller has panicked");
            let first = state.next;
            state.next += batch as u64;
            let entries =
                (first..state.next).map(|index| ((1, index), self.payloads[index as usize % PAYLOADS].clone()));
            let entries: Vec<_> = entries.collect();
            state.log.append(entries).expect("an append");
            state.log.flush(sender).expect("a flush");
        }
        receiver.recv().expect("an answer").expect("a durable append");
    }
}
