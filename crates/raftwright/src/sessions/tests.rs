use super::*;
use proptest::prelude::*;

fn answer(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Judges, and remembers `text` if the command is new.
fn ask(table: &mut Sessions, index: LogIndex, id: SessionId, sequence: u64, settled: u64, text: &str) -> Verdict {
    let verdict = table.judge(index, id, sequence, settled);
    if verdict == Verdict::New {
        table.remember(id, sequence, answer(text));
    }
    verdict
}

#[test]
fn a_command_delivered_twice_gets_its_first_answer() {
    let mut table = Sessions::default();
    let id = table.open(1, 77);
    assert_eq!(ask(&mut table, 2, id, 1, 0, "one"), Verdict::New);
    assert_eq!(ask(&mut table, 3, id, 1, 0, "again"), Verdict::Repeated(answer("one")));
}

#[test]
fn a_pipelined_command_that_comes_late_is_still_new() {
    let mut table = Sessions::default();
    let id = table.open(1, 0);
    assert_eq!(ask(&mut table, 2, id, 5, 0, "five"), Verdict::New);
    assert_eq!(ask(&mut table, 3, id, 4, 0, "four"), Verdict::New);
    assert_eq!(ask(&mut table, 4, id, 5, 0, ""), Verdict::Repeated(answer("five")));
}

#[test]
fn what_its_client_has_settled_is_forgotten_and_never_applied_again() {
    let mut table = Sessions::default();
    let id = table.open(1, 0);
    for sequence in 1..=3 {
        ask(&mut table, 1 + sequence, id, sequence, 0, "x");
    }
    assert_eq!(ask(&mut table, 9, id, 4, 2, "x"), Verdict::New);
    assert_eq!(ask(&mut table, 10, id, 2, 0, "x"), Verdict::Forgotten);
    assert_eq!(ask(&mut table, 11, id, 3, 0, "x"), Verdict::Repeated(answer("x")));
    assert_eq!(ask(&mut table, 12, id, 5, u64::MAX, "x"), Verdict::New, "a command cannot settle itself");
}

#[test]
fn what_falls_out_of_the_window_is_forgotten() {
    let mut table = Sessions::default();
    let id = table.open(1, 0);
    ask(&mut table, 2, id, 1, 0, "x");
    assert_eq!(ask(&mut table, 3, id, SESSION_WINDOW, 0, "x"), Verdict::New);
    assert_eq!(ask(&mut table, 4, id, 1, 0, "x"), Verdict::Repeated(answer("x")));
    assert_eq!(ask(&mut table, 5, id, SESSION_WINDOW + 1, 0, "x"), Verdict::New);
    assert_eq!(ask(&mut table, 6, id, 1, 0, "x"), Verdict::Forgotten);
}

#[test]
fn the_session_that_was_used_the_longest_ago_goes_first() {
    let mut table = Sessions::default();
    let ids: Vec<SessionId> = (1..=SESSIONS_MAX as u64).map(|index| table.open(index, 0)).collect();
    let mut index = SESSIONS_MAX as u64 + 1;
    assert_eq!(ask(&mut table, index, ids[0], 1, 0, "x"), Verdict::New);
    index += 1;
    table.open(index, 0);
    assert_eq!(table.by_id.len(), SESSIONS_MAX);
    assert_eq!(table.judge(index + 1, ids[1], 1, 0), Verdict::Expired);
    assert_eq!(table.judge(index + 2, ids[0], 1, 0), Verdict::Repeated(answer("x")));
}

#[test]
fn an_expired_session_never_comes_back() {
    let mut table = Sessions::default();
    let id = table.open(1, 5);
    for index in 2..=SESSIONS_MAX as u64 + 1 {
        table.open(index, 5);
    }
    assert_eq!(table.judge(10_000, id, 1, 0), Verdict::Expired);
    assert_eq!(table.judge(10_001, id, 1, 0), Verdict::Expired);
}

#[test]
fn the_bytes_of_all_answers_are_bounded() {
    let big = Bytes::from(vec![0; SESSION_BYTES_MAX / 4]);
    let mut table = Sessions::default();
    let (old, new) = (table.open(1, 0), table.open(2, 0));
    assert_eq!(table.judge(3, old, 1, 0), Verdict::New);
    table.remember(old, 1, big.clone());
    for sequence in 1..=8 {
        assert_eq!(table.judge(3 + sequence, new, sequence, 0), Verdict::New);
        table.remember(new, sequence, big.clone());
        assert!(table.bytes <= SESSION_BYTES_MAX);
    }
    assert_eq!(table.judge(20, old, 2, 0), Verdict::Expired);
    assert_eq!(table.judge(21, new, 1, 0), Verdict::Forgotten);
    assert_eq!(table.judge(22, new, 8, 0), Verdict::Repeated(big));
}

#[test]
fn an_impossible_image_is_refused() {
    let image = |sessions| Sessions::from_image(SessionsImage { sessions });
    let session = |id, used, floor, answers| SessionImage { id: SessionId(id), used, floor, answers };
    assert!(image(vec![session(1, 1, 0, vec![(1, &b"x"[..])])]).is_some());
    assert!(image(vec![session(1, 1, 1, vec![(1, &b"x"[..])])]).is_none(), "an answer below the floor");
    assert!(image(vec![session(1, 1, 0, vec![]), session(1, 2, 0, vec![])]).is_none(), "a session twice");
    assert!(image(vec![session(1, 1, 0, vec![]), session(2, 1, 0, vec![])]).is_none(), "two uses at one index");
    let many = |count: u64| image((1..=count).map(|id| session(u128::from(id), id, 0, vec![])).collect());
    assert!(many(SESSIONS_MAX as u64).is_some());
    assert!(many(SESSIONS_MAX as u64 + 1).is_none(), "more sessions than there may be");
    let half = vec![0; SESSION_BYTES_MAX / 2];
    let long = |id: u128| session(id, id as u64, 0, vec![(1, &half[..])]);
    assert!(image(vec![long(1)]).is_some());
    assert!(image(vec![long(1), long(2)]).is_none(), "more bytes than there may be");
}

/// Whatever a table holds within its own bounds, its image is within the image's.
#[test]
fn no_table_is_longer_than_its_image_may_be() {
    let bytes = |sessions: Vec<SessionImage<'_>>| postcard::to_allocvec(&SessionsImage { sessions }).unwrap().len();
    let long = vec![0xff; 1 << 20];
    let longest = |answers| SessionImage { id: SessionId(u128::MAX), used: u64::MAX, floor: u64::MAX, answers };
    let nothing = bytes(vec![]);
    let session = bytes(vec![longest(vec![])]) - nothing;
    let answer = bytes(vec![longest(vec![(u64::MAX, &long)])]) - nothing - session;
    // The numbers of sessions and of answers are written with the bytes of the largest there are.
    let number = 10;
    assert!(answer <= cost(&Bytes::from(long)), "{answer}");
    let all = number + SESSIONS_MAX * (session + number) + SESSION_BYTES_MAX;
    assert!(all as u64 <= IMAGE_BYTES_MAX, "{all}");
}

proptest! {
    /// Against the plainest model there is: whatever is delivered, in whatever order and however often, nothing is
    /// applied twice; and a table that went through a snapshot in the middle judges as the one that did not.
    #[test]
    fn nothing_is_applied_twice_and_snapshots_change_nothing(
        deliveries in prop::collection::vec((0usize..3, 1u64..40, 0u64..40), 0..200),
        cut in 0usize..200,
    ) {
        let mut table = Sessions::default();
        let ids: Vec<SessionId> = (1..=3).map(|index| table.open(index, index * 31)).collect();
        let mut applied = std::collections::BTreeSet::new();
        for (at, (session, sequence, settled)) in deliveries.into_iter().enumerate() {
            if at == cut {
                let bytes = crate::encode(&table.image()).unwrap();
                let image: SessionsImage<'_> = postcard::from_bytes(&bytes).unwrap();
                let restored = Sessions::from_image(image).unwrap();
                prop_assert_eq!(&restored, &table);
                table = restored;
            }
            let text = format!("{session}.{sequence}");
            match ask(&mut table, 10 + at as u64, ids[session], sequence, settled, &text) {
                Verdict::New => prop_assert!(applied.insert((session, sequence)), "applied twice"),
                Verdict::Repeated(stored) => {
                    prop_assert!(applied.contains(&(session, sequence)));
                    prop_assert_eq!(stored, answer(&text));
                }
                Verdict::Forgotten => {}
                Verdict::Expired => prop_assert!(false, "no session was evicted"),
            }
        }
        let total: usize = table.by_id.values().flat_map(|s| s.answers.values()).map(cost).sum();
        prop_assert_eq!(total, table.bytes);
    }
}
