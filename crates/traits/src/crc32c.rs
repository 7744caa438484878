//! CRC32C (Castagnoli), the checksum of files and frames.

use crc_fast::{CrcAlgorithm, Digest};

/// The checksum of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The checksum of what `before` is the checksum of, followed by `bytes`. That of nothing is 0.
pub fn crc32c_append(before: u32, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!before));
    digest.update(bytes);
    // 32 bits of it are set, and no other.
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit by bit, as the polynomial says.
    fn slowly(before: u32, bytes: &[u8]) -> u32 {
        const REVERSED_POLYNOMIAL: u32 = 0x82F6_3B78;
        !bytes.iter().fold(!before, |state, byte| {
            (0..8).fold(state ^ u32::from(*byte), |state, _| {
                if state & 1 == 1 { state >> 1 ^ REVERSED_POLYNOMIAL } else { state >> 1 }
            })
        })
    }

    /// The processor's instructions give what the definition gives: for every length, wherever the bytes lie, in one piece and in
    /// two.
    #[test]
    fn it_is_what_the_polynomial_says() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        let bytes: Vec<u8> = (0..5000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 19) as u8).collect();
        for len in (0..1200).chain([2047, 2048, 2049, 4095, 4096, 4097, 4980]) {
            let part = &bytes[len % 17..][..len];
            let sum = slowly(0, part);
            assert_eq!(crc32c(part), sum, "{len} bytes");
            let (one, two) = part.split_at(len * 3 / 7);
            assert_eq!(crc32c_append(crc32c(one), two), sum, "{len} bytes in two pieces");
            assert_eq!(crc32c_append(0, part), sum, "{len} bytes after nothing");
        }
    }
}
