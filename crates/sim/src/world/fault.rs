//! What may go wrong, and how often it did.

use core::fmt;

macro_rules! faults {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A class of fault. `docs/scenarios.md` names the commands that inject them; the numbers in the comments are the
        /// rows of the fault model.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault {
            $($(#[$doc])* $variant,)*
        }

        impl Fault {
            /// Every class, in the order of the fault model.
            pub const ALL: &'static [Fault] = &[$(Fault::$variant,)*];

            /// Its name in reports.
            pub fn name(self) -> &'static str {
                match self {
                    $(Fault::$variant => $name,)*
                }
            }
        }
    };
}

faults! {
    /// N1: a message is lost.
    Loss = "loss",
    /// N2: a message arrives twice.
    Duplicate = "duplicate",
    /// N2: a message of long ago arrives once more.
    Replay = "replay",
    /// N3: a message overtakes another one.
    Reorder = "reorder",
    /// N4: the delay of all links is far above the usual.
    SlowNetwork = "slow-network",
    /// N4: one message takes a hundred times as long as the others.
    LongTail = "long-tail",
    /// N5: one node is cut off from all others.
    Isolate = "isolate",
    /// N5: two groups cannot reach each other.
    Split = "split",
    /// N5: the leader is cut off from all others.
    IsolateLeader = "isolate-leader",
    /// N6: one direction of one link is cut.
    OneWay = "one-way",
    /// N6: a node hears nothing but is heard.
    Deaf = "deaf",
    /// N6: a node hears but is not heard.
    Mute = "mute",
    /// N7: two groups that share one node only.
    Bridge = "bridge",
    /// N7: each node reaches its two neighbours only.
    Ring = "ring",
    /// N7: nodes in a row, each reaches its neighbours only.
    Chain = "chain",
    /// N8: a link goes up and down in quick succession.
    Flap = "flap",
    /// N9: nodes are cut off one after the other and come back in another order.
    Swizzle = "swizzle",
    /// N10: a link carries few bytes a second.
    Bandwidth = "bandwidth",
    /// N12: a connection breaks with messages under way.
    Reset = "connection-reset",
    /// N14: a partition lasts long.
    LongPartition = "long-partition",
    /// P1: a process dies; what it had submitted to the disk may or may not stay.
    Crash = "crash",
    /// P1: a process dies between submitting a write and its completion.
    CrashMidWrite = "crash-mid-write",
    /// P1: the leader dies.
    CrashLeader = "crash-leader",
    /// P1: a quorum dies at once.
    CrashQuorum = "crash-quorum",
    /// P2: a process dies again right after its restart.
    CrashInRecovery = "crash-in-recovery",
    /// P4: power fails; everything that was not synced is lost.
    PowerLoss = "power-loss",
    /// P6: power fails everywhere at once.
    PowerLossAll = "power-loss-all",
    /// P5: a process stops and goes on later.
    Pause = "pause",
    /// P5: the leader stops and goes on later.
    PauseLeader = "pause-leader",
    /// P5: a process stops for many election timeouts.
    LongPause = "long-pause",
    /// P7: a process dies and starts again faster than an election takes.
    CrashLoop = "crash-loop",
    /// P10: a clock jumps ahead.
    ClockJump = "clock-jump",
    /// P11: a clock runs fast.
    ClockFast = "clock-fast",
    /// P11: a clock runs slow.
    ClockSlow = "clock-slow",
    /// P12: deadlines are noticed late, many at once.
    LateWake = "late-wake",
    /// D1: some of the writes that were not synced are lost, a prefix stays.
    UnsyncedPrefix = "unsynced-prefix-kept",
    /// D1: all writes that were not synced are lost.
    UnsyncedLost = "unsynced-lost",
    /// D1: all writes that were not synced happen to stay.
    UnsyncedKept = "unsynced-kept",
    /// D2: a batch of entries was written in part.
    Torn = "torn-write",
    /// D3: a flush fails.
    FlushFails = "flush-fails",
    /// D19: flushes take very long.
    SlowDisk = "slow-disk",
    /// D19: a flush hangs.
    HungFlush = "hung-flush",
    /// Completions of writes are reported out of order.
    CompletionReorder = "completion-reorder",
    /// M1: the leader is removed.
    RemoveLeader = "remove-leader",
    /// M2: all voters are replaced.
    ReplaceVoters = "replace-voters",
    /// M2: the set of voters changes.
    ChangeVoters = "change-voters",
    /// M3: a learner is added.
    AddLearner = "add-learner",
    /// M3: a learner is removed.
    RemoveLearner = "remove-learner",
    /// M3: a voter becomes a learner.
    Demote = "demote",
    /// M3: learners are to become voters once they have caught up.
    Promote = "promote",
    /// M2: one server takes another's place, in one change.
    ReplaceNode = "replace-node",
    /// A change of the membership is taken back while it is under way.
    CancelChange = "cancel-change",
    /// M4: the leader dies within a joint membership.
    CrashInJoint = "crash-in-joint",
    /// M8: a node comes back with an empty disk under its old id.
    Wipe = "wipe",
    /// The leadership is handed over by request.
    Transfer = "transfer",
    /// An election is asked for while a leader lives.
    ForcedElection = "forced-election",
    /// M1: the same, at the leader itself.
    ForcedElectionLeader = "forced-election-at-leader",
    /// C1: a client gives up before the answer.
    ClientTimeout = "client-timeout",
    /// C7: a read is sent to a node that led before.
    ReadAtFormerLeader = "read-at-former-leader",
    /// O1: more proposals at once than a queue holds.
    Burst = "burst",
    /// O5: applying is slower than committing.
    SlowApply = "slow-apply",
    /// The log is deleted up to what is applied.
    Purge = "purge",
    /// N14: a node needs a snapshot.
    SnapshotSent = "snapshot-sent",
    /// D5: a snapshot cannot be built.
    SnapshotFails = "snapshot-fails",
    /// P1: a crash between the install of a snapshot and what the log does about it.
    CrashAfterInstall = "crash-after-install",
    /// A snapshot is asked for.
    SnapshotAsked = "snapshot-asked",
    /// P1: a process dies at some await of some task.
    CrashAtAwait = "crash-at-await",
    /// P1: a machine goes down in the middle of a write, a flush or a rename.
    CrashInWrite = "crash-in-write",
    /// P2: a machine goes down while a log is opened.
    CrashInOpen = "crash-in-open",
    /// D2: sectors that were not synced are lost or stay, each for itself.
    TornSectors = "torn-sectors",
    /// D4: a write fails after a part of it.
    WriteFails = "write-fails",
    /// D5: there is no space left.
    DiskFull = "disk-full",
    /// D7: a byte of a file is flipped.
    BitFlip = "bit-flip",
    /// D7: a node found a flipped byte and refused to go on.
    BitFlipRefused = "bit-flip-refused",
    /// D18: files cannot be made, renamed or removed.
    NamesFail = "names-fail",
    /// M4: the leader dies right after a change of the membership was asked for.
    InterruptedChange = "interrupted-change",
    /// C2: a command of unknown outcome is sent again.
    ClientRetry = "client-retry",
    /// C2: a command is sent to two nodes at once.
    DoubledCommand = "doubled-command",
    /// O1: a bound is reached, and a call is refused.
    Refused = "refused-as-busy",
}

impl Fault {
    /// Whether clusters of pure replicas have it.
    pub fn in_core(self) -> bool {
        !matches!(
            self,
            Fault::SnapshotAsked
                | Fault::CrashAtAwait
                | Fault::CrashInWrite
                | Fault::CrashInOpen
                | Fault::TornSectors
                | Fault::WriteFails
                | Fault::DiskFull
                | Fault::BitFlip
                | Fault::BitFlipRefused
                | Fault::NamesFail
                | Fault::InterruptedChange
                | Fault::ClientRetry
                | Fault::DoubledCommand
                | Fault::Refused
        )
    }

    /// Whether clusters of whole nodes have it.
    pub fn in_nodes(self) -> bool {
        !matches!(
            self,
            Fault::Replay
                | Fault::LateWake
                | Fault::CompletionReorder
                | Fault::SlowApply
                | Fault::SnapshotFails
                | Fault::CrashAfterInstall
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How often each class of fault happened. A class that is only configured does not count; one that did something to a
/// message, a process, a disk or a clock does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultLog {
    counts: Vec<u64>,
}

impl Default for FaultLog {
    fn default() -> Self {
        Self { counts: vec![0; Fault::ALL.len()] }
    }
}

impl FaultLog {
    /// Counts one fault.
    pub fn hit(&mut self, fault: Fault) {
        self.counts[fault as usize] += 1;
    }

    /// How often this class happened.
    pub fn count(&self, fault: Fault) -> u64 {
        self.counts[fault as usize]
    }

    /// How many classes happened at least once.
    pub fn kinds(&self) -> usize {
        self.counts.iter().filter(|count| **count > 0).count()
    }

    /// How many faults happened.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Adds the counts of another run.
    pub fn merge(&mut self, other: &FaultLog) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_its_own_counter_and_name() {
        let mut log = FaultLog::default();
        for (place, fault) in Fault::ALL.iter().enumerate() {
            assert_eq!(*fault as usize, place);
            log.hit(*fault);
        }
        assert_eq!((log.kinds(), log.total()), (Fault::ALL.len(), Fault::ALL.len() as u64));
        let names: std::collections::BTreeSet<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        assert_eq!(names.len(), Fault::ALL.len());
    }
}
