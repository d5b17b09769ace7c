use proptest::prelude::*;

use super::*;
use crate::proto::{put_bytes_field, put_double_field, put_message, put_varint_field, zigzag};

fn put_fixed(out: &mut Vec<u8>, number: u64, value: u64) {
    put_double_field(out, number, f64::from_bits(value));
}

fn put_text_attribute(out: &mut Vec<u8>, number: u64, key: &str, value: &str) {
    put_message(out, number, |out| {
        put_bytes_field(out, 1, key.as_bytes());
        put_message(out, 2, |out| put_bytes_field(out, 1, value.as_bytes()));
    });
}

/// A request with a metric of each kind.
fn protobuf() -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, 1, |out| {
        put_message(out, 1, |out| {
            put_text_attribute(out, 1, "service.name", "s");
        });
        put_message(out, 2, |out| {
            put_message(out, 1, |out| {
                put_bytes_field(out, 1, b"scope");
                put_bytes_field(out, 2, b"1");
            });
            let metric = |out: &mut Vec<u8>, name: &str, kind: u64, data: &dyn Fn(&mut Vec<u8>)| {
                put_message(out, 2, |out| {
                    put_bytes_field(out, 1, name.as_bytes());
                    put_message(out, kind, |out| {
                        put_message(out, 1, |out| {
                            put_fixed(out, 2, 1);
                            put_fixed(out, 3, 2_000_000);
                            data(out);
                        });
                        put_varint_field(out, 2, 2);
                        put_varint_field(out, 3, 1);
                    });
                });
            };
            metric(out, "sum", 7, &|out| {
                put_fixed(out, 6, -3_i64 as u64);
                put_text_attribute(out, 7, "a", "b");
                put_message(out, 5, |out| {
                    put_fixed(out, 2, 7);
                    put_double_field(out, 3, 0.5);
                    put_bytes_field(out, 5, &[0xab; 16]);
                });
            });
            metric(out, "explicit", 9, &|out| {
                put_fixed(out, 4, 3);
                put_double_field(out, 5, 1.5);
                put_bytes_field(out, 6, &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
                put_bytes_field(out, 7, &1.0_f64.to_le_bytes());
            });
            metric(out, "exponential", 10, &|out| {
                put_fixed(out, 4, 3);
                put_varint_field(out, 6, zigzag(-1));
                put_fixed(out, 7, 1);
                put_message(out, 8, |out| {
                    put_varint_field(out, 1, zigzag(-2));
                    put_bytes_field(out, 2, &[1, 1]);
                });
                put_varint_field(out, 10, 1);
            });
            metric(out, "summary", 11, &|out| {
                put_fixed(out, 4, 3);
                put_double_field(out, 5, 1.5);
                put_message(out, 6, |out| {
                    put_double_field(out, 1, 0.5);
                    put_double_field(out, 2, 7.0);
                });
            });
        });
    });
    out
}

const JSON: &str = r#"{"resourceMetrics":[{
 "resource":{"attributes":[{"key":"service.name","value":{"stringValue":"s"}}]},
 "scopeMetrics":[{"scope":{"name":"scope","version":"1"},"metrics":[
  {"name":"sum","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{"startTimeUnixNano":"1","timeUnixNano":"2000000","asInt":"-3","attributes":[{"key":"a","value":{"stringValue":"b"}}],"exemplars":[{"timeUnixNano":"7","asDouble":0.5,"traceId":"ABABABABABABABABABABABABABABABAB"}]}]}},
  {"name":"explicit","histogram":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE","dataPoints":[{"startTimeUnixNano":1,"timeUnixNano":2000000,"count":3,"sum":1.5,"bucketCounts":["1","2"],"explicitBounds":[1]}]}},
  {"name":"exponential","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{"startTimeUnixNano":"1","timeUnixNano":"2000000","count":"3","scale":-1,"zeroCount":"1","positive":{"offset":-2,"bucketCounts":["1","1"]},"negative":null,"flags":1}]}},
  {"name":"summary","summary":{"dataPoints":[{"startTimeUnixNano":"1","timeUnixNano":"2000000","count":"3","sum":1.5,"quantileValues":[{"quantile":0.5,"value":7}]}]},"unknown":[1,{}]}
 ]}]}]}"#;

#[test]
fn both_forms_say_the_same() {
    let all = decode(&protobuf()).unwrap();
    assert_eq!(decode_json(JSON.as_bytes()).unwrap(), all);
    let scope = &all[0].scopes[0];
    assert_eq!(
        (scope.name.as_str(), scope.version.as_str()),
        ("scope", "1")
    );
    let Data::Sum {
        points,
        temporality,
        is_monotonic,
    } = &scope.metrics[0].data
    else {
        panic!("{scope:?}");
    };
    assert_eq!(
        (*temporality, *is_monotonic),
        (Temporality::Cumulative, true)
    );
    assert_eq!((points[0].value, points[0].time_ns), (-3.0, 2_000_000));
    assert_eq!(points[0].exemplars[0].trace_id, "ab".repeat(16));
    let Data::Exponential { points, .. } = &scope.metrics[2].data else {
        panic!("{scope:?}");
    };
    assert!(points[0].is_gone);
    assert_eq!(points[0].value.positive.offset, -2);
}

#[test]
fn deep_values_are_refused() {
    let deep = |levels: usize| {
        let open = r#"{"arrayValue":{"values":["#.repeat(levels);
        let close = "]}}".repeat(levels);
        let value = format!("{open}{{\"intValue\":1}}{close}");
        format!(
            r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"a","value":{value}}}]}}}}]}}"#
        )
    };
    assert!(decode_json(deep(10).as_bytes()).is_ok());
    assert!(decode_json(deep(100).as_bytes()).is_err());
}

#[test]
fn tiny_parts_without_number_are_refused() {
    let tiny = [0x0a, 0].repeat(8 << 20);
    assert!(decode(&tiny).is_err());
    assert!(logs::decode(&tiny).is_err());
    let tiny = format!(r#"{{"resourceMetrics":[{}{{}}]}}"#, "{},".repeat(2 << 20));
    assert!(decode_json(tiny.as_bytes()).is_err());
}

proptest! {
    #[test]
    fn a_damaged_request_is_read_or_refused(at in 0_usize..400, byte: u8, cut in 0_usize..400) {
        let mut bytes = protobuf();
        if let Some(there) = bytes.get_mut(at) {
            *there = byte;
        }
        bytes.truncate(bytes.len().saturating_sub(cut));
        let _ = decode(&bytes);
        let mut text = JSON.as_bytes().to_vec();
        if let Some(there) = text.get_mut(at) {
            *there = byte;
        }
        let _ = decode_json(&text);
    }
}
