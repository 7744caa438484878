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

    /// The next sequence number. Opens a session with `open` if there is none, and waits while as many numbers are in use
    /// as the servers remember.
    pub(super) async fn seat<E>(&self, open: impl AsyncFn() -> Result<SessionId, E>) -> Result<Seat<'_>, E> {
        loop {
            let mut moved = pin!(self.moved.notified());
            moved.as_mut().enable();
            match self.try_seat() {
                Attempt::Seat(seat) => return Ok(seat),
                Attempt::Full => moved.await,
                Attempt::NoSession => self.open(&open).await?,
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

    async fn open<E>(&self, open: &impl AsyncFn() -> Result<SessionId, E>) -> Result<(), E> {
        let _alone = self.opening.lock().await;
        if self.lock().id.is_none() {
            let id = open().await?;
            *self.lock() = State { id: Some(id), last: 0, under_way: BTreeSet::new() };
        }
        Ok(())
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
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::task::Poll;

    async fn seat(session: &ClientSession) -> Seat<'_> {
        session.seat(async || Ok::<_, ()>(SessionId(1))).await.unwrap()
    }

    #[tokio::test]
    async fn one_session_is_opened_however_many_ask() {
        let (session, opened) = (ClientSession::default(), Cell::new(0));
        let open = async || {
            opened.set(opened.get() + 1);
            tokio::task::yield_now().await;
            Ok::<_, ()>(SessionId(opened.get()))
        };
        let (a, b) = tokio::join!(session.seat(open), session.seat(open));
        assert_eq!((opened.get(), a.unwrap().sequence + b.unwrap().sequence), (1, 3));
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
        let new = session.seat(async || Ok::<_, ()>(SessionId(2))).await.unwrap();
        assert_eq!((new.id, new.sequence), (SessionId(2), 1));
        drop(old);
        let next = seat(&session).await;
        assert_eq!((next.sequence, next.settled), (2, 0), "the new session's first is still under way");
    }
}
