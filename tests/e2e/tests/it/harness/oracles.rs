//! Other projects' programs that `cargo xtask oracles` has built.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::program::Program;
use super::{Api, free_address, wait_for};

fn dir() -> PathBuf {
    let given = std::env::var_os("KITTIWAKE_ORACLES").map(PathBuf::from);
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = cache.or(home).map(|cache| cache.join("kittiwake-oracles"));
    given.or(cache).unwrap_or_default()
}

/// A program; `None`, said on stderr, when it is not built and need not be.
pub fn oracle(name: &str) -> Option<PathBuf> {
    let path = dir().join("bin").join(name);
    if path.is_file() {
        return Some(path);
    }
    let is_required = std::env::var("ORACLES").is_ok_and(|v| v == "required");
    assert!(
        !is_required,
        "ORACLES=required, but {name} is not built: run cargo xtask oracles"
    );
    eprintln!("SKIPPED: cargo xtask oracles builds {name}");
    None
}

/// A Prometheus with a configuration in which `SELF` stands for its own address.
pub struct Prometheus {
    address: String,
    _program: Program,
}

impl Prometheus {
    pub fn start(path: &Path, dir: &Path, name: &str, yaml: &str, flags: &[&str]) -> Self {
        let address = free_address();
        let config = dir.join(format!("{name}.yml"));
        std::fs::write(&config, yaml.replace("SELF", &address)).unwrap();
        let mut command = Command::new(path);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join(name).display()))
            .arg(format!("--web.listen-address={address}"))
            .args(flags);
        let program = Program::start(command, &dir.join(format!("{name}.log")));
        let started = Self {
            address,
            _program: program,
        };
        let api = started.api();
        wait_for("Prometheus to be ready", || {
            api.get("/-/ready", &[]).filter(|a| a.status == 200)
        });
        started
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn api(&self) -> Api {
        Api {
            base: format!("http://{}", self.address),
        }
    }
}
