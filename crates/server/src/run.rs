//! Starting and stopping the server.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kittiwake_alertmanager::Alertmanager;
use kittiwake_collector::{Collector, Scraping, Settings};
use kittiwake_config::WebConfig;
use kittiwake_env::{Clock, Fs, RealClock, RealFs, Rng as _, SystemRng};
use kittiwake_sources as sources;
use kittiwake_sources::scrape::OwnTarget;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use {kittiwake_logstore as logs_of, kittiwake_tsdb as metrics_of};

use crate::access::Access;
use crate::active_queries::ActiveQueries;
use crate::app::{App, Options, Parts, routes};
use crate::args::Args;
use crate::cors::Cors;
use crate::embedded::InProcess;
use crate::lifecycle;
use crate::listener::{Listener, Peer, tls_acceptor};
use crate::live_config::LiveConfig;
use crate::pool::Limits;
use crate::rules::RuleOptions;
use crate::status_api::Nodes;

/// How often the stores' logs are synced.
const SYNC: Duration = Duration::from_secs(1);
/// Time for requests under way when the server stops.
const DRAIN: Duration = Duration::from_secs(8);
/// Bytes that the collector's queue may hold.
const QUEUE_BYTES_MAX: u64 = 1 << 30;

/// Serves until a signal says to stop.
pub fn serve(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")?;
    runtime.block_on(serve_on(args))
}

async fn serve_on(args: &Args) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let address = args.address()?;
    let retention_ms = args.retention.time_ms()?;
    let web = match &args.web_config_file {
        Some(file) => WebConfig::load(file).context("--web.config.file")?,
        None => WebConfig::default(),
    };
    let is_loopback = address.ip().is_loopback();
    if !is_loopback && !web.has_access_rules() && !args.insecure {
        bail!(
            "{address} can be reached from other machines, and nothing says who may. Name users or tokens in --web.config.file, listen on 127.0.0.1, or accept it with --web.insecure"
        );
    }
    let tls = web
        .tls
        .as_ref()
        .map(tls_acceptor)
        .transpose()
        .context("--web.config.file")?;
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    let config = LiveConfig::load(args.config_file.clone(), clock.now_ms());
    let config = Arc::new(config.context("--config.file")?);
    let cors = match &args.cors_origin {
        Some(expression) => Cors::new(expression).context("--web.cors.origin")?,
        None => Cors::default(),
    };
    let listener = TcpListener::bind(address).await.map_err(|error| {
        if error.kind() == std::io::ErrorKind::AddrInUse {
            anyhow::anyhow!(
                "port {} of {} is in use by another program; choose one with --web.listen-address",
                address.port(),
                address.ip()
            )
        } else {
            anyhow::anyhow!("cannot listen on {address}: {error}")
        }
    })?;
    let address = listener.local_addr()?;

    let storage = args.storage()?;
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let mut rng = SystemRng::new().context("no random numbers")?;
    let metrics = metrics_of::Store::open(
        Arc::clone(&fs),
        Arc::clone(&clock),
        &mut rng,
        storage.join("metrics"),
        metrics_of::Options {
            retention_ms,
            downsampled_ms: args.retention.downsampled_ms()?,
            retention_of: args.retention.series_rules()?,
            retention_bytes: args.retention.size_bytes()?,
            cache_bytes: usize::try_from(args.size("storage.cache.size", &args.cache_size)?)?,
            ..metrics_of::Options::default()
        },
    )
    .with_context(|| format!("--storage.path {}", storage.display()))?;
    let logs = logs_of::Store::open(
        Arc::clone(&fs),
        Arc::clone(&clock),
        &mut rng,
        storage.join("logs"),
        logs_of::Options {
            retention_ns: retention_ms.saturating_mul(1_000_000),
            retention_bytes: args.retention.logs_size_bytes()?,
            retention_of: args
                .retention
                .stream_rules()?
                .into_iter()
                .map(|(matchers, keep_ms)| (matchers, keep_ms.saturating_mul(1_000_000)))
                .collect(),
            ..logs_of::Options::default()
        },
    )
    .with_context(|| format!("--storage.path {}", storage.display()))?;
    let (metrics, logs) = (Arc::new(metrics), Arc::new(logs));
    let keep_metrics = metrics_of::Maintenance::start(&metrics, SYNC)?;
    let keep_logs = logs_of::Maintenance::start(&logs, SYNC)?;

    let (stop, stopped) = watch::channel(false);
    let nodes = Arc::new(Nodes::default());
    let (active, unfinished) = ActiveQueries::open(fs.as_ref(), &storage)
        .with_context(|| format!("--storage.path {}", storage.display()))?;
    for query in unfinished {
        tracing::warn!(query, "this query was running when the program was killed");
    }
    let timeout = args.duration("query.timeout", &args.query_timeout)?;
    let lookback = args.duration("query.lookback-delta", &args.lookback)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let external_url = match &args.external_url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => format!("{scheme}://{address}"),
    };
    let options = Options {
        flags: args.flags(),
        rules: RuleOptions {
            outage_tolerance: args
                .duration("rules.alert.for-outage-tolerance", &args.outage_tolerance)?,
            grace_period: args.period("rules.alert.for-grace-period", &args.grace_period)?,
            resend_delay: args.period("rules.alert.resend-delay", &args.resend_delay)?,
            concurrency: args.rule_concurrency,
            external_url,
        },
        is_lifecycle_enabled: args.enable_lifecycle,
        is_admin_enabled: args.enable_admin_api,
        lookback_ms: i64::try_from(lookback.as_millis())?,
        retention: args.retention.time.clone(),
        queries: Limits {
            running_max: args.query_concurrency,
            timeout,
            samples_max: args.query_samples,
            memory_bytes_max: args.size("query.max-memory", &args.query_memory)?,
        },
        cors: cors.clone(),
        storage: storage.clone(),
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let server_url = match &args.external_url {
        Some(url) if url.contains("://") => url.clone(),
        Some(name) => format!("{scheme}://{name}"),
        None => format!("{scheme}://{address}"),
    };
    let alertmanager = Alertmanager::open(
        Arc::clone(&fs),
        Arc::clone(&clock),
        SystemRng::new().context("no random numbers")?,
        &storage.join("alertmanager"),
        args.alertmanager.config_file.clone(),
        args.alertmanager.options(args, &server_url)?,
    );
    let alertmanager = Arc::new(alertmanager.context("--alertmanager.config.file")?);
    let app = App::new(Parts {
        metrics: Arc::clone(&metrics),
        logs: Arc::clone(&logs),
        clock,
        nodes: Arc::clone(&nodes),
        config: Arc::clone(&config),
        alertmanager: Arc::clone(&alertmanager),
        active,
        options,
        stop: stopped.clone(),
    })?;
    app.load_rules()
        .map_err(anyhow::Error::msg)
        .context("--config.file")?;
    app.rules.start(app.options.rules.concurrency)?;
    let rules = Arc::clone(&app.rules);
    let (sender, stopping) = (Arc::clone(&app.alertmanagers), stopped.clone());
    let sending = tokio::spawn(async move { sender.run(stopping).await });
    let collector = if args.no_collector {
        None
    } else {
        let settings = Settings {
            state_path: storage.join("collector"),
            queue_bytes_max: QUEUE_BYTES_MAX,
        };
        let sources = sources::Settings {
            host_name: args.host_name.clone(),
            procfs: args.procfs.clone(),
            sysfs: args.sysfs.clone(),
            rootfs: args.rootfs.clone(),
            ..sources::Settings::default()
        };
        let own = Arc::clone(&app.own);
        let read = move || {
            let text = own.text().map_err(|e| e.to_string())?;
            String::from_utf8(text).map_err(|e| e.to_string())
        };
        let scraping = Scraping {
            config: config.subscribe(),
            own: Some(OwnTarget {
                address: address.to_string(),
                read: Arc::new(read),
            }),
        };
        let shipper = Arc::new(InProcess(Arc::clone(&app.ingest)));
        let collector = Collector::start(&settings, sources, scraping, shipper)
            .with_context(|| format!("--storage.path {}", storage.display()))?;
        nodes.set_embedded(collector.sources_status());
        Some(collector)
    };

    let mut salt = [0; 16];
    rng.fill(&mut salt);
    let access = Access::new(web, is_loopback, args.external_url.as_deref(), cors, salt);
    let quit = Arc::clone(&app.quit);
    let reloading = app.clone();
    let router = routes(app, Arc::new(access));
    let listener = Listener::start(listener, tls)?;
    let telling = tokio::spawn(alertmanager.run(stopped.clone()));
    let mut wait = stopped.clone();
    let service = router.into_make_service_with_connect_info::<Peer>();
    let server = axum::serve(listener, service).with_graceful_shutdown(async move {
        // The sender lives as long as the server.
        let _ = wait.wait_for(|stopped| *stopped).await;
    });
    let server = tokio::spawn(async move { server.await });
    tracing::info!(address = %format!("{scheme}://{address}/"), storage = %storage.display(), "ready");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = quit.notified() => break,
            _ = hang_up.recv() => {
                let app = reloading.clone();
                // How it went is logged there.
                let _ = tokio::task::spawn_blocking(move || lifecycle::reload(&app)).await;
            }
        }
    }
    tracing::info!("stopping");
    // Groups that run come to their end before the stores do.
    let _ = tokio::task::spawn_blocking(move || rules.stop()).await;
    if let Some(collector) = collector {
        collector.stop(DRAIN).await;
    }
    // Nobody is left to hear when the receivers are gone.
    let _ = stop.send(true);
    if tokio::time::timeout(DRAIN, server).await.is_err() {
        tracing::info!("requests under way were given up");
    }
    if tokio::time::timeout(DRAIN, telling).await.is_err() {
        tracing::warn!("the alertmanager did not stop in time");
    }
    if tokio::time::timeout(DRAIN, sending).await.is_err() {
        tracing::info!("alerts that still waited were not sent");
    }
    drop((keep_metrics, keep_logs));
    metrics.sync_all()?;
    logs.sync_all()?;
    tracing::info!("stopped");
    Ok(())
}

/// Asks a running server whether it is healthy.
pub fn health(args: &Args) -> Result<()> {
    let mut address = args.address()?;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let timeout = Duration::from_secs(5);
    let mut stream = std::net::TcpStream::connect_timeout(&address, timeout)
        .with_context(|| format!("no server at {address}"))?;
    stream.set_read_timeout(Some(timeout))?;
    stream.write_all(b"GET /-/healthy HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    // A server with TLS closes a plain connection: it lives, which is what is asked.
    let _ = stream.take(4096).read_to_end(&mut answer);
    let head = String::from_utf8_lossy(&answer);
    let status = head.split_whitespace().nth(1).unwrap_or("");
    if answer.first().is_some_and(|b| *b == 0x15) || status == "200" {
        println!("healthy");
        return Ok(());
    }
    bail!("the server at {address} answered with status {status:?}");
}
