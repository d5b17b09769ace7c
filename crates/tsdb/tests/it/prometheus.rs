//! Blocks of Prometheus: there and back, and with Prometheus' own tool where there is one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use kittiwake_env::{RealFs, SimClock};
use kittiwake_model::{Labels, TimeRange};
use kittiwake_tsdb::{Batch, PrometheusError, Store};

use super::bed::{Bed, Model, START_MS, options, read_all};

/// Start times have no place in these blocks, and a hint of a histogram becomes what its chunk
/// says.
fn comparable(model: &Model) -> Model {
    let mut model = model.clone();
    for (value, start) in model.values_mut().flat_map(BTreeMap::values_mut) {
        *start = 0;
        if let Some(at) = value.find("reset_hint") {
            value.truncate(at);
        }
    }
    model
}

#[test]
fn what_is_exported_is_imported() {
    for seed in 0..8 {
        let mut bed = Bed::new(seed);
        let store = bed.open();
        let mut model = Model::new();
        for n in 0..300 {
            bed.write(&store, &mut model);
            if n % 100 == 0 {
                store.flush().unwrap();
            }
        }
        let out = Path::new("/export");
        let (dir, moved) = store
            .export_prometheus(out, Vec::new(), TimeRange::ALL)
            .unwrap();
        let dir = dir.unwrap();
        let samples: usize = model.values().map(BTreeMap::len).sum();
        assert_eq!(
            (moved.series, moved.samples),
            (model.len() as u64, samples as u64)
        );
        drop(store);
        let fs = Arc::new(bed.fs.clone());
        let clock = Arc::new(bed.clock.clone());
        let other = Store::open(fs, clock, &mut bed.rng, "/other", options()).unwrap();
        assert_eq!(other.import_prometheus(&dir).unwrap(), moved);
        assert_eq!(
            comparable(&read_all(&other)),
            comparable(&model),
            "seed {seed}"
        );
        // What is damaged is refused whole.
        let index = dir.join("index");
        let len = bed.fs.peek(&index).unwrap().len() as u64;
        let byte = bed.below(len);
        assert!(bed.fs.flip_bit(&index, byte, 3));
        if other.import_prometheus(&dir).is_err() {
            assert_eq!(other.stats().blocks, 1);
        }
        let none = other.export_prometheus(out, Vec::new(), TimeRange::new(0, 1));
        assert_eq!(none.unwrap().0, None);
        assert!(matches!(
            other.import_prometheus(Path::new("/nowhere")),
            Err(PrometheusError::Fs(_))
        ));
    }
}

fn promtool(arguments: &[&str]) -> String {
    let program = std::env::var("PROMTOOL").unwrap_or_else(|_| "promtool".to_owned());
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn promtool_reads_what_is_exported_and_writes_what_is_imported() {
    let program = std::env::var("PROMTOOL").unwrap_or_else(|_| "promtool".to_owned());
    if Command::new(program).arg("--version").output().is_err() {
        eprintln!("SKIPPED: no promtool in PATH or in $PROMTOOL");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut bed = Bed::new(1);
    let mut open = |name: &str| {
        let clock = Arc::new(SimClock::new(START_MS * 1_000_000));
        let dir = dir.path().join(name);
        Store::open(Arc::new(RealFs), clock, &mut bed.rng, dir, options()).unwrap()
    };
    let mut text = String::from("# TYPE requests counter\n");
    for (series, scale) in [("a", 7.0), ("b", 0.377_123)] {
        for n in 0..300_i64 {
            let time = START_MS / 1000 + n * 15 + n % 2;
            let value = n as f64 * scale;
            writeln!(text, "requests_total{{name=\"{series}\"}} {value} {time}").unwrap();
        }
    }
    text.push_str("# EOF\n");
    let exposition = dir.path().join("metrics.txt");
    std::fs::write(&exposition, text).unwrap();
    let data = dir.path().join("data");
    let path = |p: &Path| p.to_str().unwrap().to_owned();
    let create = ["tsdb", "create-blocks-from", "openmetrics"];
    promtool(&[&create[..], &[&path(&exposition), &path(&data)]].concat());

    let store = open("one");
    for entry in std::fs::read_dir(&data).unwrap() {
        let block = entry.unwrap().path();
        if block.join("meta.json").exists() {
            store.import_prometheus(&block).unwrap();
        }
    }
    let found = read_all(&store);
    let series = |name| Labels::from_pairs([("__name__", "requests_total"), ("name", name)]);
    assert_eq!(found.len(), 2);
    for (name, scale) in [("a", 7.0), ("b", 0.377_123)] {
        let samples = &found[&series(name).unwrap()];
        assert_eq!(samples.len(), 300);
        for (n, (time, (value, _))) in (0_i64..).zip(samples) {
            assert_eq!(*time, START_MS + (n * 15 + n % 2) * 1000);
            assert_eq!(*value, format!("{:016x}", (n as f64 * scale).to_bits()));
        }
    }
    // With histograms, out again.
    let mut batch = Batch::new();
    batch.start(series("h").unwrap(), None);
    for n in 0..200 {
        let histogram = Arc::new(super::bed::histogram(3 * n));
        batch.histogram(START_MS + n as i64 * 15_000, histogram, 0);
    }
    store.write(&batch, None).unwrap();
    let out = dir.path().join("out");
    let (block, moved) = store
        .export_prometheus(&out, Vec::new(), TimeRange::ALL)
        .unwrap();
    assert_eq!((moved.series, moved.samples), (3, 800));
    let block = block.unwrap();
    let listed = promtool(&["tsdb", "list", &path(&out)]);
    let id = block.file_name().unwrap().to_str().unwrap();
    assert!(listed.contains(id) && listed.contains("800"), "{listed}");
    promtool(&["tsdb", "analyze", &path(&out)]);
    // The tool wants the folder of a log too.
    std::fs::create_dir(out.join("wal")).unwrap();
    let dump = promtool(&["tsdb", "dump", &path(&out)]);
    assert_eq!(dump.lines().count(), 800, "{dump}");
    let last = format!(
        "name=\"b\"}} {} {}",
        299.0 * 0.377_123,
        START_MS + (299 * 15 + 1) * 1000
    );
    assert!(dump.contains(&last), "{last}");
    assert!(dump.contains("{count:597, sum:199"), "{dump}");
}
