//! The replicated state: a map from keys to values, with a revision for each write.

mod command;
mod machine;
mod replicated;
mod shared_map;
mod snapshot;

pub use command::{Answer, Command, Condition, KeyValue, Query, Stored};
pub use machine::KvStateMachine;
pub use shared_map::CHUNK_PAIRS_MAX;
pub use snapshot::SnapshotError;
