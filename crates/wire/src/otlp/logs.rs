//! Logs of OpenTelemetry: the body of an export request, in protobuf or JSON.
//!
//! Source: `opentelemetry/proto/logs/v1/logs.proto`.

use super::{AnyValue, Attributes, OtlpError, json, protobuf};

/// Records of one request at most.
pub(super) const RECORDS_MAX: usize = 1_000_000;

/// Logs of one resource.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ResourceLogs {
    /// What the resource is.
    pub attributes: Attributes,
    /// What it says, by who wrote it.
    pub scopes: Vec<ScopeLogs>,
}

/// Logs of one instrumentation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ScopeLogs {
    /// The instrumentation's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its attributes.
    pub attributes: Attributes,
    /// How many more attributes it had.
    pub dropped_attributes: u64,
    /// The records.
    pub records: Vec<LogRecord>,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogRecord {
    /// When it happened, in ns; 0 is not said.
    pub time_ns: u64,
    /// When it was seen, in ns; 0 is not said.
    pub observed_ns: u64,
    /// How severe it is, from 1 to 24; 0 is not said.
    pub severity_number: i64,
    /// The same in the source's words.
    pub severity_text: String,
    /// What it says.
    pub body: AnyValue,
    /// What else is known.
    pub attributes: Attributes,
    /// How many more attributes it had.
    pub dropped_attributes: u64,
    /// Flags of the trace.
    pub flags: u32,
    /// The trace, as hexadecimal digits; may be empty.
    pub trace_id: String,
    /// The span, as hexadecimal digits; may be empty.
    pub span_id: String,
    /// The name of the event; may be empty.
    pub event_name: String,
}

/// Decodes a request in protobuf.
pub fn decode(body: &[u8]) -> Result<Vec<ResourceLogs>, OtlpError> {
    Ok(protobuf::decode_logs(body)?)
}

/// Decodes a request in JSON. Members that are not known are passed over.
pub fn decode_json(body: &[u8]) -> Result<Vec<ResourceLogs>, OtlpError> {
    Ok(json::decode_logs(body)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{put_bytes_field, put_double_field, put_message, put_varint_field};

    fn text_value(out: &mut Vec<u8>, number: u64, text: &str) {
        put_message(out, number, |out| put_bytes_field(out, 1, text.as_bytes()));
    }

    #[test]
    fn both_forms_say_the_same() {
        let mut body = Vec::new();
        put_message(&mut body, 1, |out| {
            put_message(out, 1, |out| {
                put_message(out, 1, |out| {
                    put_bytes_field(out, 1, b"service.name");
                    text_value(out, 2, "web");
                });
            });
            put_message(out, 2, |out| {
                put_message(out, 1, |out| put_bytes_field(out, 1, b"lib"));
                put_message(out, 2, |out| {
                    put_double_field(out, 1, f64::from_bits(1_700_000_000_000_000_000));
                    put_varint_field(out, 2, 17);
                    put_bytes_field(out, 3, b"ERROR");
                    text_value(out, 5, "failed");
                    put_bytes_field(out, 9, &[1; 16]);
                });
            });
        });
        let json = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":
            {"stringValue":"web"}}]},"scopeLogs":[{"scope":{"name":"lib"},"logRecords":[{
            "timeUnixNano":"1700000000000000000","severityNumber":17,"severityText":"ERROR",
            "body":{"stringValue":"failed"},"traceId":"01010101010101010101010101010101"}]}]}]}"#;
        let decoded = decode(&body).unwrap();
        assert_eq!(decoded, decode_json(json.as_bytes()).unwrap());
        let record = &decoded[0].scopes[0].records[0];
        assert_eq!(record.severity_number, 17);
        assert_eq!(record.body.to_text(), "failed");
        for cut in 0..body.len() {
            // Anything but a panic.
            let _ = decode(&body[..cut]);
        }
        assert!(decode_json(b"{\"resourceLogs\":[").is_err());
    }
}
