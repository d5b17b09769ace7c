//! Nanoseconds per sample of a remote write request: compressing, decompressing, walking by
//! raw labels, decoding and hashing labels.
//!
//! `cargo bench -p kittiwake-wire` measures; anything else, as `cargo test`, only runs it at a
//! size that shows that it works.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use kittiwake_model::{Labels, SeriesHasher};
use kittiwake_wire::remote_write::{RequestEncoder, WriteRequest};
use kittiwake_wire::snappy::decompress;

const SERIES: usize = 2_000;

fn main() -> Result<(), Box<dyn Error>> {
    let measure = std::env::args().any(|argument| argument == "--bench");
    let rounds = if measure { 300 } else { 2 };
    let labels: Vec<Labels> = (0..SERIES).map(labels).collect::<Result<_, _>>()?;
    let samples = (rounds * SERIES) as f64;
    let per_sample = |start: Instant| start.elapsed().as_nanos() as f64 / samples;

    let mut encoder = RequestEncoder::new();
    let mut body = Vec::new();
    let start = Instant::now();
    for round in 0..rounds {
        for (i, labels) in labels.iter().enumerate() {
            encoder.series(labels, [(1_700_000_000_000 + round as i64, i as f64 / 8.0)]);
        }
        body = encoder.finish()?;
    }
    let encode_ns = per_sample(start);

    let mut plain = Vec::new();
    let start = Instant::now();
    for _ in 0..rounds {
        decompress(&body, 16 << 20, &mut plain)?;
    }
    let decompress_ns = per_sample(start);

    let mut sum = 0.0;
    let start = Instant::now();
    for _ in 0..rounds {
        for series in WriteRequest::new(black_box(&plain)).series() {
            let series = series?;
            sum += series.raw_labels().map_or(0, <[u8]>::len) as f64;
            for sample in series.samples() {
                sum += sample?.1;
            }
        }
    }
    let walk_ns = per_sample(start);
    assert!(sum > 0.0);

    let mut pairs = Vec::new();
    let start = Instant::now();
    for _ in 0..rounds {
        for series in WriteRequest::new(black_box(&plain)).series() {
            series?.labels_into(64, &mut pairs)?;
            let mut hasher = SeriesHasher::new(7);
            for (name, value) in &pairs {
                hasher.pair(name.as_bytes(), value.as_bytes());
            }
            black_box(hasher.finish());
        }
    }
    let labels_ns = per_sample(start);

    println!(
        "{SERIES} samples of {} B, ns/sample: encode {encode_ns:.0}, decompress \
         {decompress_ns:.0}, walk {walk_ns:.0}, decode and hash labels {labels_ns:.0}",
        plain.len() / SERIES
    );
    Ok(())
}

fn labels(i: usize) -> Result<Labels, kittiwake_model::LabelError> {
    Labels::from_pairs([
        (
            "__name__",
            format!("container_network_receive_bytes_{}", i % 40),
        ),
        ("container", format!("service-{}", i / 40)),
        (
            "id",
            format!("/system.slice/docker-{:064x}.scope", i / 40 * 7919),
        ),
        (
            "image",
            "registry.example.com/group/service:1.27.3".to_owned(),
        ),
        ("host", "node-17.example.com".to_owned()),
        ("instance", "node-17.example.com".to_owned()),
        ("interface", format!("eth{}", i % 4)),
        ("job", "cadvisor".to_owned()),
        ("compose_project", "shop".to_owned()),
        ("compose_service", format!("service-{}", i / 40)),
    ])
}
