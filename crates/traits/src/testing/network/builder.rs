//! What the suite asks of whoever brings a network.

use std::future::Future;
use std::time::Duration;

use super::peer::TestPeer;
use crate::testing::executor::PATIENCE;
use crate::{RaftNetworkFactory, RaftTypeConfig};

/// A server that was started.
#[derive(Debug)]
pub struct Served<C: RaftTypeConfig, S> {
    /// What a membership would say about it: how a client reaches it.
    pub node: C::Node,
    /// What stops it.
    pub server: S,
}

/// Makes servers and the clients that reach them.
pub trait NetworkBuilder<C: RaftTypeConfig>: 'static {
    /// Makes the clients.
    type Factory: RaftNetworkFactory<C>;
    /// A running server. It may stop when it is dropped.
    type Server: 'static;

    /// Starts the server with this number at a place of its own. What arrives there is `peer`'s to answer.
    fn serve(&self, number: u64, peer: TestPeer<C>) -> impl Future<Output = Served<C, Self::Server>>;

    /// Stops a server; connections to it break.
    fn stop(&self, server: Self::Server) -> impl Future<Output = ()>;

    /// Starts a server again at the place where it was.
    fn restart(&self, number: u64, node: &C::Node, peer: TestPeer<C>) -> impl Future<Output = Self::Server>;

    /// A place at which there is no server.
    fn nowhere(&self) -> impl Future<Output = C::Node>;

    /// The clients of the server with this number.
    fn factory(&self, number: u64) -> Self::Factory;

    /// What a client could ask, of about this many bytes. Different numbers should give different data.
    fn data(&self, number: u64, bytes: usize) -> C::D;

    /// The id of a server; numbers from 1 to 9 are asked for.
    fn node_id(&self, number: u64) -> C::NodeId;

    /// The content of a snapshot, made of these bytes. `None`, the default, for networks that carry none.
    fn snapshot(&self, content: &[u8]) -> Option<C::SnapshotData> {
        let _ = content;
        None
    }

    /// Lets a little time pass: a network may wait before it connects again. The default lets none.
    fn pause(&self) -> impl Future<Output = ()> {
        async {}
    }

    /// For how long a check waits without any sign of life before the network is taken for stuck.
    fn patience(&self) -> Duration {
        PATIENCE
    }
}
