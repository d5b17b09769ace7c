//! A literal against texts that are put together from static parts and slots.
//!
//! Where a literal can lie in such a text is worked out once for all texts of a template: in a
//! static part, in a slot, or across them. Each way it can lie asks something of the slots that
//! it touches, again a literal: the value has it, begins with it, ends with it, or is it. The
//! texts that have the literal are those that meet all demands of one of the ways.

use super::split::VALUE;

/// Ways at most, and steps to find them; with more the texts themselves are looked at.
const WAYS_MAX: usize = 64;
const STEPS_MAX: usize = 100_000;

/// What is looked for in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pattern<'p> {
    /// In lower case when it is folded.
    pub(super) text: &'p [u8],
    /// Whether the text must begin with it.
    pub(super) at_start: bool,
    /// Whether the text must end with it.
    pub(super) at_end: bool,
    /// Whether upper and lower case of ASCII letters are one.
    pub(super) is_folded: bool,
}

impl<'p> Pattern<'p> {
    /// Has it anywhere.
    pub(super) fn within(text: &'p [u8], is_folded: bool) -> Self {
        Self {
            text,
            at_start: false,
            at_end: false,
            is_folded,
        }
    }

    fn part(self, text: &'p [u8], at_start: bool, at_end: bool) -> Self {
        Self {
            text,
            at_start,
            at_end,
            ..self
        }
    }

    /// Whether every text has it.
    pub(super) fn is_void(self) -> bool {
        self.text.is_empty() && !(self.at_start && self.at_end)
    }

    /// Whether a text has it. `text` is changed to lower case when the pattern is folded.
    pub(super) fn accepts(self, text: &mut [u8]) -> bool {
        if self.is_folded {
            text.make_ascii_lowercase();
        }
        match (self.at_start, self.at_end) {
            (true, true) => text == self.text,
            (true, false) => text.starts_with(self.text),
            (false, true) => text.ends_with(self.text),
            (false, false) => memchr::memmem::find(text, self.text).is_some(),
        }
    }

    fn is_prefix(self, prefix: &[u8], text: &[u8]) -> bool {
        let Some(text) = text.get(..prefix.len()) else {
            return false;
        };
        if self.is_folded {
            text.eq_ignore_ascii_case(prefix)
        } else {
            text == prefix
        }
    }
}

/// What a way asks: the number of a slot, and what its value must have.
pub(super) type Demand<'p> = (usize, Pattern<'p>);

/// A part of a text.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part<'t> {
    Static(&'t [u8]),
    Slot(usize),
}

/// The parts of a template.
pub(super) fn parts(template: &[u8]) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut slots = 0;
    for piece in template.split_inclusive(|b| *b >= VALUE) {
        let is_marked = piece.last().is_some_and(|b| *b >= VALUE);
        let content = &piece[..piece.len() - usize::from(is_marked)];
        if !content.is_empty() {
            parts.push(Part::Static(content));
        }
        if is_marked {
            parts.push(Part::Slot(slots));
            slots += 1;
        }
    }
    parts
}

/// What a demand comes to before any value is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    No,
    Yes,
    Some,
}

/// How texts can have a pattern.
#[derive(Debug)]
pub(super) enum Ways<'p> {
    /// None has it.
    No,
    /// All have it.
    Yes,
    /// Those that meet all demands of one of these.
    Some(Vec<Vec<Demand<'p>>>),
    /// Too many to follow.
    Unknown,
}

/// The ways in which texts of these parts can have a pattern. `judge` says what a demand on a
/// slot comes to.
pub(super) fn ways<'p>(
    parts: &[Part<'_>],
    pattern: Pattern<'p>,
    judge: &dyn Fn(usize, Pattern<'p>) -> Verdict,
) -> Ways<'p> {
    if pattern.is_void() {
        return Ways::Yes;
    }
    let mut walk = Walk {
        parts,
        pattern,
        judge,
        demands: Vec::new(),
        ways: Vec::new(),
        steps: 0,
        is_certain: false,
    };
    if pattern.at_start {
        walk.go_on(0, 0, pattern.text);
    } else {
        walk.start_anywhere();
    }
    if walk.is_certain {
        Ways::Yes
    } else if walk.steps > STEPS_MAX || walk.ways.len() > WAYS_MAX {
        Ways::Unknown
    } else if walk.ways.is_empty() {
        Ways::No
    } else {
        Ways::Some(walk.ways)
    }
}

struct Walk<'a, 'p> {
    parts: &'a [Part<'a>],
    pattern: Pattern<'p>,
    judge: &'a dyn Fn(usize, Pattern<'p>) -> Verdict,
    /// Those of the way being followed.
    demands: Vec<Demand<'p>>,
    ways: Vec<Vec<Demand<'p>>>,
    steps: usize,
    /// Whether a way without demands was found.
    is_certain: bool,
}

impl<'p> Walk<'_, 'p> {
    fn is_over(&self) -> bool {
        self.is_certain || self.steps > STEPS_MAX || self.ways.len() > WAYS_MAX
    }

    fn arrive(&mut self) {
        self.is_certain |= self.demands.is_empty();
        self.ways.push(self.demands.clone());
    }

    /// Goes on with a demand, unless no value can meet it.
    fn demand(&mut self, slot: usize, pattern: Pattern<'p>, then: impl FnOnce(&mut Self)) {
        let verdict = if pattern.is_void() {
            Verdict::Yes
        } else {
            (self.judge)(slot, pattern)
        };
        match verdict {
            Verdict::No => {}
            Verdict::Yes => then(self),
            Verdict::Some => {
                self.demands.push((slot, pattern));
                then(self);
                self.demands.pop();
            }
        }
    }

    fn start_anywhere(&mut self) {
        let text = self.pattern.text;
        let Some(first) = text.first().copied() else {
            // Only texts that end here: all do.
            self.arrive();
            return;
        };
        for (number, part) in self.parts.iter().enumerate() {
            match *part {
                Part::Static(content) => {
                    let upper = if self.pattern.is_folded {
                        first.to_ascii_uppercase()
                    } else {
                        first
                    };
                    for offset in memchr::memchr2_iter(first, upper, content) {
                        self.go_on(number, offset, text);
                    }
                }
                Part::Slot(slot) => {
                    if !self.pattern.at_end {
                        let within = self.pattern.part(text, false, false);
                        self.demand(slot, within, Self::arrive);
                    }
                    for len in 1..text.len() + usize::from(self.pattern.at_end) {
                        self.end_in(number, slot, text, len, false);
                    }
                }
            }
            if self.is_over() {
                return;
            }
        }
    }

    /// The rest of the pattern from an offset of a part on.
    fn go_on(&mut self, number: usize, offset: usize, rest: &'p [u8]) {
        self.steps += 1;
        if self.is_over() {
            return;
        }
        let at_end = self.pattern.at_end;
        if rest.is_empty() && !at_end {
            self.arrive();
            return;
        }
        match self.parts.get(number) {
            None if rest.is_empty() => self.arrive(),
            None => {}
            Some(Part::Static(content)) => {
                let content = &content[offset..];
                if rest.len() < content.len() {
                    if !at_end && self.pattern.is_prefix(rest, content) {
                        self.arrive();
                    }
                } else if self.pattern.is_prefix(content, rest) {
                    self.go_on(number + 1, 0, &rest[content.len()..]);
                }
            }
            Some(Part::Slot(slot)) => {
                let slot = *slot;
                if !at_end {
                    let within = self.pattern.part(rest, true, false);
                    self.demand(slot, within, Self::arrive);
                }
                for len in 0..rest.len() + usize::from(at_end) {
                    self.end_in(number, slot, rest, len, true);
                }
            }
        }
    }

    /// The value of a slot ends with the first `len` bytes of `rest`, and the others follow.
    fn end_in(&mut self, number: usize, slot: usize, rest: &'p [u8], len: usize, at_start: bool) {
        self.steps += 1;
        if self.is_over() {
            return;
        }
        let (value, follows) = rest.split_at(len);
        // Most lengths are ruled out by the byte that comes next.
        if let (Some(next), Some(Part::Static(content))) =
            (follows.first(), self.parts.get(number + 1))
            && !content[0].eq_ignore_ascii_case(next)
        {
            return;
        }
        let demand = self.pattern.part(value, at_start, true);
        self.demand(slot, demand, |walk| walk.go_on(number + 1, 0, follows));
    }
}
