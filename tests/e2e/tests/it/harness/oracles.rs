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

/// A command of Node with the packages of npm that `cargo xtask oracles` has installed for a folder
/// of `tests/`, and a script of that folder; `None` as [`oracle`].
pub fn node(folder: &str, script: &str) -> Option<Command> {
    let mut command = Command::new(oracle("node24")?);
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    command
        .arg(tests.join(folder).join(script))
        .env("NODE_PATH", dir().join(folder).join("node_modules"));
    Some(command)
}

/// Runs a command to its end, which must be a good one, and gives what it prints.
pub fn says(command: &mut Command) -> String {
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {said}{errors}");
    said + &errors
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

/// An Alertmanager by itself.
pub struct Alertmanager {
    address: String,
    _program: Program,
}

impl Alertmanager {
    pub fn start(path: &Path, dir: &Path, yaml: &str, flags: &[&str]) -> Self {
        let address = free_address();
        let config = dir.join("theirs.yml");
        std::fs::write(&config, yaml).unwrap();
        let mut command = Command::new(path);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", dir.join("theirs").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .args(flags)
            // With it the SDK of that version fails.
            .env_remove("AWS_CA_BUNDLE")
            .env("TZ", "UTC");
        let program = Program::start(command, &dir.join("theirs.log"));
        let started = Self {
            address,
            _program: program,
        };
        wait_for("Alertmanager to be ready", || {
            let answer = started.api().get("/-/ready", &[]);
            answer.filter(|answer| answer.status == 200)
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

/// A Loki that keeps its lines in a folder.
#[allow(dead_code, reason = "for the differential test")]
pub struct Loki {
    address: String,
    _program: Program,
}

#[allow(dead_code, reason = "for the differential test")]
impl Loki {
    pub fn start(path: &Path, dir: &Path) -> Self {
        let (address, grpc) = (free_address(), free_address());
        let config = dir.join("loki.yml");
        let port = |address: &str| address.rsplit(':').next().unwrap().to_owned();
        let text = LOKI
            .replace("HTTP", &port(&address))
            .replace("GRPC", &port(&grpc))
            .replace("DIR", &dir.join("loki").display().to_string());
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(path);
        command
            .arg(format!("-config.file={}", config.display()))
            .env("TZ", "UTC");
        let program = Program::start(command, &dir.join("loki.log"));
        let started = Self {
            address,
            _program: program,
        };
        let api = started.api();
        wait_for("Loki to be ready", || {
            api.get("/ready", &[]).filter(|a| a.status == 200)
        });
        started
    }

    pub fn api(&self) -> Api {
        Api {
            base: format!("http://{}", self.address),
        }
    }
}

/// Queries are evaluated as they are written, in one piece: split into shards, some give other
/// labels and averages. Lines of any age are taken. Those older than three hours are shown when they are flushed.
const LOKI: &str = "auth_enabled: false
server:
  http_listen_address: 127.0.0.1
  http_listen_port: HTTP
  grpc_listen_address: 127.0.0.1
  grpc_listen_port: GRPC
  log_level: error
common:
  instance_addr: 127.0.0.1
  path_prefix: DIR
  replication_factor: 1
  storage:
    filesystem:
      chunks_directory: DIR/chunks
      rules_directory: DIR/rules
  ring:
    kvstore:
      store: inmemory
query_range:
  cache_results: false
  parallelise_shardable_queries: false
schema_config:
  configs:
    - from: 2020-10-24
      store: tsdb
      object_store: filesystem
      schema: v13
      index:
        prefix: index_
        period: 24h
limits_config:
  reject_old_samples: false
  ingestion_rate_mb: 1000
  ingestion_burst_size_mb: 1000
  per_stream_rate_limit: 1GB
  per_stream_rate_limit_burst: 1GB
  enable_multi_variant_queries: true
  volume_enabled: true
  split_instant_metric_queries_by_interval: 0
ingester:
  lifecycler:
    min_ready_duration: 0s
pattern_ingester:
  enabled: true
analytics:
  reporting_enabled: false
";
