//! The bounds of this crate that are not settings. What is a setting stands in [`Config`](raftwright_traits::Config).

/// Most turns of a task without a pause. Past it, the task lets others run, however much there is to do.
pub(crate) const TURNS_MAX: usize = 64;

/// Most short calls under way: for votes, transfers, and reads of a follower. Past it, a call is not made: such messages may be
/// lost, and are repeated; reads are refused as busy.
pub(crate) const CALLS_MAX: usize = 64;

/// Most client writes that are in the log and not answered. Past it, writes are refused as busy: the state machine is behind.
/// Those of low priority are refused from half of it on.
pub(crate) const WRITES_WAITING_MAX: usize = 1 << 18;

/// Most client writes that wait although this server's log has another entry in their place. Past it, the caller is told
/// that the outcome is unknown.
pub(crate) const REPLACED_WRITES_MAX: usize = 1 << 16;

/// Most writes of high priority that wait to be taken up. Past it, they are refused as busy.
pub(crate) const URGENT_QUEUE_MAX: usize = 1_024;

/// Most pairs of callbacks that are told of leaderships. Past it, none are registered.
pub(crate) const OBSERVERS_MAX: usize = 64;

/// Most appends of one stream of a peer that wait for their answers. Past it, no more of the stream is read.
pub(crate) const STREAM_APPENDS_MAX: usize = 256;

/// Most closures that wait for the state machine. Past it, their callers wait to hand them over.
pub(crate) const CLOSURES_MAX: usize = 1_024;

/// Most closures that run between two batches of entries. The others wait for the next time.
pub(crate) const CLOSURES_BATCH_MAX: usize = 64;

/// Most answers that a replication task takes up in one go. Then it does what follows from them, before it takes up more.
pub(crate) const ANSWERS_BATCH_MAX: usize = 256;

/// About how many bytes of the log are in memory at a time while a starting node looks for memberships: it reads the log in
/// such pieces.
pub(crate) const SCAN_BYTES_MAX: usize = 4 << 20;

/// How many times the longest election timeout the caller of a leadership transfer waits for the target to take over.
pub(crate) const TRANSFER_TIMEOUTS: u64 = 2;

/// Most calls that ask the state machine's worker for a snapshot, or for a place to receive one, and wait for it. Past it,
/// their callers wait to hand them over.
pub(crate) const SNAPSHOT_CALLS_MAX: usize = 64;

/// Most heartbeats to one target that are under way, each on a connection of its own. A second one is sent when the first has no answer
/// for half the shortest election timeout. Past it, the next one waits in its mailbox until one is answered or given up.
pub(crate) const HEARTBEATS_UNDER_WAY_MAX: usize = 4;
