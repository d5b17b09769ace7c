//! Following one container's log for as long as the container is there.
//!
//! From its files where they can be read; else through the engine, which gives each record
//! with its time. Both share one cursor, so that a log can change from one to the other.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::query_parameters::LogsOptions;
use futures_util::StreamExt as _;
use kittiwake_model::{Entry, Labels};
use kittiwake_wire::docker_json::{PartialJoiner, Record, Stream};
use kittiwake_wire::time::parse_rfc3339;
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

use crate::status::Count;
use crate::tail::{FileTail, Lines, Step};
use crate::watch::Watcher;
use crate::{ContainerInfo, Cursor, Gathered, LineBatch, LogReading, Status};

/// How often a log is looked at when the kernel tells its changes, and when it does not.
const POLL_TOLD: Duration = Duration::from_secs(10);
const POLL_UNTOLD: Duration = Duration::from_secs(1);
/// Records of the engine's answer that are handed on at once.
const RECORDS_MAX: usize = 1000;
/// Time before the engine is asked again after it failed.
const RETRY: Duration = Duration::from_secs(1);

/// Where a container's log is to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Docker's json-file log.
    Files(PathBuf),
    /// The engine, with the reason.
    Api(String),
    /// Nowhere, with the reason.
    None(String),
}

/// What a container is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Made, not started.
    Created,
    /// It may write.
    Running,
    /// It does not write until it is started again.
    Ended,
    /// It was removed.
    Gone,
}

/// What a follower must know, and is told when it changes.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub info: Arc<ContainerInfo>,
    pub source: Source,
    pub phase: Phase,
}

/// Follows the log of one container.
pub(crate) struct Follower {
    pub id: String,
    pub host: Arc<str>,
    pub docker: Docker,
    pub watcher: Option<Watcher>,
    pub out: Sender<Gathered>,
    pub cancel: CancellationToken,
    pub status: Arc<Status>,
    pub state: watch::Receiver<State>,
    pub cursor: Option<Cursor>,
}

/// When a log is read again after it began to be followed, while nothing new has come: the
/// engine does not tell from when on it follows.
const LOOKS: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(5)];

/// Why reading from one source ended.
enum End {
    /// The source has changed.
    Changed,
    /// All was read and there will be no more, or nobody wants it.
    Done,
}

/// The name of a container's cursor.
pub(crate) fn cursor_name(id: &str) -> String {
    format!("docker/{id}")
}

impl Follower {
    /// Follows until the container has gone or the collector stops.
    pub(crate) async fn run(mut self) {
        loop {
            let state = self.state.borrow_and_update().clone();
            let end = match &state.source {
                Source::Files(path) => {
                    self.status.set_logs(&self.id, LogReading::Files, "");
                    self.follow_files(path.clone()).await
                }
                Source::Api(reason) => {
                    self.status.set_logs(&self.id, LogReading::Api, reason);
                    self.follow_api(&state.source).await
                }
                Source::None(reason) => {
                    self.status.set_logs(&self.id, LogReading::None, reason);
                    self.wait(&state.source).await
                }
            };
            if matches!(end, End::Done) {
                break;
            }
        }
        if !self.cancel.is_cancelled() && self.phase() == Phase::Gone {
            let cursor = cursor_name(&self.id);
            let _ = self.out.send(Gathered::Forget { cursor }).await;
        }
    }

    fn phase(&self) -> Phase {
        self.state.borrow().phase
    }

    fn labels(&self, stream: Stream) -> Labels {
        let info = Arc::clone(&self.state.borrow().info);
        let labels = info.stream_labels(&self.host, stream.as_str());
        labels.build().unwrap_or_default()
    }

    /// Waits for a change; `None` when the container has gone or the collector stops.
    async fn changed(&mut self) -> Option<()> {
        tokio::select! {
            () = self.cancel.cancelled() => None,
            changed = self.state.changed() => changed.ok(),
        }
    }

    async fn wait(&mut self, source: &Source) -> End {
        loop {
            if self.phase() == Phase::Gone {
                return End::Done;
            }
            if self.state.borrow_and_update().source != *source {
                return End::Changed;
            }
            if self.changed().await.is_none() {
                return End::Done;
            }
        }
    }

    /// Hands lines on; waits while the channel is full. `false` when nobody wants them.
    async fn send(&mut self, lines: Lines) -> bool {
        let batch = LineBatch {
            stream: self.labels(lines.stream),
            cursor: Some((cursor_name(&self.id), lines.cursor.encode())),
            entries: lines.entries,
        };
        let count = batch.entries.len() as u64;
        let sent = tokio::select! {
            () = self.cancel.cancelled() => false,
            sent = self.out.send(Gathered::Lines(batch)) => sent.is_ok(),
        };
        if sent {
            self.status.count(Count::LinesRead, count);
            self.cursor = Some(lines.cursor);
        }
        sent
    }

    async fn send_step(&mut self, step: Step) -> bool {
        for lines in step.lines {
            if !self.send(lines).await {
                return false;
            }
        }
        true
    }

    async fn follow_files(&mut self, path: PathBuf) -> End {
        let source = Source::Files(path.clone());
        let watch = match (&self.watcher, path.parent()) {
            (Some(watcher), Some(dir)) => watcher.watch(dir).ok(),
            _ => None,
        };
        let mut tail = Box::new(FileTail::new(path, self.cursor.clone()));
        loop {
            // Looked at before reading: what was written before the end is read after it.
            let state = self.state.borrow_and_update().clone();
            let reading = tokio::task::spawn_blocking(move || {
                let step = tail.read();
                (tail, step)
            });
            let Ok((back, step)) = reading.await else {
                return End::Done;
            };
            tail = back;
            self.count_losses(&mut tail);
            let step = match step {
                Ok(step) => step,
                Err(error) => {
                    let reason = format!("its log files cannot be read: {error}");
                    return self.follow_api_instead(&source, reason).await;
                }
            };
            let has_more = step.has_more;
            if !self.send_step(step).await {
                return End::Done;
            }
            if has_more {
                continue;
            }
            if matches!(state.phase, Phase::Ended | Phase::Gone) {
                let step = tail.flush();
                self.count_losses(&mut tail);
                if !self.send_step(step).await || state.phase == Phase::Gone {
                    return End::Done;
                }
            }
            if state.source != source {
                self.cursor = Some(tail.cursor().clone());
                return End::Changed;
            }
            let poll = if watch.is_some() {
                POLL_TOLD
            } else {
                POLL_UNTOLD
            };
            let told = async {
                match &watch {
                    Some(watch) => watch.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.cancel.cancelled() => return End::Done,
                changed = self.state.changed() => if changed.is_err() { return End::Done },
                () = told => {}
                () = tokio::time::sleep(poll), if state.phase != Phase::Ended => {}
            }
        }
    }

    fn count_losses(&self, tail: &mut FileTail) {
        let losses = tail.take_losses();
        for (what, times) in [
            (Count::RecordsMalformed, losses.records_malformed),
            (Count::LinesReplaced, losses.lines_replaced),
            (Count::LogsCut, losses.logs_cut),
            (Count::LogFilesFailed, losses.files_failed),
        ] {
            self.status.count(what, times);
        }
    }

    async fn follow_api_instead(&mut self, source: &Source, reason: String) -> End {
        self.status.set_logs(&self.id, LogReading::Api, &reason);
        self.follow_api(source).await
    }

    /// Reads through the engine for as long as the state names this source.
    async fn follow_api(&mut self, source: &Source) -> End {
        loop {
            let state = self.state.borrow_and_update().clone();
            if state.source != *source {
                return End::Changed;
            }
            let mut reader = ApiReader::new(self.cursor.clone());
            let read = match state.phase {
                Phase::Created => Ok(()),
                Phase::Running => self.follow_live(&mut reader).await,
                Phase::Ended | Phase::Gone => self.read_to_end(&mut reader).await,
            };
            let is_over = read.is_ok() && state.phase != Phase::Running;
            match read {
                Ok(()) => {}
                Err(Interrupted::Stopped) => return End::Done,
                Err(Interrupted::Failed(Error::DockerResponseServerError {
                    status_code,
                    message,
                })) => {
                    if status_code == 404 {
                        // Removed; its event is on the way.
                    } else if status_code >= 500 && !message.contains("does not support reading") {
                        tracing::debug!(container = %state.info.name, %message, "its log cannot be read now");
                    } else {
                        self.status.set_logs(&self.id, LogReading::None, &message);
                        return self.wait(source).await;
                    }
                }
                Err(Interrupted::Failed(_)) => {}
            }
            if state.phase == Phase::Gone {
                return End::Done;
            }
            let retry = async {
                if is_over {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(RETRY).await;
            };
            tokio::select! {
                () = self.cancel.cancelled() => return End::Done,
                changed = self.state.changed() => if changed.is_err() { return End::Done },
                () = retry => {}
            }
        }
    }

    /// Reads what there is, then what comes, until the engine ends its answer.
    ///
    /// Engines before 23 lose records that are written while they turn from the old to the
    /// new, so the new alone is followed, and the old read by itself until the two overlap.
    async fn follow_live(&mut self, reader: &mut ApiReader) -> Result<(), Interrupted> {
        self.catch_up(reader).await?;
        let docker = self.docker.clone();
        let options = LogsOptions {
            follow: true,
            tail: "0".to_owned(),
            ..options(reader)
        };
        let mut live = std::pin::pin!(
            docker
                .logs(&self.id.clone(), Some(options))
                .ready_chunks(RECORDS_MAX)
        );
        let mut looks = LOOKS.iter();
        let mut has_begun = false;
        loop {
            let look = (!has_begun).then(|| looks.next()).flatten();
            let next_look = async {
                match look {
                    Some(after) => tokio::time::sleep(*after).await,
                    None => std::future::pending().await,
                }
            };
            let chunk = tokio::select! {
                () = self.cancel.cancelled() => return Err(Interrupted::Stopped),
                chunk = live.next() => chunk,
                () = next_look => {
                    self.catch_up(reader).await?;
                    continue;
                }
            };
            let Some(chunk) = chunk else { return Ok(()) };
            if !has_begun {
                has_begun = true;
                if !chunk
                    .iter()
                    .flatten()
                    .next()
                    .is_some_and(|o| reader.is_known(o))
                {
                    self.catch_up(reader).await?;
                }
            }
            self.take(reader, chunk).await?;
        }
    }

    /// Reads what there is of a container that does not write, to its last line.
    async fn read_to_end(&mut self, reader: &mut ApiReader) -> Result<(), Interrupted> {
        self.catch_up(reader).await?;
        for lines in reader.flush() {
            if !self.send(lines).await {
                return Err(Interrupted::Stopped);
            }
        }
        self.cursor = Some(reader.cursor.clone());
        Ok(())
    }

    /// Reads what there is beyond what is known.
    async fn catch_up(&mut self, reader: &mut ApiReader) -> Result<(), Interrupted> {
        reader.skip_known();
        let docker = self.docker.clone();
        let options = options(reader);
        let mut records = std::pin::pin!(
            docker
                .logs(&self.id.clone(), Some(options))
                .ready_chunks(RECORDS_MAX)
        );
        loop {
            let chunk = tokio::select! {
                () = self.cancel.cancelled() => return Err(Interrupted::Stopped),
                chunk = records.next() => chunk,
            };
            let Some(chunk) = chunk else { break };
            self.take(reader, chunk).await?;
        }
        reader.skip_known();
        Ok(())
    }

    async fn take(
        &mut self,
        reader: &mut ApiReader,
        chunk: Vec<Result<LogOutput, Error>>,
    ) -> Result<(), Interrupted> {
        let mut failure = None;
        for output in chunk {
            match output {
                Ok(output) => reader.take(&output),
                Err(error) => failure = Some(error),
            }
        }
        let malformed = std::mem::take(&mut reader.malformed);
        self.status.count(Count::RecordsMalformed, malformed);
        for lines in reader.give() {
            if !self.send(lines).await {
                return Err(Interrupted::Stopped);
            }
        }
        self.cursor = Some(reader.cursor.clone());
        match failure {
            Some(error) => Err(Interrupted::Failed(error)),
            None => Ok(()),
        }
    }
}

fn options(reader: &ApiReader) -> LogsOptions {
    LogsOptions {
        stdout: true,
        stderr: true,
        timestamps: true,
        since: reader.since_seconds(),
        ..LogsOptions::default()
    }
}

/// Why reading through the engine ended early.
enum Interrupted {
    /// Nobody wants more.
    Stopped,
    /// The engine failed.
    Failed(Error),
}

/// Whether the log files in this directory can be read.
pub(crate) fn can_read(dir: &std::path::Path) -> io::Result<()> {
    std::fs::read_dir(dir).map(drop)
}

fn parts(output: &LogOutput) -> (Stream, &[u8]) {
    match output {
        LogOutput::StdErr { message } => (Stream::Stderr, message),
        LogOutput::StdOut { message }
        | LogOutput::StdIn { message }
        | LogOutput::Console { message } => (Stream::Stdout, message),
    }
}

/// Puts together what the engine gives: records with a time before each.
struct ApiReader {
    cursor: Cursor,
    joiner: PartialJoiner,
    /// Per stream the newest record that is known, and how many have its time, while known
    /// ones are passed over.
    skip: [Option<(i64, u32)>; 2],
    /// Per stream the first record of the newest time, with the hash of its text.
    first: [Option<(i64, u64)>; 2],
    taken: [Vec<Entry>; 2],
    before_stderr: Option<crate::Position>,
    malformed: u64,
}

impl ApiReader {
    fn new(cursor: Option<Cursor>) -> Self {
        let mut cursor = cursor.unwrap_or(Cursor::START);
        cursor.head.clear();
        cursor.stdout.offset = 0;
        cursor.stderr.offset = 0;
        Self {
            joiner: PartialJoiner::resume(
                cursor.stdout.pending.clone(),
                cursor.stderr.pending.clone(),
            ),
            cursor,
            skip: [None, None],
            first: [None, None],
            taken: [Vec::new(), Vec::new()],
            before_stderr: None,
            malformed: 0,
        }
    }

    /// What comes next may start with records that are known.
    fn skip_known(&mut self) {
        self.skip = [&self.cursor.stdout, &self.cursor.stderr]
            .map(|p| (p.time_ns > i64::MIN).then_some((p.time_ns, p.count)));
    }

    /// Whether a record is older than the newest that is known of its stream.
    fn is_known(&self, output: &LogOutput) -> bool {
        let (stream, message) = parts(output);
        let space = memchr::memchr(b' ', message);
        let time_ns = space.and_then(|at| parse_rfc3339(&message[..at]));
        time_ns.is_some_and(|t| t < self.cursor.position(stream).time_ns)
    }

    /// From where to ask: a second before the newest record that is known, since the two
    /// streams' times may be a little out of order; the engine counts in whole seconds.
    fn since_seconds(&self) -> i32 {
        let newest = self.cursor.stdout.time_ns.max(self.cursor.stderr.time_ns);
        let seconds = newest.max(0) / 1_000_000_000 - 1;
        i32::try_from(seconds.max(0)).unwrap_or(0)
    }

    fn take(&mut self, output: &LogOutput) {
        let (stream, message) = parts(output);
        let space = memchr::memchr(b' ', message);
        let parsed = space.and_then(|at| Some((at, parse_rfc3339(&message[..at])?)));
        let Some((at, time_ns)) = parsed else {
            self.malformed += 1;
            return;
        };
        let index = usize::from(stream == Stream::Stderr);
        let text = String::from_utf8_lossy(&message[at + 1..]);
        let hash = xxh3_64(text.as_bytes());
        let position = self.cursor.position(stream);
        // Engines before 23 give a file anew when it is rotated while they follow it. The parts
        // of a long line have one time too, and may be equal.
        let is_again = time_ns < position.time_ns
            || (time_ns == position.time_ns
                && self.first[index] == Some((time_ns, hash))
                && self.joiner.pending(stream).is_none());
        if is_again && self.skip[index].is_none_or(|(_, left)| left == 0) {
            self.skip[index] = Some((position.time_ns, position.count));
        }
        if self.first[index].is_none_or(|(t, _)| t != time_ns) {
            self.first[index] = Some((time_ns, hash));
        }
        if let Some((known_ns, count)) = &mut self.skip[index] {
            if time_ns < *known_ns {
                return;
            }
            if time_ns == *known_ns && *count > 0 {
                *count -= 1;
                return;
            }
            self.skip[index] = None;
        }
        if self.before_stderr.is_none() {
            self.before_stderr = Some(self.cursor.stderr.clone());
        }
        let record = Record {
            time_ns,
            stream,
            replaced: matches!(text, std::borrow::Cow::Owned(_)),
        };
        self.cursor.position_mut(stream).pass(time_ns);
        let taken = &mut self.taken;
        self.joiner.push(record, &text, |line| {
            taken[usize::from(line.stream == Stream::Stderr)].push(Entry {
                time_ns: line.time_ns,
                line: line.text.to_owned(),
                metadata: Labels::empty(),
            });
        });
    }

    /// The lines that are whole.
    fn give(&mut self) -> Vec<Lines> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.cursor.position_mut(stream).pending = self.joiner.pending(stream).cloned();
        }
        let before = self.before_stderr.take();
        let [stdout, stderr] = std::mem::take(&mut self.taken);
        let mut lines = Vec::new();
        if !stdout.is_empty() {
            let mut cursor = self.cursor.clone();
            if !stderr.is_empty()
                && let Some(before) = before
            {
                cursor.stderr = before;
            }
            lines.push(Lines {
                stream: Stream::Stdout,
                entries: stdout,
                cursor,
            });
        }
        if !stderr.is_empty() {
            lines.push(Lines {
                stream: Stream::Stderr,
                entries: stderr,
                cursor: self.cursor.clone(),
            });
        }
        lines
    }

    fn flush(&mut self) -> Vec<Lines> {
        self.before_stderr = Some(self.cursor.stderr.clone());
        let taken = &mut self.taken;
        self.joiner.flush(|line| {
            taken[usize::from(line.stream == Stream::Stderr)].push(Entry {
                time_ns: line.time_ns,
                line: line.text.to_owned(),
                metadata: Labels::empty(),
            });
        });
        self.give()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(stream: Stream, text: &str) -> LogOutput {
        let message = text.to_owned().into();
        match stream {
            Stream::Stdout => LogOutput::StdOut { message },
            Stream::Stderr => LogOutput::StdErr { message },
        }
    }

    #[test]
    fn a_file_that_is_given_anew_adds_nothing() {
        let a = "2024-03-01T00:00:00.000000001Z a\n";
        let b = "2024-03-01T00:00:00.000000002Z b\n";
        let b2 = "2024-03-01T00:00:00.000000002Z c\n";
        let d = "2024-03-01T00:00:00.000000003Z d\n";
        let part = "2024-03-01T00:00:00.000000004Z xx";
        let end = "2024-03-01T00:00:00.000000004Z xx\n";
        let whole = ["a", "b", "c", "d", "xxxxxx"];
        let known = vec![a, b, b2];
        for (known, given) in [
            (known.clone(), vec![b, b2, b, b2, d, part, part, end]),
            (known.clone(), vec![a, b, b2, b, b2, d, part, part, end]),
            (known, vec![b2, d, part, part, end]),
        ] {
            let mut reader = ApiReader::new(None);
            for text in &known {
                reader.take(&output(Stream::Stdout, text));
            }
            let mut lines = reader.give();
            let mut reader = ApiReader::new(Some(reader.cursor));
            reader.skip_known();
            for text in &given {
                reader.take(&output(Stream::Stdout, text));
            }
            lines.extend(reader.give());
            let texts: Vec<&str> = lines
                .iter()
                .flat_map(|l| l.entries.iter().map(|e| e.line.as_str()))
                .collect();
            assert_eq!(texts, whole, "{given:?}");
        }
        for given in [
            vec![a, b, b2, d, part, part, end],
            vec![a, a, b, b2, d, part, part, end],
            vec![a, b, b2, b, b2, d, part, part, end],
            vec![a, b, b2, a, b, b2, d, part, part, end],
            vec![a, b, b2, d, part, part, end, d, part, part, end],
        ] {
            let mut reader = ApiReader::new(None);
            for text in &given {
                reader.take(&output(Stream::Stdout, text));
            }
            let lines = reader.give();
            let texts: Vec<&str> = lines
                .iter()
                .flat_map(|l| l.entries.iter().map(|e| e.line.as_str()))
                .collect();
            assert_eq!(texts, whole, "{given:?}");
        }
    }

    #[test]
    fn records_with_one_time_are_told_apart_by_their_count() {
        let records = [
            (Stream::Stdout, "2024-03-01T00:00:00.000000001Z a\n"),
            (Stream::Stdout, "2024-03-01T00:00:00.000000002Z b\n"),
            (Stream::Stderr, "2024-03-01T00:00:00.000000002Z e\n"),
            (Stream::Stdout, "2024-03-01T00:00:00.000000002Z c\n"),
            (Stream::Stdout, "2024-03-01T00:00:00.000000002Z d\n"),
            (Stream::Stdout, "2024-03-01T00:00:00.000000003Z par"),
            (Stream::Stdout, "2024-03-01T00:00:00.000000004Z t\n"),
        ];
        for stop in 0..=records.len() {
            let mut lines = Vec::new();
            let mut reader = ApiReader::new(None);
            for (stream, text) in &records[..stop] {
                reader.take(&output(*stream, text));
            }
            lines.extend(reader.give());
            let bytes = reader.cursor.encode();
            let mut reader = ApiReader::new(Some(Cursor::decode(&bytes).unwrap()));
            reader.skip_known();
            for (stream, text) in &records {
                reader.take(&output(*stream, text));
            }
            lines.extend(reader.give());
            let texts = |stream| -> Vec<String> {
                let of_stream = lines.iter().filter(|l| l.stream == stream);
                of_stream
                    .flat_map(|l| l.entries.iter().map(|e| e.line.clone()))
                    .collect()
            };
            assert_eq!(
                texts(Stream::Stdout),
                ["a", "b", "c", "d", "part"],
                "stop {stop}"
            );
            assert_eq!(texts(Stream::Stderr), ["e"], "stop {stop}");
        }
    }
}
