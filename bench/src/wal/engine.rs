//! `raft-engine`, with its defaults but for compression. Each caller has a region of its own, so that all can write.

use std::path::Path;
use std::sync::Mutex;

use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use super::{ENTRY_BYTES, Load, PAYLOADS, Session, noise};

/// An entry whose first eight bytes are its index.
#[derive(Clone)]
struct Indexed;

impl MessageExt for Indexed {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        entry.value.first_chunk().map_or(0, |index| u64::from_le_bytes(*index))
    }
}

struct Region {
    next: u64,
    batch: LogBatch,
}

struct Running {
    engine: Engine,
    regions: Vec<Mutex<Region>>,
    payloads: Vec<Vec<u8>>,
}

pub(super) fn open_plain(dir: &Path, load: Load) -> Box<dyn Session> {
    start(dir, load, ReadableSize(0), noise().iter().map(|bytes| bytes.to_vec()).collect())
}

/// The default of compressing batches from 8 KiB on, and data that gain from it.
pub(super) fn open_compressing(dir: &Path, load: Load) -> Box<dyn Session> {
    let text = |number: usize| format!("{{\"key\": \"user{number:08}\", \"value\": \"some text, over and over\"}} ");
    let payloads =
        (0..PAYLOADS).map(|number| text(number).into_bytes().into_iter().cycle().take(ENTRY_BYTES).collect());
    start(dir, load, ReadableSize::kb(8), payloads.collect())
}

fn start(dir: &Path, load: Load, threshold: ReadableSize, payloads: Vec<Vec<u8>>) -> Box<dyn Session> {
    let config = Config {
        dir: dir.join("engine").to_string_lossy().into_owned(),
        batch_compression_threshold: threshold,
        ..Config::default()
    };
    let engine = Engine::open(config).expect("a new engine");
    let region = || Mutex::new(Region { next: 1, batch: LogBatch::default() });
    Box::new(Running { engine, regions: (0..load.callers).map(|_| region()).collect(), payloads })
}

impl Session for Running {
    fn append(&self, caller: usize, batch: usize) {
        let mut region = self.regions[caller].lock().expect("no caller has panicked");
        let entries: Vec<BytesValue> = (region.next..region.next + batch as u64)
            .map(|index| {
                let mut entry = BytesValue::new();
                let mut value = self.payloads[index as usize % PAYLOADS].clone();
                value[..8].copy_from_slice(&index.to_le_bytes());
                entry.value = value;
                entry
            })
            .collect();
        region.next += batch as u64;
        region.batch.add_entries::<Indexed>(caller as u64 + 1, &entries).expect("a batch");
        self.engine.write(&mut region.batch, true).expect("a durable write");
    }
}
