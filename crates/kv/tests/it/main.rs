//! The server from outside: over HTTP, and as a process.

mod double;
mod http_errors;
mod http_kv;
mod raw;
