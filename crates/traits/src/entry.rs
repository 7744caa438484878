//! The default log entry.

use std::fmt::{Debug, Formatter};

use raftwright_core::{Membership, RaftEntry};

use crate::type_config::FromAppData;
use crate::{LogIdOf, MembershipOf, Of, RaftTypeConfig};

/// A log entry: its log id and what it carries.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
#[serde(bound(serialize = "C::D: serde::Serialize", deserialize = "C::D: serde::de::DeserializeOwned"))]
pub struct Entry<C: RaftTypeConfig> {
    /// Where it stands.
    pub log_id: LogIdOf<C>,
    /// What it carries.
    pub payload: EntryPayload<C>,
}

/// What a log entry carries.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(bound(serialize = "C::D: serde::Serialize", deserialize = "C::D: serde::de::DeserializeOwned"))]
pub enum EntryPayload<C: RaftTypeConfig> {
    /// Nothing: the first entry of a leader (Raft §8).
    Blank,
    /// What a client asked.
    Normal(C::D),
    /// A new membership (Raft §6).
    Membership(MembershipOf<C>),
}

impl<C: RaftTypeConfig> RaftEntry<Of<C>> for Entry<C> {
    fn blank(log_id: LogIdOf<C>) -> Self {
        Self { log_id, payload: EntryPayload::Blank }
    }

    fn of_membership(log_id: LogIdOf<C>, membership: MembershipOf<C>) -> Self {
        Self { log_id, payload: EntryPayload::Membership(membership) }
    }

    fn log_id(&self) -> LogIdOf<C> {
        self.log_id
    }

    fn set_log_id(&mut self, log_id: LogIdOf<C>) {
        self.log_id = log_id;
    }

    fn membership(&self) -> Option<&Membership<C::NodeId, C::Node>> {
        match &self.payload {
            EntryPayload::Membership(membership) => Some(membership),
            EntryPayload::Blank | EntryPayload::Normal(_) => None,
        }
    }

    fn size(&self) -> usize {
        // The log id, the kind and the frame around them.
        const OVERHEAD: usize = 32;
        OVERHEAD
            + match &self.payload {
                EntryPayload::Blank => 0,
                EntryPayload::Normal(data) => C::data_size(data),
                EntryPayload::Membership(membership) => 64 * membership.nodes().len(),
            }
    }
}

impl<C: RaftTypeConfig> FromAppData<C::D> for Entry<C> {
    fn from_app_data(data: C::D) -> Self {
        Self { log_id: LogIdOf::<C>::default(), payload: EntryPayload::Normal(data) }
    }
}

impl<C: RaftTypeConfig> PartialEq for Entry<C>
where
    C::D: PartialEq,
{
    fn eq(&self, other: &Self) -> bool {
        self.log_id == other.log_id && self.payload == other.payload
    }
}

impl<C: RaftTypeConfig> Eq for Entry<C> where C::D: Eq {}

impl<C: RaftTypeConfig> Debug for Entry<C> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{:?}", self.log_id, self.payload)
    }
}

impl<C: RaftTypeConfig> Debug for EntryPayload<C> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            EntryPayload::Blank => f.write_str("blank"),
            EntryPayload::Normal(data) => write!(f, "{data:?}"),
            EntryPayload::Membership(membership) => write!(f, "membership {membership}"),
        }
    }
}
