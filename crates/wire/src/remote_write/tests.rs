use std::sync::Arc;

use kittiwake_model::Histogram;
use kittiwake_model::histogram::{Counts, ResetHint, Span};
use kittiwake_model::{Labels, STALE_NAN_BITS};
use proptest::prelude::*;

use super::*;
use crate::proto::{put_bytes_field, put_message, put_varint_field};
use crate::snappy::decompress;

/// A label set as pairs, with its samples as times and bits.
type Sent = (Vec<(String, String)>, Vec<(i64, u64)>);

fn read(body: &[u8]) -> Vec<Sent> {
    let mut plain = Vec::new();
    let plain = decompress(body, 1 << 20, &mut plain).unwrap();
    let request = WriteRequest::new(plain);
    request.check().unwrap();
    let mut pairs = Vec::new();
    request
        .series()
        .map(|series| {
            let series = series.unwrap();
            series.labels_into(64, &mut pairs).unwrap();
            let labels = pairs
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect();
            let samples = series.samples().map(|sample| {
                let (time_ms, value) = sample.unwrap();
                (time_ms, value.to_bits())
            });
            (labels, samples.collect())
        })
        .collect()
}

fn labelled(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, 1, |out| {
        for (name, value) in pairs {
            put_message(out, 1, |out| {
                put_bytes_field(out, 1, name.as_bytes());
                put_bytes_field(out, 2, value.as_bytes());
            });
        }
    });
    out
}

fn labels_of(body: &[u8]) -> Result<Vec<(&str, &str)>, LabelsError> {
    let mut into = Vec::new();
    let series = WriteRequest::new(body).series().next().unwrap().unwrap();
    series.labels_into(3, &mut into)?;
    Ok(into)
}

#[test]
fn labels_are_sorted_and_checked() {
    let body = labelled(&[("b", "2"), ("a", "1"), ("c", "")]);
    assert_eq!(labels_of(&body), Ok(vec![("a", "1"), ("b", "2")]));
    let series = WriteRequest::new(&body).series().next().unwrap().unwrap();
    let set = Labels::from_pairs([("a", "1"), ("b", "2")]).unwrap();
    assert_eq!(series.labels(3), Ok(set));
    let twice = labelled(&[("b", "2"), ("a", "1"), ("b", "3")]);
    assert!(matches!(labels_of(&twice), Err(LabelsError::Duplicate { name, .. }) if name == "b"));
    let unnamed = labelled(&[("", "1")]);
    assert_eq!(labels_of(&unnamed), Err(LabelsError::EmptyName { at: 2 }));
    let many = labelled(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]);
    assert!(matches!(
        labels_of(&many),
        Err(LabelsError::TooMany {
            count: 4,
            max: 3,
            ..
        })
    ));
}

#[test]
fn errors_name_the_byte_and_the_field() {
    let mut body = labelled(&[("a", "xyz")]);
    let last = body.len() - 1;
    body[last] = 0xff;
    let error = labels_of(&body).unwrap_err().to_string();
    let expected = format!(
        "malformed request at byte {last}, field timeseries.labels.value: expected UTF-8 text"
    );
    assert_eq!(error, expected);

    let mut body = Vec::new();
    put_message(&mut body, 1, |out| {
        put_message(out, 2, |out| put_varint_field(out, 1, 7));
    });
    let error = WriteRequest::new(&body).check().unwrap_err();
    assert_eq!((error.at, error.field), (4, "timeseries.samples.value"));

    body.truncate(5);
    assert_eq!(WriteRequest::new(&body).check().unwrap_err().at, 2);
}

#[test]
fn the_raw_labels_are_one_region_or_none() {
    let body = labelled(&[("a", "1"), ("b", "2")]);
    let series = WriteRequest::new(&body).series().next().unwrap().unwrap();
    assert_eq!(series.raw_labels(), Some(&body[2..]));

    let mut body = Vec::new();
    put_message(&mut body, 1, |out| {
        put_message(out, 1, |out| put_bytes_field(out, 1, b"a"));
        put_message(out, 2, |out| put_varint_field(out, 2, 7));
        put_message(out, 1, |out| put_bytes_field(out, 1, b"b"));
    });
    let series = WriteRequest::new(&body).series().next().unwrap().unwrap();
    assert_eq!(series.raw_labels(), None);
    assert_eq!(series.samples().collect::<Vec<_>>(), [Ok((7, 0.0))]);
}

#[test]
fn known_labels_are_not_walked_but_what_follows_is() {
    let series = |out: &mut Vec<u8>, after: bool| {
        put_message(out, 1, |out| {
            put_message(out, 1, |out| put_bytes_field(out, 1, b"a"));
            put_message(out, 2, |out| put_varint_field(out, 2, 7));
            if after {
                put_message(out, 1, |out| put_bytes_field(out, 1, b"b"));
            }
        });
    };
    for (after, len, is_known) in [(false, 5, true), (true, 5, false), (false, 6, false)] {
        let mut body = Vec::new();
        series(&mut body, after);
        let mut all = WriteRequest::new(&body).series();
        let (got, known) = all.next_knowing(|_| Some(len)).unwrap().unwrap();
        assert_eq!((known, got.sample_count()), (is_known, 1));
        assert_eq!(got.samples().collect::<Vec<_>>(), [Ok((7, 0.0))]);
        let labels = (!after).then_some(&body[2..7]);
        assert_eq!(got.raw_labels(), labels);
        assert!(all.next_knowing(|_| Some(len)).is_none());
    }
}

#[test]
fn what_is_not_taken_is_counted() {
    let mut body = Vec::new();
    put_message(&mut body, 1, |out| {
        put_message(out, 3, |_| {});
        put_message(out, 3, |_| {});
        put_message(out, 2, |_| {});
        put_varint_field(out, 99, 1);
    });
    put_message(&mut body, 3, |_| {});
    let totals = WriteRequest::new(&body).check().unwrap();
    let expected = Totals {
        series: 1,
        samples: 1,
        exemplars: 2,
        metadata: 1,
        histograms: 0,
    };
    assert_eq!(totals, expected);
}

#[test]
fn bits_of_values_are_kept() {
    let bits = [
        0,
        1 << 63,
        STALE_NAN_BITS,
        0x7ff8_dead_beef_0001,
        0xfff0_0000_0000_0000,
    ];
    let mut encoder = RequestEncoder::new();
    let labels = Labels::from_pairs([("a", "1")]).unwrap();
    encoder.series(&labels, bits.map(|b| (i64::MIN, f64::from_bits(b))));
    let read = read(&encoder.finish().unwrap());
    assert_eq!(read[0].1, bits.map(|b| (i64::MIN, b)));
}

fn histogram(float: bool, counts: &[u32], gap: i32) -> Histogram {
    let spans = |length: usize| {
        let (first, second) = (length / 2, length - length / 2);
        vec![
            Span {
                offset: gap,
                length: first as u32,
            },
            Span {
                offset: 3,
                length: second as u32,
            },
        ]
    };
    let integers: Vec<u64> = counts.iter().map(|c| u64::from(*c)).collect();
    let floats: Vec<f64> = counts.iter().map(|c| f64::from(*c) / 3.0).collect();
    let halves = counts.len() / 3;
    Histogram {
        schema: gap % 5,
        zero_threshold: 1e-9,
        sum: -1.5,
        positive_spans: spans(counts.len() - halves),
        negative_spans: spans(halves),
        custom_bounds: vec![0.5, 1.0],
        counts: if float {
            Counts::Float {
                count: 5.5,
                zero: 0.5,
                positive: floats[halves..].to_vec(),
                negative: floats[..halves].to_vec(),
            }
        } else {
            Counts::Integer {
                count: 5,
                zero: 1,
                positive: integers[halves..].to_vec(),
                negative: integers[..halves].to_vec(),
            }
        },
        reset_hint: ResetHint::No,
    }
}

#[test]
fn a_histogram_whose_spans_and_counts_differ_is_refused() {
    let mut body = Vec::new();
    let mut wrong = histogram(false, &[1, 2, 3], 0);
    wrong.positive_spans[0].length = u32::MAX;
    put_message(&mut body, 1, |out| {
        put_message(out, 4, |out| histogram::encode(1, 0, &wrong, out));
    });
    let series = WriteRequest::new(&body).series().next().unwrap().unwrap();
    let error = series.histograms().next().unwrap().unwrap_err();
    assert_eq!(error.field, "timeseries.histograms.positive_spans");
}

proptest! {
    #[test]
    fn any_request_round_trips(
        series in proptest::collection::vec(
            (
                proptest::collection::btree_map("[a-z_é]{1,9}", ".{1,40}", 0..9),
                proptest::collection::vec((any::<i64>(), any::<u64>()), 0..9),
            ),
            0..9,
        )
    ) {
        let mut encoder = RequestEncoder::new();
        let mut sent = Vec::new();
        for (map, samples) in series {
            let labels = Labels::from_pairs(&map).unwrap();
            encoder.series(&labels, samples.iter().map(|(t, b)| (*t, f64::from_bits(*b))));
            sent.push((map.into_iter().collect(), samples));
        }
        prop_assert_eq!(encoder.is_empty(), sent.is_empty());
        prop_assert_eq!(read(&encoder.finish().unwrap()), sent);
        prop_assert!(encoder.is_empty());
    }

    #[test]
    fn any_histogram_round_trips(
        float: bool, counts in proptest::collection::vec(any::<u32>(), 0..20), gap in -300_i32..300, time_ms: i64,
    ) {
        let sent = histogram(float, &counts, gap);
        let exemplar = Exemplar { labels: Labels::from_pairs([("t", "1")]).unwrap(), value: 0.5, time_ms };
        let about = Metadata { kind: "gauge".to_owned(), help: "h".to_owned(), unit: "u".to_owned() };
        let histograms = [(time_ms, 0, Arc::new(sent.clone()))];
        let parts = SeriesParts { histograms: &histograms, exemplars: std::slice::from_ref(&exemplar) };
        let mut encoder = RequestEncoder::new();
        encoder.mixed(&Labels::empty(), [], &parts);
        encoder.metadata("n", &about);
        let mut plain = Vec::new();
        let plain = decompress(&encoder.finish().unwrap(), 1 << 20, &mut plain).unwrap();
        let request = WriteRequest::new(plain);
        let series = request.series().next().unwrap().unwrap();
        let sent = HistogramSample { time_ms, start_ms: 0, histogram: sent };
        prop_assert_eq!(series.histograms().collect::<Vec<_>>(), [Ok(sent)]);
        prop_assert_eq!(series.exemplars().collect::<Vec<_>>(), [Ok(exemplar)]);
        prop_assert_eq!(request.metadata().collect::<Vec<_>>(), [Ok(("n", about))]);
    }

    #[test]
    fn a_damaged_request_is_read_or_refused(
        at in 0_usize..400, byte: u8, cut in 0_usize..400, bytes in proptest::collection::vec(any::<u8>(), 0..30),
    ) {
        let mut encoder = RequestEncoder::new();
        let labels = Labels::from_pairs([("__name__", "up"), ("job", "node")]).unwrap();
        let histogram = histogram(false, &[1, 2, 3], 1);
        let histograms = [(3, 0, Arc::new(histogram))];
        let parts = SeriesParts { histograms: &histograms, exemplars: &[] };
        encoder.mixed(&labels, [(1, 2.0), (2, 3.0)], &parts);
        let mut body = Vec::new();
        decompress(&encoder.finish().unwrap(), 1 << 20, &mut body).unwrap();
        if let Some(b) = body.get_mut(at) {
            *b = byte;
        }
        body.truncate(cut);
        body.extend(bytes);
        let request = WriteRequest::new(&body);
        let _ = request.check();
        let mut into = Vec::new();
        for series in request.series().flatten() {
            let _ = series.labels_into(64, &mut into);
            let _ = series.histograms().count();
        }
    }
}

#[test]
fn tiny_parts_without_number_are_refused() {
    let series = [0x0a, 0].repeat(SERIES_MAX + 1);
    assert!(WriteRequest::new(&series).series().last().unwrap().is_err());
    let mut body = vec![0x0a];
    let samples = [0x12, 0].repeat(SAMPLES_MAX + 1);
    crate::proto::put_varint(&mut body, samples.len() as u64);
    body.extend_from_slice(&samples);
    assert!(WriteRequest::new(&body).series().last().unwrap().is_err());
}
