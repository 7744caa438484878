//! Power losses, on media that offer them. The power goes at the very moment at which a token is completed: a store that
//! completes it before its sync has lost the write.

use super::{Check, list};
use crate::RaftTypeConfig;
use crate::testing::builder::{Loss, StoreBuilder};
use crate::testing::model::{Model, Op};
use crate::testing::trial::{Checked, Failure, Trial, ensure};

/// How often a loss of a part of what is unsynced is tried for each write.
const SEEDS: u64 = 3;

pub(super) fn checks<C: RaftTypeConfig, B: StoreBuilder<C>>() -> Vec<Check<C, B>> {
    list![Power:
        a_completed_write_survives_a_power_loss_at_that_moment,
        a_power_loss_leaves_a_prefix_of_what_was_submitted,
        a_power_loss_with_nothing_under_way_changes_nothing,
        what_a_start_reports_survives_the_next_power_loss,
        a_log_goes_on_after_a_power_loss,
        after_a_failed_sync_no_write_succeeds,
    ]
}

/// Writes of every kind, among them some that take each other's effect away.
fn history<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &Trial<C, B>) -> Vec<Op<C>> {
    let normals = |term, first, last| Op::Append(t.normals(term, first..=last));
    vec![
        Op::Vote(t.vote(1, 1)),
        Op::Vote(t.vote(1, 1).commit()),
        normals(1, 1, 3),
        normals(1, 4, 4),
        Op::Append(vec![t.blank(1, 5)]),
        normals(1, 6, 10),
        Op::Vote(t.vote(2, 2)),
        Op::Truncate(8),
        Op::Vote(t.vote(3, 3).commit()),
        normals(3, 8, 9),
        Op::Purge(t.id(1, 3)),
        normals(3, 10, 12),
        Op::Truncate(11),
        normals(3, 11, 11),
        Op::Purge(t.id(3, 9)),
        Op::Vote(t.vote(4, 1)),
        Op::Purge(t.id(4, 30)),
        normals(4, 31, 33),
        Op::Truncate(31),
        Op::Vote(t.vote(5, 2).commit()),
        normals(5, 31, 36),
        normals(5, 37, 37),
    ]
}

/// Every way in which a write may be lost.
fn losses() -> impl Iterator<Item = Loss> {
    std::iter::once(Loss::Everything).chain((0..SEEDS).map(|seed| Loss::Part { seed }))
}

/// The log that is left must be one of these: the log after at least `least` of the writes.
fn is_one_of<C: RaftTypeConfig>(states: &[Model<C>], least: usize, found: &Model<C>) -> Checked {
    let possible = states.get(least..).unwrap_or_default();
    if possible.iter().any(|state| state.difference(found).is_none()) {
        return Ok(());
    }
    let difference = possible.first().and_then(|state| state.difference(found)).unwrap_or_default();
    Err(Failure(format!(
        "the first {least} of {} writes were completed, and what is left is not the log after these, nor after any more \
         of them: compared with these, {difference}",
        states.len().saturating_sub(1)
    )))
}

/// Runs writes one after the other, or all at once, cuts the power when one is completed, and opens the log again. The
/// first number is how many writes were completed when the power went, in the order of submission.
async fn crash<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
    ops: &[Op<C>],
    cut_at: usize,
    loss: Loss,
    all_at_once: bool,
) -> Checked<(usize, Model<C>)> {
    t.cut_power_at(cut_at, loss);
    for op in ops {
        t.submit(op.clone())?;
        if !all_at_once {
            t.recorder().told_of(t.history.len()).await;
        }
        if t.recorder().told_at_cut().is_some() {
            break;
        }
    }
    t.recorder().told_of(t.history.len()).await;
    let Some(told) = t.recorder().told_at_cut() else {
        return Err(Failure(format!("write {cut_at} failed, with nothing wrong around it: {:?}", t.recorder().told())));
    };
    let failed = told.iter().find(|(_, result)| result.is_err());
    ensure!(failed.is_none(), "before the power loss, a write failed: {failed:?}");
    let completed = told.iter().map(|(write, _)| write.0 as usize + 1).max().unwrap_or_default();
    t.reopen().await?;
    let found = Model::of(t.log()?).await?;
    Ok((completed, found))
}

/// Every write in turn, the power going when its token is completed: it is there, and so is all before it.
async fn a_completed_write_survives_a_power_loss_at_that_moment<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    let ops = history(t);
    let states = Model::states(&ops);
    for cut_at in 0..ops.len() {
        for loss in losses() {
            let mut one = t.another().await?;
            let (completed, found) = crash(&mut one, &ops, cut_at, loss, false).await?;
            is_one_of(states.get(..=cut_at + 1).unwrap_or_default(), completed, &found)?;
        }
    }
    Ok(())
}

/// With all writes under way at once, what is left is the log after some number of them, in their order, and at least
/// after those that were completed.
async fn a_power_loss_leaves_a_prefix_of_what_was_submitted<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    let ops = history(t);
    let states = Model::states(&ops);
    for cut_at in 0..ops.len() {
        for loss in losses() {
            let mut one = t.another().await?;
            let (completed, found) = crash(&mut one, &ops, cut_at, loss, true).await?;
            is_one_of(&states, completed, &found)?;
        }
    }
    Ok(())
}

/// What is durable stays, whenever the power goes.
async fn a_power_loss_with_nothing_under_way_changes_nothing<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    for op in history(t) {
        t.submit(op)?;
    }
    t.settled().await?;
    for loss in losses() {
        t.cut_power(loss);
        t.reopen().await?;
        t.agrees().await?;
    }
    Ok(())
}

/// A start may find writes that nobody was told of. Once it has reported them, they are durable: the node answers for them.
async fn what_a_start_reports_survives_the_next_power_loss<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    let ops = history(t);
    for cut_at in [0, 3, 6, 9, 12, 15, 18] {
        for seed in 0..SEEDS {
            let mut one = t.another().await?;
            let (_, reported) = crash(&mut one, &ops, cut_at, Loss::Part { seed }, true).await?;
            one.cut_power(Loss::Everything);
            one.reopen().await?;
            let found = Model::of(one.log()?).await?;
            let difference = reported.difference(&found);
            ensure!(difference.is_none(), "at the next start, {}", difference.unwrap_or_default());
        }
    }
    Ok(())
}

/// What a power loss has left takes writes again, and keeps them.
async fn a_log_goes_on_after_a_power_loss<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    let ops = history(t);
    for cut_at in 0..ops.len() {
        let mut one = t.another().await?;
        let (_, found) = crash(&mut one, &ops, cut_at, Loss::Part { seed: cut_at as u64 }, true).await?;
        one.go_on_from(found);
        one.append_mixed(&[20, 20, 21])?;
        one.submit(Op::Vote(one.vote(22, 1)))?;
        one.settled().await?;
        one.agrees().await?;
        one.cut_power(Loss::Everything);
        one.reopen().await?;
        one.agrees().await?;
    }
    Ok(())
}

/// A write whose sync failed is an error, and so is every later one: the media may have dropped what a second sync would
/// then claim to have written. What was completed before is still there at the next start.
async fn after_a_failed_sync_no_write_succeeds<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.append_mixed(&[1, 1, 1])?;
    t.settled().await?;
    let before = t.model.clone();
    let good = t.history.len();
    let Some(power) = t.power() else { return Ok(()) };
    if power.fail_next_sync().is_err() {
        return Ok(());
    }
    t.note("the next sync fails");
    t.append_mixed(&[1])?;
    t.recorder().told_of(t.history.len()).await;
    t.submit(Op::Vote(t.vote(2, 2)))?;
    t.recorder().told_of(t.history.len()).await;
    t.append_mixed(&[2])?;
    t.recorder().told_of(t.history.len()).await;
    let told = t.recorder().told();
    let succeeded = told.iter().skip(good).find(|(_, result)| result.is_ok());
    ensure!(succeeded.is_none(), "after a failed sync, write {:?} succeeds", succeeded.map(|(write, _)| write.0));
    let mut states = vec![before];
    for op in t.history.iter().skip(good) {
        let mut next = states.last().cloned().unwrap_or_default();
        next.apply(op);
        states.push(next);
    }
    t.cut_power(Loss::Everything);
    t.reopen().await?;
    let found = Model::of(t.log()?).await?;
    is_one_of(&states, 0, &found)
}
