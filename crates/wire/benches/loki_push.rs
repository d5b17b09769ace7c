//! Nanoseconds per line of a Loki push request: encoding, decompressing, reading in place,
//! decoding to entries, and the same from JSON.
//!
//! `cargo bench -p kittiwake-wire` measures; anything else, as `cargo test`, only runs it at a
//! size that shows that it works.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use kittiwake_model::Labels;
use kittiwake_wire::json::push_string;
use kittiwake_wire::loki_push::{Limits, PushEncoder, PushRequest, decode, decode_json};
use kittiwake_wire::snappy::decompress;

const STREAMS: usize = 20;
const LINES: usize = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let measure = std::env::args().any(|argument| argument == "--bench");
    let rounds = if measure { 200 } else { 2 };
    let none = Labels::empty();
    let trace = Labels::from_pairs([("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736")])?;
    let mut streams = Vec::new();
    for s in 0..STREAMS {
        let labels = Labels::from_pairs([
            ("container", format!("service-{s}")),
            ("host", "node-17.example.com".to_owned()),
            ("compose_project", "shop".to_owned()),
            ("stream", "stdout".to_owned()),
        ])?;
        let lines: Vec<String> = (0..LINES).map(|i| line(s * LINES + i)).collect();
        streams.push((labels, lines));
    }
    let lines = (rounds * STREAMS * LINES) as f64;
    let per_line = |start: Instant| start.elapsed().as_nanos() as f64 / lines;

    let mut encoder = PushEncoder::new();
    let mut body = Vec::new();
    let start = Instant::now();
    for _ in 0..rounds {
        for (labels, lines) in &streams {
            let entry = |(i, line)| {
                let metadata = if i % 4 == 0 { &trace } else { &none };
                (1_700_000_000_000_000_000 + i as i64, line, metadata)
            };
            encoder.stream(
                labels,
                lines.iter().map(String::as_str).enumerate().map(entry),
            );
        }
        body = encoder.finish()?;
    }
    let encode_ns = per_line(start);

    let mut plain = Vec::new();
    let start = Instant::now();
    for _ in 0..rounds {
        decompress(&body, 16 << 20, &mut plain)?;
    }
    let decompress_ns = per_line(start);

    let mut bytes = 0;
    let start = Instant::now();
    for _ in 0..rounds {
        for stream in PushRequest::new(black_box(&plain)).streams() {
            for entry in stream?.entries() {
                bytes += entry?.line.len();
            }
        }
    }
    let walk_ns = per_line(start);
    assert!(bytes > 0);

    let limits = Limits::default();
    let start = Instant::now();
    for _ in 0..rounds {
        black_box(decode(black_box(&plain), &limits)?);
    }
    let decode_ns = per_line(start);

    let json = json_of(&streams);
    let start = Instant::now();
    for _ in 0..rounds {
        black_box(decode_json(black_box(json.as_bytes()), &limits)?);
    }
    let json_ns = per_line(start);

    println!(
        "{} lines of {} B, ns/line: encode {encode_ns:.0}, decompress {decompress_ns:.0}, walk \
         {walk_ns:.0}, decode {decode_ns:.0}, decode JSON {json_ns:.0}",
        STREAMS * LINES,
        plain.len() / (STREAMS * LINES),
    );
    Ok(())
}

fn line(i: usize) -> String {
    let id = i * 7919 % 100_000;
    format!(
        r#"{{"level":"info","msg":"order {id} was paid","user":"u{}","took_ms":{}}} GET /api/orders/{id} 200"#,
        id % 977,
        id % 41
    )
}

fn json_of(streams: &[(Labels, Vec<String>)]) -> String {
    let mut json = String::from("{\"streams\":[");
    for (s, (labels, lines)) in streams.iter().enumerate() {
        json.push_str(if s > 0 {
            ",{\"stream\":{"
        } else {
            "{\"stream\":{"
        });
        for (i, (name, value)) in labels.iter().enumerate() {
            json.push_str(if i > 0 { "," } else { "" });
            push_string(&mut json, name);
            json.push(':');
            push_string(&mut json, value);
        }
        json.push_str("},\"values\":[");
        for (i, line) in lines.iter().enumerate() {
            json.push_str(if i > 0 {
                ",[\"17000000000000"
            } else {
                "[\"17000000000000"
            });
            json.push_str("00001\",");
            push_string(&mut json, line);
            json.push(']');
        }
        json.push_str("]}");
    }
    json.push_str("]}");
    json
}
