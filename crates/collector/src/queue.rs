//! What was gathered and is not delivered yet, on disk.
//!
//! Frames go into a journal. A checkpoint beside it holds the sequence up to which all is
//! delivered, and the sources' cursors up to a sequence; cursors in later frames are read from
//! the journal at start. The checkpoint is written before frames that it covers are let go, so
//! that at any time the newest cursor of a source is in one of the two.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kittiwake_env::{Clock, FileLock, Fs, FsError, Rng};
use kittiwake_journal::bytes::{Malformed, Reader, put_bytes};
use kittiwake_journal::{Journal, JournalError, Options, Sequence};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::frame::{CursorChange, Frame};

const MAGIC: &[u8; 8] = b"KWCURSOR";
const VERSION: u32 = 1;
const CHECKPOINT_BYTES_MAX: u64 = 64 << 20;
const SEGMENT_BYTES_MAX: u64 = 8 << 20;

/// Why the queue cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The folder cannot be used; also when another process uses it.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The checkpoint is of another kind or damaged.
    #[error("{}: {what}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

#[derive(Debug, Default)]
struct State {
    /// All frames up to this one are settled.
    settled: Sequence,
    /// Settled ones above.
    above: BTreeSet<Sequence>,
    /// Bytes of frames that are not settled.
    sizes: BTreeMap<Sequence, u64>,
    pending_bytes: u64,
    cursors: BTreeMap<String, Vec<u8>>,
    /// The newest frame whose cursors are in `cursors`.
    cursors_at: Sequence,
    is_changed: bool,
}

/// The queue.
#[derive(Debug)]
pub struct Queue {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    journal: Journal,
    agent: String,
    state: Mutex<State>,
    /// Told when a frame was appended.
    pub(crate) grown: Notify,
    /// Told when frames were settled.
    pub(crate) shrunk: Notify,
    _lock: Box<dyn FileLock>,
}

impl Queue {
    /// Opens the queue in `dir`, which is created if needed.
    pub fn open(
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        rng: &mut dyn Rng,
        dir: impl Into<PathBuf>,
    ) -> Result<Self, QueueError> {
        let dir = dir.into();
        fs.create_dir_all(&dir)?;
        let lock = fs.lock(&dir.join("LOCK"))?;
        let agent = read_agent(fs.as_ref(), rng, &dir.join("agent"))?;
        let mut state = read_checkpoint(fs.as_ref(), &dir.join("checkpoint"))?;
        let options = Options {
            segment_bytes_max: SEGMENT_BYTES_MAX,
            frame_bytes_max: 64 << 20,
            epoch: Some(rng.next_u64()),
        };
        let (journal, opened) =
            Journal::open(Arc::clone(&fs), clock, dir.join("journal"), options)?;
        for damage in &opened.damaged {
            tracing::error!(segment = %damage.segment.display(), set_aside = %damage.set_aside.display(), bytes = damage.lost_bytes, "damaged segment of the journal set aside");
        }
        // A journal that lost its end begins again below what was settled.
        state.settled = state.settled.min(opened.next_seq.saturating_sub(1));
        state.cursors_at = state.cursors_at.min(opened.next_seq.saturating_sub(1));
        for frame in journal.read_from(state.settled.min(state.cursors_at) + 1) {
            let (sequence, bytes) = match frame {
                Ok(frame) => frame,
                Err(error @ JournalError::Damaged { .. }) => {
                    tracing::error!(%error, "journal");
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if sequence > state.settled {
                state.sizes.insert(sequence, bytes.len() as u64);
                state.pending_bytes += bytes.len() as u64;
            }
            if sequence > state.cursors_at
                && let Ok(frame) = Frame::decode(&bytes)
            {
                state.change_cursors(&frame.cursors);
                state.cursors_at = sequence;
            }
            if sequence + 1 >= opened.next_seq {
                break;
            }
        }
        Ok(Self {
            fs,
            dir,
            journal,
            agent,
            state: Mutex::new(state),
            grown: Notify::new(),
            shrunk: Notify::new(),
            _lock: lock,
        })
    }

    /// The agent's lasting identity.
    pub fn agent(&self) -> &str {
        &self.agent
    }

    /// The sources' places.
    pub fn cursors(&self) -> BTreeMap<String, Vec<u8>> {
        self.state.lock().cursors.clone()
    }

    /// Bytes of frames that are not delivered yet.
    pub fn pending_bytes(&self) -> u64 {
        self.state.lock().pending_bytes
    }

    /// Whether all is delivered.
    pub fn is_empty(&self) -> bool {
        self.state.lock().settled + 1 >= self.journal.next_seq()
    }

    /// The oldest frame that is not settled.
    pub(crate) fn first(&self) -> Sequence {
        self.state.lock().settled + 1
    }

    /// Puts a frame at the end. It survives the end of the process when this returns.
    pub(crate) fn append(&self, frame: &Frame) -> Result<Sequence, JournalError> {
        let bytes = frame.encode();
        // Under the lock, so that cursors change in the order of the frames.
        let mut state = self.state.lock();
        let sequence = self.journal.append(&[&bytes])?;
        state.change_cursors(&frame.cursors);
        state.cursors_at = sequence;
        state.sizes.insert(sequence, bytes.len() as u64);
        state.pending_bytes += bytes.len() as u64;
        drop(state);
        self.grown.notify_waiters();
        Ok(sequence)
    }

    /// Frames from the oldest that is not settled.
    pub(crate) fn read(&self) -> kittiwake_journal::Reader {
        self.journal.read_from(self.first())
    }

    /// Whether a frame was settled before the reader came to it.
    pub(crate) fn is_settled(&self, sequence: Sequence) -> bool {
        let state = self.state.lock();
        sequence <= state.settled || state.above.contains(&sequence)
    }

    /// Takes a frame as delivered, or as given up.
    pub(crate) fn settle(&self, sequence: Sequence) {
        let mut state = self.state.lock();
        if sequence <= state.settled || !state.above.insert(sequence) {
            return;
        }
        let size = state.sizes.remove(&sequence).unwrap_or(0);
        state.pending_bytes -= size;
        // Numbers without a frame were lost with a damaged segment.
        let next = state.sizes.keys().next().copied();
        let next = next.unwrap_or_else(|| self.journal.next_seq());
        state.settled = state.settled.max(next.saturating_sub(1));
        let settled = state.settled;
        state.above = state.above.split_off(&(settled + 1));
        state.is_changed = true;
        drop(state);
        self.shrunk.notify_waiters();
    }

    /// Writes the checkpoint if something changed, and lets go of what is settled.
    pub fn checkpoint(&self) -> Result<(), QueueError> {
        let (bytes, settled) = {
            let mut state = self.state.lock();
            if !state.is_changed {
                return Ok(());
            }
            state.is_changed = false;
            (state.encode(), state.settled)
        };
        // The cursors' frames must not be behind the checkpoint after a loss of power.
        let written = self
            .journal
            .sync_all()
            .map_err(QueueError::from)
            .and_then(|()| {
                self.fs
                    .write_atomic(&self.dir.join("checkpoint"), &[&bytes])
                    .map_err(QueueError::from)
            });
        if let Err(error) = written {
            self.state.lock().is_changed = true;
            return Err(error);
        }
        self.journal.truncate_before(settled + 1)?;
        Ok(())
    }

    /// Makes what was appended survive a loss of power.
    pub fn sync(&self) -> Result<(), JournalError> {
        self.journal.sync_all()
    }
}

impl State {
    fn change_cursors(&mut self, changes: &[CursorChange]) {
        for change in changes {
            match change {
                CursorChange::Set(key, value) => {
                    self.cursors.insert(key.clone(), value.clone());
                }
                CursorChange::Forget(key) => {
                    self.cursors.remove(key);
                }
            }
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.settled.to_le_bytes());
        out.extend_from_slice(&self.cursors_at.to_le_bytes());
        for (key, value) in &self.cursors {
            put_bytes(&mut out, key.as_bytes());
            put_bytes(&mut out, value);
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let malformed = |e: Malformed| e.to_string();
        let mut reader = Reader::new(bytes);
        if reader.take(MAGIC.len()).map_err(malformed)? != MAGIC {
            return Err("not a collector's checkpoint".to_owned());
        }
        let version = reader.u32().map_err(malformed)?;
        if version != VERSION {
            return Err(format!(
                "version {version}, this program knows up to {VERSION}"
            ));
        }
        let body = bytes.len().saturating_sub(4);
        let crc = Reader::new(&bytes[body..]).u32().map_err(malformed)?;
        if crc != crc32c::crc32c(&bytes[..body]) {
            return Err("the checksum differs".to_owned());
        }
        let mut state = Self {
            settled: reader.u64().map_err(malformed)?,
            cursors_at: reader.u64().map_err(malformed)?,
            ..Self::default()
        };
        while reader.position() < body {
            let key = reader.text().map_err(malformed)?.to_owned();
            let len = reader.count(1).map_err(malformed)?;
            let value = reader.take(len).map_err(malformed)?.to_vec();
            state.cursors.insert(key, value);
        }
        Ok(state)
    }
}

fn read_checkpoint(fs: &dyn Fs, path: &Path) -> Result<State, QueueError> {
    if !fs.exists(path)? {
        return Ok(State::default());
    }
    let bytes = fs.read(path, CHECKPOINT_BYTES_MAX)?;
    State::decode(&bytes).map_err(|what| QueueError::Checkpoint {
        path: path.to_owned(),
        what,
    })
}

/// The agent's identity, drawn once.
fn read_agent(fs: &dyn Fs, rng: &mut dyn Rng, path: &Path) -> Result<String, FsError> {
    if fs.exists(path)? {
        let text = String::from_utf8_lossy(&fs.read(path, 1024)?)
            .trim()
            .to_owned();
        if !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Ok(text);
        }
    }
    let agent = format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64());
    fs.write_atomic(path, &[agent.as_bytes(), b"\n"])?;
    Ok(agent)
}

#[cfg(test)]
mod tests {
    use kittiwake_env::{SeededRng, SimClock, SimFs};

    use super::*;
    use crate::frame::Kind;

    fn open(fs: &SimFs, rng: &mut SeededRng) -> Queue {
        Queue::open(Arc::new(fs.clone()), Arc::new(SimClock::new(0)), rng, "/q").unwrap()
    }

    fn frame(number: u8) -> Frame {
        Frame {
            kind: Kind::Logs,
            cursors: vec![CursorChange::Set("file".to_owned(), vec![number])],
            body: vec![number; 10],
        }
    }

    fn bodies(queue: &Queue) -> Vec<u8> {
        let frames = queue
            .read()
            .map(|f| Frame::decode(&f.unwrap().1).unwrap().body[0]);
        frames.collect()
    }

    #[test]
    fn what_is_not_settled_comes_again_with_its_cursors() {
        let (fs, mut rng) = (SimFs::new(1), SeededRng::new(1));
        let queue = open(&fs, &mut rng);
        let agent = queue.agent().to_owned();
        let sequences: Vec<Sequence> = (0..5).map(|n| queue.append(&frame(n)).unwrap()).collect();
        queue.settle(sequences[0]);
        queue.settle(sequences[2]);
        queue.checkpoint().unwrap();
        assert_eq!(queue.first(), sequences[1]);
        drop(queue);
        fs.kill();
        let queue = open(&fs, &mut rng);
        assert_eq!(queue.agent(), agent);
        assert_eq!(bodies(&queue), [1, 2, 3, 4]);
        assert_eq!(queue.cursors()["file"], [4]);
        for sequence in &sequences[1..] {
            queue.settle(*sequence);
        }
        assert!(queue.is_empty());
        assert_eq!(queue.pending_bytes(), 0);
        queue.checkpoint().unwrap();
        drop(queue);
        fs.kill();
        // Nothing is left but the cursors, and new frames go on.
        let queue = open(&fs, &mut rng);
        assert!(queue.is_empty() && bodies(&queue).is_empty());
        assert_eq!(queue.cursors()["file"], [4]);
        let sequence = queue.append(&frame(9)).unwrap();
        assert!(sequence > sequences[4]);
        assert_eq!(bodies(&queue), [9]);
    }

    #[test]
    fn after_any_crash_cursor_and_lines_agree() {
        for seed in 0..200 {
            let (fs, mut rng) = (SimFs::new(seed), SeededRng::new(seed));
            let mut queue = open(&fs, &mut rng);
            let mut delivered: BTreeSet<u8> = BTreeSet::new();
            let mut next = 0_u8;
            for _ in 0..40 {
                match rng.below(6) {
                    0 => queue.checkpoint().unwrap(),
                    1 => queue.sync().unwrap(),
                    2 => {
                        for frame in queue.read().take(2) {
                            let (sequence, bytes) = frame.unwrap();
                            delivered.insert(Frame::decode(&bytes).unwrap().body[0]);
                            queue.settle(sequence);
                        }
                    }
                    3 => {
                        drop(queue);
                        fs.crash(&mut rng);
                        queue = open(&fs, &mut rng);
                        // The source goes on behind its cursor; before it all is in the
                        // queue or was delivered.
                        let cursor = queue.cursors().get("file").map_or(0, |c| c[0] + 1);
                        let there: BTreeSet<u8> = bodies(&queue).into_iter().collect();
                        for number in 0..cursor {
                            assert!(
                                there.contains(&number) || delivered.contains(&number),
                                "seed {seed}: {number} is lost"
                            );
                        }
                        next = cursor;
                    }
                    _ => {
                        queue.append(&frame(next)).unwrap();
                        next += 1;
                    }
                }
            }
        }
    }
}
