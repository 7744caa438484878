//! Values of arguments.

use std::net::SocketAddr;
use std::time::Duration;

/// `host:port`
pub(super) fn endpoint(text: &str) -> Result<String, String> {
    let parts = text.rsplit_once(':').map(|(host, port)| (!host.is_empty(), port.parse::<u16>()));
    match parts {
        Some((true, Ok(1..))) => Ok(text.to_owned()),
        _ => Err("an address is host:port, like 127.0.0.1:8001".to_owned()),
    }
}

/// `ip:port`: what the operating system is asked to listen on.
pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "an address to listen on is IP:PORT, like 127.0.0.1:21001, or 0.0.0.0:21001 for all of this machine's"
            .to_owned()
    })
}

/// The id of a server.
pub(super) fn id(text: &str) -> Result<u64, String> {
    let id = text.parse().ok().filter(|id| *id > 0);
    id.ok_or_else(|| "an id is a whole number from 1 on, like 1".to_owned())
}

/// A key of the store.
pub(super) fn key(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("a key has one character at least".to_owned()) } else { Ok(text.to_owned()) }
}

/// `id=host:port`
pub(super) fn member(text: &str) -> Result<(u64, String), String> {
    let wrong = || "a member is ID=HOST:PORT, like 1=127.0.0.1:21001".to_owned();
    let (id, addr) = text.split_once('=').ok_or_else(wrong)?;
    let id = id.parse().ok().filter(|id| *id > 0).ok_or_else(wrong)?;
    Ok((id, endpoint(addr).map_err(|_| wrong())?))
}

/// `500ms`, `2s`; a bare number is milliseconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong_duration())?;
    let millis = match &text[digits.len()..] {
        "" | "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        _ => None,
    };
    millis.filter(|millis| *millis > 0).map(Duration::from_millis).ok_or_else(wrong_duration)
}

/// `500`, `4KiB`, `32MiB`, `1GiB`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "a number of bytes is like 4096, 64KiB, 32MiB or 1GiB, and more than 0".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let factor = match text.get(digits.len()..) {
        Some("" | "B") => 1,
        Some("KiB") => 1 << 10,
        Some("MiB") => 1 << 20,
        Some("GiB") => 1 << 30,
        Some(_) | None => return Err(wrong()),
    };
    number.checked_mul(factor).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

fn wrong_duration() -> String {
    "a time is like 500ms, 2s or 1m, and more than 0".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(duration("250"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("1m"), Ok(Duration::from_secs(60)));
        for wrong in ["", "s", "0", "0s", "-1s", "1.5s", "1h", "99999999999999999999", "18446744073709551615m"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes("500"), Ok(500));
        assert_eq!(bytes("64KiB"), Ok(64 << 10));
        assert_eq!(bytes("32MiB"), Ok(32 << 20));
        assert_eq!(bytes("1GiB"), Ok(1 << 30));
        for wrong in ["", "MiB", "0", "0GiB", "1GB", "-1", "1.5MiB", "99999999999GiB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses() {
        for right in ["localhost:1", "127.0.0.1:65535", "[::1]:80"] {
            assert!(endpoint(right).is_ok(), "{right}");
        }
        for wrong in ["", ":", ":80", "host", "host:", "host:0", "host:65536", "host:http"] {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
        assert_eq!(member("3=h:1"), Ok((3, "h:1".to_owned())));
        for wrong in ["", "3", "=h:1", "0=h:1", "x=h:1", "3=h"] {
            assert!(member(wrong).is_err(), "{wrong}");
        }
    }
}
