//! What new stores hold: nothing.

use super::{Check, list};
use crate::testing::builder::StoreBuilder;
use crate::testing::trial::{Checked, Trial, ensure};
use crate::{LogState, RaftLogReader, RaftLogStorage, RaftStateMachine, RaftTypeConfig, StoredMembership};

pub(super) fn checks<C: RaftTypeConfig, B: StoreBuilder<C>>() -> Vec<Check<C, B>> {
    let mut checks = list![Log:
        a_new_log_is_empty,
        a_new_log_has_no_vote,
        a_new_log_has_no_committed_hint,
        reads_of_a_new_log_give_nothing,
        an_incarnation_stays_and_is_unlike_any_other,
    ];
    checks.extend(list![Machine: a_new_state_machine_has_applied_nothing, a_new_state_machine_has_no_snapshot]);
    checks
}

/// A new log has neither a last nor a last purged log id.
async fn a_new_log_is_empty<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.turn().await?;
    let LogState { last_purged_log_id, last_log_id, incarnation: _ } = t.log()?.get_log_state().await?;
    ensure!(last_log_id.is_none(), "a new log has the last log id {last_log_id:?}");
    ensure!(last_purged_log_id.is_none(), "a new log is purged up to {last_purged_log_id:?}");
    Ok(())
}

/// No vote is another thing than a vote of term 0: a server that has lost its vote must not take itself for a new one.
async fn a_new_log_has_no_vote<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.turn().await?;
    let vote = t.log()?.read_vote().await?;
    ensure!(vote.is_none(), "a new log has the vote {vote:?}");
    Ok(())
}

/// Nothing is committed in a new log.
async fn a_new_log_has_no_committed_hint<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.turn().await?;
    let hint = t.log()?.read_committed().await?;
    ensure!(hint.is_none(), "a new log takes {hint:?} for committed");
    Ok(())
}

/// Reading what is not there is no error, and gives nothing.
async fn reads_of_a_new_log_give_nothing<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.turn().await?;
    for found in [
        t.log()?.try_get_log_entries(..).await?,
        t.log()?.try_get_log_entries(0..5).await?,
        t.log()?.try_get_log_entries(1..=1).await?,
        t.log()?.limited_get_log_entries(1, 5, 1000).await?,
    ] {
        ensure!(found.is_empty(), "a new log has {found:?}");
    }
    let missing = t.log()?.log_id_at(1).await;
    ensure!(missing.is_err(), "the missing entry 1 has the log id {missing:?}");
    Ok(())
}

/// An incarnation, if the store has one, is the same at every start, and another one for every new store.
async fn an_incarnation_stays_and_is_unlike_any_other<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    let first = t.log()?.get_log_state().await?.incarnation;
    t.append_mixed(&[1, 1])?;
    t.turn().await?;
    let then = t.log()?.get_log_state().await?.incarnation;
    ensure!(first == then, "the incarnation was {first:?} and is {then:?}");
    let mut other = t.another().await?;
    let other = other.log()?.get_log_state().await?.incarnation;
    ensure!(first.is_none() || first != other, "two stores have the same incarnation {first:?}");
    Ok(())
}

/// A new state machine starts before the first entry, with no membership.
async fn a_new_state_machine_has_applied_nothing<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    t.turn().await?;
    let (applied, membership) = t.machine()?.applied_state().await?;
    ensure!(applied.is_none(), "a new state machine says that it has applied up to {applied:?}");
    ensure!(membership == StoredMembership::<C>::default(), "a new state machine has the membership {membership:?}");
    Ok(())
}

/// There is no snapshot before one is built or installed.
async fn a_new_state_machine_has_no_snapshot<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.turn().await?;
    let current = t.machine()?.get_current_snapshot().await?;
    ensure!(current.is_none(), "a new state machine has a snapshot of {:?}", current.map(|snapshot| snapshot.meta));
    Ok(())
}
