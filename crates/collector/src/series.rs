//! Requests of remote write 2.0 and their series: building them from what was scraped, taking
//! them apart, and rewriting them for receivers that only know 1.0.

use std::collections::HashMap;
use std::sync::Arc;

use kittiwake_model::{Exemplar, Histogram, Labels, Metadata};
use kittiwake_sources::SampleBatch;
use kittiwake_wire::remote_write::v2::{Request, RequestEncoder};
use kittiwake_wire::remote_write::{RequestEncoder as OldEncoder, SeriesParts};
use kittiwake_wire::snappy::SnappyError;

/// Samples and histograms of a frame.
const SAMPLES_MAX: usize = 5000;
/// A histogram weighs as much as so many samples.
const HISTOGRAM_WEIGHT: usize = 10;
/// Endings of the names of a family's series.
const SUFFIXES: [&str; 8] = [
    "_bucket", "_count", "_sum", "_total", "_gcount", "_gsum", "_info", "_created",
];

/// The bodies of one collection, each with the number of samples that it has.
pub(crate) fn bodies(batch: &SampleBatch) -> Vec<(usize, Result<Vec<u8>, SnappyError>)> {
    let mut exemplars: HashMap<&Labels, Vec<Exemplar>> = HashMap::new();
    for (labels, exemplar) in &batch.exemplars {
        exemplars.entry(labels).or_default().push(exemplar.clone());
    }
    let mut metadata: HashMap<&str, &Metadata> = HashMap::new();
    for (name, about) in &batch.metadata {
        metadata.insert(name, about);
    }
    let mut about = |labels: &Labels| {
        if metadata.is_empty() {
            return None;
        }
        let name = labels.metric_name()?;
        let mut stems = SUFFIXES.iter().filter_map(|s| name.strip_suffix(s));
        metadata
            .remove(name)
            .or_else(|| stems.find_map(|stem| metadata.remove(stem)))
    };
    let mut frames = Frames::default();
    let mut starts = batch.starts.iter().copied().peekable();
    for (index, (labels, value)) in batch.samples.iter().enumerate() {
        let start = starts.next_if(|(at, _)| *at == index);
        let start_ms = start.map_or(0, |(_, start_ms)| start_ms);
        let exemplars = exemplars.remove(labels).unwrap_or_default();
        let parts = SeriesParts {
            histograms: &[],
            exemplars: &exemplars,
        };
        let sample = (batch.time_ms, *value, start_ms);
        frames
            .encoder
            .series(labels, [sample], &parts, about(labels));
        frames.grown(1);
    }
    for (labels, histogram, start_ms) in &batch.histograms {
        let exemplars = exemplars.remove(labels).unwrap_or_default();
        let parts = SeriesParts {
            histograms: &[(batch.time_ms, *start_ms, Arc::clone(histogram))],
            exemplars: &exemplars,
        };
        frames.encoder.series(labels, [], &parts, about(labels));
        frames.grown(HISTOGRAM_WEIGHT);
    }
    frames.close();
    frames.done
}

#[derive(Default)]
struct Frames {
    encoder: RequestEncoder,
    count: usize,
    weight: usize,
    done: Vec<(usize, Result<Vec<u8>, SnappyError>)>,
}

impl Frames {
    fn grown(&mut self, weight: usize) {
        self.count += 1;
        self.weight += weight;
        if self.weight >= SAMPLES_MAX {
            self.close();
        }
    }

    fn close(&mut self) {
        if self.count > 0 {
            self.weight = 0;
            let count = std::mem::take(&mut self.count);
            self.done.push((count, self.encoder.finish()));
        }
    }
}

/// A series of a request.
pub(crate) struct Series {
    labels: Labels,
    samples: Vec<(i64, f64, i64)>,
    histograms: Vec<(i64, i64, Arc<Histogram>)>,
    exemplars: Vec<Exemplar>,
    metadata: Option<Metadata>,
}

/// All series of a request; `None` when it does not decode.
pub(crate) fn decode(plain: &[u8]) -> Option<Vec<Series>> {
    let request = Request::new(plain).ok()?;
    let mut pairs = Vec::new();
    let mut all = Vec::new();
    for series in request.series() {
        let series = series.ok()?;
        request.labels_into(&series, usize::MAX, &mut pairs).ok()?;
        let histograms = series.histograms().map(|h| {
            let h = h.ok()?;
            Some((h.time_ms, h.start_ms, Arc::new(h.histogram)))
        });
        let exemplars: Result<_, _> = request.exemplars(&series).collect();
        all.push(Series {
            labels: Labels::from_pairs(pairs.drain(..)).ok()?,
            samples: series.samples().collect::<Result<_, _>>().ok()?,
            histograms: histograms.collect::<Option<_>>()?,
            exemplars: exemplars.ok()?,
            metadata: request.metadata(&series).ok()?,
        });
    }
    Some(all)
}

/// A request of some series.
pub(crate) fn encode(series: &[Series]) -> Option<Vec<u8>> {
    let mut encoder = RequestEncoder::new();
    for one in series {
        let parts = SeriesParts {
            histograms: &one.histograms,
            exemplars: &one.exemplars,
        };
        let samples = one.samples.iter().copied();
        encoder.series(&one.labels, samples, &parts, one.metadata.as_ref());
    }
    encoder.finish().ok()
}

/// The same as a request of remote write 1.0, which has no start times.
pub(crate) fn downgrade(plain: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = OldEncoder::new();
    let all = decode(plain)?;
    for one in &all {
        let parts = SeriesParts {
            histograms: &one.histograms,
            exemplars: &one.exemplars,
        };
        let samples = one
            .samples
            .iter()
            .map(|(time_ms, value, _)| (*time_ms, *value));
        encoder.mixed(&one.labels, samples, &parts);
    }
    for one in &all {
        if let (Some(name), Some(metadata)) = (one.labels.metric_name(), &one.metadata) {
            encoder.metadata(name, metadata);
        }
    }
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use kittiwake_wire::remote_write::WriteRequest;
    use kittiwake_wire::snappy;

    use super::*;

    fn batch(count: usize) -> SampleBatch {
        let labels = |i: usize| {
            let name = format!("m{i}_total");
            Labels::from_pairs([("__name__", name.as_str()), ("job", "j")]).unwrap()
        };
        let exemplar = Exemplar {
            labels: Labels::from_pairs([("t", "1")]).unwrap(),
            value: 0.5,
            time_ms: 7,
        };
        SampleBatch {
            time_ms: 1000,
            samples: (0..count).map(|i| (labels(i), i as f64)).collect(),
            starts: vec![(1, 500)],
            exemplars: vec![(labels(1), exemplar)],
            metadata: vec![("m1".to_owned(), Metadata::default())],
            ..SampleBatch::default()
        }
    }

    fn plain(body: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        snappy::decompress(body, 1 << 24, &mut plain)
            .unwrap()
            .to_vec()
    }

    #[test]
    fn a_collection_becomes_frames_with_all_that_it_has() {
        let bodies = bodies(&batch(7000));
        let counts: Vec<usize> = bodies.iter().map(|(count, _)| *count).collect();
        assert_eq!(counts, [5000, 2000]);
        let first = decode(&plain(bodies[0].1.as_ref().unwrap())).unwrap();
        assert_eq!(first[1].samples, [(1000, 1.0, 500)]);
        assert_eq!(first[1].exemplars.len(), 1);
        assert_eq!(first[0].samples, [(1000, 0.0, 0)]);
    }

    #[test]
    fn an_old_receiver_gets_what_it_knows() {
        let bodies = bodies(&batch(3));
        let old = downgrade(&plain(bodies[0].1.as_ref().unwrap())).unwrap();
        let old = plain(&old);
        let request = WriteRequest::new(&old);
        let totals = request.check().unwrap();
        assert_eq!((totals.series, totals.samples, totals.exemplars), (3, 3, 1));
        assert!(downgrade(b"nonsense").is_none());
    }
}
