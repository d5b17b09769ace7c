//! Samples of OpenMetrics, 1.0 and 2.0.

use kittiwake_model::{Labels, TimestampMs};

use super::cursor::Cursor;
use super::read::ScrapedExemplar;
use super::{ExpositionError, Format, Item, MetricType, Sample, VALUE, braces_into};
use crate::float::parse_float;

/// Characters of an exemplar's labels, names and values together, in OpenMetrics 1.0.
const EXEMPLAR_CHARS_MAX: usize = 128;
/// Labels of an exemplar.
const EXEMPLAR_LABELS_MAX: usize = 64;
const EXEMPLAR: &str = "an exemplar, `# {labels} value`";

/// A sample. Its exemplar may have braces too, so quotes are respected.
pub(super) fn sample(
    mut cursor: Cursor<'_>,
    format: Format,
    kind: MetricType,
) -> Result<Item<'_>, ExpositionError> {
    let rest = cursor.rest();
    let name_len = memchr::memchr2(b'{', b' ', rest).unwrap_or(rest.len());
    if name_len == rest.len() {
        return Err(cursor.wanted_at(name_len, "a blank and a value"));
    }
    let len = if rest[name_len] == b'{' {
        name_len + cursor.braces_len(name_len)?
    } else {
        name_len
    };
    let mut sample = Sample {
        series: cursor.advance(len),
        value: f64::NAN,
        time_ms: None,
        start_ms: None,
        exemplars: &[],
        kind,
        line: cursor.line(),
        column: 0,
        format,
    };
    cursor.expect(b' ', "a blank and a value")?;
    let start = cursor.position();
    let is_composite = format == Format::OpenMetrics2 && cursor.peek() == Some(b'{');
    let mut composite: &[u8] = &[];
    if is_composite {
        let len = cursor.braces_len(0)?;
        composite = &cursor.advance(len)[1..len - 1];
    } else {
        let value = parse_float(cursor.word());
        sample.value = value.ok_or_else(|| cursor.wanted_at(start, VALUE))?;
    }
    tail(&mut cursor, format, &mut sample)?;
    Ok(if is_composite {
        Item::Composite(sample, composite)
    } else {
        Item::Sample(sample)
    })
}

/// What stands behind the value: time, start time, exemplars.
fn tail<'a>(
    cursor: &mut Cursor<'a>,
    format: Format,
    sample: &mut Sample<'a>,
) -> Result<(), ExpositionError> {
    const TIME: &str = "a blank and a time or an exemplar";
    while !cursor.at_end() {
        cursor.expect(b' ', TIME)?;
        match cursor.peek() {
            Some(b'#') => {
                sample.exemplars = cursor.rest();
                return exemplars(cursor, format);
            }
            Some(b's') if format == Format::OpenMetrics2 && sample.start_ms.is_none() => {
                for byte in *b"st@" {
                    cursor.expect(byte, "`st@` and a time in seconds")?;
                }
                sample.start_ms = Some(seconds_as_ms(cursor)?);
            }
            _ if sample.time_ms.is_none() && sample.start_ms.is_none() => {
                sample.time_ms = Some(seconds_as_ms(cursor)?);
            }
            _ => return Err(cursor.wanted(EXEMPLAR)),
        }
    }
    Ok(())
}

fn seconds_as_ms(cursor: &mut Cursor<'_>) -> Result<TimestampMs, ExpositionError> {
    let start = cursor.position();
    match parse_float(cursor.word()) {
        // Beyond what ms hold, the cast gives the last time that they hold.
        Some(seconds) if seconds.is_finite() => Ok((seconds * 1000.0).round() as i64),
        _ => Err(cursor.wanted_at(start, "a time in seconds")),
    }
}

/// Goes behind the exemplars, each `# {labels} value [seconds]`: one, or in 2.0 many.
fn exemplars(cursor: &mut Cursor<'_>, format: Format) -> Result<(), ExpositionError> {
    loop {
        exemplar(cursor)?;
        if cursor.at_end() {
            return Ok(());
        }
        if format != Format::OpenMetrics2 {
            return cursor.expect_end();
        }
        cursor.expect(b' ', "a blank and an exemplar")?;
    }
}

/// Goes behind an exemplar and gives its labels' braces, value and time.
fn exemplar<'a>(
    cursor: &mut Cursor<'a>,
) -> Result<(Cursor<'a>, f64, Option<TimestampMs>), ExpositionError> {
    cursor.expect(b'#', EXEMPLAR)?;
    cursor.expect(b' ', EXEMPLAR)?;
    if cursor.peek() != Some(b'{') {
        return Err(cursor.wanted(EXEMPLAR));
    }
    let labels = cursor.clone();
    let len = cursor.braces_len(0)?;
    let labels = labels.cut(len);
    cursor.advance(len);
    cursor.expect(b' ', EXEMPLAR)?;
    let start = cursor.position();
    let value = parse_float(cursor.word()).ok_or_else(|| cursor.wanted_at(start, VALUE))?;
    let mut time_ms = None;
    if !cursor.at_end() && !cursor.rest().starts_with(b" #") {
        cursor.expect(b' ', "a blank")?;
        time_ms = Some(seconds_as_ms(cursor)?);
    }
    Ok((labels, value, time_ms))
}

/// Appends a sample's exemplars.
pub(super) fn exemplars_into(
    sample: &Sample<'_>,
    into: &mut Vec<ScrapedExemplar>,
) -> Result<(), ExpositionError> {
    if sample.exemplars.is_empty() {
        return Ok(());
    }
    let line = sample.line;
    let mut cursor = Cursor::new(sample.exemplars, line, 0, sample.format);
    let mut pairs = Vec::new();
    loop {
        let (mut labels, value, time_ms) = exemplar(&mut cursor)?;
        pairs.clear();
        // A name alone in quotes would be a metric's: an exemplar has none.
        pairs.push(("".into(), "".into()));
        braces_into(&mut labels, sample.format, EXEMPLAR_LABELS_MAX, &mut pairs)?;
        pairs.remove(0);
        let chars = |text: &str| text.chars().count();
        let all: usize = pairs.iter().map(|(n, v)| chars(n) + chars(v)).sum();
        if sample.format == Format::OpenMetrics && all > EXEMPLAR_CHARS_MAX {
            return Err(labels.wanted("an exemplar's labels of at most 128 characters"));
        }
        let labels = Labels::from_pairs(pairs.drain(..))
            .map_err(|source| ExpositionError::Labels { line, source })?;
        into.push(ScrapedExemplar {
            labels,
            value,
            time_ms,
        });
        if cursor.at_end() {
            return Ok(());
        }
        cursor.expect(b' ', "a blank and an exemplar")?;
    }
}
