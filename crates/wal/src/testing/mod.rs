//! A disk in memory that loses, tears and damages what it is told to. For simulators and for tests.

mod inode;
mod sim_disk;

pub use inode::Loss;
pub use sim_disk::{Counts, SimDisk, SimFile, SimLock};
