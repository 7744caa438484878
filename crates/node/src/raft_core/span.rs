//! What the traces say about who speaks.

use raftwright_core::ServerState;
use raftwright_traits::Term;
use tracing::Span;

/// The span of a turn of `RaftCore`: node, term and role. Made anew when one of them changes, since a span's fields are
/// written once.
pub(super) struct CoreSpan {
    span: Span,
    of: Option<(Term, ServerState)>,
}

impl CoreSpan {
    pub(super) fn new() -> Self {
        Self { span: Span::none(), of: None }
    }

    /// The span of a server that is this now.
    pub(super) fn of(&mut self, id: impl std::fmt::Display, term: Term, role: ServerState) -> Span {
        if self.of != Some((term, role)) {
            self.of = Some((term, role));
            self.span = tracing::info_span!("core", %id, term, %role);
        }
        self.span.clone()
    }
}
