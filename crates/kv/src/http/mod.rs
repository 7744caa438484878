//! The HTTP interface: routes, and what each of them does.
//!
//! Every answer carries the answering server's term, applied index and leader, in its headers and, where the body is an
//! object, in the body. Every answer that is not a success is an [`ErrorBody`](crate::api::ErrorBody).

mod admin;
mod base64;
mod error;
mod health;
mod input;
mod kv;
mod metrics;
mod routes;
mod serve;

pub use error::HttpError;
pub use routes::{App, router};
pub use serve::{Stop, serve};

pub(crate) use input::percent_encode;
pub(crate) use kv::pair;
