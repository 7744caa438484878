//! Snapshots as files: a directory of them, each visible under its name only when it is whole and durable.
//!
//! A [`SnapshotDir`] keeps them. [`SnapshotDir::create`] gives a [`SnapshotFile`] under a name that nobody looks at; it is
//! filled, by a builder or by a transfer, and [`commit`](SnapshotFile::commit) makes it durable and gives it its name, by
//! one rename and one sync of the directory. One that is dropped before is removed, and what a crash leaves of it is removed
//! when the directory is opened again. A [`SnapshotFile`] is [`SnapshotContent`](raftwright_traits::SnapshotContent), so it can
//! be the `SnapshotData` of any application; how the bytes in it are laid out is the application's business.
//!
//! Every read is checked against checksums, so a damaged byte is never sent, installed or otherwise believed.
//! `docs/snapshot-format.md` draws the file.
//!
//! All calls block. In asynchronous code they belong on a thread where that harms nobody.

mod dir;
mod error;
mod file;
mod format;

pub use dir::{DamagedSnapshot, SnapshotDir, SnapshotInfo};
pub use error::SnapshotError;
pub use file::{SnapshotFile, SnapshotReader};
pub use format::{
    SNAPSHOT_BLOCK_BYTES, SNAPSHOT_BLOCK_BYTES_MAX, SNAPSHOT_FEATURES, SNAPSHOT_META_BYTES_MAX, SNAPSHOT_VERSION,
    SNAPSHOT_VERSION_MIN,
};
