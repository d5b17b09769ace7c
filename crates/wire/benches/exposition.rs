//! Nanoseconds per sample of a scrape: walking a text by raw series, decoding labels, writing.
//!
//! `cargo bench -p kittiwake-wire` measures; anything else, as `cargo test`, only runs it at a
//! size that shows that it works.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use kittiwake_wire::exposition::{
    Entry, ExpositionError, Format, Item, MetricType, Options, Parser, Writer, read,
};

const SAMPLES: usize = 4_000;

fn main() -> Result<(), Box<dyn Error>> {
    let measure = std::env::args().any(|argument| argument == "--bench");
    let rounds = if measure { 300 } else { 2 };
    let samples = (rounds * SAMPLES) as f64;
    let per_sample = |start: Instant| start.elapsed().as_nanos() as f64 / samples;

    let mut text = String::new();
    let start = Instant::now();
    for _ in 0..rounds {
        text = write();
    }
    let write_ns = per_sample(start);

    let walk = |text: &str, format| -> Result<f64, Box<dyn Error>> {
        let mut sum = 0.0;
        let start = Instant::now();
        for _ in 0..rounds {
            for item in Parser::new(black_box(text.as_bytes()), format) {
                if let Item::Sample(sample) = item? {
                    sum += sample.value + sample.series.len() as f64;
                }
            }
        }
        let walk_ns = per_sample(start);
        assert!(sum > 0.0);
        Ok(walk_ns)
    };
    let walk_ns = walk(&text, Format::Prometheus)?;
    // There the suffix is the sample's, not the family's.
    let ended = text.replace("_total counter", " counter");
    let ended = format!("{}# EOF\n", ended.replace("_total Network", " Network"));
    let open_metrics_ns = walk(&ended, Format::OpenMetrics)?;

    let strict = |text: &str| -> Result<f64, Box<dyn Error>> {
        let mut sum = 0.0;
        let start = Instant::now();
        for _ in 0..rounds {
            let bytes = black_box(text.as_bytes());
            read(
                bytes,
                Format::OpenMetrics,
                &Options::default(),
                &mut |entry| {
                    if let Entry::Sample(sample, _) = entry {
                        sum += sample.value;
                    }
                    Ok::<(), ExpositionError>(())
                },
            )?;
        }
        let strict_ns = per_sample(start);
        assert!(sum > 0.0);
        Ok(strict_ns)
    };
    let strict_ns = strict(&ended)?;

    let mut pairs = Vec::new();
    let start = Instant::now();
    for _ in 0..rounds {
        for item in Parser::new(black_box(text.as_bytes()), Format::Prometheus) {
            if let Item::Sample(sample) = item? {
                sample.labels_into(64, &mut pairs)?;
                black_box(&pairs);
            }
        }
    }
    let labels_ns = per_sample(start);

    println!(
        "{SAMPLES} samples of {} B, ns/sample: write {write_ns:.0}, walk {walk_ns:.0}, walk \
         OpenMetrics {open_metrics_ns:.0}, by its rules {strict_ns:.0}, walk and decode labels {labels_ns:.0}",
        text.len() / SAMPLES
    );
    Ok(())
}

fn write() -> String {
    let mut writer = Writer::new();
    for family in 0..SAMPLES / 40 {
        let name = format!("node_network_receive_bytes_{family}_total");
        writer.family(&name, "Network device statistic.", MetricType::Counter);
        for i in 0..40 {
            let value = if i % 2 == 0 { 1e9 / 7.0 } else { 1.0 } * i as f64;
            let labels = [
                ("device", DEVICES[i % DEVICES.len()]),
                ("host", "node-17.example.com"),
                ("mode", MODES[i / DEVICES.len() % MODES.len()]),
            ];
            writer.sample(&name, labels, value, None);
        }
    }
    writer.finish()
}

const MODES: [&str; 10] = [
    "user", "nice", "idle", "wait", "hard", "soft", "kept", "gues", "lost", "rest",
];
const DEVICES: [&str; 4] = ["eth0", "lo", "docker0", "br-4bf92f3577b3"];
