//! What can go wrong with a snapshot's file.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::DiskError;

/// Why a snapshot could not be kept or opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The media failed. A snapshot that was being committed is there whole or not at all.
    #[error("{0}")]
    Disk(#[from] DiskError),
    /// The file is not what was committed. It is of no use; another snapshot may be, or a leader's.
    #[error("the snapshot {} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file is of a later version than this release reads.
    #[error("the snapshot {} needs version {needs} of the format: use a newer release", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version that a reader must know.
        needs: u16,
    },
    /// What is said about the snapshot takes more bytes than there is room for. Nothing was changed.
    #[error("{len} bytes about a snapshot are above the limit of {max}")]
    MetaTooLong {
        /// Its length.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// A write into the file failed earlier, so that nobody knows what is in it. It has to be made anew.
    #[error("a write into the snapshot {} failed earlier: make it anew", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
    },
}

impl SnapshotError {
    pub(super) fn disk(action: &'static str, path: &Path, error: &io::Error) -> Self {
        SnapshotError::Disk(DiskError::new(action, path, error))
    }
}

impl From<SnapshotError> for io::Error {
    fn from(error: SnapshotError) -> Self {
        let kind = match &error {
            SnapshotError::Disk(disk) => disk.kind,
            SnapshotError::Damaged { .. } | SnapshotError::Version { .. } => io::ErrorKind::InvalidData,
            SnapshotError::MetaTooLong { .. } | SnapshotError::Broken { .. } => io::ErrorKind::InvalidInput,
        };
        io::Error::new(kind, error)
    }
}
