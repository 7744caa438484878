//! Connections: accepting them, bounding them, and draining them at the end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::{debug, warn};

use crate::http::{App, router};
use crate::limits::{DRAIN_TIMEOUT, HTTP_HEADER_TIMEOUT};
use crate::node::Node;

/// How long accepting rests after it failed: the usual reason is that the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Ends [`serve`] when it is told to, or dropped.
#[derive(Debug)]
pub struct Stop(watch::Sender<()>);

impl Stop {
    /// The switch, and what [`serve`] watches.
    pub fn new() -> (Self, watch::Receiver<()>) {
        let (sender, receiver) = watch::channel(());
        (Self(sender), receiver)
    }

    /// Ends it.
    pub fn stop(self) {
        drop(self.0);
    }
}

/// Serves until `stop` is switched; then takes no more connections, lets each finish the request that it is in, and
/// returns when all are closed or [`DRAIN_TIMEOUT`] has passed.
pub async fn serve<N: Node>(listener: TcpListener, app: App<N>, mut stop: watch::Receiver<()>) {
    let connections_max = app.limits.connections_max;
    let router = router(app);
    let places = Arc::new(Semaphore::new(connections_max));
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                tokio::spawn(connection(stream, place, router.clone(), stop.clone()));
            }
            Err(error) => {
                warn!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all = u32::try_from(connections_max).unwrap_or(u32::MAX);
    if tokio::time::timeout(DRAIN_TIMEOUT, places.acquire_many(all)).await.is_err() {
        warn!("some HTTP requests did not end in time; their connections are cut");
    }
}

/// The sender is never used but to be dropped, so that every change is the end.
async fn stopped(stop: &mut watch::Receiver<()>) {
    let _ = stop.changed().await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, Option<OwnedSemaphorePermit>)> {
    // The semaphore is never closed; were it, the connection would merely not be counted.
    let place = Arc::clone(places).acquire_owned().await.ok();
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

async fn connection(
    stream: TcpStream,
    place: Option<OwnedSemaphorePermit>,
    router: Router,
    mut stop: watch::Receiver<()>,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP_HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "an HTTP connection broke");
    }
    drop(place);
}
