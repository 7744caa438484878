//! A Raft that one can simply use: state machine, server, client.
//!
//! ```
#![doc = include_str!("../../../examples/hello-cluster/src/main.rs")]
//! ```
//!
//! Three layers, one on top of the other; enter at any of them.
//!
//! * *Easy*: write a [`StateMachine`]; run a [`Server`] on each machine; talk to them with a [`Client`]. [`Cluster`] runs
//!   all of it in one process.
//! * *Full*: [`Raft`] with a storage, state machine and network of your own, or some of ours: [`wal`] is the log, [`net`]
//!   the transport. Start at [`RaftTypeConfig`] and [`declare_raft_types!`].
//! * *Pure*: [`core`], the protocol as a machine without clock, IO or tasks.
//!
//! # What the easy layer promises
//!
//! * A command that [`Client::write`] has acknowledged is on the disks of a majority and applied on the leader. It is
//!   applied once, however often it had to be sent (Thesis §6.3).
//! * [`Client::read`] knows of every command acknowledged before it began (linearizable, Thesis §6.4).
//! * Every error says whether the command is *surely not applied* or whether that is *unknown*: [`Outcome`].
//! * A server on an emptied or copied disk, or of another cluster, is refused by all others and told why.
//!
//! # What it does not do yet
//!
//! State is held in memory. A server that starts makes it of its newest snapshot and the log behind that.

mod client;
mod cluster;
mod cluster_id;
mod easy_config;
mod envelope;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod protocol;
mod replicated;
mod server;
mod service;
mod sessions;
mod start_error;
mod state_machine;
mod survivor;

pub use client::{
    ATTEMPT_TIMEOUT, CLIENT_CONNECTIONS_MAX, CLIENT_DEADLINE, CLIENT_DEADLINE_MAX, Client, ClientError, REDIRECTS_MAX,
    RETRY_BUDGET_CALLS, RETRY_BUDGET_MAX,
};
pub use cluster::{CATCH_UP_MAX, Cluster, ClusterError, LEADER_WAIT_MAX};
pub use cluster_id::ClusterId;
pub use easy_config::{EasyConfig, EasySnapshot};
pub use envelope::Envelope;
pub use protocol::{AdminRequest, Leader, Member, Members, NodeStatus, RequestError};
pub use replicated::Replicated;
pub use server::{Connections, InitError, SERVER_DEADLINE, Server, ServerBuilder};
pub use service::{COMMAND_BYTES_MAX, MEMBER_ADDR_BYTES_MAX, REQUEST_WAIT_MAX};
pub use sessions::{SESSION_BYTES_MAX, SESSION_WINDOW, SESSIONS_MAX, SessionId};
pub use start_error::StartError;
pub use state_machine::{BoxError, Frozen, StateMachine, decode, encode};
pub use survivor::{BegunAnew, SurvivorError, begin_anew};

pub use raftwright_core as core;
pub use raftwright_net as net;
pub use raftwright_node as node;
pub use raftwright_node::*;
pub use raftwright_traits as traits;
pub use raftwright_traits::*;
pub use raftwright_wal as wal;
