//! The memberships that a starting node finds (Raft §6): the state machine's, and every one in the log behind it.

use raftwright_core::LogIdOption;

use super::{Check, list};
use crate::testing::builder::StoreBuilder;
use crate::testing::trial::{Checked, Trial, ensure};
use crate::{
    LogIndex, MembershipOf, RaftEntry, RaftLogReader, RaftLogStorage, RaftStateMachine, RaftTypeConfig,
    StoredMembership,
};

pub(super) fn checks<C: RaftTypeConfig, B: StoreBuilder<C>>() -> Vec<Check<C, B>> {
    list![Machine:
        new_stores_have_no_membership,
        a_membership_is_found_in_the_log_alone,
        a_membership_is_found_in_the_state_machine_alone,
        a_newer_membership_in_the_log_comes_last,
        an_older_membership_in_the_log_is_not_taken,
        all_memberships_in_the_log_are_found_in_order,
        a_truncated_membership_is_gone,
        a_membership_stays_with_the_state_machine_when_the_log_is_purged,
        a_membership_of_a_snapshot_is_found,
    ]
}

/// What a node finds at its start, oldest first.
async fn found<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked<Vec<StoredMembership<C>>> {
    let (applied, stored) = t.machine()?.applied_state().await?;
    let mut found: Vec<_> = Some(stored).filter(|stored| stored.log_id.is_some()).into_iter().collect();
    let end = t.log()?.get_log_state().await?.last_log_id.next_index();
    for entry in t.log()?.try_get_log_entries(applied.next_index()..end).await? {
        if let Some(membership) = entry.membership() {
            found.push(StoredMembership::<C> { log_id: Some(entry.log_id()), membership: membership.clone() });
        }
    }
    Ok(found)
}

/// These memberships, each of (index, voters) and term 1, are found.
async fn are_found<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
    expected: &[(LogIndex, &[u64])],
) -> Checked {
    let stored = |(index, voters): &(LogIndex, &[u64])| {
        let membership: MembershipOf<C> = t.members(&[voters], &[])?;
        Ok(StoredMembership::<C> { log_id: Some(t.id(1, *index)), membership })
    };
    let expected: Vec<StoredMembership<C>> = expected.iter().map(stored).collect::<Checked<_>>()?;
    let found = found(t).await?;
    ensure!(found == expected, "a node finds the memberships {found:?}, not {expected:?}");
    Ok(())
}

/// Nobody has initialized new stores.
async fn new_stores_have_no_membership<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.turn().await?;
    are_found(t, &[]).await
}

/// A membership that is not applied yet is found in the log.
async fn a_membership_is_found_in_the_log_alone<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.append(vec![t.blank(1, 1), t.membership_entry(1, 2, &[1, 2])?, t.normal(1, 3)])?;
    t.turn().await?;
    are_found(t, &[(2, &[1, 2])]).await
}

/// A membership that is applied is found in the state machine.
async fn a_membership_is_found_in_the_state_machine_alone<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    t.apply(vec![t.membership_entry(1, 1, &[3, 4])?, t.normal(1, 2)]).await?;
    t.turn().await?;
    are_found(t, &[(1, &[3, 4])]).await
}

/// A membership in the log behind what is applied is the one in force.
async fn a_newer_membership_in_the_log_comes_last<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    let entries = vec![t.membership_entry(1, 1, &[1])?, t.normal(1, 2), t.membership_entry(1, 3, &[1, 5])?];
    t.append(entries.clone())?;
    t.apply(entries.into_iter().take(2).collect()).await?;
    t.turn().await?;
    are_found(t, &[(1, &[1]), (3, &[1, 5])]).await
}

/// A membership in the log that is applied already, and replaced by a later one, does not come back.
async fn an_older_membership_in_the_log_is_not_taken<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    let entries = vec![t.membership_entry(1, 1, &[1])?, t.membership_entry(1, 2, &[1, 2, 3])?, t.normal(1, 3)];
    t.append(entries.clone())?;
    t.apply(entries).await?;
    t.turn().await?;
    are_found(t, &[(2, &[1, 2, 3])]).await
}

/// The one in force and the one before it are both needed: the last one may be truncated.
async fn all_memberships_in_the_log_are_found_in_order<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    let (two, four) = (t.membership_entry(1, 2, &[1, 2])?, t.membership_entry(1, 4, &[2, 3])?);
    t.append(vec![t.blank(1, 1), two, t.normal(1, 3), four, t.normal(1, 5)])?;
    t.apply(vec![t.blank(1, 1)]).await?;
    t.turn().await?;
    are_found(t, &[(2, &[1, 2]), (4, &[2, 3])]).await
}

/// A membership that a new leader has cut from the log is in force no more.
async fn a_truncated_membership_is_gone<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    let (one, three) = (t.membership_entry(1, 1, &[1, 2])?, t.membership_entry(1, 3, &[2, 3])?);
    t.append(vec![one, t.normal(1, 2), three])?;
    t.truncate(3)?;
    t.append(t.normals(2, [3]))?;
    t.turn().await?;
    are_found(t, &[(1, &[1, 2])]).await
}

/// Purging the log takes no membership from the state machine.
async fn a_membership_stays_with_the_state_machine_when_the_log_is_purged<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    let entries = vec![t.membership_entry(1, 1, &[1, 2, 4])?, t.normal(1, 2), t.normal(1, 3)];
    t.append(entries.clone())?;
    t.apply(entries).await?;
    t.purge(1, 2)?;
    t.turn().await?;
    are_found(t, &[(1, &[1, 2, 4])]).await
}

/// A server that got a snapshot has the snapshot's membership, and those of its log behind it.
async fn a_membership_of_a_snapshot_is_found<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    let mut from = t.another().await?;
    from.apply(vec![from.membership_entry(1, 1, &[1, 2])?, from.normal(1, 2)]).await?;
    let snapshot = from.build_snapshot().await?;
    t.install(snapshot).await?;
    t.purge(1, 2)?;
    t.append(vec![t.normal(1, 3), t.membership_entry(1, 4, &[2, 6])?])?;
    t.turn().await?;
    are_found(t, &[(1, &[1, 2]), (4, &[2, 6])]).await
}
