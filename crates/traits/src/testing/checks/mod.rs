//! The checks, a file for each part of the contract.

mod append;
mod crash;
mod cuts;
mod keys;
mod limits;
mod machine;
mod membership;
mod ranges;
mod readers;
mod snapshots;
mod start;
mod tokens;
mod vote;

use std::future::Future;
use std::pin::Pin;

use super::builder::StoreBuilder;
use super::trial::{Checked, Trial};
use crate::RaftTypeConfig;

/// What a check is about, and what the builder must offer for it to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// The log alone.
    Log,
    /// The state machine, too.
    Machine,
    /// Another thread.
    Threads,
    /// Media whose power can be cut.
    Power,
}

type Running<'t> = Pin<Box<dyn Future<Output = Checked> + 't>>;

/// A check.
pub(super) struct Check<C: RaftTypeConfig, B: StoreBuilder<C>> {
    pub(super) name: &'static str,
    pub(super) needs: Needs,
    pub(super) run: for<'t> fn(&'t mut Trial<C, B>) -> Running<'t>,
}

/// Checks under the names of their functions.
macro_rules! list {
    ($needs:ident: $($check:ident),+ $(,)?) => {
        vec![$($crate::testing::checks::Check {
            name: stringify!($check),
            needs: $crate::testing::checks::Needs::$needs,
            run: |trial| Box::pin($check(trial)),
        }),+]
    };
}
use list;

/// Every check, in the order in which they run: the simple ones first, since what they find explains the others.
pub(super) fn all<C: RaftTypeConfig, B: StoreBuilder<C>>() -> Vec<Check<C, B>> {
    [
        start::checks(),
        vote::checks(),
        append::checks(),
        ranges::checks(),
        limits::checks(),
        keys::checks(),
        cuts::checks(),
        tokens::checks(),
        readers::checks(),
        readers::beside(),
        machine::checks(),
        membership::checks(),
        snapshots::checks(),
        crash::checks(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
