//! What the membership stores about a server.

use raftwright_core::{Incarnation, Node};
use serde::{Deserialize, Serialize};

/// An address, and the incarnation of the server's data directory once a leader has met it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BasicNode {
    /// Where peers reach it: `host:port`.
    pub addr: String,
    /// The incarnation that its votes and acknowledgements must carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
}

impl BasicNode {
    /// A server at this address, of an incarnation yet unknown.
    pub fn new(addr: impl Into<String>) -> Self {
        Self { addr: addr.into(), incarnation: None }
    }
}

impl Node for BasicNode {
    fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation
    }

    fn bind_incarnation(&mut self, incarnation: Incarnation) -> bool {
        self.incarnation = Some(incarnation);
        true
    }
}

/// Nothing but the id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmptyNode {}

impl Node for EmptyNode {
    fn incarnation(&self) -> Option<Incarnation> {
        None
    }

    fn bind_incarnation(&mut self, _: Incarnation) -> bool {
        false
    }
}
