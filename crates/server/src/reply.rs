//! Answers: JSON as the APIs write it, and errors as they report them.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kittiwake_model::{Labels, StoreError};
use std::fmt::Write as _;

/// Why a request is not answered as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// Prometheus' kind of error.
    pub kind: &'static str,
    /// What is wrong, in the user's terms.
    pub message: String,
}

impl Problem {
    /// The request makes no sense.
    pub fn bad_data(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_data", message)
    }

    /// The server cannot do it now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    /// Something failed that should not.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    /// A problem of any kind.
    pub fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            message: message.into(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::Cancelled => Self::new(client_gone(), "canceled", message),
            StoreError::TimedOut => Self::unavailable(message).of_kind("timeout"),
            StoreError::LimitExceeded(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "execution", message)
            }
            StoreError::Failed(_) => Self::internal(message),
        }
    }
}

/// The status that nginx uses when the client has gone.
fn client_gone() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

impl Problem {
    fn of_kind(mut self, kind: &'static str) -> Self {
        self.kind = kind;
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = String::from(r#"{"status":"error","errorType":"#);
        push_json_str(&mut body, self.kind);
        body.push_str(r#","error":"#);
        push_json_str(&mut body, &self.message);
        body.push('}');
        (self.status, json(body)).into_response()
    }
}

/// A JSON body.
pub fn json(body: String) -> Response {
    let mut response = body.into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// `{"status":"success","data":...}`.
pub fn success(data: &str) -> Response {
    json(format!(r#"{{"status":"success","data":{data}}}"#))
}

/// What is said of an answer that a limit cut.
pub const TRUNCATED: &str = "results truncated due to limit";

/// As [`success`], with warnings and remarks where there are some.
pub fn success_noted(data: &str, warnings: &[String], infos: &[String]) -> Response {
    let mut body = format!(r#"{{"status":"success","data":{data}"#);
    for (name, notes) in [("warnings", warnings), ("infos", infos)] {
        if !notes.is_empty() {
            body.push_str(",\"");
            body.push_str(name);
            body.push_str("\":");
            push_json_strs(&mut body, notes);
        }
    }
    body.push('}');
    json(body)
}

/// A path that no API has.
pub fn not_found(path: &str) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "not_found",
        format!("no such path: {path}"),
    )
}

/// Appends a JSON string.
pub fn push_json_str(out: &mut String, text: &str) {
    let is_plain = |b: u8| b >= b' ' && b != b'"' && b != b'\\';
    // All bytes are looked at, without a branch for each: most texts are plain.
    if text.bytes().fold(true, |plain, b| plain & is_plain(b)) {
        out.push('"');
        out.push_str(text);
        out.push('"');
        return;
    }
    // Serialising a string cannot fail.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// Appends a JSON array of strings.
pub fn push_json_strs<T: AsRef<str>>(out: &mut String, texts: impl IntoIterator<Item = T>) {
    out.push('[');
    for (index, text) in texts.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_json_str(out, text.as_ref());
    }
    out.push(']');
}

/// Appends labels as a JSON object.
pub fn push_json_labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (index, (name, value)) in labels.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_json_str(out, name);
        out.push(':');
        push_json_str(out, value);
    }
    out.push('}');
}

/// Appends a time in ms as Unix seconds, as Prometheus writes it: three digits of a fraction
/// unless it is whole.
pub fn push_seconds(out: &mut String, time_ms: i64) {
    if time_ms < 0 {
        out.push('-');
    }
    let ms = time_ms.unsigned_abs();
    out.push_str(itoa::Buffer::new().format(ms / 1000));
    if !ms.is_multiple_of(1000) {
        // Writing to a string cannot fail.
        let _ = write!(out, ".{:03}", ms % 1000);
    }
}

/// Integers below this are doubles without loss.
const EXACT_MAX: f64 = 1e15;
const PLAIN_MIN: f64 = 1e-3;

/// Appends a value as Prometheus' JSON has it: shortest digits, an exponent only for the very
/// large and the very small.
pub fn push_value(out: &mut String, value: f64) {
    let size = value.abs();
    if value == value.trunc() && size < EXACT_MAX && value.to_bits() != (-0.0_f64).to_bits() {
        out.push_str(itoa::Buffer::new().format(value as i64));
    } else if (PLAIN_MIN..EXACT_MAX).contains(&size) {
        // In between it writes no exponent either.
        out.push_str(zmij::Buffer::new().format_finite(value));
    } else if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else if value != 0.0 && !(1e-6..1e21).contains(&value.abs()) {
        push_scientific(out, value);
    } else {
        out.push_str(&value.to_string());
    }
}

/// Appends a value with an exponent of a sign and at least two digits, as Go has it.
fn push_scientific(out: &mut String, value: f64) {
    let text = format!("{value:e}");
    let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, power) = power.strip_prefix('-').map_or(('+', power), |p| ('-', p));
    // Writing to a string cannot fail.
    let _ = write!(out, "{digits}e{sign}{power:0>2}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn digits_are_the_shortest_that_come_back(bits: u64, whole: i32, places in 0..12) {
            let decimal = f64::from(whole) / 10_f64.powi(places);
            for value in [f64::from_bits(bits), decimal, decimal * 1e7] {
                if !value.is_finite() || !(value == 0.0 || (1e-6..1e21).contains(&value.abs())) {
                    continue;
                }
                let mut out = String::new();
                push_value(&mut out, value);
                prop_assert_eq!(out, value.to_string());
            }
        }

        #[test]
        fn texts_are_those_of_serde(text in ".{0,20}") {
            let mut out = String::new();
            push_json_str(&mut out, &text);
            prop_assert_eq!(out, serde_json::to_string(&text).unwrap());
        }
    }

    #[test]
    fn numbers_as_prometheus_writes_them() {
        for (value, want) in [
            (1.0, "1"),
            (-0.0, "-0"),
            (0.1, "0.1"),
            (1e21, "1e+21"),
            (123_456_789_012_345_680_000.0, "123456789012345680000"),
            (1e-7, "1e-07"),
            (-8.8e-7, "-8.8e-07"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (2.5e-10, "2.5e-10"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            let mut out = String::new();
            push_value(&mut out, value);
            assert_eq!(out, want);
        }
        for (ms, want) in [
            (1_500, "1.500"),
            (1_435_781_451_781, "1435781451.781"),
            (-1_001, "-1.001"),
            (2_000, "2"),
        ] {
            let mut out = String::new();
            push_seconds(&mut out, ms);
            assert_eq!(out, want);
        }
    }
}
