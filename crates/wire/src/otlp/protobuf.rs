//! The protobuf form.

use super::logs::{LogRecord, RECORDS_MAX, ResourceLogs, ScopeLogs};
use super::{
    AnyValue, Attributes, Buckets, Data, Exemplar, Explicit, Exponential, Metric,
    NO_RECORDED_VALUE, POINTS_MAX, Point, ResourceMetrics, ScopeMetrics, Summary, Temporality, hex,
};
use crate::proto::{Field, Fields, Malformed, Message, unzigzag};

/// Levels of nesting of a value.
const DEPTH_MAX: usize = 16;

pub(super) fn decode(body: &[u8]) -> Result<Vec<ResourceMetrics>, Malformed> {
    let whole = Message {
        bytes: body,
        base: 0,
    };
    let mut decoder = Decoder::default();
    let mut all = Vec::new();
    let mut fields = Fields::new(whole, "request");
    while let Some(field) = fields.next()? {
        if field.number == 1 {
            all.push(decoder.resource(&field)?);
        }
    }
    Ok(all)
}

pub(super) fn decode_logs(body: &[u8]) -> Result<Vec<ResourceLogs>, Malformed> {
    let whole = Message {
        bytes: body,
        base: 0,
    };
    let mut decoder = Decoder::default();
    let mut all = Vec::new();
    let mut fields = Fields::new(whole, "request");
    while let Some(field) = fields.next()? {
        if field.number == 1 {
            all.push(decoder.resource_logs(&field)?);
        }
    }
    Ok(all)
}

/// Memory that a decoded request may take besides its texts. What is two bytes on the wire may
/// be two hundred here.
const DECODED_BYTES_MAX: usize = 256 << 20;

#[derive(Default)]
struct Decoder {
    points: usize,
    bytes: usize,
}

fn inner<'a>(field: &Field<'a>, name: &'static str) -> Result<Fields<'a>, Malformed> {
    Ok(Fields::new(field.message(name)?, name))
}

fn text(field: &Field<'_>, name: &'static str) -> Result<String, Malformed> {
    field.text(name).map(str::to_owned)
}

/// A `fixed64`.
fn fixed(field: &Field<'_>, name: &'static str) -> Result<u64, Malformed> {
    field.double(name).map(f64::to_bits)
}

/// The numbers of a point's fields, which differ from kind to kind.
struct Numbers {
    attributes: u64,
    exemplars: u64,
    flags: u64,
}

const NUMBER: Numbers = Numbers {
    attributes: 7,
    exemplars: 5,
    flags: 8,
};
const EXPLICIT: Numbers = Numbers {
    attributes: 9,
    exemplars: 8,
    flags: 10,
};
const EXPONENTIAL: Numbers = Numbers {
    attributes: 1,
    exemplars: 11,
    flags: 10,
};
const SUMMARY: Numbers = Numbers {
    attributes: 7,
    exemplars: 0,
    flags: 8,
};

#[allow(clippy::unused_self, reason = "readers of values are of one shape")]
impl Decoder {
    /// Makes room for so many values.
    fn room<T>(&mut self, field: &Field<'_>, count: usize) -> Result<(), Malformed> {
        self.bytes += count * size_of::<T>();
        if self.bytes > DECODED_BYTES_MAX {
            return Err(field.wanted("request", "fewer parts in one request"));
        }
        Ok(())
    }

    /// The attributes of a resource.
    fn attributes(&mut self, field: &Field<'_>, into: &mut Attributes) -> Result<(), Malformed> {
        let mut parts = inner(field, "resource")?;
        while let Some(part) = parts.next()? {
            if part.number == 1 {
                into.push(self.key_value(&part, 0)?);
            }
        }
        Ok(())
    }

    fn resource(&mut self, field: &Field<'_>) -> Result<ResourceMetrics, Malformed> {
        self.room::<ResourceMetrics>(field, 1)?;
        let mut resource = ResourceMetrics::default();
        let mut fields = inner(field, "resource_metrics")?;
        while let Some(part) = fields.next()? {
            match part.number {
                1 => self.attributes(&part, &mut resource.attributes)?,
                2 => resource.scopes.push(self.scope(&part)?),
                _ => {}
            }
        }
        Ok(resource)
    }

    fn scope(&mut self, field: &Field<'_>) -> Result<ScopeMetrics, Malformed> {
        self.room::<ScopeMetrics>(field, 1)?;
        let mut scope = ScopeMetrics::default();
        let mut fields = inner(field, "scope_metrics")?;
        while let Some(part) = fields.next()? {
            match part.number {
                1 => {
                    let mut parts = inner(&part, "scope")?;
                    while let Some(part) = parts.next()? {
                        match part.number {
                            1 => scope.name = text(&part, "scope.name")?,
                            2 => scope.version = text(&part, "scope.version")?,
                            3 => scope.attributes.push(self.key_value(&part, 0)?),
                            _ => {}
                        }
                    }
                }
                2 => scope.metrics.push(self.metric(&part)?),
                3 => scope.schema_url = text(&part, "schema_url")?,
                _ => {}
            }
        }
        Ok(scope)
    }

    fn metric(&mut self, field: &Field<'_>) -> Result<Metric, Malformed> {
        self.room::<Metric>(field, 1)?;
        let mut metric = Metric::default();
        let mut fields = inner(field, "metric")?;
        while let Some(part) = fields.next()? {
            match part.number {
                1 => metric.name = text(&part, "metric.name")?,
                2 => metric.description = text(&part, "metric.description")?,
                3 => metric.unit = text(&part, "metric.unit")?,
                5 => {
                    let (points, ..) = self.points(&part, &NUMBER, Self::number)?;
                    metric.data = Data::Gauge(points);
                }
                7 => {
                    let (points, temporality, is_monotonic) =
                        self.points(&part, &NUMBER, Self::number)?;
                    metric.data = Data::Sum {
                        points,
                        temporality,
                        is_monotonic,
                    };
                }
                9 => {
                    let (points, temporality, _) = self.points(&part, &EXPLICIT, Self::explicit)?;
                    metric.data = Data::Histogram {
                        points,
                        temporality,
                    };
                }
                10 => {
                    let (points, temporality, _) =
                        self.points(&part, &EXPONENTIAL, Self::exponential)?;
                    metric.data = Data::Exponential {
                        points,
                        temporality,
                    };
                }
                11 => {
                    let (points, ..) = self.points(&part, &SUMMARY, Self::summary)?;
                    metric.data = Data::Summary(points);
                }
                _ => {}
            }
        }
        Ok(metric)
    }

    /// The points of a metric, over which time they count, and whether they only rise.
    #[allow(clippy::type_complexity, reason = "read once, in one place")]
    fn points<V: Default>(
        &mut self,
        field: &Field<'_>,
        numbers: &Numbers,
        value: fn(&mut Self, &Field<'_>, &mut V) -> Result<(), Malformed>,
    ) -> Result<(Vec<Point<V>>, Temporality, bool), Malformed> {
        let (mut points, mut temporality, mut is_monotonic) =
            (Vec::new(), Temporality::Unspecified, false);
        let mut fields = inner(field, "metric.data")?;
        while let Some(part) = fields.next()? {
            match part.number {
                1 => {
                    self.points += 1;
                    if self.points > POINTS_MAX {
                        return Err(part.wanted("metric.data", "at most a million points"));
                    }
                    points.push(self.point(&part, numbers, value)?);
                }
                2 => {
                    temporality = match part.varint("metric.data.aggregation_temporality")? {
                        1 => Temporality::Delta,
                        2 => Temporality::Cumulative,
                        _ => Temporality::Unspecified,
                    };
                }
                3 => is_monotonic = part.varint("metric.data.is_monotonic")? != 0,
                _ => {}
            }
        }
        Ok((points, temporality, is_monotonic))
    }

    fn resource_logs(&mut self, field: &Field<'_>) -> Result<ResourceLogs, Malformed> {
        self.room::<ResourceLogs>(field, 1)?;
        let mut resource = ResourceLogs::default();
        let mut fields = inner(field, "resource_logs")?;
        while let Some(part) = fields.next()? {
            match part.number {
                1 => self.attributes(&part, &mut resource.attributes)?,
                2 => resource.scopes.push(self.scope_logs(&part)?),
                _ => {}
            }
        }
        Ok(resource)
    }

    fn scope_logs(&mut self, field: &Field<'_>) -> Result<ScopeLogs, Malformed> {
        self.room::<ScopeLogs>(field, 1)?;
        let mut scope = ScopeLogs::default();
        let mut fields = inner(field, "scope_logs")?;
        while let Some(part) = fields.next()? {
            match part.number {
                1 => {
                    let mut parts = inner(&part, "scope")?;
                    while let Some(part) = parts.next()? {
                        match part.number {
                            1 => scope.name = text(&part, "scope.name")?,
                            2 => scope.version = text(&part, "scope.version")?,
                            3 => scope.attributes.push(self.key_value(&part, 0)?),
                            4 => scope.dropped_attributes = part.varint("scope.dropped")?,
                            _ => {}
                        }
                    }
                }
                2 => {
                    self.points += 1;
                    if self.points > RECORDS_MAX {
                        return Err(part.wanted("log_records", "fewer records in one request"));
                    }
                    scope.records.push(self.log_record(&part)?);
                }
                _ => {}
            }
        }
        Ok(scope)
    }

    fn log_record(&mut self, field: &Field<'_>) -> Result<LogRecord, Malformed> {
        const NAME: &str = "log_record";
        self.room::<LogRecord>(field, 1)?;
        let mut record = LogRecord::default();
        let mut fields = inner(field, NAME)?;
        while let Some(part) = fields.next()? {
            match part.number {
                1 => record.time_ns = fixed(&part, NAME)?,
                2 => record.severity_number = part.varint(NAME)? as i64,
                3 => record.severity_text = text(&part, NAME)?,
                5 => record.body = self.any_value(&part, 0)?,
                6 => record.attributes.push(self.key_value(&part, 0)?),
                7 => record.dropped_attributes = part.varint(NAME)?,
                8 => record.flags = part.fixed32(NAME)?,
                9 => record.trace_id = hex(part.message(NAME)?.bytes),
                10 => record.span_id = hex(part.message(NAME)?.bytes),
                11 => record.observed_ns = fixed(&part, NAME)?,
                12 => record.event_name = text(&part, NAME)?,
                _ => {}
            }
        }
        Ok(record)
    }

    fn key_value(
        &mut self,
        field: &Field<'_>,
        depth: usize,
    ) -> Result<(String, AnyValue), Malformed> {
        const NAME: &str = "attributes";
        self.room::<(String, AnyValue)>(field, 1)?;
        let (mut key, mut value) = (String::new(), AnyValue::Empty);
        let mut fields = inner(field, NAME)?;
        while let Some(part) = fields.next()? {
            match part.number {
                1 => key = text(&part, "attributes.key")?,
                2 => value = self.any_value(&part, depth)?,
                _ => {}
            }
        }
        Ok((key, value))
    }

    fn any_value(&mut self, field: &Field<'_>, depth: usize) -> Result<AnyValue, Malformed> {
        const NAME: &str = "attributes.value";
        self.room::<AnyValue>(field, 1)?;
        if depth > DEPTH_MAX {
            return Err(field.wanted(NAME, "a value that is not nested so deep"));
        }
        let mut value = AnyValue::Empty;
        let mut fields = inner(field, NAME)?;
        while let Some(part) = fields.next()? {
            value = match part.number {
                1 => AnyValue::Text(text(&part, NAME)?),
                2 => AnyValue::Bool(part.varint(NAME)? != 0),
                3 => AnyValue::Int(part.varint(NAME)? as i64),
                4 => AnyValue::Double(part.double(NAME)?),
                5 => {
                    let mut values = Vec::new();
                    let mut items = inner(&part, NAME)?;
                    while let Some(item) = items.next()? {
                        if item.number == 1 {
                            values.push(self.any_value(&item, depth + 1)?);
                        }
                    }
                    AnyValue::Array(values)
                }
                6 => {
                    let mut pairs = Vec::new();
                    let mut items = inner(&part, NAME)?;
                    while let Some(item) = items.next()? {
                        if item.number == 1 {
                            pairs.push(self.key_value(&item, depth + 1)?);
                        }
                    }
                    AnyValue::Map(pairs)
                }
                7 => AnyValue::Bytes(part.message(NAME)?.bytes.to_vec()),
                _ => continue,
            };
        }
        Ok(value)
    }

    fn point<V: Default>(
        &mut self,
        field: &Field<'_>,
        numbers: &Numbers,
        value: fn(&mut Self, &Field<'_>, &mut V) -> Result<(), Malformed>,
    ) -> Result<Point<V>, Malformed> {
        self.room::<Point<V>>(field, 1)?;
        let mut point = Point::default();
        let mut fields = inner(field, "data_points")?;
        while let Some(part) = fields.next()? {
            match part.number {
                2 => point.start_ns = fixed(&part, "data_points.start_time_unix_nano")?,
                3 => point.time_ns = fixed(&part, "data_points.time_unix_nano")?,
                n if n == numbers.attributes => point.attributes.push(self.key_value(&part, 0)?),
                n if n == numbers.exemplars => point.exemplars.push(self.exemplar(&part)?),
                n if n == numbers.flags => {
                    point.is_gone = part.varint("data_points.flags")? & NO_RECORDED_VALUE != 0;
                }
                _ => value(self, &part, &mut point.value)?,
            }
        }
        Ok(point)
    }

    fn number(&mut self, part: &Field<'_>, value: &mut f64) -> Result<(), Malformed> {
        match part.number {
            4 => *value = part.double("data_points.as_double")?,
            6 => *value = fixed(part, "data_points.as_int")? as i64 as f64,
            _ => {}
        }
        Ok(())
    }

    fn explicit(&mut self, part: &Field<'_>, value: &mut Explicit) -> Result<(), Malformed> {
        match part.number {
            4 => value.count = fixed(part, "data_points.count")?,
            5 => value.sum = Some(part.double("data_points.sum")?),
            6 => {
                let mut bits = Vec::new();
                part.doubles("data_points.bucket_counts", &mut bits)?;
                value.buckets.extend(bits.into_iter().map(f64::to_bits));
            }
            7 => part.doubles("data_points.explicit_bounds", &mut value.bounds)?,
            _ => {}
        }
        Ok(())
    }

    fn exponential(&mut self, part: &Field<'_>, value: &mut Exponential) -> Result<(), Malformed> {
        match part.number {
            4 => value.count = fixed(part, "data_points.count")?,
            5 => value.sum = Some(part.double("data_points.sum")?),
            6 => value.scale = unzigzag(part.varint("data_points.scale")?) as i32,
            7 => value.zero_count = fixed(part, "data_points.zero_count")?,
            8 => value.positive = self.buckets(part)?,
            9 => value.negative = self.buckets(part)?,
            14 => value.zero_threshold = part.double("data_points.zero_threshold")?,
            _ => {}
        }
        Ok(())
    }

    fn buckets(&mut self, field: &Field<'_>) -> Result<Buckets, Malformed> {
        const NAME: &str = "data_points.buckets";
        let mut buckets = Buckets::default();
        let mut fields = inner(field, NAME)?;
        while let Some(part) = fields.next()? {
            match part.number {
                1 => buckets.offset = unzigzag(part.varint(NAME)?) as i32,
                2 => {
                    part.varints(NAME, &mut buckets.counts)?;
                    self.room::<u64>(&part, buckets.counts.len())?;
                }
                _ => {}
            }
        }
        Ok(buckets)
    }

    fn summary(&mut self, part: &Field<'_>, value: &mut Summary) -> Result<(), Malformed> {
        match part.number {
            4 => value.count = fixed(part, "data_points.count")?,
            5 => value.sum = part.double("data_points.sum")?,
            6 => {
                const NAME: &str = "data_points.quantile_values";
                let mut quantile = (0.0, 0.0);
                let mut fields = inner(part, NAME)?;
                while let Some(part) = fields.next()? {
                    match part.number {
                        1 => quantile.0 = part.double(NAME)?,
                        2 => quantile.1 = part.double(NAME)?,
                        _ => {}
                    }
                }
                self.room::<(f64, f64)>(part, 1)?;
                value.quantiles.push(quantile);
            }
            _ => {}
        }
        Ok(())
    }

    fn exemplar(&mut self, field: &Field<'_>) -> Result<Exemplar, Malformed> {
        const NAME: &str = "exemplars";
        self.room::<Exemplar>(field, 1)?;
        let mut exemplar = Exemplar::default();
        let mut attributes = Attributes::new();
        let mut fields = inner(field, NAME)?;
        while let Some(part) = fields.next()? {
            match part.number {
                2 => exemplar.time_ns = fixed(&part, NAME)?,
                3 => exemplar.value = part.double(NAME)?,
                4 => exemplar.span_id = hex(part.message(NAME)?.bytes),
                5 => exemplar.trace_id = hex(part.message(NAME)?.bytes),
                6 => exemplar.value = fixed(&part, NAME)? as i64 as f64,
                7 => attributes.push(self.key_value(&part, 0)?),
                _ => {}
            }
        }
        exemplar.attributes = attributes;
        Ok(exemplar)
    }
}
