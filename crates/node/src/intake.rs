//! Where the calls of the handle come in.

use std::task::{Context, Poll};

use raftwright_traits::{Config, RaftTypeConfig};
use tokio::sync::mpsc;

use crate::limits::URGENT_QUEUE_MAX;
use crate::msg::RaftMsg;

/// The handle's end.
pub(crate) struct Outlet<C: RaftTypeConfig> {
    pub(crate) api: mpsc::Sender<RaftMsg<C>>,
    pub(crate) urgent: mpsc::Sender<RaftMsg<C>>,
}

/// The core's end: an ordinary queue, and one for writes of high priority, which is looked at first. Neither can hold up
/// the other: each turn takes from both.
pub(crate) struct Intake<C: RaftTypeConfig> {
    queues: [Option<mpsc::Receiver<RaftMsg<C>>>; 2],
}

impl<C: RaftTypeConfig> Intake<C> {
    pub(crate) fn new(config: &Config) -> (Outlet<C>, Self) {
        let (api, calls) = mpsc::channel(config.api_queue_max);
        let (urgent, urgent_calls) = mpsc::channel(URGENT_QUEUE_MAX);
        (Outlet { api, urgent }, Self { queues: [Some(urgent_calls), Some(calls)] })
    }

    /// Takes up to `max` of each queue to the end of `into`.
    pub(crate) fn poll_take(&mut self, cx: &mut Context<'_>, into: &mut Vec<RaftMsg<C>>, max: usize) -> Poll<()> {
        let mut taken = Poll::Pending;
        for place in &mut self.queues {
            let Some(queue) = place else { continue };
            match queue.poll_recv_many(cx, into, max) {
                // Every handle has gone, and no call can come any more.
                Poll::Ready(0) => *place = None,
                Poll::Ready(_) => taken = Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        taken
    }

    /// Lets nothing more in, and takes out what is there.
    pub(crate) fn close(&mut self, into: &mut Vec<RaftMsg<C>>) {
        for queue in self.queues.iter_mut().flatten() {
            queue.close();
            while let Ok(message) = queue.try_recv() {
                into.push(message);
            }
        }
    }
}
