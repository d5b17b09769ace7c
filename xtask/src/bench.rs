//! `cargo xtask bench`: the figures of docs/benchmarks.md, measured here.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::engine::Engine;
use crate::tools::{cargo, is_root, run, target};

const ADDRESS: &str = "127.0.0.1:7799";
/// Time before and during the idle measurement.
const SETTLE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_mins(2);
const CONTAINERS: usize = 20;

/// Runs all benches, then the server beside idle containers.
pub fn bench(root: &Path) -> Result<()> {
    for name in ["wire", "journal", "tsdb", "logstore", "server"] {
        let package = format!("kittiwake-{name}");
        run(&mut cargo(
            root,
            &["bench", "--locked", "-p", &package, "--benches"],
        ))?;
    }
    if !is_root() {
        println!("idle: left out, the Docker engine for it needs root");
        return Ok(());
    }
    run(&mut cargo(
        root,
        &["build", "--release", "--locked", "-p", "kittiwake-server"],
    ))?;
    idle(&target(root).join("release/kittiwake"))
}

fn idle(program: &Path) -> Result<()> {
    let engine = Engine::start()?;
    for number in 0..CONTAINERS {
        let name = format!("idle-{number}");
        let words = [
            "run",
            "-d",
            "--name",
            &name,
            "--network=none",
            "busybox:local",
            "sleep",
            "100000",
        ];
        run(engine.docker(&words).stdout(Stdio::null()))?;
    }
    let storage = std::env::temp_dir().join(format!("kittiwake-idle-{}", std::process::id()));
    let mut server = Command::new(program)
        .args(["--web.listen-address", ADDRESS, "--storage.path"])
        .arg(&storage)
        .env("DOCKER_HOST", engine.address())
        .spawn()
        .context("cannot start the server")?;
    std::thread::sleep(SETTLE);
    let before = usage(server.id());
    std::thread::sleep(IDLE);
    let after = usage(server.id());
    let ended = server.kill().and_then(|()| server.wait());
    // In the temporary folder; a leftover harms nobody.
    let _ = std::fs::remove_dir_all(&storage);
    ended.context("the server")?;
    let ((cpu_before, _), (cpu_after, resident)) = (before?, after?);
    println!(
        "idle with {CONTAINERS} containers: {:.2} % of a core, {resident:.0} MiB resident",
        (cpu_after - cpu_before) / IDLE.as_secs_f64() * 100.0
    );
    Ok(())
}

/// CPU seconds and resident MiB of a process.
fn usage(id: u32) -> Result<(f64, f64)> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .context("stat")?
        .1
        .split_whitespace()
        .skip(1)
        .map(|f| f.parse().unwrap_or(0.0))
        .collect();
    let field = |at: usize| fields.get(at).copied().unwrap_or(0.0);
    // Ticks of 10 ms, pages of 4 KiB.
    Ok(((field(10) + field(11)) / 100.0, field(20) / 256.0))
}
