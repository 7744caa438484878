//! The state machines of a cluster: they build snapshots and install them, at once or when told.

use raftwright_core::{Input, LogIdOption, Ticket};

use super::{Cluster, Taken, Work};
use crate::types::Kind;

impl<T: Kind> Cluster<T> {
    pub(super) fn build(&mut self, id: u64) {
        let server = self.servers.get_mut(&id).unwrap();
        server.up.as_mut().unwrap().building = true;
        if !server.machine_held {
            let input = self.take(id);
            self.work.push_back((id, Work::Machine(input)));
        }
    }

    /// The state machine takes a snapshot of what it is now.
    pub(super) fn take(&mut self, id: u64) -> Input<T> {
        let server = self.servers.get_mut(&id).unwrap();
        server.up.as_mut().unwrap().building = false;
        let last_log_id = server.applied.unwrap();
        server.snapshot = Some(Taken { last_log_id, last_membership: server.machine.clone() });
        Input::SnapshotBuilt { last_log_id }
    }

    pub(super) fn install_next(&mut self, id: u64, ticket: Ticket) {
        let server = self.servers.get_mut(&id).unwrap();
        server.up.as_mut().unwrap().arrived.get_mut(&ticket).unwrap().1 = true;
        if !server.machine_held {
            let input = self.replace(id).unwrap();
            self.work.push_back((id, Work::Machine(input)));
        }
    }

    /// The state machine becomes what the snapshot says.
    pub(super) fn replace(&mut self, id: u64) -> Option<Input<T>> {
        let server = self.servers.get_mut(&id).unwrap();
        let arrived = &mut server.up.as_mut().unwrap().arrived;
        let ticket = arrived.iter().find(|(_, (_, wanted))| *wanted).map(|(ticket, _)| *ticket)?;
        let (taken, _) = arrived.remove(&ticket).unwrap();
        if server.applied.index_or_zero() < taken.last_log_id.index {
            self.safety.installs(id, taken.last_log_id);
            server.applied = Some(taken.last_log_id);
            server.machine = taken.last_membership.clone();
            server.snapshot = Some(taken);
        }
        Some(Input::SnapshotInstalled { ticket })
    }

    /// A build that was held ends.
    pub(crate) fn build_done(&mut self, id: u64, well: bool) {
        let up = self.servers.get_mut(&id).unwrap().up.as_mut().unwrap();
        assert!(up.building, "server {id} builds a snapshot");
        up.building = false;
        let input = if well { self.take(id) } else { Input::SnapshotFailed };
        self.step(id, input);
    }

    /// An install that was held ends.
    pub(crate) fn install_done(&mut self, id: u64) {
        let input = self.replace(id).unwrap_or_else(|| panic!("server {id} installs nothing"));
        self.step(id, input);
    }

    /// Whether a server has a build, or an install, that was held.
    pub(crate) fn machine_work(&self, id: u64) -> (bool, bool) {
        let up = self.servers[&id].up.as_ref();
        up.map_or((false, false), |up| (up.building, up.arrived.values().any(|(_, wanted)| *wanted)))
    }
}
