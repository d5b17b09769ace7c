use proptest::prelude::*;

use super::*;
use crate::float::NORMAL_NAN_BITS;

/// A series' labels, its value's bits, its time.
type Read = (Vec<(String, String)>, u64, Option<i64>);

fn samples(text: &str, format: Format) -> Result<Vec<Read>, ExpositionError> {
    let mut read = Vec::new();
    let mut pairs = Vec::new();
    for item in Parser::new(text.as_bytes(), format) {
        if let Item::Sample(sample) = item? {
            sample.labels_into(16, &mut pairs)?;
            let own = |(n, v): &(Cow<str>, Cow<str>)| (n.to_string(), v.to_string());
            let labels = pairs.iter().map(own).collect();
            read.push((labels, sample.value.to_bits(), sample.time_ms));
        }
    }
    Ok(read)
}

fn expected(labels: &[(&str, &str)], value: f64, time_ms: Option<i64>) -> Read {
    let own = |(n, v): &(&str, &str)| ((*n).to_owned(), (*v).to_owned());
    let labels = labels.iter().map(own).collect();
    (labels, value.to_bits(), time_ms)
}

#[test]
fn a_text_as_exporters_write_it() {
    let text = "\
# HELP http_requests_total Requests \\\\ \"served\".\\nAll.
# TYPE http_requests_total counter
http_requests_total{method=\"post\",code=\"200\"} 1027 1395066363000
http_requests_total {  method = \"p}o\\\"s\\\\t\\n\\x\" , empty=\"\", } 3\t-5
#no comment of ours
# HELP
# EOF

\tup 1e3
{\"my.metric\", \"a.b\"=\"c\", d=\"e\"}1
m:x NaN\r
m:y +Inf";
    let read = samples(text, Format::Prometheus).unwrap();
    let all = [
        expected(
            &[
                ("__name__", "http_requests_total"),
                ("code", "200"),
                ("method", "post"),
            ],
            1027.0,
            Some(1_395_066_363_000),
        ),
        expected(
            &[
                ("__name__", "http_requests_total"),
                ("method", "p}o\"s\\t\n\\x"),
            ],
            3.0,
            Some(-5),
        ),
        expected(&[("__name__", "up")], 1000.0, None),
        expected(
            &[("__name__", "my.metric"), ("a.b", "c"), ("d", "e")],
            1.0,
            None,
        ),
        expected(
            &[("__name__", "m:x")],
            f64::from_bits(NORMAL_NAN_BITS),
            None,
        ),
        expected(&[("__name__", "m:y")], f64::INFINITY, None),
    ];
    assert_eq!(read, all);
    let items: Vec<_> = Parser::new(text.as_bytes(), Format::Prometheus)
        .take(3)
        .map(Result::unwrap)
        .collect();
    let name = Cow::Borrowed("http_requests_total");
    let help = Item::Help {
        name: name.clone(),
        text: "Requests \\ \"served\".\nAll.".into(),
    };
    let kind = MetricType::Counter;
    assert_eq!(items[..2], [help, Item::Type { name, kind }]);
    let Item::Sample(sample) = &items[2] else {
        panic!("{items:?}");
    };
    assert_eq!(
        sample.series,
        br#"http_requests_total{method="post",code="200"}"#
    );
    assert_eq!(sample.line, 3);
}

#[test]
fn errors_name_the_line_and_the_byte() {
    for (text, line, column) in [
        ("a 1\nb", 2, 2),
        ("a 1\nb x", 2, 3),
        ("a 1 1.5", 1, 5),
        ("a 1 2 3", 1, 7),
        ("a{b=\"c\" 1", 1, 8),
        ("\n a{b=\"c} 1", 2, 9),
        ("a}1", 1, 2),
        ("a{b} 1", 1, 4),
        ("a{b='c'} 1", 1, 5),
        ("a{b=\"c\"d=\"e\"} 1", 1, 8),
        ("a{1=\"c\"} 1", 1, 3),
        ("a{\"\"=\"c\"} 1", 1, 3),
        ("a{\"b\"} 1", 1, 6),
        ("{b=\"c\"} 1", 1, 1),
        ("a{b=\"c\"}} 1", 1, 9),
        ("# TYPE a meter", 1, 10),
        ("# TYPE a", 1, 9),
        ("# TYPE a gauge x", 1, 16),
        ("# HELP a-b x", 1, 9),
    ] {
        match samples(text, Format::Prometheus) {
            Err(ExpositionError::Malformed {
                line: l, column: c, ..
            }) => assert_eq!((l, c), (line, column), "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    let bad_utf8 = b"a{b=\"c\xff\"} 1";
    let mut parser = Parser::new(bad_utf8, Format::Prometheus);
    let Some(Ok(Item::Sample(sample))) = parser.next() else {
        panic!("a sample");
    };
    let error = sample.labels(9).unwrap_err().to_string();
    assert_eq!(
        error,
        "malformed metrics at line 1, byte 7: expected UTF-8 text"
    );
}

#[test]
fn labels_that_are_no_set_are_refused() {
    for text in [
        "a{b=\"1\",b=\"2\"} 1",
        "a{b=\"1\",b=\"\"} 1",
        "a{__name__=\"b\"} 1",
    ] {
        let error = samples(text, Format::Prometheus).unwrap_err();
        assert!(
            matches!(error, ExpositionError::Labels { line: 1, .. }),
            "{text}"
        );
    }
    let item = Parser::new(b"a{b=\"1\",c=\"2\"} 1", Format::Prometheus).next();
    let Some(Ok(Item::Sample(sample))) = item else {
        panic!("{item:?}");
    };
    let error = sample.labels(2).unwrap_err();
    assert_eq!(error, ExpositionError::TooMany { line: 1, max: 2 });
    assert_eq!(sample.labels(3).unwrap().len(), 3);
}

#[test]
fn open_metrics_has_seconds_units_exemplars_and_an_end() {
    let text = "\
# TYPE a_seconds counter
# UNIT a_seconds seconds
# HELP a_seconds say \\\"a\\\"
a_seconds_total{b=\" # {}\"} 1 1.001 # {t=\"}\"} 0.5 1.5
a_seconds_created 2.5 # {} 1
# EOF";
    let read = samples(text, Format::OpenMetrics).unwrap();
    let all = [
        expected(
            &[("__name__", "a_seconds_total"), ("b", " # {}")],
            1.0,
            Some(1001),
        ),
        expected(&[("__name__", "a_seconds_created")], 2.5, None),
    ];
    assert_eq!(read, all);
    let mut items = Parser::new(text.as_bytes(), Format::OpenMetrics).skip(1);
    let name = Cow::Borrowed("a_seconds");
    let unit = Item::Unit {
        name: name.clone(),
        unit: "seconds",
    };
    assert_eq!(items.next(), Some(Ok(unit)));
    let text = "say \"a\"".into();
    assert_eq!(items.next(), Some(Ok(Item::Help { name, text })));
    for text in ["a 1\n", "a 1\n# EOF\nb 1\n", "", "a 1\n\n# EOF\n"] {
        assert!(samples(text, Format::OpenMetrics).is_err(), "{text}");
    }
}

#[test]
fn the_content_type_tells_the_format() {
    for (header, format) in [
        (
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::OpenMetrics,
        ),
        (CONTENT_TYPE, Format::Prometheus),
        ("", Format::Prometheus),
    ] {
        assert_eq!(Format::of_content_type(header), format);
    }
}

#[test]
fn families_as_written() {
    let mut writer = Writer::new();
    writer.family("a_total", "A \\ \"b\"\nc", MetricType::Counter);
    writer.sample("a_total", [("x", "1\"\\\n"), ("y.z", "é")], 1e6, Some(-1));
    writer.sample("a_total", [], f64::NAN, None);
    writer.family("my.info", "", MetricType::Info);
    writer.sample("my.info", [], 1.0, None);
    let expected = "\
# HELP a_total A \\\\ \"b\"\\nc
# TYPE a_total counter
a_total{x=\"1\\\"\\\\\\n\",\"y.z\"=\"é\"} 1e+06 -1
a_total NaN
# TYPE \"my.info\" gauge
{\"my.info\"} 1
";
    assert_eq!(writer.finish(), expected);
}

proptest! {
    #[test]
    fn any_samples_round_trip(
        series in proptest::collection::vec(
            (
                "[a-zA-Z_:][a-z0-9_:]{0,6}|(?s).{1,6}",
                proptest::collection::btree_map("[a-z_]{1,5}|(?s).{1,5}", "(?s).{1,9}", 0..5),
                any::<f64>(),
                any::<Option<i64>>(),
            ),
            0..9,
        ),
        help in "(?s).{0,20}",
    ) {
        let mut writer = Writer::new();
        writer.family("family", &help, MetricType::Gauge);
        for (name, labels, value, time_ms) in &series {
            let labels = labels.iter().map(|(n, v)| (n.as_str(), v.as_str()));
            writer.sample(name, labels, *value, *time_ms);
        }
        let text = writer.finish();
        let sent: Vec<Read> = series
            .into_iter()
            .map(|(name, mut labels, value, time_ms)| {
                labels.insert(METRIC_NAME.to_owned(), name);
                (labels.into_iter().collect(), value.to_bits(), time_ms)
            })
            .collect();
        prop_assert_eq!(samples(&text, Format::Prometheus).unwrap(), sent);
        if let Some(Ok(Item::Help { text, .. })) =
            Parser::new(text.as_bytes(), Format::Prometheus).next()
        {
            // Blanks at the start are the format's, not the text's.
            let shown = help.trim_start_matches([' ', '\t']);
            prop_assert_eq!(text.trim_end_matches('\r'), shown.trim_end_matches('\r'));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in proptest::collection::vec(
            prop_oneof![proptest::sample::select(&b"ab{}\"\\=, \n#1.e"[..]), any::<u8>()], 0..60,
        ),
        start in proptest::sample::select(&["", "a", "a{b=\"", "# TYPE a ", "# HELP ", "a 1 # {"][..]),
    ) {
        let text = [start.as_bytes(), &bytes, b"\n# EOF\n"].concat();
        for format in [Format::Prometheus, Format::OpenMetrics] {
            for item in Parser::new(&text, format) {
                if let Ok(Item::Sample(sample)) = item {
                    let _ = sample.labels(9);
                }
            }
        }
    }
}
