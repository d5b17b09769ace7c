//! The page's tests: its own, and one in a browser against a real server and container.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::engine::Engine;
use crate::serve;
use crate::tools::{cargo, need, run, target};

/// How long the server may take to answer.
const START: Duration = Duration::from_mins(1);

/// Builds, type-checks and tests the page.
pub fn unit(ui: &Path) -> Result<()> {
    serve::page(ui)?;
    run(Command::new("npm").args(["run", "check"]).current_dir(ui))?;
    run(Command::new("npm").arg("test").current_dir(ui))
}

/// Looks at the page of a server beside the engine, in Chromium.
pub fn browser(root: &Path, engine: &Engine) -> Result<()> {
    need("chromium", &["chromium"])?;
    let folder = root.join("tests/page");
    run(Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund"])
        .current_dir(&folder))?;
    run(&mut cargo(
        root,
        &["build", "--locked", "-p", "kittiwake-server"],
    ))?;
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let storage = std::env::temp_dir().join(format!("kittiwake-page-{}", std::process::id()));
    let log = storage.with_extension("log");
    let mut server = Server(
        Command::new(target(root).join("debug/kittiwake"))
            .args(["--web.listen-address", &address, "--storage.path"])
            .arg(&storage)
            .env("DOCKER_HOST", engine.address())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .context("cannot start the server")?,
    );
    let started = Instant::now();
    while TcpStream::connect(&address).is_err() {
        if server.0.try_wait()?.is_some() || started.elapsed() > START {
            bail!(
                "the server does not answer:\n{}",
                std::fs::read_to_string(&log)?
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    run(Command::new("node")
        .arg("page.mjs")
        .current_dir(&folder)
        .env("KITTIWAKE_URL", format!("http://{address}/"))
        .env("CHROMIUM", "chromium")
        .env("DOCKER_HOST", engine.address()))?;
    drop(server);
    let told = std::fs::read_to_string(&log)?;
    if let Some(line) = told
        .lines()
        .find(|l| l.contains("level=warn") || l.contains("level=error"))
    {
        bail!("the server logged: {line}");
    }
    // In the temporary folder; a leftover harms nobody.
    let _ = std::fs::remove_dir_all(&storage);
    let _ = std::fs::remove_file(&log);
    Ok(())
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
