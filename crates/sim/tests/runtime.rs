//! The simulator's runtime: order, time, pauses, death.

#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)] // a test fails by panicking

use std::sync::{Arc, Mutex};
use std::time::Duration;

use raftwright_sim::runtime::{Executor, SimRuntime};
use raftwright_sim::world::{Rng, SimTime};
use raftwright_traits::{AsyncRuntime, Span, Time};

type Log = Arc<Mutex<Vec<String>>>;

fn say(log: &Log, what: impl Into<String>) {
    log.lock().unwrap().push(what.into());
}

fn ms(millis: u64) -> Span {
    Span::from_millis(millis)
}

async fn sleep(runtime: &SimRuntime, span: Span) {
    runtime.sleep_until(runtime.now() + span).await;
}

/// Lets everything happen until that moment.
fn run_until(executor: &mut Executor, until: Duration) {
    let until = SimTime::ZERO.after(until);
    loop {
        executor.run_ready().expect("no livelock");
        match executor.next_wake() {
            Some(at) if at <= until => executor.advance(at),
            _ => break,
        }
    }
    executor.advance(until);
    executor.run_ready().expect("no livelock");
}

#[test]
fn time_jumps_to_the_next_deadline_and_tasks_wake_in_its_order() {
    let mut executor = Executor::new(Rng::new(1));
    let log = Log::default();
    let node = executor.start_node(1);
    for wait in [30, 10, 20] {
        let (runtime, log) = (node.clone(), log.clone());
        node.spawn(async move {
            sleep(&runtime, ms(wait)).await;
            say(&log, format!("{wait} at {}", runtime.now()));
        });
    }
    run_until(&mut executor, Duration::from_secs(3600));
    assert_eq!(*log.lock().unwrap(), ["10 at 10ms", "20 at 20ms", "30 at 30ms"]);
    assert_eq!(executor.tasks(None), 0);
}

#[test]
fn tasks_run_in_the_order_in_which_they_were_woken() {
    let mut executor = Executor::new(Rng::new(1));
    let log = Log::default();
    let node = executor.start_node(1);
    let (first, second) = (tokio::sync::oneshot::channel::<()>(), tokio::sync::oneshot::channel::<()>());
    for (name, wait) in [("first", first.1), ("second", second.1)] {
        let log = log.clone();
        node.spawn(async move {
            wait.await.expect("sent");
            say(&log, name);
        });
    }
    node.spawn(async move {
        second.0.send(()).expect("waited for");
        first.0.send(()).expect("waited for");
    });
    executor.run_ready().expect("no livelock");
    assert_eq!(*log.lock().unwrap(), ["second", "first"]);
}

#[test]
fn a_join_handle_yields_the_result_or_says_that_there_is_none() {
    let mut executor = Executor::new(Rng::new(1));
    let log = Log::default();
    let (one, two) = (executor.start_node(1), executor.start_node(2));
    let good = one.spawn(async { 7 });
    let bad = one.spawn(async { panic!("on purpose") });
    let waiting = two.clone();
    let killed = two.spawn(async move { sleep(&waiting, ms(1000)).await });
    let observer = log.clone();
    one.spawn(async move {
        say(&observer, format!("{:?}", good.await));
        say(&observer, format!("{}", bad.await.is_err()));
        say(&observer, format!("{}", killed.await.is_err()));
    });
    executor.run_ready().expect("no livelock");
    assert_eq!(executor.take_panics(), [(1, "on purpose".to_owned())]);
    executor.kill_node(2);
    executor.run_ready().expect("no livelock");
    assert_eq!(*log.lock().unwrap(), ["Ok(7)", "true", "true"]);
}

#[test]
fn a_dead_process_runs_nothing_and_its_handles_start_nothing() {
    let mut executor = Executor::new(Rng::new(1));
    let log = Log::default();
    let old = executor.start_node(1);
    let (runtime, observer) = (old.clone(), log.clone());
    old.spawn(async move {
        sleep(&runtime, ms(10)).await;
        say(&observer, "old");
    });
    executor.run_ready().expect("no livelock");
    let new = executor.start_node(1);
    let (observer, late) = (log.clone(), log.clone());
    old.spawn(async move { say(&late, "late") });
    new.spawn(async move { say(&observer, "new") });
    run_until(&mut executor, Duration::from_secs(1));
    assert_eq!(*log.lock().unwrap(), ["new"]);
}

#[test]
fn a_paused_process_does_nothing_and_catches_up_when_it_goes_on() {
    let mut executor = Executor::new(Rng::new(1));
    let log = Log::default();
    let node = executor.start_node(1);
    let (runtime, observer) = (node.clone(), log.clone());
    node.spawn(async move {
        for _ in 0..3 {
            sleep(&runtime, ms(10)).await;
            say(&observer, format!("{}", runtime.now()));
        }
    });
    run_until(&mut executor, Duration::from_millis(15));
    executor.pause_node(1);
    run_until(&mut executor, Duration::from_millis(95));
    assert_eq!(*log.lock().unwrap(), ["10ms"]);
    executor.resume_node(1);
    run_until(&mut executor, Duration::from_millis(200));
    assert_eq!(*log.lock().unwrap(), ["10ms", "95ms", "105ms"]);
}

#[test]
fn each_node_has_its_own_clock() {
    let mut executor = Executor::new(Rng::new(1));
    let log = Log::default();
    for id in [1, 2] {
        let node = executor.start_node(id);
        let (runtime, observer) = (node.clone(), log.clone());
        node.spawn(async move {
            runtime.sleep_until(Time::from_nanos(2_000_000_000)).await;
            say(&observer, format!("node {id}"));
        });
    }
    executor.run_ready().expect("no livelock");
    executor.change_clock(2, |clock, now| clock.set_rate(now, 2_000_000));
    run_until(&mut executor, Duration::from_millis(1_500));
    assert_eq!(*log.lock().unwrap(), ["node 2"]);
    executor.change_clock(1, |clock, now| clock.jump(now, Duration::from_secs(10)));
    run_until(&mut executor, Duration::from_millis(1_501));
    assert_eq!(*log.lock().unwrap(), ["node 2", "node 1"]);
}

#[test]
fn tasks_that_wake_each_other_for_ever_are_found() {
    let mut executor = Executor::new(Rng::new(1));
    let node = executor.start_node(1);
    node.spawn(std::future::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        std::task::Poll::<()>::Pending
    }));
    assert!(executor.run_ready().is_err());
}

#[test]
fn chance_comes_from_the_seed_and_the_node() {
    let draw = |seed, node| Executor::new(Rng::new(seed)).start_node(node).random_u64();
    assert_eq!(draw(1, 1), draw(1, 1));
    assert_ne!(draw(1, 1), draw(2, 1));
    assert_ne!(draw(1, 1), draw(1, 2));
}
