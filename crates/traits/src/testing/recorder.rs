//! Writes down what becomes of every write, and cuts the power at the moment at which one is completed.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use raftwright_core::WriteId;

use super::builder::{Loss, PowerSwitch};
use crate::{FlushSink, StorageError};

/// What a store said about a write.
pub(super) type Told = (WriteId, Result<(), StorageError>);

/// The power goes when this write is completed.
struct Cut {
    at: WriteId,
    switch: Arc<dyn PowerSwitch>,
    loss: Loss,
}

#[derive(Default)]
struct Record {
    told: Vec<Told>,
    cut: Option<Cut>,
    /// How many had been told, the one of the cut included, when the power went.
    told_at_cut: Option<usize>,
    waiting: Option<Waker>,
}

/// Where the tokens of a trial report to.
#[derive(Default)]
pub(super) struct Recorder(Mutex<Record>);

impl Recorder {
    fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power when this write is completed with success.
    pub(super) fn cut_at(&self, at: WriteId, switch: Arc<dyn PowerSwitch>, loss: Loss) {
        self.lock().cut = Some(Cut { at, switch, loss });
    }

    /// Everything that was told, in order.
    pub(super) fn told(&self) -> Vec<Told> {
        self.lock().told.clone()
    }

    /// What had been told when the power went; `None` if it has not gone.
    pub(super) fn told_at_cut(&self) -> Option<Vec<Told>> {
        let record = self.lock();
        record.told_at_cut.and_then(|count| record.told.get(..count)).map(<[Told]>::to_vec)
    }

    /// Waits until that many writes have been told of.
    pub(super) async fn told_of(&self, count: usize) {
        poll_fn(|cx| {
            let mut record = self.lock();
            if record.told.len() >= count {
                return Poll::Ready(());
            }
            record.waiting = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl FlushSink for Recorder {
    fn flushed(&self, write: WriteId, result: Result<(), StorageError>) {
        let mut record = self.lock();
        let cut = if result.is_ok() { record.cut.take_if(|cut| cut.at == write) } else { None };
        record.told.push((write, result));
        if let Some(Cut { at: _, switch, loss }) = cut {
            record.told_at_cut = Some(record.told.len());
            // The switch may wait for the media, and those for somebody who reports here.
            drop(record);
            switch.cut(loss);
            record = self.lock();
        }
        let waiting = record.waiting.take();
        drop(record);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}
