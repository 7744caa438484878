//! A replicated key-value server on raftwright, and its command line.
