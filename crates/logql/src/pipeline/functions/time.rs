//! Times in templates, with Go's layouts (`2006-01-02T15:04:05Z07:00`).

use kittiwake_template::Value;
use kittiwake_template::time::{format, parse};

use super::{Answer, Arguments};

pub(super) fn call(name: &str, args: &Arguments<'_>, line_ns: i64) -> Answer {
    match name {
        // The answer to a query must not depend on when it is asked: the line's own time.
        "now" => Ok(Value::Time(line_ns, 0)),
        "date" => {
            args.exactly(2)?;
            let (ns, offset) = instant(args, 1)?;
            Ok(Value::text(format(args.text(0)?, ns, offset)))
        }
        "toDate" => {
            args.exactly(2)?;
            let (layout, text) = (args.text(0)?, args.text(1)?);
            Ok(Value::Time(parse(layout, text).unwrap_or(ZERO_NS), 0))
        }
        "toDateInZone" => {
            args.exactly(3)?;
            let (layout, text) = (args.text(0)?, args.text(2)?);
            Ok(Value::Time(parse(layout, text).unwrap_or(ZERO_NS), 0))
        }
        "unixEpoch" => Ok(Value::text(
            instant(args, 0)?.0.div_euclid(1_000_000_000).to_string(),
        )),
        "unixEpochMillis" => Ok(Value::text(
            instant(args, 0)?.0.div_euclid(1_000_000).to_string(),
        )),
        "unixEpochNanos" => Ok(Value::text(instant(args, 0)?.0.to_string())),
        _ => {
            let text = args.text(0)?;
            let bad = || format!("unable to parse time '{text}'");
            let number: i64 = text.parse().map_err(|_| bad())?;
            let scale = match text.len() {
                5 => 86_400_000_000_000,
                10 => 1_000_000_000,
                13 => 1_000_000,
                16 => 1_000,
                19 => 1,
                _ => return Err(bad()),
            };
            Ok(Value::Time(number.saturating_mul(scale), 0))
        }
    }
}

/// Go's zero time is out of range in ns; the earliest one stands for it.
const ZERO_NS: i64 = i64::MIN;

fn instant(args: &Arguments<'_>, at: usize) -> Result<(i64, i32), String> {
    match args.get(at)? {
        Value::Time(ns, offset) => Ok((*ns, *offset)),
        Value::Int(seconds) => Ok((seconds.saturating_mul(1_000_000_000), 0)),
        other => Err(format!(
            "wrong type for value; expected time.Time; got {}",
            other.type_name()
        )),
    }
}
