//! The bytes of a snapshot of the easy layer, and of what is said about it.
//!
//! ```text
//! content   "RWES" | version u16 | flags u16 | length of the sessions u64 | the sessions, postcard | the application's bytes
//! about     version u8 | last log id, membership as in the log, name; postcard            (numbers little endian)
//! ```
//!
//! Both are under the checksums of the file that they stand in.

use std::io::{Read, Write};

use raftwright_traits::{
    LogIdOf, SnapshotMeta, StorageError, StorageErrorKind, StoredMembership, membership_from_bytes, membership_to_bytes,
};
use serde::{Deserialize, Serialize};

use crate::easy_config::EasyConfig;
use crate::sessions::{IMAGE_BYTES_MAX, Sessions, SessionsImage};
use crate::state_machine::{BoxError, Frozen, StateMachine, decode_exactly};

const MAGIC: [u8; 4] = *b"RWES";
const VERSION: u16 = 1;
const META_VERSION: u8 = 1;

/// Writes the sessions and the application's state.
pub(crate) fn write(to: &mut impl Write, sessions: &Sessions, machine: Frozen) -> Result<(), BoxError> {
    let image = postcard::to_allocvec(&sessions.image())?;
    to.write_all(&MAGIC)?;
    to.write_all(&VERSION.to_le_bytes())?;
    to.write_all(&0u16.to_le_bytes())?;
    to.write_all(&(image.len() as u64).to_le_bytes())?;
    to.write_all(&image)?;
    machine(to)
}

/// Reads what [`write`] wrote: the sessions, and the state into the machine. What can be wrong with the head and the sessions is
/// found before the machine is touched.
pub(crate) fn read<SM: StateMachine>(from: &mut impl Read, machine: &mut SM) -> Result<Sessions, BoxError> {
    if array::<4>(from)? != MAGIC {
        return Err("it is not one of a raftwright server".into());
    }
    match u16::from_le_bytes(array(from)?) {
        VERSION => {}
        found => {
            return Err(
                format!("it has version {found}, this program reads {VERSION}: use the newer one here too").into()
            );
        }
    }
    let _flags: [u8; 2] = array(from)?;
    let length = u64::from_le_bytes(array(from)?);
    if length > IMAGE_BYTES_MAX {
        return Err("its session table is impossibly long".into());
    }
    let mut image = Vec::new();
    from.take(length).read_to_end(&mut image)?;
    if image.len() as u64 != length {
        return Err("it ends in its session table".into());
    }
    let (image, rest): (SessionsImage<'_>, &[u8]) = postcard::take_from_bytes(&image)?;
    let sessions = rest.is_empty().then(|| Sessions::from_image(image)).flatten();
    let sessions = sessions.ok_or("its session table is impossible")?;
    machine.restore_from(from)?;
    Ok(sessions)
}

fn array<const N: usize>(from: &mut impl Read) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[derive(Serialize, Deserialize)]
struct About {
    last_log_id: Option<LogIdOf<EasyConfig>>,
    membership_log_id: Option<LogIdOf<EasyConfig>>,
    /// As it stands in the log.
    membership: Vec<u8>,
    snapshot_id: String,
}

/// What is said about a snapshot, for its file.
pub(crate) fn encode_meta(meta: &SnapshotMeta<EasyConfig>) -> Result<Vec<u8>, StorageError> {
    let SnapshotMeta { last_log_id, last_membership, snapshot_id } = meta.clone();
    let membership = match last_membership.log_id {
        Some(_) => membership_to_bytes::<EasyConfig>(&last_membership.membership).to_vec(),
        None => Vec::new(),
    };
    let about = About { last_log_id, membership_log_id: last_membership.log_id, membership, snapshot_id };
    postcard::to_extend(&about, vec![META_VERSION])
        .map_err(|error| StorageError::new(StorageErrorKind::StateMachine, format!("no snapshot: {error}")))
}

/// The other half of [`encode_meta`]; `None` if it is not that.
pub(crate) fn decode_meta(bytes: &[u8]) -> Option<SnapshotMeta<EasyConfig>> {
    let (version, rest) = bytes.split_first()?;
    if *version != META_VERSION {
        return None;
    }
    let About { last_log_id, membership_log_id, membership, snapshot_id } = decode_exactly(rest).ok()?;
    let last_membership = match membership_log_id {
        Some(_) => StoredMembership::<EasyConfig> {
            log_id: membership_log_id,
            membership: membership_from_bytes::<EasyConfig>(&membership).ok()?,
        },
        None => StoredMembership::<EasyConfig>::default(),
    };
    Some(SnapshotMeta { last_log_id, last_membership, snapshot_id })
}
