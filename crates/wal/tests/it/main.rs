//! The log as its users and its enemies see it.

mod basic;
