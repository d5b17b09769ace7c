//! A writer that rotates as Docker does, and a tail that is stopped anywhere.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use kittiwake_wire::docker_json::push_record;
use proptest::prelude::*;

use super::*;

struct Writer {
    path: PathBuf,
    file: File,
    files_max: usize,
    compresses: bool,
    time_ns: i64,
    written: [Vec<String>; 2],
}

fn at(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

impl Writer {
    fn new(path: &Path, files_max: usize, compresses: bool) -> Self {
        Self {
            path: path.to_owned(),
            file: OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .unwrap(),
            files_max,
            compresses,
            time_ns: 1_700_000_000_000_000_000,
            written: [Vec::new(), Vec::new()],
        }
    }

    fn write(&mut self, stream: Stream, pieces: usize) {
        let lines = &mut self.written[usize::from(stream == Stream::Stderr)];
        let number = lines.len();
        let mut line = String::new();
        for piece in 0..=pieces {
            let end = if piece == pieces { "\n" } else { "" };
            let text = format!("{} {number} piece {piece};", stream.as_str());
            self.time_ns += i64::from(number.is_multiple_of(3));
            let mut record = String::new();
            push_record(&mut record, stream, self.time_ns, &format!("{text}{end}"));
            self.file.write_all(record.as_bytes()).unwrap();
            line.push_str(&text);
        }
        lines.push(line);
    }

    fn rotate(&mut self) {
        self.time_ns += 1;
        for number in (1..self.files_max).rev() {
            for end in ["", ".gz"] {
                let from = at(&self.path, &format!(".{number}{end}"));
                if number == self.files_max - 1 {
                    let _ = std::fs::remove_file(from);
                } else {
                    let _ = std::fs::rename(from, at(&self.path, &format!(".{}{end}", number + 1)));
                }
            }
        }
        let first = at(&self.path, ".1");
        std::fs::rename(&self.path, &first).unwrap();
        self.file = File::create(&self.path).unwrap();
        if self.compresses {
            let bytes = std::fs::read(&first).unwrap();
            let target = File::create(at(&self.path, ".1.gz")).unwrap();
            let mut encoder = flate2::write::GzEncoder::new(target, flate2::Compression::fast());
            encoder.write_all(&bytes).unwrap();
            encoder.finish().unwrap();
            std::fs::remove_file(first).unwrap();
        }
    }
}

/// Reads all; stops after `stop` batches, as if the process had been killed there.
fn drain(tail: &mut FileTail, lines: &mut [Vec<String>; 2], stop: usize) -> Option<Cursor> {
    let mut batches = 0;
    let mut stored = None;
    loop {
        let step = tail.read().unwrap();
        for batch in step.lines {
            if batches == stop {
                return stored;
            }
            batches += 1;
            let all = &mut lines[usize::from(batch.stream == Stream::Stderr)];
            all.extend(batch.entries.into_iter().map(|e| e.line));
            stored = Some(Cursor::decode(&batch.cursor.encode()).unwrap());
        }
        if !step.has_more {
            return stored;
        }
    }
}

#[derive(Debug, Clone)]
enum Act {
    Write(Stream, usize),
    Many(Stream),
    Rotate,
    Read,
    Kill(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let stream = prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)];
    prop_oneof![
        6 => (stream.clone(), 0..3usize).prop_map(|(s, p)| Act::Write(s, p)),
        1 => stream.prop_map(Act::Many),
        2 => Just(Act::Rotate),
        2 => Just(Act::Read),
        2 => (0..4usize).prop_map(Act::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn every_line_once_and_in_order(
        acts in prop::collection::vec(act(), 1..40),
        compresses in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x-json.log");
        let mut writer = Writer::new(&path, 60, compresses);
        let mut cursor = None;
        let mut tail = FileTail::new(path.clone(), None);
        let mut lines = [Vec::new(), Vec::new()];
        for act in acts.into_iter().chain([Act::Kill(9), Act::Kill(1000), Act::Read]) {
            match act {
                Act::Write(stream, pieces) => writer.write(stream, pieces),
                Act::Many(stream) => (0..1500).for_each(|_| writer.write(stream, 0)),
                Act::Rotate => writer.rotate(),
                Act::Read => cursor = drain(&mut tail, &mut lines, usize::MAX).or(cursor),
                Act::Kill(stop) => {
                    cursor = drain(&mut tail, &mut lines, stop).or(cursor);
                    tail = FileTail::new(path.clone(), cursor.clone());
                }
            }
        }
        prop_assert_eq!(&lines, &writer.written);
        let losses = tail.take_losses();
        prop_assert_eq!(losses, Losses::default());
    }

    #[test]
    fn any_bytes_in_a_log_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x-json.log");
        std::fs::write(&path, &bytes).unwrap();
        std::fs::write(at(&path, ".1.gz"), &bytes).unwrap();
        let mut tail = FileTail::new(path, None);
        drain(&mut tail, &mut [Vec::new(), Vec::new()], usize::MAX);
        tail.flush();
    }
}

#[test]
fn a_file_truncated_in_place_is_read_from_its_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x-json.log");
    let mut writer = Writer::new(&path, 1, false);
    let mut tail = FileTail::new(path.clone(), None);
    let mut lines = [Vec::new(), Vec::new()];
    (0..5).for_each(|_| writer.write(Stream::Stdout, 0));
    drain(&mut tail, &mut lines, usize::MAX);
    File::create(&path).unwrap();
    (0..20).for_each(|_| writer.write(Stream::Stdout, 0));
    drain(&mut tail, &mut lines, usize::MAX);
    assert_eq!(lines, writer.written);
    assert_eq!(tail.take_losses().logs_cut, 1);
}

#[test]
fn a_removed_log_is_read_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x-json.log");
    let mut writer = Writer::new(&path, 2, false);
    let mut tail = FileTail::new(path.clone(), None);
    let mut lines = [Vec::new(), Vec::new()];
    writer.write(Stream::Stdout, 0);
    drain(&mut tail, &mut lines, usize::MAX);
    writer.write(Stream::Stdout, 0);
    std::fs::remove_file(&path).unwrap();
    drain(&mut tail, &mut lines, usize::MAX);
    assert_eq!(lines, writer.written);
}

#[test]
fn a_line_without_an_end_is_kept_when_the_container_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x-json.log");
    let mut text = String::new();
    push_record(&mut text, Stream::Stdout, 7, "prompt> ");
    std::fs::write(&path, text).unwrap();
    let mut tail = FileTail::new(path, None);
    assert!(tail.read().unwrap().lines.is_empty());
    let lines = tail.flush().lines;
    assert_eq!(lines[0].entries[0].line, "prompt> ");
    assert_eq!(lines[0].cursor.stdout.pending, None);
}

#[test]
fn a_cut_record_costs_itself_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x-json.log");
    let mut text = String::from("{\"log\":\"half of a li");
    push_record(&mut text, Stream::Stdout, 7, "whole\n");
    std::fs::write(&path, text).unwrap();
    let mut tail = FileTail::new(path, None);
    let mut lines = [Vec::new(), Vec::new()];
    drain(&mut tail, &mut lines, usize::MAX);
    assert_eq!(lines[0], ["whole"]);
    assert_eq!(tail.take_losses().records_malformed, 1);
}

#[test]
fn a_cursor_whose_file_has_gone_goes_on_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x-json.log");
    let mut writer = Writer::new(&path, 3, false);
    let mut lines = [Vec::new(), Vec::new()];
    (0..4).for_each(|_| writer.write(Stream::Stdout, 0));
    let mut tail = FileTail::new(path.clone(), None);
    let mut cursor = drain(&mut tail, &mut lines, usize::MAX).unwrap();
    cursor.head = b"another file".to_vec();
    (0..4).for_each(|_| writer.write(Stream::Stdout, 0));
    let mut tail = FileTail::new(path, Some(cursor));
    drain(&mut tail, &mut lines, usize::MAX);
    assert_eq!(lines, writer.written);
    assert_eq!(tail.take_losses().logs_cut, 1);
}

#[test]
fn an_empty_log_that_was_rotated_and_compressed_repeats_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x-json.log");
    let mut writer = Writer::new(&path, 9, true);
    let mut tail = FileTail::new(path, None);
    let mut lines = [Vec::new(), Vec::new()];
    writer.write(Stream::Stdout, 0);
    writer.rotate();
    drain(&mut tail, &mut lines, usize::MAX);
    writer.rotate();
    writer.write(Stream::Stdout, 0);
    drain(&mut tail, &mut lines, usize::MAX);
    assert_eq!(lines, writer.written);
    assert_eq!(tail.take_losses(), Losses::default());
}
