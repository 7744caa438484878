//! The transport on real loopback sockets, and its plain machines on bytes.

// Helpers outside of test functions are tests too: what they do not expect is a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod connections;
mod frames;
mod handshakes;
mod limits;
mod messages;
mod network_suite;
mod raft_calls;
mod raw_peer;
mod snapshot_fixture;
mod snapshot_messages;
mod snapshot_requests;
mod snapshots;
mod support;
