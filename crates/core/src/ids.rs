//! The small numbers by which the core and its shell name things to each other.

use core::fmt::{Display, Formatter, Result};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $letter:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
        pub struct $name(pub u64);

        impl Display for $name {
            fn fmt(&self, f: &mut Formatter<'_>) -> Result {
                write!(f, concat!($letter, "{}"), self.0)
            }
        }
    };
}

number!(
    /// Names a log write, ascending in the order of submission.
    WriteId,
    "w"
);
number!(
    /// Names a stream; never used twice by one replica.
    StreamId,
    "s"
);
number!(
    /// Counts the heartbeat rounds of a leadership.
    Round,
    "r"
);
number!(
    /// Names whoever waits for an answer; chosen by the shell, unique while it waits.
    Ticket,
    "t"
);
