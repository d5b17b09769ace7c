//! Parameters of requests: from the query string and, for POST, from a form.

use axum::extract::{FromRequestParts, Path};
use axum::http::Uri;
use axum::http::request::Parts;
use kittiwake_config::parse_duration;
use kittiwake_wire::time::{parse_rfc3339, parse_rfc3339_ms};

use crate::reply::Problem;

/// A text in a request's path.
#[derive(Debug, Clone)]
pub struct InPath(pub String);

impl<S: Send + Sync> FromRequestParts<S> for InPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(text)) => Ok(Self(text)),
            Err(error) => Err(Problem::bad_data(error.body_text())),
        }
    }
}

/// Parameters in the order in which they came; a name can come several times.
#[derive(Debug, Clone, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Those of the query string, then those of a form's body.
    pub fn of(uri: &Uri, form: &[u8]) -> Self {
        let query = uri.query().unwrap_or("").as_bytes();
        let pairs = form_urlencoded::parse(form).into_owned();
        Self(
            pairs
                .chain(form_urlencoded::parse(query).into_owned())
                .collect(),
        )
    }

    /// The first value of a parameter; an empty one counts as none.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of a parameter, also empty ones.
    pub fn all_given(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.0.iter().filter(move |(n, _)| n == name);
        named.map(|(_, value)| value.as_str())
    }

    /// All values of a parameter that are not empty.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self
            .0
            .iter()
            .filter(move |(n, v)| n == name && !v.is_empty());
        named.map(|(_, value)| value.as_str())
    }

    /// A value that must be there.
    pub fn required(&self, name: &'static str) -> Result<&str, Problem> {
        self.get(name)
            .ok_or_else(|| Problem::bad_data(format!("invalid parameter {name:?}: it is missing")))
    }

    /// A time in ms, as Prometheus writes it: Unix seconds with a fraction, or RFC 3339.
    pub fn time_ms(&self, name: &str) -> Result<Option<i64>, Problem> {
        self.get(name)
            .map(|text| {
                parse_time_ms(text).ok_or_else(|| {
                    Problem::bad_data(format!(
                        "invalid parameter {name:?}: cannot parse {text:?} to a valid timestamp"
                    ))
                })
            })
            .transpose()
    }

    /// A duration in ms: seconds with a fraction, or like `1h30m`.
    pub fn duration_ms(&self, name: &str) -> Result<Option<i64>, Problem> {
        self.get(name)
            .map(|text| {
                parse_duration_ms(text).ok_or_else(|| {
                    Problem::bad_data(format!(
                        "invalid parameter {name:?}: cannot parse {text:?} to a valid duration"
                    ))
                })
            })
            .transpose()
    }

    /// A time in ns, as Loki writes it: Unix ns, Unix seconds with a fraction or of ten digits
    /// at most, or RFC 3339.
    pub fn time_ns(&self, name: &str) -> Result<Option<i64>, Problem> {
        self.get(name)
            .map(|text| {
                parse_time_ns(text).ok_or_else(|| {
                    Problem::bad_data(format!(
                        "invalid parameter {name:?}: cannot parse {text:?} to a valid timestamp"
                    ))
                })
            })
            .transpose()
    }

    /// A whole number.
    pub fn number(&self, name: &str) -> Result<Option<usize>, Problem> {
        self.get(name)
            .map(|text| {
                text.parse().map_err(|_| {
                    Problem::bad_data(format!(
                        "invalid parameter {name:?}: {text:?} is not a whole number of 0 or more"
                    ))
                })
            })
            .transpose()
    }
}

/// As far as times go: some hundred million years, so that a range around one does not overflow.
const TIME_MS_MIN: i64 = i64::MIN / 2;
const TIME_MS_MAX: i64 = i64::MAX / 2;

pub(crate) fn parse_time_ms(text: &str) -> Option<i64> {
    if let Some(seconds) = finite(text) {
        return Some((seconds * 1000.0).round() as i64);
    }
    match text {
        // The ends of time as Prometheus' client libraries write them.
        "-292273086-05-16T16:47:06Z" => Some(TIME_MS_MIN),
        "292277025-08-18T07:12:54.999999999Z" => Some(TIME_MS_MAX),
        text => parse_rfc3339_ms(text.as_bytes()),
    }
}

fn parse_time_ns(text: &str) -> Option<i64> {
    if let Ok(whole) = text.parse::<i64>() {
        let digits = text.trim_start_matches('-').len();
        return Some(if digits <= 10 {
            whole.saturating_mul(1_000_000_000)
        } else {
            whole
        });
    }
    if let Some(seconds) = finite(text) {
        let whole = seconds.floor();
        let nanos = ((seconds - whole) * 1e9).round() as i64;
        return Some(
            (whole as i64)
                .saturating_mul(1_000_000_000)
                .saturating_add(nanos),
        );
    }
    parse_rfc3339(text.as_bytes())
}

fn parse_duration_ms(text: &str) -> Option<i64> {
    if let Some(seconds) = finite(text) {
        return Some((seconds * 1000.0).round() as i64);
    }
    let duration = parse_duration(text).ok()?;
    i64::try_from(duration.as_millis()).ok()
}

/// A number whose thousandth part fits a time.
fn finite(text: &str) -> Option<f64> {
    let number: f64 = text.parse().ok()?;
    (number.is_finite() && number.abs() < 9e15).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_durations_in_all_forms() {
        assert_eq!(parse_time_ms("1700000000.123"), Some(1_700_000_000_123));
        assert_eq!(parse_time_ms("1970-01-01T00:00:01.5Z"), Some(1500));
        assert_eq!(parse_time_ms("-1"), Some(-1000));
        assert_eq!(
            parse_time_ms("9999-12-31T23:59:59Z"),
            Some(253_402_300_799_000)
        );
        assert_eq!(
            parse_time_ms("0001-01-01T00:00:00.5Z"),
            Some(-62_135_596_799_500)
        );
        assert!(parse_time_ms("-292273086-05-16T16:47:06Z") < Some(i64::MIN / 4));
        assert_eq!(parse_time_ms("now"), None);
        assert_eq!(parse_time_ms("inf"), None);
        assert_eq!(parse_time_ns("1700000000"), Some(1_700_000_000_000_000_000));
        assert_eq!(
            parse_time_ns("1700000000000000001"),
            Some(1_700_000_000_000_000_001)
        );
        assert_eq!(parse_time_ns("1.5"), Some(1_500_000_000));
        assert_eq!(parse_duration_ms("0.5"), Some(500));
        assert_eq!(parse_duration_ms("1m30s"), Some(90_000));
        assert_eq!(parse_duration_ms("x"), None);
    }

    #[test]
    fn a_form_comes_before_the_query_string() {
        let uri: Uri = "/x?query=b&match[]=c&empty=".parse().unwrap();
        let params = Params::of(&uri, b"query=a%20b&match[]=d");
        assert_eq!(params.get("query"), Some("a b"));
        assert_eq!(params.all("match[]").collect::<Vec<_>>(), ["d", "c"]);
        assert_eq!(params.get("empty"), None);
        assert!(params.required("absent").is_err());
    }
}
