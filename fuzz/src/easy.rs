//! The easy layer: what stands in its entries, what its clients send, its snapshots.

use bytes::Bytes;
use raftwright::{Envelope, fuzzing};

use crate::net::members;

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

/// Tables of sessions: none, and one with an answer.
const NOBODY: &[u8] = b"\x00";
const SOMEBODY: &[u8] = b"\x01\x05\x03\x01\x01\x02\x03abc";

/// The head of a snapshot, with this table of sessions.
fn with_sessions(sessions: &[u8], machine: &[u8]) -> Vec<u8> {
    let head = [&b"RWES\x01\x00\x00\x00"[..], &(sessions.len() as u64).to_le_bytes()].concat();
    [&head[..], sessions, machine].concat()
}

pub(crate) fn snapshot_seeds() -> Vec<Vec<u8>> {
    vec![with_sessions(NOBODY, b"machine"), with_sessions(SOMEBODY, b"machine"), with_sessions(NOBODY, b"")]
}

pub(crate) fn snapshot_meta(data: &[u8]) {
    fuzzing::snapshot_meta(data);
}

pub(crate) fn snapshot_meta_seeds() -> Vec<Vec<u8>> {
    vec![b"\x01\x00\x00\x00\x00".to_vec(), fuzzing::about_snapshot(members())]
}
