//! Applying.

use super::{Check, list};
use crate::testing::builder::StoreBuilder;
use crate::testing::trial::{Checked, Trial, ensure};
use crate::{RaftEntry, RaftStateMachine, RaftTypeConfig};

pub(super) fn checks<C: RaftTypeConfig, B: StoreBuilder<C>>() -> Vec<Check<C, B>> {
    list![Machine:
        a_blank_entry_is_answered,
        an_ordinary_entry_is_answered,
        a_membership_entry_is_answered,
        entries_of_every_kind_are_answered_one_by_one,
        applying_nothing_gives_no_answer,
        the_applied_state_follows_every_entry,
        the_applied_membership_is_the_last_one,
        an_applied_membership_keeps_both_sets_and_learners,
        the_same_entries_give_the_same_answers,
        batches_make_no_difference,
    ]
}

/// The answer to a new leader's blank entry has nobody to go to, and is counted all the same.
async fn a_blank_entry_is_answered<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.apply(vec![t.blank(1, 1)]).await?;
    t.turn().await?;
    t.machine_agrees().await
}

/// What a client asked has one answer.
async fn an_ordinary_entry_is_answered<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.apply(t.normals(1, [1])).await?;
    t.turn().await?;
    t.machine_agrees().await
}

/// A membership entry has one answer, and becomes the membership.
async fn a_membership_entry_is_answered<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.apply(vec![t.membership_entry(1, 1, &[1, 2, 3])?]).await?;
    t.turn().await?;
    t.machine_agrees().await
}

/// A batch of every kind has as many answers as entries: a missing one would give a client the answer of another.
async fn entries_of_every_kind_are_answered_one_by_one<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    t.apply(t.mixed(&[1, 1, 1, 1, 1, 2, 2, 2, 2, 2])?).await?;
    t.turn().await?;
    t.machine_agrees().await
}

/// An empty batch has no answers and changes nothing.
async fn applying_nothing_gives_no_answer<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.apply(Vec::new()).await?;
    t.machine_agrees().await?;
    t.apply(t.normals(1, 1..=2)).await?;
    t.apply(Vec::new()).await?;
    t.turn().await?;
    t.machine_agrees().await
}

/// The applied state names the last entry applied, of whatever kind it is.
async fn the_applied_state_follows_every_entry<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    for entry in t.mixed(&[1, 1, 1, 2, 2, 5, 5, 5])? {
        t.apply(vec![entry]).await?;
        t.turn().await?;
        t.machine_agrees().await?;
    }
    Ok(())
}

/// Of several memberships the last one counts, under its own log id, and entries behind it do not move it.
async fn the_applied_membership_is_the_last_one<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    let first = t.membership_entry(1, 1, &[1])?;
    let second = t.membership_entry(1, 3, &[1, 2, 3])?;
    t.apply(vec![first, t.normal(1, 2), second, t.normal(1, 4), t.blank(2, 5)]).await?;
    t.turn().await?;
    t.machine_agrees().await
}

/// A joint membership with learners is kept whole.
async fn an_applied_membership_keeps_both_sets_and_learners<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    let joint = C::Entry::of_membership(t.id(1, 1), t.members(&[&[1, 2, 3], &[3, 4, 5]], &[6, 9])?);
    t.apply(vec![joint]).await?;
    t.turn().await?;
    t.machine_agrees().await
}

/// Two state machines that apply the same entries give the same answers: whoever leads, clients get the same.
async fn the_same_entries_give_the_same_answers<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    let entries = t.mixed(&[1, 1, 1, 1, 1, 2, 2, 2, 2, 2])?;
    let mut other = t.another().await?;
    let (one, two) = (t.apply(entries.clone()).await?, other.apply(entries).await?);
    ensure!(one == two, "the same entries are answered {one:?} and {two:?}");
    let (one, two) = (t.machine()?.applied_state().await?, other.machine()?.applied_state().await?);
    ensure!(one == two, "the same entries lead to the applied states {one:?} and {two:?}");
    Ok(())
}

/// How entries are cut into batches is up to each node, and changes neither answers nor state.
async fn batches_make_no_difference<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    let entries = t.mixed(&[1, 1, 1, 1, 1, 2, 2, 2, 2, 2])?;
    let mut other = t.another().await?;
    let whole = t.apply(entries.clone()).await?;
    let mut parts = Vec::new();
    for batch in entries.chunks(3) {
        parts.extend(other.apply(batch.to_vec()).await?);
    }
    ensure!(whole == parts, "one batch is answered {whole:?}, and several {parts:?}");
    let more = t.normals(3, [11]);
    let (one, two) = (t.apply(more.clone()).await?, other.apply(more).await?);
    ensure!(one == two, "after one batch and after several, the same entry is answered {one:?} and {two:?}");
    Ok(())
}
