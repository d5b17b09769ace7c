//! `kittiwake-collector`: gathers on this machine and ships to a server.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use kittiwake_collector::http::{HttpSettings, HttpShipper};
use kittiwake_collector::{Collector, Scraping, Settings, logging};
use kittiwake_config::PrometheusConfig;
use kittiwake_sources as sources;
use tokio::signal::unix::{SignalKind, signal};

/// How old the sign of life may be for the health check.
const ALIVE: Duration = Duration::from_secs(30);
const DRAIN: Duration = Duration::from_secs(8);

/// Gathers metrics and logs of this machine and its containers, and ships them to a server.
#[derive(Debug, Parser)]
#[command(
    name = "kittiwake-collector",
    version,
    about,
    disable_help_subcommand = true
)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    /// Address of the server, like https://metrics.example:7766
    #[arg(long = "server", value_name = "URL")]
    server: Option<String>,

    /// File with the token that the server lets this collector in by
    #[arg(long = "token-file", value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// PEM file with the authority of the server's certificate
    #[arg(long = "server.ca-file", value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// Where what is not delivered yet waits [default: /var/lib/kittiwake-collector for root,
    /// else $XDG_DATA_HOME/kittiwake-collector]
    #[arg(long = "state.path", value_name = "DIR", global = true)]
    state_path: Option<PathBuf>,

    /// Bytes that may wait there, in MiB
    #[arg(long = "queue.size", value_name = "MIB", default_value_t = 1024)]
    queue_mib: u64,

    /// Prometheus configuration file: what to scrape beside containers and host
    #[arg(long = "config.file", value_name = "FILE")]
    config_file: Option<PathBuf>,

    /// What this machine is called [default: as the Docker engine or the system says]
    #[arg(long = "host-name", value_name = "NAME")]
    host_name: Option<String>,

    /// Where the host's /proc is
    #[arg(long = "path.procfs", value_name = "DIR", default_value = "/proc")]
    procfs: PathBuf,

    /// Where the host's /sys is
    #[arg(long = "path.sysfs", value_name = "DIR", default_value = "/sys")]
    sysfs: PathBuf,

    /// Where the host's / is
    #[arg(long = "path.rootfs", value_name = "DIR", default_value = "/")]
    rootfs: PathBuf,

    /// How much is logged
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info")]
    log_level: logging::Level,

    /// How it is logged
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "logfmt")]
    log_format: logging::Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tell whether the collector of --state.path is alive; for container health checks
    Health,
}

fn main() -> ExitCode {
    // Where it is not taken, more memory is held, and nothing else.
    let _ = kittiwake_env::heap::keep_small();
    let args = Args::parse();
    let done = match args.command {
        Some(Command::Health) => health(&args),
        None => serve(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kittiwake-collector: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn state_path(args: &Args) -> Result<PathBuf> {
    use std::os::unix::fs::MetadataExt as _;
    const NAME: &str = "kittiwake-collector";
    if let Some(path) = &args.state_path {
        return Ok(path.clone());
    }
    if std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0) {
        return Ok(PathBuf::from("/var/lib").join(NAME));
    }
    let var = |name| {
        std::env::var_os(name)
            .filter(|d| !d.is_empty())
            .map(PathBuf::from)
    };
    match (var("XDG_DATA_HOME"), var("HOME")) {
        (Some(data), _) => Ok(data.join(NAME)),
        (None, Some(home)) => Ok(home.join(".local/share").join(NAME)),
        (None, None) => {
            bail!("neither XDG_DATA_HOME nor HOME is set: name a folder with --state.path")
        }
    }
}

fn health(args: &Args) -> Result<()> {
    let file = state_path(args)?.join("alive");
    let changed = std::fs::metadata(&file)
        .and_then(|m| m.modified())
        .with_context(|| format!("no sign of life at {}", file.display()))?;
    let age = SystemTime::now()
        .duration_since(changed)
        .unwrap_or_default();
    if age > ALIVE {
        bail!("the last sign of life is {} s old", age.as_secs());
    }
    println!("alive");
    Ok(())
}

fn serve(args: &Args) -> Result<()> {
    logging::init(args.log_level, args.log_format);
    let server = args
        .server
        .clone()
        .context("--server URL is missing: where should metrics and logs go?")?;
    let shipper = HttpShipper::new(&HttpSettings {
        server: server.clone(),
        token_file: args.token_file.clone(),
        ca_file: args.ca_file.clone(),
    })?;
    let state_path = state_path(args)?;
    let settings = Settings {
        state_path: state_path.clone(),
        queue_bytes_max: args.queue_mib.saturating_mul(1 << 20),
    };
    let sources = sources::Settings {
        host_name: args.host_name.clone(),
        procfs: args.procfs.clone(),
        sysfs: args.sysfs.clone(),
        rootfs: args.rootfs.clone(),
        ..sources::Settings::default()
    };
    let scraping = match &args.config_file {
        Some(file) => Scraping::load(file).context("--config.file")?,
        None => Scraping::fixed(PrometheusConfig::default()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let collector = Collector::start(&settings, sources, scraping, Arc::new(shipper))
            .with_context(|| format!("--state.path {}", state_path.display()))?;
        tracing::info!(server, state = %state_path.display(), "collector started");
        let mut alive = tokio::time::interval(Duration::from_secs(5));
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = alive.tick() => {
                    // A full disk is told by the queue, and its age by the health check.
                    let _ = std::fs::write(state_path.join("alive"), b"");
                }
            }
        }
        tracing::info!("stopping");
        collector.stop(DRAIN).await;
        Ok(())
    })
}
