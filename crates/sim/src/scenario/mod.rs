//! Scenario files: a story about a cluster, one command a line, and what must be true in it.
//!
//! * [`ast`]: what a file says, as closed enums;
//! * [`mod@parse`]: from text, with the line and what was expected where it does not parse;
//! * [`print`]: back to text, in one normal form.
//!
//! `docs/scenarios.md` documents the language with an example of each command.

pub mod ast;
mod cursor;
pub mod parse;
mod print;

pub use ast::{
    Command, Comparison, Condition, ConfigSetting, ConfigValue, DiskState, Ending, Expected, Failure, LeaderIs, Link,
    LinkChange, MemberKind, NodeRef, Number, Operation, OperationCall, ReadVia, RoleName, Scenario, Statement, Target,
};
pub use parse::{ParseError, parse};
