//! A cluster of whole nodes: the real asynchronous node and the real log, over a simulated disk, network and clock.
//!
//! * [`types`]: the types of the application; [`machine`]: its state machine, which the world can look into;
//! * [`network`]: calls between nodes, as mail that the world delivers;
//! * [`world`]: the nodes, their disks, and the loop that lets time pass;
//! * [`story`]: runs scenario files.

pub mod machine;
pub mod network;
pub mod story;
pub mod types;
pub mod world;

pub use story::{StoryError, run_story, tell_story};
pub use world::NodeWorld;
