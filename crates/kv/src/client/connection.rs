//! One HTTP/1.1 connection, kept open between requests. It is hyper's own, without a pool: every user of it sends one
//! request after the other.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Body;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{HeaderMap, Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::limits::CLIENT_ANSWER_BYTES_MAX;

/// A request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// There is no connection: the server has not seen the request.
    #[error("cannot connect to {endpoint}: {source}")]
    Connect {
        /// The address.
        endpoint: String,
        /// What the system says.
        source: io::Error,
    },
    /// The address or a header cannot be written as HTTP.
    #[error("{0} cannot be asked: {1}")]
    Request(String, hyper::http::Error),
    /// The connection broke. The server may have acted on the request.
    #[error("the connection to {0} broke: {1} (is it an address for HTTP, as --http-listen names it?)")]
    Broken(String, String),
    /// No answer came in time. The server may have acted on the request.
    #[error("{0} did not answer within {1:?}")]
    Timeout(String, Duration),
}

impl TransportError {
    /// Whether the server has surely not seen the request.
    pub fn never_sent(&self) -> bool {
        match self {
            TransportError::Connect { .. } | TransportError::Request(..) => true,
            TransportError::Broken(..) | TransportError::Timeout(..) => false,
        }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// A connection to one address. It connects when it is first needed, and again after it broke.
#[derive(Debug)]
pub struct Connection {
    endpoint: String,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// A request: method, path with query, headers, body.
pub(super) type Outgoing<'a> = (Method, &'a str, &'a [(&'static str, &'static str)], Bytes);

impl Connection {
    /// A connection to `host:port`.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self { endpoint: endpoint.into(), sender: None }
    }

    /// The address.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Sends a request and waits for the whole answer.
    ///
    /// # Errors
    /// When no whole answer came. A kept connection that the server had closed meanwhile is opened again without notice, as
    /// long as the request was not sent.
    pub(super) async fn send(&mut self, outgoing: Outgoing<'_>, timeout: Duration) -> Result<Response, TransportError> {
        let deadline = Instant::now() + timeout;
        if self.sender.as_ref().is_none_or(SendRequest::is_closed) {
            // A server that cannot be reached has not seen the request, however long that was tried.
            let connected = timeout_at(deadline, self.connect()).await.unwrap_or_else(|_| {
                let source = io::Error::new(io::ErrorKind::TimedOut, format!("nobody there within {timeout:?}"));
                Err(TransportError::Connect { endpoint: self.endpoint.clone(), source })
            });
            self.sender = Some(connected?);
        }
        match timeout_at(deadline, self.send_now(outgoing)).await {
            Ok(answered) => {
                if answered.is_err() {
                    self.sender = None;
                }
                answered
            }
            Err(_) => {
                // The late answer must not be taken for the next request's.
                self.sender = None;
                Err(TransportError::Timeout(self.endpoint.clone(), timeout))
            }
        }
    }

    async fn send_now(&mut self, (method, path, headers, body): Outgoing<'_>) -> Result<Response, TransportError> {
        let broken = |endpoint: &str, error: &dyn std::fmt::Display| {
            TransportError::Broken(endpoint.to_owned(), error.to_string())
        };
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &self.endpoint);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request =
            request.body(Full::new(body)).map_err(|error| TransportError::Request(self.endpoint.clone(), error))?;
        let mut sender = match self.sender.take() {
            Some(sender) if !sender.is_closed() => sender,
            Some(_) | None => self.connect().await?,
        };
        let response = match sender.try_send_request(request).await {
            Ok(response) => response,
            // hyper gives the request back if not a byte of it was written: the server had closed the connection before.
            Err(mut failed) => match failed.take_message() {
                Some(request) => {
                    sender = self.connect().await?;
                    sender.send_request(request).await.map_err(|error| broken(&self.endpoint, &error))?
                }
                None => return Err(broken(&self.endpoint, failed.error())),
            },
        };
        let (head, body) = response.into_parts();
        let body = answer_within(body, CLIENT_ANSWER_BYTES_MAX).await;
        let body = body.map_err(|error| broken(&self.endpoint, &error))?;
        self.sender = Some(sender);
        Ok(Response { status: head.status, headers: head.headers, body })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, TransportError> {
        let failed = |source| TransportError::Connect { endpoint: self.endpoint.clone(), source };
        let stream = TcpStream::connect(&self.endpoint).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| failed(io::Error::other(error)))?;
        // It ends when the sender is dropped or the socket closes; what it says then, the sender has said already.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// The body, if it is within its limit. A length that is announced and too long is refused before a byte is taken in, one that
/// is not announced when it passes the limit.
async fn answer_within<B>(body: B, limit: usize) -> Result<Bytes, String>
where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static>,
{
    if body.size_hint().lower() > limit as u64 {
        return Err(format!("the answer is longer than the limit of {limit} bytes"));
    }
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(format!("the answer cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::body::{Frame, SizeHint};
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A body of chunks that does not say how long it is, and counts what is taken of it.
    struct Chunks {
        left: usize,
        taken: usize,
    }

    impl Body for &mut Chunks {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            let Some(left) = self.left.checked_sub(1) else { return Poll::Ready(None) };
            self.left = left;
            self.taken += 1;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"ten bytes!")))))
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::default()
        }
    }

    #[tokio::test]
    async fn an_answer_of_no_announced_length_is_cut_at_the_limit() {
        let mut whole = Chunks { left: 3, taken: 0 };
        assert_eq!(answer_within(&mut whole, 30).await.unwrap().len(), 30);
        let mut long = Chunks { left: 1_000, taken: 0 };
        assert!(answer_within(&mut long, 30).await.is_err());
        assert_eq!(long.taken, 4);
    }

    /// A server whose machine is down, or that takes no connection any more.
    #[tokio::test]
    async fn who_cannot_be_reached_has_not_seen_the_request() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        // Nobody accepts. Once the queue is full, the next one is left waiting.
        let mut queued = Vec::new();
        while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            queued.push(stream);
            assert!(queued.len() < 100, "the queue has no end");
        }
        let mut connection = Connection::new(address.to_string());
        let asked = connection.send((Method::PUT, "/kv/a", &[], Bytes::new()), Duration::from_millis(50)).await;
        let error = asked.unwrap_err();
        assert!(error.never_sent() && matches!(error, TransportError::Connect { .. }), "{error}");
    }

    #[tokio::test]
    async fn an_answer_that_announces_too_much_is_refused_before_it_comes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut connection = Connection::new(listener.local_addr().unwrap().to_string());
        let timeout = Duration::from_secs(60);
        let asked = connection.send((Method::GET, "/", &[], Bytes::new()), timeout);
        let answer = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(stream.read_u8().await.unwrap());
            }
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", CLIENT_ANSWER_BYTES_MAX + 1);
            stream.write_all(head.as_bytes()).await.unwrap();
            // Not a byte of the body is ever sent: who waited for it would wait for the timeout.
            stream
        };
        let (answered, _stream) = tokio::join!(asked, answer);
        let error = answered.unwrap_err();
        assert!(matches!(&error, TransportError::Broken(_, why) if why.contains("longer than the limit")), "{error}");
    }
}
