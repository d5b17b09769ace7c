//! Which frames of which collector a store already has.
//!
//! Collectors send at least once; the store keeps each frame once. A frame is known by who
//! sent it, in which epoch of the sender's journal, and its sequence and part. Per sender and
//! epoch there is a mark below which all is known, and above it a window of what came early,
//! since several requests are under way at once.

use std::collections::{BTreeSet, HashMap};

/// Frames that may be known above the mark, per sender and epoch.
pub const WINDOW_FRAMES_MAX: usize = 4096;
/// Senders and epochs kept; beyond it the one unused for longest is forgotten, and counted.
pub const SENDERS_MAX: usize = 16_384;

/// Who sent a frame: the same frame from the same sender is a repeat.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sender {
    /// The name of the token or user it was let in by; empty without access rules.
    pub token: String,
    /// The agent's lasting identity.
    pub agent: String,
    /// Random for each time the agent's journal was opened.
    pub epoch: u64,
}

/// A frame's place in its epoch. A frame that was split has parts, numbered from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameNumber {
    /// The sequence in the sender's journal.
    pub sequence: u64,
    /// Which part.
    pub part: u32,
    /// Whether this is the last part.
    pub is_last: bool,
}

/// Where a request came from, when its sender numbers its frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Who sent it.
    pub sender: Sender,
    /// Its place in the sender's journal.
    pub frame: FrameNumber,
    /// The oldest sequence that the sender still has: all before it is settled.
    pub first: u64,
}

/// What the store should do with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Store it.
    New,
    /// It is stored already: acknowledge it.
    Repeat,
    /// Too far above the mark to be remembered: refuse it for now.
    TooFarAhead,
}

#[derive(Debug, Clone, Default)]
struct Marks {
    /// All sequences up to this one are known whole.
    mark: u64,
    /// Parts known above the mark.
    window: BTreeSet<FrameNumber>,
    used: u64,
}

/// The frames that a store has, for all senders.
#[derive(Debug, Clone, Default)]
pub struct Deliveries {
    senders: HashMap<Sender, Marks>,
    uses: u64,
    forgotten: u64,
}

impl Deliveries {
    /// No frame known.
    pub fn new() -> Self {
        Self::default()
    }

    /// What to do with a frame, without remembering it.
    pub fn judge(&self, sender: &Sender, frame: FrameNumber) -> Verdict {
        let Some(marks) = self.senders.get(sender) else {
            return Verdict::New;
        };
        if frame.sequence <= marks.mark || marks.has(frame) {
            Verdict::Repeat
        } else if marks.window.len() >= WINDOW_FRAMES_MAX && frame.sequence > marks.mark + 1 {
            Verdict::TooFarAhead
        } else {
            Verdict::New
        }
    }

    /// Remembers a frame as stored. `first` is the oldest sequence that the sender still has:
    /// all before it is settled, so the mark need not wait for it.
    pub fn stored(&mut self, sender: &Sender, frame: FrameNumber, first: u64) {
        if !self.senders.contains_key(sender) && self.senders.len() >= SENDERS_MAX {
            self.forget_oldest();
        }
        self.uses += 1;
        let marks = self.senders.entry(sender.clone()).or_default();
        marks.used = self.uses;
        if frame.sequence > marks.mark {
            marks.window.insert(frame);
        }
        marks.raise(first.saturating_sub(1));
    }

    /// How many senders were forgotten to make room.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// What is known, for a checkpoint: per sender its mark and the frames above it.
    pub fn iter(&self) -> impl Iterator<Item = (&Sender, u64, impl Iterator<Item = FrameNumber>)> {
        self.senders
            .iter()
            .map(|(s, m)| (s, m.mark, m.window.iter().copied()))
    }

    /// Puts back what [`Deliveries::iter`] gave.
    pub fn restore(
        &mut self,
        sender: Sender,
        mark: u64,
        frames: impl IntoIterator<Item = FrameNumber>,
    ) {
        let window = frames.into_iter().take(WINDOW_FRAMES_MAX).collect();
        self.uses += 1;
        self.senders.insert(
            sender,
            Marks {
                mark,
                window,
                used: self.uses,
            },
        );
    }

    fn forget_oldest(&mut self) {
        let oldest = self
            .senders
            .iter()
            .min_by_key(|(_, m)| m.used)
            .map(|(s, _)| s.clone());
        if let Some(oldest) = oldest {
            self.senders.remove(&oldest);
            self.forgotten += 1;
        }
    }
}

impl Marks {
    fn has(&self, frame: FrameNumber) -> bool {
        [true, false].iter().any(|is_last| {
            self.window.contains(&FrameNumber {
                is_last: *is_last,
                ..frame
            })
        })
    }

    /// Raises the mark to `settled`, then over every whole frame that follows it.
    fn raise(&mut self, settled: u64) {
        self.mark = self.mark.max(settled);
        while let Some(parts) = self.whole(self.mark.wrapping_add(1)) {
            self.mark += 1;
            for part in parts {
                self.window.remove(&part);
            }
        }
        let above = FrameNumber {
            sequence: self.mark.saturating_add(1),
            part: 0,
            is_last: false,
        };
        self.window = self.window.split_off(&above);
    }

    /// The parts of a frame, when all of them are known.
    fn whole(&self, sequence: u64) -> Option<Vec<FrameNumber>> {
        let from = FrameNumber {
            sequence,
            part: 0,
            is_last: false,
        };
        let to = FrameNumber {
            sequence,
            part: u32::MAX,
            is_last: true,
        };
        let parts: Vec<FrameNumber> = self.window.range(from..=to).copied().collect();
        let last = parts.last().filter(|p| p.is_last)?;
        (parts.len() == last.part as usize + 1).then_some(parts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sender(epoch: u64) -> Sender {
        Sender {
            token: "t".to_owned(),
            agent: "a".to_owned(),
            epoch,
        }
    }

    fn whole(sequence: u64) -> FrameNumber {
        FrameNumber {
            sequence,
            part: 0,
            is_last: true,
        }
    }

    #[test]
    fn a_frame_is_new_once_and_epochs_are_apart() {
        let mut known = Deliveries::new();
        assert_eq!(known.judge(&sender(1), whole(1)), Verdict::New);
        known.stored(&sender(1), whole(1), 1);
        assert_eq!(known.judge(&sender(1), whole(1)), Verdict::Repeat);
        assert_eq!(known.judge(&sender(2), whole(1)), Verdict::New);
    }

    #[test]
    fn the_mark_waits_for_all_parts() {
        let mut known = Deliveries::new();
        let part = |part, is_last| FrameNumber {
            sequence: 1,
            part,
            is_last,
        };
        known.stored(&sender(1), part(1, true), 1);
        known.stored(&sender(1), whole(2), 1);
        assert_eq!(known.judge(&sender(1), part(0, false)), Verdict::New);
        known.stored(&sender(1), part(0, false), 1);
        let marks: Vec<(u64, usize)> = known.iter().map(|(_, m, w)| (m, w.count())).collect();
        assert_eq!(marks, [(2, 0)]);
    }

    #[test]
    fn a_full_window_still_takes_what_the_mark_waits_for() {
        let mut known = Deliveries::new();
        for sequence in 2..2 + WINDOW_FRAMES_MAX as u64 {
            known.stored(&sender(1), whole(sequence), 1);
        }
        let ahead = whole(10 + WINDOW_FRAMES_MAX as u64);
        assert_eq!(known.judge(&sender(1), ahead), Verdict::TooFarAhead);
        assert_eq!(known.judge(&sender(1), whole(1)), Verdict::New);
        known.stored(&sender(1), whole(1), 1);
        assert_eq!(known.judge(&sender(1), ahead), Verdict::New);
    }

    #[test]
    fn senders_are_bounded_and_the_oldest_goes() {
        let mut known = Deliveries::new();
        for epoch in 0..=SENDERS_MAX as u64 {
            known.stored(&sender(epoch), whole(1), 1);
        }
        assert_eq!((known.senders.len(), known.forgotten()), (SENDERS_MAX, 1));
        assert_eq!(known.judge(&sender(0), whole(1)), Verdict::New);
        assert_eq!(known.judge(&sender(1), whole(1)), Verdict::Repeat);
    }

    proptest! {
        #[test]
        fn any_order_with_repeats_stores_each_part_once(
            sends in proptest::collection::vec((1_u64..12, 0_u32..3), 0..200),
        ) {
            let mut known = Deliveries::new();
            let mut stored = BTreeSet::new();
            for (at, (sequence, part)) in sends.into_iter().enumerate() {
                let frame = FrameNumber { sequence, part, is_last: part == 2 };
                let verdict = known.judge(&sender(1), frame);
                prop_assert_eq!(verdict == Verdict::New, stored.insert(frame));
                if verdict == Verdict::New {
                    known.stored(&sender(1), frame, 1);
                }
                if at % 7 == 0 {
                    // A checkpoint and a restart change nothing.
                    let mut again = Deliveries::new();
                    for (sender, mark, frames) in known.iter() {
                        again.restore(sender.clone(), mark, frames);
                    }
                    known = again;
                }
            }
        }
    }
}
