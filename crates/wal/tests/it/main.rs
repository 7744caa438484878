//! The log as its users and its enemies see it.

mod basic;
mod crash;
mod damage;
mod failure;
mod harness;
mod history;
