//! Lines of Docker's json-file logs, and whole lines out of their pieces.
//!
//! Docker writes `{"log":"text\n","stream":"stdout","time":"..."}` per piece of output. A line
//! longer than 16 KiB comes as several records of which only the last one's text ends in a
//! newline; those of the other stream may stand between. [`PartialJoiner`] puts them together.

use crate::LINE_BYTES_MAX;
use crate::json::{JsonError, Reader};
use crate::text::cut;
use crate::time::parse_rfc3339;

/// Which of its two outputs a container wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The value of the label `stream`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Why a record cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DockerJsonError {
    /// The record is not JSON, or not of this shape. A record that is still being written, or
    /// was cut by a crash, looks like this.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The record has no `time`.
    #[error("the record has no field \"time\"")]
    NoTime,
    /// The field `time` is none.
    #[error("byte {0}: field \"time\" is not an RFC 3339 time between 1678 and 2261")]
    Time(usize),
    /// The field `stream` is not known.
    #[error("byte {0}: field \"stream\" is neither \"stdout\" nor \"stderr\"")]
    Stream(usize),
}

/// What a record says beside its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// When Docker read the piece, in ns.
    pub time_ns: i64,
    /// Where it was written to.
    pub stream: Stream,
    /// Whether something in the text was not UTF-8 and was replaced by U+FFFD.
    pub replaced: bool,
}

/// Reads one record (with or without the newline behind it) and replaces `text` by its text,
/// which keeps its own trailing newline. Fields that Docker leaves out when they are empty may
/// be missing: no `log` is an empty text, no `stream` is stdout.
pub fn parse(record: &[u8], text: &mut String) -> Result<Record, DockerJsonError> {
    text.clear();
    let mut reader = Reader::new(record);
    let mut stream = Stream::Stdout;
    let mut time_ns = None;
    let mut replaced = false;
    let mut first = true;
    reader.expect(b'{', "`{`")?;
    while let Some(key) = reader.next_key(&mut first)? {
        reader.peek();
        let at = reader.position();
        match key.as_ref() {
            "log" => {
                text.clear();
                replaced = reader.string_into(text)?;
            }
            "stream" => {
                stream = match reader.string()?.as_ref() {
                    "stdout" => Stream::Stdout,
                    "stderr" => Stream::Stderr,
                    _ => return Err(DockerJsonError::Stream(at)),
                };
            }
            "time" => {
                let time = reader.string()?;
                let parsed = parse_rfc3339(time.as_bytes());
                time_ns = Some(parsed.ok_or(DockerJsonError::Time(at))?);
            }
            _ => reader.skip_value()?,
        }
    }
    reader.end()?;
    Ok(Record {
        time_ns: time_ns.ok_or(DockerJsonError::NoTime)?,
        stream,
        replaced,
    })
}

/// Why a line ended where it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnd {
    /// With its newline.
    Newline,
    /// At [`LINE_BYTES_MAX`]; the next line of this stream goes on with it.
    Split,
    /// At the end of the log, without a newline.
    Flushed,
}

/// A line put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// When its first piece was read, in ns. Each part of a split line has a time of its own:
    /// output that never ends a line would otherwise fall behind all others of its stream.
    pub time_ns: i64,
    /// Where it was written to.
    pub stream: Stream,
    /// The line without its newline, at most [`LINE_BYTES_MAX`] bytes.
    pub text: &'a str,
    /// Whether something in it was not UTF-8 and was replaced.
    pub replaced: bool,
    /// Why it ends here.
    pub end: LineEnd,
}

/// The start of a line that has not ended yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// When its first piece was read, in ns.
    pub time_ns: i64,
    /// What there is of it, at most [`LINE_BYTES_MAX`] bytes.
    pub text: String,
    /// Whether something in it was replaced.
    pub replaced: bool,
}

/// Joins the pieces of one container's lines, per stream. It holds at most
/// [`LINE_BYTES_MAX`] bytes for each of the two.
#[derive(Debug, Default)]
pub struct PartialJoiner {
    stdout: Option<Pending>,
    stderr: Option<Pending>,
}

impl PartialJoiner {
    /// A joiner that holds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A joiner that goes on where another one's [`PartialJoiner::pending`] was taken, so that
    /// a reader can keep its place in a file behind pieces that have not become a line.
    pub fn resume(stdout: Option<Pending>, stderr: Option<Pending>) -> Self {
        Self { stdout, stderr }
    }

    /// The start of a line that a stream waits to see the end of.
    pub fn pending(&self, stream: Stream) -> Option<&Pending> {
        match stream {
            Stream::Stdout => self.stdout.as_ref(),
            Stream::Stderr => self.stderr.as_ref(),
        }
    }

    /// Takes a record and its text; gives each line that is complete now to `emit`.
    pub fn push(&mut self, record: Record, text: &str, mut emit: impl FnMut(Line<'_>)) {
        let (mut rest, ended) = match text.strip_suffix('\n') {
            Some(line) => (line, true),
            None => (text, false),
        };
        let mut line = |time_ns, text: &str, replaced, end| {
            emit(Line {
                time_ns,
                stream: record.stream,
                text,
                replaced,
                end,
            });
        };
        let slot = match record.stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let mut replaced = record.replaced;
        if let Some(mut pending) = slot.take() {
            pending.replaced |= replaced;
            let room = LINE_BYTES_MAX.saturating_sub(pending.text.len());
            if rest.len() <= room {
                pending.text.push_str(rest);
                if ended {
                    line(
                        pending.time_ns,
                        &pending.text,
                        pending.replaced,
                        LineEnd::Newline,
                    );
                } else {
                    *slot = Some(pending);
                }
                return;
            }
            let (fits, left) = rest.split_at(rest.floor_char_boundary(room));
            pending.text.push_str(fits);
            line(
                pending.time_ns,
                &pending.text,
                pending.replaced,
                LineEnd::Split,
            );
            rest = left;
            replaced = record.replaced;
        }
        while rest.len() > LINE_BYTES_MAX {
            let (part, left) = cut(rest, LINE_BYTES_MAX);
            line(record.time_ns, part, replaced, LineEnd::Split);
            rest = left;
        }
        if ended {
            line(record.time_ns, rest, replaced, LineEnd::Newline);
        } else if !rest.is_empty() {
            *slot = Some(Pending {
                time_ns: record.time_ns,
                text: rest.to_owned(),
                replaced,
            });
        }
    }

    /// Gives what is left to `emit`: the log has ended without a newline. The older start
    /// comes first.
    pub fn flush(&mut self, mut emit: impl FnMut(Line<'_>)) {
        let mut left = [
            (Stream::Stdout, self.stdout.take()),
            (Stream::Stderr, self.stderr.take()),
        ];
        left.sort_by_key(|(_, pending)| pending.as_ref().map(|p| p.time_ns));
        for (stream, pending) in left {
            if let Some(pending) = pending {
                emit(Line {
                    time_ns: pending.time_ns,
                    stream,
                    text: &pending.text,
                    replaced: pending.replaced,
                    end: LineEnd::Flushed,
                });
            }
        }
    }
}

/// Appends a record as Docker writes it, with the newline behind it.
pub fn push_record(out: &mut String, stream: Stream, time_ns: i64, text: &str) {
    out.push_str("{\"log\":");
    crate::json::push_string(out, text);
    out.push_str(",\"stream\":\"");
    out.push_str(stream.as_str());
    out.push_str("\",\"time\":\"");
    crate::time::push_rfc3339(out, time_ns);
    out.push_str("\"}\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OUT: Record = Record {
        time_ns: 10,
        stream: Stream::Stdout,
        replaced: false,
    };

    fn joined(pieces: &[(Record, &str)]) -> Vec<(i64, Stream, String, LineEnd)> {
        let mut joiner = PartialJoiner::new();
        let mut lines = Vec::new();
        let mut emit = |line: Line<'_>| {
            lines.push((line.time_ns, line.stream, line.text.to_owned(), line.end));
        };
        for (record, text) in pieces {
            joiner.push(*record, text, &mut emit);
        }
        joiner.flush(&mut emit);
        lines
    }

    #[test]
    fn a_record_as_docker_writes_it() {
        let mut text = "old".to_owned();
        let record = br#"{"log":"a \u003cb\u003e\r\n","stream":"stderr","attrs":{"x":["y"]},"time":"2024-03-01T00:00:00.000000007Z"}"#;
        let parsed = parse(record, &mut text).unwrap();
        assert_eq!(text, "a <b>\r\n");
        assert_eq!(parsed.stream, Stream::Stderr);
        assert_eq!(parsed.time_ns, 1_709_251_200_000_000_007);
        assert!(!parsed.replaced);
    }

    #[test]
    fn damaged_records_say_where() {
        let mut text = String::new();
        let mut error = |record: &str| parse(record.as_bytes(), &mut text).unwrap_err();
        assert_eq!(error(r#"{"log":"x"}"#), DockerJsonError::NoTime);
        assert_eq!(error(r#"{"time":"now"}"#), DockerJsonError::Time(8));
        assert_eq!(error(r#"{"stream":"in"}"#), DockerJsonError::Stream(10));
        assert!(matches!(error(r#"{"log":"cu"#), DockerJsonError::Json(e) if e.at == 10));
        assert!(matches!(error("\0\0"), DockerJsonError::Json(e) if e.at == 0));
    }

    #[test]
    fn pieces_join_per_stream_with_the_first_time() {
        let later = Record { time_ns: 20, ..OUT };
        let err = Record {
            time_ns: 15,
            stream: Stream::Stderr,
            replaced: false,
        };
        let lines = joined(&[
            (OUT, "ab"),
            (err, "x\n"),
            (later, "c\n"),
            (later, "\n"),
            (err, "y"),
        ]);
        let expected = [
            (15, Stream::Stderr, "x", LineEnd::Newline),
            (10, Stream::Stdout, "abc", LineEnd::Newline),
            (20, Stream::Stdout, "", LineEnd::Newline),
            (15, Stream::Stderr, "y", LineEnd::Flushed),
        ];
        assert_eq!(lines, expected.map(|(t, s, l, e)| (t, s, l.to_owned(), e)));
    }

    #[test]
    fn a_line_of_the_longest_length_is_whole_and_one_byte_more_is_split() {
        let longest = "x".repeat(LINE_BYTES_MAX);
        let lines = joined(&[(OUT, &longest), (OUT, "\n")]);
        assert_eq!(
            lines,
            [(10, Stream::Stdout, longest.clone(), LineEnd::Newline)]
        );
        let later = Record { time_ns: 20, ..OUT };
        let lines = joined(&[(OUT, &longest), (later, "y\n")]);
        let second = (20, Stream::Stdout, "y".to_owned(), LineEnd::Newline);
        assert_eq!(
            lines,
            [(10, Stream::Stdout, longest, LineEnd::Split), second]
        );
    }

    #[test]
    fn a_joiner_resumes_where_another_was_left() {
        let mut before = PartialJoiner::new();
        before.push(OUT, "ab", |_| panic!("not a line yet"));
        let mut after = PartialJoiner::resume(before.pending(Stream::Stdout).cloned(), None);
        let mut seen = None;
        let later = Record { time_ns: 20, ..OUT };
        after.push(later, "c\n", |line| {
            seen = Some((line.time_ns, line.text.to_owned()));
        });
        assert_eq!(seen, Some((10, "abc".to_owned())));
    }

    proptest! {
        #[test]
        fn any_record_round_trips(text in "(?s).{0,50}", time_ns: i64, err: bool) {
            let stream = if err { Stream::Stderr } else { Stream::Stdout };
            let mut record = String::new();
            push_record(&mut record, stream, time_ns, &text);
            let mut decoded = String::new();
            let parsed = parse(record.as_bytes(), &mut decoded).unwrap();
            prop_assert_eq!(parsed, Record { time_ns, stream, replaced: false });
            prop_assert_eq!(decoded, text);
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            start in 0_usize..40,
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut record = br#"{"log":"ab\u00e9","stream":"stdout","time":""#[..start].to_vec();
            record.extend(bytes);
            let _ = parse(&record, &mut String::new());
        }

        #[test]
        fn joining_loses_nothing(
            pieces in proptest::collection::vec(("[aé]{0,3}", 0..60_000_usize, any::<bool>(), any::<bool>()), 0..12)
        ) {
            let texts: Vec<(Record, String)> = pieces.iter().map(|(unit, count, newline, err)| {
                let stream = if *err { Stream::Stderr } else { Stream::Stdout };
                let end = if *newline { "\n" } else { "" };
                (Record { stream, ..OUT }, unit.repeat(*count) + end)
            }).collect();
            let borrowed: Vec<_> = texts.iter().map(|(r, t)| (*r, t.as_str())).collect();
            let lines = joined(&borrowed);
            for stream in [Stream::Stdout, Stream::Stderr] {
                let sent: String = texts.iter()
                    .filter(|(r, _)| r.stream == stream).map(|(_, t)| t.as_str()).collect();
                let kept: String = lines.iter().filter(|l| l.1 == stream)
                    .map(|l| l.2.clone() + if l.3 == LineEnd::Newline { "\n" } else { "" })
                    .collect();
                prop_assert!(sent == kept);
            }
            prop_assert!(lines.iter().all(|l| l.2.len() <= LINE_BYTES_MAX));
        }
    }
}
