//! Any error, as data.

use std::error::Error;
use std::fmt::{Debug, Display, Formatter};

use serde::{Deserialize, Serialize};

/// Most causes of an error that are kept. What lies deeper is cut off: an error may be its own cause.
pub const CAUSES_MAX: usize = 16;

/// Any error as data: what it said, of which type it was, and its causes likewise. It can be sent, stored and compared, and
/// is an error itself. With the feature `bt` it also knows where it was made.
///
/// `{}` prints what the error said; `{:#}` its causes as well.
#[derive(Clone, Serialize, Deserialize)]
pub struct AnyError {
    type_name: Option<String>,
    message: String,
    source: Option<Box<AnyError>>,
    /// Without effect on equality: the same error may be made in two places.
    backtrace: Option<String>,
}

impl AnyError {
    /// What this error says, and its causes.
    pub fn new<E: Error + 'static>(error: &E) -> Self {
        Self { type_name: Some(std::any::type_name::<E>().to_owned()), ..Self::from_dyn(error) }
    }

    /// As [`new`](Self::new), of an error whose type is not known.
    pub fn from_dyn(error: &(dyn Error + 'static)) -> Self {
        // An error that is data already is taken as it is: its type and backtrace stay.
        if let Some(error) = error.downcast_ref::<AnyError>() {
            return error.clone();
        }
        let mut causes = Vec::new();
        let mut at = error.source();
        while let Some(cause) = at.filter(|_| causes.len() < CAUSES_MAX) {
            if let Some(cause) = cause.downcast_ref::<AnyError>() {
                causes.push(cause.clone());
                break;
            }
            causes.push(Self::plain(cause.to_string()));
            at = cause.source();
        }
        let source = causes.into_iter().rev().fold(None, |below: Option<Box<AnyError>>, mut cause| {
            cause.source = cause.source.or(below);
            Some(Box::new(cause))
        });
        Self { source, backtrace: backtrace(), ..Self::plain(error.to_string()) }
    }

    /// An error that says this.
    pub fn error(message: impl Display) -> Self {
        Self { backtrace: backtrace(), ..Self::plain(message.to_string()) }
    }

    fn plain(message: String) -> Self {
        Self { type_name: None, message, source: None, backtrace: None }
    }

    /// The same error, and before it what was being done.
    #[must_use]
    pub fn add_context(mut self, context: impl Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// The type of the error that this was made of, if it is known.
    pub fn get_type(&self) -> Option<&str> {
        self.type_name.as_deref()
    }

    /// Whether this was made of an error of type `E`.
    pub fn is<E: Error + 'static>(&self) -> bool {
        self.get_type() == Some(std::any::type_name::<E>())
    }

    /// Where it was made. Always `None` without the feature `bt`.
    pub fn backtrace_str(&self) -> Option<&str> {
        self.backtrace.as_deref()
    }
}

/// Where the caller is, with the feature `bt`.
#[cfg(feature = "bt")]
fn backtrace() -> Option<String> {
    Some(std::backtrace::Backtrace::force_capture().to_string())
}

/// Nothing, without the feature `bt`.
#[cfg(not(feature = "bt"))]
fn backtrace() -> Option<String> {
    None
}

impl Display for AnyError {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) if f.alternate() => write!(f, ": {source:#}"),
            Some(_) | None => Ok(()),
        }
    }
}

impl Debug for AnyError {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:#}")?;
        match &self.backtrace {
            Some(backtrace) => write!(f, "\n{backtrace}"),
            None => Ok(()),
        }
    }
}

impl PartialEq for AnyError {
    fn eq(&self, other: &Self) -> bool {
        (&self.type_name, &self.message, &self.source) == (&other.type_name, &other.message, &other.source)
    }
}

impl Eq for AnyError {}

impl Error for AnyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the file")]
    struct Outer(#[source] std::io::Error);

    fn outer() -> Outer {
        Outer(std::io::Error::other("the disk is gone"))
    }

    #[test]
    fn an_error_and_its_causes_survive_a_wire() {
        let error = AnyError::new(&outer()).add_context("at start");
        assert!(error.is::<Outer>() && !error.is::<std::io::Error>());
        let text = serde_json::to_string(&error).unwrap();
        let back: AnyError = serde_json::from_str(&text).unwrap();
        assert_eq!(back, error);
        assert_eq!(back.to_string(), "at start: cannot read the file");
        assert_eq!(format!("{back:#}"), "at start: cannot read the file: the disk is gone");
        assert_eq!(back.source().unwrap().to_string(), "the disk is gone");
        assert_eq!(AnyError::from_dyn(&back), back, "made of itself it is itself");
    }

    #[test]
    fn an_error_that_is_its_own_cause_has_an_end() {
        #[derive(Debug)]
        struct Snake;
        impl Display for Snake {
            fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
                f.write_str("a tail")
            }
        }
        impl Error for Snake {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(self)
            }
        }
        let error = AnyError::new(&Snake);
        assert_eq!(format!("{error:#}").matches("a tail").count(), CAUSES_MAX + 1);
    }

    #[test]
    fn a_backtrace_is_there_with_the_feature_alone() {
        let made = AnyError::error("x");
        assert_eq!(made.backtrace_str().is_some(), cfg!(feature = "bt"));
        if let Some(backtrace) = made.backtrace_str() {
            assert!(backtrace.contains("a_backtrace_is_there_with_the_feature_alone"), "{backtrace}");
        }
    }
}
