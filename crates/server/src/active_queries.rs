//! The queries that run now, in a file: what was running when the process was killed is told
//! at the next start.
//!
//! The file is only appended to, without syncing, since the end of the process is what it is
//! for; when it has grown large it begins anew with those that run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use kittiwake_env::{File, Fs, FsError};
use parking_lot::Mutex;

/// Its name in the folder of the stores.
pub const FILE_NAME: &str = "queries.active";
const BYTES_MAX: u64 = 1 << 20;
/// Bytes of a query that are kept.
const QUERY_BYTES: usize = 1000;

/// The log.
#[derive(Debug, Default)]
pub struct ActiveQueries(Mutex<Log>);

#[derive(Debug, Default)]
struct Log {
    /// `None`: nothing is kept, as in tests.
    file: Option<Box<dyn File>>,
    running: BTreeMap<u64, String>,
    next: u64,
}

impl ActiveQueries {
    /// Opens the log in a folder and gives what was running when the process before ended.
    pub fn open(fs: &dyn Fs, dir: &Path) -> Result<(Self, Vec<String>), FsError> {
        fs.create_dir_all(dir)?;
        let path = dir.join(FILE_NAME);
        let before = if fs.exists(&path)? {
            unfinished(&fs.read(&path, 4 * BYTES_MAX).unwrap_or_default())
        } else {
            Vec::new()
        };
        let log = Log {
            file: Some(fs.create(&path)?),
            ..Log::default()
        };
        Ok((Self(Mutex::new(log)), before))
    }

    /// Notes a query until what this gives is dropped.
    pub fn begin(&self, query: &str, now_ms: i64) -> Active<'_> {
        let mut end = query.len().min(QUERY_BYTES);
        while !query.is_char_boundary(end) {
            end -= 1;
        }
        let query = query[..end].replace(['\n', '\r'], " ");
        let mut log = self.0.lock();
        let number = log.next;
        log.next += 1;
        let text = format!("{now_ms} {query}");
        log.write(&format!("+{number} {text}\n"));
        log.running.insert(number, text);
        Active { log: self, number }
    }

    /// How many run.
    pub fn count(&self) -> usize {
        self.0.lock().running.len()
    }
}

impl Log {
    fn write(&mut self, line: &str) {
        let Some(file) = &mut self.file else {
            return;
        };
        let is_full = file.len() > BYTES_MAX;
        let mut again = String::new();
        for (number, text) in self.running.iter().filter(|_| is_full) {
            // Writing to a text cannot fail.
            let _ = writeln!(again, "+{number} {text}");
        }
        let written = if is_full { file.set_len(0) } else { Ok(()) }
            .and_then(|()| file.append(&[again.as_bytes(), line.as_bytes()]));
        // A full disk must not keep queries from running.
        if let Err(error) = written {
            tracing::debug!(%error, "the log of active queries");
        }
    }
}

/// A query that runs.
#[derive(Debug)]
pub struct Active<'a> {
    log: &'a ActiveQueries,
    number: u64,
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        let mut log = self.log.0.lock();
        log.running.remove(&self.number);
        let line = format!("-{}\n", self.number);
        log.write(&line);
    }
}

fn unfinished(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut running = BTreeMap::new();
    for line in text.lines() {
        if let Some((number, query)) = line.strip_prefix('+').and_then(|l| l.split_once(' ')) {
            running.insert(number, query.to_owned());
        } else if let Some(number) = line.strip_prefix('-') {
            running.remove(number);
        }
    }
    running.into_values().collect()
}

#[cfg(test)]
mod tests {
    use kittiwake_env::RealFs;

    use super::*;

    #[test]
    fn what_was_running_is_told_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let (log, before) = ActiveQueries::open(&RealFs, dir.path()).unwrap();
        assert!(before.is_empty());
        let first = log.begin("up", 7);
        let second = log.begin("rate(a[5m])\n + 1", 8);
        drop(first);
        assert_eq!(log.count(), 1);
        // The process is killed: nothing is dropped.
        let _kept = std::mem::ManuallyDrop::new(second);
        let (_, before) = ActiveQueries::open(&RealFs, dir.path()).unwrap();
        assert_eq!(before, ["8 rate(a[5m])  + 1"]);
        let (_, before) = ActiveQueries::open(&RealFs, dir.path()).unwrap();
        assert!(before.is_empty());
    }
}
