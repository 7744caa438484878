//! The durable log: segments, group commit, checksums, recovery by verdict.
