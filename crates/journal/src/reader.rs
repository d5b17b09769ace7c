//! Reading frames in order, beside a writer.

use std::path::PathBuf;
use std::sync::Arc;

use crate::Sequence;
use crate::cursor::{FrameCursor, Step};
use crate::error::{JournalError, Result};
use crate::journal::Shared;
use crate::recovery::cursor_at;

/// A segment may be removed between finding and opening it; then the next one is due. Each
/// try finds a younger segment, so this many failures in a row are something else.
const OPEN_TRIES_MAX: u32 = 1000;

/// Frames in order, from [`crate::Journal::read_from`].
///
/// `None` means that nothing more was appended yet: call again later. Numbers leap where
/// frames were truncated or lost. After [`JournalError::Damaged`] the reader goes on behind the
/// damage; after another error it tries the same place again, so do not skip errors in a loop.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    next: Sequence,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    path: PathBuf,
    base: Sequence,
    epoch: u64,
    cursor: FrameCursor,
    /// The number after the last frame that the cursor may see.
    end: Sequence,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, next: Sequence) -> Self {
        Self {
            shared,
            next,
            current: None,
        }
    }

    /// The lowest number that the next frame can have.
    pub fn next_seq(&self) -> Sequence {
        self.next
    }

    /// The epoch in which the frame returned last was written.
    pub fn epoch(&self) -> Option<u64> {
        self.current.as_ref().map(|current| current.epoch)
    }

    fn read_next(&mut self) -> Result<Option<(Sequence, Vec<u8>)>> {
        loop {
            let Some(current) = &mut self.current else {
                self.current = self.open_segment()?;
                if self.current.is_none() {
                    return Ok(None);
                }
                continue;
            };
            let found = current.cursor.skip_to(self.next)?;
            match if found {
                current.cursor.step()?
            } else {
                Step::Bad
            } {
                Step::Frame(sequence) => {
                    self.next = sequence.saturating_add(1);
                    return Ok(Some((sequence, current.cursor.payload().to_vec())));
                }
                Step::End => {
                    let index = self.shared.index();
                    let Some(segment) = index.segment_for(self.next) else {
                        return Ok(None);
                    };
                    if segment.base == current.base {
                        current.cursor.extend_to(segment.good_bytes);
                        current.end = segment.next;
                    } else {
                        drop(index);
                        self.current = None;
                    }
                }
                Step::Bad => {
                    let error = JournalError::Damaged {
                        path: current.path.clone(),
                        byte: current.cursor.at(),
                        first_lost: current.cursor.next(),
                        next: current.end,
                    };
                    self.next = current.end;
                    self.current = None;
                    return Err(error);
                }
            }
        }
    }

    fn open_segment(&self) -> Result<Option<Current>> {
        for tries in 1.. {
            let segment = self.shared.index().segment_for(self.next).cloned();
            let Some(segment) = segment else {
                return Ok(None);
            };
            let file = match self.shared.fs.open_read(&segment.path) {
                Ok(file) => file,
                Err(error) if error.is_not_found() && tries < OPEN_TRIES_MAX => {
                    std::thread::yield_now();
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let cursor = cursor_at(&segment, file, self.next);
            return Ok(Some(Current {
                cursor,
                base: segment.base,
                epoch: segment.epoch,
                end: segment.next,
                path: segment.path,
            }));
        }
        Ok(None)
    }
}

impl Iterator for Reader {
    type Item = Result<(Sequence, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read_next().transpose()
    }
}
