//! The tokens that writes carry.

use super::{Check, list};
use crate::RaftTypeConfig;
use crate::testing::builder::StoreBuilder;
use crate::testing::model::Op;
use crate::testing::trial::{Checked, Trial, ensure};

/// Writes that are submitted without waiting for any of them.
const MANY: u64 = 300;

pub(super) fn checks<C: RaftTypeConfig, B: StoreBuilder<C>>() -> Vec<Check<C, B>> {
    list![Log:
        every_write_is_completed_once,
        completions_come_in_the_order_of_submission,
        a_write_is_completed_though_nothing_follows_it,
        many_writes_need_not_be_waited_for,
    ]
}

/// A write of every kind.
fn every_kind<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.append_mixed(&[1, 1, 1, 1, 1])?;
    t.submit(Op::Vote(t.vote(2, 2)))?;
    t.truncate(5)?;
    t.truncate(5)?;
    t.append_mixed(&[2, 2])?;
    t.purge(1, 2)?;
    t.purge(1, 1)?;
    t.submit(Op::Vote(t.vote(2, 2)))?;
    t.purge(2, 6)
}

/// Each write's token is completed exactly once, also of a write that changes nothing, and none is dropped.
async fn every_write_is_completed_once<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    every_kind(t)?;
    t.turn().await?;
    let told = t.recorder().told();
    for number in 0..t.history.len() as u64 {
        let count = told.iter().filter(|(write, _)| write.0 == number).count();
        ensure!(count == 1, "write {number} was told of {count} times");
    }
    t.agrees().await
}

/// Writes become durable in the order in which they were submitted, so this is the order in which they are completed.
async fn completions_come_in_the_order_of_submission<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    for _ in 0..20 {
        let term = t.model.vote.map_or(0, |vote| vote.term()) + 1;
        t.submit(Op::Vote(t.vote(term, 1)))?;
        t.append_mixed(&[term, term, term])?;
        let last = t.model.last.map_or(0, |last| last.index);
        t.truncate(last)?;
        t.purge(term, last - 1)?;
    }
    t.settled().await?;
    let told: Vec<u64> = t.recorder().told().into_iter().map(|(write, _)| write.0).collect();
    let overtaken = told.iter().zip(0..).find(|(write, expected)| **write != *expected);
    ensure!(overtaken.is_none(), "(write, place in the order of completions): {overtaken:?}");
    Ok(())
}

/// The last write of all is completed, too: a store must not wait for the next one.
async fn a_write_is_completed_though_nothing_follows_it<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    t.append_mixed(&[1])?;
    t.settled().await?;
    t.submit(Op::Vote(t.vote(2, 1)))?;
    t.settled().await?;
    t.truncate(1)?;
    t.settled().await?;
    t.purge(1, 5)?;
    t.turn().await?;
    t.agrees().await
}

/// Hundreds of writes may be under way.
async fn many_writes_need_not_be_waited_for<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    for number in 1..=MANY {
        t.append_mixed(&[1 + number / 10])?;
    }
    t.turn().await?;
    t.agrees().await
}
