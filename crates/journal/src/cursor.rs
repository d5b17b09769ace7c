//! Walks over the frames of one segment through a bounded buffer.

use std::ops::Range;
use std::sync::Arc;

use kittiwake_env::ReadAt;

use crate::Sequence;
use crate::error::Result;
use crate::format::{FRAME_HEADER_BYTES, FrameHeader, HEADER_BYTES};

/// Read at once while walking. A larger frame grows the buffer up to the frame limit.
const WINDOW_BYTES: u64 = 64 << 10;
/// Bytes of would-be frames that are checksummed in search of a good one behind damage.
/// Content made to look like frames cannot hold up an opening for longer than this takes.
const SEARCH_BYTES_MAX: u64 = 1 << 30;

/// What frames of a segment are checked against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Check {
    pub(crate) salt: u32,
    pub(crate) frame_bytes_max: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The next frame, whose payload is [`FrameCursor::payload`].
    Frame(Sequence),
    /// Nothing up to the end that the cursor knows.
    End,
    /// No good frame at this place.
    Bad,
}

#[derive(Debug)]
pub(crate) struct FrameCursor {
    file: Arc<dyn ReadAt>,
    check: Check,
    /// Where the next frame starts, and its number.
    at: u64,
    next: Sequence,
    end: u64,
    buffer: Vec<u8>,
    buffer_at: u64,
    payload: Range<usize>,
}

impl FrameCursor {
    pub(crate) fn new(
        file: Arc<dyn ReadAt>,
        check: Check,
        (next, at): (Sequence, u64),
        end: u64,
    ) -> Self {
        debug_assert!(at >= HEADER_BYTES);
        Self {
            file,
            check,
            at,
            next,
            end,
            buffer: Vec::new(),
            buffer_at: 0,
            payload: 0..0,
        }
    }

    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    pub(crate) fn next(&self) -> Sequence {
        self.next
    }

    /// Lets the cursor see what was appended since.
    pub(crate) fn extend_to(&mut self, end: u64) {
        self.end = self.end.max(end);
    }

    /// The payload of the frame that was stepped on last.
    pub(crate) fn payload(&self) -> &[u8] {
        self.buffer.get(self.payload.clone()).unwrap_or_default()
    }

    /// Reads and checks the next frame. After `End` and `Bad` the cursor stays.
    pub(crate) fn step(&mut self) -> Result<Step> {
        let header = match self.peek_header()? {
            Ok(header) => header,
            Err(step) => return Ok(step),
        };
        let Some(payload) = self.good_payload(self.at, header)? else {
            return Ok(Step::Bad);
        };
        self.payload = payload;
        self.advance(header);
        Ok(Step::Frame(header.sequence))
    }

    /// Moves on to a frame without checking the content of those before it. False if the
    /// chain of frames breaks or ends before.
    pub(crate) fn skip_to(&mut self, sequence: Sequence) -> Result<bool> {
        while self.next < sequence {
            match self.peek_header()? {
                Ok(header) => self.advance(header),
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The highest number of a good frame behind a bad one at the cursor, if there is any.
    pub(crate) fn search_behind(&mut self) -> Result<Option<Sequence>> {
        let mut budget_bytes = SEARCH_BYTES_MAX;
        let mut highest = None;
        let mut at = self.at + 1;
        let numbers_max = (self.end - self.at.min(self.end)) / FRAME_HEADER_BYTES;
        let numbers = self.next..=self.next.saturating_add(numbers_max);
        while self.end.saturating_sub(at) >= FRAME_HEADER_BYTES {
            let Some(header) = self.header_at(at)? else {
                break;
            };
            let plausible = numbers.contains(&header.sequence)
                && highest.is_none_or(|highest| header.sequence > highest)
                && self.fits(at, header);
            if plausible && header.frame_bytes() > budget_bytes {
                // Not decided within the budget: keep the bytes, as for a frame that is good.
                return Ok(highest.max(Some(*numbers.end())));
            }
            if plausible {
                budget_bytes -= header.frame_bytes();
                if self.good_payload(at, header)?.is_some() {
                    highest = Some(header.sequence);
                    at += header.frame_bytes();
                    continue;
                }
            }
            at += 1;
        }
        Ok(highest)
    }

    fn advance(&mut self, header: FrameHeader) {
        self.at += header.frame_bytes();
        self.next = self.next.saturating_add(1);
    }

    fn fits(&self, at: u64, header: FrameHeader) -> bool {
        header.len <= self.check.frame_bytes_max
            && header.frame_bytes() <= self.end.saturating_sub(at)
    }

    fn peek_header(&mut self) -> Result<std::result::Result<FrameHeader, Step>> {
        if self.at >= self.end {
            return Ok(Err(Step::End));
        }
        let header = self.header_at(self.at)?;
        Ok(header
            .filter(|header| header.sequence == self.next && self.fits(self.at, *header))
            .ok_or(Step::Bad))
    }

    fn header_at(&mut self, at: u64) -> Result<Option<FrameHeader>> {
        let range = self.load(at, FRAME_HEADER_BYTES)?;
        Ok(range.and_then(|range| FrameHeader::decode(self.buffer.get(range)?)))
    }

    /// Where in the buffer the payload is, if its checksum is right. The caller has checked
    /// that the frame fits, which bounds the buffer.
    fn good_payload(&mut self, at: u64, header: FrameHeader) -> Result<Option<Range<usize>>> {
        let Some(frame) = self.load(at, header.frame_bytes())? else {
            return Ok(None);
        };
        let payload = frame.start + FRAME_HEADER_BYTES as usize..frame.end;
        let good = self
            .buffer
            .get(payload.clone())
            .is_some_and(|bytes| header.matches(self.check.salt, bytes));
        Ok(good.then_some(payload))
    }

    /// Where in the buffer the bytes are, or nothing if the segment ends before.
    fn load(&mut self, at: u64, len: u64) -> Result<Option<Range<usize>>> {
        let left = self.end.saturating_sub(at);
        if len > left {
            return Ok(None);
        }
        if at < self.buffer_at || at + len > self.buffer_at + self.buffer.len() as u64 {
            let want = len.max(WINDOW_BYTES).min(left) as usize;
            self.buffer.resize(want, 0);
            // One large frame does not keep its memory for the life of a reader.
            self.buffer.shrink_to(want.max(WINDOW_BYTES as usize));
            self.buffer_at = at;
            let read = match self.file.read_at(at, &mut self.buffer) {
                Ok(read) => read,
                Err(error) => {
                    self.buffer.clear();
                    return Err(error.into());
                }
            };
            self.buffer.truncate(read);
            if (read as u64) < len {
                return Ok(None);
            }
        }
        let start = (at - self.buffer_at) as usize;
        Ok(Some(start..start + len as usize))
    }
}
