//! A Raft that one can simply use: state machine, server, client.
