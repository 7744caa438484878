use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raftwright_core::{Incarnation, Membership, RaftEntry};
use raftwright_traits::{BasicNode, Entry, EntryCodec, EntryKind, RaftTypeConfig, WireNodeId};

use crate::{AdvancedConfig, TestConfig, entry, id};

fn membership() -> Membership<u64, BasicNode> {
    let mut two = BasicNode::new("127.0.0.1:2");
    two.incarnation = Some(Incarnation(7));
    let nodes = BTreeMap::from([(1, BasicNode::new("127.0.0.1:1")), (2, two)]);
    Membership::new(vec![BTreeSet::from([1]), BTreeSet::from([1, 2])], nodes).unwrap()
}

#[test]
fn every_kind_of_entry_comes_back_from_its_bytes() {
    let blank = Entry::<TestConfig>::blank(id(1, 1));
    let change = Entry::<TestConfig>::of_membership(id(1, 2), membership());
    for entry in [blank, change, entry(1, 3)] {
        let back = Entry::decode(entry.log_id(), entry.kind(), entry.payload_bytes()).unwrap();
        assert_eq!(back, entry);
    }
}

#[test]
fn bytes_that_are_no_entry_are_an_error() {
    assert!(Entry::<TestConfig>::decode(id(1, 1), EntryKind::Blank, Bytes::from_static(b"x")).is_err());
    assert!(Entry::<TestConfig>::decode(id(1, 1), EntryKind::Membership, Bytes::new()).is_err());
    assert!(
        Entry::<TestConfig>::decode(id(1, 1), EntryKind::Membership, Bytes::from_static(b"{\"configs\":1}")).is_err()
    );
    assert_eq!(EntryKind::from_u8(3), None);
}

/// What a client asked is shared with disk and wire, not copied.
#[test]
fn payload_bytes_are_shared() {
    let asked = Bytes::from(vec![1; 64]);
    let entry =
        Entry::<TestConfig> { log_id: id(1, 1), payload: raftwright_traits::EntryPayload::Normal(asked.clone()) };
    assert_eq!(entry.payload_bytes().as_ptr(), asked.as_ptr());
}

/// The first entry of a cluster is the same wherever it is written, byte for byte.
#[test]
fn the_bytes_of_a_membership_are_fixed() {
    let entry = Entry::<TestConfig>::of_membership(id(0, 1), membership());
    let expected = r#"{"configs":[[1],[1,2]],"nodes":{"1":{"addr":"127.0.0.1:1"},"2":{"addr":"127.0.0.1:2","incarnation":"0000000000000007"}}}"#;
    assert_eq!(entry.payload_bytes(), expected.as_bytes());
}

#[test]
fn defaults_can_be_replaced() {
    fn node_id<C: RaftTypeConfig>() -> C::NodeId {
        C::NodeId::default()
    }
    assert_eq!(node_id::<AdvancedConfig>(), 0u32);
    assert_eq!(node_id::<TestConfig>(), 0u64);
    assert_eq!(u8::from_u64(256), None);
    assert_eq!(u32::from_u64(5).map(WireNodeId::to_u64), Some(5));
}
