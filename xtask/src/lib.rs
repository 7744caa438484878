//! The chores of this repository, as a library so that `cargo test --workspace` can run [`tidy`] too.

pub mod limits;
pub mod rows;
pub mod steps;
pub mod tidy;

use std::path::{Path, PathBuf};

/// The root of the checkout: the directory above this crate.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
