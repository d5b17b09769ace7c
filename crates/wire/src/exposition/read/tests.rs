use std::fmt::Write as _;

use kittiwake_model::histogram::{CUSTOM_BUCKETS_SCHEMA, Counts, Span};
use proptest::prelude::*;

use super::*;
use crate::proto::{put_bytes_field, put_double_field, put_message, put_varint, put_varint_field};

/// What was read, as lines that can be compared: series with sorted labels, value or histogram,
/// times, exemplars; and the families.
#[derive(Debug, Default)]
struct Seen {
    samples: Vec<String>,
    histograms: Vec<(String, Histogram, Option<i64>)>,
    families: Vec<Family>,
}

fn labels(sample: &Sample<'_>) -> String {
    let mut pairs = Vec::new();
    sample.labels_into(64, &mut pairs).unwrap();
    let pairs = pairs.iter().map(|(n, v)| match n.as_ref() {
        METRIC_NAME => v.to_string(),
        _ => format!("{n}={v}"),
    });
    pairs.collect::<Vec<_>>().join(" ")
}

fn seen(bytes: &[u8], format: Format, options: Options) -> Result<Seen, ExpositionError> {
    let mut seen = Seen::default();
    read(bytes, format, &options, &mut |entry| {
        match entry {
            Entry::Sample(sample, exemplars) => {
                let mut line = format!("{} {}", labels(&sample), sample.value);
                if let Some(time_ms) = sample.time_ms {
                    let _ = write!(line, " at {time_ms}");
                }
                if let Some(start_ms) = sample.start_ms {
                    let _ = write!(line, " from {start_ms}");
                }
                for exemplar in exemplars {
                    let (name, value) = exemplar.labels.iter().next().unwrap_or(("", ""));
                    let _ = write!(
                        line,
                        " # {name}={value} {} {:?}",
                        exemplar.value, exemplar.time_ms
                    );
                }
                seen.samples.push(line);
            }
            Entry::Histogram(sample, histogram, _) => {
                let line = labels(&sample);
                seen.histograms.push((line, histogram, sample.start_ms));
            }
            Entry::Family(family) => seen.families.push(family),
        }
        Ok::<(), ExpositionError>(())
    })?;
    Ok(seen)
}

const NATIVE: Options = Options {
    native: true,
    classic_too: false,
    custom_buckets: false,
};
const CUSTOM: Options = Options {
    native: false,
    classic_too: false,
    custom_buckets: true,
};

#[test]
fn open_metrics_gives_starts_exemplars_and_families() {
    let text = br#"# TYPE a counter
# HELP a help
# UNIT a 
a_total{x="1"} 5 1.5 # {trace_id="t"} 0.5 1.25
a_created{x="1"} 0.75
a_total{x="2"} 6
# TYPE h histogram
h_bucket{le="1"} 1
h_bucket{le="+Inf"} 2
h_count 2
h_sum 3
h_created 10
# EOF
"#;
    let all = seen(text, Format::OpenMetrics, Options::default());
    assert_eq!(
        all.unwrap_err().to_string(),
        "line 5: family \"a\": of one metric's samples some have times and some have none"
    );
    let text = String::from_utf8(text.to_vec())
        .unwrap()
        .replace(" 5 1.5", " 5");
    let all = seen(text.as_bytes(), Format::OpenMetrics, Options::default()).unwrap();
    assert_eq!(
        all.samples,
        [
            "a_total x=1 5 from 750 # trace_id=t 0.5 Some(1250)",
            "a_created x=1 0.75",
            "a_total x=2 6",
            "h_bucket le=1.0 1 from 10000",
            "h_bucket le=+Inf 2 from 10000",
            "h_count 2 from 10000",
            "h_sum 3 from 10000",
            "h_created 10",
        ]
    );
    let names: Vec<_> = all
        .families
        .iter()
        .map(|f| (f.name.as_str(), f.kind))
        .collect();
    assert_eq!(
        names,
        [("a", MetricType::Counter), ("h", MetricType::Histogram)]
    );
    assert_eq!(all.families[0].help, "help");
    let custom = seen(text.as_bytes(), Format::OpenMetrics, CUSTOM).unwrap();
    assert_eq!(custom.samples.len(), 4);
    let (series, histogram, start_ms) = &custom.histograms[0];
    assert_eq!((series.as_str(), *start_ms), ("h", Some(10_000)));
    assert_eq!(histogram.custom_bounds, [1.0]);
}

#[test]
fn open_metrics_2_has_whole_histograms_and_inline_starts() {
    let text = br#"# TYPE a counter
a_total 17 1520879607.789 st@1520430000.123 # {t="1"} 0.67 1520879606.1 # {t="2"} 1 2
# TYPE h histogram
h{m="G"} {count:2,sum:1.5,schema:0,zero_threshold:1e-4,zero_count:0,positive_spans:[1:2],positive_buckets:[1,1],bucket:[0.5:1,1:2,+Inf:2]} st@1.5 # {t="3"} 0.7 9
# TYPE s summary
s {count:17,sum:3.5,quantile:[0.95:123.7,1:150]}
# EOF
"#;
    let all = seen(text, Format::OpenMetrics2, Options::default()).unwrap();
    assert_eq!(
        all.samples,
        [
            "a_total 17 at 1520879607789 from 1520430000123 # t=1 0.67 Some(1520879606100) # t=2 1 Some(2000)",
            "h_count m=G 2 from 1500",
            "h_sum m=G 1.5 from 1500",
            "h_bucket le=0.5 m=G 1 from 1500",
            "h_bucket le=1.0 m=G 2 from 1500 # t=3 0.7 Some(9000)",
            "h_bucket le=+Inf m=G 2 from 1500",
            "s_count 17",
            "s_sum 3.5",
            "s quantile=0.95 123.7",
            "s quantile=1.0 150",
        ]
    );
    let native = seen(text, Format::OpenMetrics2, NATIVE).unwrap();
    assert_eq!(native.samples.len(), 5);
    let (series, histogram, start_ms) = &native.histograms[0];
    assert_eq!((series.as_str(), *start_ms), ("h m=G", Some(1500)));
    assert_eq!(
        histogram.positive_spans,
        [Span {
            offset: 1,
            length: 2
        }]
    );
    for bad in [
        "h {count:1}",
        "h {count:1,sum:1,}",
        "h {count:1,sum:1,nonsense:2}",
        "h {count:1,sum:1,schema:9}",
        "h {count:1,sum:1,schema:0,positive_buckets:[1]}",
        "h {count:1,sum:1,bucket:[1:]}",
        "h {count:1,sum:1",
        "h 1 st@x",
        "h 1 st@1 st@2",
    ] {
        let text = format!("{bad}\n# EOF\n");
        let read = seen(text.as_bytes(), Format::OpenMetrics2, NATIVE);
        assert!(read.is_err(), "{bad}");
    }
}

#[test]
fn classic_histograms_of_text_become_custom_buckets() {
    let text = br#"# TYPE h histogram
h_bucket{x="1",le="1"} 1
h_bucket{x="1",le="+Inf"} 2
h_sum{x="1"} 3
h_count{x="1"} 2
h_bucket{x="2",le="1"} 0
h_bucket{x="2",le="+Inf"} 0
h_sum{x="2"} 0
h_count{x="2"} 0
# TYPE g gauge
g 1
"#;
    let all = seen(text, Format::Prometheus, CUSTOM).unwrap();
    assert_eq!(all.samples, ["g 1"]);
    assert_eq!(all.histograms.len(), 2);
    let (series, histogram, _) = &all.histograms[0];
    assert_eq!(
        (series.as_str(), histogram.schema),
        ("h x=1", CUSTOM_BUCKETS_SCHEMA)
    );
    assert!(matches!(&histogram.counts, Counts::Integer { positive, .. } if *positive == [1, 1]));
    let both = Options {
        classic_too: true,
        ..CUSTOM
    };
    assert_eq!(
        seen(text, Format::Prometheus, both).unwrap().samples.len(),
        9
    );
}

type Write<'a> = &'a dyn Fn(&mut Vec<u8>);

/// Appends a family as a client library does.
fn family(out: &mut Vec<u8>, name: &str, kind: u64, metrics: &[Write<'_>]) {
    let mut message = Vec::new();
    put_bytes_field(&mut message, 1, name.as_bytes());
    put_bytes_field(&mut message, 2, b"help");
    put_varint_field(&mut message, 3, kind);
    for metric in metrics {
        put_message(&mut message, 4, |out| {
            put_message(out, 1, |out| {
                put_bytes_field(out, 1, b"x");
                put_bytes_field(out, 2, b"a\"b");
            });
            metric(out);
        });
    }
    put_varint(out, message.len() as u64);
    out.extend_from_slice(&message);
}

fn protobuf() -> Vec<u8> {
    let mut out = Vec::new();
    family(
        &mut out,
        "c_total",
        0,
        &[&|out| {
            put_message(out, 3, |out| {
                put_double_field(out, 1, 7.0);
                put_message(out, 2, |out| {
                    put_message(out, 1, |out| {
                        put_bytes_field(out, 1, b"t");
                        put_bytes_field(out, 2, b"1");
                    });
                    put_double_field(out, 2, 0.5);
                    put_message(out, 3, |out| put_varint_field(out, 1, 3));
                });
                put_message(out, 3, |out| {
                    put_varint_field(out, 1, 2);
                    put_varint_field(out, 2, 500_000_000);
                });
            });
            put_varint_field(out, 6, 99);
        }],
    );
    family(
        &mut out,
        "h",
        4,
        &[&|out| {
            put_message(out, 7, |out| {
                put_varint_field(out, 1, 3);
                put_double_field(out, 2, 4.5);
                put_message(out, 3, |out| {
                    put_varint_field(out, 1, 1);
                    put_double_field(out, 2, 1.0);
                });
                put_varint_field(out, 5, 6); // zigzag: 3
                put_double_field(out, 6, 0.001);
                put_varint_field(out, 7, 1);
                put_message(out, 12, |out| {
                    put_varint_field(out, 1, 0);
                    put_varint_field(out, 2, 2);
                });
                put_bytes_field(out, 13, &[2, 0]); // 1, 1
            });
        }],
    );
    family(
        &mut out,
        "s",
        2,
        &[&|out| {
            put_message(out, 4, |out| {
                put_varint_field(out, 1, 3);
                put_double_field(out, 2, 4.5);
                put_message(out, 3, |out| {
                    put_double_field(out, 1, 0.5);
                    put_double_field(out, 2, 7.0);
                });
            });
        }],
    );
    out
}

#[test]
fn protobuf_gives_all_that_the_texts_give() {
    let bytes = protobuf();
    let all = seen(&bytes, Format::Protobuf, Options::default()).unwrap();
    assert_eq!(
        all.samples,
        [
            "c_total x=a\"b 7 at 99 from 2500 # t=1 0.5 Some(3000)",
            "h_count x=a\"b 3",
            "h_sum x=a\"b 4.5",
            "h_bucket le=1.0 x=a\"b 1",
            "h_bucket le=+Inf x=a\"b 3",
            "s_count x=a\"b 3",
            "s_sum x=a\"b 4.5",
            "s quantile=0.5 x=a\"b 7",
        ]
    );
    assert_eq!(all.families.len(), 3);
    let native = seen(&bytes, Format::Protobuf, NATIVE).unwrap();
    assert_eq!(native.samples.len(), 4);
    let (_, histogram, _) = &native.histograms[0];
    let counts = Counts::Integer {
        count: 3,
        zero: 1,
        positive: vec![1, 1],
        negative: Vec::new(),
    };
    assert_eq!((histogram.schema, &histogram.counts), (3, &counts));
    let both = Options {
        classic_too: true,
        ..NATIVE
    };
    let both = seen(&bytes, Format::Protobuf, both).unwrap();
    assert_eq!((both.samples.len(), both.histograms.len()), (8, 1));
}

proptest! {
    #[test]
    fn a_broken_protobuf_is_refused_or_read(at in 0_usize..200, byte: u8, cut in 0_usize..200) {
        let mut bytes = protobuf();
        if let Some(there) = bytes.get_mut(at) {
            *there = byte;
        }
        bytes.truncate(bytes.len().saturating_sub(cut));
        let _ = read(&bytes, Format::Protobuf, &NATIVE, &mut |_| Ok::<(), ExpositionError>(()));
    }

    #[test]
    fn any_text_is_read_or_refused(
        lines in proptest::collection::vec(
            prop_oneof![
                "(a|h)(_total|_bucket|_sum|_count|_created)?(\\{le=\"(1|\\+Inf|x)\"\\})? (1|NaN|-1|\\{count:1,sum:[0-9],bucket:\\[1:1(,2:3)?\\]\\})( 1)?( st@1)?( # \\{a=\"b\"\\} 1( 1)?)?",
                "# (TYPE|HELP|UNIT) (a|h) (counter|histogram|summary|x|)",
                "[ -~]{0,20}",
            ],
            0..12,
        ),
    ) {
        let text = format!("{}\n# EOF\n", lines.join("\n"));
        for format in [Format::Prometheus, Format::OpenMetrics, Format::OpenMetrics2] {
            for options in [NATIVE, CUSTOM] {
                let _ = read(text.as_bytes(), format, &options, &mut |entry| {
                    if let Entry::Sample(sample, _) | Entry::Histogram(sample, ..) = entry {
                        let _ = sample.labels(64);
                    }
                    Ok::<(), ExpositionError>(())
                });
            }
        }
    }
}
