//! Frames of the log store's log.
//!
//! A `LINES` frame is one request: its streams with their accepted lines and ordinals, and the
//! delivery that it belongs to. It is one frame however large, so that a request is there as a
//! whole or not at all: lines, unlike samples, cannot tell a repeat from a second line.
//! A flush starts a segment with `DELIVERIES` frames.

use kittiwake_journal::bytes::{Malformed, Reader, put_bytes, put_uvarint, put_varint};
use kittiwake_journal::delivery::{put_marks, put_origin, read_marks, read_origin};
use kittiwake_model::delivery::{FrameNumber, Origin, Sender};
use kittiwake_model::{LabelError, Labels};

use crate::batch::Batch;

const LINES: u8 = 1;
const DELIVERIES: u8 = 2;

/// Bytes after which a frame of deliveries is closed and another one begun.
pub(crate) const FRAME_BYTES: usize = 4 << 20;

/// A frame that does not decode although its checksum is right.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// A record ends early or has an impossible piece.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A stream or metadata has no valid labels.
    #[error(transparent)]
    Labels(#[from] LabelError),
}

/// What replaying a frame yields.
#[derive(Debug)]
pub(crate) enum Replayed {
    Lines {
        origin: Option<Origin>,
        batch: Batch,
        /// Per line of the batch.
        ordinals: Vec<u32>,
    },
    Deliveries(Vec<(Sender, u64, Vec<FrameNumber>)>),
}

/// `ordinals` has, per line of the batch, its ordinal when it is to be stored.
pub(crate) fn put_lines(
    out: &mut Vec<u8>,
    batch: &Batch,
    ordinals: &[Option<u32>],
    origin: Option<&Origin>,
) {
    out.clear();
    out.push(LINES);
    put_origin(out, origin);
    for run in &batch.runs {
        let accepted = ordinals[run.rows.clone()].iter().flatten().count();
        if accepted == 0 {
            continue;
        }
        put_bytes(out, run.labels.as_packed());
        put_uvarint(out, accepted as u64);
        let mut last_ns = 0;
        for at in run.rows.clone() {
            let Some(ordinal) = ordinals[at] else {
                continue;
            };
            let row = &batch.rows[at];
            put_varint(out, row.time_ns.wrapping_sub(last_ns));
            last_ns = row.time_ns;
            put_uvarint(out, u64::from(ordinal));
            put_bytes(
                out,
                row.metadata.as_ref().map_or(&[][..], Labels::as_packed),
            );
            put_bytes(out, batch.text[row.line.clone()].as_bytes());
        }
    }
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
        LINES => {
            let origin = read_origin(&mut reader)?;
            let (mut batch, mut ordinals) = (Batch::new(), Vec::new());
            while !reader.is_at_end() {
                let len = reader.count(1)?;
                batch.start(Labels::from_packed(reader.take(len)?)?);
                let mut time_ns = 0_i64;
                for _ in 0..reader.count(4)? {
                    time_ns = time_ns.wrapping_add(reader.varint()?);
                    let at = reader.position();
                    let ordinal = u32::try_from(reader.uvarint()?).map_err(|_| Malformed {
                        at,
                        wanted: "an ordinal of 32 bits",
                    })?;
                    let len = reader.count(1)?;
                    let metadata = match reader.take(len)? {
                        [] => None,
                        packed => Some(Labels::from_packed(packed)?),
                    };
                    ordinals.push(ordinal);
                    batch.line(time_ns, reader.text()?, metadata);
                }
            }
            Ok(Replayed::Lines {
                origin,
                batch,
                ordinals,
            })
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_come_back_with_their_ordinals() {
        let stream = Labels::from_pairs([("container", "web")]).unwrap();
        let metadata = Labels::from_pairs([("trace", "1")]).unwrap();
        let mut batch = Batch::new();
        batch.start(stream.clone());
        batch.line(5, "one", None);
        batch.line(5, "refused", None);
        batch.line(4, "", Some(metadata.clone()));
        let mut bytes = Vec::new();
        put_lines(&mut bytes, &batch, &[Some(0), None, Some(300)], None);
        let Replayed::Lines {
            origin,
            batch,
            ordinals,
        } = decode(&bytes).unwrap()
        else {
            panic!("another kind")
        };
        assert_eq!((origin, ordinals), (None, vec![0, 300]));
        assert_eq!(batch.runs[0].labels, stream);
        let rows: Vec<_> = batch
            .rows
            .iter()
            .map(|r| (r.time_ns, &batch.text[r.line.clone()], r.metadata.clone()))
            .collect();
        assert_eq!(rows, [(5, "one", None), (4, "", Some(metadata))]);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
