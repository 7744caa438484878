//! Conformance suites: what a log store, a state machine and a network owe the node, as checks that run.
//!
//! A store is handed over as an `async fn` that makes a pair of stores, or as a [`StoreBuilder`] that can also reopen them
//! on what they have kept and cut the power of it. With a builder, every check runs three times: straight through, with the
//! stores closed and reopened at each turn, and with the power cut at each turn.
//!
//! ```
//! use bytes::Bytes;
//! use raftwright_traits::MemLogStore;
//! use raftwright_traits::testing::{Suite, TestMachine};
//!
//! raftwright_traits::declare_raft_types!(
//!     /// The types of this example.
//!     pub TypeConfig: D = Bytes, R = Bytes,
//! );
//!
//! async fn new_stores() -> (MemLogStore<TypeConfig>, TestMachine<TypeConfig>) {
//!     (MemLogStore::new(), TestMachine::default())
//! }
//!
//! let report = Suite::test_all(new_stores).expect("the stores keep the contract");
//! assert!(report.passed.len() > 45);
//! ```
//!
//! A network is handed over as a [`NetworkBuilder`], which starts servers and makes the clients that reach them:
//! [`NetworkSuite`].
//!
//! Failures name the check, how it was run, and what was done up to there. Nothing here asserts about time; a store that
//! lets a check wait for [`PATIENCE`] without any sign of life is taken for stuck. (One that blocks the calling thread for
//! ever hangs the suite.)

mod builder;
mod checks;
mod executor;
mod machine;
mod model;
mod network;
mod recorder;
mod suite;
mod trial;

pub use builder::{Loss, NotOffered, PowerSwitch, StoreBuilder, Survives, TestData, Work};
pub use executor::PATIENCE;
pub use machine::{TestMachine, TestShelf, TestSnapshotBuilder};
pub use network::{Arrived, NetworkBuilder, NetworkSuite, Served, TestPeer};
pub use suite::{CheckFailed, Mode, Passed, Report, Skipped, Suite, SuiteError};
