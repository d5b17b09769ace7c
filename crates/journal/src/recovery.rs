//! Opening a directory of segments: what is good, what is torn, what is damaged.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kittiwake_env::{Fs, ReadAt, TEMPORARY_SUFFIX};

use crate::Sequence;
use crate::cursor::{Check, FrameCursor, Step};
use crate::error::{JournalError, Result};
use crate::format::{
    BadHeader, FRAME_HEADER_BYTES, HEADER_BYTES, Header, Name, SEGMENT_SUFFIX, VERSION, bad_name,
};
use crate::options::{Cut, Damage};

/// A place to start reading is remembered about this often.
pub(crate) const MARK_EVERY_BYTES: u64 = 256 << 10;

/// A segment whose frames can be read.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) base: Sequence,
    /// The number after its last good frame.
    pub(crate) next: Sequence,
    /// Where its last good frame ends.
    pub(crate) good_bytes: u64,
    pub(crate) check: Check,
    pub(crate) epoch: u64,
    /// Frames and where they start, ascending; the first frame is among them.
    pub(crate) marks: Vec<(Sequence, u64)>,
    /// Set aside: it is renamed, not removed, when its frames are truncated.
    pub(crate) bad: bool,
}

impl Segment {
    pub(crate) fn has_frames(&self) -> bool {
        self.next > self.base
    }

    /// The last mark at or before a frame.
    pub(crate) fn mark_before(&self, sequence: Sequence) -> (Sequence, u64) {
        let after = self.marks.partition_point(|mark| mark.0 <= sequence);
        after
            .checked_sub(1)
            .and_then(|at| self.marks.get(at).copied())
            .unwrap_or((self.base, HEADER_BYTES))
    }

    pub(crate) fn mark(&mut self, sequence: Sequence, byte: u64) {
        if self
            .marks
            .last()
            .is_none_or(|mark| byte - mark.1 >= MARK_EVERY_BYTES)
        {
            self.marks.push((sequence, byte));
        }
    }
}

/// What is in a directory.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) segments: Vec<Segment>,
    pub(crate) next: Sequence,
    pub(crate) cut: Option<Cut>,
    pub(crate) damaged: Vec<Damage>,
    pub(crate) gaps: Vec<Range<Sequence>>,
}

/// One segment file as found.
struct Scan {
    /// Nothing if the header is bad.
    segment: Option<Segment>,
    good_bytes: u64,
    file_bytes: u64,
    /// No frame at or above this was ever in the file, as far as can be told.
    next_floor: Sequence,
    frames_behind: bool,
}

pub(crate) fn recover(fs: &dyn Fs, dir: &Path) -> Result<Recovered> {
    let mut found = Vec::new();
    for entry in fs.list(dir)? {
        if entry
            .name
            .ends_with(&format!("{SEGMENT_SUFFIX}{TEMPORARY_SUFFIX}"))
        {
            fs.remove(&dir.join(&entry.name))?;
        } else if let Some(name @ (Name::Segment(base) | Name::Bad(base))) =
            Name::parse(&entry.name)
        {
            // At one base, what was set aside is the older.
            let in_use = matches!(name, Name::Segment(_));
            found.push((base, in_use, entry.name));
        }
    }
    found.sort();
    let newest = found.iter().rposition(|(_, in_use, _)| *in_use);

    let mut recovered = Recovered {
        next: 1,
        ..Recovered::default()
    };
    for (at, (base, in_use, name)) in found.iter().enumerate() {
        let path = dir.join(name);
        let newest = newest == Some(at);
        if newest {
            // After a kill its end may be in the page cache only, yet it is read from here on.
            fs.open_append(&path)?.sync()?;
        }
        if *in_use {
            recovered.take_segment(fs, dir, &path, *base, newest)?;
        } else {
            recovered.take_bad(fs, &path, *base)?;
        }
    }
    recovered.find_gaps();
    // Names of an earlier process may not be durable yet, nor are those given just now.
    fs.sync_dir(dir)?;
    Ok(recovered)
}

impl Recovered {
    fn readable_to(&self) -> Sequence {
        self.segments.last().map_or(0, |segment| segment.next)
    }

    fn take_segment(
        &mut self,
        fs: &dyn Fs,
        dir: &Path,
        path: &Path,
        base: Sequence,
        newest: bool,
    ) -> Result<()> {
        let scan = scan(fs, path, base, true)?;
        self.next = self.next.max(scan.next_floor);
        let lost_bytes = scan.file_bytes - scan.good_bytes;
        let misplaced = base < self.readable_to();
        match scan.segment {
            Some(segment) if lost_bytes == 0 && !misplaced => self.segments.push(segment),
            Some(segment) if newest && !scan.frames_behind && !misplaced => {
                fs.truncate(path, scan.good_bytes)?;
                self.cut = Some(Cut {
                    segment: path.to_owned(),
                    byte: scan.good_bytes,
                    lost_bytes,
                });
                self.segments.push(segment);
            }
            segment => {
                let set_aside = set_aside(fs, dir, path, base)?;
                self.damaged.push(Damage {
                    segment: path.to_owned(),
                    set_aside: set_aside.clone(),
                    byte: scan.good_bytes,
                    lost_bytes,
                    newest,
                });
                if let Some(segment) = segment.filter(|segment| segment.has_frames() && !misplaced)
                {
                    self.segments.push(Segment {
                        path: set_aside,
                        bad: true,
                        ..segment
                    });
                }
            }
        }
        Ok(())
    }

    fn take_bad(&mut self, fs: &dyn Fs, path: &Path, base: Sequence) -> Result<()> {
        let scan = scan(fs, path, base, false)?;
        self.next = self.next.max(scan.next_floor);
        if let Some(segment) = scan.segment
            && segment.has_frames()
            && base >= self.readable_to()
        {
            self.segments.push(Segment {
                bad: true,
                ..segment
            });
        }
        Ok(())
    }

    fn find_gaps(&mut self) {
        let mut expected = None;
        for segment in &self.segments {
            if let Some(expected) = expected.filter(|&expected| expected < segment.base) {
                self.gaps.push(expected..segment.base);
            }
            expected = Some(segment.next);
        }
        if let Some(expected) = expected.filter(|&expected| expected < self.next) {
            self.gaps.push(expected..self.next);
        }
    }
}

/// Renames a damaged segment to a name that is free.
fn set_aside(fs: &dyn Fs, dir: &Path, path: &Path, base: Sequence) -> Result<PathBuf> {
    let mut n = 0;
    loop {
        let to = dir.join(bad_name(base, n));
        let gone = to.with_extension(crate::format::ASIDE_SUFFIX.trim_start_matches('.'));
        if !fs.exists(&to)? && !fs.exists(&gone)? {
            fs.rename(path, &to)?;
            return Ok(to);
        }
        n += 1;
    }
}

/// Reads a segment from its start to its last good frame. A header of an unknown version is
/// an error where the segment is in use.
fn scan(fs: &dyn Fs, path: &Path, base: Sequence, in_use: bool) -> Result<Scan> {
    let file = fs.open_read(path)?;
    let file_bytes = file.len()?;
    let bad_header = Scan {
        segment: None,
        good_bytes: 0,
        file_bytes,
        next_floor: base.saturating_add(
            file_bytes
                .saturating_sub(HEADER_BYTES)
                .div_ceil(FRAME_HEADER_BYTES),
        ),
        frames_behind: false,
    };
    let (header, salt) = match read_header(file.as_ref())? {
        Ok((header, salt)) if header.base == base => (header, salt),
        Err(BadHeader::UnknownVersion(version)) if in_use => {
            let path = path.to_owned();
            return Err(JournalError::UnknownVersion {
                path,
                version,
                known: VERSION,
            });
        }
        Ok(_) | Err(_) => return Ok(bad_header),
    };
    let check = Check {
        salt,
        frame_bytes_max: header.frame_bytes_max,
    };
    let mut segment = Segment {
        path: path.to_owned(),
        base,
        next: base,
        good_bytes: HEADER_BYTES,
        check,
        epoch: header.epoch,
        marks: Vec::new(),
        bad: false,
    };
    let mut cursor = FrameCursor::new(file, check, (base, HEADER_BYTES), file_bytes);
    let behind = loop {
        let at = cursor.at();
        match cursor.step()? {
            Step::Frame(sequence) => segment.mark(sequence, at),
            Step::End => break None,
            Step::Bad => break cursor.search_behind()?,
        }
    };
    segment.next = cursor.next();
    segment.good_bytes = cursor.at();
    Ok(Scan {
        good_bytes: segment.good_bytes,
        file_bytes,
        next_floor: segment
            .next
            .max(behind.map_or(0, |behind| behind.saturating_add(1))),
        frames_behind: behind.is_some(),
        segment: Some(segment),
    })
}

type HeaderRead = std::result::Result<(Header, u32), BadHeader>;

fn read_header(file: &dyn ReadAt) -> Result<HeaderRead> {
    let mut bytes = [0; HEADER_BYTES as usize];
    let read = file.read_at(0, &mut bytes)?;
    Ok(Header::decode(bytes.get(..read).unwrap_or_default()))
}

/// The segment's file, opened for reading frames from `sequence` on.
pub(crate) fn cursor_at(
    segment: &Segment,
    file: Arc<dyn ReadAt>,
    sequence: Sequence,
) -> FrameCursor {
    let start = segment.mark_before(sequence);
    FrameCursor::new(file, segment.check, start, segment.good_bytes)
}
