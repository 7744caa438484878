//! A cluster of whole nodes: the real asynchronous node and the real log, over a simulated disk, network and clock.
//!
//! * [`application`]: what a cluster replicates, and on which stores; [`stores`]: the real log on simulated disks;
//! * [`tap`]: what nodes report; [`watched`]: logs and state machines that do; [`judge`]: shows it to the checkers;
//! * [`network`]: calls between nodes, as mail that the world delivers; `connection`: many of them under way at once;
//!   [`transfer`]: a snapshot, piece by piece;
//! * [`world`]: the nodes, their disks, and the loop that lets time pass;
//! * [`types`], [`machine`]: the application of scenario files; [`story`]: runs them;
//! * [`workload`]: what clients do; [`kv`]: the application of random runs; [`profile`]: what kind of run a seed is; [`drive`]: a run, with its clients
//!   and with what goes wrong in it; [`run`]: one seed from its beginning to its verdict; [`script()`]: a run as a scenario
//!   file.

pub mod application;
mod clients;
mod connection;
mod damage;
pub mod drive;
pub mod judge;
pub mod kv;
pub mod machine;
mod nemesis;
pub mod network;
pub mod profile;
pub mod run;
pub mod script;
mod settings;
pub mod shelf;
pub mod stores;
pub mod story;
pub mod tap;
pub mod transfer;
pub mod types;
pub mod watched;
pub mod workload;
pub mod world;

pub use application::{Application, SimConfig, Stores};
pub use drive::Drive;
pub use run::{run_part, run_seed, run_workload};
pub use script::script;
pub use stores::WalStores;
pub use story::{StoryError, run_story, tell_story};
pub use workload::Workload;
pub use world::NodeWorld;
