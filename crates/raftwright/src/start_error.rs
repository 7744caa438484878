//! Why a server does not start.

use std::io;

use raftwright_traits::{ConfigError, Fatal};
use raftwright_wal::{DataDirError, OpenError, SnapshotError};

/// Why a server does not start. The text is one sentence that says what is wrong, where, and what to do. Nothing was left
/// running; a data directory that was opened may have been made, and its boot epoch counted up.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StartError {
    /// A setting that every server needs was not given.
    #[error("{0} is not set: give it to the builder")]
    Missing(&'static str),
    /// A setting cannot work.
    #[error("the setting {0}")]
    Config(#[from] ConfigError),
    /// The list of first members cannot be.
    #[error("the initial cluster {0}")]
    InitialCluster(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address as given, `host:port`.
        address: String,
        /// What the operating system says, and what to do.
        reason: String,
    },
    /// The data directory cannot be written, is locked by a running node, or belongs to something else.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The log in the data directory cannot be opened.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The snapshots in the data directory cannot be opened.
    #[error("the snapshots in the data directory cannot be opened: {0}")]
    Snapshots(SnapshotError),
    /// The node does not come up.
    #[error("{0}")]
    Node(#[from] Fatal),
    /// There is no tokio runtime, or it does not have what is needed.
    #[error("a server runs on tokio: {0}")]
    Runtime(String),
}

impl StartError {
    /// That this address, `host:port`, cannot be listened on, with what to do about it.
    pub fn listen(address: String, error: &io::Error) -> Self {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => "stop the process that uses it, or choose another address",
            io::ErrorKind::AddrNotAvailable => {
                "this machine has no such address; choose one that it has, or 0.0.0.0:PORT for all of them"
            }
            io::ErrorKind::PermissionDenied => "choose a port from 1024 on, or give this user the right to it",
            _ => "choose another address, IP:PORT",
        };
        StartError::Listen { address, reason: format!("{error}: {advice}") }
    }
}
