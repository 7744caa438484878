//! The linearizability checker against histories of known verdict, against every order, and against an independent
//! checker from the registry.

#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)] // a test fails by panicking

use raftwright_sim::lin::{Checker, History, KvModel, KvOp, KvRet, Model, Operation, Outcome, Verdict};
use raftwright_sim::world::Rng;

type Op = KvOp<char, u32>;
type Ret = KvRet<u32>;
type Kv = KvModel<char, u32>;

fn put(key: char, value: u32) -> Op {
    KvOp::Put { key, value }
}
fn get(key: char) -> Op {
    KvOp::Get { key }
}
fn delete(key: char) -> Op {
    KvOp::Delete { key }
}
fn cas(key: char, expected: Option<u32>, new: Option<u32>) -> Op {
    KvOp::CompareAndSet { key, expected, new }
}
fn saw(value: u32) -> Ret {
    KvRet::Value(Some(value))
}
const NOTHING: Ret = KvRet::Value(None);
const DONE: Ret = KvRet::Done;

/// A history from lines `(call, return, what was asked, what was answered)`; without a return the outcome is unknown.
fn history(lines: &[(u64, Option<u64>, Op, Ret)]) -> History<Op, Ret> {
    let mut history = History::new();
    for (client, (invoked, returned, op, ret)) in lines.iter().enumerate() {
        let outcome = match returned {
            Some(at) => Outcome::Returned { at: *at, ret: ret.clone() },
            None => Outcome::Unknown,
        };
        history.push(Operation { client: client as u64, invoked: *invoked, op: op.clone(), outcome });
    }
    history
}

fn verdict(lines: &[(u64, Option<u64>, Op, Ret)]) -> Verdict {
    Checker::default().check::<Kv>(&history(lines)).0
}

#[track_caller]
fn linearizable(lines: &[(u64, Option<u64>, Op, Ret)]) {
    assert_eq!(verdict(lines), Verdict::Linearizable);
}

#[track_caller]
fn not_linearizable(lines: &[(u64, Option<u64>, Op, Ret)], culprit: usize) {
    match verdict(lines) {
        Verdict::NotLinearizable(violation) => assert_eq!(violation.operation.0, culprit, "{}", violation.explanation),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_empty_history_and_a_sequential_one_are_linearizable() {
    linearizable(&[]);
    linearizable(&[
        (0, Some(1), get('x'), NOTHING),
        (2, Some(3), put('x', 1), DONE),
        (4, Some(5), get('x'), saw(1)),
        (6, Some(7), delete('x'), DONE),
        (8, Some(9), get('x'), NOTHING),
        (10, Some(11), cas('x', None, Some(4)), KvRet::Swapped),
        (12, Some(13), cas('x', Some(3), Some(5)), KvRet::Mismatch(Some(4))),
        (14, Some(15), get('x'), saw(4)),
    ]);
}

#[test]
fn a_read_after_a_write_must_see_it() {
    not_linearizable(&[(0, Some(1), put('x', 1), DONE), (2, Some(3), get('x'), NOTHING)], 1);
}

#[test]
fn a_read_during_a_write_may_see_either() {
    linearizable(&[(0, Some(9), put('x', 1), DONE), (2, Some(3), get('x'), NOTHING)]);
    linearizable(&[(0, Some(9), put('x', 1), DONE), (2, Some(3), get('x'), saw(1))]);
}

/// Once anybody saw the new value, nobody may see the old one.
#[test]
fn new_then_old_is_forbidden_even_during_the_write() {
    not_linearizable(
        &[(0, Some(9), put('x', 1), DONE), (2, Some(3), get('x'), saw(1)), (4, Some(5), get('x'), NOTHING)],
        2,
    );
}

/// Both reads of the pair are fine alone; together they demand two orders of the same two writes.
#[test]
fn two_readers_must_agree_on_the_order_of_concurrent_writes() {
    not_linearizable(
        &[
            (0, Some(3), put('x', 1), DONE),
            (0, Some(3), put('x', 2), DONE),
            (4, Some(5), get('x'), saw(1)),
            (6, Some(7), get('x'), saw(2)),
        ],
        3,
    );
}

#[test]
fn a_value_that_nobody_wrote_is_found() {
    not_linearizable(&[(0, Some(1), put('x', 1), DONE), (0, Some(5), get('x'), saw(7))], 1);
}

#[test]
fn keys_are_independent() {
    linearizable(&[(0, Some(1), put('x', 1), DONE), (2, Some(3), get('y'), NOTHING)]);
    not_linearizable(
        &[
            (0, Some(1), put('x', 1), DONE),
            (0, Some(1), put('y', 1), DONE),
            (2, Some(3), get('x'), saw(1)),
            (2, Some(3), get('y'), NOTHING),
        ],
        3,
    );
}

#[test]
fn a_write_of_unknown_outcome_may_happen_late_or_never() {
    let unknown = (0, None, put('x', 1), DONE);
    linearizable(&[unknown.clone(), (100, Some(101), get('x'), NOTHING), (102, Some(103), get('x'), saw(1))]);
    linearizable(&[unknown.clone(), (100, Some(101), get('x'), NOTHING), (102, Some(103), get('x'), NOTHING)]);
    // But not twice.
    not_linearizable(
        &[unknown, (2, Some(3), get('x'), saw(1)), (4, Some(5), put('x', 2), DONE), (6, Some(7), get('x'), saw(1))],
        3,
    );
}

#[test]
fn a_write_of_unknown_outcome_does_not_happen_before_its_call() {
    not_linearizable(&[(0, Some(1), get('x'), saw(1)), (2, None, put('x', 1), DONE)], 0);
}

#[test]
fn only_one_of_two_equal_swaps_can_succeed() {
    not_linearizable(
        &[(0, Some(9), cas('x', None, Some(1)), KvRet::Swapped), (0, Some(9), cas('x', None, Some(2)), KvRet::Swapped)],
        1,
    );
    linearizable(&[
        (0, Some(9), cas('x', None, Some(1)), KvRet::Swapped),
        (0, Some(9), cas('x', None, Some(2)), KvRet::Mismatch(Some(1))),
    ]);
}

/// The lost update: both read 0 and both believe that they were the one to add.
#[test]
fn a_swap_that_forgets_another_one_is_found() {
    not_linearizable(
        &[
            (0, Some(1), put('x', 0), DONE),
            (2, Some(5), cas('x', Some(0), Some(1)), KvRet::Swapped),
            (3, Some(6), cas('x', Some(0), Some(2)), KvRet::Swapped),
        ],
        2,
    );
}

/// The stale read of a deposed leader (Thesis §6.4).
#[test]
fn a_read_served_by_a_deposed_leader_is_found() {
    not_linearizable(
        &[
            (0, Some(10), put('x', 1), DONE),
            (20, Some(30), put('x', 2), DONE),
            (25, None, put('x', 3), DONE),
            (31, Some(40), get('x'), saw(1)),
        ],
        3,
    );
}

/// An acknowledged write that a power cut took: the read is explained by no write of unknown outcome.
#[test]
fn a_lost_acknowledged_write_is_found() {
    not_linearizable(
        &[(0, Some(1), put('x', 1), DONE), (2, Some(3), put('x', 2), DONE), (10, Some(11), get('x'), saw(1))],
        2,
    );
}

/// Enough operations to overflow a thread's stack, were the search to recurse, and enough clients to overlap.
#[test]
fn a_long_history_with_many_unknown_outcomes_is_decided() {
    let mut long = History::new();
    for at in 0..40_000_u64 {
        let value = at as u32;
        let outcome = |ret| Outcome::Returned { at: at * 10 + 15, ret };
        long.push(Operation { client: 1, invoked: at * 10, op: put('x', value), outcome: outcome(DONE) });
        if at % 1_000 == 500 {
            long.push(Operation {
                client: 2,
                invoked: at * 10,
                op: put('x', value + 1_000_000),
                outcome: Outcome::Unknown,
            });
        }
        let read = Outcome::Returned { at: at * 10 + 19, ret: saw(value) };
        long.push(Operation { client: 3, invoked: at * 10 + 16, op: get('x'), outcome: read });
    }
    // The write that follows overlaps the read, which may see either; here it always sees the older one.
    let (verdict, stats) = Checker::default().check::<Kv>(&long);
    assert_eq!(verdict, Verdict::Linearizable);
    assert_eq!((stats.operations, stats.keys), (80_000, 1));
}

/// Writes of unknown outcome that explain nothing must not make the search try all their subsets.
#[test]
fn many_writes_of_unknown_outcome_do_not_make_a_search_hard() {
    let mut lines: Vec<_> = (0..200).map(|value| (0, None, put('x', value), DONE)).collect();
    lines.push((1, Some(2), get('x'), saw(199)));
    lines.push((3, Some(4), get('x'), saw(7)));
    lines.push((5, Some(6), get('x'), saw(999)));
    let (verdict, stats) = Checker::default().check::<Kv>(&history(&lines));
    assert!(matches!(verdict, Verdict::NotLinearizable(violation) if violation.operation.0 == 202));
    assert!(stats.configurations < 2_000, "{stats:?}");
}

#[test]
fn a_search_that_is_too_hard_is_given_up_and_says_so() {
    // A chain of swaps of unknown outcome, each of which makes the next one possible.
    let mut lines: Vec<_> = (0..40).map(|value| (0, None, cas('x', Some(value), Some(value + 1)), DONE)).collect();
    lines.push((0, Some(1), put('x', 0), DONE));
    lines.push((2, Some(3), get('x'), saw(99)));
    let (verdict, _) = Checker::with_limit(20).check::<Kv>(&history(&lines));
    assert_eq!(verdict, Verdict::GaveUp { key: "'x'".to_owned() });
}

/// A random history of few operations on one key. Answers are guessed with some sense, so that both verdicts are common.
fn random_history(rng: &mut Rng, unknowns: bool) -> History<Op, Ret> {
    let mut made = History::new();
    let operations = rng.between(2, 6);
    for client in 0..operations {
        let invoked = rng.below(12);
        let at = invoked + 1 + rng.below(6);
        let value = rng.below(3) as u32;
        let guess = match rng.below(4) {
            0 => None,
            other => Some(other as u32 - 1),
        };
        let (op, ret) = match rng.below(6) {
            0 | 1 => (put('x', value), DONE),
            2 => (delete('x'), DONE),
            3 => (
                cas('x', guess, Some(value)),
                if rng.one_in(2) { KvRet::Swapped } else { KvRet::Mismatch(guess.map(|v| (v + 1) % 3)) },
            ),
            _ => (get('x'), KvRet::Value(guess)),
        };
        let outcome = if unknowns && rng.one_in(4) { Outcome::Unknown } else { Outcome::Returned { at, ret } };
        made.push(Operation { client, invoked, op, outcome });
    }
    made
}

/// The definition, spelled out: some subset of the operations that holds all with known outcome, in some order that
/// keeps the order of non-overlapping ones, is a run of the model. Tries them all.
fn linearizable_by_definition(operations: &[Operation<Op, Ret>]) -> bool {
    fn extend(operations: &[Operation<Op, Ret>], placed: &mut Vec<bool>, state: &Option<u32>) -> bool {
        let known_left = operations
            .iter()
            .zip(placed.iter())
            .any(|(operation, placed)| !placed && operation.outcome != Outcome::Unknown);
        if !known_left {
            return true;
        }
        for next in 0..operations.len() {
            if placed[next] {
                continue;
            }
            // It may come next only if nothing that is not placed yet returned before its call.
            let preceded = operations.iter().zip(placed.iter()).any(|(other, placed)| match &other.outcome {
                Outcome::Returned { at, .. } => !placed && *at < operations[next].invoked,
                Outcome::Unknown => false,
            });
            if preceded {
                continue;
            }
            let ret = match &operations[next].outcome {
                Outcome::Returned { ret, .. } => Some(ret),
                Outcome::Unknown => None,
            };
            if let Some(after) = Kv::apply(state, &operations[next].op, ret) {
                placed[next] = true;
                if extend(operations, placed, &after) {
                    return true;
                }
                placed[next] = false;
            }
        }
        false
    }
    extend(operations, &mut vec![false; operations.len()], &None)
}

#[test]
fn the_checker_agrees_with_the_definition_on_random_histories() {
    let mut rng = Rng::new(2026);
    let mut verdicts = [0_u32; 2];
    for round in 0..20_000 {
        let made = random_history(&mut rng, true);
        let expected = linearizable_by_definition(made.operations());
        let (verdict, _) = Checker::default().check::<Kv>(&made);
        assert_eq!(verdict.is_linearizable(), expected, "round {round}: {made:#?}\n{verdict:?}");
        verdicts[usize::from(expected)] += 1;
    }
    // Both verdicts must be common, or the agreement says nothing.
    assert!(verdicts.iter().all(|count| *count > 2_000), "{verdicts:?}");
}

mod independent {
    //! `todc-utils`, a checker by other people on the form of the algorithm by Horn and Kroening.

    use super::*;
    use todc_utils::linearizability::WGLChecker;
    use todc_utils::linearizability::history::{Action, History as TheirHistory};
    use todc_utils::specifications::Specification;

    struct Spec;

    impl Specification for Spec {
        type State = Option<u32>;
        type Operation = (Op, Option<Ret>);

        fn init() -> Self::State {
            None
        }

        fn apply((op, ret): &Self::Operation, state: &Self::State) -> (bool, Self::State) {
            // The sequential object is written out once more, so that a slip in ours shows.
            let (next, answer) = match op {
                KvOp::Put { value, .. } => (Some(*value), KvRet::Done),
                KvOp::Delete { .. } => (None, KvRet::Done),
                KvOp::Get { .. } => (*state, KvRet::Value(*state)),
                KvOp::CompareAndSet { expected, new, .. } => {
                    if expected == state {
                        (*new, KvRet::Swapped)
                    } else {
                        (*state, KvRet::Mismatch(*state))
                    }
                }
            };
            if ret.as_ref() == Some(&answer) { (true, next) } else { (false, *state) }
        }
    }

    fn verdict(history: &History<Op, Ret>) -> bool {
        let mut events = Vec::new();
        for (process, operation) in history.operations().iter().enumerate() {
            let Outcome::Returned { at, ret } = &operation.outcome else { panic!("their histories are complete") };
            events.push((operation.invoked, false, (process, Action::Call((operation.op.clone(), None)))));
            events.push((*at, true, (process, Action::Response((operation.op.clone(), Some(ret.clone()))))));
        }
        events.sort_by_key(|(at, is_return, _)| (*at, *is_return));
        WGLChecker::<Spec>::is_linearizable(TheirHistory::from_actions(
            events.into_iter().map(|event| event.2).collect(),
        ))
    }

    /// A longer history of a map that mostly behaves: answers are those of a real one at a moment within the
    /// operation, but for a few.
    fn plausible_history(rng: &mut Rng) -> History<Op, Ret> {
        let wrong_in = if rng.one_in(2) { 0 } else { 25 };
        let mut state = None;
        let mut made = History::new();
        for moment in 0..30_u64 {
            let value = rng.below(4) as u32;
            let (op, ret) = match rng.below(5) {
                0 => (put('x', value), DONE),
                1 => (delete('x'), DONE),
                2 => {
                    let expected = if rng.one_in(3) { Some(value) } else { state };
                    (
                        cas('x', expected, Some(value + 1)),
                        if expected == state { KvRet::Swapped } else { KvRet::Mismatch(state) },
                    )
                }
                _ => (get('x'), KvRet::Value(if rng.one_in(wrong_in) { Some(value) } else { state })),
            };
            state = Kv::apply(&state, &op, None).expect("unknown answers are always possible");
            let moment = 100 + moment * 10;
            let (invoked, at) = (moment - rng.below(40), moment + 1 + rng.below(40));
            made.push(Operation { client: moment, invoked, op, outcome: Outcome::Returned { at, ret } });
        }
        made
    }

    #[test]
    fn the_two_checkers_agree() {
        let mut rng = Rng::new(7);
        let mut verdicts = [0_u32; 2];
        for round in 0..2_000 {
            let made = if round % 2 == 0 { random_history(&mut rng, false) } else { plausible_history(&mut rng) };
            let expected = verdict(&made);
            let (ours, _) = Checker::default().check::<Kv>(&made);
            assert_eq!(ours.is_linearizable(), expected, "round {round}: {made:#?}\n{ours:?}");
            verdicts[usize::from(expected)] += 1;
        }
        assert!(verdicts.iter().all(|count| *count > 200), "{verdicts:?}");
    }
}
