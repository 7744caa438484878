//! What an embedder of Raft implements: storage, state machine, network and runtime.
