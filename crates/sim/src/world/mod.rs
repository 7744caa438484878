//! The simulated world, apart from what lives in it: chance, time, clocks, network and the ledger of faults.
//!
//! Every part is a plain machine: it is told what happens and answers what follows. Nothing here knows Raft, and nothing
//! reads the computer's clock or its sources of chance, so that a seed is a whole run.

pub mod clock;
pub mod fault;
pub mod hash;
pub mod network;
pub mod queue;
pub mod rng;

pub use clock::{NodeClock, SimTime};
pub use fault::{Fault, FaultLog};
pub use hash::TraceHash;
pub use network::{Fate, Lane, LinkProfile, Network, Parcel};
pub use queue::EventQueue;
pub use rng::Rng;

/// A server of a simulated cluster.
pub type NodeId = u64;
