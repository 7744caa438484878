//! A deterministic simulator of whole clusters, with checkers.
