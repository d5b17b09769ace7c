//! `cargo xtask loki-cases DATASET CASES`: a server is started, filled and asked, and its
//! answers are compared with recorded ones.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kittiwake_cases::loki;

use crate::tools::{cargo, run, target};

/// How long the server may take to be ready.
const START: Duration = Duration::from_mins(1);

/// A server that ends with this program, and its folder with it.
struct Server {
    child: Child,
    dir: PathBuf,
    base: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Runs the cases of a file against a fresh server with a dataset; `false` when an answer
/// differs.
pub fn run_cases(root: &Path, args: &[String]) -> Result<bool> {
    let [dataset, cases] = args else {
        bail!("usage: cargo xtask loki-cases DATASET CASES");
    };
    let read =
        |path: &str| std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
    let (dataset, cases) = (read(dataset)?, read(cases)?);
    let (pushes, ties) = (loki::pushes(&dataset)?, loki::ties(&dataset)?);
    let cases = loki::cases(&cases)?;
    let server = start(root)?;
    for body in pushes {
        let url = format!("{}/loki/api/v1/push", server.base);
        let request = agent().post(url).header("content-type", "application/json");
        let (status, text) = answer(request.send(body))?;
        if status != 204 {
            bail!("a push was answered with {status}: {text}");
        }
    }
    let mut failed = 0;
    for case in &cases {
        let (status, text) = answer(agent().get(format!("{}{}", server.base, case.url())).call())?;
        if let Err(error) = case.check(status, &text, &ties) {
            failed += 1;
            println!("FAILED {}\n       {error:#}", case.name());
        }
    }
    println!("{} passed, {failed} failed", cases.len() - failed);
    Ok(failed == 0)
}

fn start(root: &Path) -> Result<Server> {
    run(&mut cargo(
        root,
        &["build", "--locked", "-p", "kittiwake-server"],
    ))?;
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    drop(listener);
    let dir = std::env::temp_dir().join(format!("kittiwake-loki-cases-{}", std::process::id()));
    let child = Command::new(target(root).join("debug/kittiwake"))
        .arg("--storage.path")
        .arg(&dir)
        // The dataset's times are fixed ones.
        .args([
            "--storage.retention.time",
            "0",
            "--no-collector",
            "--log.level",
            "error",
        ])
        .args(["--web.listen-address", &address])
        .stdin(Stdio::null())
        .spawn()
        .context("cannot start the server")?;
    let mut server = Server {
        child,
        dir,
        base: format!("http://{address}"),
    };
    let started = Instant::now();
    while !is_ready(&server.base) {
        if let Some(status) = server.child.try_wait()? {
            bail!("the server ended: {status}");
        }
        if started.elapsed() > START {
            bail!("the server does not become ready");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(server)
}

fn is_ready(base: &str) -> bool {
    let called = agent().get(format!("{base}/-/ready")).call();
    called.is_ok_and(|answer| answer.status() == 200)
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(START))
        .build();
    config.into()
}

fn answer(called: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<(u16, String)> {
    let mut response = called?;
    let status = response.status().as_u16();
    Ok((status, response.body_mut().read_to_string()?))
}
