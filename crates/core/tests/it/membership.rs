//! Random histories of membership changes against a model in plain sets, and the rules on incarnations.

use std::collections::{BTreeMap, BTreeSet};

use raftwright_core::{Identity, Incarnation, Membership, MembershipError, Rng};

use crate::types::Member;

type Members = Membership<u64, Member>;

/// What the membership means, without any of its code.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Model {
    old: Option<BTreeSet<u64>>,
    voters: BTreeSet<u64>,
    members: BTreeSet<u64>,
    promoting: BTreeSet<u64>,
    retain: bool,
}

impl Model {
    fn agrees(&self, membership: &Members) {
        let configs: Vec<BTreeSet<u64>> = self.old.iter().chain([&self.voters]).cloned().collect();
        assert_eq!(membership.configs(), configs);
        assert_eq!(membership.nodes().keys().copied().collect::<BTreeSet<_>>(), self.members);
        assert_eq!(membership.is_joint(), self.old.is_some());
        assert_eq!(membership.promoting(), &self.promoting);
        let all: BTreeSet<u64> = configs.into_iter().flatten().collect();
        assert_eq!(membership.voter_ids().collect::<Vec<_>>(), all.iter().copied().collect::<Vec<_>>());
        let learners: Vec<u64> = self.members.difference(&all).copied().collect();
        assert_eq!(membership.learner_ids().collect::<Vec<_>>(), learners);
        for id in 0..10 {
            assert_eq!(membership.is_voter(&id), all.contains(&id));
            assert_eq!(membership.contains(&id), self.members.contains(&id));
        }
        assert_eq!(membership.validate(), Ok(()), "every membership on the way is one that can be");
    }
}

fn some(rng: &mut Rng) -> BTreeSet<u64> {
    let mask = rng.next_u64();
    (1..=7).filter(|id| mask >> id & 1 == 1).collect()
}

fn member(address: u64) -> Member {
    Member { address, incarnation: None }
}

#[test]
fn random_histories_agree_with_the_model() {
    for seed in 0..500 {
        let mut rng = Rng::new(seed);
        let first = BTreeSet::from([1, 2, 3]);
        let nodes: BTreeMap<u64, Member> = first.iter().map(|id| (*id, member(*id))).collect();
        let mut membership = Members::new(vec![first.clone()], nodes).unwrap();
        let mut model =
            Model { old: None, voters: first.clone(), members: first, retain: false, promoting: BTreeSet::new() };
        for _ in 0..40 {
            model.agrees(&membership);
            if let Some(old) = model.old.take() {
                // A joint membership has one way on.
                if !model.retain {
                    let (voters, learners) = (model.voters.clone(), &model.members - &old);
                    model.members.retain(|id| voters.contains(id) || learners.contains(id));
                }
                model.promoting = &model.promoting & &model.members;
                model.retain = false;
                membership = membership.leave_joint();
                continue;
            }
            match rng.next_u64() % 4 {
                0 => {
                    let id = rng.next_u64() % 7 + 1;
                    model.members.insert(id);
                    membership = membership.with_node(id, member(id));
                }
                1 => {
                    let ids = some(&mut rng);
                    let voter = ids.iter().find(|id| model.voters.contains(id)).copied();
                    match membership.without_learners(&ids) {
                        Ok(next) => {
                            assert_eq!(voter, None);
                            model.members = &model.members - &ids;
                            model.promoting = &model.promoting - &ids;
                            membership = next;
                        }
                        Err(refused) => assert_eq!(Some(refused), voter),
                    }
                }
                2 => {
                    let ids = some(&mut rng);
                    let learners = &model.members - &model.voters;
                    match membership.promote(ids.clone()) {
                        Ok(next) => {
                            assert!(ids.is_subset(&learners));
                            (model.promoting, membership) = (ids, next);
                        }
                        Err(MembershipError::NotALearner(id)) => assert!(ids.contains(&id) && !learners.contains(&id)),
                        Err(error) => panic!("{error}"),
                    }
                }
                _ => {
                    let (voters, retain) = (some(&mut rng), rng.next_u64().is_multiple_of(2));
                    let stranger = voters.difference(&model.members).next().copied();
                    match membership.toward(voters.clone(), retain) {
                        Ok(next) => {
                            assert!(stranger.is_none() && !voters.is_empty());
                            if voters != model.voters {
                                model.promoting = &model.promoting - &voters;
                                model.old = Some(std::mem::replace(&mut model.voters, voters));
                                model.retain = retain;
                            }
                            membership = next;
                        }
                        Err(MembershipError::EmptyVoters) => assert!(voters.is_empty()),
                        Err(MembershipError::VoterWithoutNode(id)) => assert_eq!(Some(id), stranger),
                        Err(error @ (MembershipError::TooManyConfigs | MembershipError::NotALearner(_))) => {
                            panic!("{error}")
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_uniform_membership_leaves_nothing() {
    let membership = Members::new(vec![BTreeSet::from([1])], BTreeMap::from([(1, member(1)), (2, member(2))])).unwrap();
    assert_eq!(membership.leave_joint(), membership);
}

#[test]
fn a_membership_that_cannot_be_is_refused() {
    let nodes = BTreeMap::from([(1, member(1))]);
    assert_eq!(Members::new(vec![], nodes.clone()), Err(MembershipError::EmptyVoters));
    assert_eq!(
        Members::new(vec![BTreeSet::from([1]), BTreeSet::new()], nodes.clone()),
        Err(MembershipError::EmptyVoters)
    );
    let three = vec![BTreeSet::from([1]); 3];
    assert_eq!(Members::new(three, nodes.clone()), Err(MembershipError::TooManyConfigs));
    assert_eq!(Members::new(vec![BTreeSet::from([1, 2])], nodes), Err(MembershipError::VoterWithoutNode(2)));
}

#[test]
fn an_incarnation_that_is_bound_admits_no_other() {
    let stated = |incarnation: Option<u64>| Identity { id: 1, incarnation: incarnation.map(Incarnation) };
    let unbound = Members::new(vec![BTreeSet::from([1])], BTreeMap::from([(1, member(1))])).unwrap();
    for incarnation in [None, Some(7), Some(8)] {
        assert!(unbound.admits(&stated(incarnation)), "before first contact any is welcome");
    }
    let bound = unbound.with_incarnations(|_| Some(Incarnation(7))).unwrap();
    assert!(bound.admits(&stated(Some(7))));
    assert!(!bound.admits(&stated(Some(8))) && !bound.admits(&stated(None)));
    assert!(!bound.admits(&Identity { id: 2, incarnation: Some(Incarnation(7)) }), "no member, no admission");
    assert_eq!(bound.with_incarnations(|_| Some(Incarnation(9))), None, "it is bound once");
    assert_eq!(unbound.with_incarnations(|_| None), None);

    // A new address keeps the incarnation; a server that takes the place of another says so.
    let moved = bound.with_node(1, member(99));
    assert_eq!(moved.node(&1), Some(&Member { address: 99, incarnation: Some(Incarnation(7)) }));
    let replaced = bound.with_node(1, Member { address: 1, incarnation: Some(Incarnation(9)) });
    assert!(replaced.admits(&stated(Some(9))) && !replaced.admits(&stated(Some(7))));
}
