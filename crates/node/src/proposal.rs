//! A write on its way to the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use raftwright_traits::{CommittedLeaderIdOf, RaftTypeConfig, Time};
use serde::{Deserialize, Serialize};

use crate::responder::WriteTx;

/// How much a write matters while there is more to do than can be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Refused as busy once the queue, or the room for what is not committed, is half used.
    Low,
    /// Refused as busy once there is no room.
    #[default]
    Normal,
    /// Has a queue of its own, which is taken up first, and so finds room where others find none.
    High,
}

/// An entry to propose, and all that was asked about it.
pub(crate) struct Proposal<C: RaftTypeConfig> {
    pub(crate) entry: C::Entry,
    pub(crate) tx: WriteTx<C>,
    /// Propose it in this leadership or not at all.
    pub(crate) expected: Option<CommittedLeaderIdOf<C>>,
    pub(crate) claim: Option<Arc<Claim>>,
    pub(crate) priority: Priority,
}

/// Decides between a caller that goes away and the core that takes its write up: exactly one of the two gets it. So a
/// caller whose time is over knows whether the write can still be proposed.
pub(crate) struct Claim {
    expires_at: Time,
    state: AtomicU8,
}

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const WITHDRAWN: u8 = 2;

impl Claim {
    pub(crate) fn new(expires_at: Time) -> Self {
        Self { expires_at, state: AtomicU8::new(WAITING) }
    }

    /// The core takes the write up. If this is false it must not: it is too late, or the caller has gone.
    pub(crate) fn take(&self, now: Time) -> bool {
        self.move_to(if now < self.expires_at { TAKEN } else { WITHDRAWN }) && now < self.expires_at
    }

    /// The caller goes away. If this is true, the write is surely not proposed.
    pub(crate) fn withdraw(&self) -> bool {
        self.move_to(WITHDRAWN) || self.state.load(Ordering::Acquire) == WITHDRAWN
    }

    fn move_to(&self, state: u8) -> bool {
        self.state.compare_exchange(WAITING, state, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_taken_or_withdrawn_and_never_both() {
        let claim = Claim::new(Time::from_nanos(10));
        assert!(claim.take(Time::from_nanos(9)));
        assert!(!claim.withdraw(), "it may be applied");
        let claim = Claim::new(Time::from_nanos(10));
        assert!(claim.withdraw());
        assert!(!claim.take(Time::from_nanos(9)), "its caller was told that it is not applied");
        let claim = Claim::new(Time::from_nanos(10));
        assert!(!claim.take(Time::from_nanos(10)), "too late");
        assert!(claim.withdraw());
    }
}
