//! Reading a container's json-file log through its rotations, each record exactly once.
//!
//! Docker closes `x-json.log`, renames `.1` to `.2` and so on, the log to `.1`, and starts a
//! new one; a renamed file may be compressed later. Names only ever move upwards, so looking
//! for files from the newest to the oldest may see one twice but misses none, and all that are
//! newer than the one being read are opened at that moment: what happens to their names
//! afterwards does not matter. With `max-file=1` the log is truncated in place instead.

mod files;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use kittiwake_model::{Entry, Labels};
use kittiwake_wire::docker_json::{self, PartialJoiner, Stream};

use crate::cursor::{Cursor, HEAD_BYTES, Position};
use files::LogFile;

/// Bytes read at once.
const CHUNK_BYTES: usize = 256 << 10;
/// Records handed on at once.
const RECORDS_MAX: usize = 1000;
/// Longest record; Docker's own are below 100 KiB. A longer one is skipped.
const RECORD_BYTES_MAX: usize = 1 << 20;

/// Lines of one stream, and where to go on behind them.
#[derive(Debug)]
pub struct Lines {
    /// Which output.
    pub stream: Stream,
    /// The lines in their order.
    pub entries: Vec<Entry>,
    /// To be stored together with these lines.
    pub cursor: Cursor,
}

/// What one step of reading gave.
#[derive(Debug, Default)]
pub struct Step {
    /// At most one batch for each stream.
    pub lines: Vec<Lines>,
    /// Whether there may be more to read at once.
    pub has_more: bool,
}

/// What could not be read, counted since the last time it was taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// Records that are none.
    pub records_malformed: u64,
    /// Lines in which something was replaced.
    pub lines_replaced: u64,
    /// Files that were gone or truncated before they were read, as far as can be told.
    pub logs_cut: u64,
    /// Files that failed to be read.
    pub files_failed: u64,
}

/// Follows one log.
#[derive(Debug)]
pub struct FileTail {
    path: PathBuf,
    /// Behind the last record that was taken.
    cursor: Cursor,
    joiner: PartialJoiner,
    /// Records up to these are known from another file or from the engine.
    skip: [Option<(i64, u32)>; 2],
    current: Option<LogFile>,
    newer: VecDeque<LogFile>,
    /// The head of the last file before the current one that held anything.
    read_head: Vec<u8>,
    is_resumed: bool,
    buffer: Vec<u8>,
    /// The offset in the file of the buffer's first byte.
    buffer_offset: u64,
    is_in_oversized: bool,
    losses: Losses,
    text: String,
}

impl FileTail {
    /// Follows the log at this path from the cursor, or from the oldest file's start.
    pub fn new(path: PathBuf, cursor: Option<Cursor>) -> Self {
        let cursor = cursor.unwrap_or(Cursor::START);
        let joiner =
            PartialJoiner::resume(cursor.stdout.pending.clone(), cursor.stderr.pending.clone());
        Self {
            path,
            cursor,
            joiner,
            skip: [None; 2],
            current: None,
            newer: VecDeque::new(),
            read_head: Vec::new(),
            is_resumed: false,
            buffer: Vec::new(),
            buffer_offset: 0,
            is_in_oversized: false,
            losses: Losses::default(),
            text: String::new(),
        }
    }

    /// Where to go on.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// What was lost since the last call.
    pub fn take_losses(&mut self) -> Losses {
        std::mem::take(&mut self.losses)
    }

    /// Reads on, for at most one chunk. A log that does not exist (yet) gives nothing; one
    /// that may not be read is an error.
    pub fn read(&mut self) -> io::Result<Step> {
        if self.current.is_none() && !self.find()? {
            return Ok(Step::default());
        }
        let mut step = self.take_records();
        if step.has_more {
            return Ok(step);
        }
        let count = self.fill();
        step.lines.extend(self.take_records().lines);
        step.has_more = count > 0 || self.advance()?;
        Ok(step)
    }

    /// Gives the starts of lines that have not ended, as lines: the container has.
    pub fn flush(&mut self) -> Step {
        let mut taken = Taken::default();
        taken.remember(&self.cursor);
        let joiner = &mut self.joiner;
        joiner.flush(|line| taken.push(line, &mut self.losses));
        self.finish_step(taken, false)
    }

    /// Opens the file that the cursor is in and all newer ones.
    fn find(&mut self) -> io::Result<bool> {
        let head = &self.cursor.head;
        let is_known = |file: &LogFile| !head.is_empty() && file.head().starts_with(head);
        let found = files::newest_first(&self.path, is_known, &mut self.losses.files_failed)?;
        if found.is_empty() {
            return Ok(false);
        }
        let is_found = found.last().is_some_and(is_known);
        self.newer = found.into_iter().rev().collect();
        let resumes = !self.is_resumed;
        self.is_resumed = true;
        if resumes && is_found {
            let offset = self.cursor.stdout.offset.min(self.cursor.stderr.offset);
            let mut file = self.newer.pop_front();
            if let Some(file) = &mut file
                && file.seek(offset).is_err()
            {
                self.losses.files_failed += 1;
            }
            self.buffer_offset = offset;
            self.current = file;
            return Ok(true);
        }
        if resumes && self.cursor != Cursor::START {
            if !self.cursor.head.is_empty() {
                self.losses.logs_cut += 1;
            }
            for (skip, position) in self
                .skip
                .iter_mut()
                .zip([&self.cursor.stdout, &self.cursor.stderr])
            {
                *skip = (position.time_ns > i64::MIN).then_some((position.time_ns, position.count));
            }
        }
        self.open_next();
        Ok(self.current.is_some())
    }

    fn open_next(&mut self) {
        if let Some(file) = self.newer.pop_front() {
            if !self.buffer.is_empty() {
                // What was cut off when its writer died.
                self.losses.records_malformed += 1;
            }
            self.start_file(file);
        }
    }

    fn start_file(&mut self, file: LogFile) {
        if let Some(read) = self.current.as_ref().filter(|read| !read.head().is_empty()) {
            self.read_head = read.head().to_vec();
        }
        self.buffer.clear();
        self.buffer_offset = 0;
        self.is_in_oversized = false;
        self.cursor.head = file.head().to_vec();
        self.cursor.stdout.offset = 0;
        self.cursor.stderr.offset = 0;
        self.current = Some(file);
    }

    /// Reads a chunk behind the buffer; 0 at the end or on failure.
    fn fill(&mut self) -> usize {
        let Some(file) = &mut self.current else {
            return 0;
        };
        let end = self.buffer_offset + self.buffer.len() as u64;
        if file.is_replaced(end) {
            self.losses.logs_cut += 1;
            if let Some(mut file) = self.current.take() {
                file.restart();
                self.start_file(file);
            }
        }
        let Some(file) = &mut self.current else {
            return 0;
        };
        let count = file
            .read_into(&mut self.buffer, CHUNK_BYTES)
            .unwrap_or_else(|_| {
                self.losses.files_failed += 1;
                0
            });
        if self.cursor.head.len() < HEAD_BYTES {
            self.cursor.head = file.head().to_vec();
        }
        count
    }

    /// At a file's end: goes to the next, once there is one. Gives whether to read again.
    fn advance(&mut self) -> io::Result<bool> {
        if !self.newer.is_empty() {
            // They were opened before the end was seen: nothing can follow in this file.
            self.open_next();
            return Ok(true);
        }
        let Some(current) = &self.current else {
            return Ok(false);
        };
        if current.is_at(&self.path) {
            return Ok(false);
        }
        // A file that never held anything cannot be told from its compressed copy: then the one
        // read before it shows where the newer ones begin.
        let read_head = &self.read_head;
        let is_read = |file: &LogFile| {
            file.is_same(current) || (!read_head.is_empty() && file.head().starts_with(read_head))
        };
        let mut found = files::newest_first(&self.path, is_read, &mut self.losses.files_failed)?;
        if found.is_empty() {
            return Ok(false);
        }
        if found.last().is_some_and(is_read) {
            found.pop();
        } else {
            // It has left the directory; whether another one did too cannot be seen.
            self.losses.logs_cut += 1;
        }
        self.newer = found.into_iter().rev().collect();
        // The current one may have grown before it was renamed: read it to its end once more.
        Ok(!self.newer.is_empty())
    }

    /// Takes whole records out of the buffer.
    fn take_records(&mut self) -> Step {
        let mut taken = Taken::default();
        let mut start = 0;
        let mut has_more = false;
        let mut records = 0;
        let buffer = std::mem::take(&mut self.buffer);
        while let Some(length) = memchr::memchr(b'\n', &buffer[start..]) {
            if records == RECORDS_MAX {
                has_more = true;
                break;
            }
            records += 1;
            let record = &buffer[start..start + length];
            let offset = self.buffer_offset + start as u64;
            start += length + 1;
            if std::mem::take(&mut self.is_in_oversized) {
                continue;
            }
            self.take_record(record, offset, &mut taken);
        }
        self.buffer = buffer;
        if !has_more && self.buffer.len() - start > RECORD_BYTES_MAX {
            start = self.buffer.len();
            if !self.is_in_oversized {
                self.losses.records_malformed += 1;
            }
            self.is_in_oversized = true;
        }
        if start > 0 {
            self.buffer.drain(..start);
            self.buffer_offset += start as u64;
        }
        let before = (self.cursor.stdout.offset, self.cursor.stderr.offset);
        taken.before_offsets = Some(before);
        let offset = if self.is_in_oversized {
            before.0.min(before.1)
        } else {
            self.buffer_offset
        };
        for position in [&mut self.cursor.stdout, &mut self.cursor.stderr] {
            position.offset = position.offset.max(offset);
        }
        self.finish_step(taken, has_more)
    }

    fn take_record(&mut self, record: &[u8], offset: u64, taken: &mut Taken) {
        let mut parsed = docker_json::parse(record, &mut self.text);
        if parsed.is_err() {
            self.losses.records_malformed += 1;
            // A record that was cut when its writer died has the next one right behind it.
            let next = memchr::memmem::rfind(record, b"{\"log\":").filter(|at| *at > 0);
            match next {
                Some(at) => parsed = docker_json::parse(&record[at..], &mut self.text),
                None => return,
            }
        }
        let Ok(parsed) = parsed else { return };
        if offset < self.cursor.position(parsed.stream).offset {
            return;
        }
        let skip = &mut self.skip[usize::from(parsed.stream == Stream::Stderr)];
        if let Some((time_ns, count)) = skip {
            if parsed.time_ns < *time_ns {
                return;
            }
            if parsed.time_ns == *time_ns && *count > 0 {
                *count -= 1;
                return;
            }
            *skip = None;
        }
        taken.remember(&self.cursor);
        self.cursor.position_mut(parsed.stream).pass(parsed.time_ns);
        let losses = &mut self.losses;
        self.joiner
            .push(parsed, &self.text, |line| taken.push(line, losses));
    }

    /// Makes batches of what was taken: the first one's cursor leaves the other stream where
    /// it was before, so that each is right when the next is not stored.
    fn finish_step(&mut self, taken: Taken, has_more: bool) -> Step {
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.cursor.position_mut(stream).pending = self.joiner.pending(stream).cloned();
        }
        let mut step = Step {
            lines: Vec::new(),
            has_more,
        };
        let has_both = !taken.stdout.is_empty() && !taken.stderr.is_empty();
        for (stream, entries) in [
            (Stream::Stdout, taken.stdout),
            (Stream::Stderr, taken.stderr),
        ] {
            if entries.is_empty() {
                continue;
            }
            let mut cursor = self.cursor.clone();
            if has_both
                && stream == Stream::Stdout
                && let Some(mut before) = taken.stderr_before.clone()
            {
                if let Some((_, offset)) = taken.before_offsets {
                    before.offset = offset;
                }
                cursor.stderr = before;
            }
            step.lines.push(Lines {
                stream,
                entries,
                cursor,
            });
        }
        step
    }
}

/// What one pass over the buffer gave.
#[derive(Debug, Default)]
struct Taken {
    stdout: Vec<Entry>,
    stderr: Vec<Entry>,
    stderr_before: Option<Position>,
    before_offsets: Option<(u64, u64)>,
}

impl Taken {
    fn remember(&mut self, cursor: &Cursor) {
        if self.stderr_before.is_none() {
            self.stderr_before = Some(cursor.stderr.clone());
        }
    }

    fn push(&mut self, line: docker_json::Line<'_>, losses: &mut Losses) {
        losses.lines_replaced += u64::from(line.replaced);
        let entry = Entry {
            time_ns: line.time_ns,
            line: line.text.to_owned(),
            metadata: Labels::empty(),
        };
        match line.stream {
            Stream::Stdout => self.stdout.push(entry),
            Stream::Stderr => self.stderr.push(entry),
        }
    }
}

#[cfg(test)]
mod tests;
