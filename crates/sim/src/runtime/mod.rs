//! The runtime of simulated nodes: one thread, virtual time, first in first out.
//!
//! * [`executor`]: polls tasks in the order in which they were woken, and lets time pass when nobody has anything to do;
//! * [`sim_runtime`]: what a node sees of it, as [`AsyncRuntime`](raftwright_traits::AsyncRuntime): its own clock, its own
//!   chance, and tasks that die with its process.
//!
//! Nothing here reads the computer's clock or its sources of chance, and wakers put tasks into one queue, so that the
//! same seed gives the same order of polls.

pub mod executor;
pub mod sim_runtime;

pub use executor::{Executor, Livelock};
pub use sim_runtime::{SimJoinHandle, SimRuntime, SimSleep};
