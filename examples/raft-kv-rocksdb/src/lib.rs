//! A log store and a state machine in one RocksDB: what it takes to put a Raft node on a database that one has already.
//!
//! [`open`] gives both. The log is a plain store behind [`BlockingLog`], so a token is completed when the write batch that
//! holds its write is synced. The state machine applies a batch of entries with one write batch, which also says how far the
//! log is applied: after a crash it goes on where its database is, however far that is. A snapshot is kept in the same
//! database. Every call of the database that can wait for the disk is made on one of two threads, the log's and the state
//! machine's.
//!
//! [`Server`] puts a node around them with the transport of the project, and serves [`Client`]s on the same port.

mod client;
mod log;
mod machine;
mod protocol;
mod server;
mod thread;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use raftwright_traits::{AppBytes, BlockingLog, DecodeError, StorageError, StorageErrorKind};
use rocksdb::DB;
use serde::{Deserialize, Serialize};

use crate::machine::Shelf;
use crate::thread::DbThread;

pub use client::{Client, ClientError};
pub use log::RocksLog;
pub use machine::{RocksBuilder, RocksMachine, RocksReader};
pub use protocol::{Answer, Call, Refusal};
pub use server::{Options as ServerOptions, Server};

raftwright_traits::declare_raft_types!(
    /// Keys and values.
    pub TypeConfig: D = Request, R = Response,
);

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Sets a key.
    Set {
        /// The key.
        key: String,
        /// Its new value.
        value: String,
    },
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The value that the key had before.
    pub previous: Option<String>,
}

impl AppBytes for Request {
    fn to_bytes(&self) -> Bytes {
        // Two strings can always be written as JSON.
        serde_json::to_vec(self).map(Bytes::from).unwrap_or_default()
    }

    fn from_bytes(bytes: Bytes) -> Result<Self, DecodeError> {
        serde_json::from_slice(&bytes).map_err(|error| DecodeError::new("a request", error.to_string()))
    }
}

const LOG: &str = "log";
const STATE: &str = "state";
const DATA: &str = "data";
const MACHINE: &str = "machine";

/// Opens the log and the state machine in this directory, or makes them. `random` is a fresh random number; it becomes the
/// incarnation of a log that is new.
///
/// # Errors
/// The database cannot be opened, or there is no thread for the log.
pub fn open(path: &Path, random: u64) -> Result<(BlockingLog<TypeConfig>, RocksMachine), StorageError> {
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let db = DB::open_cf(&options, path, [LOG, STATE, DATA, MACHINE]).map_err(read_failed)?;
    let db = Arc::new(db);
    let log = BlockingLog::start(RocksLog::new(Arc::clone(&db), random)?, Default::default(), |work| {
        std::thread::Builder::new().name("rocks-log".into()).spawn(work).map(drop)
    })?;
    Ok((log, RocksMachine::new(DbThread::start(Shelf::new(db))?)))
}

fn read_failed(error: impl std::fmt::Display) -> StorageError {
    StorageError::new(StorageErrorKind::Read, error.to_string())
}

fn write_failed(error: impl std::fmt::Display) -> StorageError {
    StorageError::new(StorageErrorKind::Write, error.to_string())
}

fn corrupt(error: impl std::fmt::Display) -> StorageError {
    StorageError::new(StorageErrorKind::Corrupt, format!("the database holds something else: {error}"))
}

/// The column family of that name. All of them are made when the database is opened.
fn family<'d>(db: &'d DB, name: &str) -> Result<&'d rocksdb::ColumnFamily, StorageError> {
    db.cf_handle(name).ok_or_else(|| corrupt(format!("there is no column family {name}")))
}

/// Reads a value that is written as JSON.
fn get<T: for<'de> Deserialize<'de>>(db: &DB, name: &str, key: &str) -> Result<Option<T>, StorageError> {
    let bytes = db.get_cf(family(db, name)?, key).map_err(read_failed)?;
    bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(corrupt)).transpose()
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, StorageError> {
    serde_json::to_vec(value).map_err(write_failed)
}
