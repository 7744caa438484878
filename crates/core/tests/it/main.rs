//! Tests of the protocol: stories, the sentences of the paper, models, hostile peers, random exploration.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod bad_peer;
mod calls;
mod canonical;
mod cluster;
mod coalescing;
mod configure;
mod disk;
mod elections;
mod found;
mod installs;
mod known_bugs;
mod limits;
mod log_shape;
mod membership;
mod numbers;
mod pace;
mod paper;
mod promises;
mod quorum;
mod random;
mod reads;
mod safety;
mod say;
mod script;
mod scripts;
mod solo;
mod stream;
mod texts;
mod types;
