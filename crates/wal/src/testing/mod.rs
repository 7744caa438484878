//! A disk in memory that loses, tears and damages what it is told to, and a liar that mends checksums. For simulators and
//! for tests.

mod inode;
mod reseal;
mod sim_disk;

pub use inode::Loss;
pub use reseal::{reseal_index, reseal_meta, reseal_segment, reseal_snapshot};
pub use sim_disk::{Counts, SimDisk, SimFile, SimLock};
