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
