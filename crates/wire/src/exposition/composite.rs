//! What stands between the braces of a whole histogram or summary in OpenMetrics 2.0:
//! `count:17,sum:3.5,bucket:[0.1:8,+Inf:17]`.

use kittiwake_model::histogram::{Counts, Histogram, ResetHint, Span};

use super::read::Complex;
use super::{ExpositionError, MetricType, Sample};
use crate::float::parse_float;

/// Buckets, spans or quantiles of one value at most.
const ITEMS_MAX: usize = 1 << 16;

#[derive(Debug, Default)]
struct Native {
    schema: Option<i32>,
    zero_threshold: f64,
    zero: f64,
    positive_spans: Vec<Span>,
    negative_spans: Vec<Span>,
    positive: Vec<f64>,
    negative: Vec<f64>,
}

/// Reads the value of a sample.
pub(super) fn read(
    sample: &Sample<'_>,
    text: &[u8],
    kind: MetricType,
) -> Result<Complex, ExpositionError> {
    let wanted = |at: usize, wanted| ExpositionError::Malformed {
        line: sample.line,
        column: sample.series.len() + at + 3,
        wanted,
    };
    let mut complex = Complex::default();
    let mut native = Native::default();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let colon = memchr::memchr(b':', rest).ok_or_else(|| wanted(at, "a name and `:`"))?;
        let (name, value) = (&rest[..colon], &rest[colon + 1..]);
        let end = if value.first() == Some(&b'[') {
            let close = memchr::memchr(b']', value);
            close.ok_or_else(|| wanted(at + colon, "`]`"))? + 1
        } else {
            memchr::memchr(b',', value).unwrap_or(value.len())
        };
        field(name, &value[..end], &mut complex, &mut native)
            .ok_or_else(|| wanted(at, "a field of a histogram or summary and its value"))?;
        at += colon + 1 + end;
        if at < text.len() {
            if text[at] != b',' || at + 1 == text.len() {
                return Err(wanted(at, "`,` and another field"));
            }
            at += 1;
        }
    }
    if complex.count.is_none() || complex.sum.is_none() {
        return Err(wanted(0, "a count and a sum"));
    }
    complex.native = native
        .histogram(&complex, kind == MetricType::GaugeHistogram)
        .map_err(|problem| wanted(0, problem))?;
    Ok(complex)
}

fn field(name: &[u8], value: &[u8], complex: &mut Complex, native: &mut Native) -> Option<()> {
    match name {
        b"count" | b"gcount" => complex.count = Some(parse_float(value)?),
        b"sum" | b"gsum" => complex.sum = Some(parse_float(value)?),
        b"bucket" => pairs(value, &mut complex.buckets)?,
        b"quantile" => {
            complex.is_summary = true;
            pairs(value, &mut complex.quantiles)?;
        }
        b"schema" => native.schema = Some(whole(value)?),
        b"zero_threshold" => native.zero_threshold = parse_float(value)?,
        b"zero_count" => native.zero = parse_float(value)?,
        b"positive_spans" => spans(value, &mut native.positive_spans)?,
        b"negative_spans" => spans(value, &mut native.negative_spans)?,
        b"positive_buckets" => numbers(value, &mut native.positive)?,
        b"negative_buckets" => numbers(value, &mut native.negative)?,
        _ => return None,
    }
    Some(())
}

fn whole<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The items of `[a,b,c]`, of which there may be none.
fn items(list: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let inner = list.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let count = memchr::memchr_iter(b',', inner).count();
    (count < ITEMS_MAX).then(|| {
        let items = inner.split(|byte| *byte == b',');
        items.filter(move |_| !inner.is_empty())
    })
}

fn pairs(list: &[u8], into: &mut Vec<(f64, f64)>) -> Option<()> {
    for item in items(list)? {
        let colon = memchr::memchr(b':', item)?;
        into.push((
            parse_float(&item[..colon])?,
            parse_float(&item[colon + 1..])?,
        ));
    }
    Some(())
}

fn numbers(list: &[u8], into: &mut Vec<f64>) -> Option<()> {
    for item in items(list)? {
        into.push(parse_float(item)?);
    }
    Some(())
}

fn spans(list: &[u8], into: &mut Vec<Span>) -> Option<()> {
    for item in items(list)? {
        let colon = memchr::memchr(b':', item)?;
        into.push(Span {
            offset: whole(&item[..colon])?,
            length: whole(&item[colon + 1..])?,
        });
    }
    Some(())
}

impl Native {
    fn histogram(
        self,
        complex: &Complex,
        is_gauge: bool,
    ) -> Result<Option<Histogram>, &'static str> {
        let Some(schema) = self.schema else {
            return Ok(None);
        };
        if !(-4..=8).contains(&schema) {
            return Err("a schema from -4 to 8");
        }
        let spanned = |spans: &[Span]| spans.iter().map(|s| u64::from(s.length)).sum::<u64>();
        if spanned(&self.positive_spans) != self.positive.len() as u64
            || spanned(&self.negative_spans) != self.negative.len() as u64
        {
            return Err("as many buckets as the spans have");
        }
        let count = complex.count.unwrap_or(0.0);
        let is_whole = self
            .positive
            .iter()
            .chain(&self.negative)
            .chain([&count, &self.zero])
            .all(|c| c.fract() == 0.0 && *c >= 0.0 && *c < 1.8e19);
        let counts = if is_whole {
            let whole = |counts: Vec<f64>| counts.into_iter().map(|count| count as u64).collect();
            Counts::Integer {
                count: count as u64,
                zero: self.zero as u64,
                positive: whole(self.positive),
                negative: whole(self.negative),
            }
        } else {
            Counts::Float {
                count,
                zero: self.zero,
                positive: self.positive,
                negative: self.negative,
            }
        };
        Ok(Some(Histogram {
            schema,
            zero_threshold: self.zero_threshold,
            sum: complex.sum.unwrap_or(0.0),
            positive_spans: self.positive_spans,
            negative_spans: self.negative_spans,
            custom_bounds: Vec::new(),
            counts,
            reset_hint: if is_gauge {
                ResetHint::Gauge
            } else {
                ResetHint::Unknown
            },
        }))
    }
}
