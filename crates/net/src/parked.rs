//! Connections between two uses: a client that is made for one call takes the connection of the one before it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::client_conn::ClientConn;
use crate::dialer::{Target, Wire};
use crate::limits::{PARKED_MAX, PARKED_TIME_MAX};

struct Parked {
    conn: Box<ClientConn<Wire>>,
    since: Instant,
}

/// Open connections of the control lane that nobody uses at the moment, at most one to a target.
///
/// Nobody watches them: whoever takes one looks first whether it still is one. After [`PARKED_TIME_MAX`] it is not trusted
/// any more: a host that has gone without a word would cost its user a call, where a new connection costs a round trip.
#[derive(Default)]
pub(crate) struct ParkingLot(Mutex<BTreeMap<(String, Option<u64>), Parked>>);

impl ParkingLot {
    /// The connections that are still trusted.
    fn fresh(&self) -> MutexGuard<'_, BTreeMap<(String, Option<u64>), Parked>> {
        let mut lot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lot.retain(|_, parked| parked.since.elapsed() < PARKED_TIME_MAX);
        lot
    }

    /// Keeps a connection on which nothing is under way; drops it when there are too many.
    pub(crate) fn park(&self, target: &Target, conn: Box<ClientConn<Wire>>) {
        let mut lot = self.fresh();
        if lot.len() < PARKED_MAX {
            lot.insert((target.address.clone(), target.node), Parked { conn, since: Instant::now() });
        }
    }

    pub(crate) fn take(&self, target: &Target) -> Option<Box<ClientConn<Wire>>> {
        self.fresh().remove(&(target.address.clone(), target.node)).map(|parked| parked.conn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame_io::FrameIo;
    use crate::handshake::Session;
    use crate::identity::{Features, Lane, PeerIdentity, ProtocolVersion};
    use crate::limits::SILENCE_MAX;
    use tokio::net::{TcpListener, TcpStream};

    fn to(node: u64) -> Target {
        Target { address: "a:1".to_owned(), node: Some(node) }
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_are_closed_and_not_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = async || {
            let stream = TcpStream::connect(address).await.unwrap();
            let peer = PeerIdentity::default();
            let session =
                Session { peer, lane: Lane::Control, version: ProtocolVersion(1), features: Features::CURRENT };
            Box::new(ClientConn::new(FrameIo::new(stream, 100), session, SILENCE_MAX))
        };
        let lot = ParkingLot::default();
        for node in 0..PARKED_MAX as u64 {
            lot.park(&to(node), open().await);
        }
        let one_more = PARKED_MAX as u64;
        lot.park(&to(one_more), open().await);
        assert!(lot.take(&to(one_more)).is_none(), "there was no place for it");
        assert!(lot.take(&to(0)).is_some() && lot.take(&to(0)).is_none(), "it was kept, for one taker");
        lot.park(&to(one_more), open().await);
        assert!(lot.take(&to(one_more)).is_some(), "a place was free again");
    }
}
