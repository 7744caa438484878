//! A cluster of pure replicas over a simulated network and simulated disks.
//!
//! * [`types`]: what is replicated; [`machine`]: the map it makes; [`store`]: a node's log, on disk and under way;
//! * [`profile`]: what kind of run a seed is;
//! * [`server`]: one node; [`wire`]: what is under way between nodes; [`cluster`]: the event loop;
//! * [`snapshots`]: what a node keeps and sends of its state;
//! * [`client`]: what clients do and see; [`nemesis`]: what goes wrong, and `lease_traps` what
//!   goes wrong together;
//! * [`run`]: one seed from its beginning to its verdict; [`trace`]: what happened in it.

pub mod client;
pub mod cluster;
mod effects;
mod lease_traps;
pub mod machine;
pub mod nemesis;
pub mod profile;
pub mod run;
pub mod server;
pub mod snapshots;
pub mod store;
pub mod trace;
mod traffic;
pub mod types;
pub mod wire;

pub use profile::{Profile, ProfileName};
pub use run::{Outcome, run_seed};
