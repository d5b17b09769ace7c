//! Names of files with wildcards, as Prometheus takes them: `*` and `?` in the last part of a
//! path only, so that one folder is read and never a tree.

use std::io;
use std::path::{Path, PathBuf};

/// Files that one pattern may name.
pub const MATCHES_MAX: usize = 10_000;

/// Whether wildcards stand in the last part of a path only.
pub(crate) fn is_valid(pattern: &str) -> bool {
    pattern
        .split_once('*')
        .is_none_or(|(_, tail)| !tail.contains('/'))
}

/// The files that a pattern names, sorted; at most [`MATCHES_MAX`]. A folder that is not there
/// has none, and neither has a path without wildcards that leads nowhere.
pub fn matching_files(pattern: &Path) -> io::Result<Vec<PathBuf>> {
    let name = pattern.file_name().and_then(|n| n.to_str()).unwrap_or("");
    if !name.contains(['*', '?']) {
        let exists = pattern.try_exists()?;
        return Ok(exists.then(|| pattern.to_owned()).into_iter().collect());
    }
    let dir = match pattern.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let listing = match std::fs::read_dir(dir) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in listing {
        let entry = entry?;
        let is_match = entry
            .file_name()
            .to_str()
            .is_some_and(|n| wildcard_matches(name.as_bytes(), n.as_bytes()));
        if is_match && found.len() < MATCHES_MAX {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Matches in time proportional to the product of the lengths: after a mismatch only the last
/// `*` is tried again, since an earlier one could do no more.
fn wildcard_matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == b'?' || name.get(n) == Some(c) => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((star_p, star_n)) = star else {
                    return false;
                };
                star = Some((star_p, star_n + 1));
                p = star_p + 1;
                n = star_n + 1;
            }
        }
    }
    pattern
        .get(p..)
        .unwrap_or_default()
        .iter()
        .all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        for (pattern, name, want) in [
            ("*.yml", "a.yml", true),
            ("*.yml", "a.yaml", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("?.json", "x.json", true),
            ("*", "", true),
        ] {
            let got = wildcard_matches(pattern.as_bytes(), name.as_bytes());
            assert_eq!(got, want, "{pattern} {name}");
        }
        assert!(is_valid("a/b*.yml") && !is_valid("a/*/b.yml"));
    }

    #[test]
    fn files_are_found_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yml", "a.yml", "c.json"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let found = matching_files(&dir.path().join("*.yml")).unwrap();
        assert_eq!(found, ["a.yml", "b.yml"].map(|n| dir.path().join(n)));
        assert!(
            matching_files(&dir.path().join("no/*.yml"))
                .unwrap()
                .is_empty()
        );
    }
}
