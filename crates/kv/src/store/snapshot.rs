//! The snapshot: a header, then each pair with its length, in the order of the keys.
//!
//! ```text
//! "RWKV" | version u16 | flags u16 | revision u64 | pairs u64
//! pair:   key_len u32 | value_len u32 | revision u64 | key | value
//! ```
//!
//! All numbers are little-endian. The bytes are under the checksum of whoever stores or sends the snapshot.

use std::io::{self, Read, Write};

use bytes::Bytes;

use crate::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::store::{KvStateMachine, Stored};

const MAGIC: [u8; 4] = *b"RWKV";
const VERSION: u16 = 1;

/// Why a snapshot cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It is not a snapshot of this state machine.
    #[error("the snapshot is not one of a key-value store")]
    NotOurs,
    /// A newer version of this program wrote it.
    #[error("the snapshot has format version {found}, this program reads up to {VERSION}: use the newer program")]
    Version {
        /// Its version.
        found: u16,
    },
    /// Its contents contradict themselves.
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
    /// Reading failed.
    #[error("the snapshot cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl KvStateMachine {
    /// Writes the whole state.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write_snapshot(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&MAGIC)?;
        to.write_all(&VERSION.to_le_bytes())?;
        to.write_all(&0u16.to_le_bytes())?;
        to.write_all(&self.revision.to_le_bytes())?;
        to.write_all(&(self.map.len() as u64).to_le_bytes())?;
        for (key, stored) in self.map.iter() {
            // Both lengths were checked against their bounds, far below 2^32, when the pair was applied.
            to.write_all(&(key.len() as u32).to_le_bytes())?;
            to.write_all(&(stored.value.len() as u32).to_le_bytes())?;
            to.write_all(&stored.revision.to_le_bytes())?;
            to.write_all(key.as_bytes())?;
            to.write_all(&stored.value)?;
        }
        Ok(())
    }

    /// Reads what [`KvStateMachine::write_snapshot`] wrote.
    ///
    /// # Errors
    /// When it is not that. Lengths are checked before anything is allocated for them.
    pub fn read_snapshot(from: &mut impl Read) -> Result<Self, SnapshotError> {
        if array::<4>(from)? != MAGIC {
            return Err(SnapshotError::NotOurs);
        }
        match u16::from_le_bytes(array(from)?) {
            VERSION => {}
            found => return Err(SnapshotError::Version { found }),
        }
        let _flags: [u8; 2] = array(from)?;
        let revision = u64::from_le_bytes(array(from)?);
        let pairs = u64::from_le_bytes(array(from)?);
        let mut kv = Self { revision, ..Self::default() };
        for _ in 0..pairs {
            let (key, stored) = pair(from)?;
            if stored.revision == 0 || stored.revision > revision {
                return Err(SnapshotError::Damaged("a pair has a revision that was never given"));
            }
            if kv.map.last_key().is_some_and(|last| *last >= *key) {
                return Err(SnapshotError::Damaged("the keys are out of order"));
            }
            kv.map.insert(&key, stored);
        }
        match from.read(&mut [0])? {
            0 => Ok(kv),
            _ => Err(SnapshotError::Damaged("it goes on after its last pair")),
        }
    }
}

fn pair(from: &mut impl Read) -> Result<(String, Stored), SnapshotError> {
    let key_len = u32::from_le_bytes(array(from)?) as usize;
    let value_len = u32::from_le_bytes(array(from)?) as usize;
    let revision = u64::from_le_bytes(array(from)?);
    if key_len > KEY_BYTES_MAX || value_len > VALUE_BYTES_MAX {
        return Err(SnapshotError::Damaged("a key or a value is longer than it can be"));
    }
    let mut key = vec![0; key_len];
    from.read_exact(&mut key)?;
    let key = String::from_utf8(key).map_err(|_| SnapshotError::Damaged("a key is not UTF-8"))?;
    let mut value = vec![0; value_len];
    from.read_exact(&mut value)?;
    Ok((key, Stored { value: Bytes::from(value), revision }))
}

fn array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Command, Condition};

    fn filled() -> KvStateMachine {
        let mut kv = KvStateMachine::new();
        for (key, value) in [("a", "1"), ("ключ", ""), ("b", "\u{1F980}")] {
            kv.apply(Command::Put { key: key.into(), value: Bytes::from(value), condition: Condition::Always });
        }
        kv.apply(Command::Delete { key: "a".into(), condition: Condition::Always });
        kv
    }

    fn bytes_of(kv: &KvStateMachine) -> Vec<u8> {
        let mut bytes = Vec::new();
        kv.write_snapshot(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn comes_back_as_it_was() {
        for kv in [KvStateMachine::new(), filled()] {
            assert_eq!(KvStateMachine::read_snapshot(&mut bytes_of(&kv).as_slice()).unwrap(), kv);
        }
    }

    #[test]
    fn a_cut_one_is_refused_wherever_it_is_cut() {
        let bytes = bytes_of(&filled());
        for len in 0..bytes.len() {
            assert!(KvStateMachine::read_snapshot(&mut &bytes[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn a_longer_one_is_refused() {
        let mut bytes = bytes_of(&filled());
        bytes.push(0);
        assert!(matches!(KvStateMachine::read_snapshot(&mut bytes.as_slice()), Err(SnapshotError::Damaged(_))));
    }

    #[test]
    fn an_absurd_length_is_refused_before_it_is_allocated() {
        let mut bytes = bytes_of(&filled());
        bytes[24..28].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(KvStateMachine::read_snapshot(&mut bytes.as_slice()), Err(SnapshotError::Damaged(_))));
    }

    #[test]
    fn keys_and_values_are_read_up_to_their_bounds() {
        let of = |key: usize, value: usize| {
            let mut bytes = [MAGIC.as_slice(), &VERSION.to_le_bytes(), &[0; 2]].concat();
            // The first revision, and one pair, which has it.
            bytes.extend([1u64, 1].map(u64::to_le_bytes).concat());
            bytes.extend([key as u32, value as u32].map(u32::to_le_bytes).concat());
            bytes.extend(1u64.to_le_bytes());
            bytes.extend("k".repeat(key).into_bytes());
            bytes.resize(bytes.len() + value, 0);
            KvStateMachine::read_snapshot(&mut bytes.as_slice())
        };
        assert!(of(KEY_BYTES_MAX, VALUE_BYTES_MAX).is_ok());
        assert!(matches!(of(KEY_BYTES_MAX + 1, 1), Err(SnapshotError::Damaged(_))));
        assert!(matches!(of(1, VALUE_BYTES_MAX + 1), Err(SnapshotError::Damaged(_))));
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut bytes = bytes_of(&filled());
        bytes[4..6].copy_from_slice(&7u16.to_le_bytes());
        let error = KvStateMachine::read_snapshot(&mut bytes.as_slice()).unwrap_err();
        assert!(error.to_string().contains("format version 7"), "{error}");
    }
}
