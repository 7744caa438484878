//! The other side of the HTTP interface, for the command line and the demo.

mod connection;
mod requests;

pub use connection::{Connection, Response, TransportError};
pub use requests::{Client, ClientError, WriteCondition};
