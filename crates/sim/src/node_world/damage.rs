//! Damage to one entry on a node's simulated disk.

use std::path::{Path, PathBuf};

use raftwright_wal::testing::SimDisk;
use raftwright_wal::{Content, Inspector, Item, RawEntry};

use super::stores::DIRECTORY;

/// Flips a bit of the stored entry at this index: in its payload, or in its head if it has none.
///
/// # Errors
///
/// Why that is not possible, in words.
pub(super) fn corrupt(disk: &SimDisk, index: u64) -> Result<(), String> {
    let inspector = Inspector::open(disk.clone(), Path::new(DIRECTORY)).map_err(|error| error.to_string())?;
    let mut segment = PathBuf::new();
    // The last one counts: an entry that was cut off may stand before it.
    let mut found: Option<(PathBuf, u64, RawEntry)> = None;
    let walked = inspector.walk(&mut |item| match item {
        Item::Segment(begins) => segment = begins.path,
        Item::Record(record) => {
            if let Some(Content::Entry(entry)) = record.content
                && entry.log_id.index == index
            {
                found = Some((segment.clone(), record.offset, entry));
            }
        }
        Item::Batch(_) | Item::Mark(_) | Item::Seal(_) | Item::Damage(_) | Item::Lost(_) => {}
    });
    walked.map_err(|error| error.to_string())?;
    drop(inspector);
    let Some((path, offset, entry)) = found else { return Err(format!("its log has no entry {index}")) };
    let content = disk.content(&path).unwrap_or_default();
    let record = usize::try_from(offset).ok().and_then(|at| content.get(at..)).unwrap_or_default();
    let within = match entry.payload.len() {
        0 => 0,
        length => record.windows(length).position(|window| window == entry.payload.as_ref()).unwrap_or(0),
    };
    if disk.flip(&path, offset + within as u64, 0x10) {
        Ok(())
    } else {
        Err(format!("entry {index} is not on its disk"))
    }
}
