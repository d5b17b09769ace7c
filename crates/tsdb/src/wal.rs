//! Frames of the metrics store's log.
//!
//! A frame is a row of sections, each a kind, a count and that many records. A request is one
//! frame, or several when it is large. Series are named by numbers; a number, and the metric
//! name and the label set that the series is made of, are introduced by the first frame that
//! uses them since the log was last rotated, and so are the pairs of label name and value that
//! these are made of. A flush starts a segment with what is in no
//! block: deliveries, metadata, exemplars. Replaying all frames from there in order gives back
//! the head.

use std::sync::Arc;

use kittiwake_journal::bytes::{Malformed, Reader, put_bytes, put_uvarint, put_varint};
use kittiwake_journal::delivery::{put_marks, put_origin, read_marks, read_origin};
use kittiwake_model::delivery::{FrameNumber, Origin, Sender};
use kittiwake_model::{Columns, Exemplar, Histogram, LabelError, Labels, Metadata};

use crate::head::{Accepted, Sample};
use crate::histogram;
use crate::registry::{PairRef, SeriesRef};

const PAIRS: usize = 1;
const SERIES: usize = 2;
const SAMPLES: usize = 3;
const STARTS: usize = 4;
const HISTOGRAMS: usize = 5;
const EXEMPLARS: usize = 6;
const METADATA: usize = 7;
const DELIVERIES: usize = 8;
const ORIGIN: usize = 9;
const SETS: usize = 10;
const MEMBERS: usize = 11;
const KINDS: usize = 12;

/// Bytes after which a frame is closed and another one begun.
pub(crate) const FRAME_BYTES: usize = 2 << 20;

/// A frame that does not decode although its checksum is right.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// A record ends early or has an impossible piece.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Labels are not valid.
    #[error(transparent)]
    Labels(#[from] LabelError),
}

#[derive(Debug, Default)]
struct Section {
    count: u64,
    head: Vec<u8>,
    body: Vec<u8>,
}

/// A frame in the making. Reused, it keeps its memory.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    sections: [Section; KINDS],
    bytes: usize,
    last_series: i64,
    last_time_ms: i64,
    last_member: i64,
}

impl Frame {
    /// Empties the frame.
    pub(crate) fn clear(&mut self) {
        for section in &mut self.sections {
            section.count = 0;
            section.body.clear();
        }
        (self.bytes, self.last_series, self.last_time_ms) = (0, 0, 0);
        self.last_member = 0;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sections.iter().all(|s| s.count == 0)
    }

    /// Whether it is large enough to be closed.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= FRAME_BYTES
    }

    /// The bytes, in parts.
    pub(crate) fn parts(&mut self) -> Vec<&[u8]> {
        for (kind, section) in self.sections.iter_mut().enumerate() {
            section.head.clear();
            section.head.push(kind as u8);
            put_uvarint(&mut section.head, section.count);
        }
        let used = self.sections.iter().filter(|s| s.count > 0);
        used.flat_map(|s| [&s.head[..], &s.body[..]]).collect()
    }

    pub(crate) fn pair(&mut self, number: PairRef, name: &str, value: &str) {
        self.record(PAIRS, |body| {
            put_uvarint(body, u64::from(number));
            put_bytes(body, name.as_bytes());
            put_bytes(body, value.as_bytes());
        });
    }

    /// A label set without a metric name.
    pub(crate) fn set(&mut self, number: u32, pairs: &[PairRef]) {
        self.record(SETS, |body| {
            put_uvarint(body, u64::from(number));
            put_uvarint(body, pairs.len() as u64);
            for pair in pairs {
                put_uvarint(body, u64::from(*pair));
            }
        });
    }

    /// A series by its metric name, if it has one, and its label set.
    pub(crate) fn member(&mut self, number: SeriesRef, name: Option<PairRef>, set: u32) {
        let series = i64::from(number);
        let last = std::mem::replace(&mut self.last_member, series);
        self.record(MEMBERS, |body| {
            put_varint(body, series - last);
            put_uvarint(body, name.map_or(0, |n| u64::from(n) + 1));
            put_uvarint(body, u64::from(set));
        });
    }

    #[inline]
    pub(crate) fn sample(&mut self, series: SeriesRef, sample: &Sample<'_>) {
        let number = i64::from(series);
        let (last_series, last_time_ms) = (self.last_series, self.last_time_ms);
        self.record(SAMPLES, |body| {
            put_varint(body, number - last_series);
            put_varint(body, sample.time_ms.wrapping_sub(last_time_ms));
            body.extend_from_slice(&sample.value.to_bits().to_le_bytes());
        });
        (self.last_series, self.last_time_ms) = (number, sample.time_ms);
        if sample.start_ms == 0 && sample.histogram.is_none() {
            return;
        }
        let at = self.sections[SAMPLES].count - 1;
        if sample.start_ms != 0 {
            self.record(STARTS, |body| {
                put_uvarint(body, at);
                put_varint(body, sample.start_ms);
            });
        }
        if let Some(histogram) = sample.histogram {
            self.record(HISTOGRAMS, |body| {
                put_uvarint(body, at);
                histogram::encode(histogram, body);
            });
        }
    }

    pub(crate) fn exemplar(&mut self, series: SeriesRef, exemplar: &Exemplar) {
        self.record(EXEMPLARS, |body| {
            put_uvarint(body, u64::from(series));
            put_bytes(body, exemplar.labels.as_packed());
            body.extend_from_slice(&exemplar.value.to_bits().to_le_bytes());
            put_varint(body, exemplar.time_ms);
        });
    }

    pub(crate) fn metadata(&mut self, name: &str, metadata: &Metadata) {
        self.record(METADATA, |body| {
            for text in [name, &metadata.kind, &metadata.help, &metadata.unit] {
                put_bytes(body, text.as_bytes());
            }
        });
    }

    pub(crate) fn delivery(
        &mut self,
        sender: &Sender,
        mark: u64,
        frames: impl Iterator<Item = FrameNumber>,
    ) {
        self.record(DELIVERIES, |body| put_marks(body, sender, mark, frames));
    }

    pub(crate) fn origin(&mut self, origin: &Origin) {
        self.record(ORIGIN, |body| put_origin(body, Some(origin)));
    }

    #[inline]
    fn record(&mut self, kind: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let section = &mut self.sections[kind];
        let before = section.body.len();
        write(&mut section.body);
        section.count += 1;
        self.bytes += section.body.len() - before;
    }
}

/// What replaying a frame yields.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Replayed {
    pub(crate) pairs: Vec<(PairRef, String, String)>,
    /// Numbers of series, and where their pairs end among those of all.
    pub(crate) series: Vec<(SeriesRef, usize)>,
    pub(crate) series_pairs: Vec<PairRef>,
    /// Numbers of label sets, and where their pairs end among those of all.
    pub(crate) sets: Vec<(u32, usize)>,
    pub(crate) set_pairs: Vec<PairRef>,
    /// Series with their metric names and label sets.
    pub(crate) members: Vec<(SeriesRef, Option<PairRef>, u32)>,
    pub(crate) samples: Vec<Accepted>,
    pub(crate) columns: Columns,
    pub(crate) exemplars: Vec<(SeriesRef, Exemplar)>,
    pub(crate) metadata: Vec<(String, Metadata)>,
    pub(crate) deliveries: Vec<(Sender, u64, Vec<FrameNumber>)>,
    pub(crate) origin: Option<Origin>,
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Replayed, WalError> {
    let mut reader = Reader::new(bytes);
    let mut frame = Replayed::default();
    while !reader.is_at_end() {
        let at = reader.position();
        match usize::from(reader.u8()?) {
            PAIRS => {
                for _ in 0..reader.count(3)? {
                    let number = series_ref(&mut reader)?;
                    let (name, value) = (reader.text()?.to_owned(), reader.text()?.to_owned());
                    frame.pairs.push((number, name, value));
                }
            }
            SERIES => {
                for _ in 0..reader.count(2)? {
                    let number = series_ref(&mut reader)?;
                    for _ in 0..reader.count(1)? {
                        frame.series_pairs.push(series_ref(&mut reader)?);
                    }
                    frame.series.push((number, frame.series_pairs.len()));
                }
            }
            SETS => {
                for _ in 0..reader.count(2)? {
                    let number = series_ref(&mut reader)?;
                    for _ in 0..reader.count(1)? {
                        frame.set_pairs.push(series_ref(&mut reader)?);
                    }
                    frame.sets.push((number, frame.set_pairs.len()));
                }
            }
            MEMBERS => read_members(&mut reader, &mut frame)?,
            SAMPLES => read_samples(&mut reader, &mut frame)?,
            STARTS => {
                frame.columns.starts.resize(frame.columns.times.len(), 0);
                for _ in 0..reader.count(2)? {
                    let at = sample_index(&mut reader, &frame.columns)?;
                    frame.columns.starts[at] = reader.varint()?;
                }
            }
            HISTOGRAMS => {
                for _ in 0..reader.count(2)? {
                    let at = sample_index(&mut reader, &frame.columns)?;
                    let histogram: Histogram = histogram::decode(&mut reader)?;
                    let histograms = &mut frame.columns.histograms;
                    if histograms
                        .last()
                        .is_some_and(|(last, _)| *last as usize >= at)
                    {
                        return Err(malformed(reader.position(), "histograms in order").into());
                    }
                    histograms.push((at as u32, Arc::new(histogram)));
                }
            }
            EXEMPLARS => {
                for _ in 0..reader.count(11)? {
                    let series = series_ref(&mut reader)?;
                    let exemplar = Exemplar {
                        labels: Labels::from_packed(reader.bytes()?)?,
                        value: f64::from_bits(reader.u64()?),
                        time_ms: reader.varint()?,
                    };
                    frame.exemplars.push((series, exemplar));
                }
            }
            METADATA => {
                for _ in 0..reader.count(4)? {
                    let name = reader.text()?.to_owned();
                    let metadata = Metadata {
                        kind: reader.text()?.to_owned(),
                        help: reader.text()?.to_owned(),
                        unit: reader.text()?.to_owned(),
                    };
                    frame.metadata.push((name, metadata));
                }
            }
            DELIVERIES => {
                for _ in 0..reader.count(1)? {
                    frame.deliveries.push(read_marks(&mut reader)?);
                }
            }
            ORIGIN => {
                reader.count(0)?;
                frame.origin = read_origin(&mut reader)?;
            }
            _ => return Err(malformed(at, "a kind of record that this program knows").into()),
        }
    }
    Ok(frame)
}

fn read_members(reader: &mut Reader<'_>, frame: &mut Replayed) -> Result<(), WalError> {
    let count = reader.count(3)?;
    frame.members.reserve(count);
    let mut series = 0_i64;
    for _ in 0..count {
        let at = reader.position();
        series = series.wrapping_add(reader.varint()?);
        let number = SeriesRef::try_from(series)
            .ok()
            .filter(|s| *s < SERIES_MAX)
            .ok_or(malformed(at, "the number of a series"))?;
        let name = series_ref(reader)?.checked_sub(1);
        frame.members.push((number, name, series_ref(reader)?));
    }
    Ok(())
}

fn read_samples(reader: &mut Reader<'_>, frame: &mut Replayed) -> Result<(), WalError> {
    let count = reader.count(10)?;
    frame.samples.reserve(count);
    frame.columns.times.reserve(count);
    frame.columns.values.reserve(count);
    let (mut series, mut time_ms) = (0_i64, 0_i64);
    for _ in 0..count {
        let at = reader.position();
        series = series.wrapping_add(reader.varint()?);
        time_ms = time_ms.wrapping_add(reader.varint()?);
        let number = SeriesRef::try_from(series)
            .ok()
            .filter(|s| *s < SERIES_MAX)
            .ok_or(malformed(at, "the number of a series"))?;
        frame.samples.push(Accepted {
            series: number,
            at: frame.columns.times.len() as u32,
        });
        frame.columns.times.push(time_ms);
        frame.columns.values.push(f64::from_bits(reader.u64()?));
    }
    Ok(())
}

fn sample_index(reader: &mut Reader<'_>, columns: &Columns) -> Result<usize, Malformed> {
    let at = reader.position();
    usize::try_from(reader.uvarint()?)
        .ok()
        .filter(|index| *index < columns.times.len())
        .ok_or(malformed(at, "the place of a sample"))
}

fn series_ref(reader: &mut Reader<'_>) -> Result<SeriesRef, Malformed> {
    let at = reader.position();
    // The bound keeps a damaged number from making a table huge.
    SeriesRef::try_from(reader.uvarint()?)
        .ok()
        .filter(|series| *series < SERIES_MAX)
        .ok_or(malformed(at, "the number of a series or pair"))
}

fn malformed(at: usize, wanted: &'static str) -> Malformed {
    Malformed { at, wanted }
}

/// Series that one store can number.
pub(crate) const SERIES_MAX: SeriesRef = 1 << 28;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn origin() -> Origin {
        Origin {
            sender: Sender {
                token: "t".to_owned(),
                agent: "a".to_owned(),
                epoch: 7,
            },
            frame: FrameNumber {
                sequence: 300,
                part: 2,
                is_last: true,
            },
            first: 299,
        }
    }

    /// A frame with one of everything, as bytes and as what it should come back as.
    fn example() -> (Vec<u8>, Replayed) {
        let origin = origin();
        let mut want = Replayed {
            pairs: vec![
                (2, "__name__".to_owned(), "up".to_owned()),
                (4, "job".to_owned(), "a".to_owned()),
            ],
            sets: vec![(0, 0), (3, 1)],
            set_pairs: vec![4],
            members: vec![(5, Some(2), 3), (4, None, 0)],
            exemplars: vec![(
                5,
                Exemplar {
                    labels: Labels::from_pairs([("trace_id", "x")]).unwrap(),
                    value: 0.5,
                    time_ms: -9,
                },
            )],
            metadata: vec![("up".to_owned(), Metadata::default())],
            deliveries: vec![(origin.sender.clone(), 12, vec![origin.frame])],
            origin: Some(origin),
            ..Replayed::default()
        };
        for (at, (series, time_ms, value)) in [(5, i64::MAX, 1.5), (0, i64::MIN, -0.0), (9, 0, 7.0)]
            .into_iter()
            .enumerate()
        {
            let at = at as u32;
            want.samples.push(Accepted { series, at });
            want.columns.push(time_ms, value);
        }
        want.columns.set_start(77);
        let mut frame = Frame::default();
        frame.pair(2, "__name__", "up");
        frame.pair(4, "job", "a");
        frame.set(0, &[]);
        frame.set(3, &[4]);
        frame.member(5, Some(2), 3);
        frame.member(4, None, 0);
        for one in &want.samples {
            frame.sample(one.series, &Sample::of(&want.columns, one.at as usize));
        }
        frame.exemplar(5, &want.exemplars[0].1);
        frame.metadata("up", &Metadata::default());
        let (sender, mark, frames) = &want.deliveries[0];
        frame.delivery(sender, *mark, frames.iter().copied());
        frame.origin(want.origin.as_ref().unwrap());
        (frame.parts().concat(), want)
    }

    #[test]
    fn frames_come_back() {
        let (bytes, want) = example();
        assert_eq!(decode(&bytes).unwrap(), want);
    }

    #[test]
    fn the_format_stays() {
        let hex = crate::golden::to_hex(&example().0);
        assert_eq!(
            hex,
            include_str!("../tests/golden/log_frame_sets.hex").trim()
        );
    }

    #[test]
    fn frames_without_sets_are_read_as_well() {
        let hex = include_str!("../tests/golden/log_frame.hex");
        let mut want = example().1;
        want.pairs.truncate(1);
        want.sets.clear();
        want.set_pairs.clear();
        want.members.clear();
        (want.series, want.series_pairs) = (vec![(5, 1)], vec![2]);
        assert_eq!(decode(&crate::golden::from_hex(hex)).unwrap(), want);
    }

    proptest! {
        #[test]
        fn histograms_come_back(all in proptest::collection::vec(crate::histogram::tests::histograms(), 1..5)) {
            let (mut frame, mut columns) = (Frame::default(), Columns::default());
            for (at, histogram) in all.into_iter().enumerate() {
                columns.push(at as i64, 1.0);
                columns.push_histogram(at as i64, Arc::new(histogram));
            }
            for at in 0..columns.len() {
                frame.sample(1, &Sample::of(&columns, at));
            }
            let back = decode(&frame.parts().concat()).unwrap().columns;
            for at in 0..columns.len() {
                let (got, want) = (Sample::of(&back, at), Sample::of(&columns, at));
                prop_assert_eq!(got.bits(), want.bits());
            }
        }

        #[test]
        fn random_bytes_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            at: prop::sample::Index,
        ) {
            let _ = decode(&bytes);
            let mut good = example().0;
            let at = at.index(good.len());
            good[at] = good[at].wrapping_add(1);
            let _ = decode(&good);
            let _ = decode(&good[..at]);
        }
    }
}
