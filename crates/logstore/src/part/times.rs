//! The times of a block's rows, so that a count up to some time costs a page, not the column.
//!
//! ```text
//! per page of 128 rows: first time less that of the page before (varint), bytes of the page
//! (uvarint); then the pages: deltas of ms, deltas of the ns within the ms (modulo 10^6)
//! deltas: base varint, width u8, exceptions u8, each in `width` bits less the base,
//! exceptions (row u8, delta varint)
//! ```
//!
//! Times are kept as ms and the ns within: lines come at some ms, and what senders put below
//! is a counter or nothing as often as a real clock. Rows of a run are in order of time; where
//! another run starts, time goes back, which is an exception.

use std::ops::Range;

use kittiwake_journal::bytes::{Malformed, Reader, put_uvarint, put_varint};
use kittiwake_model::TimeRange;

/// Rows of a page.
pub(crate) const PAGE_ROWS: usize = 128;
const MS: i64 = 1_000_000;
/// What an exception costs, in bits, for choosing the width.
const EXCEPTION_BITS: usize = 40;

/// Appends a column of times.
pub(crate) fn encode(times: &[i64], out: &mut Vec<u8>) {
    let mut pages = Vec::new();
    let mut deltas = Vec::with_capacity(PAGE_ROWS);
    let mut before = 0_i64;
    for page in times.chunks(PAGE_ROWS) {
        let start = pages.len();
        let pairs = || page.windows(2);
        deltas.clear();
        deltas.extend(pairs().map(|w| w[1].div_euclid(MS).wrapping_sub(w[0].div_euclid(MS))));
        pack(&deltas, &mut pages);
        deltas.clear();
        deltas.extend(pairs().map(|w| (w[1].rem_euclid(MS) - w[0].rem_euclid(MS)).rem_euclid(MS)));
        pack(&deltas, &mut pages);
        put_varint(out, page[0].wrapping_sub(before));
        put_uvarint(out, (pages.len() - start) as u64);
        before = page[0];
    }
    out.extend_from_slice(&pages);
}

fn bits(value: u64) -> usize {
    64 - value.leading_zeros() as usize
}

fn pack(deltas: &[i64], out: &mut Vec<u8>) {
    let forward = deltas.iter().copied().filter(|d| *d >= 0);
    let base = forward.min().unwrap_or(0);
    // How many deltas need a width; those that go back need more than any.
    let mut needs = [0_usize; 64];
    let mut back = 0;
    for delta in deltas {
        match delta {
            0.. => needs[bits(delta.wrapping_sub(base) as u64).min(63)] += 1,
            _ => back += 1,
        }
    }
    let (mut best, mut width) = (usize::MAX, 0);
    let mut above = deltas.len() - back;
    for (bits, count) in needs.iter().enumerate().take(57) {
        above -= count;
        let cost = bits * deltas.len() + above * EXCEPTION_BITS;
        if cost < best {
            (best, width) = (cost, bits);
        }
    }
    let is_exception = |delta: i64| delta < 0 || bits(delta.wrapping_sub(base) as u64) > width;
    let exceptions = deltas.iter().filter(|d| is_exception(**d)).count();
    put_varint(out, base);
    out.push(width as u8);
    out.push(exceptions as u8);
    let (mut pending, mut len) = (0_u64, 0);
    for delta in deltas {
        let value = if is_exception(*delta) {
            0
        } else {
            delta.wrapping_sub(base) as u64
        };
        pending |= value << len;
        len += width;
        while len >= 8 {
            out.push(pending as u8);
            pending >>= 8;
            len -= 8;
        }
    }
    if len > 0 {
        out.push(pending as u8);
    }
    for (row, delta) in deltas.iter().enumerate().filter(|(_, d)| is_exception(**d)) {
        out.push(row as u8);
        put_varint(out, *delta);
    }
}

fn unpack(reader: &mut Reader<'_>, deltas: &mut [i64]) -> Result<(), Malformed> {
    let at = reader.position();
    let malformed = Malformed {
        at,
        wanted: "a page of times",
    };
    let base = reader.varint()?;
    let width = usize::from(reader.u8()?);
    let exceptions = reader.u8()?;
    if width > 56 {
        return Err(malformed);
    }
    let packed = reader.take((width * deltas.len()).div_ceil(8))?;
    let (mut pending, mut len) = (0_u64, 0);
    let mut bytes = packed.iter();
    let mask = (1_u64 << width) - 1;
    for delta in deltas.iter_mut() {
        while len < width {
            pending |= u64::from(*bytes.next().unwrap_or(&0)) << len;
            len += 8;
        }
        *delta = base.wrapping_add((pending & mask) as i64);
        pending >>= width;
        len -= width;
    }
    for _ in 0..exceptions {
        let row = usize::from(reader.u8()?);
        let delta = reader.varint()?;
        *deltas.get_mut(row).ok_or(malformed)? = delta;
    }
    Ok(())
}

/// A column of times, its pages still packed.
#[derive(Debug)]
pub(crate) struct Times {
    bytes: Vec<u8>,
    rows: usize,
    firsts: Vec<i64>,
    /// Where each page starts, and the last one ends.
    starts: Vec<usize>,
}

impl Times {
    /// Opens a column of so many rows.
    pub(crate) fn open(bytes: Vec<u8>, rows: usize) -> Result<Self, Malformed> {
        let pages = rows.div_ceil(PAGE_ROWS);
        let (mut firsts, mut starts) = (Vec::with_capacity(pages), Vec::with_capacity(pages + 1));
        let mut reader = Reader::new(&bytes);
        let (mut first, mut at) = (0_i64, 0_usize);
        for _ in 0..pages {
            first = first.wrapping_add(reader.varint()?);
            firsts.push(first);
            starts.push(at);
            at = at.saturating_add(usize::try_from(reader.uvarint()?).unwrap_or(usize::MAX));
        }
        starts.push(at);
        let head = reader.position();
        if head.checked_add(at) != Some(bytes.len()) {
            return Err(Malformed {
                at: head,
                wanted: "the pages of a column of times",
            });
        }
        for start in &mut starts {
            *start += head;
        }
        Ok(Self {
            bytes,
            rows,
            firsts,
            starts,
        })
    }

    /// Appends the times of a page.
    fn page(&self, page: usize, into: &mut Vec<i64>) -> Result<(), Malformed> {
        let rows = (self.rows - page * PAGE_ROWS).min(PAGE_ROWS);
        let mut reader = Reader::new(&self.bytes[self.starts[page]..self.starts[page + 1]]);
        let (mut ms, mut ns) = ([0; PAGE_ROWS], [0; PAGE_ROWS]);
        unpack(&mut reader, &mut ms[..rows - 1])?;
        unpack(&mut reader, &mut ns[..rows - 1])?;
        let first = self.firsts[page];
        into.push(first);
        let (mut at_ms, mut at_ns) = (first.div_euclid(MS), first.rem_euclid(MS));
        for row in 0..rows - 1 {
            at_ms = at_ms.wrapping_add(ms[row]);
            at_ns = at_ns.wrapping_add(ns[row]);
            if at_ns >= MS {
                at_ns -= MS;
            }
            into.push(at_ms.wrapping_mul(MS).wrapping_add(at_ns));
        }
        Ok(())
    }

    /// All times.
    pub(crate) fn all(&self) -> Result<Vec<i64>, Malformed> {
        let mut all = Vec::with_capacity(self.rows);
        for page in 0..self.firsts.len() {
            self.page(page, &mut all)?;
        }
        Ok(all)
    }

    /// The rows of a run that lie in a range of time. The run's own range is known.
    pub(crate) fn within(
        &self,
        mut run: Range<usize>,
        of_run: TimeRange,
        range: TimeRange,
    ) -> Result<Range<usize>, Malformed> {
        let mut ranks = self.ranks();
        if range.start > of_run.start {
            run.start = ranks.after(run.clone(), range.start - 1)?;
        }
        if range.end < of_run.end {
            run.end = ranks.after(run.clone(), range.end)?;
        }
        Ok(run)
    }

    /// Finds ranks in runs of rows that are in order of time.
    pub(crate) fn ranks(&self) -> Ranks<'_> {
        Ranks {
            times: self,
            page: usize::MAX,
            decoded: Vec::with_capacity(PAGE_ROWS),
        }
    }
}

/// Finds ranks, keeping the page that was decoded last.
#[derive(Debug)]
pub(crate) struct Ranks<'a> {
    times: &'a Times,
    page: usize,
    decoded: Vec<i64>,
}

impl Ranks<'_> {
    /// The first row of a run that is later than `at_ns`; the run's end when there is none.
    pub(crate) fn after(&mut self, run: Range<usize>, at_ns: i64) -> Result<usize, Malformed> {
        if run.is_empty() {
            return Ok(run.start);
        }
        // Pages that start within the run; the one that the wanted row is in comes before the
        // first that starts later.
        let from = run.start.div_ceil(PAGE_ROWS);
        let to = run.end.div_ceil(PAGE_ROWS).max(from);
        let firsts = self.times.firsts.get(from..to).unwrap_or_default();
        let later = from + firsts.partition_point(|first| *first <= at_ns);
        let Some(page) = later.checked_sub(1).filter(|p| *p >= run.start / PAGE_ROWS) else {
            return Ok(run.start);
        };
        if self.page != page {
            self.decoded.clear();
            self.times.page(page, &mut self.decoded)?;
            self.page = page;
        }
        let start = page * PAGE_ROWS;
        let in_page = run.start.max(start)..run.end.min(start + self.decoded.len());
        let rows = &self.decoded[in_page.start - start..in_page.end - start];
        Ok(in_page.start + rows.partition_point(|time| *time <= at_ns))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn column(times: &[i64]) -> Times {
        let mut bytes = Vec::new();
        encode(times, &mut bytes);
        Times::open(bytes, times.len()).unwrap()
    }

    #[test]
    fn regular_times_cost_next_to_nothing() {
        let times: Vec<i64> = (0..8192)
            .map(|n| 1_700_000_000_000_000_000 + n * 1_000_000_000)
            .collect();
        let mut bytes = Vec::new();
        encode(&times, &mut bytes);
        assert!(bytes.len() < 1200, "{}", bytes.len());
        assert_eq!(column(&times).all().unwrap(), times);
    }

    proptest! {
        #[test]
        fn any_times_come_back(times: Vec<i64>) {
            prop_assert_eq!(column(&times).all().unwrap(), times);
        }

        #[test]
        fn ranks_are_those_of_the_rows(
            runs in proptest::collection::vec((0_usize..400, 0_i64..3_000_000), 1..6),
            asked in proptest::collection::vec(0_i64..1_000_000_000, 1..20),
        ) {
            let (mut times, mut ranges) = (Vec::new(), Vec::new());
            let mut seed = 1_u64;
            for (rows, step) in runs {
                let start = times.len();
                let mut at = step * 7;
                for _ in 0..rows {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    at += (seed >> 33) as i64 % (step + 1);
                    times.push(at);
                }
                ranges.push(start..times.len());
            }
            let column = column(&times);
            prop_assert_eq!(&column.all().unwrap(), &times);
            let mut ranks = column.ranks();
            for range in ranges {
                for at in &asked {
                    let want = range.start + times[range.clone()].partition_point(|t| t <= at);
                    prop_assert_eq!(ranks.after(range.clone(), *at).unwrap(), want);
                }
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>, rows in 0_usize..300) {
            if let Ok(times) = Times::open(bytes, rows) {
                let _ = times.all();
                let _ = times.ranks().after(0..rows, 5);
            }
        }
    }
}
