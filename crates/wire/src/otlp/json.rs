//! The JSON form: names in lower camel case, whole numbers of 64 bits as texts or numbers.

use super::logs::{LogRecord, RECORDS_MAX, ResourceLogs, ScopeLogs};
use super::value::from_base64;
use super::{
    AnyValue, Attributes, Buckets, Data, Exemplar, Explicit, Exponential, Metric,
    NO_RECORDED_VALUE, POINTS_MAX, Point, ResourceMetrics, ScopeMetrics, Summary, Temporality,
};
use crate::float::parse_float;
use crate::json::{JsonError, Reader};

/// Levels of nesting of a value.
const DEPTH_MAX: usize = 16;
/// Elements of all lists of a request: what is two bytes there may be two hundred in memory.
const ELEMENTS_MAX: usize = 2_000_000;

pub(super) fn decode(body: &[u8]) -> Result<Vec<ResourceMetrics>, JsonError> {
    let mut decoder = Decoder {
        reader: Reader::new(body),
        points: 0,
        elements: 0,
    };
    let mut all = Vec::new();
    decoder.object(|d, key| {
        if key != "resourceMetrics" {
            return d.reader.skip_value();
        }
        d.list(|d| {
            all.push(d.resource()?);
            Ok(())
        })
    })?;
    decoder.reader.end()?;
    Ok(all)
}

pub(super) fn decode_logs(body: &[u8]) -> Result<Vec<ResourceLogs>, JsonError> {
    let mut decoder = Decoder {
        reader: Reader::new(body),
        points: 0,
        elements: 0,
    };
    let mut all = Vec::new();
    decoder.object(|d, key| {
        if key != "resourceLogs" {
            return d.reader.skip_value();
        }
        d.list(|d| {
            all.push(d.resource_logs()?);
            Ok(())
        })
    })?;
    decoder.reader.end()?;
    Ok(all)
}

struct Decoder<'a> {
    reader: Reader<'a>,
    points: usize,
    elements: usize,
}

impl Decoder<'_> {
    /// Whether the next value is null, which says nothing; it is taken then.
    fn null(&mut self) -> Result<bool, JsonError> {
        let is_null = self.reader.peek() == Some(b'n');
        if is_null {
            self.reader.skip_value()?;
        }
        Ok(is_null)
    }

    fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &str) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        if self.null()? {
            return Ok(());
        }
        self.reader.expect(b'{', "an object")?;
        let mut first = true;
        while let Some(key) = self.reader.next_key(&mut first)? {
            if !self.null()? {
                member(self, &key)?;
            }
        }
        Ok(())
    }

    fn list(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.reader.expect(b'[', "an array")?;
        let mut first = true;
        while self.reader.next_element(&mut first)? {
            self.elements += 1;
            if self.elements > ELEMENTS_MAX {
                return Err(self.reader.wanted("fewer elements in one request"));
            }
            item(self)?;
        }
        Ok(())
    }

    fn text(&mut self) -> Result<String, JsonError> {
        self.reader.string().map(std::borrow::Cow::into_owned)
    }

    /// A number, or one in quotes.
    fn word(&mut self) -> Result<Vec<u8>, JsonError> {
        if self.reader.peek() == Some(b'"') {
            return Ok(self.text()?.into_bytes());
        }
        self.reader.scalar().map(<[u8]>::to_vec)
    }

    fn whole<T: std::str::FromStr>(&mut self) -> Result<T, JsonError> {
        let at = self.reader.position();
        let word = self.word()?;
        let number = std::str::from_utf8(&word).ok().and_then(|w| w.parse().ok());
        number.ok_or(JsonError {
            at,
            wanted: "a whole number",
        })
    }

    fn double(&mut self) -> Result<f64, JsonError> {
        let at = self.reader.position();
        let word = self.word()?;
        match word.as_slice() {
            b"Infinity" => Ok(f64::INFINITY),
            b"-Infinity" => Ok(f64::NEG_INFINITY),
            word => parse_float(word).ok_or(JsonError {
                at,
                wanted: "a number",
            }),
        }
    }

    fn bool(&mut self) -> Result<bool, JsonError> {
        let at = self.reader.position();
        match self.reader.scalar()? {
            b"true" => Ok(true),
            b"false" => Ok(false),
            _ => Err(JsonError {
                at,
                wanted: "true or false",
            }),
        }
    }

    fn attributes(&mut self, into: &mut Attributes, depth: usize) -> Result<(), JsonError> {
        self.list(|d| {
            let (mut name, mut value) = (String::new(), AnyValue::Empty);
            d.object(|d, key| {
                match key {
                    "key" => name = d.text()?,
                    "value" => value = d.any_value(depth)?,
                    _ => d.reader.skip_value()?,
                }
                Ok(())
            })?;
            into.push((name, value));
            Ok(())
        })
    }

    fn any_value(&mut self, depth: usize) -> Result<AnyValue, JsonError> {
        if depth > DEPTH_MAX {
            return Err(self.reader.wanted("a value that is not nested so deep"));
        }
        let mut value = AnyValue::Empty;
        self.object(|d, key| {
            value = match key {
                "stringValue" => AnyValue::Text(d.text()?),
                "boolValue" => AnyValue::Bool(d.bool()?),
                "intValue" => AnyValue::Int(d.whole()?),
                "doubleValue" => AnyValue::Double(d.double()?),
                "bytesValue" => {
                    let text = d.text()?;
                    let bytes = from_base64(&text);
                    AnyValue::Bytes(bytes.ok_or_else(|| d.reader.wanted("text of base 64"))?)
                }
                "arrayValue" => {
                    let mut values = Vec::new();
                    d.object(|d, key| {
                        if key != "values" {
                            return d.reader.skip_value();
                        }
                        d.list(|d| {
                            values.push(d.any_value(depth + 1)?);
                            Ok(())
                        })
                    })?;
                    AnyValue::Array(values)
                }
                "kvlistValue" => {
                    let mut pairs = Vec::new();
                    d.object(|d, key| {
                        if key != "values" {
                            return d.reader.skip_value();
                        }
                        d.attributes(&mut pairs, depth + 1)
                    })?;
                    AnyValue::Map(pairs)
                }
                _ => return d.reader.skip_value(),
            };
            Ok(())
        })?;
        Ok(value)
    }

    fn resource_logs(&mut self) -> Result<ResourceLogs, JsonError> {
        let mut resource = ResourceLogs::default();
        self.object(|d, key| match key {
            "resource" => d.object(|d, key| match key {
                "attributes" => d.attributes(&mut resource.attributes, 0),
                _ => d.reader.skip_value(),
            }),
            "scopeLogs" => d.list(|d| {
                let scope = d.scope_logs()?;
                resource.scopes.push(scope);
                Ok(())
            }),
            _ => d.reader.skip_value(),
        })?;
        Ok(resource)
    }

    fn scope_logs(&mut self) -> Result<ScopeLogs, JsonError> {
        let mut scope = ScopeLogs::default();
        self.object(|d, key| match key {
            "scope" => d.object(|d, key| {
                match key {
                    "name" => scope.name = d.text()?,
                    "version" => scope.version = d.text()?,
                    "attributes" => d.attributes(&mut scope.attributes, 0)?,
                    "droppedAttributesCount" => scope.dropped_attributes = d.whole()?,
                    _ => d.reader.skip_value()?,
                }
                Ok(())
            }),
            "logRecords" => d.list(|d| {
                d.points += 1;
                if d.points > RECORDS_MAX {
                    return Err(d.reader.wanted("fewer records in one request"));
                }
                let record = d.log_record()?;
                scope.records.push(record);
                Ok(())
            }),
            _ => d.reader.skip_value(),
        })?;
        Ok(scope)
    }

    fn log_record(&mut self) -> Result<LogRecord, JsonError> {
        let mut record = LogRecord::default();
        self.object(|d, key| {
            match key {
                "timeUnixNano" => record.time_ns = d.whole()?,
                "observedTimeUnixNano" => record.observed_ns = d.whole()?,
                "severityNumber" => record.severity_number = d.whole()?,
                "severityText" => record.severity_text = d.text()?,
                "body" => record.body = d.any_value(0)?,
                "attributes" => d.attributes(&mut record.attributes, 0)?,
                "droppedAttributesCount" => record.dropped_attributes = d.whole()?,
                "flags" => record.flags = d.whole()?,
                "traceId" => record.trace_id = d.text()?.to_lowercase(),
                "spanId" => record.span_id = d.text()?.to_lowercase(),
                "eventName" => record.event_name = d.text()?,
                _ => d.reader.skip_value()?,
            }
            Ok(())
        })?;
        Ok(record)
    }

    fn resource(&mut self) -> Result<ResourceMetrics, JsonError> {
        let mut resource = ResourceMetrics::default();
        self.object(|d, key| match key {
            "resource" => d.object(|d, key| match key {
                "attributes" => d.attributes(&mut resource.attributes, 0),
                _ => d.reader.skip_value(),
            }),
            "scopeMetrics" => d.list(|d| {
                let scope = d.scope()?;
                resource.scopes.push(scope);
                Ok(())
            }),
            _ => d.reader.skip_value(),
        })?;
        Ok(resource)
    }

    fn scope(&mut self) -> Result<ScopeMetrics, JsonError> {
        let mut scope = ScopeMetrics::default();
        self.object(|d, key| {
            match key {
                "scope" => d.object(|d, key| {
                    match key {
                        "name" => scope.name = d.text()?,
                        "version" => scope.version = d.text()?,
                        "attributes" => d.attributes(&mut scope.attributes, 0)?,
                        _ => d.reader.skip_value()?,
                    }
                    Ok(())
                })?,
                "schemaUrl" => scope.schema_url = d.text()?,
                "metrics" => d.list(|d| {
                    let metric = d.metric()?;
                    scope.metrics.push(metric);
                    Ok(())
                })?,
                _ => d.reader.skip_value()?,
            }
            Ok(())
        })?;
        Ok(scope)
    }

    fn metric(&mut self) -> Result<Metric, JsonError> {
        let mut metric = Metric::default();
        self.object(|d, key| {
            match key {
                "name" => metric.name = d.text()?,
                "description" => metric.description = d.text()?,
                "unit" => metric.unit = d.text()?,
                "gauge" => metric.data = Data::Gauge(d.data(number)?.0),
                "sum" => {
                    let (points, temporality, is_monotonic) = d.data(number)?;
                    metric.data = Data::Sum {
                        points,
                        temporality,
                        is_monotonic,
                    };
                }
                "histogram" => {
                    let (points, temporality, _) = d.data(explicit)?;
                    metric.data = Data::Histogram {
                        points,
                        temporality,
                    };
                }
                "exponentialHistogram" => {
                    let (points, temporality, _) = d.data(exponential)?;
                    metric.data = Data::Exponential {
                        points,
                        temporality,
                    };
                }
                "summary" => metric.data = Data::Summary(d.data(summary)?.0),
                _ => d.reader.skip_value()?,
            }
            Ok(())
        })?;
        Ok(metric)
    }

    #[allow(clippy::type_complexity, reason = "read once, in one place")]
    fn data<V: Default>(
        &mut self,
        value: fn(&mut Self, &str, &mut V) -> Result<(), JsonError>,
    ) -> Result<(Vec<Point<V>>, Temporality, bool), JsonError> {
        let (mut points, mut temporality, mut is_monotonic) =
            (Vec::new(), Temporality::Unspecified, false);
        self.object(|d, key| {
            match key {
                "dataPoints" => d.list(|d| {
                    d.points += 1;
                    if d.points > POINTS_MAX {
                        return Err(d.reader.wanted("at most a million points"));
                    }
                    points.push(d.point(value)?);
                    Ok(())
                })?,
                "aggregationTemporality" => {
                    temporality = match d.word()?.as_slice() {
                        b"1" | b"AGGREGATION_TEMPORALITY_DELTA" => Temporality::Delta,
                        b"2" | b"AGGREGATION_TEMPORALITY_CUMULATIVE" => Temporality::Cumulative,
                        _ => Temporality::Unspecified,
                    };
                }
                "isMonotonic" => is_monotonic = d.bool()?,
                _ => d.reader.skip_value()?,
            }
            Ok(())
        })?;
        Ok((points, temporality, is_monotonic))
    }

    fn point<V: Default>(
        &mut self,
        value: fn(&mut Self, &str, &mut V) -> Result<(), JsonError>,
    ) -> Result<Point<V>, JsonError> {
        let mut point = Point::default();
        self.object(|d, key| {
            match key {
                "attributes" => d.attributes(&mut point.attributes, 0)?,
                "startTimeUnixNano" => point.start_ns = d.whole()?,
                "timeUnixNano" => point.time_ns = d.whole()?,
                "flags" => point.is_gone = d.whole::<u64>()? & NO_RECORDED_VALUE != 0,
                "exemplars" => d.list(|d| {
                    let exemplar = d.exemplar()?;
                    point.exemplars.push(exemplar);
                    Ok(())
                })?,
                other => value(d, other, &mut point.value)?,
            }
            Ok(())
        })?;
        Ok(point)
    }

    fn exemplar(&mut self) -> Result<Exemplar, JsonError> {
        let mut exemplar = Exemplar::default();
        self.object(|d, key| {
            match key {
                "filteredAttributes" => d.attributes(&mut exemplar.attributes, 0)?,
                "timeUnixNano" => exemplar.time_ns = d.whole()?,
                "asDouble" => exemplar.value = d.double()?,
                "asInt" => exemplar.value = d.whole::<i64>()? as f64,
                "traceId" => exemplar.trace_id = d.text()?.to_ascii_lowercase(),
                "spanId" => exemplar.span_id = d.text()?.to_ascii_lowercase(),
                _ => d.reader.skip_value()?,
            }
            Ok(())
        })?;
        Ok(exemplar)
    }

    fn wholes(&mut self) -> Result<Vec<u64>, JsonError> {
        let mut all = Vec::new();
        self.list(|d| {
            all.push(d.whole()?);
            Ok(())
        })?;
        Ok(all)
    }

    fn buckets(&mut self) -> Result<Buckets, JsonError> {
        let mut buckets = Buckets::default();
        self.object(|d, key| {
            match key {
                "offset" => buckets.offset = d.whole()?,
                "bucketCounts" => buckets.counts = d.wholes()?,
                _ => d.reader.skip_value()?,
            }
            Ok(())
        })?;
        Ok(buckets)
    }
}

fn number(d: &mut Decoder<'_>, key: &str, value: &mut f64) -> Result<(), JsonError> {
    match key {
        "asDouble" => *value = d.double()?,
        "asInt" => *value = d.whole::<i64>()? as f64,
        _ => d.reader.skip_value()?,
    }
    Ok(())
}

fn explicit(d: &mut Decoder<'_>, key: &str, value: &mut Explicit) -> Result<(), JsonError> {
    match key {
        "count" => value.count = d.whole()?,
        "sum" => value.sum = Some(d.double()?),
        "bucketCounts" => value.buckets = d.wholes()?,
        "explicitBounds" => d.list(|d| {
            let bound = d.double()?;
            value.bounds.push(bound);
            Ok(())
        })?,
        _ => d.reader.skip_value()?,
    }
    Ok(())
}

fn exponential(d: &mut Decoder<'_>, key: &str, value: &mut Exponential) -> Result<(), JsonError> {
    match key {
        "count" => value.count = d.whole()?,
        "sum" => value.sum = Some(d.double()?),
        "scale" => value.scale = d.whole()?,
        "zeroCount" => value.zero_count = d.whole()?,
        "zeroThreshold" => value.zero_threshold = d.double()?,
        "positive" => value.positive = d.buckets()?,
        "negative" => value.negative = d.buckets()?,
        _ => d.reader.skip_value()?,
    }
    Ok(())
}

fn summary(d: &mut Decoder<'_>, key: &str, value: &mut Summary) -> Result<(), JsonError> {
    match key {
        "count" => value.count = d.whole()?,
        "sum" => value.sum = d.double()?,
        "quantileValues" => d.list(|d| {
            let mut quantile = (0.0, 0.0);
            d.object(|d, key| {
                match key {
                    "quantile" => quantile.0 = d.double()?,
                    "value" => quantile.1 = d.double()?,
                    _ => d.reader.skip_value()?,
                }
                Ok(())
            })?;
            value.quantiles.push(quantile);
            Ok(())
        })?,
        _ => d.reader.skip_value()?,
    }
    Ok(())
}
