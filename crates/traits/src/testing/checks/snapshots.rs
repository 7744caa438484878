//! Building, keeping, handing over and installing snapshots (Raft §7).

use super::{Check, list};
use crate::testing::builder::StoreBuilder;
use crate::testing::trial::{Checked, Failure, Trial, ensure};
use crate::{LogIdOf, LogIndex, RaftSnapshotBuilder, RaftStateMachine, RaftTypeConfig, SnapshotMeta, StoredMembership};

pub(super) fn checks<C: RaftTypeConfig, B: StoreBuilder<C>>() -> Vec<Check<C, B>> {
    list![Machine:
        a_snapshot_stands_for_what_was_applied,
        a_built_snapshot_is_the_current_one,
        a_current_snapshot_can_be_had_again_and_again,
        a_newer_snapshot_becomes_the_current_one,
        an_older_builder_does_not_displace_a_newer_snapshot,
        a_builder_sees_the_state_of_its_moment,
        building_a_snapshot_changes_no_state,
        a_snapshot_brings_another_machine_to_its_state,
        a_snapshot_carries_the_state_itself,
        a_snapshot_replaces_what_was_there,
        an_installed_snapshot_is_the_current_one,
        an_installed_snapshot_can_be_handed_on,
        entries_are_applied_on_top_of_a_snapshot,
        a_place_for_a_snapshot_can_be_asked_for_again,
    ]
}

/// Applies a membership at index 1 and ordinary entries up to `last`.
async fn apply_up_to<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>, last: LogIndex) -> Checked {
    let mut entries = vec![t.membership_entry(1, 1, &[1, 2, 3])?];
    entries.extend(t.normals(1, 2..=last));
    t.apply(entries).await.map(drop)
}

/// The snapshot says that it stands for this entry, and for the membership that [`apply_up_to`] has applied.
fn stands_for<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &Trial<C, B>,
    meta: &SnapshotMeta<C>,
    last: LogIndex,
    what: &str,
) -> Checked {
    let expected: Option<LogIdOf<C>> = Some(t.id(1, last));
    ensure!(meta.last_log_id == expected, "{what} is of {:?}, not of {expected:?}", meta.last_log_id);
    let membership = t.members(&[&[1, 2, 3]], &[])?;
    let expected = StoredMembership::<C> { log_id: Some(t.id(1, 1)), membership };
    ensure!(meta.last_membership == expected, "{what} has {:?}, not {expected:?}", meta.last_membership);
    Ok(())
}

async fn current<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked<SnapshotMeta<C>> {
    let current = t.machine()?.get_current_snapshot().await?;
    current.map(|snapshot| snapshot.meta).ok_or_else(|| Failure("there is no current snapshot".to_owned()))
}

/// Its last log id is that of the last entry applied, and its membership the last one at or before that.
async fn a_snapshot_stands_for_what_was_applied<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    apply_up_to(t, 6).await?;
    t.turn().await?;
    let snapshot = t.build_snapshot().await?;
    stands_for(t, &snapshot.meta, 6, "the built snapshot")
}

/// What was built is kept, also over the end of the process.
async fn a_built_snapshot_is_the_current_one<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    apply_up_to(t, 6).await?;
    let built = t.build_snapshot().await?.meta;
    t.turn().await?;
    let found = current(t).await?;
    ensure!(found == built, "the current snapshot is {found:?}, and {built:?} was built");
    Ok(())
}

/// Handing a snapshot out does not take it away: several servers may need it.
async fn a_current_snapshot_can_be_had_again_and_again<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    apply_up_to(t, 4).await?;
    t.build_snapshot().await?;
    t.turn().await?;
    let first = current(t).await?;
    for _ in 0..2 {
        let Some(snapshot) = t.machine()?.get_current_snapshot().await? else {
            return Err(Failure("the current snapshot could be had only once".to_owned()));
        };
        ensure!(snapshot.meta == first, "the current snapshot was {first:?} and is {:?}", snapshot.meta);
        let mut other = t.another().await?;
        other.install(snapshot).await?;
        other.machine_agrees().await?;
    }
    Ok(())
}

/// A later snapshot takes the place of an earlier one, under another id.
async fn a_newer_snapshot_becomes_the_current_one<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    apply_up_to(t, 4).await?;
    let first = t.build_snapshot().await?.meta;
    t.apply(t.normals(1, 5..=7)).await?;
    let second = t.build_snapshot().await?.meta;
    t.turn().await?;
    ensure!(first.snapshot_id != second.snapshot_id, "two snapshots have the id {:?}", first.snapshot_id);
    let found = current(t).await?;
    stands_for(t, &found, 7, "the current snapshot")
}

/// A builder that is late does not put its older snapshot in the place of a newer one.
async fn an_older_builder_does_not_displace_a_newer_snapshot<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    apply_up_to(t, 4).await?;
    let mut late = t.machine()?.get_snapshot_builder().await;
    t.apply(t.normals(1, 5..=7)).await?;
    t.build_snapshot().await?;
    t.note("the builder that was made before builds, too");
    // It may as well find that it is too late.
    let _ = late.build_snapshot().await;
    drop(late);
    t.turn().await?;
    let found = current(t).await?;
    stands_for(t, &found, 7, "the current snapshot")
}

/// What is applied after a builder was made is not in its snapshot.
async fn a_builder_sees_the_state_of_its_moment<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    apply_up_to(t, 4).await?;
    let mut builder = t.machine()?.get_snapshot_builder().await;
    let later = t.normals(1, 5..=7);
    let answers = t.apply(later.clone()).await?;
    t.note("the builder that was made before builds");
    let snapshot = builder.build_snapshot().await?;
    drop(builder);
    stands_for(t, &snapshot.meta, 4, "the snapshot")?;
    let mut other = t.another().await?;
    other.install(snapshot).await?;
    let again = other.apply(later).await?;
    ensure!(again == answers, "on top of the snapshot the next entries are answered {again:?}, not {answers:?}");
    Ok(())
}

/// The state machine is the same before and after.
async fn building_a_snapshot_changes_no_state<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    let mut other = t.another().await?;
    apply_up_to(t, 5).await?;
    apply_up_to(&mut other, 5).await?;
    t.build_snapshot().await?;
    t.machine_agrees().await?;
    t.turn().await?;
    t.machine_agrees().await?;
    let more = t.normals(1, 6..=8);
    let (one, two) = (t.apply(more.clone()).await?, other.apply(more).await?);
    ensure!(one == two, "with a snapshot built in between the answers are {one:?}, without {two:?}");
    Ok(())
}

/// The applied state of the receiver is what the snapshot says.
async fn a_snapshot_brings_another_machine_to_its_state<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    let mut from = t.another().await?;
    apply_up_to(&mut from, 9).await?;
    let snapshot = from.build_snapshot().await?;
    stands_for(&from, &snapshot.meta, 9, "the snapshot")?;
    t.install(snapshot).await?;
    t.turn().await?;
    t.machine_agrees().await
}

/// The receiver answers what comes next as the sender does: it has the state, not the name of it alone.
async fn a_snapshot_carries_the_state_itself<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    let mut from = t.another().await?;
    apply_up_to(&mut from, 9).await?;
    let snapshot = from.build_snapshot().await?;
    t.install(snapshot).await?;
    t.turn().await?;
    let more = t.normals(1, 10..=14);
    let (sender, receiver) = (from.apply(more.clone()).await?, t.apply(more).await?);
    ensure!(sender == receiver, "the sender answers {sender:?}, and the receiver {receiver:?}");
    Ok(())
}

/// Nothing is left of the state that a snapshot replaces, its membership included.
async fn a_snapshot_replaces_what_was_there<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    let mut from = t.another().await?;
    apply_up_to(&mut from, 12).await?;
    let snapshot = from.build_snapshot().await?;
    t.apply(vec![t.membership_entry(1, 1, &[7])?, t.normal(2, 2), t.normal(2, 3)]).await?;
    t.build_snapshot().await?;
    t.install(snapshot).await?;
    t.turn().await?;
    t.machine_agrees().await?;
    let more = t.normals(1, 13..=14);
    let (sender, receiver) = (from.apply(more.clone()).await?, t.apply(more).await?);
    ensure!(sender == receiver, "the sender answers {sender:?}, and the receiver {receiver:?}");
    Ok(())
}

/// What was installed is kept like what was built: the log before it will be purged.
async fn an_installed_snapshot_is_the_current_one<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    let mut from = t.another().await?;
    apply_up_to(&mut from, 5).await?;
    let snapshot = from.build_snapshot().await?;
    let meta = snapshot.meta.clone();
    t.install(snapshot).await?;
    t.turn().await?;
    let found = current(t).await?;
    ensure!(found == meta, "the current snapshot is {found:?}, and {meta:?} was installed");
    Ok(())
}

/// A server that was brought up by a snapshot can bring up the next one with it.
async fn an_installed_snapshot_can_be_handed_on<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    let (mut first, mut third) = (t.another().await?, t.another().await?);
    apply_up_to(&mut first, 5).await?;
    let snapshot = first.build_snapshot().await?;
    t.install(snapshot).await?;
    t.turn().await?;
    let Some(current) = t.machine()?.get_current_snapshot().await? else {
        return Err(Failure("there is no current snapshot".to_owned()));
    };
    third.install(current).await?;
    third.machine_agrees().await?;
    let more = t.normals(1, 6..=7);
    let (one, two) = (first.apply(more.clone()).await?, third.apply(more).await?);
    ensure!(one == two, "the first server answers {one:?}, and the third {two:?}");
    Ok(())
}

/// Applying goes on behind the snapshot, and a new one can be built of that.
async fn entries_are_applied_on_top_of_a_snapshot<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    let mut from = t.another().await?;
    apply_up_to(&mut from, 5).await?;
    let snapshot = from.build_snapshot().await?;
    t.install(snapshot).await?;
    t.apply(t.normals(1, 6..=9)).await?;
    t.turn().await?;
    t.machine_agrees().await?;
    let snapshot = t.build_snapshot().await?;
    stands_for(t, &snapshot.meta, 9, "a snapshot built on top of another")
}

/// A transfer that breaks off is begun again.
async fn a_place_for_a_snapshot_can_be_asked_for_again<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    let mut from = t.another().await?;
    apply_up_to(&mut from, 5).await?;
    let snapshot = from.build_snapshot().await?;
    apply_up_to(t, 2).await?;
    for _ in 0..3 {
        t.note("begin_receiving_snapshot");
        drop(t.machine()?.begin_receiving_snapshot().await?);
        t.machine_agrees().await?;
    }
    t.turn().await?;
    t.install(snapshot).await?;
    t.machine_agrees().await
}
