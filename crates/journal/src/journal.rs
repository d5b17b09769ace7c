//! The journal: one writer at a time, any number of threads that sync and read.
//!
//! Locks, in the order in which they are taken: `writer`, `gate`, then `index` or `commit`.
//! `gate` is held around every fsync of frames together with the verdict on it: the kernel
//! reports a failed write-back to one fsync of an open file only, so a second one running
//! beside it could call lost frames safe.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use kittiwake_env::{Clock, File, Fs, FsError, TEMPORARY_SUFFIX};
use parking_lot::{Condvar, Mutex};

use crate::Sequence;
use crate::cursor::Check;
use crate::error::{JournalError, Result};
use crate::format::{
    ASIDE_SUFFIX, FRAME_HEADER_BYTES, FrameHeader, HEADER_BYTES, Header, segment_name,
};
use crate::options::{Opened, Options};
use crate::reader::Reader;
use crate::recovery::{Segment, recover};

/// An open journal. The directory must be used by one journal at a time; its owner locks it.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    dir: PathBuf,
    options: Options,
    epoch: u64,
    writer: Mutex<Writer>,
    gate: Mutex<()>,
    index: Mutex<Index>,
    commit: Mutex<Commit>,
    committed: Condvar,
    /// One removal of segments at a time.
    truncation: Mutex<()>,
    /// Why nothing more is written.
    poison: OnceLock<String>,
}

#[derive(Debug)]
struct Writer {
    /// None before the first append of this opening and after a full disk kept the next
    /// segment from being made.
    active: Option<Active>,
    next: Sequence,
}

#[derive(Debug)]
struct Active {
    file: Box<dyn File>,
    salt: u32,
    /// Where the last whole frame ends.
    good_bytes: u64,
}

/// What readers may see.
#[derive(Debug)]
pub(crate) struct Index {
    segments: VecDeque<Segment>,
    next: Sequence,
}

impl Index {
    /// The segment that has the frame, or the first with later ones.
    pub(crate) fn segment_for(&self, sequence: Sequence) -> Option<&Segment> {
        let at = self
            .segments
            .partition_point(|segment| segment.next <= sequence);
        self.segments
            .iter()
            .skip(at)
            .find(|segment| segment.has_frames())
    }

    fn first(&self) -> Sequence {
        self.segment_for(0)
            .map_or(self.next, |segment| segment.base)
    }
}

#[derive(Debug)]
struct Commit {
    synced: Sequence,
    running: bool,
}

impl Journal {
    /// Opens the journal in `dir`, which is created if needed, and repairs what a crash left:
    /// every segment is read and checked once. The clock dates the segments.
    pub fn open(
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        dir: impl Into<PathBuf>,
        options: Options,
    ) -> Result<(Self, Opened)> {
        options.check()?;
        let dir = dir.into();
        let epoch = match options.epoch {
            Some(epoch) => epoch,
            None => getrandom::u64().map_err(|error| JournalError::NoEpoch(error.to_string()))?,
        };
        fs.create_dir_all(&dir)?;
        let recovered = recover(fs.as_ref(), &dir)?;
        let next = recovered.next;
        let index = Index {
            segments: recovered.segments.into(),
            next,
        };
        let opened = Opened {
            epoch,
            first_seq: index.first(),
            next_seq: next,
            cut: recovered.cut,
            damaged: recovered.damaged,
            gaps: recovered.gaps,
        };
        let shared = Shared {
            fs,
            clock,
            dir,
            options,
            epoch,
            writer: Mutex::new(Writer { active: None, next }),
            gate: Mutex::new(()),
            index: Mutex::new(index),
            commit: Mutex::new(Commit {
                synced: next - 1,
                running: false,
            }),
            committed: Condvar::new(),
            truncation: Mutex::new(()),
            poison: OnceLock::new(),
        };
        Ok((
            Self {
                shared: Arc::new(shared),
            },
            opened,
        ))
    }

    /// Appends one frame whose payload is the parts joined, and returns its number. It
    /// survives the end of the process when this returns, and a power loss after
    /// [`Journal::sync`].
    ///
    /// On a full disk the frame is not taken ([`JournalError::is_full`]) and a later append
    /// can succeed. After any other failure of the disk the journal is poisoned.
    pub fn append(&self, parts: &[&[u8]]) -> Result<Sequence> {
        let shared = &self.shared;
        let size_bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let max_bytes = shared.options.frame_bytes_max;
        let len = u32::try_from(size_bytes)
            .ok()
            .filter(|len| *len <= max_bytes)
            .ok_or(JournalError::FrameTooLarge {
                size_bytes,
                max_bytes,
            })?;

        let mut writer = shared.writer.lock();
        shared.check_poison()?;
        let frame_bytes = FRAME_HEADER_BYTES + u64::from(len);
        let over = |active: &Active| {
            active.good_bytes > HEADER_BYTES
                && active.good_bytes.saturating_add(frame_bytes) > shared.options.segment_bytes_max
        };
        if writer.active.as_ref().is_some_and(over) {
            shared.seal(&mut writer)?;
        }
        let sequence = writer.next;
        let active = match &mut writer.active {
            Some(active) => active,
            none => none.insert(shared.start_segment(sequence)?),
        };
        let header = FrameHeader::of(active.salt, sequence, parts, len).encode();
        let mut frame: Vec<&[u8]> = Vec::with_capacity(parts.len() + 1);
        frame.push(&header);
        frame.extend_from_slice(parts);
        if let Err(error) = active.file.append(&frame) {
            if !error.is_full() {
                return Err(shared.poison(error));
            }
            if let Err(uncut) = active.file.set_len(active.good_bytes) {
                return Err(shared.poison(uncut));
            }
            return Err(error.into());
        }
        let start = active.good_bytes;
        active.good_bytes += frame_bytes;
        let good_bytes = active.good_bytes;
        writer.next = sequence + 1;

        let mut index = shared.index.lock();
        index.next = writer.next;
        if let Some(segment) = index.segments.back_mut() {
            segment.mark(sequence, start);
            segment.next = sequence + 1;
            segment.good_bytes = good_bytes;
        }
        Ok(sequence)
    }

    /// Returns once all frames up to this one, itself included, are on disk. Threads that
    /// call at the same time share one fsync.
    pub fn sync(&self, up_to: Sequence) -> Result<()> {
        let shared = &self.shared;
        let goal = up_to.min(self.next_seq() - 1);
        let mut commit = shared.commit.lock();
        loop {
            shared.check_poison()?;
            if commit.synced >= goal {
                return Ok(());
            }
            if commit.running {
                shared.committed.wait(&mut commit);
                continue;
            }
            commit.running = true;
            drop(commit);
            let result = shared.commit_appended();
            commit = shared.commit.lock();
            commit.running = false;
            shared.committed.notify_all();
            result?;
        }
    }

    /// As [`Journal::sync`], for all frames appended so far.
    pub fn sync_all(&self) -> Result<()> {
        self.sync(Sequence::MAX)
    }

    /// Closes the segment being written and starts the next. Returns the number of the next
    /// frame, with which the new segment begins: a checkpoint of all before it can be
    /// followed by [`Journal::truncate_before`] of that number.
    pub fn rotate(&self) -> Result<Sequence> {
        let shared = &self.shared;
        let mut writer = shared.writer.lock();
        shared.check_poison()?;
        if writer
            .active
            .as_ref()
            .is_some_and(|active| active.good_bytes == HEADER_BYTES)
        {
            return Ok(writer.next);
        }
        shared.seal(&mut writer)?;
        writer.active = Some(shared.start_segment(writer.next)?);
        Ok(writer.next)
    }

    /// Removes the segments that have only frames below `sequence`, the newest one excepted.
    /// A reader that is inside one reads it to its end.
    pub fn truncate_before(&self, sequence: Sequence) -> Result<()> {
        let shared = &self.shared;
        let _one = shared.truncation.lock();
        loop {
            let oldest = {
                let index = shared.index.lock();
                match index.segments.front() {
                    Some(segment) if segment.next <= sequence && index.segments.len() > 1 => {
                        segment.clone()
                    }
                    _ => return Ok(()),
                }
            };
            let removed = if oldest.bad {
                let aside = oldest
                    .path
                    .with_extension(ASIDE_SUFFIX.trim_start_matches('.'));
                shared.fs.rename(&oldest.path, &aside)
            } else {
                shared.fs.remove(&oldest.path)
            };
            match removed {
                // Someone else removed it: what was to be done is done.
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
            shared.index.lock().segments.pop_front();
            // One at a time: a crash must not bring back an older one without the younger.
            shared.fs.sync_dir(&shared.dir)?;
        }
    }

    /// Reads from this frame on, or from the oldest there is. The reader also sees what is
    /// appended later.
    pub fn read_from(&self, sequence: Sequence) -> Reader {
        Reader::new(self.shared.clone(), sequence)
    }

    /// The oldest frame that can be read; [`Journal::next_seq`] if there is none.
    pub fn first_seq(&self) -> Sequence {
        self.shared.index.lock().first()
    }

    /// The number that the next appended frame gets.
    pub fn next_seq(&self) -> Sequence {
        self.shared.index.lock().next
    }

    /// All frames up to this one are on disk; 0 if none is.
    pub fn synced_seq(&self) -> Sequence {
        self.shared.commit.lock().synced
    }

    /// Bytes of all segments, headers included.
    pub fn bytes(&self) -> u64 {
        self.shared
            .index
            .lock()
            .segments
            .iter()
            .map(|segment| segment.good_bytes)
            .sum()
    }

    /// How many segments there are.
    pub fn segments(&self) -> usize {
        self.shared.index.lock().segments.len()
    }

    /// The random number of this opening.
    pub fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }
}

impl Shared {
    pub(crate) fn index(&self) -> parking_lot::MutexGuard<'_, Index> {
        self.index.lock()
    }

    fn check_poison(&self) -> Result<()> {
        match self.poison.get() {
            None => Ok(()),
            Some(cause) => Err(JournalError::Poisoned {
                dir: self.dir.clone(),
                cause: cause.clone(),
            }),
        }
    }

    /// Stops the journal; the first cause stays.
    fn poison(&self, error: FsError) -> JournalError {
        let _ = self.poison.set(error.to_string());
        error.into()
    }

    /// Syncs what the writer has appended when this is called.
    fn commit_appended(&self) -> Result<()> {
        let (syncer, last) = {
            let writer = self.writer.lock();
            (
                writer.active.as_ref().map(|active| active.file.syncer()),
                writer.next - 1,
            )
        };
        let _gate = self.gate.lock();
        self.check_poison()?;
        if let Some(syncer) = syncer {
            syncer.sync().map_err(|error| self.poison(error))?;
        }
        self.mark_synced(last);
        Ok(())
    }

    /// Syncs the active segment and closes it.
    fn seal(&self, writer: &mut Writer) -> Result<()> {
        let Some(active) = &writer.active else {
            return Ok(());
        };
        {
            let _gate = self.gate.lock();
            self.check_poison()?;
            active.file.sync().map_err(|error| self.poison(error))?;
            self.mark_synced(writer.next - 1);
        }
        writer.active = None;
        Ok(())
    }

    fn mark_synced(&self, last: Sequence) {
        let mut commit = self.commit.lock();
        commit.synced = commit.synced.max(last);
    }

    /// Makes the segment that begins with this frame. Only a full disk leaves the journal
    /// usable: no frame is in the file yet, so that it can be made anew.
    fn start_segment(&self, base: Sequence) -> Result<Active> {
        let header = Header {
            frame_bytes_max: self.options.frame_bytes_max,
            epoch: self.epoch,
            base,
            created_ms: self.clock.now_ms(),
        };
        let path = self.dir.join(segment_name(base));
        let temporary = self
            .dir
            .join(format!("{}{TEMPORARY_SUFFIX}", segment_name(base)));
        let bytes = header.encode();
        let made = self
            .make_segment_file(&temporary, &path, &bytes)
            .map_err(|error| {
                if error.is_full() {
                    // It is in nobody's way, and the next opening removes it too.
                    let _ = self.fs.remove(&temporary);
                    return error.into();
                }
                self.poison(error)
            });
        let file = made?;
        let mut salt = [0; 4];
        salt.copy_from_slice(&bytes[HEADER_BYTES as usize - 4..]);
        let active = Active {
            file,
            salt: u32::from_le_bytes(salt),
            good_bytes: HEADER_BYTES,
        };

        let mut index = self.index.lock();
        // An older segment of this name had no frames, else this one would begin later.
        index
            .segments
            .retain(|segment| segment.has_frames() || segment.base != base);
        index.segments.push_back(Segment {
            path,
            base,
            next: base,
            good_bytes: HEADER_BYTES,
            check: Check {
                salt: active.salt,
                frame_bytes_max: header.frame_bytes_max,
            },
            epoch: self.epoch,
            marks: Vec::new(),
            bad: false,
        });
        Ok(active)
    }

    fn make_segment_file(
        &self,
        temporary: &Path,
        path: &Path,
        header: &[u8],
    ) -> kittiwake_env::Result<Box<dyn File>> {
        let mut file = self.fs.create(temporary)?;
        file.write_all(header)?;
        file.sync()?;
        self.fs.rename(temporary, path)?;
        self.fs.sync_dir(&self.dir)?;
        Ok(file)
    }
}
