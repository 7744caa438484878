//! The bulk lanes of a [`Cluster`]: a real stream for each target, over a connection that breaks when it loses something.

use std::collections::{BTreeMap, VecDeque};

use raftwright_core::{
    AppendEntriesResponse, Input, InstallSnapshotRequest, LogIndex, Stream, StreamEffect, StreamId, StreamInput, Tail,
    VoteOf,
};

use super::{Body, Cluster, Line, Packet, Place, Running, Taken, Work};
use crate::say;
use crate::types::Kind;

impl<T: Kind> Cluster<T> {
    pub(super) fn open(&mut self, id: u64, stream: StreamId, target: u64, vote: VoteOf<T>, next: LogIndex) {
        let server = self.servers.get_mut(&id).unwrap();
        let last = server.disk.live.last().unwrap();
        let up = server.up.as_mut().unwrap();
        let tail = Tail { last, committed: up.replica.committed() };
        let seed = self.setup.seed + stream.0;
        let machine = Stream::new(self.setup.stream.clone(), server.identity, vote, next, tail, seed);
        let running =
            Running { target, vote, stream: machine, sends: VecDeque::new(), early: BTreeMap::new(), last_send: 0 };
        assert!(up.streams.insert(stream, running).is_none(), "a stream is named once");
        self.work.push_back((id, Work::Stream(stream, StreamInput::Wake)));
    }

    pub(super) fn fan_out(&mut self, id: u64, tail: Tail<T>) {
        let up = self.servers[&id].up.as_ref().unwrap();
        for stream in up.streams.keys() {
            self.work.push_back((id, Work::Stream(*stream, StreamInput::Tail(tail))));
        }
    }

    pub(super) fn step_stream(&mut self, id: u64, stream: StreamId, input: StreamInput<T>) {
        let now = self.local(id);
        let Some(server) = self.servers.get_mut(&id) else { return };
        let (boot, disk) = (server.boots, &server.disk);
        let newest = server.snapshot.clone();
        let identity = server.identity;
        let Some(running) = server.up.as_mut().and_then(|up| up.streams.get_mut(&stream)) else { return };
        let mut effects = Vec::new();
        running.stream.step(now, input, &mut effects);
        for effect in effects {
            match effect {
                StreamEffect::Read { epoch, start, end, bytes_max, entries_max, prev } => {
                    let input = match disk.read(start, end, bytes_max, entries_max, prev) {
                        Ok((prev, entries)) => StreamInput::Entries { epoch, prev, entries },
                        Err(purged) => StreamInput::Purged { epoch, purged },
                    };
                    self.work.push_back((id, Work::Stream(stream, input)));
                }
                StreamEffect::Send { epoch, request } => {
                    running.last_send += 1;
                    running.sends.push_back((running.last_send, epoch));
                    let place = Place { stream, send: running.last_send };
                    let to = running.target;
                    if self.telling {
                        let text = format!("{id} -> {to}  {}", say::append(&request));
                        self.journal.push(Line { text, loud: false });
                    }
                    self.wire.push(Packet { from: id, to, boot, body: Body::Append { place, request } });
                }
                StreamEffect::SendSnapshot { epoch } => {
                    let Taken { last_log_id, last_membership } =
                        newest.clone().expect("what was purged is in a snapshot");
                    let vote = running.vote;
                    let request = InstallSnapshotRequest { from: identity, vote, last_log_id, last_membership };
                    let to = running.target;
                    if self.telling {
                        let text = format!("{id} -> {to}  {}", say::snapshot(&request));
                        self.journal.push(Line { text, loud: false });
                    }
                    let place = Place { stream, send: epoch };
                    self.wire.push(Packet { from: id, to, boot, body: Body::Snapshot { place, request } });
                }
                StreamEffect::Report(report) => self.work.push_back((id, Work::Report(stream, report))),
            }
        }
    }

    /// The bulk connection from one server to another breaks: what was sent and not answered is lost.
    pub(crate) fn break_connection(&mut self, from: u64, to: u64) {
        let Some(up) = self.servers.get_mut(&from).and_then(|server| server.up.as_mut()) else { return };
        let mut broken = Vec::new();
        for (stream, running) in up.streams.iter_mut().filter(|(_, running)| running.target == to) {
            running.sends.clear();
            running.early.clear();
            broken.push((*stream, running.stream.epoch()));
        }
        for (stream, epoch) in broken {
            self.work.push_back((from, Work::Stream(stream, StreamInput::Failed { epoch })));
        }
        self.step_nothing();
    }

    pub(super) fn step_nothing(&mut self) {
        while let Some((id, work)) = self.work.pop_front() {
            match work {
                Work::Done(write) => self.step(id, Input::LogDone { write }),
                Work::Machine(input) => self.step(id, input),
                Work::Report(stream, report) => self.step(id, Input::Stream { stream, report }),
                Work::Stream(stream, input) => self.step_stream(id, stream, input),
            }
        }
    }

    pub(super) fn append_answered(&mut self, id: u64, place: Place, response: AppendEntriesResponse<T>) {
        let Some(up) = self.servers.get_mut(&id).and_then(|server| server.up.as_mut()) else { return };
        let Some(running) = up.streams.get_mut(&place.stream) else { return };
        if !running.sends.iter().any(|(send, _)| *send == place.send) {
            return;
        }
        running.early.insert(place.send, response);
        while let Some((send, epoch)) = running.sends.front().copied()
            && let Some(response) = running.early.remove(&send)
        {
            running.sends.pop_front();
            self.work.push_back((id, Work::Stream(place.stream, StreamInput::Answer { epoch, response })));
        }
        self.step_nothing();
    }

    /// A snapshot did not get through, or its answer did not.
    pub(super) fn snapshot_lost(&mut self, id: u64, place: Place) {
        self.work.push_back((id, Work::Stream(place.stream, StreamInput::Failed { epoch: place.send })));
        self.step_nothing();
    }
}
