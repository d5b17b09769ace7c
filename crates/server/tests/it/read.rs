use axum::body::Body;
use axum::http::Request;
use kittiwake_server::app::Options;
use kittiwake_wire::exposition::{Entry, ExpositionError, Format, Options as Reading, read};
use kittiwake_wire::snappy;

use crate::harness::{Server, configured, labels};

const YAML: &str = "global: {external_labels: {region: eu}}\n";

async fn filled() -> Server {
    let server = configured(YAML, Options::default());
    let now = server.app.now_ms() - 1000;
    for job in ["b", "a"] {
        let up = labels(&[("__name__", "up"), ("job", job)]);
        server.write(&[(&up, &[(now - 10, 0.0), (now, 1.0)])]).await;
    }
    server
}

/// A question for `up` with a matcher of the external label, in one of the forms.
fn question(form: u8) -> Vec<u8> {
    fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
        out.extend([number << 3 | 2, bytes.len() as u8]);
        out.extend_from_slice(bytes);
    }
    let mut query = vec![1 << 3, 0, 2 << 3];
    // The largest time of 64 bits.
    query.extend([0xff; 8]);
    query.push(0x7f);
    for (name, value) in [("__name__", "up"), ("region", "eu")] {
        let mut matcher = vec![1 << 3, 0];
        field(&mut matcher, 2, name.as_bytes());
        field(&mut matcher, 3, value.as_bytes());
        field(&mut query, 3, &matcher);
    }
    let mut request = Vec::new();
    field(&mut request, 1, &query);
    field(&mut request, 2, &[form]);
    snappy::compress(&request).unwrap()
}

fn places(bytes: &[u8], word: &[u8]) -> Vec<usize> {
    let windows = bytes.windows(word.len()).enumerate();
    windows
        .filter(|(_, w)| *w == word)
        .map(|(at, _)| at)
        .collect()
}

#[tokio::test]
async fn samples_are_read_with_external_labels() {
    let server = filled().await;
    let answer = server.post("/api/v1/read", &[], question(0)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/x-protobuf");
    assert_eq!(answer.header("content-encoding"), "snappy");
    let mut plain = Vec::new();
    let plain = snappy::decompress(&answer.body, 1 << 20, &mut plain).unwrap();
    assert_eq!(places(plain, b"region").len(), 2);
    assert_eq!(places(plain, b"__name__").len(), 2);
}

#[tokio::test]
async fn chunks_are_read_in_order_of_labels() {
    let server = filled().await;
    let answer = server.post("/api/v1/read", &[], question(1)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        answer.header("content-type"),
        "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
    );
    let mut rest = answer.body.as_slice();
    let mut jobs = Vec::new();
    while let Some((&len, after)) = rest.split_first() {
        // Each frame here is shorter than 128 bytes.
        let (frame, later) = after[4..].split_at(usize::from(len));
        assert_eq!(after[..4], crc32c::crc32c(frame).to_be_bytes());
        let at = places(frame, b"job")[0];
        jobs.push(frame[at + 5]);
        rest = later;
    }
    assert_eq!(jobs, b"ab");
    let bad = server.post("/api/v1/read", &[], b"x".to_vec()).await;
    assert_eq!(bad.error().0, 400);
    let form = server.post("/api/v1/read", &[], question(9)).await;
    assert_eq!(form.error().0, 400);
}

#[tokio::test]
async fn newest_samples_are_federated_in_both_forms() {
    let server = filled().await;
    let selector = crate::harness::percent("up{job=\"a\"}");
    let text = server
        .get(&format!("/federate?match[]={selector}"))
        .await
        .text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "# TYPE up untyped");
    assert!(
        lines[1].starts_with(r#"up{job="a",region="eu",instance=""} 1 "#),
        "{text}"
    );
    assert_eq!(lines.len(), 2);
    let request = Request::get("/federate?match[]=up")
        .header("accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,text/plain;q=0.5")
        .body(Body::empty())
        .unwrap();
    let answer = server.send(request).await;
    let mut jobs = Vec::new();
    read(
        &answer.body,
        Format::Protobuf,
        &Reading::default(),
        &mut |entry| {
            if let Entry::Sample(sample, _) = entry {
                jobs.push(sample.labels(9).unwrap().get("job").unwrap().to_owned());
            }
            Ok::<(), ExpositionError>(())
        },
    )
    .unwrap();
    assert_eq!(jobs, ["a", "b"]);
}
