//! What is kept on disk, as frames of a journal (docs/formats.md): silences, what was told, and
//! alerts. The newest frame of each name counts.

use kittiwake_journal::bytes::{Malformed, Reader, put_bytes, put_uvarint, put_varint};
use kittiwake_model::{Labels, MatchOp};

use crate::alert::{Alert, Annotations};
use crate::matchers::Matcher;
use crate::nflog::Entry;
use crate::silence::Silence;

const SILENCE: u8 = 1;
const TOLD: u8 = 2;
const ALERT: u8 = 3;

const OPERATORS: [MatchOp; 4] = [
    MatchOp::Equal,
    MatchOp::NotEqual,
    MatchOp::Regex,
    MatchOp::NotRegex,
];

/// One frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Silence(Silence),
    /// The key of the notification log and the entry.
    Told(String, Entry),
    Alert(Alert),
}

/// Why a frame makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("record of unknown kind {0}")]
    Kind(u8),
    #[error("{0}")]
    Content(String),
}

pub(crate) fn silence(silence: &Silence) -> Vec<u8> {
    let mut out = vec![SILENCE];
    put_text(&mut out, &silence.id);
    put_uvarint(&mut out, silence.matchers.len() as u64);
    for matcher in &silence.matchers {
        let number = OPERATORS.iter().position(|op| *op == matcher.op());
        out.push(number.unwrap_or(0) as u8);
        put_text(&mut out, matcher.name());
        put_text(&mut out, matcher.value());
    }
    for ns in [silence.starts_ns, silence.ends_ns, silence.updated_ns] {
        put_varint(&mut out, ns);
    }
    put_text(&mut out, &silence.created_by);
    put_text(&mut out, &silence.comment);
    out
}

pub(crate) fn told(key: &str, entry: &Entry) -> Vec<u8> {
    let mut out = vec![TOLD];
    put_text(&mut out, key);
    put_varint(&mut out, entry.time_ns);
    put_varint(&mut out, entry.expires_ns);
    for hashes in [&entry.firing, &entry.resolved] {
        put_uvarint(&mut out, hashes.len() as u64);
        for hash in hashes {
            out.extend_from_slice(&hash.to_le_bytes());
        }
    }
    out
}

pub(crate) fn alert(alert: &Alert) -> Vec<u8> {
    let mut out = vec![ALERT];
    put_bytes(&mut out, alert.labels.as_packed());
    put_uvarint(&mut out, alert.annotations.len() as u64);
    for (name, value) in alert.annotations.iter() {
        put_text(&mut out, name);
        put_text(&mut out, value);
    }
    for ns in [alert.starts_ns, alert.ends_ns, alert.updated_ns] {
        put_varint(&mut out, ns);
    }
    out.push(u8::from(alert.is_timeout));
    put_text(&mut out, &alert.generator_url);
    out
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

/// Reads a frame.
pub(crate) fn read(bytes: &[u8]) -> Result<Record, RecordError> {
    let mut reader = Reader::new(bytes);
    let record = match reader.u8()? {
        SILENCE => Record::Silence(read_silence(&mut reader)?),
        TOLD => {
            let key = reader.text()?.to_owned();
            let (time_ns, expires_ns) = (reader.varint()?, reader.varint()?);
            let entry = Entry {
                time_ns,
                expires_ns,
                firing: read_hashes(&mut reader)?,
                resolved: read_hashes(&mut reader)?,
            };
            Record::Told(key, entry)
        }
        ALERT => Record::Alert(read_alert(&mut reader)?),
        kind => return Err(RecordError::Kind(kind)),
    };
    if reader.is_at_end() {
        Ok(record)
    } else {
        Err(RecordError::Content("bytes behind the record".to_owned()))
    }
}

fn read_hashes(reader: &mut Reader<'_>) -> Result<Vec<u64>, Malformed> {
    let count = reader.count(8)?;
    (0..count).map(|_| reader.u64()).collect()
}

fn read_silence(reader: &mut Reader<'_>) -> Result<Silence, RecordError> {
    let id = reader.text()?.to_owned();
    let count = reader.count(3)?;
    let mut matchers = Vec::with_capacity(count);
    for _ in 0..count {
        let number = reader.u8()?;
        let op = OPERATORS.get(usize::from(number));
        let op = op.ok_or_else(|| RecordError::Content(format!("operator {number}")))?;
        let (name, value) = (reader.text()?, reader.text()?);
        matchers.push(Matcher::new(*op, name, value).map_err(RecordError::Content)?);
    }
    let (starts_ns, ends_ns) = (reader.varint()?, reader.varint()?);
    Ok(Silence {
        id,
        matchers,
        starts_ns,
        ends_ns,
        updated_ns: reader.varint()?,
        created_by: reader.text()?.to_owned(),
        comment: reader.text()?.to_owned(),
    })
}

fn read_alert(reader: &mut Reader<'_>) -> Result<Alert, RecordError> {
    let labels = Labels::from_packed(reader.bytes()?);
    let labels = labels.map_err(|e| RecordError::Content(e.to_string()))?;
    let count = reader.count(2)?;
    let mut annotations = Vec::with_capacity(count);
    for _ in 0..count {
        annotations.push((reader.text()?, reader.text()?));
    }
    let annotations = Annotations::from_pairs(annotations);
    let (starts_ns, ends_ns) = (reader.varint()?, reader.varint()?);
    Ok(Alert {
        labels,
        annotations,
        starts_ns,
        ends_ns,
        updated_ns: reader.varint()?,
        is_timeout: reader.u8()? != 0,
        generator_url: reader.text()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_round_trip(
            times in any::<(i64, i64, i64)>(),
            texts in any::<(String, String)>(),
            hashes in proptest::collection::vec(any::<u64>(), 0..4),
            timeout: bool,
        ) {
            let (starts_ns, ends_ns, updated_ns) = times;
            let one = Silence {
                id: texts.0.clone(),
                matchers: crate::matchers::parse("a=~\"b|c\",d!=\"\"").unwrap(),
                starts_ns,
                ends_ns,
                updated_ns,
                created_by: texts.1.clone(),
                comment: texts.0.clone(),
            };
            prop_assert_eq!(read(&silence(&one)), Ok(Record::Silence(one)));
            let entry = Entry { time_ns: starts_ns, expires_ns: ends_ns, firing: hashes.clone(), resolved: hashes };
            prop_assert_eq!(read(&told(&texts.0, &entry)), Ok(Record::Told(texts.0.clone(), entry)));
            let one = Alert {
                labels: Labels::from_pairs([("a", "b")]).unwrap(),
                annotations: Annotations::from_pairs([(texts.0, String::new())]),
                starts_ns,
                ends_ns,
                generator_url: texts.1,
                updated_ns,
                is_timeout: timeout,
            };
            prop_assert_eq!(read(&alert(&one)), Ok(Record::Alert(one)));
        }

        #[test]
        fn random_bytes_are_answered(kind in 0_u8..5, bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let all: Vec<u8> = std::iter::once(kind).chain(bytes).collect();
            let _ = read(&all);
        }
    }
}
