//! Prometheus remote write 2.0: a snappy block around an `io.prometheus.write.v2.Request`.
//!
//! All texts stand once in a table at the front, and series refer to them. Samples carry start
//! times; exemplars and what is said of a metric's name stand with the series. Source: the
//! remote write 2.0 specification and `io/prometheus/write/v2/types.proto`.

use std::collections::HashMap;

use kittiwake_model::{Exemplar, Labels, Metadata, TimestampMs};

use super::encode::put_value;
use super::{
    HistogramSample, LabelsError, Seen, SeriesParts, histogram, kind_name, kind_number, numbered,
};
use crate::proto::{
    Field, Fields, Malformed, Message, put_bytes_field, put_double_field, put_message, put_varint,
    put_varint_field,
};
use crate::snappy::{SnappyError, compress};

/// What the `Content-Type` header says of a request.
pub const CONTENT_TYPE: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

/// Texts of a request at most, however short each is.
const SYMBOLS_MAX: usize = 2_000_000;

/// A decompressed request.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    message: Message<'a>,
    /// `None`: it is not UTF-8, which matters to the series that refer to it.
    symbols: Vec<Option<&'a str>>,
}

impl<'a> Request<'a> {
    /// A request over a decompressed body, of which the table of texts has been read.
    pub fn new(body: &'a [u8]) -> Result<Self, Malformed> {
        let message = Message {
            bytes: body,
            base: 0,
        };
        let mut symbols = Vec::new();
        for field in numbered(message, "Request", 4, usize::MAX) {
            let field = field?;
            let bytes = field.message("symbols")?.bytes;
            if symbols.len() == SYMBOLS_MAX {
                return Err(field.wanted("symbols", "at most two million texts"));
            }
            symbols.push(std::str::from_utf8(bytes).ok());
        }
        if symbols.first().is_some_and(|first| *first != Some("")) {
            return Err(Malformed {
                at: 0,
                field: "symbols",
                wanted: "an empty text first",
            });
        }
        Ok(Self { message, symbols })
    }

    /// The series in order, each as it is sent. The first error ends them.
    pub fn series(&self) -> impl Iterator<Item = Result<Series<'a>, Malformed>> + use<'a> {
        let mut seen = Seen::default();
        let mut all = numbered(self.message, "Request", 5, usize::MAX);
        let mut is_over = false;
        std::iter::from_fn(move || {
            let series = all.next().filter(|_| !is_over)?.and_then(|field| {
                let series = Series::new(&field)?;
                seen.series(&field, series.sample_count)?;
                Ok(series)
            });
            is_over = series.is_err();
            Some(series)
        })
    }

    fn symbol(&self, reference: u64, at: usize, field: &'static str) -> Result<&'a str, Malformed> {
        let index = usize::try_from(reference).unwrap_or(usize::MAX);
        let wanted = match self.symbols.get(index) {
            Some(Some(text)) => return Ok(text),
            Some(None) => "UTF-8 text",
            None => "a reference into the symbols",
        };
        Err(Malformed { at, field, wanted })
    }

    /// Replaces `into` by the labels of a series in the order in which they are sent, not
    /// checked otherwise than that they are there and not more than so many.
    pub fn labels_into(
        &self,
        series: &Series<'a>,
        labels_max: usize,
        into: &mut Vec<(&'a str, &'a str)>,
    ) -> Result<(), LabelsError> {
        into.clear();
        let count = series.label_refs.len() / 2;
        if count > labels_max {
            return Err(LabelsError::TooMany {
                at: series.at,
                count,
                max: labels_max,
            });
        }
        Ok(self.pairs(
            &series.label_refs,
            series.at,
            "timeseries.labels_refs",
            into,
        )?)
    }

    fn pairs(
        &self,
        refs: &[u64],
        at: usize,
        field: &'static str,
        into: &mut Vec<(&'a str, &'a str)>,
    ) -> Result<(), Malformed> {
        into.clear();
        let (pairs, rest) = refs.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(Malformed {
                at,
                field,
                wanted: "an even number of references",
            });
        }
        for [name, value] in pairs {
            into.push((
                self.symbol(*name, at, field)?,
                self.symbol(*value, at, field)?,
            ));
        }
        Ok(())
    }

    /// The exemplars of a series.
    pub fn exemplars(
        &self,
        series: &Series<'a>,
    ) -> impl Iterator<Item = Result<Exemplar, LabelsError>> {
        numbered(series.message, "timeseries", 4, series.exemplar_count)
            .map(|field| self.exemplar(&field?))
    }

    fn exemplar(&self, field: &Field<'a>) -> Result<Exemplar, LabelsError> {
        const NAME: &str = "timeseries.exemplars";
        let (mut refs, mut value, mut time_ms) = (Vec::new(), 0.0, 0);
        let mut fields = Fields::new(field.message(NAME)?, NAME);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => field.varints("timeseries.exemplars.labels_refs", &mut refs)?,
                2 => value = field.double("timeseries.exemplars.value")?,
                3 => time_ms = field.varint("timeseries.exemplars.timestamp")? as i64,
                _ => {}
            }
        }
        let mut pairs = Vec::new();
        self.pairs(
            &refs,
            field.at,
            "timeseries.exemplars.labels_refs",
            &mut pairs,
        )?;
        let at = field.at;
        let labels =
            Labels::from_pairs(pairs).map_err(|source| LabelsError::Refused { at, source })?;
        Ok(Exemplar {
            labels,
            value,
            time_ms,
        })
    }

    /// What is said of a series' metric name, if anything.
    pub fn metadata(&self, series: &Series<'a>) -> Result<Option<Metadata>, Malformed> {
        let Some(message) = series.metadata else {
            return Ok(None);
        };
        let (mut kind, mut help, mut unit) = (0, 0, 0);
        let mut fields = Fields::new(message, "timeseries.metadata");
        while let Some(field) = fields.next()? {
            match field.number {
                1 => kind = field.varint("timeseries.metadata.type")?,
                3 => help = field.varint("timeseries.metadata.help_ref")?,
                4 => unit = field.varint("timeseries.metadata.unit_ref")?,
                _ => {}
            }
        }
        let at = message.base;
        let text = |reference, name| match reference {
            0 => Ok(""),
            reference => self.symbol(reference, at, name),
        };
        let metadata = Metadata {
            kind: kind_name(kind).to_owned(),
            help: text(help, "timeseries.metadata.help_ref")?.to_owned(),
            unit: text(unit, "timeseries.metadata.unit_ref")?.to_owned(),
        };
        let is_empty = kind == 0 && metadata.help.is_empty() && metadata.unit.is_empty();
        Ok((!is_empty).then_some(metadata))
    }
}

/// One series of a request.
#[derive(Debug, Clone)]
pub struct Series<'a> {
    message: Message<'a>,
    label_refs: Vec<u64>,
    metadata: Option<Message<'a>>,
    at: usize,
    /// How many float samples there are.
    pub sample_count: usize,
    /// How many native histograms there are.
    pub histogram_count: usize,
    /// How many exemplars there are.
    pub exemplar_count: usize,
}

impl<'a> Series<'a> {
    fn new(field: &Field<'a>) -> Result<Self, Malformed> {
        let message = field.message("timeseries")?;
        let mut series = Self {
            message,
            label_refs: Vec::new(),
            metadata: None,
            at: field.at,
            sample_count: 0,
            histogram_count: 0,
            exemplar_count: 0,
        };
        let mut fields = Fields::new(message, "timeseries");
        while let Some(field) = fields.next()? {
            match field.number {
                1 => field.varints("timeseries.labels_refs", &mut series.label_refs)?,
                2 => series.sample_count += 1,
                3 => series.histogram_count += 1,
                4 => series.exemplar_count += 1,
                5 => series.metadata = Some(field.message("timeseries.metadata")?),
                _ => {}
            }
        }
        Ok(series)
    }

    /// The offset of the series in the decompressed body.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The float samples: time in ms, value, start in ms (0: not known).
    pub fn samples(
        &self,
    ) -> impl Iterator<Item = Result<(TimestampMs, f64, TimestampMs), Malformed>> + use<'a> {
        numbered(self.message, "timeseries", 2, self.sample_count).map(|field| {
            let message = field?.message("timeseries.samples")?;
            let (mut time_ms, mut value, mut start_ms) = (0, 0.0, 0);
            let mut fields = Fields::new(message, "timeseries.samples");
            while let Some(field) = fields.next()? {
                match field.number {
                    1 => value = field.double("timeseries.samples.value")?,
                    2 => time_ms = field.varint("timeseries.samples.timestamp")? as i64,
                    3 => start_ms = field.varint("timeseries.samples.start_timestamp")? as i64,
                    _ => {}
                }
            }
            Ok((time_ms, value, start_ms))
        })
    }

    /// The native histograms.
    pub fn histograms(&self) -> impl Iterator<Item = Result<HistogramSample, Malformed>> + use<'a> {
        numbered(self.message, "timeseries", 3, self.histogram_count)
            .map(|field| histogram::decode(&field?))
    }
}

/// Builds requests. The same calls always give the same bytes.
#[derive(Debug, Default)]
pub struct RequestEncoder {
    numbers: HashMap<Box<str>, u64>,
    symbols: Vec<u8>,
    series: Vec<u8>,
}

impl RequestEncoder {
    /// An encoder without series.
    pub fn new() -> Self {
        Self::default()
    }

    fn number(&mut self, text: &str) -> u64 {
        if self.numbers.is_empty() {
            self.numbers.insert("".into(), 0);
            put_bytes_field(&mut self.symbols, 4, b"");
        }
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.numbers.len() as u64;
        self.numbers.insert(text.into(), number);
        put_bytes_field(&mut self.symbols, 4, text.as_bytes());
        number
    }

    fn refs(&mut self, labels: &Labels) -> Vec<u8> {
        let mut refs = Vec::with_capacity(labels.len() * 4);
        for (name, value) in labels {
            put_varint(&mut refs, self.number(name));
            put_varint(&mut refs, self.number(value));
        }
        refs
    }

    /// Appends a series: float samples as time in ms, value and start in ms (0: not known),
    /// and more.
    pub fn series(
        &mut self,
        labels: &Labels,
        samples: impl IntoIterator<Item = (TimestampMs, f64, TimestampMs)>,
        parts: &SeriesParts<'_>,
        metadata: Option<&Metadata>,
    ) {
        let refs = self.refs(labels);
        let exemplar_refs: Vec<Vec<u8>> = parts
            .exemplars
            .iter()
            .map(|e| self.refs(&e.labels))
            .collect();
        let metadata = metadata.map(|m| {
            let kind = kind_number(&m.kind);
            (kind, self.number(&m.help), self.number(&m.unit))
        });
        put_message(&mut self.series, 5, |out| {
            put_bytes_field(out, 1, &refs);
            for (time_ms, value, start_ms) in samples {
                put_message(out, 2, |out| {
                    put_value(out, value, time_ms);
                    if start_ms != 0 {
                        put_varint_field(out, 3, start_ms as u64);
                    }
                });
            }
            for (time_ms, start_ms, histogram) in parts.histograms {
                put_message(out, 3, |out| {
                    histogram::encode(*time_ms, *start_ms, histogram, out);
                });
            }
            for (exemplar, refs) in parts.exemplars.iter().zip(&exemplar_refs) {
                put_message(out, 4, |out| {
                    put_bytes_field(out, 1, refs);
                    put_double_field(out, 2, exemplar.value);
                    put_varint_field(out, 3, exemplar.time_ms as u64);
                });
            }
            if let Some((kind, help, unit)) = metadata {
                put_message(out, 5, |out| {
                    put_varint_field(out, 1, kind);
                    put_varint_field(out, 3, help);
                    put_varint_field(out, 4, unit);
                });
            }
        });
    }

    /// Whether there is no series.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The request's body, compressed. The encoder is empty afterwards.
    pub fn finish(&mut self) -> Result<Vec<u8>, SnappyError> {
        let plain = [&self.symbols[..], &self.series].concat();
        self.numbers.clear();
        self.symbols.clear();
        self.series.clear();
        compress(&plain)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kittiwake_model::Histogram;
    use kittiwake_model::histogram::{Counts, ResetHint};
    use proptest::prelude::*;

    use super::*;
    use crate::snappy::decompress;

    fn labels(pairs: &[(String, String)]) -> Labels {
        let pairs: std::collections::BTreeMap<_, _> = pairs.iter().cloned().collect();
        Labels::from_pairs(pairs).unwrap()
    }

    fn histogram(count: u64) -> Arc<Histogram> {
        Arc::new(Histogram {
            schema: 3,
            zero_threshold: 0.5,
            sum: 1.5,
            positive_spans: Vec::new(),
            negative_spans: Vec::new(),
            custom_bounds: Vec::new(),
            counts: Counts::Integer {
                count,
                zero: count,
                positive: Vec::new(),
                negative: Vec::new(),
            },
            reset_hint: ResetHint::No,
        })
    }

    proptest! {
        #[test]
        fn requests_round_trip(
            series in proptest::collection::vec(
                (
                    proptest::collection::vec(("[a-c]{1,2}", "(?s).{1,3}"), 1..4),
                    proptest::collection::vec((any::<i64>(), any::<u64>(), any::<i64>()), 0..4),
                    proptest::collection::vec((any::<i64>(), any::<i64>(), 0..1000_u64), 0..3),
                    proptest::collection::vec((any::<i64>(), -1e9..1e9_f64), 0..3),
                    proptest::option::of(("[a-z]{0,5}", "[a-z]{0,5}")),
                ),
                0..6,
            )
        ) {
            let mut encoder = RequestEncoder::new();
            for (pairs, samples, histograms, exemplars, about) in &series {
                let labels = labels(pairs);
                let histograms: Vec<_> =
                    histograms.iter().map(|(t, s, c)| (*t, *s, histogram(*c))).collect();
                let exemplar = |(time_ms, value): &(i64, f64)| Exemplar {
                    labels: labels.clone(), value: *value, time_ms: *time_ms,
                };
                let exemplars: Vec<_> = exemplars.iter().map(exemplar).collect();
                let about = about.clone().map(|(help, unit)| Metadata {
                    kind: "counter".to_owned(), help, unit,
                });
                let parts = SeriesParts { histograms: &histograms, exemplars: &exemplars };
                let samples = samples.iter().map(|(t, v, s)| (*t, f64::from_bits(*v), *s));
                encoder.series(&labels, samples, &parts, about.as_ref());
            }
            let body = encoder.finish().unwrap();
            let mut plain = Vec::new();
            let plain = decompress(&body, 1 << 20, &mut plain).unwrap();
            let request = Request::new(plain).unwrap();
            let read: Vec<_> = request.series().collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(read.len(), series.len());
            for (read, sent) in read.iter().zip(&series) {
                let mut pairs = Vec::new();
                request.labels_into(read, 64, &mut pairs).unwrap();
                let expected = labels(&sent.0);
                prop_assert_eq!(pairs, expected.iter().collect::<Vec<_>>());
                let samples: Vec<_> = read
                    .samples()
                    .map(|s| s.map(|(t, v, s)| (t, v.to_bits(), s)).unwrap())
                    .collect();
                prop_assert_eq!(&samples, &sent.1);
                let histograms: Vec<_> = read.histograms().map(Result::unwrap).collect();
                for (read, (time_ms, start_ms, count)) in histograms.iter().zip(&sent.2) {
                    prop_assert_eq!((read.time_ms, read.start_ms), (*time_ms, *start_ms));
                    let sent = histogram(*count);
                    prop_assert_eq!(&read.histogram, sent.as_ref());
                }
                prop_assert_eq!(histograms.len(), sent.2.len());
                let exemplars = request.exemplars(read).map(Result::unwrap);
                let exemplars: Vec<_> = exemplars.map(|e| (e.time_ms, e.value)).collect();
                prop_assert_eq!(&exemplars, &sent.3);
                let about = request.metadata(read).unwrap().map(|m| (m.help, m.unit));
                prop_assert_eq!(&about, &sent.4);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(
            prop_oneof![proptest::sample::select(&[0x22_u8, 0x2a, 0x0a, 0x12, 0, 1, 2, 3][..]), any::<u8>()], 0..80,
        )) {
            let Ok(request) = Request::new(&bytes) else { return Ok(()); };
            let mut pairs = Vec::new();
            for series in request.series().map_while(Result::ok) {
                let _ = request.labels_into(&series, 64, &mut pairs);
                let _ = request.metadata(&series);
                let _ = series.samples().count();
                let _ = series.histograms().count();
                let _ = request.exemplars(&series).count();
            }
        }
    }

    #[test]
    fn references_beyond_the_table_are_refused() {
        let mut bytes = Vec::new();
        put_bytes_field(&mut bytes, 4, b"");
        put_message(&mut bytes, 5, |out| put_bytes_field(out, 1, &[1, 0]));
        let request = Request::new(&bytes).unwrap();
        let series = request.series().next().unwrap().unwrap();
        let mut pairs = Vec::new();
        let error = request.labels_into(&series, 64, &mut pairs).unwrap_err();
        assert!(
            error.to_string().contains("timeseries.labels_refs"),
            "{error}"
        );
        let mut bytes = Vec::new();
        put_bytes_field(&mut bytes, 4, b"a");
        assert!(Request::new(&bytes).is_err());
    }

    #[test]
    fn tiny_parts_without_number_are_refused() {
        let many_symbols = [0x22, 0].repeat(SYMBOLS_MAX + 1);
        assert!(Request::new(&many_symbols).is_err());
        let many_series = [0x2a, 0].repeat(super::super::SERIES_MAX + 1);
        let request = Request::new(&many_series).unwrap();
        assert!(request.series().last().unwrap().is_err());
        // All labels of a series are the same text.
        let mut bytes = vec![0x22, 0];
        put_message(&mut bytes, 5, |out| {
            put_bytes_field(out, 1, &[0; 130]);
        });
        let request = Request::new(&bytes).unwrap();
        let series = request.series().next().unwrap().unwrap();
        let error = request
            .labels_into(&series, 64, &mut Vec::new())
            .unwrap_err();
        assert!(
            matches!(error, LabelsError::TooMany { count: 65, .. }),
            "{error}"
        );
    }
}
