//! The easy layer: what stands in its entries, what its clients send, its snapshots.

use bytes::Bytes;
use raftwright::{Envelope, fuzzing};

pub(crate) fn envelope(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    match Envelope::decode(bytes.clone()) {
        Some(Envelope::Alone(command) | Envelope::InSession { command, .. }) => assert!(data.ends_with(&command)),
        Some(Envelope::OpenSession { .. }) | None => {}
    }
    fuzzing::outcome(&bytes);
}

pub(crate) fn envelope_seeds() -> Vec<Vec<u8>> {
    let in_session = [&[3], &[1; 16][..], &[2; 8], &[1; 8], b"command"].concat();
    vec![b"\x01command".to_vec(), [&[2], &[7; 8][..]].concat(), in_session, b"\x00answer".to_vec()]
}

pub(crate) fn protocol(data: &[u8]) {
    fuzzing::protocol(&Bytes::copy_from_slice(data));
}

pub(crate) fn protocol_seeds() -> Vec<Vec<u8>> {
    vec![b"\x01\x01\x00\x01\x00\x00payload".to_vec(), b"\x01\x00answer".to_vec(), b"\x01\x01\x00\x00\x00".to_vec()]
}

pub(crate) fn snapshot(data: &[u8]) {
    fuzzing::snapshot(data);
}

pub(crate) fn snapshot_seeds() -> Vec<Vec<u8>> {
    vec![b"\x01\x00\x07machine".to_vec(), b"\x01\x01\x05\x03\x01\x01\x02\x03abc\x07machine".to_vec()]
}
