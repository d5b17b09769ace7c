//! Developer commands, run as `cargo xtask NAME`.
//!
//! `test` is the one command that runs everything there is to run, on a fresh Debian machine
//! with Rust and a C compiler: what the tests need beyond that is installed first when the
//! user is root, and named when not.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

mod floors;

const USAGE: &str = "usage: cargo xtask COMMAND

  test    install what the tests need, then run all of them";

fn main() -> ExitCode {
    let command = std::env::args().nth(1);
    let done = match command.as_deref() {
        Some("test") => test(),
        Some("-h" | "--help") => {
            println!("{USAGE}");
            Ok(())
        }
        Some(other) => Err(anyhow::anyhow!("unknown command {other:?}\n{USAGE}")),
        None => Err(anyhow::anyhow!("no command given\n{USAGE}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn test() -> Result<()> {
    let root = root();
    floors::check(&root)?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let cargo = |words: &[&str]| run(Command::new(&cargo).args(words).current_dir(&root));
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ])?;
    cargo(&["test", "--workspace", "--locked"])?;
    page(&root.join("ui"))
}

/// Builds, type-checks and tests the page.
fn page(ui: &Path) -> Result<()> {
    need("npm", &["nodejs", "npm"])?;
    let npm = |words: &[&str]| run(Command::new("npm").args(words).current_dir(ui));
    npm(&["ci", "--no-audit", "--no-fund"])?;
    npm(&["run", "check"])?;
    npm(&["run", "build"])?;
    npm(&["test"])
}

/// Makes sure that a program is there, from Debian's packages where it is not.
fn need(program: &str, packages: &[&str]) -> Result<()> {
    if Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok()
    {
        return Ok(());
    }
    let install = format!("apt-get install -y --no-remove {}", packages.join(" "));
    let is_root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|o| o.stdout == b"0\n");
    if !is_root {
        bail!("{program} is missing; as root run: {install}");
    }
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    run(Command::new("apt-get")
        .args(["install", "-y", "--no-remove"])
        .args(packages))
    .with_context(|| format!("{program} is missing, and could not be installed"))
}

fn run(command: &mut Command) -> Result<()> {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|w| w.to_string_lossy().into_owned())
        .collect();
    let line = words.join(" ");
    println!("+ {line}");
    let status = command
        .status()
        .with_context(|| format!("cannot start {line}"))?;
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
