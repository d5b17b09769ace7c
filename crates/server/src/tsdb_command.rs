//! `kittiwake tsdb`: work on the metrics store of a server that is stopped.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use kittiwake_env::{RealClock, RealFs, SystemRng};
use kittiwake_model::TimeRange;
use kittiwake_promql as promql;
use kittiwake_tsdb::{Moved, Options, Store, block_kind};
use kittiwake_wire::time;

use crate::args::Args;

/// Lines of each table of `analyze`.
const TOP: usize = 20;

/// What to do with the metrics.
#[derive(Debug, Clone, Subcommand)]
pub enum TsdbCommand {
    /// List the blocks
    List,
    /// Read all of every block and say what is damaged
    Verify,
    /// Show which metric names, label names and pairs have the most series
    Analyze,
    /// Read blocks of Prometheus into the store
    Import {
        /// A block, or a folder of blocks such as Prometheus' data folder
        #[arg(value_name = "DIR", required = true)]
        from: Vec<PathBuf>,
    },
    /// Write the samples as a block of Prometheus
    Export {
        /// The folder in which the block is made
        #[arg(value_name = "DIR")]
        to: PathBuf,
        /// Only series that match, like {job="node"}
        #[arg(long = "match", value_name = "SELECTOR")]
        selector: Option<String>,
        /// Not before this time, in seconds since 1970
        #[arg(long, value_name = "SECONDS")]
        start: Option<f64>,
        /// Not after this time, in seconds since 1970
        #[arg(long, value_name = "SECONDS")]
        end: Option<f64>,
    },
}

/// Does it.
pub fn run(args: &Args, command: &TsdbCommand) -> Result<()> {
    let storage = args.storage()?;
    // A snapshot is a store of metrics without the folder around it.
    let dir = if storage.join("MANIFEST").exists() {
        storage
    } else {
        storage.join("metrics")
    };
    if !dir.exists() && !matches!(command, TsdbCommand::Import { .. }) {
        bail!(
            "{} holds no metrics; name the folder with --storage.path",
            dir.display()
        );
    }
    let mut rng = SystemRng::new().context("no random numbers")?;
    let options = Options {
        // Nothing leaves while one looks at it.
        retention_ms: 0,
        ..Options::default()
    };
    let clock = Arc::new(RealClock::new());
    let store = Store::open(Arc::new(RealFs), clock, &mut rng, &dir, options)
        .with_context(|| format!("metrics in {}", dir.display()))?;
    match command {
        TsdbCommand::List => list(&store),
        TsdbCommand::Verify => verify(&store),
        TsdbCommand::Analyze => analyze(&store),
        TsdbCommand::Import { from } => from.iter().try_for_each(|dir| import(&store, dir)),
        TsdbCommand::Export {
            to,
            selector,
            start,
            end,
        } => {
            let matchers = match selector {
                Some(text) => {
                    promql::parse_selector(text).with_context(|| format!("--match {text:?}"))?
                }
                None => Vec::new(),
            };
            let ms = |seconds: &f64| (seconds * 1000.0) as i64;
            let start = start.as_ref().map_or(i64::MIN, ms);
            let range = TimeRange::new(start, end.as_ref().map_or(i64::MAX, ms));
            let (block, moved) = store.export_prometheus(to, matchers, range)?;
            match block {
                Some(block) => say(&format!("{}: {}", block.display(), counts(moved))),
                None => bail!("no samples match"),
            }
        }
    }
}

fn list(store: &Store) -> Result<()> {
    say(
        "block             holds      level  from                      to                        series     samples    bytes",
    )?;
    for (meta, block) in store.blocks() {
        let (kind, level) = block_kind(meta.level);
        say(&format!(
            "{:016x}  {kind:<9}  {level:<5}  {:<24}  {:<24}  {:<9}  {:<9}  {}",
            meta.id,
            when(meta.start),
            when(meta.end),
            block.select(&[], TimeRange::ALL)?.len(),
            meta.rows,
            block.size_bytes()
        ))?;
    }
    let head = store.stats().head_samples;
    say(&format!("{head} samples in the log only"))
}

fn verify(store: &Store) -> Result<()> {
    let mut damaged = 0;
    for (meta, block) in store.blocks() {
        match block.verify() {
            Ok((series, samples)) if samples == meta.rows => {
                say(&format!(
                    "{:016x}: {series} series, {samples} samples, good",
                    meta.id
                ))?;
            }
            Ok((_, samples)) => {
                damaged += 1;
                say(&format!(
                    "{:016x}: {samples} samples of {}",
                    meta.id, meta.rows
                ))?;
            }
            Err(error) => {
                damaged += 1;
                say(&format!("{:016x}: {error}", meta.id))?;
            }
        }
    }
    if damaged > 0 || store.stats().set_aside > 0 {
        bail!(
            "{damaged} damaged blocks, {} files set aside",
            store.stats().set_aside
        );
    }
    Ok(())
}

fn analyze(store: &Store) -> Result<()> {
    let mut names: HashMap<String, u64> = HashMap::new();
    let mut pairs: HashMap<(String, String), u64> = HashMap::new();
    let mut total = 0;
    // Blocks tell of all series but those that are in the log only.
    store.flush()?;
    for (_, block) in store.blocks() {
        for series in block.select(&[], TimeRange::ALL)? {
            total += 1;
            for (name, value) in &block.labels(series)? {
                if name == "__name__" {
                    *names.entry(value.to_owned()).or_default() += 1;
                } else {
                    *pairs
                        .entry((name.to_owned(), value.to_owned()))
                        .or_default() += 1;
                }
            }
        }
    }
    let mut values: HashMap<String, u64> = HashMap::new();
    for (name, _) in pairs.keys() {
        *values.entry(name.clone()).or_default() += 1;
    }
    say(&format!(
        "{total} series, one in several blocks counted in each"
    ))?;
    top("Series per metric name", names)?;
    top("Values per label name", values)?;
    let shown = pairs
        .into_iter()
        .map(|((n, v), count)| (format!("{n}={v:?}"), count));
    top("Series per label pair", shown.collect())
}

fn top(title: &str, counts: HashMap<String, u64>) -> Result<()> {
    say(&format!("\n{title}:"))?;
    let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    for (what, count) in counts.into_iter().take(TOP) {
        say(&format!("{count:>10}  {what}"))?;
    }
    Ok(())
}

fn import(store: &Store, dir: &Path) -> Result<()> {
    let mut blocks = Vec::new();
    if dir.join("index").exists() {
        blocks.push(dir.to_owned());
    } else {
        for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            if path.join("meta.json").exists() && path.join("index").exists() {
                blocks.push(path);
            }
        }
    }
    // Their names are in order of time.
    blocks.sort();
    if blocks.is_empty() {
        bail!("{} is no block of Prometheus and holds none", dir.display());
    }
    for block in blocks {
        let moved = store
            .import_prometheus(&block)
            .with_context(|| block.display().to_string())?;
        say(&format!("{}: {}", block.display(), counts(moved)))?;
    }
    store.maintain();
    Ok(())
}

pub(crate) fn when(time_ms: i64) -> String {
    let mut text = String::new();
    time::push_rfc3339(&mut text, time_ms.saturating_mul(1_000_000));
    text
}

fn counts(moved: Moved) -> String {
    format!("{} series, {} samples", moved.series, moved.samples)
}

/// A line on standard output; a reader that has gone is no failure worth more than an end.
pub(crate) fn say(line: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use kittiwake_model::Labels;
    use kittiwake_tsdb::Batch;

    use super::*;
    use crate::args::Command;

    fn kittiwake(storage: &Path, words: &[&str]) -> Result<()> {
        let storage = storage.to_str().unwrap();
        let words = [&["kittiwake", "tsdb"], words, &["--storage.path", storage]].concat();
        let args = Args::try_parse_from(words)?;
        let Some(Command::Tsdb(command)) = &args.command else {
            bail!("another command")
        };
        run(&args, command)
    }

    #[test]
    fn a_store_is_exported_imported_and_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two, out) = (
            dir.path().join("1"),
            dir.path().join("2"),
            dir.path().join("3"),
        );
        let open = |storage: &Path| {
            let (fs, clock) = (Arc::new(RealFs), Arc::new(RealClock::new()));
            let mut rng = SystemRng::new().unwrap();
            let options = Options {
                retention_ms: 0,
                ..Options::default()
            };
            Store::open(fs, clock, &mut rng, storage.join("metrics"), options).unwrap()
        };
        let store = open(&one);
        let mut batch = Batch::new();
        for job in ["a", "b"] {
            let labels = Labels::from_pairs([("__name__", "up"), ("job", job)]).unwrap();
            batch.start(labels, None);
            for n in 0..9 {
                batch.sample(1_700_000_000_000 + n * 15_000, 1.0);
            }
        }
        store.write(&batch, None).unwrap();
        drop(store);
        let text = out.to_str().unwrap();
        let one_job = [
            "export",
            text,
            "--match",
            "up{job=\"b\"}",
            "--start",
            "1700000030",
        ];
        kittiwake(&one, &one_job).unwrap();
        kittiwake(&two, &["import", text]).unwrap();
        for command in ["list", "verify", "analyze"] {
            kittiwake(&two, &[command]).unwrap();
        }
        let blocks = open(&two).blocks();
        assert_eq!(
            blocks.iter().map(|(meta, _)| meta.rows).collect::<Vec<_>>(),
            [7]
        );
        for (words, why) in [
            (&["list"][..], "holds no metrics"),
            (&["export", text, "--match", "{"], "--match"),
            (&["import", dir.path().to_str().unwrap()], "no block"),
        ] {
            let storage = if words[0] == "export" { &two } else { &out };
            let error = format!("{:#}", kittiwake(storage, words).unwrap_err());
            assert!(error.contains(why), "{error}");
        }
    }
}
