//! The Raft protocol as two pure machines, without IO, clock or async.
