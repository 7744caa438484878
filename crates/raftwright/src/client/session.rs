//! A client's session: which sequence numbers are in use.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::sessions::{SESSION_WINDOW, SessionId};

/// The session that all clones of a client share. It is opened when the first command is written.
#[derive(Debug, Default)]
pub(super) struct ClientSession {
    state: Mutex<State>,
    /// Held by the one call that opens a session.
    opening: tokio::sync::Mutex<()>,
    /// A number was given back, or the session is another one.
    moved: Notify,
}

#[derive(Debug, Default)]
struct State {
    id: Option<SessionId>,
    /// The last number that was given out.
    last: u64,
    /// Numbers given out whose calls are under way.
    under_way: BTreeSet<u64>,
}

/// A sequence number in use. Given back when dropped: nobody waits for its answer then.
#[derive(Debug)]
pub(super) struct Seat<'a> {
    session: &'a ClientSession,
    pub(super) id: SessionId,
    pub(super) sequence: u64,
    /// Nobody waits for an answer up to this number.
    pub(super) settled: u64,
}

/// What a call gets that wants to write.
#[derive(Debug)]
pub(super) enum Offer<'a> {
    /// A number to write with.
    Seat(Seat<'a>),
    /// There is no session, and this call is the one to open it.
    Open(Opening<'a>),
}

/// The duty to open a session. Dropped without having done so, it passes to the next call.
#[derive(Debug)]
pub(super) struct Opening<'a> {
    session: &'a ClientSession,
    _alone: tokio::sync::MutexGuard<'a, ()>,
}

enum Attempt<'a> {
    Seat(Seat<'a>),
    NoSession,
    Full,
}

impl ClientSession {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next sequence number, or the duty to open a session. Waits while as many numbers are in use as the servers
    /// remember, and while somebody else opens a session.
    pub(super) async fn offer(&self) -> Offer<'_> {
        loop {
            let mut moved = pin!(self.moved.notified());
            moved.as_mut().enable();
            match self.try_seat() {
                Attempt::Seat(seat) => return Offer::Seat(seat),
                Attempt::Full => moved.await,
                Attempt::NoSession => {
                    let alone = self.opening.lock().await;
                    if self.lock().id.is_none() {
                        return Offer::Open(Opening { session: self, _alone: alone });
                    }
                }
            }
        }
    }

    fn try_seat(&self) -> Attempt<'_> {
        let mut state = self.lock();
        let Some(id) = state.id else { return Attempt::NoSession };
        let sequence = state.last + 1;
        let oldest = state.under_way.first().copied().unwrap_or(sequence);
        if sequence - oldest >= SESSION_WINDOW {
            return Attempt::Full;
        }
        state.last = sequence;
        state.under_way.insert(sequence);
        Attempt::Seat(Seat { session: self, id, sequence, settled: oldest - 1 })
    }

    /// The servers do not know this session any more: the next command opens another one.
    pub(super) fn expire(&self, id: SessionId) {
        let mut state = self.lock();
        if state.id == Some(id) {
            *state = State::default();
        }
        drop(state);
        self.moved.notify_waiters();
    }
}

impl Opening<'_> {
    /// The session is open.
    pub(super) fn opened(self, id: SessionId) {
        *self.session.lock() = State { id: Some(id), last: 0, under_way: BTreeSet::new() };
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut state = self.session.lock();
        if state.id == Some(self.id) {
            state.under_way.remove(&self.sequence);
        }
        drop(state);
        self.session.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Poll;

    /// A seat of that session, or of the one that is open.
    async fn seat_of(session: &ClientSession, id: u128) -> Seat<'_> {
        loop {
            match session.offer().await {
                Offer::Seat(seat) => return seat,
                Offer::Open(opening) => opening.opened(SessionId(id)),
            }
        }
    }

    async fn seat(session: &ClientSession) -> Seat<'_> {
        seat_of(session, 1).await
    }

    #[tokio::test]
    async fn one_session_is_opened_however_many_ask() {
        let session = ClientSession::default();
        let Offer::Open(first) = session.offer().await else { panic!("there is none yet") };
        let mut second = pin!(session.offer());
        assert!(poll_fn(|cx| Poll::Ready(second.as_mut().poll(cx).is_pending())).await);
        first.opened(SessionId(7));
        match second.await {
            Offer::Seat(seat) => assert_eq!((seat.id, seat.sequence), (SessionId(7), 1)),
            Offer::Open(_) => panic!("it is open already"),
        }
    }

    #[tokio::test]
    async fn who_fails_to_open_a_session_leaves_it_to_the_next() {
        let session = ClientSession::default();
        drop(session.offer().await);
        assert!(matches!(session.offer().await, Offer::Open(_)));
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_settled() {
        let session = ClientSession::default();
        let first = seat(&session).await;
        let second = seat(&session).await;
        assert_eq!((first.settled, second.settled), (0, 0));
        drop(second);
        assert_eq!(seat(&session).await.settled, 0, "the first is still under way");
        drop(first);
        let next = seat(&session).await;
        assert_eq!((next.sequence, next.settled), (4, 3));
    }

    #[tokio::test]
    async fn no_more_are_under_way_than_the_servers_remember() {
        let session = ClientSession::default();
        let first = seat(&session).await;
        for _ in 1..SESSION_WINDOW {
            drop(seat(&session).await);
        }
        let mut waiting = pin!(seat(&session));
        assert!(poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await);
        drop(first);
        assert_eq!(waiting.await.sequence, SESSION_WINDOW + 1);
    }

    #[tokio::test]
    async fn a_new_session_starts_over_and_old_seats_do_not_touch_it() {
        let session = ClientSession::default();
        let old = seat(&session).await;
        session.expire(old.id);
        let new = seat_of(&session, 2).await;
        assert_eq!((new.id, new.sequence), (SessionId(2), 1));
        drop(old);
        let next = seat(&session).await;
        assert_eq!((next.sequence, next.settled), (2, 0), "the new session's first is still under way");
    }
}
