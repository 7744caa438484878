//! The machine that owns what speed needs: replication to one target.

mod canonical;

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::pace::{Departure, Pace};
use crate::sabotage::{self, Bug};
use crate::{
    AppendEntriesRequest, AppendEntriesResponse, AppendOutcome, Identity, InstallOutcome, InstallSnapshotResponse,
    LeaderId, LogIdOf, LogIdOption, LogIndex, RaftEntry, Report, Rng, Span, StreamConfig, Tail, Time, Types, VoteOf,
};

/// Replicates the log to one target, while one leadership lasts. It owns `nextIndex` (Raft, Figure 2), which is a guess;
/// what the target is *known* to have it reports to the replica.
///
/// It probes with one request at a time until the target's log is found to match, then sends without waiting, within a
/// window in requests and bytes that follows the target's pace. If the point of agreement has been purged here, a snapshot is sent, and then what follows it. Answers come in the order of the sends; the *epoch* tells those of a connection, or of a
/// guess, that was given up from those that still count.
#[derive(Clone, Debug)]
pub struct Stream<T: Types> {
    config: StreamConfig,
    identity: Identity<T::NodeId>,
    vote: VoteOf<T>,
    rng: Rng,
    tail: Tail<T>,
    mode: Mode,
    epoch: u64,
    /// The next entry to send. Entries before it have been sent in this epoch, or are known to match.
    next: LogIndex,
    /// The log id of the entry before `next`, if it is known here.
    prev: Option<LogIdOf<T>>,
    /// Whether a read is under way.
    reading: bool,
    inflight: VecDeque<Sent<T>>,
    inflight_bytes: usize,
    pace: Pace,
    /// The target was found to lack an entry of ours at this index or before it; the lowest so far. If that was purged, then
    /// only a snapshot can help.
    lacking: Option<LogIndex>,
    /// The last entry that the target is known to have. A lower answer later means that it lost something.
    matched: LogIndex,
    retry_at: Option<Time>,
    retry: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Where do our logs agree? One request at a time.
    Probe,
    /// They agree: send as fast as the window allows.
    Pipeline,
    /// What the target needs is gone here: a snapshot is on its way to it.
    Snapshot,
    /// The leadership is over.
    Over,
}

#[derive(Clone, Debug)]
struct Sent<T: Types> {
    prev: Option<LogIdOf<T>>,
    last: Option<LogIdOf<T>>,
    bytes: usize,
    departure: Departure,
}

/// What can happen to a [`Stream`].
#[derive(Debug)]
pub enum StreamInput<T: Types> {
    /// The deadline has come.
    Wake,
    /// The log or the commit index has grown.
    Tail(Tail<T>),
    /// What a [`StreamEffect::Read`] asked for: the log id before `start`, and entries from `start` on, perhaps fewer than
    /// asked for.
    Entries {
        /// Of the read.
        epoch: u64,
        /// The log id at `start - 1`; `None` if `start` is 1.
        prev: Option<LogIdOf<T>>,
        /// The entries.
        entries: Vec<T::Entry>,
    },
    /// What a [`StreamEffect::Read`] asked for has been purged.
    Purged {
        /// Of the read.
        epoch: u64,
        /// The last entry that was purged.
        purged: LogIdOf<T>,
    },
    /// The target has answered the snapshot.
    SnapshotSent {
        /// Of the [`StreamEffect::SendSnapshot`].
        epoch: u64,
        /// The last entry that is in the snapshot.
        last_log_id: LogIdOf<T>,
        /// The answer.
        response: InstallSnapshotResponse<T>,
    },
    /// The target has answered the oldest send without an answer.
    Answer {
        /// Of the send.
        epoch: u64,
        /// The answer.
        response: AppendEntriesResponse<T>,
    },
    /// The connection broke, or an answer took too long: all sends without an answer are lost, and so is a snapshot that is
    /// on its way. Also, that there is no snapshot to send.
    Failed {
        /// Of the sends.
        epoch: u64,
    },
}

/// What a [`Stream`] wants done.
#[derive(Debug)]
pub enum StreamEffect<T: Types> {
    /// Read entries of our log: from `start`, before `end`, at most that many and about that many bytes, at least one if
    /// there is one. One read at a time; a read of a new epoch abandons that of the old one.
    Read {
        /// To be named in the answer.
        epoch: u64,
        /// The first index.
        start: LogIndex,
        /// The index after the last; equal to `start` if only the log id before it is wanted.
        end: LogIndex,
        /// About how many bytes.
        bytes_max: usize,
        /// How many entries.
        entries_max: usize,
        /// The log id at `start - 1`, if the stream knows it.
        prev: Option<LogIdOf<T>>,
    },
    /// Send a request on the target's bulk lane.
    Send {
        /// To be named with its answer.
        epoch: u64,
        /// The request.
        request: AppendEntriesRequest<T>,
    },
    /// Send the newest snapshot on a lane of its own, until the epoch ends. One at a time; the same one again, rather than a
    /// newer, if it was begun before and still leads to entries that are there.
    SendSnapshot {
        /// To be named with its answer.
        epoch: u64,
    },
    /// Tell the replica.
    Report(Report<T>),
}

impl<T: Types> Stream<T> {
    /// A stream for the leadership of `vote`. The first request tries `next` (last log index + 1 when the target was
    /// added). Give it [`StreamInput::Wake`] once to begin.
    pub fn new(
        config: StreamConfig,
        identity: Identity<T::NodeId>,
        vote: VoteOf<T>,
        next: LogIndex,
        tail: Tail<T>,
        seed: u64,
    ) -> Self {
        let retry = config.retry_min;
        Self {
            config,
            identity,
            vote,
            rng: Rng::new(seed),
            tail,
            mode: Mode::Probe,
            epoch: 0,
            next: next.max(1),
            prev: None,
            reading: false,
            inflight: VecDeque::new(),
            inflight_bytes: 0,
            pace: Pace::new(),
            lacking: None,
            matched: 0,
            retry_at: None,
            retry,
        }
    }

    /// Takes an input and says what to do about it.
    pub fn step(&mut self, now: Time, input: StreamInput<T>, effects: &mut Vec<StreamEffect<T>>) {
        match input {
            StreamInput::Wake => self.retry_at = self.retry_at.filter(|at| now < *at),
            StreamInput::Tail(tail) => self.tail = tail,
            StreamInput::Entries { epoch, prev, entries } => self.on_entries(now, epoch, prev, entries, effects),
            StreamInput::Purged { epoch, purged } => self.on_purged(epoch, purged, effects),
            StreamInput::SnapshotSent { epoch, last_log_id, response } => {
                self.on_snapshot_sent(now, epoch, last_log_id, response, effects);
            }
            StreamInput::Answer { epoch, response } => self.on_answer(now, epoch, response, effects),
            StreamInput::Failed { epoch } => self.on_failed(now, epoch),
        }
        self.fill(effects);
    }

    /// When to call [`Stream::step`] with [`StreamInput::Wake`] at the latest.
    pub fn deadline(&self) -> Option<Time> {
        self.retry_at
    }

    /// How many requests and how many bytes of entries are sent and not answered. Both are 0 at rest.
    pub fn inflight(&self) -> (usize, usize) {
        (self.inflight.len(), self.inflight_bytes)
    }

    /// The present epoch: what a connection that breaks names in [`StreamInput::Failed`].
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How many bytes of entries may be sent and not answered: what the target's pace and the round trip say, up to
    /// [`StreamConfig::inflight_bytes_max`].
    pub fn window(&self) -> usize {
        self.pace.window(self.config.request_bytes_max, self.config.inflight_bytes_max)
    }

    /// Asks for the next entries to send, if the window allows.
    fn fill(&mut self, effects: &mut Vec<StreamEffect<T>>) {
        if self.reading || self.retry_at.is_some() {
            return;
        }
        let end = self.tail.last.index.saturating_add(1);
        let window = self.window();
        let wanted = match self.mode {
            // A probe goes even without an entry: its answer is what is wanted.
            Mode::Probe => self.inflight.is_empty(),
            Mode::Pipeline => {
                let open = self.inflight.len() < self.config.inflight_requests_max && self.inflight_bytes < window;
                if self.next < end && !open {
                    self.pace.keep_back();
                }
                self.next < end && open
            }
            Mode::Snapshot | Mode::Over => false,
        };
        if wanted {
            self.reading = true;
            effects.push(StreamEffect::Read {
                epoch: self.epoch,
                start: self.next,
                end: end.max(self.next),
                bytes_max: self.config.request_bytes_max.min(window.saturating_sub(self.inflight_bytes)),
                entries_max: self.config.request_entries_max,
                prev: self.prev,
            });
        }
    }

    /// Entries have been read: send them.
    fn on_entries(
        &mut self,
        now: Time,
        epoch: u64,
        prev: Option<LogIdOf<T>>,
        entries: Vec<T::Entry>,
        effects: &mut Vec<StreamEffect<T>>,
    ) {
        if epoch != self.epoch || !self.reading {
            return;
        }
        self.reading = false;
        let last = entries.last().map(RaftEntry::log_id).or(prev);
        let foreign = last.is_some_and(|last| last.leader_id > self.vote.leader_id.to_committed());
        let contiguous = entries.iter().zip(self.next..).all(|(entry, at)| entry.log_id().index == at);
        if foreign || !contiguous || prev.next_index() != self.next {
            // Our log is another leader's by now, or this is not what was asked for. Nothing of it may be sent.
            return self.give_up(now, None);
        }
        let bytes = entries.iter().map(RaftEntry::size).sum();
        self.inflight.push_back(Sent { prev, last, bytes, departure: self.pace.depart(now) });
        self.inflight_bytes += bytes;
        self.next = last.next_index();
        self.prev = last;
        let request = AppendEntriesRequest {
            from: self.identity,
            vote: self.vote,
            prev_log_id: prev,
            entries,
            committed: self.tail.committed,
        };
        effects.push(StreamEffect::Send { epoch, request });
    }

    /// What was to be sent next is gone. That says nothing about the target, which may well have it: so first it is asked.
    fn on_purged(&mut self, epoch: u64, purged: LogIdOf<T>, effects: &mut Vec<StreamEffect<T>>) {
        if epoch != self.epoch || !self.reading {
            return;
        }
        if self.lacking.is_some_and(|lacking| lacking <= purged.index) {
            self.restart(self.next);
            self.mode = Mode::Snapshot;
            effects.push(StreamEffect::Report(Report::NeedsSnapshot));
            effects.push(StreamEffect::SendSnapshot { epoch: self.epoch });
        } else {
            self.restart(purged.index.saturating_add(1));
            self.prev = Some(purged);
        }
    }

    /// The target has answered the snapshot. What it holds, the target has; the log behind it comes next.
    fn on_snapshot_sent(
        &mut self,
        now: Time,
        epoch: u64,
        last_log_id: LogIdOf<T>,
        response: InstallSnapshotResponse<T>,
        effects: &mut Vec<StreamEffect<T>>,
    ) {
        if epoch != self.epoch || self.mode != Mode::Snapshot {
            return;
        }
        match response.outcome {
            InstallOutcome::Installed => {
                self.restart(last_log_id.index.saturating_add(1));
                self.prev = Some(last_log_id);
                self.found(&response.from, last_log_id, effects);
            }
            InstallOutcome::HigherVote(vote) if vote > self.vote => self.end(response.from, vote, effects),
            InstallOutcome::HigherVote(_) | InstallOutcome::Refused(_) => self.give_up(now, None),
        }
    }

    /// The target has our log up to here.
    fn found(&mut self, from: &Identity<T::NodeId>, matched: LogIdOf<T>, effects: &mut Vec<StreamEffect<T>>) {
        self.retry = self.config.retry_min;
        self.lacking = None;
        self.matched = self.matched.max(matched.index);
        effects.push(StreamEffect::Report(Report::Matched { from: *from, matched }));
    }

    /// The target has promised itself to another.
    fn end(&mut self, from: Identity<T::NodeId>, vote: VoteOf<T>, effects: &mut Vec<StreamEffect<T>>) {
        self.mode = Mode::Over;
        effects.push(StreamEffect::Report(Report::HigherVote { from, vote }));
    }

    /// The target has answered the oldest request.
    fn on_answer(
        &mut self,
        now: Time,
        epoch: u64,
        response: AppendEntriesResponse<T>,
        effects: &mut Vec<StreamEffect<T>>,
    ) {
        if epoch != self.epoch {
            return;
        }
        let Some(sent) = self.inflight.pop_front() else { return };
        self.inflight_bytes -= sent.bytes;
        match response.outcome {
            AppendOutcome::Success { matched } => self.on_success(now, &response.from, &sent, matched, effects),
            AppendOutcome::Conflict { prev, hint } => {
                if Some(prev) == sent.prev {
                    self.lacking = Some(self.lacking.map_or(prev.index, |lacking| lacking.min(prev.index)));
                    self.probe_before(prev.index, hint);
                } else {
                    self.give_up(now, Some(&sent));
                }
            }
            AppendOutcome::HigherVote(vote) if vote > self.vote => {
                self.end(response.from, vote, effects);
            }
            // A vote that is not above ours is no reason to refuse us: a peer that is out of step.
            AppendOutcome::HigherVote(_) | AppendOutcome::Refused(_) => self.give_up(now, Some(&sent)),
        }
    }

    fn on_success(
        &mut self,
        now: Time,
        from: &Identity<T::NodeId>,
        sent: &Sent<T>,
        matched: Option<LogIdOf<T>>,
        effects: &mut Vec<StreamEffect<T>>,
    ) {
        if matched != sent.last {
            // Only a peer that is out of step answers something else than it was sent.
            return self.give_up(now, Some(sent));
        }
        self.mode = Mode::Pipeline;
        self.pace.arrive(now, sent.departure, sent.bytes);
        match matched {
            Some(matched) => self.found(from, matched, effects),
            None => (self.retry, self.lacking) = (self.config.retry_min, None),
        }
    }

    /// The target has no entry like ours at `index`: look for agreement where it says, and at least one entry earlier.
    fn probe_before(&mut self, index: LogIndex, hint: Option<LogIdOf<T>>) {
        let next = if sabotage::on(Bug::StreamLooksNowhere) {
            index.saturating_add(1)
        } else {
            hint.next_index().min(index).max(1)
        };
        self.restart(next);
    }

    fn on_failed(&mut self, now: Time, epoch: u64) {
        if epoch == self.epoch {
            self.give_up(now, None);
        }
    }

    /// What was sent and not answered is lost, or not worth waiting for. Start again, a little later, from what is known.
    fn give_up(&mut self, now: Time, refused: Option<&Sent<T>>) {
        let lost = refused.or(self.inflight.front()).map(|sent| sent.prev.next_index());
        let next = if self.matched > 0 { self.matched.saturating_add(1) } else { lost.unwrap_or(self.next) };
        self.restart(next);
        // The target may be another by now, or have caught up; it is asked anew.
        self.lacking = None;
        // Jitter, so that the streams of a leader do not all try at once.
        self.retry_at = Some(now + self.rng.span(self.retry.divided_by(2), self.retry));
        self.retry = (self.retry * 2).min(self.config.retry_max);
    }

    fn restart(&mut self, next: LogIndex) {
        if self.mode == Mode::Over {
            return;
        }
        self.epoch += 1;
        self.mode = Mode::Probe;
        self.next = next;
        self.prev = None;
        self.reading = false;
        self.inflight.clear();
        self.inflight_bytes = 0;
    }
}
