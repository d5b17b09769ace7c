//! Developer commands, run as `cargo xtask NAME`.
//!
//! `run` and `test` are the two that do everything, on a fresh Debian machine with Rust and a
//! C compiler: what they need beyond that is installed first when the user is root, and named
//! when not.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Result;

mod bench;
mod engine;
mod floors;
mod serve;
mod tools;

use engine::Engine;
use tools::{is_root, run};

const USAGE: &str = "usage: cargo xtask COMMAND

  run [ARGS]  build the page and the server, and start it; ARGS go to the server
  test        install what the tests need, then run all of them
  bench       measure what docs/benchmarks.md tells";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let rest = words.get(1..).unwrap_or_default();
    let done = match words.first().map(String::as_str) {
        Some("run") => serve::serve(&root(), rest),
        Some("test") => test(),
        Some("bench") => bench::bench(&root()),
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
    let cargo = |words: &[&str]| {
        let mut command = Command::new(&cargo);
        command.args(words).current_dir(&root);
        command
    };
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    // The page first: the server embeds it.
    page(&root.join("ui"))?;
    run(&mut cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))?;
    let mut tests = cargo(&["test", "--workspace", "--locked"]);
    let engine = if std::env::var_os("KITTIWAKE_TEST_DOCKER").is_some() {
        None
    } else if is_root() {
        Some(Engine::start()?)
    } else {
        println!(
            "tests with Docker are left out: they start an engine of their own, which needs root"
        );
        None
    };
    if let Some(engine) = &engine {
        tests.env("KITTIWAKE_TEST_DOCKER", engine.address());
    }
    run(&mut tests)
}

/// Builds, type-checks and tests the page.
fn page(ui: &Path) -> Result<()> {
    serve::page(ui)?;
    run(Command::new("npm").args(["run", "check"]).current_dir(ui))?;
    run(Command::new("npm").arg("test").current_dir(ui))
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
