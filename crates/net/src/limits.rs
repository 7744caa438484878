//! Every bound of the transport, by name.

use std::time::Duration;

use crate::frame::{BODY_LEN_MAX, HANDSHAKE_BODY_LEN_MAX};
use crate::identity::Lane;

/// Time for name resolution, connecting and handshake together, and on the accepting side for the handshake.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// Time from the first byte of a frame to the last of its header.
pub const HEADER_DEADLINE: Duration = Duration::from_secs(5);

/// Slowest pace at which a body may arrive, in bytes a second, on top of [`HEADER_DEADLINE`].
pub const BODY_RATE_MIN: u64 = 64 * 1024;

/// Time in which a peer must take something of what is being sent to it.
pub const WRITE_STALL_MAX: Duration = Duration::from_secs(30);

/// Time after which a connection with unanswered requests and no sign of life counts as dead, or at the latest half as long
/// again: it is looked at twice in that time, and not from each request on. Before, a `Ping` asks for such a sign, which the
/// other side's connection gives even while its handlers are busy.
pub const SILENCE_MAX: Duration = Duration::from_secs(4);

/// Idle time before TCP itself probes whether the other side still exists.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);

/// Time between two such probes; [`KEEPALIVE_PROBES`] unanswered ones end the connection.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// Unanswered TCP probes that end a connection.
pub const KEEPALIVE_PROBES: u32 = 3;

/// Connections that a listener holds at once.
pub const CONNECTIONS_MAX: usize = 4096;

/// Connections from one IP address that a listener holds at once.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 1024;

/// Connections in their handshake that a listener holds at once.
pub const HANDSHAKES_MAX: usize = 256;

/// Connections in their handshake that a listener holds at once from one IP address: who only connects and says nothing
/// does not keep the others out.
pub const HANDSHAKES_PER_ADDRESS_MAX: usize = 64;

/// Requests of one connection that are being handled or sent, by lane: control.
pub const CONTROL_IN_FLIGHT_MAX: usize = 64;

/// As [`CONTROL_IN_FLIGHT_MAX`], for bulk.
pub const BULK_IN_FLIGHT_MAX: usize = 128;

/// As [`CONTROL_IN_FLIGHT_MAX`], for snapshots.
pub const SNAPSHOT_IN_FLIGHT_MAX: usize = 4;

/// As [`CONTROL_IN_FLIGHT_MAX`], for clients.
pub const CLIENT_IN_FLIGHT_MAX: usize = 1024;

/// Bytes of request bodies of one connection that are being handled at once. One request always is, however long.
pub const IN_FLIGHT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of answers to the requests of one connection that are being handled at once, if these will be about as long as the last
/// ones: how long an answer is shows when it is there. At it, no request is taken in. One always is handled, however long its
/// answer.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes waiting to be written to one connection at which nothing more is taken in. What has been taken in is still answered:
/// see [`ANSWER_BYTES_MAX`].
pub const UNSENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Time that running requests get to finish when a listener shuts down.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// Connections of the control lane that a node keeps open between two calls, all targets together.
pub const PARKED_MAX: usize = 64;

/// Time for which such a connection is kept.
pub const PARKED_TIME_MAX: Duration = KEEPALIVE_IDLE;

/// First pause after a failed attempt to connect.
pub const BACKOFF_MIN: Duration = Duration::from_millis(20);

/// Longest pause between attempts to connect.
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Bytes of a snapshot's content that are sent and not acknowledged: what a break can cost.
pub const SNAPSHOT_CHUNK_BYTES: u32 = 1024 * 1024;

/// Largest such setting. A chunk travels in [`SNAPSHOT_IN_FLIGHT_MAX`] pieces, so this bounds a piece as well.
pub const SNAPSHOT_CHUNK_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// Bytes of one piece of a snapshot. A longer one is refused before anything is done with it.
pub const SNAPSHOT_PIECE_BYTES_MAX: usize = SNAPSHOT_CHUNK_BYTES_MAX as usize / SNAPSHOT_IN_FLIGHT_MAX;

/// Bytes of the text that tells two snapshots of the same entry apart.
pub const SNAPSHOT_ID_LEN_MAX: usize = 1024;

/// Bytes of content of one read while it is compared with what the target has.
pub const SNAPSHOT_COMPARE_BYTES: usize = 256 * 1024;

/// Time that a request may wait for the end of an installation before it is told that it goes on.
pub const INSTALL_WAIT_MAX: Duration = Duration::from_secs(5);

/// The bounds that an embedder may want to change. [`Default`] gives the constants of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest body of a frame, in bytes.
    pub body_len_max: u32,
    /// Largest body of a frame of the handshake, in bytes.
    pub handshake_body_len_max: u32,
    /// See [`HANDSHAKE_DEADLINE`].
    pub handshake_deadline: Duration,
    /// See [`HEADER_DEADLINE`].
    pub header_deadline: Duration,
    /// See [`WRITE_STALL_MAX`].
    pub write_stall_max: Duration,
    /// See [`SILENCE_MAX`].
    pub silence_max: Duration,
    /// See [`CONNECTIONS_MAX`].
    pub connections_max: usize,
    /// See [`CONNECTIONS_PER_ADDRESS_MAX`].
    pub connections_per_address_max: usize,
    /// See [`HANDSHAKES_MAX`].
    pub handshakes_max: usize,
    /// See [`HANDSHAKES_PER_ADDRESS_MAX`].
    pub handshakes_per_address_max: usize,
    /// See [`IN_FLIGHT_BYTES_MAX`].
    pub in_flight_bytes_max: usize,
    /// See [`SHUTDOWN_GRACE`].
    pub shutdown_grace: Duration,
    /// Bytes of snapshots that this node sends a second, to all targets together; 0 for no bound, the default.
    pub snapshot_bytes_per_second: u64,
    /// See [`SNAPSHOT_CHUNK_BYTES`]. At least one; more than [`SNAPSHOT_CHUNK_BYTES_MAX`] counts as that.
    pub snapshot_chunk_bytes: u32,
    /// See [`BACKOFF_MIN`].
    pub backoff_min: Duration,
    /// See [`BACKOFF_MAX`].
    pub backoff_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body_len_max: BODY_LEN_MAX,
            handshake_body_len_max: HANDSHAKE_BODY_LEN_MAX,
            handshake_deadline: HANDSHAKE_DEADLINE,
            header_deadline: HEADER_DEADLINE,
            write_stall_max: WRITE_STALL_MAX,
            silence_max: SILENCE_MAX,
            connections_max: CONNECTIONS_MAX,
            connections_per_address_max: CONNECTIONS_PER_ADDRESS_MAX,
            handshakes_max: HANDSHAKES_MAX,
            handshakes_per_address_max: HANDSHAKES_PER_ADDRESS_MAX,
            in_flight_bytes_max: IN_FLIGHT_BYTES_MAX,
            shutdown_grace: SHUTDOWN_GRACE,
            snapshot_bytes_per_second: 0,
            snapshot_chunk_bytes: SNAPSHOT_CHUNK_BYTES,
            backoff_min: BACKOFF_MIN,
            backoff_max: BACKOFF_MAX,
        }
    }
}

impl Limits {
    /// Requests of one connection on `lane` that may be under way at once.
    pub const fn in_flight_max(&self, lane: Lane) -> usize {
        match lane {
            Lane::Control => CONTROL_IN_FLIGHT_MAX,
            Lane::Bulk => BULK_IN_FLIGHT_MAX,
            Lane::Snapshot => SNAPSHOT_IN_FLIGHT_MAX,
            Lane::Client => CLIENT_IN_FLIGHT_MAX,
        }
    }

    /// Bytes of a chunk of a snapshot: [`snapshot_chunk_bytes`](Self::snapshot_chunk_bytes) within its bounds.
    pub(crate) const fn snapshot_chunk(&self) -> u32 {
        match self.snapshot_chunk_bytes {
            0 => 1,
            bytes @ 1..=SNAPSHOT_CHUNK_BYTES_MAX => bytes,
            _ => SNAPSHOT_CHUNK_BYTES_MAX,
        }
    }

    /// Time within which a frame must have arrived whole, counted from its first byte.
    pub(crate) fn frame_deadline(&self, body_len: usize) -> Duration {
        self.header_deadline.saturating_add(Duration::from_millis(body_len as u64 * 1000 / BODY_RATE_MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an operator reads in `docs/limits.md` is what is in force.
    #[test]
    fn the_settings_are_as_their_constants_say() {
        let seconds = Duration::from_secs;
        let documented = Limits {
            body_len_max: 64 << 20,
            handshake_body_len_max: 4 << 10,
            handshake_deadline: seconds(5),
            header_deadline: seconds(5),
            write_stall_max: seconds(30),
            silence_max: seconds(4),
            connections_max: 4096,
            connections_per_address_max: 1024,
            handshakes_max: 256,
            handshakes_per_address_max: 64,
            in_flight_bytes_max: 64 << 20,
            shutdown_grace: seconds(2),
            snapshot_bytes_per_second: 0,
            snapshot_chunk_bytes: 1 << 20,
            backoff_min: Duration::from_millis(20),
            backoff_max: seconds(2),
        };
        assert_eq!(Limits::default(), documented);
    }
}
