//! Native histograms on the wire: spans, and counts as differences (integers) or absolute
//! (floats).

use kittiwake_model::TimestampMs;
use kittiwake_model::histogram::{CUSTOM_BUCKETS_SCHEMA, Counts, Histogram, ResetHint, Span};

use crate::proto::{
    Field, Fields, Malformed, put_bytes_field, put_double_field, put_message, put_varint,
    put_varint_field, unzigzag, zigzag,
};

const NAME: &str = "timeseries.histograms";

/// A native histogram with its times; the start is 0 where it is not known, as in 1.0.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSample {
    /// When, in ms.
    pub time_ms: TimestampMs,
    /// When its counting began, in ms.
    pub start_ms: TimestampMs,
    /// The histogram.
    pub histogram: Histogram,
}

/// Decodes a histogram. Spans and counts must agree.
pub(super) fn decode(field: &Field<'_>) -> Result<HistogramSample, Malformed> {
    let whole = *field;
    let mut fields = Fields::new(field.message(NAME)?, NAME);
    let (mut time_ms, mut start_ms) = (0, 0);
    let (mut count_int, mut zero_int) = (0, 0);
    let (mut count_float, mut zero_float) = (None, 0.0);
    let (mut positive_deltas, mut negative_deltas) = (Vec::new(), Vec::new());
    let (mut positive, mut negative) = (Vec::new(), Vec::new());
    let mut histogram = Histogram {
        schema: 0,
        zero_threshold: 0.0,
        sum: 0.0,
        positive_spans: Vec::new(),
        negative_spans: Vec::new(),
        custom_bounds: Vec::new(),
        counts: Counts::Integer {
            count: 0,
            zero: 0,
            positive: Vec::new(),
            negative: Vec::new(),
        },
        reset_hint: ResetHint::Unknown,
    };
    while let Some(field) = fields.next()? {
        match field.number {
            1 => count_int = field.varint("timeseries.histograms.count_int")?,
            2 => count_float = Some(field.double("timeseries.histograms.count_float")?),
            3 => histogram.sum = field.double("timeseries.histograms.sum")?,
            4 => {
                let schema = unzigzag(field.varint("timeseries.histograms.schema")?);
                histogram.schema = schema as i32;
            }
            5 => {
                histogram.zero_threshold = field.double("timeseries.histograms.zero_threshold")?;
            }
            6 => zero_int = field.varint("timeseries.histograms.zero_count_int")?,
            7 => zero_float = field.double("timeseries.histograms.zero_count_float")?,
            8 => histogram
                .negative_spans
                .push(span(&field, "timeseries.histograms.negative_spans")?),
            9 => field.varints(
                "timeseries.histograms.negative_deltas",
                &mut negative_deltas,
            )?,
            10 => field.doubles("timeseries.histograms.negative_counts", &mut negative)?,
            11 => histogram
                .positive_spans
                .push(span(&field, "timeseries.histograms.positive_spans")?),
            12 => field.varints(
                "timeseries.histograms.positive_deltas",
                &mut positive_deltas,
            )?,
            13 => field.doubles("timeseries.histograms.positive_counts", &mut positive)?,
            14 => {
                histogram.reset_hint = match field.varint("timeseries.histograms.reset_hint")? {
                    1 => ResetHint::Yes,
                    2 => ResetHint::No,
                    3 => ResetHint::Gauge,
                    _ => ResetHint::Unknown,
                };
            }
            15 => time_ms = field.varint("timeseries.histograms.timestamp")? as i64,
            16 => field.doubles(
                "timeseries.histograms.custom_values",
                &mut histogram.custom_bounds,
            )?,
            17 => {
                start_ms = field.varint("timeseries.histograms.start_timestamp")? as i64;
            }
            _ => {}
        }
    }
    histogram.counts = match count_float {
        Some(count) => Counts::Float {
            count,
            zero: zero_float,
            positive,
            negative,
        },
        None => Counts::Integer {
            count: count_int,
            zero: zero_int,
            positive: absolute(&positive_deltas)
                .ok_or(whole.wanted("timeseries.histograms.positive_deltas", COUNTS))?,
            negative: absolute(&negative_deltas)
                .ok_or(whole.wanted("timeseries.histograms.negative_deltas", COUNTS))?,
        },
    };
    let (positive, negative) = match &histogram.counts {
        Counts::Integer {
            positive, negative, ..
        } => (positive.len(), negative.len()),
        Counts::Float {
            positive, negative, ..
        } => (positive.len(), negative.len()),
    };
    if spanned(&histogram.positive_spans) != positive as u64 {
        return Err(whole.wanted("timeseries.histograms.positive_spans", BUCKETS));
    }
    if spanned(&histogram.negative_spans) != negative as u64 {
        return Err(whole.wanted("timeseries.histograms.negative_spans", BUCKETS));
    }
    Ok(HistogramSample {
        time_ms,
        start_ms,
        histogram,
    })
}

/// What is wrong with a histogram that its bytes do not show: a schema that is not known,
/// spans that go backwards, more observations in the buckets than in all.
pub fn histogram_problem(histogram: &Histogram) -> Option<&'static str> {
    let is_custom = histogram.schema == CUSTOM_BUCKETS_SCHEMA;
    if !is_custom && !(-4..=8).contains(&histogram.schema) {
        return Some("its schema is neither from -4 to 8 nor -53");
    }
    let goes_back = |spans: &[Span]| spans.iter().skip(1).any(|span| span.offset < 0);
    if goes_back(&histogram.positive_spans) || goes_back(&histogram.negative_spans) {
        return Some("a span has a negative offset");
    }
    if is_custom {
        let rises = histogram.custom_bounds.windows(2).all(|w| w[0] < w[1]);
        if !rises || histogram.custom_bounds.iter().any(|b| b.is_nan()) {
            return Some("its custom bounds do not rise");
        }
        let first = histogram.positive_spans.first().map_or(0, |s| s.offset);
        let end: i64 = histogram.positive_spans.iter().fold(0, |end, span| {
            end.saturating_add(i64::from(span.offset))
                .saturating_add(i64::from(span.length))
        });
        if first < 0 || end > histogram.custom_bounds.len() as i64 + 1 {
            return Some("it has buckets beyond its custom bounds");
        }
        if !histogram.negative_spans.is_empty() || histogram.zero_threshold != 0.0 {
            return Some("custom buckets have neither a zero bucket nor negative ones");
        }
    } else if !histogram.custom_bounds.is_empty() {
        return Some("only schema -53 has custom bounds");
    }
    match &histogram.counts {
        Counts::Integer {
            count,
            zero,
            positive,
            negative,
        } => {
            let mut all = positive.iter().chain(negative).chain([zero]);
            let sum = all.try_fold(0_u64, |sum, count| sum.checked_add(*count));
            // Observations of NaN are in no bucket.
            match sum {
                Some(all) if histogram.sum.is_nan() => all > *count,
                Some(all) => all != *count,
                None => true,
            }
            .then_some("its buckets do not add up to its count")
        }
        Counts::Float {
            count,
            zero,
            positive,
            negative,
        } => {
            let mut all = positive.iter().chain(negative).chain([zero, count]);
            // A marker of the end has NaN for all.
            all.any(|c| *c < 0.0).then_some("a count is negative")
        }
    }
}

pub(crate) const COUNTS: &str = "differences that add up to counts of 63 bits";
pub(crate) const BUCKETS: &str = "as many buckets as there are counts";

pub(crate) fn span(field: &Field<'_>, name: &'static str) -> Result<Span, Malformed> {
    let mut span = Span {
        offset: 0,
        length: 0,
    };
    let mut fields = Fields::new(field.message(name)?, name);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => span.offset = unzigzag(field.varint(name)?) as i32,
            2 => span.length = field.varint(name)? as u32,
            _ => {}
        }
    }
    Ok(span)
}

pub(crate) fn spanned(spans: &[Span]) -> u64 {
    spans.iter().map(|span| u64::from(span.length)).sum()
}

pub(crate) fn absolute(deltas: &[u64]) -> Option<Vec<u64>> {
    let mut count = 0_i64;
    deltas
        .iter()
        .map(|delta| {
            count = count.checked_add(unzigzag(*delta))?;
            u64::try_from(count).ok()
        })
        .collect()
}

/// Appends the fields of a histogram.
pub(super) fn encode(
    time_ms: TimestampMs,
    start_ms: TimestampMs,
    histogram: &Histogram,
    out: &mut Vec<u8>,
) {
    put_double_field(out, 3, histogram.sum);
    put_varint_field(out, 4, zigzag(i64::from(histogram.schema)));
    put_double_field(out, 5, histogram.zero_threshold);
    put_spans(out, 8, &histogram.negative_spans);
    put_spans(out, 11, &histogram.positive_spans);
    match &histogram.counts {
        Counts::Integer {
            count,
            zero,
            positive,
            negative,
        } => {
            put_varint_field(out, 1, *count);
            put_varint_field(out, 6, *zero);
            put_deltas(out, 9, negative);
            put_deltas(out, 12, positive);
        }
        Counts::Float {
            count,
            zero,
            positive,
            negative,
        } => {
            put_double_field(out, 2, *count);
            put_double_field(out, 7, *zero);
            put_doubles(out, 10, negative);
            put_doubles(out, 13, positive);
        }
    }
    let hint = match histogram.reset_hint {
        ResetHint::Unknown => 0,
        ResetHint::Yes => 1,
        ResetHint::No => 2,
        ResetHint::Gauge => 3,
    };
    put_varint_field(out, 14, hint);
    put_varint_field(out, 15, time_ms as u64);
    put_doubles(out, 16, &histogram.custom_bounds);
    if start_ms != 0 {
        put_varint_field(out, 17, start_ms as u64);
    }
}

fn put_spans(out: &mut Vec<u8>, number: u64, spans: &[Span]) {
    for span in spans {
        put_message(out, number, |out| {
            put_varint_field(out, 1, zigzag(i64::from(span.offset)));
            put_varint_field(out, 2, u64::from(span.length));
        });
    }
}

fn put_deltas(out: &mut Vec<u8>, number: u64, counts: &[u64]) {
    if counts.is_empty() {
        return;
    }
    put_message(out, number, |out| {
        let mut last = 0_u64;
        for count in counts {
            put_varint(out, zigzag(count.wrapping_sub(last) as i64));
            last = *count;
        }
    });
}

fn put_doubles(out: &mut Vec<u8>, number: u64, values: &[f64]) {
    if values.is_empty() {
        return;
    }
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    put_bytes_field(out, number, &bytes);
}
