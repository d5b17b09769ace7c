//! Where a block's series, pages, groups and columns lie.

use std::ops::Range;

use kittiwake_journal::bytes::{Malformed, Reader, put_uvarint, put_varint};
use kittiwake_model::labels::METRIC_NAME;
use kittiwake_model::{Labels, Matcher, TimeRange};

use super::HISTOGRAMS;
use crate::codec::NumberClass;
use crate::dictionary::{Dictionary, NAMELESS};

/// Stands for a column of start times that a page does not have.
pub(super) const NO_STARTS: u32 = u32::MAX;

/// Bytes of a section with their checksum.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) crc: u32,
}

/// A column of times that pages share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) piece: Piece,
    pub(super) samples: u32,
    pub(super) range: TimeRange,
}

/// Pages that were compressed together: tables first, then the pages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    /// `None`: histograms.
    pub(super) class: Option<NumberClass>,
    pub(super) piece: Piece,
    pub(super) tables_len: u32,
    pub(super) summaries: Piece,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    pub(super) column: u32,
    pub(super) starts: u32,
    pub(super) group: u32,
    /// From the end of the group's tables.
    pub(super) offset: u32,
    pub(super) len: u32,
    /// How many pages of the group come before it.
    pub(super) rank: u32,
}

/// Neighbouring series of one metric name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) name: u32,
    pub(super) first: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) dictionary: Dictionary,
    pub(super) columns: Vec<Column>,
    pub(super) starts: Vec<Piece>,
    pub(super) groups: Vec<Group>,
    pub(super) runs: Vec<Run>,
    /// Per series.
    pub(super) sets: Vec<u32>,
    pub(super) page_ends: Vec<u32>,
    pub(super) pages: Vec<Page>,
}

impl Index {
    /// How many series there are.
    pub(crate) fn len(&self) -> usize {
        self.sets.len()
    }

    /// The metric name and the label set of a series.
    pub(crate) fn name_and_set(&self, series: u32) -> (u32, u32) {
        let run = self.runs.partition_point(|r| r.first <= series);
        let name = run
            .checked_sub(1)
            .map_or(NAMELESS, |run| self.runs[run].name);
        (name, self.sets[series as usize])
    }

    /// About the samples of a series in the range, with a share of those that are decoded with
    /// them.
    pub(crate) fn samples_about(&self, series: u32, range: TimeRange) -> usize {
        let columns = self.pages_of(series).iter();
        let columns = columns.map(|p| &self.columns[p.column as usize]);
        let about = columns.map(|c| {
            let own = c.range;
            let end = own.end.min(range.end).saturating_add(1);
            let within = end.saturating_sub(own.start.max(range.start)).max(0) as f64;
            if within == 0.0 {
                return 0;
            }
            let share = within / (own.end.saturating_sub(own.start) as f64 + 1.0);
            let samples = f64::from(c.samples);
            (samples * share.min(1.0) + samples / 16.0) as usize
        });
        about.sum()
    }

    /// The metric names as numbers of texts, ascending.
    pub(crate) fn names(&self) -> impl Iterator<Item = u32> {
        let mut names: Vec<u32> = self.runs.iter().map(|r| r.name).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().filter(|n| *n != NAMELESS)
    }

    /// A series' labels.
    pub(crate) fn labels(&self, series: u32) -> Labels {
        let (name, set) = self.name_and_set(series);
        self.dictionary.labels(name, set)
    }

    /// A hash of a series' labels, by the key of the dictionary: equal in all blocks with it.
    pub(crate) fn label_hash(&self, series: u32) -> u128 {
        let (name, set) = self.name_and_set(series);
        let name = (name != NAMELESS).then(|| self.dictionary.text(name));
        self.dictionary.label_hash(name, set)
    }

    pub(super) fn pages_of(&self, series: u32) -> &[Page] {
        &self.pages[self.page_numbers(series)]
    }

    /// The numbers of a series' pages.
    pub(super) fn page_numbers(&self, series: u32) -> Range<usize> {
        let series = series as usize;
        let end = self.page_ends.get(series).copied().unwrap_or(0);
        let start = series.checked_sub(1).and_then(|s| self.page_ends.get(s));
        (start.copied().unwrap_or(0).min(end)) as usize..end as usize
    }

    /// Samples of all pages of a series that lie in the range, those beside it included.
    pub(crate) fn samples_within(&self, series: u32, range: TimeRange) -> usize {
        let columns = self.pages_of(series).iter();
        let columns = columns.map(|p| &self.columns[p.column as usize]);
        let within = columns.filter(|c| range.overlaps(c.range.start, c.range.end));
        within.map(|c| c.samples as usize).sum()
    }

    /// Times of a series' first and last sample.
    pub(crate) fn range(&self, series: u32) -> TimeRange {
        let pages = self.pages_of(series);
        let column = |p: &Page| self.columns[p.column as usize].range;
        match (pages.first(), pages.last()) {
            (Some(first), Some(last)) => TimeRange::new(column(first).start, column(last).end),
            _ => TimeRange::new(0, -1),
        }
    }

    /// The series that match and may have samples in the range.
    pub(crate) fn select(&self, matchers: &[Matcher], range: TimeRange) -> Vec<u32> {
        let (of_name, of_sets): (Vec<&Matcher>, Vec<&Matcher>) =
            matchers.iter().partition(|m| m.name() == METRIC_NAME);
        let sets = self.dictionary.select(&of_sets);
        let mut found = Vec::new();
        for (at, run) in self.runs.iter().enumerate() {
            let name = match run.name {
                NAMELESS => "",
                name => self.dictionary.text(name),
            };
            if !of_name.iter().all(|m| m.matches(name)) {
                continue;
            }
            let end = self.runs.get(at + 1).map_or(self.len() as u32, |r| r.first);
            found.extend((run.first..end).filter(|series| {
                let is_set = |sets: &Vec<bool>| sets[self.sets[*series as usize] as usize];
                if !sets.as_ref().is_none_or(is_set) {
                    return false;
                }
                let own = self.range(*series);
                range.overlaps(own.start, own.end)
            }));
        }
        found
    }

    /// Calls back with each label set and each metric name that some of the series have, once.
    pub(crate) fn distinct(
        &self,
        series: &[u32],
        mut set: impl FnMut(u32),
        mut name: impl FnMut(u32),
    ) {
        let mut is_seen = vec![false; self.dictionary.sets()];
        let mut last = None;
        for one in series {
            let (of_series, set_number) = self.name_and_set(*one);
            if last != Some(of_series) && of_series != NAMELESS {
                name(of_series);
            }
            last = Some(of_series);
            if !std::mem::replace(&mut is_seen[set_number as usize], true) {
                set(set_number);
            }
        }
    }

    /// The series with these labels.
    pub(crate) fn find(&self, labels: &Labels) -> Option<u32> {
        let rest = labels.iter().filter(|(n, _)| *n != METRIC_NAME);
        let set = self.dictionary.find_set(rest)?;
        let name = match labels.metric_name() {
            Some(name) => self.dictionary.find_text(name)?,
            None => NAMELESS,
        };
        for (at, run) in self.runs.iter().enumerate().filter(|(_, r)| r.name == name) {
            let end = self.runs.get(at + 1).map_or(self.len() as u32, |r| r.first);
            let sets = &self.sets[run.first as usize..end as usize];
            if let Ok(found) = sets.binary_search(&set) {
                return Some(run.first + found as u32);
            }
        }
        None
    }

    /// About the memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.dictionary.bytes()
            + self.columns.len() * size_of::<Column>()
            + self.starts.len() * size_of::<Piece>()
            + self.groups.len() * size_of::<Group>()
            + self.runs.len() * size_of::<Run>()
            + self.len() * 8
            + self.pages.len() * size_of::<Page>()
    }

    /// ```text
    /// columns: count, then length, CRC u32, samples, first varint, last less first
    /// starts: count, then length, CRC u32
    /// groups: count, then class u8, length of tables, length, CRC u32, length of summaries,
    ///         CRC u32
    /// runs: count, then text of the metric name and 1, or 0; series; per series: set less the
    ///       one before and 1 (the first of a run: set), pages; per page: column less the one
    ///       before, starts and 1 or 0, group less the one before, length
    /// ```
    /// Pieces of a section, and pages of a group, follow each other without gaps.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_uvarint(out, self.columns.len() as u64);
        for column in &self.columns {
            put_piece(out, &column.piece);
            put_uvarint(out, u64::from(column.samples));
            put_varint(out, column.range.start);
            let length = column.range.end.wrapping_sub(column.range.start);
            put_uvarint(out, length as u64);
        }
        put_uvarint(out, self.starts.len() as u64);
        for piece in &self.starts {
            put_piece(out, piece);
        }
        put_uvarint(out, self.groups.len() as u64);
        for group in &self.groups {
            out.push(group.class.map_or(HISTOGRAMS, NumberClass::to_byte));
            put_uvarint(out, u64::from(group.tables_len));
            put_piece(out, &group.piece);
            put_piece(out, &group.summaries);
        }
        put_uvarint(out, self.runs.len() as u64);
        let (mut column, mut group) = (0, 0);
        for (at, run) in self.runs.iter().enumerate() {
            let end = self.runs.get(at + 1).map_or(self.len() as u32, |r| r.first);
            let name = match run.name {
                NAMELESS => 0,
                name => u64::from(name) + 1,
            };
            put_uvarint(out, name);
            put_uvarint(out, u64::from(end - run.first));
            let mut set = 0;
            for series in run.first..end {
                let own = self.sets[series as usize];
                put_uvarint(out, u64::from(own - set));
                set = own + 1;
                let pages = self.pages_of(series);
                put_uvarint(out, pages.len() as u64);
                for page in pages {
                    put_varint(out, i64::from(page.column) - column);
                    put_uvarint(out, u64::from(page.starts.wrapping_add(1)));
                    put_varint(out, i64::from(page.group) - group);
                    put_uvarint(out, u64::from(page.len));
                    (column, group) = (i64::from(page.column), i64::from(page.group));
                }
            }
        }
    }

    pub(super) fn decode(dictionary: Dictionary, bytes: &[u8]) -> Result<Self, Malformed> {
        let reader = &mut Reader::new(bytes);
        let mut index = Self {
            dictionary,
            ..Self::default()
        };
        let mut offset = 0;
        for _ in 0..reader.count(8)? {
            let piece = read_piece(reader, &mut offset)?;
            let samples = number(reader, u64::from(u32::MAX))?;
            let start = reader.varint()?;
            let range = TimeRange::new(start, start.wrapping_add(reader.uvarint()? as i64));
            index.columns.push(Column {
                piece,
                samples,
                range,
            });
        }
        for _ in 0..reader.count(5)? {
            index.starts.push(read_piece(reader, &mut offset)?);
        }
        let mut ends = (0, 0);
        for _ in 0..reader.count(12)? {
            let at = reader.position();
            let class = match reader.u8()? {
                HISTOGRAMS => None,
                byte => Some(NumberClass::from_byte(byte).ok_or(Malformed {
                    at,
                    wanted: "a class of numbers",
                })?),
            };
            index.groups.push(Group {
                class,
                tables_len: number(reader, u64::from(u32::MAX))?,
                piece: read_piece(reader, &mut ends.0)?,
                summaries: read_piece(reader, &mut ends.1)?,
            });
        }
        let mut used = vec![(0_u32, 0_u32); index.groups.len()];
        let (mut column, mut group) = (0, 0);
        for _ in 0..reader.count(2)? {
            let name = number(reader, index.dictionary.texts() as u64)?.wrapping_sub(1);
            index.runs.push(Run {
                name,
                first: index.sets.len() as u32,
            });
            let mut set = 0_u64;
            for _ in 0..reader.count(2)? {
                let at = reader.position();
                set = set.saturating_add(reader.uvarint()?);
                if set >= index.dictionary.sets() as u64 {
                    return Err(wanted(at, "the number of a label set"));
                }
                index.sets.push(set as u32);
                set += 1;
                for _ in 0..reader.count(4)? {
                    let at = reader.position();
                    column = i64::wrapping_add(column, reader.varint()?);
                    let starts = number(reader, index.starts.len() as u64)?.wrapping_sub(1);
                    group = i64::wrapping_add(group, reader.varint()?);
                    let len = number(reader, u64::from(u32::MAX))?;
                    let is_column = usize::try_from(column).is_ok_and(|c| c < index.columns.len());
                    let place = usize::try_from(group).ok();
                    let Some((end, rank)) = place.and_then(|g| used.get_mut(g)) else {
                        return Err(wanted(at, "the number of a group"));
                    };
                    if !is_column {
                        return Err(wanted(at, "the number of a column"));
                    }
                    index.pages.push(Page {
                        column: column as u32,
                        starts,
                        group: group as u32,
                        offset: *end,
                        len,
                        rank: *rank,
                    });
                    *end = end.saturating_add(len);
                    *rank += 1;
                }
                index.page_ends.push(index.pages.len() as u32);
            }
        }
        Ok(index)
    }
}

fn wanted(at: usize, wanted: &'static str) -> Malformed {
    Malformed { at, wanted }
}

fn put_piece(out: &mut Vec<u8>, piece: &Piece) {
    put_uvarint(out, u64::from(piece.len));
    out.extend_from_slice(&piece.crc.to_le_bytes());
}

/// Reads a piece that begins at `offset`, which then is its end.
fn read_piece(reader: &mut Reader<'_>, offset: &mut u64) -> Result<Piece, Malformed> {
    let piece = Piece {
        offset: *offset,
        len: number(reader, u64::from(u32::MAX))?,
        crc: reader.u32()?,
    };
    *offset += u64::from(piece.len);
    Ok(piece)
}

fn number(reader: &mut Reader<'_>, max: u64) -> Result<u32, Malformed> {
    let at = reader.position();
    let number = reader.uvarint()?;
    if number > max {
        return Err(wanted(at, "a smaller number"));
    }
    Ok(number as u32)
}
