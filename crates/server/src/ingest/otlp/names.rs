//! Names of metrics, labels and units, as the OpenTelemetry specification for Prometheus and
//! the configured strategy have them.

use kittiwake_config::OtlpConfig;
use kittiwake_wire::otlp::{Data, Metric};

/// Units by their names of UCUM.
const UNITS: [(&str, &str); 25] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("%", "percent"),
];
/// What a rate is per.
const PER: [(&str, &str); 7] = [
    ("s", "second"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

/// A unit's two parts, what it counts and per what, as words; either may be empty.
fn unit_parts(unit: &str) -> (String, String) {
    // In braces stand remarks.
    let known = |part: &str, list: &[(&str, &str)]| {
        let part = part.trim();
        if part.contains(['{', '}']) {
            return String::new();
        }
        let mut found = list.iter().filter(|(symbol, _)| *symbol == part);
        found.next().map_or(part, |(_, word)| word).to_owned()
    };
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let main = if main.trim() == "1" {
        String::new()
    } else {
        known(main, &UNITS)
    };
    let per = known(per, &PER);
    let per = if per.is_empty() {
        per
    } else {
        format!("per_{per}")
    };
    (main, per)
}

/// With underscores for all that no name has, several in a row as one, and none in front.
fn cleaned(unit: &str) -> String {
    let mut out = String::new();
    for c in unit.chars() {
        if is_name_char(c) {
            out.push(c);
        } else if !out.ends_with('_') {
            out.push('_');
        }
    }
    out.strip_prefix('_').unwrap_or(&out).to_owned()
}

/// A unit as metadata has it.
pub(super) fn unit(unit: &str) -> String {
    let (main, per) = unit_parts(unit);
    let parts = [cleaned(&main), cleaned(&per)];
    let parts: Vec<&str> = parts
        .iter()
        .map(String::as_str)
        .filter(|part| !part.is_empty())
        .collect();
    parts.join("_").trim_matches('_').to_owned()
}

/// A metric's name.
pub(super) fn metric(metric: &Metric, config: &OtlpConfig) -> Result<String, String> {
    let strategy = config.translation_strategy;
    let name = &metric.name;
    let made = match (strategy.escapes(), strategy.has_suffixes()) {
        (true, true) => normalized(metric),
        (true, false) => {
            let parts = name.split(|c| !is_name_char(c) && c != '_');
            let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
            not_a_digit_first(parts.join("_"))
        }
        (false, true) => with_suffixes(metric),
        (false, false) => name.clone(),
    };
    if made.is_empty() || (made != *name && made.chars().all(|c| c == '_')) {
        return Err(format!(
            "normalization for metric {name:?} resulted in invalid name {made:?}"
        ));
    }
    Ok(made)
}

fn not_a_digit_first(name: String) -> String {
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        format!("_{name}")
    } else {
        name
    }
}

fn is_counter(metric: &Metric) -> bool {
    matches!(&metric.data, Data::Sum { is_monotonic, .. } if *is_monotonic)
}

/// Gauges of unit 1 are ratios; counters of unit 1 count things, whatever the specification says.
fn is_ratio(metric: &Metric) -> bool {
    metric.unit == "1" && matches!(metric.data, Data::Gauge(_))
}

/// The name of words with underscores between, unit and type at the end.
fn normalized(metric: &Metric) -> String {
    let words = metric.name.split(|c| !is_name_char(c));
    let mut words: Vec<String> = words
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    let (main, per) = unit_parts(&metric.unit);
    let (mut main, mut per) = (cleaned(&main), cleaned(&per));
    if words.contains(&main) {
        main.clear();
    }
    if per == "per_" {
        per.clear();
    }
    if per.ends_with('_') {
        per.pop();
    }
    if words.contains(&per) {
        per.clear();
    }
    if !per.is_empty() && main.ends_with('_') {
        main.pop();
    }
    words.extend([main, per].into_iter().filter(|word| !word.is_empty()));
    for (is_so, word) in [(is_counter(metric), "total"), (is_ratio(metric), "ratio")] {
        if is_so {
            words.retain(|there| there != word);
            words.push(word.to_owned());
        }
    }
    not_a_digit_first(words.join("_"))
}

/// The name as it is, with unit and type at the end unless they stand there.
fn with_suffixes(metric: &Metric) -> String {
    let mut name = metric.name.as_str();
    let without = |name: &'_ str, suffix: &str| -> usize {
        if name.ends_with(suffix) && name.len() > suffix.len() + 1 {
            // With the character that parts them.
            let stem = &name[..name.len() - suffix.len()];
            stem.char_indices()
                .next_back()
                .map_or(stem.len(), |(at, _)| at)
        } else {
            name.len()
        }
    };
    let (main, per) = unit_parts(&metric.unit);
    let mut suffixes = Vec::new();
    for (is_so, word) in [(is_ratio(metric), "ratio"), (is_counter(metric), "total")] {
        if is_so {
            name = &name[..without(name, word)];
            suffixes.push(word.to_owned());
        }
    }
    if !per.is_empty() {
        name = &name[..without(name, &per)];
        suffixes.push(per);
    }
    if !main.is_empty() && !name.ends_with(&main) {
        suffixes.push(main);
    }
    suffixes.reverse();
    let mut made = name.to_owned();
    for suffix in suffixes {
        made.push('_');
        made.push_str(&suffix);
    }
    made
}

/// A label's name.
pub(super) fn label(name: &str, config: &OtlpConfig) -> Result<String, String> {
    let only_underscores = |name: &str| name.chars().all(|c| c == '_');
    if name.is_empty() {
        return Err("label name is empty".to_owned());
    }
    if !config.translation_strategy.escapes() {
        if only_underscores(name) {
            return Err(format!("label name {name:?} contains only underscores"));
        }
        return Ok(name.to_owned());
    }
    let mut made = sanitized(name, config.label_name_preserve_multiple_underscores);
    if made.starts_with(|c: char| c.is_ascii_digit()) {
        made.insert_str(0, "key_");
    } else if config.label_name_underscore_sanitization
        && made.starts_with('_')
        && !made.starts_with("__")
    {
        made.insert_str(0, "key");
    }
    if only_underscores(&made) {
        return Err(format!(
            "normalization for label name {name:?} resulted in invalid name {made:?}"
        ));
    }
    Ok(made)
}

fn sanitized(name: &str, keeps_several: bool) -> String {
    let is_reserved = name.len() > 4 && name.starts_with("__") && name.ends_with("__");
    let inner = if is_reserved && !keeps_several {
        &name[2..name.len() - 2]
    } else {
        name
    };
    let mut out = String::new();
    for c in inner.chars() {
        if c.is_ascii_alphanumeric() {
            out.push(c);
        } else if keeps_several || !out.ends_with('_') {
            out.push('_');
        }
    }
    if is_reserved && !keeps_several {
        return format!("__{out}__");
    }
    out
}

#[cfg(test)]
mod tests {
    use kittiwake_config::TranslationStrategy;
    use kittiwake_wire::otlp::Temporality;

    use super::*;

    fn named(name: &str, unit: &str, data: Data, strategy: TranslationStrategy) -> String {
        let config = OtlpConfig {
            translation_strategy: strategy,
            ..OtlpConfig::default()
        };
        let of = Metric {
            name: name.to_owned(),
            unit: unit.to_owned(),
            data,
            ..Metric::default()
        };
        metric(&of, &config).unwrap_or_else(|problem| problem)
    }

    fn counter() -> Data {
        Data::Sum {
            points: Vec::new(),
            temporality: Temporality::Cumulative,
            is_monotonic: true,
        }
    }

    #[test]
    fn metrics_by_strategy() {
        use TranslationStrategy::*;
        let gauge = || Data::Gauge(Vec::new());
        for (name, unit, data, strategy, want) in [
            (
                "http.server.duration",
                "s",
                gauge(),
                UnderscoreEscapingWithSuffixes,
                "http_server_duration_seconds",
            ),
            (
                "requests.count",
                "1",
                counter(),
                UnderscoreEscapingWithSuffixes,
                "requests_count_total",
            ),
            (
                "system.io.total",
                "By",
                counter(),
                UnderscoreEscapingWithSuffixes,
                "system_io_bytes_total",
            ),
            (
                "memory.usage",
                "1",
                gauge(),
                UnderscoreEscapingWithSuffixes,
                "memory_usage_ratio",
            ),
            (
                "speed",
                "m/s",
                gauge(),
                UnderscoreEscapingWithSuffixes,
                "speed_meters_per_second",
            ),
            (
                "broken",
                "{faults}/s",
                gauge(),
                UnderscoreEscapingWithSuffixes,
                "broken_per_second",
            ),
            (
                "2xx..rate",
                "",
                gauge(),
                UnderscoreEscapingWithSuffixes,
                "_2xx_rate",
            ),
            (
                "a__b",
                "",
                gauge(),
                UnderscoreEscapingWithoutSuffixes,
                "a__b",
            ),
            (
                "a.b",
                "s",
                counter(),
                UnderscoreEscapingWithoutSuffixes,
                "a_b",
            ),
            (
                "a.b",
                "s",
                counter(),
                NoUtf8EscapingWithSuffixes,
                "a.b_seconds_total",
            ),
            (
                "a.b_total",
                "By/s",
                counter(),
                NoUtf8EscapingWithSuffixes,
                "a.b_bytes_per_second_total",
            ),
            ("a.b", "s", counter(), NoTranslation, "a.b"),
        ] {
            assert_eq!(named(name, unit, data, strategy), want, "{name} {unit}");
        }
        let bad = named("...", "", gauge(), UnderscoreEscapingWithSuffixes);
        assert!(bad.contains("invalid name"), "{bad}");
        assert_eq!(super::unit("By/s"), "bytes_per_second");
        assert_eq!(super::unit("{faults}"), "");
    }

    #[test]
    fn labels_as_the_old_scheme_knows_them() {
        let config = OtlpConfig::default();
        for (name, want) in [
            ("http.method", "http_method"),
            ("1st", "key_1st"),
            ("_a", "key_a"),
            ("__a__", "__a__"),
            ("a..b", "a__b"),
        ] {
            assert_eq!(label(name, &config).as_deref(), Ok(want), "{name}");
        }
        let collapsing = OtlpConfig {
            label_name_preserve_multiple_underscores: false,
            ..config.clone()
        };
        assert_eq!(label("a..b", &collapsing).as_deref(), Ok("a_b"));
        assert!(label("..", &config).is_err() && label("", &config).is_err());
    }
}
