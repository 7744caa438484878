//! What clients, the clock and the disks do to a cluster.

use raftwright_core::{Input, Span, StreamId, StreamInput, Ticket, Time, WriteId};

use super::{Cluster, WAKES_MAX, Waiting, Work};
use crate::types::{Item, Kind};

impl<T: Kind> Cluster<T> {
    pub(super) fn ticket(&mut self, waiting: Waiting<T>) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.tickets.insert(ticket, waiting);
        ticket
    }

    /// Calls a server as a client does, under a name for the story.
    pub(crate) fn call(&mut self, id: u64, name: &str, input: impl FnOnce(Ticket) -> Input<T>) -> Ticket {
        let ticket = self.ticket(Waiting::Call { server: id, name: name.to_owned() });
        self.step(id, input(ticket));
        ticket
    }

    /// A client gives up.
    pub(crate) fn forget(&mut self, id: u64, ticket: Ticket) {
        self.tickets.remove(&ticket);
        self.step(id, Input::Forget { ticket });
    }

    /// Proposes a command.
    pub(crate) fn propose(&mut self, id: u64, text: &str) {
        let entry = Item::data(text);
        self.call(id, &format!("write {text}"), |ticket| Input::Propose { ticket, entry });
    }

    /// The calls that were not answered.
    pub(crate) fn waiting_calls(&self) -> Vec<&str> {
        let calls = self.tickets.values().filter_map(|waiting| match waiting {
            Waiting::Call { name, .. } => Some(name.as_str()),
            Waiting::Peer { .. } | Waiting::Nobody { .. } => None,
        });
        calls.collect()
    }

    /// Completes a write of a held disk.
    pub(crate) fn complete(&mut self, id: u64, write: WriteId) {
        self.servers.get_mut(&id).unwrap().disk.complete(write);
        self.step(id, Input::LogDone { write });
    }

    /// Lets a held disk complete everything, in order, and all that comes.
    pub(crate) fn release_disk(&mut self, id: u64) {
        self.servers.get_mut(&id).unwrap().disk.held = false;
        for write in self.servers[&id].disk.pending() {
            self.complete(id, write);
        }
    }

    /// Writes of this server stay where they are until they are completed by hand.
    pub(crate) fn hold_disk(&mut self, id: u64) {
        self.servers.get_mut(&id).unwrap().disk.held = true;
    }

    /// When something is due next.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let up = self.servers.iter().filter_map(|(id, server)| Some((*id, server.up.as_ref()?)));
        up.flat_map(|(id, up)| {
            let deadlines = up.replica.deadline().into_iter();
            let deadlines = deadlines.chain(up.streams.values().filter_map(|s| s.stream.deadline()));
            deadlines.map(move |at| self.real(id, at))
        })
        .min()
    }

    /// What a server's clock shows now.
    pub(super) fn local(&self, id: u64) -> Time {
        let rate = self.clocks.get(&id).copied().unwrap_or(1000);
        Time::from_nanos(self.now.as_nanos() * rate / 1000)
    }

    /// When a server's clock shows this.
    pub(super) fn real(&self, id: u64, local: Time) -> Time {
        let rate = self.clocks.get(&id).copied().unwrap_or(1000);
        Time::from_nanos((local.as_nanos() * 1000).div_ceil(rate))
    }

    /// Wakes every machine whose deadline has come.
    pub(crate) fn wake_due(&mut self) {
        for id in self.up() {
            let up = self.servers[&id].up.as_ref().unwrap();
            let due = |deadline: Option<Time>| deadline.is_some_and(|at| at <= self.local(id));
            let streams: Vec<StreamId> =
                up.streams.iter().filter(|(_, running)| due(running.stream.deadline())).map(|(id, _)| *id).collect();
            let wake = due(up.replica.deadline());
            for stream in streams {
                self.work.push_back((id, Work::Stream(stream, StreamInput::Wake)));
            }
            self.step_nothing();
            if wake {
                self.step(id, Input::Wake);
            }
        }
    }

    /// Lets time pass; servers wake at their deadlines. With `settle`, messages arrive at once.
    pub(crate) fn pass(&mut self, span: Span, settle: bool) {
        let end = self.now + span;
        let mut wakes = 0;
        while let Some(at) = self.next_deadline().filter(|at| *at <= end) {
            wakes = if at > self.now { 0 } else { wakes + 1 };
            assert!(wakes < WAKES_MAX, "a machine that was woken at its deadline names the same one again");
            self.now = self.now.max(at);
            self.wake_due();
            if settle {
                self.settle();
            }
        }
        self.now = end;
    }

    /// One server's deadline comes, and nobody else's.
    pub(crate) fn wake(&mut self, id: u64) {
        let at = self.replica(id).deadline().map_or(self.now, |at| self.real(id, at));
        self.now = self.now.max(at);
        self.step(id, Input::Wake);
    }

    /// This server is elected, and its blank entry is stored everywhere.
    pub(crate) fn elect(&mut self, id: u64) {
        self.step(id, Input::Elect);
        self.settle();
        assert!(self.replica(id).is_leader(), "server {id} is elected");
    }
}
