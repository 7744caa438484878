//! HTTP by hand: a test must be able to send what no well-behaved client would.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// Sends these bytes, closes nothing, and reads one answer to the end of the connection.
pub(crate) async fn exchange(address: &str, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut bytes = Vec::new();
    // A server that refuses half-way may reset the connection behind its answer.
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let split = text.find("\r\n\r\n").unwrap_or_else(|| panic!("no answer, but {text:?}"));
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    let body = bytes[split + 4..].to_vec();
    Answer { status, head: text[..split].to_owned(), body }
}

/// An ordinary request.
pub(crate) async fn send(address: &str, line: &str, headers: &str, body: &[u8]) -> Answer {
    let mut request = format!("{line} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}").into_bytes();
    if !body.is_empty() {
        request.extend(format!("content-length: {}\r\n", body.len()).into_bytes());
    }
    request.extend(b"\r\n");
    request.extend(body);
    exchange(address, &request).await
}

/// A request without a body.
pub(crate) async fn get(address: &str, path: &str) -> Answer {
    send(address, &format!("GET {path}"), "", b"").await
}
