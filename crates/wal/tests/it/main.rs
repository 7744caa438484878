//! The log as its users and its enemies see it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod basic;
mod callers;
mod crash;
mod damage;
mod failure;
mod flips;
mod hang;
mod harness;
mod history;
mod indexes;
mod inspect;
mod lies;
mod limits;
mod memory;
mod snapshots;
mod suite;
mod threads;
mod typed;
