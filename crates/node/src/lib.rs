//! The asynchronous shell around the Raft core: the handle and its tasks.
