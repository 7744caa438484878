use super::*;
use raftwright_net::{Features, Lane, ProtocolVersion};
use raftwright_traits::Incarnation;
use raftwright_wal::DataDirOptions;

const CLUSTER: ClusterId = ClusterId(77);

/// The gate of node 1 on a fresh data directory.
fn gate() -> (NodeGate, tempfile::TempDir) {
    let temp = tempfile::tempdir().unwrap();
    let options = DataDirOptions { node_id: 1, random: 11 };
    let dir = DataDir::open(RealDisk, &temp.path().join("d"), options).unwrap();
    (NodeGate::new(Arc::new(dir)), temp)
}

fn hello(node: Option<u64>, incarnation: u64, boot_epoch: u64, lane: Lane) -> PeerHello {
    PeerHello {
        identity: PeerIdentity {
            cluster: Some(CLUSTER.into()),
            node,
            incarnation: node.map(|_| incarnation),
            boot_epoch,
            membership: 3,
        },
        lane,
        opened_by: OpenedBy::Peer,
        version: ProtocolVersion(1),
        features: Features(0),
    }
}

fn peer(node: u64, incarnation: u64, boot_epoch: u64) -> PeerHello {
    hello(Some(node), incarnation, boot_epoch, Lane::Control)
}

fn membership(nodes: &[(u64, Option<u64>)]) -> Membership<u64, BasicNode> {
    let node =
        |incarnation: Option<u64>| BasicNode { incarnation: incarnation.map(Incarnation), ..BasicNode::new("a:1") };
    let ids = nodes.iter().map(|(id, _)| *id).collect();
    Membership::new(vec![ids], nodes.iter().map(|(id, incarnation)| (*id, node(*incarnation))).collect()).unwrap()
}

/// The index of a membership newer than what the peers of these tests know.
const NEWER: LogIndex = 10;

fn reason(result: Result<(), Refusal>) -> RefusalReason {
    result.unwrap_err().reason
}

#[test]
fn the_incarnation_that_the_membership_names_is_the_only_one() {
    let (gate, _temp) = gate();
    gate.on_membership(NEWER, &membership(&[(1, None), (2, Some(22))]));
    gate.admit(&peer(2, 22, 1)).unwrap();
    let refusal = gate.admit(&peer(2, 23, 1)).unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::StaleIncarnation);
    assert!(refusal.text.contains("its disk was emptied"), "{}", refusal.text);
    let mut nameless = peer(2, 22, 1);
    nameless.identity.incarnation = None;
    assert_eq!(reason(gate.admit(&nameless)), RefusalReason::StaleIncarnation);
}

#[test]
fn before_the_membership_names_one_the_first_seen_counts() {
    let (gate, _temp) = gate();
    gate.on_membership(NEWER, &membership(&[(1, None), (2, None)]));
    gate.admit(&peer(2, 22, 3)).unwrap();
    assert_eq!(reason(gate.admit(&peer(2, 23, 4))), RefusalReason::StaleIncarnation);
    gate.admit(&peer(2, 22, 4)).unwrap();
    assert_eq!(reason(gate.admit(&peer(2, 22, 3))), RefusalReason::StaleIncarnation, "an old copy of the directory");
}

#[test]
fn an_old_copy_of_the_named_directory_is_refused() {
    let (gate, _temp) = gate();
    gate.on_membership(NEWER, &membership(&[(1, None), (2, Some(22))]));
    gate.admit(&peer(2, 22, 7)).unwrap();
    let refusal = gate.admit(&peer(2, 22, 6)).unwrap_err();
    assert!(refusal.text.contains("old copy"), "{}", refusal.text);
    gate.admit(&peer(2, 22, 7)).unwrap();
}

#[test]
fn a_node_that_was_removed_and_added_again_may_come_with_a_new_directory() {
    let (gate, _temp) = gate();
    gate.on_membership(NEWER, &membership(&[(1, None), (2, None)]));
    gate.admit(&peer(2, 22, 1)).unwrap();
    gate.on_membership(NEWER, &membership(&[(1, None)]));
    gate.on_membership(NEWER, &membership(&[(1, None), (2, None)]));
    gate.admit(&peer(2, 23, 1)).unwrap();
    gate.on_membership(NEWER, &membership(&[(1, None), (2, Some(23))]));
    gate.on_membership(NEWER, &membership(&[(1, None), (2, None)]));
    gate.admit(&peer(2, 24, 1)).unwrap();
}

#[test]
fn a_node_outside_the_membership_is_let_in() {
    let (gate, _temp) = gate();
    gate.on_membership(NEWER, &membership(&[(1, None)]));
    gate.admit(&peer(9, 99, 1)).unwrap();
    gate.admit(&peer(9, 98, 1)).unwrap();
    gate.on_membership(NEWER, &membership(&[(1, None), (9, Some(97))]));
    gate.admit(&peer(9, 97, 1)).unwrap();
}

/// Found by the simulator (profile membership, seed 68): a node that slept through the removal and the return of another
/// refused its new incarnation for ever, and so could never learn of it.
#[test]
fn who_knows_a_newer_membership_is_not_judged_by_an_older_one() {
    let (gate, _temp) = gate();
    gate.on_membership(NEWER, &membership(&[(1, None), (2, Some(22))]));
    assert_eq!(gate.identity().membership, NEWER);
    let mut returned = peer(2, 23, 1);
    returned.identity.membership = NEWER;
    assert_eq!(reason(gate.admit(&returned)), RefusalReason::StaleIncarnation);
    returned.identity.membership = NEWER + 1;
    gate.admit(&returned).unwrap();
    gate.on_membership(NEWER + 1, &membership(&[(1, None), (2, Some(23))]));
    gate.admit(&returned).unwrap();
    assert_eq!(reason(gate.admit(&peer(2, 22, 1))), RefusalReason::StaleIncarnation, "the old one, from now on");
}

#[test]
fn nobody_else_is_this_node() {
    let (gate, _temp) = gate();
    assert_eq!(reason(gate.admit(&peer(1, 12, 1))), RefusalReason::NotAPeer);
}

#[test]
fn a_blank_node_joins_the_first_cluster_that_comes_and_stays_there() {
    let (gate, temp) = gate();
    gate.admit(&hello(None, 0, 0, Lane::Client)).unwrap();
    assert_eq!(gate.cluster_id(), None, "a client decides nothing");
    let mut dialed = peer(2, 22, 1);
    dialed.opened_by = OpenedBy::Us;
    gate.admit(&dialed).unwrap();
    assert_eq!(gate.cluster_id(), None);
    gate.admit(&peer(2, 22, 1)).unwrap();
    assert_eq!(gate.cluster_id(), Some(CLUSTER));
    // Another cluster's peer whose handshake began while this node had no cluster yet.
    let mut late = peer(3, 33, 1);
    late.identity.cluster = Some(ClusterId(78).into());
    assert_eq!(reason(gate.admit(&late)), RefusalReason::WrongCluster);
    drop(gate);
    let options = DataDirOptions { node_id: 1, random: 12 };
    let dir = DataDir::open(RealDisk, &temp.path().join("d"), options).unwrap();
    assert_eq!(dir.identity().cluster_id, Some(CLUSTER.0), "it is durable");
}

#[test]
fn a_client_keeps_to_the_cluster_that_it_met_first() {
    let gate = ClientGate::new(None);
    gate.admit(&hello(Some(2), 22, 1, Lane::Client)).unwrap();
    assert_eq!(gate.identity().cluster, Some(CLUSTER.into()));
    let mut foreign = hello(Some(2), 22, 1, Lane::Client);
    foreign.identity.cluster = Some(ClusterId(78).into());
    assert_eq!(reason(gate.admit(&foreign)), RefusalReason::WrongCluster);
}

#[test]
fn a_cluster_is_founded_once() {
    let (gate, temp) = gate();
    assert!(gate.found_cluster().unwrap());
    let founded = gate.cluster_id().unwrap();
    assert!(gate.found_cluster().unwrap(), "the same attempt, made again");
    assert_eq!(gate.cluster_id(), Some(founded));
    // A crash between the cluster's id and the first entry of its log: the attempt may be made again.
    drop(gate);
    let options = DataDirOptions { node_id: 1, random: 12 };
    let gate = NodeGate::new(Arc::new(DataDir::open(RealDisk, &temp.path().join("d"), options).unwrap()));
    assert!(gate.found_cluster().unwrap());
    assert_eq!(gate.cluster_id(), Some(founded));
}

#[test]
fn a_node_that_has_joined_a_cluster_founds_none() {
    let (gate, _temp) = gate();
    gate.admit(&peer(2, 22, 1)).unwrap();
    assert!(!gate.found_cluster().unwrap());
    assert_eq!(gate.cluster_id(), Some(CLUSTER));
}

/// A node that belongs to no cluster may be met by any number of others, and remembers so many of them.
#[test]
fn what_is_remembered_of_nodes_without_a_name_is_bounded() {
    let (gate, _temp) = gate();
    let knows_nothing = |node, incarnation| {
        let mut peer = peer(node, incarnation, 1);
        peer.identity.membership = 0;
        peer
    };
    let last = 1 + SEEN_MAX as u64;
    for node in 2..=last + 100 {
        gate.admit(&knows_nothing(node, 22)).unwrap();
    }
    assert_eq!(gate.lock().seen.len(), SEEN_MAX);
    // Those who came in time are known, and go on being known; of the others nothing is.
    for node in [2, last] {
        assert_eq!(reason(gate.admit(&knows_nothing(node, 23))), RefusalReason::StaleIncarnation, "{node}");
        gate.admit(&knows_nothing(node, 22)).unwrap();
    }
    gate.admit(&knows_nothing(last + 1, 23)).unwrap();
}
