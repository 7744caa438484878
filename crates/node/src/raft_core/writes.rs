//! Taking up what clients want written, and what the operator wants changed.

use raftwright_core::Input;
use raftwright_traits::{
    ClientWriteError, Config, LeaderId, LogSpace, RaftError, RaftLogStorage, RaftNetworkFactory, RaftTypeConfig,
    ReloadError, Time,
};

use super::RaftCore;
use crate::limits::WRITES_WAITING_MAX;
use crate::msg::{RaftMsg, Reconfigure, Waiting};
use crate::proposal::{Priority, Proposal};

impl<C, N, LS> RaftCore<C, N, LS>
where
    C: RaftTypeConfig,
    N: RaftNetworkFactory<C>,
    LS: RaftLogStorage<C>,
{
    /// How many more client writes may be in the log without an answer.
    pub(super) fn room_for_writes(&self) -> usize {
        WRITES_WAITING_MAX.saturating_sub(self.pending.len() + self.worker.writes_waiting())
    }

    /// Proposes a write, unless it comes too late, in another leadership than was expected, or when there is no room.
    pub(super) fn on_client_write(&mut self, now: Time, proposal: Proposal<C>, room: &mut usize) {
        let Proposal { entry, tx, expected, claim, priority } = proposal;
        if claim.is_some_and(|claim| !claim.take(now)) {
            return tx.refuse(ClientWriteError::Expired);
        }
        // A server that does not lead is refused by the replica, with the leader to ask.
        let leads = self.replica.vote().filter(|_| self.replica.is_leader()).map(|vote| vote.leader_id.to_committed());
        if expected.is_some() && leads.is_some() && leads != expected {
            return tx.refuse(ClientWriteError::LeaderChanged);
        }
        if *room == 0 || (priority == Priority::Low && self.is_half_full(*room)) {
            return tx.refuse(ClientWriteError::Busy);
        }
        if leads.is_some() && self.log_is_full() {
            return tx.refuse(ClientWriteError::DiskFull);
        }
        *room -= 1;
        self.proposed += 1;
        let input = Input::Propose { ticket: self.tickets.issue(Waiting::Write(tx)), entry };
        self.replica.step(now, input, &mut self.effects);
    }

    /// Whether the log has no room for entries. When that changes, the operator is told: otherwise only those hear of it whose
    /// entries are refused.
    pub(super) fn log_is_full(&mut self) -> bool {
        let full = self.log_store.space() == LogSpace::Full;
        if full && !self.full {
            tracing::warn!("the disk of the log is full: entries are refused until there is room");
        } else if self.full && !full {
            tracing::info!("the disk of the log has room again");
        }
        self.full = full;
        full
    }

    /// Whether so much is under way that writes of low priority are not let in.
    fn is_half_full(&self, room: usize) -> bool {
        room <= WRITES_WAITING_MAX / 2
            || self.replica.load().uncommitted_bytes > self.shared.config().uncommitted_bytes_max / 2
    }

    /// Proposes writes one after the other. Once a leader has refused one, it refuses the rest: a later one must not be
    /// applied without an earlier.
    pub(super) fn on_client_write_many(&mut self, now: Time, proposals: Vec<Proposal<C>>, room: &mut usize) {
        self.shared.many_taken(proposals.len());
        let mut refused = false;
        for proposal in proposals {
            if refused && self.replica.is_leader() {
                proposal.tx.refuse(ClientWriteError::Busy);
                continue;
            }
            let before = self.replica.last_log_id();
            self.on_client_write(now, proposal, room);
            refused = self.replica.last_log_id() == before;
        }
    }

    /// Goes on with other settings, if a running node may.
    pub(super) fn on_configure(&mut self, now: Time, change: Reconfigure) -> Result<(), ReloadError> {
        let present = self.shared.config();
        let config: Config = change(&present);
        present.check_reload(&config)?;
        self.replica.step(now, Input::Configure(config.replica()), &mut self.effects);
        self.shared.set_config(config);
        Ok(())
    }

    /// Tells the callers of writes that were never proposed that they are surely not applied.
    pub(super) fn refuse_untaken(&mut self) {
        let end = self.shared.end();
        for message in self.messages.drain(..) {
            let proposals = match message {
                RaftMsg::ClientWrite(proposal) => vec![proposal],
                RaftMsg::ClientWriteMany(proposals) => proposals,
                RaftMsg::Vote { .. }
                | RaftMsg::Heartbeat { .. }
                | RaftMsg::AppendEntries { .. }
                | RaftMsg::InstallSnapshot { .. }
                | RaftMsg::TransferRequest { .. }
                | RaftMsg::Read { .. }
                | RaftMsg::ReadLogId { .. }
                | RaftMsg::Initialize { .. }
                | RaftMsg::AddLearner { .. }
                | RaftMsg::ChangeMembership { .. }
                | RaftMsg::ChangeMembers { .. }
                | RaftMsg::CancelChange { .. }
                | RaftMsg::RemoveLearners { .. }
                | RaftMsg::TransferLeader { .. }
                | RaftMsg::Elect
                | RaftMsg::Beat
                | RaftMsg::BuildSnapshot
                | RaftMsg::Purge { .. }
                | RaftMsg::Look(_)
                | RaftMsg::Observe { .. }
                | RaftMsg::Configure { .. } => continue,
            };
            for proposal in proposals {
                proposal.tx.answer(Err(RaftError::Fatal(end.clone())));
            }
        }
    }
}
