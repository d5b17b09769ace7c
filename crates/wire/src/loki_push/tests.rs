use std::fmt::Write;

use proptest::prelude::*;

use super::*;
use crate::json::push_string;
use crate::proto::{put_bytes_field, put_message, put_varint_field};
use crate::snappy::decompress;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

fn entry(time_ns: i64, line: &str, metadata: &[(&str, &str)]) -> Entry {
    Entry {
        time_ns,
        line: line.to_owned(),
        metadata: labels(metadata),
    }
}

fn stream(pairs: &[(&str, &str)], entries: Vec<Entry>) -> PushedStream {
    PushedStream {
        labels: labels(pairs),
        entries,
        replaced_count: 0,
    }
}

fn encoded(streams: &[PushedStream]) -> Vec<u8> {
    let mut encoder = PushEncoder::new();
    for stream in streams {
        let entries = stream.entries.iter();
        encoder.stream(
            &stream.labels,
            entries.map(|e| (e.time_ns, e.line.as_str(), &e.metadata)),
        );
    }
    assert_eq!(encoder.is_empty(), streams.is_empty());
    let body = encoder.finish().unwrap();
    assert!(encoder.is_empty());
    let mut plain = Vec::new();
    decompress(&body, 1 << 20, &mut plain).unwrap();
    plain
}

fn json_of(streams: &[PushedStream], numbers: bool) -> String {
    let object = |out: &mut String, labels: &Labels| {
        out.push('{');
        for (i, (name, value)) in labels.iter().enumerate() {
            out.push_str(if i > 0 { "," } else { "" });
            push_string(out, name);
            out.push(':');
            push_string(out, value);
        }
        out.push('}');
    };
    let mut out = String::from("{\"other\":[1,{}],\"streams\":[");
    for (i, stream) in streams.iter().enumerate() {
        out.push_str(if i > 0 {
            ",{\"values\":["
        } else {
            "{\"values\":["
        });
        for (i, entry) in stream.entries.iter().enumerate() {
            let quote = if numbers { "" } else { "\"" };
            let comma = if i > 0 { ",\n" } else { "" };
            let _ = write!(out, "{comma}[{quote}{}{quote},", entry.time_ns);
            push_string(&mut out, &entry.line);
            if !entry.metadata.is_empty() {
                out.push(',');
                object(&mut out, &entry.metadata);
            }
            out.push(']');
        }
        out.push_str("],\"stream\":");
        object(&mut out, &stream.labels);
        out.push('}');
    }
    out.push_str("]}");
    out
}

#[test]
fn both_forms_as_clients_send_them() {
    let limits = Limits::default();
    let json = br#"{"streams": [
        {"stream": {"job": "shop", "level": ""}, "values": [
            ["1700000000000000001", "a \"b\"\n"],
            [1700000000000000002, "c", {"trace": "7", "user": "1", "trace": "8"}],
            ["-5", "", null]]}]}"#;
    let expected = stream(
        &[("job", "shop")],
        vec![
            entry(1_700_000_000_000_000_001, "a \"b\"\n", &[]),
            entry(
                1_700_000_000_000_000_002,
                "c",
                &[("trace", "8"), ("user", "1")],
            ),
            entry(-5, "", &[]),
        ],
    );
    assert_eq!(decode_json(json, &limits), Ok(vec![expected.clone()]));
    let mut body = Vec::new();
    put_message(&mut body, 1, |out| {
        put_bytes_field(out, 1, br#"{job="shop",level=""}"#);
        put_message(out, 2, |out| {
            put_message(out, 1, |out| {
                put_varint_field(out, 1, 1_700_000_000);
                put_varint_field(out, 2, 1);
            });
            put_bytes_field(out, 2, b"a \"b\"\n");
        });
        put_varint_field(out, 3, 0xdead_beef);
    });
    let streams = decode(&body, &limits).unwrap();
    assert_eq!(streams[0].labels, expected.labels);
    assert_eq!(streams[0].entries, expected.entries[..1]);
    let raw = PushRequest::new(&body).streams().next().unwrap().unwrap();
    assert_eq!(raw.labels_text(), r#"{job="shop",level=""}"#);
}

#[test]
fn a_null_is_an_empty_array() {
    let limits = Limits::default();
    let json = br#"{"streams":null}"#;
    assert_eq!(decode_json(json, &limits), Ok(vec![]));
    let json = br#"{"streams":[{"values":null,"stream":{"a":"b"}}]}"#;
    let expected = stream(&[("a", "b")], vec![]);
    assert_eq!(decode_json(json, &limits), Ok(vec![expected]));
}

#[test]
fn bytes_that_are_not_text_are_replaced_and_counted() {
    let mut body = Vec::new();
    put_message(&mut body, 1, |out| {
        put_bytes_field(out, 1, br#"{a="b"}"#);
        put_message(out, 2, |out| put_bytes_field(out, 2, b"x\xffy"));
        put_message(out, 2, |out| {
            put_message(out, 3, |out| {
                put_bytes_field(out, 1, b"k");
                put_bytes_field(out, 2, b"\xff");
            });
        });
        put_message(out, 2, |_| {});
    });
    let mut expected = stream(
        &[("a", "b")],
        vec![
            entry(0, "x\u{fffd}y", &[]),
            entry(0, "", &[("k", "\u{fffd}")]),
            entry(0, "", &[]),
        ],
    );
    expected.replaced_count = 2;
    assert_eq!(decode(&body, &Limits::default()), Ok(vec![expected]));
    let json = b"{\"streams\":[{\"stream\":{},\"values\":[[\"1\",\"\xff\"]]}]}";
    let streams = decode_json(json, &Limits::default()).unwrap();
    assert_eq!(streams[0].replaced_count, 1);
}

#[test]
fn json_errors_name_the_byte_and_the_field() {
    for (json, at, field) in [
        ("[]", 0, "request"),
        (r#"{"streams":{}}"#, 11, "streams"),
        (r#"{"streams":[{"values":[]}]}"#, 25, "streams"),
        (r#"{"streams":[{"stream":{"a":1}}]}"#, 27, "streams.stream"),
        (
            r#"{"streams":[{"values":[["x","l"]]}]}"#,
            24,
            "streams.values.timestamp",
        ),
        (
            r#"{"streams":[{"values":[[1.5,"l"]]}]}"#,
            24,
            "streams.values.timestamp",
        ),
        (
            r#"{"streams":[{"values":[["1",2]]}]}"#,
            28,
            "streams.values.line",
        ),
        (
            r#"{"streams":[{"values":[["1","l",{"a":2}]]}]}"#,
            37,
            "streams.entries.structuredMetadata",
        ),
        (
            r#"{"streams":[{"values":[["1","l",{},1]]}]}"#,
            34,
            "streams.values",
        ),
        (r#"{"streams":[]} x"#, 15, "request"),
    ] {
        match decode_json(json.as_bytes(), &Limits::default()) {
            Err(PushError::Json {
                at: met, field: f, ..
            }) => assert_eq!((met, f), (at, field), "{json}"),
            other => panic!("{json}: {other:?}"),
        }
    }
}

#[test]
fn protobuf_errors_name_the_byte_and_the_field() {
    let mut body = Vec::new();
    put_message(&mut body, 1, |out| {
        put_bytes_field(out, 1, b"{}");
        put_message(out, 2, |out| {
            put_message(out, 1, |out| put_varint_field(out, 2, 1_000_000_000));
        });
    });
    let error = decode(&body, &Limits::default()).unwrap_err();
    let expected = "malformed request at byte 8, field streams.entries.timestamp.nanos: expected \
                    nanoseconds from 0 to 999999999";
    assert_eq!(error.to_string(), expected);

    let mut body = Vec::new();
    put_message(&mut body, 1, |out| put_bytes_field(out, 1, b"{a}"));
    let error = decode(&body, &Limits::default()).unwrap_err();
    let expected = "byte 2, field streams.labels: malformed labels at byte 2: expected `=`";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn more_than_the_limits_is_refused() {
    let pushed = [
        stream(&[("a", "1"), ("b", "2")], vec![]),
        stream(
            &[("a", "2")],
            vec![entry(1, "x", &[("k", "1"), ("l", "2")]), entry(2, "y", &[])],
        ),
    ];
    let fitting = Limits {
        labels_max: 2,
        metadata_max: 2,
        streams_max: 2,
        entries_max: 2,
    };
    let (body, json) = (encoded(&pushed), json_of(&pushed, false));
    let both = |limits: &Limits| {
        (
            decode(&body, limits).is_ok(),
            decode_json(json.as_bytes(), limits).is_ok(),
        )
    };
    assert_eq!(both(&fitting), (true, true));
    for tighter in [
        Limits {
            labels_max: 1,
            ..fitting
        },
        Limits {
            metadata_max: 1,
            ..fitting
        },
        Limits {
            streams_max: 1,
            ..fitting
        },
        Limits {
            entries_max: 1,
            ..fitting
        },
    ] {
        assert_eq!(both(&tighter), (false, false), "{tighter:?}");
    }
}

fn any_streams() -> impl Strategy<Value = Vec<PushedStream>> {
    let set = || proptest::collection::btree_map("(?s)[a-z_]{1,5}|.{1,3}", "(?s).{1,9}", 0..4);
    let entry = (any::<i64>(), "(?s).{0,30}", set());
    let stream = (set(), proptest::collection::vec(entry, 0..6));
    proptest::collection::vec(stream, 0..5).prop_map(|streams| {
        let pushed = |(set, entries): (_, Vec<_>)| PushedStream {
            labels: Labels::from_pairs::<String, String>(set).unwrap(),
            entries: entries
                .into_iter()
                .map(|(time_ns, line, set)| Entry {
                    time_ns,
                    line,
                    metadata: Labels::from_pairs::<String, String>(set).unwrap(),
                })
                .collect(),
            replaced_count: 0,
        };
        streams
            .into_iter()
            .map(|(set, entries): (std::collections::BTreeMap<_, _>, _)| pushed((set, entries)))
            .collect()
    })
}

proptest! {
    #[test]
    fn any_request_round_trips(streams in any_streams(), numbers: bool) {
        let limits = Limits::default();
        prop_assert_eq!(decode(&encoded(&streams), &limits).unwrap(), streams.clone());
        let json = json_of(&streams, numbers);
        prop_assert_eq!(decode_json(json.as_bytes(), &limits).unwrap(), streams);
    }

    #[test]
    fn a_damaged_request_is_read_or_refused(
        streams in any_streams(), at in 0_usize..200, byte: u8, cut in 0_usize..400,
    ) {
        for mut body in [encoded(&streams), json_of(&streams, false).into_bytes()] {
            if let Some(b) = body.get_mut(at) {
                *b = byte;
            }
            body.truncate(cut);
            let _ = decode(&body, &Limits::default());
            let _ = decode_json(&body, &Limits::default());
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = decode(&bytes, &Limits::default());
        let _ = decode_json(&bytes, &Limits::default());
    }
}
