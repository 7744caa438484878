//! Quorums, exhaustively for up to six voters, uniform and joint, against a count that a child could make (BUGS 21).

use std::collections::{BTreeMap, BTreeSet};

use raftwright_core::Membership;

use crate::types::Member;

type Members = Membership<u64, Member>;

fn members(configs: &[BTreeSet<u64>]) -> Members {
    let nodes: BTreeMap<u64, Member> =
        configs.iter().flatten().map(|id| (*id, Member { address: *id, incarnation: None })).collect();
    Membership::new(configs.to_vec(), nodes).unwrap()
}

/// The ids whose bits are set.
fn ids(mask: u32) -> BTreeSet<u64> {
    (1..=6).filter(|id| mask & (1 << (id - 1)) != 0).collect()
}

/// More than half, by counting.
fn majority(voters: &BTreeSet<u64>, granted: &BTreeSet<u64>) -> bool {
    2 * voters.intersection(granted).count() > voters.len()
}

/// Every non-empty set of up to six voters.
fn sets() -> impl Iterator<Item = BTreeSet<u64>> {
    (1..64).map(ids)
}

#[test]
fn uniform_quorums_are_majorities() {
    for voters in sets() {
        let membership = members(std::slice::from_ref(&voters));
        for granted in (0..64).map(ids) {
            assert_eq!(
                membership.is_quorum(|id| granted.contains(id)),
                majority(&voters, &granted),
                "{voters:?}, granted by {granted:?}"
            );
        }
    }
}

#[test]
fn joint_quorums_are_majorities_of_both() {
    for old in sets() {
        for new in sets() {
            let membership = members(&[old.clone(), new.clone()]);
            for granted in (0..64).map(ids) {
                assert_eq!(
                    membership.is_quorum(|id| granted.contains(id)),
                    majority(&old, &granted) && majority(&new, &granted),
                    "{old:?} and {new:?}, granted by {granted:?}"
                );
            }
        }
    }
}

/// Raft §6: every two quorums of one membership share a server, and so do those of two memberships that follow each other.
#[test]
fn quorums_of_neighbouring_memberships_share_a_server() {
    // Up to four servers here: pairs of pairs of sets.
    let sets: Vec<BTreeSet<u64>> = (1..16).map(ids).collect();
    for old in &sets {
        for new in &sets {
            let (before, joint, after) = (
                members(std::slice::from_ref(old)),
                members(&[old.clone(), new.clone()]),
                members(std::slice::from_ref(new)),
            );
            for (a, b) in [(&before, &before), (&before, &joint), (&joint, &joint), (&joint, &after), (&after, &after)]
            {
                for mask in 0..16 {
                    let one = ids(mask);
                    let rest = ids(!mask & 15);
                    let disjoint = a.is_quorum(|id| one.contains(id)) && b.is_quorum(|id| rest.contains(id));
                    assert!(!disjoint, "{a} by {one:?} and {b} by {rest:?}");
                }
            }
        }
    }
}

/// The greatest value that a quorum has reached, by trying every value.
fn naive_value(configs: &[BTreeSet<u64>], values: &[u64; 6]) -> u64 {
    let reached = |least: u64| {
        let who: BTreeSet<u64> = (1..=6).filter(|id| values[usize::try_from(id - 1).unwrap()] >= least).collect();
        configs.iter().all(|voters| majority(voters, &who))
    };
    (0..=3).rev().find(|least| reached(*least)).unwrap()
}

fn of(values: &[u64; 6]) -> impl FnMut(&u64) -> u64 + '_ {
    |id| values[usize::try_from(id - 1).unwrap()]
}

#[test]
fn the_value_of_a_uniform_quorum_is_right_for_all_values() {
    for count in 1..=6 {
        let voters: BTreeSet<u64> = (1..=count).collect();
        let membership = members(std::slice::from_ref(&voters));
        for code in 0..4_u64.pow(u32::try_from(count).unwrap()) {
            let mut values = [0; 6];
            for (at, value) in values.iter_mut().enumerate() {
                *value = code >> (2 * at) & 3;
            }
            let value = membership.quorum_value(of(&values));
            assert_eq!(value, Some(naive_value(std::slice::from_ref(&voters), &values)), "{voters:?} {values:?}");
        }
    }
}

#[test]
fn the_value_of_a_joint_quorum_is_the_lesser_of_both() {
    for old in sets() {
        for new in sets() {
            let configs = [old.clone(), new];
            let membership = members(&configs);
            // Three values of six servers, a spread of them: each server takes each value beside each other.
            for code in (0..729_u64).step_by(31) {
                let mut values = [0; 6];
                for (at, value) in values.iter_mut().enumerate() {
                    *value = code / 3_u64.pow(u32::try_from(at).unwrap()) % 3;
                }
                let value = membership.quorum_value(of(&values));
                assert_eq!(value, Some(naive_value(&configs, &values)), "{configs:?} {values:?}");
            }
        }
    }
}

#[test]
fn no_voters_demand_nothing_and_have_reached_nothing() {
    let nobody = Members::default();
    assert!(nobody.is_quorum(|_| false), "an empty demand is met");
    assert_eq!(nobody.quorum_value(|_| 7), None, "and nothing is committed by it");
    assert!(!nobody.is_voter(&1));
}
