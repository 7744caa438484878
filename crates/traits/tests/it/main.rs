//! The vocabulary of the full layer: what the provided parts promise.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod blocking;
mod entries;
mod errors;
mod flushed;
mod log;
mod networks;
mod settings;
mod store_ext;
mod suite;
mod transfer;
mod wrong_stores;

use bytes::Bytes;
use raftwright_traits::{CommittedTerm, Entry, EntryPayload, LogId};

raftwright_traits::declare_raft_types!(
    /// The types of these tests: raw bytes, all defaults.
    pub TestConfig: D = Bytes, R = Bytes,
);

raftwright_traits::declare_raft_types!(
    /// Some defaults replaced.
    pub AdvancedConfig: D = u64, R = u64, NodeId = u32, LeaderId = raftwright_traits::AdvancedLeaderId<u32>,
);

type Id = LogId<CommittedTerm<u64>>;

fn id(term: u64, index: u64) -> Id {
    use raftwright_traits::CommittedLeaderId;
    LogId::new(CommittedTerm::new(term, None), index)
}

fn entry(term: u64, index: u64) -> Entry<TestConfig> {
    Entry { log_id: id(term, index), payload: EntryPayload::Normal(Bytes::from(format!("{term}.{index}"))) }
}
