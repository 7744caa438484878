//! A directory that goes when nobody needs it any more.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

/// A new directory under the system's temporary one, removed with all that is in it when this is dropped.
#[derive(Debug)]
pub(super) struct TempDir(PathBuf);

impl TempDir {
    pub(super) fn new() -> io::Result<Self> {
        // The standard library seeds each of these differently, so that no two processes try the same names.
        let random = RandomState::new().hash_one(std::process::id());
        let path = std::env::temp_dir().join(format!("raftwright-{random:016x}"));
        // Fails if it exists: nobody else's directory is ever removed.
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A server that was dropped without waiting may still be closing its files, so once more if the first try met a
        // file that was made meanwhile. What is left then is in the system's temporary directory.
        if fs::remove_dir_all(&self.0).is_err() {
            let _left = fs::remove_dir_all(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_with_its_content() {
        let temp = TempDir::new().unwrap();
        let path = temp.path().to_owned();
        fs::create_dir(path.join("a")).unwrap();
        fs::write(path.join("a/b"), "x").unwrap();
        drop(temp);
        assert!(!path.exists());
    }
}
