//! Three nodes, one map, one leader less.
use raftwright::{BoxError, Cluster, StateMachine, decode, encode};
use std::collections::BTreeMap;

/// How many of each fruit there are: the same on every node.
#[derive(Default)]
struct Basket(BTreeMap<String, u64>);

impl StateMachine for Basket {
    type Command = (String, u64); // put in so many of this fruit
    type Query = String; // how many are there?
    type Answer = u64;
    fn apply(&mut self, (fruit, count): (String, u64)) -> u64 {
        *self.0.entry(fruit).and_modify(|all| *all += count).or_insert(count)
    }
    fn query(&self, fruit: String) -> u64 {
        self.0.get(&fruit).copied().unwrap_or(0)
    }
    fn snapshot(&self) -> Result<Vec<u8>, BoxError> {
        encode(&self.0)
    }
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), BoxError> {
        self.0 = decode(snapshot)?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut cluster = Cluster::<Basket>::local(3).await?; // three nodes, real sockets, real files
    let client = cluster.client();
    println!("apples: {}", client.write(("apple".into(), 2)).await?);
    let leader = cluster.leader().await?;
    cluster.stop(leader).await?;
    println!("node {leader} led and is stopped; the others go on");
    println!("apples: {}", client.write(("apple".into(), 3)).await?);
    cluster.start(leader).await?;
    println!("node {leader} is back; apples, read linearizably: {}", client.read("apple".into()).await?);
    Ok(())
}
