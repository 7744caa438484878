//! The words of streams.

use raftwright_core::{
    AppendEntriesResponse, AppendOutcome, Identity, InstallOutcome, InstallSnapshotResponse, LogIdOf, Span, Stream,
    StreamConfig, StreamInput, Tail, Time, VoteOf,
};

use super::{Words, assert_told_apart, id, words, words_as};
use crate::solo::identity;
use crate::types::{Item, Standard, led, vote};

fn stream_of(vote: VoteOf<Standard>, next: u64, tail: Tail<Standard>, seed: u64) -> Stream<Standard> {
    Stream::new(StreamConfig::default(), identity(1), vote, next, tail, seed)
}

fn tail(last: u64, committed: Option<u64>) -> Tail<Standard> {
    Tail { last: id(1, last), committed: committed.map(|index| id(1, index)) }
}

/// Leads term 1, with entries up to 9, and looks at 5 first.
fn stream() -> Stream<Standard> {
    stream_of(led::<Standard>(1, 1), 5, tail(9, None), 1)
}

fn step(stream: &mut Stream<Standard>, input: StreamInput<Standard>) {
    stream.step(Time::ZERO, input, &mut Vec::new());
}

/// The log answers with these entries of term 1.
fn entries(stream: &mut Stream<Standard>, indexes: std::ops::Range<u64>) {
    let (epoch, prev) = (stream.epoch(), Some(id(1, indexes.start - 1)));
    let entries = indexes.map(|index| Item::at(id(1, index), "x")).collect();
    step(stream, StreamInput::Entries { epoch, prev, entries });
}

fn answer(stream: &mut Stream<Standard>, outcome: AppendOutcome<Standard>) {
    let response = AppendEntriesResponse { from: identity(2), outcome };
    let epoch = stream.epoch();
    step(stream, StreamInput::Answer { epoch, response });
}

/// The target has stored all up to 4, and the stream sends without waiting.
fn matched(stream: &mut Stream<Standard>) {
    step(stream, StreamInput::Wake);
    entries(stream, 5..5);
    answer(stream, AppendOutcome::Success { matched: Some(id(1, 4)) });
}

/// The target lacks an entry, at that index or before, that is gone here.
fn lacking(stream: &mut Stream<Standard>, purged: LogIdOf<Standard>) {
    step(stream, StreamInput::Wake);
    entries(stream, 5..5);
    answer(stream, AppendOutcome::Conflict { prev: id(1, 4), hint: None });
    let epoch = stream.epoch();
    step(stream, StreamInput::Purged { epoch, purged });
}

fn with(happens: impl FnOnce(&mut Stream<Standard>)) -> Words {
    let mut stream = stream();
    happens(&mut stream);
    words_of(&stream)
}

fn words_of(stream: &Stream<Standard>) -> Words {
    words(|words| stream.canonical(words))
}

#[test]
fn streams_are_told_apart() {
    let tailed = |tail| with(|stream| step(stream, StreamInput::Tail(tail)));
    assert_told_apart(&[
        ("a stream", with(|_| {})),
        ("of another leadership", words_of(&stream_of(led::<Standard>(2, 1), 5, tail(9, None), 1))),
        ("that looks elsewhere", words_of(&stream_of(led::<Standard>(1, 1), 6, tail(9, None), 1))),
        ("of a longer log", words_of(&stream_of(led::<Standard>(1, 1), 5, tail(10, None), 1))),
        (
            "of a log of another term",
            words_of(&stream_of(led::<Standard>(1, 1), 5, Tail { last: id(0, 9), committed: None }, 1)),
        ),
        ("with something committed", words_of(&stream_of(led::<Standard>(1, 1), 5, tail(9, Some(3)), 1))),
        ("with more committed", words_of(&stream_of(led::<Standard>(1, 1), 5, tail(9, Some(4)), 1))),
        ("that reads", with(|stream| step(stream, StreamInput::Wake))),
        ("that reads, of a longer log", tailed(tail(10, None))),
        (
            "that has sent a probe",
            with(|stream| {
                step(stream, StreamInput::Wake);
                entries(stream, 5..5);
            }),
        ),
        (
            "that has sent an entry",
            with(|stream| {
                step(stream, StreamInput::Wake);
                entries(stream, 5..6);
            }),
        ),
        (
            "that has sent two",
            with(|stream| {
                step(stream, StreamInput::Wake);
                entries(stream, 5..7);
            }),
        ),
        ("that knows where the logs agree", with(matched)),
        (
            "that has sent on",
            with(|stream| {
                matched(stream);
                entries(stream, 5..7);
            }),
        ),
        (
            "that has sent on, in two requests",
            with(|stream| {
                matched(stream);
                entries(stream, 5..6);
                entries(stream, 6..7);
            }),
        ),
        (
            "that has sent on, and was answered",
            with(|stream| {
                matched(stream);
                entries(stream, 5..7);
                answer(stream, AppendOutcome::Success { matched: Some(id(1, 6)) });
            }),
        ),
        (
            "that waits to try again",
            with(|stream| {
                step(stream, StreamInput::Wake);
                let epoch = stream.epoch();
                step(stream, StreamInput::Failed { epoch });
            }),
        ),
        (
            "whose target has another log",
            with(|stream| {
                step(stream, StreamInput::Wake);
                entries(stream, 5..5);
                answer(stream, AppendOutcome::Conflict { prev: id(1, 4), hint: Some(id(1, 2)) });
            }),
        ),
        ("whose target needs a snapshot", with(|stream| lacking(stream, id(1, 4)))),
        ("whose target is asked once more", with(|stream| lacking(stream, id(1, 1)))),
        (
            "whose target has the snapshot",
            with(|stream| {
                lacking(stream, id(1, 4));
                let response = InstallSnapshotResponse { from: identity(2), outcome: InstallOutcome::Installed };
                let epoch = stream.epoch();
                step(stream, StreamInput::SnapshotSent { epoch, last_log_id: id(1, 6), response });
            }),
        ),
        (
            "whose leadership is over",
            with(|stream| {
                step(stream, StreamInput::Wake);
                entries(stream, 5..5);
                answer(stream, AppendOutcome::HigherVote(vote::<Standard>(2, 2)));
            }),
        ),
    ]);
}

/// The target was found to lack something, and then it was looked at from the start: that it lacks something is all that is left.
#[test]
fn what_a_target_lacks_makes_a_difference() {
    let looked = |prev: u64| {
        let mut stream = stream_of(led::<Standard>(1, 1), prev + 1, tail(9, None), 1);
        step(&mut stream, StreamInput::Wake);
        entries(&mut stream, prev + 1..prev + 1);
        answer(&mut stream, AppendOutcome::Conflict { prev: id(1, prev), hint: Some(id(1, 1)) });
        words_of(&stream)
    };
    assert_ne!(looked(4), looked(5));
}

/// What the stream knows of the target's log stays known when a connection breaks.
#[test]
fn what_a_target_had_makes_a_difference() {
    let broken = |matched: u64| {
        let mut stream = stream_of(led::<Standard>(1, 1), matched + 1, tail(9, None), 1);
        step(&mut stream, StreamInput::Wake);
        entries(&mut stream, matched + 1..matched + 1);
        answer(&mut stream, AppendOutcome::Success { matched: Some(id(1, matched)) });
        answer(&mut stream, AppendOutcome::Success { matched: None });
        let epoch = stream.epoch();
        step(&mut stream, StreamInput::Failed { epoch });
        words_of(&stream)
    };
    assert_ne!(broken(4), broken(5));
}

#[test]
fn time_chance_and_names_of_epochs_are_left_out() {
    let mut late = stream_of(led::<Standard>(1, 1), 5, tail(9, None), 77);
    let later = Time::ZERO + Span::from_secs(9);
    late.step(later, StreamInput::Wake, &mut Vec::new());
    assert_eq!(words_of(&late), with(|stream| step(stream, StreamInput::Wake)));
    // The connection breaks again and again; each time it is an epoch more, and a longer wait.
    let broken = |times: usize| {
        let mut stream = stream();
        for _ in 0..times {
            let epoch = stream.epoch();
            step(&mut stream, StreamInput::Failed { epoch });
        }
        (stream.epoch(), stream.deadline(), words_of(&stream))
    };
    let ((epoch, deadline, words), (other_epoch, other_deadline, other_words)) = (broken(1), broken(4));
    assert!(epoch != other_epoch && deadline != other_deadline);
    assert_eq!(words, other_words);
}

#[test]
fn renamed_streams_have_renamed_words() {
    let of = |leader: u64| {
        let from = Identity { id: leader, incarnation: None };
        Stream::<Standard>::new(StreamConfig::default(), from, led::<Standard>(1, leader), 5, tail(9, None), 1)
    };
    assert_eq!(
        words_as(|id| id + 1, |words| of(1).canonical(words)),
        words_as(|id| *id, |words| of(2).canonical(words))
    );
    assert_ne!(words_of(&of(1)), words_of(&of(2)));
}
