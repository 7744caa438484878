//! The node as a whole: several of them in one process, on a clock that stands still while anything is running.

mod cluster;
mod determinism;
mod faults;
mod fixture;
mod membership;
mod stopping;
