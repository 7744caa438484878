//! What the machine can do: a loop of `pwrite` and `fdatasync` over blocks that were written before.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

use super::{ENTRY_BYTES, Load, Session, noise};

/// Size of the file; after its end the loop begins again, over blocks that hold something.
const FILE_BYTES: u64 = 256 << 20;
/// How much is zeroed at once.
const ZERO_BYTES: usize = 256 << 10;

struct State {
    file: File,
    at: u64,
    /// How far the file is zeroed.
    zeroed: u64,
}

struct Bare {
    state: Mutex<State>,
    bytes: Vec<u8>,
}

/// The file is zeroed before anything is measured.
pub(super) fn open(dir: &Path, load: Load) -> Box<dyn Session> {
    start(dir, load, FILE_BYTES)
}

/// The zeroes are written on the way, as much at a time as is used up.
pub(super) fn open_unzeroed(dir: &Path, load: Load) -> Box<dyn Session> {
    start(dir, load, 0)
}

fn start(dir: &Path, load: Load, zeroed: u64) -> Box<dyn Session> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(dir.join("bare")).expect("a file");
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, FILE_BYTES).expect("room for the file");
    for at in (0..zeroed).step_by(ZERO_BYTES) {
        file.write_all_at(&vec![0; ZERO_BYTES], at).expect("zeroes");
    }
    file.sync_all().expect("a sync");
    let bytes = noise().concat().into_iter().cycle().take(load.batch * ENTRY_BYTES).collect();
    Box::new(Bare { state: Mutex::new(State { file, at: 0, zeroed }), bytes })
}

impl Session for Bare {
    fn append(&self, _: usize, batch: usize) {
        let mut state = self.state.lock().expect("no caller has panicked");
        let len = (batch * ENTRY_BYTES) as u64;
        if state.at + len > FILE_BYTES {
            (state.at, state.zeroed) = (0, if state.zeroed == FILE_BYTES { FILE_BYTES } else { 0 });
        }
        while state.zeroed < FILE_BYTES && state.zeroed < state.at + len {
            state.file.write_all_at(&vec![0; ZERO_BYTES], state.zeroed).expect("zeroes");
            state.file.sync_data().expect("a sync");
            state.zeroed += ZERO_BYTES as u64;
        }
        state.file.write_all_at(&self.bytes[..len as usize], state.at).expect("a write");
        state.file.sync_data().expect("a sync");
        state.at += len;
    }
}
