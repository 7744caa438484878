//! The transport on real loopback sockets, and its plain machines on bytes.

mod connections;
mod frames;
mod handshakes;
mod messages;
mod raft_calls;
mod support;
