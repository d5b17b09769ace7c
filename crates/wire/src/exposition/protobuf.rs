//! The protobuf exposition: messages `io.prometheus.client.MetricFamily`, each with its length
//! in front.

use kittiwake_model::histogram::{Counts, Histogram, ResetHint, Span};
use kittiwake_model::{Labels, TimestampMs};

use super::read::{Complex, LABELS_MAX, Out, ScrapedExemplar};
use super::{ExpositionError, Family, Format, MetricType, Sample};
use crate::proto::{Field, Fields, Malformed, Message, unzigzag};
use crate::remote_write::histogram::{BUCKETS, COUNTS, absolute, span, spanned};

/// Buckets, quantiles or exemplars of one metric at most.
const ITEMS_MAX: usize = 1 << 16;

type Pairs<'a> = Vec<(&'a str, &'a str)>;

pub(super) fn read<E: From<ExpositionError>>(bytes: &[u8], out: &mut Out<'_, E>) -> Result<(), E> {
    let whole = Message { bytes, base: 0 };
    let mut messages = Fields::new(whole, "MetricFamily");
    let mut labels = Vec::new();
    while let Some(message) = messages.delimited().map_err(ExpositionError::from)? {
        family(message, &mut labels, out)?;
    }
    Ok(())
}

fn family<'a, E: From<ExpositionError>>(
    message: Message<'a>,
    labels: &mut Pairs<'a>,
    out: &mut Out<'_, E>,
) -> Result<(), E> {
    let about = about(message).map_err(ExpositionError::from)?;
    let mut fields = Fields::new(message, "MetricFamily");
    while let Some(field) = fields.next().map_err(ExpositionError::from)? {
        if field.number == 4 {
            metric(&field, &about, labels, out)?;
        }
    }
    out.family(Some(about))
}

fn about(message: Message<'_>) -> Result<Family, Malformed> {
    let mut family = Family {
        kind: MetricType::Counter,
        ..Family::default()
    };
    let mut fields = Fields::new(message, "MetricFamily");
    while let Some(field) = fields.next()? {
        match field.number {
            1 => field
                .text("MetricFamily.name")?
                .clone_into(&mut family.name),
            2 => field
                .text("MetricFamily.help")?
                .clone_into(&mut family.help),
            3 => {
                family.kind = match field.varint("MetricFamily.type")? {
                    0 => MetricType::Counter,
                    1 => MetricType::Gauge,
                    2 => MetricType::Summary,
                    3 => MetricType::Unknown,
                    4 => MetricType::Histogram,
                    5 => MetricType::GaugeHistogram,
                    _ => return Err(field.wanted("MetricFamily.type", "a type from 0 to 5")),
                }
            }
            5 => field
                .text("MetricFamily.unit")?
                .clone_into(&mut family.unit),
            _ => {}
        }
    }
    if family.name.is_empty() {
        return Err(Malformed {
            at: message.base,
            field: "MetricFamily.name",
            wanted: "a name",
        });
    }
    Ok(family)
}

/// What a metric has beside its labels.
struct Value {
    plain: f64,
    complex: Complex,
    start_ms: Option<TimestampMs>,
    time_ms: Option<TimestampMs>,
}

fn metric<'a, E: From<ExpositionError>>(
    field: &Field<'a>,
    family: &Family,
    labels: &mut Pairs<'a>,
    out: &mut Out<'_, E>,
) -> Result<(), E> {
    labels.clear();
    let mut value = metric_value(field, family.kind, labels)?;
    let base = Sample {
        series: &[],
        value: value.plain,
        time_ms: value.time_ms,
        start_ms: value.start_ms,
        exemplars: &[],
        // Bounds are written as they are to be stored.
        kind: family.kind,
        line: 0,
        column: 0,
        format: Format::Protobuf,
    };
    let pairs = labels.iter().copied();
    if matches!(
        family.kind,
        MetricType::Histogram | MetricType::GaugeHistogram | MetricType::Summary
    ) {
        return out.complex(&base, &family.name, pairs, &mut value.complex);
    }
    let exemplars = &value.complex.exemplars;
    let name = [family.name.as_str(), ""];
    out.made(&base, name, pairs, None, (value.plain, exemplars))
}

fn metric_value<'a>(
    field: &Field<'a>,
    kind: MetricType,
    labels: &mut Pairs<'a>,
) -> Result<Value, ExpositionError> {
    let mut value = Value {
        plain: 0.0,
        complex: Complex {
            is_summary: kind == MetricType::Summary,
            ..Complex::default()
        },
        start_ms: None,
        time_ms: None,
    };
    let mut fields = Fields::new(field.message("metric")?, "metric");
    while let Some(field) = fields.next()? {
        match (field.number, kind) {
            (1, _) => {
                if labels.len() >= LABELS_MAX {
                    let (line, max) = (0, LABELS_MAX);
                    return Err(ExpositionError::TooMany { line, max });
                }
                labels.push(label(&field)?);
            }
            (2, MetricType::Gauge) | (5, MetricType::Unknown) | (3, MetricType::Counter) => {
                counter(&field, &mut value)?;
            }
            (4, MetricType::Summary) => summary(&field, &mut value)?,
            (7, MetricType::Histogram | MetricType::GaugeHistogram) => {
                histogram(&field, kind, &mut value)?;
            }
            (6, _) => {
                let ms = field.varint("metric.timestamp_ms")? as i64;
                value.time_ms = (ms != 0).then_some(ms);
            }
            _ => {}
        }
    }
    Ok(value)
}

fn label<'a>(field: &Field<'a>) -> Result<(&'a str, &'a str), Malformed> {
    let (mut name, mut value) = ("", "");
    let mut fields = Fields::new(field.message("metric.label")?, "metric.label");
    while let Some(field) = fields.next()? {
        match field.number {
            1 => name = field.text("metric.label.name")?,
            2 => value = field.text("metric.label.value")?,
            _ => {}
        }
    }
    if name.is_empty() {
        return Err(field.wanted("metric.label.name", "a name"));
    }
    Ok((name, value))
}

/// Counter, gauge or untyped: the latter two have the value alone.
fn counter(field: &Field<'_>, value: &mut Value) -> Result<(), ExpositionError> {
    let mut fields = Fields::new(field.message("metric.value")?, "metric.value");
    while let Some(field) = fields.next()? {
        match field.number {
            1 => value.plain = field.double("metric.value.value")?,
            2 => value.complex.exemplars.push(exemplar(&field)?),
            3 => value.start_ms = Some(time(&field, "metric.counter.start_timestamp")?),
            _ => {}
        }
    }
    Ok(())
}

fn summary(field: &Field<'_>, value: &mut Value) -> Result<(), ExpositionError> {
    let mut fields = Fields::new(field.message("metric.summary")?, "metric.summary");
    while let Some(field) = fields.next()? {
        match field.number {
            1 => value.complex.count = Some(field.varint("metric.summary.sample_count")? as f64),
            2 => value.complex.sum = Some(field.double("metric.summary.sample_sum")?),
            3 => {
                let name = "metric.summary.quantile";
                let (mut quantile, mut at) = (0.0, 0.0);
                let mut parts = Fields::new(field.message(name)?, name);
                while let Some(part) = parts.next()? {
                    match part.number {
                        1 => quantile = part.double(name)?,
                        2 => at = part.double(name)?,
                        _ => {}
                    }
                }
                push(&field, name, &mut value.complex.quantiles, (quantile, at))?;
            }
            4 => value.start_ms = Some(time(&field, "metric.summary.start_timestamp")?),
            _ => {}
        }
    }
    Ok(())
}

fn push<T>(
    field: &Field<'_>,
    name: &'static str,
    list: &mut Vec<T>,
    item: T,
) -> Result<(), Malformed> {
    if list.len() >= ITEMS_MAX {
        return Err(field.wanted(name, "at most 65536 of them"));
    }
    list.push(item);
    Ok(())
}

/// Counts of a native histogram as they stand on the wire.
#[derive(Default)]
struct NativeCounts {
    zero: u64,
    zero_float: f64,
    positive_deltas: Vec<u64>,
    negative_deltas: Vec<u64>,
    positive: Vec<f64>,
    negative: Vec<f64>,
}

fn histogram(
    whole: &Field<'_>,
    kind: MetricType,
    value: &mut Value,
) -> Result<(), ExpositionError> {
    const NAME: &str = "metric.histogram";
    let mut fields = Fields::new(whole.message(NAME)?, NAME);
    let (mut count, mut count_float) = (0, 0.0);
    let mut counts = NativeCounts::default();
    let mut schema = 0;
    let mut zero_threshold = 0.0;
    let (mut positive, mut negative): (Vec<Span>, Vec<Span>) = (Vec::new(), Vec::new());
    let mut own_exemplars = Vec::new();
    let complex = &mut value.complex;
    while let Some(field) = fields.next()? {
        match field.number {
            1 => count = field.varint("metric.histogram.sample_count")?,
            2 => complex.sum = Some(field.double("metric.histogram.sample_sum")?),
            3 => bucket(&field, complex)?,
            4 => count_float = field.double("metric.histogram.sample_count_float")?,
            5 => schema = unzigzag(field.varint("metric.histogram.schema")?) as i32,
            6 => zero_threshold = field.double("metric.histogram.zero_threshold")?,
            7 => counts.zero = field.varint("metric.histogram.zero_count")?,
            8 => counts.zero_float = field.double("metric.histogram.zero_count_float")?,
            9 => negative.push(span(&field, "metric.histogram.negative_span")?),
            10 => field.varints(
                "metric.histogram.negative_delta",
                &mut counts.negative_deltas,
            )?,
            11 => field.doubles("metric.histogram.negative_count", &mut counts.negative)?,
            12 => positive.push(span(&field, "metric.histogram.positive_span")?),
            13 => field.varints(
                "metric.histogram.positive_delta",
                &mut counts.positive_deltas,
            )?,
            14 => field.doubles("metric.histogram.positive_count", &mut counts.positive)?,
            15 => value.start_ms = Some(time(&field, "metric.histogram.start_timestamp")?),
            16 => push(
                &field,
                "metric.histogram.exemplars",
                &mut own_exemplars,
                exemplar(&field)?,
            )?,
            _ => {}
        }
    }
    if !own_exemplars.is_empty() {
        complex.exemplars = own_exemplars;
    }
    complex.sum = Some(complex.sum.unwrap_or(0.0));
    let total = if count_float > 0.0 {
        count_float
    } else {
        count as f64
    };
    complex.count = Some(total);
    let is_native = !positive.is_empty()
        || !negative.is_empty()
        || zero_threshold > 0.0
        || counts.zero > 0
        || counts.zero_float > 0.0;
    if !is_native {
        return Ok(());
    }
    let is_float = count_float > 0.0 || counts.zero_float > 0.0;
    let counts = counts.absolute(whole, is_float, (count, total))?;
    let (have_positive, have_negative) = match &counts {
        Counts::Integer {
            positive, negative, ..
        } => (positive.len(), negative.len()),
        Counts::Float {
            positive, negative, ..
        } => (positive.len(), negative.len()),
    };
    if spanned(&positive) != have_positive as u64 || spanned(&negative) != have_negative as u64 {
        return Err(whole
            .wanted("metric.histogram.positive_span", BUCKETS)
            .into());
    }
    if !(-4..=8).contains(&schema) {
        return Err(whole
            .wanted("metric.histogram.schema", "a schema from -4 to 8")
            .into());
    }
    let is_real = |span: &Span| span.length > 0;
    complex.native = Some(Histogram {
        schema,
        zero_threshold,
        sum: complex.sum.unwrap_or(0.0),
        positive_spans: positive.into_iter().filter(is_real).collect(),
        negative_spans: negative.into_iter().filter(is_real).collect(),
        custom_bounds: Vec::new(),
        counts,
        reset_hint: if kind == MetricType::GaugeHistogram {
            ResetHint::Gauge
        } else {
            ResetHint::Unknown
        },
    });
    Ok(())
}

impl NativeCounts {
    fn absolute(
        self,
        field: &Field<'_>,
        is_float: bool,
        (count, total): (u64, f64),
    ) -> Result<Counts, Malformed> {
        if is_float {
            return Ok(Counts::Float {
                count: total,
                zero: self.zero_float,
                positive: self.positive,
                negative: self.negative,
            });
        }
        let of = |deltas: &[u64], name| absolute(deltas).ok_or_else(|| field.wanted(name, COUNTS));
        Ok(Counts::Integer {
            count,
            zero: self.zero,
            positive: of(&self.positive_deltas, "metric.histogram.positive_delta")?,
            negative: of(&self.negative_deltas, "metric.histogram.negative_delta")?,
        })
    }
}

fn bucket(field: &Field<'_>, complex: &mut Complex) -> Result<(), ExpositionError> {
    const NAME: &str = "metric.histogram.bucket";
    let (mut count, mut count_float, mut bound) = (0, 0.0, 0.0);
    let mut fields = Fields::new(field.message(NAME)?, NAME);
    while let Some(part) = fields.next()? {
        match part.number {
            1 => count = part.varint(NAME)?,
            2 => bound = part.double(NAME)?,
            3 => push(field, NAME, &mut complex.exemplars, exemplar(&part)?)?,
            4 => count_float = part.double(NAME)?,
            _ => {}
        }
    }
    let count = if count_float > 0.0 {
        count_float
    } else {
        count as f64
    };
    Ok(push(field, NAME, &mut complex.buckets, (bound, count))?)
}

fn exemplar(field: &Field<'_>) -> Result<ScrapedExemplar, ExpositionError> {
    let (mut pairs, mut value, mut time_ms) = (Vec::new(), 0.0, None);
    let mut fields = Fields::new(field.message("exemplar")?, "exemplar");
    while let Some(part) = fields.next()? {
        match part.number {
            1 => push(field, "exemplar.label", &mut pairs, label(&part)?)?,
            2 => value = part.double("exemplar.value")?,
            3 => time_ms = Some(time(&part, "exemplar.timestamp")?),
            _ => {}
        }
    }
    let labels =
        Labels::from_pairs(pairs).map_err(|source| ExpositionError::Labels { line: 0, source })?;
    Ok(ScrapedExemplar {
        labels,
        value,
        time_ms,
    })
}

fn time(field: &Field<'_>, name: &'static str) -> Result<TimestampMs, Malformed> {
    let (mut seconds, mut nanos) = (0_i64, 0_i64);
    let mut fields = Fields::new(field.message(name)?, name);
    while let Some(part) = fields.next()? {
        match part.number {
            1 => seconds = part.varint(name)? as i64,
            2 => nanos = part.varint(name)? as i64,
            _ => {}
        }
    }
    Ok(seconds
        .saturating_mul(1000)
        .saturating_add(nanos / 1_000_000))
}
