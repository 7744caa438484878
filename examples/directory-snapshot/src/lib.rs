//! A snapshot that is a directory of many files, moved from node to node.
//!
//! What a snapshot's content *is* is the application's choice. Here it is a directory: [`content`] makes one look like bytes to
//! whoever sends it, and puts one together of bytes; [`store`] is the state machine around it; [`network`] carries it in pieces.

pub mod content;
pub mod network;
pub mod store;
