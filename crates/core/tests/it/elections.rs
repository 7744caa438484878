//! Who is likely to lead, and who is not.

use raftwright_core::{ElectionPriority, Input, Span};

use crate::cluster::{Cluster, Setup};
use crate::types::{Advanced, Kind, Standard};

/// Who leads first among three servers of these priorities.
fn first_leader<T: Kind>(priorities: [ElectionPriority; 3], seed: u64) -> Option<u64> {
    let priorities = (1..).zip(priorities).collect();
    let mut cluster = Cluster::<T>::new(Setup { seed, priorities, ..Setup::voters(3) });
    cluster.pass(Span::from_secs(3), true);
    cluster.leaders().first().copied()
}

#[test]
fn a_server_of_higher_priority_leads_first() {
    use ElectionPriority::{High, Low, Never, Normal};
    let mut normal_won = 0;
    for seed in 0..40 {
        assert_ne!(
            first_leader::<Standard>([Low, Normal, Normal], seed),
            Some(1),
            "the others had the time to, seed {seed}"
        );
        assert_eq!(first_leader::<Advanced>([Never, Never, Low], seed), Some(3), "it is the only one that wants to");
        assert_eq!(first_leader::<Standard>([Never, Never, Never], seed), None);
        normal_won += usize::from(first_leader::<Standard>([Normal, Normal, High], seed) != Some(3));
    }
    assert!(normal_won < 20, "a high priority is no guarantee, but it helps: {normal_won} of 40 lost");
}

#[test]
fn a_server_that_never_campaigns_votes_and_leads_when_it_is_asked_to() {
    let priorities = [(1, ElectionPriority::Never), (2, ElectionPriority::Never)].into();
    let mut cluster = Cluster::<Standard>::new(Setup { priorities, ..Setup::voters(3) });
    cluster.pass(Span::from_secs(3), true);
    assert_eq!(cluster.leaders(), [3], "by their votes");
    cluster.call(3, "transfer", |ticket| Input::TransferLeader { ticket, to: 1 });
    cluster.settle();
    assert_eq!(cluster.leaders(), [1]);
    cluster.elect(1);

    let priorities = [(1, ElectionPriority::Never)].into();
    let mut alone = Cluster::<Standard>::new(Setup { priorities, ..Setup::voters(1) });
    alone.pass(Span::from_secs(1), true);
    assert_eq!(alone.leaders(), [1], "there is nobody to leave it to");
}

/// Whoever is keen to lead keeps its promise all the same: no campaign before the shortest election timeout.
#[test]
fn no_priority_shortens_the_shortest_election_timeout() {
    for seed in 0..100 {
        let priorities = [(1, ElectionPriority::High)].into();
        let cluster = Cluster::<Standard>::new(Setup { seed, priorities, ..Setup::voters(3) });
        let at = cluster.replica(1).deadline().unwrap().since(cluster.now);
        assert!(at >= Span::from_millis(150) && at <= Span::from_nanos(187_500_000), "{at}");
    }
}
