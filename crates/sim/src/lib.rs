//! A deterministic simulator of whole clusters, with checkers.
//!
//! In reading order:
//!
//! * [`world`]: chance, time, clocks, network and the ledger of faults, as plain machines;
//! * [`lin`]: the linearizability checker;
//! * [`runtime`]: the runtime of simulated nodes: one thread, virtual time, first in first out;
//! * [`checkers`]: what must be true of a cluster at every moment, one file a property;
//! * [`core_world`]: a cluster of pure replicas, its clients and its faults;
//! * [`exhaustive`]: every state of three servers, within bounds;
//! * [`scenario`]: the language of scenario files;
//! * [`node_world`]: a cluster of whole nodes, random runs and scenario files on it;
//! * [`check()`]: the same for an application's own state machine;
//! * [`shrink`](mod@shrink): makes a failing run smaller; [`report`]: shows a run to a person.
//!
//! A run is a function of its seed: nothing here reads a clock, starts a thread, or iterates over a hash map.

pub mod check;
pub mod checkers;
pub mod core_world;
pub mod exhaustive;
pub mod lin;
pub mod node_world;
pub mod report;
pub mod runtime;
pub mod scenario;
pub mod shrink;
pub mod world;

pub use check::check;
