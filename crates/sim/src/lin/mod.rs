//! Linearizability: is there an order of the operations, one by one, that explains what every client saw?
//!
//! * [`history`]: what the clients did and saw, each operation with the moments of its call and of its return;
//! * [`model`]: the object as it would behave if it were alone with one client at a time;
//! * [`checker`]: the search (Wing and Gong's, in Lowe's just-in-time form), partitioned by key.
//!
//! An operation whose outcome nobody knows (a deadline passed, a node died) never returns: it may take effect at
//! any moment after its call, or never. An operation that surely had no effect does not belong into a history.

pub mod checker;
pub mod history;
pub mod model;

pub use checker::{CheckStats, Checker, Verdict, Violation};
pub use history::{History, Operation, Outcome, Stamp};
pub use model::{KvModel, KvOp, KvRet, Model};
