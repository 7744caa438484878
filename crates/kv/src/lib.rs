//! A replicated key-value server on `raftwright`, and its command line.
//!
//! Read in this order: [`limits`] (every bound), [`store`] (the replicated state), [`node`] (what the HTTP interface
//! needs of a server of the cluster), [`server`] (the one that replicates), [`api`] (what goes over HTTP), [`http`] (the server side), [`client`] (the other
//! side), [`cli`] (the command line) and [`demo`] (a cluster of processes that is killed and checked).

pub mod api;
pub mod cli;
pub mod client;
pub mod demo;
pub mod http;
pub mod limits;
pub mod node;
pub mod server;
pub mod store;
