use super::*;
use crate::{BoxError, decode, encode};
use tokio::time::Instant;

/// Sums what it is given.
#[derive(Default)]
struct Sum(u64);

impl StateMachine for Sum {
    type Command = u64;
    type Query = ();
    type Answer = u64;

    fn apply(&mut self, add: u64) -> u64 {
        self.0 += add;
        self.0
    }

    fn query(&self, (): ()) -> u64 {
        self.0
    }

    fn snapshot(&self) -> Result<Vec<u8>, BoxError> {
        encode(&self.0)
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), BoxError> {
        self.0 = decode(snapshot)?;
        Ok(())
    }
}

#[tokio::test]
async fn a_server_that_does_not_catch_up_is_waited_for_up_to_a_bound() {
    let cluster = Cluster::<Sum>::local(1).await.unwrap();
    cluster.leader().await.unwrap();
    cluster.caught_up(1, 1).await.unwrap();
    // From here on time passes as soon as nothing can run.
    tokio::time::pause();
    let before = Instant::now();
    let late = cluster.caught_up(1, u64::MAX).await.unwrap_err();
    assert!(matches!(late, ClusterError::NotCaughtUp { id: 1, error: WaitError::Timeout(_) }), "{late}");
    assert_eq!(before.elapsed().as_secs(), CATCH_UP_MAX.as_secs());
    tokio::time::resume();
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_leader_is_waited_for_up_to_a_bound() {
    // Nobody stands for election for a minute.
    let config = Config { election_timeout_min: 60_000, election_timeout_max: 120_000, ..Config::default() };
    let cluster = Cluster::local_with(3, config, Sum::default).await.unwrap();
    tokio::time::pause();
    let before = Instant::now();
    let late = cluster.leader().await.unwrap_err();
    assert!(matches!(late, ClusterError::NoLeader(WaitError::Timeout(_))), "{late}");
    assert_eq!(before.elapsed().as_secs(), LEADER_WAIT_MAX.as_secs());
    tokio::time::resume();
    cluster.shutdown().await;
}

/// While a server does not run, nobody else is given its port.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_that_was_stopped_keeps_its_port() {
    let mut cluster = Cluster::<Sum>::local(1).await.unwrap();
    let addr: SocketAddr = cluster.addr(1).unwrap().parse().unwrap();
    cluster.stop(1).await.unwrap();
    let other = TcpSocket::new_v4().unwrap();
    assert_eq!(other.bind(addr).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    cluster.start(1).await.unwrap();
    assert_eq!(cluster.addr(1), Some(addr.to_string().as_str()));
    cluster.shutdown().await;
}
