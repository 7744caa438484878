//! Broken variants of the protocol, to show that whoever looks for bugs would find them.
//!
//! Without the feature `sabotage`, which nothing but the simulator's own turns on, [`on`] is a constant `false` and every
//! variant is compiled to nothing. With it, one variant at a time can be switched on, for the whole process.

macro_rules! bugs {
    ($($(#[doc = $what:literal])+ $name:ident,)*) => {
        /// A way in which the protocol can be wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bug {
            $($(#[doc = $what])+ $name,)*
        }

        impl Bug {
            /// Every one of them.
            pub const ALL: &'static [Bug] = &[$(Bug::$name,)*];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Bug::$name => stringify!($name),)*
                }
            }

            /// What is wrong.
            pub fn what(self) -> &'static str {
                match self {
                    $(Bug::$name => concat!($($what,)+),)*
                }
            }
        }
    };
}

bugs! {
    /// A restart forgets the vote.
    VoteForgotten,
    /// A vote is said before it is on the disk.
    VoteSaidBeforeDisk,
    /// Entries are acknowledged before they are on the disk.
    AppendSaidBeforeDisk,
    /// A candidate asks before its own vote is on the disk.
    CampaignBeforeDisk,
    /// A second vote is given in a term.
    VotesTwice,
    /// A vote is given to any log.
    VotesForAnyLog,
    /// A vote is given to the longer log, whatever its terms.
    VotesForLongerLog,
    /// A refused vote counts.
    RefusalsCount,
    /// Votes of earlier candidacies count.
    OldGrantsCount,
    /// A pre-vote is given like a vote.
    PreVoteBinds,
    /// A majority has one server too few.
    MajorityTooSmall,
    /// A joint membership asks only its new voters.
    JointAsksNewOnly,
    /// A joint membership asks only its old voters.
    JointAsksOldOnly,
    /// A joint membership asks a majority of all its voters.
    JointAsUnion,
    /// Learners count.
    LearnersCount,
    /// A server that was wiped counts as the one that it was.
    StrangersCount,
    /// A membership counts only when it is committed.
    MembershipAtCommit,
    /// A membership stays when its entry is truncated.
    MembershipStays,
    /// The membership changes before an entry of the leader's term is committed.
    ChangesTooSoon,
    /// The membership changes while a change is not committed.
    ChangesTwice,
    /// Nobody ends a joint membership.
    JointForever,
    /// Entries of earlier terms are committed by counting.
    CommitsEarlierTerms,
    /// The leader counts its own entries before they are on its disk.
    CountsOwnBeforeDisk,
    /// An acknowledgement of anything is one of everything.
    MatchesEverything,
    /// What was sent counts as stored.
    MatchesWhatWasSent,
    /// A heartbeat's commit index is believed past what was verified.
    CommitsUnverified,
    /// What an earlier leader verified counts for the next.
    VerifiedForever,
    /// What is not committed is applied.
    AppliesUncommitted,
    /// What is not on the disk here is applied.
    AppliesBeforeDisk,
    /// A shorter request cuts the log without a conflict.
    TruncatesWithoutConflict,
    /// Entries are compared by their index alone.
    ComparesIndexOnly,
    /// The entry before the first is not compared.
    PrevUnchecked,
    /// Truncated entries stay durable in the books.
    TruncationUnbooked,
    /// The leader of an earlier term is followed.
    FollowsEarlierLeader,
    /// A stream never looks for agreement further back.
    StreamLooksNowhere,
    /// A read is served without a round.
    ReadsWithoutRound,
    /// A read joins a round that was sent before it came.
    ReadsJoinOldRound,
    /// A new leader serves reads before it has committed an entry of its own.
    ReadsTooSoon,
    /// An answer of anybody confirms every round.
    RoundsConfirmTooMuch,
    /// A refused heartbeat confirms the leader.
    RefusedHeartbeatCounts,
    /// A lease begins when its round is answered, not when it is sent.
    LeaseFromReceipt,
    /// A lease lasts as long as the promise, whatever the clocks do.
    LeaseIgnoresDrift,
    /// An election is taken for a lease.
    LeaseFromElection,
    /// A lease survives the request to take over.
    LeaseSurvivesTransfer,
    /// The promise that a lease rests on is forgotten.
    PromiseForgotten,
    /// A restart forgets the promise that a lease rests on.
    PromiseLostByRestart,
    /// A snapshot is installed without its membership.
    SnapshotWithoutMembership,
    /// A snapshot is acknowledged before it is installed.
    SnapshotSaidTooSoon,
    /// The log is purged further than the snapshot goes.
    PurgesBeyondSnapshot,
}

#[cfg(feature = "sabotage")]
mod switch {
    use core::sync::atomic::{AtomicUsize, Ordering};

    use super::Bug;

    /// The number of the variant, plus one.
    static ACTIVE: AtomicUsize = AtomicUsize::new(0);

    /// Switches a variant on, and any other off; `None` for the protocol as it should be.
    pub fn set(bug: Option<Bug>) {
        ACTIVE.store(bug.map_or(0, |bug| bug as usize + 1), Ordering::SeqCst);
    }

    /// Whether this variant is on.
    pub fn on(bug: Bug) -> bool {
        ACTIVE.load(Ordering::Relaxed) == bug as usize + 1
    }
}

#[cfg(feature = "sabotage")]
pub use switch::{on, set};

/// Whether this variant is on: never, without the feature.
#[cfg(not(feature = "sabotage"))]
#[inline(always)]
pub const fn on(_: Bug) -> bool {
    false
}

#[cfg(all(test, not(feature = "sabotage")))]
mod tests {
    use super::*;

    /// An ordinary build has no variant, and no switch.
    #[test]
    fn nothing_is_sabotaged() {
        assert!(Bug::ALL.iter().all(|bug| !on(*bug)));
        assert!(Bug::ALL.len() >= 40);
    }
}
