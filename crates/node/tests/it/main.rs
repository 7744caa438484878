//! The node as a whole: several of them in one process, on a clock that stands still while anything is running.
// What a test cannot do without it unwraps, and it plays the clients, which are tasks of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod chaos;
mod cluster;
mod determinism;
mod ending;
mod faults;
mod fixture;
mod heartbeats;
mod inbound;
mod limits;
mod membership;
mod observe;
mod reads;
mod settings;
mod snapshots;
mod spans;
mod stopping;
mod threads;
mod writes;
