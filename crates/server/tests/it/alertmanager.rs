//! The Alertmanager's API: what it refuses, with the codes and texts of Alertmanager 0.30.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::harness::{Server, server};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];
const API: &str = "/alertmanager/api/v2";

async fn post(server: &Server, path: &str, body: &str) -> (u16, String) {
    let path = format!("{API}{path}");
    let answer = server.post(&path, &JSON, body.as_bytes().to_vec()).await;
    (answer.status.as_u16(), answer.text())
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_as_there() {
    let server = server();
    let silence = |fields: Value| {
        let mut all = json!({
            "matchers": [{ "name": "a", "value": "b", "isRegex": false }],
            "startsAt": "2024-01-02T00:00:00Z",
            "endsAt": "2124-01-01T00:00:00Z",
            "createdBy": "",
            "comment": "",
        });
        for (name, value) in fields.as_object().unwrap() {
            all[name] = value.clone();
        }
        all.to_string()
    };
    let matcher = |value: &str, is_regex: bool| json!({ "matchers": [{ "name": "a", "value": value, "isRegex": is_regex }] });
    for (path, body, status, wanted) in [
        ("/alerts", "{".to_owned(), 400, "\"code\":400"),
        ("/alerts", "[{}]".to_owned(), 422, r#"{"code":602,"message":"0.labels in body is required"}"#),
        ("/alerts", r#"[{"labels":{}}]"#.to_owned(), 400, r#""at least one label pair required""#),
        (
            "/alerts",
            r#"[{"labels":{"a":"b"},"startsAt":"2024-01-02T00:00:00Z","endsAt":"2024-01-01T00:00:00Z"}]"#.to_owned(),
            400,
            r#""start time must be before end time""#,
        ),
        ("/alerts", r#"[{"labels":{"a":"b"},"startsAt":"nope"}]"#.to_owned(), 400, "parsing time"),
        ("/silences", "{}".to_owned(), 422, r#"{"code":602,"message":"comment in body is required"}"#),
        (
            "/silences",
            silence(json!({ "matchers": [] })),
            422,
            r#"{"code":612,"message":"matchers in body should have at least 1 items"}"#,
        ),
        (
            "/silences",
            silence(json!({ "matchers": [{ "name": "a", "value": "b" }] })),
            422,
            r#"{"code":602,"message":"matchers.0.isRegex in body is required"}"#,
        ),
        (
            "/silences",
            silence(json!({ "endsAt": "2024-01-01T00:00:00Z" })),
            400,
            r#""Failed to create silence: start time must be before end time""#,
        ),
        (
            "/silences",
            silence(json!({ "endsAt": "2024-01-03T00:00:00Z" })),
            400,
            r#""Failed to create silence: end time can't be in the past""#,
        ),
        ("/silences", silence(matcher("(", true)), 400, "invalid silence: invalid label matcher 0: invalid regular expression"),
        (
            "/silences",
            silence(matcher("", false)),
            400,
            r#""invalid silence: at least one matcher must not match the empty string""#,
        ),
        (
            "/silences",
            silence(json!({ "id": "00000000-0000-0000-0000-000000000000" })),
            404,
            r#""silence not found""#,
        ),
        ("/receivers/nobody/test", String::new(), 404, "nobody"),
    ] {
        let (found, text) = post(&server, path, &body).await;
        assert!(found == status && text.contains(wanted), "{body}: {found} {text}");
    }
    for (path, status, wanted) in [
        ("/alerts?filter=x", 400, r#""bad matcher format: x""#),
        ("/alerts?receiver=(", 400, "failed to parse receiver param"),
        ("/alerts/groups?filter=x", 400, "bad matcher format"),
        ("/silences?filter=x", 400, "bad matcher format"),
        (
            "/silence/zz",
            422,
            r#"{"code":601,"message":"silenceID in path must be of type uuid: \"zz\""}"#,
        ),
        ("/silence/00000000-0000-0000-0000-000000000000", 404, ""),
        (
            "/nope",
            404,
            r#"{"code":404,"message":"path /alertmanager/api/v2/nope was not found"}"#,
        ),
        (
            "/status",
            200,
            r#""cluster":{"peers":[],"status":"disabled"}"#,
        ),
        ("/receivers", 200, r#"[{"name":"default"}]"#),
        ("/alerts", 200, "[]"),
    ] {
        let answer = server.get(&format!("{API}{path}")).await;
        let (found, text) = (answer.status.as_u16(), answer.text());
        assert!(
            found == status && text.contains(wanted),
            "{path}: {found} {text}"
        );
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    }
    let put = Request::put(format!("{API}/alerts")).body(Body::empty());
    assert_eq!(server.send(put.unwrap()).await.status.as_u16(), 405);
    let form = server.form(&format!("{API}/alerts"), "a=b").await;
    assert_eq!(form.status.as_u16(), 415);
    for path in ["/alertmanager/-/healthy", "/alertmanager/-/ready"] {
        assert_eq!(server.get(path).await.status.as_u16(), 200);
    }
}
