//! Frames of the collector's journal: a request's body in its final form, with the places in
//! the sources up to which its lines reach.

use kittiwake_journal::bytes::{Malformed, Reader, put_bytes, put_uvarint};

/// What a frame's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A remote write 2.0 request.
    Metrics,
    /// A remote write 1.0 request, from a journal of before.
    MetricsV1,
    /// A Loki push in protobuf.
    Logs,
}

/// What a source's place becomes when the frame is in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CursorChange {
    Set(String, Vec<u8>),
    Forget(String),
}

/// A frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) cursors: Vec<CursorChange>,
    /// Compressed, as it is sent; empty when the frame only moves cursors.
    pub(crate) body: Vec<u8>,
}

impl Frame {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body.len() + 64);
        out.push(match self.kind {
            Kind::MetricsV1 => 1,
            Kind::Logs => 2,
            Kind::Metrics => 3,
        });
        put_uvarint(&mut out, self.cursors.len() as u64);
        for change in &self.cursors {
            match change {
                CursorChange::Set(key, value) => {
                    out.push(1);
                    put_bytes(&mut out, key.as_bytes());
                    put_bytes(&mut out, value);
                }
                CursorChange::Forget(key) => {
                    out.push(2);
                    put_bytes(&mut out, key.as_bytes());
                }
            }
        }
        put_bytes(&mut out, &self.body);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let kind = match reader.u8()? {
            1 => Kind::MetricsV1,
            2 => Kind::Logs,
            3 => Kind::Metrics,
            _ => {
                return Err(Malformed {
                    at: 0,
                    wanted: "a kind of frame that this program knows",
                });
            }
        };
        let mut cursors = Vec::new();
        for _ in 0..reader.count(2)? {
            let change = reader.u8()?;
            let key = reader.text()?.to_owned();
            cursors.push(if change == 1 {
                let len = reader.count(1)?;
                CursorChange::Set(key, reader.take(len)?.to_vec())
            } else {
                CursorChange::Forget(key)
            });
        }
        let len = reader.count(1)?;
        Ok(Self {
            kind,
            cursors,
            body: reader.take(len)?.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn comes_back() {
        for kind in [Kind::Metrics, Kind::MetricsV1, Kind::Logs] {
            let frame = Frame {
                kind,
                cursors: vec![
                    CursorChange::Set("a".to_owned(), vec![1, 2]),
                    CursorChange::Forget("b".to_owned()),
                ],
                body: vec![9; 300],
            };
            assert_eq!(Frame::decode(&frame.encode()).unwrap(), frame);
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Frame::decode(&bytes);
        }
    }
}
