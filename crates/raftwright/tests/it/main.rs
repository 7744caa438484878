//! The easy layer on real sockets and real files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail tests")]

mod bad_servers;
mod cluster;
mod ending;
mod identity;
mod logs;
mod membership;
mod sessions;
mod snapshots;
mod start_errors;
mod survivor;
mod tally;
mod unknown;
