//! Telling the application when this server begins to lead, and when it ends.

use std::sync::Weak;

use raftwright_traits::RaftTypeConfig;

use crate::limits::OBSERVERS_MAX;
use crate::responder::quietly;

type Call<C> = Box<dyn FnMut(<C as RaftTypeConfig>::LeaderId) + Send>;

/// Two callbacks of the application.
pub(crate) struct Observer<C: RaftTypeConfig> {
    pub(crate) start: Call<C>,
    pub(crate) stop: Call<C>,
    /// Gone once the application wants to be told no more.
    pub(crate) wanted: Weak<()>,
}

/// All of them, and the leadership that they were told has begun.
pub(super) struct Observers<C: RaftTypeConfig> {
    list: Vec<Observer<C>>,
    leads: Option<C::LeaderId>,
}

impl<C: RaftTypeConfig> Observers<C> {
    pub(super) fn new() -> Self {
        Self { list: Vec::new(), leads: None }
    }

    /// Adds one, unless there are too many; one that comes while this server leads is told so.
    pub(super) fn add(&mut self, mut observer: Observer<C>) -> bool {
        self.list.retain(|observer| observer.wanted.strong_count() > 0);
        if self.list.len() >= OBSERVERS_MAX {
            return false;
        }
        if let Some(leader_id) = self.leads {
            quietly(|| (observer.start)(leader_id));
        }
        self.list.push(observer);
        true
    }

    /// This server leads from now on.
    pub(super) fn begin(&mut self, leader_id: C::LeaderId) {
        self.leads = Some(leader_id);
        self.tell(|observer| (observer.start)(leader_id));
    }

    /// This server leads no more. Nothing, if it did not.
    pub(super) fn end(&mut self) {
        if let Some(leader_id) = self.leads.take() {
            self.tell(|observer| (observer.stop)(leader_id));
        }
    }

    fn tell(&mut self, mut tell: impl FnMut(&mut Observer<C>)) {
        self.list.retain_mut(|observer| {
            let wanted = observer.wanted.strong_count() > 0;
            if wanted {
                quietly(|| tell(observer));
            }
            wanted
        });
    }
}
