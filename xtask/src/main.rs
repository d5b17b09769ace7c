//! Developer commands, run as `cargo xtask NAME`.
//!
//! `run` and `test` are the two that do everything, on a fresh Debian machine with Rust and a
//! C compiler: what they need beyond that is installed first when the user is root, and named
//! when not.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

mod bench;
mod clients;
mod engine;
mod floors;
mod guest;
mod loki_cases;
mod oracles;
mod page;
mod promqltest;
mod serve;
mod tools;

use engine::Engine;
use tools::{is_root, need, run};

const USAGE: &str = "usage: cargo xtask COMMAND

  run [ARGS]  build the page and the server, and start it; ARGS go to the server
  test        install what the tests need, then run all of them
  oracles     build what tests compare and check with, once
  guest       make the virtual machine of the tests, and print its folder
  loki-cases DATASET CASES
              compare answers with those recorded on a Loki
  bench       measure what docs/benchmarks.md tells
  promqltest PATH...
              run scripts of Prometheus' PromQL test language, files or folders of *.test";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let rest = words.get(1..).unwrap_or_default();
    let done = match words.first().map(String::as_str) {
        Some("run") => serve::serve(&root(), rest),
        Some("test") => test(),
        Some("oracles") => oracles::build(&root()),
        Some("guest") => oracles::dir()
            .and_then(|d| guest::prepare(&d))
            .map(|d| println!("{}", d.display())),
        Some("loki-cases") => return ended(loki_cases::run_cases(&root(), rest)),
        Some("bench") => bench::bench(&root()),
        Some("promqltest") => return ended(promqltest::promqltest(rest)),
        Some("-h" | "--help") => {
            println!("{USAGE}");
            Ok(())
        }
        Some(other) => Err(anyhow::anyhow!("unknown command {other:?}\n{USAGE}")),
        None => Err(anyhow::anyhow!("no command given\n{USAGE}")),
    };
    ended(done.map(|()| true))
}

/// How the process ends; `false` is a failure that is told already, with a sum as the last line.
fn ended(done: Result<bool>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn test() -> Result<()> {
    let root = root();
    floors::check(&root)?;
    let cargo = |words: &[&str]| tools::cargo(&root, words);
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    // The page first: the server embeds it.
    page::unit(&root.join("ui"))?;
    run(&mut cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))?;
    deny(&root)?;
    // Each test that leaves out something says so, but cargo shows what fails only.
    let _ = kittiwake_conformance::conformance(".");
    // The end-to-end tests start them.
    run(&mut cargo(&["build", "--workspace", "--bins", "--locked"]))?;
    let mut tests = cargo(&["test", "--workspace", "--locked"]);
    if !is_root() {
        if is_required("E2E_DOCKER") {
            bail!("E2E_DOCKER=required: the Docker engine for tests needs root");
        }
        println!("left out: tests with Docker and the browser, whose engine needs root");
        return run(&mut tests);
    }
    // Scraped as it is; nothing starts it but the tests.
    need("prometheus-node-exporter", &["prometheus-node-exporter"])?;
    let engine = Engine::start()?;
    tests.env("KITTIWAKE_TEST_DOCKER", engine.address());
    tests.env("KITTIWAKE_TEST_GUEST", guest::prepare(&oracles::dir()?)?);
    run(&mut tests)?;
    page::browser(&root, &engine)
}

/// Checks licences, bans and sources of all dependencies.
fn deny(root: &Path) -> Result<()> {
    match oracles::program("cargo-deny")? {
        Some(program) => run(Command::new(program)
            .args(["--locked", "check", "licenses", "bans", "sources"])
            .current_dir(root)),
        None if is_required("ORACLES") => {
            bail!("ORACLES=required, but cargo-deny is not built: run cargo xtask oracles")
        }
        None => {
            println!("SKIPPED: the dependencies' licences; cargo xtask oracles builds cargo-deny");
            Ok(())
        }
    }
}

/// Whether a part of the tests must not be left out.
fn is_required(part: &str) -> bool {
    std::env::var_os(part).is_some_and(|value| value == "required")
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
