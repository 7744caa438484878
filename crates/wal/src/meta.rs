//! The file `meta`: who this data directory is. Two copies, each under a checksum, replaced by one rename.

use crate::format::{FEATURES, FieldWriter, Fields, SECTOR, VERSION, VERSION_MIN, checksum};

const MAGIC: &[u8; 8] = b"RWMETA\r\n";
const COPY_LEN: usize = 96;

/// The content of `meta`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) node_id: u64,
    pub(crate) incarnation: u64,
    pub(crate) boot_epoch: u64,
    pub(crate) cluster_id: Option<u128>,
    /// A log was made here. From then on a directory without one has lost it.
    pub(crate) log_made: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetaError {
    Damaged,
    Version { needs: u16 },
    Features { unknown: u64 },
}

impl Meta {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut file = Vec::with_capacity(2 * SECTOR);
        for position in [0, SECTOR] {
            file.resize(position, 0);
            let mut out = FieldWriter(&mut file);
            out.bytes(MAGIC).u16(VERSION).u16(VERSION_MIN);
            out.u32(u32::from(self.cluster_id.is_some()) | u32::from(self.log_made) << 1).u64(FEATURES);
            out.u64(self.node_id).u64(self.incarnation).u64(self.boot_epoch);
            out.u128(self.cluster_id.unwrap_or(0)).u64(0).u64(0).u64(0).u32(0);
            let crc = checksum(self.incarnation, position as u64, 0, &out.0[position..]);
            out.u32(crc);
        }
        file.resize(2 * SECTOR, 0);
        file
    }

    pub(crate) fn decode(file: &[u8]) -> Result<Self, MetaError> {
        match Self::decode_copy(file, 0) {
            Err(MetaError::Damaged) => Self::decode_copy(file, SECTOR),
            known => known,
        }
    }

    fn decode_copy(file: &[u8], position: usize) -> Result<Self, MetaError> {
        let bytes = file.get(position..position + COPY_LEN).ok_or(MetaError::Damaged)?;
        let mut fields = Fields::new(bytes);
        let magic = fields.bytes(8);
        let (_version, needs, flags, features) = (fields.u16(), fields.u16(), fields.u32(), fields.u64());
        let (node_id, incarnation, boot_epoch) = (fields.u64(), fields.u64(), fields.u64());
        let cluster_id = fields.u128();
        fields.bytes(28);
        let crc = fields.u32();
        if magic != MAGIC || crc != checksum(incarnation, position as u64, 0, &bytes[..COPY_LEN - 4]) {
            return Err(MetaError::Damaged);
        }
        if needs > VERSION {
            return Err(MetaError::Version { needs });
        }
        if features & !FEATURES != 0 {
            return Err(MetaError::Features { unknown: features & !FEATURES });
        }
        Ok(Self {
            node_id,
            incarnation,
            boot_epoch,
            cluster_id: (flags & 1 != 0).then_some(cluster_id),
            log_made: flags & 2 != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: Meta =
        Meta { node_id: 3, incarnation: 0xABCD, boot_epoch: 9, cluster_id: Some(u128::MAX - 1), log_made: true };

    #[test]
    fn round_trip() {
        assert_eq!(Meta::decode(&META.encode()), Ok(META));
        let blank = Meta { cluster_id: None, log_made: false, ..META };
        assert_eq!(Meta::decode(&blank.encode()), Ok(blank));
    }

    /// What a newer program has written is called that, by what this one does not know of it.
    #[test]
    fn a_newer_version_and_newer_features_are_told_apart() {
        let newer = |at: usize, value: u8| {
            let mut file = META.encode();
            for position in [0, SECTOR] {
                file[position + at] = value;
                let end = position + COPY_LEN - 4;
                let crc = checksum(META.incarnation, position as u64, 0, &file[position..end]);
                file[end..end + 4].copy_from_slice(&crc.to_le_bytes());
            }
            Meta::decode(&file)
        };
        assert_eq!(newer(8, 77), Ok(META), "who wrote it does not matter, only what a reader must know");
        assert_eq!(newer(10, 77), Err(MetaError::Version { needs: 77 }));
        assert_eq!(newer(16 + 5, 1), Err(MetaError::Features { unknown: 1 << 40 }));
    }

    #[test]
    fn any_flipped_byte_is_survived_and_two_are_noticed() {
        let good = META.encode();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x5A;
            assert_eq!(Meta::decode(&bad), Ok(META), "byte {at}");
            if at < COPY_LEN {
                bad[SECTOR + at] ^= 0x5A;
                assert_eq!(Meta::decode(&bad), Err(MetaError::Damaged), "byte {at}");
            }
        }
    }
}
