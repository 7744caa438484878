//! The window of a stream over ways of different speed and length: it fills each, and does not overfill it.

use std::collections::VecDeque;

use raftwright_core::{
    AppendEntriesResponse, AppendOutcome, RaftEntry, Span, Stream, StreamConfig, StreamEffect, StreamInput, Tail, Time,
};

use crate::solo::identity;
use crate::types::{Item, Standard, id, led};

const TERM: u64 = 3;
const ENTRY_BYTES: usize = 8 << 10;
const REQUEST_BYTES: usize = 64 << 10;

/// A target behind a way of that many bytes a second and that long one way, with all the work it can take.
struct Way {
    stream: Stream<Standard>,
    now: Time,
    bytes_per_second: u64,
    delay: Span,
    /// When what was sent last will have left.
    free_at: Time,
    /// When each request will be answered.
    answers: VecDeque<(Time, u64, usize, AppendOutcome<Standard>)>,
    inflight_most: usize,
}

impl Way {
    fn new(bytes_per_second: u64, delay: Span) -> Self {
        let config = StreamConfig { request_bytes_max: REQUEST_BYTES, ..StreamConfig::default() };
        let tail = Tail { last: id::<Standard>(TERM, 1 << 40), committed: None };
        let stream = Stream::new(config, identity(1), led::<Standard>(TERM, 1), 1, tail, 1);
        let (answers, free_at) = (VecDeque::new(), Time::ZERO);
        let mut way = Self { stream, now: Time::ZERO, bytes_per_second, delay, free_at, answers, inflight_most: 0 };
        way.step(StreamInput::Wake);
        way
    }

    fn step(&mut self, input: StreamInput<Standard>) {
        let mut effects = Vec::new();
        self.stream.step(self.now, input, &mut effects);
        for effect in effects {
            match effect {
                StreamEffect::Read { epoch, start, end, bytes_max, prev, .. } => {
                    let count = (bytes_max / ENTRY_BYTES).max(1) as u64;
                    let text = "x".repeat(ENTRY_BYTES);
                    let entries =
                        (start..end.min(start + count)).map(|at| Item::at(id::<Standard>(TERM, at), &text)).collect();
                    let prev = prev.or((start > 1).then(|| id::<Standard>(TERM, start - 1)));
                    self.step(StreamInput::Entries { epoch, prev, entries });
                }
                StreamEffect::Send { epoch, request } => {
                    let bytes: usize = request.entries.iter().map(RaftEntry::size).sum();
                    let takes = bytes as u64 * 1_000_000_000 / self.bytes_per_second;
                    self.free_at = self.free_at.max(self.now) + Span::from_nanos(takes);
                    let matched = request.entries.last().map(RaftEntry::log_id).or(request.prev_log_id);
                    let at = self.free_at + self.delay * 2;
                    self.answers.push_back((at, epoch, bytes, AppendOutcome::Success { matched }));
                }
                StreamEffect::Report(_) => {}
                StreamEffect::SendSnapshot { .. } => panic!("nothing was purged"),
            }
        }
        self.inflight_most = self.inflight_most.max(self.stream.inflight().1);
    }

    /// Lets time pass. Says how many bytes were answered in it, and how many were on their way at most.
    fn run(&mut self, span: Span) -> (usize, usize) {
        let end = self.now + span;
        let mut taken = 0;
        self.inflight_most = 0;
        while let Some((at, epoch, bytes, outcome)) = self.answers.pop_front_if(|(at, ..)| *at <= end) {
            self.now = at;
            taken += bytes;
            let response = AppendEntriesResponse { from: identity(2), outcome };
            self.step(StreamInput::Answer { epoch, response });
        }
        self.now = end;
        (taken, self.inflight_most)
    }

    /// What is on the way when neither end waits for the other.
    fn product(&self) -> usize {
        let round_trip = self.delay.as_nanos() * 2;
        usize::try_from(u128::from(self.bytes_per_second) * u128::from(round_trip) / 1_000_000_000).unwrap()
    }

    /// After some seconds, two of it: fast enough, and not too much on the way.
    fn check(&mut self, what: &str) {
        self.run(Span::from_secs(4));
        let (taken, inflight) = self.run(Span::from_secs(2));
        let able = usize::try_from(self.bytes_per_second * 2).unwrap();
        // What is answered at the ends of the time comes in whole requests.
        let least = (able / 10 * 9).saturating_sub(REQUEST_BYTES);
        assert!(taken >= least, "{what}: {taken} of {able} bytes");
        let enough = 3 * self.product() + 3 * REQUEST_BYTES;
        assert!(inflight <= enough, "{what}: {inflight} bytes on the way, {enough} would do");
    }
}

const MB: u64 = 1_000_000;

#[test]
fn the_window_fills_a_way_and_does_not_overfill_it() {
    for (rate, delay, what) in [
        (100 * MB, Span::from_micros(500), "a switch"),
        (20 * MB, Span::from_millis(40), "a continent"),
        (MB, Span::from_millis(2), "a slow disk"),
        (MB / 10, Span::from_millis(1), "a very slow disk"),
    ] {
        Way::new(rate, delay).check(what);
    }
}

/// A target that becomes slow soon holds little; one that becomes fast again is soon kept busy.
#[test]
fn the_window_follows_the_pace() {
    let mut way = Way::new(200 * MB, Span::from_millis(5));
    way.check("fast");
    way.bytes_per_second = 2 * MB;
    way.check("slow");
    way.bytes_per_second = 200 * MB;
    way.check("fast again");
}

/// The way becomes longer: what was enough is not any more, and the window grows. Shorter again, it shrinks.
#[test]
fn the_window_follows_the_round_trip() {
    let mut way = Way::new(50 * MB, Span::from_millis(1));
    way.check("near");
    way.delay = Span::from_millis(30);
    way.run(Span::from_secs(30));
    way.check("far");
    way.delay = Span::from_millis(1);
    way.run(Span::from_secs(30));
    way.check("near again");
}

/// The window never creeps up, however long it is full: the round trip that it is made of is that of the way, not of its own queue.
#[test]
fn a_full_window_does_not_grow_by_itself() {
    let mut way = Way::new(20 * MB, Span::from_millis(10));
    way.run(Span::from_secs(120));
    way.check("two minutes of full load");
}
