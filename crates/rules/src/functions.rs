//! The functions of Prometheus' templates.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use kittiwake_config::parse_duration;
use kittiwake_model::pattern;
use kittiwake_template::{Functions, Value, urlquery};

use crate::engine::{Engine, Language, Sample, SampleValue};
use kittiwake_template::humanize::{
    humanize, humanize_1024, humanize_duration, humanize_percentage, humanize_timestamp, time,
};

/// The functions and how many arguments each takes; none: any number.
const NAMES: [(&str, Option<usize>); 29] = [
    ("query", Some(1)),
    ("first", Some(1)),
    ("label", Some(2)),
    ("value", Some(1)),
    ("strvalue", Some(1)),
    ("args", None),
    ("reReplaceAll", Some(3)),
    ("safeHtml", Some(1)),
    ("match", Some(2)),
    ("title", Some(1)),
    ("toUpper", Some(1)),
    ("toLower", Some(1)),
    ("graphLink", Some(1)),
    ("tableLink", Some(1)),
    ("sortByLabel", Some(2)),
    ("stripPort", Some(1)),
    ("stripDomain", Some(1)),
    ("humanize", Some(1)),
    ("humanize1024", Some(1)),
    ("humanizeDuration", Some(1)),
    ("humanizePercentage", Some(1)),
    ("humanizeTimestamp", Some(1)),
    ("toTime", Some(1)),
    ("toDuration", Some(1)),
    ("now", Some(0)),
    ("pathPrefix", Some(0)),
    ("externalURL", Some(0)),
    ("parseDuration", Some(1)),
    ("urlQueryEscape", Some(1)),
];

/// Leads to the table of an expression, below the external URL.
pub fn table_link(expression: &str) -> String {
    format!("/graph?g0.expr={}&g0.tab=1", urlquery(expression))
}

/// Leads to the graph of an expression, below the external URL.
pub fn graph_link(expression: &str) -> String {
    format!("/graph?g0.expr={}&g0.tab=0", urlquery(expression))
}

/// What functions are called with beyond their arguments.
pub(crate) struct RuleFunctions<'a> {
    pub(crate) engine: Option<&'a dyn Engine>,
    pub(crate) language: Language,
    pub(crate) time_ms: i64,
    pub(crate) external_url: &'a str,
}

impl RuleFunctions<'_> {
    /// Functions that are known but not called: to see whether a template parses.
    pub(crate) const NAMED: RuleFunctions<'static> = RuleFunctions {
        engine: None,
        language: Language::PromQl,
        time_ms: 0,
        external_url: "",
    };

    fn query(&self, expression: &str) -> Result<Value, String> {
        let engine = self.engine.ok_or("no engine")?;
        let query = engine.compile(self.language, expression)?;
        let samples = query.at(self.time_ms)?;
        Ok(Value::list(samples.iter().map(sample)))
    }

    fn path_prefix(&self) -> String {
        let rest = self.external_url.split_once("://");
        let rest = rest.map_or(self.external_url, |(_, rest)| rest);
        let path = rest.find('/').map_or("", |at| &rest[at..]);
        path.split(['?', '#']).next().unwrap_or("").to_owned()
    }
}

/// A value as templates see it.
pub(crate) fn value(value: &SampleValue) -> Value {
    match value {
        SampleValue::Float(value) => Value::Float(*value),
        SampleValue::Histogram(histogram) => Value::text(histogram.to_string()),
    }
}

fn sample(sample: &Sample) -> Value {
    let fields = [
        ("Labels".to_owned(), Value::texts(&sample.labels)),
        ("Value".to_owned(), value(&sample.value)),
    ];
    Value::Map(Arc::new(BTreeMap::from(fields)), false)
}

fn label(sample: &Value, name: &str) -> Value {
    let labels = match sample {
        Value::Map(fields, _) => fields.get("Labels"),
        _ => None,
    };
    match labels {
        Some(Value::Map(labels, _)) => labels.get(name).cloned().unwrap_or(Value::text("")),
        _ => Value::text(""),
    }
}

fn text(arguments: &[Value], at: usize) -> Result<&str, String> {
    match arguments.get(at) {
        Some(Value::Text(text)) => Ok(text),
        Some(other) => Err(format!(
            "wrong type for value; expected string; got {}",
            other.type_name()
        )),
        None => Err("an argument is missing".to_owned()),
    }
}

fn list(value: &Value) -> Result<&[Value], String> {
    match value {
        Value::List(values) => Ok(values),
        other => Err(format!(
            "wrong type for value; expected template.queryResult; got {}",
            other.type_name()
        )),
    }
}

/// A number, or a text that is one.
fn float(value: &Value) -> Result<f64, String> {
    match value {
        Value::Float(value) => Ok(*value),
        Value::Int(value) => Ok(*value as f64),
        Value::Duration(ns) => Ok(*ns as f64 / 1e9),
        Value::Text(text) => {
            let unsigned = text.trim_start_matches(['+', '-']);
            let known = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
                || ["inf", "infinity", "nan"].contains(&unsigned.to_ascii_lowercase().as_str());
            // What a native histogram is printed as; no number, in whatever way.
            if text.starts_with("{count:") {
                return Err("can't convert *histogram.FloatHistogram to float".to_owned());
            }
            let parsed = known.then(|| text.parse().ok()).flatten();
            parsed.ok_or_else(|| {
                let text = kittiwake_model::quote(text);
                format!("strconv.ParseFloat: parsing {text}: invalid syntax")
            })
        }
        other => Err(format!("can't convert {} to float", other.type_name())),
    }
}

/// Host and port of `host:port` or `[host]:port`, as Go splits them.
fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = if let Some(inner) = host.strip_prefix('[') {
        inner.strip_suffix(']')?
    } else if host.contains(':') {
        return None;
    } else {
        host
    };
    let is_plain = !host.contains(['[', ']']) && !port.contains(['[', ']']);
    is_plain.then_some((host, port))
}

fn strip_domain(text: &str) -> String {
    let (host, port) = split_host_port(text).unwrap_or((text, ""));
    if host.parse::<IpAddr>().is_ok() {
        return text.to_owned();
    }
    let host = host.split('.').next().unwrap_or("");
    match port {
        "" => host.to_owned(),
        port => format!("{host}:{port}"),
    }
}

/// The first letter of each word in upper case, the rest as it is.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut is_inside = false;
    for c in text.chars() {
        let is_word = c.is_alphanumeric() || c == '_' || (c == '\'' && is_inside);
        if is_word && !is_inside {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        is_inside = is_word;
    }
    out
}

fn seconds(text: &str) -> Result<f64, String> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    let duration = parse_duration(unsigned).map_err(|_| {
        let text = kittiwake_model::quote(text);
        format!("not a valid duration string: {text}")
    })?;
    Ok(sign * duration.as_secs_f64())
}

impl Functions for RuleFunctions<'_> {
    fn has(&self, name: &str) -> bool {
        NAMES.iter().any(|(known, _)| *known == name)
    }

    fn call(&self, name: &str, arguments: &[Value]) -> Result<Value, String> {
        let known = NAMES.iter().find(|(known, _)| *known == name);
        if let Some((_, Some(want))) = known
            && arguments.len() != *want
        {
            let got = arguments.len();
            return Err(format!(
                "wrong number of args for {name}: want {want} got {got}"
            ));
        }
        let number = || float(arguments.first().unwrap_or(&Value::Nil));
        Ok(match name {
            "query" => self.query(text(arguments, 0)?)?,
            "first" => list(&arguments[0])?
                .first()
                .cloned()
                .ok_or("first() called on vector with no elements")?,
            "label" => label(&arguments[1], text(arguments, 0)?),
            "value" => match &arguments[0] {
                Value::Map(fields, _) => fields.get("Value").cloned().unwrap_or_default(),
                _ => Value::Nil,
            },
            "strvalue" => label(&arguments[0], "__value__"),
            "args" => {
                let named = arguments.iter().enumerate();
                let named = named.map(|(index, value)| (format!("arg{index}"), value.clone()));
                Value::Map(Arc::new(named.collect()), false)
            }
            "reReplaceAll" => {
                let regex = pattern::unanchored_go(text(arguments, 0)?);
                let regex = regex.map_err(|error| error.to_string())?;
                let replaced = regex.replace_all(text(arguments, 2)?, text(arguments, 1)?);
                Value::text(replaced)
            }
            "match" => {
                let regex = pattern::unanchored_go(text(arguments, 0)?);
                let regex = regex.map_err(|error| error.to_string())?;
                Value::Bool(regex.is_match(text(arguments, 1)?))
            }
            "safeHtml" => Value::text(text(arguments, 0)?),
            "title" => Value::text(title(text(arguments, 0)?)),
            "toUpper" => Value::text(text(arguments, 0)?.to_uppercase()),
            "toLower" => Value::text(text(arguments, 0)?.to_lowercase()),
            "graphLink" => Value::text(graph_link(text(arguments, 0)?)),
            "tableLink" => Value::text(table_link(text(arguments, 0)?)),
            "sortByLabel" => {
                let name = text(arguments, 0)?;
                let mut all = list(&arguments[1])?.to_vec();
                all.sort_by_cached_key(|sample| label(sample, name).to_string());
                Value::list(all)
            }
            "stripPort" => {
                let text = text(arguments, 0)?;
                Value::text(split_host_port(text).map_or(text, |(host, _)| host))
            }
            "stripDomain" => Value::text(strip_domain(text(arguments, 0)?)),
            "humanize" => Value::text(humanize(number()?)),
            "humanize1024" => Value::text(humanize_1024(number()?)),
            "humanizeDuration" => Value::text(humanize_duration(number()?)),
            "humanizePercentage" => Value::text(humanize_percentage(number()?)),
            "humanizeTimestamp" => Value::text(humanize_timestamp(number()?)?),
            "toTime" => time(number()?)?,
            "toDuration" => Value::Duration((number()? * 1e9) as i64),
            "now" => Value::Float(self.time_ms as f64 / 1000.0),
            "pathPrefix" => Value::text(self.path_prefix()),
            "externalURL" => Value::text(self.external_url),
            "parseDuration" => Value::Float(seconds(text(arguments, 0)?)?),
            "urlQueryEscape" => Value::text(urlquery(text(arguments, 0)?)),
            other => return Err(format!("function {other:?} not defined")),
        })
    }

    fn method(
        &self,
        value: &Value,
        name: &str,
        arguments: &[Value],
    ) -> Option<Result<Value, String>> {
        kittiwake_template::method(value, name, arguments)
    }
}

#[cfg(test)]
mod tests {
    use kittiwake_template::{Limits, Template};

    use super::*;

    fn render(source: &str) -> Result<String, String> {
        let functions = RuleFunctions {
            time_ms: 1_353_755_652_000,
            external_url: "http://x.example/base/y?z=1",
            ..RuleFunctions::NAMED
        };
        let template = Template::parse(source, &functions).map_err(|e| e.to_string())?;
        let mut out = String::new();
        let dot = Value::list([Value::Float(0.0), Value::text("1234567.0"), Value::Int(-1)]);
        template
            .render(&dot, &functions, &Limits::default(), &mut out)
            .map_err(|e| e.told("t"))?;
        Ok(out)
    }

    #[test]
    fn functions_do_as_in_prometheus() {
        for (source, want) in [
            ("{{ range . }}{{ humanize . }}:{{ end }}", "0:1.235M:-1:"),
            (
                "{{ `foo.example.com:12345` | stripPort }}",
                "foo.example.com",
            ),
            ("{{ `[2001:0DB8::1]:12345` | stripPort }}", "2001:0DB8::1"),
            ("{{ `2001:0DB8::1` | stripPort }}", "2001:0DB8::1"),
            (
                "{{ `[2001:0DB8::1]::12345` | stripPort }}",
                "[2001:0DB8::1]::12345",
            ),
            ("{{ `foo.example.com:12345` | stripDomain }}", "foo:12345"),
            ("{{ `192.0.2.1:12345` | stripDomain }}", "192.0.2.1:12345"),
            ("{{ `aa bb CC` | title }} {{ `a` | toUpper }}", "Aa Bb CC A"),
            ("{{ reReplaceAll `(a)b` `x$1` `ab` }}", "xa"),
            ("{{ match `a+` `aa` }} {{ match `a+` `b` }}", "true false"),
            ("{{ graphLink `up` }}", "/graph?g0.expr=up&g0.tab=0"),
            ("{{ tableLink `a b` }}", "/graph?g0.expr=a+b&g0.tab=1"),
            (
                "{{ pathPrefix }} {{ externalURL }}",
                "/base/y http://x.example/base/y?z=1",
            ),
            (
                "{{ parseDuration `-1h30m` }} {{ toDuration 1800 }}",
                "-5400 30m0s",
            ),
            ("{{ now }}", "1.353755652e+09"),
            (
                "{{ (1435065584.128 | toTime).Format \"2006\" }} {{ (1800 | toDuration).String }}",
                "2015 30m0s",
            ),
            (
                "{{ (\"-30m\" | parseDuration | toDuration | (now | toTime).Add).UnixMilli }}",
                "1353753852000",
            ),
            (
                "{{ 1435065584.128 | toTime }}",
                "2015-06-23 13:19:44.128 +0000 UTC",
            ),
            (
                "{{define `x`}}{{.arg0}} {{.arg1}}{{end}}{{template `x` (args 1 `2`)}}",
                "1 2",
            ),
            ("{{ urlQueryEscape `a&b` }}{{ safeHtml `<b>` }}", "a%26b<b>"),
        ] {
            assert_eq!(render(source).as_deref(), Ok(want), "{source}");
        }
        let error = render("{{ humanize `one` }}").unwrap_err();
        assert_eq!(
            error,
            "template: t:1:3: executing \"t\" at <humanize `one`>: error calling humanize: strconv.ParseFloat: parsing \"one\": invalid syntax"
        );
        assert!(render("{{ tmpl `x` . }}").is_err());
    }
}
