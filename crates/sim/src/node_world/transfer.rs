//! A snapshot on its way between simulated nodes: the two machines of the real transfer, with every message of theirs carried
//! like any other. A transfer breaks where a message is lost, and goes on where it stood.

use std::fmt::{self, Debug};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use raftwright_node::Raft;
use raftwright_traits::crc32c;
use raftwright_traits::transfer::{
    FinishVerdict, OfferVerdict, PieceSizes, ReceiptId, Rejection, SenderStep, SnapshotFinish, SnapshotOffer,
    SnapshotPiece, SnapshotReceiver, SnapshotSender, TransferAnswer, TransferOutcome, TransferRequest,
};
use raftwright_traits::{
    AsyncRuntime, Fatal, Identity, InstallOutcome, InstallSnapshotResponse, PeerRefusal, RPCError, RPCOption, Snapshot,
    SnapshotContent, SnapshotRequest, Span, Time, VoteOf,
};
use tokio::sync::Mutex;

use super::application::SimConfig;
use super::network::{Factory, MESSAGE_BYTES, Served, Way, call};
use crate::checkers::Fact;
use crate::core_world::types::LogId;
use crate::runtime::SimRuntime;
use crate::world::{Lane, NodeId};

/// Simulated snapshots have some hundred bytes: small pieces make a transfer that something can happen to.
const CHUNK_BYTES: u64 = 128;
/// Of a chunk.
const PIECES: u32 = 2;
/// A receiver says that it still installs when this part of the sender's patience is over.
const WAIT_PART: u64 = 3;
/// How often it looks whether it has ended.
const INSTALL_STEP: Span = Span::from_millis(5);

/// What one process receives.
pub struct Receipts<C: SimConfig>(Arc<Mutex<Place<C>>>);

struct Place<C: SimConfig> {
    machine: SnapshotReceiver<C>,
    /// There while the machine is receiving.
    content: Option<C::SnapshotData>,
    /// Of the newest installation, once it has ended.
    outcome: Option<InstallSnapshotResponse<C>>,
}

impl<C: SimConfig> Clone for Receipts<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C: SimConfig> Debug for Receipts<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipts")
    }
}

impl<C: SimConfig> Receipts<C> {
    /// Of a process that starts. `first` is the number of its first receipt.
    pub fn new(first: u64) -> Self {
        let machine = SnapshotReceiver::new(ReceiptId(first));
        Self(Arc::new(Mutex::new(Place { machine, content: None, outcome: None })))
    }

    async fn on_request(
        &self,
        raft: Raft<C>,
        runtime: SimRuntime,
        request: TransferRequest<C>,
    ) -> Result<TransferAnswer<C>, Fatal> {
        match request {
            TransferRequest::Offer(offer) => self.on_offer(&raft, &runtime, offer).await,
            TransferRequest::Piece(piece) => Ok(self.on_piece(runtime.now(), piece).await),
            TransferRequest::Finish(finish) => self.on_finish(raft, &runtime, finish).await,
        }
    }

    async fn on_offer(
        &self,
        raft: &Raft<C>,
        runtime: &SimRuntime,
        offer: SnapshotOffer<C>,
    ) -> Result<TransferAnswer<C>, Fatal> {
        let Some(head) = offer.head() else { return Ok(TransferAnswer::Rejected(Rejection::Malformed)) };
        if let Some(answer) = raft.check_snapshot(&head).await? {
            return Ok(TransferAnswer::Done(answer));
        }
        let mut place = self.0.lock().await;
        match place.machine.on_offer(runtime.now(), offer) {
            OfferVerdict::Answer(answer) => Ok(answer),
            OfferVerdict::Begin(new) => {
                place.content = Some(raft.begin_receiving_snapshot().await?);
                Ok(place.machine.begin(runtime.now(), new))
            }
        }
    }

    async fn on_piece(&self, now: Time, piece: SnapshotPiece) -> TransferAnswer<C> {
        let mut place = self.0.lock().await;
        let verified = match place.machine.on_piece(now, piece) {
            Ok(verified) => verified,
            Err(rejection) => return TransferAnswer::Rejected(rejection),
        };
        let content = place.content.as_mut();
        if content.is_some_and(|content| content.write_at(verified.offset(), verified.bytes()).is_ok()) {
            return place.machine.written(&verified);
        }
        place.machine.failed();
        TransferAnswer::Rejected(Rejection::Storage)
    }

    async fn on_finish(
        &self,
        raft: Raft<C>,
        runtime: &SimRuntime,
        finish: SnapshotFinish,
    ) -> Result<TransferAnswer<C>, Fatal> {
        let mut place = self.0.lock().await;
        match place.machine.on_finish(runtime.now(), &finish) {
            FinishVerdict::Wait => {}
            FinishVerdict::Reject(rejection) => return Ok(TransferAnswer::Rejected(rejection)),
            FinishVerdict::Install(offer) => {
                place.outcome = None;
                let (Some(head), Some(content)) = (offer.head(), place.content.take()) else {
                    place.machine.installed();
                    return Ok(TransferAnswer::Rejected(Rejection::Storage));
                };
                let snapshot = Snapshot { meta: offer.meta, snapshot: content };
                let receipts = self.clone();
                // In a task of its own: the end of the connection does not concern it.
                runtime.spawn(async move {
                    // A node that has stopped answers nobody.
                    let outcome = raft.install_full_snapshot(head, snapshot).await.ok();
                    let mut place = receipts.0.lock().await;
                    place.machine.installed();
                    place.outcome = outcome;
                });
            }
        }
        drop(place);
        let due = runtime.now() + finish.wait;
        loop {
            if let Some(outcome) = self.0.lock().await.outcome.clone() {
                return Ok(TransferAnswer::Done(outcome));
            }
            if runtime.now() >= due {
                return Ok(TransferAnswer::Installing(finish.receipt));
            }
            runtime.sleep_until(runtime.now() + INSTALL_STEP).await;
        }
    }
}

/// A transfer that broke or was given up, kept so that the next one goes on where it stood.
#[derive(Debug)]
pub(super) struct Unfinished<C: SimConfig> {
    snapshot: Weak<Snapshot<C>>,
    vote: VoteOf<C>,
    sender: SnapshotSender<C>,
}

/// An answer, and who gives it.
type Answered<C> = (TransferAnswer<C>, Identity<NodeId>);

/// Sends a snapshot. What it leaves in `unfinished` when it ends early, or is dropped, is where the next call goes on.
pub(super) async fn send_snapshot<C: SimConfig>(
    factory: &Factory<C>,
    to: NodeId,
    unfinished: &mut Option<Unfinished<C>>,
    rpc: SnapshotRequest<C>,
    option: RPCOption,
) -> Result<InstallSnapshotResponse<C>, RPCError> {
    let Some(last) = rpc.snapshot.meta.last_log_id else {
        return Err(RPCError::Refused("a snapshot of nothing".to_owned()));
    };
    let content = &rpc.snapshot.snapshot;
    let sender = prepare(unfinished, &rpc, option)?;
    let mut target = Identity { id: to, incarnation: None };
    let outcome = loop {
        match sender.step() {
            SenderStep::Send(request) => {
                let (answer, from) = send(factory, to, request, option, last).await?;
                target = from;
                sender.on_answer(answer);
            }
            SenderStep::Read { offset, len } => sender.on_read(offset, Bytes::from(read(content, offset, len.into())?)),
            SenderStep::Compare { upto } => sender.on_prefix(upto, crc32c::crc32c(&read(content, 0, upto)?)),
            // One request is under way at a time, so there is nothing to wait for.
            SenderStep::Wait => return Err(RPCError::Network("the transfer waits for nothing".to_owned())),
            SenderStep::Over(outcome) => break outcome,
        }
    };
    *unfinished = None;
    let answer = |outcome| Ok(InstallSnapshotResponse::<C> { from: target, outcome });
    match outcome {
        TransferOutcome::Answered(response) => Ok(response),
        TransferOutcome::Outvoted(vote) => answer(InstallOutcome::<C>::HigherVote(vote)),
        TransferOutcome::Rejected(Rejection::Busy) => answer(InstallOutcome::<C>::Refused(PeerRefusal::Busy)),
        TransferOutcome::Rejected(rejection) => Err(RPCError::Network(format!("the transfer ended: {rejection}"))),
        TransferOutcome::Confused(why) => Err(RPCError::Network(format!("the target broke the protocol: {why}"))),
    }
}

/// The sender to drive: that of the last call if it sent the same, or a new one.
fn prepare<'u, C: SimConfig>(
    unfinished: &'u mut Option<Unfinished<C>>,
    rpc: &SnapshotRequest<C>,
    option: RPCOption,
) -> Result<&'u mut SnapshotSender<C>, RPCError> {
    let same = |last: &Unfinished<C>| {
        last.vote == rpc.vote && std::ptr::eq(last.snapshot.as_ptr(), Arc::as_ptr(&rpc.snapshot))
    };
    let last = match unfinished.take().filter(same) {
        Some(last) => last,
        None => {
            let size = rpc.snapshot.snapshot.size().map_err(|error| unreadable(&error))?;
            let wait = option.timeout.divided_by(WAIT_PART);
            let sender = SnapshotSender::new(SnapshotOffer::new(rpc, size), PieceSizes::new(CHUNK_BYTES, PIECES), wait);
            Unfinished { snapshot: Arc::downgrade(&rpc.snapshot), vote: rpc.vote, sender }
        }
    };
    let last = unfinished.insert(last);
    last.sender.reconnected();
    Ok(&mut last.sender)
}

/// Says one thing and waits for the answer.
async fn send<C: SimConfig>(
    factory: &Factory<C>,
    to: NodeId,
    request: TransferRequest<C>,
    option: RPCOption,
    last: LogId,
) -> Result<Answered<C>, RPCError> {
    let (names, bytes) = match &request {
        TransferRequest::Offer(_) => (("snapshot?", "snapshot!"), MESSAGE_BYTES),
        TransferRequest::Piece(piece) => (("piece?", "piece!"), MESSAGE_BYTES + piece.bytes.len()),
        TransferRequest::Finish(_) => (("finish?", "finish!"), MESSAGE_BYTES),
    };
    let way = Way { names, lane: Lane::Snapshot, bytes, once: true };
    let handle = move |served: &Served<C>, request| {
        let Served { raft, runtime, reporter, receipts } = served.clone();
        async move {
            let answer = receipts.on_request(raft.clone(), runtime, request).await?;
            let incarnation = raft.metrics().borrow().incarnation;
            Ok((answer, Identity { id: reporter.node, incarnation }))
        }
    };
    let vouch = move |(answer, _): &Answered<C>| match answer {
        TransferAnswer::Done(response) if matches!(response.outcome, InstallOutcome::<C>::Installed) => {
            Some(Fact::Acknowledged { matched: last })
        }
        _ => None,
    };
    call(factory, to, way, request, option, handle, vouch).await
}

fn read(content: &impl SnapshotContent, offset: u64, len: u64) -> Result<Vec<u8>, RPCError> {
    let mut buffer = vec![0; usize::try_from(len).unwrap_or(0)];
    let mut at = 0;
    while let Some(rest) = buffer.get_mut(at..).filter(|rest| !rest.is_empty()) {
        match content.read_at(offset + at as u64, rest) {
            Ok(0) => return Err(RPCError::Network("the content is shorter than it said".to_owned())),
            Ok(count) => at += count,
            Err(error) => return Err(unreadable(&error)),
        }
    }
    Ok(buffer)
}

fn unreadable(error: &std::io::Error) -> RPCError {
    RPCError::Network(format!("the snapshot cannot be read: {error}"))
}
