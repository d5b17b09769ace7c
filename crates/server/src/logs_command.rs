//! `kittiwake logs`: work on the log store of a server that is stopped.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use kittiwake_env::{RealClock, RealFs, SystemRng};
use kittiwake_logstore::{Options, Store};

use crate::args::Args;
use crate::tsdb_command::{say, when};

/// What to do with the logs.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum LogsCommand {
    /// Read all of every part and say what is damaged
    Verify,
    /// Show what the parts hold and where their bytes go
    Stats,
}

/// Does it.
pub fn run(args: &Args, command: LogsCommand) -> Result<()> {
    let dir = args.storage()?.join("logs");
    if !dir.exists() {
        bail!(
            "{} holds no logs; name the folder with --storage.path",
            dir.display()
        );
    }
    let mut rng = SystemRng::new().context("no random numbers")?;
    let options = Options {
        // Nothing leaves while one looks at it.
        retention_ns: 0,
        ..Options::default()
    };
    let clock = Arc::new(RealClock::new());
    let store = Store::open(Arc::new(RealFs), clock, &mut rng, &dir, options)
        .with_context(|| format!("logs in {}", dir.display()))?;
    match command {
        LogsCommand::Verify => verify(&store),
        LogsCommand::Stats => stats(&store),
    }
}

fn verify(store: &Store) -> Result<()> {
    let mut damaged = 0;
    for (meta, part) in store.parts() {
        match part.verify() {
            Ok(lines) if lines == meta.rows => {
                say(&format!("{:016x}: {lines} lines, good", meta.id))?;
            }
            Ok(lines) => {
                damaged += 1;
                say(&format!("{:016x}: {lines} lines of {}", meta.id, meta.rows))?;
            }
            Err(error) => {
                damaged += 1;
                say(&format!("{:016x}: {error}", meta.id))?;
            }
        }
    }
    let set_aside = store.stats().set_aside;
    if damaged > 0 || set_aside > 0 {
        bail!("{damaged} damaged parts, {set_aside} files set aside");
    }
    let head = store.stats().head_lines;
    say(&format!("{head} lines in the log only"))
}

fn stats(store: &Store) -> Result<()> {
    say(
        "part              level  from                      to                        streams  blocks   lines       B/line  text    times   text    other   tables  words+index",
    )?;
    for (meta, part) in store.parts() {
        let sizes = part.sizes();
        let per_line = |bytes: u64| bytes as f64 / meta.rows.max(1) as f64;
        let columns = sizes.times + sizes.text + sizes.other + sizes.tables;
        say(&format!(
            "{:016x}  {:<5}  {:<24}  {:<24}  {:<7}  {:<7}  {:<10}  {:<6.2}  {:<6.1}  {:<6.2}  {:<6.2}  {:<6.2}  {:<6.2}  {:.2}",
            meta.id,
            meta.level,
            when(meta.start / 1_000_000),
            when(meta.end / 1_000_000),
            sizes.streams,
            sizes.blocks,
            meta.rows,
            per_line(part.size_bytes()),
            per_line(sizes.lines),
            per_line(sizes.times),
            per_line(sizes.text),
            per_line(sizes.other),
            per_line(sizes.tables),
            per_line(part.size_bytes().saturating_sub(columns)),
        ))?;
    }
    let head = store.stats().head_lines;
    say(&format!("{head} lines in the log only"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use kittiwake_logstore::Batch;
    use kittiwake_model::Labels;

    use super::*;

    #[test]
    fn parts_are_verified_and_measured() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display().to_string();
        let args = Args::parse_from(["kittiwake", "--storage.path", path.as_str()]);
        assert!(run(&args, LogsCommand::Verify).is_err(), "no logs yet");
        {
            let mut rng = SystemRng::new().unwrap();
            let store = Store::open(
                Arc::new(RealFs),
                Arc::new(RealClock::new()),
                &mut rng,
                dir.path().join("logs"),
                Options::default(),
            )
            .unwrap();
            let mut batch = Batch::new();
            batch.start(Labels::from_pairs([("a", "b")]).unwrap());
            batch.line(1 << 60, "a line", None);
            let mut batch_now = Batch::new();
            batch_now.start(Labels::from_pairs([("a", "c")]).unwrap());
            batch_now.line(i64::MAX / 2, "another", None);
            store.write(&batch, None).unwrap();
            store.write(&batch_now, None).unwrap();
            store.flush().unwrap();
        }
        run(&args, LogsCommand::Verify).unwrap();
        run(&args, LogsCommand::Stats).unwrap();
        let parts = dir.path().join("logs/parts");
        let part = std::fs::read_dir(parts).unwrap().next().unwrap().unwrap();
        let mut bytes = std::fs::read(part.path()).unwrap();
        bytes[40] ^= 1;
        std::fs::write(part.path(), bytes).unwrap();
        assert!(run(&args, LogsCommand::Verify).is_err(), "damaged");
    }
}
