//! The server from outside: over HTTP, and as a process.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail, in its helpers too")]

mod bad_input;
mod data;
mod double;
mod http_errors;
mod http_kv;
mod life;
mod limits;
mod process;
mod raw;
