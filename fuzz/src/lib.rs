//! Fuzz targets: each takes any bytes and must neither panic nor hang nor allocate without bound, and asserts what it can
//! about what it decodes. `fuzz/run` drives them with libFuzzer; `cargo test` runs their corpora, and mutations of them, on
//! the stable compiler.

mod easy;
mod kv;
mod net;
mod scenario;
mod wal;
mod wal_index;
mod wal_snapshot;

/// What is fuzzed.
pub struct Target {
    /// Its name, also that of its corpus.
    pub name: &'static str,
    /// Takes bytes.
    pub run: fn(&[u8]),
    /// Bytes to begin with, that are mostly taken.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "wal_meta", run: wal::meta, seeds: wal::meta_seeds },
    Target { name: "wal_segment", run: wal::segment, seeds: wal::segment_seeds },
    Target { name: "wal_two_segments", run: wal::two_segments, seeds: wal::two_segments_seeds },
    Target { name: "wal_damage", run: wal::damage, seeds: wal::damage_seeds },
    Target { name: "wal_index", run: wal_index::index, seeds: wal_index::index_seeds },
    Target { name: "wal_snapshot", run: wal_snapshot::file, seeds: wal_snapshot::file_seeds },
    Target { name: "wal_snapshot_damage", run: wal_snapshot::damage, seeds: wal_snapshot::damage_seeds },
    Target { name: "net_frames", run: net::frames, seeds: net::frames_seeds },
    Target { name: "net_handshake", run: net::handshake, seeds: net::handshake_seeds },
    Target { name: "net_messages", run: net::messages, seeds: net::messages_seeds },
    Target { name: "entry_codec", run: net::entry, seeds: net::entry_seeds },
    Target { name: "easy_envelope", run: easy::envelope, seeds: easy::envelope_seeds },
    Target { name: "easy_protocol", run: easy::protocol, seeds: easy::protocol_seeds },
    Target { name: "easy_snapshot", run: easy::snapshot, seeds: easy::snapshot_seeds },
    Target { name: "easy_snapshot_meta", run: easy::snapshot_meta, seeds: easy::snapshot_meta_seeds },
    Target { name: "kv_command", run: kv::command, seeds: kv::command_seeds },
    Target { name: "kv_snapshot", run: kv::snapshot, seeds: kv::snapshot_seeds },
    Target { name: "kv_http", run: kv::http, seeds: kv::http_seeds },
    Target { name: "sim_scenario", run: scenario::parse, seeds: scenario::seeds },
];

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
