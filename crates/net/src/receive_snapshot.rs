//! The receiving side of a snapshot's transfer: drives a [`SnapshotReceiver`] with what connections bring.
//!
//! Content is written on threads where blocking harms nobody, one piece at a time. A write that has begun is finished and
//! counted even when its connection ends meanwhile; so the sender is told, when it comes back, how far it really got.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Weak};
use std::time::Duration;

use raftwright_traits::transfer::{
    FinishVerdict, OfferVerdict, ReceiptId, Rejection, SnapshotFinish, SnapshotOffer, SnapshotPiece, SnapshotReceiver,
    TransferAnswer, TransferRequest,
};
use raftwright_traits::{InstallSnapshotRequest, InstallSnapshotResponse, Snapshot, SnapshotContent, Time};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::{Fault, FaultCode};
use crate::limits::INSTALL_WAIT_MAX;
use crate::message::WireTypes;
use crate::service::RaftService;

/// What an installation came to, once it has come to something.
type Installed<C> = watch::Receiver<Option<Result<InstallSnapshotResponse<C>, Fault>>>;

/// What one node receives.
pub(crate) struct SnapshotReceipts<C: WireTypes> {
    /// Requests take their turns in the order in which they ask for this lock; whoever waits for a write holds it.
    place: Arc<Mutex<Place<C>>>,
    clock: Clock,
}

/// The receiver's clock: time since the node began to listen.
#[derive(Debug, Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn now(self) -> Time {
        Time::from_nanos(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn instant(self, time: Time) -> Instant {
        self.0 + Duration::from_nanos(time.as_nanos())
    }
}

struct Place<C: WireTypes> {
    machine: SnapshotReceiver<C>,
    /// There while the machine is receiving, unless a write panicked.
    content: Option<C::SnapshotData>,
    /// The newest installation.
    installed: Option<Installed<C>>,
    /// A task looks after a receipt that nobody goes on with.
    swept: bool,
}

impl<C: WireTypes> SnapshotReceipts<C> {
    pub(crate) fn new() -> Self {
        // Receipts are numbered from anywhere: nothing depends on the numbers but that they differ from an earlier life's.
        let first = ReceiptId(RandomState::new().hash_one(0_u64));
        let machine = SnapshotReceiver::new(first);
        let place = Place { machine, content: None, installed: None, swept: false };
        SnapshotReceipts { place: Arc::new(Mutex::new(place)), clock: Clock(Instant::now()) }
    }

    /// Answers one message of a transfer.
    pub(crate) async fn on_request<S: RaftService<C>>(
        &self,
        service: &Arc<S>,
        request: TransferRequest<C>,
    ) -> Result<TransferAnswer<C>, Fault> {
        match request {
            TransferRequest::Offer(offer) => self.on_offer(&**service, offer).await,
            TransferRequest::Piece(piece) => self.on_piece(piece).await,
            TransferRequest::Finish(finish) => self.on_finish(service, finish).await,
        }
    }

    async fn on_offer<S: RaftService<C>>(
        &self,
        service: &S,
        offer: SnapshotOffer<C>,
    ) -> Result<TransferAnswer<C>, Fault> {
        let Some(head) = offer.head() else { return Ok(TransferAnswer::Rejected(Rejection::Malformed)) };
        if let Some(answer) = service.check_snapshot(&head).await? {
            return Ok(TransferAnswer::Done(answer));
        }
        let mut place = Arc::clone(&self.place).lock_owned().await;
        let verdict = place.machine.on_offer(self.clock.now(), offer);
        let new = match verdict {
            OfferVerdict::Answer(answer) => return Ok(answer),
            OfferVerdict::Begin(new) => new,
        };
        // The old content goes first: there is never more than one on the disk.
        let mut place = blocking(move || {
            drop(place.content.take());
            place
        })
        .await?;
        place.content = Some(service.begin_receiving_snapshot().await?);
        if !place.swept {
            place.swept = true;
            tokio::spawn(sweep(Arc::downgrade(&self.place), self.clock));
        }
        Ok(place.machine.begin(self.clock.now(), new))
    }

    async fn on_piece(&self, piece: SnapshotPiece) -> Result<TransferAnswer<C>, Fault> {
        let place = Arc::clone(&self.place).lock_owned().await;
        let now = self.clock.now();
        blocking(move || write_piece(place, now, piece)).await
    }

    async fn on_finish<S: RaftService<C>>(
        &self,
        service: &Arc<S>,
        finish: SnapshotFinish,
    ) -> Result<TransferAnswer<C>, Fault> {
        let mut place = Arc::clone(&self.place).lock_owned().await;
        let installed = match place.machine.on_finish(self.clock.now(), &finish) {
            FinishVerdict::Wait => place.installed.clone(),
            FinishVerdict::Install(offer) => match (offer.head(), place.content.take()) {
                (Some(head), Some(content)) => {
                    let snapshot = Snapshot { meta: offer.meta, snapshot: content };
                    let installed = self.install(Arc::clone(service), head, snapshot);
                    place.installed = Some(installed.clone());
                    Some(installed)
                }
                (_, content) => {
                    place.machine.installed();
                    drop_content::<C>(content).await?;
                    return Ok(TransferAnswer::Rejected(Rejection::Storage));
                }
            },
            FinishVerdict::Reject(rejection) => {
                if !place.machine.is_receiving() {
                    let content = place.content.take();
                    drop_content::<C>(content).await?;
                }
                return Ok(TransferAnswer::Rejected(rejection));
            }
        };
        drop(place);
        let Some(mut installed) = installed else { return Ok(TransferAnswer::Rejected(Rejection::Superseded)) };
        let wait = Duration::from(finish.wait).min(INSTALL_WAIT_MAX);
        let ended = timeout(wait, installed.wait_for(Option::is_some)).await;
        match ended {
            Err(_) => Ok(TransferAnswer::Installing(finish.receipt)),
            Ok(Ok(outcome)) => match &*outcome {
                Some(outcome) => outcome.clone().map(TransferAnswer::Done),
                None => Ok(TransferAnswer::Installing(finish.receipt)),
            },
            Ok(Err(_)) => Err(Fault::new(FaultCode::Stopped, "the installation ended without a result")),
        }
    }

    /// Installs in a task of its own: the end of a connection does not concern it.
    fn install<S: RaftService<C>>(
        &self,
        service: Arc<S>,
        head: InstallSnapshotRequest<C>,
        snapshot: Snapshot<C>,
    ) -> Installed<C> {
        let (done, installed) = watch::channel(None);
        let place = Arc::clone(&self.place);
        tokio::spawn(async move {
            let call = tokio::spawn(async move { service.install_full_snapshot(head, snapshot).await });
            let outcome = call.await.unwrap_or_else(|error| Err(Fault::new(FaultCode::Stopped, error)));
            if let Err(fault) = &outcome {
                tracing::warn!(%fault, "a snapshot was received and not installed");
            }
            place.lock().await.machine.installed();
            // Whoever sent it may have gone.
            let _gone = done.send(Some(outcome));
        });
        installed
    }
}

/// Checks a piece, writes it and counts it. Blocks.
fn write_piece<C: WireTypes>(
    mut place: OwnedMutexGuard<Place<C>>,
    now: Time,
    piece: SnapshotPiece,
) -> TransferAnswer<C> {
    let verified = match place.machine.on_piece(now, piece) {
        Ok(verified) => verified,
        Err(rejection) => {
            if !place.machine.is_receiving() {
                drop(place.content.take());
            }
            return TransferAnswer::Rejected(rejection);
        }
    };
    // Out of its place while it is written: should the write panic, the content is gone, and the next piece says so.
    let written = place.content.take().map(|mut content| {
        let result = content.write_at(verified.offset(), verified.bytes());
        (result, content)
    });
    match written {
        Some((Ok(()), content)) => {
            place.content = Some(content);
            place.machine.written(&verified)
        }
        Some((Err(error), _)) => {
            tracing::warn!(%error, offset = verified.offset(), "a snapshot that arrives cannot be written");
            place.machine.failed();
            TransferAnswer::Rejected(Rejection::Storage)
        }
        None => {
            place.machine.failed();
            TransferAnswer::Rejected(Rejection::Storage)
        }
    }
}

/// Drops a receipt that nobody goes on with, and ends when there is none.
async fn sweep<C: WireTypes>(place: Weak<Mutex<Place<C>>>, clock: Clock) {
    loop {
        let Some(place) = place.upgrade() else { return };
        let mut place = place.lock_owned().await;
        if place.machine.expire(clock.now()) {
            tracing::info!("a snapshot that had begun to arrive was dropped: nobody went on with it");
            let content = place.content.take();
            // Fails only when the runtime ends, and the content with it.
            let _ended = drop_content::<C>(content).await;
        }
        let Some(deadline) = place.machine.deadline() else {
            place.swept = false;
            return;
        };
        drop(place);
        sleep_until(clock.instant(deadline)).await;
    }
}

async fn drop_content<C: WireTypes>(content: Option<C::SnapshotData>) -> Result<(), Fault> {
    blocking(move || drop(content)).await
}

async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Result<R, Fault> {
    spawn_blocking(work).await.map_err(|error| Fault::new(FaultCode::Stopped, error))
}
