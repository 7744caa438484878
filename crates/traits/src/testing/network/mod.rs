//! The conformance suite of networks: what a client and the way to its server owe the node.

mod builder;
mod calls;
mod check;
mod failures;
mod peer;
mod snapshots;
mod streams;

use std::marker::PhantomData;
use std::rc::Rc;

pub use builder::{NetworkBuilder, Served};
pub use peer::{Arrived, TestPeer};

use super::executor::{NoResult, run};
use super::suite::{CheckFailed, Mode, Passed, Report, Skipped, SuiteError};
use crate::RaftTypeConfig;
use check::{Bench, Check};

/// The conformance suite of a network.
pub struct NetworkSuite<C>(PhantomData<fn() -> C>);

fn all<C: RaftTypeConfig, B: NetworkBuilder<C>>() -> Vec<Check<C, B>> {
    [calls::checks(), streams::checks(), failures::checks(), snapshots::checks()].into_iter().flatten().collect()
}

impl<C: RaftTypeConfig> NetworkSuite<C> {
    /// Runs every check, with servers of its own each, on the calling thread.
    ///
    /// Networks that need a runtime find the one that the caller has entered; it must have threads of its own, since this
    /// call holds the calling one.
    ///
    /// # Errors
    /// Every check that was failed, by name, with what the network did.
    pub fn test_all<B: NetworkBuilder<C>>(builder: B) -> Result<Report, SuiteError> {
        let report = Self::report(builder);
        if report.failed.is_empty() { Ok(report) } else { Err(SuiteError { failed: report.failed }) }
    }

    /// As [`test_all`](Self::test_all), and a failed check is no error but a line of the report.
    pub fn report<B: NetworkBuilder<C>>(builder: B) -> Report {
        let builder = Rc::new(builder);
        let mut report = Report::default();
        for check in all::<C, B>() {
            if check.snapshots && builder.snapshot(b"").is_none() {
                let needs = "contents of snapshots (`NetworkBuilder::snapshot`)";
                report.skipped.push(Skipped { check: check.name, needs });
                continue;
            }
            let bench = Bench::new(Rc::clone(&builder));
            let what = match run((check.run)(&bench), builder.patience()) {
                Ok(Ok(())) => {
                    report.passed.push(Passed { check: check.name, mode: Mode::Straight });
                    continue;
                }
                Ok(Err(failure)) => failure.0,
                Err(NoResult::Stuck) => "the network is stuck: a call never ends".to_owned(),
                Err(NoResult::Panicked(message)) => format!("the network panics: {message}"),
            };
            report.failed.push(CheckFailed { check: check.name, mode: Mode::Straight, what, steps: bench.steps() });
        }
        report
    }

    /// The names of all checks, in the order in which they run.
    pub fn names<B: NetworkBuilder<C>>() -> Vec<&'static str> {
        all::<C, B>().into_iter().map(|check| check.name).collect()
    }
}
