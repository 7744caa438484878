//! A deterministic simulator of whole clusters, with checkers.
//!
//! In reading order:
//!
//! * [`world`]: chance, time, clocks, network and the ledger of faults, as plain machines;
//! * [`lin`]: the linearizability checker;
//! * [`runtime`]: the runtime of simulated nodes: one thread, virtual time, first in first out;
//! * [`scenario`]: the language of scenario files.
//!
//! A run is a function of its seed: nothing here reads a clock, starts a thread, or iterates over a hash map.

pub mod lin;
pub mod runtime;
pub mod scenario;
pub mod world;
