//! A Docker engine for tests: its own data, its own socket, nothing of the user's touched.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::tools::{find, need, run, succeeds};

/// How long the engine may take to start.
const START: Duration = Duration::from_mins(1);

/// A running engine; it stops when dropped.
pub struct Engine {
    daemon: Child,
    dir: PathBuf,
}

impl Engine {
    /// Starts an engine with an image `busybox:local`, installing Debian's where there is none.
    pub fn start() -> Result<Self> {
        need("dockerd", &["docker.io", "iptables"])?;
        need("docker", &["docker.io"])?;
        need("busybox", &["busybox-static"])?;
        need("ip", &["iproute2"])?;
        // Not below a folder of this checkout: an engine's data does not mount over overlays
        // of overlays, and a socket's path is short.
        let dir = std::env::temp_dir().join(format!("kittiwake-engine-{}", std::process::id()));
        std::fs::create_dir_all(&dir).with_context(|| format!("{}", dir.display()))?;
        let log = std::fs::File::create(dir.join("log"))?;
        let at = |name: &str| dir.join(name).display().to_string();
        println!("+ dockerd --data-root {}", at("data"));
        let daemon = Command::new(find("dockerd").context("dockerd is not there")?)
            .args(["--data-root", &at("data"), "--exec-root", &at("exec")])
            .args(["-p", &at("pid"), "-H", &format!("unix://{}", at("sock"))])
            .args(["--bridge=none", "--iptables=false"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start dockerd")?;
        let mut engine = Self { daemon, dir };
        engine.wait()?;
        engine.import()?;
        Ok(engine)
    }

    /// Its address, as `DOCKER_HOST` has it.
    pub fn address(&self) -> String {
        format!("unix://{}", self.dir.join("sock").display())
    }

    /// A command of its client.
    pub fn docker(&self, words: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["-H", &self.address()]).args(words);
        command
    }

    fn wait(&mut self) -> Result<()> {
        let started = Instant::now();
        while !succeeds(&mut self.docker(&["version"])) {
            let ended = self.daemon.try_wait()?;
            if ended.is_some() || started.elapsed() > START {
                let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
                let end: Vec<&str> = log.lines().rev().take(10).collect();
                bail!(
                    "the Docker engine for tests did not start:\n{}",
                    end.join("\n")
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    fn import(&self) -> Result<()> {
        let image = self.dir.join("image");
        let bin = image.join("bin");
        std::fs::create_dir_all(&bin)?;
        let busybox = ["/bin/busybox", "/usr/bin/busybox"];
        let busybox = busybox.iter().map(Path::new).find(|p| p.is_file());
        std::fs::copy(busybox.context("no busybox")?, bin.join("busybox"))?;
        for name in [
            "sh", "echo", "sleep", "cat", "seq", "dd", "true", "rm", "head", "yes", "date",
            "usleep",
        ] {
            std::os::unix::fs::symlink("busybox", bin.join(name))?;
        }
        let tar = self.dir.join("image.tar");
        run(Command::new("tar")
            .arg("-C")
            .arg(&image)
            .arg("-cf")
            .arg(&tar)
            .arg("."))?;
        run(self.docker(&["import"]).arg(&tar).arg("busybox:local"))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Containers first: their shims outlive the engine.
        if let Ok(list) = self.docker(&["ps", "-aq"]).output() {
            for id in String::from_utf8_lossy(&list.stdout).split_whitespace() {
                succeeds(&mut self.docker(&["rm", "-f", id]));
            }
        }
        succeeds(Command::new("kill").arg(self.daemon.id().to_string()));
        let started = Instant::now();
        while matches!(self.daemon.try_wait(), Ok(None)) {
            if started.elapsed() > Duration::from_secs(20) {
                // It did not end when asked to; nothing of it may stay.
                let _ = self.daemon.kill();
                let _ = self.daemon.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        // What is left is in the temporary folder.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
