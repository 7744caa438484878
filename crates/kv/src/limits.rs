//! Every bound of the server, by name.

use std::time::Duration;

/// Longest key, in bytes of UTF-8.
pub const KEY_BYTES_MAX: usize = 4 << 10;

/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// Longest JSON body. A value in JSON may be longer than the value: this leaves it twice the room, and some for the key.
pub const JSON_BODY_BYTES_MAX: usize = 2 * VALUE_BYTES_MAX + 4 * KEY_BYTES_MAX;

/// Most pairs that one scan answers with, whatever it asks for.
pub const SCAN_PAIRS_MAX: usize = 10_000;

/// Pairs that a scan answers with if it does not say.
pub const SCAN_PAIRS_DEFAULT: usize = 1_000;

/// About how many bytes one scan answers with: it stops after the pair that reaches them.
pub const SCAN_BYTES_MAX: usize = 8 << 20;

/// Most HTTP connections open at a time. Past it, nothing is accepted until one closes; the kernel's backlog waits.
pub const HTTP_CONNECTIONS_MAX: usize = 4_096;

/// Most requests under way at a time. Past it, a request is refused as busy.
pub const HTTP_REQUESTS_MAX: usize = 2_048;

/// The bounds of the HTTP interface that an embedder may want to change. [`Default`] gives the constants of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// See [`HTTP_CONNECTIONS_MAX`].
    pub connections_max: usize,
    /// See [`HTTP_REQUESTS_MAX`].
    pub requests_max: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self { connections_max: HTTP_CONNECTIONS_MAX, requests_max: HTTP_REQUESTS_MAX }
    }
}

/// How long a client may take to send the head of a request.
pub const HTTP_HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client may take to send the body of a request.
pub const HTTP_BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a stopping server waits for the requests under way.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request may take inside the cluster before its outcome is called unknown.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest answer that the HTTP client takes in.
pub const CLIENT_ANSWER_BYTES_MAX: usize = 64 << 20;

/// How long a stopping leader tries to hand its leadership over.
pub const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a member may take to say how it is.
pub const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
