//! What peers ask of a node.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use raftwright_core::RaftEntry;
use raftwright_traits::{
    AppendEntriesRequest, AppendOutcome, Entry, Fatal, Identity, LeaderId, LogId, LogIdOf, LogIdOption, Vote, VoteKind,
    VoteRequest,
};

use crate::fixture::{Cluster, Holding, TestTypes, config, with_both_leader_ids};

with_both_leader_ids!(
    a_pre_vote_changes_nothing,
    a_stream_of_appends_is_answered_in_order,
    a_stream_of_appends_is_bounded_and_ends_with_the_node,
    a_transfer_can_be_triggered_without_waiting,
);

/// Whatever was put into it, then the end.
struct Requests<C: TestTypes>(VecDeque<AppendEntriesRequest<C>>);

// No field is ever pinned in its place.
impl<C: TestTypes> Unpin for Requests<C> {}

impl<C: TestTypes> Stream for Requests<C> {
    type Item = AppendEntriesRequest<C>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.pop_front())
    }
}

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)).await
}

async fn a_pre_vote_changes_nothing<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let (asked, asking) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    cluster.write(leader, "a", 1).await;
    let before = cluster.raft(asked).with_raft_state(|replica| replica.vote().copied()).await.unwrap();
    let term = before.unwrap().term() + 5;
    let request = VoteRequest::<C> {
        from: Identity { id: asking, incarnation: None },
        vote: Vote::new(term, asking),
        last_log_id: cluster.raft(asking).metrics().borrow().last_log_id,
        kind: VoteKind::Vote,
        permit: None,
    };
    let response = cluster.raft(asked).pre_vote(request.clone()).await.unwrap();
    assert_eq!((response.kind, response.granted), (VoteKind::PreVote, false), "its leader lives");
    // Without a leader it would be granted, and nothing changes all the same.
    cluster.raft(asked).runtime_config().elect(false).await.unwrap();
    cluster.raft(asking).runtime_config().elect(false).await.unwrap();
    cluster.raft(leader).shutdown().await.unwrap();
    let mut granted = false;
    for _ in 0..100 {
        granted = cluster.raft(asked).pre_vote(request.clone()).await.unwrap().granted;
        if granted {
            break;
        }
        let short = std::time::Duration::from_millis(10);
        assert!(cluster.raft(asked).wait(Some(short)).log_index(1 << 40, "never").await.is_err());
    }
    assert!(granted);
    assert_eq!(cluster.raft(asked).with_raft_state(|replica| replica.vote().copied()).await.unwrap(), before);
}

/// Appends of one blank entry each to a blank server, from a leader of term 1.
fn appends<C: TestTypes>(count: u64) -> Requests<C> {
    let vote = Vote::<C::LeaderId>::new(1, 2).commit();
    let id = |index| LogIdOf::<C> { leader_id: vote.leader_id.to_committed(), index };
    let request = |index: u64| AppendEntriesRequest::<C> {
        from: Identity { id: 2, incarnation: None },
        vote,
        prev_log_id: (index > 1).then(|| id(index - 1)),
        entries: vec![Entry::<C>::blank(id(index))],
        committed: None,
    };
    Requests((1..=count).map(request).collect())
}

fn success<C: TestTypes>(index: u64, outcome: &AppendOutcome<C>) -> bool {
    matches!(outcome, AppendOutcome::<C>::Success { matched, .. } if matched.index_or_zero() == index)
}

async fn a_stream_of_appends_is_answered_in_order<C: TestTypes>() {
    // Less room in the queue than requests.
    let config = raftwright_traits::Config { api_queue_max: 2, enable_elect: false, ..config() };
    let cluster = Cluster::<C>::blank_with([1], config, 1).await;
    let mut answers = cluster.raft(1).stream_append(appends::<C>(1_000));
    for index in 1..=1_000 {
        let answer = next(&mut answers).await.unwrap().unwrap();
        assert!(success::<C>(index, &answer.outcome), "{index}: {answer:?}");
    }
    assert!(next(&mut answers).await.is_none());
    let last: LogId<_> = cluster.raft(1).metrics().borrow().last_log_id.unwrap();
    assert_eq!(last.index, 1_000);
}

async fn a_stream_of_appends_is_bounded_and_ends_with_the_node<C: TestTypes>() {
    let config = raftwright_traits::Config { enable_elect: false, ..config() };
    let cluster = Cluster::<C>::blank_with([1], config, 1).await;
    cluster.logs[&1].set(Holding::Writes);
    let mut answers = cluster.raft(1).stream_append(appends::<C>(1_000));
    let (first, ()) = tokio::join!(next(&mut answers), async {
        let taken = cluster.wait(1).log_index_at_least(256, "as many as may wait").await.unwrap();
        assert_eq!(taken.last_log_id.index_or_zero(), 256);
        let more = cluster.raft(1).wait(Some(std::time::Duration::from_secs(1))).log_index_at_least(257, "more").await;
        assert!(more.is_err());
        cluster.raft(1).shutdown().await.unwrap();
    });
    assert_eq!(first.unwrap().map(|answer| answer.from.id), Err(Fatal::Stopped));
    assert!(next(&mut answers).await.is_none());
    let mut late = cluster.raft(1).stream_append(appends::<C>(1));
    assert_eq!(next(&mut late).await.unwrap().map(|answer| answer.from.id), Err(Fatal::Stopped));
}

async fn a_transfer_can_be_triggered_without_waiting<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let to = leader % 3 + 1;
    cluster.raft(leader).trigger().transfer_leader(to).await.unwrap();
    cluster.wait(leader).current_leader(to, "it has taken over").await.unwrap();
}
