//! Splitting a request that a server finds too large.

use bytes::Bytes;
use kittiwake_model::Labels;
use kittiwake_wire::loki_push::{self, PushEncoder};
use kittiwake_wire::remote_write::{RequestEncoder, WriteRequest};
use kittiwake_wire::snappy;

use crate::frame::Kind;
use crate::series;

/// Parts that a request is split into at most.
const PARTS: usize = 16;
const PLAIN_BYTES_MAX: usize = 64 << 20;
const LABELS_MAX: usize = 1 << 16;

/// The parts of a request, the same each time; none when it does not decode.
pub(crate) fn parts(kind: Kind, body: &[u8]) -> Vec<Bytes> {
    let mut plain = Vec::new();
    let Ok(plain) = snappy::decompress(body, PLAIN_BYTES_MAX, &mut plain) else {
        return Vec::new();
    };
    match kind {
        Kind::Metrics => metrics(plain).unwrap_or_default(),
        Kind::MetricsV1 => metrics_v1(plain).unwrap_or_default(),
        Kind::Logs => logs(plain).unwrap_or_default(),
    }
}

fn metrics(plain: &[u8]) -> Option<Vec<Bytes>> {
    let all = series::decode(plain)?;
    let mut parts = Vec::new();
    for chunk in all.chunks(all.len().div_ceil(PARTS).max(1)) {
        parts.push(series::encode(chunk)?.into());
    }
    Some(parts)
}

fn metrics_v1(plain: &[u8]) -> Option<Vec<Bytes>> {
    let all: Vec<_> = WriteRequest::new(plain)
        .series()
        .collect::<Result<_, _>>()
        .ok()?;
    let mut parts = Vec::new();
    for chunk in all.chunks(all.len().div_ceil(PARTS).max(1)) {
        let mut encoder = RequestEncoder::new();
        for one in chunk {
            let samples: Vec<(i64, f64)> = one.samples().collect::<Result<_, _>>().ok()?;
            encoder.series(&one.labels(LABELS_MAX).ok()?, samples);
        }
        parts.push(encoder.finish().ok()?.into());
    }
    Some(parts)
}

fn logs(plain: &[u8]) -> Option<Vec<Bytes>> {
    let limits = loki_push::Limits {
        labels_max: LABELS_MAX,
        metadata_max: LABELS_MAX,
        streams_max: usize::MAX,
        entries_max: usize::MAX,
    };
    let streams = loki_push::decode(plain, &limits).ok()?;
    let lines: Vec<(&Labels, &kittiwake_model::Entry)> = streams
        .iter()
        .flat_map(|s| s.entries.iter().map(move |e| (&s.labels, e)))
        .collect();
    let mut parts = Vec::new();
    for chunk in lines.chunks(lines.len().div_ceil(PARTS).max(1)) {
        let mut encoder = PushEncoder::new();
        for run in chunk.chunk_by(|a, b| a.0 == b.0) {
            let entries = run
                .iter()
                .map(|(_, e)| (e.time_ns, e.line.as_str(), &e.metadata));
            encoder.stream(run[0].0, entries);
        }
        parts.push(encoder.finish().ok()?.into());
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_together_are_the_whole() {
        let labels = |i: usize| Labels::from_pairs([("container", format!("c{i}"))]).unwrap();
        let empty = Labels::empty();
        let mut encoder = PushEncoder::new();
        for stream in 0..3 {
            let lines: Vec<String> = (0..40).map(|line| format!("{stream} {line}")).collect();
            let entries = lines.iter().map(|l| (7, l.as_str(), &empty));
            encoder.stream(&labels(stream), entries);
        }
        let parts = parts(Kind::Logs, &encoder.finish().unwrap());
        assert!(parts.len() > 10 && parts.len() <= PARTS);
        let mut lines = Vec::new();
        for part in &parts {
            let mut plain = Vec::new();
            let plain = snappy::decompress(part, 1 << 20, &mut plain).unwrap();
            for stream in loki_push::decode(plain, &loki_push::Limits::default()).unwrap() {
                let host = stream.labels.get("container").unwrap().to_owned();
                lines.extend(stream.entries.into_iter().map(|e| (host.clone(), e.line)));
            }
        }
        assert_eq!(lines.len(), 120);
        assert_eq!(lines[41], ("c1".to_owned(), "1 1".to_owned()));

        let mut encoder = RequestEncoder::new();
        for series in 0..33 {
            encoder.series(&labels(series), [(1, series as f64)]);
        }
        let parts = super::parts(Kind::MetricsV1, &encoder.finish().unwrap());
        let count: usize = parts
            .iter()
            .map(|part| {
                let mut plain = Vec::new();
                let plain = snappy::decompress(part, 1 << 20, &mut plain).unwrap();
                WriteRequest::new(plain).series().count()
            })
            .sum();
        assert_eq!(count, 33);

        let mut batch = kittiwake_sources::SampleBatch::default();
        batch.samples.extend((0..33).map(|i| (labels(i), 1.0)));
        let whole = series::bodies(&batch).remove(0).1.unwrap();
        let parts = super::parts(Kind::Metrics, &whole);
        assert!(parts.len() > 10 && parts.len() <= PARTS);
        let count: usize = parts
            .iter()
            .map(|part| {
                let mut plain = Vec::new();
                let plain = snappy::decompress(part, 1 << 20, &mut plain).unwrap();
                series::decode(plain).unwrap().len()
            })
            .sum();
        assert_eq!(count, 33);
    }
}
