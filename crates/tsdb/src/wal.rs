//! Frames of the metrics store's log.
//!
//! A `SAMPLES` frame is one request, or a part of a large one: the series it introduced, the
//! delivery it belongs to, and its accepted samples. A flush starts a segment with a
//! checkpoint: `SERIES` frames with all known series and `DELIVERIES` frames with what came
//! from whom. Replaying all frames from there in order gives back the head.

use kittiwake_journal::bytes::{Malformed, Reader, put_bytes, put_uvarint, put_varint};
use kittiwake_journal::delivery::{put_marks, put_origin, read_marks, read_origin};
use kittiwake_model::delivery::{FrameNumber, Origin, Sender};
use kittiwake_model::{LabelError, Labels};

use crate::head::Accepted;
use crate::registry::SeriesRef;

const SAMPLES: u8 = 1;
const SERIES: u8 = 2;
const DELIVERIES: u8 = 3;

/// Bytes after which a frame is closed and another one begun.
pub(crate) const FRAME_BYTES: usize = 4 << 20;

/// A frame that does not decode although its checksum is right.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// A record ends early or has an impossible piece.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A series has no valid labels.
    #[error(transparent)]
    Labels(#[from] LabelError),
}

/// What replaying a frame yields.
#[derive(Debug, PartialEq)]
pub(crate) enum Replayed {
    Samples {
        new: Vec<(SeriesRef, Labels)>,
        origin: Option<Origin>,
        samples: Vec<Accepted>,
    },
    /// Known series with the time and the value's bits of the newest sample.
    Series(Vec<(SeriesRef, Labels, i64, u64)>),
    Deliveries(Vec<(Sender, u64, Vec<FrameNumber>)>),
}

pub(crate) fn put_samples(
    out: &mut Vec<u8>,
    new: &[(SeriesRef, Labels)],
    origin: Option<&Origin>,
    samples: &[Accepted],
) {
    out.push(SAMPLES);
    put_uvarint(out, new.len() as u64);
    for (series, labels) in new {
        put_uvarint(out, u64::from(*series));
        put_bytes(out, labels.as_packed());
    }
    put_origin(out, origin);
    put_uvarint(out, samples.len() as u64);
    let (mut series, mut time_ms) = (0, 0);
    for sample in samples {
        put_varint(out, i64::from(sample.series) - i64::from(series));
        put_varint(out, sample.time_ms.wrapping_sub(time_ms));
        out.extend_from_slice(&sample.value.to_bits().to_le_bytes());
        (series, time_ms) = (sample.series, sample.time_ms);
    }
}

/// Starts a frame of known series, to be filled by [`put_known`].
pub(crate) fn start_series(out: &mut Vec<u8>) {
    out.clear();
    out.push(SERIES);
}

pub(crate) fn put_known(
    out: &mut Vec<u8>,
    series: SeriesRef,
    labels: &Labels,
    newest_ms: i64,
    bits: u64,
) {
    put_uvarint(out, u64::from(series));
    put_bytes(out, labels.as_packed());
    put_varint(out, newest_ms);
    out.extend_from_slice(&bits.to_le_bytes());
}

/// Starts a frame of deliveries, to be filled by [`put_delivery`].
pub(crate) fn start_deliveries(out: &mut Vec<u8>) {
    out.clear();
    out.push(DELIVERIES);
}

pub(crate) fn put_delivery(
    out: &mut Vec<u8>,
    sender: &Sender,
    mark: u64,
    frames: impl Iterator<Item = FrameNumber>,
) {
    put_marks(out, sender, mark, frames);
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Replayed, WalError> {
    let mut reader = Reader::new(bytes);
    match reader.u8()? {
        SAMPLES => {
            let mut new = Vec::new();
            for _ in 0..reader.count(2)? {
                new.push((series_ref(&mut reader)?, labels(&mut reader)?));
            }
            let origin = read_origin(&mut reader)?;
            let count = reader.count(10)?;
            let mut samples = Vec::with_capacity(count);
            let (mut series, mut time_ms) = (0_i64, 0_i64);
            for _ in 0..count {
                let at = reader.position();
                series = series.wrapping_add(reader.varint()?);
                time_ms = time_ms.wrapping_add(reader.varint()?);
                let series = SeriesRef::try_from(series).map_err(|_| Malformed {
                    at,
                    wanted: "the number of a series",
                })?;
                samples.push(Accepted {
                    series,
                    time_ms,
                    value: f64::from_bits(reader.u64()?),
                });
            }
            Ok(Replayed::Samples {
                new,
                origin,
                samples,
            })
        }
        SERIES => {
            let mut known = Vec::new();
            while !reader.is_at_end() {
                known.push((
                    series_ref(&mut reader)?,
                    labels(&mut reader)?,
                    reader.varint()?,
                    reader.u64()?,
                ));
            }
            Ok(Replayed::Series(known))
        }
        DELIVERIES => {
            let mut all = Vec::new();
            while !reader.is_at_end() {
                all.push(read_marks(&mut reader)?);
            }
            Ok(Replayed::Deliveries(all))
        }
        _ => Err(Malformed {
            at: 0,
            wanted: "a kind of frame that this program knows",
        }
        .into()),
    }
}

fn series_ref(reader: &mut Reader<'_>) -> Result<SeriesRef, Malformed> {
    let at = reader.position();
    // The bound keeps a damaged number from making the table of series huge.
    SeriesRef::try_from(reader.uvarint()?)
        .ok()
        .filter(|series| *series < SERIES_MAX)
        .ok_or(Malformed {
            at,
            wanted: "the number of a series",
        })
}

fn labels(reader: &mut Reader<'_>) -> Result<Labels, WalError> {
    let len = reader.count(1)?;
    Ok(Labels::from_packed(reader.take(len)?)?)
}

/// Series that one store can number.
pub(crate) const SERIES_MAX: SeriesRef = 1 << 28;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_come_back() {
        let labels = Labels::from_pairs([("__name__", "up"), ("job", "x")]).unwrap();
        let sender = Sender {
            token: "t".to_owned(),
            agent: "a".to_owned(),
            epoch: 7,
        };
        let frame = FrameNumber {
            sequence: 300,
            part: 2,
            is_last: true,
        };
        let origin = Origin {
            sender: sender.clone(),
            frame,
            first: 299,
        };
        let samples: Vec<Accepted> = [(5, i64::MAX, 1.5), (0, i64::MIN, -0.0), (9, 0, 7.0)]
            .map(|(series, time_ms, value)| Accepted {
                series,
                time_ms,
                value,
            })
            .to_vec();
        let new = vec![(5, labels.clone())];
        let mut bytes = Vec::new();
        put_samples(&mut bytes, &new, Some(&origin), &samples);
        let want = Replayed::Samples {
            new,
            origin: Some(origin),
            samples,
        };
        assert_eq!(decode(&bytes).unwrap(), want);

        start_series(&mut bytes);
        put_known(&mut bytes, 3, &labels, -4, 9);
        let want = Replayed::Series(vec![(3, labels, -4, 9)]);
        assert_eq!(decode(&bytes).unwrap(), want);

        start_deliveries(&mut bytes);
        put_delivery(&mut bytes, &sender, 12, [frame].into_iter());
        let want = Replayed::Deliveries(vec![(sender, 12, vec![frame])]);
        assert_eq!(decode(&bytes).unwrap(), want);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
