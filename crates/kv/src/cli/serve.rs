//! x
use crate::cli::{Failure, ServeArgs};
pub(super) async fn run(_: ServeArgs) -> Result<(), Failure> {
    Err(Failure::new("soon"))
}
