//! Methods that Go's times and durations have in templates.

use crate::{Value, time};

/// Calls a method of a time or a duration; `None` when the value has no such one.
pub fn method(value: &Value, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
    match value {
        Value::Time(ns, offset) => time_method((*ns, *offset), name, arguments),
        Value::Duration(ns) => duration_method(*ns, name),
        _ => None,
    }
}

fn wrong(arguments: &[Value], wanted: &str) -> String {
    let got = arguments.first().map_or("nothing", Value::type_name);
    format!("wrong type for value; expected {wanted}; got {got}")
}

fn duration_method(ns: i64, name: &str) -> Option<Result<Value, String>> {
    let divided = |by: f64| Some(Ok(Value::Float(ns as f64 / by)));
    match name {
        "Seconds" => divided(1e9),
        "Minutes" => divided(60e9),
        "Hours" => divided(3600e9),
        "Milliseconds" => Some(Ok(Value::Int(ns / 1_000_000))),
        "Microseconds" => Some(Ok(Value::Int(ns / 1_000))),
        "Nanoseconds" => Some(Ok(Value::Int(ns))),
        "String" => Some(Ok(Value::text(Value::Duration(ns).to_string()))),
        _ => None,
    }
}

fn time_method(
    (ns, offset): (i64, i32),
    name: &str,
    arguments: &[Value],
) -> Option<Result<Value, String>> {
    let other = || match arguments.first() {
        Some(Value::Time(ns, _)) => Ok(*ns),
        _ => Err(wrong(arguments, "time.Time")),
    };
    Some(match name {
        "Format" => match arguments.first().and_then(Value::as_text) {
            Some(layout) => Ok(Value::text(time::format(layout, ns, offset))),
            None => Err(wrong(arguments, "string")),
        },
        "Unix" => Ok(Value::Int(ns.div_euclid(1_000_000_000))),
        "UnixMilli" => Ok(Value::Int(ns.div_euclid(1_000_000))),
        "UnixNano" => Ok(Value::Int(ns)),
        "Year" | "Day" | "Hour" | "Minute" | "Second" | "YearDay" => {
            let layout = match name {
                "Year" => "2006",
                "Day" => "2",
                "Hour" => "15",
                "Minute" => "4",
                "Second" => "5",
                _ => "002",
            };
            let number = time::format(layout, ns, offset).parse();
            Ok(Value::Int(number.unwrap_or(0)))
        }
        "Month" => Ok(Value::text(time::format("January", ns, offset))),
        "Weekday" => Ok(Value::text(time::format("Monday", ns, offset))),
        "UTC" => Ok(Value::Time(ns, 0)),
        "IsZero" => Ok(Value::Bool(ns == i64::MIN)),
        "Sub" => other().map(|other| Value::Duration(ns.saturating_sub(other))),
        "After" => other().map(|other| Value::Bool(ns > other)),
        "Before" => other().map(|other| Value::Bool(ns < other)),
        "Equal" => other().map(|other| Value::Bool(ns == other)),
        "Add" => match arguments.first() {
            Some(Value::Duration(by)) => Ok(Value::Time(ns.saturating_add(*by), offset)),
            _ => Err(wrong(arguments, "time.Duration")),
        },
        "String" => Ok(Value::text(Value::Time(ns, offset).to_string())),
        _ => return None,
    })
}
