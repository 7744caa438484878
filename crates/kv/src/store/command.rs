//! What goes into the log, what can be asked, and what comes back.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What must hold of a key for a write to happen. It is checked when the command is applied, so it is checked against
/// exactly the writes that stand before it in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Nothing.
    #[default]
    Always,
    /// The key was last written at this revision; 0 says that it does not exist.
    Revision(u64),
    /// The key exists and holds this value.
    Value(Bytes),
}

/// A write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Sets a key.
    Put {
        /// The key.
        key: String,
        /// Its new value.
        value: Bytes,
        /// What must hold.
        condition: Condition,
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: String,
        /// What must hold.
        condition: Condition,
    },
}

/// A read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// One key.
    Get {
        /// The key.
        key: String,
    },
    /// The keys that begin with a prefix, in their order.
    Scan {
        /// The prefix; empty for all keys.
        prefix: String,
        /// Only keys after this one: where the scan before stopped.
        after: Option<String>,
        /// Most pairs to answer with.
        limit: u64,
    },
}

/// A value, and the revision of the write that set it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The value.
    pub value: Bytes,
    /// The revision of the write.
    pub revision: u64,
}

/// A key and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// The key.
    pub key: String,
    /// What it holds.
    pub stored: Stored,
}

/// What a write or a read answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The write happened.
    Written {
        /// The revision of this write. A delete of a key that does not exist changes nothing and answers the revision
        /// of the last write of all.
        revision: u64,
        /// The revision at which the key was written before, if it existed.
        previous: Option<u64>,
    },
    /// The condition did not hold. Nothing was changed.
    Refused {
        /// What the key holds: its revision, if it exists.
        found: Option<u64>,
    },
    /// The key or the value is longer than the bounds. Nothing was changed.
    TooLong,
    /// What one key holds.
    Value(Option<Stored>),
    /// What the keys of a prefix hold.
    Pairs {
        /// The pairs, in the order of their keys.
        pairs: Vec<KeyValue>,
        /// Whether there are more after the last one.
        more: bool,
    },
}
