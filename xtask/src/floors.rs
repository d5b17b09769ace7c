//! The floors: a crate depends only on crates of floors below its own.
//!
//! The rule is what keeps the engines free of storage and the stores free of HTTP, so it is
//! read from the manifests and not left to review.

use std::path::Path;

use anyhow::{Context, Result, bail};

/// Each crate and its floor. A crate that is not named here is refused.
const FLOORS: &[(&str, u8)] = &[
    ("model", 0),
    ("env", 0),
    ("conformance", 0),
    ("journal", 1),
    ("wire", 1),
    ("config", 1),
    ("vector", 1),
    ("template", 1),
    ("client", 2),
    ("tsdb", 3),
    ("logstore", 3),
    ("promql", 3),
    ("logql", 3),
    ("rules", 3),
    ("alertmanager", 3),
    ("sources", 3),
    ("collector", 4),
    ("promqltest", 4),
    ("cases", 4),
    ("server", 5),
    ("e2e", 6),
    ("differential", 6),
];

/// Reads the manifests below `root/crates` and `root/tests` and fails at the first that breaks the rule.
pub fn check(root: &Path) -> Result<()> {
    for folder in ["crates", "tests"] {
        check_folder(&root.join(folder))?;
    }
    Ok(())
}

fn check_folder(folder: &Path) -> Result<()> {
    let listing =
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in listing {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path().join("Cargo.toml");
        if !path.exists() && !folder.ends_with("crates") {
            continue;
        }
        let manifest = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        check_manifest(&name, &manifest)?;
    }
    Ok(())
}

fn check_manifest(name: &str, manifest: &str) -> Result<()> {
    let floor = floor(name)?;
    for dependency in dependencies(manifest) {
        if self::floor(dependency)? >= floor {
            bail!(
                "crates/{name} is on floor {floor} and must not depend on kittiwake-{dependency}"
            );
        }
    }
    Ok(())
}

fn floor(name: &str) -> Result<u8> {
    match FLOORS.iter().find(|(known, _)| *known == name) {
        Some((_, floor)) => Ok(*floor),
        None => bail!("crates/{name} has no floor: add it to xtask/src/floors.rs"),
    }
}

/// The project's own crates that a manifest depends on, those of its tests aside: a test may
/// bring a store to an engine.
fn dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    let mut counts = false;
    manifest.lines().filter_map(move |line| {
        if let Some(section) = line.trim().strip_prefix('[') {
            counts = section.ends_with("dependencies]") && !section.contains("dev-dependencies");
            let table = section.strip_prefix("dependencies.kittiwake-")?;
            return table.strip_suffix(']');
        }
        let rest = line.trim().strip_prefix("kittiwake-").filter(|_| counts)?;
        rest.split(['.', ' ', '=']).next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_holds_the_floors() {
        check(&crate::root()).unwrap();
    }

    #[test]
    fn an_upward_or_sideways_dependency_is_refused() {
        let above = "[dependencies]\nkittiwake-server.workspace = true\n";
        let error = check_manifest("tsdb", above).unwrap_err().to_string();
        assert!(
            error.contains("tsdb") && error.contains("kittiwake-server"),
            "{error}"
        );
        let beside = "[dependencies]\nkittiwake-logstore = { path = \"x\" }\n";
        assert!(check_manifest("tsdb", beside).is_err());
        let table = "[dependencies.kittiwake-server]\npath = \"x\"\n";
        assert!(check_manifest("tsdb", table).is_err());
        let target = "[target.'cfg(unix)'.dependencies]\nkittiwake-server.workspace = true\n";
        assert!(check_manifest("tsdb", target).is_err());
        assert!(check_manifest("unheard-of", "").is_err());
    }

    #[test]
    fn below_and_in_tests_is_allowed() {
        let manifest = "[dependencies]\nkittiwake-env.workspace = true\n\
                        [dev-dependencies]\nkittiwake-tsdb.workspace = true\n";
        check_manifest("promql", manifest).unwrap();
    }
}
