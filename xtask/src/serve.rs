//! `cargo xtask run`: builds page and server, and starts the server with its collector.

use std::fs::File;
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::tools::{cargo, find, has, is_root, need, run, succeeds, target};

const ADDRESS: &str = "127.0.0.1:7766";
/// The log of an engine that is started here, as its service has it.
const ENGINE_LOG: &str = "/var/log/docker.log";
/// How long the engine may take to answer.
const ENGINE_START: Duration = Duration::from_secs(15);
/// How long the server may take to answer.
const START: Duration = Duration::from_mins(1);

/// Builds and serves until the server ends. `args` go to the server.
pub fn serve(root: &Path, args: &[String]) -> Result<()> {
    println!("1/4 a Docker engine");
    engine();
    println!("2/4 the page");
    page(&root.join("ui"))?;
    println!("3/4 the server (some minutes, the first time)");
    let packages = ["-p", "kittiwake-server", "-p", "kittiwake-collector"];
    run(cargo(root, &["build", "--release", "--locked"]).args(packages))?;
    println!("4/4 starting");
    let mut server = Command::new(target(root).join("release/kittiwake"))
        .args(args)
        .spawn()
        .context("cannot start the server")?;
    let named = args
        .iter()
        .position(|a| a == "--web.listen-address")
        .and_then(|at| args.get(at + 1));
    let address = named.map_or(ADDRESS, String::as_str);
    let started = Instant::now();
    while TcpStream::connect(address).is_err() {
        if let Some(status) = server.try_wait()? {
            bail!("the server ended: {status}");
        }
        if started.elapsed() > START {
            bail!("the server does not answer at {address}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("\nKittiwake is at http://{address}/ (Ctrl-C stops it)\n");
    let status = server.wait()?;
    if !status.success() {
        bail!("the server ended: {status}");
    }
    Ok(())
}

/// Builds the page that the server embeds.
pub fn page(ui: &Path) -> Result<()> {
    need("npm", &["nodejs", "npm"])?;
    run(Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund"])
        .current_dir(ui))?;
    run(Command::new("npm").args(["run", "build"]).current_dir(ui))
}

/// Starts the engine as its service would; it stays when this ends.
fn daemon() -> Result<()> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(ENGINE_LOG)
        .with_context(|| ENGINE_LOG.to_owned())?;
    println!("+ dockerd (its log is {ENGINE_LOG})");
    Command::new(find("dockerd").context("dockerd is not there")?)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-C is for the server alone.
        .process_group(0)
        .spawn()
        .context("cannot start dockerd")?;
    Ok(())
}

/// Uses the engine that is there. Without one the server shows the host alone, so nothing of
/// this is an error.
fn engine() {
    let answers = || {
        let named = std::env::var_os("DOCKER_HOST").is_some();
        named || std::os::unix::net::UnixStream::connect("/var/run/docker.sock").is_ok()
    };
    if answers() {
        return;
    }
    if !has("dockerd") {
        if !is_root() {
            println!(
                "no Docker engine is here; the page will show the host alone. To add one, as root: apt-get install -y --no-remove docker.io"
            );
            return;
        }
        if let Err(error) = need("dockerd", &["docker.io", "iptables"]) {
            println!(
                "no Docker engine could be installed ({error:#}); the page will show the host alone"
            );
            return;
        }
    }
    let comes = || {
        let started = Instant::now();
        while !answers() && started.elapsed() < ENGINE_START {
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    if is_root() {
        if succeeds(Command::new("service").args(["docker", "start"])) {
            comes();
        }
        // In a container, or where services have less rights than the user, nobody else does it.
        if !answers() {
            match daemon() {
                Ok(()) => comes(),
                Err(error) => println!("{error:#}"),
            }
        }
    }
    if !answers() {
        println!(
            "the Docker engine does not run, or this user may not ask it; the page will show the host alone until it does"
        );
    }
}
