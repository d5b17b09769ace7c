//! The Docker engine of the tests and its containers.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The image that the engine was given: busybox alone.
const IMAGE: &str = "busybox:local";

/// An engine's address, `unix://...`.
#[derive(Debug, Clone)]
pub struct Engine {
    pub address: String,
}

impl Engine {
    /// An engine that is not there: the collector in a server runs without containers.
    pub fn nowhere() -> Self {
        Self {
            address: "unix:///nowhere".to_owned(),
        }
    }

    /// The engine that `cargo xtask test` starts; without one the test is skipped.
    pub fn for_tests() -> Option<Self> {
        if let Ok(address) = std::env::var("KITTIWAKE_TEST_DOCKER") {
            return Some(Self { address });
        }
        let is_required = std::env::var("E2E_DOCKER").is_ok_and(|v| v == "required");
        assert!(
            !is_required,
            "E2E_DOCKER=required, but KITTIWAKE_TEST_DOCKER names no engine: use cargo xtask test"
        );
        eprintln!("SKIPPED: no Docker engine for tests; cargo xtask test starts one");
        None
    }

    /// Runs a command of its client and gives what it prints.
    pub fn docker(&self, words: &[&str]) -> String {
        let out = self.command(words).output().unwrap();
        let errors = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "docker {words:?}: {errors}");
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    /// Starts a container without network that runs a shell script.
    pub fn run(&self, purpose: &str, options: &[&str], script: &str) -> Container {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{purpose}-{}-{number}", std::process::id());
        let mut words = vec!["run", "-d", "--name", &name, "--network=none"];
        words.extend(options);
        words.extend([IMAGE, "sh", "-c", script]);
        let id = self.docker(&words);
        Container {
            engine: self.clone(),
            name,
            id,
        }
    }

    /// Limits that no load reaches: kernels with cgroup v1 count block I/O of limited groups
    /// only.
    pub fn block_limits(&self) -> [String; 2] {
        let root = self.docker(&["info", "-f", "{{.DockerRootDir}}"]);
        let found = Command::new("findmnt")
            .args(["-n", "-o", "SOURCE", "-T", &root])
            .output()
            .unwrap();
        let device = String::from_utf8(found.stdout).unwrap();
        let device = device.trim().split('[').next().unwrap_or_default();
        ["read", "write"].map(|way| format!("--device-{way}-bps={device}:1gb"))
    }

    /// The socket's path.
    pub fn socket(&self) -> &str {
        self.address.trim_start_matches("unix://")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["-H", &self.address]).args(words);
        command
    }
}

/// A container; it is removed when dropped.
pub struct Container {
    engine: Engine,
    pub name: String,
    pub id: String,
}

impl Container {
    /// What it has printed, by the engine.
    pub fn logs(&self) -> String {
        self.engine.docker(&["logs", &self.name])
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let mut remove = self.engine.command(&["rm", "-f", &self.name]);
        // The engine stops after the tests and takes along what is left.
        let _ = remove.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}
