//! A stream as words.

use super::{Mode, Sent, Stream};
use crate::{Canonical, Types};

impl<T: Types> Stream<T> {
    /// Adds what makes a difference from here on; see [`Canonical`]. The epoch is a name like a stream's: whoever keeps
    /// answers apart by it must add what it keeps.
    pub fn canonical(&self, words: &mut Canonical<'_, T>) {
        let Self {
            config: _,
            identity: _,
            vote,
            rng: _,
            tail,
            mode,
            epoch: _,
            next,
            prev,
            reading,
            inflight,
            inflight_bytes: _,
            lacking,
            matched,
            retry_at,
            retry: _,
            // The window that follows from it is never smaller than a request: out of reach.
            pace: _,
        } = self;
        words.vote(vote);
        words.log_id(&tail.last);
        words.option(tail.committed.as_ref(), Canonical::log_id);
        words.word(match mode {
            Mode::Probe => 0,
            Mode::Pipeline => 1,
            Mode::Snapshot => 2,
            Mode::Over => 3,
        });
        words.word(*next);
        words.option(prev.as_ref(), Canonical::log_id);
        words.flag(*reading);
        words.word(inflight.len() as u64);
        for Sent { prev, last, bytes: _, departure: _ } in inflight {
            words.option(prev.as_ref(), Canonical::log_id);
            words.option(last.as_ref(), Canonical::log_id);
        }
        words.option(lacking.as_ref(), |words, index| words.word(*index));
        words.word(*matched);
        words.flag(retry_at.is_some());
    }
}
