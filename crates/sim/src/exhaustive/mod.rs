//! Exhaustive search: every state that three servers can reach within stated bounds, breadth first.
//!
//! A state is the three servers and everything that was ever said. Each server is the real `Replica` with its real
//! `Stream`s and a log whose writes reach the disk one by one. Whatever was said stays in the air: it may arrive at any
//! later time, any number of times, or never. So loss, duplication and reordering need no events of their own. A server may
//! crash at any moment, with any number of its unfinished writes on the disk, and start again.
//!
//! Time stands still: every span of the settings is zero, so that whatever a timer could do may happen at any moment, and
//! no leader keeps others from voting. What depends on times (leader stickiness, leases) is for the random worlds.
//!
//! * [`Bounds`]: how far a search goes, and the searches that there are;
//! * `message`: what is in the air, and `air`: sets of it;
//! * `server`: one server, and what one event does to it;
//! * `properties`: what must be true of a state, or was broken by a step;
//! * [`search()`]: the search itself, and [`Report`], what it found.
//!
//! A step changes one server and adds to what is in the air. So servers are numbered by their states, what an event does to
//! a server is computed once and remembered, and a state is four numbers. Servers that differ in nothing but their names are
//! interchangeable; of states that are the same but for the names, only one is looked at.

mod air;
mod bounds;
mod message;
mod properties;
mod search;
mod server;

pub use bounds::Bounds;
pub use search::{Report, Violation, search};
