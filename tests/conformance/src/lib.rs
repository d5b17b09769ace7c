//! Where the answers of other systems lie that tests are held to: in `$CONFORMANCE_DIR`, else in
//! `shared/conformance` beside the checkout. They are no part of the project.

use std::path::{Path, PathBuf};

/// What lies there under a name, a folder or a file; none where the checkout is alone, which is
/// said.
///
/// # Panics
///
/// When the folder was named by the variable and is not there, or is there without this.
pub fn conformance(name: &str) -> Option<PathBuf> {
    let given = std::env::var_os("CONFORMANCE_DIR").map(PathBuf::from);
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    let is_given = given.is_some();
    let root = given.unwrap_or_else(beside);
    if !is_given && !root.is_dir() {
        eprintln!("SKIPPED: no conformance data at {}", root.display());
        return None;
    }
    let path = root.join(name);
    assert!(path.exists(), "{} is not there", path.display());
    Some(path)
}
