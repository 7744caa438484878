//! Runs the checks and says what came of them.

use std::cell::RefCell;
use std::fmt::{self, Display, Formatter};
use std::marker::PhantomData;
use std::rc::Rc;

use super::builder::{StoreBuilder, Survives};
use super::checks::{Check, Needs, all};
use super::executor::{NoResult, PATIENCE, run};
use super::trial::{Notes, Trial};
use crate::RaftTypeConfig;

/// Most steps of a check that a failure shows: the last ones.
const STEPS_SHOWN_MAX: usize = 24;

/// How a check was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Straight through.
    Straight,
    /// With the stores closed and opened again between doing and looking.
    Reopened,
    /// With the power cut between doing and looking, once every write is completed.
    PowerLoss,
}

impl Display for Mode {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Straight => "straight through",
            Mode::Reopened => "closed and reopened",
            Mode::PowerLoss => "with a power loss",
        })
    }
}

/// A check that a store has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Passed {
    /// The name of the check.
    pub check: &'static str,
    /// How it was run.
    pub mode: Mode,
}

/// A check that could not be run, because the builder does not offer what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skipped {
    /// The name of the check.
    pub check: &'static str,
    /// What it needs.
    pub needs: &'static str,
}

/// A check that a store has failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct CheckFailed {
    /// The name of the check.
    pub check: &'static str,
    /// How it was run.
    pub mode: Mode,
    /// What the store did.
    pub what: String,
    /// What was done before, step by step.
    pub steps: Vec<String>,
}

impl Display for CheckFailed {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.check, self.mode, self.what)?;
        let hidden = self.steps.len().saturating_sub(STEPS_SHOWN_MAX);
        if hidden > 0 {
            write!(f, "\n    ... {hidden} steps before")?;
        }
        self.steps.iter().skip(hidden).try_for_each(|step| write!(f, "\n    {step}"))
    }
}

/// What came of all checks.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What was passed, in order.
    pub passed: Vec<Passed>,
    /// What was failed.
    pub failed: Vec<CheckFailed>,
    /// What was not run.
    pub skipped: Vec<Skipped>,
}

/// The contract is not kept: every check that it failed.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub struct SuiteError {
    /// The checks that failed; at least one.
    pub failed: Vec<CheckFailed>,
}

impl Display for SuiteError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} checks are failed:", self.failed.len())?;
        self.failed.iter().try_for_each(|failed| write!(f, "\n  {failed}"))
    }
}

impl fmt::Debug for SuiteError {
    /// As it is displayed: this is what a test shows that unwraps it.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// The conformance suite of a log store and a state machine.
pub struct Suite<C>(PhantomData<fn() -> C>);

impl<C: RaftTypeConfig> Suite<C> {
    /// Runs every check, on stores of its own each, on the calling thread.
    ///
    /// Stores that need a runtime find the one that the caller has entered; it must have threads of its own, since this
    /// call holds the calling one.
    ///
    /// # Errors
    /// Every check that was failed, by name, with what the store did.
    pub fn test_all<B: StoreBuilder<C>>(builder: B) -> Result<Report, SuiteError> {
        let report = Self::report(builder);
        if report.failed.is_empty() { Ok(report) } else { Err(SuiteError { failed: report.failed }) }
    }

    /// As [`test_all`](Self::test_all), and a failed check is no error but a line of the report.
    pub fn report<B: StoreBuilder<C>>(builder: B) -> Report {
        let builder = Rc::new(builder);
        let mut report = Report::default();
        for check in all::<C, B>() {
            run_check(&builder, &check, &mut report);
        }
        report
    }

    /// The names of all checks, in the order in which they run.
    pub fn names<B: StoreBuilder<C>>() -> Vec<&'static str> {
        all::<C, B>().into_iter().map(|check| check.name).collect()
    }
}

/// Runs a check in every mode that the builder has.
fn run_check<C: RaftTypeConfig, B: StoreBuilder<C>>(builder: &Rc<B>, check: &Check<C, B>, report: &mut Report) {
    let can_cut = match run(async { Ok::<_, crate::StorageError>(builder.power(&builder.media().await?)) }, PATIENCE) {
        Ok(Ok(power)) => power.is_some(),
        Ok(Err(_)) | Err(_) => false,
    };
    let kept = match check.needs {
        Needs::Log | Needs::Threads | Needs::Power => builder.survives() >= Survives::Log,
        Needs::Machine => builder.survives() == Survives::Everything,
    };
    let skip = |needs| Skipped { check: check.name, needs };
    let modes: &[Mode] = match check.needs {
        Needs::Threads if builder.spawn(Box::new(|| {})).is_err() => {
            return report.skipped.push(skip("another thread (`StoreBuilder::spawn`)"));
        }
        Needs::Power if !can_cut => return report.skipped.push(skip("a power switch (`StoreBuilder::power`)")),
        Needs::Threads | Needs::Power => &[Mode::Straight],
        Needs::Log | Needs::Machine => match (kept, can_cut) {
            (false, _) => &[Mode::Straight],
            (true, false) => &[Mode::Straight, Mode::Reopened],
            (true, true) => &[Mode::Straight, Mode::Reopened, Mode::PowerLoss],
        },
    };
    for mode in modes {
        let notes = Notes::new(RefCell::default());
        let trial = async {
            let mut trial = Trial::start(Rc::clone(builder), *mode, Rc::clone(&notes)).await?;
            (check.run)(&mut trial).await
        };
        let what = match run(trial, PATIENCE) {
            Ok(Ok(())) => {
                report.passed.push(Passed { check: check.name, mode: *mode });
                continue;
            }
            Ok(Err(failure)) => failure.0,
            Err(NoResult::Stuck) => "the store is stuck: a call or a token is never completed".to_owned(),
            Err(NoResult::Panicked(message)) => format!("the store panics: {message}"),
        };
        report.failed.push(CheckFailed { check: check.name, mode: *mode, what, steps: notes.take() });
    }
}
