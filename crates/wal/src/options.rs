//! Sizes and bounds of a log, with their defaults.

use crate::error::OpenError;
use crate::format::SECTOR;

/// Smallest segment, in bytes.
pub const SEGMENT_BYTES_MIN: u64 = 16 * SECTOR as u64;
/// Largest segment, in bytes: offsets in it have 32 bits, and a batch larger than a segment must still fit. A larger setting
/// is refused when the log is opened.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Sizes and bounds. All are in bytes unless they say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalOptions {
    /// Size of a segment file.
    pub segment_bytes: u64,
    /// Size of the first segment of a new log, where that is less; each one after has twice the size of the one before, up to
    /// the usual one. A small log thus takes little room, and opening a new one does not wait long for the zeroes in it.
    pub first_segment_bytes: u64,
    /// A batch takes no further write once it holds this much, the heads of its entries included.
    pub batch_bytes_max: usize,
    /// Bound of the queue in bytes: further appends are refused as busy while this much waits.
    pub queue_bytes_max: usize,
    /// Bound of the queue in number of writes: further appends are refused as busy while so many wait.
    pub queue_ops_max: usize,
    /// Memory for the payloads of recent entries, with what it costs to keep them. Past it, the oldest that are on the media
    /// are read from there.
    pub recent_bytes_max: usize,
    /// How much of the next segment is prepared (zeroed and synced) in one step.
    pub prepare_step_bytes: usize,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            first_segment_bytes: 4 << 20,
            batch_bytes_max: 4 << 20,
            queue_bytes_max: 256 << 20,
            queue_ops_max: 64 << 10,
            recent_bytes_max: 64 << 20,
            prepare_step_bytes: 256 << 10,
        }
    }
}

impl WalOptions {
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let sector = SECTOR as u64;
        let checks = [
            ("segment_bytes", self.segment_bytes, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX),
            ("first_segment_bytes", self.first_segment_bytes, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX),
            ("batch_bytes_max", self.batch_bytes_max as u64, 1, SEGMENT_BYTES_MAX / 4),
            ("queue_bytes_max", self.queue_bytes_max as u64, 1, u64::MAX),
            ("queue_ops_max", self.queue_ops_max as u64, 1, u64::MAX),
            ("prepare_step_bytes", self.prepare_step_bytes as u64, sector, SEGMENT_BYTES_MAX),
        ];
        match checks.into_iter().find(|(_, value, min, max)| value < min || value > max) {
            Some((name, value, min, max)) => Err(OpenError::Options { name, value, min, max }),
            None => Ok(()),
        }
    }
}
