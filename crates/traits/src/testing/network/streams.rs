//! Many appends without waiting between them.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_core::Stream;

use super::builder::NetworkBuilder;
use super::check::{AMPLE, Bench, Check, give_up, is_append, is_matched, network_checks};
use crate::testing::trial::{Checked, Failure, ensure};
use crate::{AppendEntriesRequest, AppendOutcome, RaftNetworkV2, RaftTypeConfig};

pub(super) fn checks<C: RaftTypeConfig, B: NetworkBuilder<C>>() -> Vec<Check<C, B>> {
    network_checks![false:
        a_stream_of_nothing_ends,
        a_stream_answers_every_request_in_order,
        a_stream_gives_other_outcomes_in_their_places,
        a_stream_asks_for_nothing_before_it_is_polled,
        a_stream_that_waits_for_requests_gives_what_it_has,
        a_stream_ends_after_its_first_error,
        a_client_is_usable_after_a_stream,
    ]
}

/// Requests, and how often somebody has asked for one.
struct Requests<C: RaftTypeConfig> {
    left: VecDeque<AppendEntriesRequest<C>>,
    /// Where there is none left, more may come.
    open: bool,
    asked: Arc<AtomicUsize>,
}

impl<C: RaftTypeConfig> Requests<C> {
    fn new(requests: impl IntoIterator<Item = AppendEntriesRequest<C>>) -> Self {
        Self { left: requests.into_iter().collect(), open: false, asked: Arc::default() }
    }
}

impl<C: RaftTypeConfig> Unpin for Requests<C> {}

impl<C: RaftTypeConfig> Stream for Requests<C> {
    type Item = AppendEntriesRequest<C>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match self.left.pop_front() {
            Some(request) => Poll::Ready(Some(request)),
            None if self.open => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)).await
}

async fn a_stream_of_nothing_ends<C: RaftTypeConfig, B: NetworkBuilder<C>>(b: &Bench<C, B>) -> Checked {
    let mut line = b.line().await;
    let first = next(&mut line.client.stream_append(Requests::new([]), AMPLE)).await;
    ensure!(first.is_none(), "a stream without requests answers {first:?}");
    Ok(())
}

async fn a_stream_answers_every_request_in_order<C: RaftTypeConfig, B: NetworkBuilder<C>>(b: &Bench<C, B>) -> Checked {
    const REQUESTS: u64 = 200;
    let mut line = b.line().await;
    let requests: Vec<_> = (1..=REQUESTS).map(|index| b.append_one(index)).collect();
    let mut stream = line.client.stream_append(Requests::new(requests.clone()), AMPLE);
    for index in 1..=REQUESTS {
        match next(&mut stream).await {
            Some(Ok(answer)) => is_matched(&answer, b.builder.node_id(2), b.id(3, index))?,
            other => return Err(Failure(format!("request {index} of {REQUESTS} is answered with {other:?}"))),
        }
    }
    let end = next(&mut stream).await;
    ensure!(end.is_none(), "behind the last request there is an answer: {end:?}");
    drop(stream);
    let arrived = line.peer.arrived();
    ensure!(arrived.len() == requests.len(), "{} requests arrived, {REQUESTS} were sent", arrived.len());
    arrived.iter().zip(&requests).try_for_each(|(arrived, request)| is_append(Some(arrived), request))
}

async fn a_stream_gives_other_outcomes_in_their_places<C: RaftTypeConfig, B: NetworkBuilder<C>>(
    b: &Bench<C, B>,
) -> Checked {
    let mut line = b.line().await;
    let conflict = AppendOutcome::<C>::Conflict { prev: b.id(3, 1), hint: None };
    line.peer.next_outcome(AppendOutcome::<C>::Success { matched: Some(b.id(3, 1)) });
    line.peer.next_outcome(conflict.clone());
    let mut stream = line.client.stream_append(Requests::new((1..=3).map(|index| b.append_one(index))), AMPLE);
    let expected = [
        AppendOutcome::<C>::Success { matched: Some(b.id(3, 1)) },
        conflict,
        AppendOutcome::<C>::Success { matched: Some(b.id(3, 3)) },
    ];
    for expected in expected {
        let found = next(&mut stream).await;
        let outcome = found.as_ref().and_then(|answer| answer.as_ref().ok()).map(|answer| &answer.outcome);
        ensure!(outcome == Some(&expected), "the answer is {found:?}, not {expected:?}: an outcome is no error");
    }
    Ok(())
}

async fn a_stream_asks_for_nothing_before_it_is_polled<C: RaftTypeConfig, B: NetworkBuilder<C>>(
    b: &Bench<C, B>,
) -> Checked {
    let mut line = b.line().await;
    let requests = Requests::new([b.append_one(1)]);
    let asked = Arc::clone(&requests.asked);
    let stream = line.client.stream_append(requests, AMPLE);
    b.builder.pause().await;
    drop(stream);
    ensure!(asked.load(Ordering::Relaxed) == 0, "requests were taken by a stream that nobody has polled");
    ensure!(line.peer.arrived().is_empty(), "something was sent by a stream that nobody has polled");
    Ok(())
}

async fn a_stream_that_waits_for_requests_gives_what_it_has<C: RaftTypeConfig, B: NetworkBuilder<C>>(
    b: &Bench<C, B>,
) -> Checked {
    let mut line = b.line().await;
    let mut requests = Requests::new((1..=3).map(|index| b.append_one(index)));
    requests.open = true;
    let mut stream = line.client.stream_append(requests, AMPLE);
    for index in 1..=3 {
        match next(&mut stream).await {
            Some(Ok(answer)) => is_matched(&answer, b.builder.node_id(2), b.id(3, index))?,
            other => return Err(Failure(format!("request {index} is answered with {other:?}, while more may come"))),
        }
    }
    Ok(())
}

async fn a_stream_ends_after_its_first_error<C: RaftTypeConfig, B: NetworkBuilder<C>>(b: &Bench<C, B>) -> Checked {
    let line = b.line().await;
    let (mut client, peer) = (line.client, line.peer);
    peer.hold();
    let mut stream = client.stream_append(Requests::new((1..=50).map(|index| b.append_one(index))), AMPLE);
    let early = give_up(next(&mut stream), peer.has_got(1)).await;
    ensure!(early.is_none(), "there is an answer that the server has not given: {early:?}");
    b.note("the server stops before it has answered");
    b.builder.stop(line.server).await;
    let first = next(&mut stream).await;
    ensure!(matches!(first, Some(Err(_))), "the server is gone, and the stream gives {first:?}");
    let after = next(&mut stream).await;
    ensure!(after.is_none(), "after its first error the stream goes on with {after:?}");
    Ok(())
}

async fn a_client_is_usable_after_a_stream<C: RaftTypeConfig, B: NetworkBuilder<C>>(b: &Bench<C, B>) -> Checked {
    let mut line = b.line().await;
    line.peer.hold();
    {
        let mut stream = line.client.stream_append(Requests::new((1..=9).map(|index| b.append_one(index))), AMPLE);
        let early = give_up(next(&mut stream), line.peer.has_got(1)).await;
        ensure!(early.is_none(), "there is an answer that the server has not given: {early:?}");
    }
    b.note("the stream is dropped in the middle");
    line.peer.let_go();
    let call = async || line.client.append_entries(b.append_one(90), AMPLE).await;
    let answer = b.eventually("a call after a stream was dropped", call).await?;
    is_matched(&answer, b.builder.node_id(2), b.id(3, 90))
}
