use std::sync::Arc;

use kittiwake_model::histogram::{Counts, Histogram, ResetHint};
use kittiwake_model::{Exemplar, Metadata};
use kittiwake_wire::remote_write::{RequestEncoder, SeriesParts, v2};

use crate::harness::{labels, server};

const V2: [(&str, &str); 2] = [
    ("content-type", v2::CONTENT_TYPE),
    ("content-encoding", "snappy"),
];

fn histogram(count: u64) -> Arc<Histogram> {
    Arc::new(Histogram {
        schema: 0,
        zero_threshold: 0.5,
        sum: 1.0,
        positive_spans: Vec::new(),
        negative_spans: Vec::new(),
        custom_bounds: Vec::new(),
        counts: Counts::Integer {
            count,
            zero: 2,
            positive: Vec::new(),
            negative: Vec::new(),
        },
        reset_hint: ResetHint::Unknown,
    })
}

#[tokio::test]
async fn version_2_is_stored_and_counted_by_part() {
    let server = server();
    let mut encoder = v2::RequestEncoder::new();
    let exemplar = Exemplar {
        labels: labels(&[("trace_id", "t")]),
        value: 0.5,
        time_ms: 1000,
    };
    let about = Metadata {
        kind: "counter".into(),
        help: "h".into(),
        unit: String::new(),
    };
    let a = labels(&[("__name__", "a_total"), ("job", "j")]);
    let parts = SeriesParts {
        histograms: &[],
        exemplars: std::slice::from_ref(&exemplar),
    };
    encoder.series(
        &a,
        [(1000, 1.0, 500), (2000, 2.0, 500)],
        &parts,
        Some(&about),
    );
    let answer = server
        .post("/api/v1/write", &V2, encoder.finish().unwrap())
        .await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    let written = |part: &str| {
        let name = format!("x-prometheus-remote-write-{part}-written");
        answer.header(&name).to_owned()
    };
    assert_eq!(written("samples"), "2");
    assert_eq!(written("histograms"), "0");
    assert_eq!(written("exemplars"), "1");
    assert_eq!(server.value("a_total", 2.0).await.as_deref(), Some("2"));
}

#[tokio::test]
async fn good_parts_are_kept_and_bad_ones_told() {
    let server = server();
    let far = server.app.now_ms() + 3_600_000;
    let none = SeriesParts::default();
    let mut encoder = v2::RequestEncoder::new();
    encoder.series(
        &labels(&[("__name__", "good")]),
        [(1000, 1.0, 0)],
        &none,
        None,
    );
    encoder.series(
        &labels(&[("job", "nameless")]),
        [(1000, 1.0, 0)],
        &none,
        None,
    );
    encoder.series(
        &labels(&[("__name__", "future")]),
        [(far, 1.0, 0)],
        &none,
        None,
    );
    encoder.series(&labels(&[("__name__", "empty")]), [], &none, None);
    let bad = SeriesParts {
        histograms: &[(1000, 0, histogram(1))],
        exemplars: &[],
    };
    encoder.series(&labels(&[("__name__", "bad")]), [], &bad, None);
    let answer = server
        .post("/api/v1/write", &V2, encoder.finish().unwrap())
        .await;
    let (status, kind, error) = answer.error();
    assert_eq!((status, kind.as_str()), (400, "bad_data"));
    for told in [
        "nameless",
        "future",
        "empty",
        "bad",
        "too far in the future",
    ] {
        assert!(error.contains(told), "{told} is not in {error}");
    }
    assert_eq!(
        answer.header("x-prometheus-remote-write-samples-written"),
        "1"
    );
    assert_eq!(server.value("good", 1.0).await.as_deref(), Some("1"));
    let metrics = server.get("/metrics").await.text();
    for reason in [
        "invalid_labels",
        "too_far_in_future",
        "no_samples",
        "invalid_histogram",
    ] {
        let line =
            format!("kittiwake_rows_not_stored_total{{reason=\"{reason}\",store=\"metrics\"}} 1");
        assert!(metrics.contains(&line), "{line} is not in {metrics}");
    }
}

#[tokio::test]
async fn version_1_keeps_good_series_and_bits_of_values() {
    let server = server();
    let nan = f64::from_bits(0x7ff8_dead_beef_0001);
    let mut encoder = RequestEncoder::new();
    encoder.series(&labels(&[("__name__", "good")]), [(1000, nan)]);
    encoder.series(&labels(&[("a", "b")]), [(1000, 1.0)]);
    let answer = server
        .post("/api/v1/write", &[], encoder.finish().unwrap())
        .await;
    assert_eq!(answer.error().0, 400);
    assert_eq!(server.value("good", 1.0).await.as_deref(), Some("NaN"));
    // The same again is no mistake, another value at the same time is.
    server
        .write(&[(&labels(&[("__name__", "x")]), &[(1000, 1.0)])])
        .await;
    server
        .write(&[(&labels(&[("__name__", "x")]), &[(1000, 1.0)])])
        .await;
    let mut encoder = RequestEncoder::new();
    encoder.series(&labels(&[("__name__", "x")]), [(1000, 2.0)]);
    let answer = server
        .post("/api/v1/write", &[], encoder.finish().unwrap())
        .await;
    let (status, _, error) = answer.error();
    assert_eq!(status, 400);
    assert!(
        error.starts_with("duplicate sample for timestamp"),
        "{error}"
    );
    assert!(error.contains(r#"__name__="x""#), "{error}");
}

#[tokio::test]
async fn what_is_not_understood_is_refused() {
    let server = server();
    let send = async |kind: &str, encoding: &str, body: &[u8]| {
        let headers = [("content-type", kind), ("content-encoding", encoding)];
        let answer = server.post("/api/v1/write", &headers, body.to_vec()).await;
        answer.error().0
    };
    let body = RequestEncoder::new().finish().unwrap();
    assert_eq!(send("application/json", "snappy", &body).await, 415);
    assert_eq!(
        send("application/x-protobuf;proto=x.Y", "snappy", &body).await,
        415
    );
    assert_eq!(send("application/x-protobuf", "zstd", &body).await, 415);
    assert_eq!(
        send("application/x-protobuf", "snappy", b"nonsense").await,
        400
    );
    let answer = server
        .post("/api/v1/write", &V2, b"nonsense".to_vec())
        .await;
    assert_eq!(answer.error().0, 400);
}
